#include "exec/vision/detect.h"
#include "base/mem.h"
#include "exec/tensor.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX (1 << 20) /* a 4K input has 80,000 cells */

/* The output as rows of candidates. */
struct rows {
    const float *values;
    size_t n, n_columns;           /* candidates, numbers of each */
    size_t row_step, column_step;  /* in values */
    size_t first_class, n_classes; /* columns */
};

struct candidates {
    struct box *v; /* [2 * DETECT_CANDIDATES_MAX]: when it is full, the better half stays */
    int32_t n;
};

/* --- shapes --- */

int64_t detect_yolox_rows(const struct detect *how)
{
    int64_t n = 0;
    for (int32_t i = 0; i < how->n_strides; i++)
        n += (int64_t)(how->width / how->strides[i]) * (how->height / how->strides[i]);
    return n;
}

static sl_status wrong_shape(const int64_t *shape, int32_t rank, const char *wanted,
                             struct sl_err *err)
{
    char text[TENSOR_SHAPE_TEXT_MAX];
    return sl_err_set(err, SL_INVALID, "the output's shape is %s; its decoder takes %s",
                      tensor_shape_text(shape, rank, text), wanted);
}

static sl_status read_shape(const struct detect *how, const float *values, const int64_t *shape,
                            int32_t rank, struct rows *out, struct sl_err *err)
{
    static const struct {
        const char *wanted;
        int64_t n_columns_min;
        size_t first_class;
    } forms[] = {[DETECT_YOLOX] = {"[1,N,5+C] (x, y, w, h, objectness, C scores)", 6, 5},
                 [DETECT_YOLOV5] = {"[1,N,5+C] (x, y, w, h, objectness, C scores)", 6, 5},
                 [DETECT_YOLOV8] = {"[1,4+C,N] (x, y, w, h, C scores)", 5, 4},
                 [DETECT_BOXES] = {"[1,N,6] (left, top, right, bottom, score, class)", 6, 6}};
    bool columns_first = how->decoder == DETECT_YOLOV8;
    const char *wanted = forms[how->decoder].wanted;
    if (rank != 3 || shape[0] != 1) return wrong_shape(shape, rank, wanted, err);
    int64_t n_rows = shape[columns_first ? 2 : 1], n_columns = shape[columns_first ? 1 : 2];
    bool exact = how->decoder == DETECT_BOXES && n_columns != 6;
    if (n_rows > ROWS_MAX || n_columns > ROWS_MAX || exact ||
        n_columns < forms[how->decoder].n_columns_min)
        return wrong_shape(shape, rank, wanted, err);
    out->values = values;
    out->n = (size_t)n_rows;
    out->n_columns = (size_t)n_columns;
    out->row_step = columns_first ? 1 : out->n_columns;
    out->column_step = columns_first ? out->n : 1;
    out->first_class = forms[how->decoder].first_class;
    out->n_classes = out->n_columns - out->first_class;
    return SL_OK;
}

/* --- candidates --- */

static float value_at(const struct rows *rows, size_t row, size_t column)
{
    return rows->values[row * rows->row_step + column * rows->column_step];
}

static int compare_scores(const void *a, const void *b)
{
    float x = ((const struct box *)a)->score, y = ((const struct box *)b)->score;
    return (x < y) - (x > y);
}

/* Best first, and no more than the maximum. */
static void sort_candidates(struct candidates *c)
{
    qsort(c->v, (size_t)c->n, sizeof *c->v, compare_scores);
    if (c->n > DETECT_CANDIDATES_MAX) c->n = DETECT_CANDIDATES_MAX;
}

static void add_candidate(struct candidates *c, const struct box *box)
{
    bool finite =
        isfinite(box->left) && isfinite(box->top) && isfinite(box->right) && isfinite(box->bottom);
    if (!finite || box->right <= box->left || box->bottom <= box->top) return;
    if (c->n == 2 * DETECT_CANDIDATES_MAX) sort_candidates(c);
    c->v[c->n++] = *box;
}

/* A row's best class, times its objectness where it has one. */
static void best_class(const struct rows *rows, size_t row, bool has_objectness, struct box *box)
{
    size_t best = 0;
    for (size_t c = 1; c < rows->n_classes; c++) {
        if (value_at(rows, row, rows->first_class + c) >
            value_at(rows, row, rows->first_class + best))
            best = c;
    }
    box->label = (int32_t)best;
    box->score = value_at(rows, row, rows->first_class + best);
    if (has_objectness) box->score *= value_at(rows, row, 4);
}

static void set_middle(struct box *box, float x, float y, float w, float h)
{
    box->left = x - w / 2;
    box->top = y - h / 2;
    box->right = x + w / 2;
    box->bottom = y + h / 2;
}

static void collect_pixels(const struct detect *how, const struct rows *rows,
                           struct candidates *out)
{
    for (size_t i = 0; i < rows->n; i++) {
        struct box box = {0};
        best_class(rows, i, how->decoder == DETECT_YOLOV5, &box);
        if (!(box.score >= how->score_min)) continue;
        set_middle(&box, value_at(rows, i, 0), value_at(rows, i, 1), value_at(rows, i, 2),
                   value_at(rows, i, 3));
        add_candidate(out, &box);
    }
}

static void collect_yolox(const struct detect *how, const struct rows *rows, struct candidates *out)
{
    size_t i = 0;
    for (int32_t s = 0; s < how->n_strides; s++) {
        float stride = (float)how->strides[s];
        int32_t w = how->width / how->strides[s], h = how->height / how->strides[s];
        for (int32_t cell = 0; cell < w * h; cell++, i++) {
            struct box box = {0};
            int32_t row = cell / w, column = cell % w;
            best_class(rows, i, true, &box);
            if (!(box.score >= how->score_min)) continue;
            set_middle(&box, (value_at(rows, i, 0) + (float)column) * stride,
                       (value_at(rows, i, 1) + (float)row) * stride,
                       expf(value_at(rows, i, 2)) * stride, expf(value_at(rows, i, 3)) * stride);
            add_candidate(out, &box);
        }
    }
}

static void collect_chosen(const struct detect *how, const struct rows *rows,
                           struct candidates *out)
{
    for (size_t i = 0; i < rows->n; i++) {
        float label = value_at(rows, i, 5);
        struct box box = {value_at(rows, i, 0), value_at(rows, i, 1), value_at(rows, i, 2),
                          value_at(rows, i, 3), value_at(rows, i, 4), 0};
        if (!(box.score >= how->score_min) || !(label >= 0 && label < ROWS_MAX)) continue;
        box.label = (int32_t)label;
        add_candidate(out, &box);
    }
}

/* --- suppression --- */

static float overlap(const struct box *a, const struct box *b)
{
    float w = fminf(a->right, b->right) - fmaxf(a->left, b->left);
    float h = fminf(a->bottom, b->bottom) - fmaxf(a->top, b->top);
    if (w <= 0 || h <= 0) return 0;
    float area_a = (a->right - a->left) * (a->bottom - a->top);
    float area_b = (b->right - b->left) * (b->bottom - b->top);
    return w * h / (area_a + area_b - w * h);
}

static bool is_covered(const struct box *box, const struct box *kept, int32_t n, float iou_max)
{
    for (int32_t i = 0; i < n; i++) {
        if (kept[i].label == box->label && overlap(&kept[i], box) > iou_max) return true;
    }
    return false;
}

/* Of boxes of one class that overlap, the best stays; in place. Returns how many stay. */
static int32_t suppress(const struct detect *how, struct candidates *c)
{
    int32_t n = 0;
    sort_candidates(c);
    for (int32_t i = 0; i < c->n && n < how->n_boxes_max; i++) {
        bool chosen = how->decoder == DETECT_BOXES;
        if (chosen || !is_covered(&c->v[i], c->v, n, how->iou_max)) c->v[n++] = c->v[i];
    }
    return n;
}

sl_status detect_boxes(const struct detect *how, const float *values, const int64_t *shape,
                       int32_t rank, struct box **out, int32_t *n_out, struct sl_err *err)
{
    struct rows rows = {0};
    struct candidates c = {0};
    sl_status status = read_shape(how, values, shape, rank, &rows, err);
    if (status != SL_OK) return status;
    if (how->decoder == DETECT_YOLOX && (int64_t)rows.n != detect_yolox_rows(how))
        return sl_err_set(err, SL_INVALID,
                          "the output has %zu rows; grids of the given strides on %d x %d have "
                          "%lld",
                          rows.n, (int)how->width, (int)how->height,
                          (long long)detect_yolox_rows(how));
    c.v = sl_calloc(2 * DETECT_CANDIDATES_MAX, sizeof *c.v);
    if (!c.v) return sl_err_set(err, SL_NOMEM, "boxes");
    if (how->decoder == DETECT_YOLOX)
        collect_yolox(how, &rows, &c);
    else if (how->decoder == DETECT_BOXES)
        collect_chosen(how, &rows, &c);
    else
        collect_pixels(how, &rows, &c);
    *n_out = suppress(how, &c);
    *out = c.v;
    return SL_OK;
}
