/* ort_value.h: tensors to and from ONNX Runtime's values.
 * Floor: exec/onnx.  Thread: any; a value belongs to one at a time.
 * Allocates: strings; other tensors are not copied, in either direction. */
#pragma once
#include "exec/onnx/ort.h"
#include "exec/tensor.h"
#include <stdbool.h>

struct sl_arena;

/* ONNX's element type to ours; false: the protocol has no such type (complex, 8 and 4 bit floats,
 * 4 bit integers). */
bool ort_element_to_tensor(int element, enum tensor_type *out);
int ort_element_of(enum tensor_type type);

/* A value over the tensor's data, which must outlive it and was checked (tensor_check); strings are
 * copied. The value is the caller's: ReleaseValue. NOMEM, INTERNAL. */
SL_CHECK sl_status ort_value_make(const struct ort *ort, const struct tensor *tensor,
                                  struct OrtValue **out, struct sl_err *err);

/* Type, shape and data of a value; the name is left alone. Data is the value's own, strings are
 * written to the arena. UNSUPPORTED: not a tensor, or of a type that the protocol lacks;
 * LIMIT: more than the arena's maximum. */
SL_CHECK sl_status ort_value_read(const struct ort *ort, struct OrtValue *value,
                                  struct sl_arena *arena, struct tensor *out, struct sl_err *err);
