#include "grid/renew.h"
#include "grid/grid_http.h"
#include "net/http_client.h"

#include <string.h>

#define BODY_BYTES_MAX (64u << 10)

static sl_status write_body(const struct identity *identity, struct sl_buf *out, struct sl_err *err)
{
    struct sl_json json;
    struct sl_buf csr;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_status status = pki_csr_create(identity->key, &csr, err);
    if (status == SL_OK) {
        sl_json_begin(&json, out, false);
        sl_json_object(&json);
        sl_json_kv_str(&json, "csr", csr.data);
        sl_json_object_end(&json);
        status = sl_json_end(&json);
        if (status != SL_OK) sl_err_set(err, status, "a request for a certificate");
    }
    sl_buf_done(&csr);
    return status;
}

static sl_status take_answer(const struct identity *identity, const struct sl_buf *answer,
                             struct sl_buf *out, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(answer->data, answer->len, &root, err);
    const char *chain = sl_json_to_str(sl_json_get(root, "chain"), "", NULL);
    if (status == SL_OK) status = identity_renewal_check(identity, chain, err);
    if (status == SL_OK && sl_buf_adds(out, chain) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "no memory for a certificate");
    sl_json_free(root);
    return status;
}

static sl_status ask(const struct renew_cfg *cfg, const struct join_peer *peer,
                     const struct sl_buf *body, struct sl_buf *out, struct sl_err *err)
{
    struct sl_buf answer;
    const struct http_trust trust = {.root_path = cfg->identity->ca_path,
                                     .cert_path = cfg->identity->cert_path,
                                     .key_path = cfg->identity->key_path,
                                     .member_id = peer->id};
    const struct grid_question question = {.address = peer->address,
                                           .path = RENEW_PATH,
                                           .body = body,
                                           .trust = &trust,
                                           .cancel = cfg->cancel};
    sl_buf_init(&answer, BODY_BYTES_MAX);
    sl_status status = grid_http_ask(&question, &answer, NULL, err);
    if (status == SL_OK) status = take_answer(cfg->identity, &answer, out, err);
    if (status != SL_OK) sl_err_prefix(err, "%s", peer->address);
    sl_buf_done(&answer);
    return status;
}

static sl_status ask_all(const struct renew_cfg *cfg, struct sl_buf *out, struct sl_err *err)
{
    struct sl_buf body;
    sl_buf_init(&body, BODY_BYTES_MAX);
    sl_status status = write_body(cfg->identity, &body, err);
    if (status == SL_OK) status = sl_err_set(err, SL_UNAVAILABLE, "no other gateway is known");
    for (size_t i = 0; i < cfg->n_peers && status != SL_OK && status != SL_CANCELLED; i++)
        status = ask(cfg, &cfg->peers[i], &body, out, err);
    sl_buf_done(&body);
    if (status != SL_OK && status != SL_CANCELLED) err->status = status = SL_UNAVAILABLE;
    return status;
}

/* NOT_FOUND: a node's; or the root's key is not here. */
static sl_status sign_self(const struct renew_cfg *cfg, struct sl_buf *out, struct sl_err *err)
{
    if (!cfg->identity->is_gateway) return SL_NOT_FOUND;
    sl_status status = identity_sign_self(cfg->identity, cfg->home, cfg->valid_s, out, err);
    if (status == SL_OK) status = identity_renewal_check(cfg->identity, out->data, err);
    return status;
}

sl_status renew_certificate(const struct renew_cfg *cfg, struct sl_buf *out, struct sl_err *err)
{
    sl_status status = sign_self(cfg, out, err);
    if (status != SL_OK) {
        sl_buf_clear(out);
        status = ask_all(cfg, out, err);
    }
    return status == SL_OK ? pki_file_write(cfg->identity->cert_path, out->data, out->len, err)
                           : status;
}
