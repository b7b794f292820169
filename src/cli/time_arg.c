/* time_arg.c: spans and days. */
#include "cli/time_arg.h"
#include "base/duration.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1000000
#define SPAN_MAX_MS (INT64_C(100) * 366 * 86400000) /* a century: a typing error beyond it */

/* Without a sign and with a unit: whether a bare 7 is days nobody knows. -1: no such span. */
static int64_t span_ms(const char *text)
{
    static const char digits[] = "0123456789.";
    struct sl_err err = SL_ERR_INIT;
    int64_t ns;
    size_t n = strlen(text);
    if (!n || !strchr(digits, text[0]) || strchr(digits, text[n - 1])) return -1;
    if (sl_duration_parse(text, &ns, &err) != SL_OK) return -1;
    return ns / NS_PER_MS > SPAN_MAX_MS ? -1 : ns / NS_PER_MS;
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
