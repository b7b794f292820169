/* qmat_trial_test.c: kernels that compute something else, die or are not there are not trusted. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>

#include "base/cpu.h"
#include "base/trial.h"
#include "exec/llm/qmat.h"
#include "support/tile_emulator.h"

#define PATIENCE_MS 60000

static enum qmat_type wrong_type;

/* As plain C, but for one bit of one result of one type. */
static void product_wrong(const struct qmat_product *p, int64_t col, int64_t row_first,
                          int64_t row_last)
{
    uint32_t bits;
    float *last = p->y + (size_t)(p->n - 1) * p->y_stride + row_last - 1;
    qmat_generic.product(p, col, row_first, row_last);
    if (p->w->type != wrong_type) return;
    memcpy(&bits, last, sizeof bits);
    bits ^= 1;
    memcpy(last, &bits, sizeof bits);
}

static void product_dies(const struct qmat_product *p, int64_t col, int64_t row_first,
                         int64_t row_last)
{
    (void)p, (void)col, (void)row_first, (void)row_last;
    raise(SIGILL);
}

static void one_bit_is_seen(void **state)
{
    (void)state;
    struct qmat_kernel wrong = {"wrong", qmat_generic.quantise, product_wrong};
    assert_true(qmat_kernels_agree(&qmat_generic, &qmat_generic));
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        wrong_type = (enum qmat_type)t;
        assert_false(qmat_kernels_agree(&wrong, &qmat_generic));
    }
}

static bool agrees_with_plain_c(void *kernel)
{
    return qmat_kernels_agree(kernel, &qmat_generic);
}

static void a_kernel_that_dies_is_tried_without_harm(void **state)
{
    (void)state;
    struct qmat_kernel kernel = {"dies", qmat_generic.quantise, product_dies};
    struct sl_trial trial = {agrees_with_plain_c, &kernel, PATIENCE_MS};
    assert_int_equal(sl_trial_run(&trial), SL_TRIAL_DIED);
    kernel.product = qmat_generic.product;
    assert_int_equal(sl_trial_run(&trial), SL_TRIAL_GOOD);
}

static void amx_is_listed_where_it_works(void **state)
{
    (void)state;
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    bool listed = false;
    int n = qmat_kernels(list);
    for (int i = 0; i < n; i++) listed |= !strcmp(list[i]->name, "amx");
    assert_int_equal(listed, !qmat_amx_problem());
    if (!sl_cpu_has(SL_CPU_AMX_INT8)) assert_string_equal(qmat_amx_problem(), sl_cpu_amx_problem());
}

#if defined(__x86_64__)
static bool amx_agrees(void *ctx)
{
    if (ctx) tile_emulator_install();
    return qmat_kernels_agree(&qmat_amx, &qmat_avx512vnni);
}

/* The trial that AMX's kernel has to pass, on tiles and, where there are none, without. */
static void amx_is_tried(void **state)
{
    (void)state;
    bool works = sl_cpu_has(SL_CPU_AMX_INT8);
    struct sl_trial trial = {amx_agrees, NULL, PATIENCE_MS};
    if (!sl_cpu_has(SL_CPU_AVX512_VNNI)) skip();
    assert_int_equal(sl_trial_run(&trial), works ? SL_TRIAL_GOOD : SL_TRIAL_DIED);
    if (works) return;
    trial.ctx = &trial;
    assert_int_equal(sl_trial_run(&trial), SL_TRIAL_GOOD);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_bit_is_seen),
        cmocka_unit_test(a_kernel_that_dies_is_tried_without_harm),
        cmocka_unit_test(amx_is_listed_where_it_works),
#if defined(__x86_64__)
        cmocka_unit_test(amx_is_tried),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
