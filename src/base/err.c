/* err.c: error texts: one printable line, cut at a character's border when too long. */
#include "base/err.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ELLIPSIS "..."

static void cut_with_ellipsis(char text[SL_ERR_TEXT_MAX])
{
    size_t keep = sl_utf8_complete(text, SL_ERR_TEXT_MAX - sizeof ELLIPSIS);
    memcpy(text + keep, ELLIPSIS, sizeof ELLIPSIS);
}

/* Formats prefix and rest through a copy, because both may point into err->text. */
SL_PRINTF(3, 0)
static void set_text(struct sl_err *err, const char *rest, const char *fmt, va_list args)
{
    char text[SL_ERR_TEXT_MAX];
    int n = vsnprintf(text, sizeof text, fmt, args);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (n < 0) text[0] = '\0';
    if (rest && len < sizeof text) {
        n = snprintf(text + len, sizeof text - len, ": %s", rest);
        len += n < 0 ? 0 : (size_t)n;
    }
    if (len >= sizeof text) cut_with_ellipsis(text);
    /* Error texts quote what strangers wrote (tensor names, arguments) and end on terminals, in log
     * lines and in answers: what could move the cursor, forge a line or is no text goes. */
    sl_utf8_make_printable(text, strlen(text), '?');
    memcpy(err->text, text, sizeof text);
}

sl_status sl_err_set(struct sl_err *err, sl_status status, const char *fmt, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    set_text(err, NULL, fmt, args);
    va_end(args);
    err->status = status;
    return status;
}

sl_status sl_err_prefix(struct sl_err *err, const char *fmt, ...)
{
    if (!err) return SL_INTERNAL;
    va_list args;
    va_start(args, fmt);
    set_text(err, err->text, fmt, args);
    va_end(args);
    return err->status;
}

static sl_status status_of_errno(int errnum)
{
    switch (errnum) {
    case ENOMEM: return SL_NOMEM;
    case ENOENT: return SL_NOT_FOUND;
    case EACCES: return SL_DENIED;
    case EEXIST: return SL_EXISTS;
    default: return SL_IO;
    }
}

sl_status sl_err_errno(struct sl_err *err, int errnum, const char *fmt, ...)
{
    sl_status status = status_of_errno(errnum);
    if (!err) return status;
    char reason[128]; /* glibc's longest message is about 50 bytes */
    va_list args;
    va_start(args, fmt);
    set_text(err, strerror_r(errnum, reason, sizeof reason), fmt, args);
    va_end(args);
    err->status = status;
    return status;
}
