/* jinja_json.c: the tojson filter: json.dumps as transformers calls it, without HTML escapes. */
#include "exec/chat/jinja_run.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct writer {
    struct jinja_run *run;
    const struct jinja_json_style *style;
    int64_t level;
};

static bool put_json(struct writer *w, const struct jinja_value *value);

static bool put_escape(struct jinja_run *run, uint32_t c)
{
    char text[16];
    switch (c) {
    case '"': return jinja_puts(run, "\\\"");
    case '\\': return jinja_puts(run, "\\\\");
    case '\n': return jinja_puts(run, "\\n");
    case '\r': return jinja_puts(run, "\\r");
    case '\t': return jinja_puts(run, "\\t");
    case '\f': return jinja_puts(run, "\\f");
    case '\b': return jinja_puts(run, "\\b");
    default: break;
    }
    if (c < 0x10000) {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    } else {
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + (unsigned)((c - 0x10000) >> 10),
                 0xdc00 + (unsigned)(c & 0x3ff));
    }
    return jinja_puts(run, text);
}

/* Runs of plain characters go out in one piece. */
static bool put_text(struct writer *w, const char *s, size_t n)
{
    size_t from = 0;
    if (!jinja_puts(w->run, "\"")) return false;
    for (size_t at = 0; at < n;) {
        unsigned char byte = (unsigned char)s[at];
        uint32_t c = byte;
        size_t len = 1;
        bool escape = byte < 0x20 || byte == '"' || byte == '\\';
        if (byte >= 0x7f && w->style->ascii) {
            len = sl_utf8_decode(s + at, n - at, &c);
            escape = true;
        }
        if (escape) {
            if (!jinja_put(w->run, s + from, at - from) || !put_escape(w->run, c)) return false;
            from = at + len;
        }
        at += len ? len : 1;
    }
    return jinja_put(w->run, s + from, n - from) && jinja_puts(w->run, "\"");
}

static bool new_line(struct writer *w)
{
    if (w->style->indent < 0) return true;
    if (!jinja_puts(w->run, "\n")) return false;
    for (int64_t i = 0; i < w->level * w->style->indent; i++) {
        if (!jinja_put(w->run, " ", 1)) return false;
    }
    return true;
}

static bool next_item(struct writer *w, size_t i)
{
    return (i == 0 || jinja_puts(w->run, w->style->item_end)) && new_line(w);
}

static bool put_array(struct writer *w, const struct jinja_list *list)
{
    if (list->n == 0) return jinja_puts(w->run, "[]");
    if (!jinja_puts(w->run, "[")) return false;
    w->level++;
    for (size_t i = 0; i < list->n; i++) {
        if (!next_item(w, i) || !put_json(w, &list->items[i])) return false;
    }
    w->level--;
    return new_line(w) && jinja_puts(w->run, "]");
}

/* Keys that are no strings become what json.dumps makes of them. */
static bool put_key(struct writer *w, const struct jinja_value *key)
{
    switch (key->kind) {
    case JINJA_STRING: return put_text(w, key->str->s, key->str->n);
    case JINJA_NONE:
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        return jinja_puts(w->run, "\"") && put_json(w, key) && jinja_puts(w->run, "\"");
    default: return jinja_type_error(w->run, "cannot be a key in JSON", key);
    }
}

/* The entries in order of their keys; a stable insertion sort: objects are small, and the steps are
 * charged. */
static bool sorted_entries(struct writer *w, const struct jinja_dict *dict,
                           struct jinja_entry **out)
{
    struct jinja_entry *v = jinja_alloc(w->run, dict->n, sizeof *v);
    if (!v) return false;
    for (size_t n = 0; n < dict->n; n++) {
        size_t at = n;
        for (; at > 0; at--) {
            bool less;
            if (!jinja_less(w->run, &dict->entries[n].key, &v[at - 1].key, "<", &less))
                return false;
            if (!less) break;
            v[at] = v[at - 1];
        }
        v[at] = dict->entries[n];
    }
    *out = v;
    return true;
}

static bool put_object(struct writer *w, const struct jinja_dict *dict)
{
    struct jinja_entry *entries = dict->entries;
    if (dict->n == 0) return jinja_puts(w->run, "{}");
    if (w->style->sorted && !sorted_entries(w, dict, &entries)) return false;
    if (!jinja_puts(w->run, "{")) return false;
    w->level++;
    for (size_t i = 0; i < dict->n; i++) {
        if (!next_item(w, i) || !put_key(w, &entries[i].key) ||
            !jinja_puts(w->run, w->style->key_end) || !put_json(w, &entries[i].value))
            return false;
    }
    w->level--;
    return new_line(w) && jinja_puts(w->run, "}");
}

static bool put_number(struct writer *w, double v)
{
    char text[JINJA_FLOAT_TEXT_MAX];
    if (isnan(v)) return jinja_puts(w->run, "NaN");
    if (isinf(v)) return jinja_puts(w->run, v < 0 ? "-Infinity" : "Infinity");
    return jinja_puts(w->run, jinja_float_text(v, text));
}

static bool put_any(struct writer *w, const struct jinja_value *value)
{
    switch (value->kind) {
    case JINJA_NONE: return jinja_puts(w->run, "null");
    case JINJA_BOOL: return jinja_puts(w->run, value->b ? "true" : "false");
    case JINJA_INT: return jinja_put_repr(w->run, value);
    case JINJA_FLOAT: return put_number(w, value->f);
    case JINJA_STRING: return put_text(w, value->str->s, value->str->n);
    case JINJA_LIST:
    case JINJA_TUPLE: return put_array(w, value->list);
    case JINJA_DICT: return put_object(w, value->dict);
    default: return jinja_type_error(w->run, "is not JSON serializable", value);
    }
}

static bool put_json(struct writer *w, const struct jinja_value *value)
{
    if (!jinja_charge(w->run, 1) || !jinja_enter(w->run)) return false;
    bool ok = put_any(w, value);
    jinja_leave(w->run);
    return ok;
}

bool jinja_put_json(struct jinja_run *run, const struct jinja_value *value,
                    const struct jinja_json_style *style)
{
    struct writer w = {.run = run, .style = style};
    return put_json(&w, value);
}
