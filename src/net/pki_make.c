/* pki_make.c: roots, requests for certificates, and certificates (RFC 5280, RFC 2986). */
#include "net/pki_int.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#define SERIAL_BYTES 16   /* RFC 5280 allows 20; 64 random bits are the least that CAs may use */
#define NAME_MAX_BYTES 64 /* of a common name, by X.520 */

/* What becomes a certificate. */
struct draft {
    X509 *cert;
    X509 *issuer; /* cert itself for a root */
    EVP_PKEY *issuer_key;
};

static bool set_random_serial(X509 *cert)
{
    unsigned char bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1) return false;
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and always of the same length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return ok;
}

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

static bool set_times(X509 *cert, int64_t begin_s, int64_t end_s)
{
    return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)begin_s) &&
           ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)end_s);
}

static bool extend(const struct draft *draft, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, draft->issuer, draft->cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(draft->cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* A CA that may have `below` CAs under it; below < 0: no CA. */
static bool extend_role(const struct draft *draft, int below)
{
    char constraints[64];
    snprintf(constraints, sizeof constraints, "critical,CA:TRUE,pathlen:%d", below);
    return extend(draft, NID_basic_constraints, below < 0 ? "critical,CA:FALSE" : constraints);
}

static bool extend_member(const struct draft *draft, const char *id, int below)
{
    char dns[PKI_DNS_SIZE], san[PKI_DNS_SIZE + 4];
    pki_id_dns(id, dns);
    snprintf(san, sizeof san, "DNS:%s", dns);
    return extend_role(draft, below) &&
           extend(draft, NID_key_usage,
                  below < 0 ? "critical,digitalSignature"
                            : "critical,digitalSignature,keyCertSign") &&
           extend(draft, NID_ext_key_usage, "serverAuth,clientAuth") &&
           extend(draft, NID_subject_key_identifier, "hash") &&
           extend(draft, NID_authority_key_identifier, "keyid") &&
           extend(draft, NID_subject_alt_name, san);
}

static bool extend_root(const struct draft *draft)
{
    return extend_role(draft, PKI_DEPTH_MAX - 1) &&
           extend(draft, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           extend(draft, NID_subject_key_identifier, "hash");
}

static bool begin(const struct draft *draft, EVP_PKEY *key, const char *name)
{
    X509 *cert = draft->cert;
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_random_serial(cert) &&
           X509_set_pubkey(cert, key) == 1 && set_name(X509_get_subject_name(cert), name) &&
           X509_set_issuer_name(cert, X509_get_subject_name(draft->issuer)) == 1;
}

static bool sign(const struct draft *draft)
{
    return X509_sign(draft->cert, draft->issuer_key, EVP_sha256()) > 0;
}

static sl_status append_cert(X509 *cert, struct sl_buf *out, struct sl_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio && PEM_write_bio_X509(bio, cert) == 1) return pki_bio_append(bio, out, err);
    BIO_free(bio);
    return pki_openssl_failed(err, "certificate");
}

sl_status pki_root_create(const struct pki_key *key, int64_t now_s, struct sl_buf *out,
                          struct sl_err *err)
{
    char name[NAME_MAX_BYTES];
    X509 *cert = X509_new();
    const struct draft draft = {cert, cert, key->pkey};
    snprintf(name, sizeof name, "Starlane grid %s", key->id + 1);
    sl_status status = SL_OK;
    if (!cert || !begin(&draft, key->pkey, name) ||
        !set_times(cert, now_s - PKI_SKEW_S, now_s + PKI_ROOT_S) || !extend_root(&draft) ||
        !sign(&draft))
        status = pki_openssl_failed(err, "root certificate");
    if (status == SL_OK) status = append_cert(cert, out, err);
    X509_free(cert);
    return status;
}

/* --- requests --- */

sl_status pki_csr_create(const struct pki_key *key, struct sl_buf *out, struct sl_err *err)
{
    X509_REQ *request = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = request && bio && X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
              set_name(X509_REQ_get_subject_name(request), key->id) &&
              X509_REQ_set_pubkey(request, key->pkey) == 1 &&
              X509_REQ_sign(request, key->pkey, EVP_sha256()) > 0 &&
              PEM_write_bio_X509_REQ(bio, request) == 1;
    X509_REQ_free(request);
    if (ok) return pki_bio_append(bio, out, err);
    BIO_free(bio);
    return pki_openssl_failed(err, "certificate request");
}

/* The one block of the text. */
static sl_status csr_block(const char *text, unsigned char **der, long *n_der, struct sl_err *err)
{
    BIO *bio;
    unsigned char *second = NULL;
    long n_second;
    sl_status status = pki_text_open(text, &bio, err);
    if (status != SL_OK) return status;
    status = pki_block_next(bio, PKI_PEM_CSR, der, n_der, err);
    if (status == SL_NOT_FOUND) status = sl_err_set(err, SL_CORRUPT, "not PEM");
    if (status == SL_OK &&
        pki_block_next(bio, PKI_PEM_CSR, &second, &n_second, NULL) != SL_NOT_FOUND) {
        OPENSSL_free(second);
        OPENSSL_free(*der);
        status = sl_err_set(err, SL_CORRUPT, "more than one");
    }
    BIO_free(bio);
    return status;
}

/* Signed with the key in it, so that nobody asks for another's; *out is the caller's. */
static sl_status csr_read(const char *text, X509_REQ **out, char id[PKI_ID_SIZE],
                          struct sl_err *err)
{
    unsigned char *der, hash[SHA256_BYTES];
    long n_der;
    sl_status status = csr_block(text, &der, &n_der, err);
    if (status != SL_OK) return status;
    const unsigned char *at = der;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, n_der);
    bool whole = request && at == der + n_der;
    OPENSSL_free(der);
    EVP_PKEY *key = whole ? X509_REQ_get0_pubkey(request) : NULL;
    status = whole ? pki_public_hash(key, hash, err) : sl_err_set(err, SL_CORRUPT, "not a CSR");
    if (status == SL_OK && X509_REQ_verify(request, key) != 1)
        status = sl_err_set(err, SL_CORRUPT, "not signed with its own key");
    ERR_clear_error();
    if (status != SL_OK) {
        X509_REQ_free(request);
        return status;
    }
    pki_id_of_hash(hash, id);
    *out = request;
    return SL_OK;
}

sl_status pki_csr_id(const char *csr, char out[PKI_ID_SIZE], struct sl_err *err)
{
    X509_REQ *request;
    sl_status status = csr_read(csr, &request, out, err);
    if (status != SL_OK) return sl_err_prefix(err, "certificate request"), status;
    X509_REQ_free(request);
    return SL_OK;
}

/* --- issuing --- */

static int64_t end_of(const X509 *cert)
{
    struct tm tm;
    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static sl_status check_issuer(const struct pki_issue *issue, X509 *issuer, struct sl_err *err)
{
    long below = X509_get_pathlen(issuer);
    if (X509_check_private_key(issuer, issue->key->pkey) != 1) {
        ERR_clear_error();
        return sl_err_set(err, SL_INVALID, "the issuer's key is not its certificate's");
    }
    if (X509_check_ca(issuer) != 1 || below < 0)
        return sl_err_set(err, SL_DENIED, "only a gateway can admit members");
    if (issue->gateway && below == 0)
        return sl_err_set(err, SL_DENIED,
                          "this gateway was admitted by the third in a row; let an older one "
                          "admit gateways");
    if (end_of(issuer) <= issue->now_s)
        return sl_err_set(err, SL_DENIED, "the certificate of this gateway has expired");
    return SL_OK;
}

/* The new certificate's text, then that of the issuer's, unless this is the root. */
static sl_status append_chain(X509 *cert, STACK_OF(X509) * issuers, struct sl_buf *out,
                              struct sl_err *err)
{
    size_t begin_len = out->len;
    sl_status status = append_cert(cert, out, err);
    bool root = X509_self_signed(sk_X509_value(issuers, 0), 0) == 1;
    for (int i = 0; !root && status == SL_OK && i < sk_X509_num(issuers); i++)
        status = append_cert(sk_X509_value(issuers, i), out, err);
    if (status != SL_OK) sl_buf_truncate(out, begin_len);
    return status;
}

static sl_status make(const struct pki_issue *issue, STACK_OF(X509) * issuers, EVP_PKEY *key,
                      const char *id, struct sl_buf *out, struct sl_err *err)
{
    X509 *issuer = sk_X509_value(issuers, 0), *cert = X509_new();
    const struct draft draft = {cert, issuer, issue->key->pkey};
    int below = issue->gateway ? (int)X509_get_pathlen(issuer) - 1 : -1;
    bool root = X509_self_signed(issuer, 0) == 1;
    int64_t usual_s = root ? PKI_FIRST_S : PKI_MEMBER_S;
    int64_t end_s = issue->now_s + (issue->valid_s ? issue->valid_s : usual_s);
    if (end_of(issuer) < end_s) end_s = end_of(issuer);
    sl_status status = SL_OK;
    if (!cert || !begin(&draft, key, id) || !set_times(cert, issue->now_s - PKI_SKEW_S, end_s) ||
        !extend_member(&draft, id, below) || !sign(&draft))
        status = pki_openssl_failed(err, "certificate");
    if (status == SL_OK) status = append_chain(cert, issuers, out, err);
    X509_free(cert);
    return status;
}

sl_status pki_issue(const struct pki_issue *issue, struct sl_buf *out, struct sl_err *err)
{
    char id[PKI_ID_SIZE];
    X509_REQ *request = NULL;
    STACK_OF(X509) *issuers = NULL;
    sl_status status = csr_read(issue->csr, &request, id, err);
    if (status != SL_OK) return sl_err_prefix(err, "certificate request"), status;
    status = pki_certs_read(issue->chain, PKI_DEPTH_MAX - 1, &issuers, err);
    if (status != SL_OK)
        sl_err_prefix(err, "the issuer's chain");
    else
        status = check_issuer(issue, sk_X509_value(issuers, 0), err);
    if (status == SL_OK) status = make(issue, issuers, X509_REQ_get0_pubkey(request), id, out, err);
    sk_X509_pop_free(issuers, X509_free);
    X509_REQ_free(request);
    return status;
}
