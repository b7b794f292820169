/* store_collect.c: the ways out of the store. A blob goes when its digest stands in no manifest,
 * looked for as text: so a manifest of a newer version, or one that is damaged, protects its blobs
 * too. */
#include "base/mem.h"
#include "grid/store_bundled.h"
#include "grid/store_chunks.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include "grid/store_parts.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct search {
    const struct store_layer *blobs;
    bool *kept; /* by index of blobs */
    size_t n;
};

static sl_status search_manifest(void *ctx, const char *place, const char *path, struct sl_err *err)
{
    struct search *search = ctx;
    struct sl_buf text;
    (void)place;
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    sl_status status = store_read_file(path, &text, err);
    for (size_t i = 0; i < search->n && status == SL_OK; i++) {
        const char *digest = search->blobs[i].digest;
        if (memmem(text.data, text.len, digest, STORE_DIGEST_SIZE - 1)) search->kept[i] = true;
    }
    sl_buf_done(&text);
    return status;
}

/* The bytes that its removal really gives back: none while a hard link of somebody else is left. */
static uint64_t own_bytes(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && st.st_nlink == 1 ? (uint64_t)st.st_size : 0;
}

static sl_status remove_blob(const struct store *store, const char *digest, uint64_t *freed,
                             struct sl_err *err)
{
    char path[PATH_MAX], key[STORE_DIGEST_SIZE + 8];
    struct store_lock claim;
    snprintf(key, sizeof key, "sha256-%s", digest);
    sl_status status = store_claim(store, key, false, &claim, err);
    if (status == SL_BUSY) return SL_OK; /* somebody is about to use it */
    if (status == SL_OK) status = store_blob_path(store, digest, path, err);
    if (status == SL_OK) {
        uint64_t bytes = own_bytes(path);
        if (unlink(path) == 0)
            *freed += bytes;
        else if (errno != ENOENT)
            status = sl_err_errno(err, errno, "%s", path);
        store_chunks_drop(store, digest);
    }
    store_unlock(&claim);
    return status;
}

sl_status store_collect(const struct store *store, const struct store_layer *blobs, size_t n,
                        uint64_t *freed, struct sl_err *err)
{
    char manifests[PATH_MAX];
    struct search search = {blobs, sl_calloc(n, sizeof(bool)), n};
    if (!search.kept) return sl_err_set(err, SL_NOMEM, "list of blobs");
    sl_status status = store_path(manifests, err, "%s/manifests", store->root);
    if (status == SL_OK) status = store_each_place(manifests, search_manifest, &search, err);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        if (!search.kept[i]) status = remove_blob(store, blobs[i].digest, freed, err);
    }
    sl_free(search.kept);
    return status;
}

void store_discard(const struct store *store, const struct store_layer *blobs, size_t n)
{
    struct store_lock lock;
    uint64_t freed = 0;
    if (n == 0 || store_lock_all(store, &lock, NULL) != SL_OK) return;
    sl_status status = store_collect(store, blobs, n, &freed, NULL);
    (void)status; /* a failure leaves blobs behind, nothing worse */
    store_unlock(&lock);
}

sl_status store_is_named(const struct store *store, const char *digest, bool *out,
                         struct sl_err *err)
{
    char manifests[PATH_MAX];
    struct store_layer as_layer = {.role = "model"};
    struct search search = {&as_layer, out, 1};
    *out = false;
    memcpy(as_layer.digest, digest, STORE_DIGEST_SIZE);
    sl_status status = store_path(manifests, err, "%s/manifests", store->root);
    return status == SL_OK ? store_each_place(manifests, search_manifest, &search, err) : status;
}

/* Folders above a manifest that are empty now; rmdir refuses the others. */
static void prune(const struct store *store, const char *place)
{
    char path[PATH_MAX];
    if (store_path(path, NULL, "%s/manifests/%s", store->root, place) != SL_OK) return;
    for (int i = 1; i < STORE_PLACE_DEPTH; i++) {
        *strrchr(path, '/') = '\0';
        if (rmdir(path) != 0) return;
    }
}

static sl_status remove_locked(const struct store *store, const char *place,
                               const struct store_model *model, uint64_t *freed, struct sl_err *err)
{
    char path[PATH_MAX];
    sl_status status = store_path(path, err, "%s/manifests/%s", store->root, place);
    if (status == SL_OK && unlink(path) != 0) status = sl_err_errno(err, errno, "%s", path);
    if (status == SL_OK) status = store_sync_parent(path, err);
    /* First the links, so that the blobs' bytes are free when they go. */
    if (status == SL_OK) status = store_view_drop(store, model->digest, err);
    if (status == SL_OK) status = store_collect(store, model->layers, model->n_layers, freed, err);
    prune(store, place);
    return status;
}

/* Nothing is removed that was not named in full: a name without a tag is no version here. */
static sl_status not_there(const struct store *store, const char *name, struct sl_err *err)
{
    struct store_tags tags = {0};
    sl_status status = store_versions(store, name, &tags, err);
    if (status != SL_OK) return status;
    if (tags.n == 0)
        (void)sl_err_set(err, SL_NOT_FOUND, "%s: no such model; starlane list shows what is here",
                         name);
    else
        (void)sl_err_set(err, SL_NOT_FOUND, "%s: no such model; say which tag is meant: %s%s%s",
                         name, tags.v[0], tags.n > 1 ? ", ..., " : "",
                         tags.n > 1 ? tags.v[tags.n - 1] : "");
    store_tags_done(&tags);
    return SL_NOT_FOUND;
}

sl_status store_rm(struct store *store, const char *name, uint64_t *freed, struct sl_err *err)
{
    struct store_name parsed;
    struct store_lock lock;
    struct store_model model = {0};
    char place[STORE_NAME_PATH_SIZE], text[STORE_NAME_SIZE];
    uint64_t bytes = 0;
    sl_status status = store_name_parse(name, &parsed, err);
    if (status != SL_OK) return status;
    store_name_path(&parsed, place);
    store_name_text(&parsed, text);
    if (!store_has_place(store, place)) {
        if (strcmp(text, STORE_BUNDLED_NAME ":latest") == 0)
            return sl_err_set(err, SL_INVALID, "%s comes with the program and stays", name);
        return not_there(store, name, err);
    }
    status = store_lock_all(store, &lock, err);
    if (status != SL_OK) return status;
    /* A broken manifest can be removed too; its blobs are left to store_sweep. */
    if (store_load(store, place, &model, NULL) != SL_OK) model = (struct store_model){0};
    status = remove_locked(store, place, &model, &bytes, err);
    store_model_done(&model);
    store_unlock(&lock);
    if (status == SL_OK && freed) *freed = bytes;
    return status;
}

struct sweep {
    const struct store *store;
    struct store_layer *blobs;
    size_t n;
    uint64_t freed;
};

/* Removes KEY.* of partial/ when nobody has KEY claimed. */
static sl_status sweep_partial(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct sweep *sweep = ctx;
    char path[PATH_MAX], key[PATH_MAX];
    struct store_lock claim;
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name) return SL_OK;
    sl_status status = store_path(key, err, "%.*s", (int)(dot - name), name);
    if (status == SL_OK) status = store_claim(sweep->store, key, false, &claim, err);
    if (status == SL_BUSY) return SL_OK;
    if (status == SL_OK && strcmp(dot, ".lock") != 0) {
        status = store_path(path, err, "%s/%s", dir, name);
        uint64_t bytes = status == SL_OK ? own_bytes(path) : 0;
        if (status == SL_OK && unlink(path) == 0) sweep->freed += bytes;
    }
    store_unlock(&claim);
    return status;
}

static sl_status add_blob(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct sweep *sweep = ctx;
    char digest[STORE_DIGEST_SIZE];
    (void)dir;
    if (strncmp(name, "sha256-", 7) != 0 || !store_digest_parse(name, digest)) return SL_OK;
    struct store_layer *blobs = sl_realloc_array(sweep->blobs, sweep->n + 1, sizeof *blobs);
    if (!blobs) return sl_err_set(err, SL_NOMEM, "list of blobs");
    sweep->blobs = blobs;
    blobs[sweep->n] = (struct store_layer){.role = "model"};
    memcpy(blobs[sweep->n++].digest, digest, sizeof digest);
    return SL_OK;
}

static sl_status sweep_locked(struct sweep *sweep, struct sl_err *err)
{
    char dir[PATH_MAX];
    const char *root = sweep->store->root;
    sl_status status = store_view_sweep(sweep->store, err);
    if (status == SL_OK) status = store_path(dir, err, "%s/blobs", root);
    if (status == SL_OK) status = store_each_entry(dir, add_blob, sweep, err);
    if (status == SL_OK)
        status = store_collect(sweep->store, sweep->blobs, sweep->n, &sweep->freed, err);
    if (status == SL_OK) status = store_chunks_sweep(sweep->store, err);
    if (status == SL_OK) status = store_parts_sweep(sweep->store, &sweep->freed, err);
    if (status == SL_OK) status = store_path(dir, err, "%s/partial", root);
    return status == SL_OK ? store_each_entry(dir, sweep_partial, sweep, err) : status;
}

sl_status store_sweep(struct store *store, uint64_t *freed, struct sl_err *err)
{
    struct store_lock lock;
    struct sweep sweep = {.store = store};
    sl_status status = store_lock_all(store, &lock, err);
    if (status != SL_OK) return status;
    status = sweep_locked(&sweep, err);
    sl_free(sweep.blobs);
    store_unlock(&lock);
    if (status == SL_OK && freed) *freed = sweep.freed;
    return status;
}
