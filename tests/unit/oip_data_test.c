/* oip_data_test.c: tensors as JSON lists, both ways, and what is wrong with them. */
#include "access/oip_data.h"
#include "base/mem.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARENA_MAX (1u << 20)

/* One list read as `type` of `rank` dimensions. */
struct reading {
    struct sl_arena arena;
    struct tensor tensor;
    struct sl_err err;
    sl_status status;
};

static void read_list(struct reading *r, enum tensor_type type, int32_t rank, const int64_t *shape,
                      const char *text)
{
    const struct oip_data list = {text, strlen(text)};
    *r = (struct reading){.tensor = {.name = "x", .type = type, .rank = rank}};
    for (int32_t i = 0; i < rank; i++) r->tensor.shape[i] = shape[i];
    sl_arena_init(&r->arena, ARENA_MAX);
    r->status = oip_data_read(&list, &r->arena, &r->tensor, &r->err);
    if (r->status == SL_OK) r->status = tensor_check(&r->tensor, &r->err);
}

static const char *written(const struct tensor *tensor, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_clear(out);
    if (oip_data_write(tensor, out, &err) != SL_OK) fail_msg("%s", err.text);
    return out->data;
}

/* --- every type, there and back --- */

static void every_type_comes_back(void **state)
{
    static const struct {
        enum tensor_type type;
        int64_t n;
        const char *text, *back; /* NULL: the same */
    } cases[] = {
        {TENSOR_BOOL, 4, "[true,false,1,0]", "[true,false,true,false]"},
        {TENSOR_UINT8, 3, "[0,127,255]", NULL},
        {TENSOR_UINT16, 2, "[0,65535]", NULL},
        {TENSOR_UINT32, 2, "[0,4294967295]", NULL},
        {TENSOR_UINT64, 3, "[0,9007199254740993,18446744073709551615]", NULL},
        {TENSOR_INT8, 3, "[-128,-1,127]", NULL},
        {TENSOR_INT16, 2, "[-32768,32767]", NULL},
        {TENSOR_INT32, 2, "[-2147483648,2147483647]", NULL},
        {TENSOR_INT64, 3, "[-9223372036854775808,9007199254740993,9223372036854775807]", NULL},
        {TENSOR_FP32, 6, "[1,-0.0,0.1,1.5e3,-2.5E-3,16777216]",
         "[1.0,-0.0,0.1,1500.0,-0.0025,16777216.0]"},
        {TENSOR_FP32, 3, "[NaN,Infinity,-Infinity]", "[null,null,null]"},
        {TENSOR_FP64, 4, "[0,0.1,-1e300,5e-324]", NULL},
        {TENSOR_BYTES, 4, "[\"\",\"a b\",\"\\u00e4\\n\\\"\",\"\xc3\xa4\"]",
         "[\"\",\"a b\",\"\xc3\xa4\\n\\\"\",\"\xc3\xa4\"]"},
        {TENSOR_FP32, 0, "[]", NULL},
        {TENSOR_BYTES, 0, "[ ]", "[]"},
    };
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, ARENA_MAX);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r;
        read_list(&r, cases[i].type, 1, &cases[i].n, cases[i].text);
        if (r.status != SL_OK) fail_msg("%s: %s", cases[i].text, r.err.text);
        if (cases[i].type != TENSOR_FP64)
            assert_string_equal(written(&r.tensor, &out),
                                cases[i].back ? cases[i].back : cases[i].text);
        sl_arena_done(&r.arena);
    }
    sl_buf_done(&out);
}

/* Every value reads back as the same bits. */
static void floats_keep_their_value(void **state)
{
    const float narrow[] = {0.1f,      1.0f / 3,   FLT_MIN, FLT_MAX,     FLT_EPSILON, 1e-45f,
                            123456.7f, 8388607.5f, 1e15f,   3.14159274f, 9.99999e-5f, 0.3f,
                            65504.0f,  2.7e-13f,   1e21f,   -7.0e-10f,   0.999999940f};
    const double wide[] = {0.1, 1.0 / 3, DBL_MIN, DBL_MAX, 5e-324, 1e22, 9007199254740993.0};
    const struct tensor tensors[] = {
        {"n", TENSOR_FP32, 1, {sizeof narrow / sizeof *narrow}, narrow, sizeof narrow},
        {"w", TENSOR_FP64, 1, {sizeof wide / sizeof *wide}, wide, sizeof wide}};
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, ARENA_MAX);
    for (int i = 0; i < 2; i++) {
        struct reading r;
        read_list(&r, tensors[i].type, 1, tensors[i].shape, written(&tensors[i], &out));
        if (r.status != SL_OK) fail_msg("%s", r.err.text);
        if (memcmp(r.tensor.data, tensors[i].data, tensors[i].n_bytes)) fail_msg("%s", out.data);
        sl_arena_done(&r.arena);
    }
    sl_buf_done(&out);
}

/* --- nesting --- */

static void lists_are_flat_or_nested_as_the_shape_is(void **state)
{
    static const struct {
        int32_t rank;
        int64_t shape[3];
        const char *text, *error; /* NULL: it is right */
    } cases[] = {
        {2, {2, 3}, "[1,2,3,4,5,6]", NULL},
        {2, {2, 3}, " [ [1,2,3] , [4,5,6] ] ", NULL},
        {3, {1, 2, 1}, "[[[1],[2]]]", NULL},
        {0, {0}, "[7]", NULL},
        {1, {1}, "[7]", NULL},
        {2, {2, 0}, "[[],[]]", NULL},
        {2, {0, 3}, "[]", NULL},
        {2, {2, 3}, "[[1,2],[3,4],[5,6]]", "a list of 2 where dimension 1 of the shape is 3"},
        {2, {2, 3}, "[[1,2,3]]", "a list of 1 where dimension 0 of the shape is 2"},
        {2, {2, 3}, "[1,2,3,4,5]", "5 elements where the shape needs 6"},
        {2, {2, 3}, "[1,2,3,4,5,6,7]", "7 elements where the shape needs 6"},
        {2, {2, 3}, "[[1,2,3],4,5,6]", "not nested as the shape is"},
        {2, {2, 3}, "[1,[2,3,4]]", "a list where elements stand"},
        {1, {2}, "[[1],[2]]", "nested deeper than the shape"},
        {3, {1, 1, 2}, "[[1,2]]", "not nested as the shape is"},
        {0, {0}, "[]", "0 elements where the shape needs 1"},
        {1, {2}, "[1,,2]", "a value is needed"},
        {1, {2}, "[1,2,]", "a value is needed"},
        {1, {2}, "[,1]", "a value is needed"},
        {1, {2}, "[1 2]", "a comma is missing"},
        {1, {2}, "[1,2", "the list has no end"},
        {2, {1, 1}, "[[1]", "the list has no end"},
        {1, {1}, "[{}]", "a value is needed"},
        {2,
         {1073741824, 1073741824},
         "[1]",
         "1 elements where the shape needs 1152921504606846976"},
        {3, {INT64_MAX, 4, 1}, "[1]", "more elements than can be counted"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r;
        const char *text = cases[i].text + strspn(cases[i].text, " ");
        read_list(&r, TENSOR_INT32, cases[i].rank, cases[i].shape, text);
        if (!cases[i].error && r.status != SL_OK) fail_msg("%s: %s", text, r.err.text);
        if (cases[i].error && (r.status == SL_OK || !strstr(r.err.text, cases[i].error)))
            fail_msg("%s: %s", text, r.err.text);
        sl_arena_done(&r.arena);
    }
}

/* --- elements that do not fit --- */

static void an_error_names_the_element(void **state)
{
    static const struct {
        enum tensor_type type;
        const char *text, *error;
    } cases[] = {
        {TENSOR_INT8, "[1,300]", "element 1: 300 does not fit INT8"},
        {TENSOR_INT8, "[-129,0]", "element 0: -129 does not fit INT8"},
        {TENSOR_UINT8, "[0,256]", "element 1: 256 does not fit UINT8"},
        {TENSOR_UINT8, "[0,-1]", "element 1: -1 does not fit UINT8"},
        {TENSOR_UINT16, "[0,65536]", "does not fit UINT16"},
        {TENSOR_INT32, "[0,2147483648]", "does not fit INT32"},
        {TENSOR_INT64, "[0,9223372036854775808]", "does not fit INT64"},
        {TENSOR_UINT64, "[0,18446744073709551616]", "does not fit UINT64"},
        {TENSOR_UINT64, "[0,99999999999999999999999]", "does not fit UINT64"},
        {TENSOR_INT32, "[0,1.5]", "element 1: 1.5 is no whole number of INT32"},
        {TENSOR_INT32, "[0,true]", "true is no whole number"},
        {TENSOR_INT32, "[0,\"1\"]", "\"1\" is no whole number"},
        {TENSOR_INT32, "[0,null]", "null is no whole number"},
        {TENSOR_INT32, "[0,01]", "01 is no whole number"},
        {TENSOR_INT32, "[0,-]", "- is no whole number"},
        {TENSOR_INT32, "[0,+1]", "+1 is no whole number"},
        {TENSOR_BOOL, "[true,2]", "element 1: 2 is not true, false, 0 or 1 of BOOL"},
        {TENSOR_BOOL, "[true,True]", "True is not true"},
        {TENSOR_FP32, "[0,1e39]", "element 1: 1e39 does not fit FP32"},
        {TENSOR_FP32, "[0,-3.5e38]", "does not fit FP32"},
        {TENSOR_FP64, "[0,1e309]", "does not fit FP64"},
        {TENSOR_FP32, "[0,.5]", ".5 is no number"},
        {TENSOR_FP32, "[0,5.]", "5. is no number"},
        {TENSOR_FP32, "[0,0x10]", "0x10 is no number"},
        {TENSOR_FP32, "[0,1e]", "1e is no number"},
        {TENSOR_FP32, "[0,nan]", "nan is no number"},
        {TENSOR_FP32, "[0,\"1\"]", "\"1\" is no number"},
        {TENSOR_FP32, "[0,01.5]", "01.5 is no number"},
        {TENSOR_BYTES, "[\"\",5]", "element 1: 5 is no text of BYTES"},
        {TENSOR_BYTES, "[\"\",\"\\x\"]", "element 1: "},
        {TENSOR_BYTES, "[\"\",\"\xff\"]", "element 1: "},
        {TENSOR_BYTES, "[\"\",\"abc]", "a text without its end"},
        {TENSOR_FP16, "[1,2]", "JSON has no form for FP16"},
        {TENSOR_BF16, "[1,2]", "JSON has no form for BF16"},
    };
    const int64_t two = 2;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r;
        read_list(&r, cases[i].type, 1, &two, cases[i].text);
        if (r.status != SL_INVALID || !strstr(r.err.text, cases[i].error))
            fail_msg("%s: %s", cases[i].text, r.err.text);
        sl_arena_done(&r.arena);
    }
}

/* Digits past those that count, and exponents past an int. */
static void long_numbers_are_read_right(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"[0.1000000000000000055511151231257827021181583404541015625]", 0.1},
        {"[100000000000000000000000]", 1e23},
        {"[0.000000000000000000000000000001]", 1e-30},
        {"[1e-99999999999999999999]", 0.0},
        {"[0e99999999999999999999]", 0.0},
        {"[9007199254740993]", 9007199254740992.0},
        {"[1.7976931348623157e308]", DBL_MAX},
        {"[123456789012345678901234567890e-20]", 1234567890.1234567890},
    };
    const int64_t one = 1;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r;
        double value;
        read_list(&r, TENSOR_FP64, 1, &one, cases[i].text);
        if (r.status != SL_OK) fail_msg("%s: %s", cases[i].text, r.err.text);
        memcpy(&value, r.tensor.data, sizeof value);
        if (memcmp(&value, &cases[i].value, sizeof value))
            fail_msg("%s: %.17g", cases[i].text, value);
        sl_arena_done(&r.arena);
    }
}

static void what_json_cannot_say_is_told(void **state)
{
    static const unsigned char text[] = {1, 0, 0, 0, 'a', 1, 0, 0, 0, 0xff};
    static const unsigned char halves[4];
    const struct tensor bytes = {"b", TENSOR_BYTES, 1, {2}, text, sizeof text};
    const struct tensor fp16 = {"h", TENSOR_FP16, 1, {2}, halves, sizeof halves};
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    sl_buf_init(&out, ARENA_MAX);
    assert_int_equal(oip_data_write(&bytes, &out, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "element 1 is not UTF-8"));
    assert_int_equal(oip_data_write(&fp16, &out, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "JSON has no form for FP16"));
    sl_buf_done(&out);
}

/* --- cutting --- */

static void lists_of_inputs_are_cut_out(void **state)
{
    static const struct {
        const char *text, *rest;
        size_t n;
        const char *first;
    } cases[] = {
        {"{\"inputs\":[{\"data\":[1,[2]],\"name\":\"a\"}]}",
         "{\"inputs\":[{\"data\":{\"\":0},\"name\":\"a\"}]}", 1, "[1,[2]]"},
        {"{ \"inputs\" : [ {\"data\" : [\"]\\\"[\"] }, {\"data\":[2]} ] }",
         "{ \"inputs\" : [ {\"data\" : {\"\":0} }, {\"data\":{\"\":1}} ] }", 2, "[\"]\\\"[\"]"},
        {"{\"outputs\":[{\"data\":[1]}]}", "{\"outputs\":[{\"data\":[1]}]}", 0, NULL},
        {"{\"data\":[1]}", "{\"data\":[1]}", 0, NULL},
        {"{\"inputs\":[{\"parameters\":{\"data\":[1]}}]}",
         "{\"inputs\":[{\"parameters\":{\"data\":[1]}}]}", 0, NULL},
        {"{\"inputs\":[{\"name\":\"data\",\"x\":[1]}]}",
         "{\"inputs\":[{\"name\":\"data\",\"x\":[1]}]}", 0, NULL},
        {"{\"inputs\":[],\"outputs\":[{\"data\":[1]}]}",
         "{\"inputs\":[],\"outputs\":[{\"data\":[1]}]}", 0, NULL},
        {"{\"a\":{\"inputs\":[{\"data\":[1]}]}}", "{\"a\":{\"inputs\":[{\"data\":[1]}]}}", 0, NULL},
        {"{\"inputs\":[{\"data\":[1,2", "{\"inputs\":[{\"data\":[1,2", 0, NULL},
        {"{\"inputs", "{\"inputs", 0, NULL},
        {"]]}{\"inputs\":[{\"data\":[\\", "]]}{\"inputs\":[{\"data\":[\\", 0, NULL},
        {"", "", 0, NULL},
    };
    struct oip_data lists[TENSORS_MAX];
    struct sl_buf rest;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_err err = SL_ERR_INIT;
        size_t n;
        sl_buf_init(&rest, ARENA_MAX);
        assert_int_equal(oip_data_cut(cases[i].text, strlen(cases[i].text), &rest, lists, &n, &err),
                         SL_OK);
        assert_string_equal(rest.data, cases[i].rest);
        assert_int_equal(n, cases[i].n);
        if (n) assert_memory_equal(lists[0].text, cases[i].first, lists[0].n);
        if (n) assert_int_equal(lists[0].n, strlen(cases[i].first));
        sl_buf_done(&rest);
    }
}

static void too_many_lists_are_refused(void **state)
{
    static struct oip_data lists[TENSORS_MAX];
    struct sl_buf text, rest;
    struct sl_err err = SL_ERR_INIT;
    size_t n;
    (void)state;
    sl_buf_init(&text, ARENA_MAX);
    sl_buf_init(&rest, ARENA_MAX);
    assert_int_equal(sl_buf_adds(&text, "{\"inputs\":[{\"data\":[]}"), SL_OK);
    for (int i = 0; i < TENSORS_MAX; i++)
        assert_int_equal(sl_buf_adds(&text, ",{\"data\":[]}"), SL_OK);
    assert_int_equal(oip_data_cut(text.data, text.len, &rest, lists, &n, &err), SL_LIMIT);
    sl_buf_done(&text);
    sl_buf_done(&rest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(floats_keep_their_value),
        cmocka_unit_test(lists_are_flat_or_nested_as_the_shape_is),
        cmocka_unit_test(an_error_names_the_element),
        cmocka_unit_test(long_numbers_are_read_right),
        cmocka_unit_test(what_json_cannot_say_is_told),
        cmocka_unit_test(lists_of_inputs_are_cut_out),
        cmocka_unit_test(too_many_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
