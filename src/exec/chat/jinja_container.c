/* jinja_container.c: methods of dicts, lists and tuples, and which methods a value has. */
#include "exec/chat/jinja_run.h"

#include <string.h>

static bool view(struct jinja_run *run, const struct jinja_call *call, enum jinja_view_kind which,
                 struct jinja_value *out)
{
    struct jinja_view *made = jinja_alloc(run, 1, sizeof *made);
    if (!made) return false;
    if (call->n_args != 1 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "%s() takes no arguments", call->name);
    *made = (struct jinja_view){call->args[0].dict, which};
    *out = (struct jinja_value){JINJA_VIEW, {.view = made}};
    return true;
}

static bool dict_keys(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return view(run, call, JINJA_VIEW_KEYS, out);
}

static bool dict_values(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    return view(run, call, JINJA_VIEW_VALUES, out);
}

static bool dict_items(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return view(run, call, JINJA_VIEW_ITEMS, out);
}

static bool dict_get(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    const struct jinja_value *found;
    if (call->n_args < 2 || call->n_args > 3 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "get() takes one or two arguments");
    if (call->args[1].kind == JINJA_LIST || call->args[1].kind == JINJA_DICT)
        return jinja_type_error(run, "cannot be a dict's key", &call->args[1]);
    if (!jinja_dict_get(run, &call->args[0], &call->args[1], &found)) return false;
    *out = found ? *found : call->n_args == 3 ? call->args[2] : jinja_none();
    return true;
}

/* Values never change, so the original is as good as a copy. */
static bool copy(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    if (call->n_args != 1) return jinja_fail(run, SL_INVALID, "copy() takes no arguments");
    *out = call->args[0];
    return true;
}

static bool list_search(struct jinja_run *run, const struct jinja_call *call, bool count,
                        int64_t *out)
{
    *out = count ? 0 : -1;
    if (call->n_args != 2 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "%s() takes one argument", call->name);
    const struct jinja_list *list = call->args[0].list;
    for (size_t i = 0; i < list->n; i++) {
        bool same;
        if (!jinja_equal(run, &list->items[i], &call->args[1], &same)) return false;
        if (same && !count) return *out = (int64_t)i, true;
        *out += count && same;
    }
    return true;
}

static bool list_index(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    int64_t i;
    if (!list_search(run, call, false, &i)) return false;
    if (i < 0) return jinja_fail(run, SL_INVALID, "the item is not in the list");
    return *out = jinja_int(i), true;
}

static bool list_count(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    int64_t n;
    return list_search(run, call, true, &n) && (*out = jinja_int(n), true);
}

const struct jinja_builtin jinja_dict_methods[] = {
    {"get", dict_get},       {"items", dict_items}, {"keys", dict_keys},
    {"values", dict_values}, {"copy", copy},        {NULL, NULL},
};
const struct jinja_builtin jinja_list_methods[] = {
    {"index", list_index}, {"count", list_count}, {"copy", copy}, {NULL, NULL}};
static const struct jinja_builtin tuple_methods[] = {
    {"index", list_index}, {"count", list_count}, {NULL, NULL}};

static const char *const changing_dict[] = {"clear",      "pop",    "popitem",
                                            "setdefault", "update", NULL};
static const char *const changing_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                            "sort",   "extend", "remove", NULL};

/* A method that would change the value is there, but undefined in a way that says so. */
static bool refuse_change(struct jinja_run *run, const struct jinja_value *owner, const char *name,
                          const char *const *changing, struct jinja_value *out, bool *found)
{
    for (; *changing; changing++) {
        if (strcmp(*changing, name) != 0) continue;
        size_t size = strlen(name) + 64;
        char *hint = jinja_alloc(run, size, 1);
        if (!hint) return false;
        strcat(strcat(strcpy(hint, "access to attribute '"), name), "' of '");
        strcat(strcat(hint, jinja_type_name(owner)), "' object is unsafe.");
        *found = true;
        return jinja_undefined(run, hint, out);
    }
    return true;
}

bool jinja_method(struct jinja_run *run, const struct jinja_value *owner, const char *name,
                  struct jinja_value *out, bool *found)
{
    const struct jinja_builtin *table = NULL;
    const char *const *changing = NULL;
    switch (owner->kind) {
    case JINJA_STRING: table = jinja_string_methods; break;
    case JINJA_DICT: table = jinja_dict_methods, changing = changing_dict; break;
    case JINJA_LIST: table = jinja_list_methods, changing = changing_list; break;
    case JINJA_TUPLE: table = tuple_methods; break;
    case JINJA_LOOP: table = jinja_loop_methods; break;
    default: break;
    }
    const struct jinja_builtin *method = table ? jinja_builtin_find(table, name) : NULL;
    *found = method != NULL;
    if (!method) return !changing || refuse_change(run, owner, name, changing, out, found);
    struct jinja_bound *bound = jinja_alloc(run, 1, sizeof *bound);
    if (!bound) return false;
    *bound = (struct jinja_bound){*owner, method};
    *out = (struct jinja_value){JINJA_METHOD, {.bound = bound}};
    return true;
}
