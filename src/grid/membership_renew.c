/* membership_renew.c: certificates that are renewed: this member's own, when half of its life is
 * over, and, at gateways, those of others. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/membership_int.h"
#include "grid/renew.h"

#include <string.h>

/* Who can renew it may be away for hours; a short life, as in tests, has to do with less. */
#define RETRY_S 3600
#define RETRY_SHARE 32 /* of what is left */
#define WORRY_SHARE 4  /* of its life is left: people should look */
#define ANSWER_BYTES_MAX (64u << 10)

struct renewal {
    struct membership *m;
    struct join_peer peers[JOIN_PEERS_MAX];
    struct renew_cfg cfg;
    struct sl_buf chain;
    sl_status status;
    struct sl_err err;
};

static int64_t unix_s(void)
{
    return sl_unix_time_ms() / 1000;
}

/* --- this member's own --- */

static void free_renewal(struct renewal *renewal)
{
    sl_buf_done(&renewal->chain);
    sl_free(renewal);
}

/* Connections that are open keep the old one, which they were begun with. */
static void use_new(struct membership *m, const char *chain)
{
    struct sl_err err = SL_ERR_INIT;
    identity_renewed(m->identity, chain);
    if (grid_port_reload(m->port, &err) != SL_OK)
        sl_log(SL_LOG_ERROR, "grid", "the grid port keeps its old certificate: %s", err.text);
    if (m->nats) nats_server_renewed(m->nats);
    sl_log(SL_LOG_INFO, "grid", "this machine's certificate was renewed");
}

static void try_again(struct membership *m, const struct sl_err *why)
{
    int64_t now_s = unix_s(), left_s = m->identity->not_after_s - now_s;
    int64_t life_s = m->identity->not_after_s - m->identity->issued_s;
    int64_t wait_s = left_s / RETRY_SHARE < RETRY_S ? left_s / RETRY_SHARE : RETRY_S;
    m->renew_at_s = now_s + (wait_s > 1 ? wait_s : 1);
    sl_log(left_s < life_s / WORRY_SHARE ? SL_LOG_WARN : SL_LOG_INFO, "grid",
           "the certificate of this machine, which ends in %lld h, was not renewed: %s",
           (long long)(left_s / 3600), why->text);
}

static void on_renewal(void *arg)
{
    struct renewal *renewal = arg;
    struct membership *m = renewal->m;
    m->renewal = NULL;
    if (renewal->status == SL_OK) {
        use_new(m, renewal->chain.data);
        m->renew_at_s = identity_renew_at_s(m->identity);
    } else {
        try_again(m, &renewal->err);
    }
    free_renewal(renewal);
}

/* On the asking thread. */
static void run_renewal(void *arg)
{
    struct renewal *renewal = arg;
    renewal->status = renew_certificate(&renewal->cfg, &renewal->chain, &renewal->err);
    if (loop_post(renewal->m->cfg.loop, on_renewal, renewal) != SL_OK)
        sl_log(SL_LOG_ERROR, "grid",
               "a new certificate is used after a restart only: the loop is "
               "full");
}

static void begin(struct membership *m)
{
    struct renewal *renewal = sl_calloc(1, sizeof *renewal);
    if (!renewal) return;
    renewal->m = m;
    sl_buf_init(&renewal->chain, PKI_TEXT_MAX);
    renewal->cfg = (struct renew_cfg){
        .home = m->cfg.home,
        .identity = m->identity,
        .peers = renewal->peers,
        .n_peers = join_peers(m->registry, m->identity->id, renewal->peers),
        .cancel = &m->stopping,
        .valid_s = m->cfg.certificate_s,
    };
    if (membership_ask(m, run_renewal, renewal) == SL_OK)
        m->renewal = renewal;
    else
        free_renewal(renewal);
}

void membership_renew_tick(struct membership *m)
{
    if (!m->renew_at_s) m->renew_at_s = identity_renew_at_s(m->identity);
    if (!m->renewal && unix_s() >= m->renew_at_s) begin(m);
}

void membership_renew_stop(struct membership *m)
{
    if (!m->renewal) return;
    loop_cancel_posts(m->cfg.loop, m->renewal);
    free_renewal(m->renewal);
    m->renewal = NULL;
}

/* --- at a gateway, others' --- */

static sl_status issue(struct membership *m, const struct http_request *request, const char *csr,
                       struct sl_buf *chain, struct sl_err *err)
{
    char id[PKI_ID_SIZE];
    const struct member *entry = registry_find(m->registry, request->peer_id);
    /* Who was a gateway once, and has joined as a node since, has that old certificate yet. */
    bool gateway = request->peer_is_gateway && entry && entry->is_gateway;
    const struct pki_issue issue = {.key = m->identity->key,
                                    .chain = m->identity->chain.data,
                                    .csr = csr,
                                    .gateway = gateway,
                                    .now_s = unix_s(),
                                    .valid_s = m->cfg.certificate_s};
    sl_status status = pki_csr_id(csr, id, err);
    if (status == SL_OK && strcmp(id, request->peer_id) != 0)
        status = sl_err_set(err, SL_DENIED, "a certificate is renewed for its own key only");
    return status == SL_OK ? pki_issue(&issue, chain, err) : status;
}

static sl_status answer(struct membership *m, const struct http_request *request,
                        struct sl_buf *out, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    struct sl_json json;
    struct sl_buf chain;
    sl_buf_init(&chain, PKI_TEXT_MAX);
    sl_status status = sl_json_parse(request->body, request->body_len, &root, err);
    const char *csr = sl_json_to_str(sl_json_get(root, "csr"), "", NULL);
    if (status == SL_OK) status = issue(m, request, csr, &chain, err);
    if (status == SL_OK) {
        sl_json_begin(&json, out, false);
        sl_json_object(&json);
        sl_json_kv_str(&json, "chain", chain.data);
        sl_json_object_end(&json);
        status = sl_json_end(&json);
        if (status != SL_OK) sl_err_set(err, status, "the answer is too long");
    }
    sl_json_free(root);
    sl_buf_done(&chain);
    return status;
}

/* Its certificate was looked at, and that it is a member still: it becomes what it is already. */
static void on_renew(void *ctx, struct http_exchange *x)
{
    struct membership *m = ctx;
    const struct http_request *request = http_exchange_request(x);
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf body;
    sl_buf_init(&body, ANSWER_BYTES_MAX);
    sl_status status = answer(m, request, &body, &err);
    if (status == SL_OK) {
        sl_log(SL_LOG_INFO, "grid", "the certificate of %s is renewed", request->peer_id);
        grid_port_answer(x, 200, &body, SL_OK);
        return;
    }
    sl_buf_done(&body);
    /* What is broken in there is the asker's fault. */
    grid_port_fail(x, status == SL_CORRUPT ? SL_INVALID : status, err.text);
}

sl_status membership_renew_start(struct membership *m, struct sl_err *err)
{
    sl_status status = grid_port_route(m->port, HTTP_METHOD_POST, RENEW_PATH, false, on_renew, m);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "too many routes");
}
