/* onnx/onnx_engine.h on small models made here: every datatype, what is refused and how it is told,
 * batches, instances, cancels. */
#include "base/mem.h"
#include "exec/onnx/ort_abi.h"
#include "support/onnx_fixture.h"
#include "support/onnx_write.h"
#include "support/temp_dir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs what stands above */
#include <cmocka.h>

static struct onnx_fixture fixture;

static const char *const x_only[] = {"x", NULL};
static const char *const y_only[] = {"y", NULL};

/* Writes the graph as a model file and frees it. Static storage, as temp_path. */
static const char *write_model(struct sl_buf *graph)
{
    struct sl_buf model;
    const char *path = temp_path("model.onnx");
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_model(&model, graph);
    onnx_fixture_write(path, &model);
    sl_buf_done(&model);
    return path;
}

/* y = OPERATOR(x), both of the shape. */
static const char *write_unary(const char *op_type, int element, int rank, const int64_t *dims,
                               const struct sl_buf *attributes)
{
    struct sl_buf graph;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    onnx_put_operator(&graph, op_type, x_only, y_only, attributes);
    pb_str(&graph, 2, "graph of a test");
    onnx_put_value(&graph, 11, "x", element, rank, dims);
    onnx_put_value(&graph, 12, "y", element, rank, dims);
    return write_model(&graph);
}

static struct tensor floats(const char *name, int64_t rows, int64_t columns, const float *data)
{
    return (struct tensor){.name = name,
                           .type = TENSOR_FP32,
                           .rank = 2,
                           .shape = {rows, columns},
                           .data = data,
                           .n_bytes = (size_t)(rows * columns) * sizeof *data};
}

/* Tells x as y in all types. ONNX Runtime's Identity takes them all. */
static void test_every_type(void **state)
{
    static const struct {
        int element;
        enum tensor_type type;
        size_t n_bytes;
        const char *data;
    } cases[] = {
        {ORT_ABI_BOOL, TENSOR_BOOL, 3, "\0\1\1"},
        {ORT_ABI_UINT8, TENSOR_UINT8, 3, "\0\177\377"},
        {ORT_ABI_UINT16, TENSOR_UINT16, 6, "\0\1\2\3\377\377"},
        {ORT_ABI_UINT32, TENSOR_UINT32, 12, "abcdefgh\377\377\377\377"},
        {ORT_ABI_UINT64, TENSOR_UINT64, 24, "abcdefghijklmnop\377\377\377\377\377\377\377\377"},
        {ORT_ABI_INT8, TENSOR_INT8, 3, "\200\0\377"},
        {ORT_ABI_INT16, TENSOR_INT16, 6, "\0\200ab\377\377"},
        {ORT_ABI_INT32, TENSOR_INT32, 12, "abcd\0\0\0\200\377\377\377\377"},
        {ORT_ABI_INT64, TENSOR_INT64, 24, "abcdefgh\0\0\0\0\0\0\0\200ponmlkji"},
        {ORT_ABI_FLOAT16, TENSOR_FP16, 6, "\0\74\0\300\0\174"},
        {ORT_ABI_FLOAT, TENSOR_FP32, 12, "abcd\0\0\200\177\0\0\200\77"},
        {ORT_ABI_DOUBLE, TENSOR_FP64, 24, "abcdefghijklmnopqrstuvwx"},
        {ORT_ABI_BFLOAT16, TENSOR_BF16, 6, "\200\77\0\300\200\177"},
        {ORT_ABI_STRING, TENSOR_BYTES, 19, "\3\0\0\0a\0b\0\0\0\0\4\0\0\0\303\244\n\377"},
    };
    (void)state;
    onnx_fixture_need_runtime();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tensor x = {.name = "x",
                                 .type = cases[i].type,
                                 .rank = 1,
                                 .shape = {3},
                                 .data = cases[i].data,
                                 .n_bytes = cases[i].n_bytes};
        onnx_fixture_open(
            &fixture, write_unary("Identity", cases[i].element, 1, (int64_t[]){-1}, NULL), NULL);
        onnx_fixture_submit(&fixture, 1, &x, 1);
        onnx_fixture_drive(&fixture);
        const struct onnx_answer *answer = &fixture.answers[1];
        if (answer->finish != ENGINE_FINISH_STOP) fail_msg("%s", answer->message);
        assert_int_equal(answer->n_tensor_events, 1);
        assert_int_equal(answer->n_tensors, 1);
        assert_string_equal(answer->tensors[0].name, "y");
        assert_int_equal(answer->tensors[0].type, cases[i].type);
        assert_int_equal(answer->tensors[0].rank, 1);
        assert_int_equal(answer->tensors[0].shape[0], 3);
        assert_int_equal(answer->tensors[0].n_bytes, cases[i].n_bytes);
        assert_memory_equal(answer->tensors[0].data, cases[i].data, cases[i].n_bytes);
        onnx_fixture_close(&fixture);
    }
}

static void test_signature(void **state)
{
    struct engine_info info;
    struct engine_stats stats;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      NULL);
    engine_info(fixture.engine, &info);
    assert_string_equal(info.architecture, "onnx");
    assert_string_equal(info.name, "graph of a test");
    assert_string_equal(info.device, "cpu");
    assert_false(info.embeds || info.ranks);
    assert_int_equal(info.signature.n_inputs, 1);
    assert_int_equal(info.signature.n_outputs, 1);
    assert_string_equal(info.signature.inputs[0].name, "x");
    assert_int_equal(info.signature.inputs[0].type, TENSOR_FP32);
    assert_int_equal(info.signature.inputs[0].rank, 2);
    assert_int_equal(info.signature.inputs[0].shape[0], -1);
    assert_int_equal(info.signature.inputs[0].shape[1], 3);
    assert_false(info.signature.inputs[0].optional);
    assert_true(info.batch_max > 1);
    engine_stats(fixture.engine, &stats);
    assert_true(stats.weight_bytes > 0);
    assert_int_equal(stats.n_runs, 0); /* trials do not count */
    onnx_fixture_close(&fixture);
}

/* A scalar, and a tensor whose rank the file does not tell. */
static void test_ranks(void **state)
{
    const float one = 1.5f;
    const struct tensor x = {.name = "x", .type = TENSOR_FP32, .data = &one, .n_bytes = 4};
    struct engine_info info;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Identity", ORT_ABI_FLOAT, 0, NULL, NULL), NULL);
    engine_info(fixture.engine, &info);
    assert_int_equal(info.signature.inputs[0].rank, 0);
    assert_int_equal(info.batch_max, 1);
    onnx_fixture_submit(&fixture, 1, &x, 1);
    onnx_fixture_drive(&fixture);
    assert_int_equal(fixture.answers[1].finish, ENGINE_FINISH_STOP);
    assert_int_equal(fixture.answers[1].tensors[0].rank, 0);
    assert_memory_equal(fixture.answers[1].tensors[0].data, &one, 4);
    onnx_fixture_close(&fixture);
}

static void refused(const struct tensor *inputs, size_t n, const char *output, sl_status status,
                    const char *says)
{
    const struct engine_infer req = {
        .id = 5, .inputs = inputs, .n_inputs = n, .outputs = &output, .n_outputs = output ? 1 : 0};
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(engine_submit_infer(fixture.engine, &req, &err), status);
    if (!strstr(err.text, says)) fail_msg("\"%s\" is not in \"%s\"", says, err.text);
}

static void test_refuses_requests(void **state)
{
    static const float data[6] = {1, -2, 3, 4, 5, -6};
    const struct tensor good = floats("x", 2, 3, data);
    struct tensor bad = good;
    const struct tensor twice[] = {good, good};
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      NULL);
    refused(NULL, 0, NULL, SL_INVALID, "input \"x\" is missing");
    refused(twice, 2, NULL, SL_INVALID, "input \"x\" is given twice");
    bad.name = "z";
    refused(&bad, 1, NULL, SL_INVALID, "no input \"z\"; it takes \"x\"");
    bad = good;
    bad.type = TENSOR_INT32;
    refused(&bad, 1, NULL, SL_INVALID, "input \"x\": INT32 where the model takes FP32");
    bad = good;
    bad.rank = 1;
    refused(&bad, 1, NULL, SL_INVALID, "shape [2] where the model takes [-1,3]");
    bad = floats("x", 3, 2, data);
    refused(&bad, 1, NULL, SL_INVALID, "shape [3,2] where the model takes [-1,3]");
    bad = good;
    bad.n_bytes = 20;
    refused(&bad, 1, NULL, SL_INVALID, "20 bytes");
    refused(&good, 1, "z", SL_INVALID, "no output \"z\"");
    onnx_fixture_submit(&fixture, 5, &good, 1);
    refused(&good, 1, NULL, SL_EXISTS, "request 5 is live");
    onnx_fixture_drive(&fixture); /* it still serves */
    assert_int_equal(fixture.answers[5].finish, ENGINE_FINISH_STOP);
    onnx_fixture_close(&fixture);
}

static void test_refuses_other_calls(void **state)
{
    const struct engine_generate generate = {.id = 1, .text = "a", .n_text = 1, .max_tokens = 1};
    const struct engine_embed embed = {.id = 1, .text = "a", .n_text = 1};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      NULL);
    sl_buf_init(&out, 100);
    assert_int_equal(engine_submit(fixture.engine, &generate, &err), SL_UNSUPPORTED);
    assert_int_equal(engine_submit_embed(fixture.engine, &embed, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "tokenizer.json"));
    assert_int_equal(engine_tokenize(fixture.engine, "a", 1, false, &out, &err), SL_UNSUPPORTED);
    assert_int_equal(engine_detokenize(fixture.engine, NULL, 0, &out, &err), SL_UNSUPPORTED);
    assert_int_equal(engine_cancel(fixture.engine, 77), SL_NOT_FOUND);
    sl_buf_done(&out);
    onnx_fixture_close(&fixture);
}

/* sum = x + default, with a default of 0; square = x * x; only what is asked for is given. */
static const char *write_two_outputs(void)
{
    static const float zero[3] = {0, 0, 0};
    struct sl_buf graph, tensor;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    onnx_put_operator(&graph, "Add", (const char *const[]){"x", "bias", NULL},
                      (const char *const[]){"sum", NULL}, NULL);
    onnx_put_operator(&graph, "Mul", (const char *const[]){"x", "x", NULL},
                      (const char *const[]){"square", NULL}, NULL);
    pb_str(&graph, 2, "two");
    onnx_put_tensor_head(&tensor, "bias", ORT_ABI_FLOAT, 1, (int64_t[]){3});
    pb_bytes(&tensor, 9, zero, sizeof zero);
    pb_message(&graph, 5, &tensor);
    onnx_put_value(&graph, 11, "x", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3});
    onnx_put_value(&graph, 11, "bias", ORT_ABI_FLOAT, 1, (int64_t[]){3});
    onnx_put_value(&graph, 12, "sum", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3});
    onnx_put_value(&graph, 12, "square", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3});
    return write_model(&graph);
}

static void test_optional_inputs_and_outputs(void **state)
{
    static const float data[3] = {1, 2, 3}, tens[3] = {10, 20, 30}, sums[3] = {11, 22, 33},
                       squares[3] = {1, 4, 9};
    static const char *const square = "square";
    const struct tensor inputs[] = {
        {.name = "bias", .type = TENSOR_FP32, .rank = 1, .shape = {3}, .data = tens, .n_bytes = 12},
        floats("x", 1, 3, data)};
    const struct engine_infer one = {
        .id = 2, .inputs = &inputs[1], .n_inputs = 1, .outputs = &square, .n_outputs = 1};
    struct engine_info info;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_two_outputs(), NULL);
    engine_info(fixture.engine, &info);
    assert_int_equal(info.signature.n_inputs, 2);
    assert_true(info.signature.inputs[1].optional);
    onnx_fixture_submit(&fixture, 1, inputs, 2);
    fixture.n_live++;
    assert_int_equal(engine_submit_infer(fixture.engine, &one, &err), SL_OK);
    onnx_fixture_drive(&fixture);
    assert_int_equal(fixture.answers[1].n_tensors, 2);
    assert_memory_equal(fixture.answers[1].tensors[0].data, sums, sizeof sums);
    assert_memory_equal(fixture.answers[1].tensors[1].data, squares, sizeof squares);
    assert_int_equal(fixture.answers[2].n_tensors, 1);
    assert_string_equal(fixture.answers[2].tensors[0].name, "square");
    assert_memory_equal(fixture.answers[2].tensors[0].data, squares, sizeof squares);
    onnx_fixture_close(&fixture);
}

/* Requests of one to three rows, 40 rows in all. */
static void submit_rows(float data[40][3])
{
    int row = 0;
    for (int i = 0; i < 120; i++) data[i / 3][i % 3] = (float)(i - 60);
    for (uint64_t id = 0; row < 40; id++) {
        int n = row == 39 ? 1 : 1 + (int)(id % 3);
        const struct tensor x = floats("x", n, 3, data[row]);
        onnx_fixture_submit(&fixture, id, &x, 1);
        row += n;
    }
}

static void check_rows(float data[40][3])
{
    int row = 0;
    for (int id = 0; row < 40; id++) {
        const struct onnx_answer *answer = &fixture.answers[id];
        assert_int_equal(answer->finish, ENGINE_FINISH_STOP);
        assert_int_equal(answer->n_tensors, 1);
        const float *y = answer->tensors[0].data;
        int n = (int)answer->tensors[0].shape[0];
        assert_int_equal(n, row == 39 ? 1 : 1 + id % 3);
        for (int i = 0; i < 3 * n; i++) {
            float x = data[row + i / 3][i % 3];
            assert_float_equal(y[i], x > 0 ? x : 0, 0);
        }
        row += n;
    }
}

static void test_batches(void **state)
{
    float data[40][3];
    struct engine_stats stats;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      "{\"batch_max\":16}");
    submit_rows(data);
    onnx_fixture_drive(&fixture);
    check_rows(data);
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_rows, 40);
    assert_int_equal(stats.n_runs, 3);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.n_running, 0);
    onnx_fixture_close(&fixture);
}

static void test_batches_with_delay_and_instances(void **state)
{
    float data[40][3];
    struct engine_stats stats;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      "{\"batch_max\":4,\"batch_delay_us\":2000,\"instances\":3}");
    assert_true(engine_wake_fd(fixture.engine) >= 0);
    submit_rows(data);
    onnx_fixture_drive(&fixture);
    check_rows(data);
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_rows, 40);
    assert_true(stats.n_runs >= 10);
    onnx_fixture_close(&fixture);
}

/* A lone request waits for its delay, and no longer. */
static void test_delay_ends(void **state)
{
    static const float data[3] = {1, 2, 3};
    const struct tensor x = floats("x", 1, 3, data);
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      "{\"batch_max\":4,\"batch_delay_us\":1000000}");
    assert_int_equal(engine_next_ns(fixture.engine), -1);
    onnx_fixture_submit(&fixture, 0, &x, 1);
    assert_int_equal(engine_step(fixture.engine, &idle, &err), SL_OK);
    assert_true(idle);
    assert_in_range(engine_next_ns(fixture.engine), 1, 1000000000);
    for (uint64_t id = 1; id < 4; id++) onnx_fixture_submit(&fixture, id, &x, 1);
    assert_int_equal(engine_next_ns(fixture.engine), 0); /* full: no need to wait */
    assert_int_equal(engine_step(fixture.engine, &idle, &err), SL_OK);
    assert_false(idle);
    assert_int_equal(fixture.n_live, 0);
    onnx_fixture_close(&fixture);
}

/* Strings are cut and put together too. */
static void test_batches_strings(void **state)
{
    static const char *const texts[] = {"\1\0\0\0a", "\0\0\0\0", "\3\0\0\0xyz"};
    static const size_t sizes[] = {5, 4, 7};
    struct engine_stats stats;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Identity", ORT_ABI_STRING, 1, (int64_t[]){-1}, NULL),
                      NULL);
    for (uint64_t id = 0; id < 3; id++) {
        const struct tensor x = {.name = "x",
                                 .type = TENSOR_BYTES,
                                 .rank = 1,
                                 .shape = {1},
                                 .data = texts[id],
                                 .n_bytes = sizes[id]};
        onnx_fixture_submit(&fixture, id, &x, 1);
    }
    onnx_fixture_drive(&fixture);
    for (int id = 0; id < 3; id++) {
        assert_int_equal(fixture.answers[id].tensors[0].n_bytes, sizes[id]);
        assert_memory_equal(fixture.answers[id].tensors[0].data, texts[id], sizes[id]);
    }
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_runs, 1);
    onnx_fixture_close(&fixture);
}

static int32_t batch_max_of(const char *path, const char *options)
{
    struct engine_info info;
    onnx_fixture_open(&fixture, path, options);
    engine_info(fixture.engine, &info);
    onnx_fixture_close(&fixture);
    return info.batch_max;
}

/* Dynamic first dimensions alone do not make a batch. */
static void test_knows_what_batches(void **state)
{
    struct sl_buf axis;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    assert_true(
        batch_max_of(write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, -1}, NULL), NULL) > 1);
    assert_int_equal(
        batch_max_of(write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){2, -1}, NULL), NULL), 1);
    assert_int_equal(batch_max_of(write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                                  "{\"batch_max\":1}"),
                     1);
    assert_int_equal(batch_max_of(write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                                  "{\"warm_up\":false}"),
                     1);
    sl_buf_init(&axis, 1000);
    onnx_put_int_attribute(&axis, "axis", 0); /* a softmax over the rows */
    const char *path = write_unary("Softmax", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, &axis);
    assert_int_equal(batch_max_of(path, NULL), 1);
    assert_int_equal(batch_max_of(path, "{\"batch_max\":2}"), 2); /* as ordered */
    sl_buf_done(&axis);
    path = write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){2, -1}, NULL);
    assert_int_equal(onnx_fixture_try_open(&fixture, path, "{\"batch_max\":2}", &err), SL_INVALID);
    assert_non_null(strstr(err.text, "first dimensions are fixed"));
    onnx_fixture_close(&fixture);
}

/* y = Gather(table of 3, x): an index over 2 fails the run that it is in. */
static const char *write_gather(void)
{
    static const float table[3] = {10, 11, 12};
    struct sl_buf graph, tensor;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    onnx_put_operator(&graph, "Gather", (const char *const[]){"table", "x", NULL}, y_only, NULL);
    pb_str(&graph, 2, "gather");
    onnx_put_tensor_head(&tensor, "table", ORT_ABI_FLOAT, 1, (int64_t[]){3});
    pb_bytes(&tensor, 9, table, sizeof table);
    pb_message(&graph, 5, &tensor);
    onnx_put_value(&graph, 11, "x", ORT_ABI_INT64, 1, (int64_t[]){-1});
    onnx_put_value(&graph, 12, "y", ORT_ABI_FLOAT, 1, (int64_t[]){-1});
    return write_model(&graph);
}

static void submit_index(uint64_t id, int64_t index)
{
    const struct tensor x = {
        .name = "x", .type = TENSOR_INT64, .rank = 1, .shape = {1}, .data = &index, .n_bytes = 8};
    onnx_fixture_submit(&fixture, id, &x, 1);
}

static void check_gathered(void)
{
    for (uint64_t id = 0; id < 4; id++) {
        const struct onnx_answer *answer = &fixture.answers[id];
        if (id == 2) {
            assert_int_equal(answer->finish, ENGINE_FINISH_ERROR);
            assert_int_equal(answer->status, SL_INVALID);
            assert_non_null(strstr(answer->message, "the model fails on these inputs"));
            assert_int_equal(answer->n_tensor_events, 0);
        } else {
            assert_int_equal(answer->finish, ENGINE_FINISH_STOP);
            assert_float_equal(*(const float *)answer->tensors[0].data, 10 + (float)(id % 3), 0);
        }
    }
}

static void test_bad_request_fails_alone(void **state)
{
    static const char *const options[] = {NULL, "{\"instances\":2}"};
    (void)state;
    onnx_fixture_need_runtime();
    for (int i = 0; i < 2; i++) {
        onnx_fixture_open(&fixture, write_gather(), options[i]);
        submit_index(0, 0);
        submit_index(1, 1);
        submit_index(2, 99);
        submit_index(3, 0);
        onnx_fixture_drive(&fixture);
        check_gathered();
        submit_index(4, 2); /* and it goes on */
        onnx_fixture_drive(&fixture);
        assert_float_equal(*(const float *)fixture.answers[4].tensors[0].data, 12, 0);
        onnx_fixture_close(&fixture);
    }
}

static void test_full_queue(void **state)
{
    static const float data[3] = {1, 2, 3};
    const struct tensor x = floats("x", 1, 3, data);
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      "{\"queue_max\":2}");
    onnx_fixture_submit(&fixture, 0, &x, 1);
    onnx_fixture_submit(&fixture, 1, &x, 1);
    refused(&x, 1, NULL, SL_BUSY, "2 requests wait");
    onnx_fixture_drive(&fixture);
    onnx_fixture_submit(&fixture, 2, &x, 1);
    onnx_fixture_drive(&fixture);
    onnx_fixture_close(&fixture);
}

/* The first answer cancels the second request, of the same batch, and itself before its DONE. */
static void cancel_both(struct onnx_fixture *f, const struct engine_event *event)
{
    if (event->type != ENGINE_EVENT_TENSORS || event->id != 0) return;
    assert_int_equal(engine_cancel(f->engine, 1), SL_OK);
    assert_int_equal(engine_cancel(f->engine, 1), SL_NOT_FOUND);
    assert_int_equal(engine_cancel(f->engine, 0), SL_OK);
}

static void test_cancels(void **state)
{
    static const float data[3] = {1, 2, 3};
    const struct tensor x = floats("x", 1, 3, data);
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      NULL);
    for (uint64_t id = 0; id < 4; id++) onnx_fixture_submit(&fixture, id, &x, 1);
    assert_int_equal(engine_cancel(fixture.engine, 2), SL_OK); /* while it waits */
    assert_int_equal(fixture.answers[2].finish, ENGINE_FINISH_CANCELLED);
    fixture.hook = cancel_both;
    onnx_fixture_drive(&fixture);
    assert_int_equal(fixture.answers[0].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(fixture.answers[0].n_tensor_events, 1);
    assert_int_equal(fixture.answers[1].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(fixture.answers[1].n_tensor_events, 0);
    assert_int_equal(fixture.answers[3].finish, ENGINE_FINISH_STOP);
    for (int id = 0; id < 4; id++) assert_int_equal(fixture.answers[id].n_done_events, 1);
    onnx_fixture_close(&fixture);
}

/* Requests that run in threads: cancelled, and cut off by an unload. */
static void test_cancels_in_threads(void **state)
{
    static float data[3000];
    const struct tensor x = floats("x", 1000, 3, data);
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                      "{\"instances\":2,\"batch_max\":1}");
    for (uint64_t id = 0; id < 6; id++) onnx_fixture_submit(&fixture, id, &x, 1);
    assert_int_equal(engine_step(fixture.engine, &idle, &err), SL_OK);
    assert_int_equal(engine_cancel(fixture.engine, 0), SL_OK);
    assert_int_equal(fixture.answers[0].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(engine_step(fixture.engine, &idle, &err), SL_OK);
    engine_unload(fixture.engine);
    fixture.engine = NULL;
    for (int id = 0; id < 6; id++) assert_int_equal(fixture.answers[id].n_done_events, 1);
    assert_int_equal(fixture.answers[5].finish, ENGINE_FINISH_CANCELLED);
    onnx_fixture_close(&fixture);
}

/* Data that stay where they are. */
struct stay {
    struct engine_hold hold;
    int n_released;
};

static void count_release(struct engine_hold *hold)
{
    ((struct stay *)(void *)hold)->n_released++;
}

static sl_status submit_held(uint64_t id, struct stay *stay, const struct tensor *input)
{
    static const uint32_t held = 1;
    struct sl_err err = SL_ERR_INIT;
    const struct engine_infer req = {
        .id = id, .inputs = input, .n_inputs = 1, .hold = &stay->hold, .held = &held};
    stay->hold.release = count_release;
    return engine_submit_infer(fixture.engine, &req, &err);
}

/* They are read in place, and let go of once, however the request ends. */
static void test_data_that_stay_are_released_once(void **state)
{
    static const char *const options[] = {"{\"batch_max\":1}", "{\"instances\":2,\"batch_max\":1}",
                                          "{\"batch_max\":4}"};
    float data[6] = {-1, 2, -3, 4, -5, 6};
    const float *answer;
    bool idle;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        struct stay done[2] = {0}, refused_one = {0}, cancelled = {0}, unloaded = {0};
        const struct tensor x = floats("x", 2, 3, data), wrong = floats("z", 2, 3, data);
        onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL),
                          options[i]);
        data[1] = 2;
        assert_int_equal(submit_held(0, &done[0], &x), SL_OK);
        assert_int_equal(submit_held(1, &done[1], &x), SL_OK);
        data[1] = 7; /* nobody has copied it yet */
        fixture.n_live = 2;
        onnx_fixture_drive(&fixture);
        for (uint64_t id = 0; id < 2; id++) {
            answer = fixture.answers[id].tensors[0].data;
            assert_true(answer[0] == 0 && answer[1] == 7 && answer[5] == 6);
            assert_int_equal(done[id].n_released, 1);
        }
        assert_int_equal(submit_held(2, &refused_one, &wrong), SL_INVALID);
        assert_int_equal(refused_one.n_released, 0);
        assert_int_equal(submit_held(3, &cancelled, &x), SL_OK);
        assert_int_equal(engine_cancel(fixture.engine, 3), SL_OK);
        assert_int_equal(cancelled.n_released, 1);
        assert_int_equal(submit_held(4, &unloaded, &x), SL_OK);
        if (i == 1) assert_int_equal(engine_step(fixture.engine, &idle, &err), SL_OK);
        onnx_fixture_close(&fixture);
        assert_int_equal(unloaded.n_released, 1);
    }
}

static void try_bad(const char *path, const char *options, sl_status status, const char *says)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status given = onnx_fixture_try_open(&fixture, path, options, &err);
    if (given != status || !strstr(err.text, says))
        fail_msg("%s: %s", sl_status_name(given), err.text);
    onnx_fixture_close(&fixture);
}

static void test_refuses_models(void **state)
{
    struct sl_buf text;
    (void)state;
    onnx_fixture_need_runtime();
    try_bad("/nowhere/model.onnx", NULL, SL_NOT_FOUND, "/nowhere/model.onnx");
    sl_buf_init(&text, 100);
    assert_int_equal(sl_buf_adds(&text, "this is no model"), SL_OK);
    onnx_fixture_write(temp_path("text.onnx"), &text);
    sl_buf_done(&text);
    try_bad(temp_path("text.onnx"), NULL, SL_CORRUPT, "text.onnx");
    try_bad(write_unary("NoSuchOperator", ORT_ABI_FLOAT, 1, (int64_t[]){3}, NULL), NULL,
            SL_UNSUPPORTED, "NoSuchOperator");
    try_bad(write_unary("Relu", ORT_ABI_FLOAT, 1, (int64_t[]){3}, NULL), "{\"threads\":-1}",
            SL_INVALID, "option \"threads\"");
    try_bad(write_unary("Relu", ORT_ABI_FLOAT, 1, (int64_t[]){3}, NULL),
            "{\"providers\":[\"cann\"]}", SL_UNAVAILABLE, "none of the execution providers");
    try_bad(write_unary("Identity", 14, 1, (int64_t[]){3}, NULL), NULL, SL_UNSUPPORTED,
            "complex64");
}

/* A provider that is missing is passed by. */
static void test_falls_back(void **state)
{
    struct engine_info info;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_unary("Relu", ORT_ABI_FLOAT, 1, (int64_t[]){3}, NULL),
                      "{\"providers\":[\"cann\",\"cpu\"]}");
    engine_info(fixture.engine, &info);
    assert_string_equal(info.device, "cpu");
    onnx_fixture_close(&fixture);
}

static sl_status infer_once(const char *path, const char *options)
{
    static const float data[3] = {1, 2, 3};
    const struct tensor x = floats("x", 1, 3, data);
    const struct engine_infer req = {.id = 0, .inputs = &x, .n_inputs = 1};
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    sl_status status = onnx_fixture_try_open(&fixture, path, options, &err);
    if (status == SL_OK) status = engine_submit_infer(fixture.engine, &req, &err);
    for (int i = 0; i < 1000 && status == SL_OK && !fixture.answers[0].n_done_events; i++)
        status = engine_step(fixture.engine, &idle, &err);
    if (status == SL_OK && fixture.answers[0].n_done_events) status = fixture.answers[0].status;
    onnx_fixture_close(&fixture);
    return status;
}

/* No allocation of ours that fails is lost on the way, nor leaves something behind. */
static void test_no_memory(void **state)
{
    char path[TEMP_PATH_MAX * 2];
    uint64_t before;
    sl_status status = SL_NOMEM;
    (void)state;
    onnx_fixture_need_runtime();
    (void)snprintf(path, sizeof path, "%s",
                   write_unary("Relu", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 3}, NULL));
    assert_int_equal(infer_once(path, "{\"batch_max\":2}"), SL_OK);
    before = sl_mem_live();
    for (uint64_t n = 1; n < 2000; n++) {
        sl_mem_fail_at(n, false);
        status = infer_once(path, "{\"batch_max\":2}");
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(sl_mem_live(), before);
        if (!hit) break;
    }
    assert_int_equal(status, SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_refuses_requests),
        cmocka_unit_test(test_refuses_other_calls),
        cmocka_unit_test(test_optional_inputs_and_outputs),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_batches_with_delay_and_instances),
        cmocka_unit_test(test_delay_ends),
        cmocka_unit_test(test_batches_strings),
        cmocka_unit_test(test_knows_what_batches),
        cmocka_unit_test(test_bad_request_fails_alone),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_cancels),
        cmocka_unit_test(test_cancels_in_threads),
        cmocka_unit_test(test_data_that_stay_are_released_once),
        cmocka_unit_test(test_refuses_models),
        cmocka_unit_test(test_falls_back),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
