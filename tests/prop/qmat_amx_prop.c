/* The AMX kernel (qmat.h), as qmat_check.h says, and bit for bit against the AVX-512 VNNI kernel.
 * Where the processor has no tiles they are emulated, instruction by instruction: the code that
 * runs is the one that a processor with tiles would run. */
#include "base/cpu.h"
#include "support/prop.h"
#include "support/qmat_check.h"
#include "support/tile_emulator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ROUNDS 15

#if defined(__x86_64__)
static void each_type(const char *(*check)(enum qmat_type type))
{
    if (!sl_cpu_has(SL_CPU_AVX512) || !sl_cpu_has(SL_CPU_AVX512_VNNI)) skip();
    if (!sl_cpu_has(SL_CPU_AMX_INT8)) tile_emulator_install();
    for (int round = 0; round < ROUNDS; round++) {
        for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
            const char *wrong = check((enum qmat_type)t);
            if (wrong) fail_msg("type %d: %s", t, wrong);
            assert_false(tile_emulator_configured());
        }
    }
    assert_true(sl_cpu_has(SL_CPU_AMX_INT8) || tile_emulator_count() > 0);
}

static const char *check_product(enum qmat_type type)
{
    return qmat_check_product(&qmat_amx, type, false);
}

static const char *check_scattered(enum qmat_type type)
{
    return qmat_check_scattered(&qmat_amx, type);
}

static const char *check_alone(enum qmat_type type)
{
    return qmat_check_alone(&qmat_amx, type);
}

static const char *check_same(enum qmat_type type)
{
    return qmat_check_same(&qmat_amx, &qmat_avx512vnni, type);
}
#else
#define each_type(check) skip()
#endif

static void test_products(void **state)
{
    (void)state;
    each_type(check_product);
}

static void test_columns_are_scattered(void **state)
{
    (void)state;
    each_type(check_scattered);
}

static void test_columns_are_independent(void **state)
{
    (void)state;
    each_type(check_alone);
}

/* Sums of integers are exact, and the rest is done in the same order. */
static void test_bits_are_those_of_avx512vnni(void **state)
{
    (void)state;
    each_type(check_same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_columns_are_scattered),
        cmocka_unit_test(test_columns_are_independent),
        cmocka_unit_test(test_bits_are_those_of_avx512vnni),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
