/* jinja_compare.c: equality, order, membership, and walking what can be walked. */
#include "exec/chat/jinja_run.h"

#include "base/utf8.h"

#include <string.h>

#define ENTRIES_A_STEP 16 /* keys looked at for the price of a step */

static bool equal_items(struct jinja_run *run, const struct jinja_list *a,
                        const struct jinja_list *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        if (!jinja_equal(run, &a->items[i], &b->items[i], out)) return false;
    }
    return true;
}

static bool equal_dicts(struct jinja_run *run, const struct jinja_value *a,
                        const struct jinja_value *b, bool *out)
{
    *out = a->dict->n == b->dict->n;
    for (size_t i = 0; *out && i < a->dict->n; i++) {
        const struct jinja_value *other;
        if (!jinja_dict_get(run, b, &a->dict->entries[i].key, &other)) return false;
        *out = other != NULL;
        if (other && !jinja_equal(run, &a->dict->entries[i].value, other, out)) return false;
    }
    return true;
}

static bool equal_numbers(const struct jinja_value *a, const struct jinja_value *b)
{
    if (jinja_is_integer(a) && jinja_is_integer(b)) return jinja_integer(a) == jinja_integer(b);
    return jinja_number(a) == jinja_number(b);
}

static bool equal_ranges(const struct jinja_range *a, const struct jinja_range *b)
{
    return a->n == b->n &&
           (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static bool equal_same_kind(struct jinja_run *run, const struct jinja_value *a,
                            const struct jinja_value *b, bool *out)
{
    *out = true;
    switch (a->kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE: return true;
    case JINJA_STRING:
        *out = a->str->n == b->str->n && memcmp(a->str->s, b->str->s, a->str->n) == 0;
        return jinja_charge_bytes(run, *out ? a->str->n : 0);
    case JINJA_LIST:
    case JINJA_TUPLE: return equal_items(run, a->list, b->list, out);
    case JINJA_DICT: return equal_dicts(run, a, b, out);
    case JINJA_RANGE: *out = equal_ranges(a->range, b->range); return true;
    default: *out = a->iter == b->iter; return true; /* all members of the union are pointers */
    }
}

bool jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                 bool *out)
{
    if (!jinja_charge(run, 1) || !jinja_enter(run)) return false;
    bool ok = true;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = equal_numbers(a, b);
    } else if (a->kind == b->kind) {
        ok = equal_same_kind(run, a, b, out);
    } else {
        *out = false;
    }
    jinja_leave(run);
    return ok;
}

static bool less_items(struct jinja_run *run, const struct jinja_list *a,
                       const struct jinja_list *b, const char *op, bool *out)
{
    size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < n; i++) {
        bool same;
        if (!jinja_equal(run, &a->items[i], &b->items[i], &same)) return false;
        if (!same) return jinja_less(run, &a->items[i], &b->items[i], op, out);
    }
    *out = a->n < b->n;
    return true;
}

static bool less_strings(struct jinja_run *run, const struct jinja_string *a,
                         const struct jinja_string *b, bool *out)
{
    /* The order of UTF-8's bytes is that of the code points. */
    size_t n = a->n < b->n ? a->n : b->n;
    int order = memcmp(a->s, b->s, n);
    *out = order < 0 || (order == 0 && a->n < b->n);
    return jinja_charge_bytes(run, n);
}

bool jinja_less(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                const char *op, bool *out)
{
    if (!jinja_charge(run, 1)) return false;
    if (jinja_is_integer(a) && jinja_is_integer(b)) {
        *out = jinja_integer(a) < jinja_integer(b);
        return true;
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = jinja_number(a) < jinja_number(b);
        return true;
    }
    if (a->kind == JINJA_STRING && b->kind == JINJA_STRING)
        return less_strings(run, a->str, b->str, out);
    if (a->kind == b->kind && (a->kind == JINJA_LIST || a->kind == JINJA_TUPLE)) {
        if (!jinja_enter(run)) return false;
        bool ok = less_items(run, a->list, b->list, op, out);
        jinja_leave(run);
        return ok;
    }
    if (a->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, a);
    if (b->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, b);
    return jinja_fail(run, SL_INVALID, "'%s' not supported between instances of '%s' and '%s'", op,
                      jinja_type_name(a), jinja_type_name(b));
}

bool jinja_dict_get(struct jinja_run *run, const struct jinja_value *dict,
                    const struct jinja_value *key, const struct jinja_value **out)
{
    const struct jinja_dict *d = dict->dict;
    *out = NULL;
    if (!jinja_charge(run, 1 + d->n / ENTRIES_A_STEP)) return false;
    if (key->kind == JINJA_STRING) {
        *out = jinja_dict_find(dict, key->str->s, key->str->n);
        return true;
    }
    for (size_t i = 0; i < d->n && !*out; i++) {
        bool same;
        if (!jinja_equal(run, &d->entries[i].key, key, &same)) return false;
        if (same) *out = &d->entries[i].value;
    }
    return true;
}

static bool contains_item(struct jinja_run *run, const struct jinja_value *container,
                          const struct jinja_value *item, bool *out)
{
    struct jinja_value items;
    *out = false;
    if (!jinja_items(run, container, &items)) return false;
    for (size_t i = 0; i < items.list->n && !*out; i++) {
        if (!jinja_equal(run, &items.list->items[i], item, out)) return false;
    }
    return true;
}

bool jinja_contains(struct jinja_run *run, const struct jinja_value *container,
                    const struct jinja_value *item, bool *out)
{
    const struct jinja_value *found;
    switch (container->kind) {
    case JINJA_STRING:
        if (item->kind != JINJA_STRING)
            return jinja_type_error(run, "cannot be looked for in a string", item);
        *out = memmem(container->str->s, container->str->n, item->str->s, item->str->n) != NULL;
        return jinja_charge_bytes(run, container->str->n);
    case JINJA_DICT:
        if (item->kind == JINJA_LIST || item->kind == JINJA_DICT)
            return jinja_type_error(run, "cannot be a dict's key", item);
        if (!jinja_dict_get(run, container, item, &found)) return false;
        *out = found != NULL;
        return true;
    case JINJA_UNDEFINED: *out = false; return true;
    default: return contains_item(run, container, item, out);
    }
}

bool jinja_has_length(const struct jinja_value *value)
{
    switch (value->kind) {
    case JINJA_UNDEFINED:
    case JINJA_STRING:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_RANGE:
    case JINJA_VIEW: return true;
    default: return false;
    }
}

bool jinja_length(struct jinja_run *run, const struct jinja_value *value, size_t *out)
{
    switch (value->kind) {
    case JINJA_UNDEFINED: *out = 0; return true;
    case JINJA_STRING: *out = jinja_string_chars(value->str); return true;
    case JINJA_LIST:
    case JINJA_TUPLE: *out = value->list->n; return true;
    case JINJA_DICT: *out = value->dict->n; return true;
    case JINJA_RANGE: *out = value->range->n; return true;
    case JINJA_VIEW: *out = value->view->dict->n; return true;
    default: return jinja_type_error(run, "has no len()", value);
    }
}

bool jinja_is_iterable(const struct jinja_value *value)
{
    return jinja_has_length(value) || value->kind == JINJA_ITER || value->kind == JINJA_LOOP;
}

static bool characters(struct jinja_run *run, struct jinja_string *str, struct jinja_value *out)
{
    size_t n = jinja_string_chars(str);
    if (!jinja_charge(run, n) || !jinja_list(run, JINJA_LIST, n, out)) return false;
    for (size_t at = 0; at < str->n;) {
        uint32_t c;
        size_t len = sl_utf8_decode(str->s + at, str->n - at, &c);
        if (len == 0) len = 1;
        if (!jinja_string(run, str->s + at, len, &out->list->items[out->list->n])) return false;
        out->list->n++;
        at += len;
    }
    return true;
}

static bool entry_item(struct jinja_run *run, const struct jinja_entry *entry,
                       enum jinja_view_kind which, struct jinja_value *out)
{
    if (which == JINJA_VIEW_KEYS) return *out = entry->key, true;
    if (which == JINJA_VIEW_VALUES) return *out = entry->value, true;
    if (!jinja_list(run, JINJA_TUPLE, 2, out)) return false;
    out->list->items[0] = entry->key;
    out->list->items[1] = entry->value;
    out->list->n = 2;
    return true;
}

static bool entries(struct jinja_run *run, const struct jinja_dict *dict,
                    enum jinja_view_kind which, struct jinja_value *out)
{
    if (!jinja_charge(run, dict->n) || !jinja_list(run, JINJA_LIST, dict->n, out)) return false;
    for (size_t i = 0; i < dict->n; i++) {
        if (!entry_item(run, &dict->entries[i], which, &out->list->items[i])) return false;
        out->list->n++;
    }
    return true;
}

static bool numbers(struct jinja_run *run, const struct jinja_range *range, struct jinja_value *out)
{
    if (!jinja_charge(run, range->n / 4) || !jinja_list(run, JINJA_LIST, range->n, out))
        return false;
    for (size_t i = 0; i < range->n; i++)
        out->list->items[i] = jinja_int(range->start + (int64_t)i * range->step);
    out->list->n = range->n;
    return true;
}

static bool spend_iter(struct jinja_run *run, struct jinja_iter *iter, struct jinja_value *out)
{
    if (!jinja_list(run, JINJA_LIST, 0, out)) return false;
    if (iter->next < iter->rest.n) {
        out->list->items = iter->rest.items + iter->next;
        out->list->n = out->list->cap = iter->rest.n - iter->next;
    }
    iter->next = iter->rest.n;
    return true;
}

bool jinja_items(struct jinja_run *run, const struct jinja_value *value, struct jinja_value *out)
{
    switch (value->kind) {
    case JINJA_UNDEFINED: return jinja_list(run, JINJA_LIST, 0, out);
    case JINJA_STRING: return characters(run, value->str, out);
    case JINJA_LIST:
    case JINJA_TUPLE: *out = *value; return true;
    case JINJA_DICT: return entries(run, value->dict, JINJA_VIEW_KEYS, out);
    case JINJA_RANGE: return numbers(run, value->range, out);
    case JINJA_VIEW: return entries(run, value->view->dict, value->view->which, out);
    case JINJA_ITER: return spend_iter(run, value->iter, out);
    default: return jinja_type_error(run, "is not iterable", value);
    }
}

bool jinja_items_copy(struct jinja_run *run, const struct jinja_value *value,
                      struct jinja_value *out)
{
    struct jinja_value items;
    if (!jinja_items(run, value, &items)) return false;
    size_t n = items.list->n;
    if (!jinja_charge(run, n / 4) || !jinja_list(run, JINJA_LIST, n, out)) return false;
    if (n) memcpy(out->list->items, items.list->items, n * sizeof *items.list->items);
    out->list->n = n;
    return true;
}
