#include "base/duration.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1e9
#define DIGITS_MAX 30
#define NS_MAX 9.2e18 /* what int64_t holds, near enough: 290 years */

struct unit {
    const char *name;
    double ns;
};

/* Longer names before those they begin with. */
static const struct unit units[] = {{"ns", 1},
                                    {"us", 1e3},
                                    {"µs", 1e3},
                                    {"μs", 1e3},
                                    {"ms", 1e6},
                                    {"s", SECOND},
                                    {"m", 60 * SECOND},
                                    {"h", 3600 * SECOND},
                                    {"d", 86400 * SECOND},
                                    {"w", 604800 * SECOND}};

static const struct unit *unit_at(const char *text)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (!strncmp(text, units[i].name, strlen(units[i].name))) return &units[i];
    return NULL;
}

static sl_status bad(const char *text, struct sl_err *err)
{
    return sl_err_set(err, SL_INVALID,
                      "\"%.40s\" is no span of time: 30s, 5m, 1h30m and the like are", text);
}

sl_status sl_duration_parse(const char *text, int64_t *out_ns, struct sl_err *err)
{
    const char *p = text + (*text == '-' || *text == '+');
    double total = 0;
    bool is_later = false;
    if (!*p) return bad(text, err);
    while (*p) {
        size_t n = strspn(p, "0123456789.");
        const struct unit *unit = unit_at(p + n);
        if (n == 0 || n > DIGITS_MAX || (!unit && (p[n] || is_later))) return bad(text, err);
        /* strtod would read on into exponents and hexadecimals. */
        char digits[DIGITS_MAX + 1] = {0}, *end;
        memcpy(digits, p, n);
        total += strtod(digits, &end) * (unit ? unit->ns : SECOND);
        if (end != digits + n) return bad(text, err);
        p += n + (unit ? strlen(unit->name) : 0);
        is_later = true;
    }
    if (!(total < NS_MAX)) return sl_err_set(err, SL_LIMIT, "\"%.40s\" is too long a time", text);
    *out_ns = (int64_t)(*text == '-' ? -total : total);
    return SL_OK;
}
