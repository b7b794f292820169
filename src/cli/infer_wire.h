/* infer_wire.h: a request of the Open Inference Protocol's REST face with binary tensors, and its
 * answer, whether its tensors are binary or JSON (inference_rest.md; Triton's binary tensor data
 * extension).
 * Floor: cli.  Thread: main.  Allocates: the texts, in the caller's buffers and arena. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/json_read.h"
#include "exec/tensor.h"

/* JSON and raw bytes of a request that wants every output as binary data; *n_json is where the
 * bytes begin. LIMIT, NOMEM. */
SL_CHECK sl_status infer_wire_request(const struct tensor *inputs, size_t n_inputs,
                                      struct sl_buf *out, size_t *n_json, struct sl_err *err);

/* The outputs of an answer whose first n_json bytes are its JSON. Names and what was JSON are
 * copied to the arena, binary data stays where it is in `body`. UNAVAILABLE: not an answer of this
 * protocol, or one whose tensors do not hold what they tell; NOMEM. */
SL_CHECK sl_status infer_wire_answer(const char *body, size_t n, size_t n_json,
                                     struct sl_arena *arena, struct tensor **out, size_t *n_out,
                                     struct sl_err *err);

/* One {"name","datatype","shape"} of a model's metadata. UNAVAILABLE. */
SL_CHECK sl_status infer_wire_spec(const struct sl_json_value *value, struct sl_arena *arena,
                                   struct tensor_spec *out, struct sl_err *err);
