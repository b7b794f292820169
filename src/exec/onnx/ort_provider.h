/* ort_provider.h: which hardware computes: ONNX Runtime's execution providers, tried in an order.
 * Floor: exec/onnx.  Thread: any.  Allocates: nothing that outlives a call.
 * A provider is tried when the library reports that it was built with it; where it cannot be used
 * (no device, no driver, a library of the vendor is missing) the next one is, and the log says why.
 * Operators that a provider lacks fall to the CPU. */
#pragma once
#include "exec/onnx/ort.h"
#include <stdbool.h>

enum ort_provider {
    ORT_PROVIDER_TENSORRT,
    ORT_PROVIDER_CUDA,
    ORT_PROVIDER_MIGRAPHX,
    ORT_PROVIDER_ROCM,
    ORT_PROVIDER_CANN,
    ORT_PROVIDER_OPENVINO,
    ORT_PROVIDER_DML,
    ORT_PROVIDER_CPU,
    ORT_PROVIDER_COUNT
};

const char *ort_provider_name(enum ort_provider provider); /* "cuda" */
const char *ort_provider_what(enum ort_provider provider); /* "NVIDIA GPUs" */
/* INVALID: no such name; the message lists them. */
SL_CHECK sl_status ort_provider_parse(const char *name, enum ort_provider *out, struct sl_err *err);

/* Was the library built with it? */
bool ort_provider_available(const struct ort *ort, enum ort_provider provider);

/* Adds the provider to a session's options, on device number `device_id`. UNAVAILABLE: the library
 * lacks it; otherwise what it says. */
SL_CHECK sl_status ort_provider_append(const struct ort *ort, enum ort_provider provider,
                                       int device_id, struct OrtSessionOptions *options,
                                       struct sl_err *err);
