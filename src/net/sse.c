/* sse.c: one event is a handful of appends; what was appended is taken back when one fails. */
#include "net/sse.h"

#include <string.h>

/* The length of the line at s[0..n), and with its end in *with_end. */
static size_t line_length(const char *s, size_t n, size_t *with_end)
{
    size_t len = 0;
    while (len < n && s[len] != '\r' && s[len] != '\n') len++;
    bool crlf = n - len > 1 && s[len] == '\r' && s[len + 1] == '\n';
    *with_end = len + (len < n ? 1 : 0) + (crlf ? 1 : 0);
    return len;
}

/* `field`, the line and a line feed. */
static sl_status add_line(struct sl_buf *out, const char *field, const char *line, size_t n)
{
    sl_status status = sl_buf_adds(out, field);
    if (status == SL_OK) status = sl_buf_add(out, line, n);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* Text that ends in a line end has one more, empty, line: a client puts the lines together with
 * line feeds between them and so gets the text back. */
static sl_status add_data(struct sl_buf *out, const char *data, size_t n)
{
    sl_status status = SL_OK;
    bool open = true;
    for (size_t at = 0; open && status == SL_OK;) {
        size_t used;
        size_t len = line_length(data + at, n - at, &used);
        status = add_line(out, "data: ", data + at, len);
        open = used > len;
        at += used;
    }
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status all_or_nothing(struct sl_buf *out, size_t before, sl_status status)
{
    if (status != SL_OK) sl_buf_truncate(out, before);
    return status;
}

sl_status sse_data(struct sl_buf *out, const char *data, size_t n)
{
    size_t before = out->len;
    return all_or_nothing(out, before, add_data(out, data, n));
}

sl_status sse_event(struct sl_buf *out, const char *name, const char *data, size_t n)
{
    size_t before = out->len;
    if (strpbrk(name, "\r\n")) return SL_INVALID;
    sl_status status = add_line(out, "event: ", name, strlen(name));
    if (status == SL_OK) status = add_data(out, data, n);
    return all_or_nothing(out, before, status);
}

sl_status sse_comment(struct sl_buf *out, const char *text)
{
    size_t before = out->len;
    if (strpbrk(text, "\r\n")) return SL_INVALID;
    sl_status status = add_line(out, ": ", text, strlen(text));
    if (status == SL_OK) status = sl_buf_addc(out, '\n');
    return all_or_nothing(out, before, status);
}
