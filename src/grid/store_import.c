/* store_import.c: models that lie on this machine: a file, a folder, an Ollama store. */
#include "base/hash.h"
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "grid/store_details.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include "grid/store_ollama.h"
#include "grid/store_onnx.h"
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No other import of any process has the same. */
static void import_key(char out[64])
{
    static atomic_uint n;
    snprintf(out, 64, "import-%d-%016" PRIx64, getpid(), sl_hash_seed() + atomic_fetch_add(&n, 1));
}

static sl_status check_wanted(const char *path, const char *digest, const char *want,
                              struct sl_err *err)
{
    if (!want || strcmp(digest, want) == 0) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "%s: its SHA-256 is %.12s..., not %.12s...", path, digest,
                      want);
}

sl_status store_intake(const struct store *store, const struct store_new_file *source,
                       struct store_claims *claims, struct store_model *model, struct sl_err *err)
{
    char key[64], data[PATH_MAX];
    struct store_layer layer = {.size = 0};
    struct store_lock claim;
    snprintf(layer.role, sizeof layer.role, "%s", source->role);
    snprintf(layer.file, sizeof layer.file, "%s", source->file ? source->file : "");
    import_key(key);
    sl_status status = store_claim(store, key, true, &claim, err);
    if (status != SL_OK) return status;
    status = store_partial_path(store, key, "data", data, err);
    if (status == SL_OK) status = store_clone_file(source->path, data, err);
    if (status == SL_OK) status = store_hash_file(data, layer.digest, &layer.size, err);
    if (status == SL_OK) status = check_wanted(source->path, layer.digest, source->want, err);
    if (status == SL_OK) status = store_claims_add(store, claims, layer.digest, true, err);
    if (status == SL_OK) status = store_take_blob(store, data, layer.digest, err);
    if (status == SL_OK) status = store_model_add_layer(model, &layer, err);
    unlink(data);
    store_unlock(&claim);
    return status;
}

/* All files of the model that the one at `path` belongs to, in order. */
static sl_status intake_files(const struct store *store, const char *path,
                              struct store_claims *claims, struct store_model *model,
                              struct sl_err *err)
{
    size_t n_prefix;
    int no, n;
    char shard[PATH_MAX];
    struct store_new_file source = {.path = path, .role = "model"};
    if (!store_split_name(path, &n_prefix, &no, &n))
        return store_intake(store, &source, claims, model, err);
    source.path = shard;
    sl_status status = SL_OK;
    for (int i = 1; i <= n && status == SL_OK; i++) {
        status = store_path(shard, err, "%.*s-%05d-of-%05d.gguf", (int)n_prefix, path, i, n);
        if (status == SL_OK) status = store_intake(store, &source, claims, model, err);
    }
    return status;
}

/* A look at the file where it lies, before gigabytes of it are copied. */
static sl_status check_gguf(const char *path, struct sl_err *err)
{
    struct gguf_file *file;
    sl_status status = gguf_open(path, &file, err);
    if (status == SL_OK) gguf_close(file);
    return status;
}

sl_status store_import_finish(const struct store *store, const struct store_name *name,
                              struct store_claims *claims, struct store_model *model,
                              sl_status status, struct sl_err *err)
{
    if (status == SL_OK) status = store_publish(store, name, model, err);
    store_claims_done(claims);
    if (status != SL_OK) store_discard(store, model->layers, model->n_layers);
    store_model_done(model);
    return status;
}

static sl_status import_gguf(struct store *store, const char *path, const char *name,
                             struct sl_err *err)
{
    char real[PATH_MAX];
    struct store_name parsed;
    struct store_model model = {0};
    struct store_claims claims = {0};
    if (!realpath(path, real)) return sl_err_errno(err, errno, "%s", path);
    sl_status status =
        name ? store_name_parse(name, &parsed, err) : store_name_of_file(path, &parsed, err);
    if (status == SL_OK) status = check_gguf(real, err);
    if (status != SL_OK) return status;
    model.source = sl_strdup(real);
    if (!model.source) status = sl_err_set(err, SL_NOMEM, "%s", path);
    if (status == SL_OK) status = intake_files(store, real, &claims, &model, err);
    return store_import_finish(store, &parsed, &claims, &model, status, err);
}

sl_status store_import_name(const char *path, char out[STORE_NAME_SIZE], struct sl_err *err)
{
    struct store_name name;
    if (store_is_onnx_path(path)) return store_onnx_name(path, out, err);
    sl_status status = store_name_of_file(path, &name, err);
    if (status == SL_OK) store_name_text(&name, out);
    return status;
}

sl_status store_import_model(struct store *store, const char *path, const struct store_import *how,
                             struct sl_err *err)
{
    static const struct store_import nothing = {0};
    if (!how) how = &nothing;
    if (store_is_onnx_path(path)) return store_import_onnx(store, path, how, err);
    if (how->labels || how->processing || how->options)
        return sl_err_set(err, SL_INVALID,
                          "%s: labels, processing and options go with an .onnx file", path);
    return import_gguf(store, path, how->name, err);
}

sl_status store_import_file(struct store *store, const char *path, const char *name,
                            struct sl_err *err)
{
    const struct store_import how = {.name = name};
    return store_import_model(store, path, &how, err);
}

struct import {
    struct store *store;
    const char *dir;
    store_imported_fn *tell;
    void *ctx;
    size_t n_found;
};

/* One that fails is told; lost memory ends it all. */
static sl_status told(struct import *import, const char *name, sl_status status,
                      const struct sl_err *why, struct sl_err *err)
{
    import->n_found++;
    import->tell(import->ctx, name, status == SL_OK ? NULL : why);
    if (status != SL_NOMEM) return SL_OK;
    if (err) *err = *why;
    return status;
}

static bool is_first_gguf(const char *file)
{
    size_t n = strlen(file), n_prefix;
    int no, n_shards;
    if (n < 6 || strcmp(file + n - 5, ".gguf") != 0 || file[0] == '.') return false;
    return !store_split_name(file, &n_prefix, &no, &n_shards) || no == 0;
}

static sl_status import_entry(void *ctx, const char *dir, const char *file, struct sl_err *err)
{
    struct import *import = ctx;
    struct sl_err why = SL_ERR_INIT;
    struct store_name name;
    char path[PATH_MAX], text[STORE_NAME_SIZE];
    if (!is_first_gguf(file)) return SL_OK;
    sl_status status = store_path(path, err, "%s/%s", dir, file);
    if (status != SL_OK) return status;
    status = store_name_of_file(file, &name, &why);
    if (status != SL_OK) return told(import, file, status, &why, err);
    store_name_text(&name, text);
    return told(import, text, store_import_file(import->store, path, text, &why), &why, err);
}

static sl_status import_found(struct import *import, const struct store_onnx_found *found,
                              struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < found->n && status == SL_OK; i++) {
        struct sl_err why = SL_ERR_INIT;
        status = store_import_onnx_found(import->store, &found->v[i], &why);
        status = told(import, found->v[i].name, status, &why, err);
    }
    return status;
}

static bool is_told(const struct store_import *how)
{
    return how && (how->name || how->labels || how->processing || how->options);
}

sl_status store_import_dir(struct store *store, const char *dir, const struct store_import *how,
                           store_imported_fn *tell, void *ctx, struct sl_err *err)
{
    struct import import = {store, dir, tell, ctx, 0};
    struct store_onnx_found found = {0};
    sl_status status = store_onnx_find(dir, how, &found, err);
    if (status == SL_OK && is_told(how) && !found.is_one)
        status = sl_err_set(err, SL_INVALID,
                            "%s: --name and what describes a model go with one, and this folder is "
                            "not one",
                            dir);
    if (status == SL_OK && !is_told(how))
        status = store_each_entry(dir, import_entry, &import, err);
    if (status == SL_OK) status = import_found(&import, &found, err);
    store_onnx_found_done(&found);
    if (status == SL_OK && import.n_found == 0)
        status = sl_err_set(err, SL_NOT_FOUND, "%s: no .gguf file and no ONNX model in it", dir);
    return status;
}

static sl_status apply_text(const char *path, const struct store_ollama_layer *layer,
                            struct store_model *model, struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, STORE_OLLAMA_TEXT_BYTES_MAX);
    sl_status status = store_read_file(path, &text, err);
    if (status == SL_OK) status = store_ollama_apply(layer->kind, text.data, text.len, model, err);
    sl_buf_done(&text);
    return status;
}

static sl_status intake_ollama(struct import *import, const struct store_ollama_manifest *manifest,
                               struct store_claims *claims, struct store_model *model,
                               struct sl_err *err)
{
    char path[PATH_MAX];
    sl_status status = SL_OK;
    for (size_t i = 0; i < manifest->n && status == SL_OK; i++) {
        const struct store_ollama_layer *layer = &manifest->layers[i];
        if (layer->kind == STORE_OLLAMA_OTHER) continue;
        status = store_path(path, err, "%s/blobs/sha256-%s", import->dir, layer->digest);
        const struct store_new_file source = {path, "model", NULL, layer->digest};
        if (status == SL_OK && layer->kind == STORE_OLLAMA_MODEL)
            status = store_intake(import->store, &source, claims, model, err);
        else if (status == SL_OK)
            status = apply_text(path, layer, model, err);
    }
    return status;
}

static sl_status read_ollama(const char *path, struct store_ollama_manifest *out,
                             struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, STORE_OLLAMA_MANIFEST_BYTES_MAX);
    sl_status status = store_read_file(path, &text, err);
    if (status == SL_OK) status = store_ollama_parse(text.data, text.len, out, err);
    sl_buf_done(&text);
    return status;
}

static sl_status import_ollama(struct import *import, const struct store_name *name,
                               const char *path, struct sl_err *err)
{
    struct store_ollama_manifest manifest;
    struct store_model model = {0};
    struct store_claims claims = {0};
    sl_status status = read_ollama(path, &manifest, err);
    if (status != SL_OK) return status;
    model.source = sl_strdup(path);
    if (!model.source) status = sl_err_set(err, SL_NOMEM, "%s", path);
    if (status == SL_OK) status = intake_ollama(import, &manifest, &claims, &model, err);
    return store_import_finish(import->store, name, &claims, &model, status, err);
}

static sl_status import_place(void *ctx, const char *place, const char *path, struct sl_err *err)
{
    struct import *import = ctx;
    struct sl_err why = SL_ERR_INIT;
    struct store_name name;
    char text[PATH_MAX];
    sl_status status = store_path(text, err, "%s", place);
    if (status != SL_OK) return status;
    *strrchr(text, '/') = ':'; /* host/space/model/tag */
    status = store_name_parse(text, &name, &why);
    if (status == SL_OK) {
        store_name_text(&name, text);
        status = import_ollama(import, &name, path, &why);
    }
    return told(import, text, status, &why, err);
}

bool store_is_ollama_dir(const char *dir)
{
    char path[PATH_MAX];
    return store_path(path, NULL, "%s/manifests", dir) == SL_OK && access(path, R_OK) == 0 &&
           store_path(path, NULL, "%s/blobs", dir) == SL_OK && access(path, R_OK) == 0;
}

sl_status store_import_ollama(struct store *store, const char *dir, store_imported_fn *tell,
                              void *ctx, struct sl_err *err)
{
    struct import import = {store, dir, tell, ctx, 0};
    char manifests[PATH_MAX];
    sl_status status = store_path(manifests, err, "%s/manifests", dir);
    if (status == SL_OK) status = store_each_place(manifests, import_place, &import, err);
    if (status == SL_OK && import.n_found == 0)
        status = sl_err_set(err, SL_NOT_FOUND, "%s: no model in it", dir);
    return status;
}
