/* jinja_value.h: the values a template computes with: Python's, as far as templates can tell.
 * Floor: exec/chat, private to the engine and to chat_template.c.  Thread: the run's.
 * Allocates: in the run's arena; nothing is freed before the run ends.
 * Invariant: strings are valid UTF-8. Lists and dicts never change once a template can see them.
 * A function that returns bool says false when it failed the run: the error is recorded there. */
#pragma once
#include "base/json_read.h"
#include "exec/chat/jinja.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum jinja_kind {
    JINJA_ABSENT, /* an argument that was not given; a template never sees it */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_RANGE,
    JINJA_VIEW, /* what dict.keys(), values() and items() give */
    JINJA_ITER, /* a generator: can be walked once, has no length */
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD
};

#define JINJA_CHARS_UNKNOWN SIZE_MAX

struct jinja_string {
    const char *s; /* not NUL-ended */
    size_t n;
    size_t n_chars; /* code points, or JINJA_CHARS_UNKNOWN until asked for */
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct jinja_string *str;
        struct jinja_list *list; /* LIST, TUPLE */
        struct jinja_dict *dict; /* DICT, NAMESPACE */
        const struct jinja_range *range;
        const struct jinja_view *view;
        struct jinja_iter *iter;
        const struct jinja_undefined *undefined;
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_builtin *function;
        const struct jinja_bound *bound;
    };
};

struct jinja_list {
    struct jinja_value *items;
    size_t n, cap;
};
struct jinja_entry {
    struct jinja_value key, value;
};
struct jinja_dict {
    struct jinja_entry *entries; /* in order of insertion */
    size_t n, cap;
};
struct jinja_range {
    int64_t start, step;
    size_t n;
    int64_t stop; /* as given, for printing */
};
struct jinja_view {
    const struct jinja_dict *dict;
    enum jinja_view_kind { JINJA_VIEW_KEYS, JINJA_VIEW_VALUES, JINJA_VIEW_ITEMS } which;
};
struct jinja_iter {
    struct jinja_list rest;
    size_t next;
};
/* Why a value is undefined, for the message of an operation that does not stand it. */
struct jinja_undefined {
    const char *hint;         /* the whole message; NULL: made of what follows */
    struct jinja_value owner; /* the value without such an attribute; ABSENT: a variable's name */
    struct jinja_value name;
};

/* Constructors; strings are borrowed unless said otherwise. */
struct jinja_value jinja_none(void);
struct jinja_value jinja_bool(bool b);
struct jinja_value jinja_int(int64_t i);
struct jinja_value jinja_float(double f);
bool jinja_string(struct jinja_run *run, const char *s, size_t n, struct jinja_value *out);
bool jinja_string_copy(struct jinja_run *run, const char *s, size_t n, struct jinja_value *out);
bool jinja_undefined(struct jinja_run *run, const char *hint, struct jinja_value *out);
bool jinja_undefined_in(struct jinja_run *run, const struct jinja_value *owner,
                        const struct jinja_value *name, struct jinja_value *out);
bool jinja_list(struct jinja_run *run, enum jinja_kind kind, size_t cap, struct jinja_value *out);
bool jinja_list_add(struct jinja_run *run, struct jinja_value *list, struct jinja_value item);
bool jinja_dict(struct jinja_run *run, size_t cap, struct jinja_value *out);
/* Adds or replaces. INVALID: the key cannot be hashed. */
bool jinja_dict_put(struct jinja_run *run, struct jinja_value *dict, struct jinja_value key,
                    struct jinja_value value);
/* An iterator over the items of a list value, which it takes over. */
bool jinja_iter(struct jinja_run *run, const struct jinja_value *list, struct jinja_value *out);

/* The value of a JSON text; its strings are borrowed from the tree, or copied. */
bool jinja_from_json(struct jinja_run *run, const struct sl_json_value *json, bool copy,
                     struct jinja_value *out);

/* Fails the run for want of memory. Always false. */
bool jinja_fail_memory(struct jinja_run *run);

/* Queries that cannot fail. */
bool jinja_truth(const struct jinja_value *value);
bool jinja_is_number(const struct jinja_value *value);  /* BOOL, INT, FLOAT */
bool jinja_is_integer(const struct jinja_value *value); /* BOOL, INT */
double jinja_number(const struct jinja_value *value);   /* of a number */
int64_t jinja_integer(const struct jinja_value *value); /* of an integer */
bool jinja_is_text(const struct jinja_value *value, const char *s);
const char *jinja_type_name(const struct jinja_value *value); /* Python's: "str", "dict" */
size_t jinja_string_chars(struct jinja_string *str);
/* The entry with that text as its key, or NULL. */
struct jinja_value *jinja_dict_find(const struct jinja_value *dict, const char *key, size_t n);

/* Comparisons, which cost steps. */
bool jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                 bool *out);
/* a < b; INVALID for values that have no order. */
bool jinja_less(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                const char *op, bool *out);
bool jinja_contains(struct jinja_run *run, const struct jinja_value *container,
                    const struct jinja_value *item, bool *out);
bool jinja_dict_get(struct jinja_run *run, const struct jinja_value *dict,
                    const struct jinja_value *key, const struct jinja_value **out);

/* Sequences. False and INVALID for a value without a length or that cannot be walked. */
bool jinja_length(struct jinja_run *run, const struct jinja_value *value, size_t *out);
bool jinja_has_length(const struct jinja_value *value);
bool jinja_is_iterable(const struct jinja_value *value);
/* All items of something iterable as a list: characters of a string, keys of a dict. An ITER is
 * spent. A LIST is returned as it is: not to be changed. */
bool jinja_items(struct jinja_run *run, const struct jinja_value *value, struct jinja_value *out);
/* The same as a list of one's own. */
bool jinja_items_copy(struct jinja_run *run, const struct jinja_value *value,
                      struct jinja_value *out);
