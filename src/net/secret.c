/* secret.c: getrandom(2) and OpenSSL's comparison. */
#include "net/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#define DIGITS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define N_DIGITS 62

/* Every digit is equally likely: bytes past the last multiple of 62 are thrown away. */
sl_status secret_digits(char *out, size_t n, struct sl_err *err)
{
    uint8_t bytes[64];
    size_t done = 0;
    while (done < n) {
        ssize_t got = getrandom(bytes, sizeof bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sl_err_errno(err, errno, "random numbers");
        for (ssize_t i = 0; i < got && done < n; i++) {
            if (bytes[i] < 256 / N_DIGITS * N_DIGITS) out[done++] = DIGITS[bytes[i] % N_DIGITS];
        }
    }
    explicit_bzero(bytes, sizeof bytes);
    return SL_OK;
}

bool secret_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}
