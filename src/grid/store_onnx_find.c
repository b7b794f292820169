/* store_onnx_find.c: ONNX models in a folder, by the names of files and folders alone. */
#include "base/mem.h"
#include "grid/store_details.h"
#include "grid/store_files.h"
#include "grid/store_onnx.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FOUND_FIRST 4
#define VERSION_DIGITS_MAX 18

struct finder {
    struct store_onnx_found *out;
    const struct store_import *how; /* may be NULL */
    const char *dir;                /* the folder in work */
    const char *name;               /* of its models, without a tag; NULL: made of their files */
};

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_version(const char *name)
{
    size_t n = strspn(name, "0123456789");
    return n > 0 && n <= VERSION_DIGITS_MAX && !name[n] && name[0] != '0';
}

static sl_status add(struct store_onnx_found *found, const struct store_onnx_source *source,
                     struct sl_err *err)
{
    if (found->n == STORE_ONNX_FOUND_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d models in one folder", STORE_ONNX_FOUND_MAX);
    if (found->n == found->cap) {
        size_t cap = found->cap ? 2 * found->cap : FOUND_FIRST;
        struct store_onnx_source *v = sl_realloc_array(found->v, cap, sizeof *v);
        if (!v) return sl_err_set(err, SL_NOMEM, "list of models");
        found->v = v;
        found->cap = cap;
    }
    found->v[found->n++] = *source;
    return SL_OK;
}

void store_onnx_found_done(struct store_onnx_found *found)
{
    sl_free(found->v);
    *found = (struct store_onnx_found){0};
}

struct onnx_files {
    char first[PATH_MAX];
    size_t n;
};

static sl_status see_file(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct onnx_files *files = ctx;
    char path[PATH_MAX];
    if (name[0] == '.' || !store_is_onnx_path(name)) return SL_OK;
    sl_status status = store_path(path, err, "%s/%s", dir, name);
    if (status == SL_OK && is_file(path) && files->n++ == 0) memcpy(files->first, path, PATH_MAX);
    return status;
}

/* The one model of the folder; "" when it has none or several. */
static sl_status find_model(const char *dir, char out[PATH_MAX], struct sl_err *err)
{
    struct onnx_files files = {.n = 0};
    sl_status status = store_path(out, err, "%s/model.onnx", dir);
    if (status != SL_OK || is_file(out)) return status;
    status = store_each_entry(dir, see_file, &files, err);
    if (status == SL_OK && files.n == 0) {
        status = store_path(out, err, "%s/onnx/model.onnx", dir);
        if (status != SL_OK || is_file(out)) return status;
    }
    memcpy(out, files.n == 1 ? files.first : "", files.n == 1 ? PATH_MAX : 1);
    return status;
}

/* NAME, or what is made of the file's or folder's, with the tag when it has none. */
static sl_status make_name(const char *given, const char *made_of, const char *tag,
                           char out[STORE_NAME_SIZE], struct sl_err *err)
{
    struct store_name name;
    sl_status status =
        given ? store_name_parse(given, &name, err) : store_name_of_file(made_of, &name, err);
    if (status != SL_OK) return status;
    if (tag && name.tagged)
        return sl_err_set(err, SL_INVALID, "%s: the versions are the tags; give a name without one",
                          given ? given : made_of);
    if (tag) snprintf(name.tag, sizeof name.tag, "%s", tag);
    store_name_text(&name, out);
    return SL_OK;
}

static sl_status add_model(const struct finder *finder, const char *model, const char *folder,
                           const char *tag, struct sl_err *err)
{
    struct store_onnx_source source = {.name = ""};
    bool is_named_model = strcmp(base_of(model), "model.onnx") == 0;
    if (finder->how) source.how = *finder->how;
    const char *given = finder->how ? finder->how->name : NULL;
    const char *made_of = tag || is_named_model ? finder->name : model;
    sl_status status = make_name(given, made_of, tag, source.name, err);
    if (status == SL_OK) status = store_path(source.model, err, "%s", model);
    if (status == SL_OK) status = store_path(source.folders[0], err, "%s", folder);
    if (status == SL_OK && tag) status = store_path(source.folders[1], err, "%s", finder->dir);
    return status == SL_OK ? add(finder->out, &source, err) : status;
}

static sl_status see_version(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct finder *finder = ctx;
    char folder[PATH_MAX], model[PATH_MAX] = "";
    if (!is_version(name)) return SL_OK;
    sl_status status = store_path(folder, err, "%s/%s", dir, name);
    if (status == SL_OK && is_folder(folder)) status = find_model(folder, model, err);
    if (status != SL_OK || !*model) return status;
    return add_model(finder, model, folder, name, err);
}

/* Files without anything that belongs to one of them. */
static sl_status see_loose(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct finder *finder = ctx;
    struct store_onnx_source source = {.name = ""};
    if (name[0] == '.' || !store_is_onnx_path(name)) return SL_OK;
    sl_status status = store_path(source.model, err, "%s/%s", dir, name);
    if (status != SL_OK || !is_file(source.model)) return status;
    status = make_name(NULL, name, NULL, source.name, err);
    return status == SL_OK ? add(finder->out, &source, err) : status;
}

/* One model, or its versions. */
static sl_status find_one(struct finder *finder, struct sl_err *err)
{
    char model[PATH_MAX] = "";
    sl_status status = find_model(finder->dir, model, err);
    if (status == SL_OK && *model) return add_model(finder, model, finder->dir, NULL, err);
    return status == SL_OK ? store_each_entry(finder->dir, see_version, finder, err) : status;
}

/* A folder that cannot be read, or whose name is none, is passed over: it may be anything. */
static sl_status see_folder(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct finder *above = ctx;
    char folder[PATH_MAX];
    struct finder finder = {.out = above->out, .dir = folder, .name = name};
    if (name[0] == '.') return SL_OK;
    sl_status status = store_path(folder, err, "%s/%s", dir, name);
    if (status != SL_OK || !is_folder(folder)) return status;
    status = find_one(&finder, err);
    return status == SL_NOMEM || status == SL_LIMIT ? status : SL_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct store_onnx_source *x = a, *y = b;
    return strverscmp(x->name, y->name);
}

sl_status store_onnx_find(const char *dir, const struct store_import *how,
                          struct store_onnx_found *out, struct sl_err *err)
{
    char real[PATH_MAX];
    struct store_onnx_found found = {0};
    if (!realpath(dir, real)) return sl_err_errno(err, errno, "%s", dir);
    struct finder finder = {.out = &found, .how = how, .dir = real, .name = base_of(real)};
    sl_status status = find_one(&finder, err);
    found.is_one = found.n > 0;
    if (status == SL_OK && found.n == 0) status = store_each_entry(real, see_loose, &finder, err);
    if (status == SL_OK && found.n == 0) status = store_each_entry(real, see_folder, &finder, err);
    if (found.n > 1) qsort(found.v, found.n, sizeof *found.v, by_name);
    if (status == SL_OK)
        *out = found;
    else
        store_onnx_found_done(&found);
    return status;
}
