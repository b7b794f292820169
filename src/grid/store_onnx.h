/* store_onnx.h: ONNX models on their way into the store: what belongs to one, and where it lies
 * in a folder.
 *
 *   DIR/model.onnx, DIR/onnx/model.onnx, or the only DIR/x.onnx     one model
 *   DIR/a.onnx, DIR/b.onnx, ...                                     several, each by itself
 *   DIR/1/model.onnx, DIR/2/model.onnx, ...                         versions NAME:1, NAME:2
 *   DIR/NAME/...                                                    a repository of such models
 *
 * A model's folder may hold, beside the weights that the .onnx file names: tokenizer.json and
 * the other files that encoders come with, labels.txt (or one *classes.txt), processing.json,
 * and starlane.json with options (exec/onnx/onnx_options.h), or else Triton's config.pbtxt.
 * Versions share what lies in the folder above them. In the store they keep those names; the
 * .onnx file is model.onnx.
 * Floor: grid.  Thread: any.  Allocates: the list that is returned. */
#pragma once
#include "grid/store.h"
#include "grid/store_name.h"

#define STORE_ONNX_FOUND_MAX 1000 /* models of one folder */

/* A file that may come with a model: "tokenizer" is tokenizer.json. */
struct store_onnx_side {
    const char *role, *file;
};
const struct store_onnx_side *store_onnx_side(size_t i); /* NULL: there are no more */

/* A model that was found. */
struct store_onnx_source {
    char name[STORE_NAME_SIZE];
    char model[PATH_MAX]; /* the .onnx file */
    char folders[2]
                [PATH_MAX];  /* where its other files are looked for, in this order; "": nowhere */
    struct store_import how; /* borrowed texts; its name is not looked at */
};

struct store_onnx_found {
    struct store_onnx_source *v;
    size_t n, cap;
    bool is_one; /* one model, or versions of one */
};

/* Looks at names only. how NULL is fine. INVALID (how->name), LIMIT, IO, NOMEM. */
SL_CHECK sl_status store_onnx_find(const char *dir, const struct store_import *how,
                                   struct store_onnx_found *out, struct sl_err *err);
void store_onnx_found_done(struct store_onnx_found *found);

/* As store_import_model. */
SL_CHECK sl_status store_import_onnx_found(struct store *store,
                                           const struct store_onnx_source *source,
                                           struct sl_err *err);

/* store_import_name for an .onnx file: its own name, or its folder's when it is model.onnx. */
SL_CHECK sl_status store_onnx_name(const char *path, char out[STORE_NAME_SIZE], struct sl_err *err);

/* An .onnx file with the weights it names and what `how` tells, and nothing else beside it. */
SL_CHECK sl_status store_import_onnx(struct store *store, const char *path,
                                     const struct store_import *how, struct sl_err *err);
