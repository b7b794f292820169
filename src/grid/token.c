/* token.c: tokens as rows of the database, and who has tried with wrong ones. */
#include "grid/token.h"
#include "base/mem.h"
#include "grid/db.h"
#include "net/secret.h"
#include "net/sha256.h"

#include <string.h>

#define KEEP_MS (INT64_C(7) * 86400 * 1000) /* ended tokens are still listed so long */
#define COLUMNS "id, created_ms, expires_ms, revoked_ms, n_uses, n_used, gateways"

const char *token_state(const struct token_row *row, int64_t now_ms)
{
    if (row->revoked_ms) return "revoked";
    if (row->n_used >= row->n_uses) return "used up";
    return row->expires_ms <= now_ms ? "expired" : "active";
}

/* --- making --- */

static sl_status forget_old(struct db *db, int64_t now_ms, struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = db_prepare(db, "DELETE FROM tokens WHERE expires_ms < ?1", &stmt, err);
    if (status != SL_OK) return status;
    db_bind_int(stmt, 1, now_ms - KEEP_MS);
    status = db_run(stmt, err);
    db_finalize(stmt);
    return status;
}

static sl_status insert(struct db *db, const struct token_row *row,
                        const unsigned char hash[SHA256_BYTES], struct sl_err *err)
{
    struct db_stmt *stmt;
    int64_t n = 0;
    sl_status status = forget_old(db, row->created_ms, err);
    if (status == SL_OK) status = db_query_int(db, "SELECT count(*) FROM tokens", &n, err);
    if (status == SL_OK && n >= TOKEN_COUNT_MAX)
        status = sl_err_set(err, SL_LIMIT,
                            "there are %d tokens, and no more can be until some are a week old",
                            TOKEN_COUNT_MAX);
    if (status != SL_OK) return status;
    status = db_prepare(db,
                        "INSERT INTO tokens(id, hash, created_ms, expires_ms, n_uses, gateways)"
                        " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                        &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, row->id);
    db_bind_blob(stmt, 2, hash, SHA256_BYTES);
    db_bind_int(stmt, 3, row->created_ms);
    db_bind_int(stmt, 4, row->expires_ms);
    db_bind_int(stmt, 5, row->n_uses);
    db_bind_int(stmt, 6, row->gateways);
    status = db_run(stmt, err);
    db_finalize(stmt);
    return status;
}

static sl_status make_secret(struct token_text *out, unsigned char hash[SHA256_BYTES],
                             struct sl_err *err)
{
    *out = (struct token_text){0};
    sl_status status = secret_digits(out->id, TOKEN_ID_CHARS, err);
    if (status == SL_OK) status = secret_digits(out->secret, TOKEN_SECRET_CHARS, err);
    if (status != SL_OK) return status;
    status = sha256_of(out->secret, TOKEN_SECRET_CHARS, hash);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "hash the secret");
}

sl_status token_make(struct db *db, const struct token_terms *terms, int64_t now_ms,
                     struct token_text *out, struct token_row *out_row, struct sl_err *err)
{
    unsigned char hash[SHA256_BYTES];
    if (terms->ttl_ms < TOKEN_TTL_MIN_MS || terms->ttl_ms > TOKEN_TTL_MAX_MS)
        return sl_err_set(err, SL_INVALID, "a token lives between a second and 366 days");
    if (terms->n_uses < 1 || terms->n_uses > TOKEN_USES_MAX)
        return sl_err_set(err, SL_INVALID, "a token has 1 to %d uses", TOKEN_USES_MAX);
    *out_row = (struct token_row){.created_ms = now_ms,
                                  .expires_ms = now_ms + terms->ttl_ms,
                                  .n_uses = terms->n_uses,
                                  .gateways = terms->gateways};
    sl_status status = make_secret(out, hash, err);
    if (status == SL_OK) {
        memcpy(out_row->id, out->id, sizeof out->id);
        status = db_begin(db, err);
    }
    if (status == SL_OK) status = db_end(db, insert(db, out_row, hash, err), err);
    if (status != SL_OK) explicit_bzero(out, sizeof *out);
    return status;
}

/* --- redeeming --- */

struct found {
    struct token_row row;
    unsigned char hash[SHA256_BYTES];
};

static sl_status read_row(struct db_stmt *stmt, struct token_row *out, struct sl_err *err)
{
    const char *id = db_column_text(stmt, 0);
    if (strlen(id) != TOKEN_ID_CHARS)
        return sl_err_set(err, SL_CORRUPT, "a token's row is damaged");
    *out = (struct token_row){.created_ms = db_column_int(stmt, 1),
                              .expires_ms = db_column_int(stmt, 2),
                              .revoked_ms = db_column_int(stmt, 3),
                              .n_uses = db_column_int(stmt, 4),
                              .n_used = db_column_int(stmt, 5),
                              .gateways = db_column_int(stmt, 6) != 0};
    memcpy(out->id, id, sizeof out->id);
    return SL_OK;
}

/* NOT_FOUND: err is not set then. */
static sl_status find(struct db *db, const char *id, struct found *out, struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row;
    size_t n = 0;
    sl_status status =
        db_prepare(db, "SELECT " COLUMNS ", hash FROM tokens WHERE id = ?1", &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, id);
    status = db_step(stmt, &row, err);
    if (status == SL_OK && !row) status = SL_NOT_FOUND;
    if (status == SL_OK) status = read_row(stmt, &out->row, err);
    const void *hash = status == SL_OK ? db_column_blob(stmt, 7, &n) : NULL;
    if (status == SL_OK && n != SHA256_BYTES)
        status = sl_err_set(err, SL_CORRUPT, "the row of token %s is damaged", id);
    if (status == SL_OK) memcpy(out->hash, hash, n);
    db_finalize(stmt);
    return status;
}

static sl_status run_for_id(struct db *db, const char *sql, const char *id, int64_t number,
                            struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = db_prepare(db, sql, &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, id);
    db_bind_int(stmt, 2, number);
    status = db_run(stmt, err);
    db_finalize(stmt);
    return status;
}

/* It is known, and so is its secret. */
static sl_status check_found(const struct token_row *row, bool gateway, int64_t now_ms,
                             struct sl_err *err)
{
    if (strcmp(token_state(row, now_ms), "active") != 0)
        return sl_err_set(err, SL_DENIED,
                          "the token is %s; make another one at the gateway: starlane token create",
                          token_state(row, now_ms));
    if (!gateway || row->gateways) return SL_OK;
    return sl_err_set(err, SL_DENIED,
                      "the token lets nodes in; for another gateway make one at the gateway: "
                      "starlane token create --gateway");
}

static sl_status redeem(struct db *db, const struct token_text *shown, bool gateway, int64_t now_ms,
                        struct sl_err *err)
{
    unsigned char hash[SHA256_BYTES];
    struct found found = {0};
    sl_status status = sha256_of(shown->secret, strlen(shown->secret), hash);
    if (status != SL_OK) return sl_err_set(err, status, "hash the secret");
    status = find(db, shown->id, &found, err);
    if (status != SL_OK && status != SL_NOT_FOUND) return status;
    bool equal = secret_equal(hash, found.hash, SHA256_BYTES);
    if (!equal || status == SL_NOT_FOUND)
        return sl_err_set(err, SL_UNAUTHENTICATED,
                          "the gateway does not know this token: it was mistyped, or made by "
                          "another gateway");
    status = check_found(&found.row, gateway, now_ms, err);
    if (status != SL_OK) return status;
    return run_for_id(db, "UPDATE tokens SET n_used = ?2 WHERE id = ?1", shown->id,
                      found.row.n_used + 1, err);
}

sl_status token_redeem(struct db *db, const struct token_text *shown, bool gateway, int64_t now_ms,
                       struct sl_err *err)
{
    sl_status status = db_begin(db, err);
    return status == SL_OK ? db_end(db, redeem(db, shown, gateway, now_ms, err), err) : status;
}

/* --- listing, revoking --- */

static sl_status read_rows(struct db_stmt *stmt, struct token_row *rows, size_t n_max, size_t *n,
                           struct sl_err *err)
{
    bool row;
    for (*n = 0; *n < n_max; ++*n) {
        sl_status status = db_step(stmt, &row, err);
        if (status != SL_OK || !row) return status;
        status = read_row(stmt, &rows[*n], err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status token_list(struct db *db, struct token_row **out, size_t *n, struct sl_err *err)
{
    struct db_stmt *stmt = NULL;
    struct token_row *rows = sl_calloc(TOKEN_COUNT_MAX, sizeof *rows);
    if (!rows) return sl_err_set(err, SL_NOMEM, "no memory for the list of tokens");
    sl_status status =
        db_prepare(db, "SELECT " COLUMNS " FROM tokens ORDER BY created_ms DESC, id", &stmt, err);
    if (status == SL_OK) status = read_rows(stmt, rows, TOKEN_COUNT_MAX, n, err);
    db_finalize(stmt);
    if (status != SL_OK) {
        sl_free(rows);
        return status;
    }
    *out = rows;
    return SL_OK;
}

static sl_status revoke(struct db *db, const char *id, int64_t now_ms, struct sl_err *err)
{
    struct found found = {0};
    sl_status status = find(db, id, &found, err);
    if (status == SL_NOT_FOUND)
        return sl_err_set(err, status,
                          "there is no token \"%.32s\"; starlane token list shows them", id);
    if (status == SL_OK && found.row.revoked_ms)
        return sl_err_set(err, SL_EXISTS, "token %s is revoked already", id);
    if (status != SL_OK) return status;
    return run_for_id(db, "UPDATE tokens SET revoked_ms = ?2 WHERE id = ?1", id, now_ms, err);
}

sl_status token_revoke(struct db *db, const char *id, int64_t now_ms, struct sl_err *err)
{
    sl_status status = db_begin(db, err);
    return status == SL_OK ? db_end(db, revoke(db, id, now_ms, err), err) : status;
}

/* --- wrong tries --- */

static const struct token_guard_peer *guard_find(const struct token_guard *guard, const char *host,
                                                 int64_t now_ms)
{
    for (size_t i = 0; i < TOKEN_GUARD_PEERS; i++) {
        const struct token_guard_peer *peer = &guard->peers[i];
        if (peer->host[0] && strcmp(peer->host, host) == 0)
            return now_ms - peer->since_ms < TOKEN_GUARD_MS ? peer : NULL;
    }
    return NULL;
}

int64_t token_guard_wait_ms(const struct token_guard *guard, const char *host, int64_t now_ms)
{
    const struct token_guard_peer *peer = guard_find(guard, host, now_ms);
    if (!peer || peer->n_wrong < TOKEN_GUARD_TRIES) return 0;
    return peer->since_ms + TOKEN_GUARD_MS - now_ms;
}

/* The host's own place, or else a free one, or the one used longest ago. */
static struct token_guard_peer *guard_place(struct token_guard *guard, const char *host)
{
    struct token_guard_peer *oldest = &guard->peers[0];
    for (size_t i = 0; i < TOKEN_GUARD_PEERS; i++) {
        struct token_guard_peer *peer = &guard->peers[i];
        if (strcmp(peer->host, host) == 0) return peer;
        if (oldest->host[0] && (!peer->host[0] || peer->since_ms < oldest->since_ms)) oldest = peer;
    }
    return oldest;
}

void token_guard_wrong(struct token_guard *guard, const char *host, int64_t now_ms)
{
    struct token_guard_peer *peer = guard_place(guard, host);
    if (!guard_find(guard, host, now_ms)) {
        *peer = (struct token_guard_peer){.since_ms = now_ms};
        strncpy(peer->host, host, sizeof peer->host - 1);
    }
    peer->n_wrong++;
}
