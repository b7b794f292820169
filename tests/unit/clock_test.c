/* clock_test.c: the system's clock goes forward, the manual one goes where it is put. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"

static void the_system_clock_never_goes_back(void **state)
{
    (void)state;
    struct sl_clock clock = sl_clock_system();
    int64_t last_ns = sl_now_ns();
    assert_true(last_ns > 0);
    for (int i = 0; i < 1000; i++) {
        int64_t now_ns = sl_clock_now_ns(&clock);
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

static void the_manual_clock_reads_the_callers_variable(void **state)
{
    (void)state;
    int64_t now_ns = 5;
    struct sl_clock clock = sl_clock_manual(&now_ns);
    assert_int_equal(sl_clock_now_ns(&clock), 5);
    now_ns += 1000;
    assert_int_equal(sl_clock_now_ns(&clock), 1005);
}

static void the_wall_clock_is_in_milliseconds_since_1970(void **state)
{
    (void)state;
    int64_t year_2024_ms = INT64_C(1704067200000), year_2100_ms = INT64_C(4102444800000);
    assert_true(sl_unix_time_ms() > year_2024_ms);
    assert_true(sl_unix_time_ms() < year_2100_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_system_clock_never_goes_back),
        cmocka_unit_test(the_manual_clock_reads_the_callers_variable),
        cmocka_unit_test(the_wall_clock_is_in_milliseconds_since_1970),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
