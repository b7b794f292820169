/* json_read_test.c: the JSON reader: what it takes and refuses, its queries, its limits, and that
 * what it read can be written and read again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/mem.h"

#define parse_literal(s) parse((s), sizeof(s) - 1)

static struct sl_json_value *parse(const char *text, size_t n)
{
    struct sl_json_value *root = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (sl_json_parse(text, n, &root, &err) != SL_OK) fail_msg("%s: %s", text, err.text);
    assert_non_null(root);
    return root;
}

/* Also checks that a failure leaves nothing behind. */
static void refuse(const char *text, size_t n, sl_status status, const char *message)
{
    struct sl_json_value *root = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    assert_int_equal(sl_json_parse(text, n, &root, &err), status);
    assert_null(root);
    assert_string_equal(err.text, message);
    assert_int_equal(sl_mem_live(), live);
}

static void each_type_is_told_apart(void **state)
{
    (void)state;
    static const enum sl_json_type types[] = {SL_JSON_NULL,  SL_JSON_BOOL, SL_JSON_INT,
                                              SL_JSON_NUM,   SL_JSON_STR,  SL_JSON_ARRAY,
                                              SL_JSON_OBJECT};
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    struct sl_json_value *root = parse_literal(" [null, true, 7, 7.0, \"s\", [], {}]\r\n\t ");
    assert_int_equal(sl_json_size(root), 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(sl_json_type(sl_json_at(root, i)), types[i]);
        assert_true(sl_json_is(sl_json_at(root, i), types[i]));
        assert_string_equal(sl_json_type_name(types[i]), names[i]);
    }
    assert_null(sl_json_at(root, 7));
    sl_json_free(root);
}

static void what_is_absent_is_null(void **state)
{
    (void)state;
    size_t n = 99;
    assert_int_equal(sl_json_type(NULL), SL_JSON_NULL);
    assert_int_equal(sl_json_size(NULL), 0);
    assert_null(sl_json_at(NULL, 0));
    assert_null(sl_json_get(NULL, "k"));
    assert_int_equal(sl_json_to_int(NULL, 5), 5);
    assert_true(sl_json_to_num(NULL, 0.5) == 0.5);
    assert_true(sl_json_to_bool(NULL, true));
    assert_string_equal(sl_json_to_str(NULL, "abc", &n), "abc");
    assert_int_equal(n, 3);
    assert_null(sl_json_to_str(NULL, NULL, &n));
    assert_int_equal(n, 0);
    sl_json_free(NULL);
}

static void other_types_give_the_fallback(void **state)
{
    (void)state;
    struct sl_json_value *root = parse_literal("{\"s\":\"1\",\"i\":1,\"b\":false,\"n\":null}");
    assert_int_equal(sl_json_to_int(sl_json_get(root, "s"), -1), -1);
    assert_true(sl_json_to_num(sl_json_get(root, "s"), -1) == -1);
    assert_true(sl_json_to_bool(sl_json_get(root, "i"), true));
    assert_false(sl_json_to_bool(sl_json_get(root, "b"), true));
    assert_string_equal(sl_json_to_str(sl_json_get(root, "i"), "x", NULL), "x");
    assert_null(sl_json_at(root, 0));
    assert_null(sl_json_get(sl_json_get(root, "s"), "s"));
    sl_json_free(root);
}

static void check_int(const char *text, enum sl_json_type type, int64_t value)
{
    struct sl_json_value *root = parse(text, strlen(text));
    assert_int_equal(sl_json_type(root), type);
    assert_true(sl_json_to_int(root, 42) == value);
    sl_json_free(root);
}

static void integers_are_exact_up_to_their_limit(void **state)
{
    (void)state;
    check_int("0", SL_JSON_INT, 0);
    check_int("-0", SL_JSON_INT, 0);
    check_int("9223372036854775807", SL_JSON_INT, INT64_MAX);
    check_int("-9223372036854775808", SL_JSON_INT, INT64_MIN);
    check_int("9223372036854775808", SL_JSON_NUM, 42);
    check_int("-9223372036854775809", SL_JSON_NUM, INT64_MIN); /* the nearest double fits */
    check_int("100000000000000000000000", SL_JSON_NUM, 42);
    check_int("1e3", SL_JSON_NUM, 1000);
    check_int("-2.0", SL_JSON_NUM, -2);
    check_int("2.5", SL_JSON_NUM, 42);
}

static void check_num(const char *text, double value)
{
    struct sl_json_value *root = parse(text, strlen(text));
    assert_true(sl_json_to_num(root, 42) == value);
    sl_json_free(root);
}

static void numbers_are_the_nearest_double(void **state)
{
    (void)state;
    check_num("0.1", 0.1);
    check_num("-1.5E+2", -150);
    check_num("1e-400", 0);
    check_num("7", 7);
    check_num("12345678901234567890", 12345678901234567890.0);
    check_num("1.7976931348623157e308", 1.7976931348623157e308);
}

static void check_str(const char *text, size_t n_text, const char *bytes, size_t n_bytes)
{
    size_t n;
    struct sl_json_value *root = parse(text, n_text);
    const char *s = sl_json_to_str(root, NULL, &n);
    assert_non_null(s);
    assert_int_equal(n, n_bytes);
    assert_memory_equal(s, bytes, n_bytes + 1); /* the NUL behind it */
    sl_json_free(root);
}

static void strings_lose_their_escapes(void **state)
{
    (void)state;
#define STR(text, bytes) check_str((text), sizeof(text) - 1, (bytes), sizeof(bytes) - 1)
    STR("\"\"", "");
    STR("\"plain \xc3\xa4\xf0\x9f\x98\x80\"", "plain \xc3\xa4\xf0\x9f\x98\x80");
    STR("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz");
    STR("\"\\u0041\\u00e4\\u20AC\\uD83D\\uDE00\"", "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    STR("\"a\\u0000b\"", "a\0b");
    STR("\"\x7f\"", "\x7f");
#undef STR
}

static void members_keep_their_order(void **state)
{
    (void)state;
    static const char *const keys[] = {"zeta", "a", "m", "\n"};
    struct sl_json_value *root = parse_literal("{\"zeta\":0,\"a\":1,\"m\":9,\"\\n\":3,\"m\":2}");
    const struct sl_json_value *value;
    const char *key;
    size_t n_key;
    void *iter = NULL;
    for (int i = 0; i < 4; i++) {
        assert_true(sl_json_next(root, &iter, &key, &n_key, &value));
        assert_string_equal(key, keys[i]);
        assert_int_equal(n_key, strlen(keys[i]));
        assert_int_equal(sl_json_to_int(value, -1), i);
    }
    assert_false(sl_json_next(root, &iter, &key, &n_key, &value));
    assert_int_equal(sl_json_size(root), 4);
    sl_json_free(root);
}

static void a_key_may_hold_nul(void **state)
{
    (void)state;
    struct sl_json_value *root = parse_literal("{\"a\\u0000b\":\"c\\u0000\"}");
    const struct sl_json_value *value;
    const char *key;
    size_t n_key;
    void *iter = NULL;
    assert_null(sl_json_get(root, "a"));
    assert_true(sl_json_next(root, &iter, &key, &n_key, &value));
    assert_int_equal(n_key, 3);
    assert_memory_equal(key, "a\0b", 4);
    sl_json_free(root);
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
#define NO(text, message) refuse((text), sizeof(text) - 1, SL_INVALID, message)
    NO("", "line 1, column 1: the text ends where a value should be");
    NO("{\n  \"\xc3\xa4\": tru}", "line 2, column 8: expected a value");
    NO("{\"a\" 1}", "line 1, column 6: expected ':' after the key");
    NO("{a:1}", "line 1, column 2: expected a key in double quotes");
    NO("{\"a\":1,}", "line 1, column 8: expected a key in double quotes");
    NO("{\"a\":1", "line 1, column 7: expected ',' or '}'");
    NO("[1 2]", "line 1, column 4: expected ',' or ']'");
    NO("[1,]", "line 1, column 4: expected a value");
    NO("1 2", "line 1, column 3: something stands after the value");
    NO("01", "line 1, column 2: something stands after the value");
    NO("-", "line 1, column 2: expected a digit");
    NO("1.", "line 1, column 3: expected a digit");
    NO("1e+", "line 1, column 4: expected a digit");
    NO("1e999", "line 1, column 6: the number is out of range");
    NO("\"ab", "line 1, column 4: the string does not end");
    NO("\"a\nb\"", "line 1, column 3: a control character in a string must be escaped");
    NO("\"\xff\"", "line 1, column 2: not UTF-8");
    NO("\"\xed\xa0\x80\"", "line 1, column 2: not UTF-8");
    NO("\"\\x\"", "line 1, column 3: no such escape in a string");
    NO("\"\\\0\"", "line 1, column 3: no such escape in a string");
    NO("\"\\u12g4\"", "line 1, column 6: \\u needs four hexadecimal digits");
    NO("\"\\ud83d\"", "line 1, column 8: half a surrogate pair");
    NO("\"\\ud83d\\u0041\"", "line 1, column 14: half a surrogate pair");
    NO("\"\\ude00\"", "line 1, column 8: half a surrogate pair");
    NO("null\0", "line 1, column 5: something stands after the value");
#undef NO
}

/* n opening brackets, then as many closing ones. */
static size_t brackets(char *text, size_t n)
{
    memset(text, '[', n);
    memset(text + n, ']', n);
    return 2 * n;
}

static void depth_is_limited_and_can_be_written(void **state)
{
    (void)state;
    char text[2 * SL_JSON_READ_DEPTH_MAX + 2];
    struct sl_json json;
    struct sl_buf out;
    size_t n = brackets(text, SL_JSON_READ_DEPTH_MAX);
    struct sl_json_value *root = parse(text, n);
    sl_buf_init(&out, n + 2);
    sl_json_begin(&json, &out, false);
    sl_json_array(&json);
    sl_json_put(&json, root);
    sl_json_array_end(&json);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_memory_equal(out.data + 1, text, n);
    sl_buf_done(&out);
    sl_json_free(root);
    n = brackets(text, SL_JSON_READ_DEPTH_MAX + 1);
    refuse(text, n, SL_LIMIT, "line 1, column 129: nested too deeply");
}

static void a_million_open_brackets_are_refused(void **state)
{
    (void)state;
    size_t n = 1000000;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, '[', n);
    refuse(text, n, SL_LIMIT, "line 1, column 129: nested too deeply");
    free(text);
}

/* "[[],[],...]" with n values in all. Returns its length. */
static size_t crowd(char *text, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        memcpy(text + at, i ? ",[]" : "[[]", 3);
        at += 3;
    }
    text[at] = ']';
    return at + 1;
}

static void too_many_values_are_refused(void **state)
{
    (void)state;
    char *text = malloc(3 * (SL_JSON_READ_VALUES_MAX + 1) + 1);
    assert_non_null(text);
    struct sl_json_value *root = parse(text, crowd(text, SL_JSON_READ_VALUES_MAX));
    assert_int_equal(sl_json_size(root), SL_JSON_READ_VALUES_MAX - 1);
    sl_json_free(root);
    struct sl_err err;
    uint64_t live = sl_mem_live();
    size_t n = crowd(text, SL_JSON_READ_VALUES_MAX + 1);
    assert_int_equal(sl_json_parse(text, n, &root, &err), SL_LIMIT);
    assert_non_null(strstr(err.text, "too many values"));
    assert_int_equal(sl_mem_live(), live);
    free(text);
}

static const char SAMPLE[] = "{\"model\":\"m\",\"n\":[1,-2.5,1e+300,null,true,false],"
                             "\"text\":\"q\\\"\\n\\u0000\xf0\x9f\x98\x80\",\"esc\\u0000\\n\":{},"
                             "\"deep\":[[{\"a\":[{}]}]]}";

static void what_was_read_writes_the_same(void **state)
{
    (void)state;
    struct sl_json json;
    struct sl_buf out;
    struct sl_json_value *root = parse_literal(SAMPLE);
    sl_buf_init(&out, 1000);
    sl_json_begin(&json, &out, false);
    sl_json_put(&json, root);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_string_equal(out.data, SAMPLE);
    sl_buf_done(&out);
    sl_json_free(root);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct sl_json_value *root = NULL;
    uint64_t live = sl_mem_live();
    bool hit = true;
    int n_failures = 0;
    for (uint64_t nth = 1; hit; nth++) {
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        sl_status status = sl_json_parse(SAMPLE, sizeof SAMPLE - 1, &root, &err);
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        if (hit) {
            assert_null(root);
            assert_int_equal(sl_mem_live(), live);
            assert_string_equal(err.text, "out of memory");
            n_failures++;
        }
    }
    assert_in_range(n_failures, 30, 1000);
    sl_json_free(root);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_told_apart),
        cmocka_unit_test(what_is_absent_is_null),
        cmocka_unit_test(other_types_give_the_fallback),
        cmocka_unit_test(integers_are_exact_up_to_their_limit),
        cmocka_unit_test(numbers_are_the_nearest_double),
        cmocka_unit_test(strings_lose_their_escapes),
        cmocka_unit_test(members_keep_their_order),
        cmocka_unit_test(a_key_may_hold_nul),
        cmocka_unit_test(errors_say_where_and_what),
        cmocka_unit_test(depth_is_limited_and_can_be_written),
        cmocka_unit_test(a_million_open_brackets_are_refused),
        cmocka_unit_test(too_many_values_are_refused),
        cmocka_unit_test(what_was_read_writes_the_same),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
