/* buf.h: a growable byte buffer whose maximum is given at birth (after curl's dynbuf).
 * Floor: base.  Thread: the caller's.  Allocates: on growth.
 * Invariant: len <= max; data[len] is a NUL when anything was ever written, so data is a C string
 * too. A failed append leaves the contents as they were. */
#pragma once
#include "base/status.h"
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <stdint.h>

struct sl_buf {
    char *data; /* never NULL after sl_buf_init: points at "" while empty */
    size_t len;
    size_t cap;
    size_t max; /* bytes, without the NUL */
};

void sl_buf_init(struct sl_buf *buf, size_t max_bytes);
void sl_buf_done(struct sl_buf *buf);  /* frees; the buffer may be used again, empty */
void sl_buf_clear(struct sl_buf *buf); /* keeps the memory */

/* What is appended must not lie in the buffer itself. */
SL_CHECK sl_status sl_buf_add_growing(struct sl_buf *buf, const void *bytes, size_t n);

/* LIMIT, NOMEM. Inline, since most additions are a few bytes that fit. */
SL_CHECK static inline sl_status sl_buf_add(struct sl_buf *buf, const void *bytes, size_t n)
{
    if (n >= buf->cap - buf->len) return sl_buf_add_growing(buf, bytes, n);
    if (n) memcpy(buf->data + buf->len, bytes, n); /* bytes may be NULL then */
    buf->len += n;
    buf->data[buf->len] = '\0';
    return SL_OK;
}
/* Makes room for n more bytes, which are then added without moving what is there. LIMIT, NOMEM. */
SL_CHECK sl_status sl_buf_reserve(struct sl_buf *buf, size_t n);
SL_CHECK sl_status sl_buf_adds(struct sl_buf *buf, const char *s);
SL_CHECK sl_status sl_buf_addc(struct sl_buf *buf, char c);
SL_CHECK sl_status sl_buf_addf(struct sl_buf *buf, const char *fmt, ...) SL_PRINTF(2, 3);
SL_CHECK sl_status sl_buf_vaddf(struct sl_buf *buf, const char *fmt, va_list args) SL_PRINTF(2, 0);

void sl_buf_truncate(struct sl_buf *buf, size_t len); /* len <= buf->len */
void sl_buf_consume(struct sl_buf *buf, size_t n);    /* drops the first n <= len bytes */
char *sl_buf_steal(struct sl_buf *buf); /* NUL-ended, caller sl_free()s; NULL on NOMEM */
