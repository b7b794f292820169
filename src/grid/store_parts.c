#include "grid/store_parts.h"
#include "base/mem.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_TRIES 100 /* somebody removes the folder under us so often: give up */
#define LOCK_NAME "lock"
#define MANIFEST_NAME "manifest.json"
#define JOURNAL_END ".journal"

static sl_status part_dir(const struct store *store, const char *digest, char out[PATH_MAX],
                          struct sl_err *err)
{
    char parsed[STORE_DIGEST_SIZE];
    if (!store_digest_parse(digest, parsed))
        return sl_err_set(err, SL_INVALID, "a model's digest has 64 hex digits");
    return store_path(out, err, "%s/parts/%s", store->root, parsed);
}

sl_status store_part_open(const struct store *store, const char *digest, struct store_part *out,
                          struct sl_err *err)
{
    char path[PATH_MAX];
    struct store_part part = {.use = {.fd = -1}};
    sl_status status = part_dir(store, digest, part.dir, err);
    if (status == SL_OK) status = store_path(path, err, "%s/" LOCK_NAME, part.dir);
    if (status != SL_OK) return status;
    for (int i = 0; i < OPEN_TRIES; i++) {
        status = store_make_dirs(part.dir, err);
        if (status == SL_OK) status = store_lock_shared(&part.use, path, err);
        if (status != SL_NOT_FOUND) break;
    }
    if (status != SL_OK) return status;
    (void)!futimens(part.use.fd, NULL); /* only the order of removal depends on it */
    *out = part;
    return SL_OK;
}

void store_part_close(struct store_part *part)
{
    if (*part->dir) store_unlock(&part->use);
    part->dir[0] = '\0';
}

bool store_part_exists(const struct store *store, const char *digest)
{
    char dir[PATH_MAX];
    return part_dir(store, digest, dir, NULL) == SL_OK && access(dir, F_OK) == 0;
}

sl_status store_part_claim(const struct store_part *part, struct store_lock *claim,
                           struct sl_err *err)
{
    char path[PATH_MAX];
    claim->fd = -1;
    sl_status status = store_path(path, err, "%s/writing", part->dir);
    return status == SL_OK ? store_lock(claim, path, false, false, err) : status;
}

sl_status store_part_file(const struct store_part *part, size_t no, size_t n_files,
                          const char *suffix, char out[PATH_MAX], struct sl_err *err)
{
    if (n_files == 1) return store_path(out, err, "%s/model.gguf%s", part->dir, suffix);
    return store_path(out, err, "%s/model-%05zu-of-%05zu.gguf%s", part->dir, no + 1, n_files,
                      suffix);
}

/* --- manifests --- */

sl_status store_part_write_manifest(const struct store_part *part, const struct store_model *model,
                                    struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf text;
    sl_status status = store_path(path, err, "%s/" MANIFEST_NAME, part->dir);
    if (status != SL_OK) return status;
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    status = store_manifest_write(model, &text);
    if (status != SL_OK)
        (void)sl_err_set(err, status, "manifest");
    else
        status = store_write_file(path, text.data, text.len, err);
    sl_buf_done(&text);
    return status;
}

sl_status store_part_read_manifest(const struct store_part *part, const char *name,
                                   const char *digest, struct store_model *out, struct sl_err *err)
{
    char path[PATH_MAX], place[STORE_NAME_PATH_SIZE];
    struct store_name parsed;
    struct sl_buf text;
    sl_status status = store_path(path, err, "%s/" MANIFEST_NAME, part->dir);
    if (status == SL_OK) status = store_name_parse(name, &parsed, err);
    if (status != SL_OK) return status;
    store_name_path(&parsed, place);
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    status = store_read_file(path, &text, NULL);
    if (status == SL_OK) status = store_manifest_parse(text.data, text.len, place, out, NULL);
    sl_buf_done(&text);
    if (status == SL_OK && !strcmp(out->digest, digest)) return SL_OK;
    if (status == SL_OK) store_model_done(out);
    return sl_err_set(err, SL_NOT_FOUND, "%s: nothing is kept of it", name);
}

/* --- removal --- */

static uint64_t disk_bytes(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

struct removal {
    bool journals; /* these only, or the others only */
    uint64_t freed;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && !strcmp(text + n - n_end, end);
}

static sl_status remove_entry(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct removal *removal = ctx;
    char path[PATH_MAX];
    if (!strcmp(name, LOCK_NAME) || ends_with(name, JOURNAL_END) != removal->journals) return SL_OK;
    sl_status status = store_path(path, err, "%s/%s", dir, name);
    if (status != SL_OK) return status;
    uint64_t bytes = disk_bytes(path);
    if (unlink(path) == 0)
        removal->freed += bytes;
    else if (errno != ENOENT)
        status = sl_err_errno(err, errno, "%s", path);
    return status;
}

/* BUSY: it is in use. */
static sl_status remove_dir(const char *dir, uint64_t *freed, struct sl_err *err)
{
    char path[PATH_MAX];
    struct store_lock lock;
    struct removal removal = {.journals = true};
    sl_status status = store_path(path, err, "%s/" LOCK_NAME, dir);
    if (status == SL_OK) status = store_lock(&lock, path, false, true, err);
    if (status != SL_OK) return status;
    status = store_each_entry(dir, remove_entry, &removal, err);
    if (status == SL_OK) status = store_sync_dir(dir, err);
    removal.journals = false;
    if (status == SL_OK) status = store_each_entry(dir, remove_entry, &removal, err);
    store_unlock(&lock);
    (void)rmdir(dir); /* unless somebody has begun anew */
    *freed += removal.freed;
    return status;
}

void store_part_drop(struct store_part *part)
{
    char dir[PATH_MAX];
    uint64_t freed = 0;
    memcpy(dir, part->dir, sizeof dir);
    store_part_close(part);
    (void)!remove_dir(dir, &freed, NULL);
}

/* --- all of them --- */

struct old_part {
    char digest[STORE_DIGEST_SIZE];
    struct timespec used;
};

struct old_parts {
    struct old_part *v;
    size_t n;
};

static sl_status add_part(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct old_parts *parts = ctx;
    struct stat st;
    char path[PATH_MAX];
    struct old_part part = {0};
    if (!store_digest_parse(name, part.digest)) return SL_OK;
    sl_status status = store_path(path, err, "%s/%s/" LOCK_NAME, dir, name);
    if (status != SL_OK) return status;
    if (stat(path, &st) == 0) part.used = st.st_mtim;
    struct old_part *v = sl_realloc_array(parts->v, parts->n + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "list of parts");
    parts->v = v;
    v[parts->n++] = part;
    return SL_OK;
}

static int by_use(const void *a, const void *b)
{
    const struct old_part *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* Oldest first, until `enough` says so; never those in use. */
static sl_status remove_unused(const struct store *store, bool (*enough)(void *ctx), void *ctx,
                               uint64_t *freed, struct sl_err *err)
{
    struct old_parts parts = {0};
    char root[PATH_MAX], dir[PATH_MAX];
    sl_status status = store_path(root, err, "%s/parts", store->root);
    if (status == SL_OK) status = store_each_entry(root, add_part, &parts, err);
    if (parts.n > 1) qsort(parts.v, parts.n, sizeof *parts.v, by_use);
    for (size_t i = 0; i < parts.n && status == SL_OK && !(enough && enough(ctx)); i++) {
        status = store_path(dir, err, "%s/%s", root, parts.v[i].digest);
        if (status == SL_OK) status = remove_dir(dir, freed, err);
        if (status == SL_BUSY || status == SL_NOT_FOUND) status = SL_OK;
    }
    sl_free(parts.v);
    return status;
}

struct need {
    const struct store *store;
    uint64_t n;
};

static bool has_room(void *ctx)
{
    const struct need *need = ctx;
    return store_check_room(need->store->root, need->n, NULL) == SL_OK;
}

sl_status store_parts_make_room(const struct store *store, uint64_t n, struct sl_err *err)
{
    struct need need = {store, n};
    uint64_t freed = 0;
    sl_status status = SL_OK;
    if (!has_room(&need)) status = remove_unused(store, has_room, &need, &freed, err);
    return status == SL_OK ? store_check_room(store->root, n, err) : status;
}

sl_status store_parts_sweep(const struct store *store, uint64_t *freed, struct sl_err *err)
{
    return remove_unused(store, NULL, NULL, freed, err);
}
