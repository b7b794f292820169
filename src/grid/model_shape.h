/* model_shape.h: what a model in the store asks of the nodes that it may be split over, for cards
 * and for the planner.
 * Floor: grid.  Thread: any.  Allocates: during a call only. */
#pragma once
#include "base/err.h"
#include "sched/split.h"

struct model_shape {
    struct split_model model; /* its layer_bytes is the array below */
    uint64_t layer_bytes[SPLIT_LAYERS_MAX];
    int32_t n_ctx_train; /* tokens it was trained for; 0: not known */
};

/* From a GGUF file's header; the tensors' data need not be there. Errors name the file. */
SL_CHECK sl_status model_shape_read(const char *path, struct model_shape *out, struct sl_err *err);

/* A copy whose layer_bytes is its own. LIMIT: too many layers. */
SL_CHECK sl_status model_shape_copy(const struct split_model *from, struct model_shape *out,
                                    struct sl_err *err);
