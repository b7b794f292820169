#include "base/duration.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void reads_what_people_type(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"0", 0},
        {"-1", -1000000000},
        {"90", 90000000000},
        {"5m", 300000000000},
        {"1h30m", 5400000000000},
        {"1.5s", 1500000000},
        {"500ms", 500000000},
        {"7us", 7000},
        {"10µs", 10000},
        {"10μs", 10000},
        {".5s", 500000000},
        {"+2s", 2000000000},
        {"2d", 172800000000000},
        {"1w", 604800000000000},
        {"-1m", -60000000000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t ns = 42;
        assert_int_equal(sl_duration_parse(rows[i].text, &ns, NULL), SL_OK);
        assert_int_equal(ns, rows[i].ns);
    }
}

static void refuses_the_rest(void **state)
{
    static const char *const rows[] = {"",    "-",   "s",   "5 m",  "5x",  "m5", "1m5",    "--1",
                                       "+-1", "nan", "inf", "0x10", "1e5", ".",  "1.2.3s", "1h-5m"};
    int64_t ns = 42;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sl_duration_parse(rows[i], &ns, &err) == SL_OK) fail_msg("took \"%s\"", rows[i]);
        assert_int_equal(err.status, SL_INVALID);
    }
    assert_int_equal(ns, 42);
    assert_int_equal(sl_duration_parse("999999999d", &ns, &err), SL_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_people_type),
        cmocka_unit_test(refuses_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
