/* forged_cert.c: see forged_cert.h. */
#include "support/forged_cert.h"

#include "support/temp_dir.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void right_id(EVP_PKEY *key, char id[PKI_ID_SIZE])
{
    struct pki_key *own;
    FILE *file = fopen(temp_path("forged.key.pem"), "w");
    assert_non_null(file);
    PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    chmod(temp_path("forged.key.pem"), 0600);
    snprintf(id, PKI_ID_SIZE, "nforgerforgery"); /* not a P-256 key: no id is right */
    if (pki_key_load(temp_path("forged.key.pem"), &own, NULL) != SL_OK) return;
    pki_key_id(own, id);
    pki_key_destroy(own);
}

static X509 *issuer_cert(const struct test_member *issuer)
{
    BIO *bio = BIO_new_mem_buf(issuer->chain.data, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(cert);
    return cert;
}

EVP_PKEY *forged_cert_key_of(const struct pki_key *key)
{
    assert_int_equal(pki_key_save(key, temp_path("issuer.pem"), NULL), SL_OK);
    FILE *file = fopen(temp_path("issuer.pem"), "r");
    assert_non_null(file);
    EVP_PKEY *pkey = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(pkey);
    return pkey;
}

static void fill(X509 *cert, X509 *issuer, EVP_PKEY *key, const struct forgery *f)
{
    char id[PKI_ID_SIZE], names[128];
    right_id(key, id);
    const char *name = f->name ? f->name : id;
    snprintf(names, sizeof names, "DNS:%s.nodes.starlane.internal", id);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 77);
    int64_t now_s = f->now_s ? f->now_s : TEST_NOW_S;
    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(now_s + (f->begin_s ? f->begin_s : -3600)));
    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(now_s + (f->end_s ? f->end_s : 3600)));
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer));
    add_extension(cert, issuer, NID_basic_constraints,
                  f->constraints ? f->constraints : "critical,CA:FALSE");
    add_extension(cert, issuer, NID_key_usage, f->usage ? f->usage : "critical,digitalSignature");
    add_extension(cert, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
    add_extension(cert, issuer, NID_subject_key_identifier, "hash");
    add_extension(cert, issuer, NID_authority_key_identifier, "keyid");
    if (!f->names || f->names[0])
        add_extension(cert, issuer, NID_subject_alt_name, f->names ? f->names : names);
}

void forged_cert_append(const struct forgery *f, struct sl_buf *out)
{
    EVP_PKEY *key = f->key ? f->key : EVP_EC_gen("P-256");
    EVP_PKEY *issuer_key = forged_cert_key_of(f->issuer->key);
    X509 *issuer = issuer_cert(f->issuer), *cert = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    assert_true(key && cert && bio);
    fill(cert, issuer, key, f);
    assert_true(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    long n = BIO_get_mem_data(bio, &text);
    assert_int_equal(sl_buf_add(out, text, (size_t)n), SL_OK);
    assert_int_equal(sl_buf_adds(out, f->issuer->chain.data), SL_OK);
    BIO_free(bio);
    X509_free(cert);
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    EVP_PKEY_free(key);
}
