/* jinja_string.c: work on texts that filters and methods share. */
#include "exec/chat/jinja_string.h"

#include "base/utf8.h"

#include <string.h>

#define SIGMA 0x3a3
#define SMALL_SIGMA 0x3c3
#define FINAL_SIGMA 0x3c2

static size_t decode(const char *s, size_t n, uint32_t *out)
{
    size_t len = sl_utf8_decode(s, n, out);
    return len ? len : 1;
}

static bool is_cased(uint32_t c)
{
    return sl_unicode_is_lower(c) || sl_unicode_is_upper(c) || sl_unicode_is_title(c);
}

static size_t step_back(const char *s, size_t at)
{
    at--;
    while (at > 0 && ((unsigned char)s[at] & 0xc0) == 0x80) at--;
    return at;
}

/* A sigma at [at, end) ends a word when letters come before and none behind (SpecialCasing.txt). */
static uint32_t lower_sigma(const char *s, size_t n, size_t at, size_t end)
{
    bool before = false, behind = false;
    uint32_t c;
    while (at > 0) {
        at = step_back(s, at);
        decode(s + at, n - at, &c);
        before = is_cased(c);
        if (before || !sl_unicode_is_case_ignorable(c)) break;
    }
    while (end < n) {
        end += decode(s + end, n - end, &c);
        behind = is_cased(c);
        if (behind || !sl_unicode_is_case_ignorable(c)) break;
    }
    return before && !behind ? FINAL_SIGMA : SMALL_SIGMA;
}

static bool put_mapped(struct jinja_run *run, const char *s, size_t n, size_t at, size_t len,
                       enum sl_unicode_case to)
{
    uint32_t c = 0, mapped[SL_UNICODE_CASE_MAX];
    decode(s + at, n - at, &c);
    if (c == SIGMA && to == SL_UNICODE_LOWER)
        return jinja_put_char(run, lower_sigma(s, n, at, at + len));
    size_t n_mapped = sl_unicode_to_case(c, to, mapped);
    for (size_t i = 0; i < n_mapped; i++) {
        if (!jinja_put_char(run, mapped[i])) return false;
    }
    return true;
}

bool jinja_put_case(struct jinja_run *run, const char *s, size_t n, enum sl_unicode_case to)
{
    bool in_word = false;
    if (!jinja_charge(run, n / 4)) return false;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        size_t len = decode(s + at, n - at, &c);
        enum sl_unicode_case how = to == SL_UNICODE_TITLE && in_word ? SL_UNICODE_LOWER : to;
        if (!put_mapped(run, s, n, at, len, how)) return false;
        in_word = is_cased(c);
        at += len;
    }
    return true;
}

bool jinja_capitalize(struct jinja_run *run, const struct jinja_string *str,
                      struct jinja_value *out)
{
    size_t mark = run->out.len;
    if (!jinja_charge(run, str->n / 4)) return false;
    for (size_t at = 0; at < str->n;) {
        uint32_t c;
        size_t len = decode(str->s + at, str->n - at, &c);
        if (!put_mapped(run, str->s, str->n, at, len, at ? SL_UNICODE_LOWER : SL_UNICODE_TITLE))
            return false;
        at += len;
    }
    return jinja_take(run, mark, out);
}

static bool is_stripped(const struct jinja_string *chars, const char *s, size_t len, uint32_t c)
{
    return chars ? memmem(chars->s, chars->n, s, len) != NULL : sl_unicode_is_space(c);
}

bool jinja_strip(struct jinja_run *run, const struct jinja_string *str,
                 const struct jinja_string *chars, bool left, bool right, struct jinja_value *out)
{
    size_t from = 0, to = str->n;
    uint32_t c;
    while (left && from < to) {
        size_t len = decode(str->s + from, to - from, &c);
        if (!is_stripped(chars, str->s + from, len, c)) break;
        from += len;
    }
    while (right && to > from) {
        size_t at = step_back(str->s, to);
        decode(str->s + at, to - at, &c);
        if (!is_stripped(chars, str->s + at, to - at, c)) break;
        to = at;
    }
    uint64_t each = chars ? 1 + chars->n / JINJA_BYTES_A_STEP : 1;
    return jinja_charge(run, (str->n - (to - from)) * each) &&
           jinja_string(run, str->s + from, to - from, out);
}

/* Between all characters, and at both ends. */
static bool replace_nothing(struct jinja_run *run, const struct jinja_string *str,
                            const struct jinja_string *by, int64_t count)
{
    for (size_t at = 0; at <= str->n;) {
        if (count != 0) {
            if (!jinja_put(run, by->s, by->n)) return false;
            count--;
        }
        if (at == str->n) break;
        uint32_t c;
        size_t len = decode(str->s + at, str->n - at, &c);
        if (!jinja_charge(run, 1) || !jinja_put(run, str->s + at, len)) return false;
        at += len;
    }
    return true;
}

bool jinja_replace(struct jinja_run *run, const struct jinja_string *str,
                   const struct jinja_string *old, const struct jinja_string *by, int64_t count,
                   struct jinja_value *out)
{
    size_t mark = run->out.len, at = 0;
    if (!jinja_charge_bytes(run, str->n)) return false;
    if (old->n == 0) return replace_nothing(run, str, by, count) && jinja_take(run, mark, out);
    for (; count != 0; count--) {
        const char *found = memmem(str->s + at, str->n - at, old->s, old->n);
        if (!found) break;
        size_t to = (size_t)(found - str->s);
        if (!jinja_charge(run, 1) || !jinja_put(run, str->s + at, to - at) ||
            !jinja_put(run, by->s, by->n))
            return false;
        at = to + old->n;
    }
    return jinja_put(run, str->s + at, str->n - at) && jinja_take(run, mark, out);
}

static bool ends_line(uint32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool jinja_splitlines(struct jinja_run *run, const struct jinja_string *str,
                      struct jinja_value *out)
{
    size_t from = 0;
    if (!jinja_list(run, JINJA_LIST, 0, out) || !jinja_charge_bytes(run, str->n)) return false;
    for (size_t at = 0; at < str->n;) {
        uint32_t c;
        struct jinja_value line;
        size_t end = at, len = decode(str->s + at, str->n - at, &c);
        at += len;
        bool last = at >= str->n;
        if (!ends_line(c) && !last) continue;
        if (!ends_line(c)) end = at;
        if (c == '\r' && !last && str->s[at] == '\n') at++;
        if (!jinja_string(run, str->s + from, end - from, &line) ||
            !jinja_list_add(run, out, line) || !jinja_charge(run, 1))
            return false;
        from = at;
    }
    return true;
}

bool jinja_join(struct jinja_run *run, const struct jinja_string *separator,
                const struct jinja_value *items, struct jinja_value *out)
{
    size_t mark = run->out.len;
    for (size_t i = 0; i < items->list->n; i++) {
        if (i && !jinja_put(run, separator->s, separator->n)) return false;
        if (!jinja_charge(run, 1) || !jinja_put_str(run, &items->list->items[i])) return false;
    }
    return jinja_take(run, mark, out);
}

bool jinja_optional_integer(struct jinja_run *run, const struct jinja_value *arg, int64_t otherwise,
                            int64_t *out)
{
    *out = otherwise;
    if (arg->kind == JINJA_ABSENT || arg->kind == JINJA_NONE) return true;
    if (!jinja_is_integer(arg))
        return jinja_type_error(run, "cannot be interpreted as an integer", arg);
    *out = jinja_integer(arg);
    return true;
}

bool jinja_expect_string(struct jinja_run *run, const struct jinja_value *value)
{
    return value->kind == JINJA_STRING || jinja_type_error(run, "is not a string", value);
}
