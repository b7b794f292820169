/* onnx_probe.h: runs a model on made-up inputs: to warm it up, and to learn whether it batches.
 * Floor: exec/onnx.  Thread: the engine's, before the first request.  Allocates: while it runs.
 * A model batches when two rows run together give what each gives alone; that its dimensions are
 * dynamic does not tell: the first may be time, and an operator may mix the rows. */
#pragma once
#include "exec/onnx/onnx_model.h"
#include <stdbool.h>

enum onnx_probe_result {
    ONNX_PROBE_SAME,    /* rows do not touch each other */
    ONNX_PROBE_DIFFERS, /* they do: two rows together give other values */
    ONNX_PROBE_SHAPES,  /* the outputs lack the first dimension */
    ONNX_PROBE_UNKNOWN  /* it could not be tried */
};

/* Do the declared shapes allow for batches? Every input and output has a dynamic first dimension,
 * or (outputs) an unknown rank. */
bool onnx_probe_dimensions(const struct tensor_signature *signature);

/* Three runs: one row, another one, both. */
enum onnx_probe_result onnx_probe_batch(const struct onnx_model *model);

/* One run. The model may fail on what we make up: then err says why, and that is no reason not to
 * serve it. */
SL_CHECK sl_status onnx_probe_warm_up(const struct onnx_model *model, struct sl_err *err);
