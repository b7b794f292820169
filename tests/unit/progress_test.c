/* progress_test.c: the line of a progress bar, and the rate. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cli/progress.h"

#include <string.h>

static void lines_fit_and_say_what_is_known(void **state)
{
    (void)state;
    char line[256];
    assert_string_equal(
        progress_line("m.gguf", 500000, 1000000, 100000, 79, line, sizeof line),
        "m.gguf  [##########..........]   50 %  500.0 kB of 1.0 MB  100.0 kB/s  5 s left");
    assert_string_equal(progress_line("m", 2000, 0, 0, 79, line, sizeof line), "m  2.0 kB");
    for (int columns = 1; columns < 120; columns++) {
        progress_line("a-name-that-is-rather-long.gguf", 123456789, 987654321, 1e6, columns, line,
                      sizeof line);
        assert_true(strlen(line) <= (size_t)columns);
    }
    assert_non_null(strstr(progress_line("m", 10, 10, 1, 79, line, sizeof line), "100 %"));
    assert_null(strstr(line, "left"));
}

static void the_rate_is_that_of_the_last_seconds(void **state)
{
    (void)state;
    struct progress p = {.terminal = false};
    assert_true(progress_rate(&p) == 0);
    for (int i = 0; i < 100; i++)
        progress_show(&p, "m", (uint64_t)i * 1000, 1 << 20, INT64_C(1000000000) * i);
    assert_true(progress_rate(&p) == 1000);
    progress_show(&p, "m", 0, 1 << 20, INT64_C(1000000000) * 200); /* began again */
    assert_true(progress_rate(&p) == 0);
    assert_false(p.shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_fit_and_say_what_is_known),
        cmocka_unit_test(the_rate_is_that_of_the_last_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
