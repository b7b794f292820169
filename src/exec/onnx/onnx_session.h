/* onnx_session.h: makes ONNX Runtime's session of a file, on the first execution provider that
 * works here.
 * Floor: exec/onnx.  Thread: any.  Allocates: what the library does. */
#pragma once
#include "exec/onnx/onnx_options.h"

/* *out_provider: the one that got the first choice of operators. As onnx_model_open. */
SL_CHECK sl_status onnx_session_create(const struct ort *ort, const char *path,
                                       const struct onnx_options *options, int32_t n_threads,
                                       struct OrtSession **out, enum ort_provider *out_provider,
                                       struct sl_err *err);
