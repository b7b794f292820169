/* jinja_filter_text.c: filters that make text or numbers of a value. */
#include "exec/chat/jinja_string.h"

#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The filtered value as a string, when the filter takes no arguments. */
static bool plain_text(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    if (call->n_args != 1 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "filter '%s' takes no arguments", call->name);
    return jinja_to_string(run, &call->args[0], out);
}

static bool change_case(struct jinja_run *run, const struct jinja_call *call,
                        enum sl_unicode_case to, struct jinja_value *out)
{
    struct jinja_value text;
    size_t mark = run->out.len;
    return plain_text(run, call, &text) && jinja_put_case(run, text.str->s, text.str->n, to) &&
           jinja_take(run, mark, out);
}

static bool filter_upper(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    return change_case(run, call, SL_UNICODE_UPPER, out);
}

static bool filter_lower(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    return change_case(run, call, SL_UNICODE_LOWER, out);
}

static bool filter_capitalize(struct jinja_run *run, const struct jinja_call *call,
                              struct jinja_value *out)
{
    struct jinja_value text;
    return plain_text(run, call, &text) && jinja_capitalize(run, text.str, out);
}

/* jinja2's own idea of a title: words are what - white space ( { [ < stand between. */
static bool filter_title(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    struct jinja_value text;
    size_t mark = run->out.len;
    bool begins = true;
    if (!plain_text(run, call, &text) || !jinja_charge(run, text.str->n / 4)) return false;
    const char *s = text.str->s;
    for (size_t at = 0, n = text.str->n; at < n;) {
        uint32_t c;
        size_t end = at, len;
        while (end < n && (len = sl_utf8_decode(s + end, n - end, &c)) > 0 &&
               !sl_unicode_is_space(c) && !(c < 0x80 && strchr("-({[<", (int)c)))
            end += len;
        if (begins && end > at) {
            len = sl_utf8_decode(s + at, n - at, &c);
            if (!jinja_put_case(run, s + at, len, SL_UNICODE_UPPER)) return false;
            at += len;
        }
        if (!jinja_put_case(run, s + at, end - at, SL_UNICODE_LOWER)) return false;
        begins = end < n;
        at = end;
        if (at >= n) break;
        len = sl_utf8_decode(s + at, n - at, &c);
        if (!jinja_put(run, s + at, len)) return false;
        at += len;
    }
    return jinja_take(run, mark, out);
}

static bool filter_string(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    return plain_text(run, call, out);
}

static bool filter_trim(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    static const char *const names[] = {"value", "chars", NULL};
    struct jinja_value args[2], text;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_to_string(run, &args[0], &text))
        return false;
    bool given = args[1].kind != JINJA_ABSENT && args[1].kind != JINJA_NONE;
    if (given && !jinja_expect_string(run, &args[1])) return false;
    return jinja_strip(run, text.str, given ? args[1].str : NULL, true, true, out);
}

static bool filter_replace(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    static const char *const names[] = {"s", "old", "new", "count", NULL};
    struct jinja_value args[4], text[3];
    int64_t count;
    if (!jinja_bind(run, call, names, 3, args) ||
        !jinja_optional_integer(run, &args[3], -1, &count))
        return false;
    for (int i = 0; i < 3; i++) {
        if (!jinja_to_string(run, &args[i], &text[i])) return false;
    }
    return jinja_replace(run, text[0].str, text[1].str, text[2].str, count, out);
}

/* As markupsafe: five characters. Nothing marks the result, so escaping twice escapes twice. */
static bool filter_escape(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    struct jinja_value text;
    size_t mark = run->out.len;
    if (!plain_text(run, call, &text)) return false;
    for (size_t i = 0; i < text.str->n; i++) {
        const char *c = &text.str->s[i];
        const char *entity = *c == '&'    ? "&amp;"
                             : *c == '<'  ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '"'  ? "&#34;"
                             : *c == '\'' ? "&#39;"
                                          : NULL;
        if (entity ? !jinja_puts(run, entity) : !jinja_put(run, c, 1)) return false;
    }
    return jinja_take(run, mark, out);
}

static bool put_indented(struct jinja_run *run, const struct jinja_list *lines,
                         const struct jinja_string *indent, bool first, bool blank)
{
    for (size_t i = 0; i < lines->n; i++) {
        const struct jinja_string *line = lines->items[i].str;
        bool indented = i == 0 ? first : blank || line->n > 0;
        if (i && !jinja_puts(run, "\n")) return false;
        if (indented && !jinja_put(run, indent->s, indent->n)) return false;
        if (!jinja_put(run, line->s, line->n)) return false;
    }
    return true;
}

static bool filter_indent(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    static const char *const names[] = {"s", "width", "first", "blank", NULL};
    const struct jinja_value space = {JINJA_STRING, {.str = &(struct jinja_string){" ", 1, 1}}};
    const struct jinja_value newline = {JINJA_STRING, {.str = &(struct jinja_string){"\n", 1, 1}}};
    struct jinja_value args[4], indent, text, lines;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_expect_string(run, &args[0])) return false;
    if (args[1].kind == JINJA_STRING) {
        indent = args[1];
    } else {
        const struct jinja_value width = args[1].kind == JINJA_ABSENT ? jinja_int(4) : args[1];
        if (!jinja_binary(run, JINJA_OP_MUL, &space, &width, &indent)) return false;
    }
    size_t mark = run->out.len;
    return jinja_binary(run, JINJA_OP_ADD, &args[0], &newline, &text) &&
           jinja_splitlines(run, text.str, &lines) &&
           put_indented(run, lines.list, indent.str, jinja_truth(&args[2]),
                        jinja_truth(&args[3])) &&
           jinja_take(run, mark, out);
}

/* The text before the last space in its first n characters, or all of these. */
static size_t cut_at_word(const struct jinja_string *str)
{
    const char *space = memrchr(str->s, ' ', str->n);
    return space ? (size_t)(space - str->s) : str->n;
}

static bool filter_truncate(struct jinja_run *run, const struct jinja_call *call,
                            struct jinja_value *out)
{
    static const char *const names[] = {"s", "length", "killwords", "end", "leeway", NULL};
    struct jinja_value args[5], part, end;
    int64_t length, leeway;
    size_t n;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_length(run, &args[0], &n) ||
        !jinja_optional_integer(run, &args[1], 255, &length) ||
        !jinja_optional_integer(run, &args[4], 5, &leeway) || !jinja_string(run, "...", 3, &end))
        return false;
    if (args[3].kind != JINJA_ABSENT) end = args[3];
    if (!jinja_expect_string(run, &end)) return false;
    int64_t n_end = (int64_t)jinja_string_chars(end.str);
    if (length < n_end || leeway < 0)
        return jinja_fail(run, SL_INVALID, "truncate: no room for the end text");
    *out = args[0];
    if ((int64_t)n <= length + leeway) return true; /* of any kind */
    if (!jinja_expect_string(run, &args[0])) return false;
    const struct jinja_value bounds[3] = {jinja_int(0), jinja_int(length - n_end), jinja_none()};
    if (!jinja_slice(run, &args[0], bounds, &part)) return false;
    if (!jinja_truth(&args[2])) part.str->n = cut_at_word(part.str);
    part.str->n_chars = JINJA_CHARS_UNKNOWN;
    return jinja_binary(run, JINJA_OP_ADD, &part, &end, out);
}

static bool filter_wordcount(struct jinja_run *run, const struct jinja_call *call,
                             struct jinja_value *out)
{
    struct jinja_value text;
    int64_t n = 0;
    bool inside = false;
    if (!plain_text(run, call, &text) || !jinja_charge(run, text.str->n)) return false;
    for (size_t at = 0; at < text.str->n;) {
        uint32_t c;
        size_t len = sl_utf8_decode(text.str->s + at, text.str->n - at, &c);
        bool word = len && (c == '_' || sl_unicode_is_alnum(c));
        n += word && !inside;
        inside = word;
        at += len ? len : 1;
    }
    return *out = jinja_int(n), true;
}

static bool filter_format(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    struct jinja_value text, args;
    if (!jinja_to_string(run, &call->args[0], &text)) return false;
    if (call->n_keywords) return jinja_fail(run, SL_INVALID, "format takes no keyword arguments");
    if (!jinja_list(run, JINJA_TUPLE, 0, &args)) return false;
    for (size_t i = 1; i < call->n_args; i++) {
        if (!jinja_list_add(run, &args, call->args[i])) return false;
    }
    return jinja_format_percent(run, text.str, &args, out);
}

static bool optional_text(struct jinja_run *run, const struct jinja_value *pair, size_t i,
                          const char **out)
{
    const struct jinja_value *item = pair->list->n == 2 ? &pair->list->items[i] : NULL;
    if (!item || item->kind != JINJA_STRING)
        return jinja_fail(run, SL_INVALID, "separators must be two strings");
    char *text = jinja_alloc(run, item->str->n + 1, 1);
    if (!text) return false;
    memcpy(text, item->str->s, item->str->n);
    *out = text;
    return true;
}

/* transformers' tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False). */
static bool filter_tojson(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    static const char *const names[] = {"x",          "ensure_ascii", "indent",
                                        "separators", "sort_keys",    NULL};
    struct jinja_value args[5];
    struct jinja_json_style style = {.key_end = ": "};
    size_t mark = run->out.len;
    if (!jinja_bind(run, call, names, 1, args)) return false;
    if (args[2].kind == JINJA_STRING)
        return jinja_fail(run, SL_INVALID, "tojson indents by a number only");
    if (!jinja_optional_integer(run, &args[2], -1, &style.indent)) return false;
    bool given = args[2].kind != JINJA_ABSENT && args[2].kind != JINJA_NONE;
    if (given && style.indent < 0) style.indent = 0;
    style.item_end = style.indent < 0 ? ", " : ",";
    style.ascii = jinja_truth(&args[1]);
    style.sorted = jinja_truth(&args[4]);
    if (args[3].kind == JINJA_TUPLE || args[3].kind == JINJA_LIST) {
        if (!optional_text(run, &args[3], 0, &style.item_end) ||
            !optional_text(run, &args[3], 1, &style.key_end))
            return false;
    }
    return jinja_put_json(run, &args[0], &style) && jinja_take(run, mark, out);
}

/* --- numbers */

#define NUMBER_TEXT_MAX 400 /* longer ones are no number a template means */

/* The text without white space around and single underscores within, NUL-ended; false when it
 * cannot be a number. */
static bool number_text(const struct jinja_string *str, char out[NUMBER_TEXT_MAX])
{
    size_t from = 0, to = str->n, n = 0;
    while (from < to && sl_unicode_is_space((unsigned char)str->s[from])) from++;
    while (to > from && sl_unicode_is_space((unsigned char)str->s[to - 1])) to--;
    if (to - from >= NUMBER_TEXT_MAX || from == to) return false;
    for (size_t i = from; i < to; i++) {
        bool joins = i > from && i + 1 < to && str->s[i - 1] != '_' && str->s[i + 1] != '_';
        if (str->s[i] == '_' && !joins) return false;
        if (str->s[i] == '\0') return false;
        if (str->s[i] != '_') out[n++] = str->s[i];
    }
    out[n] = '\0';
    return !strpbrk(out, "xXpP(");
}

static bool text_to_float(const struct jinja_string *str, double *out)
{
    char text[NUMBER_TEXT_MAX], *end;
    if (!number_text(str, text)) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

/* *out_big: it is an integer, and past 64 bits. */
static bool text_to_integer(const struct jinja_string *str, int base, int64_t *out, bool *out_big)
{
    char text[NUMBER_TEXT_MAX], *end;
    if (!number_text(str, text)) return false;
    errno = 0;
    *out = strtoll(text, &end, base);
    *out_big = *end == '\0' && errno == ERANGE;
    return *end == '\0' && !*out_big;
}

static bool float_to_integer(double v, int64_t *out)
{
    if (!(v > -9.2e18 && v < 9.2e18)) return false;
    *out = (int64_t)v;
    return true;
}

static bool filter_int(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    static const char *const names[] = {"value", "default", "base", NULL};
    struct jinja_value args[3];
    int64_t base, i = 0;
    double v = 0;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_optional_integer(run, &args[2], 10, &base))
        return false;
    if (base < 2 || base > 36) return jinja_fail(run, SL_INVALID, "int() base must be 2 to 36");
    const struct jinja_value *value = &args[0];
    if (value->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, value);
    bool ok = jinja_is_integer(value), big = false;
    if (ok) {
        i = jinja_integer(value);
    } else if (value->kind == JINJA_FLOAT) {
        ok = float_to_integer(value->f, &i);
        big = !ok && !isnan(value->f);
    } else if (value->kind == JINJA_STRING) {
        ok = text_to_integer(value->str, (int)base, &i, &big);
        if (!ok && !big && text_to_float(value->str, &v)) {
            ok = float_to_integer(v, &i);
            big = !ok && isfinite(v);
        }
    }
    if (big) return jinja_fail(run, SL_LIMIT, "an integer is past 64 bits");
    *out = ok ? jinja_int(i) : args[1].kind == JINJA_ABSENT ? jinja_int(0) : args[1];
    return true;
}

static bool filter_float(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    static const char *const names[] = {"value", "default", NULL};
    struct jinja_value args[2];
    double v = 0;
    if (!jinja_bind(run, call, names, 1, args)) return false;
    if (args[0].kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, &args[0]);
    bool ok = jinja_is_number(&args[0]);
    if (ok) v = jinja_number(&args[0]);
    if (args[0].kind == JINJA_STRING) ok = text_to_float(args[0].str, &v);
    *out = ok ? jinja_float(v) : args[1].kind == JINJA_ABSENT ? jinja_float(0) : args[1];
    return true;
}

static bool filter_abs(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    const struct jinja_value *value = &call->args[0];
    if (call->n_args != 1) return jinja_fail(run, SL_INVALID, "abs takes no arguments");
    if (value->kind == JINJA_FLOAT) return *out = jinja_float(fabs(value->f)), true;
    if (!jinja_is_integer(value)) return jinja_type_error(run, "has no abs()", value);
    bool minus = jinja_integer(value) < 0;
    return jinja_unary(run, minus ? JINJA_OP_NEG : JINJA_OP_POS, value, out);
}

/* round() of an integer to tens, hundreds ...: half to even, as Python. */
static bool round_integer(struct jinja_run *run, int64_t i, int64_t digits, struct jinja_value *out)
{
    int64_t unit = 1;
    for (int64_t k = digits; k < 0; k++) {
        if (__builtin_mul_overflow(unit, 10, &unit)) return *out = jinja_int(0), true;
    }
    int64_t rest = ((i % unit) + unit) % unit, low;
    if (__builtin_sub_overflow(i, rest, &low))
        return jinja_fail(run, SL_LIMIT, "an integer is past 64 bits");
    bool up = rest > unit - rest || (rest == unit - rest && unit > 1 && (low / unit) % 2 != 0);
    if (up && __builtin_add_overflow(low, unit, &low))
        return jinja_fail(run, SL_LIMIT, "an integer is past 64 bits");
    return *out = jinja_int(low), true;
}

/* Correctly rounded by way of the decimal text, as CPython does it. */
static double round_float(double v, int64_t digits)
{
    char text[NUMBER_TEXT_MAX];
    if (!isfinite(v) || digits > 300) return v;
    if (digits < 0) {
        double unit = pow(10, (double)-digits);
        return nearbyint(v / unit) * unit;
    }
    if (digits == 0) return nearbyint(v);
    snprintf(text, sizeof text, "%.*f", (int)digits, v);
    return strtod(text, NULL);
}

static bool filter_round(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    static const char *const names[] = {"value", "precision", "method", NULL};
    struct jinja_value args[3];
    int64_t digits;
    if (!jinja_bind(run, call, names, 1, args) ||
        !jinja_optional_integer(run, &args[1], 0, &digits))
        return false;
    bool ceiling = jinja_is_text(&args[2], "ceil"), floored = jinja_is_text(&args[2], "floor");
    if (args[2].kind != JINJA_ABSENT && !ceiling && !floored && !jinja_is_text(&args[2], "common"))
        return jinja_fail(run, SL_INVALID, "method must be common, ceil or floor");
    if (!jinja_is_number(&args[0])) return jinja_type_error(run, "cannot be rounded", &args[0]);
    if (!ceiling && !floored) {
        if (jinja_is_integer(&args[0]))
            return round_integer(run, jinja_integer(&args[0]), digits, out);
        return *out = jinja_float(round_float(args[0].f, digits)), true;
    }
    double unit = pow(10, (double)digits), v = jinja_number(&args[0]) * unit;
    return *out = jinja_float((ceiling ? ceil(v) : floor(v)) / unit), true;
}

const struct jinja_builtin jinja_text_filters[] = {
    {"trim", filter_trim},
    {"tojson", filter_tojson},
    {"string", filter_string},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"title", filter_title},
    {"capitalize", filter_capitalize},
    {"replace", filter_replace},
    {"safe", filter_string},
    {"escape", filter_escape},
    {"e", filter_escape},
    {"forceescape", filter_escape},
    {"indent", filter_indent},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"format", filter_format},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {NULL, NULL},
};
