/* jinja_filter_sequence.c: filters that take something apart or put it in order. */
#include "exec/chat/jinja_filter.h"
#include "exec/chat/jinja_string.h"

#include <string.h>

static bool alone(struct jinja_run *run, const struct jinja_call *call)
{
    return (call->n_args == 1 && call->n_keywords == 0) ||
           jinja_fail(run, SL_INVALID, "filter '%s' takes no arguments", call->name);
}

static bool filter_default(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    static const char *const names[] = {"value", "default_value", "boolean", NULL};
    struct jinja_value args[3];
    if (!jinja_bind(run, call, names, 1, args)) return false;
    *out = args[0];
    if (args[0].kind != JINJA_UNDEFINED && (!jinja_truth(&args[2]) || jinja_truth(&args[0])))
        return true;
    *out = args[1];
    return args[1].kind != JINJA_ABSENT || jinja_string(run, "", 0, out);
}

static bool filter_length(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    size_t n;
    if (!alone(run, call) || !jinja_length(run, &call->args[0], &n)) return false;
    return *out = jinja_int((int64_t)n), true;
}

static bool filter_list(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    return alone(run, call) && jinja_items_copy(run, &call->args[0], out);
}

static bool filter_first(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    struct jinja_value items;
    const struct jinja_value *value = &call->args[0];
    if (!alone(run, call)) return false;
    if (value->kind == JINJA_ITER && value->iter->next < value->iter->rest.n)
        return *out = value->iter->rest.items[value->iter->next++], true;
    if (!jinja_items(run, value, &items)) return false;
    if (items.list->n) return *out = items.list->items[0], true;
    return jinja_undefined(run, "No first item, sequence was empty.", out);
}

static bool filter_last(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    struct jinja_value items;
    if (!alone(run, call)) return false;
    if (call->args[0].kind == JINJA_ITER)
        return jinja_type_error(run, "is not reversible", &call->args[0]);
    if (!jinja_items(run, &call->args[0], &items)) return false;
    if (items.list->n) return *out = items.list->items[items.list->n - 1], true;
    return jinja_undefined(run, "No last item, sequence was empty.", out);
}

static bool filter_reverse(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    const struct jinja_value bounds[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    struct jinja_value items, reversed;
    const struct jinja_value *value = &call->args[0];
    if (!alone(run, call)) return false;
    if (value->kind == JINJA_STRING) return jinja_slice(run, value, bounds, out);
    if (!jinja_items_copy(run, value, &items) || !jinja_slice(run, &items, bounds, &reversed))
        return false;
    if (value->kind == JINJA_ITER || value->kind == JINJA_UNDEFINED) return *out = reversed, true;
    return jinja_iter(run, &reversed, out);
}

static bool filter_join(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    static const char *const names[] = {"value", "d", "attribute", NULL};
    struct jinja_value args[3], items, separator;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_items(run, &args[0], &items)) return false;
    if (args[2].kind != JINJA_ABSENT && args[2].kind != JINJA_NONE) {
        if (!jinja_attributes(run, &items, &args[2], NULL, &items)) return false;
    }
    if (args[1].kind == JINJA_ABSENT && !jinja_string(run, "", 0, &args[1])) return false;
    return jinja_to_string(run, &args[1], &separator) &&
           jinja_join(run, separator.str, &items, out);
}

static bool filter_items(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    struct jinja_view view = {.which = JINJA_VIEW_ITEMS};
    const struct jinja_value *value = &call->args[0], as_view = {JINJA_VIEW, {.view = &view}};
    struct jinja_value items;
    if (!alone(run, call)) return false;
    if (value->kind == JINJA_UNDEFINED)
        return jinja_list(run, JINJA_LIST, 0, &items) && jinja_iter(run, &items, out);
    if (value->kind != JINJA_DICT)
        return jinja_fail(run, SL_INVALID, "Can only get item pairs from a mapping.");
    view.dict = value->dict;
    return jinja_items(run, &as_view, &items) && jinja_iter(run, &items, out);
}

/* --- order */

struct sorting {
    struct jinja_value *items, *keys;       /* side by side */
    struct jinja_value *items_to, *keys_to; /* room for a merge */
};

static bool merge(struct jinja_run *run, struct sorting *s, size_t from, size_t middle, size_t to,
                  bool reverse)
{
    size_t a = from, b = middle;
    for (size_t at = from; at < to; at++) {
        bool take_b = a == middle;
        if (!take_b && b < to) {
            bool ok = reverse ? jinja_less(run, &s->keys[a], &s->keys[b], "<", &take_b)
                              : jinja_less(run, &s->keys[b], &s->keys[a], "<", &take_b);
            if (!ok) return false;
        }
        size_t i = take_b ? b++ : a++;
        s->items_to[at] = s->items[i];
        s->keys_to[at] = s->keys[i];
    }
    memcpy(s->items + from, s->items_to + from, (to - from) * sizeof *s->items);
    memcpy(s->keys + from, s->keys_to + from, (to - from) * sizeof *s->keys);
    return true;
}

bool jinja_sort(struct jinja_run *run, struct jinja_value *items, const struct jinja_value *keys,
                bool reverse)
{
    size_t n = items->list->n;
    struct jinja_value *room = jinja_alloc(run, 3 * n, sizeof *room);
    if (!room) return false;
    struct sorting s = {items->list->items, room, room + n, room + 2 * n};
    if (n) memcpy(s.keys, keys->list->items, n * sizeof *s.keys);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from + width < n; from += 2 * width) {
            size_t to = from + 2 * width < n ? from + 2 * width : n;
            if (!merge(run, &s, from, from + width, to, reverse)) return false;
        }
    }
    return true;
}

bool jinja_ignore_case(struct jinja_run *run, struct jinja_value *list)
{
    for (size_t i = 0; i < list->list->n; i++) {
        struct jinja_value *item = &list->list->items[i];
        size_t mark = run->out.len;
        if (item->kind == JINJA_LIST) {
            if (!jinja_ignore_case(run, item)) return false;
        } else if (item->kind == JINJA_STRING) {
            if (!jinja_put_case(run, item->str->s, item->str->n, SL_UNICODE_LOWER) ||
                !jinja_take(run, mark, item))
                return false;
        }
    }
    return true;
}

/* sort: by the lists of the values of "a,b.c". A list even for one attribute: lists compare what is
 * equal without asking for an order, so that jinja2 sorts what has none. */
static bool sort_keys(struct jinja_run *run, const struct jinja_value *items,
                      const struct jinja_value *attribute, struct jinja_value *out)
{
    const struct jinja_string comma = {",", 1, 1};
    struct jinja_value names, column;
    if (attribute->kind == JINJA_STRING) {
        if (!jinja_split(run, attribute->str, &comma, &names)) return false;
    } else if (!jinja_list(run, JINJA_LIST, 1, &names) ||
               !jinja_list_add(run, &names, *attribute)) {
        return false;
    }
    if (!jinja_list(run, JINJA_LIST, items->list->n, out)) return false;
    for (size_t i = 0; i < items->list->n; i++) {
        if (!jinja_list(run, JINJA_LIST, names.list->n, &out->list->items[i])) return false;
        out->list->n++;
    }
    for (size_t k = 0; k < names.list->n; k++) {
        if (!jinja_attributes(run, items, &names.list->items[k], NULL, &column)) return false;
        for (size_t i = 0; i < items->list->n; i++) {
            if (!jinja_list_add(run, &out->list->items[i], column.list->items[i])) return false;
        }
    }
    return true;
}

static bool filter_sort(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    static const char *const names[] = {"value", "reverse", "case_sensitive", "attribute", NULL};
    struct jinja_value args[4], keys;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_items_copy(run, &args[0], out))
        return false;
    if (!sort_keys(run, out, &args[3], &keys)) return false;
    if (!jinja_truth(&args[2]) && !jinja_ignore_case(run, &keys)) return false;
    return jinja_sort(run, out, &keys, jinja_truth(&args[1]));
}

static bool filter_dictsort(struct jinja_run *run, const struct jinja_call *call,
                            struct jinja_value *out)
{
    static const char *const names[] = {"value", "case_sensitive", "by", "reverse", NULL};
    struct jinja_value args[4], keys;
    struct jinja_view view = {.which = JINJA_VIEW_ITEMS};
    const struct jinja_value as_view = {JINJA_VIEW, {.view = &view}};
    if (!jinja_bind(run, call, names, 1, args)) return false;
    bool by_value = jinja_is_text(&args[2], "value");
    if (args[2].kind != JINJA_ABSENT && !by_value && !jinja_is_text(&args[2], "key"))
        return jinja_fail(run, SL_INVALID, "You can only sort by either \"key\" or \"value\"");
    if (args[0].kind != JINJA_DICT) return jinja_type_error(run, "is not a mapping", &args[0]);
    view.dict = args[0].dict;
    const struct jinja_value column = jinja_int(by_value);
    if (!jinja_items(run, &as_view, out) || !jinja_attributes(run, out, &column, NULL, &keys))
        return false;
    if (!jinja_truth(&args[1]) && !jinja_ignore_case(run, &keys)) return false;
    return jinja_sort(run, out, &keys, jinja_truth(&args[3]));
}

static bool smallest(struct jinja_run *run, const struct jinja_call *call, bool largest,
                     struct jinja_value *out)
{
    static const char *const names[] = {"value", "case_sensitive", "attribute", NULL};
    struct jinja_value args[3], items, keys;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_items(run, &args[0], &items)) return false;
    if (items.list->n == 0)
        return jinja_undefined(run, "No aggregated item, sequence was empty.", out);
    if (!jinja_attributes(run, &items, &args[2], NULL, &keys)) return false;
    if (!jinja_truth(&args[1]) && !jinja_ignore_case(run, &keys)) return false;
    size_t best = 0;
    for (size_t i = 1; i < items.list->n; i++) {
        const struct jinja_value *a = &keys.list->items[i], *b = &keys.list->items[best];
        bool better;
        if (!jinja_less(run, largest ? b : a, largest ? a : b, largest ? ">" : "<", &better))
            return false;
        if (better) best = i;
    }
    return *out = items.list->items[best], true;
}

static bool filter_min(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return smallest(run, call, false, out);
}

static bool filter_max(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return smallest(run, call, true, out);
}

static bool filter_sum(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    static const char *const names[] = {"iterable", "attribute", "start", NULL};
    struct jinja_value args[3], items;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_items(run, &args[0], &items) ||
        !jinja_attributes(run, &items, &args[1], NULL, &items))
        return false;
    *out = args[2].kind == JINJA_ABSENT ? jinja_int(0) : args[2];
    if (out->kind == JINJA_STRING) return jinja_fail(run, SL_INVALID, "sum() can't sum strings");
    for (size_t i = 0; i < items.list->n; i++) {
        struct jinja_value before = *out;
        if (!jinja_binary(run, JINJA_OP_ADD, &before, &items.list->items[i], out)) return false;
    }
    return true;
}

static bool filter_unique(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    static const char *const names[] = {"value", "case_sensitive", "attribute", NULL};
    struct jinja_value args[3], items, keys, seen, kept;
    if (!jinja_bind(run, call, names, 1, args) || !jinja_items(run, &args[0], &items) ||
        !jinja_attributes(run, &items, &args[2], NULL, &keys) || !jinja_dict(run, 0, &seen) ||
        !jinja_list(run, JINJA_LIST, 0, &kept))
        return false;
    if (!jinja_truth(&args[1]) && !jinja_ignore_case(run, &keys)) return false;
    for (size_t i = 0; i < items.list->n; i++) {
        size_t before = seen.dict->n;
        if (!jinja_dict_put(run, &seen, keys.list->items[i], jinja_none())) return false;
        if (seen.dict->n > before && !jinja_list_add(run, &kept, items.list->items[i]))
            return false;
    }
    return jinja_iter(run, &kept, out);
}

static bool filter_batch(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    static const char *const names[] = {"value", "linecount", "fill_with", NULL};
    struct jinja_value args[3], items, rows, row = {0};
    int64_t size;
    if (!jinja_bind(run, call, names, 2, args) || !jinja_items(run, &args[0], &items) ||
        !jinja_optional_integer(run, &args[1], 1, &size) || !jinja_list(run, JINJA_LIST, 0, &rows))
        return false;
    for (size_t i = 0; i < items.list->n; i++) {
        if (row.kind == JINJA_ABSENT || (int64_t)row.list->n == size) {
            if (!jinja_list(run, JINJA_LIST, 0, &row) || !jinja_list_add(run, &rows, row))
                return false;
        }
        if (!jinja_list_add(run, &row, items.list->items[i])) return false;
    }
    bool fill = args[2].kind != JINJA_ABSENT && args[2].kind != JINJA_NONE;
    while (fill && row.kind == JINJA_LIST && (int64_t)row.list->n < size) {
        if (!jinja_charge(run, 1) || !jinja_list_add(run, &row, args[2])) return false;
    }
    return jinja_iter(run, &rows, out);
}

const struct jinja_builtin jinja_sequence_filters[] = {
    {"default", filter_default}, {"d", filter_default},       {"length", filter_length},
    {"count", filter_length},    {"list", filter_list},       {"first", filter_first},
    {"last", filter_last},       {"reverse", filter_reverse}, {"join", filter_join},
    {"items", filter_items},     {"sort", filter_sort},       {"dictsort", filter_dictsort},
    {"min", filter_min},         {"max", filter_max},         {"sum", filter_sum},
    {"unique", filter_unique},   {"batch", filter_batch},     {NULL, NULL},
};
