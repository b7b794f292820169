/* suggest_test.c: distances that can be counted by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/suggest.h"

#include <string.h>

static int distance(const char *a, const char *b)
{
    return sl_edit_distance(a, strlen(a), b, strlen(b));
}

static void test_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(distance("", ""), 0);
    assert_int_equal(distance("", "run"), 3);
    assert_int_equal(distance("run", "run"), 0);
    assert_int_equal(distance("rnu", "run"), 2);
    assert_int_equal(distance("rum", "run"), 1);
    assert_int_equal(distance("kitten", "sitting"), 3);
    assert_int_equal(distance("sitting", "kitten"), 3);
}

static void test_long_names_are_far(void **state)
{
    (void)state;
    char longer[SL_SUGGEST_NAME_MAX + 1];
    memset(longer, 'a', sizeof longer);
    assert_int_equal(sl_edit_distance(longer, sizeof longer, longer, sizeof longer),
                     SL_SUGGEST_NAME_MAX);
    assert_int_equal(sl_edit_distance(longer, SL_SUGGEST_NAME_MAX, longer, SL_SUGGEST_NAME_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_edits),
        cmocka_unit_test(test_long_names_are_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
