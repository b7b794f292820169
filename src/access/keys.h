/* keys.h: API keys: made once, shown once, kept as a hash, checked at every request.
 * Floor: access.  Thread: `struct keys` belongs to the loop thread; functions that take a `struct
 * db` run on that connection's thread.  Allocates: keys_create, keys_read, keys_apply.
 *
 * A key is text of KEYS_SECRET_CHARS characters: "sl-", the public id (10 characters), the secret
 * (43); all of 0-9A-Za-z from getrandom(2), so the secret has 256 bits. The database holds the id
 * and the SHA-256 of the whole text: with that much randomness a slow hash would add nothing.
 * A check finds the row by its id and compares hashes in constant time (net/secret.h); an unknown
 * id is hashed and compared too, against zeros, so time tells nothing but what is public.
 *
 * Invariant: rows are never deleted, a revoked key stays known; a `struct api_key` is at the same
 * address until keys_destroy, so a request may hold on to it. Every change of the table in the
 * database raises a number (by trigger) that the database thread looks at once a second:
 * `starlane keys revoke` acts on a running server within about a second. Requests that are running
 * then are finished. */
#pragma once
#include "access/quota.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_ID_CHARS 10
#define KEYS_SECRET_CHARS 56
#define KEYS_HASH_BYTES 32
#define KEYS_NAME_MAX 63                          /* bytes; fits a column of a terminal */
#define KEYS_MODELS_MAX 1023                      /* bytes of the list of patterns */
#define KEYS_COUNT_MAX 100000                     /* all are held in memory, about 1.5 kB each */
#define KEYS_CLASSES "interactive,standard,batch" /* a class is one of sched/local.h */
#define KEYS_CLASS_NONE (-1)                      /* the server's default */

struct db;

struct api_key {
    char id[KEYS_ID_CHARS + 1];
    char name[KEYS_NAME_MAX + 1]; /* unique among keys that are not revoked; never empty */
    uint8_t hash[KEYS_HASH_BYTES];
    int64_t created_ms, expires_ms, revoked_ms, last_used_ms; /* Unix time; 0: never */
    struct quota_limits limits;
    char models[KEYS_MODELS_MAX + 1]; /* patterns with commas between; "": all */
    int qos_class;                    /* for requests that name none; KEYS_CLASS_NONE */
    struct quota quota;               /* the loop's: what is used now; unused in a keys_list */
};

/* --- the table in the database --- */

struct keys_request {
    const char *name;
    const char *models; /* NULL or "": all */
    int64_t expires_ms; /* Unix time, 0: never */
    struct quota_limits limits;
    int qos_class;
};

/* Makes a key and stores it. `secret` is the only copy of its text. INVALID for a bad field, EXISTS
 * for a name in use, LIMIT past KEYS_COUNT_MAX, or what the database says. */
SL_CHECK sl_status keys_make(struct db *db, const struct keys_request *request, int64_t now_ms,
                             char secret[KEYS_SECRET_CHARS + 1], struct api_key *out,
                             struct sl_err *err);

/* Revokes the key with this id, or else the one in use with this name. *out is it (NULL is fine).
 * NOT_FOUND; EXISTS when it was revoked before. */
SL_CHECK sl_status keys_revoke(struct db *db, const char *id_or_name, int64_t now_ms,
                               struct api_key *out, struct sl_err *err);

/* All keys, oldest first. */
struct keys_list {
    struct api_key *v;
    size_t n;
    int64_t version; /* of the table, when it was read */
};
SL_CHECK sl_status keys_read(struct db *db, struct keys_list **out, struct sl_err *err);
void keys_list_destroy(struct keys_list *list); /* NULL is fine */

/* The number that every change of the table raises. */
SL_CHECK sl_status keys_version(struct db *db, int64_t *out, struct sl_err *err);

/* --- the loop's copy --- */

struct keys; /* opaque */

/* Without keys. NOMEM. */
SL_CHECK sl_status keys_create(struct keys **out);
void keys_destroy(struct keys *keys); /* NULL is fine */

/* Takes over what the list says; quotas go on counting. Monotonic time, for the quotas. NOMEM: some
 * of it may be taken over; every key known is then either as before or as in the list. */
SL_CHECK sl_status keys_apply(struct keys *keys, const struct keys_list *list, int64_t now_ms);

/* keys_read and keys_apply in one, for the start of a server. */
SL_CHECK sl_status keys_load(struct keys *keys, struct db *db, int64_t now_ms, struct sl_err *err);

/* Does any key exist? Then requests need one. A revoked or expired key counts: taking away the last
 * key must not open the server. */
bool keys_any(const struct keys *keys);

/* Who is it? `credential` is the value of an Authorization header ("Bearer sl-...", the scheme in
 * any case) or of x-api-key (the text alone); NULL: there was none. now_ms: Unix time. On OK *out
 * is the key, borrowed until keys_destroy. UNAUTHENTICATED for a missing, malformed, wrong, revoked
 * or expired one; err is fit for the client. */
SL_CHECK sl_status keys_check(struct keys *keys, const char *credential, int64_t now_ms,
                              struct api_key **out, struct sl_err *err);

struct api_key *keys_find(struct keys *keys, const char *id); /* NULL: unknown */

/* May the key use this model? Patterns know `*` (any run of characters) and `?` (any one). */
bool keys_allows(const struct api_key *key, const char *model);

const char *keys_class_name(int qos_class); /* NULL for KEYS_CLASS_NONE */
int keys_class_of(const char *name);        /* KEYS_CLASS_NONE for NULL and what is unknown */
