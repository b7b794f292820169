#include "cli/infer_report.h"
#include "access/oip_data.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/table.h"
#include "exec/vision/classify.h"
#include "exec/vision/draw.h"
#include "exec/vision/half.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define VALUES_SHOWN 8 /* of a tensor in a table; --json and --output-dir have them all */
#define VALUES_TEXT_MAX 512
#define LABEL_TEXT_MAX 80 /* of a drawn label */
#define FRAME_PER_SIZE 2  /* pixels of a frame for each of the letters' size */

/* --- names --- */

/* The class's name, or its number in `number`. */
static const char *label_of(const struct processing *p, int32_t label, char number[16])
{
    if ((size_t)label < p->n_labels) return p->labels[label];
    (void)snprintf(number, 16, "%d", (int)label);
    return number;
}

static const struct tensor *find_output(const struct infer_report *r, struct sl_err *err)
{
    const struct tensor_spec *spec = processing_output_of(r->processing, r->signature);
    for (size_t i = 0; spec && i < r->n_outputs; i++) {
        if (strcmp(r->outputs[i].name, spec->name) == 0) return &r->outputs[i];
    }
    (void)sl_err_set(err, SL_UNAVAILABLE, "%.100s gave no output \"%.80s\"", r->model,
                     spec ? spec->name : "");
    return NULL;
}

static void begin_json(const struct infer_report *r, struct sl_json *json, struct sl_buf *out)
{
    sl_json_begin(json, out, true);
    sl_json_object(json);
    sl_json_kv_str(json, "model", r->model);
}

static sl_status end_json(struct sl_json *json, struct sl_buf *out)
{
    sl_json_object_end(json);
    sl_status status = sl_json_end(json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* Six digits are more than a model's score is worth; zero stays what it is. */
static double shown_score(float score)
{
    return isfinite(score) && fabsf(score) < 1e9f ? round((double)score * 1e6) / 1e6 : score;
}

/* --- classes --- */

static sl_status put_classes(const struct infer_report *r, const struct class_score *v, int32_t n,
                             struct sl_buf *out)
{
    struct sl_json json;
    char number[16];
    begin_json(r, &json, out);
    sl_json_key(&json, "classes");
    sl_json_array(&json);
    for (int32_t i = 0; i < n; i++) {
        sl_json_object(&json);
        sl_json_kv_str(&json, "label", label_of(r->processing, v[i].index, number));
        sl_json_kv_int(&json, "index", v[i].index);
        sl_json_kv_num(&json, "score", shown_score(v[i].score));
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    return end_json(&json, out);
}

static sl_status print_classes(const struct infer_report *r, const struct class_score *v, int32_t n,
                               struct sl_buf *out)
{
    struct table table;
    char number[16];
    table_init(&table, "lr");
    table_cell(&table, "CLASS");
    table_cell(&table, "SCORE");
    for (int32_t i = 0; i < n; i++) {
        table_cell(&table, "%s", label_of(r->processing, v[i].index, number));
        table_cell(&table, "%.4f", (double)v[i].score);
    }
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

static sl_status write_classes(const struct infer_report *r, float *scores, size_t n,
                               struct sl_buf *out, struct sl_err *err)
{
    int32_t k = r->top_k ? r->top_k : r->processing->top_k;
    struct class_score *top = sl_calloc((size_t)k, sizeof *top);
    if (!top) return sl_err_set(err, SL_NOMEM, "%d classes", (int)k);
    if (r->processing->softmax) classify_softmax(scores, n);
    int32_t n_top = classify_top(scores, n, k, top);
    while (n_top > 0 && r->score_min >= 0 && (double)top[n_top - 1].score < r->score_min) n_top--;
    sl_status status = (r->json ? put_classes : print_classes)(r, top, n_top, out);
    sl_free(top);
    return status;
}

/* --- boxes --- */

static void draw_boxes(const struct infer_report *r, const struct box *v, int32_t n,
                       struct image *image)
{
    int32_t size = draw_size_for(image);
    /* The best one last, on top of the others. */
    for (int32_t i = n - 1; i >= 0; i--) {
        char number[16], text[LABEL_TEXT_MAX];
        uint8_t colour[3];
        const struct draw_frame frame = {(int32_t)lrintf(v[i].left), (int32_t)lrintf(v[i].top),
                                         (int32_t)lrintf(v[i].right), (int32_t)lrintf(v[i].bottom),
                                         FRAME_PER_SIZE * size};
        (void)snprintf(text, sizeof text, "%.60s %.2f", label_of(r->processing, v[i].label, number),
                       (double)v[i].score);
        draw_class_colour(v[i].label, colour);
        draw_frame(image, &frame, colour);
        draw_label(image, frame.left, frame.top, size, text, colour);
    }
}

static sl_status put_boxes(const struct infer_report *r, const struct box *v, int32_t n,
                           struct sl_buf *out)
{
    struct sl_json json;
    char number[16];
    begin_json(r, &json, out);
    sl_json_kv_int(&json, "width", r->inputs->image.width);
    sl_json_kv_int(&json, "height", r->inputs->image.height);
    sl_json_key(&json, "boxes");
    sl_json_array(&json);
    for (int32_t i = 0; i < n; i++) {
        const float sides[] = {v[i].left, v[i].top, v[i].right, v[i].bottom};
        sl_json_object(&json);
        sl_json_kv_str(&json, "label", label_of(r->processing, v[i].label, number));
        sl_json_kv_int(&json, "index", v[i].label);
        sl_json_kv_num(&json, "score", shown_score(v[i].score));
        sl_json_key(&json, "box");
        sl_json_array(&json);
        for (int s = 0; s < 4; s++) sl_json_num(&json, round((double)sides[s] * 10) / 10);
        sl_json_array_end(&json);
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    return end_json(&json, out);
}

static sl_status print_boxes(const struct infer_report *r, const struct box *v, int32_t n,
                             struct sl_buf *out)
{
    static const char *const heads[] = {"CLASS", "SCORE", "LEFT", "TOP", "RIGHT", "BOTTOM"};
    struct table table;
    char number[16];
    table_init(&table, "lrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (int32_t i = 0; i < n; i++) {
        table_cell(&table, "%s", label_of(r->processing, v[i].label, number));
        table_cell(&table, "%.4f", (double)v[i].score);
        table_cell(&table, "%.0f", (double)v[i].left);
        table_cell(&table, "%.0f", (double)v[i].top);
        table_cell(&table, "%.0f", (double)v[i].right);
        table_cell(&table, "%.0f", (double)v[i].bottom);
    }
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

static sl_status write_boxes(const struct infer_report *r, const struct tensor *tensor,
                             const float *values, struct image *drawn, struct sl_buf *out,
                             struct sl_err *err)
{
    struct detect how = r->processing->detect;
    struct box *v;
    int32_t n;
    if (r->score_min >= 0) how.score_min = (float)r->score_min;
    if (r->top_k) how.n_boxes_max = r->top_k;
    if (how.n_boxes_max > DETECT_BOXES_MAX) how.n_boxes_max = DETECT_BOXES_MAX;
    sl_status status = detect_boxes(&how, values, tensor->shape, tensor->rank, &v, &n, err);
    if (status != SL_OK) return sl_err_prefix(err, "output \"%.80s\"", tensor->name);
    for (int32_t i = 0; i < n; i++) {
        prepare_to_image(&r->inputs->geometry, &v[i].left, &v[i].top);
        prepare_to_image(&r->inputs->geometry, &v[i].right, &v[i].bottom);
    }
    if (drawn) draw_boxes(r, v, n, drawn);
    status = (r->json ? put_boxes : print_boxes)(r, v, n, out);
    sl_free(v);
    return status;
}

/* --- tensors --- */

static void floats_text(const float *values, size_t n, char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < n && i < VALUES_SHOWN; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%.6g", i ? ", " : "", (double)values[i]);
    if (n > VALUES_SHOWN) (void)snprintf(text + used, size - used, ", ...");
}

/* The first of BYTES, as far as it is text. */
static void bytes_text(const struct tensor *tensor, char *text, size_t size)
{
    uint32_t n;
    if (tensor->n_bytes < sizeof n) return;
    memcpy(&n, tensor->data, sizeof n);
    const char *first = (const char *)tensor->data + sizeof n;
    bool more = tensor->n_bytes > sizeof n + n;
    if (!sl_utf8_valid(first, n))
        (void)snprintf(text, size, "(%u bytes)%s", (unsigned)n, more ? ", ..." : "");
    else
        (void)snprintf(text, size, "%.*s%s", n > 400 ? 400 : (int)n, first, more ? ", ..." : "");
    for (char *at = text; *at; at++) {
        if (iscntrl((unsigned char)*at)) *at = ' '; /* a table's cell is one line */
    }
}

static sl_status tensor_row(struct table *table, const struct tensor *tensor, struct sl_err *err)
{
    char shape[TENSOR_SHAPE_TEXT_MAX], text[VALUES_TEXT_MAX] = "";
    table_cell(table, "%s", tensor->name);
    table_cell(table, "%s", tensor_type_name(tensor->type));
    table_cell(table, "%s", tensor_shape_text(tensor->shape, tensor->rank, shape));
    if (tensor->type == TENSOR_BYTES) {
        bytes_text(tensor, text, sizeof text);
    } else {
        float *values;
        size_t n;
        sl_status status = vision_floats(tensor, &values, &n, err);
        if (status != SL_OK) return status;
        floats_text(values, n, text, sizeof text);
        sl_free(values);
    }
    table_cell(table, "%s", text);
    return SL_OK;
}

static sl_status print_tensors(const struct infer_report *r, struct sl_buf *out, struct sl_err *err)
{
    static const char *const heads[] = {"OUTPUT", "TYPE", "SHAPE", "VALUES"};
    struct table table;
    sl_status status = SL_OK;
    table_init(&table, "llll");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < r->n_outputs && status == SL_OK; i++)
        status = tensor_row(&table, &r->outputs[i], err);
    if (status == SL_OK) status = table_print(&table, out);
    table_done(&table);
    return status;
}

/* What JSON has no form for is told as FP32: its values are the same. */
static sl_status put_data(const struct tensor *tensor, struct sl_json *json, struct sl_err *err)
{
    struct tensor wide = *tensor;
    float *values = NULL;
    struct sl_buf list;
    size_t n;
    if (tensor->type == TENSOR_FP16 || tensor->type == TENSOR_BF16) {
        sl_status status = vision_floats(tensor, &values, &n, err);
        if (status != SL_OK) return status;
        wide.type = TENSOR_FP32;
        wide.data = values;
        wide.n_bytes = n * sizeof *values;
    }
    sl_buf_init(&list, 4 * TENSOR_BYTES_MAX);
    sl_status status = oip_data_write(&wide, &list, err);
    if (status == SL_OK) {
        sl_json_key(json, "data");
        sl_json_raw(json, list.data, list.len);
    }
    sl_buf_done(&list);
    sl_free(values);
    return status;
}

static sl_status put_tensors(const struct infer_report *r, struct sl_buf *out, struct sl_err *err)
{
    struct sl_json json;
    sl_status status = SL_OK;
    begin_json(r, &json, out);
    sl_json_key(&json, "outputs");
    sl_json_array(&json);
    for (size_t i = 0; i < r->n_outputs && status == SL_OK; i++) {
        const struct tensor *t = &r->outputs[i];
        sl_json_object(&json);
        sl_json_kv_str(&json, "name", t->name);
        sl_json_kv_str(&json, "datatype", tensor_type_name(t->type));
        sl_json_key(&json, "shape");
        sl_json_array(&json);
        for (int32_t d = 0; d < t->rank; d++) sl_json_int(&json, t->shape[d]);
        sl_json_array_end(&json);
        status = put_data(t, &json, err);
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    return status == SL_OK ? end_json(&json, out) : status;
}

sl_status infer_report_write(const struct infer_report *r, struct image *drawn, struct sl_buf *out,
                             struct sl_err *err)
{
    const struct tensor *tensor;
    float *values;
    size_t n;
    if (!r->processing || r->processing->output == PROCESSING_TENSORS)
        return (r->json ? put_tensors : print_tensors)(r, out, err);
    tensor = find_output(r, err);
    if (!tensor) return SL_UNAVAILABLE;
    sl_status status = vision_floats(tensor, &values, &n, err);
    if (status != SL_OK) return sl_err_prefix(err, "output \"%.80s\"", tensor->name);
    status = r->processing->output == PROCESSING_DETECTION
                 ? write_boxes(r, tensor, values, drawn, out, err)
                 : write_classes(r, values, n, out, err);
    sl_free(values);
    return status;
}
