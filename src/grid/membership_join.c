/* membership_join.c: a gateway's side of joining. What is asked is looked at first, the certificate
 * made, and only then the token redeemed, so that a request that cannot be granted costs no use. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/db.h"
#include "grid/join.h"
#include "grid/membership_int.h"

#include <stdio.h>
#include <string.h>

#define PEM_TYPE "application/x-pem-file"
#define ANSWER_BYTES_MAX (256u << 20) /* REGISTRY_MEMBERS_MAX entries as long as they can be */

/* One machine that wants in. */
struct joining {
    struct membership *m;
    struct http_exchange *x;
    struct member member;
    struct token_text shown;      /* id and secret only */
    char host[GRID_ADDRESS_SIZE]; /* where it comes from */
    struct sl_buf chain;
};

static void free_joining(struct joining *j)
{
    explicit_bzero(&j->shown, sizeof j->shown);
    sl_buf_done(&j->chain);
    sl_free(j);
}

static void refuse(struct joining *j, const struct sl_err *err)
{
    grid_port_fail(j->x, err->status, err->text);
    free_joining(j);
}

static int64_t monotonic_ms(const struct membership *m)
{
    return loop_now_ns(m->cfg.loop) / 1000000;
}

/* --- the answer --- */

static sl_status put_answer(const struct joining *j, struct sl_buf *out)
{
    const struct registry *registry = j->m->registry;
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "id", j->member.id);
    sl_json_kv_str(&json, "chain", j->chain.data);
    sl_json_key(&json, "members");
    sl_json_array(&json);
    for (size_t i = 0; i < registry_count(registry); i++)
        member_put(&json, registry_at(registry, i));
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* It is a member, and that is stored. */
static void admitted(void *ctx, const struct sl_err *err)
{
    struct joining *j = ctx;
    struct sl_buf body;
    if (err->status != SL_OK) {
        refuse(j, err);
        return;
    }
    sl_log(SL_LOG_INFO, "grid", "%s (%s) has joined from %s", j->member.name, j->member.id,
           j->host);
    sl_buf_init(&body, ANSWER_BYTES_MAX);
    grid_port_answer(j->x, 200, &body, put_answer(j, &body));
    free_joining(j);
}

/* Whoever joins anew keeps what its owner said of it, but for what is said now. */
static sl_status admit(struct joining *j, struct sl_err *err)
{
    const struct member *known = registry_find(j->m->registry, j->member.id);
    struct member *member = &j->member;
    /* An id is 65 bits of the key's hash: nobody takes a member's place by finding the like. */
    if (known && strcmp(known->key, member->key) != 0)
        return sl_err_set(err, SL_DENIED, "another key has this id in the grid");
    member->joins = known ? known->joins + 1 : 1;
    member->joined_ms = sl_unix_time_ms();
    if (known && !member->labels[0]) memcpy(member->labels, known->labels, sizeof member->labels);
    return membership_put(j->m, member, admitted, j, err);
}

static void redeemed(void *arg, sl_status status, const struct sl_err *err)
{
    struct joining *j = arg;
    struct sl_err own = *err;
    if (status == SL_UNAUTHENTICATED) token_guard_wrong(&j->m->guard, j->host, monotonic_ms(j->m));
    if (status == SL_OK) status = admit(j, &own);
    if (status != SL_OK) refuse(j, &own);
}

/* --- the request --- */

static sl_status redeem(void *arg, struct db *db, struct sl_err *err)
{
    struct joining *j = arg;
    return token_redeem(db, &j->shown, j->member.is_gateway, sl_unix_time_ms(), err);
}

/* *out has one text more than it can hold when there are too many: that is an error then. */
static size_t list_labels(const struct sl_json_value *list, const char *out[GRID_LABELS_MAX + 1])
{
    size_t n = sl_json_size(list);
    if (n > GRID_LABELS_MAX) n = GRID_LABELS_MAX + 1;
    for (size_t i = 0; i < n; i++) out[i] = sl_json_to_str(sl_json_at(list, i), "", NULL);
    return n;
}

static sl_status take_labels(struct member *member, const struct sl_json_value *root,
                             struct sl_err *err)
{
    const char *labels[GRID_LABELS_MAX + 1];
    size_t n = list_labels(sl_json_get(root, "labels"), labels);
    return member_set_labels(member, labels, n, err);
}

/* The CSR is for a key that its sender has; the certificate tells whose it is. */
static sl_status certify(struct joining *j, const char *csr, struct sl_err *err)
{
    const struct identity *identity = j->m->identity;
    struct pki_peer peer;
    struct pki_issue issue = {.key = identity->key,
                              .chain = identity->chain.data,
                              .csr = csr,
                              .gateway = j->member.is_gateway,
                              .now_s = sl_unix_time_ms() / 1000,
                              .valid_s = j->m->cfg.certificate_s};
    sl_status status = pki_issue(&issue, &j->chain, err);
    if (status == SL_OK)
        status = pki_chain_check(j->chain.data, identity->root.data, issue.now_s, &peer, err);
    if (status != SL_OK) return status;
    sha256_hex(peer.key_sha256, j->member.key);
    memcpy(j->member.id, peer.id, sizeof j->member.id);
    if (strcmp(j->member.id, identity->id) != 0) return SL_OK;
    return sl_err_set(err, SL_EXISTS, "this gateway cannot join its own grid");
}

static bool take_word(const struct sl_json_value *value, char *out, size_t size)
{
    size_t n;
    const char *text = sl_json_to_str(value, "", &n);
    if (n != size - 1 || strlen(text) != n) return false;
    memcpy(out, text, size);
    return true;
}

static sl_status take_request(struct joining *j, const struct sl_json_value *root,
                              struct sl_err *err)
{
    const char *csr = sl_json_to_str(sl_json_get(root, "csr"), "", NULL);
    const char *name = sl_json_to_str(sl_json_get(root, "name"), "", NULL);
    j->member.is_gateway = sl_json_to_bool(sl_json_get(root, "gateway"), false);
    if (!take_word(sl_json_get(root, "token"), j->shown.id, sizeof j->shown.id) ||
        !take_word(sl_json_get(root, "secret"), j->shown.secret, sizeof j->shown.secret))
        return sl_err_set(err, SL_INVALID, "token and secret are needed");
    sl_status status = member_set_name(&j->member, name, err);
    if (status == SL_OK) status = take_labels(&j->member, root, err);
    return status == SL_OK ? certify(j, csr, err) : status;
}

static sl_status take_body(struct joining *j, struct sl_err *err)
{
    const struct http_request *request = http_exchange_request(j->x);
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(request->body, request->body_len, &root, err);
    if (status == SL_OK) status = take_request(j, root, err);
    sl_json_free(root);
    /* What is broken in there is the asker's fault. */
    if (status == SL_CORRUPT) err->status = status = SL_INVALID;
    return status;
}

static void note_host(struct joining *j)
{
    const char *peer = http_exchange_request(j->x)->peer;
    const char *colon = strrchr(peer, ':');
    int n = colon ? (int)(colon - peer) : (int)strlen(peer);
    snprintf(j->host, sizeof j->host, "%.*s", n, peer);
}

/* False: too many wrong secrets came from there. */
static bool may_try(struct joining *j)
{
    int64_t wait_ms = token_guard_wait_ms(&j->m->guard, j->host, monotonic_ms(j->m));
    char seconds[32];
    if (!wait_ms) return true;
    snprintf(seconds, sizeof seconds, "%lld", (long long)(wait_ms / 1000 + 1));
    (void)!http_exchange_header_add(j->x, "Retry-After", seconds);
    return false;
}

static void on_join(void *ctx, struct http_exchange *x)
{
    struct sl_err err = SL_ERR_INIT;
    struct joining *j = sl_calloc(1, sizeof *j);
    if (!j) {
        grid_port_fail(x, SL_NOMEM, "no memory");
        return;
    }
    j->m = ctx;
    j->x = x;
    sl_buf_init(&j->chain, PKI_TEXT_MAX);
    note_host(j);
    sl_status status = SL_OK;
    if (!may_try(j))
        status = sl_err_set(&err, SL_BUSY,
                            "too many wrong tokens came from this address; wait a minute");
    if (status == SL_OK) status = take_body(j, &err);
    if (status == SL_OK) {
        status = db_worker_submit(j->m->worker, redeem, redeemed, j);
        if (status != SL_OK) sl_err_set(&err, status, "the gateway is busy");
    }
    if (status != SL_OK) refuse(j, &err);
}

/* --- the root, hello --- */

static void on_ca(void *ctx, struct http_exchange *x)
{
    const struct sl_buf *root = &((struct membership *)ctx)->identity->root;
    http_respond(x, 200, PEM_TYPE, root->data, root->len);
}

/* False: it is there, but cannot be taken. */
static bool take_text(const struct sl_json_value *root, const char *key, char *out, size_t size)
{
    size_t n;
    const char *text = sl_json_to_str(sl_json_get(root, key), NULL, &n);
    if (!text) return true;
    if (n >= size || strlen(text) != n) return false;
    memcpy(out, text, n + 1);
    return true;
}

/* Where it is reached, a member says itself; only a gateway has a bus. */
static sl_status take_hello(const struct sl_json_value *root, struct member *member,
                            struct sl_err *err)
{
    const char *name = sl_json_to_str(sl_json_get(root, "name"), NULL, NULL);
    bool ok = take_text(root, "addresses", member->addresses, sizeof member->addresses);
    if (member->is_gateway)
        ok = ok && take_text(root, "bus", member->bus, sizeof member->bus) &&
             take_text(root, "routes", member->routes, sizeof member->routes);
    if (!ok) return sl_err_set(err, SL_INVALID, "an address is too long");
    int64_t undrains = sl_json_to_int(sl_json_get(root, "undrains"), 0);
    if (member->duty == NODE_DRAINING && undrains > 0 && (uint64_t)undrains == member->version)
        member->duty = NODE_OPEN;
    sl_status status = name ? member_set_name(member, name, err) : SL_OK;
    if (status == SL_OK && sl_json_get(root, "labels")) status = take_labels(member, root, err);
    return status;
}

static sl_status hear_hello(struct membership *m, const struct http_request *request,
                            struct sl_err *err)
{
    struct member member = *registry_find(m->registry, request->peer_id);
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(request->body, request->body_len, &root, err);
    if (status == SL_OK) status = take_hello(root, &member, err);
    sl_json_free(root);
    return status == SL_OK ? membership_put(m, &member, NULL, NULL, err) : status;
}

static void on_hello(void *ctx, struct http_exchange *x)
{
    struct membership *m = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf body;
    sl_status status = hear_hello(m, http_exchange_request(x), &err);
    if (status != SL_OK) {
        grid_port_fail(x, status, err.text);
        return;
    }
    sl_buf_init(&body, ANSWER_BYTES_MAX);
    grid_port_answer(x, 200, &body,
                     registry_encode(m->registry, 0, registry_count(m->registry), &body));
}

sl_status membership_join_start(struct membership *m, struct sl_err *err)
{
    sl_status status = grid_port_route(m->port, HTTP_METHOD_GET, JOIN_PATH_CA, true, on_ca, m);
    if (status == SL_OK)
        status = grid_port_route(m->port, HTTP_METHOD_POST, JOIN_PATH_JOIN, true, on_join, m);
    if (status == SL_OK)
        status = grid_port_route(m->port, HTTP_METHOD_POST, JOIN_PATH_HELLO, false, on_hello, m);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "too many routes");
}
