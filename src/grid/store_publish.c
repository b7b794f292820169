/* store_publish.c: the ways into the store: locks, claims, blobs that move in, manifests. */
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/onnx/onnx_file.h"
#include "grid/store_bundled.h"
#include "grid/store_details.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sl_status store_lock_all(const struct store *store, struct store_lock *lock, struct sl_err *err)
{
    char path[PATH_MAX];
    lock->fd = -1;
    sl_status status = store_make_dirs(store->root, err);
    if (status == SL_OK) status = store_path(path, err, "%s/lock", store->root);
    return status == SL_OK ? store_lock(lock, path, true, false, err) : status;
}

sl_status store_partial_path(const struct store *store, const char *key, const char *suffix,
                             char out[PATH_MAX], struct sl_err *err)
{
    return store_path(out, err, "%s/partial/%s.%s", store->root, key, suffix);
}

sl_status store_claim(const struct store *store, const char *key, bool wait,
                      struct store_lock *claim, struct sl_err *err)
{
    char path[PATH_MAX];
    claim->fd = -1;
    sl_status status = store_path(path, err, "%s/partial", store->root);
    if (status == SL_OK) status = store_make_dirs(path, err);
    if (status == SL_OK) status = store_partial_path(store, key, "lock", path, err);
    return status == SL_OK ? store_lock(claim, path, wait, true, err) : status;
}

sl_status store_claims_add(const struct store *store, struct store_claims *claims,
                           const char *digest, bool wait, struct sl_err *err)
{
    char key[STORE_DIGEST_SIZE + 8], path[PATH_MAX];
    snprintf(key, sizeof key, "sha256-%s", digest);
    sl_status status = store_partial_path(store, key, "lock", path, err);
    if (status != SL_OK) return status;
    for (size_t i = 0; i < claims->n; i++) {
        if (strcmp(claims->v[i].path, path) == 0) return SL_OK;
    }
    struct store_lock *v = sl_realloc_array(claims->v, claims->n + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "claims");
    claims->v = v;
    status = store_claim(store, key, wait, &v[claims->n], err);
    if (status == SL_OK) claims->n++;
    return status;
}

void store_claims_done(struct store_claims *claims)
{
    for (size_t i = 0; i < claims->n; i++) store_unlock(&claims->v[i]);
    sl_free(claims->v);
    *claims = (struct store_claims){0};
}

/* Read-only, so that nobody changes it by mistake; not where a hard link shares it with another. */
static sl_status seal(const char *path, struct sl_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    int failed =
        fstat(fd, &st) != 0 || (st.st_nlink == 1 && fchmod(fd, 0444) != 0) || fsync(fd) != 0 ? errno
                                                                                             : 0;
    close(fd);
    return failed ? sl_err_errno(err, failed, "%s", path) : SL_OK;
}

sl_status store_take_blob(const struct store *store, const char *path, const char *digest,
                          struct sl_err *err)
{
    char blob[PATH_MAX], dir[PATH_MAX];
    struct stat st;
    sl_status status = store_path(dir, err, "%s/blobs", store->root);
    if (status == SL_OK) status = store_make_dirs(dir, err);
    if (status == SL_OK) status = store_blob_path(store, digest, blob, err);
    if (status == SL_OK && stat(path, &st) != 0) status = sl_err_errno(err, errno, "%s", path);
    if (status != SL_OK) return status;
    if (store_check_blob(store, digest, (uint64_t)st.st_size, NULL) == SL_OK) {
        unlink(path);
        return SL_OK;
    }
    status = seal(path, err);
    if (status == SL_OK && rename(path, blob) != 0)
        status = sl_err_errno(err, errno, "rename to %s", blob);
    return status == SL_OK ? store_sync_dir(dir, err) : status;
}

sl_status store_name_check_free(const struct store_name *name, struct sl_err *err)
{
    char text[STORE_NAME_SIZE];
    store_name_text(name, text);
    if (strcmp(text, STORE_BUNDLED_NAME ":latest") != 0) return SL_OK;
    return sl_err_set(err, SL_INVALID,
                      STORE_BUNDLED_NAME " is the bundled model's name; give "
                                         "another one");
}

static sl_status inspect_onnx(struct store_model *model, struct sl_err *err)
{
    struct onnx_file *file;
    char config[PATH_MAX];
    sl_status status = store_open_onnx(model->path, &file, err);
    if (status != SL_OK) return status;
    bool has_config = store_model_file(model, "config", config, NULL) == SL_OK;
    store_details_read_onnx(file, has_config ? config : NULL, &model->details);
    onnx_file_close(file);
    return SL_OK;
}

/* Everything a list says later comes from the file itself, which is checked on the way. */
static sl_status inspect(struct store_model *model, struct sl_err *err)
{
    if (store_model_is_onnx(model)) return inspect_onnx(model, err);
    struct gguf_file *file;
    sl_status status = gguf_open(model->path, &file, err);
    if (status != SL_OK) {
        (void)sl_err_prefix(err, "not a sound GGUF file");
        return status;
    }
    store_details_read(file, &model->details);
    if (store_has_chat_template(file)) {
        sl_free(model->ollama_template);
        model->ollama_template = NULL;
    }
    gguf_close(file);
    return SL_OK;
}

static sl_status prepare(const struct store *store, struct store_model *model, struct sl_err *err)
{
    sl_status status = store_model_sum(model, err);
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++)
        status = store_check_blob(store, model->layers[i].digest, model->layers[i].size, err);
    if (status == SL_OK) status = store_view_path(store, model, model->path, err);
    if (status == SL_OK) status = inspect(model, err);
    return status;
}

static sl_status write_manifest(const struct store *store, const char *place,
                                const struct store_model *model, struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf text;
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    sl_status status = store_manifest_write(model, &text);
    if (status != SL_OK) (void)sl_err_set(err, status, "manifest");
    if (status == SL_OK) status = store_path(path, err, "%s/manifests/%s", store->root, place);
    if (status == SL_OK) status = store_write_file(path, text.data, text.len, err);
    sl_buf_done(&text);
    return status;
}

/* What had the name before: its files go where nobody else needs them. */
static sl_status drop_old(const struct store *store, const struct store_model *old,
                          struct sl_err *err)
{
    uint64_t freed = 0;
    sl_status status = store_view_drop(store, old->digest, err);
    return status == SL_OK ? store_collect(store, old->layers, old->n_layers, &freed, err) : status;
}

sl_status store_publish(const struct store *store, const struct store_name *name,
                        struct store_model *model, struct sl_err *err)
{
    struct store_lock lock;
    struct store_model old = {0};
    char place[STORE_NAME_PATH_SIZE];
    store_name_path(name, place);
    store_name_text(name, model->name);
    sl_status status = store_name_check_free(name, err);
    if (status == SL_OK) status = store_lock_all(store, &lock, err);
    if (status != SL_OK) return status;
    /* A model that was there and is broken leaves its blobs to store_sweep. */
    bool replaces = store_load(store, place, &old, NULL) == SL_OK;
    model->modified_ms = sl_unix_time_ms();
    status = prepare(store, model, err);
    if (status == SL_OK) status = write_manifest(store, place, model, err);
    if (status != SL_OK) (void)!store_view_drop(store, model->digest, NULL);
    if (status == SL_OK && replaces) status = drop_old(store, &old, err);
    store_model_done(&old);
    store_unlock(&lock);
    return status;
}

/* A second manifest with the same layers; the store's lock is held. */
static sl_status copy_locked(const struct store *store, const struct store_name *to,
                             struct store_model *model, struct sl_err *err)
{
    struct store_model old = {0};
    char place[STORE_NAME_PATH_SIZE];
    store_name_path(to, place);
    store_name_text(to, model->name);
    bool replaces = store_load(store, place, &old, NULL) == SL_OK;
    sl_status status = write_manifest(store, place, model, err);
    if (status == SL_OK && replaces) status = drop_old(store, &old, err);
    store_model_done(&old);
    return status;
}

sl_status store_cp(struct store *store, const char *from, const char *to, struct sl_err *err)
{
    struct store_model model;
    struct store_name name;
    struct store_lock lock;
    sl_status status = store_name_parse(to, &name, err);
    if (status == SL_OK) status = store_name_check_free(&name, err);
    if (status == SL_OK) status = store_find(store, from, &model, err);
    if (status != SL_OK) return status;
    if (model.bundled) {
        status = store_import_file(store, model.path, to, err);
        store_model_done(&model);
        return status;
    }
    store_model_done(&model);
    status = store_lock_all(store, &lock, err);
    if (status != SL_OK) return status;
    /* Read again under the lock: it may have gone, with its blobs, in between. */
    status = store_find(store, from, &model, err);
    if (status == SL_OK) {
        status = copy_locked(store, &name, &model, err);
        store_model_done(&model);
    }
    store_unlock(&lock);
    return status;
}
