/* The list of a blob's chunks as bytes, the journal of those that are here, and the store's keeping
 * of lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grid/part_journal.h"
#include "grid/store_chunks.h"
#include "grid/store_int.h"
#include "support/temp_dir.h"
#include <unistd.h>

#define N_CHUNKS 11
#define SIZE ((N_CHUNKS - 1) * CHUNK_BYTES_MIN + 5)

static void list_make(struct chunk_list *list, struct sl_buf *text)
{
    assert_int_equal(chunk_list_init(list, SIZE, NULL), SL_OK);
    assert_int_equal(list->n, N_CHUNKS);
    for (unsigned i = 0; i < N_CHUNKS; i++) memset(list->sums[i], (int)i + 1, SHA256_BYTES);
    sl_buf_init(text, CHUNK_LIST_BYTES_MAX);
    assert_int_equal(chunk_list_write(list, text), SL_OK);
}

static void test_there_and_back(void **state)
{
    struct chunk_list list, parsed;
    struct sl_buf text;
    (void)state;
    list_make(&list, &text);
    assert_int_equal(text.len, CHUNK_LIST_HEAD_BYTES + (N_CHUNKS + 1) * SHA256_BYTES);
    assert_int_equal(chunk_list_parse(text.data, text.len, &parsed, NULL), SL_OK);
    assert_int_equal(parsed.size, SIZE);
    assert_int_equal(parsed.n, N_CHUNKS);
    assert_memory_equal(parsed.sums, list.sums, N_CHUNKS * SHA256_BYTES);
    assert_memory_equal(parsed.id, list.id, SHA256_BYTES);
    assert_int_equal(chunk_begin(&parsed, 10), 10 * CHUNK_BYTES_MIN);
    assert_int_equal(chunk_end(&parsed, 9), 10 * CHUNK_BYTES_MIN);
    assert_int_equal(chunk_end(&parsed, 10), SIZE);
    chunk_list_done(&parsed);
    chunk_list_done(&list);
    sl_buf_done(&text);
}

/* A few hundred chunks of small files, few bytes of list for large ones. */
static void test_chunk_sizes(void **state)
{
    (void)state;
    assert_int_equal(chunk_bytes_of(1), CHUNK_BYTES_MIN);
    assert_int_equal(chunk_bytes_of(8u << 20), CHUNK_BYTES_MIN);
    assert_int_equal(chunk_bytes_of(32u << 20), 128u << 10);
    assert_int_equal(chunk_bytes_of(UINT64_C(500) << 20), 1u << 20);
    assert_int_equal(chunk_bytes_of(UINT64_C(1) << 30), CHUNK_BYTES_MAX);
    assert_int_equal(chunk_bytes_of(STORE_BLOB_BYTES_MAX), CHUNK_BYTES_MAX);
}

/* Any byte that is another, missing or too many makes it no list. */
static void test_damaged_lists(void **state)
{
    struct chunk_list list, parsed;
    struct sl_buf text;
    uint64_t live = sl_mem_live();
    (void)state;
    list_make(&list, &text);
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 1;
        assert_int_not_equal(chunk_list_parse(text.data, text.len, &parsed, NULL), SL_OK);
        text.data[i] ^= 1;
        assert_int_not_equal(chunk_list_parse(text.data, i, &parsed, NULL), SL_OK);
    }
    assert_int_equal(sl_buf_addc(&text, 0), SL_OK);
    assert_int_equal(chunk_list_parse(text.data, text.len, &parsed, NULL), SL_CORRUPT);
    assert_int_equal(chunk_list_init(&parsed, 0, NULL), SL_LIMIT);
    assert_int_equal(chunk_list_init(&parsed, STORE_BLOB_BYTES_MAX + 1, NULL), SL_LIMIT);
    chunk_list_done(&list);
    sl_buf_done(&text);
    assert_int_equal(sl_mem_live(), live);
}

static void test_journal(void **state)
{
    const uint8_t here[N_CHUNKS] = {1, 0, 2, 3, 1, 1, 0, 0, 0, 1, 1};
    uint8_t read[N_CHUNKS];
    struct chunk_list list;
    struct sl_buf text;
    (void)state;
    list_make(&list, &text);
    sl_buf_clear(&text);
    assert_int_equal(part_journal_write(&list, here, &text), SL_OK);
    assert_true(part_journal_parse(text.data, text.len, &list, read));
    for (int i = 0; i < N_CHUNKS; i++) assert_int_equal(read[i], here[i] == 1);
    for (size_t i = 0; i < text.len; i++) {
        memset(read, 1, sizeof read);
        text.data[i] ^= 0x40;
        assert_false(part_journal_parse(text.data, text.len, &list, read));
        for (int k = 0; k < N_CHUNKS; k++) assert_int_equal(read[k], 0);
        text.data[i] ^= 0x40;
        assert_false(part_journal_parse(text.data, i, &list, read));
    }
    list.id[0] ^= 1; /* of another list */
    assert_false(part_journal_parse(text.data, text.len, &list, read));
    chunk_list_done(&list);
    sl_buf_done(&text);
}

/* A store with one blob of two and a half chunks. */
static struct store *store_with_blob(char digest[STORE_DIGEST_SIZE])
{
    struct store *store;
    char path[PATH_MAX];
    uint64_t size;
    struct sl_buf bytes;
    assert_int_equal(store_open(temp_path("home"), &store, NULL), SL_OK);
    sl_buf_init(&bytes, 16u << 20);
    for (uint32_t i = 0; bytes.len < 5 * CHUNK_BYTES_MIN / 2; i++)
        assert_int_equal(sl_buf_add(&bytes, &i, sizeof i), SL_OK);
    snprintf(path, sizeof path, "%s", temp_path("file"));
    assert_int_equal(store_write_file(path, bytes.data, bytes.len, NULL), SL_OK);
    assert_int_equal(store_hash_file(path, digest, &size, NULL), SL_OK);
    assert_int_equal(store_take_blob(store, path, digest, NULL), SL_OK);
    sl_buf_done(&bytes);
    return store;
}

static void test_kept_beside_the_blob(void **state)
{
    const atomic_bool stop = true;
    char digest[STORE_DIGEST_SIZE], kept[PATH_MAX];
    struct chunk_list list;
    struct sl_buf first, again;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    struct store *store = store_with_blob(digest);
    sl_buf_init(&first, CHUNK_LIST_BYTES_MAX);
    sl_buf_init(&again, CHUNK_LIST_BYTES_MAX);
    assert_int_equal(store_path(kept, NULL, "%s/chunks/sha256-%s", store->root, digest), SL_OK);
    assert_int_equal(store_chunks(store, digest, &stop, &first, &err), SL_CANCELLED);
    assert_int_not_equal(access(kept, F_OK), 0);
    sl_buf_clear(&first);
    assert_int_equal(store_chunks(store, digest, NULL, &first, &err), SL_OK);
    assert_int_equal(chunk_list_parse(first.data, first.len, &list, NULL), SL_OK);
    assert_int_equal(list.size, 5 * CHUNK_BYTES_MIN / 2);
    assert_int_equal(list.n, 3);
    chunk_list_done(&list);
    assert_int_equal(store_chunks(store, digest, &stop, &again, &err), SL_OK); /* it is kept */
    assert_int_equal(again.len, first.len);
    assert_memory_equal(again.data, first.data, first.len);
    sl_buf_clear(&again); /* a damaged one is made anew */
    assert_int_equal(store_write_file(kept, "junk", 4, NULL), SL_OK);
    assert_int_equal(store_chunks(store, digest, NULL, &again, &err), SL_OK);
    assert_memory_equal(again.data, first.data, first.len);
    assert_int_equal(store_sweep(store, NULL, &err), SL_OK); /* no model has the blob */
    assert_int_not_equal(access(kept, F_OK), 0);
    assert_int_equal(store_chunks(store, digest, NULL, &again, &err), SL_NOT_FOUND);
    sl_buf_done(&first);
    sl_buf_done(&again);
    store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_chunk_sizes),
        cmocka_unit_test(test_damaged_lists),  cmocka_unit_test(test_journal),
        TEST(test_kept_beside_the_blob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
