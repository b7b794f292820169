/* onnx_file_test.c: ONNX files read: honest ones, every model of the shared folder, files that lie,
 * lost memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "exec/onnx/onnx_file.h"
#include "support/onnx_write.h"
#include "support/temp_dir.h"

#define SHARED STARLANE_SHARED "/data/onnx"

static struct onnx_file *open_ok(const struct sl_buf *bytes)
{
    struct onnx_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (onnx_file_open_mem(bytes->data, bytes->len, &file, &err) != SL_OK) fail_msg("%s", err.text);
    return file;
}

/* Ends with the buffer. */
static void refused(struct sl_buf *bytes, sl_status status, const char *words)
{
    struct onnx_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    sl_status got = onnx_file_open_mem(bytes->data, bytes->len, &file, &err);
    if (got != status || !strstr(err.text, words))
        fail_msg("%s \"%s\", not %s with \"%s\"", sl_status_name(got), err.text,
                 sl_status_name(status), words);
    assert_null(file);
    sl_buf_done(bytes);
}

static bool is(struct onnx_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.s, text, s.len) == 0;
}

static void a_sound_model(void **state)
{
    (void)state;
    struct sl_buf bytes;
    uint64_t live = sl_mem_live();
    size_t n;
    sl_buf_init(&bytes, ONNX_WRITE_BYTES_MAX);
    onnx_put_sound(&bytes, 1, NULL);
    struct onnx_file *file = open_ok(&bytes);
    const struct onnx_info *info = onnx_file_info(file);
    assert_int_equal(info->ir_version, 8);
    assert_true(is(info->producer, "tester") && is(info->graph_name, "test graph"));
    assert_int_equal(info->n_nodes, 2);
    assert_int_equal(info->n_params, 6);
    assert_int_equal(info->main_type, ONNX_FLOAT);
    const struct onnx_value *x = onnx_file_inputs(file, &n);
    assert_int_equal(n, 1);
    assert_true(is(x->name, "x") && x->kind == ONNX_TENSOR && x->type == ONNX_FLOAT);
    assert_int_equal(x->rank, 2);
    assert_int_equal(x->dims[0].size, -1);
    assert_true(is(x->dims[0].symbol, "batch"));
    assert_int_equal(x->dims[1].size, 3);
    const struct onnx_tensor *w = onnx_file_tensors(file, &n);
    assert_int_equal(n, 1);
    assert_true(w->is_initializer && w->n_bytes == 24 && w->external == -1);
    float first;
    memcpy(&first, w->raw, sizeof first);
    assert_true(first == 1);
    const struct onnx_operator *operators = onnx_file_operators(file, &n);
    assert_int_equal(n, 2);
    assert_true(is(operators[1].name, "MatMul") && operators[1].domain.len == 0);
    const struct onnx_opset *opsets = onnx_file_opsets(file, &n);
    assert_true(n == 1 && opsets[0].version == 17);
    assert_int_equal(onnx_file_check_served(file, NULL), SL_OK);
    onnx_file_close(file);
    sl_buf_done(&bytes);
    assert_int_equal(sl_mem_live(), live);
}

/* A model around one initializer, whose fields after the name `fill` brings. */
static struct sl_buf with_tensor(int type, int rank, const int64_t *dims,
                                 void (*fill)(struct sl_buf *tensor))
{
    struct sl_buf tensor, graph, model;
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_tensor_head(&tensor, "w", type, rank, dims);
    if (fill) fill(&tensor);
    pb_message(&graph, 5, &tensor);
    onnx_put_model(&model, &graph);
    return model;
}

static void raw_4(struct sl_buf *t)
{
    pb_bytes(t, 9, "abcd", 4);
}

static void raw_and_floats(struct sl_buf *t)
{
    raw_4(t);
    pb_bytes(t, 4, "abcd", 4);
}

static void floats_4(struct sl_buf *t)
{
    pb_bytes(t, 4, "abcd", 4);
}

static void half_a_float(struct sl_buf *t)
{
    pb_bytes(t, 4, "ab", 2);
}

static void three_int32(struct sl_buf *t)
{
    pb_int(t, 5, -1);
    pb_bytes(t, 5, "\x01\x80\x01", 3);
}

static void open_varint(struct sl_buf *t)
{
    pb_bytes(t, 5, "\x01\x80", 2);
}

static void two_strings(struct sl_buf *t)
{
    pb_str(t, 6, "");
    pb_str(t, 6, "two");
}

static void segment(struct sl_buf *t)
{
    pb_bytes(t, 3, "", 0);
}

static void accepted(struct sl_buf bytes, uint64_t n_elements)
{
    size_t n;
    struct onnx_file *file = open_ok(&bytes);
    const struct onnx_tensor *t = onnx_file_tensors(file, &n);
    assert_int_equal(n, 1);
    assert_int_equal(t->n_elements, n_elements);
    onnx_file_close(file);
    sl_buf_done(&bytes);
}

static void values_of_every_kind(void **state)
{
    (void)state;
    accepted(with_tensor(ONNX_INT8, 1, (const int64_t[]){4}, raw_4), 4);
    accepted(with_tensor(ONNX_INT4, 1, (const int64_t[]){7}, raw_4), 7);
    accepted(with_tensor(ONNX_UINT2, 1, (const int64_t[]){16}, raw_4), 16);
    accepted(with_tensor(ONNX_FLOAT, 0, NULL, raw_4), 1);
    accepted(with_tensor(ONNX_FLOAT, 1, (const int64_t[]){1}, floats_4), 1);
    accepted(with_tensor(ONNX_INT32, 1, (const int64_t[]){3}, three_int32), 3);
    accepted(with_tensor(ONNX_FLOAT16, 1, (const int64_t[]){3}, three_int32), 3);
    accepted(with_tensor(ONNX_INT4, 1, (const int64_t[]){5}, three_int32), 5);
    accepted(with_tensor(ONNX_STRING, 1, (const int64_t[]){2}, two_strings), 2);
    accepted(with_tensor(ONNX_DOUBLE, 3, (const int64_t[]){INT64_MAX, 0, 9}, NULL), 0);
}

static void values_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        int type;
        int64_t dims[2];
        void (*fill)(struct sl_buf *tensor);
        sl_status status;
        const char *words;
    } cases[] = {
        {ONNX_FLOAT, {1, 2}, raw_4, SL_CORRUPT, "raw_data: 4 bytes, type and dims make 8"},
        {ONNX_FLOAT, {1, 1}, NULL, SL_CORRUPT, "float_data: 0 values, type and dims make 1"},
        {ONNX_FLOAT, {1, 1}, raw_and_floats, SL_CORRUPT, "only one can hold the values"},
        {ONNX_INT64, {1, 1}, floats_4, SL_CORRUPT, "float_data: not where values of type INT64"},
        {ONNX_FLOAT, {1, 1}, half_a_float, SL_CORRUPT, "a part of a number"},
        {ONNX_INT32, {1, 2}, three_int32, SL_CORRUPT, "int32_data: 3 values"},
        {ONNX_INT32, {1, 2}, open_varint, SL_CORRUPT, "int32_data: cut off"},
        {ONNX_STRING, {1, 1}, two_strings, SL_CORRUPT, "string_data: 2 values"},
        {ONNX_STRING, {1, 1}, raw_4, SL_CORRUPT, "raw_data: not for strings"},
        {ONNX_FLOAT, {1, 1}, segment, SL_UNSUPPORTED, "segment"},
        {ONNX_FLOAT, {-1, 1}, NULL, SL_CORRUPT, "dims: -1"},
        {ONNX_FLOAT, {INT64_MAX, 2}, NULL, SL_CORRUPT, "dims: more elements"},
        {ONNX_DOUBLE, {INT64_MAX / 8, 2}, NULL, SL_CORRUPT, "dims: more elements"},
        {0, {1, 1}, raw_4, SL_CORRUPT, "data_type: 0 is no type"},
        {ONNX_TYPE_COUNT, {1, 1}, raw_4, SL_CORRUPT, "is no type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_buf bytes = with_tensor(cases[i].type, 2, cases[i].dims, cases[i].fill);
        refused(&bytes, cases[i].status, cases[i].words);
    }
    const int64_t dims[17] = {0};
    struct sl_buf deep = with_tensor(ONNX_FLOAT, 17, dims, NULL);
    refused(&deep, SL_LIMIT, "initializer");
}

static struct sl_buf with_external(const char *location, const char *offset, const char *length)
{
    struct sl_buf tensor, graph, model;
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_tensor_head(&tensor, "w", ONNX_FLOAT, 1, (const int64_t[]){6});
    onnx_put_external(&tensor, location, offset, length);
    pb_message(&graph, 5, &tensor);
    onnx_put_model(&model, &graph);
    return model;
}

static void external_data_stays_below_the_folder(void **state)
{
    (void)state;
    static const char *const bad[] = {"../w", "/etc/passwd", "a/../../w", "a//w",
                                      "",     ".",           "a\\w",      "a/./w",
                                      "a\nw", "w/",          "\xff",      "*/_ORT_MEM_ADDR_/*"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sl_buf bytes = with_external(bad[i], NULL, NULL);
        refused(&bytes, SL_CORRUPT, "external_data: location");
    }
    static const char *const numbers[][2] = {{"-1", NULL}, {"0x10", NULL},
                                             {"", NULL},   {"99999999999999999999", NULL},
                                             {"0", "23"},  {"9223372036854775807", NULL},
                                             {"0", "1e3"}, {"18446744073709551600", NULL}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sl_buf bytes = with_external("w", numbers[i][0], numbers[i][1]);
        refused(&bytes, SL_CORRUPT, "initializer \"w\": external_data");
    }
    struct sl_buf none = with_external(NULL, "0", "24");
    refused(&none, SL_CORRUPT, "location: missing");
}

static void external_data_is_looked_for(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf bytes = with_external("./w.data", "8", "24");
    struct onnx_file *file = open_ok(&bytes);
    size_t n;
    const struct onnx_external *v = onnx_file_externals(file, &n);
    assert_int_equal(n, 1);
    assert_string_equal(v->path, "w.data");
    assert_int_equal(v->n_bytes, 32);
    char dir[TEMP_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", temp_path(""));
    assert_int_equal(onnx_file_check_external(file, dir, &err), SL_NOT_FOUND);
    FILE *data = fopen(temp_path("w.data"), "w");
    assert_int_equal(fwrite(dir, 1, 20, data), 20);
    assert_int_equal(fclose(data), 0);
    assert_int_equal(onnx_file_check_external(file, dir, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "\"w.data\": 20 bytes, the model needs 32"));
    assert_int_equal(truncate(temp_path("w.data"), 32), 0);
    assert_int_equal(onnx_file_check_external(file, dir, &err), SL_OK);
    onnx_file_close(file);
    sl_buf_done(&bytes);
}

/* A model of n graphs in one another. */
static struct sl_buf nested(int n)
{
    struct sl_buf graph, model;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_weights(&graph);
    for (int i = 1; i < n; i++) {
        struct sl_buf attribute, node, outer;
        sl_buf_init(&attribute, ONNX_WRITE_BYTES_MAX);
        sl_buf_init(&node, ONNX_WRITE_BYTES_MAX);
        sl_buf_init(&outer, ONNX_WRITE_BYTES_MAX);
        pb_str(&attribute, 1, "body");
        pb_message(&attribute, 6, &graph);
        pb_str(&node, 4, "Loop");
        pb_message(&node, 5, &attribute);
        pb_message(&outer, 1, &node);
        graph = outer;
    }
    onnx_put_model(&model, &graph);
    return model;
}

static void graphs_nest_so_deep(void **state)
{
    (void)state;
    struct sl_buf bytes = nested(ONNX_DEPTH_MAX + 1);
    struct onnx_file *file = open_ok(&bytes);
    assert_int_equal(onnx_file_info(file)->n_nodes, ONNX_DEPTH_MAX);
    assert_int_equal(onnx_file_info(file)->n_params, 6);
    onnx_file_close(file);
    sl_buf_done(&bytes);
    bytes = nested(ONNX_DEPTH_MAX + 2);
    refused(&bytes, SL_LIMIT, "nested deeper");
}

/* The sound graph with one more field. */
static void graph_refused(int field, struct sl_buf *message, sl_status status, const char *words)
{
    struct sl_buf graph, model;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_weights(&graph);
    onnx_put_value(&graph, 11, "x", ONNX_FLOAT, 1, (const int64_t[]){1});
    pb_message(&graph, field, message);
    onnx_put_model(&model, &graph);
    refused(&model, status, words);
}

static struct sl_buf value_message(const char *name, int type, int64_t dim)
{
    struct sl_buf graph, message;
    size_t skip;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&message, ONNX_WRITE_BYTES_MAX);
    onnx_put_value(&graph, 11, name, type, 1, &dim);
    skip = (unsigned char)graph.data[1] < 0x80 ? 2 : 3; /* tag and length */
    assert_int_equal(sl_buf_add(&message, graph.data + skip, graph.len - skip), SL_OK);
    sl_buf_done(&graph);
    return message;
}

static void inputs_that_lie_are_refused(void **state)
{
    (void)state;
    struct sl_buf message = value_message("x", ONNX_FLOAT, 1);
    graph_refused(11, &message, SL_CORRUPT, "graph: input: \"x\": twice");
    message = value_message("", ONNX_FLOAT, 1);
    graph_refused(11, &message, SL_CORRUPT, "name: missing");
    message = value_message("a\x1b[2J", ONNX_FLOAT, 1);
    graph_refused(11, &message, SL_CORRUPT, "name: not UTF-8, or control");
    message = value_message("z", 99, 1);
    graph_refused(12, &message, SL_CORRUPT, "output: \"z\": elem_type: 99 is no type");
    message = value_message("z", ONNX_FLOAT, -5);
    graph_refused(11, &message, SL_CORRUPT, "dim_value: -5");
    sl_buf_init(&message, 8);
    pb_int(&message, 2, 5);
    graph_refused(11, &message, SL_CORRUPT, "type: a number where bytes belong");
    sl_buf_init(&message, 8);
    graph_refused(1, &message, SL_CORRUPT, "op_type: missing");
}

static void weights_are_no_inputs(void **state)
{
    (void)state;
    struct sl_buf graph, model;
    size_t n;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_value(&graph, 11, "w", ONNX_FLOAT, 2, (const int64_t[]){2, 3});
    onnx_put_value(&graph, 11, "c", ONNX_COMPLEX64, 0, NULL);
    onnx_put_weights(&graph);
    onnx_put_model(&model, &graph);
    struct onnx_file *file = open_ok(&model);
    const struct onnx_value *v = onnx_file_inputs(file, &n);
    assert_true(n == 1 && is(v->name, "c") && v->rank == 0);
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(onnx_file_check_served(file, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "input \"c\": type COMPLEX64"));
    onnx_file_close(file);
    sl_buf_done(&model);
}

static void what_is_no_model_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"GGUF", "<html>", "no model at all", "\x08\x08", "\x0b"};
    struct onnx_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(onnx_file_open_mem(texts[i], strlen(texts[i]), &file, &err), SL_CORRUPT);
    assert_int_equal(onnx_file_open_mem("", 0, &file, &err), SL_CORRUPT);
    assert_int_equal(onnx_file_open(temp_path("none"), &file, &err), SL_NOT_FOUND);
    assert_int_equal(onnx_file_open("/tmp", &file, &err), SL_UNSUPPORTED);
    assert_int_equal(onnx_file_open("/dev/null", &file, &err), SL_UNSUPPORTED);
    assert_null(file);
}

/* No prefix of a model is one: whatever is cut off is missed. */
static void every_cut_is_noticed(void **state)
{
    (void)state;
    struct sl_buf bytes;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    sl_buf_init(&bytes, ONNX_WRITE_BYTES_MAX);
    onnx_put_sound(&bytes, 1, NULL);
    for (size_t n = 0; n < bytes.len; n++) {
        struct onnx_file *file = NULL;
        assert_int_not_equal(onnx_file_open_mem(bytes.data, n, &file, &err), SL_OK);
        assert_int_not_equal(strlen(err.text), 0);
    }
    sl_buf_done(&bytes);
    assert_int_equal(sl_mem_live(), live);
}

static void lost_memory_is_told(void **state)
{
    (void)state;
    struct sl_buf bytes;
    struct onnx_file *file = NULL;
    sl_buf_init(&bytes, ONNX_WRITE_BYTES_MAX);
    onnx_put_sound(&bytes, 1, "w.data");
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = onnx_file_open_mem(bytes.data, bytes.len, &file, NULL);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) {
            assert_int_equal(status, SL_NOMEM);
            assert_int_equal(sl_mem_live(), live);
        }
    }
    onnx_file_close(file);
    assert_int_equal(sl_mem_live(), live);
    sl_buf_done(&bytes);
}

static struct onnx_file *open_shared(const char *name)
{
    char path[512];
    struct onnx_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    snprintf(path, sizeof path, SHARED "/%s", name);
    if (access(path, R_OK) != 0) skip();
    if (onnx_file_open(path, &file, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(onnx_file_check_served(file, &err), SL_OK);
    return file;
}

static void real_models(void **state)
{
    (void)state;
    size_t n;
    struct onnx_file *file = open_shared("resnet20_cifar10.onnx");
    const struct onnx_value *v = onnx_file_inputs(file, &n);
    assert_true(n == 1 && v->type == ONNX_FLOAT && v->rank == 4 && v->dims[1].size == 3);
    assert_in_range(onnx_file_info(file)->n_params, 260000, 290000);
    onnx_file_close(file);
    file = open_shared("yolox-nano/yolox_nano.onnx");
    v = onnx_file_outputs(file, &n);
    assert_true(n == 1 && v->rank == 3 && v->dims[1].size == 3549 && v->dims[2].size == 85);
    assert_in_range(onnx_file_info(file)->n_params, 900000, 930000);
    onnx_file_close(file);
    file = open_shared("magika/model.onnx");
    v = onnx_file_inputs(file, &n);
    assert_true(n == 1 && v->type == ONNX_INT32 && v->dims[0].size == -1);
    onnx_file_close(file);
}

/* Each model of the archives: the light networks and the operators' tests. */
static void every_model_of_the_archives(void **state)
{
    (void)state;
    char line[2048], path[512];
    unsigned n = 0;
    if (access(SHARED "/onnx-light-models.tar.gz", R_OK) != 0) skip();
    snprintf(line, sizeof line,
             "cd %s && for f in " SHARED "/*.tar.gz; do tar xzf $f --wildcards '*.onnx'; done &&"
             "find $PWD -name '*.onnx'",
             temp_path(""));
    FILE *list = popen(line, "r");
    assert_non_null(list);
    for (; fgets(path, sizeof path, list); n++) {
        struct onnx_file *file = NULL;
        struct sl_err err = SL_ERR_INIT;
        path[strcspn(path, "\n")] = '\0';
        if (onnx_file_open(path, &file, &err) != SL_OK) fail_msg("%s", err.text);
        onnx_file_close(file);
    }
    pclose(list);
    assert_true(n > 900);
    snprintf(line, sizeof line, "rm -rf %s/*", temp_path(""));
    assert_int_equal(system(line), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_model),
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(values_that_do_not_fit_are_refused),
        cmocka_unit_test(external_data_stays_below_the_folder),
        cmocka_unit_test_setup_teardown(external_data_is_looked_for, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test(graphs_nest_so_deep),
        cmocka_unit_test(inputs_that_lie_are_refused),
        cmocka_unit_test(weights_are_no_inputs),
        cmocka_unit_test_setup_teardown(what_is_no_model_is_refused, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(lost_memory_is_told),
        cmocka_unit_test(real_models),
        cmocka_unit_test_setup_teardown(every_model_of_the_archives, temp_dir_setup,
                                        temp_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
