#include "cli/model_path.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUNDLED_FILE MODEL_BUNDLED ".gguf"

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

static sl_status find_bundled(char out[PATH_MAX], struct sl_err *err)
{
    const char *env = getenv("STARLANE_MODELS");
    char installed[PATH_MAX] = "";
    if (env && *env) {
        if (join(out, env, BUNDLED_FILE) && access(out, R_OK) == 0) return SL_OK;
        return sl_err_set(err, SL_NOT_FOUND,
                          "%s: not in STARLANE_MODELS=%s; unset it or put " BUNDLED_FILE " there",
                          MODEL_BUNDLED, env);
    }
    if (installed_path(installed) && access(installed, R_OK) == 0) {
        memcpy(out, installed, sizeof installed);
        return SL_OK;
    }
    if (join(out, STARLANE_MODEL_DIR, BUNDLED_FILE) && access(out, R_OK) == 0) return SL_OK;
    return sl_err_set(err, SL_NOT_FOUND,
                      "%s: neither %s nor %s/" BUNDLED_FILE
                      " is there; set STARLANE_MODELS to the folder that has it",
                      MODEL_BUNDLED, installed, STARLANE_MODEL_DIR);
}

sl_status model_path_find(const char *name, char out[PATH_MAX], struct sl_err *err)
{
    struct stat st;
    if (strcmp(name, MODEL_BUNDLED) == 0) return find_bundled(out, err);
    if (stat(name, &st) != 0) {
        int why = errno;
        const char *hint = why == ENOENT ? "; give the path of a GGUF file, or " MODEL_BUNDLED : "";
        sl_status status = sl_err_errno(NULL, why, "%s", name);
        return sl_err_set(err, status, "%s: %s%s", name, strerror(why), hint);
    }
    if (S_ISDIR(st.st_mode))
        return sl_err_set(err, SL_INVALID, "%s: a folder; give the GGUF file in it", name);
    int n = snprintf(out, PATH_MAX, "%s", name);
    if (n < 0 || n >= PATH_MAX) return sl_err_set(err, SL_INVALID, "the path is too long");
    return SL_OK;
}
