/* time_arg_test.c: spans and days as people type them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "cli/time_arg.h"

#define NOW_MS INT64_C(1700000000000)

static void spans_count_from_now(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"0s", 0},           {"90s", 90000},     {"45m", 2700000},  {"12h", 43200000},
                 {"30d", 2592000000}, {"2w", 1209600000}, {"1h30m", 5400000}};
    int64_t t;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(time_arg_past("since", cases[i].text, NOW_MS, &t, NULL), SL_OK);
        assert_true(t == NOW_MS - cases[i].ms);
        assert_int_equal(time_arg_future("expires", cases[i].text, NOW_MS, &t, NULL), SL_OK);
        assert_true(t == NOW_MS + cases[i].ms);
    }
}

static void days_begin_at_midnight_utc(void **state)
{
    (void)state;
    int64_t t;
    assert_int_equal(time_arg_past("since", "2024-02-29", NOW_MS, &t, NULL), SL_OK);
    assert_true(t == INT64_C(1709164800000));
    assert_int_equal(time_arg_past("since", "1970-01-01", NOW_MS, &t, NULL), SL_OK);
    assert_true(t == 0);
}

static void all_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "7",
                                      "7.",
                                      "1h30",
                                      "d",
                                      "7x",
                                      "7dd",
                                      "-7d",
                                      "+7d",
                                      " 7d",
                                      "2023-02-29",
                                      "2024-13-01",
                                      "2024-00-10",
                                      "2024-1-1",
                                      "2024-02-30",
                                      "1969-12-31",
                                      "2024-02-29x",
                                      "99999999999d",
                                      "9999999999999999999999s"};
    struct sl_err err = SL_ERR_INIT;
    int64_t t = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (time_arg_past("since", bad[i], NOW_MS, &t, &err) != SL_INVALID) fail_msg("%s", bad[i]);
        assert_non_null(strstr(err.text, "--since"));
    }
    assert_true(t == 5);
}

static void times_are_shown_in_utc(void **state)
{
    (void)state;
    char text[TIME_ARG_TEXT_MAX];
    assert_string_equal(time_arg_text(NOW_MS, text), "2023-11-14 22:13");
    assert_string_equal(time_arg_text(0, text), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_count_from_now),
        cmocka_unit_test(days_begin_at_midnight_utc),
        cmocka_unit_test(all_else_is_refused),
        cmocka_unit_test(times_are_shown_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
