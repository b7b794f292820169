/* pki_check.c: is this chain the root's, and whose is it? */
#include "net/pki_int.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <time.h>

bool pki_set_rules(X509_VERIFY_PARAM *rules)
{
    X509_VERIFY_PARAM_set_depth(rules, PKI_DEPTH_MAX - 1); /* what is between leaf and root */
    return X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_X509_STRICT) == 1;
}

/* --- names --- */

static bool equals(const ASN1_STRING *string, const char *text)
{
    size_t n = strlen(text);
    return string && ASN1_STRING_length(string) == (int)n &&
           memcmp(ASN1_STRING_get0_data(string), text, n) == 0;
}

/* The subject is one common name, which is the id. */
static bool subject_is(X509 *cert, const char *id)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    if (X509_NAME_entry_count(name) != 1) return false;
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, 0);
    return OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)) == NID_commonName &&
           equals(X509_NAME_ENTRY_get_data(entry), id);
}

/* The one alternative name is the id's DNS name: others that read certificates (NATS) go by it. */
static bool alternative_is(X509 *cert, const char *id)
{
    char dns[PKI_DNS_SIZE];
    pki_id_dns(id, dns);
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool ok = false;
    if (names && sk_GENERAL_NAME_num(names) == 1) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
        ok = name->type == GEN_DNS && equals(name->d.dNSName, dns);
    }
    GENERAL_NAMES_free(names);
    return ok;
}

sl_status pki_cert_peer(X509 *cert, struct pki_peer *out, struct sl_err *err)
{
    struct pki_peer peer = {.is_gateway = X509_check_ca(cert) == 1, .n_below = -1};
    struct tm begin, end;
    sl_status status = pki_public_hash(X509_get0_pubkey(cert), peer.key_sha256, err);
    ERR_clear_error();
    if (status != SL_OK) return status;
    pki_id_of_hash(peer.key_sha256, peer.id);
    if (!subject_is(cert, peer.id) || !alternative_is(cert, peer.id))
        return sl_err_set(err, SL_DENIED, "a certificate whose names are not its key's");
    if (ASN1_TIME_to_tm(X509_get0_notBefore(cert), &begin) != 1 ||
        ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) != 1)
        return sl_err_set(err, SL_CORRUPT, "a certificate without beginning or end");
    if (peer.is_gateway) peer.n_below = (int)X509_get_pathlen(cert);
    peer.issued_s = (int64_t)timegm(&begin) + PKI_SKEW_S;
    peer.not_after_s = (int64_t)timegm(&end);
    *out = peer;
    return SL_OK;
}

/* --- chains --- */

bool pki_verify(X509_STORE_CTX *ctx, struct pki_peer *out)
{
    struct pki_peer peer = {.id = ""}, above;
    if (X509_verify_cert(ctx) != 1) return false;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    int n_members = sk_X509_num(chain) - 1;
    bool ok = n_members > 0; /* the root alone is nobody */
    for (int i = 0; ok && i < n_members; i++)
        ok = pki_cert_peer(sk_X509_value(chain, i), i ? &above : &peer, NULL) == SL_OK;
    if (!ok) X509_STORE_CTX_set_error(ctx, X509_V_ERR_SUBJECT_ISSUER_MISMATCH);
    if (ok) *out = peer;
    return ok;
}

static sl_status say_why(X509_STORE_CTX *ctx, struct sl_err *err)
{
    int error = X509_STORE_CTX_get_error(ctx);
    ERR_clear_error();
    switch (error) {
    case X509_V_ERR_OUT_OF_MEM: return sl_err_set(err, SL_NOMEM, "out of memory");
    case X509_V_ERR_SUBJECT_ISSUER_MISMATCH:
        return sl_err_set(err, SL_DENIED, "a certificate whose names are not its key's");
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return sl_err_set(err, SL_DENIED, "%s; is this machine's clock right?",
                          X509_verify_cert_error_string(error));
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return sl_err_set(err, SL_DENIED, "a certificate that this grid did not sign");
    default: return sl_err_set(err, SL_DENIED, "%s", X509_verify_cert_error_string(error));
    }
}

static sl_status verify(STACK_OF(X509) * chain, X509 *root, int64_t now_s, struct pki_peer *out,
                        struct sl_err *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    struct pki_peer peer;
    sl_status status = SL_OK;
    if (!store || !ctx || X509_STORE_add_cert(store, root) != 1 ||
        X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain) != 1 ||
        !pki_set_rules(X509_STORE_CTX_get0_param(ctx)) ||
        X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT) != 1) {
        status = pki_openssl_failed(err, "certificate check");
    } else {
        X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)now_s);
        if (!pki_verify(ctx, &peer)) status = say_why(ctx, err);
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    if (status == SL_OK && out) *out = peer;
    return status;
}

sl_status pki_chain_check(const char *chain, const char *root, int64_t now_s, struct pki_peer *out,
                          struct sl_err *err)
{
    STACK_OF(X509) * certs;
    X509 *trusted;
    sl_status status = pki_certs_read(chain, PKI_DEPTH_MAX, &certs, err);
    if (status != SL_OK) return sl_err_prefix(err, "certificate"), status;
    status = pki_root_read(root, &trusted, err);
    if (status != SL_OK) {
        sl_err_prefix(err, "the grid's root");
    } else {
        status = verify(certs, trusted, now_s, out, err);
        X509_free(trusted);
    }
    sk_X509_pop_free(certs, X509_free);
    return status;
}

sl_status pki_key_check(const struct pki_key *key, const char *chain, struct sl_err *err)
{
    STACK_OF(X509) * certs;
    sl_status status = pki_certs_read(chain, PKI_DEPTH_MAX, &certs, err);
    if (status != SL_OK) return sl_err_prefix(err, "certificate"), status;
    if (X509_check_private_key(sk_X509_value(certs, 0), key->pkey) != 1)
        status = sl_err_set(err, SL_INVALID, "the certificate is not for this machine's key");
    ERR_clear_error();
    sk_X509_pop_free(certs, X509_free);
    return status;
}

/* --- pins --- */

sl_status pki_root_pin(const char *root, unsigned char out[SHA256_BYTES], struct sl_err *err)
{
    X509 *cert;
    unsigned n = SHA256_BYTES;
    sl_status status = pki_root_read(root, &cert, err);
    if (status != SL_OK) return sl_err_prefix(err, "the grid's root"), status;
    if (X509_digest(cert, EVP_sha256(), out, &n) != 1)
        status = pki_openssl_failed(err, "the grid's root");
    X509_free(cert);
    return status;
}

sl_status pki_pin_check(const char *root, const unsigned char pin[SHA256_BYTES], struct sl_err *err)
{
    unsigned char own[SHA256_BYTES];
    sl_status status = pki_root_pin(root, own, err);
    if (status != SL_OK || memcmp(own, pin, sizeof own) == 0) return status;
    return sl_err_set(err, SL_DENIED,
                      "the grid's root is not the one that the token names: another grid answers "
                      "at its address, or somebody is between");
}
