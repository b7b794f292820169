/* store.c: finds and lists models. Changes are in store_publish.c, removal in store_collect.c. */
#include "grid/store.h"
#include "base/mem.h"
#include "grid/store_bundled.h"
#include "grid/store_details.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include <errno.h>
#include <pthread.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sl_status store_open(const char *home, struct store **out, struct sl_err *err)
{
    char cwd[PATH_MAX] = "";
    if (!*home) return sl_err_set(err, SL_INVALID, "no home folder: set STARLANE_HOME (or HOME)");
    if (*home != '/' && !getcwd(cwd, sizeof cwd)) return sl_err_errno(err, errno, "this folder");
    struct store *store = sl_calloc(1, sizeof *store);
    if (!store) return sl_err_set(err, SL_NOMEM, "model store");
    sl_status status = store_path(store->root, err, "%s%s%s/models", cwd, *cwd ? "/" : "", home);
    if (status != SL_OK) goto fail;
    *out = store;
    return SL_OK;
fail:
    store_close(store);
    return status;
}

void store_close(struct store *store)
{
    sl_free(store);
}

void store_model_done(struct store_model *model)
{
    sl_free(model->chat_template);
    sl_free(model->ollama_template);
    sl_free(model->system);
    sl_free(model->licence);
    sl_free(model->parameters);
    sl_free(model->source);
    sl_free(model->processing);
    sl_free(model->options);
    sl_free(model->layers);
    *model = (struct store_model){0};
}

void store_models_done(struct store_models *models)
{
    for (size_t i = 0; i < models->n; i++) store_model_done(&models->v[i]);
    sl_free(models->v);
    *models = (struct store_models){0};
}

sl_status store_blob_path(const struct store *store, const char *digest, char out[PATH_MAX],
                          struct sl_err *err)
{
    return store_path(out, err, "%s/blobs/sha256-%s", store->root, digest);
}

sl_status store_check_blob(const struct store *store, const char *digest, uint64_t size,
                           struct sl_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    sl_status status = store_blob_path(store, digest, path, err);
    if (status != SL_OK) return status;
    if (lstat(path, &st) != 0) return sl_err_errno(err, errno, "blob sha256-%.12s", digest);
    if (!S_ISREG(st.st_mode))
        return sl_err_set(err, SL_CORRUPT, "blob sha256-%.12s: not a regular file", digest);
    if ((uint64_t)st.st_size != size)
        return sl_err_set(err, SL_CORRUPT, "blob sha256-%.12s: %jd bytes, not %ju", digest,
                          (intmax_t)st.st_size, (uintmax_t)size);
    return SL_OK;
}

static sl_status check_model(const struct store *store, struct store_model *model,
                             struct sl_err *err)
{
    for (size_t i = 0; i < model->n_layers; i++) {
        const struct store_layer *layer = &model->layers[i];
        sl_status status = store_check_blob(store, layer->digest, layer->size, err);
        if (status == SL_NOT_FOUND)
            return sl_err_set(err, SL_CORRUPT, "blob sha256-%.12s is gone; pull or import it again",
                              layer->digest);
        if (status != SL_OK) return status;
    }
    return store_view_path(store, model, model->path, err);
}

sl_status store_load(const struct store *store, const char *place, struct store_model *out,
                     struct sl_err *err)
{
    char path[PATH_MAX];
    struct store_model model = {0};
    struct sl_buf text;
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    sl_status status = store_path(path, err, "%s/manifests/%s", store->root, place);
    if (status == SL_OK) status = store_read_file(path, &text, err);
    if (status == SL_OK) {
        status = store_manifest_parse(text.data, text.len, place, &model, err);
        if (status == SL_OK) status = check_model(store, &model, err);
        if (status != SL_OK) (void)sl_err_prefix(err, "manifest %s", place);
    }
    sl_buf_done(&text);
    if (status == SL_OK)
        *out = model;
    else
        store_model_done(&model);
    return status;
}

/* What can be said of a file that has no manifest. */
static sl_status describe_file(const char *path, struct store_model *out, struct sl_err *err)
{
    struct stat st;
    if (!realpath(path, out->path)) return sl_err_errno(err, errno, "%s", path);
    sl_status status = store_details_of_file(out->path, &out->details, &out->size, err);
    if (status != SL_OK) return status;
    if (stat(out->path, &st) == 0)
        out->modified_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return SL_OK;
}

/* The digest of a file that nobody replaces while we run is worth remembering: hashing takes
 * tens of milliseconds, and servers list their models often. */
static sl_status hash_once(struct store_model *model, struct sl_err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct store_model known; /* path, size, modified_ms, digest */
    uint64_t size;
    sl_status status = SL_OK;
    pthread_mutex_lock(&lock);
    bool same = !strcmp(known.path, model->path) && known.size == model->size &&
                known.modified_ms == model->modified_ms;
    if (!same) status = store_hash_file(model->path, model->digest, &size, err);
    if (status == SL_OK && !same) known = *model;
    memcpy(model->digest, known.digest, sizeof model->digest);
    pthread_mutex_unlock(&lock);
    return status;
}

static sl_status find_bundled(struct store_model *out, struct sl_err *err)
{
    char path[PATH_MAX];
    struct store_model model = {.bundled = true, .name = STORE_BUNDLED_NAME ":latest"};
    sl_status status = store_bundled_path(path, err);
    if (status == SL_OK) status = describe_file(path, &model, err);
    if (status == SL_OK) status = hash_once(&model, err);
    if (status == SL_OK) *out = model;
    return status;
}

static bool is_bundled(const char *name)
{
    return strcmp(name, STORE_BUNDLED_NAME) == 0 || strcmp(name, STORE_BUNDLED_NAME ":latest") == 0;
}

static bool is_path(const char *name)
{
    return name[0] == '/' || name[0] == '.';
}

sl_status store_find(const struct store *store, const char *name, struct store_model *out,
                     struct sl_err *err)
{
    struct store_name parsed;
    char place[STORE_NAME_PATH_SIZE], text[STORE_NAME_SIZE];
    if (is_bundled(name)) return find_bundled(out, err);
    sl_status status = store_name_parse(name, &parsed, err);
    if (status != SL_OK) return status;
    status = store_find_place(store, &parsed, place, err);
    if (status == SL_OK) status = store_load(store, place, out, err);
    if (status != SL_NOT_FOUND) return status;
    store_name_text(&parsed, text);
    return sl_err_set(
        err, status,
        "%s: no such model; starlane pull %s gets it, starlane list shows what is here", name,
        text);
}

/* Is there a file to fall back to? */
static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static sl_status check_path(const char *name, struct sl_err *err)
{
    struct stat st;
    if (stat(name, &st) != 0) return sl_err_errno(err, errno, "%s", name);
    if (!S_ISDIR(st.st_mode)) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s: a folder; give the model file in it", name);
}

static sl_status resolve_file(const char *path, struct store_model *out, struct sl_err *err)
{
    struct store_model model = {.local = true};
    sl_status status = check_path(path, err);
    if (status == SL_OK && strlen(path) >= sizeof model.name)
        status = sl_err_set(err, SL_INVALID, "the path is too long");
    if (status == SL_OK) status = describe_file(path, &model, err);
    if (status != SL_OK) return status;
    snprintf(model.name, sizeof model.name, "%s", path);
    *out = model;
    return SL_OK;
}

sl_status store_resolve(const struct store *store, const char *name, struct store_model *out,
                        struct sl_err *err)
{
    if (is_path(name)) return resolve_file(name, out, err);
    sl_status status = store_find(store, name, out, err);
    bool unknown = status == SL_NOT_FOUND || status == SL_INVALID;
    return unknown && is_file(name) ? resolve_file(name, out, err) : status;
}

sl_status store_resolve_path(const struct store *store, const char *name, char out[PATH_MAX],
                             struct sl_err *err)
{
    struct store_model model;
    sl_status status;
    if (is_bundled(name)) return store_bundled_path(out, err);
    if (!is_path(name)) {
        status = store_find(store, name, &model, err);
        if (status == SL_OK) {
            memcpy(out, model.path, sizeof model.path);
            store_model_done(&model);
            return SL_OK;
        }
        bool unknown = status == SL_NOT_FOUND || status == SL_INVALID;
        if (!unknown || access(name, F_OK) != 0) return status;
    }
    status = check_path(name, err);
    return status == SL_OK ? store_path(out, err, "%s", name) : status;
}

struct walk {
    const char *root;
    const char *place; /* so far; "" at the root */
    int depth;         /* levels still to go */
    store_place_fn *fn;
    void *ctx;
};

static sl_status visit(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    const struct walk *walk = ctx;
    char path[PATH_MAX], place[PATH_MAX];
    struct stat st;
    if (name[0] == '.') return SL_OK;
    sl_status status = store_path(path, err, "%s/%s", dir, name);
    if (status == SL_OK)
        status = store_path(place, err, "%s%s%s", walk->place, *walk->place ? "/" : "", name);
    if (status != SL_OK || lstat(path, &st) != 0) return status;
    if (walk->depth == 0)
        return S_ISREG(st.st_mode) ? walk->fn(walk->ctx, place, path, err) : SL_OK;
    struct walk below = *walk;
    below.place = place;
    below.depth--;
    return S_ISDIR(st.st_mode) ? store_each_entry(path, visit, &below, err) : SL_OK;
}

sl_status store_each_place(const char *root, store_place_fn *fn, void *ctx, struct sl_err *err)
{
    struct walk walk = {root, "", STORE_PLACE_DEPTH - 1, fn, ctx};
    return store_each_entry(root, visit, &walk, err);
}

/* The slot for one more model; n is not yet counted up. */
static struct store_model *next_slot(struct store_models *models)
{
    struct store_model *v = sl_realloc_array(models->v, models->n + 1, sizeof *v);
    if (!v) return NULL;
    models->v = v;
    return &v[models->n];
}

struct listing {
    const struct store *store;
    struct store_models *out;
};

static sl_status list_place(void *ctx, const char *place, const char *path, struct sl_err *err)
{
    struct listing *listing = ctx;
    struct store_models *out = listing->out;
    struct sl_err why = SL_ERR_INIT;
    struct store_model *slot = next_slot(out);
    (void)path;
    if (!slot) return sl_err_set(err, SL_NOMEM, "list of models");
    if (out->n >= STORE_MODELS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d models", STORE_MODELS_MAX);
    sl_status status = store_load(listing->store, place, slot, &why);
    if (status == SL_OK) {
        out->n++;
    } else if (status == SL_NOMEM) {
        if (err) *err = why;
        return status;
    } else if (out->n_broken++ == 0) {
        out->broken = why;
    }
    return SL_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct store_model *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static sl_status add_bundled(struct store_models *out, struct sl_err *err)
{
    struct store_model *slot = next_slot(out);
    if (!slot) return sl_err_set(err, SL_NOMEM, "list of models");
    sl_status status = find_bundled(slot, NULL);
    if (status == SL_OK) out->n++;
    return status == SL_NOMEM ? sl_err_set(err, status, STORE_BUNDLED_NAME) : SL_OK;
}

sl_status store_list(const struct store *store, struct store_models *out, struct sl_err *err)
{
    char manifests[PATH_MAX];
    struct store_models models = {0};
    struct listing listing = {store, &models};
    sl_status status = store_path(manifests, err, "%s/manifests", store->root);
    if (status == SL_OK) status = store_each_place(manifests, list_place, &listing, err);
    if (status == SL_OK) status = add_bundled(&models, err);
    if (status != SL_OK) {
        store_models_done(&models);
        return status;
    }
    qsort(models.v, models.n, sizeof *models.v, by_name);
    *out = models;
    return SL_OK;
}

sl_status store_model_file(const struct store_model *model, const char *role, char out[PATH_MAX],
                           struct sl_err *err)
{
    const struct store_layer *own = NULL, *wanted = NULL;
    for (size_t i = 0; i < model->n_layers; i++) {
        const struct store_layer *layer = &model->layers[i];
        if (!own && strcmp(layer->role, "model") == 0) own = layer;
        if (!wanted && strcmp(layer->role, role) == 0) wanted = layer;
    }
    if (!own || !wanted || !*wanted->file)
        return sl_err_set(err, SL_NOT_FOUND, "%s: has no file with %s", model->name, role);
    /* path is the folder and the model's own file in it */
    size_t n = strlen(model->path), n_own = strlen(own->file);
    if (n < n_own) return sl_err_set(err, SL_INTERNAL, "%s: its path", model->name);
    return store_path(out, err, "%.*s%s", (int)(n - n_own), model->path, wanted->file);
}
