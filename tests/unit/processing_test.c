/* processing_test.c: the JSON object "processing": what it says, what is wrong with it, that it can
 * be written again, whether it fits a model, and what is proposed for one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/vision/processing.h"
#include "exec/vision/processing_fields.h"

#define SIZED "{\"input\":{\"width\":8,\"height\":4}"

static sl_status parse(const char *text, struct processing *out, struct sl_err *err)
{
    struct sl_json_value *value;
    assert_int_equal(sl_json_parse(text, strlen(text), &value, err), SL_OK);
    sl_status status = processing_parse(value, out, err);
    sl_json_free(value);
    return status;
}

static void must_parse(const char *text, struct processing *out)
{
    struct sl_err err = SL_ERR_INIT;
    if (parse(text, out, &err) != SL_OK) fail_msg("%s", err.text);
}

/* --- reading --- */

static void what_is_absent_has_a_default(void **state)
{
    (void)state;
    struct processing p;
    must_parse(SIZED "}", &p);
    assert_int_equal(p.prepare.width, 8);
    assert_int_equal(p.prepare.height, 4);
    assert_int_equal(p.prepare.resize, PREPARE_STRETCH);
    assert_int_equal(p.prepare.resample, RESAMPLE_BILINEAR);
    assert_int_equal(p.prepare.channels, PREPARE_RGB);
    assert_int_equal(p.prepare.layout, PREPARE_NCHW);
    assert_int_equal(p.prepare.type, TENSOR_FP32);
    assert_true(p.prepare.antialias && p.prepare.scale == 1);
    assert_true(p.prepare.mean[2] == 0 && p.prepare.std[2] == 1);
    assert_int_equal(p.output, PROCESSING_TENSORS);
    assert_null(p.input_tensor);
    assert_int_equal(p.n_labels, 0);
    processing_done(&p);
}

static void every_field_is_read(void **state)
{
    (void)state;
    struct processing p;
    must_parse("{\"input\":{\"kind\":\"image\",\"tensor\":\"images\",\"width\":640,\"height\":320,"
               "\"resize\":\"letterbox\",\"place\":\"top-left\",\"pad\":7,\"resample\":\"bicubic\","
               "\"antialias\":false,\"channels\":\"BGR\",\"layout\":\"NHWC\",\"type\":\"FP16\","
               "\"scale\":0.5,\"mean\":[1,2.5,3],\"std\":4,\"background\":[9,8,7]},"
               "\"output\":{\"kind\":\"detection\",\"tensor\":\"out\",\"decoder\":\"yolov5\","
               "\"strides\":[4,8],\"score_min\":0.25,\"iou_max\":0.6,\"boxes_max\":3},"
               "\"labels\":[\"a\",\"b\"]}",
               &p);
    assert_string_equal(p.input_tensor, "images");
    assert_int_equal(p.prepare.resize, PREPARE_LETTERBOX);
    assert_int_equal(p.prepare.place, PREPARE_TOP_LEFT);
    assert_int_equal(p.prepare.pad, 7);
    assert_int_equal(p.prepare.resample, RESAMPLE_BICUBIC);
    assert_false(p.prepare.antialias);
    assert_int_equal(p.prepare.channels, PREPARE_BGR);
    assert_int_equal(p.prepare.layout, PREPARE_NHWC);
    assert_int_equal(p.prepare.type, TENSOR_FP16);
    assert_true(p.prepare.scale == 0.5 && p.prepare.mean[1] == 2.5 && p.prepare.std[2] == 4);
    assert_int_equal(p.prepare.background[2], 7);
    assert_int_equal(p.output, PROCESSING_DETECTION);
    assert_string_equal(p.output_tensor, "out");
    assert_int_equal(p.detect.decoder, DETECT_YOLOV5);
    assert_int_equal(p.detect.n_strides, 2);
    assert_int_equal(p.detect.width, 640);
    assert_int_equal(p.detect.n_boxes_max, 3);
    assert_true(p.detect.score_min == 0.25f && p.detect.iou_max == 0.6f);
    assert_int_equal(p.n_labels, 2);
    assert_string_equal(p.labels[1], "b");
    processing_done(&p);
}

static void what_is_wrong_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"[]", "processing is array; it must be an object"},
        {"{}", "processing: input.width and input.height are needed"},
        {"{\"inputs\":{}}", "processing has no \"inputs\"; it has input, output and labels"},
        {"{\"input\":3}", "processing: input is integer; it must be an object"},
        {"{\"input\":{\"widht\":3}}",
         "processing: input has no field \"widht\"; did you mean \"width\"?"},
        {"{\"input\":{\"width\":\"3\"}}",
         "processing: input.width is string; it must be an integer"},
        {"{\"input\":{\"width\":3.5}}", "processing: input.width is number; it must be an integer"},
        {"{\"input\":{\"width\":2049}}", "processing: input.width is 2049; it must be 0 to 2048"},
        {"{\"input\":{\"resize\":\"squash\"}}",
         "processing: input.resize is \"squash\"; it may be stretch, crop, letterbox or keep"},
        {"{\"input\":{\"type\":\"INT8\"}}",
         "processing: input.type is \"INT8\"; it may be FP32, FP16 or UINT8"},
        {"{\"input\":{\"antialias\":1}}",
         "processing: input.antialias is integer; it must be true or false"},
        {"{\"input\":{\"mean\":[1,2]}}",
         "processing: input.mean has 2 numbers; it must have 3, one a channel"},
        {"{\"input\":{\"std\":[1,0,1]}}", "processing: input.std is 0; it must be 1e-06 to 1e+06"},
        {"{\"input\":{\"mean\":[1,2,\"3\"]}}",
         "processing: input.mean is string; it must be a number"},
        {"{\"input\":{\"background\":[1,2,256]}}",
         "processing: input.background is 256; it must be 0 to 255"},
        {"{\"input\":{\"tensor\":\"\"}}", "processing: input.tensor must have 1 to 1024 bytes"},
        {"{\"output\":{\"strides\":[]}}", "processing: output.strides must be an array of 1 to 8"},
        {"{\"labels\":{}}", "processing: labels is object; it must be an array"},
        {"{\"labels\":[\"a\",3]}", "processing: labels[1] must be a string of at most 1024 bytes"},
        {SIZED ",\"output\":{\"kind\":\"classification\",\"iou_max\":0.5}}",
         "processing: output.iou_max does not go with this output.kind"},
        {SIZED ",\"output\":{\"softmax\":true}}",
         "processing: output.softmax does not go with this output.kind"},
        {"{\"input\":{\"resize\":\"keep\",\"width\":3}}",
         "processing: input.resize \"keep\" leaves no room for a width or height"},
        {"{\"input\":{\"resize\":\"keep\"},\"output\":{\"kind\":\"detection\"}}",
         "processing: decoder \"yolox\" needs an input of fixed size"},
        {"{\"input\":{\"width\":3,\"height\":3,\"shorter\":5}}",
         "processing: input.shorter goes with input.resize \"crop\""},
    };
    uint64_t live = sl_mem_live();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sl_err err = SL_ERR_INIT;
        struct processing p;
        assert_int_equal(parse(rows[i].text, &p, &err), SL_INVALID);
        if (strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_int_equal(sl_mem_live(), live);
    }
}

static void labels_come_a_line_each(void **state)
{
    (void)state;
    static const char text[] = "cat\r\nsea\tlion\n\ndog\n\n";
    struct processing p;
    processing_init(&p);
    assert_int_equal(processing_set_labels(&p, text, sizeof text - 1, NULL), SL_OK);
    assert_int_equal(p.n_labels, 4);
    assert_string_equal(p.labels[0], "cat");
    assert_string_equal(p.labels[1], "sea?lion"); /* nothing that moves a cursor */
    assert_string_equal(p.labels[2], "");
    assert_string_equal(p.labels[3], "dog");
    assert_int_equal(processing_set_labels(&p, "", 0, NULL), SL_OK);
    assert_int_equal(p.n_labels, 0);
    char *many = sl_malloc(2 * (PROCESSING_LABELS_MAX + 1));
    for (size_t i = 0; i <= PROCESSING_LABELS_MAX; i++) memcpy(many + 2 * i, "a\n", 2);
    assert_int_equal(processing_set_labels(&p, many, 2 * (size_t)(PROCESSING_LABELS_MAX + 1), NULL),
                     SL_LIMIT);
    sl_free(many);
    processing_done(&p);
}

static void what_is_written_reads_the_same(void **state)
{
    (void)state;
    static const char *const texts[] = {
        SIZED "}",
        (SIZED ",\"output\":{\"kind\":\"classification\",\"softmax\":true,\"top_k\":3},"
               "\"labels\":[\"\\u00fc\"]}"),
        "{\"input\":{\"resize\":\"keep\",\"channels\":\"gray\",\"mean\":0.1307,\"std\":0.3081}}",
        ("{\"input\":{\"width\":9,\"height\":9,\"resize\":\"crop\",\"shorter\":11},"
         "\"output\":{\"kind\":\"detection\",\"decoder\":\"boxes\",\"score_min\":0.3}}"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_buf once, twice;
        struct sl_json json;
        struct processing p;
        sl_buf_init(&once, 10000);
        sl_buf_init(&twice, 10000);
        must_parse(texts[i], &p);
        sl_json_begin(&json, &once, false);
        processing_write(&p, &json);
        assert_int_equal(sl_json_end(&json), SL_OK);
        processing_done(&p);
        must_parse(once.data, &p);
        sl_json_begin(&json, &twice, false);
        processing_write(&p, &json);
        assert_int_equal(sl_json_end(&json), SL_OK);
        processing_done(&p);
        assert_string_equal(once.data, twice.data);
        sl_buf_done(&once);
        sl_buf_done(&twice);
    }
}

static void the_documentation_names_every_field(void **state)
{
    (void)state;
    static char text[65536];
    char row[64];
    FILE *f = fopen(STARLANE_ROOT "/docs/infer.md", "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < processing_n_fields; i++) {
        snprintf(row, sizeof row, "| `%s.%s` |", processing_fields[i].section,
                 processing_fields[i].name);
        if (!strstr(text, row)) fail_msg("docs/infer.md lacks %s", row);
        for (const struct processing_choice *c = processing_fields[i].choices; c && c->name; c++) {
            snprintf(row, sizeof row, "`%s`", c->name);
            if (!strstr(text, row)) fail_msg("docs/infer.md lacks %s", row);
        }
    }
}

static void the_examples_are_sound(void **state)
{
    (void)state;
    static const char *const names[] = {"resnet20-cifar10", "yolox-nano"};
    static const size_t n_labels[] = {10, 80};
    static char text[16384];
    for (size_t i = 0; i < 2; i++) {
        char path[1024];
        struct processing p;
        snprintf(path, sizeof path, STARLANE_ROOT "/examples/processing/%s.json", names[i]);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
        fclose(f);
        must_parse(text, &p);
        assert_int_equal(p.n_labels, n_labels[i]);
        processing_done(&p);
    }
}

/* --- against a model --- */

static struct tensor_spec spec_of(const char *name, enum tensor_type type, int32_t rank, ...)
{
    struct tensor_spec spec = {.name = name, .type = type, .rank = rank};
    va_list args;
    va_start(args, rank);
    for (int32_t i = 0; i < rank; i++) spec.shape[i] = va_arg(args, int);
    va_end(args);
    return spec;
}

static void check_fit(const char *text, const struct tensor_spec *input,
                      const struct tensor_spec *output, const char *error)
{
    const struct tensor_signature signature = {input, output, 1, 1};
    struct sl_err err = SL_ERR_INIT;
    struct processing p;
    must_parse(text, &p);
    sl_status status = processing_check(&p, &signature, &err);
    if (!error && status != SL_OK) fail_msg("%s: %s", text, err.text);
    if (error && !strstr(err.text, error)) fail_msg("%s: %s", text, err.text);
    processing_done(&p);
}

static void a_processing_is_held_against_its_model(void **state)
{
    (void)state;
    const struct tensor_spec nchw = spec_of("x", TENSOR_FP32, 4, 1, 3, 4, 8);
    const struct tensor_spec nhwc = spec_of("x", TENSOR_FP32, 4, -1, -1, -1, 3);
    const struct tensor_spec list = spec_of("x", TENSOR_FP32, 2, 1, 3);
    const struct tensor_spec bytes = spec_of("x", TENSOR_UINT8, 4, 1, 3, 4, 8);
    const struct tensor_spec scores = spec_of("y", TENSOR_FP32, 2, -1, 2);
    const struct tensor_spec words = spec_of("y", TENSOR_BYTES, 1, -1);
    const char *classes =
        SIZED ",\"output\":{\"kind\":\"classification\"},\"labels\":[\"a\",\"b\"]}";
    check_fit(SIZED "}", &nchw, &scores, NULL);
    check_fit(SIZED "}", &nhwc, &scores, "where the model's input \"x\" takes [-1,-1,-1,3]");
    check_fit(SIZED "}", &list, &scores, "takes [1,3]");
    check_fit(SIZED "}", &bytes, &scores,
              "input.type is FP32 where the model's input \"x\" takes "
              "UINT8");
    check_fit("{\"input\":{\"width\":4,\"height\":8}}", &nchw, &scores, "height 8, width 4");
    check_fit("{\"input\":{\"tensor\":\"z\",\"resize\":\"keep\"}}", &nhwc, &scores,
              "no input \"z\"");
    check_fit("{\"input\":{\"layout\":\"NHWC\",\"resize\":\"keep\"}}", &nhwc, &scores, NULL);
    check_fit(classes, &nchw, &scores, NULL);
    check_fit(classes, &nchw, &words, "of type BYTES");
    check_fit(SIZED ",\"output\":{\"kind\":\"classification\"},\"labels\":[\"a\"]}", &nchw, &scores,
              "1 labels where the model's output \"y\" tells 2 classes apart");
    check_fit(SIZED ",\"output\":{\"kind\":\"detection\"}}", &nchw, &scores, "three dimensions");
}

struct guessed {
    enum processing_output output;
    enum prepare_resize resize;
    enum detect_decoder decoder;
    enum prepare_channels channels;
    bool softmax;
};

static void check_guess(const struct tensor_spec *input, const struct tensor_spec *output,
                        const struct guessed *wanted)
{
    const struct tensor_signature signature = {input, output, 1, 1};
    struct sl_err err = SL_ERR_INIT;
    struct processing p;
    assert_int_equal(processing_guess(&signature, 0, &p, &err), SL_OK);
    assert_int_equal(p.output, wanted->output);
    assert_int_equal(p.prepare.resize, wanted->resize);
    assert_int_equal(p.prepare.channels, wanted->channels);
    assert_int_equal(p.softmax, wanted->softmax);
    if (p.output == PROCESSING_DETECTION) assert_int_equal(p.detect.decoder, wanted->decoder);
    if (processing_check(&p, &signature, &err) != SL_OK) fail_msg("%s", err.text);
    processing_done(&p);
}

static void what_is_likely_is_proposed(void **state)
{
    (void)state;
    const struct tensor_spec large = spec_of("x", TENSOR_FP32, 4, -1, 3, 224, 224);
    const struct tensor_spec small = spec_of("x", TENSOR_FP32, 4, 1, 3, 32, 32);
    const struct tensor_spec grey = spec_of("x", TENSOR_FP32, 4, 1, 28, 28, 1);
    const struct tensor_spec any = spec_of("x", TENSOR_UINT8, 4, -1, -1, -1, 3);
    const struct tensor_spec square = spec_of("images", TENSOR_FP32, 4, 1, 3, 64, 64);
    const struct tensor_spec scores = spec_of("y", TENSOR_FP32, 2, -1, 1000);
    const struct tensor_spec sure = spec_of("prob_1", TENSOR_FP32, 2, -1, 1000);
    const struct tensor_spec yolox = spec_of("y", TENSOR_FP32, 3, 1, 84, 85);
    const struct tensor_spec yolov5 = spec_of("y", TENSOR_FP32, 3, 1, 252, 85);
    const struct tensor_spec yolov8 = spec_of("y", TENSOR_FP32, 3, 1, 40, 84);
    const struct tensor_spec chosen = spec_of("y", TENSOR_FP32, 3, 1, 300, 6);
    const struct guessed crop = {PROCESSING_CLASSIFICATION, PREPARE_CROP, 0, PREPARE_RGB, true};
    const struct guessed crop_sure = {PROCESSING_CLASSIFICATION, PREPARE_CROP, 0, PREPARE_RGB,
                                      false};
    const struct guessed stretch = {PROCESSING_CLASSIFICATION, PREPARE_STRETCH, 0, PREPARE_RGB,
                                    true};
    const struct guessed digits = {PROCESSING_CLASSIFICATION, PREPARE_STRETCH, 0, PREPARE_GRAY,
                                   true};
    const struct guessed box_x = {PROCESSING_DETECTION, PREPARE_LETTERBOX, DETECT_YOLOX,
                                  PREPARE_BGR, false};
    struct guessed boxes = {PROCESSING_DETECTION, PREPARE_LETTERBOX, DETECT_YOLOV5, PREPARE_RGB,
                            false};
    check_guess(&large, &scores, &crop);
    check_guess(&large, &sure, &crop_sure);
    check_guess(&any, &scores, &crop);
    check_guess(&small, &scores, &stretch);
    check_guess(&grey, &scores, &digits);
    check_guess(&square, &yolox, &box_x);
    check_guess(&square, &yolov5, &boxes);
    boxes.decoder = DETECT_YOLOV8;
    check_guess(&square, &yolov8, &boxes);
    boxes.decoder = DETECT_BOXES;
    check_guess(&square, &chosen, &boxes);
}

static void nothing_is_proposed_for_what_is_no_image(void **state)
{
    (void)state;
    const struct tensor_spec text = spec_of("x", TENSOR_BYTES, 4, 1, 3, 8, 8);
    const struct tensor_spec list = spec_of("x", TENSOR_FP32, 2, 1, 2048);
    const struct tensor_spec many = spec_of("x", TENSOR_FP32, 4, 1, 64, 56, 56);
    const struct tensor_spec output = spec_of("y", TENSOR_FP32, 2, 1, 10);
    const struct tensor_spec *inputs[] = {&text, &list, &many};
    for (size_t i = 0; i < 3; i++) {
        const struct tensor_signature signature = {inputs[i], &output, 1, 1};
        struct processing p;
        assert_int_equal(processing_guess(&signature, 0, &p, NULL), SL_UNSUPPORTED);
    }
}

static void no_allocation_is_taken_for_granted(void **state)
{
    (void)state;
    static const char text[] =
        "{\"input\":{\"tensor\":\"t\",\"width\":3,\"height\":4},\"labels\":[\"a\",\"b\"]}";
    struct sl_json_value *value;
    assert_int_equal(sl_json_parse(text, sizeof text - 1, &value, NULL), SL_OK);
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct processing p;
        sl_mem_fail_at(nth, false);
        status = processing_parse(value, &p, NULL);
        sl_mem_fail_at(0, false);
        if (status == SL_OK)
            processing_done(&p);
        else
            assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    sl_json_free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_absent_has_a_default),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(labels_come_a_line_each),
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(the_documentation_names_every_field),
        cmocka_unit_test(the_examples_are_sound),
        cmocka_unit_test(a_processing_is_held_against_its_model),
        cmocka_unit_test(what_is_likely_is_proposed),
        cmocka_unit_test(nothing_is_proposed_for_what_is_no_image),
        cmocka_unit_test(no_allocation_is_taken_for_granted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
