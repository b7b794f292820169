/* resample.h: one axis of a picture that changes its size: which source pixels make a target pixel,
 * and how much of each.
 * Floor: exec/vision.  Thread: any.  Allocates: the weights of an axis.
 * Pixels are areas: target pixel i has its middle at (i + 0.5 - offset) / scale of the source, as
 * PIL, OpenCV and PyTorch have it. Beyond the source its outermost pixel goes on. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum resample {
    RESAMPLE_NEAREST,
    RESAMPLE_BILINEAR,
    /* Keys' cubic (1981): a = -0.5 with antialias as PIL has it, else -0.75 as OpenCV */
    RESAMPLE_BICUBIC
};

struct axis {
    int32_t n_source, n_target;
    double scale;  /* target pixels of a source pixel */
    double offset; /* of the source's begin, in target pixels; negative: its begin is cut off */
    enum resample resample;
    bool antialias; /* made smaller, a target pixel sees all source pixels that it covers */
};

struct axis_weights {
    int32_t n_taps;
    int32_t *first; /* [n_target] source pixel; first + n_taps <= n_source */
    float *weights; /* [n_target][n_taps], each row sums to 1 */
};

/* NOMEM. */
SL_CHECK sl_status axis_weights_init(const struct axis *axis, struct axis_weights *out);
void axis_weights_done(struct axis_weights *weights);
