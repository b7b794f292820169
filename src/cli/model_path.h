/* model_path.h: from what a user calls a model to the file that holds it.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <limits.h>

#define MODEL_BUNDLED "starling" /* the model that comes with the program */

/* `name` is a path, or "starling": that one is looked for in $STARLANE_MODELS when it is set, else
 * in ../share/starlane/models beside the executable's folder, else in the source tree it was built
 * from. NOT_FOUND says what was looked for; INVALID: a folder. */
SL_CHECK sl_status model_path_find(const char *name, char out[PATH_MAX], struct sl_err *err);
