/* gguf_write_test.c: what is written is read back; wrong orders, doubles and lost memory leave no
 * file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"

#define F32 0
#define Q8_0 8

static char folder[] = "/tmp/gguf_write_test_XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof(path), "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails when a test left a file */
}

static int n_files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static struct gguf_writer *create_ok(void)
{
    struct gguf_writer *w = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (gguf_writer_create(path, &w, &err) != SL_OK) fail_msg("%s", err.text);
    return w;
}

static struct gguf_file *open_and_remove(void)
{
    struct gguf_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (gguf_open(path, &file, &err) != SL_OK) fail_msg("%s", err.text);
    unlink(path);
    return file;
}

static sl_status write_all_kinds(struct gguf_writer *w)
{
    static const char *const strs[] = {"a", "", "\xf0\x9f\x98\x80"};
    sl_status status = gguf_write_u32(w, "u32", UINT32_MAX);
    if (!status) status = gguf_write_f32(w, "f32", -0.5f);
    if (!status) status = gguf_write_bool(w, "bool", true);
    if (!status) status = gguf_write_str(w, "str", "text");
    if (!status) status = gguf_write_strs(w, "strs", strs, 3);
    if (!status) status = gguf_write_i32s(w, "i32s", (const int32_t[]){INT32_MIN, 5}, 2);
    if (!status) status = gguf_write_f32s(w, "f32s", (const float[]){1, 2, 3}, 3);
    if (!status) status = gguf_write_f32s(w, "none", NULL, 0);
    if (!status) status = gguf_write_tensor(w, "a", F32, 1, (const int64_t[]){3});
    if (!status) status = gguf_write_tensor(w, "b", Q8_0, 3, (const int64_t[]){32, 2, 2});
    return status;
}

static sl_status write_data(struct gguf_writer *w, struct sl_err *err)
{
    char b[4 * 34];
    memset(b, 'b', sizeof(b));
    sl_status status = gguf_write_begin_data(w, err);
    if (!status) status = gguf_write_data(w, "aaaaaaaaaaaa", 12, err);
    if (!status) status = gguf_write_data(w, b, 100, err);
    if (!status) status = gguf_write_data(w, b, sizeof(b) - 100, err);
    return status ? status : gguf_write_finish(w, err);
}

static void check_all_kinds(const struct gguf_file *file)
{
    uint32_t u32 = 0;
    float f32 = 0;
    bool b = false;
    int64_t i64 = 0;
    double f64 = 0;
    struct gguf_str s = {NULL, 0};
    assert_int_equal(gguf_get_u32(file, "u32", &u32, NULL), SL_OK);
    assert_int_equal(u32, UINT32_MAX);
    assert_int_equal(gguf_get_f32(file, "f32", &f32, NULL), SL_OK);
    assert_true(f32 == -0.5f);
    assert_int_equal(gguf_get_bool(file, "bool", &b, NULL), SL_OK);
    assert_true(b);
    assert_int_equal(gguf_get_str(file, "str", &s, NULL), SL_OK);
    assert_int_equal(s.len, 4);
    assert_int_equal(gguf_find(file, "strs")->n, 3);
    assert_int_equal(gguf_find(file, "strs")->strs[2].len, 4);
    assert_true(gguf_kv_i64(gguf_find(file, "i32s"), 0, &i64) && i64 == INT32_MIN);
    assert_true(gguf_kv_f64(gguf_find(file, "f32s"), 2, &f64) && f64 == 3);
    assert_int_equal(gguf_find(file, "none")->n, 0);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(write_all_kinds(w), SL_OK);
    assert_int_equal(write_data(w, &err), SL_OK);
    gguf_writer_destroy(w);
    assert_int_equal(n_files(), 1);
    struct gguf_file *file = open_and_remove();
    check_all_kinds(file);
    const struct gguf_tensor *a = gguf_tensor_find(file, "a"), *b = gguf_tensor_find(file, "b");
    assert_memory_equal(a->data, "aaaaaaaaaaaa", 12);
    assert_int_equal(b->n_dims, 3);
    assert_int_equal(b->n_bytes, 4 * 34);
    assert_int_equal(((const char *)b->data)[4 * 34 - 1], 'b');
    gguf_close(file);
}

static void key_values_are_copied_as_they_are(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    assert_int_equal(write_all_kinds(w), SL_OK);
    assert_int_equal(write_data(w, NULL), SL_OK);
    gguf_writer_destroy(w);
    struct gguf_file *first = open_and_remove();
    w = create_ok();
    for (size_t i = 0; i < gguf_n_kvs(first); i++)
        assert_int_equal(gguf_write_kv(w, gguf_kv_at(first, i)), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, NULL), SL_OK);
    assert_int_equal(gguf_write_finish(w, NULL), SL_OK);
    gguf_writer_destroy(w);
    struct gguf_file *copy = open_and_remove();
    assert_int_equal(gguf_n_kvs(copy), gguf_n_kvs(first));
    check_all_kinds(copy);
    gguf_close(first);
    gguf_close(copy);
}

static void alignment_follows_its_key(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    const int64_t ne = 1;
    assert_int_equal(gguf_write_u32(w, "general.alignment", 24), SL_INVALID);
    gguf_writer_destroy(w);
    w = create_ok();
    assert_int_equal(gguf_write_u32(w, "general.alignment", 8192), SL_OK);
    assert_int_equal(gguf_write_tensor(w, "a", F32, 1, &ne), SL_OK);
    assert_int_equal(gguf_write_tensor(w, "b", F32, 1, &ne), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, NULL), SL_OK);
    assert_int_equal(gguf_write_data(w, "aaaa", 4, NULL), SL_OK);
    assert_int_equal(gguf_write_data(w, "bbbb", 4, NULL), SL_OK);
    assert_int_equal(gguf_write_finish(w, NULL), SL_OK);
    gguf_writer_destroy(w);
    struct gguf_file *file = open_and_remove();
    const char *a = gguf_tensor_at(file, 0)->data, *b = gguf_tensor_at(file, 1)->data;
    assert_int_equal(b - a, 8192);
    assert_memory_equal(b, "bbbb", 4);
    assert_int_equal(gguf_file_bytes(file) % 8192, 0);
    gguf_close(file);
}

static void doubles_and_nonsense_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    const int64_t ne[5] = {32, 1, 1, 1, 1}, zero = 0, odd = 33, wide[2] = {INT64_MAX, 2};
    char name[GGUF_NAME_MAX + 2];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(gguf_write_u32(w, "k", 1), SL_OK);
    assert_int_equal(gguf_write_str(w, "k", "again"), SL_EXISTS);
    assert_int_equal(gguf_write_u32(w, "", 1), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "t", F32, 1, ne), SL_OK);
    assert_int_equal(gguf_write_tensor(w, "t", F32, 1, ne), SL_EXISTS);
    assert_int_equal(gguf_write_tensor(w, "", F32, 1, ne), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, name, F32, 1, ne), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", 4, 1, ne), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", F32, 0, ne), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", F32, 5, ne), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", F32, 1, &zero), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", Q8_0, 1, &odd), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", F32, 2, wide), SL_INVALID);
    gguf_writer_destroy(w);
    assert_int_equal(n_files(), 0);
}

static void a_refused_key_leaves_the_file_whole(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    assert_int_equal(gguf_write_u32(w, "k", 1), SL_OK);
    assert_int_equal(gguf_write_str(w, "k", "again"), SL_EXISTS);
    assert_int_equal(gguf_write_u32(w, "l", 2), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, NULL), SL_OK);
    assert_int_equal(gguf_write_finish(w, NULL), SL_OK);
    gguf_writer_destroy(w);
    struct gguf_file *file = open_and_remove();
    uint32_t v = 0;
    assert_int_equal(gguf_n_kvs(file), 2);
    assert_int_equal(gguf_get_u32(file, "l", &v, NULL), SL_OK);
    assert_int_equal(v, 2);
    gguf_close(file);
}

static void the_order_is_kept(void **state)
{
    (void)state;
    struct gguf_writer *w = create_ok();
    struct sl_err err = SL_ERR_INIT;
    const int64_t ne = 2;
    assert_int_equal(gguf_write_data(w, "x", 1, &err), SL_INVALID);
    assert_int_equal(gguf_write_finish(w, &err), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "t", F32, 1, &ne), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, &err), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, &err), SL_INVALID);
    assert_int_equal(gguf_write_u32(w, "k", 1), SL_INVALID);
    assert_int_equal(gguf_write_tensor(w, "u", F32, 1, &ne), SL_INVALID);
    assert_int_equal(gguf_write_data(w, "123456789", 9, &err), SL_INVALID);
    assert_string_equal(err.text, "tensor t: 1 bytes more than its 8");
    assert_int_equal(gguf_write_data(w, "1234", 4, &err), SL_OK);
    assert_int_equal(gguf_write_finish(w, &err), SL_INVALID);
    assert_string_equal(err.text, "tensor t: its data is missing");
    assert_int_equal(gguf_write_data(w, "5678", 4, &err), SL_OK);
    assert_int_equal(gguf_write_data(w, "9", 1, &err), SL_INVALID);
    assert_int_equal(access(path, F_OK), -1); /* nothing under the name before finish */
    gguf_writer_destroy(w);
    assert_int_equal(n_files(), 0);
}

static void an_old_file_stays_until_finish(void **state)
{
    (void)state;
    FILE *old = fopen(path, "w");
    assert_non_null(old);
    fputs("old", old);
    fclose(old);
    struct gguf_writer *w = create_ok();
    assert_int_equal(gguf_write_begin_data(w, NULL), SL_OK);
    gguf_writer_destroy(w);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(n_files(), 1);
    unlink(path);
}

static void a_bad_folder_is_reported(void **state)
{
    (void)state;
    struct gguf_writer *w = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    assert_int_equal(gguf_writer_create("/nowhere/x.gguf", &w, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere/x.gguf: create: "));
    assert_null(w);
    assert_int_equal(sl_mem_live(), live);
}

/* A limit on the file's size stands for a full disk. */
static void a_failed_write_spoils_the_file(void **state)
{
    (void)state;
    struct rlimit kept, small;
    struct sl_err err = SL_ERR_INIT;
    const int64_t ne = 4096;
    static const float data[4096];
    struct gguf_writer *w = create_ok();
    assert_int_equal(gguf_write_tensor(w, "t", F32, 1, &ne), SL_OK);
    assert_int_equal(gguf_write_begin_data(w, &err), SL_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &kept), 0);
    small = (struct rlimit){.rlim_cur = 1024, .rlim_max = kept.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sl_status status = gguf_write_data(w, data, sizeof(data), &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &kept), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, SL_IO);
    assert_non_null(strstr(err.text, "out.gguf: write: "));
    assert_int_equal(gguf_write_data(w, data, sizeof(data), &err), SL_OK);
    assert_int_equal(gguf_write_finish(w, &err), SL_INVALID);
    gguf_writer_destroy(w);
    assert_int_equal(n_files(), 0);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t nth = 1; hit; nth++) {
        struct gguf_writer *w = NULL;
        uint64_t live = sl_mem_live();
        sl_mem_fail_at(nth, false);
        sl_status status = gguf_writer_create(path, &w, NULL);
        if (!status) status = write_all_kinds(w);
        if (!status) status = write_data(w, NULL);
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        gguf_writer_destroy(w);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        assert_int_equal(sl_mem_live(), live);
        assert_int_equal(n_files(), hit ? 0 : 1);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(key_values_are_copied_as_they_are),
        cmocka_unit_test(alignment_follows_its_key),
        cmocka_unit_test(doubles_and_nonsense_are_refused),
        cmocka_unit_test(a_refused_key_leaves_the_file_whole),
        cmocka_unit_test(the_order_is_kept),
        cmocka_unit_test(an_old_file_stays_until_finish),
        cmocka_unit_test(a_bad_folder_is_reported),
        cmocka_unit_test(a_failed_write_spoils_the_file),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
