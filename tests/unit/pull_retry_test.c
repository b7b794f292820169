/* pull_retry_test.c: when a failed request is made again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "grid/pull_retry.h"

static void waits_grow_and_end(void **state)
{
    (void)state;
    struct pull_retry retry = {.n_max = 12, .seed = 1};
    int64_t delay_ms, most_ms = PULL_BACKOFF_MS;
    for (int i = 0; i < 12; i++) {
        assert_true(pull_retry_next(&retry, SL_UNAVAILABLE, -1, &delay_ms));
        assert_in_range(delay_ms, most_ms / 2, most_ms);
        most_ms = most_ms * 2 < PULL_BACKOFF_MS_MAX ? most_ms * 2 : PULL_BACKOFF_MS_MAX;
    }
    assert_false(pull_retry_next(&retry, SL_UNAVAILABLE, -1, &delay_ms));
}

static void progress_forgives(void **state)
{
    (void)state;
    struct pull_retry retry = {.n_max = 1, .seed = 1};
    int64_t delay_ms;
    for (int i = 0; i < 5; i++) {
        assert_true(pull_retry_next(&retry, SL_TIMEOUT, -1, &delay_ms));
        pull_retry_progress(&retry);
    }
    assert_true(pull_retry_next(&retry, SL_TIMEOUT, -1, &delay_ms));
    assert_false(pull_retry_next(&retry, SL_TIMEOUT, -1, &delay_ms));
}

static void the_server_knows_better(void **state)
{
    (void)state;
    struct pull_retry retry = {.n_max = 9, .seed = 1};
    int64_t delay_ms;
    assert_true(pull_retry_next(&retry, SL_BUSY, 7, &delay_ms));
    assert_int_equal(delay_ms, 7000);
    assert_true(pull_retry_next(&retry, SL_BUSY, 0, &delay_ms));
    assert_true(delay_ms >= PULL_BACKOFF_MS);
    assert_false(pull_retry_next(&retry, SL_BUSY, PULL_RETRY_AFTER_S_MAX + 1, &delay_ms));
    assert_false(pull_retry_next(&retry, SL_BUSY, INT64_MAX, &delay_ms));
}

static void some_failures_are_final(void **state)
{
    (void)state;
    static const sl_status finals[] = {SL_NOT_FOUND, SL_DENIED,    SL_INVALID, SL_CORRUPT,
                                       SL_LIMIT,     SL_CANCELLED, SL_NOMEM,   SL_IO};
    for (size_t i = 0; i < sizeof finals / sizeof *finals; i++) {
        struct pull_retry retry = {.n_max = 9, .seed = 1};
        int64_t delay_ms;
        assert_false(pull_retry_next(&retry, finals[i], -1, &delay_ms));
    }
}

static void clients_do_not_come_back_together(void **state)
{
    (void)state;
    int64_t a_ms, b_ms;
    struct pull_retry a = {.n_max = 9, .seed = 1, .n_failures = 6}, b = a;
    b.seed = 2;
    assert_true(pull_retry_next(&a, SL_UNAVAILABLE, -1, &a_ms));
    assert_true(pull_retry_next(&b, SL_UNAVAILABLE, -1, &b_ms));
    assert_int_not_equal(a_ms, b_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_grow_and_end),
        cmocka_unit_test(progress_forgives),
        cmocka_unit_test(the_server_knows_better),
        cmocka_unit_test(some_failures_are_final),
        cmocka_unit_test(clients_do_not_come_back_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
