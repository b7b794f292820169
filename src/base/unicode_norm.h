/* unicode_norm.h: the four normal forms of Unicode text (UAX 15,
 * https://www.unicode.org/reports/tr15).
 * Floor: base.  Thread: any.  Allocates: the buffer it appends to, and for the time of the call
 * eight bytes a code point. */
#pragma once
#include "base/buf.h"

enum sl_unicode_form { SL_UNICODE_NFC, SL_UNICODE_NFD, SL_UNICODE_NFKC, SL_UNICODE_NFKD };

/* Appends the normal form of s[0..n), which is valid UTF-8. Time grows with n, whatever the text:
 * no order of marks makes it worse. NOMEM; LIMIT: the buffer's. After a failure out is as it
 * was. */
SL_CHECK sl_status sl_unicode_normalize(const char *s, size_t n, enum sl_unicode_form form,
                                        struct sl_buf *out);
