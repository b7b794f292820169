/* ModelInferRequest and ModelInferResponse as protobuf-c writes and reads them, against ours. */
#include "access/oip_message.h"
#include "base/mem.h"
#include <proto/open_inference.pb-c.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef Inference__ModelInferRequest request_t;
typedef Inference__ModelInferRequest__InferInputTensor input_t;
typedef Inference__InferTensorContents contents_t;
typedef Inference__InferParameter param_t;
typedef Inference__ModelInferRequest__ParametersEntry entry_t;

#define OUT_MAX 4096

/* A request with one input, and its bytes. */
struct sample {
    request_t request;
    input_t input, *inputs[1];
    contents_t contents;
    int64_t shape[2];
    ProtobufCBinaryData raw[1];
    struct oip_message message;
    uint8_t *bytes;
    size_t n;
    struct sl_err err;
};

static void sample_init(struct sample *s, const char *datatype, int64_t n)
{
    memset(s, 0, sizeof *s);
    inference__model_infer_request__init(&s->request);
    inference__model_infer_request__infer_input_tensor__init(&s->input);
    inference__infer_tensor_contents__init(&s->contents);
    s->request.model_name = (char *)"m";
    s->input.name = (char *)"x";
    s->input.datatype = (char *)(uintptr_t)datatype;
    s->shape[0] = n;
    s->input.shape = s->shape;
    s->input.n_shape = 1;
    s->inputs[0] = &s->input;
    s->request.inputs = s->inputs;
    s->request.n_inputs = 1;
    oip_message_init(&s->message);
}

static sl_status sample_read(struct sample *s)
{
    s->n = inference__model_infer_request__get_packed_size(&s->request);
    s->bytes = malloc(s->n + 1);
    assert_non_null(s->bytes);
    inference__model_infer_request__pack(&s->request, s->bytes);
    return oip_message_read(&s->message, s->bytes, s->n, &s->err);
}

static void sample_done(struct sample *s)
{
    oip_message_done(&s->message);
    free(s->bytes);
}

static void expect_data(struct sample *s, enum tensor_type type, const void *data, size_t n)
{
    assert_int_equal(sample_read(s), SL_OK);
    assert_int_equal(s->message.infer.n_inputs, 1);
    const struct tensor *tensor = s->message.infer.inputs;
    assert_string_equal(tensor->name, "x");
    assert_int_equal(tensor->type, type);
    assert_int_equal(tensor->n_bytes, n);
    if (n) assert_memory_equal(tensor->data, data, n);
    sample_done(s);
}

static void expect_error(struct sample *s, sl_status status, const char *words)
{
    assert_int_equal(sample_read(s), status);
    if (!strstr(s->err.text, words)) fail_msg("\"%s\" is not in \"%s\"", words, s->err.text);
    sample_done(s);
}

/* --- contents --- */

static void small_integers_are_narrowed(void **state)
{
    (void)state;
    struct sample s;
    int32_t values[] = {-128, -1, 0, 127};
    uint32_t positive[] = {0, 255, 256, 65535};
    static const int16_t shorts[] = {-128, -1, 0, 127};
    static const uint16_t unsigned_shorts[] = {0, 255, 256, 65535};
    sample_init(&s, "INT8", 4);
    s.input.contents = &s.contents;
    s.contents.int_contents = values;
    s.contents.n_int_contents = 4;
    expect_data(&s, TENSOR_INT8, "\x80\xff\x00\x7f", 4);
    sample_init(&s, "INT16", 4);
    s.input.contents = &s.contents;
    s.contents.int_contents = values;
    s.contents.n_int_contents = 4;
    expect_data(&s, TENSOR_INT16, shorts, sizeof shorts);
    sample_init(&s, "UINT16", 4);
    s.input.contents = &s.contents;
    s.contents.uint_contents = positive;
    s.contents.n_uint_contents = 4;
    expect_data(&s, TENSOR_UINT16, unsigned_shorts, sizeof unsigned_shorts);
    sample_init(&s, "UINT8", 4);
    s.input.contents = &s.contents;
    s.contents.uint_contents = positive;
    s.contents.n_uint_contents = 4;
    expect_error(&s, SL_INVALID, "input \"x\": 256 is no UINT8");
}

static void large_integers_keep_all_bits(void **state)
{
    (void)state;
    struct sample s;
    int64_t values[] = {INT64_MIN, -1, INT64_MAX};
    uint64_t positive[] = {0, UINT64_MAX};
    sample_init(&s, "INT64", 3);
    s.input.contents = &s.contents;
    s.contents.int64_contents = values;
    s.contents.n_int64_contents = 3;
    expect_data(&s, TENSOR_INT64, values, sizeof values);
    sample_init(&s, "UINT64", 2);
    s.input.contents = &s.contents;
    s.contents.uint64_contents = positive;
    s.contents.n_uint64_contents = 2;
    expect_data(&s, TENSOR_UINT64, positive, sizeof positive);
}

static void packed_floats_stay_where_they_lie(void **state)
{
    (void)state;
    struct sample s;
    float values[] = {1.5f, -0.0f, INFINITY};
    sample_init(&s, "FP32", 3);
    s.input.contents = &s.contents;
    s.contents.fp32_contents = values;
    s.contents.n_fp32_contents = 3;
    assert_int_equal(sample_read(&s), SL_OK);
    const uint8_t *data = s.message.infer.inputs[0].data;
    assert_true(data > s.bytes && data + sizeof values <= s.bytes + s.n);
    assert_memory_equal(data, values, sizeof values);
    sample_done(&s);
}

static void texts_get_their_lengths(void **state)
{
    (void)state;
    struct sample s;
    ProtobufCBinaryData texts[] = {{2, (uint8_t *)"ab"}, {0, NULL}, {1, (uint8_t *)"\0"}};
    sample_init(&s, "BYTES", 3);
    s.input.contents = &s.contents;
    s.contents.bytes_contents = texts;
    s.contents.n_bytes_contents = 3;
    expect_data(&s, TENSOR_BYTES, "\2\0\0\0ab\0\0\0\0\1\0\0\0\0", 15);
}

/* proto3 packs lists, but a reader takes them unpacked too. */
static void unpacked_lists_are_read(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x2a, 0x12, 0x0a, 1,    'x',  0x12, 5,    'I', 'N',  'T',
                                    '3',  '2',  0x18, 0x02, 0x2a, 4,    0x10, 5,   0x10, 6};
    static const int32_t values[] = {5, 6};
    struct oip_message message;
    struct sl_err err = SL_ERR_INIT;
    oip_message_init(&message);
    assert_int_equal(oip_message_read(&message, bytes, sizeof bytes, &err), SL_OK);
    const struct tensor *tensor = message.infer.inputs;
    assert_int_equal(tensor->rank, 1);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->n_bytes, sizeof values);
    assert_memory_equal(tensor->data, values, sizeof values);
    oip_message_done(&message);
}

static void raw_contents_stay_where_they_lie(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s, "FP16", 2);
    s.raw[0] = (ProtobufCBinaryData){4, (uint8_t *)"\1\2\3\4"};
    s.request.raw_input_contents = s.raw;
    s.request.n_raw_input_contents = 1;
    assert_int_equal(sample_read(&s), SL_OK);
    const uint8_t *data = s.message.infer.inputs[0].data;
    assert_true(data > s.bytes && data + 4 <= s.bytes + s.n);
    assert_memory_equal(data, "\1\2\3\4", 4);
    sample_done(&s);
}

static void contents_that_do_not_fit_are_named(void **state)
{
    (void)state;
    struct sample s;
    float value = 1;
    sample_init(&s, "INT32", 1);
    s.input.contents = &s.contents;
    s.contents.fp32_contents = &value;
    s.contents.n_fp32_contents = 1;
    expect_error(&s, SL_INVALID, "input \"x\": INT32 goes as int_contents, not as fp32_contents");
    sample_init(&s, "BF16", 1);
    s.input.contents = &s.contents;
    s.contents.fp32_contents = &value;
    s.contents.n_fp32_contents = 1;
    expect_error(&s, SL_INVALID, "BF16 has no typed contents");
    sample_init(&s, "FP32", 1);
    s.input.contents = &s.contents;
    s.contents.fp32_contents = &value;
    s.contents.n_fp32_contents = 1;
    s.raw[0] = (ProtobufCBinaryData){4, (uint8_t *)"\1\2\3\4"};
    s.request.raw_input_contents = s.raw;
    s.request.n_raw_input_contents = 1;
    expect_error(&s, SL_INVALID, "only one of the two");
    sample_init(&s, "FP99", 1);
    expect_error(&s, SL_INVALID, "no such datatype: \"FP99\"");
}

/* --- all else --- */

static void names_parameters_and_outputs_are_read(void **state)
{
    (void)state;
    struct sample s;
    param_t values[2] = {INFERENCE__INFER_PARAMETER__INIT, INFERENCE__INFER_PARAMETER__INIT};
    entry_t rows[2] = {INFERENCE__MODEL_INFER_REQUEST__PARAMETERS_ENTRY__INIT,
                       INFERENCE__MODEL_INFER_REQUEST__PARAMETERS_ENTRY__INIT};
    entry_t *entries[] = {&rows[0], &rows[1]};
    Inference__ModelInferRequest__InferRequestedOutputTensor output =
        INFERENCE__MODEL_INFER_REQUEST__INFER_REQUESTED_OUTPUT_TENSOR__INIT;
    Inference__ModelInferRequest__InferRequestedOutputTensor *outputs[] = {&output};
    sample_init(&s, "INT8", 0);
    values[0].parameter_choice_case = INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_STRING_PARAM;
    values[0].string_param = (char *)"text";
    values[1].parameter_choice_case = INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_DOUBLE_PARAM;
    values[1].double_param = -2.5;
    rows[0].key = (char *)"a";
    rows[0].value = &values[0];
    rows[1].key = (char *)"b";
    rows[1].value = &values[1];
    s.request.parameters = entries;
    s.request.n_parameters = 2;
    s.request.model_version = (char *)"3";
    s.request.id = (char *)"id-7";
    output.name = (char *)"y";
    s.request.outputs = outputs;
    s.request.n_outputs = 1;
    assert_int_equal(sample_read(&s), SL_OK);
    const struct oip_infer *infer = &s.message.infer;
    assert_string_equal(infer->model, "m");
    assert_string_equal(infer->version, "3");
    assert_string_equal(infer->id, "id-7");
    assert_int_equal(infer->n_outputs, 1);
    assert_string_equal(infer->outputs[0], "y");
    assert_int_equal(infer->n_params, 2);
    assert_string_equal(infer->params[0].name, "a");
    assert_int_equal(infer->params[0].type, OIP_PARAM_STR);
    assert_string_equal(infer->params[0].text, "text");
    assert_int_equal(infer->params[1].type, OIP_PARAM_NUM);
    assert_true(infer->params[1].number == -2.5);
    sample_done(&s);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct sample s;
    int32_t values[4096] = {0};
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        sample_init(&s, "INT32", 4096);
        s.input.contents = &s.contents;
        s.contents.int_contents = values;
        s.contents.n_int_contents = 4096;
        sl_mem_fail_at(nth, false);
        status = sample_read(&s);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        sample_done(&s);
        assert_int_equal(sl_mem_live(), live);
    }
}

/* --- answers --- */

static const struct tensor TENSORS[] = {{"a", TENSOR_INT16, 2, {1, 300}, "123456", 6},
                                        {"scalar", TENSOR_BOOL, 0, {0}, "\1", 1}};
static const struct oip_param PARAMS[] = {{.name = "n", .type = OIP_PARAM_INT, .integer = -1}};
static const struct oip_answer ANSWER = {.model = "m",
                                         .version = "2",
                                         .id = "i",
                                         .tensors = TENSORS,
                                         .n_tensors = 2,
                                         .params = PARAMS,
                                         .n_params = 1,
                                         .is_last = false};

static void check_answer(const Inference__ModelInferResponse *got)
{
    assert_string_equal(got->model_name, "m");
    assert_string_equal(got->model_version, "2");
    assert_string_equal(got->id, "i");
    assert_int_equal(got->n_outputs, 2);
    assert_string_equal(got->outputs[0]->name, "a");
    assert_string_equal(got->outputs[0]->datatype, "INT16");
    assert_int_equal(got->outputs[0]->n_shape, 2);
    assert_int_equal(got->outputs[0]->shape[1], 300);
    assert_int_equal(got->outputs[1]->n_shape, 0);
    assert_int_equal(got->n_raw_output_contents, 2);
    assert_int_equal(got->raw_output_contents[0].len, 6);
    assert_memory_equal(got->raw_output_contents[0].data, "123456", 6);
    assert_string_equal(got->parameters[0]->key, "n");
    assert_int_equal(got->parameters[0]->value->int64_param, -1);
}

static void answers_are_what_protobuf_reads(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, OUT_MAX);
    assert_int_equal(oip_message_put(&out, &ANSWER), SL_OK);
    Inference__ModelInferResponse *got =
        inference__model_infer_response__unpack(NULL, out.len, (uint8_t *)out.data);
    assert_non_null(got);
    check_answer(got);
    assert_int_equal(got->n_parameters, 1);
    inference__model_infer_response__free_unpacked(got, NULL);
    sl_buf_done(&out);
}

static void streamed_answers_say_whether_they_are_the_last(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, OUT_MAX);
    assert_int_equal(oip_message_put_streamed(&out, &ANSWER), SL_OK);
    Inference__ModelStreamInferResponse *got =
        inference__model_stream_infer_response__unpack(NULL, out.len, (uint8_t *)out.data);
    assert_non_null(got);
    check_answer(got->infer_response);
    assert_int_equal(got->infer_response->n_parameters, 2);
    assert_string_equal(got->infer_response->parameters[1]->key, "triton_final_response");
    assert_false(got->infer_response->parameters[1]->value->bool_param);
    inference__model_stream_infer_response__free_unpacked(got, NULL);
    sl_buf_done(&out);
}

static void streamed_errors_carry_the_id(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, OUT_MAX);
    assert_int_equal(oip_message_put_error(&out, "i", "no"), SL_OK);
    Inference__ModelStreamInferResponse *got =
        inference__model_stream_infer_response__unpack(NULL, out.len, (uint8_t *)out.data);
    assert_non_null(got);
    assert_string_equal(got->error_message, "no");
    assert_string_equal(got->infer_response->id, "i");
    inference__model_stream_infer_response__free_unpacked(got, NULL);
    sl_buf_clear(&out);
    assert_int_equal(oip_message_put(&out, &ANSWER), SL_OK);
    size_t n = out.len;
    sl_buf_done(&out);
    sl_buf_init(&out, n - 1); /* one byte too few */
    assert_int_equal(oip_message_put(&out, &ANSWER), SL_LIMIT);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_integers_are_narrowed),
        cmocka_unit_test(large_integers_keep_all_bits),
        cmocka_unit_test(packed_floats_stay_where_they_lie),
        cmocka_unit_test(texts_get_their_lengths),
        cmocka_unit_test(unpacked_lists_are_read),
        cmocka_unit_test(raw_contents_stay_where_they_lie),
        cmocka_unit_test(contents_that_do_not_fit_are_named),
        cmocka_unit_test(names_parameters_and_outputs_are_read),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(answers_are_what_protobuf_reads),
        cmocka_unit_test(streamed_answers_say_whether_they_are_the_last),
        cmocka_unit_test(streamed_errors_carry_the_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
