#include "grid/identity.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sl_status identity_path(const char *home, const char *name, char out[IDENTITY_PATH_SIZE],
                        struct sl_err *err)
{
    int n = snprintf(out, IDENTITY_PATH_SIZE, "%s/grid/%s", home, name);
    if (n > 0 && n < IDENTITY_PATH_SIZE) return SL_OK;
    return sl_err_set(err, SL_INVALID, "the path of STARLANE_HOME is too long");
}

bool identity_exists(const char *home)
{
    char path[IDENTITY_PATH_SIZE];
    return identity_path(home, "cert.pem", path, NULL) == SL_OK && access(path, F_OK) == 0;
}

static int64_t now_s(void)
{
    return sl_unix_time_ms() / 1000;
}

/* HOME and HOME/grid, for the owner only. */
static sl_status make_folder(const char *home, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    if (mkdir(home, 0700) != 0 && errno != EEXIST) return sl_err_errno(err, errno, "%s", home);
    sl_status status = identity_path(home, "", path, err);
    if (status != SL_OK) return status;
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return SL_OK;
    return sl_err_errno(err, errno, "%s", path);
}

/* --- loading --- */

static sl_status find_paths(const char *home, struct identity *identity, struct sl_err *err)
{
    sl_status status = identity_path(home, "key.pem", identity->key_path, err);
    if (status == SL_OK) status = identity_path(home, "cert.pem", identity->cert_path, err);
    return status == SL_OK ? identity_path(home, "ca.pem", identity->ca_path, err) : status;
}

/* Fills what follows from key, chain and root. */
static sl_status derive(struct identity *identity, struct sl_err *err)
{
    struct pki_peer peer;
    unsigned char pin[SHA256_BYTES];
    sl_status status =
        pki_chain_check(identity->chain.data, identity->root.data, now_s(), &peer, err);
    if (status == SL_OK) status = pki_key_check(identity->key, identity->chain.data, err);
    if (status == SL_OK) status = pki_root_pin(identity->root.data, pin, err);
    if (status != SL_OK) return status;
    memcpy(identity->id, peer.id, sizeof identity->id);
    identity->is_gateway = peer.is_gateway;
    identity->n_below = peer.n_below;
    identity->issued_s = peer.issued_s;
    identity->not_after_s = peer.not_after_s;
    sha256_hex(peer.key_sha256, identity->key_hash);
    sha256_hex(pin, identity->pin);
    return SL_OK;
}

sl_status identity_load(const char *home, struct identity **out, struct sl_err *err)
{
    if (!identity_exists(home))
        return sl_err_set(err, SL_NOT_FOUND, "this machine is in no grid yet");
    struct identity *identity = sl_calloc(1, sizeof *identity);
    if (!identity) return sl_err_set(err, SL_NOMEM, "no memory for the identity");
    sl_buf_init(&identity->chain, PKI_TEXT_MAX);
    sl_buf_init(&identity->root, PKI_TEXT_MAX);
    sl_status status = find_paths(home, identity, err);
    if (status == SL_OK) status = pki_key_load(identity->key_path, &identity->key, err);
    if (status == SL_OK) status = pki_file_read(identity->cert_path, &identity->chain, err);
    if (status == SL_OK) status = pki_file_read(identity->ca_path, &identity->root, err);
    if (status == SL_OK) status = derive(identity, err);
    if (status == SL_OK) {
        *out = identity;
        return SL_OK;
    }
    identity_destroy(identity);
    sl_err_prefix(err, "this machine's identity");
    return status;
}

void identity_destroy(struct identity *identity)
{
    if (!identity) return;
    pki_key_destroy(identity->key);
    sl_buf_done(&identity->chain);
    sl_buf_done(&identity->root);
    sl_free(identity);
}

/* --- making --- */

sl_status identity_key(const char *home, struct pki_key **out, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct pki_key *key = NULL;
    sl_status status = make_folder(home, err);
    if (status == SL_OK) status = identity_path(home, "key.pem", path, err);
    if (status != SL_OK) return status;
    if (access(path, F_OK) == 0) return pki_key_load(path, out, err);
    status = pki_key_create(&key, err);
    if (status == SL_OK) status = pki_key_save(key, path, err);
    if (status == SL_OK)
        *out = key;
    else
        pki_key_destroy(key);
    return status;
}

/* The certificate comes last: identity_exists looks for it. */
sl_status identity_store(const char *home, const struct pki_key *key, const char *chain,
                         const char *root, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    sl_status status = pki_chain_check(chain, root, now_s(), NULL, err);
    if (status == SL_OK) status = pki_key_check(key, chain, err);
    if (status == SL_OK) status = identity_path(home, "ca.pem", path, err);
    if (status == SL_OK) status = pki_file_write(path, root, strlen(root), err);
    if (status == SL_OK) status = identity_path(home, "cert.pem", path, err);
    return status == SL_OK ? pki_file_write(path, chain, strlen(chain), err) : status;
}

/* As a gateway, by the root. */
static sl_status sign_self(const struct pki_key *key, const struct pki_key *root_key,
                           const char *root, int64_t valid_s, struct sl_buf *chain,
                           struct sl_err *err)
{
    struct sl_buf csr;
    sl_buf_init(&csr, PKI_TEXT_MAX);
    sl_status status = pki_csr_create(key, &csr, err);
    struct pki_issue issue = {.key = root_key,
                              .chain = root,
                              .csr = csr.data,
                              .gateway = true,
                              .now_s = now_s(),
                              .valid_s = valid_s};
    if (status == SL_OK) status = pki_issue(&issue, chain, err);
    sl_buf_done(&csr);
    return status;
}

static sl_status certify_self(const char *home, const struct pki_key *root_key, const char *root,
                              struct sl_err *err)
{
    struct pki_key *key = NULL;
    struct sl_buf chain;
    sl_buf_init(&chain, PKI_TEXT_MAX);
    sl_status status = identity_key(home, &key, err);
    if (status == SL_OK) status = sign_self(key, root_key, root, 0, &chain, err);
    if (status == SL_OK) status = identity_store(home, key, chain.data, root, err);
    pki_key_destroy(key);
    sl_buf_done(&chain);
    return status;
}

sl_status identity_open_grid(const char *home, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct pki_key *root_key = NULL;
    struct sl_buf root;
    sl_buf_init(&root, PKI_TEXT_MAX);
    sl_status status = make_folder(home, err);
    if (status == SL_OK) status = identity_path(home, "ca-key.pem", path, err);
    if (status == SL_OK) status = pki_key_create(&root_key, err);
    if (status == SL_OK) status = pki_root_create(root_key, now_s(), &root, err);
    if (status == SL_OK) status = pki_key_save(root_key, path, err);
    if (status == SL_OK) status = certify_self(home, root_key, root.data, err);
    pki_key_destroy(root_key);
    sl_buf_done(&root);
    return status;
}

sl_status identity_pin(const char *home, char out[TOKEN_PIN_SIZE], struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    unsigned char pin[SHA256_BYTES];
    struct sl_buf root;
    sl_buf_init(&root, PKI_TEXT_MAX);
    sl_status status = identity_path(home, "ca.pem", path, err);
    if (status == SL_OK) status = pki_file_read(path, &root, err);
    if (status == SL_OK) status = pki_root_pin(root.data, pin, err);
    if (status == SL_OK) sha256_hex(pin, out);
    sl_buf_done(&root);
    return status;
}

/* --- renewal --- */

int64_t identity_renew_at_s(const struct identity *identity)
{
    return identity->issued_s + (identity->not_after_s - identity->issued_s) / 2;
}

sl_status identity_renewal_check(const struct identity *identity, const char *chain,
                                 struct sl_err *err)
{
    struct pki_peer peer;
    sl_status status = pki_chain_check(chain, identity->root.data, now_s(), &peer, err);
    if (status == SL_OK) status = pki_key_check(identity->key, chain, err);
    if (status != SL_OK) return status;
    if (peer.is_gateway != identity->is_gateway || peer.n_below < identity->n_below)
        return sl_err_set(err, SL_DENIED, "the new certificate would be a lesser one");
    if (peer.not_after_s > identity->not_after_s) return SL_OK;
    return sl_err_set(err, SL_DENIED, "the new certificate would end no later");
}

sl_status identity_sign_self(const struct identity *identity, const char *home, int64_t valid_s,
                             struct sl_buf *out, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct pki_key *root_key = NULL;
    sl_status status = identity_path(home, "ca-key.pem", path, err);
    if (status == SL_OK) status = pki_key_load(path, &root_key, err);
    if (status == SL_OK)
        status = sign_self(identity->key, root_key, identity->root.data, valid_s, out, err);
    pki_key_destroy(root_key);
    return status;
}

void identity_renewed(struct identity *identity, const char *chain)
{
    struct pki_peer peer;
    struct sl_buf copy;
    sl_buf_init(&copy, PKI_TEXT_MAX);
    /* Without memory the old one is used for a while longer, and the file has the new one. */
    if (pki_chain_check(chain, identity->root.data, now_s(), &peer, NULL) != SL_OK ||
        sl_buf_adds(&copy, chain) != SL_OK) {
        sl_buf_done(&copy);
        return;
    }
    sl_buf_done(&identity->chain);
    identity->chain = copy;
    identity->n_below = peer.n_below;
    identity->issued_s = peer.issued_s;
    identity->not_after_s = peer.not_after_s;
}
