/* detect.h: the output of an object detector becomes boxes.
 * Floor: exec/vision.  Thread: any.  Allocates: the boxes.
 * Invariant: what comes out is sorted, highest score first, and no two boxes of one class overlap
 * by more than the limit. */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

#define DETECT_STRIDES_MAX 8
#define DETECT_CANDIDATES_MAX 4096 /* their pairs are compared; more at a score of use is noise */
#define DETECT_BOXES_MAX 1000      /* of an answer; COCO's evaluation takes 100 */

enum detect_decoder {
    /* [1, N, 5 + C]: x, y, w, h, objectness, a score each class. A row belongs to one cell of a
     * grid for each stride, and its numbers are relative to it: x = (x + column) * stride,
     * w = exp(w) * stride (YOLOX, Ge et al. 2021) */
    DETECT_YOLOX,
    DETECT_YOLOV5, /* the same numbers in pixels of the input already */
    DETECT_YOLOV8, /* [1, 4 + C, N]: x, y, w, h in pixels of the input, a score each class */
    DETECT_BOXES   /* [1, N, 6]: left, top, right, bottom, score, class: chosen by the model */
};

struct detect {
    enum detect_decoder decoder;
    int32_t width, height;                          /* of the model's input */
    int32_t strides[DETECT_STRIDES_MAX], n_strides; /* YOLOX */
    float score_min, iou_max;
    int32_t n_boxes_max; /* at most DETECT_BOXES_MAX */
};

struct box {
    float left, top, right, bottom; /* pixels of the model's input */
    float score;
    int32_t label;
};

/* values: [shape[0]][shape[1]]..., a batch of one. The boxes, [*n_out], are the caller's to
 * sl_free. INVALID: a shape that the decoder has no use for says what it expects; NOMEM. */
SL_CHECK sl_status detect_boxes(const struct detect *how, const float *values, const int64_t *shape,
                                int32_t rank, struct box **out, int32_t *n_out, struct sl_err *err);

/* Rows that YOLOX' grids have together. */
int64_t detect_yolox_rows(const struct detect *how);
