/* pull_journal_test.c: what a pull that was killed finds again, whatever happened to its files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/pull.h"
#include "grid/pull_journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK PULL_CHUNK_BYTES_MIN
#define SIZE (4 * CHUNK + 100)

static char folder[32], data_path[64], journal_path[64];
static struct pull_identity id;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/journal_test_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(data_path, sizeof data_path, "%s/data", folder);
    snprintf(journal_path, sizeof journal_path, "%s/journal", folder);
    id = (struct pull_identity){data_path, journal_path, "https://h/m", "", 0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(data_path);
    unlink(journal_path);
    return rmdir(folder);
}

static void open_ok(struct pull_journal *journal)
{
    struct sl_err err = SL_ERR_INIT;
    if (pull_journal_open(journal, &id, &err) != SL_OK) fail_msg("%s", err.text);
}

/* A file of SIZE with chunks 0 and 2 here, then killed. */
static void leave_two_chunks(void)
{
    struct pull_journal journal;
    char bytes[CHUNK];
    open_ok(&journal);
    assert_int_equal(journal.size, 0);
    assert_int_equal(pull_journal_begin(&journal, &id, SIZE, CHUNK, "\"tag\"", NULL), SL_OK);
    assert_int_equal(journal.n_chunks, 5);
    for (uint32_t i = 0; i <= 2; i += 2) {
        memset(bytes, 'a' + (int)i, sizeof bytes);
        assert_int_equal(
            pwrite(journal.data_fd, bytes, CHUNK, (off_t)pull_chunk_begin(&journal, i)), CHUNK);
        assert_int_equal(pull_journal_add(&journal, i, NULL), SL_OK);
    }
    pull_journal_close(&journal);
}

static void expect(uint64_t size, uint64_t here_bytes)
{
    struct pull_journal journal;
    open_ok(&journal);
    assert_int_equal(journal.size, size);
    assert_int_equal(journal.here_bytes, here_bytes);
    pull_journal_close(&journal);
}

static void append(const char *path, const char *text)
{
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void what_was_here_is_found_again(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct pull_journal journal;
    leave_two_chunks();
    open_ok(&journal);
    assert_int_equal(journal.here_bytes, 2 * CHUNK);
    assert_string_equal(journal.validator, "\"tag\"");
    assert_int_equal(pull_chunk_find(&journal, 0, PULL_CHUNK_MISSING), 1);
    assert_int_equal(pull_chunk_find(&journal, 3, PULL_CHUNK_HERE), 5);
    assert_int_equal(pull_chunk_end(&journal, 4), SIZE);
    pull_journal_close(&journal);
    pull_journal_close(&journal);
    assert_int_equal(sl_mem_live(), live);
}

static void another_file_begins_anew(void **state)
{
    (void)state;
    leave_two_chunks();
    id.url = "https://h/other";
    expect(0, 0);
    id.url = "https://h/m";
    leave_two_chunks();
    id.size = SIZE + 1;
    expect(0, 0);
    id.size = 0;
    leave_two_chunks();
    id.digest = "00";
    expect(0, 0);
}

static void without_a_validator_nothing_is_taken_over(void **state)
{
    (void)state;
    struct pull_journal journal;
    open_ok(&journal);
    assert_int_equal(pull_journal_begin(&journal, &id, SIZE, CHUNK, "", NULL), SL_OK);
    pull_journal_close(&journal);
    expect(0, 0);
}

static void bytes_that_rot_do_not_count(void **state)
{
    (void)state;
    leave_two_chunks();
    int fd = open(data_path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
    close(fd);
    expect(SIZE, CHUNK);
    assert_int_equal(truncate(data_path, CHUNK), 0);
    expect(SIZE, 0);
}

static void lines_that_lie_do_not_count(void **state)
{
    (void)state;
    leave_two_chunks();
    append(journal_path, "1 0123456789abcdef\n99 0123456789abcdef\n4294967299 0\nx\n\n-1 -1\n3 1");
    expect(SIZE, 2 * CHUNK);
    expect(SIZE, 2 * CHUNK); /* the torn line was ended */
}

static void heads_that_lie_do_not_count(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "",
        "x\n",
        "{}\n",
        "[]\n",
        "{\"version\":1,\"url\":\"https://h/m\",\"digest\":\"\",\"validator\":\"v\",\"size\":-5,"
        "\"chunk\":4096}\n",
        "{\"version\":1,\"url\":\"https://h/m\",\"digest\":\"\",\"validator\":\"v\",\"size\":"
        "9223372036854775807,\"chunk\":4096}\n",
        "{\"version\":1,\"url\":\"https://h/m\",\"digest\":\"\",\"validator\":\"v\",\"size\":5000,"
        "\"chunk\":0}\n",
        "{\"version\":1,\"url\":\"https://h/m\",\"digest\":\"\",\"validator\":\"v\",\"size\":5000,"
        "\"chunk\":9223372036854775807}\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        unlink(journal_path);
        append(journal_path, heads[i]);
        expect(0, 0);
    }
}

static void a_whole_file_without_a_hash_is_doubted(void **state)
{
    (void)state;
    struct pull_journal journal;
    char bytes[SIZE] = "";
    open_ok(&journal);
    assert_int_equal(pull_journal_begin(&journal, &id, SIZE, SIZE, "\"tag\"", NULL), SL_OK);
    assert_int_equal(pwrite(journal.data_fd, bytes, SIZE, 0), SIZE);
    assert_int_equal(pull_journal_add(&journal, 0, NULL), SL_OK);
    pull_journal_close(&journal);
    expect(SIZE, 0);
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    leave_two_chunks();
    uint64_t live = sl_mem_live();
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        struct pull_journal journal;
        sl_mem_fail_at(n, false);
        sl_status status = pull_journal_open(&journal, &id, NULL);
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (status == SL_OK) pull_journal_close(&journal);
        assert_int_equal(sl_mem_live(), live);
        if (status == SL_OK && hit) leave_two_chunks(); /* it began anew */
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_here_is_found_again),
        TEST(another_file_begins_anew),
        TEST(without_a_validator_nothing_is_taken_over),
        TEST(bytes_that_rot_do_not_count),
        TEST(lines_that_lie_do_not_count),
        TEST(heads_that_lie_do_not_count),
        TEST(a_whole_file_without_a_hash_is_doubted),
        TEST(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
