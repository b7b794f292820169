/* store_bundled.h: where the model lies that comes with the program.
 * Floor: grid.  Thread: any (reads the environment).  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <limits.h>

#define STORE_BUNDLED_NAME "starling"

/* Looks in $STARLANE_MODELS when it is set, else in ../share/starlane/models beside the
 * executable's folder, else in the source tree it was built from. NOT_FOUND says where. */
SL_CHECK sl_status store_bundled_path(char out[PATH_MAX], struct sl_err *err);
