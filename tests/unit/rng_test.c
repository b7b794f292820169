/* rng_test.c: the published answers of Philox, and what is built on them. */
#include "base/rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* The known answers the authors publish with Random123 (kat_vectors, philox4x32 10). */
static void philox_gives_the_published_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        sl_philox4x32(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].expected, sizeof out);
    }
}

static void u64_is_the_first_half_of_the_block(void **state)
{
    (void)state;
    assert_true(sl_rng_u64(0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(sl_rng_u64(UINT64_MAX, UINT64_MAX, UINT64_MAX) == 0x41c83b0e408f276du);
}

static void every_argument_changes_the_number(void **state)
{
    (void)state;
    uint64_t one = sl_rng_u64(1, 2, 3);
    assert_true(one == sl_rng_u64(1, 2, 3));
    assert_true(one != sl_rng_u64(2, 2, 3) && one != sl_rng_u64(1 + (1ull << 32), 2, 3));
    assert_true(one != sl_rng_u64(1, 3, 3) && one != sl_rng_u64(1, 2 + (1ull << 32), 3));
    assert_true(one != sl_rng_u64(1, 2, 4) && one != sl_rng_u64(1, 2, 3 + (1ull << 32)));
}

static void uniform_fills_the_unit_interval_evenly(void **state)
{
    (void)state;
    enum { N = 100000, CELLS = 16 };
    int counts[CELLS] = {0};
    for (int i = 0; i < N; i++) {
        double u = sl_rng_uniform(7, 0, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        counts[(int)(u * CELLS)]++;
    }
    double chi2 = 0, expected = (double)N / CELLS;
    for (int i = 0; i < CELLS; i++)
        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
    assert_true(chi2 < 37.7); /* 15 degrees of freedom, 99.9 % */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(u64_is_the_first_half_of_the_block),
        cmocka_unit_test(every_argument_changes_the_number),
        cmocka_unit_test(uniform_fills_the_unit_interval_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
