/* Trained models of the shared data through the engine: ONNX's light models against their expected
 * outputs, Magika against its reference answers, in batches and alone. */
#include "base/base64.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "exec/onnx/onnx_number.h"
#include "support/onnx_fixture.h"
#include "support/onnx_pb.h"
#include "support/temp_dir.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka needs what stands above */
#include <cmocka.h>

#define DATA STARLANE_SHARED "/data/onnx/"
#define PATH_SIZE 1024
#define ARENA_BYTES_MAX ((size_t)64 << 20)

static struct onnx_fixture fixture;

static void need_file(const char *path)
{
    onnx_fixture_need_runtime();
    if (access(path, R_OK)) skip();
}

/* One tensor of the first input's shape, dynamic dimensions `rows`, its elements f(i). */
static struct tensor make_input(struct sl_arena *arena, int64_t rows,
                                float (*f)(uint64_t i, uint64_t n))
{
    struct engine_info info;
    uint64_t n = 0;
    struct sl_err err = SL_ERR_INIT;
    engine_info(fixture.engine, &info);
    const struct tensor_spec *spec = &info.signature.inputs[0];
    struct tensor x = {.name = spec->name, .type = TENSOR_FP32, .rank = spec->rank};
    assert_int_equal(spec->type, TENSOR_FP32);
    for (int32_t i = 0; i < x.rank; i++) x.shape[i] = spec->shape[i] < 0 ? rows : spec->shape[i];
    assert_int_equal(tensor_count(x.shape, x.rank, &n, &err), SL_OK);
    float *data = sl_arena_array(arena, n, sizeof *data);
    for (uint64_t i = 0; i < n; i++) data[i] = f(i, n);
    x.data = data;
    x.n_bytes = n * sizeof *data;
    return x;
}

/* What ONNX's own test runner feeds them. */
static float ramp(uint64_t i, uint64_t n)
{
    return (float)((double)i / (double)n);
}

static void check_light(const char *name)
{
    char path[PATH_SIZE];
    struct sl_arena arena;
    struct tensor wanted;
    sl_arena_init(&arena, ARENA_BYTES_MAX);
    (void)snprintf(path, sizeof path, "%s/light/%s_output_0.pb", temp_path("data"), name);
    assert_true(onnx_pb_read(path, &arena, &wanted));
    (void)snprintf(path, sizeof path, "%s/light/%s.onnx", temp_path("data"), name);
    onnx_fixture_open(&fixture, path, NULL);
    const struct tensor x = make_input(&arena, 1, ramp);
    onnx_fixture_submit(&fixture, 0, &x, 1);
    onnx_fixture_drive(&fixture);
    const struct tensor *y = fixture.answers[0].tensors;
    assert_int_equal(fixture.answers[0].n_tensors, 1);
    assert_int_equal(y->n_bytes, wanted.n_bytes);
    for (uint64_t i = 0; i < wanted.n_bytes / sizeof(float); i++) {
        double a = onnx_number_get(y, i), b = onnx_number_get(&wanted, i);
        if (!(fabs(a - b) <= 1e-5 + 1e-3 * fabs(b)))
            fail_msg("%s: [%d] %g, not %g", name, (int)i, a, b);
    }
    onnx_fixture_close(&fixture);
    sl_arena_done(&arena);
}

static void test_light_models(void **state)
{
    static const char *const names[] = {
        "light_bvlc_alexnet", "light_densenet121", "light_inception_v1",
        "light_inception_v2", "light_resnet50",    "light_shufflenet",
        "light_squeezenet",   "light_vgg19",       "light_zfnet512"};
    char command[4 * PATH_SIZE], folder[PATH_SIZE];
    (void)state;
    need_file(DATA "onnx-light-models.tar.gz");
    (void)snprintf(folder, sizeof folder, "%s", temp_path("data"));
    (void)snprintf(command, sizeof command, "mkdir '%s' && tar -xzf '%s' -C '%s'", folder,
                   DATA "onnx-light-models.tar.gz", folder);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_light(names[i]);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static float noise(uint64_t i, uint64_t n)
{
    uint64_t x = (i + n + 1) * 0x9e3779b97f4a7c15u;
    return (float)((x ^ x >> 31) >> 40 & 0xffff) / 65536.0f - 0.5f;
}

#define REQUESTS 8

/* Its batch is fixed to one row: requests run one by one, and one image has one answer. */
static void test_resnet20(void **state)
{
    struct sl_arena arena;
    struct engine_stats stats;
    (void)state;
    need_file(DATA "resnet20_cifar10.onnx");
    sl_arena_init(&arena, ARENA_BYTES_MAX);
    onnx_fixture_open(&fixture, DATA "resnet20_cifar10.onnx", "{\"instances\":2}");
    const struct tensor x = make_input(&arena, 1, noise);
    for (uint64_t i = 0; i < REQUESTS; i++) onnx_fixture_submit(&fixture, i, &x, 1);
    onnx_fixture_drive(&fixture);
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_runs, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) {
        const struct tensor *y = fixture.answers[i].tensors;
        assert_int_equal(y->n_bytes, 10 * sizeof(float));
        assert_memory_equal(y->data, fixture.answers[0].tensors[0].data, y->n_bytes);
    }
    onnx_fixture_close(&fixture);
    sl_arena_done(&arena);
}

static void test_yolox_runs(void **state)
{
    struct sl_arena arena;
    (void)state;
    need_file(DATA "yolox-nano/yolox_nano.onnx");
    sl_arena_init(&arena, ARENA_BYTES_MAX);
    onnx_fixture_open(&fixture, DATA "yolox-nano/yolox_nano.onnx", NULL);
    const struct tensor x = make_input(&arena, 1, ramp);
    onnx_fixture_submit(&fixture, 0, &x, 1);
    onnx_fixture_drive(&fixture);
    const struct tensor *y = fixture.answers[0].tensors;
    assert_int_equal(fixture.answers[0].finish, ENGINE_FINISH_STOP);
    assert_int_equal(y->shape[y->rank - 1], 85); /* box, objectness, 80 classes */
    for (uint64_t i = 0; i < y->n_bytes / sizeof(float); i++)
        assert_true(isfinite(onnx_number_get(y, i)));
    onnx_fixture_close(&fixture);
    sl_arena_done(&arena);
}

/* Magika: the first and last 1,024 bytes of what is left without white space at both ends. */
#define PART 1024
#define BLOCK 4096
#define PADDING 256
#define SMALLEST 8

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void make_features(const unsigned char *content, size_t n, int32_t out[2 * PART])
{
    size_t n_head = n < BLOCK ? n : BLOCK, from = 0;
    const unsigned char *tail = content + (n - n_head);
    size_t n_tail = n_head;
    for (int i = 0; i < 2 * PART; i++) out[i] = PADDING;
    while (from < n_head && is_space(content[from])) from++;
    for (size_t i = 0; i < PART && from + i < n_head; i++) out[i] = content[from + i];
    while (n_tail > 0 && is_space(tail[n_tail - 1])) n_tail--;
    for (size_t i = 0; i < PART && i < n_tail; i++) out[2 * PART - 1 - i] = tail[n_tail - 1 - i];
}

static struct sl_json_value *read_json(const char *path)
{
    struct sl_json_value *root = NULL;
    struct sl_err err = SL_ERR_INIT;
    FILE *file = fopen(path, "rb");
    static char text[4 << 20];
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text, file);
    assert_int_equal(fclose(file), 0);
    if (sl_json_parse(text, n, &root, &err) != SL_OK) fail_msg("%s", err.text);
    return root;
}

static bool submit_content(uint64_t id, const struct sl_json_value *entry)
{
    static int32_t features[2 * PART];
    struct sl_buf content;
    size_t n = 0;
    const char *text = sl_json_to_str(sl_json_get(entry, "content_base64"), "", &n);
    sl_buf_init(&content, 1 << 16);
    assert_int_equal(sl_base64_decode(&content, SL_BASE64_STANDARD, text, n), SL_OK);
    make_features((const unsigned char *)content.data, content.len, features);
    sl_buf_done(&content);
    if (features[SMALLEST - 1] == PADDING) return false; /* too little for the model */
    const struct tensor x = {.name = "bytes",
                             .type = TENSOR_INT32,
                             .rank = 2,
                             .shape = {1, 2 * PART},
                             .data = features,
                             .n_bytes = sizeof features};
    onnx_fixture_submit(&fixture, id, &x, 1);
    return true;
}

static void check_prediction(uint64_t id, const struct sl_json_value *entry,
                             const struct sl_json_value *labels, double tolerance)
{
    const struct sl_json_value *prediction = sl_json_get(entry, "prediction");
    const struct tensor *y = fixture.answers[id].tensors;
    uint64_t best = 0;
    assert_int_equal(fixture.answers[id].finish, ENGINE_FINISH_STOP);
    assert_int_equal(y->n_bytes / sizeof(float), sl_json_size(labels));
    for (uint64_t i = 0; i < sl_json_size(labels); i++)
        if (onnx_number_get(y, i) > onnx_number_get(y, best)) best = i;
    assert_string_equal(sl_json_to_str(sl_json_at(labels, best), "", NULL),
                        sl_json_to_str(sl_json_get(prediction, "dl"), "", NULL));
    assert_float_equal(onnx_number_get(y, best),
                       sl_json_to_num(sl_json_get(prediction, "score"), -1), tolerance);
}

static void check_magika(const char *options, double tolerance, uint64_t n_runs_max)
{
    struct engine_stats stats;
    char command[4 * PATH_SIZE], path[PATH_SIZE];
    bool submitted[ONNX_ANSWERS_MAX] = {false};
    size_t n_checked = 0;
    need_file(DATA "magika/model.onnx");
    (void)snprintf(path, sizeof path, "%s", temp_path("reference.json"));
    (void)snprintf(command, sizeof command, "gzip -dc '%s' > '%s'",
                   DATA "magika/reference_by_content.json.gz", path);
    assert_int_equal(system(command), 0);
    struct sl_json_value *reference = read_json(path);
    struct sl_json_value *config = read_json(DATA "magika/config.min.json");
    onnx_fixture_open(&fixture, DATA "magika/model.onnx", options);
    size_t n = sl_json_size(reference);
    assert_true(n > 0 && n <= ONNX_ANSWERS_MAX);
    for (size_t i = 0; i < n; i++) submitted[i] = submit_content(i, sl_json_at(reference, i));
    onnx_fixture_drive(&fixture);
    for (size_t i = 0; i < n; i++) {
        if (!submitted[i]) continue;
        check_prediction(i, sl_json_at(reference, i), sl_json_get(config, "target_labels_space"),
                         tolerance);
        n_checked++;
    }
    assert_true(n_checked > 100);
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_rows, n_checked);
    assert_true(stats.n_runs <= n_runs_max);
    onnx_fixture_close(&fixture);
    sl_json_free(reference);
    sl_json_free(config);
}

/* 141 contents. In batches its scores move a little, which a load finds out: it batches only when
 * it is told to. */
static void test_magika(void **state)
{
    (void)state;
    check_magika(NULL, 1e-5, 141);
    check_magika("{\"batch_max\":32}", 1e-2, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_light_models),
        cmocka_unit_test(test_resnet20),
        cmocka_unit_test(test_yolox_runs),
        cmocka_unit_test(test_magika),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
