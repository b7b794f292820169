/* store_view.c: a model's files under names of their own, in HOME/models/shards/DIGEST.
 * Shards of a GGUF file are symbolic links to their blobs. An ONNX model's files are hard links
 * (reflinks or copies where the file system has none): ONNX Runtime refuses weights whose real
 * place is not the model's folder. */
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 128 /* of folders: a file's path has at most STORE_FILE_SIZE / 2 */

static size_t count_files(const struct store_model *model, const struct store_layer **first)
{
    size_t n = 0;
    for (size_t i = 0; i < model->n_layers; i++) {
        if (strcmp(model->layers[i].role, "model") != 0) continue;
        if (n++ == 0) *first = &model->layers[i];
    }
    return n;
}

/* A link that is there already was made of the same digests, which name the folder. */
static sl_status link_shards(const struct store_model *model, const char *dir, size_t n_files,
                             struct sl_err *err)
{
    char link[PATH_MAX], target[STORE_DIGEST_SIZE + 32];
    size_t no = 0;
    sl_status status = store_make_dirs(dir, err);
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        if (strcmp(model->layers[i].role, "model") != 0) continue;
        snprintf(target, sizeof target, "../../blobs/sha256-%s", model->layers[i].digest);
        status = store_path(link, err, "%s/model-%05zu-of-%05zu.gguf", dir, ++no, n_files);
        if (status == SL_OK && symlink(target, link) != 0 && errno != EEXIST)
            status = sl_err_errno(err, errno, "%s", link);
    }
    return status;
}

static sl_status view_shards(const struct store_model *model, size_t n_files, const char *dir,
                             char out[PATH_MAX], struct sl_err *err)
{
    char last[PATH_MAX];
    sl_status status = store_path(out, err, "%s/model-%05d-of-%05zu.gguf", dir, 1, n_files);
    if (status == SL_OK)
        status = store_path(last, err, "%s/model-%05zu-of-%05zu.gguf", dir, n_files, n_files);
    if (status != SL_OK || access(last, F_OK) == 0) return status;
    return link_shards(model, dir, n_files, err);
}

/* Whole or not there, whatever happens in between. */
static sl_status copy_blob(const char *blob, const char *path, struct sl_err *err)
{
    static atomic_uint n;
    char part[PATH_MAX];
    unsigned no = atomic_fetch_add(&n, 1);
    sl_status status = store_path(part, err, "%s.%d.%u.part", path, getpid(), no);
    if (status == SL_OK) status = store_clone_file(blob, part, err);
    if (status == SL_OK && rename(part, path) != 0) status = sl_err_errno(err, errno, "%s", path);
    if (status != SL_OK) unlink(part);
    return status;
}

static sl_status put_file(const struct store *store, const struct store_layer *layer,
                          const char *dir, struct sl_err *err)
{
    char path[PATH_MAX], blob[PATH_MAX];
    sl_status status = store_path(path, err, "%s/%s", dir, layer->file);
    if (status != SL_OK || access(path, F_OK) == 0) return status;
    status = store_blob_path(store, layer->digest, blob, err);
    if (status != SL_OK) return status;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    status = store_make_dirs(path, err);
    *slash = '/';
    if (status != SL_OK || link(blob, path) == 0 || errno == EEXIST) return status;
    return copy_blob(blob, path, err);
}

static sl_status view_onnx(const struct store *store, const struct store_model *model,
                           const char *dir, char out[PATH_MAX], struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        const struct store_layer *layer = &model->layers[i];
        status = put_file(store, layer, dir, err);
        if (status == SL_OK && strcmp(layer->role, "model") == 0)
            status = store_path(out, err, "%s/%s", dir, layer->file);
    }
    return status;
}

sl_status store_view_path(const struct store *store, const struct store_model *model,
                          char out[PATH_MAX], struct sl_err *err)
{
    const struct store_layer *first = NULL;
    char dir[PATH_MAX];
    size_t n_files = count_files(model, &first);
    if (n_files == 0) return sl_err_set(err, SL_CORRUPT, "no model file in it");
    sl_status status = store_path(dir, err, "%s/shards/%s", store->root, model->digest);
    if (status != SL_OK) return status;
    if (store_model_is_onnx(model)) return view_onnx(store, model, dir, out, err);
    if (n_files == 1) return store_blob_path(store, first->digest, out, err);
    return view_shards(model, n_files, dir, out, err);
}

/* Links are removed, never followed. */
static sl_status remove_entry(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    int depth = *(const int *)ctx - 1;
    char path[PATH_MAX];
    struct stat st;
    sl_status status = store_path(path, err, "%s/%s", dir, name);
    if (status != SL_OK || lstat(path, &st) != 0) return status;
    bool is_dir = S_ISDIR(st.st_mode);
    if (is_dir && depth > 0) status = store_each_entry(path, remove_entry, &depth, err);
    if (status == SL_OK && (is_dir ? rmdir(path) : unlink(path)) != 0 && errno != ENOENT)
        status = sl_err_errno(err, errno, "%s", path);
    return status;
}

sl_status store_view_drop(const struct store *store, const char *digest, struct sl_err *err)
{
    char dir[PATH_MAX];
    bool kept;
    int depth = DEPTH_MAX;
    if (!*digest) return SL_OK;
    sl_status status = store_is_named(store, digest, &kept, err);
    if (status == SL_OK) status = store_path(dir, err, "%s/shards/%s", store->root, digest);
    if (status != SL_OK || kept) return status;
    status = store_each_entry(dir, remove_entry, &depth, err);
    if (status == SL_OK) (void)rmdir(dir);
    return status;
}

static sl_status sweep_entry(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    char digest[STORE_DIGEST_SIZE];
    (void)dir;
    return store_digest_parse(name, digest) ? store_view_drop(ctx, name, err) : SL_OK;
}

sl_status store_view_sweep(const struct store *store, struct sl_err *err)
{
    char dir[PATH_MAX];
    sl_status status = store_path(dir, err, "%s/shards", store->root);
    return status == SL_OK ? store_each_entry(dir, sweep_entry, (void *)store, err) : status;
}
