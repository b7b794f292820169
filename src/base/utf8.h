/* utf8.h: UTF-8 by the letter of RFC 3629: no overlong forms, no surrogates, nothing
 * past U+10FFFF.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one code point from s[0..n). Returns its length in bytes (1 to 4), or 0 when the bytes at
 * s are not a whole valid sequence. n > 0. */
size_t sl_utf8_decode(const char *s, size_t n, uint32_t *out_codepoint);

/* Writes 1 to 4 bytes; returns the count, or 0 for a surrogate or a value past U+10FFFF. */
size_t sl_utf8_encode(uint32_t codepoint, char out[4]);

bool sl_utf8_valid(const char *s, size_t n);

/* Makes s[0..n) one line of text that cannot drive a terminal: each byte of a control character
 * (C0, DEL, C1) and each byte that is no UTF-8 becomes `replacement`, an ASCII character. */
void sl_utf8_make_printable(char *s, size_t n, char replacement);

/* Length of the longest prefix of s that does not end inside a sequence that later bytes could
 * still complete. Invalid bytes count as complete. 0 <= result <= n, n - result <= 3. */
size_t sl_utf8_complete(const char *s, size_t n);
