/* grid_api.c: answers come once the database has stored what was asked. */
#include "access/grid_api.h"
#include "access/gateway_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include "grid/dispatch.h"
#include "grid/grid.h"
#include "grid/membership.h"

#include <stdio.h>
#include <string.h>

#define TTL_DEFAULT_S 3600
#define MEMBERS_BYTES_MAX (256u << 20) /* REGISTRY_MEMBERS_MAX long ones */

/* Outlives its call when the client goes. */
struct pending {
    struct call *call; /* NULL: nobody waits for the answer */
};

static void let_go(void *work)
{
    ((struct pending *)work)->call = NULL;
}

/* NULL: the call has failed. */
static struct pending *pend(struct call *call)
{
    struct pending *pending = sl_calloc(1, sizeof *pending);
    if (!pending) {
        call_fail(call, SL_NOMEM, NULL, NULL, "out of memory");
        return NULL;
    }
    pending->call = call;
    call->work = pending;
    call->free_work = let_go;
    return pending;
}

/* The call that waits, or NULL. */
static struct call *end_pending(struct pending *pending)
{
    struct call *call = pending->call;
    if (call) call->work = NULL;
    sl_free(pending);
    return call;
}

/* What was asked could not even begin. */
static void fail_pending(struct pending *pending, const struct sl_err *err)
{
    struct call *call = end_pending(pending);
    call_fail_err(call, err, NULL);
}

static struct membership *membership_of(struct call *call)
{
    return call->gateway->cfg.membership;
}

bool grid_api_admits(struct call *call)
{
    const struct gateway_cfg *cfg = &call->gateway->cfg;
    const char *credential = http_request_header(call->request, "authorization");
    if (!cfg->membership) {
        call_fail(call, SL_NOT_FOUND, NULL, NULL,
                  "this machine is in no grid; `starlane up` opens one");
        return false;
    }
    if (membership_is_admin(cfg->membership, credential)) return true;
    if (cfg->local_only && !(cfg->keys && keys_any(cfg->keys))) return true;
    call_fail(call, SL_UNAUTHENTICATED, NULL, "not_administrator",
              "this takes the administrator's key: run the command as the owner of the gateway's "
              "STARLANE_HOME, or send the text in its grid/admin.key as bearer token");
    return false;
}

/* --- tokens --- */

static void put_seconds(struct sl_json *json, const char *key, int64_t unix_ms)
{
    sl_json_key(json, key);
    if (unix_ms)
        sl_json_int(json, unix_ms / 1000);
    else
        sl_json_null(json);
}

static void put_token(struct sl_json *json, const struct token_row *row, const char *text)
{
    sl_json_object(json);
    sl_json_kv_str(json, "id", row->id);
    if (text) sl_json_kv_str(json, "token", text);
    sl_json_kv_str(json, "state", token_state(row, sl_unix_time_ms()));
    put_seconds(json, "created", row->created_ms);
    put_seconds(json, "expires", row->expires_ms);
    put_seconds(json, "revoked", row->revoked_ms);
    sl_json_kv_bool(json, "gateway", row->gateways);
    sl_json_kv_int(json, "uses", row->n_uses);
    sl_json_kv_int(json, "used", row->n_used);
    sl_json_object_end(json);
}

static void respond(struct call *call, int http_status, struct sl_json *json, struct sl_buf *body)
{
    call_respond_json(call, http_status, body, sl_json_end(json));
    sl_buf_done(body);
}

static void token_made(void *ctx, const struct sl_err *err, const char *text,
                       const struct token_row *rows, size_t n)
{
    struct call *call = end_pending(ctx);
    struct sl_json json;
    struct sl_buf body;
    if (!call) return;
    if (err->status != SL_OK || !n) {
        call_fail_err(call, err, NULL);
        return;
    }
    sl_buf_init(&body, TOKEN_TEXT_MAX + 1024);
    sl_json_begin(&json, &body, false);
    put_token(&json, rows, text);
    respond(call, 201, &json, &body);
}

void grid_api_token_make(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    if (!grid_api_admits(call) || !call_read_json(call)) return;
    int64_t ttl_s = sl_json_to_int(sl_json_get(call->body, "ttl_s"), TTL_DEFAULT_S);
    const struct token_terms terms = {
        .ttl_ms = ttl_s * 1000,
        .n_uses = sl_json_to_int(sl_json_get(call->body, "uses"), 1),
        .gateways = sl_json_to_bool(sl_json_get(call->body, "gateway"), false)};
    if (ttl_s < 1 || ttl_s > TOKEN_TTL_MAX_MS / 1000) {
        call_fail(call, SL_INVALID, "ttl_s", NULL, "a token lives between a second and 366 days");
        return;
    }
    struct pending *pending = pend(call);
    if (!pending) return;
    sl_status status = membership_token_make(membership_of(call), &terms, token_made, pending);
    if (status == SL_OK) return;
    sl_err_set(&err, status, "the token cannot be made now: %s", sl_status_text(status));
    fail_pending(pending, &err);
}

static void tokens_listed(void *ctx, const struct sl_err *err, const char *text,
                          const struct token_row *rows, size_t n)
{
    struct call *call = end_pending(ctx);
    struct sl_json json;
    struct sl_buf body;
    (void)text;
    if (!call) return;
    if (err->status != SL_OK) {
        call_fail_err(call, err, NULL);
        return;
    }
    sl_buf_init(&body, CALL_BODY_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_key(&json, "tokens");
    sl_json_array(&json);
    for (size_t i = 0; i < n; i++) put_token(&json, &rows[i], NULL);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    respond(call, 200, &json, &body);
}

void grid_api_tokens(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    struct pending *pending = grid_api_admits(call) ? pend(call) : NULL;
    if (!pending) return;
    sl_status status = membership_token_list(membership_of(call), tokens_listed, pending);
    if (status == SL_OK) return;
    sl_err_set(&err, status, "the tokens cannot be read now: %s", sl_status_text(status));
    fail_pending(pending, &err);
}

static void done(void *ctx, const struct sl_err *err)
{
    struct call *call = end_pending(ctx);
    if (!call) return;
    if (err->status == SL_OK)
        call_respond(call, 200, CONTENT_JSON, "{}", 2);
    else
        call_fail_err(call, err, NULL);
}

static void token_revoked(void *ctx, const struct sl_err *err, const char *text,
                          const struct token_row *rows, size_t n)
{
    (void)text;
    (void)rows;
    (void)n;
    done(ctx, err);
}

void grid_api_token_revoke(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    struct pending *pending = grid_api_admits(call) ? pend(call) : NULL;
    if (!pending) return;
    sl_status status =
        membership_token_revoke(membership_of(call), call->rest, token_revoked, pending);
    if (status == SL_OK) return;
    sl_err_set(&err, status, "the token cannot be revoked now: %s", sl_status_text(status));
    fail_pending(pending, &err);
}

/* --- members --- */

void grid_api_members(struct call *call)
{
    struct sl_json json;
    struct sl_buf body;
    if (!grid_api_admits(call)) return;
    const struct registry *registry = membership_registry(membership_of(call));
    sl_buf_init(&body, MEMBERS_BYTES_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "self", membership_self(membership_of(call)));
    sl_json_key(&json, "members");
    sl_json_array(&json);
    for (size_t i = 0; i < registry_count(registry); i++)
        member_put(&json, registry_at(registry, i));
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    respond(call, 200, &json, &body);
}

/* {"site":"berlin"} becomes "site=berlin" in the call's arena. False: the call has failed. */
static bool take_labels(struct call *call, const struct sl_json_value *object,
                        const char *labels[GRID_LABELS_MAX + 1], size_t *n)
{
    const struct sl_json_value *value;
    const char *key;
    size_t n_key;
    void *iter = NULL;
    for (*n = 0; sl_json_next(object, &iter, &key, &n_key, &value); ++*n) {
        const char *text = sl_json_to_str(value, NULL, NULL);
        char *label = text ? sl_arena_alloc(call_arena(call), n_key + strlen(text) + 2) : NULL;
        if (!label || *n == GRID_LABELS_MAX) {
            call_fail(call, SL_INVALID, "labels", NULL,
                      "labels are an object of texts, 32 at most");
            return false;
        }
        sprintf(label, "%.*s=%s", (int)n_key, key, text);
        labels[*n] = label;
    }
    return true;
}

/* False: the call has failed. */
static bool take_duty(struct call *call, const char *name, enum node_duty *out)
{
    for (int i = 0; i < NODE_DUTY_COUNT; i++) {
        *out = (enum node_duty)i;
        if (strcmp(name, node_duty_name(*out)) == 0) return true;
    }
    call_fail(call, SL_INVALID, "duty", NULL, "a duty is open, cordoned or draining");
    return false;
}

/* A grid without a gateway is none: the last one that is alive does not leave. */
static bool may_drain(struct call *call)
{
    const struct member *member;
    const struct registry *registry = membership_registry(membership_of(call));
    const struct dispatch *dispatch = grid_dispatch(call->gateway->cfg.grid);
    if (registry_resolve(registry, call->rest, &member, NULL) != SL_OK || !member->is_gateway ||
        !dispatch || dispatch_gateway_besides(dispatch, member->id))
        return true;
    call_fail(call, SL_EXISTS, "duty", "last_gateway",
              "it is the only gateway that is there, and a drained gateway leaves: start another "
              "one first (starlane token create --gateway), or cordon this one");
    return false;
}

void grid_api_member_change(struct call *call)
{
    const char *labels[GRID_LABELS_MAX + 1];
    enum node_duty duty;
    struct sl_err err = SL_ERR_INIT;
    struct membership_change change = {0};
    if (!grid_api_admits(call) || !call_read_json(call)) return;
    const struct sl_json_value *object = sl_json_get(call->body, "labels");
    const char *name = sl_json_to_str(sl_json_get(call->body, "duty"), NULL, NULL);
    change.name = sl_json_to_str(sl_json_get(call->body, "name"), NULL, NULL);
    if (name && !take_duty(call, name, &duty)) return;
    if (name && duty == NODE_DRAINING && !may_drain(call)) return;
    if (object && !take_labels(call, object, labels, &change.n_labels)) return;
    if (name) change.duty = &duty;
    if (object) change.labels = labels;
    struct pending *pending = pend(call);
    if (!pending) return;
    if (membership_change(membership_of(call), call->rest, &change, done, pending, &err) != SL_OK)
        fail_pending(pending, &err);
}

void grid_api_member_remove(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    struct pending *pending = grid_api_admits(call) ? pend(call) : NULL;
    if (!pending) return;
    if (membership_remove(membership_of(call), call->rest, done, pending, &err) != SL_OK)
        fail_pending(pending, &err);
}
