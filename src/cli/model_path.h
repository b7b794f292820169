/* model_path.h: from what a user calls a model to the file that holds it.
 * Floor: cli.  Thread: main.  Allocates: nothing that outlives a call but the store. */
#pragma once
#include "base/err.h"
#include "grid/store_bundled.h"
#include <limits.h>

struct store;

#define MODEL_BUNDLED STORE_BUNDLED_NAME /* the model that comes with the program */

/* `name` is "starling", the name of a stored model (see grid/store_name.h), or a path; what
 * begins with '/' or '.' or ends in ".gguf" or ".onnx" is a path unless the store has that name.
 * NOT_FOUND says what was looked for and how to get it; INVALID: a folder. */
SL_CHECK sl_status model_path_find(const char *name, char out[PATH_MAX], struct sl_err *err);

/* The user's store, below cli_home. As store_open. */
SL_CHECK sl_status model_store_open(struct store **out, struct sl_err *err);
