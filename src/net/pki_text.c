/* pki_text.c: PEM (RFC 7468) to OpenSSL's objects and back, within limits. */
#include "net/pki_int.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

sl_status pki_text_open(const char *text, BIO **out, struct sl_err *err)
{
    size_t n = strnlen(text, PKI_TEXT_MAX + 1);
    if (n > PKI_TEXT_MAX) return sl_err_set(err, SL_LIMIT, "longer than %d bytes", PKI_TEXT_MAX);
    *out = BIO_new_mem_buf(text, (int)n);
    return *out ? SL_OK : pki_openssl_failed(err, "PEM");
}

/* Of PEM_read_bio: the end of the text, or what is wrong with it. */
static sl_status why_no_block(struct sl_err *err)
{
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_REASON(error) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return SL_NOT_FOUND;
    }
    if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE) return pki_openssl_failed(err, "PEM");
    const char *reason = ERR_reason_error_string(error);
    sl_err_set(err, SL_CORRUPT, "not PEM: %s", reason ? reason : "cut");
    ERR_clear_error();
    return SL_CORRUPT;
}

sl_status pki_block_next(BIO *text, const char *name, unsigned char **der, long *n_der,
                         struct sl_err *err)
{
    char *label = NULL, *header = NULL;
    unsigned char *bytes = NULL;
    ERR_clear_error();
    if (PEM_read_bio(text, &label, &header, &bytes, n_der) != 1) return why_no_block(err);
    sl_status status = SL_OK;
    if (strcmp(label, name) != 0)
        status = sl_err_set(err, SL_CORRUPT, "%.60s where %s belongs", label, name);
    else if (header[0])
        status = sl_err_set(err, SL_CORRUPT, "%s with PEM headers", name);
    OPENSSL_free(label);
    OPENSSL_free(header);
    if (status == SL_OK)
        *der = bytes;
    else
        OPENSSL_clear_free(bytes, (size_t)*n_der);
    return status;
}

static sl_status next_certificate(BIO *text, STACK_OF(X509) * certs, struct sl_err *err)
{
    unsigned char *der = NULL;
    long n_der = 0;
    sl_status status = pki_block_next(text, PKI_PEM_CERTIFICATE, &der, &n_der, err);
    if (status != SL_OK) return status;
    const unsigned char *at = der;
    X509 *cert = d2i_X509(NULL, &at, n_der);
    if (!cert || at != der + n_der)
        status = sl_err_set(err, SL_CORRUPT, "not a certificate");
    else if (!sk_X509_push(certs, cert))
        status = sl_err_set(err, SL_NOMEM, "out of memory");
    if (status != SL_OK) X509_free(cert);
    OPENSSL_free(der);
    ERR_clear_error();
    return status;
}

sl_status pki_certs_read(const char *text, int n_max, STACK_OF(X509) * *out, struct sl_err *err)
{
    BIO *bio;
    sl_status status = pki_text_open(text, &bio, err);
    if (status != SL_OK) return status;
    STACK_OF(X509) *certs = sk_X509_new_null();
    if (!certs) status = sl_err_set(err, SL_NOMEM, "out of memory");
    while (status == SL_OK && sk_X509_num(certs) <= n_max)
        status = next_certificate(bio, certs, err);
    if (status == SL_OK)
        status = sl_err_set(err, SL_LIMIT, "more than %d certificates", n_max);
    else if (status == SL_NOT_FOUND)
        status = sk_X509_num(certs) ? SL_OK : sl_err_set(err, SL_CORRUPT, "no certificate in it");
    BIO_free(bio);
    if (status == SL_OK)
        *out = certs;
    else
        sk_X509_pop_free(certs, X509_free);
    return status;
}

static bool is_root(X509 *cert)
{
    unsigned char hash[SHA256_BYTES];
    bool ok = X509_check_ca(cert) == 1 && X509_self_signed(cert, 1) == 1 &&
              pki_public_hash(X509_get0_pubkey(cert), hash, NULL) == SL_OK;
    ERR_clear_error();
    return ok;
}

sl_status pki_root_read(const char *text, X509 **out, struct sl_err *err)
{
    STACK_OF(X509) * certs;
    sl_status status = pki_certs_read(text, 1, &certs, err);
    if (status != SL_OK) return status;
    X509 *cert = sk_X509_pop(certs);
    sk_X509_free(certs);
    if (is_root(cert)) {
        *out = cert;
        return SL_OK;
    }
    X509_free(cert);
    return sl_err_set(err, SL_CORRUPT, "not the root of a grid");
}

sl_status pki_bio_append(BIO *bio, struct sl_buf *out, struct sl_err *err)
{
    char *bytes = NULL;
    long n = BIO_get_mem_data(bio, &bytes);
    sl_status status = n > 0 ? sl_buf_add(out, bytes, (size_t)n) : SL_NOMEM;
    if (status != SL_OK) sl_err_set(err, status, "no room for the PEM text");
    if (n > 0) OPENSSL_cleanse(bytes, (size_t)n);
    BIO_free(bio);
    return status;
}
