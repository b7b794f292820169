/* gguf_test.c: honest files: values, lookups, shards, kinds of paths, type sizes, lost memory.
 * Files that lie are in gguf_hostile_test.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"
#include <ggml.h>

#define PATH_MAX_TEST 256

static char folder[] = "/tmp/gguf_test_XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX_TEST];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static struct gguf_file *open_ok(const char *path)
{
    struct gguf_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (gguf_open(path, &file, &err) != SL_OK) fail_msg("%s", err.text);
    return file;
}

static void open_fails(const char *path, sl_status status, const char *text)
{
    struct gguf_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    assert_int_equal(gguf_open(path, &file, &err), status);
    assert_null(file);
    if (!strstr(err.text, text)) fail_msg("wanted '%s' in '%s'", text, err.text);
    assert_int_equal(sl_mem_live(), live);
}

static void put_kv(struct gguf_writer *w, const char *key, enum gguf_type type, const void *raw)
{
    const struct gguf_kv kv = {.key = {key, strlen(key)}, .type = type, .n = 1, .raw = raw};
    assert_int_equal(gguf_write_kv(w, &kv), SL_OK);
}

static void put_keys(struct gguf_writer *w)
{
    static const char *const tokens[] = {"<s>", "", "he\xff"};
    static const unsigned char minus_1[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    static const double huge = 1e300, half = 0.5;
    assert_int_equal(gguf_write_u32(w, "u32", 7), SL_OK);
    assert_int_equal(gguf_write_f32(w, "f32", 1e-6f), SL_OK);
    assert_int_equal(gguf_write_bool(w, "bool", true), SL_OK);
    assert_int_equal(gguf_write_str(w, "str", "llama"), SL_OK);
    assert_int_equal(gguf_write_strs(w, "strs", tokens, 3), SL_OK);
    assert_int_equal(gguf_write_i32s(w, "i32s", (const int32_t[]){3, -1}, 2), SL_OK);
    assert_int_equal(gguf_write_f32s(w, "f32s", (const float[]){0.5f}, 1), SL_OK);
    put_kv(w, "u64.max", GGUF_U64, minus_1);
    put_kv(w, "i8.minus", GGUF_I8, minus_1);
    put_kv(w, "i64.minus", GGUF_I64, minus_1);
    put_kv(w, "u16.max", GGUF_U16, minus_1);
    put_kv(w, "f64.huge", GGUF_F64, (const unsigned char *)&huge);
    put_kv(w, "f64", GGUF_F64, (const unsigned char *)&half);
}

/* Writes a file of one key set and one tensor per name, each of 8 floats: 0, 1, 2, ... */
static void write_file(const char *path, void (*keys)(struct gguf_writer *),
                       const char *const *names, int n_names)
{
    struct gguf_writer *w = NULL;
    struct sl_err err = SL_ERR_INIT;
    float v[8];
    for (int i = 0; i < 8; i++) v[i] = (float)i;
    assert_int_equal(gguf_writer_create(path, &w, &err), SL_OK);
    keys(w);
    for (int i = 0; i < n_names; i++) {
        assert_int_equal(gguf_write_tensor(w, names[i], GGML_TYPE_F32, 2, (const int64_t[]){4, 2}),
                         SL_OK);
    }
    assert_int_equal(gguf_write_begin_data(w, &err), SL_OK);
    for (int i = 0; i < n_names; i++)
        assert_int_equal(gguf_write_data(w, v, sizeof(v), &err), SL_OK);
    assert_int_equal(gguf_write_finish(w, &err), SL_OK);
    gguf_writer_destroy(w);
}

static struct gguf_file *open_sample(void)
{
    static const char *const names[] = {"token_embd.weight", "output.weight"};
    const char *path = in_folder("sample.gguf");
    write_file(path, put_keys, names, 2);
    struct gguf_file *file = open_ok(path);
    unlink(path); /* the mapping keeps it */
    return file;
}

static void tensors_are_found_by_name(void **state)
{
    (void)state;
    struct gguf_file *file = open_sample();
    const struct gguf_tensor *t = gguf_tensor_find(file, "output.weight");
    assert_int_equal(gguf_version(file), 3);
    assert_int_equal(gguf_n_shards(file), 1);
    assert_int_equal(gguf_n_tensors(file), 2);
    assert_ptr_equal(t, gguf_tensor_at(file, 1));
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 4);
    assert_int_equal(t->ne[1], 2);
    assert_int_equal(t->ne[2] * t->ne[3], 1);
    assert_int_equal(t->n_bytes, 32);
    assert_int_equal((uintptr_t)t->data % 32, 0);
    assert_true(((const float *)t->data)[7] == 7.0f);
    assert_null(gguf_tensor_find(file, "output"));
    gguf_close(file);
}

static void maps_hold_the_whole_file(void **state)
{
    (void)state;
    struct gguf_file *file = open_sample();
    size_t n_bytes = 0;
    const unsigned char *map = gguf_shard_map(file, 0, &n_bytes);
    assert_memory_equal(map, "GGUF", 4);
    assert_int_equal(n_bytes, gguf_file_bytes(file));
    const struct gguf_tensor *last = gguf_tensor_at(file, 1);
    assert_true((const unsigned char *)last->data + last->n_bytes <= map + n_bytes);
    gguf_close(file);
}

static void values_are_typed(void **state)
{
    (void)state;
    struct gguf_file *file = open_sample();
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    float f32 = 0;
    bool b = false;
    struct gguf_str s = {NULL, 0};
    assert_int_equal(gguf_get_u32(file, "u32", &u32, NULL), SL_OK);
    assert_int_equal(u32, 7);
    assert_int_equal(gguf_get_u32(file, "u16.max", &u32, NULL), SL_OK);
    assert_int_equal(u32, 65535);
    assert_int_equal(gguf_get_u64(file, "u64.max", &u64, NULL), SL_OK);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(gguf_get_f32(file, "f32", &f32, NULL), SL_OK);
    assert_true(f32 == 1e-6f);
    assert_int_equal(gguf_get_f32(file, "f64", &f32, NULL), SL_OK);
    assert_true(f32 == 0.5f);
    assert_int_equal(gguf_get_bool(file, "bool", &b, NULL), SL_OK);
    assert_true(b);
    assert_int_equal(gguf_get_str(file, "str", &s, NULL), SL_OK);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.s, "llama", 5);
    gguf_close(file);
}

static void wrong_types_are_named(void **state)
{
    (void)state;
    struct gguf_file *file = open_sample();
    struct sl_err err = SL_ERR_INIT;
    uint32_t u32 = 42;
    uint64_t u64 = 42;
    float f32 = 42;
    bool b = true;
    struct gguf_str s = {"kept", 4};
    assert_int_equal(gguf_get_u32(file, "none", &u32, &err), SL_NOT_FOUND);
    assert_string_equal(err.text, "key none: not in the file");
    assert_int_equal(gguf_get_u32(file, "u64.max", &u32, &err), SL_CORRUPT);
    assert_string_equal(err.text, "key u64.max: 18446744073709551615 does not fit 32 bits");
    assert_int_equal(gguf_get_u32(file, "i8.minus", &u32, &err), SL_CORRUPT);
    assert_string_equal(err.text, "key i8.minus: -1 is below 0");
    assert_int_equal(gguf_get_u64(file, "i64.minus", &u64, &err), SL_CORRUPT);
    assert_int_equal(gguf_get_u64(file, "i32s", &u64, &err), SL_CORRUPT);
    assert_string_equal(err.text, "key i32s: is an array of i32, not an integer");
    assert_int_equal(gguf_get_f32(file, "u32", &f32, &err), SL_CORRUPT);
    assert_string_equal(err.text, "key u32: is a u32, not a float");
    assert_int_equal(gguf_get_f32(file, "f64.huge", &f32, &err), SL_CORRUPT);
    assert_int_equal(gguf_get_bool(file, "str", &b, &err), SL_CORRUPT);
    assert_int_equal(gguf_get_str(file, "strs", &s, &err), SL_CORRUPT);
    assert_string_equal(err.text, "key strs: is an array of string, not a string");
    assert_true(u32 == 42 && u64 == 42 && f32 == 42 && b && s.len == 4);
    gguf_close(file);
}

static void elements_are_converted(void **state)
{
    (void)state;
    struct gguf_file *file = open_sample();
    const struct gguf_kv *ints = gguf_find(file, "i32s"), *strs = gguf_find(file, "strs");
    int64_t i = 42;
    double f = 42;
    assert_true(gguf_kv_i64(ints, 1, &i) && i == -1);
    assert_true(gguf_kv_f64(ints, 0, &f) && f == 3);
    assert_true(gguf_kv_f64(gguf_find(file, "f32s"), 0, &f) && f == 0.5);
    assert_true(gguf_kv_i64(gguf_find(file, "bool"), 0, &i) && i == 1);
    assert_false(gguf_kv_i64(ints, 2, &i));
    assert_false(gguf_kv_i64(strs, 0, &i));
    assert_false(gguf_kv_i64(gguf_find(file, "f32s"), 0, &i));
    assert_false(gguf_kv_i64(gguf_find(file, "u64.max"), 0, &i));
    assert_false(gguf_kv_f64(gguf_find(file, "u64.max"), 0, &f));
    assert_false(gguf_kv_f64(strs, 0, &f));
    assert_int_equal(strs->n, 3);
    assert_int_equal(strs->strs[1].len, 0);
    assert_memory_equal(strs->strs[2].s, "he\xff", 3);
    assert_null(gguf_find(file, "i32"));
    assert_int_equal(gguf_n_kvs(file), 13);
    assert_memory_equal(gguf_kv_at(file, 0)->key.s, "u32", 3);
    gguf_close(file);
}

/* The shard being written, for its keys. */
static struct {
    uint32_t no, n, n_tensors;
} split;

static void split_keys(struct gguf_writer *w)
{
    assert_int_equal(gguf_write_u32(w, "split.no", split.no), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.count", split.n), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.tensors.count", split.n_tensors), SL_OK);
}

static const char *shard_path(int i)
{
    char name[64];
    snprintf(name, sizeof(name), "m-%05d-of-00003.gguf", i + 1);
    return in_folder(name);
}

static void write_shard(int i, uint32_t no, uint32_t n, uint32_t n_tensors, const char *tensor)
{
    split.no = no;
    split.n = n;
    split.n_tensors = n_tensors;
    write_file(shard_path(i), split_keys, &tensor, 1);
}

static void write_shards(void)
{
    write_shard(0, 0, 3, 3, "a");
    write_shard(1, 1, 3, 3, "b");
    write_shard(2, 2, 3, 3, "c");
}

static void remove_shards(void)
{
    for (int i = 0; i < 3; i++) unlink(shard_path(i));
}

static void any_shard_opens_all(void **state)
{
    (void)state;
    write_shards();
    for (int i = 0; i < 3; i++) {
        struct gguf_file *file = open_ok(shard_path(i));
        size_t n_bytes = 0;
        assert_int_equal(gguf_n_shards(file), 3);
        assert_int_equal(gguf_n_tensors(file), 3);
        const struct gguf_tensor *t = gguf_tensor_find(file, "b");
        assert_int_equal(t->shard, 1);
        const unsigned char *map = gguf_shard_map(file, 1, &n_bytes);
        assert_true((const unsigned char *)t->data > map &&
                    (const unsigned char *)t->data < map + n_bytes);
        assert_int_equal(gguf_file_bytes(file), 3 * n_bytes);
        gguf_close(file);
    }
    remove_shards();
}

static void shards_must_agree(void **state)
{
    (void)state;
    write_shards();
    write_shard(1, 2, 3, 3, "b");
    open_fails(shard_path(0), SL_CORRUPT, "m-00002-of-00003.gguf: key split.no: 2, not 1");
    write_shard(1, 1, 4, 3, "b");
    open_fails(shard_path(0), SL_CORRUPT, "m-00002-of-00003.gguf: key split.count: 4, not 3");
    write_shard(1, 1, 3, 3, "a");
    open_fails(shard_path(0), SL_CORRUPT, "m-00002-of-00003.gguf: tensor a: name: appears twice");
    write_shard(1, 1, 3, 3, "b");
    write_shard(0, 0, 3, 4, "a");
    open_fails(shard_path(2), SL_CORRUPT, "key split.tensors.count: 4, not 3");
    unlink(shard_path(1));
    open_fails(shard_path(0), SL_NOT_FOUND, "m-00002-of-00003.gguf: open: ");
    remove_shards();
}

static void a_whole_file_named_as_shard_is_refused(void **state)
{
    (void)state;
    const char *path = shard_path(0);
    write_file(path, put_keys, NULL, 0);
    open_fails(path, SL_CORRUPT, "key split.count: missing in a model of several files");
    unlink(shard_path(0));
}

static void a_shard_with_another_name_is_refused(void **state)
{
    (void)state;
    const char *tensor = "a";
    split.no = 0;
    split.n = split.n_tensors = 3;
    write_file(in_folder("m.gguf"), split_keys, &tensor, 1);
    open_fails(in_folder("m.gguf"), SL_CORRUPT, "key split.count: one of 3 files");
    unlink(in_folder("m.gguf"));
}

static void too_many_shards_are_a_limit(void **state)
{
    (void)state;
    open_fails("/nowhere/m-00001-of-01025.gguf", SL_LIMIT, "file name: 1025 shards, at most 1024");
    open_fails("/nowhere/m-00003-of-00002.gguf", SL_NOT_FOUND,
               "m-00003-of-00002.gguf: open"); /* just a name */
}

static void a_path_may_be_no_file(void **state)
{
    (void)state;
    open_fails("/nowhere/model.gguf", SL_NOT_FOUND, "/nowhere/model.gguf: open: ");
    open_fails(folder, SL_UNSUPPORTED, "file type: a directory");
    open_fails("/dev/null", SL_UNSUPPORTED, "file type: a pipe, socket or device");
    const char *path = in_folder("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    open_fails(path, SL_UNSUPPORTED, "file type: a pipe, socket or device");
    unlink(path);
    fclose(fopen(path, "w"));
    open_fails(path, SL_CORRUPT, "file size: the file is empty");
    unlink(path);
    open_fails("/nowhere/\x1b[2J", SL_NOT_FOUND, "/nowhere/\\x1b[2J: open: ");
}

static void an_unreadable_file_is_denied(void **state)
{
    (void)state;
    const char *path = in_folder("secret.gguf");
    const uid_t user = geteuid(), nobody = 65534;
    write_file(path, put_keys, NULL, 0);
    assert_int_equal(chmod(path, 0), 0);
    bool changed = user == 0 && seteuid(nobody) == 0; /* root may read anything */
    if (user != 0 || changed) open_fails(path, SL_DENIED, "secret.gguf: open: ");
    if (changed) assert_int_equal(seteuid(user), 0);
    unlink(path);
    if (user == 0 && !changed) skip();
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    write_shards();
    bool hit = true;
    for (uint64_t nth = 1; hit; nth++) {
        struct gguf_file *file = NULL;
        struct sl_err err = SL_ERR_INIT;
        uint64_t live = sl_mem_live();
        sl_mem_fail_at(nth, false);
        sl_status status = gguf_open(shard_path(0), &file, &err);
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        assert_true(!hit || err.text[0]);
        gguf_close(file);
        assert_int_equal(sl_mem_live(), live);
    }
    remove_shards();
}

static void types_are_as_large_as_ggmls(void **state)
{
    (void)state;
    for (int type = 0; type < GGML_TYPE_COUNT + 8; type++) {
        int64_t elements = 0;
        size_t bytes = 0;
        bool known = gguf_type_traits((uint32_t)type, &elements, &bytes);
        bool wanted = type < GGML_TYPE_COUNT && ggml_type_size((enum ggml_type)type) > 0;
        assert_int_equal(known, wanted);
        if (!known) {
            assert_string_equal(gguf_tensor_type_name((uint32_t)type), "?");
            continue;
        }
        assert_int_equal(elements, ggml_blck_size((enum ggml_type)type));
        assert_int_equal(bytes, ggml_type_size((enum ggml_type)type));
        assert_string_equal(gguf_tensor_type_name((uint32_t)type),
                            ggml_type_name((enum ggml_type)type));
    }
}

static void a_large_vocabulary_is_indexed(void **state)
{
    (void)state;
    const char *shared = getenv("STARLANE_SHARED") ? getenv("STARLANE_SHARED") : STARLANE_SHARED;
    char path[PATH_MAX_TEST];
    struct gguf_file *file = NULL;
    snprintf(path, sizeof(path), "%s/data/tokenizers/ggml-vocab-qwen2.gguf", shared);
    if (gguf_open(path, &file, NULL) != SL_OK) skip();
    const struct gguf_kv *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    assert_int_equal(tokens->n, 151936);
    assert_memory_equal(tokens->strs[0].s, "!", 1);
    assert_int_equal(gguf_find(file, "tokenizer.ggml.merges")->n, 151387);
    gguf_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name),
        cmocka_unit_test(maps_hold_the_whole_file),
        cmocka_unit_test(values_are_typed),
        cmocka_unit_test(wrong_types_are_named),
        cmocka_unit_test(elements_are_converted),
        cmocka_unit_test(any_shard_opens_all),
        cmocka_unit_test(shards_must_agree),
        cmocka_unit_test(a_whole_file_named_as_shard_is_refused),
        cmocka_unit_test(a_shard_with_another_name_is_refused),
        cmocka_unit_test(too_many_shards_are_a_limit),
        cmocka_unit_test(a_path_may_be_no_file),
        cmocka_unit_test(an_unreadable_file_is_denied),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(types_are_as_large_as_ggmls),
        cmocka_unit_test(a_large_vocabulary_is_indexed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
