/* sched_breaker_test.c: a circuit breaker opens, tries, and closes again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "sched/breaker.h"

static const struct breaker_config config = {
    .failures_max = 3, .cooldown_min_ns = 100, .cooldown_max_ns = 350};

static void fail_times(struct breaker *breaker, int n, int64_t now_ns)
{
    for (int i = 0; i < n; i++) breaker_failure(breaker, &config, now_ns);
}

static void test_opens_after_failures_in_a_row(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    fail_times(&breaker, 2, 0);
    breaker_success(&breaker);
    fail_times(&breaker, 2, 0);
    assert_true(breaker_allows(&breaker, 0));
    fail_times(&breaker, 1, 0);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    assert_false(breaker_allows(&breaker, 99));
}

static void test_one_trial_at_a_time(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    fail_times(&breaker, 3, 0);
    assert_true(breaker_allows(&breaker, 100));
    assert_int_equal(breaker.state, BREAKER_HALF_OPEN);
    assert_true(breaker_send(&breaker));
    assert_false(breaker_allows(&breaker, 100));
    breaker_release(&breaker);
    assert_true(breaker_allows(&breaker, 100));
    assert_true(breaker_send(&breaker));
    breaker_success(&breaker);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_false(breaker_send(&breaker));
    assert_true(breaker_allows(&breaker, 100));
}

static void test_cooldown_doubles_to_its_limit(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    fail_times(&breaker, 3, 0);
    const int64_t cooldowns[] = {100, 200, 350, 350};
    int64_t now_ns = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(breaker.until_ns - now_ns, cooldowns[i]);
        assert_false(breaker_allows(&breaker, breaker.until_ns - 1));
        now_ns = breaker.until_ns;
        assert_true(breaker_allows(&breaker, now_ns));
        assert_true(breaker_send(&breaker));
        breaker_failure(&breaker, &config, now_ns);
    }
}

static void test_old_news_does_not_close_it(void **state)
{
    (void)state;
    struct breaker breaker = {0};
    fail_times(&breaker, 3, 0);
    breaker_success(&breaker);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    fail_times(&breaker, 5, 50);
    assert_int_equal(breaker.until_ns, 100);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(breaker_state_name(BREAKER_HALF_OPEN), "half-open");
    assert_string_equal(breaker_state_name(BREAKER_STATE_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_one_trial_at_a_time),
        cmocka_unit_test(test_cooldown_doubles_to_its_limit),
        cmocka_unit_test(test_old_news_does_not_close_it),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
