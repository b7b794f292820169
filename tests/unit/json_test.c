/* json_test.c: the JSON writer's text, letter by letter, and how misuse and full buffers show. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static struct sl_buf out;
static struct sl_json json;

static int setup(void **state)
{
    (void)state;
    sl_buf_init(&out, 10000);
    sl_json_begin(&json, &out, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_buf_done(&out);
    return 0;
}

static void write_sample(void)
{
    sl_json_object(&json);
    sl_json_kv_str(&json, "s", "x");
    sl_json_kv_int(&json, "i", INT64_MIN);
    sl_json_kv_num(&json, "n", 0.5);
    sl_json_kv_bool(&json, "b", true);
    sl_json_key(&json, "a");
    sl_json_array(&json);
    sl_json_int(&json, 1);
    sl_json_null(&json);
    sl_json_array(&json);
    sl_json_array_end(&json);
    sl_json_object(&json);
    sl_json_object_end(&json);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
}

static void compact_text(void **state)
{
    (void)state;
    write_sample();
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(
        out.data,
        "{\"s\":\"x\",\"i\":-9223372036854775808,\"n\":0.5,\"b\":true,\"a\":[1,null,[],{}]}");
}

static void pretty_text(void **state)
{
    (void)state;
    sl_json_begin(&json, &out, true);
    write_sample();
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(
        out.data,
        "{\n  \"s\": \"x\",\n  \"i\": -9223372036854775808,\n  \"n\": 0.5,\n  \"b\": true,\n"
        "  \"a\": [\n    1,\n    null,\n    [],\n    {}\n  ]\n}");
}

static void a_single_value_is_a_document(void **state)
{
    (void)state;
    sl_json_bool(&json, false);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data, "false");
}

static void strings_are_escaped(void **state)
{
    (void)state;
    static const char text[] = "q\"b\\/\b\f\n\r\t\x01\x1f\x7f\0z\xc3\xa4";
    sl_json_strn(&json, text, sizeof text - 1);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data,
                        "\"q\\\"b\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\\u0000z\xc3\xa4\"");
}

static void bad_utf8_becomes_replacement_characters(void **state)
{
    (void)state;
    sl_json_str(&json, "a\xff-\xed\xa0\x80-\xc3");
    assert_int_equal(sl_json_end(&json), SL_OK);
#define FFFD "\xef\xbf\xbd"
    assert_string_equal(out.data, "\"a" FFFD "-" FFFD FFFD FFFD "-" FFFD "\"");
}

static void numbers_read_back_exactly(void **state)
{
    (void)state;
    static const double values[] = {0.1,    1.0 / 3, 1e22,          1.7976931348623157e308,
                                    5e-324, -2.5,    123456789.125, 0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        sl_buf_clear(&out);
        sl_json_begin(&json, &out, false);
        sl_json_num(&json, values[i]);
        assert_int_equal(sl_json_end(&json), SL_OK);
        assert_true(strtod(out.data, NULL) == values[i]);
        assert_int_equal(strspn(out.data, "0123456789+-.e"), out.len);
    }
    sl_buf_clear(&out);
    sl_json_begin(&json, &out, false);
    sl_json_num(&json, 0.1);
    assert_string_equal(out.data, "0.1");
    sl_buf_clear(&out);
    sl_json_begin(&json, &out, false);
    sl_json_num(&json, -0.0);
    assert_string_equal(out.data, "-0.0");
}

static void a_key_may_hold_nul(void **state)
{
    (void)state;
    sl_json_object(&json);
    sl_json_keyn(&json, "a\0b", 3);
    sl_json_null(&json);
    sl_json_object_end(&json);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data, "{\"a\\u0000b\":null}");
}

static void what_is_no_number_is_null(void **state)
{
    (void)state;
    sl_json_array(&json);
    sl_json_num(&json, (double)NAN);
    sl_json_num(&json, -(double)INFINITY);
    sl_json_str(&json, NULL);
    sl_json_array_end(&json);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data, "[null,null,null]");
}

static void value_without_a_key(void)
{
    sl_json_object(&json);
    sl_json_int(&json, 1);
}

static void key_in_an_array(void)
{
    sl_json_array(&json);
    sl_json_key(&json, "k");
}

static void key_after_key(void)
{
    sl_json_object(&json);
    sl_json_key(&json, "k");
    sl_json_key(&json, "l");
}

static void key_without_a_value(void)
{
    sl_json_object(&json);
    sl_json_key(&json, "k");
    sl_json_object_end(&json);
}

static void wrong_end(void)
{
    sl_json_object(&json);
    sl_json_array_end(&json);
}

static void end_of_nothing(void)
{
    sl_json_array_end(&json);
}

static void two_documents(void)
{
    sl_json_int(&json, 1);
    sl_json_int(&json, 2);
}

static void left_open(void)
{
    sl_json_array(&json);
}

static void nothing_written(void) {}

static void misuse_is_an_internal_error(void **state)
{
    (void)state;
    static void (*const misuses[])(void) = {
        value_without_a_key, key_in_an_array, key_after_key, key_without_a_value, wrong_end,
        end_of_nothing,      two_documents,   left_open,     nothing_written,
    };
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        sl_buf_clear(&out);
        sl_json_begin(&json, &out, false);
        misuses[i]();
        if (sl_json_end(&json) != SL_INTERNAL) fail_msg("misuse %zu went unseen: %s", i, out.data);
    }
    assert_true(sizeof misuses > 0);
}

static void depth_is_limited(void **state)
{
    (void)state;
    for (int i = 0; i < SL_JSON_DEPTH_MAX; i++) sl_json_array(&json);
    for (int i = 0; i < SL_JSON_DEPTH_MAX; i++) sl_json_array_end(&json);
    assert_int_equal(sl_json_end(&json), SL_OK);

    sl_buf_clear(&out);
    sl_json_begin(&json, &out, false);
    for (int i = 0; i < SL_JSON_DEPTH_MAX + 5; i++) sl_json_array(&json);
    for (int i = 0; i < SL_JSON_DEPTH_MAX + 5; i++) sl_json_array_end(&json);
    assert_int_equal(sl_json_end(&json), SL_LIMIT);
}

static void a_full_buffer_sticks(void **state)
{
    (void)state;
    struct sl_buf small;
    sl_buf_init(&small, 8);
    sl_json_begin(&json, &small, false);
    sl_json_array(&json);
    sl_json_str(&json, "longer than eight");
    sl_json_array_end(&json);
    assert_int_equal(sl_json_end(&json), SL_LIMIT);
    assert_string_equal(small.data, "[\"");
    sl_buf_done(&small);
}

#define json_unit_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        json_unit_test(compact_text),
        json_unit_test(pretty_text),
        json_unit_test(a_single_value_is_a_document),
        json_unit_test(strings_are_escaped),
        json_unit_test(bad_utf8_becomes_replacement_characters),
        json_unit_test(numbers_read_back_exactly),
        json_unit_test(a_key_may_hold_nul),
        json_unit_test(what_is_no_number_is_null),
        json_unit_test(misuse_is_an_internal_error),
        json_unit_test(depth_is_limited),
        json_unit_test(a_full_buffer_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
