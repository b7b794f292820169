/* telemetry_history_test.c: the ring of an hour, and curves from it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "grid/telemetry_history.h"

#define SECOND INT64_C(1000000000)

static int setup(void **state)
{
    struct telemetry_history *history = NULL;
    if (telemetry_history_create(&history) != SL_OK) return -1;
    *state = history;
    return 0;
}

static int teardown(void **state)
{
    telemetry_history_destroy(*state);
    return 0;
}

static void add(struct telemetry_history *history, int64_t second, double cpu_fraction)
{
    struct telemetry_sample sample;
    telemetry_sample_init(&sample);
    sample.at_ns = second * SECOND;
    sample.cpu_fraction = cpu_fraction;
    telemetry_history_add(history, &sample);
}

static struct telemetry_bucket cpu_between(const struct telemetry_history *history, int64_t from,
                                           int64_t to)
{
    struct telemetry_bucket bucket;
    telemetry_history_query(history, TELEMETRY_CPU_FRACTION, 0, from * SECOND, to * SECOND, &bucket,
                            1);
    return bucket;
}

static void empty_knows_nothing(void **state)
{
    struct telemetry_bucket buckets[3];
    telemetry_history_query(*state, TELEMETRY_WATTS, 0, 0, 3600 * SECOND, buckets, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(buckets[i].n, 0);
        assert_true(buckets[i].mean == TELEMETRY_UNKNOWN);
    }
    assert_int_equal(telemetry_history_count(*state), 0);
    assert_int_equal(telemetry_history_latest_ns(*state), 0);
}

static void buckets_hold_least_mean_and_most(void **state)
{
    struct telemetry_bucket buckets[4];
    for (int i = 0; i < 8; i++) add(*state, 100 + i, i / 8.0);
    telemetry_history_query(*state, TELEMETRY_CPU_FRACTION, 0, 100 * SECOND, 108 * SECOND, buckets,
                            4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(buckets[i].n, 2);
        assert_true(buckets[i].min == 2 * i / 8.0);
        assert_true(buckets[i].mean == (2 * i + 0.5) / 8.0);
        assert_true(buckets[i].max == (2 * i + 1) / 8.0);
    }
}

static void the_end_is_not_within(void **state)
{
    for (int i = 0; i < 10; i++) add(*state, i + 1, 0.5);
    assert_int_equal(cpu_between(*state, 3, 6).n, 3);
    assert_int_equal(cpu_between(*state, 3, 3).n, 0);
    assert_int_equal(cpu_between(*state, 6, 3).n, 0);
    assert_int_equal(cpu_between(*state, -100, 100).n, 10);
    assert_int_equal(cpu_between(*state, 11, 100).n, 0);
}

static void unknown_values_do_not_count(void **state)
{
    add(*state, 1, TELEMETRY_UNKNOWN);
    add(*state, 2, 0.25);
    add(*state, 3, TELEMETRY_UNKNOWN);
    struct telemetry_bucket bucket = cpu_between(*state, 0, 10);
    assert_int_equal(bucket.n, 1);
    assert_true(bucket.min == 0.25 && bucket.mean == 0.25 && bucket.max == 0.25);
}

static void the_ring_forgets_the_oldest(void **state)
{
    for (int i = 0; i < TELEMETRY_HISTORY_MAX + 100; i++) add(*state, i + 1, 0.5);
    assert_int_equal(telemetry_history_count(*state), TELEMETRY_HISTORY_MAX);
    assert_int_equal(telemetry_history_oldest_ns(*state), 101 * SECOND);
    assert_int_equal(telemetry_history_latest_ns(*state), (TELEMETRY_HISTORY_MAX + 100) * SECOND);
    assert_int_equal(cpu_between(*state, 0, 101).n, 0);
    assert_int_equal(cpu_between(*state, 101, 201).n, 100);
    assert_int_equal(cpu_between(*state, 0, 100000).n, TELEMETRY_HISTORY_MAX);
}

static void time_does_not_go_back(void **state)
{
    add(*state, 5, 0.5);
    add(*state, 5, 0.9);
    add(*state, 4, 0.9);
    assert_int_equal(telemetry_history_count(*state), 1);
    assert_true(cpu_between(*state, 0, 9).max == 0.5);
}

static void accelerators_have_their_own(void **state)
{
    struct telemetry_bucket bucket;
    struct telemetry_sample sample;
    telemetry_sample_init(&sample);
    for (int i = 1; i <= 3; i++) {
        sample.at_ns = i * SECOND;
        sample.n_accelerators = i < 3 ? TELEMETRY_ACCELERATORS_MAX : 1;
        for (int k = 0; k < sample.n_accelerators; k++)
            sample.accelerators[k] =
                (struct telemetry_accelerator){.watts = 100 * k + i, .celsius = 40};
        telemetry_history_add(*state, &sample);
    }
    telemetry_history_query(*state, TELEMETRY_ACCELERATOR_WATTS, 15, 0, 9 * SECOND, &bucket, 1);
    assert_int_equal(bucket.n, 2); /* the third sample had one accelerator only */
    assert_true(bucket.min == 1501 && bucket.max == 1502);
    telemetry_history_query(*state, TELEMETRY_ACCELERATOR_CELSIUS, 0, 0, 9 * SECOND, &bucket, 1);
    assert_true(bucket.n == 3 && bucket.mean == 40);
}

static void questions_that_make_no_sense_get_nothing(void **state)
{
    struct telemetry_bucket bucket;
    add(*state, 1, 0.5);
    telemetry_history_query(*state, TELEMETRY_SERIES_COUNT, 0, 0, 9 * SECOND, &bucket, 1);
    assert_int_equal(bucket.n, 0);
    telemetry_history_query(*state, TELEMETRY_ACCELERATOR_WATTS, -1, 0, 9 * SECOND, &bucket, 1);
    assert_int_equal(bucket.n, 0);
    telemetry_history_query(*state, TELEMETRY_ACCELERATOR_WATTS, TELEMETRY_ACCELERATORS_MAX, 0,
                            9 * SECOND, &bucket, 1);
    assert_int_equal(bucket.n, 0);
    telemetry_history_query(*state, TELEMETRY_CPU_FRACTION, 0, INT64_MIN, INT64_MAX, &bucket, 1);
    assert_int_equal(bucket.n, 1);
}

static void its_allocation_may_fail(void **state)
{
    (void)state;
    struct telemetry_history *history = NULL;
    uint64_t live = sl_mem_live();
    sl_mem_fail_at(1, false);
    assert_int_equal(telemetry_history_create(&history), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_null(history);
    assert_int_equal(sl_mem_live(), live);
}

#define with_history(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_history(empty_knows_nothing),
        with_history(buckets_hold_least_mean_and_most),
        with_history(the_end_is_not_within),
        with_history(unknown_values_do_not_count),
        with_history(the_ring_forgets_the_oldest),
        with_history(time_does_not_go_back),
        with_history(accelerators_have_their_own),
        with_history(questions_that_make_no_sense_get_nothing),
        cmocka_unit_test(its_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
