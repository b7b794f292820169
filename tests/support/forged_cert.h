/* forged_cert.h: certificates that our own code would not make, made with OpenSSL by somebody who
 * holds the issuer's key. Thread: one. Files go to the test's folder (temp_dir.h). */
#pragma once
#include "support/test_grid.h"
#include <openssl/evp.h>

struct forgery {
    const struct test_member *issuer; /* signs; its chain follows */
    EVP_PKEY *key;                    /* of the certificate, freed; NULL: a new P-256 key */
    const char *name;                 /* common name; NULL: the right id */
    const char *names;                /* alternative names; NULL: the right one; "": none */
    const char *constraints;          /* NULL: CA:FALSE */
    const char *usage;                /* NULL: digitalSignature */
    int64_t now_s;                    /* 0: TEST_NOW_S */
    int64_t begin_s, end_s;           /* relative to it; 0: an hour before and after */
};

/* Appends the certificate and the issuer's chain. */
void forged_cert_append(const struct forgery *f, struct sl_buf *out);

/* OpenSSL's form of our key; the caller's. */
EVP_PKEY *forged_cert_key_of(const struct pki_key *key);
