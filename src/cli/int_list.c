#include "cli/int_list.h"
#include <stdbool.h>
#include <stdint.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(const char *text, size_t n, size_t i)
{
    while (i < n && is_space(text[i])) i++;
    return i;
}

/* Returns the bytes taken; 0: no number there, or too large a one. */
static size_t read_int(const char *text, size_t n, int32_t *out)
{
    bool negative = n > 0 && text[0] == '-';
    size_t i = negative;
    int64_t v = 0;
    for (; i < n && text[i] >= '0' && text[i] <= '9'; i++) {
        v = v * 10 + (text[i] - '0');
        if (v > (int64_t)INT32_MAX + negative) return 0;
    }
    if (i == (size_t)negative) return 0;
    *out = (int32_t)(negative ? -v : v);
    return i;
}

sl_status int_list_read(const char *text, size_t n, struct sl_buf *out, struct sl_err *err)
{
    size_t i = skip_space(text, n, 0);
    bool in_brackets = i < n && text[i] == '[';
    bool after_comma = false;
    if (in_brackets) i = skip_space(text, n, i + 1);
    while (i < n && text[i] != ']') {
        int32_t v;
        size_t taken = read_int(text + i, n - i, &v);
        if (!taken) return sl_err_set(err, SL_INVALID, "token ids: no number at byte %zu", i);
        if (sl_buf_add(out, &v, sizeof v) != SL_OK)
            return sl_err_set(err, SL_LIMIT, "token ids: more than fit");
        i = skip_space(text, n, i + taken);
        after_comma = i < n && text[i] == ',';
        if (after_comma) i = skip_space(text, n, i + 1);
    }
    bool closed = i < n;
    if (closed != in_brackets || after_comma)
        return sl_err_set(err, SL_INVALID, "token ids: the list does not end well, at byte %zu", i);
    if (skip_space(text, n, i + closed) < n)
        return sl_err_set(err, SL_INVALID, "token ids: text after the list, at byte %zu", i + 1);
    return SL_OK;
}
