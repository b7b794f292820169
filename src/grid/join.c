/* join.c: the joining machine's side. */
#include "grid/join.h"
#include "grid/db.h"
#include "grid/grid_http.h"
#include "grid/registry_store.h"
#include "grid/registry_sync.h"
#include "grid/token.h"
#include "net/http_client.h"

#include <stdio.h>
#include <string.h>

#define BODY_BYTES_MAX (64u << 10)

/* What is needed on the way; all of it ends with join_grid. */
struct joining {
    const struct join_cfg *cfg;
    struct token_text token;
    struct pki_key *key;
    struct sl_buf root, body, answer;
    struct sl_json_value *members;
};

static void init(struct joining *j, const struct join_cfg *cfg)
{
    *j = (struct joining){.cfg = cfg};
    sl_buf_init(&j->root, PKI_TEXT_MAX);
    sl_buf_init(&j->body, BODY_BYTES_MAX);
    sl_buf_init(&j->answer, GRID_HTTP_ANSWER_BYTES_MAX);
}

static void done(struct joining *j)
{
    explicit_bzero(&j->token, sizeof j->token);
    explicit_bzero(j->body.data, j->body.len);
    pki_key_destroy(j->key);
    sl_buf_done(&j->root);
    sl_buf_done(&j->body);
    sl_buf_done(&j->answer);
    sl_json_free(j->members);
}

/* A HOME belongs to one grid; to join its own anew is fine: after a removal, or when its
 * certificate has ended. */
static sl_status check_home(const struct joining *j, struct sl_err *err)
{
    char pin[TOKEN_PIN_SIZE];
    if (!identity_exists(j->cfg->home)) return SL_OK;
    sl_status status = identity_pin(j->cfg->home, pin, err);
    if (status != SL_OK) return status;
    if (strcmp(pin, j->token.pin) != 0)
        status = sl_err_set(err, SL_INVALID,
                            "this machine is a member of another grid: remove %.200s/grid to leave "
                            "it, or set STARLANE_HOME to another folder",
                            j->cfg->home);
    return status;
}

/* --- what is asked --- */

static sl_status write_body(struct joining *j, struct sl_err *err)
{
    struct sl_json json;
    struct sl_buf csr;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_status status = pki_csr_create(j->key, &csr, err);
    if (status == SL_OK) {
        sl_json_begin(&json, &j->body, false);
        sl_json_object(&json);
        sl_json_kv_str(&json, "token", j->token.id);
        sl_json_kv_str(&json, "secret", j->token.secret);
        sl_json_kv_str(&json, "csr", csr.data);
        sl_json_kv_str(&json, "name", j->cfg->name);
        sl_json_kv_bool(&json, "gateway", j->cfg->gateway);
        sl_json_key(&json, "labels");
        sl_json_array(&json);
        for (size_t i = 0; i < j->cfg->n_labels; i++) sl_json_str(&json, j->cfg->labels[i]);
        sl_json_array_end(&json);
        sl_json_object_end(&json);
        status = sl_json_end(&json);
        if (status != SL_OK) sl_err_set(err, status, "what is to be sent is too long");
    }
    sl_buf_done(&csr);
    return status;
}

static sl_status fetch_root(struct joining *j, const char *address, struct sl_err *err)
{
    unsigned char pin[SHA256_BYTES];
    const struct http_trust anybody = {.unverified = true};
    sl_buf_clear(&j->root);
    const struct grid_question question = {
        .address = address, .path = JOIN_PATH_CA, .trust = &anybody};
    sl_status status = grid_http_ask(&question, &j->root, NULL, err);
    if (status != SL_OK) {
        err->status = SL_UNAVAILABLE;
        return sl_err_prefix(err, "%s", address);
    }
    status = sha256_from_hex(j->token.pin, pin);
    if (status == SL_OK) status = pki_pin_check(j->root.data, pin, NULL);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, SL_DENIED,
                      "%s is not of the grid that the token is for (the pin differs): somebody "
                      "stands in between, or another grid has taken its address",
                      address);
}

/* *out_heard: the gateway has had its say, so no other address of it will say anything else. */
static sl_status ask_at(struct joining *j, const char *address, bool *out_heard, struct sl_err *err)
{
    *out_heard = false;
    sl_status status = fetch_root(j, address, err);
    if (status != SL_OK) return status;
    const struct http_trust trust = {.root_text = j->root.data, .any_gateway = true};
    const struct grid_question question = {
        .address = address, .path = JOIN_PATH_JOIN, .body = &j->body, .trust = &trust};
    status = grid_http_ask(&question, &j->answer, out_heard, err);
    if (status == SL_OK || *out_heard) return status;
    sl_err_prefix(err, "%s", address);
    return status;
}

static sl_status ask(struct joining *j, struct sl_err *err)
{
    char address[GRID_ADDRESS_SIZE];
    sl_status status = SL_UNAVAILABLE;
    bool heard = false, wrong_grid = false;
    struct sl_err last = SL_ERR_INIT;
    for (size_t i = 0; member_list_item(j->token.addresses, i, address, sizeof address) && !heard;
         i++) {
        status = ask_at(j, address, &heard, &last);
        if (status == SL_OK) return SL_OK;
        /* A wrong grid at one address tells more than silence at another. */
        if (heard || !wrong_grid) *err = last;
        wrong_grid = wrong_grid || status == SL_DENIED;
    }
    if (heard || wrong_grid) return err->status;
    return sl_err_set(err, SL_UNAVAILABLE,
                      "no address of the token answers; is the gateway running, and reachable from "
                      "here? (%.200s)",
                      last.text);
}

/* --- what is answered --- */

/* What this HOME knew of another grid it was in goes. */
static sl_status save_members(const struct joining *j, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct registry *registry = NULL;
    struct db *db = NULL;
    snprintf(path, sizeof path, "%s/state.db", j->cfg->home);
    sl_status status = registry_create(&registry);
    if (status != SL_OK) return sl_err_set(err, status, "no memory for the members");
    status = registry_decode(registry, j->members, err);
    if (status == SL_OK) status = db_open(path, NULL, &db, err);
    if (status == SL_OK) status = registry_save_all(db, registry, err);
    if (status == SL_OK && !identity_exists(j->cfg->home))
        status = db_exec(db, "DELETE FROM tokens", err);
    db_close(db);
    registry_destroy(registry);
    return status;
}

/* The members first: with the identity the machine is one of them. */
static sl_status take_answer(struct joining *j, struct sl_err *err)
{
    size_t n;
    if (sl_json_parse(j->answer.data, j->answer.len, &j->members, NULL) != SL_OK)
        return sl_err_set(err, SL_CORRUPT, "the gateway's answer is no JSON");
    const char *chain = sl_json_to_str(sl_json_get(j->members, "chain"), "", &n);
    sl_status status = save_members(j, err);
    if (status == SL_OK) status = identity_store(j->cfg->home, j->key, chain, j->root.data, err);
    if (status != SL_OK) sl_err_prefix(err, "what the gateway answered");
    return status;
}

sl_status join_grid(const struct join_cfg *cfg, char out_id[GRID_ID_SIZE], struct sl_err *err)
{
    struct joining j;
    struct member probe = {0};
    init(&j, cfg);
    sl_status status = token_text_read(cfg->token, &j.token, err);
    if (status == SL_OK) status = member_set_name(&probe, cfg->name, err);
    if (status == SL_OK) status = member_set_labels(&probe, cfg->labels, cfg->n_labels, err);
    if (status == SL_OK) status = check_home(&j, err);
    if (status == SL_OK) status = identity_key(cfg->home, &j.key, err);
    if (status == SL_OK) status = write_body(&j, err);
    if (status == SL_OK) status = ask(&j, err);
    if (status == SL_OK) status = take_answer(&j, err);
    if (status == SL_OK) pki_key_id(j.key, out_id);
    done(&j);
    return status;
}

/* --- hello --- */

size_t join_peers(const struct registry *registry, const char *self,
                  struct join_peer out[JOIN_PEERS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < registry_count(registry); i++) {
        const struct member *m = registry_at(registry, i);
        if (!m->is_gateway || m->removed || strcmp(m->id, self) == 0) continue;
        for (size_t k = 0; n < JOIN_PEERS_MAX; k++) {
            if (!member_list_item(m->addresses, k, out[n].address, sizeof out[n].address)) break;
            memcpy(out[n++].id, m->id, sizeof m->id);
        }
    }
    return n;
}

static sl_status hello_to(const struct join_greeting *g, const struct join_peer *peer,
                          struct sl_buf *out, bool *out_heard, struct sl_err *err)
{
    const struct http_trust trust = {.root_path = g->identity->ca_path,
                                     .cert_path = g->identity->cert_path,
                                     .key_path = g->identity->key_path,
                                     .member_id = peer->id};
    const struct grid_question question = {.address = peer->address,
                                           .path = JOIN_PATH_HELLO,
                                           .body = g->body,
                                           .trust = &trust,
                                           .cancel = g->cancel};
    return grid_http_ask(&question, out, out_heard, err);
}

sl_status join_hello(const struct join_greeting *greeting, struct sl_buf *out, struct sl_err *err)
{
    sl_status status = sl_err_set(err, SL_UNAVAILABLE, "no gateway of the grid is known");
    for (size_t i = 0; i < greeting->n_peers; i++) {
        const struct join_peer *peer = &greeting->peers[i];
        bool heard;
        status = hello_to(greeting, peer, out, &heard, err);
        if (status == SL_OK || status == SL_CANCELLED) return status;
        if (heard && status == SL_DENIED) return status;
        err->status = status = SL_UNAVAILABLE;
        sl_err_prefix(err, "%s", peer->address);
    }
    return status;
}
