/* show_onnx.h: what `starlane show` says of an ONNX file.
 * Floor: cli.  Thread: main.  Allocates: only the buffer it writes to. */
#pragma once
#include "base/buf.h"
#include "grid/store.h"
#include <stdbool.h>

struct show_onnx {
    const char *path;
    const struct store_model *stored; /* zeroed for a plain file */
    struct store_tags tags;           /* of its name */
    bool tensors;                     /* list them */
};

/* As text, or as JSON. As onnx_file_open; LIMIT. */
SL_CHECK sl_status show_onnx(const struct show_onnx *show, bool as_json, struct sl_buf *out,
                             struct sl_err *err);
