/* pki.c: keys and the ids that follow from them. */
#include "net/pki_int.h"

#include "base/mem.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#define P256_SPKI_BYTES 91 /* DER of a P-256 key, named curve, uncompressed point */
#define KEY_TEXT_MAX 1024  /* its PKCS #8 as PEM takes 241 bytes */

sl_status pki_openssl_failed(struct sl_err *err, const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(error);
    sl_status status = ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ? SL_NOMEM : SL_INTERNAL;
    sl_err_set(err, status, "%s: %s", what, reason ? reason : "unknown reason");
    ERR_clear_error();
    return status;
}

/* --- ids --- */

/* The curve by its name and the one encoding of a point that we write: the same key can then have
 * one id only. */
sl_status pki_public_hash(EVP_PKEY *key, unsigned char out[SHA256_BYTES], struct sl_err *err)
{
    char curve[32] = "";
    unsigned char *der = NULL;
    if (!key || !EVP_PKEY_is_a(key, "EC") ||
        EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) != 1 ||
        strcmp(curve, "prime256v1") != 0) {
        ERR_clear_error();
        return sl_err_set(err, SL_CORRUPT, "not a P-256 key");
    }
    int n = i2d_PUBKEY(key, &der);
    if (n < 0) return pki_openssl_failed(err, "public key");
    sl_status status = n == P256_SPKI_BYTES
                           ? sha256_of(der, (size_t)n, out)
                           : sl_err_set(err, SL_CORRUPT, "a P-256 key in an unusual form");
    OPENSSL_free(der);
    return status;
}

/* The hash's first 65 bits, 5 a character. */
void pki_id_of_hash(const unsigned char hash[SHA256_BYTES], char out[PKI_ID_SIZE])
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    *out++ = 'n';
    for (int bit = 0; bit < 65; bit += 5) {
        unsigned two = (unsigned)hash[bit / 8] << 8 | hash[bit / 8 + 1];
        *out++ = alphabet[two >> (11 - bit % 8) & 31];
    }
    *out = '\0';
}

bool pki_id_valid(const char *id)
{
    if (id[0] != 'n') return false;
    return strspn(id + 1, "abcdefghijklmnopqrstuvwxyz234567") == 13 && id[14] == '\0';
}

void pki_id_dns(const char *id, char out[PKI_DNS_SIZE])
{
    size_t n = strnlen(id, PKI_ID_SIZE - 1);
    memcpy(out, id, n);
    memcpy(out + n, PKI_DNS_SUFFIX, sizeof PKI_DNS_SUFFIX);
}

/* --- keys --- */

/* Takes pkey over in any case. */
static sl_status key_of(EVP_PKEY *pkey, struct pki_key **out, struct sl_err *err)
{
    unsigned char hash[SHA256_BYTES] = {0};
    sl_status status = pki_public_hash(pkey, hash, err);
    struct pki_key *key = status == SL_OK ? sl_calloc(1, sizeof *key) : NULL;
    if (!key) {
        EVP_PKEY_free(pkey);
        return status == SL_OK ? sl_err_set(err, SL_NOMEM, "key: out of memory") : status;
    }
    key->pkey = pkey;
    pki_id_of_hash(hash, key->id);
    *out = key;
    return SL_OK;
}

sl_status pki_key_create(struct pki_key **out, struct sl_err *err)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    return pkey ? key_of(pkey, out, err) : pki_openssl_failed(err, "new key");
}

void pki_key_destroy(struct pki_key *key)
{
    if (!key) return;
    EVP_PKEY_free(key->pkey);
    sl_free(key);
}

void pki_key_id(const struct pki_key *key, char out[PKI_ID_SIZE])
{
    memcpy(out, key->id, PKI_ID_SIZE);
}

/* Do the two halves belong together? A damaged file may hold any public half. */
static bool is_pair(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool ok = ctx && EVP_PKEY_pairwise_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static sl_status key_read(const char *text, struct pki_key **out, struct sl_err *err)
{
    BIO *bio;
    unsigned char *der;
    long n_der;
    sl_status status = pki_text_open(text, &bio, err);
    if (status != SL_OK) return status;
    status = pki_block_next(bio, PKI_PEM_KEY, &der, &n_der, err);
    BIO_free(bio);
    if (status != SL_OK)
        return status == SL_NOT_FOUND ? sl_err_set(err, SL_CORRUPT, "not PEM") : status;
    const unsigned char *at = der;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &at, n_der);
    bool ok = pkey && EVP_PKEY_is_a(pkey, "EC") && is_pair(pkey);
    OPENSSL_clear_free(der, (size_t)n_der);
    ERR_clear_error();
    if (ok) return key_of(pkey, out, err);
    EVP_PKEY_free(pkey);
    return sl_err_set(err, SL_CORRUPT, "not a P-256 key");
}

sl_status pki_key_load(const char *path, struct pki_key **out, struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, PKI_TEXT_MAX);
    sl_status status = pki_file_read_secret(path, &text, err);
    if (status == SL_OK && (status = key_read(text.data, out, err)) != SL_OK)
        sl_err_prefix(err, "%s", path);
    if (text.cap) OPENSSL_cleanse(text.data, text.len);
    sl_buf_done(&text);
    return status;
}

sl_status pki_key_save(const struct pki_key *key, const char *path, struct sl_err *err)
{
    struct sl_buf text;
    BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return pki_openssl_failed(err, path);
    }
    sl_buf_init(&text, KEY_TEXT_MAX);
    sl_status status = pki_bio_append(bio, &text, err);
    if (status == SL_OK) status = pki_file_write(path, text.data, text.len, err);
    if (text.cap) OPENSSL_cleanse(text.data, text.len);
    sl_buf_done(&text);
    return status;
}
