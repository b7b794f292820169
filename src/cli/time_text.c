#include "cli/time_text.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* "Z", "+02:00", "-07:30" */
static bool parse_offset(const char *text, int64_t *out_s)
{
    int hours, minutes, n = 0;
    *out_s = 0;
    if ((text[0] == 'Z' || text[0] == 'z') && !text[1]) return true;
    if (text[0] != '+' && text[0] != '-') return false;
    if (sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || text[1 + n]) return false;
    *out_s = (text[0] == '-' ? -60 : 60) * (INT64_C(60) * hours + minutes);
    return true;
}

bool time_text_parse(const char *text, int64_t *out_ms)
{
    struct tm tm = {0};
    int n = 0;
    int64_t ms = 0, offset_s;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &n) != 6)
        return false;
    text += n;
    if (*text == '.') {
        int64_t unit = 100;
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10) ms += (*text - '0') * unit;
    }
    if (!parse_offset(text, &offset_s)) return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out_ms = ((int64_t)timegm(&tm) - offset_s) * 1000 + ms;
    return true;
}

const char *time_span_text(int64_t ms, char out[TIME_SPAN_TEXT_MAX])
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t seconds = (ms + 500) / 1000;
    size_t i = 0;
    while (i < 3 && seconds < units[i].seconds) i++;
    int64_t n = (seconds + units[i].seconds / 2) / units[i].seconds;
    snprintf(out, TIME_SPAN_TEXT_MAX, "%lld %s%s", (long long)n, units[i].name, n == 1 ? "" : "s");
    return out;
}
