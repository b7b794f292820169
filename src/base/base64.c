/* base64.c: groups of three bytes to four characters and back. */
#include "base/base64.h"

#include <stdint.h>
#include <string.h>

#define COMMON "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* Encoded through the stack in blocks, so that the buffer grows in few steps. */
#define BLOCK_GROUPS 256

static const char digits[2][65] = {COMMON "+/", COMMON "-_"};

size_t sl_base64_length(enum sl_base64_alphabet alphabet, size_t n)
{
    size_t tail = n % 3;
    if (tail == 0) return n / 3 * 4;
    return n / 3 * 4 + (alphabet == SL_BASE64_STANDARD ? 4 : tail + 1);
}

/* Four characters of 1 to 3 bytes; those past the last bits are '='. */
static void encode_group(const char *alphabet, const unsigned char *bytes, size_t n, char out[4])
{
    uint32_t bits = (uint32_t)bytes[0] << 16;
    if (n > 1) bits |= (uint32_t)bytes[1] << 8;
    if (n > 2) bits |= bytes[2];
    for (size_t i = 0; i < 4; i++) out[i] = i <= n ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
}

sl_status sl_base64_encode(struct sl_buf *out, enum sl_base64_alphabet alphabet, const void *bytes,
                           size_t n)
{
    char block[4 * BLOCK_GROUPS];
    const unsigned char *at = bytes;
    size_t len_before = out->len;
    while (n > 0) {
        size_t take = n < 3 * BLOCK_GROUPS ? n : 3 * BLOCK_GROUPS;
        for (size_t i = 0; i < take; i += 3)
            encode_group(digits[alphabet], at + i, take - i < 3 ? take - i : 3, block + i / 3 * 4);
        sl_status status = sl_buf_add(out, block, sl_base64_length(alphabet, take));
        if (status != SL_OK) {
            sl_buf_truncate(out, len_before);
            return status;
        }
        at += take;
        n -= take;
    }
    return SL_OK;
}

/* By character: its value plus one, 0 for all that are not of the alphabet. */
static void fill_values(enum sl_base64_alphabet alphabet, unsigned char values[256])
{
    memset(values, 0, 256);
    for (unsigned i = 0; i < 64; i++)
        values[(unsigned char)digits[alphabet][i]] = (unsigned char)(i + 1);
}

/* Bytes of 2 to 4 characters, one fewer than those; 0 when they are not base64. */
static size_t decode_group(const unsigned char values[256], const char *text, size_t n,
                           unsigned char out[3])
{
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned value = values[(unsigned char)text[i]];
        if (value == 0) return 0;
        bits |= (value - 1) << (18 - 6 * i);
    }
    for (size_t i = 0; i < 3; i++) out[i] = (unsigned char)(bits >> (16 - 8 * i));
    bool has_stray_bits = n < 4 && (bits & ((1u << (8 * (4 - n))) - 1)) != 0;
    return has_stray_bits ? 0 : n - 1;
}

sl_status sl_base64_decode(struct sl_buf *out, enum sl_base64_alphabet alphabet, const char *text,
                           size_t n)
{
    unsigned char values[256], group[3];
    size_t len_before = out->len;
    sl_status status = SL_OK;
    fill_values(alphabet, values);
    if (alphabet == SL_BASE64_STANDARD) {
        if (n % 4 != 0) return SL_INVALID;
        for (int i = 0; i < 2 && n > 0 && text[n - 1] == '='; i++) n--;
    }
    if (n % 4 == 1) return SL_INVALID;
    for (size_t i = 0; i < n && status == SL_OK; i += 4) {
        size_t n_bytes = decode_group(values, text + i, n - i < 4 ? n - i : 4, group);
        status = n_bytes == 0 ? SL_INVALID : sl_buf_add(out, group, n_bytes);
    }
    if (status != SL_OK) sl_buf_truncate(out, len_before);
    return status;
}
