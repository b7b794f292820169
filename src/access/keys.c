/* keys.c: the loop's table of keys, and the check of a credential. */
#include "access/keys.h"

#include "base/mem.h"
#include "base/strmap.h"
#include "net/secret.h"
#include "net/sha256.h"

#include <string.h>
#include <strings.h>

#define PREFIX "sl-"
#define PREFIX_CHARS 3

struct entry {
    struct api_key key;
    uint64_t seen; /* the number of the list that it was last in */
};

struct keys {
    struct entry **v; /* each on its own, so that it never moves */
    size_t n, n_max;
    struct sl_strmap by_id; /* index into v; borrows the ids */
    uint64_t n_lists;
};

sl_status keys_create(struct keys **out)
{
    struct keys *keys = sl_calloc(1, sizeof *keys);
    if (!keys) return SL_NOMEM;
    sl_status status = sl_strmap_init(&keys->by_id, 0);
    if (status != SL_OK) {
        sl_free(keys);
        return status;
    }
    *out = keys;
    return SL_OK;
}

void keys_destroy(struct keys *keys)
{
    if (!keys) return;
    sl_strmap_done(&keys->by_id);
    for (size_t i = 0; i < keys->n; i++) sl_free(keys->v[i]);
    sl_free(keys->v);
    sl_free(keys);
}

static struct entry *find_entry(const struct keys *keys, const char *id, size_t n)
{
    int32_t i = sl_strmap_get(&keys->by_id, id, n, -1);
    return i < 0 ? NULL : keys->v[i];
}

static sl_status make_room(struct keys *keys)
{
    if (keys->n < keys->n_max) return SL_OK;
    size_t n = keys->n_max ? 2 * keys->n_max : 16;
    struct entry **v = sl_realloc_array(keys->v, n, sizeof(struct entry *));
    if (!v) return SL_NOMEM;
    keys->v = v;
    keys->n_max = n;
    return SL_OK;
}

static sl_status add(struct keys *keys, const struct api_key *key, int64_t now_ms)
{
    sl_status status = make_room(keys);
    if (status != SL_OK) return status;
    struct entry *entry = sl_calloc(1, sizeof *entry);
    if (!entry) return SL_NOMEM;
    entry->key = *key;
    entry->seen = keys->n_lists;
    quota_init(&entry->key.quota, &key->limits, now_ms);
    status = sl_strmap_put(&keys->by_id, entry->key.id, strlen(entry->key.id), (int32_t)keys->n);
    if (status != SL_OK) {
        sl_free(entry);
        return status;
    }
    keys->v[keys->n++] = entry;
    return SL_OK;
}

static void update(struct entry *entry, uint64_t seen, const struct api_key *key, int64_t now_ms)
{
    struct quota quota = entry->key.quota;
    entry->key = *key;
    entry->key.quota = quota;
    entry->seen = seen;
    quota_set_limits(&entry->key.quota, &key->limits, now_ms);
}

sl_status keys_apply(struct keys *keys, const struct keys_list *list, int64_t now_ms)
{
    keys->n_lists++;
    for (size_t i = 0; i < list->n; i++) {
        const struct api_key *key = &list->v[i];
        struct entry *entry = find_entry(keys, key->id, strlen(key->id));
        if (entry)
            update(entry, keys->n_lists, key, now_ms);
        else if (add(keys, key, now_ms) != SL_OK)
            return SL_NOMEM;
    }
    /* We never delete a row; should somebody have done so by hand, the key is dead too. */
    for (size_t i = 0; i < keys->n; i++) {
        struct entry *entry = keys->v[i];
        if (entry->seen != keys->n_lists && !entry->key.revoked_ms) entry->key.revoked_ms = 1;
    }
    return SL_OK;
}

sl_status keys_load(struct keys *keys, struct db *db, int64_t now_ms, struct sl_err *err)
{
    struct keys_list *list;
    sl_status status = keys_read(db, &list, err);
    if (status != SL_OK) return status;
    status = keys_apply(keys, list, now_ms);
    keys_list_destroy(list);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "out of memory for keys");
}

bool keys_any(const struct keys *keys)
{
    return keys->n > 0;
}

struct api_key *keys_find(struct keys *keys, const char *id)
{
    struct entry *entry = find_entry(keys, id, strlen(id));
    return entry ? &entry->key : NULL;
}

/* The credential without "Bearer" and the spaces around it. */
static const char *secret_of(const char *credential, size_t *n)
{
    const char *p = credential + strspn(credential, " \t");
    if (strncasecmp(p, "Bearer", 6) == 0 && (p[6] == ' ' || p[6] == '\t'))
        p += 6 + strspn(p + 6, " \t");
    *n = strcspn(p, " \t");
    return p[*n + strspn(p + *n, " \t")] == '\0' ? p : NULL;
}

/* Whatever the id is, one hash is made and one compared: against zeros when there is no such key,
 * and then a match would not count. Sets *out to the key when all fits. */
static sl_status verify(struct keys *keys, const char *secret, struct api_key **out)
{
    static const uint8_t nobody[KEYS_HASH_BYTES];
    uint8_t hash[SHA256_BYTES];
    struct entry *entry = find_entry(keys, secret + PREFIX_CHARS, KEYS_ID_CHARS);
    sl_status status = sha256_of(secret, KEYS_SECRET_CHARS, hash);
    if (status != SL_OK) return status;
    bool equal = secret_equal(hash, entry ? entry->key.hash : nobody, sizeof hash);
    if (!equal || !entry) return SL_UNAUTHENTICATED;
    *out = &entry->key;
    return SL_OK;
}

sl_status keys_check(struct keys *keys, const char *credential, int64_t now_ms,
                     struct api_key **out, struct sl_err *err)
{
    struct api_key *key = NULL;
    size_t n = 0;
    const char *secret = credential ? secret_of(credential, &n) : NULL;
    if (!credential || n == 0)
        return sl_err_set(err, SL_UNAUTHENTICATED,
                          "an API key is needed: Authorization: Bearer " PREFIX "...");
    if (!secret || n != KEYS_SECRET_CHARS || memcmp(secret, PREFIX, PREFIX_CHARS) != 0)
        return sl_err_set(err, SL_UNAUTHENTICATED,
                          "this is no API key of Starlane: they are " PREFIX
                          " and %d letters and digits",
                          KEYS_SECRET_CHARS - PREFIX_CHARS);
    sl_status status = verify(keys, secret, &key);
    if (status == SL_UNAUTHENTICATED) return sl_err_set(err, status, "the API key is wrong");
    if (status != SL_OK) return sl_err_set(err, status, "the API key could not be checked");
    if (key->revoked_ms)
        return sl_err_set(err, SL_UNAUTHENTICATED, "the API key \"%s\" was revoked", key->name);
    if (key->expires_ms && now_ms >= key->expires_ms)
        return sl_err_set(err, SL_UNAUTHENTICATED, "the API key \"%s\" has expired", key->name);
    key->last_used_ms = now_ms;
    *out = key;
    return SL_OK;
}

/* The usual two pointers: on a mismatch the last star takes one character more. */
static bool glob_matches(const char *pattern, size_t n_pattern, const char *text)
{
    size_t p = 0, star = n_pattern, resume = 0, i = 0;
    while (text[i]) {
        if (p < n_pattern && pattern[p] == '*') {
            star = p++;
            resume = i;
        } else if (p < n_pattern && (pattern[p] == '?' || pattern[p] == text[i])) {
            p++;
            i++;
        } else if (star < n_pattern) {
            p = star + 1;
            i = ++resume;
        } else {
            return false;
        }
    }
    while (p < n_pattern && pattern[p] == '*') p++;
    return p == n_pattern;
}

bool keys_allows(const struct api_key *key, const char *model)
{
    const char *p = key->models;
    if (!*p) return true;
    for (;;) {
        p += strspn(p, " ");
        size_t n = strcspn(p, ","), n_trimmed = n;
        while (n_trimmed > 0 && p[n_trimmed - 1] == ' ') n_trimmed--;
        if (n_trimmed > 0 && glob_matches(p, n_trimmed, model)) return true;
        if (!p[n]) return false;
        p += n + 1;
    }
}
