/* gguf_hostile_test.c: files that lie: flipped bytes, cut files, impossible counts. Each must be
 * refused with the field named, or accepted for good reason; run under ASan and UBSan, nothing may
 * be touched outside the bytes given. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/llm/gguf.h"

#define F32 0
#define Q4_0 2

/* A file built field by field; the test frees p. */
struct bytes {
    unsigned char *p;
    size_t n, cap;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    if (n > b->cap - b->n) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_u8(struct bytes *b, uint8_t v)
{
    put(b, &v, 1);
}
static void put_u32(struct bytes *b, uint32_t v)
{
    put(b, &v, 4);
}
static void put_u64(struct bytes *b, uint64_t v)
{
    put(b, &v, 8);
}

static void put_str(struct bytes *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static void put_head(struct bytes *b, uint64_t n_tensors, uint64_t n_kvs)
{
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, n_tensors);
    put_u64(b, n_kvs);
}

static void put_kv_u32(struct bytes *b, const char *key, uint32_t v)
{
    put_str(b, key);
    put_u32(b, GGUF_U32);
    put_u32(b, v);
}

static void put_array_head(struct bytes *b, const char *key, uint32_t type, uint64_t n)
{
    put_str(b, key);
    put_u32(b, GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, n);
}

static void put_tensor(struct bytes *b, const char *name, uint32_t type, int64_t ne0,
                       uint64_t offset)
{
    put_str(b, name);
    put_u32(b, 1);
    put_u64(b, (uint64_t)ne0);
    put_u32(b, type);
    put_u64(b, offset);
}

static void put_zeros(struct bytes *b, size_t n)
{
    for (size_t i = 0; i < n; i++) put_u8(b, 0);
}

static void put_data(struct bytes *b, size_t n)
{
    while (b->n % 32) put_u8(b, 0);
    put_zeros(b, n);
}

/* Every kind of field once. */
static void small_file(struct bytes *b)
{
    put_head(b, 3, 6);
    put_kv_u32(b, "general.alignment", 32);
    put_str(b, "general.architecture");
    put_u32(b, GGUF_STRING);
    put_str(b, "llama");
    put_array_head(b, "tokens", GGUF_STRING, 3);
    put_str(b, "a");
    put_str(b, "");
    put_str(b, "\n");
    put_array_head(b, "scores", GGUF_F32, 2);
    put_zeros(b, 8);
    put_str(b, "flag");
    put_u32(b, GGUF_BOOL);
    put_u8(b, 1);
    put_str(b, "wide");
    put_u32(b, GGUF_I64);
    put_u64(b, UINT64_MAX);
    put_tensor(b, "token_embd.weight", F32, 8, 0);
    put_tensor(b, "blk.0.ffn.weight", Q4_0, 64, 32);
    put_tensor(b, "output_norm.weight", F32, 5, 96);
    put_data(b, 96 + 20);
}

/* Reads every byte the index points to, so that a sanitiser sees a pointer that leads out. */
static void touch_all(const struct gguf_file *file)
{
    volatile unsigned sum = 0;
    for (size_t i = 0; i < gguf_n_kvs(file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(file, i);
        double v = 0;
        for (uint64_t j = 0; j < kv->n; j++) {
            if (kv->type == GGUF_STRING && kv->strs[j].len)
                sum += (unsigned char)kv->strs[j].s[kv->strs[j].len - 1];
            else if (gguf_kv_f64(kv, j, &v))
                sum += v > 0;
        }
    }
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        const unsigned char *data = t->data;
        assert_ptr_equal(gguf_tensor_find(file, t->name), t);
        sum += data[0] + data[t->n_bytes - 1];
    }
    (void)sum;
}

/* Opens n bytes at a 32-byte boundary; whatever comes out must be usable or explained. */
static sl_status open_bytes(const unsigned char *bytes, size_t n, struct sl_err *err)
{
    struct gguf_file *file = NULL;
    uint64_t live = sl_mem_live();
    *err = (struct sl_err)SL_ERR_INIT;
    sl_status status = gguf_open_mem(bytes, n, &file, err);
    if (status) {
        assert_null(file);
        assert_int_equal(err->status, status);
        assert_non_null(strstr(err->text, ": ")); /* "field: what is wrong" */
        assert_true(status == SL_CORRUPT || status == SL_UNSUPPORTED || status == SL_LIMIT);
    } else {
        touch_all(file);
        gguf_close(file);
    }
    assert_int_equal(sl_mem_live(), live);
    return status;
}

/* A copy of exactly n bytes, so that a sanitiser sees the first byte read past them. */
static unsigned char *exact_copy(const unsigned char *bytes, size_t n)
{
    void *copy = NULL;
    assert_int_equal(posix_memalign(&copy, 32, n ? n : 1), 0);
    if (n) memcpy(copy, bytes, n);
    return copy;
}

static sl_status open_copy(const unsigned char *bytes, size_t n, struct sl_err *err)
{
    unsigned char *copy = exact_copy(bytes, n);
    sl_status status = open_bytes(copy, n, err);
    free(copy);
    return status;
}

/* All single-bit flips and the two extremes of every byte of [0, n_header). Returns how many were
 * refused. */
static size_t flip_header(const unsigned char *bytes, size_t n, size_t n_header)
{
    size_t n_refused = 0;
    struct sl_err err;
    unsigned char *copy = exact_copy(bytes, n);
    for (size_t i = 0; i < n_header; i++) {
        for (int flip = 0; flip < 10; flip++) {
            copy[i] = flip < 8 ? bytes[i] ^ (unsigned char)(1u << flip) : flip == 8 ? 0x00 : 0xff;
            n_refused += open_bytes(copy, n, &err) != SL_OK;
        }
        copy[i] = bytes[i];
    }
    free(copy);
    return n_refused;
}

static void flipped_bytes_of_a_small_file(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct sl_err err;
    small_file(&b);
    assert_int_equal(open_copy(b.p, b.n, &err), SL_OK);
    size_t n_refused = flip_header(b.p, b.n, b.n);
    assert_true(n_refused > b.n); /* most of the header is structure; data may be anything */
    free(b.p);
}

static void flipped_bytes_of_a_model(void **state)
{
    (void)state;
    const char *shared = getenv("STARLANE_SHARED") ? getenv("STARLANE_SHARED") : STARLANE_SHARED;
    char path[4096];
    struct gguf_file *file = NULL;
    size_t n = 0;
    snprintf(path, sizeof(path), "%s/golden/llm/llama.gguf", shared);
    if (gguf_open(path, &file, NULL) != SL_OK) skip();
    const unsigned char *map = gguf_shard_map(file, 0, &n);
    size_t n_header = (size_t)((const unsigned char *)gguf_tensor_at(file, 0)->data - map);
    assert_true(flip_header(map, n, n_header) > n_header);
    gguf_close(file);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct sl_err err;
    small_file(&b);
    for (size_t n = 0; n < b.n; n++) assert_int_equal(open_copy(b.p, n, &err), SL_CORRUPT);
    assert_int_equal(open_copy(b.p, b.n, &err), SL_OK);
    free(b.p);
}

/* One lie each. */
static void magic(struct bytes *b)
{
    put(b, "GGML", 4);
    put_zeros(b, 64);
}
static void version_1(struct bytes *b)
{
    put(b, "GGUF", 4);
    put_u32(b, 1);
    put_zeros(b, 64);
}
static void version_4(struct bytes *b)
{
    put(b, "GGUF", 4);
    put_u32(b, 4);
    put_zeros(b, 64);
}
static void big_endian(struct bytes *b)
{
    put(b, "GGUF\0\0\0\3", 8);
    put_zeros(b, 64);
}
static void empty(struct bytes *b)
{
    (void)b;
}
static void tensors_2_60(struct bytes *b)
{
    put_head(b, UINT64_C(1) << 60, 0);
    put_zeros(b, 64);
}
static void tensors_max(struct bytes *b)
{
    put_head(b, UINT64_MAX, 0);
    put_zeros(b, 64);
}
static void kvs_2_60(struct bytes *b)
{
    put_head(b, 0, UINT64_C(1) << 60);
    put_zeros(b, 64);
}
static void kvs_1_too_many(struct bytes *b)
{
    put_head(b, 0, 2);
    put_kv_u32(b, "a", 1);
    put_zeros(b, 7);
}
static void key_length_2_63(struct bytes *b)
{
    put_head(b, 0, 1);
    put_u64(b, UINT64_C(1) << 63);
    put_zeros(b, 64);
}
static void key_length_max(struct bytes *b)
{
    put_head(b, 0, 1);
    put_u64(b, UINT64_MAX);
    put_zeros(b, 64);
}
static void key_empty(struct bytes *b)
{
    put_head(b, 0, 1);
    put_u64(b, 0);
    put_zeros(b, 64);
}
static void value_type(struct bytes *b)
{
    put_head(b, 0, 1);
    put_str(b, "k");
    put_u32(b, 13);
    put_zeros(b, 8);
}
static void bool_2(struct bytes *b)
{
    put_head(b, 0, 1);
    put_str(b, "k");
    put_u32(b, GGUF_BOOL);
    put_u8(b, 2);
}
static void array_2_61(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_F64, UINT64_C(1) << 61);
    put_zeros(b, 8);
}
static void strings_2_61(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_STRING, UINT64_C(1) << 61);
}
static void array_of_arrays(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_ARRAY, 1);
    put_zeros(b, 16);
}
static void array_type(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", 99, 1);
    put_zeros(b, 16);
}

static void array_bool_2(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_BOOL, 2);
    put(b, "\1\2", 2);
}

static void string_length_2_63(struct bytes *b)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_STRING, 2);
    put_str(b, "fine");
    put_u64(b, UINT64_C(1) << 63);
}

static void key_twice(struct bytes *b)
{
    put_head(b, 0, 2);
    put_kv_u32(b, "a.b", 1);
    put_kv_u32(b, "a.b", 2);
}

static void key_escaped(struct bytes *b)
{
    put_head(b, 0, 1);
    put_str(b, "\x1b[2Jk\\\xff");
    put_u32(b, 77);
    put_zeros(b, 8);
}

static void with_alignment(struct bytes *b, uint32_t alignment)
{
    put_head(b, 0, 1);
    put_kv_u32(b, "general.alignment", alignment);
    put_zeros(b, 64);
}

static void alignment_0(struct bytes *b)
{
    with_alignment(b, 0);
}
static void alignment_4(struct bytes *b)
{
    with_alignment(b, 4);
}
static void alignment_24(struct bytes *b)
{
    with_alignment(b, 24);
}
static void alignment_2_31(struct bytes *b)
{
    with_alignment(b, UINT32_C(1) << 31);
}

static void alignment_u64(struct bytes *b)
{
    put_head(b, 0, 1);
    put_str(b, "general.alignment");
    put_u32(b, GGUF_U64);
    put_u64(b, 32);
}

static void tensor_with(struct bytes *b, uint32_t type, int64_t ne0, uint64_t offset)
{
    put_head(b, 1, 0);
    put_tensor(b, "w", type, ne0, offset);
    put_data(b, 64);
}

static void type_removed(struct bytes *b)
{
    tensor_with(b, 4, 32, 0);
}
static void type_max(struct bytes *b)
{
    tensor_with(b, UINT32_MAX, 32, 0);
}
static void dimension_zero(struct bytes *b)
{
    tensor_with(b, F32, 0, 0);
}
static void dimension_negative(struct bytes *b)
{
    tensor_with(b, F32, -1, 0);
}
static void size_overflow(struct bytes *b)
{
    tensor_with(b, 28, INT64_MAX, 0);
}
static void row_not_whole(struct bytes *b)
{
    tensor_with(b, Q4_0, 33, 0);
}
static void offset_past(struct bytes *b)
{
    tensor_with(b, F32, 16, 32);
}
static void offset_max(struct bytes *b)
{
    tensor_with(b, F32, 16, UINT64_MAX - 31);
}
static void offset_odd(struct bytes *b)
{
    tensor_with(b, F32, 4, 8);
}

static void element_overflow(struct bytes *b)
{
    put_head(b, 1, 0);
    put_str(b, "w");
    put_u32(b, 3);
    for (int i = 0; i < 3; i++) put_u64(b, UINT64_C(1) << 31);
    put_u32(b, F32);
    put_u64(b, 0);
    put_data(b, 64);
}

static void dimensions_5(struct bytes *b)
{
    put_head(b, 1, 0);
    put_str(b, "w");
    put_u32(b, 5);
    for (int i = 0; i < 5; i++) put_u64(b, 1);
    put_data(b, 64);
}

static void tensor_twice(struct bytes *b)
{
    put_head(b, 2, 0);
    put_tensor(b, "w", F32, 8, 0);
    put_tensor(b, "w", F32, 8, 32);
    put_data(b, 64);
}

static void tensors_overlap(struct bytes *b)
{
    put_head(b, 2, 0);
    put_tensor(b, "v", F32, 16, 0);
    put_tensor(b, "w", F32, 8, 32);
    put_data(b, 64);
}

static void tensor_name(struct bytes *b, const char *name, size_t len)
{
    put_head(b, 1, 0);
    put_u64(b, len);
    put(b, name, len);
    put_zeros(b, 64);
}

static void name_64(struct bytes *b)
{
    char s[64];
    memset(s, 'x', 64);
    tensor_name(b, s, 64);
}
static void name_empty(struct bytes *b)
{
    tensor_name(b, "", 0);
}
static void name_nul(struct bytes *b)
{
    tensor_name(b, "a\0b", 3);
}
static void split_lone(struct bytes *b)
{
    put_head(b, 0, 1);
    put_kv_u32(b, "split.count", 3);
}
static void split_type(struct bytes *b)
{
    put_head(b, 0, 1);
    put_str(b, "split.count");
    put_u32(b, GGUF_BOOL);
    put_u8(b, 1);
}

static const struct {
    void (*build)(struct bytes *b);
    sl_status status;
    const char *text;
} lies[] = {
    {empty, SL_CORRUPT, "magic: the file is empty"},
    {magic, SL_CORRUPT, "magic: not a GGUF file"},
    {version_1, SL_UNSUPPORTED, "version: 1, only 2 and 3 are read"},
    {version_4, SL_UNSUPPORTED, "version: 4, only 2 and 3 are read"},
    {big_endian, SL_UNSUPPORTED, "version: a big-endian file"},
    {tensors_2_60, SL_CORRUPT, "tensor count: 1152921504606846976 do not fit the 64 bytes left"},
    {tensors_max, SL_CORRUPT, "tensor count: 18446744073709551615 do not fit the 64 bytes left"},
    {kvs_2_60, SL_CORRUPT, "key count: 1152921504606846976 do not fit the 64 bytes left"},
    {kvs_1_too_many, SL_CORRUPT, "key count: 2 do not fit the 24 bytes left"},
    {key_length_2_63, SL_CORRUPT,
     "key 0: name: 9223372036854775808 bytes at offset 32, but the file has 64 left"},
    {key_length_max, SL_CORRUPT,
     "key 0: name: 18446744073709551615 bytes at offset 32, but the file has 64 left"},
    {key_empty, SL_CORRUPT, "key 0: name: empty"},
    {key_twice, SL_CORRUPT, "key a.b: name: appears twice"},
    {key_escaped, SL_CORRUPT, "key \\x1b[2Jk\\x5c\\xff: type: 77 is not a type of value"},
    {value_type, SL_CORRUPT, "key k: type: 13 is not a type of value"},
    {bool_2, SL_CORRUPT, "key k: value: 2 is neither true nor false"},
    {array_bool_2, SL_CORRUPT, "key k: value: 2 is neither true nor false"},
    {array_2_61, SL_CORRUPT,
     "key k: array length: 2305843009213693952 do not fit the 8 bytes left"},
    {strings_2_61, SL_CORRUPT,
     "key k: array length: 2305843009213693952 do not fit the 0 bytes left"},
    {string_length_2_63, SL_CORRUPT, "key k: string: 9223372036854775808 bytes at offset"},
    {array_of_arrays, SL_UNSUPPORTED, "key k: element type: arrays of arrays are not read"},
    {array_type, SL_CORRUPT, "key k: element type: 99 is not a type of value"},
    {alignment_0, SL_CORRUPT,
     "key general.alignment: value: 0 is not a power of two from 8 to 65536"},
    {alignment_4, SL_CORRUPT,
     "key general.alignment: value: 4 is not a power of two from 8 to 65536"},
    {alignment_24, SL_CORRUPT,
     "key general.alignment: value: 24 is not a power of two from 8 to 65536"},
    {alignment_2_31, SL_CORRUPT,
     "key general.alignment: value: 2147483648 is not a power of two from 8 to 65536"},
    {alignment_u64, SL_CORRUPT, "key general.alignment: type: not a u32"},
    {type_removed, SL_UNSUPPORTED, "tensor w: type: 4 is not a known tensor type"},
    {type_max, SL_UNSUPPORTED, "tensor w: type: 4294967295 is not a known tensor type"},
    {dimension_zero, SL_CORRUPT, "tensor w: dimension 0: 0 elements"},
    {dimension_negative, SL_CORRUPT, "tensor w: dimension 0: 18446744073709551615 elements"},
    {dimensions_5, SL_CORRUPT, "tensor w: number of dimensions: 5, at most 4"},
    {element_overflow, SL_CORRUPT,
     "tensor w: dimension 2: 2147483648 makes the element count overflow"},
    {size_overflow, SL_CORRUPT,
     "tensor w: type: 9223372036854775807 elements of f64 overflow a size"},
    {row_not_whole, SL_CORRUPT,
     "tensor w: dimension 0: 33 is not a multiple of the 32 elements in a block of q4_0"},
    {offset_past, SL_CORRUPT, "tensor w: data: 32 bytes past the end of the file"},
    {offset_max, SL_CORRUPT, "tensor w: data: "},
    {offset_odd, SL_CORRUPT, "tensor w: offset: 8 is not a multiple of 32"},
    {tensor_twice, SL_CORRUPT, "tensor w: name: appears twice"},
    {tensors_overlap, SL_CORRUPT, "tensor w: offset: overlaps the tensor before it"},
    {name_64, SL_LIMIT, "tensor 0: name: 64 bytes, at most 63"},
    {name_empty, SL_CORRUPT, "tensor 0: name: empty"},
    {name_nul, SL_CORRUPT, "tensor a\\x00b: name: holds a NUL"},
    {split_lone, SL_CORRUPT, "key split.count: one of 3 files"},
    {split_type, SL_CORRUPT, "key split.count: is a bool, not an integer"},
};

static void lies_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct bytes b = {0};
        struct sl_err err;
        lies[i].build(&b);
        sl_status status = open_copy(b.p, b.n, &err);
        if (status != lies[i].status ||
            strncmp(err.text, lies[i].text, strlen(lies[i].text)) != 0) {
            fail_msg("wanted %s '%s', got %s '%s'", sl_status_name(lies[i].status), lies[i].text,
                     sl_status_name(status), err.text);
        }
        free(b.p);
    }
}

/* No count is believed before it was held against the file: with no memory at all the answer is
 * the same. */
static void lies_allocate_nothing_for_their_counts(void **state)
{
    (void)state;
    void (*const builds[])(struct bytes *) = {tensors_2_60, tensors_max, kvs_2_60, kvs_1_too_many};
    for (size_t i = 0; i < sizeof(builds) / sizeof(builds[0]); i++) {
        struct bytes b = {0};
        struct sl_err err;
        struct gguf_file *file = NULL;
        builds[i](&b);
        unsigned char *copy = exact_copy(b.p, b.n);
        sl_mem_fail_at(3, true); /* the first two are the file and its list of one shard */
        sl_status status = gguf_open_mem(copy, b.n, &file, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, SL_CORRUPT);
        assert_false(hit);
        free(copy);
        free(b.p);
    }
}

/* The densest honest files: the smallest keys, strings and tensors there can be. */
static void dense_keys(struct bytes *b, uint32_t n)
{
    put_head(b, 0, n);
    for (uint32_t i = 0; i < n; i++) {
        put_u64(b, sizeof(i));
        put_u32(b, i);
        put_u32(b, GGUF_U8);
        put_u8(b, 0);
    }
}

static void dense_strings(struct bytes *b, uint32_t n)
{
    put_head(b, 0, 1);
    put_array_head(b, "k", GGUF_STRING, n);
    put_zeros(b, (size_t)n * 8);
}

static void dense_tensors(struct bytes *b, uint32_t n)
{
    put_head(b, n, 0);
    for (uint32_t i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%x", i);
        put_str(b, name);
        put_u32(b, 0);
        put_u32(b, F32);
        put_u64(b, (uint64_t)i * 32);
    }
    put_data(b, (size_t)n * 32);
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void memory_stays_in_proportion(void **state)
{
    (void)state;
    void (*const builds[])(struct bytes *, uint32_t) = {dense_keys, dense_strings, dense_tensors};
    for (size_t i = 0; i < sizeof(builds) / sizeof(builds[0]); i++) {
        struct bytes b = {0};
        struct gguf_file *file = NULL;
        builds[i](&b, 40000);
        unsigned char *copy = exact_copy(b.p, b.n);
        size_t before = heap_bytes();
        assert_int_equal(gguf_open_mem(copy, b.n, &file, NULL), SL_OK);
        size_t used = heap_bytes() - before;
        assert_true(used <= 12 * b.n); /* 0 under a sanitiser's allocator */
        gguf_close(file);
        free(copy);
        free(b.p);
    }
}

static void refuse_over_limit(void (*build)(struct bytes *, uint32_t), const char *text)
{
    struct bytes b = {0};
    struct sl_err err;
    build(&b, 65537);
    assert_int_equal(open_copy(b.p, b.n, &err), SL_LIMIT);
    assert_string_equal(err.text, text);
    free(b.p);
}

static void too_many_of_a_kind_are_a_limit(void **state)
{
    (void)state;
    refuse_over_limit(dense_tensors, "tensor count: 65537, at most 65536");
    refuse_over_limit(dense_keys, "key count: 65537, at most 65536");
}

static void unaligned_bytes_are_refused(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct gguf_file *file = NULL;
    small_file(&b);
    unsigned char *copy = exact_copy(b.p, b.n);
    assert_int_equal(gguf_open_mem(copy + 1, b.n - 1, &file, NULL), SL_INVALID);
    free(copy);
    free(b.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bytes_of_a_small_file),
        cmocka_unit_test(flipped_bytes_of_a_model),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(lies_are_named),
        cmocka_unit_test(lies_allocate_nothing_for_their_counts),
        cmocka_unit_test(memory_stays_in_proportion),
        cmocka_unit_test(too_many_of_a_kind_are_a_limit),
        cmocka_unit_test(unaligned_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
