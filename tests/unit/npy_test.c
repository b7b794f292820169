/* npy_test.c: NumPy's files: those that NumPy 1.24 writes are read, what is written is what NumPy
 * writes, and damaged or strange ones are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/npy.h"

/* numpy.save of arange(3, dtype='<i2').reshape(1, 3), but for the blanks that fill 128 bytes. */
#define HEAD "\x93NUMPY\x01\x00\x76\x00"
#define DICTIONARY "{'descr': '<i2', 'fortran_order': False, 'shape': (1, 3), }"

/* A file with this dictionary and data; returns its bytes. */
static size_t make_file(char out[512], const char *dictionary, const void *data, size_t n)
{
    memcpy(out, HEAD, 10);
    memset(out + 10, ' ', 118);
    memcpy(out + 10, dictionary, strlen(dictionary));
    out[127] = '\n';
    memcpy(out + 128, data, n);
    return 128 + n;
}

static sl_status read_file(const char *dictionary, const void *data, size_t n,
                           struct sl_arena *arena, struct tensor *out, struct sl_err *err)
{
    static char file[512];
    return npy_read(file, make_file(file, dictionary, data, n), arena, out, err);
}

static void an_array_is_read(void **state)
{
    (void)state;
    static const int16_t values[3] = {0, 1, 2};
    struct sl_arena arena;
    struct tensor t;
    sl_arena_init(&arena, 1000);
    assert_int_equal(read_file(DICTIONARY, values, sizeof values, &arena, &t, NULL), SL_OK);
    assert_int_equal(t.type, TENSOR_INT16);
    assert_int_equal(t.rank, 2);
    assert_int_equal(t.shape[0], 1);
    assert_int_equal(t.shape[1], 3);
    assert_memory_equal(t.data, values, sizeof values);
    assert_int_equal(t.n_bytes, sizeof values);
    sl_arena_done(&arena);
}

static void scalars_and_lists_have_their_shapes(void **state)
{
    (void)state;
    static const double one = 1.5;
    struct sl_arena arena;
    struct tensor t;
    sl_arena_init(&arena, 1000);
    assert_int_equal(read_file("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &one, 8,
                               &arena, &t, NULL),
                     SL_OK);
    assert_int_equal(t.rank, 0);
    assert_int_equal(t.type, TENSOR_FP64);
    assert_int_equal(read_file("{'descr': '|b1', 'fortran_order': False, 'shape': (8,), }", &one, 8,
                               &arena, &t, NULL),
                     SL_OK);
    assert_int_equal(t.rank, 1);
    assert_int_equal(t.shape[0], 8);
    assert_int_equal(read_file("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 7), }", &one,
                               0, &arena, &t, NULL),
                     SL_OK);
    assert_int_equal(t.n_bytes, 0);
    sl_arena_done(&arena);
}

static void texts_lose_the_nuls_at_their_end(void **state)
{
    (void)state;
    static const char wanted[] = "\x03\0\0\0cat\0\0\0\0\x01\0\0\0x";
    struct sl_arena arena;
    struct tensor t;
    sl_arena_init(&arena, 1000);
    assert_int_equal(read_file("{'descr': '|S3', 'fortran_order': False, 'shape': (3,), }",
                               "cat\0\0\0x\0\0", 9, &arena, &t, NULL),
                     SL_OK);
    assert_int_equal(t.type, TENSOR_BYTES);
    assert_int_equal(t.n_bytes, sizeof wanted - 1);
    assert_memory_equal(t.data, wanted, sizeof wanted - 1);
    assert_int_equal(tensor_check(&t, NULL), SL_OK);
    sl_arena_done(&arena);
}

static void what_is_no_array_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dictionary;
        size_t n;
        sl_status status;
    } rows[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4, SL_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", 4, SL_UNSUPPORTED},
        {"{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }", 16, SL_UNSUPPORTED},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 4, SL_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 4, SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 5, SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4, SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1", 4, SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [1], }", 4, SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, }", 4, SL_CORRUPT},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4, SL_CORRUPT},
        {"{'descr': '<f4', 'shape': (1,), }", 4, SL_CORRUPT},
        {"{'descr': '|S18446744073709551615', 'fortran_order': False, 'shape': (1,), }", 4,
         SL_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 4,
         SL_LIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1), }",
         4, SL_CORRUPT},
    };
    struct sl_arena arena;
    struct tensor t;
    sl_arena_init(&arena, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sl_status status =
            read_file(rows[i].dictionary, "0123456789abcdef", rows[i].n, &arena, &t, NULL);
        if (status != rows[i].status)
            fail_msg("%s: %s", rows[i].dictionary, sl_status_name(status));
    }
    char file[512];
    size_t n = make_file(file, DICTIONARY, "abcdef", 6);
    for (size_t k = 0; k < n; k++) assert_int_not_equal(npy_read(file, k, &arena, &t, NULL), SL_OK);
    sl_arena_done(&arena);
}

static void what_is_written_is_what_numpy_writes(void **state)
{
    (void)state;
    static const int16_t values[3] = {0, 1, 2};
    const struct tensor t = {"x", TENSOR_INT16, 2, {1, 3}, values, sizeof values};
    char wanted[512];
    struct sl_buf out;
    sl_buf_init(&out, 512);
    size_t n = make_file(wanted, DICTIONARY, values, sizeof values);
    assert_int_equal(npy_write(&t, &out, NULL), SL_OK);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data, wanted, n);
    sl_buf_done(&out);
    sl_buf_init(&out, 130);
    assert_int_equal(npy_write(&t, &out, NULL), SL_LIMIT);
    sl_buf_done(&out);
}

static void every_type_comes_back(void **state)
{
    (void)state;
    static const uint8_t values[16] = {1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1};
    for (int type = 0; type < TENSOR_BF16; type++) {
        size_t size = tensor_type_size((enum tensor_type)type);
        const struct tensor t = {"x", (enum tensor_type)type, 1, {2}, values, 2 * size};
        struct sl_arena arena;
        struct sl_buf out;
        struct tensor back;
        sl_arena_init(&arena, 1000);
        sl_buf_init(&out, 512);
        assert_int_equal(npy_write(&t, &out, NULL), SL_OK);
        assert_int_equal(npy_read(out.data, out.len, &arena, &back, NULL), SL_OK);
        assert_int_equal(back.type, type);
        assert_int_equal(back.n_bytes, 2 * size);
        assert_memory_equal(back.data, values, 2 * size);
        sl_buf_done(&out);
        sl_arena_done(&arena);
    }
}

static void what_numpy_lacks_is_turned_into_what_it_has(void **state)
{
    (void)state;
    static const uint16_t halves[2] = {0x3fc0, 0xc000}; /* 1.5, -2 */
    static const float floats[2] = {1.5f, -2};
    static const char texts[] = "\x03\0\0\0cat\x01\0\0\0x";
    const struct tensor b = {"b", TENSOR_BF16, 1, {2}, halves, sizeof halves};
    const struct tensor s = {"s", TENSOR_BYTES, 1, {2}, texts, sizeof texts - 1};
    struct sl_arena arena;
    struct tensor back;
    struct sl_buf out;
    sl_arena_init(&arena, 1000);
    sl_buf_init(&out, 512);
    assert_int_equal(npy_write(&b, &out, NULL), SL_OK);
    assert_int_equal(npy_read(out.data, out.len, &arena, &back, NULL), SL_OK);
    assert_int_equal(back.type, TENSOR_FP32);
    assert_memory_equal(back.data, floats, sizeof floats);
    sl_buf_clear(&out);
    assert_int_equal(npy_write(&s, &out, NULL), SL_OK);
    assert_non_null(strstr(out.data + 10, "'|S3'"));
    assert_memory_equal(out.data + 128, "catx\0\0", 6);
    sl_buf_done(&out);
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_is_read),
        cmocka_unit_test(scalars_and_lists_have_their_shapes),
        cmocka_unit_test(texts_lose_the_nuls_at_their_end),
        cmocka_unit_test(what_is_no_array_is_refused),
        cmocka_unit_test(what_is_written_is_what_numpy_writes),
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(what_numpy_lacks_is_turned_into_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
