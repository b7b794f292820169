/* Tensors: what their bytes must be, and what a model's signature lets in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"
#include "exec/tensor.h"

static void test_type_names(void **state)
{
    enum tensor_type type = TENSOR_BOOL;
    (void)state;
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        const char *name = tensor_type_name((enum tensor_type)i);
        assert_true(tensor_type_parse(name, strlen(name), &type));
        assert_int_equal(type, i);
    }
    assert_string_equal(tensor_type_name(TENSOR_TYPE_COUNT), "?");
    assert_false(tensor_type_parse("fp32", 4, &type)); /* the protocol has them in capitals */
    assert_false(tensor_type_parse("FP3", 3, &type));
    assert_false(tensor_type_parse("FP322", 5, &type));
    assert_int_equal(tensor_type_size(TENSOR_FP16), 2);
    assert_int_equal(tensor_type_size(TENSOR_BYTES), 0);
    assert_int_equal(tensor_type_size(TENSOR_TYPE_COUNT), 0);
}

static void test_count(void **state)
{
    const int64_t huge[] = {INT64_MAX, 3, 0}, negative[] = {2, -1};
    int64_t deep[TENSOR_RANK_MAX + 1] = {0};
    struct sl_err err = SL_ERR_INIT;
    uint64_t n = 0;
    (void)state;
    assert_int_equal(tensor_count(huge, 0, &n, &err), SL_OK);
    assert_int_equal(n, 1); /* a scalar */
    assert_int_equal(tensor_count(huge, 3, &n, &err), SL_OK);
    assert_int_equal(n, 0); /* nothing, however large the others are */
    assert_int_equal(tensor_count(huge, 2, &n, &err), SL_LIMIT);
    assert_int_equal(tensor_count(negative, 2, &n, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "dimension 1 is -1"));
    assert_int_equal(tensor_count(deep, TENSOR_RANK_MAX + 1, &n, &err), SL_INVALID);
    assert_int_equal(tensor_count(deep, -1, &n, &err), SL_INVALID);
}

static void expect_bytes(const void *data, size_t n, int64_t count, sl_status want)
{
    const struct tensor tensor = {
        .name = "x", .type = TENSOR_BYTES, .rank = 1, .shape = {count}, .data = data, .n_bytes = n};
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(tensor_check(&tensor, &err), want);
}

static void test_elements_of_bytes(void **state)
{
    (void)state;
    expect_bytes("\2\0\0\0hi\0\0\0\0", 10, 2, SL_OK);
    expect_bytes("\2\0\0\0hi\0\0\0\0", 10, 1, SL_INVALID); /* one left over */
    expect_bytes("\2\0\0\0hi\0\0\0\0", 10, 3, SL_INVALID); /* one missing */
    expect_bytes("\2\0\0\0hi\0\0\0", 9, 2, SL_INVALID);    /* half a length */
    expect_bytes("\3\0\0\0hi", 6, 1, SL_INVALID);          /* longer than there is */
    expect_bytes("\xff\xff\xff\xff", 4, 1, SL_INVALID);
    expect_bytes("", 0, 0, SL_OK);
}

static void test_sizes(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct tensor tensor = {.name = "x", .type = TENSOR_FP64, .rank = 2, .shape = {2, 3}};
    double values[6] = {0};
    (void)state;
    tensor.data = values;
    tensor.n_bytes = sizeof values;
    assert_int_equal(tensor_check(&tensor, &err), SL_OK);
    tensor.n_bytes--;
    assert_int_equal(tensor_check(&tensor, &err), SL_INVALID);
    assert_string_equal(err.text, "47 bytes of data where FP64 of [2,3] takes 6 elements of 8");
    tensor.shape[0] = INT64_MAX / 4;
    tensor.shape[1] = 4;
    assert_int_equal(tensor_check(&tensor, &err), SL_INVALID); /* 8 times that overflows */
}

static const struct tensor_spec inputs[] = {
    {.name = "image", .type = TENSOR_FP32, .rank = 3, .shape = {-1, 2, 2}},
    {.name = "size", .type = TENSOR_INT64, .rank = 1, .shape = {2}, .optional = true},
};
static const struct tensor_spec outputs[] = {{.name = "label", .type = TENSOR_INT64, .rank = -1}};
static const struct tensor_signature signature = {inputs, outputs, 2, 1};

static void expect_refusal(const struct tensor *v, size_t n, const char *output, const char *text)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = tensor_signature_check(&signature, v, n, &output, output != NULL, &err);
    assert_int_equal(status, text ? SL_INVALID : SL_OK);
    if (text) assert_string_equal(err.text, text);
}

static void test_signature(void **state)
{
    static const float zeros[8];
    const struct tensor image = {.name = "image",
                                 .type = TENSOR_FP32,
                                 .rank = 3,
                                 .shape = {2, 2, 2},
                                 .data = zeros,
                                 .n_bytes = sizeof zeros};
    struct tensor two[] = {image, image}, other = image;
    (void)state;
    expect_refusal(&image, 1, NULL, NULL);
    expect_refusal(&image, 1, "label", NULL);
    expect_refusal(NULL, 0, NULL, "input \"image\" is missing");
    expect_refusal(two, 2, NULL, "input \"image\" is given twice");
    expect_refusal(&image, 1, "score", "the model has no output \"score\"; it gives \"label\"");
    other.name = "img";
    expect_refusal(&other, 1, NULL, "the model has no input \"img\"; it takes \"image\", \"size\"");
    other = image;
    other.type = TENSOR_FP64;
    expect_refusal(&other, 1, NULL, "input \"image\": FP64 where the model takes FP32");
    other = image;
    other.shape[1] = 4;
    other.shape[0] = 1;
    expect_refusal(&other, 1, NULL,
                   "input \"image\": shape [1,4,2] where the model takes [-1,2,2]");
    other = image;
    other.n_bytes = 28;
    expect_refusal(&other, 1, NULL,
                   "input \"image\": 28 bytes of data where FP32 of [2,2,2] takes 8 elements of 4");
}

static void test_copy(void **state)
{
    const struct tensor v[] = {
        {.name = "a",
         .type = TENSOR_BYTES,
         .rank = 1,
         .shape = {1},
         .data = "\1\0\0\0x",
         .n_bytes = 5},
        {.name = "b", .type = TENSOR_BOOL, .rank = 0, .data = "\1", .n_bytes = 1},
        {.name = "", .type = TENSOR_FP32, .rank = 1, .shape = {0}},
    };
    struct sl_arena arena;
    struct tensor *copy;
    uint64_t live = sl_mem_live();
    (void)state;
    sl_arena_init(&arena, 1u << 20);
    assert_int_equal(tensors_copy(v, 3, &arena, &copy), SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(copy[i].name, v[i].name);
        assert_int_equal(copy[i].n_bytes, v[i].n_bytes);
        if (v[i].n_bytes) assert_memory_equal(copy[i].data, v[i].data, v[i].n_bytes);
        assert_int_equal((uintptr_t)copy[i].data % 64, 0);
    }
    assert_int_equal(tensors_bytes(copy, 3), 6);
    sl_arena_done(&arena);
    sl_mem_fail_at(1, true);
    assert_int_equal(tensors_copy(v, 3, &arena, &copy), SL_NOMEM);
    sl_mem_fail_at(0, false);
    sl_arena_done(&arena);
    assert_int_equal(sl_mem_live(), live);
}

static void test_shape_text(void **state)
{
    int64_t shape[TENSOR_RANK_MAX];
    char out[TENSOR_SHAPE_TEXT_MAX];
    (void)state;
    for (int i = 0; i < TENSOR_RANK_MAX; i++) shape[i] = INT64_MIN;
    assert_int_equal(strlen(tensor_shape_text(shape, TENSOR_RANK_MAX, out)),
                     20 * TENSOR_RANK_MAX + (TENSOR_RANK_MAX - 1) + 2);
    assert_string_equal(tensor_shape_text(shape, 0, out), "[]");
    assert_string_equal(tensor_shape_text(shape, -1, out), "[?]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_type_names),        cmocka_unit_test(test_count),
        cmocka_unit_test(test_elements_of_bytes), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_signature),         cmocka_unit_test(test_copy),
        cmocka_unit_test(test_shape_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
