/* jinja_text.c: values as text, as Python's str(), repr() and json.dumps() write them. */
#include "exec/chat/jinja_run.h"

#include "base/utf8.h"
#include "base/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool jinja_put(struct jinja_run *run, const char *s, size_t n)
{
    if (!jinja_charge_bytes(run, n)) return false;
    sl_status status = sl_buf_add(&run->out, s, n);
    if (status == SL_OK) return true;
    return jinja_fail(
        run, status, status == SL_LIMIT ? "prints more than %zu bytes" : "no memory (of %zu bytes)",
        run->out.max);
}

bool jinja_puts(struct jinja_run *run, const char *s)
{
    return jinja_put(run, s, strlen(s));
}

bool jinja_put_char(struct jinja_run *run, uint32_t codepoint)
{
    char bytes[4];
    return jinja_put(run, bytes, sl_utf8_encode(codepoint, bytes));
}

bool jinja_take(struct jinja_run *run, size_t mark, struct jinja_value *out)
{
    bool ok = jinja_string_copy(run, run->out.data + mark, run->out.len - mark, out);
    sl_buf_truncate(&run->out, mark);
    return ok;
}

/* "1.5e-07" of printf's digits as Python has it: a decimal point, or an exponent of two digits at
 * least below 1e-4 and from 1e16 on. */
static void python_float(const char *digits, int n_digits, int exponent, bool minus, char *out)
{
    char *o = out;
    if (minus) *o++ = '-';
    if (exponent < -4 || exponent >= 16) {
        *o++ = digits[0];
        if (n_digits > 1) o += sprintf(o, ".%.*s", n_digits - 1, digits + 1);
        sprintf(o, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        o += sprintf(o, "0.%.*s", -exponent - 1, "000");
        sprintf(o, "%.*s", n_digits, digits);
        return;
    }
    for (int i = 0; i <= exponent; i++) *o++ = i < n_digits ? digits[i] : '0';
    sprintf(o, ".%.*s", n_digits > exponent + 1 ? n_digits - exponent - 1 : 1,
            n_digits > exponent + 1 ? digits + exponent + 1 : "0");
}

const char *jinja_float_text(double v, char out[JINJA_FLOAT_TEXT_MAX])
{
    if (isnan(v)) return strcpy(out, "nan");
    if (isinf(v)) return strcpy(out, v < 0 ? "-inf" : "inf");
    char text[JINJA_FLOAT_TEXT_MAX], digits[24];
    for (int precision = 0; precision <= 16; precision++) { /* the shortest that reads back */
        snprintf(text, sizeof text, "%.*e", precision, fabs(v));
        if (strtod(text, NULL) == fabs(v)) break;
    }
    const char *e = strchr(text, 'e');
    int n_digits = 0;
    for (const char *p = text; p < e; p++) {
        if (*p != '.') digits[n_digits++] = *p;
    }
    while (n_digits > 1 && digits[n_digits - 1] == '0') n_digits--;
    python_float(digits, n_digits, atoi(e + 1), signbit(v) != 0, out);
    return out;
}

static bool put_int(struct jinja_run *run, int64_t i)
{
    char text[JINJA_FLOAT_TEXT_MAX];
    snprintf(text, sizeof text, "%lld", (long long)i);
    return jinja_puts(run, text);
}

static bool put_escaped_char(struct jinja_run *run, uint32_t c, char quote)
{
    char text[16];
    switch (c) {
    case '\n': return jinja_puts(run, "\\n");
    case '\r': return jinja_puts(run, "\\r");
    case '\t': return jinja_puts(run, "\\t");
    case '\\': return jinja_puts(run, "\\\\");
    default: break;
    }
    if (c == (uint32_t)quote) {
        snprintf(text, sizeof text, "\\%c", quote);
    } else if (sl_unicode_is_printable(c)) {
        return jinja_put_char(run, c);
    } else {
        snprintf(text, sizeof text,
                 c < 0x100     ? "\\x%02x"
                 : c < 0x10000 ? "\\u%04x"
                               : "\\U%08x",
                 (unsigned)c);
    }
    return jinja_puts(run, text);
}

static bool put_quoted(struct jinja_run *run, const struct jinja_string *str)
{
    bool single = str->n && memchr(str->s, '\'', str->n);
    bool twofold = str->n && memchr(str->s, '"', str->n);
    char quote = single && !twofold ? '"' : '\'';
    if (!jinja_put(run, &quote, 1)) return false;
    for (size_t at = 0; at < str->n;) {
        uint32_t c = 0;
        size_t len = sl_utf8_decode(str->s + at, str->n - at, &c);
        if (!put_escaped_char(run, c, quote)) return false;
        at += len ? len : 1;
    }
    return jinja_put(run, &quote, 1);
}

static bool put_items(struct jinja_run *run, const struct jinja_list *list, const char *open,
                      const char *close)
{
    if (!jinja_puts(run, open)) return false;
    for (size_t i = 0; i < list->n; i++) {
        if (i && !jinja_puts(run, ", ")) return false;
        if (!jinja_put_repr(run, &list->items[i])) return false;
    }
    return jinja_puts(run, close);
}

static bool put_dict(struct jinja_run *run, const struct jinja_dict *dict)
{
    if (!jinja_puts(run, "{")) return false;
    for (size_t i = 0; i < dict->n; i++) {
        if (i && !jinja_puts(run, ", ")) return false;
        if (!jinja_put_repr(run, &dict->entries[i].key) || !jinja_puts(run, ": ") ||
            !jinja_put_repr(run, &dict->entries[i].value))
            return false;
    }
    return jinja_puts(run, "}");
}

static bool put_view(struct jinja_run *run, const struct jinja_value *value)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    struct jinja_value items;
    return jinja_items(run, value, &items) &&
           put_items(run, items.list, names[value->view->which], "])");
}

static bool put_range(struct jinja_run *run, const struct jinja_range *range)
{
    char text[100];
    snprintf(text, sizeof text, range->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
             (long long)range->start, (long long)range->stop, (long long)range->step);
    return jinja_puts(run, text);
}

static bool put_object(struct jinja_run *run, const struct jinja_value *value)
{
    char text[160];
    switch (value->kind) {
    case JINJA_NAMESPACE:
        return jinja_puts(run, "<Namespace ") && put_dict(run, value->dict) && jinja_puts(run, ">");
    case JINJA_LOOP: {
        struct jinja_value length;
        bool found;
        if (!jinja_loop_attribute(run, value->loop, "length", &length, &found)) return false;
        snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)value->loop->index0 + 1,
                 (long long)length.i);
        return jinja_puts(run, text);
    }
    case JINJA_MACRO:
        snprintf(text, sizeof text, "<Macro '%.100s'>",
                 run->tmpl->symbols[value->macro->node->symbol]);
        return jinja_puts(run, text);
    default:
        snprintf(text, sizeof text, "<%s object>", jinja_type_name(value));
        return jinja_puts(run, text);
    }
}

static bool put_repr(struct jinja_run *run, const struct jinja_value *value)
{
    char text[JINJA_FLOAT_TEXT_MAX];
    switch (value->kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED: return jinja_puts(run, "Undefined");
    case JINJA_NONE: return jinja_puts(run, "None");
    case JINJA_BOOL: return jinja_puts(run, value->b ? "True" : "False");
    case JINJA_INT: return put_int(run, value->i);
    case JINJA_FLOAT: return jinja_puts(run, jinja_float_text(value->f, text));
    case JINJA_STRING: return put_quoted(run, value->str);
    case JINJA_LIST: return put_items(run, value->list, "[", "]");
    case JINJA_TUPLE: return put_items(run, value->list, "(", value->list->n == 1 ? ",)" : ")");
    case JINJA_DICT: return put_dict(run, value->dict);
    case JINJA_RANGE: return put_range(run, value->range);
    case JINJA_VIEW: return put_view(run, value);
    default: return put_object(run, value);
    }
}

bool jinja_put_repr(struct jinja_run *run, const struct jinja_value *value)
{
    if (!jinja_charge(run, 1) || !jinja_enter(run)) return false;
    bool ok = put_repr(run, value);
    jinja_leave(run);
    return ok;
}

bool jinja_put_str(struct jinja_run *run, const struct jinja_value *value)
{
    if (value->kind == JINJA_STRING) return jinja_put(run, value->str->s, value->str->n);
    if (value->kind == JINJA_UNDEFINED) return true;
    return jinja_put_repr(run, value);
}

bool jinja_to_string(struct jinja_run *run, const struct jinja_value *value,
                     struct jinja_value *out)
{
    size_t mark = run->out.len;
    if (value->kind == JINJA_STRING) return *out = *value, true;
    return jinja_put_str(run, value) && jinja_take(run, mark, out);
}
