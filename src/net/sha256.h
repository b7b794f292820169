/* sha256.h: SHA-256 (FIPS 180-4) of bytes that come in pieces; OpenSSL's EVP behind it, which uses
 * the processor's own instructions.
 * Floor: net.  Thread: one at a time per hasher.  Allocates: OpenSSL's context, at init.
 * Invariant: hex digests are 64 lower-case digits and a NUL. */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX_SIZE 65 /* with the NUL */

struct sha256 {
    void *ctx; /* EVP_MD_CTX; NULL after done */
};

SL_CHECK sl_status sha256_init(struct sha256 *sha); /* NOMEM, INTERNAL */
void sha256_done(struct sha256 *sha);               /* zeroed, or done already: fine */

/* The state after a failure is undefined but for sha256_done; OpenSSL fails only when it has no
 * memory or is misused, so the callers treat INTERNAL as the end. */
SL_CHECK sl_status sha256_add(struct sha256 *sha, const void *bytes, size_t n);
/* Ends the message and makes the hasher ready for the next one. */
SL_CHECK sl_status sha256_finish(struct sha256 *sha, unsigned char out[SHA256_BYTES]);

void sha256_hex(const unsigned char digest[SHA256_BYTES], char out[SHA256_HEX_SIZE]);
/* Of 64 hex digits of either case, no more and no less; INVALID. */
SL_CHECK sl_status sha256_from_hex(const char *hex, unsigned char out[SHA256_BYTES]);

/* All of n bytes at once. */
SL_CHECK sl_status sha256_of(const void *bytes, size_t n, unsigned char out[SHA256_BYTES]);
