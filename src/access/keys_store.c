/* keys_store.c: keys as rows of the database. */
#include "access/keys.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "grid/db.h"
#include "net/secret.h"
#include "net/sha256.h"
#include "sched/local.h"

#include <stdio.h>
#include <string.h>

#define PREFIX "sl-"
#define PREFIX_CHARS 3

#define COLUMNS \
    "id, name, hash, created_ms, expires_ms, revoked_ms, last_used_ms, requests_per_min, " \
    "tokens_per_min, concurrency, models, qos_class"

const char *keys_class_name(int qos_class)
{
    bool known = qos_class >= 0 && qos_class < SCHED_CLASS_COUNT;
    return known ? sched_class_name((enum sched_class)qos_class) : NULL;
}

int keys_class_of(const char *name)
{
    enum sched_class qos_class;
    return name && sched_class_parse(name, &qos_class) ? (int)qos_class : KEYS_CLASS_NONE;
}

static sl_status make_secret(char secret[KEYS_SECRET_CHARS + 1], struct api_key *key,
                             struct sl_err *err)
{
    memcpy(secret, PREFIX, PREFIX_CHARS);
    sl_status status = secret_digits(secret + PREFIX_CHARS, KEYS_SECRET_CHARS - PREFIX_CHARS, err);
    if (status != SL_OK) return status;
    secret[KEYS_SECRET_CHARS] = '\0';
    memcpy(key->id, secret + PREFIX_CHARS, KEYS_ID_CHARS);
    status = sha256_of(secret, KEYS_SECRET_CHARS, key->hash);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "hash the key");
}

/* Copies text that people read: valid UTF-8 without control characters. */
static sl_status take_text(const char *what, const char *text, char *out, size_t max,
                           struct sl_err *err)
{
    size_t n = strlen(text);
    if (n > max) return sl_err_set(err, SL_INVALID, "%s has more than %zu bytes", what, max);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return sl_err_set(err, SL_INVALID, "%s has control characters", what);
    }
    if (!sl_utf8_valid(text, n)) return sl_err_set(err, SL_INVALID, "%s is not UTF-8", what);
    memcpy(out, text, n + 1);
    return SL_OK;
}

static sl_status take_limits(const struct quota_limits *limits, struct quota_limits *out,
                             struct sl_err *err)
{
    const int64_t v[] = {limits->requests_per_min, limits->tokens_per_min, limits->concurrency};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        if (v[i] < 0 || v[i] > QUOTA_RATE_MAX)
            return sl_err_set(err, SL_INVALID, "a limit is at least 0 and at most %d",
                              QUOTA_RATE_MAX);
    }
    *out = *limits;
    return SL_OK;
}

static sl_status take_request(const struct keys_request *request, int64_t now_ms,
                              struct api_key *key, struct sl_err *err)
{
    if (!request->name || !*request->name) return sl_err_set(err, SL_INVALID, "a key needs a name");
    if (request->expires_ms && request->expires_ms <= now_ms)
        return sl_err_set(err, SL_INVALID, "the key would have expired already");
    *key = (struct api_key){
        .created_ms = now_ms, .expires_ms = request->expires_ms, .qos_class = request->qos_class};
    sl_status status = take_text("the name", request->name, key->name, KEYS_NAME_MAX, err);
    if (status == SL_OK && request->models)
        status =
            take_text("the list of models", request->models, key->models, KEYS_MODELS_MAX, err);
    if (status == SL_OK) status = take_limits(&request->limits, &key->limits, err);
    return status;
}

static sl_status insert(struct db *db, const struct api_key *key, struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = db_prepare(
        db, "INSERT INTO keys(" COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, 0, 0, ?6, ?7, ?8, ?9, ?10)",
        &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, key->id);
    db_bind_text(stmt, 2, key->name);
    db_bind_blob(stmt, 3, key->hash, sizeof key->hash);
    db_bind_int(stmt, 4, key->created_ms);
    db_bind_int(stmt, 5, key->expires_ms);
    db_bind_int(stmt, 6, key->limits.requests_per_min);
    db_bind_int(stmt, 7, key->limits.tokens_per_min);
    db_bind_int(stmt, 8, key->limits.concurrency);
    db_bind_text(stmt, 9, key->models);
    db_bind_text(stmt, 10, keys_class_name(key->qos_class));
    status = db_run(stmt, err);
    db_finalize(stmt);
    if (status == SL_EXISTS)
        return sl_err_set(
            err, status, "there is a key named \"%s\"; revoke it, or take another name", key->name);
    return status;
}

static sl_status insert_within_limit(struct db *db, const struct api_key *key, struct sl_err *err)
{
    int64_t n;
    sl_status status = db_query_int(db, "SELECT count(*) FROM keys", &n, err);
    if (status != SL_OK) return status;
    if (n >= KEYS_COUNT_MAX)
        return sl_err_set(err, SL_LIMIT, "there are %lld keys, and no more can be", (long long)n);
    return insert(db, key, err);
}

sl_status keys_make(struct db *db, const struct keys_request *request, int64_t now_ms,
                    char secret[KEYS_SECRET_CHARS + 1], struct api_key *out, struct sl_err *err)
{
    sl_status status = take_request(request, now_ms, out, err);
    if (status == SL_OK) status = make_secret(secret, out, err);
    if (status == SL_OK) status = db_begin(db, err);
    if (status == SL_OK) status = db_end(db, insert_within_limit(db, out, err), err);
    if (status != SL_OK) explicit_bzero(secret, KEYS_SECRET_CHARS + 1);
    return status;
}

static sl_status copy_column(struct db_stmt *stmt, int column, char *out, size_t max)
{
    const char *text = db_column_text(stmt, column);
    size_t n = strlen(text);
    if (n > max) return SL_CORRUPT;
    memcpy(out, text, n + 1);
    return SL_OK;
}

/* The columns of COLUMNS. */
static sl_status read_row(struct db_stmt *stmt, struct api_key *key, struct sl_err *err)
{
    *key = (struct api_key){
        .created_ms = db_column_int(stmt, 3),
        .expires_ms = db_column_int(stmt, 4),
        .revoked_ms = db_column_int(stmt, 5),
        .last_used_ms = db_column_int(stmt, 6),
        .limits = {.requests_per_min = db_column_int(stmt, 7),
                   .tokens_per_min = db_column_int(stmt, 8),
                   .concurrency = db_column_int(stmt, 9)},
        .qos_class = keys_class_of(db_column_text(stmt, 11)),
    };
    size_t n;
    const void *hash = db_column_blob(stmt, 2, &n);
    if (n != sizeof key->hash || copy_column(stmt, 0, key->id, KEYS_ID_CHARS) != SL_OK ||
        copy_column(stmt, 1, key->name, KEYS_NAME_MAX) != SL_OK ||
        copy_column(stmt, 10, key->models, KEYS_MODELS_MAX) != SL_OK)
        return sl_err_set(err, SL_CORRUPT, "the row of API key \"%.16s\" is damaged",
                          db_column_text(stmt, 0));
    memcpy(key->hash, hash, n);
    return SL_OK;
}

/* A key in use comes before a revoked one of the same name, the latest first. */
static sl_status find(struct db *db, const char *id_or_name, struct api_key *out,
                      struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row;
    sl_status status = db_prepare(db,
                                  "SELECT " COLUMNS " FROM keys WHERE id = ?1 OR name = ?1"
                                  " ORDER BY id = ?1 DESC, revoked_ms > 0, created_ms DESC LIMIT 1",
                                  &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, id_or_name);
    status = db_step(stmt, &row, err);
    if (status == SL_OK && !row)
        status = sl_err_set(err, SL_NOT_FOUND,
                            "there is no key \"%.64s\"; starlane keys ls lists them", id_or_name);
    if (status == SL_OK) status = read_row(stmt, out, err);
    db_finalize(stmt);
    return status;
}

static sl_status mark_revoked(struct db *db, struct api_key *key, int64_t now_ms,
                              struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = db_prepare(db, "UPDATE keys SET revoked_ms = ?2 WHERE id = ?1", &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, key->id);
    db_bind_int(stmt, 2, now_ms);
    status = db_run(stmt, err);
    db_finalize(stmt);
    key->revoked_ms = now_ms;
    return status;
}

static sl_status revoke(struct db *db, const char *id_or_name, int64_t now_ms, struct api_key *key,
                        struct sl_err *err)
{
    sl_status status = find(db, id_or_name, key, err);
    if (status != SL_OK) return status;
    if (key->revoked_ms)
        return sl_err_set(err, SL_EXISTS, "key %s (%s) is revoked already", key->id, key->name);
    return mark_revoked(db, key, now_ms, err);
}

sl_status keys_revoke(struct db *db, const char *id_or_name, int64_t now_ms, struct api_key *out,
                      struct sl_err *err)
{
    struct api_key key;
    sl_status status = db_begin(db, err);
    if (status != SL_OK) return status;
    status = db_end(db, revoke(db, id_or_name, now_ms, &key, err), err);
    if (status == SL_OK && out) *out = key;
    return status;
}

sl_status keys_version(struct db *db, int64_t *out, struct sl_err *err)
{
    return db_query_int(db, "SELECT version FROM keys_version", out, err);
}

static sl_status read_rows(struct db_stmt *stmt, struct keys_list *list, size_t n_max,
                           struct sl_err *err)
{
    bool row;
    for (;;) {
        sl_status status = db_step(stmt, &row, err);
        if (status != SL_OK || !row) return status;
        /* Keys made since the rows were counted come with the next look. */
        if (list->n == n_max) return SL_OK;
        status = read_row(stmt, &list->v[list->n], err);
        if (status != SL_OK) return status;
        list->n++;
    }
}

static sl_status read_list(struct db *db, struct keys_list *list, struct sl_err *err)
{
    struct db_stmt *stmt;
    int64_t n = 0;
    /* The number first: should the table change meanwhile, it is read once more. */
    sl_status status = keys_version(db, &list->version, err);
    if (status == SL_OK) status = db_query_int(db, "SELECT count(*) FROM keys", &n, err);
    if (status != SL_OK) return status;
    list->v = sl_calloc((size_t)n, sizeof *list->v);
    if (!list->v) return sl_err_set(err, SL_NOMEM, "out of memory for %lld keys", (long long)n);
    status = db_prepare(db, "SELECT " COLUMNS " FROM keys ORDER BY created_ms, rowid", &stmt, err);
    if (status != SL_OK) return status;
    status = read_rows(stmt, list, (size_t)n, err);
    db_finalize(stmt);
    return status;
}

sl_status keys_read(struct db *db, struct keys_list **out, struct sl_err *err)
{
    struct keys_list *list = sl_calloc(1, sizeof *list);
    if (!list) return sl_err_set(err, SL_NOMEM, "out of memory for keys");
    sl_status status = read_list(db, list, err);
    if (status != SL_OK) {
        keys_list_destroy(list);
        return status;
    }
    *out = list;
    return SL_OK;
}

void keys_list_destroy(struct keys_list *list)
{
    if (!list) return;
    sl_free(list->v);
    sl_free(list);
}
