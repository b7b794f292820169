/* classify.h: a model's scores become a few classes, likeliest first.
 * Floor: exec/vision.  Thread: any.  Allocates: vision_floats only. */
#pragma once
#include "exec/tensor.h"

struct class_score {
    int32_t index;
    float score;
};

/* The elements of a tensor of numbers as floats, [n], the caller's to sl_free. INVALID: BYTES;
 * LIMIT: too many; NOMEM. */
SL_CHECK sl_status vision_floats(const struct tensor *tensor, float **out, size_t *n,
                                 struct sl_err *err);

/* Scores to probabilities that sum to 1, in place; what is not a number becomes 0. */
void classify_softmax(float *scores, size_t n);

/* The k highest of scores[0..n) to out[0..), equal ones in their order. Returns how many there
 * are: at most k, and none that is not a number. */
int32_t classify_top(const float *scores, size_t n, int32_t k, struct class_score *out);
