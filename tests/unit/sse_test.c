/* sse_test.c: events as a client would read them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "net/sse.h"

static void each_line_gets_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *data, *expected;
    } cases[] = {
        {"{\"a\":1}", "data: {\"a\":1}\n\n"},   {"", "data: \n\n"},
        {"a\nb", "data: a\ndata: b\n\n"},       {"a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n"},
        {"a\n", "data: a\ndata: \n\n"},         {"a\r", "data: a\ndata: \n\n"},
        {"\n\n", "data: \ndata: \ndata: \n\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_buf buf;
        sl_buf_init(&buf, 1000);
        assert_int_equal(sse_data(&buf, cases[i].data, strlen(cases[i].data)), SL_OK);
        assert_string_equal(buf.data, cases[i].expected);
        sl_buf_done(&buf);
    }
}

static void events_and_comments_are_one_line(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 1000);
    assert_int_equal(sse_event(&buf, "error", "x", 1), SL_OK);
    assert_int_equal(sse_comment(&buf, "ping"), SL_OK);
    assert_string_equal(buf.data, "event: error\ndata: x\n\n: ping\n\n");
    assert_int_equal(sse_event(&buf, "a\nb", "x", 1), SL_INVALID);
    assert_int_equal(sse_comment(&buf, "a\rb"), SL_INVALID);
    assert_string_equal(buf.data, "event: error\ndata: x\n\n: ping\n\n");
    sl_buf_done(&buf);
}

static void a_failure_takes_all_back(void **state)
{
    (void)state;
    for (size_t max = 4; max < 4 + 20; max++) {
        struct sl_buf buf;
        sl_buf_init(&buf, max);
        assert_int_equal(sl_buf_adds(&buf, "keep"), SL_OK);
        assert_int_equal(sse_event(&buf, "name", "d\nd", 3), SL_LIMIT);
        assert_int_equal(sse_comment(&buf, "a long enough comment"), SL_LIMIT);
        assert_string_equal(buf.data, "keep");
        sl_buf_done(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_gets_its_field),
        cmocka_unit_test(events_and_comments_are_one_line),
        cmocka_unit_test(a_failure_takes_all_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
