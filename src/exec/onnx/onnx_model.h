/* onnx_model.h: one ONNX model in ONNX Runtime: its session and its signature.
 * Floor: exec/onnx.  Thread: made and destroyed by one; read and run (onnx_run.h) by any number.
 * Allocates: at open.
 * Invariant: the signature holds tensors of the protocol's types only. What a request can bring
 * is required or has a default in the model (an initializer that is an input too: optional). An
 * output that is a sequence, a map or of another type is left out, as long as one other is there,
 * and who asks for it learns why. */
#pragma once
#include "exec/onnx/onnx_options.h"
#include "exec/onnx/ort.h"
#include "exec/tensor.h"

struct onnx_file;
struct onnx_model; /* opaque */

/* Reads the file, and those beside it that hold its weights, and makes it ready to run with
 * `n_threads` threads for an operator. UNAVAILABLE: no ONNX Runtime here, or none of the execution
 * providers that the options name; NOT_FOUND, CORRUPT, UNSUPPORTED (an operator, a type of input),
 * LIMIT, NOMEM. */
SL_CHECK sl_status onnx_model_open(const char *path, const struct onnx_options *options,
                                   int32_t n_threads, struct onnx_model **out, struct sl_err *err);
void onnx_model_close(struct onnx_model *model); /* NULL is fine */

const struct tensor_signature *onnx_model_signature(const struct onnx_model *model);
/* Why the output of this name is not in the signature; NULL: the model has none such. */
const char *onnx_model_refused(const struct onnx_model *model, const char *output);
enum ort_provider onnx_model_provider(const struct onnx_model *model);
const char *onnx_model_producer(const struct onnx_model *model);   /* "pytorch"; may be "" */
const char *onnx_model_graph_name(const struct onnx_model *model); /* may be "" */

/* The library tells a scalar and a tensor of unknown rank alike; the file knows which it is. */
void onnx_model_learn_scalars(struct onnx_model *model, const struct onnx_file *file);

const struct ort *onnx_model_ort(const struct onnx_model *model);
struct OrtSession *onnx_model_session(const struct onnx_model *model);
