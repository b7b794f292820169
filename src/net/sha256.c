#include "net/sha256.h"
#include <openssl/evp.h>

sl_status sha256_init(struct sha256 *sha)
{
    sha->ctx = EVP_MD_CTX_new();
    if (!sha->ctx) return SL_NOMEM;
    if (EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL) == 1) return SL_OK;
    sha256_done(sha);
    return SL_INTERNAL;
}

void sha256_done(struct sha256 *sha)
{
    EVP_MD_CTX_free(sha->ctx);
    sha->ctx = NULL;
}

sl_status sha256_add(struct sha256 *sha, const void *bytes, size_t n)
{
    return EVP_DigestUpdate(sha->ctx, bytes, n) == 1 ? SL_OK : SL_INTERNAL;
}

sl_status sha256_finish(struct sha256 *sha, unsigned char out[SHA256_BYTES])
{
    if (EVP_DigestFinal_ex(sha->ctx, out, NULL) != 1) return SL_INTERNAL;
    return EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL) == 1 ? SL_OK : SL_INTERNAL;
}

void sha256_hex(const unsigned char digest[SHA256_BYTES], char out[SHA256_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_BYTES] = '\0';
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

sl_status sha256_from_hex(const char *hex, unsigned char out[SHA256_BYTES])
{
    for (int i = 0; i < SHA256_BYTES; i++) {
        int high = digit_value(hex[2 * i]);
        int low = high < 0 ? -1 : digit_value(hex[2 * i + 1]);
        if (low < 0) return SL_INVALID;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return hex[2 * SHA256_BYTES] ? SL_INVALID : SL_OK;
}

sl_status sha256_of(const void *bytes, size_t n, unsigned char out[SHA256_BYTES])
{
    return EVP_Digest(bytes, n, out, NULL, EVP_sha256(), NULL) == 1 ? SL_OK : SL_INTERNAL;
}
