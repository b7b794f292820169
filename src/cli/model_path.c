#include "cli/model_path.h"
#include "cli/cli.h"
#include "grid/store.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(s + n - n_suffix, suffix) == 0;
}

static sl_status find_file(const char *name, char out[PATH_MAX], struct sl_err *err)
{
    struct stat st;
    if (stat(name, &st) != 0) {
        int why = errno;
        const char *hint =
            why == ENOENT ? "; give the path of a model file, or " MODEL_BUNDLED : "";
        sl_status status = sl_err_errno(NULL, why, "%s", name);
        return sl_err_set(err, status, "%s: %s%s", name, strerror(why), hint);
    }
    if (S_ISDIR(st.st_mode))
        return sl_err_set(err, SL_INVALID, "%s: a folder; give the model file in it", name);
    int n = snprintf(out, PATH_MAX, "%s", name);
    if (n < 0 || n >= PATH_MAX) return sl_err_set(err, SL_INVALID, "the path is too long");
    return SL_OK;
}

sl_status model_store_open(struct store **out, struct sl_err *err)
{
    char home[PATH_MAX];
    return store_open(cli_home(home, sizeof home), out, err);
}

/* Without a home folder there is no store, and then no name in it. */
static sl_status find_stored(const char *name, char out[PATH_MAX], struct sl_err *err)
{
    struct store *store;
    struct store_model model;
    if (model_store_open(&store, NULL) != SL_OK)
        return sl_err_set(err, SL_NOT_FOUND, "%s: no such file, and no home folder", name);
    sl_status status = store_find(store, name, &model, err);
    store_close(store);
    if (status != SL_OK) return status;
    memcpy(out, model.path, sizeof model.path);
    store_model_done(&model);
    return SL_OK;
}

sl_status model_path_find(const char *name, char out[PATH_MAX], struct sl_err *err)
{
    struct stat st;
    if (strcmp(name, MODEL_BUNDLED) == 0) return store_bundled_path(out, err);
    if (name[0] == '/' || name[0] == '.') return find_file(name, out, err);
    sl_status status = find_stored(name, out, err);
    if (status != SL_NOT_FOUND && status != SL_INVALID) return status;
    bool file = (has_suffix(name, ".gguf") || has_suffix(name, ".onnx")) && !strstr(name, "://");
    return file || stat(name, &st) == 0 ? find_file(name, out, err) : status;
}
