/* status_test.c: every row of the status table is reachable and sane. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/status.h"

static void every_status_has_a_name_and_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < SL_STATUS_COUNT; i++) {
        assert_memory_equal(sl_status_name((sl_status)i), "SL_", 3);
        assert_true(strlen(sl_status_text((sl_status)i)) > 0);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sl_status_name((sl_status)i), sl_status_name((sl_status)j));
        }
    }
}

static void http_and_grpc_codes_are_of_their_ranges(void **state)
{
    (void)state;
    for (int i = 0; i < SL_STATUS_COUNT; i++) {
        assert_in_range(sl_status_http((sl_status)i), 200, 599);
        assert_in_range(sl_status_grpc((sl_status)i), 0, 16);
        assert_int_equal(sl_status_http((sl_status)i) == 200, i == SL_OK);
        assert_int_equal(sl_status_grpc((sl_status)i) == 0, i == SL_OK);
    }
}

static void well_known_rows(void **state)
{
    (void)state;
    assert_string_equal(sl_status_name(SL_BUSY), "SL_BUSY");
    assert_int_equal(sl_status_http(SL_BUSY), 429);
    assert_int_equal(sl_status_grpc(SL_NOT_FOUND), 5);
    assert_true(sl_status_retryable(SL_UNAVAILABLE));
    assert_false(sl_status_retryable(SL_INVALID));
    assert_false(sl_status_retryable(SL_OK));
}

static void a_number_outside_the_table_is_an_unknown_error(void **state)
{
    (void)state;
    assert_string_equal(sl_status_name((sl_status)SL_STATUS_COUNT), "SL_?");
    assert_string_equal(sl_status_name((sl_status)-1), "SL_?");
    assert_int_equal(sl_status_http((sl_status)1000), 500);
    assert_false(sl_status_retryable((sl_status)1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_name_and_a_text),
        cmocka_unit_test(http_and_grpc_codes_are_of_their_ranges),
        cmocka_unit_test(well_known_rows),
        cmocka_unit_test(a_number_outside_the_table_is_an_unknown_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
