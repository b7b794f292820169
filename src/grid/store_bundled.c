#include "grid/store_bundled.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUNDLED_FILE STORE_BUNDLED_NAME ".gguf"

static bool join(char out[PATH_MAX], const char *folder, const char *rest)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, rest);
    return *folder && n > 0 && n < PATH_MAX;
}

static bool installed_path(char out[PATH_MAX])
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return false;
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (!slash) return false;
    *slash = '\0';
    return join(out, exe, "../share/starlane/models/" BUNDLED_FILE);
}

sl_status store_bundled_path(char out[PATH_MAX], struct sl_err *err)
{
    const char *env = getenv("STARLANE_MODELS");
    char installed[PATH_MAX] = "";
    if (env && *env) {
        if (join(out, env, BUNDLED_FILE) && access(out, R_OK) == 0) return SL_OK;
        return sl_err_set(err, SL_NOT_FOUND,
                          STORE_BUNDLED_NAME
                          ": not in STARLANE_MODELS=%s; unset it or put " BUNDLED_FILE " there",
                          env);
    }
    if (installed_path(installed) && access(installed, R_OK) == 0) {
        memcpy(out, installed, sizeof installed);
        return SL_OK;
    }
    if (join(out, STARLANE_MODEL_DIR, BUNDLED_FILE) && access(out, R_OK) == 0) return SL_OK;
    return sl_err_set(err, SL_NOT_FOUND,
                      STORE_BUNDLED_NAME ": neither %s nor %s/" BUNDLED_FILE
                                         " is there; set STARLANE_MODELS to the folder that has it",
                      installed, STARLANE_MODEL_DIR);
}
