/* jinja_value.c: making values, and what can be asked of them without failing. */
#include "exec/chat/jinja_value.h"

#include "base/utf8.h"
#include "exec/chat/jinja_run.h"

#include <string.h>

struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_bool(bool b)
{
    return (struct jinja_value){JINJA_BOOL, {.b = b}};
}

struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){JINJA_INT, {.i = i}};
}

struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){JINJA_FLOAT, {.f = f}};
}

bool jinja_string(struct jinja_run *run, const char *s, size_t n, struct jinja_value *out)
{
    struct jinja_string *str = jinja_alloc(run, 1, sizeof *str);
    if (!str) return false;
    *str = (struct jinja_string){s, n, JINJA_CHARS_UNKNOWN};
    *out = (struct jinja_value){JINJA_STRING, {.str = str}};
    return true;
}

bool jinja_string_copy(struct jinja_run *run, const char *s, size_t n, struct jinja_value *out)
{
    char *copy = jinja_alloc(run, n, 1);
    if (!copy) return false;
    if (n) memcpy(copy, s, n);
    return jinja_charge_bytes(run, n) && jinja_string(run, copy, n, out);
}

static bool make_undefined(struct jinja_run *run, struct jinja_undefined why,
                           struct jinja_value *out)
{
    struct jinja_undefined *undefined = jinja_alloc(run, 1, sizeof *undefined);
    if (!undefined) return false;
    *undefined = why;
    *out = (struct jinja_value){JINJA_UNDEFINED, {.undefined = undefined}};
    return true;
}

bool jinja_undefined(struct jinja_run *run, const char *hint, struct jinja_value *out)
{
    return make_undefined(run, (struct jinja_undefined){.hint = hint}, out);
}

bool jinja_undefined_in(struct jinja_run *run, const struct jinja_value *owner,
                        const struct jinja_value *name, struct jinja_value *out)
{
    struct jinja_undefined why = {.name = *name};
    if (owner) why.owner = *owner;
    return make_undefined(run, why, out);
}

bool jinja_list(struct jinja_run *run, enum jinja_kind kind, size_t cap, struct jinja_value *out)
{
    struct jinja_list *list = jinja_alloc(run, 1, sizeof *list);
    if (!list) return false;
    list->cap = cap;
    if (cap && !(list->items = jinja_alloc(run, cap, sizeof *list->items))) return false;
    *out = (struct jinja_value){kind, {.list = list}};
    return true;
}

bool jinja_list_add(struct jinja_run *run, struct jinja_value *value, struct jinja_value item)
{
    struct jinja_list *list = value->list;
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 4;
        struct jinja_value *items = jinja_alloc(run, cap, sizeof *items);
        if (!items) return false;
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = item;
    return jinja_charge_bytes(run, sizeof item);
}

bool jinja_dict(struct jinja_run *run, size_t cap, struct jinja_value *out)
{
    struct jinja_dict *dict = jinja_alloc(run, 1, sizeof *dict);
    if (!dict) return false;
    dict->cap = cap;
    if (cap && !(dict->entries = jinja_alloc(run, cap, sizeof *dict->entries))) return false;
    *out = (struct jinja_value){JINJA_DICT, {.dict = dict}};
    return true;
}

static bool is_hashable(const struct jinja_value *key)
{
    if (key->kind == JINJA_TUPLE) {
        for (size_t i = 0; i < key->list->n; i++) {
            enum jinja_kind kind = key->list->items[i].kind;
            if (kind == JINJA_LIST || kind == JINJA_DICT || kind == JINJA_TUPLE) return false;
        }
    }
    return key->kind != JINJA_LIST && key->kind != JINJA_DICT;
}

static bool dict_append(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                        struct jinja_value value)
{
    if (dict->n == dict->cap) {
        size_t cap = dict->cap ? 2 * dict->cap : 4;
        struct jinja_entry *entries = jinja_alloc(run, cap, sizeof *entries);
        if (!entries) return false;
        if (dict->n) memcpy(entries, dict->entries, dict->n * sizeof *entries);
        dict->entries = entries;
        dict->cap = cap;
    }
    dict->entries[dict->n++] = (struct jinja_entry){key, value};
    return true;
}

bool jinja_dict_put(struct jinja_run *run, struct jinja_value *dict, struct jinja_value key,
                    struct jinja_value value)
{
    if (!is_hashable(&key)) return jinja_type_error(run, "cannot be a dict's key", &key);
    const struct jinja_value *old;
    if (!jinja_dict_get(run, dict, &key, &old)) return false;
    if (!old) return dict_append(run, dict->dict, key, value);
    *(struct jinja_value *)(uintptr_t)old = value;
    return true;
}

bool jinja_iter(struct jinja_run *run, const struct jinja_value *list, struct jinja_value *out)
{
    struct jinja_iter *iter = jinja_alloc(run, 1, sizeof *iter);
    if (!iter) return false;
    iter->rest = *list->list;
    *out = (struct jinja_value){JINJA_ITER, {.iter = iter}};
    return true;
}

static bool text_from_json(struct jinja_run *run, const char *s, size_t n, bool copy,
                           struct jinja_value *out)
{
    return copy ? jinja_string_copy(run, s, n, out) : jinja_string(run, s, n, out);
}

static bool array_from_json(struct jinja_run *run, const struct sl_json_value *json, bool copy,
                            struct jinja_value *out)
{
    size_t n = sl_json_size(json);
    if (!jinja_list(run, JINJA_LIST, n, out)) return false;
    for (size_t i = 0; i < n; i++) {
        if (!jinja_from_json(run, sl_json_at(json, i), copy, &out->list->items[i])) return false;
        out->list->n++;
    }
    return true;
}

/* JSON's keys differ, so nothing is looked up. */
static bool object_from_json(struct jinja_run *run, const struct sl_json_value *json, bool copy,
                             struct jinja_value *out)
{
    void *iter = NULL;
    const char *key;
    size_t n_key;
    const struct sl_json_value *member;
    if (!jinja_dict(run, sl_json_size(json), out)) return false;
    while (sl_json_next(json, &iter, &key, &n_key, &member)) {
        struct jinja_value name, value;
        if (!text_from_json(run, key, n_key, copy, &name)) return false;
        if (!jinja_from_json(run, member, copy, &value)) return false;
        if (!dict_append(run, out->dict, name, value)) return false;
    }
    return true;
}

bool jinja_from_json(struct jinja_run *run, const struct sl_json_value *json, bool copy,
                     struct jinja_value *out)
{
    if (!jinja_enter(run)) return false;
    bool ok = true;
    size_t n;
    switch (sl_json_type(json)) {
    case SL_JSON_NULL: *out = jinja_none(); break;
    case SL_JSON_BOOL: *out = jinja_bool(sl_json_to_bool(json, false)); break;
    case SL_JSON_INT: *out = jinja_int(sl_json_to_int(json, 0)); break;
    case SL_JSON_NUM: *out = jinja_float(sl_json_to_num(json, 0)); break;
    case SL_JSON_STR: {
        const char *s = sl_json_to_str(json, "", &n);
        ok = text_from_json(run, s, n, copy, out);
        break;
    }
    case SL_JSON_ARRAY: ok = array_from_json(run, json, copy, out); break;
    case SL_JSON_OBJECT: ok = object_from_json(run, json, copy, out); break;
    }
    jinja_leave(run);
    return ok;
}

bool jinja_truth(const struct jinja_value *value)
{
    switch (value->kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE: return false;
    case JINJA_BOOL: return value->b;
    case JINJA_INT: return value->i != 0;
    case JINJA_FLOAT: return value->f != 0;
    case JINJA_STRING: return value->str->n > 0;
    case JINJA_LIST:
    case JINJA_TUPLE: return value->list->n > 0;
    case JINJA_DICT: return value->dict->n > 0;
    case JINJA_RANGE: return value->range->n > 0;
    case JINJA_VIEW: return value->view->dict->n > 0;
    default: return true;
    }
}

bool jinja_is_number(const struct jinja_value *value)
{
    return jinja_is_integer(value) || value->kind == JINJA_FLOAT;
}

bool jinja_is_integer(const struct jinja_value *value)
{
    return value->kind == JINJA_INT || value->kind == JINJA_BOOL;
}

double jinja_number(const struct jinja_value *value)
{
    return value->kind == JINJA_FLOAT ? value->f : (double)jinja_integer(value);
}

int64_t jinja_integer(const struct jinja_value *value)
{
    return value->kind == JINJA_BOOL ? (int64_t)value->b : value->i;
}

bool jinja_is_text(const struct jinja_value *value, const char *s)
{
    size_t n = strlen(s);
    return value->kind == JINJA_STRING && value->str->n == n && memcmp(value->str->s, s, n) == 0;
}

const char *jinja_type_name(const struct jinja_value *value)
{
    static const char *const names[] = {
        [JINJA_ABSENT] = "nothing",
        [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",
        [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",
        [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",
        [JINJA_DICT] = "dict",
        [JINJA_NAMESPACE] = "Namespace",
        [JINJA_RANGE] = "range",
        [JINJA_VIEW] = "dict view",
        [JINJA_ITER] = "generator",
        [JINJA_LOOP] = "LoopContext",
        [JINJA_MACRO] = "Macro",
        [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "method",
    };
    return names[value->kind];
}

size_t jinja_string_chars(struct jinja_string *str)
{
    if (str->n_chars != JINJA_CHARS_UNKNOWN) return str->n_chars;
    size_t n = 0;
    for (size_t i = 0; i < str->n; i++) n += ((unsigned char)str->s[i] & 0xc0) != 0x80;
    return str->n_chars = n;
}

struct jinja_value *jinja_dict_find(const struct jinja_value *dict, const char *key, size_t n)
{
    for (size_t i = 0; i < dict->dict->n; i++) {
        const struct jinja_value *k = &dict->dict->entries[i].key;
        if (k->kind == JINJA_STRING && k->str->n == n && memcmp(k->str->s, key, n) == 0)
            return &dict->dict->entries[i].value;
    }
    return NULL;
}
