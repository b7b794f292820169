/* jinja_format.c: text % value and text.format(...), as far as templates use them: conversions
 * s r d i u f F e E g G x X o c and %%, with flags, width and precision; fields {} {0} {name} with
 * !s and !r and no format specification. */
#include "exec/chat/jinja_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH_MAX 1000 /* wider padding is no formatting */

struct spec {
    bool minus, plus, space, zero, alternate;
    int width, precision; /* precision -1: none */
    char conversion;
};

static bool put_padding(struct jinja_run *run, size_t n)
{
    for (; n > 0; n--) {
        if (!jinja_put(run, " ", 1)) return false;
    }
    return true;
}

static bool put_text(struct jinja_run *run, const struct spec *spec,
                     const struct jinja_value *value)
{
    struct jinja_value text;
    size_t mark = run->out.len;
    bool ok = spec->conversion == 'r' ? jinja_put_repr(run, value) : jinja_put_str(run, value);
    if (!ok || !jinja_take(run, mark, &text)) return false;
    size_t n = jinja_string_chars(text.str);
    if (spec->precision >= 0 && (size_t)spec->precision < n) n = (size_t)spec->precision;
    size_t padding = (size_t)spec->width > n ? (size_t)spec->width - n : 0;
    return (spec->minus || put_padding(run, padding)) && jinja_put_chars(run, text.str, 0, 1, n) &&
           (!spec->minus || put_padding(run, padding));
}

static bool put_number(struct jinja_run *run, const struct spec *spec,
                       const struct jinja_value *value)
{
    char fmt[24], text[WIDTH_MAX + 400];
    bool whole = strchr("diuxXo", spec->conversion) != NULL;
    if (!jinja_is_number(value) ||
        (value->kind == JINJA_FLOAT && strchr("xXo", spec->conversion) != NULL))
        return jinja_fail(run, SL_INVALID, "%%%c format: a real number is required, not %s",
                          spec->conversion, jinja_type_name(value));
    char conversion = spec->conversion == 'u' || spec->conversion == 'i' ? 'd' : spec->conversion;
    snprintf(fmt, sizeof fmt, "%%%s%s%s%s%s*.*%s%c", spec->minus ? "-" : "", spec->plus ? "+" : "",
             spec->space ? " " : "", spec->zero ? "0" : "", spec->alternate ? "#" : "",
             whole ? "ll" : "", conversion);
    int precision = spec->precision;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (whole) {
        long long i = value->kind == JINJA_FLOAT ? (long long)value->f : jinja_integer(value);
        bool minus = i < 0 && conversion != 'd'; /* Python writes -0xff, C two's complement */
        snprintf(text, sizeof text, fmt, spec->width, precision, minus ? -i : i);
        if (minus) return jinja_puts(run, "-") && jinja_puts(run, text);
    } else {
        snprintf(text, sizeof text, fmt, spec->width, precision < 0 ? 6 : precision,
                 jinja_number(value));
    }
#pragma GCC diagnostic pop
    return jinja_puts(run, text);
}

static bool put_converted(struct jinja_run *run, const struct spec *spec,
                          const struct jinja_value *value)
{
    if (spec->conversion == 's' || spec->conversion == 'r') return put_text(run, spec, value);
    if (value->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, value);
    if (spec->conversion == 'c' && value->kind == JINJA_STRING &&
        jinja_string_chars(value->str) == 1)
        return put_text(run, spec, value);
    if (!spec->conversion || !strchr("diuxXofFeEgG", spec->conversion))
        return jinja_fail(run, SL_INVALID, "unsupported format character");
    return put_number(run, spec, value);
}

/* A width or precision at s[*at]; `*` is not supported. */
static bool read_count(struct jinja_run *run, const struct jinja_string *s, size_t *at, int *out)
{
    *out = 0;
    for (; *at < s->n && s->s[*at] >= '0' && s->s[*at] <= '9'; ++*at) {
        *out = *out * 10 + (s->s[*at] - '0');
        if (*out > WIDTH_MAX) return jinja_fail(run, SL_LIMIT, "formats wider than %d", WIDTH_MAX);
    }
    return true;
}

static bool read_spec(struct jinja_run *run, const struct jinja_string *s, size_t *at,
                      struct spec *spec)
{
    *spec = (struct spec){.precision = -1};
    for (; *at < s->n && strchr("-+ 0#", s->s[*at]) && s->s[*at]; ++*at) {
        spec->minus |= s->s[*at] == '-';
        spec->plus |= s->s[*at] == '+';
        spec->space |= s->s[*at] == ' ';
        spec->zero |= s->s[*at] == '0';
        spec->alternate |= s->s[*at] == '#';
    }
    if (!read_count(run, s, at, &spec->width)) return false;
    if (*at < s->n && s->s[*at] == '.') {
        ++*at;
        if (!read_count(run, s, at, &spec->precision)) return false;
    }
    if (*at >= s->n) return jinja_fail(run, SL_INVALID, "incomplete format");
    spec->conversion = s->s[(*at)++];
    return true;
}

struct arguments {
    const struct jinja_value *value;
    size_t next;
};

static bool next_argument(struct jinja_run *run, struct arguments *args, struct jinja_value *out)
{
    bool tuple = args->value->kind == JINJA_TUPLE;
    size_t n = tuple ? args->value->list->n : 1;
    if (args->next >= n)
        return jinja_fail(run, SL_INVALID, "not enough arguments for format string");
    *out = tuple ? args->value->list->items[args->next] : *args->value;
    args->next++;
    return true;
}

/* "(name)" at s[*at]: the dict's value of that name. */
static bool named_argument(struct jinja_run *run, const struct jinja_string *s, size_t *at,
                           const struct jinja_value *dict, struct jinja_value *out)
{
    const char *end = memchr(s->s + *at, ')', s->n - *at);
    if (!end || dict->kind != JINJA_DICT)
        return jinja_fail(run, SL_INVALID, "format requires a mapping");
    size_t from = *at + 1, n = (size_t)(end - s->s) - from;
    const struct jinja_value *value = jinja_dict_find(dict, s->s + from, n);
    if (!value)
        return jinja_fail(run, SL_INVALID, "no key '%.*s' to format", (int)(n > 60 ? 60 : n),
                          s->s + from);
    *out = *value;
    *at = from + n + 1;
    return true;
}

bool jinja_format_percent(struct jinja_run *run, const struct jinja_string *format,
                          const struct jinja_value *value, struct jinja_value *out)
{
    size_t mark = run->out.len, at = 0;
    struct arguments args = {.value = value};
    while (at < format->n) {
        const char *percent = memchr(format->s + at, '%', format->n - at);
        size_t end = percent ? (size_t)(percent - format->s) : format->n;
        if (!jinja_put(run, format->s + at, end - at)) return false;
        if (!percent) break;
        at = end + 1;
        struct jinja_value named = {0}, arg;
        struct spec spec;
        if (at < format->n && format->s[at] == '(' &&
            !named_argument(run, format, &at, value, &named))
            return false;
        if (!read_spec(run, format, &at, &spec)) return false;
        if (spec.conversion == '%') {
            if (!jinja_puts(run, "%")) return false;
            continue;
        }
        arg = named;
        if (named.kind == JINJA_ABSENT && !next_argument(run, &args, &arg)) return false;
        if (!put_converted(run, &spec, &arg)) return false;
    }
    /* Like Python, nothing is asked of a value that could be subscripted for %(names). */
    bool spare = value->kind == JINJA_DICT || value->kind == JINJA_LIST ||
                 value->kind == JINJA_RANGE || value->kind == JINJA_UNDEFINED;
    size_t given = value->kind == JINJA_TUPLE ? value->list->n : spare ? 0 : 1;
    if (args.next < given)
        return jinja_fail(run, SL_INVALID, "not all arguments converted during string formatting");
    return jinja_take(run, mark, out);
}

/* The value of the field named s[0..n); *next numbers the fields without a name. */
static bool field_value(struct jinja_run *run, const struct jinja_call *call, const char *s,
                        size_t n, size_t *next, struct jinja_value *out)
{
    size_t i = *next, digits = 0;
    while (digits < n && s[digits] >= '0' && s[digits] <= '9') digits++;
    if (digits == n) {
        if (n > 0 && n < 6) i = (size_t)atoi(s);
        if (n == 0) ++*next;
        if (n >= 6 || i + 1 >= call->n_args)
            return jinja_fail(run, SL_INVALID, "Replacement index out of range");
        *out = call->args[i + 1];
        return true;
    }
    for (size_t k = 0; k < call->n_keywords; k++) {
        if (strlen(call->keywords[k].name) != n || memcmp(call->keywords[k].name, s, n) != 0)
            continue;
        *out = call->keywords[k].value;
        return true;
    }
    return jinja_fail(run, SL_INVALID, "no field '%.*s' to format", (int)(n > 60 ? 60 : n), s);
}

static bool put_field(struct jinja_run *run, const struct jinja_call *call, const char *s, size_t n,
                      size_t *next)
{
    struct jinja_value value;
    bool repr = n >= 2 && memcmp(s + n - 2, "!r", 2) == 0;
    bool str = n >= 2 && memcmp(s + n - 2, "!s", 2) == 0;
    if (repr || str) n -= 2;
    if (memchr(s, ':', n) || memchr(s, '!', n) || memchr(s, '[', n) || memchr(s, '.', n))
        return jinja_fail(run, SL_INVALID, "format() with a specification is not supported");
    if (!field_value(run, call, s, n, next, &value)) return false;
    return repr ? jinja_put_repr(run, &value) : jinja_put_str(run, &value);
}

bool jinja_format_braces(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    const struct jinja_string *format = call->args[0].str;
    size_t mark = run->out.len, next = 0;
    for (size_t at = 0; at < format->n;) {
        char c = format->s[at];
        bool twice = at + 1 < format->n && format->s[at + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            if (!jinja_put(run, &c, 1)) return false;
            at += c == '{' || c == '}' ? 2 : 1;
            continue;
        }
        const char *end = c == '{' ? memchr(format->s + at, '}', format->n - at) : NULL;
        if (!end) return jinja_fail(run, SL_INVALID, "Single '%c' encountered in format string", c);
        size_t n = (size_t)(end - format->s) - at - 1;
        if (!put_field(run, call, format->s + at + 1, n, &next)) return false;
        at += n + 2;
    }
    return jinja_take(run, mark, out);
}
