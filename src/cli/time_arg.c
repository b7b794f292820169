/* time_arg.c: spans and days. */
#include "cli/time_arg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPAN_MAX_MS (INT64_C(100) * 366 * 86400000) /* a century: a typing error beyond it */

/* A count and one of s m h d w. -1: no such span. */
static int64_t span_ms(const char *text)
{
    static const char letters[] = "smhdw";
    static const int64_t units_ms[] = {1000, 60000, 3600000, 86400000, 604800000};
    char *end;
    if (*text < '0' || *text > '9') return -1;
    long long n = strtoll(text, &end, 10);
    const char *letter = *end ? strchr(letters, *end) : NULL;
    if (!letter || end[1]) return -1;
    int64_t unit_ms = units_ms[letter - letters];
    return n > SPAN_MAX_MS / unit_ms ? -1 : n * unit_ms;
}

/* The beginning of YYYY-MM-DD; -1: no such day. */
static int64_t day_ms(const char *text)
{
    struct tm tm = {0};
    int end = 0;
    if (strlen(text) != 10) return -1;
    if (sscanf(text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &end) != 3) return -1;
    const struct tm given = tm;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    time_t t = timegm(&tm);
    /* timegm makes 3 March of 31 February. */
    if (end != 10 || tm.tm_mon + 1 != given.tm_mon || tm.tm_mday != given.tm_mday || t < 0)
        return -1;
    return (int64_t)t * 1000;
}

static sl_status parse(const char *option, const char *text, int64_t now_ms, int sign,
                       int64_t *out_ms, struct sl_err *err)
{
    int64_t span = span_ms(text), day = day_ms(text);
    if (span < 0 && day < 0)
        return sl_err_set(err, SL_INVALID,
                          "--%s %.40s: a span like 30d, 12h, 45m, or a day like 2026-11-01", option,
                          text);
    *out_ms = span < 0 ? day : now_ms + sign * span;
    return SL_OK;
}

sl_status time_arg_past(const char *option, const char *text, int64_t now_ms, int64_t *out_ms,
                        struct sl_err *err)
{
    return parse(option, text, now_ms, -1, out_ms, err);
}

sl_status time_arg_future(const char *option, const char *text, int64_t now_ms, int64_t *out_ms,
                          struct sl_err *err)
{
    return parse(option, text, now_ms, 1, out_ms, err);
}

const char *time_arg_text(int64_t unix_ms, char out[TIME_ARG_TEXT_MAX])
{
    struct tm tm;
    time_t t = (time_t)(unix_ms / 1000);
    if (unix_ms == 0 || !gmtime_r(&t, &tm) ||
        strftime(out, TIME_ARG_TEXT_MAX, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(out, TIME_ARG_TEXT_MAX, "-");
    return out;
}
