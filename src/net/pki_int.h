/* pki_int.h: what the files of pki.h and tls.c share: OpenSSL's types.
 * Floor: net.  Thread: any.  Allocates: OpenSSL's objects, the caller's to free.
 * Invariant: a function here leaves OpenSSL's error queue, which is the thread's, empty. */
#pragma once
#include "net/pki.h"
#include <openssl/x509.h>

struct pki_key {
    EVP_PKEY *pkey;
    char id[PKI_ID_SIZE];
};

/* NOMEM or INTERNAL with OpenSSL's reason behind `what`; for what our own input cannot cause. */
sl_status pki_openssl_failed(struct sl_err *err, const char *what);

/* SHA-256 of a P-256 key's SubjectPublicKeyInfo. CORRUPT: another kind of key. */
SL_CHECK sl_status pki_public_hash(EVP_PKEY *key, unsigned char out[SHA256_BYTES],
                                   struct sl_err *err);

/* --- PEM --- */

#define PKI_PEM_CERTIFICATE "CERTIFICATE"
#define PKI_PEM_CSR "CERTIFICATE REQUEST"
#define PKI_PEM_KEY "PRIVATE KEY"

/* The next block of the text, which must be one of that name, without PEM headers; *der
 * belongs to the caller (OPENSSL_free). NOT_FOUND, err untouched: there is no more; CORRUPT;
 * NOMEM. */
SL_CHECK sl_status pki_block_next(BIO *text, const char *name, unsigned char **der, long *n_der,
                                  struct sl_err *err);
/* The text for pki_block_next; it must outlive *out. LIMIT, NOMEM. */
SL_CHECK sl_status pki_text_open(const char *text, BIO **out, struct sl_err *err);

/* The certificates of a text, 1 to n_max of them, in its order. CORRUPT, LIMIT, NOMEM. */
SL_CHECK sl_status pki_certs_read(const char *text, int n_max, STACK_OF(X509) * *out,
                                  struct sl_err *err);
/* As pki_root_pin says. */
SL_CHECK sl_status pki_root_read(const char *text, X509 **out, struct sl_err *err);

/* Appends what a function like PEM_write_bio_X509 wrote, then frees bio. */
SL_CHECK sl_status pki_bio_append(BIO *bio, struct sl_buf *out, struct sl_err *err);

/* --- checking --- */

/* The rules by which every chain of the grid is checked, here and in TLS. False: no memory. */
bool pki_set_rules(X509_VERIFY_PARAM *rules);

/* Verifies the context's chain and who every certificate in it is for. On failure the context's
 * error says what is wrong. *out is set on success only. */
bool pki_verify(X509_STORE_CTX *ctx, struct pki_peer *out);

/* Who this one certificate is for. CORRUPT, DENIED: its names are not those of its key's owner. */
SL_CHECK sl_status pki_cert_peer(X509 *cert, struct pki_peer *out, struct sl_err *err);

/* --- files --- */

/* As pki_file_read, and DENIED when others than the owner may read or write it. */
SL_CHECK sl_status pki_file_read_secret(const char *path, struct sl_buf *out, struct sl_err *err);
