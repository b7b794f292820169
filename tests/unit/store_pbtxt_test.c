/* store_pbtxt_test.c: Triton's config.pbtxt: what is used of it, what is passed over, what is
 * refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "grid/store_pbtxt.h"

#include <string.h>

static sl_status parse(const char *text, struct store_pbtxt *out, struct sl_err *err)
{
    return store_pbtxt_parse(text, strlen(text), out, err);
}

static void a_real_one(void **state)
{
    (void)state;
    static const char text[] =
        "# made by hand\n"
        "name: \"resnet\"\nplatform: 'onnxruntime_onnx'\n"
        "max_batch_size : 16\n"
        "input [ { name: \"x\" data_type: TYPE_FP32, dims: [ 3, -1, 224 ] } ]\n"
        "output { name: \"y\" dims: [1000]; label_filename: \"la\" \"bels.txt\" }\n"
        "instance_group: [ { count: 2 kind: KIND_CPU }, { count: 3 } ]\n"
        "dynamic_batching { preferred_batch_size: [4, 8]\n"
        "  max_queue_delay_microseconds: 100 }\n"
        "parameters < key: \"a\" value: < string_value: \"}\" > >\n";
    struct store_pbtxt config;
    struct sl_err err = SL_ERR_INIT;
    if (parse(text, &config, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(config.max_batch_size, 16);
    assert_true(config.batches);
    assert_int_equal(config.delay_us, 100);
    assert_int_equal(config.instances, 5);
    assert_string_equal(config.labels, "labels.txt");
}

static void little_and_strange(void **state)
{
    (void)state;
    struct store_pbtxt config;
    assert_int_equal(parse("", &config, NULL), SL_OK);
    assert_false(config.batches);
    assert_int_equal(parse("dynamic_batching { }", &config, NULL), SL_OK);
    assert_true(config.batches);
    assert_int_equal(
        parse("max_batch_size: -1 instance_group { count: 99999999999999999999 }", &config, NULL),
        SL_OK);
    assert_int_equal(config.max_batch_size, 0);
    assert_int_equal(config.instances, INT32_MAX);
    assert_int_equal(parse("other { max_batch_size: 4 }", &config, NULL), SL_OK);
    assert_int_equal(config.max_batch_size, 0);
}

static void what_is_malformed_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"a",        "a {", "a: \"b", "a: [1",   "a: [1 2]",
                                        "a: [[1]]", "a }", ":",      "a: ",     "a: { b: >",
                                        "a: <}",    "a 5", "a: [,]", "\"a\": 1"};
    struct store_pbtxt config;
    struct sl_err err = SL_ERR_INIT;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (parse(texts[i], &config, &err) != SL_CORRUPT) fail_msg("%s", texts[i]);
        assert_non_null(strstr(err.text, "line 1: "));
    }
    assert_int_equal(store_pbtxt_parse("a: 1\0", 5, &config, &err), SL_CORRUPT);
    char deep[3 * (STORE_PBTXT_DEPTH_MAX + 2) + 1] = "";
    for (int i = 0; i < STORE_PBTXT_DEPTH_MAX + 2; i++) strcat(deep, "a {");
    assert_int_equal(parse(deep, &config, &err), SL_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_one),
        cmocka_unit_test(little_and_strange),
        cmocka_unit_test(what_is_malformed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
