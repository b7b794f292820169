/* membership_admin.c: tokens, changes of members, removals; and who may ask for them. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/db.h"
#include "grid/membership_int.h"
#include "net/secret.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ADMIN_PREFIX "sla-"
#define ADMIN_PREFIX_CHARS 4
#define BEARER "Bearer "

/* --- the administrator's key --- */

static sl_status read_admin(struct membership *m, const char *path, struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, PKI_TEXT_MAX);
    sl_status status = pki_file_read(path, &text, err);
    if (status == SL_OK && text.len < MEMBERSHIP_ADMIN_CHARS)
        status = sl_err_set(err, SL_CORRUPT, "%s: too short; remove it for a new one", path);
    if (status == SL_OK) memcpy(m->admin, text.data, MEMBERSHIP_ADMIN_CHARS);
    explicit_bzero(text.data, text.len);
    sl_buf_done(&text);
    return status;
}

static sl_status make_admin(struct membership *m, const char *path, struct sl_err *err)
{
    memcpy(m->admin, ADMIN_PREFIX, ADMIN_PREFIX_CHARS);
    sl_status status = secret_digits(m->admin + ADMIN_PREFIX_CHARS,
                                     MEMBERSHIP_ADMIN_CHARS - ADMIN_PREFIX_CHARS, err);
    if (status != SL_OK) return status;
    return pki_file_write(path, m->admin, MEMBERSHIP_ADMIN_CHARS, err);
}

sl_status membership_admin_start(struct membership *m, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    sl_status status = identity_path(m->cfg.home, "admin.key", path, err);
    if (status == SL_OK) status = read_admin(m, path, err);
    return status == SL_NOT_FOUND ? make_admin(m, path, err) : status;
}

bool membership_is_admin(const struct membership *m, const char *credential)
{
    size_t n = strlen(BEARER);
    if (!credential || !m->admin[0] || strncasecmp(credential, BEARER, n) != 0) return false;
    const char *text = credential + n;
    if (strlen(text) != MEMBERSHIP_ADMIN_CHARS) return false;
    return secret_equal(text, m->admin, MEMBERSHIP_ADMIN_CHARS);
}

/* --- tokens --- */

struct token_job {
    struct membership *m;
    struct token_terms terms;
    char id[TOKEN_ID_CHARS + 1];
    struct token_text token;
    struct token_row *rows;
    size_t n_rows;
    membership_token_fn fn;
    void *ctx;
};

static void free_token_job(struct token_job *job)
{
    explicit_bzero(&job->token, sizeof job->token);
    sl_free(job->rows);
    sl_free(job);
}

static sl_status run_make(void *arg, struct db *db, struct sl_err *err)
{
    struct token_job *job = arg;
    return token_make(db, &job->terms, sl_unix_time_ms(), &job->token, job->rows, err);
}

static sl_status run_list(void *arg, struct db *db, struct sl_err *err)
{
    struct token_job *job = arg;
    return token_list(db, &job->rows, &job->n_rows, err);
}

static sl_status run_revoke(void *arg, struct db *db, struct sl_err *err)
{
    struct token_job *job = arg;
    return token_revoke(db, job->id, sl_unix_time_ms(), err);
}

/* Addresses and pin: what makes an id and a secret a token. */
static sl_status write_text(const struct membership *m, struct token_text *token,
                            struct sl_buf *out, struct sl_err *err)
{
    memcpy(token->addresses, m->own.addresses, sizeof token->addresses);
    memcpy(token->pin, m->identity->pin, sizeof token->pin);
    sl_status status = token_text_write(token, out);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "the token's text is too long");
}

static void token_done(void *arg, sl_status status, const struct sl_err *err)
{
    struct token_job *job = arg;
    struct sl_err own = *err;
    struct sl_buf text;
    sl_buf_init(&text, TOKEN_TEXT_MAX);
    if (status == SL_OK && job->token.secret[0])
        status = write_text(job->m, &job->token, &text, &own);
    bool ok = status == SL_OK;
    job->fn(job->ctx, &own, ok && text.len ? text.data : NULL, job->rows, ok ? job->n_rows : 0);
    explicit_bzero(text.data, text.len);
    sl_buf_done(&text);
    free_token_job(job);
}

static sl_status submit(struct membership *m, struct token_job *job, db_worker_run_fn run)
{
    sl_status status = db_worker_submit(m->worker, run, token_done, job);
    if (status != SL_OK) free_token_job(job);
    return status;
}

static struct token_job *new_job(struct membership *m, membership_token_fn fn, void *ctx)
{
    struct token_job *job = sl_calloc(1, sizeof *job);
    if (!job) return NULL;
    job->m = m;
    job->fn = fn;
    job->ctx = ctx;
    return job;
}

sl_status membership_token_make(struct membership *membership, const struct token_terms *terms,
                                membership_token_fn fn, void *ctx)
{
    struct token_job *job = new_job(membership, fn, ctx);
    if (!job) return SL_NOMEM;
    job->terms = *terms;
    job->rows = sl_calloc(1, sizeof *job->rows);
    job->n_rows = 1;
    if (job->rows) return submit(membership, job, run_make);
    free_token_job(job);
    return SL_NOMEM;
}

sl_status membership_token_list(struct membership *membership, membership_token_fn fn, void *ctx)
{
    struct token_job *job = new_job(membership, fn, ctx);
    return job ? submit(membership, job, run_list) : SL_NOMEM;
}

sl_status membership_token_revoke(struct membership *membership, const char *id,
                                  membership_token_fn fn, void *ctx)
{
    struct token_job *job = new_job(membership, fn, ctx);
    if (!job) return SL_NOMEM;
    snprintf(job->id, sizeof job->id, "%s", id);
    return submit(membership, job, run_revoke);
}

sl_status membership_first_token(struct membership *membership, const struct token_terms *terms,
                                 struct sl_buf *out, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct token_text token;
    struct token_row row;
    struct db *db = NULL;
    snprintf(path, sizeof path, "%s/state.db", membership->cfg.home);
    sl_status status = db_open(path, NULL, &db, err);
    if (status == SL_OK) status = token_make(db, terms, sl_unix_time_ms(), &token, &row, err);
    db_close(db);
    if (status == SL_OK) status = write_text(membership, &token, out, err);
    explicit_bzero(&token, sizeof token);
    return status;
}

/* --- members --- */

static sl_status find(const struct membership *m, const char *id, struct member *out,
                      struct sl_err *err)
{
    const struct member *known;
    sl_status status = registry_resolve(m->registry, id, &known, err);
    if (status == SL_OK) *out = *known;
    return status;
}

sl_status membership_change(struct membership *membership, const char *id,
                            const struct membership_change *change, membership_done_fn fn,
                            void *ctx, struct sl_err *err)
{
    struct member member;
    sl_status status = find(membership, id, &member, err);
    if (status == SL_OK && change->name) status = member_set_name(&member, change->name, err);
    if (status == SL_OK && change->labels)
        status = member_set_labels(&member, change->labels, change->n_labels, err);
    if (status != SL_OK) return status;
    if (change->duty) member.duty = *change->duty;
    return membership_put(membership, &member, fn, ctx, err);
}

sl_status membership_remove(struct membership *membership, const char *id, membership_done_fn fn,
                            void *ctx, struct sl_err *err)
{
    struct member member;
    sl_status status = find(membership, id, &member, err);
    if (status != SL_OK) return status;
    if (strcmp(member.id, membership->identity->id) == 0)
        return sl_err_set(err, SL_INVALID,
                          "a gateway does not remove itself: ask another one, or stop it");
    member.removed = true;
    member.duty = NODE_OPEN;
    sl_log(SL_LOG_INFO, "grid", "%s (%s) is removed", member.name, member.id);
    return membership_put(membership, &member, fn, ctx, err);
}
