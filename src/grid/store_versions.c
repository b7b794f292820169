/* store_versions.c: the tags of a name: what a name without one means, and which there are. A
 * version of a model is a tag that is a number. */
#include "base/mem.h"
#include "grid/store_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIGITS_MAX 18 /* of a version: it fits int64_t */

bool store_has_place(const struct store *store, const char *place)
{
    char path[PATH_MAX];
    struct stat st;
    return store_path(path, NULL, "%s/manifests/%s", store->root, place) == SL_OK &&
           lstat(path, &st) == 0;
}

/* -1: not a version. */
static int64_t version_of(const char *tag)
{
    size_t n = strspn(tag, "0123456789");
    return n > 0 && n <= DIGITS_MAX && !tag[n] ? strtoll(tag, NULL, 10) : -1;
}

static int by_version(const void *a, const void *b)
{
    int64_t x = version_of(a), y = version_of(b);
    if (x >= 0 && y >= 0 && x != y) return x < y ? -1 : 1;
    if ((x >= 0) != (y >= 0)) return x >= 0 ? -1 : 1;
    return strcmp(a, b);
}

static sl_status add_tag(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct store_tags *tags = ctx;
    char path[PATH_MAX];
    struct stat st;
    if (name[0] == '.' || strlen(name) >= STORE_TAG_SIZE) return SL_OK;
    sl_status status = store_path(path, err, "%s/%s", dir, name);
    if (status != SL_OK || lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) return status;
    if (tags->n == STORE_TAGS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d tags", STORE_TAGS_MAX);
    char(*v)[STORE_TAG_SIZE] = sl_realloc_array(tags->v, tags->n + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "list of tags");
    tags->v = v;
    snprintf(v[tags->n++], sizeof *v, "%s", name);
    return SL_OK;
}

static sl_status list_tags(const struct store *store, const struct store_name *name,
                           struct store_tags *out, struct sl_err *err)
{
    char dir[PATH_MAX];
    struct store_tags tags = {0};
    sl_status status = store_path(dir, err, "%s/manifests/%s/%s/%s", store->root, name->host,
                                  name->space, name->model);
    if (status == SL_OK) status = store_each_entry(dir, add_tag, &tags, err);
    if (status != SL_OK) {
        store_tags_done(&tags);
        return status;
    }
    if (tags.n > 1) qsort(tags.v, tags.n, sizeof *tags.v, by_version);
    *out = tags;
    return SL_OK;
}

void store_tags_done(struct store_tags *tags)
{
    sl_free(tags->v);
    *tags = (struct store_tags){0};
}

sl_status store_versions(const struct store *store, const char *name, struct store_tags *out,
                         struct sl_err *err)
{
    struct store_name parsed;
    sl_status status = store_name_parse(name, &parsed, err);
    return status == SL_OK ? list_tags(store, &parsed, out, err) : status;
}

/* The name's place with another tag. */
static void place_with(const struct store_name *name, const char *tag,
                       char out[STORE_NAME_PATH_SIZE])
{
    struct store_name other = *name;
    snprintf(other.tag, sizeof other.tag, "%s", tag);
    store_name_path(&other, out);
}

static sl_status find_highest(const struct store *store, const struct store_name *name,
                              char out[STORE_NAME_PATH_SIZE], struct sl_err *err)
{
    struct store_tags tags;
    size_t n = 0;
    sl_status status = list_tags(store, name, &tags, err);
    if (status != SL_OK) return status;
    while (n < tags.n && version_of(tags.v[n]) >= 0) n++;
    if (n > 0) place_with(name, tags.v[n - 1], out);
    store_tags_done(&tags);
    return SL_OK;
}

/* Tags on hf.co are files and quantisations, and a URL has none: they are what they are. */
sl_status store_find_place(const struct store *store, const struct store_name *name,
                           char out[STORE_NAME_PATH_SIZE], struct sl_err *err)
{
    store_name_path(name, out);
    if (name->source != STORE_OLLAMA) return SL_OK;
    if (!name->tagged) {
        place_with(name, "default", out);
        if (store_has_place(store, out)) return SL_OK;
        store_name_path(name, out);
    }
    if (strcmp(name->tag, "latest") != 0 || store_has_place(store, out)) return SL_OK;
    return find_highest(store, name, out, err);
}
