/* jinja_filter_select.c: filters that apply a test, a filter or a lookup to every item. What jinja2
 * does when the result is walked is done at once here. */
#include "exec/chat/jinja_filter.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 64 /* of a filter or test named in a text */

bool jinja_split(struct jinja_run *run, const struct jinja_string *str,
                 const struct jinja_string *separator, struct jinja_value *out)
{
    if (!jinja_list(run, JINJA_LIST, 0, out)) return false;
    for (size_t at = 0;;) {
        struct jinja_value piece;
        const char *found = memmem(str->s + at, str->n - at, separator->s, separator->n);
        size_t end = found ? (size_t)(found - str->s) : str->n;
        if (!jinja_charge(run, 1) || !jinja_string(run, str->s + at, end - at, &piece) ||
            !jinja_list_add(run, out, piece))
            return false;
        if (!found) return true;
        at = end + separator->n;
    }
}

/* Parts that are numbers become indices. */
static void number_part(struct jinja_value *part)
{
    char text[16] = "";
    size_t n = part->str->n;
    if (n == 0 || n >= sizeof text) return;
    memcpy(text, part->str->s, n);
    if (strspn(text, "0123456789") == n) *part = jinja_int(atoll(text));
}

static bool attribute_parts(struct jinja_run *run, const struct jinja_value *attribute,
                            struct jinja_value *out)
{
    const struct jinja_string dot = {".", 1, 1};
    if (attribute->kind == JINJA_ABSENT || attribute->kind == JINJA_NONE)
        return jinja_list(run, JINJA_LIST, 0, out);
    if (attribute->kind != JINJA_STRING)
        return jinja_list(run, JINJA_LIST, 1, out) && jinja_list_add(run, out, *attribute);
    if (!jinja_split(run, attribute->str, &dot, out)) return false;
    for (size_t i = 0; i < out->list->n; i++) number_part(&out->list->items[i]);
    return true;
}

bool jinja_attributes(struct jinja_run *run, const struct jinja_value *items,
                      const struct jinja_value *attribute, const struct jinja_value *otherwise,
                      struct jinja_value *out)
{
    struct jinja_value parts, values;
    if (!attribute_parts(run, attribute, &parts) || !jinja_items_copy(run, items, &values))
        return false;
    for (size_t i = 0; i < values.list->n; i++) {
        struct jinja_value *value = &values.list->items[i];
        for (size_t k = 0; k < parts.list->n; k++) {
            struct jinja_value owner = *value;
            if (!jinja_charge(run, 1) || !jinja_get_item(run, &owner, &parts.list->items[k], value))
                return false;
            if (otherwise && value->kind == JINJA_UNDEFINED) *value = *otherwise;
        }
    }
    *out = values;
    return true;
}

/* The built-in that args[i] names, found by `find`. */
static bool named_builtin(struct jinja_run *run, const struct jinja_value *name,
                          const struct jinja_builtin *(*find)(const char *name),
                          const struct jinja_builtin **out)
{
    char text[NAME_MAX_BYTES] = "";
    if (name->kind == JINJA_STRING && name->str->n < sizeof text)
        memcpy(text, name->str->s, name->str->n);
    *out = find(text);
    return *out || jinja_fail(run, SL_INVALID, "No filter or test named '%s'.", text);
}

/* Calls it for the item with the arguments of `call` from index `from` on. */
static bool apply(struct jinja_run *run, const struct jinja_builtin *builtin,
                  const struct jinja_call *call, size_t from, const struct jinja_value *item,
                  struct jinja_value *out)
{
    size_t n = call->n_args > from ? call->n_args - from : 0;
    struct jinja_value *args = jinja_alloc(run, n + 1, sizeof *args);
    if (!args || !jinja_charge(run, 1)) return false;
    args[0] = *item;
    if (n) memcpy(args + 1, call->args + from, n * sizeof *args);
    const struct jinja_call each = {args, n + 1, call->keywords, call->n_keywords, builtin->name};
    return builtin->run(run, &each, out);
}

static bool map_attribute(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    const struct jinja_value *attribute = NULL, *otherwise = NULL;
    struct jinja_value items, values;
    for (size_t i = 0; i < call->n_keywords; i++) {
        const struct jinja_keyword *given = &call->keywords[i];
        if (strcmp(given->name, "attribute") == 0) {
            attribute = &given->value;
        } else if (strcmp(given->name, "default") == 0) {
            otherwise = &given->value;
        } else {
            return jinja_fail(run, SL_INVALID, "Unexpected keyword argument '%.60s'", given->name);
        }
    }
    if (!attribute) return jinja_fail(run, SL_INVALID, "map requires a filter argument");
    if (otherwise && otherwise->kind == JINJA_NONE) otherwise = NULL;
    return jinja_items(run, &call->args[0], &items) &&
           jinja_attributes(run, &items, attribute, otherwise, &values) &&
           jinja_iter(run, &values, out);
}

static bool filter_map(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    const struct jinja_builtin *filter;
    struct jinja_value items;
    if (!jinja_truth(&call->args[0])) /* nothing to walk, whatever it is */
        return jinja_list(run, JINJA_LIST, 0, &items) && jinja_iter(run, &items, out);
    if (call->n_args == 1) return map_attribute(run, call, out);
    if (!jinja_items_copy(run, &call->args[0], &items)) return false;
    if (items.list->n && !named_builtin(run, &call->args[1], jinja_filter_find, &filter))
        return false;
    for (size_t i = 0; i < items.list->n; i++) {
        struct jinja_value item = items.list->items[i];
        if (!apply(run, filter, call, 2, &item, &items.list->items[i])) return false;
    }
    return jinja_iter(run, &items, out);
}

/* Keeps the items whose test is `wanted`. `named`: the first argument names an attribute. */
static bool select_items(struct jinja_run *run, const struct jinja_call *call, bool wanted,
                         bool named, struct jinja_value *out)
{
    size_t from = 1 + named; /* index of the test's name */
    const struct jinja_builtin *test = NULL;
    const struct jinja_value none = {0};
    struct jinja_value items, tested, kept, result;
    if (!jinja_list(run, JINJA_LIST, 0, &kept)) return false;
    if (!jinja_truth(&call->args[0])) return jinja_iter(run, &kept, out);
    if (!jinja_items(run, &call->args[0], &items)) return false;
    if (items.list->n == 0) return jinja_iter(run, &kept, out);
    if (call->n_args < from)
        return jinja_fail(run, SL_INVALID, "Missing parameter for attribute name");
    if (call->n_args > from && !named_builtin(run, &call->args[from], jinja_test_find, &test))
        return false;
    if (!jinja_attributes(run, &items, named ? &call->args[1] : &none, NULL, &tested)) return false;
    for (size_t i = 0; i < items.list->n; i++) {
        result = tested.list->items[i];
        if (test && !apply(run, test, call, from + 1, &tested.list->items[i], &result))
            return false;
        if (jinja_truth(&result) == wanted && !jinja_list_add(run, &kept, items.list->items[i]))
            return false;
    }
    return jinja_iter(run, &kept, out);
}

static bool filter_select(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    return select_items(run, call, true, false, out);
}

static bool filter_reject(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    return select_items(run, call, false, false, out);
}

static bool filter_selectattr(struct jinja_run *run, const struct jinja_call *call,
                              struct jinja_value *out)
{
    return select_items(run, call, true, true, out);
}

static bool filter_rejectattr(struct jinja_run *run, const struct jinja_call *call,
                              struct jinja_value *out)
{
    return select_items(run, call, false, true, out);
}

/* A group: its key as it is written in the first item, and the items. */
static bool add_group(struct jinja_run *run, struct jinja_value *groups, struct jinja_value key,
                      struct jinja_value *group)
{
    struct jinja_value tuple;
    return jinja_list(run, JINJA_LIST, 0, group) && jinja_list(run, JINJA_TUPLE, 2, &tuple) &&
           jinja_list_add(run, &tuple, key) && jinja_list_add(run, &tuple, *group) &&
           jinja_list_add(run, groups, tuple);
}

static bool filter_groupby(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    static const char *const names[] = {"value", "attribute", "default", "case_sensitive", NULL};
    struct jinja_value args[4], items, sorted, keys, shown, group = {0};
    if (!jinja_bind(run, call, names, 2, args) || !jinja_items_copy(run, &args[0], &items))
        return false;
    const struct jinja_value *otherwise =
        args[2].kind == JINJA_ABSENT || args[2].kind == JINJA_NONE ? NULL : &args[2];
    if (!jinja_attributes(run, &items, &args[1], otherwise, &keys)) return false;
    if (!jinja_truth(&args[3]) && !jinja_ignore_case(run, &keys)) return false;
    if (!jinja_items_copy(run, &keys, &sorted) || !jinja_sort(run, &items, &keys, false) ||
        !jinja_sort(run, &sorted, &keys, false) || !jinja_list(run, JINJA_LIST, 0, out) ||
        !jinja_attributes(run, &items, &args[1], otherwise, &shown))
        return false;
    for (size_t i = 0; i < items.list->n; i++) {
        bool same = i > 0;
        const struct jinja_value *key = &sorted.list->items[i];
        if (same && !jinja_equal(run, key - 1, key, &same)) return false;
        if (!same && !add_group(run, out, shown.list->items[i], &group)) return false;
        if (!jinja_list_add(run, &group, items.list->items[i])) return false;
    }
    return true;
}

const struct jinja_builtin jinja_select_filters[] = {
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"groupby", filter_groupby},
    {NULL, NULL},
};
