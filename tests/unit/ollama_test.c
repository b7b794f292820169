/* ollama_test.c: durations and times as Ollama's clients write and read them. */
#include "access/ollama_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S INT64_C(1000000000)

static void durations_as_go_writes_them(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"5m", 300 * S},
        {"1h30m", 5400 * S},
        {"1h0m0.5s", 3600 * S + S / 2},
        {"300ms", 3 * S / 10},
        {"10us", 10000},
        {"10µs", 10000},
        {"7ns", 7},
        {"-1m", -60 * S},
        {"+2s", 2 * S},
        {".5s", S / 2},
        {"0", 0},
        {"0s", 0},
        {"-1", -S},
        {"90", 90 * S},
        {"1.5", 3 * S / 2},
        {"99999999h", INT64_MAX},
        {"-99999999h", -INT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ns = -7;
        assert_true(ollama_parse_duration(cases[i].text, &ns));
        assert_int_equal(ns, cases[i].ns);
    }
}

static void what_is_no_duration(void **state)
{
    static const char *const texts[] = {"",    "-",   "m",    "5x", "5 m", "5m5", "5mm", "--5m",
                                        "nan", "inf", "0x5s", "1e", ".",   "5m ", " 5m", "1h-5m"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int64_t ns = -7;
        if (ollama_parse_duration(texts[i], &ns)) fail_msg("\"%s\" was taken", texts[i]);
        assert_int_equal(ns, -7);
    }
}

static void times_are_rfc3339(void **state)
{
    char text[OLLAMA_TIME_SIZE];
    (void)state;
    ollama_time_text(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
    ollama_time_text(INT64_C(1691139140385406455), text);
    assert_string_equal(text, "2023-08-04T08:52:20.385406455Z");
    ollama_time_text(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_as_go_writes_them),
        cmocka_unit_test(what_is_no_duration),
        cmocka_unit_test(times_are_rfc3339),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
