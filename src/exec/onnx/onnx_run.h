/* onnx_run.h: one run of a model: tensors in, tensors out.
 * Floor: exec/onnx.  Thread: one at a time; onnx_run_stop from any other.
 * Allocates: in the run's own arena, and what the library does.
 * Invariant: outputs are valid until the run is done; their data is the library's. */
#pragma once
#include "base/arena.h"
#include "exec/onnx/onnx_model.h"

struct onnx_run {
    const struct onnx_model *model;
    struct sl_arena arena;
    const struct tensor *inputs; /* checked; the caller's, to outlive the run */
    size_t n_inputs;
    const int32_t *wanted; /* [n_outputs] places in the signature's outputs */
    size_t n_outputs;
    struct tensor *outputs;   /* [n_outputs] after a good run */
    struct OrtValue **values; /* [n_inputs + n_outputs] */
    struct OrtRunOptions *options;
};

/* Inputs and wanted outputs are the caller's to set afterwards. NOMEM. */
SL_CHECK sl_status onnx_run_init(struct onnx_run *run, const struct onnx_model *model,
                                 struct sl_err *err);
void onnx_run_done(struct onnx_run *run);

/* Blocks while the model computes. INVALID: it cannot on these inputs; CANCELLED: stopped; NOMEM;
 * LIMIT: the outputs are larger than TENSOR_BYTES_MAX for each of `n_shares` requests; INTERNAL. */
SL_CHECK sl_status onnx_run_execute(struct onnx_run *run, size_t n_shares, struct sl_err *err);

/* Ends onnx_run_execute, soon, with an error. */
void onnx_run_stop(struct onnx_run *run);
