/* ort.h: ONNX Runtime, found and loaded once a process; a machine without it runs everything else.
 * Floor: exec/onnx.  Thread: any, once ort_load has returned.  Allocates: what the library does;
 * it stays until the process ends.
 * Looked for, in this order: the file that STARLANE_ONNXRUNTIME names (then nowhere else);
 * ../lib/starlane beside the executable's folder; the executable's folder; the build's own; the
 * system's loader. Its telemetry is switched off, and its warnings become lines of our log. */
#pragma once
#include "base/err.h"
#include "exec/onnx/ort_abi.h"

/* The functions of the table, by their documented names. */
struct ort_api {
#define X(place, result, name, parameters) result(*name) parameters;
    ORT_FUNCTIONS(X)
#undef X
};

struct ort {
    struct ort_api api;
    struct OrtEnv *env;
    struct OrtAllocator *allocator; /* of names and strings that the library hands out */
    struct OrtMemoryInfo *memory;   /* "data in the caller's memory" */
    const char *version;            /* "1.28.2" */
    char path[512];                 /* of the library, as the loader tells it */
    void *handle;                   /* dlopen's */
};

/* UNAVAILABLE: it is not on this machine, is broken or older than 1.17; the message says what to
 * do. The same answer for the life of the process. */
SL_CHECK sl_status ort_load(const struct ort **out, struct sl_err *err);

/* Makes an error of a status, which is released; SL_OK for NULL. CORRUPT: not a model; NOT_FOUND:
 * no such file; UNSUPPORTED: no implementation of an operator; NOMEM; INVALID; INTERNAL. */
SL_CHECK sl_status ort_result(const struct ort *ort, ort_abi_status result, struct sl_err *err);
