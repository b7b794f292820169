#include "exec/vision/prepare.h"
#include "base/mem.h"
#include "exec/vision/half.h"
#include <math.h>
#include <string.h>

/* A product like 451 * (416 / 451.0) may end a hair below the whole number that it is. */
#define HAIR 1e-6

/* Target pixels [begin, end) of an axis show the image. */
struct span {
    int32_t begin, end;
};

struct plan {
    const struct prepare *how;
    const struct image *image;
    struct axis x, y;
    struct span span_x, span_y;
    struct axis_weights weights_x, weights_y;
    float *column_sums; /* [image width][3]: a target row before its columns are resampled */
    uint8_t *row;       /* [target width][3] RGB */
    float lut[3][256];  /* what a level of a channel becomes */
    uint8_t *data;      /* the tensor's */
};

/* --- geometry --- */

static int32_t scaled(int32_t n, double scale)
{
    double v = floor(n * scale + HAIR);
    return v < 1 ? 1 : (int32_t)v;
}

static void plan_stretch(struct plan *plan)
{
    plan->x.scale = (double)plan->x.n_target / plan->x.n_source;
    plan->y.scale = (double)plan->y.n_target / plan->y.n_source;
}

static void crop_axis(struct axis *axis, double scale)
{
    int32_t n = scaled(axis->n_source, scale);
    if (n < axis->n_target) n = axis->n_target;
    axis->scale = (double)n / axis->n_source;
    axis->offset = -floor((n - axis->n_target) / 2.0 + 0.5);
}

static void plan_crop(struct plan *plan)
{
    struct axis *x = &plan->x, *y = &plan->y;
    double cover = fmax((double)x->n_target / x->n_source, (double)y->n_target / y->n_source);
    int32_t side = x->n_target < y->n_target ? x->n_target : y->n_target;
    if (plan->how->shorter > side) cover *= (double)plan->how->shorter / side;
    crop_axis(x, cover);
    crop_axis(y, cover);
}

static void letterbox_axis(struct axis *axis, struct span *span, double scale, bool centered)
{
    int32_t n = scaled(axis->n_source, scale);
    if (n > axis->n_target) n = axis->n_target;
    span->begin = centered ? (axis->n_target - n) / 2 : 0;
    span->end = span->begin + n;
    axis->scale = scale;
    axis->offset = span->begin;
}

static void plan_letterbox(struct plan *plan)
{
    struct axis *x = &plan->x, *y = &plan->y;
    double fit = fmin((double)x->n_target / x->n_source, (double)y->n_target / y->n_source);
    bool centered = plan->how->place == PREPARE_CENTER;
    letterbox_axis(x, &plan->span_x, fit, centered);
    letterbox_axis(y, &plan->span_y, fit, centered);
}

static void plan_geometry(struct plan *plan)
{
    const struct prepare *how = plan->how;
    bool keeps = how->resize == PREPARE_KEEP;
    struct axis axis = {.scale = 1, .resample = how->resample, .antialias = how->antialias};
    plan->x = plan->y = axis;
    plan->x.n_source = plan->image->width;
    plan->y.n_source = plan->image->height;
    plan->x.n_target = keeps ? plan->x.n_source : how->width;
    plan->y.n_target = keeps ? plan->y.n_source : how->height;
    plan->span_x = (struct span){0, plan->x.n_target};
    plan->span_y = (struct span){0, plan->y.n_target};
    if (how->resize == PREPARE_STRETCH) plan_stretch(plan);
    if (how->resize == PREPARE_CROP) plan_crop(plan);
    if (how->resize == PREPARE_LETTERBOX) plan_letterbox(plan);
}

void prepare_to_image(const struct prepare_geometry *g, float *x, float *y)
{
    double image_x = (*x - g->offset_x) / g->scale_x, image_y = (*y - g->offset_y) / g->scale_y;
    *x = (float)fmin(fmax(image_x, 0), g->image_width);
    *y = (float)fmin(fmax(image_y, 0), g->image_height);
}

/* --- pixels --- */

/* Row y of the target, still as wide as the image. */
static void sum_rows(struct plan *plan, int32_t y)
{
    size_t n = (size_t)plan->image->width * 3;
    const struct axis_weights *w = &plan->weights_y;
    const float *weights = w->weights + (size_t)y * w->n_taps;
    float *sums = plan->column_sums;
    memset(sums, 0, n * sizeof *sums);
    for (int32_t t = 0; t < w->n_taps; t++) {
        const uint8_t *from = plan->image->pixels + (size_t)(w->first[y] + t) * n;
        float weight = weights[t];
        if (weight == 0) continue;
        for (size_t i = 0; i < n; i++) sums[i] += weight * from[i];
    }
}

static uint8_t level(float v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)lrintf(v);
}

static void sum_columns(struct plan *plan)
{
    const struct axis_weights *w = &plan->weights_x;
    for (int32_t x = plan->span_x.begin; x < plan->span_x.end; x++) {
        const float *from = plan->column_sums + (size_t)w->first[x] * 3;
        const float *weights = w->weights + (size_t)x * w->n_taps;
        float sum[3] = {0};
        for (int32_t t = 0; t < w->n_taps; t++, from += 3) {
            for (int c = 0; c < 3; c++) sum[c] += weights[t] * from[c];
        }
        for (int c = 0; c < 3; c++) plan->row[3 * x + c] = level(sum[c]);
    }
}

static void fill_row(struct plan *plan, int32_t y)
{
    if (plan->how->resize == PREPARE_LETTERBOX)
        memset(plan->row, plan->how->pad, (size_t)plan->x.n_target * 3);
    if (y < plan->span_y.begin || y >= plan->span_y.end) return;
    sum_rows(plan, y);
    sum_columns(plan);
}

/* --- values --- */

static void fill_lut(struct plan *plan)
{
    const struct prepare *how = plan->how;
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++)
            plan->lut[c][v] = (float)((v * how->scale - how->mean[c]) / how->std[c]);
    }
}

static void put_value(struct plan *plan, size_t at, float value)
{
    uint16_t half;
    switch (plan->how->type) {
    case TENSOR_UINT8: plan->data[at] = level(value); return;
    case TENSOR_FP16:
        half = half_from_float(value);
        memcpy(plan->data + 2 * at, &half, sizeof half);
        return;
    default: memcpy(plan->data + 4 * at, &value, sizeof value);
    }
}

/* Luma of ITU-R BT.601, which PIL and OpenCV use. */
static uint8_t gray_of(const uint8_t *rgb)
{
    return (uint8_t)((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
}

static void put_row(struct plan *plan, int32_t y)
{
    const struct prepare *how = plan->how;
    size_t w = (size_t)plan->x.n_target, h = (size_t)plan->y.n_target;
    size_t n_channels = how->channels == PREPARE_GRAY ? 1 : 3;
    for (size_t x = 0; x < w; x++) {
        const uint8_t *rgb = plan->row + 3 * x;
        for (size_t c = 0; c < n_channels; c++) {
            uint8_t v = how->channels == PREPARE_GRAY  ? gray_of(rgb)
                        : how->channels == PREPARE_RGB ? rgb[c]
                                                       : rgb[2 - c];
            size_t at = how->layout == PREPARE_NCHW ? (c * h + (size_t)y) * w + x
                                                    : ((size_t)y * w + x) * n_channels + c;
            put_value(plan, at, plan->lut[c][v]);
        }
    }
}

/* --- all of it --- */

static void set_shape(const struct plan *plan, struct tensor *tensor)
{
    int64_t w = plan->x.n_target, h = plan->y.n_target;
    int64_t n = plan->how->channels == PREPARE_GRAY ? 1 : 3;
    bool planes = plan->how->layout == PREPARE_NCHW;
    const int64_t shape[4] = {1, planes ? n : h, planes ? h : w, planes ? w : n};
    tensor->type = plan->how->type;
    tensor->rank = 4;
    memcpy(tensor->shape, shape, sizeof shape);
    tensor->n_bytes = (size_t)(n * w * h) * tensor_type_size(tensor->type);
}

static sl_status allocate(struct plan *plan, size_t n_bytes, struct sl_err *err)
{
    sl_status status = axis_weights_init(&plan->x, &plan->weights_x);
    if (status == SL_OK) status = axis_weights_init(&plan->y, &plan->weights_y);
    plan->column_sums = sl_calloc((size_t)plan->image->width * 3, sizeof *plan->column_sums);
    plan->row = sl_calloc((size_t)plan->x.n_target, 3);
    plan->data = sl_malloc(n_bytes);
    if (status == SL_OK && plan->column_sums && plan->row && plan->data) return SL_OK;
    return sl_err_set(err, SL_NOMEM, "a tensor of %zu bytes", n_bytes);
}

static void plan_done(struct plan *plan)
{
    axis_weights_done(&plan->weights_x);
    axis_weights_done(&plan->weights_y);
    sl_free(plan->column_sums);
    sl_free(plan->row);
    sl_free(plan->data);
}

sl_status prepare_image(const struct prepare *how, const struct image *image, struct prepared *out,
                        struct sl_err *err)
{
    struct plan plan = {.how = how, .image = image};
    struct tensor tensor = {0};
    plan_geometry(&plan);
    set_shape(&plan, &tensor);
    if (tensor.n_bytes > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "an image of %d x %d makes a tensor of %zu bytes; %u fit",
                          (int)image->width, (int)image->height, tensor.n_bytes, TENSOR_BYTES_MAX);
    sl_status status = allocate(&plan, tensor.n_bytes, err);
    if (status == SL_OK) {
        fill_lut(&plan);
        for (int32_t y = 0; y < plan.y.n_target; y++) {
            fill_row(&plan, y);
            put_row(&plan, y);
        }
        tensor.data = plan.data;
        plan.data = NULL;
        *out = (struct prepared){tensor,
                                 {plan.x.scale, plan.y.scale, plan.x.offset, plan.y.offset,
                                  image->width, image->height}};
    }
    plan_done(&plan);
    return status;
}

void prepared_done(struct prepared *prepared)
{
    sl_free((void *)prepared->tensor.data);
    *prepared = (struct prepared){0};
}
