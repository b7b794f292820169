/* buf.c: the growable, bounded byte buffer. */
#include "base/buf.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define CAP_FIRST 64 /* a short line fits; doubling does the rest */

/* What data points at while nothing was written. Shared by all buffers, so nobody may write to it:
 * cap is 0. */
static char empty_text[1];

void sl_buf_init(struct sl_buf *buf, size_t max_bytes)
{
    if (max_bytes == SIZE_MAX) max_bytes--; /* room for the NUL in size_t */
    *buf = (struct sl_buf){.data = empty_text, .max = max_bytes};
}

void sl_buf_done(struct sl_buf *buf)
{
    if (buf->cap) sl_free(buf->data);
    sl_buf_init(buf, buf->max);
}

void sl_buf_clear(struct sl_buf *buf)
{
    sl_buf_truncate(buf, 0);
}

sl_status sl_buf_reserve(struct sl_buf *buf, size_t n)
{
    if (n > buf->max - buf->len) return SL_LIMIT;
    size_t need = buf->len + n + 1;
    if (need <= buf->cap) return SL_OK;
    size_t cap = buf->cap > buf->max / 2 ? buf->max + 1 : buf->cap * 2;
    if (cap < CAP_FIRST) cap = CAP_FIRST;
    if (cap > buf->max + 1) cap = buf->max + 1;
    if (cap < need) cap = need;
    char *data = sl_realloc(buf->cap ? buf->data : NULL, cap);
    if (!data) return SL_NOMEM;
    data[buf->len] = '\0';
    buf->data = data;
    buf->cap = cap;
    return SL_OK;
}

sl_status sl_buf_add_growing(struct sl_buf *buf, const void *bytes, size_t n)
{
    if (n == 0) return SL_OK;
    sl_status status = sl_buf_reserve(buf, n);
    if (status != SL_OK) return status;
    memcpy(buf->data + buf->len, bytes, n);
    buf->len += n;
    buf->data[buf->len] = '\0';
    return SL_OK;
}

sl_status sl_buf_adds(struct sl_buf *buf, const char *s)
{
    return sl_buf_add(buf, s, strlen(s));
}

sl_status sl_buf_addc(struct sl_buf *buf, char c)
{
    return sl_buf_add(buf, &c, 1);
}

sl_status sl_buf_vaddf(struct sl_buf *buf, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    sl_status status = n < 0 ? SL_INVALID : sl_buf_reserve(buf, (size_t)n);
    if (status == SL_OK && n > 0) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
    return status;
}

sl_status sl_buf_addf(struct sl_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    sl_status status = sl_buf_vaddf(buf, fmt, args);
    va_end(args);
    return status;
}

void sl_buf_truncate(struct sl_buf *buf, size_t len)
{
    assert(len <= buf->len);
    buf->len = len;
    if (buf->cap) buf->data[len] = '\0';
}

void sl_buf_consume(struct sl_buf *buf, size_t n)
{
    assert(n <= buf->len);
    if (n == 0) return;
    buf->len -= n;
    memmove(buf->data, buf->data + n, buf->len + 1);
}

char *sl_buf_steal(struct sl_buf *buf)
{
    char *text = buf->cap ? buf->data : sl_memdup("", 0);
    if (text) sl_buf_init(buf, buf->max);
    return text;
}
