#include "base/decimal.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void writes_integers_as_printf_does(void **state)
{
    static const int64_t numbers[] = {0,    1,         -1,        9,         10,
                                      -100, 123456789, INT64_MAX, INT64_MIN, INT64_MIN + 1};
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char ours[SL_DECIMAL_MAX], theirs[32];
        int n = snprintf(theirs, sizeof theirs, "%" PRId64, numbers[i]);
        assert_int_equal(sl_decimal(numbers[i], ours), n);
        assert_string_equal(ours, theirs);
    }
}

static void writes_thousandths(void **state)
{
    static const struct {
        int64_t v;
        const char *text;
    } rows[] = {{0, "0.000"},
                {7, "0.007"},
                {-7, "-0.007"},
                {1000, "1.000"},
                {1234567, "1234.567"},
                {-1050, "-1.050"},
                {INT64_MIN, "-9223372036854775.808"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[SL_DECIMAL_MAX];
        assert_int_equal(sl_decimal_thousandths(rows[i].v, text), strlen(rows[i].text));
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_integers_as_printf_does),
        cmocka_unit_test(writes_thousandths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
