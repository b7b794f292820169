#include "base/decimal.h"

#include <string.h>

/* The digits of v, at least n_min of them, before `end`. Returns where they begin. */
static char *put_digits(uint64_t v, int n_min, char *end)
{
    for (; v || n_min > 0; v /= 10, n_min--) *--end = (char)('0' + v % 10);
    return end;
}

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
}

static size_t finish(char *at, const char *end, int64_t v, char out[SL_DECIMAL_MAX])
{
    if (v < 0) *--at = '-';
    size_t n = (size_t)(end - at);
    memcpy(out, at, n);
    out[n] = '\0';
    return n;
}

size_t sl_decimal(int64_t v, char out[SL_DECIMAL_MAX])
{
    char text[SL_DECIMAL_MAX];
    char *end = text + sizeof text;
    return finish(put_digits(magnitude(v), 1, end), end, v, out);
}

size_t sl_decimal_thousandths(int64_t v, char out[SL_DECIMAL_MAX])
{
    char text[SL_DECIMAL_MAX];
    char *end = text + sizeof text;
    char *at = put_digits(magnitude(v) % 1000, 3, end);
    *--at = '.';
    return finish(put_digits(magnitude(v) / 1000, 1, at), end, v, out);
}
