/* infer_wire_test.c: requests and answers of the Open Inference Protocol's REST face with binary
 * tensors, as `starlane infer` sends and reads them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/infer_wire.h"

static void a_request_is_json_and_then_bytes(void **state)
{
    (void)state;
    static const float x[2] = {1, 2};
    static const uint8_t y[3] = {7, 8, 9};
    const struct tensor inputs[2] = {{"x", TENSOR_FP32, 2, {1, 2}, x, sizeof x},
                                     {"y", TENSOR_UINT8, 1, {3}, y, sizeof y}};
    static const char json[] = "{\"parameters\":{\"binary_data_output\":true},\"inputs\":["
                               "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],"
                               "\"parameters\":{\"binary_data_size\":8}},"
                               "{\"name\":\"y\",\"datatype\":\"UINT8\",\"shape\":[3],"
                               "\"parameters\":{\"binary_data_size\":3}}]}";
    struct sl_buf out;
    size_t n_json;
    sl_buf_init(&out, 1000);
    assert_int_equal(infer_wire_request(inputs, 2, &out, &n_json, NULL), SL_OK);
    assert_int_equal(n_json, sizeof json - 1);
    assert_memory_equal(out.data, json, n_json);
    assert_int_equal(out.len, n_json + sizeof x + sizeof y);
    assert_memory_equal(out.data + n_json, x, sizeof x);
    assert_memory_equal(out.data + n_json + sizeof x, y, sizeof y);
    sl_buf_done(&out);
    sl_buf_init(&out, n_json);
    assert_int_equal(infer_wire_request(inputs, 2, &out, &n_json, NULL), SL_LIMIT);
    sl_buf_done(&out);
}

#define BINARY(name, type, shape, size) \
    "{\"name\":\"" name "\",\"datatype\":\"" type "\",\"shape\":" shape \
    ",\"parameters\":{\"binary_data_size\":" size "}}"

static void answers_may_be_bytes_and_lists_in_one(void **state)
{
    (void)state;
    static const char json[] = "{\"model_name\":\"m\",\"outputs\":[" BINARY(
        "a", "INT16", "[2]",
        "4") ","
             "{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[[1.5,-2]]}," BINARY(
                 "c", "BYTES", "[1]", "6") "]}";
    static const char bytes[] = "\x01\0\x02\0\x02\0\0\0hi";
    static const float floats[2] = {1.5f, -2};
    char body[512];
    struct sl_arena arena;
    struct tensor *v;
    size_t n, n_json = sizeof json - 1;
    memcpy(body, json, n_json);
    memcpy(body + n_json, bytes, sizeof bytes - 1);
    sl_arena_init(&arena, 1 << 20);
    assert_int_equal(
        infer_wire_answer(body, n_json + sizeof bytes - 1, n_json, &arena, &v, &n, NULL), SL_OK);
    assert_int_equal(n, 3);
    assert_string_equal(v[0].name, "a");
    assert_memory_equal(v[0].data, "\x01\0\x02\0", 4);
    assert_int_equal(v[1].n_bytes, sizeof floats);
    assert_memory_equal(v[1].data, floats, sizeof floats);
    assert_int_equal(v[1].rank, 2);
    assert_int_equal(v[2].type, TENSOR_BYTES);
    assert_memory_equal(v[2].data, "\x02\0\0\0hi", 6);
    sl_arena_done(&arena);
}

static void answers_that_do_not_hold_what_they_tell_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "[]",
        "{\"outputs\":3}",
        "{\"outputs\":[{}]}",
        "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP31\",\"shape\":[1],\"data\":[1]}]}",
        "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"data\":[1]}]}",
        "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2]}]}",
        "{\"outputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1]}]}",
        "{\"outputs\":[" BINARY("a", "FP32", "[1]", "5") "]}",
        "{\"outputs\":[" BINARY("a", "FP32", "[1]", "3") "]}",
        "{\"outputs\":[" BINARY("a", "FP32", "[1]", "-4") "]}",
        "{\"outputs\":[" BINARY("a", "FP32", "[-1]", "4") "]}",
        "{\"outputs\":[" BINARY("a", "BYTES", "[1]", "4") "]}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_arena arena;
        struct tensor *v;
        char body[512];
        size_t n, n_json = strlen(rows[i]);
        memcpy(body, rows[i], n_json);
        memcpy(body + n_json, "\x01\0\0\0", 4);
        sl_arena_init(&arena, 1 << 20);
        if (infer_wire_answer(body, n_json + 4, n_json, &arena, &v, &n, NULL) == SL_OK)
            fail_msg("taken: %s", rows[i]);
        assert_int_not_equal(infer_wire_answer(body, 0, n_json + 1, &arena, &v, &n, NULL), SL_OK);
        sl_arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_json_and_then_bytes),
        cmocka_unit_test(answers_may_be_bytes_and_lists_in_one),
        cmocka_unit_test(answers_that_do_not_hold_what_they_tell_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
