/* base64.h: bytes as text and back (RFC 4648, sections 4 and 5).
 * Floor: base.  Thread: any.  Allocates: only the buffer it appends to.
 * Invariant: decoding takes exactly what encoding can give: no white space, no stray bits in the
 * last character, so that two texts never mean the same bytes. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>

enum sl_base64_alphabet {
    SL_BASE64_STANDARD, /* '+' and '/'; padded with '=' */
    SL_BASE64_URL       /* '-' and '_'; never padded, as in JSON Web Tokens (RFC 7515) */
};

/* Characters that n bytes become. Overflows for n past 3/4 of SIZE_MAX. */
size_t sl_base64_length(enum sl_base64_alphabet alphabet, size_t n);

/* Appends the text of n bytes. LIMIT, NOMEM: the buffer's; it is as before then. */
SL_CHECK sl_status sl_base64_encode(struct sl_buf *out, enum sl_base64_alphabet alphabet,
                                    const void *bytes, size_t n);

/* Appends the bytes of n characters. INVALID: not of this alphabet, wrongly padded, or not what
 * encoding gives; LIMIT, NOMEM: the buffer's. It is as before after a failure. */
SL_CHECK sl_status sl_base64_decode(struct sl_buf *out, enum sl_base64_alphabet alphabet,
                                    const char *text, size_t n);
