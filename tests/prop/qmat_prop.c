/* Every kernel of qmat.h that this processor has, as qmat_check.h says; and the reading of blocks
 * that those checks rest on, against ggml's. */
#include "exec/llm/qmat.h"
#include "support/prop.h"
#include "support/qmat_blocks.h"
#include "support/qmat_check.h"

#include <ggml.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 15
#define BLOCKS 200
#define BLOCK_BYTES_MAX 256
#define BLOCK_MAX 256

static const enum ggml_type types[QMAT_TYPE_COUNT] = {
    GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K,
};

static void require(const char *wrong, const struct qmat_kernel *kernel)
{
    if (wrong) fail_msg("%s: %s", kernel->name, wrong);
}

/* ggml may be built with a fused multiply-add, so the last bit may differ. */
static void test_blocks_are_ggmls(void **state)
{
    (void)state;
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        const struct ggml_type_traits *traits = ggml_get_type_traits(types[t]);
        assert_int_equal(qmat_block_bytes((enum qmat_type)t), ggml_type_size(types[t]));
        for (int i = 0; i < BLOCKS; i++) {
            _Alignas(8) char block[BLOCK_BYTES_MAX];
            float ours[BLOCK_MAX], theirs[BLOCK_MAX], most = 0;
            int64_t n = qmat_block((enum qmat_type)t);
            qmat_draw_block((enum qmat_type)t, block);
            qmat_decode((enum qmat_type)t, block, n, ours);
            traits->to_float(block, theirs, n);
            for (int64_t j = 0; j < n; j++) most = fmaxf(most, fabsf(theirs[j]));
            for (int64_t j = 0; j < n; j++) assert_true(fabsf(ours[j] - theirs[j]) <= 1e-6f * most);
        }
    }
}

static void check_type(enum qmat_type type)
{
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    assert_ptr_equal(list[n - 1], &qmat_generic);
    for (int i = 0; i < n; i++)
        for (int round = 0; round < ROUNDS; round++)
            require(qmat_check_product(list[i], type, false), list[i]);
}

static void test_columns_are_scattered(void **state)
{
    (void)state;
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    qmat_kernels(list);
    for (int t = 0; t < QMAT_TYPE_COUNT; t++)
        require(qmat_check_scattered(list[0], (enum qmat_type)t), list[0]);
}

static void test_columns_are_independent(void **state)
{
    (void)state;
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < QMAT_TYPE_COUNT; t++)
            require(qmat_check_alone(list[i], (enum qmat_type)t), list[i]);
}

static void test_columns_are_gated(void **state)
{
    (void)state;
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    for (int i = 0; i < n; i++)
        for (int t = 0; t < QMAT_TYPE_COUNT; t++)
            require(qmat_check_gated(list[i], (enum qmat_type)t), list[i]);
}

static void test_q4_0(void **state)
{
    (void)state;
    check_type(QMAT_Q4_0);
}

static void test_q8_0(void **state)
{
    (void)state;
    check_type(QMAT_Q8_0);
}

static void test_q4_k(void **state)
{
    (void)state;
    check_type(QMAT_Q4_K);
}

static void test_q5_k(void **state)
{
    (void)state;
    check_type(QMAT_Q5_K);
}

static void test_q6_k(void **state)
{
    (void)state;
    check_type(QMAT_Q6_K);
}

static void test_types(void **state)
{
    (void)state;
    enum qmat_type type;
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        assert_true(qmat_type_from_gguf((uint32_t)types[t], &type));
        assert_int_equal(type, t);
        assert_int_equal(qmat_block(type), ggml_blck_size(types[t]));
    }
    assert_false(qmat_type_from_gguf(GGML_TYPE_F16, &type));
    assert_true(qmat_shares_columns(QMAT_Q4_K, QMAT_Q6_K));
    assert_false(qmat_shares_columns(QMAT_Q4_0, QMAT_Q8_0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_blocks_are_ggmls),
        cmocka_unit_test(test_columns_are_independent),
        cmocka_unit_test(test_columns_are_scattered),
        cmocka_unit_test(test_columns_are_gated),
        cmocka_unit_test(test_q4_0),
        cmocka_unit_test(test_q8_0),
        cmocka_unit_test(test_q4_k),
        cmocka_unit_test(test_q5_k),
        cmocka_unit_test(test_q6_k),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
