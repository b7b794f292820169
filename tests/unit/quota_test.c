/* quota_test.c: what a key may use, at chosen times. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "access/quota.h"

static struct quota quota_of(int64_t rpm, int64_t tpm, int64_t concurrency)
{
    struct quota quota;
    const struct quota_limits limits = {rpm, tpm, concurrency};
    quota_init(&quota, &limits, 0);
    return quota;
}

static void without_limits_all_is_admitted(void **state)
{
    (void)state;
    struct quota quota = quota_of(0, 0, 0);
    struct quota_view view;
    struct quota_refusal refusal;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(quota_admit(&quota, 0, INT64_MAX, &refusal), SL_OK);
    assert_int_equal(refusal.limit, QUOTA_NONE);
    assert_int_equal(quota.n_running, 1000);
    quota_view(&quota, 0, &view);
    assert_int_equal(view.requests.limit, 0);
    assert_int_equal(view.tokens.limit, 0);
}

static void requests_come_back_evenly(void **state)
{
    (void)state;
    struct quota quota = quota_of(60, 0, 0);
    struct quota_refusal refusal;
    for (int i = 0; i < 60; i++) assert_int_equal(quota_admit(&quota, 0, 10, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, 0, 10, &refusal), SL_BUSY);
    assert_int_equal(refusal.limit, QUOTA_REQUESTS);
    assert_int_equal(refusal.retry_after_ms, 1000);
    assert_int_equal(quota_admit(&quota, 999, 10, &refusal), SL_BUSY);
    assert_int_equal(refusal.retry_after_ms, 1);
    assert_int_equal(quota_admit(&quota, 1000, 10, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, 1000, 10, NULL), SL_BUSY);
    assert_int_equal(quota.n_running, 61);
}

static void a_bucket_holds_a_minute_and_no_more(void **state)
{
    (void)state;
    struct quota quota = quota_of(2, 0, 0);
    int64_t later = INT64_MAX / 2;
    assert_int_equal(quota_admit(&quota, later, 0, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, later, 0, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, later, 0, NULL), SL_BUSY);
}

static void real_tokens_are_charged_at_the_end_and_debts_stay(void **state)
{
    (void)state;
    struct quota quota = quota_of(0, 600, 0); /* 10 a second */
    struct quota_refusal refusal;
    assert_int_equal(quota_admit(&quota, 0, 100, NULL), SL_OK);
    quota_release(&quota, 0, 100, 1100); /* 500 below zero */
    assert_int_equal(quota_admit(&quota, 0, 10, &refusal), SL_BUSY);
    assert_int_equal(refusal.limit, QUOTA_TOKENS);
    assert_int_equal(refusal.retry_after_ms, 51000);
    assert_int_equal(quota_admit(&quota, 50999, 10, NULL), SL_BUSY);
    assert_int_equal(quota_admit(&quota, 51000, 10, NULL), SL_OK);
    quota_release(&quota, 51000, 10, 0); /* nothing was computed: all comes back */
    assert_int_equal(quota_admit(&quota, 51000, 10, NULL), SL_OK);
}

static void a_prompt_past_the_limit_waits_for_a_full_bucket(void **state)
{
    (void)state;
    struct quota quota = quota_of(0, 600, 0);
    struct quota_refusal refusal;
    assert_int_equal(quota_admit(&quota, 0, 5000, NULL), SL_OK);
    quota_release(&quota, 0, 5000, 5000);
    assert_int_equal(quota_admit(&quota, 0, 5000, &refusal), SL_BUSY);
    assert_int_equal(refusal.retry_after_ms, 500000);
    assert_int_equal(quota_admit(&quota, 500000, 5000, NULL), SL_OK);
}

static void concurrency_counts_what_runs(void **state)
{
    (void)state;
    struct quota quota = quota_of(0, 0, 2);
    struct quota_refusal refusal;
    assert_int_equal(quota_admit(&quota, 0, 1, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, 0, 1, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, 0, 1, &refusal), SL_BUSY);
    assert_int_equal(refusal.limit, QUOTA_CONCURRENCY);
    assert_int_equal(refusal.retry_after_ms, QUOTA_CONCURRENCY_RETRY_MS);
    quota_release(&quota, 0, 1, 1);
    assert_int_equal(quota_admit(&quota, 0, 1, NULL), SL_OK);
}

static void a_refusal_takes_nothing_and_names_the_longest_wait(void **state)
{
    (void)state;
    struct quota quota = quota_of(1, 600, 1);
    struct quota_refusal refusal;
    struct quota_view view;
    assert_int_equal(quota_admit(&quota, 0, 100, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, 0, 100, &refusal), SL_BUSY);
    assert_int_equal(refusal.limit, QUOTA_REQUESTS);
    assert_int_equal(refusal.retry_after_ms, 60000);
    quota_view(&quota, 0, &view);
    assert_int_equal(view.tokens.remaining, 500);
    assert_int_equal(view.requests.remaining, 0);
    assert_int_equal(quota.n_running, 1);
}

static void new_limits_keep_what_was_used(void **state)
{
    (void)state;
    struct quota quota = quota_of(10, 0, 0);
    struct quota_view view;
    for (int i = 0; i < 4; i++) assert_int_equal(quota_admit(&quota, 0, 0, NULL), SL_OK);
    quota_set_limits(&quota, &(struct quota_limits){20, 600, 0}, 0);
    quota_view(&quota, 0, &view);
    assert_int_equal(view.requests.remaining, 16);
    assert_int_equal(view.tokens.remaining, 600);
    quota_set_limits(&quota, &(struct quota_limits){3, 0, 0}, 0);
    quota_view(&quota, 0, &view);
    assert_int_equal(view.requests.limit, 3);
    assert_int_equal(view.requests.remaining, 0);
    assert_int_equal(view.requests.reset_ms, 80000);
    assert_int_equal(quota.n_running, 4);
}

static void numbers_out_of_range_are_bounded(void **state)
{
    (void)state;
    struct quota quota = quota_of(-5, INT64_MAX, 0);
    struct quota_view view;
    assert_int_equal(quota_admit(&quota, 0, -1, NULL), SL_OK);
    assert_int_equal(quota_admit(&quota, -1000, 1, NULL), SL_OK); /* the clock went back */
    for (int i = 0; i < 2; i++) quota_release(&quota, 0, 0, INT64_MAX);
    quota_view(&quota, 0, &view);
    assert_int_equal(view.requests.limit, 0);
    assert_int_equal(view.tokens.limit, QUOTA_RATE_MAX);
    assert_int_equal(view.tokens.remaining, 0);
}

static void the_view_says_when_the_bucket_is_full(void **state)
{
    (void)state;
    struct quota quota = quota_of(60, 6000, 0);
    struct quota_view view;
    assert_int_equal(quota_admit(&quota, 0, 1000, NULL), SL_OK);
    quota_view(&quota, 500, &view);
    assert_int_equal(view.requests.remaining, 59);
    assert_int_equal(view.requests.reset_ms, 500);
    assert_int_equal(view.tokens.remaining, 5050);
    assert_int_equal(view.tokens.reset_ms, 9500);
}

static void times_read_like_openais(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "0ms"},           {12, "12ms"},        {999, "999ms"},
                 {1000, "1s"},         {1500, "1.5s"},      {1234, "1.234s"},
                 {59990, "59.99s"},    {60000, "1m0s"},     {360000, "6m0s"},
                 {61500, "1m1.5s"},    {3600000, "1h0m0s"}, {3661007, "1h1m1.007s"},
                 {86400000, "24h0m0s"}};
    char text[QUOTA_TIME_TEXT_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(quota_time_text(cases[i].ms, text), cases[i].text);
    assert_string_equal(quota_limit_name(QUOTA_TOKENS), "tokens per minute");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_all_is_admitted),
        cmocka_unit_test(requests_come_back_evenly),
        cmocka_unit_test(a_bucket_holds_a_minute_and_no_more),
        cmocka_unit_test(real_tokens_are_charged_at_the_end_and_debts_stay),
        cmocka_unit_test(a_prompt_past_the_limit_waits_for_a_full_bucket),
        cmocka_unit_test(concurrency_counts_what_runs),
        cmocka_unit_test(a_refusal_takes_nothing_and_names_the_longest_wait),
        cmocka_unit_test(new_limits_keep_what_was_used),
        cmocka_unit_test(numbers_out_of_range_are_bounded),
        cmocka_unit_test(the_view_says_when_the_bucket_is_full),
        cmocka_unit_test(times_read_like_openais),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
