/* jinja_run.h: one rendering of a template: what is spent and left, scopes, how functions are
 * called.
 * Floor: exec/chat, private to the engine.  Thread: the run's.  Allocates: in the run's arena.
 * Invariant: `out` ends with the text being put together; whoever takes a piece off again
 * (jinja_take) leaves it as long as it was. After a function said false, the run only ends. */
#pragma once
#include "base/arena.h"
#include "exec/chat/jinja_ast.h"
#include "exec/chat/jinja_value.h"

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_binding {
        uint32_t symbol;
        struct jinja_value value;
    } * vars;
    uint32_t n, cap;
};

enum jinja_signal { JINJA_GO_ON, JINJA_BREAK, JINJA_CONTINUE };

struct jinja_run {
    const struct jinja_template *tmpl;
    const struct jinja_limits *limits;
    const struct jinja_input *input;
    struct sl_arena arena;
    struct sl_buf out;
    struct sl_err *err;
    sl_status status; /* why the run failed */
    uint64_t steps_left;
    uint32_t depth;
    int line;
    struct jinja_value *variables; /* by symbol: the caller's variables and the globals */
    struct jinja_scope *scope;
    enum jinja_signal signal;
};

/* Names that statements give a meaning to have fixed numbers. */
enum { JINJA_SYMBOL_LOOP, JINJA_SYMBOL_CALLER, JINJA_SYMBOL_VARARGS, JINJA_SYMBOL_KWARGS };

struct jinja_template {
    struct sl_arena arena;
    struct jinja_limits limits;
    struct jinja_node *body;
    const char *const *symbols; /* names by symbol */
    uint32_t n_symbols;
};

/* Arguments of a call; of a filter or test the first is the value it is applied to. */
struct jinja_call {
    const struct jinja_value *args;
    size_t n_args;
    const struct jinja_keyword *keywords;
    size_t n_keywords;
    const char *name; /* for messages */
};
struct jinja_keyword {
    const char *name;
    struct jinja_value value;
};

typedef bool jinja_function(struct jinja_run *run, const struct jinja_call *call,
                            struct jinja_value *out);
struct jinja_builtin {
    const char *name;
    jinja_function *run;
};
/* A method, or an object that can be called, with what it belongs to: the call's first argument. */
struct jinja_bound {
    struct jinja_value self;
    const struct jinja_builtin *method;
};
struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* where it was defined */
};
struct jinja_loop {
    const struct jinja_node *node; /* the for statement */
    struct jinja_scope *outer;
    struct jinja_value items; /* a list, as far as it is known */
    size_t next;              /* index in items of the first one not yet looked at */
    struct jinja_value before, current, after; /* ABSENT: none; after: looked ahead */
    struct jinja_value changed;                /* arguments of the last loop.changed() */
    int64_t index0;
    int64_t length; /* -1: not asked for */
    int64_t depth0;
};

/* Records the failure at the current line. Always false. */
bool jinja_fail(struct jinja_run *run, sl_status status, const char *fmt, ...) SL_PRINTF(3, 4);
bool jinja_type_error(struct jinja_run *run, const char *what, const struct jinja_value *value);
/* An operation that an undefined value does not stand. Always false. */
bool jinja_fail_undefined(struct jinja_run *run, const struct jinja_value *undefined);

void *jinja_alloc(struct jinja_run *run, size_t count, size_t size); /* NULL: the run has failed */
bool jinja_charge(struct jinja_run *run, uint64_t steps);
#define JINJA_BYTES_A_STEP 64 /* copying or scanning this much costs about what a step does */
bool jinja_charge_bytes(struct jinja_run *run, size_t n);
bool jinja_enter(struct jinja_run *run); /* one level deeper; LIMIT */
void jinja_leave(struct jinja_run *run);

/* Text in the making. */
bool jinja_put(struct jinja_run *run, const char *s, size_t n);
bool jinja_puts(struct jinja_run *run, const char *s);
bool jinja_put_char(struct jinja_run *run, uint32_t codepoint);
bool jinja_take(struct jinja_run *run, size_t mark, struct jinja_value *out);

/* As Python's str(), repr() and json.dumps() write it. indent < 0: one line. */
bool jinja_put_str(struct jinja_run *run, const struct jinja_value *value);
bool jinja_put_repr(struct jinja_run *run, const struct jinja_value *value);
struct jinja_json_style {
    int64_t indent;
    const char *item_end, *key_end; /* ", " and ": " */
    bool ascii, sorted;
};
bool jinja_put_json(struct jinja_run *run, const struct jinja_value *value,
                    const struct jinja_json_style *style);
#define JINJA_FLOAT_TEXT_MAX 32
const char *jinja_float_text(double v, char out[JINJA_FLOAT_TEXT_MAX]);
/* The value as a string value: itself, or str() of it. */
bool jinja_to_string(struct jinja_run *run, const struct jinja_value *value,
                     struct jinja_value *out);

/* Spreads arguments over parameters, names[] ending in NULL; those not given are ABSENT. INVALID
 * for too many, unknown names, or fewer than n_required. */
bool jinja_bind(struct jinja_run *run, const struct jinja_call *call, const char *const *names,
                size_t n_required, struct jinja_value *values);

/* Operators. */
bool jinja_unary(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                 struct jinja_value *out);
bool jinja_binary(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                  const struct jinja_value *b, struct jinja_value *out);
bool jinja_compare(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                   const struct jinja_value *b, bool *out);
/* a[key], a.name; undefined where there is none. */
bool jinja_get_item(struct jinja_run *run, const struct jinja_value *owner,
                    const struct jinja_value *key, struct jinja_value *out);
bool jinja_get_attribute(struct jinja_run *run, const struct jinja_value *owner,
                         const struct jinja_value *name, struct jinja_value *out);
/* owner[start:stop:step]; bounds are NONE or integers. */
bool jinja_slice(struct jinja_run *run, const struct jinja_value *owner,
                 const struct jinja_value bounds[3], struct jinja_value *out);
/* Appends n code points from index `first` on, `step` apart. */
bool jinja_put_chars(struct jinja_run *run, struct jinja_string *str, int64_t first, int64_t step,
                     size_t n);

/* Tables: NULL when there is no such name. */
const struct jinja_builtin *jinja_filter_find(const char *name);
const struct jinja_builtin *jinja_test_find(const char *name);
const struct jinja_builtin *jinja_global_find(const char *name);
const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *table, const char *name);
extern const struct jinja_builtin jinja_text_filters[], jinja_sequence_filters[];
extern const struct jinja_builtin jinja_select_filters[], jinja_string_methods[];
extern const struct jinja_builtin jinja_dict_methods[], jinja_list_methods[];
extern const struct jinja_builtin jinja_loop_methods[];
bool jinja_method(struct jinja_run *run, const struct jinja_value *owner, const char *name,
                  struct jinja_value *out, bool *found);

/* printf-style: text % value. */
bool jinja_format_percent(struct jinja_run *run, const struct jinja_string *format,
                          const struct jinja_value *value, struct jinja_value *out);
/* text.format(...) */
bool jinja_format_braces(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out);

/* Statements and calls. */
bool jinja_eval(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out);
bool jinja_exec(struct jinja_run *run, const struct jinja_node *body);
bool jinja_call_value(struct jinja_run *run, const struct jinja_value *callee,
                      const struct jinja_call *call, struct jinja_value *out);
bool jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                      const struct jinja_call *call, struct jinja_value *out);
bool jinja_call_loop(struct jinja_run *run, struct jinja_loop *loop, const struct jinja_call *call,
                     struct jinja_value *out);
bool jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop, const char *name,
                          struct jinja_value *out, bool *found);
/* Evaluates a CALL with one more keyword argument (NULL: none). */
bool jinja_eval_call(struct jinja_run *run, const struct jinja_node *node,
                     const struct jinja_keyword *extra, struct jinja_value *out);
/* Evaluates FILTERs; the innermost is applied to *piped where the tree ends (NULL: never). */
bool jinja_eval_filter(struct jinja_run *run, const struct jinja_node *node,
                       const struct jinja_value *piped, struct jinja_value *out);
/* Binds a name in the innermost scope. */
bool jinja_scope_set(struct jinja_run *run, uint32_t symbol, const struct jinja_value *value);
/* Makes a new, empty scope the innermost; to leave it, set run->scope back. */
bool jinja_scope_push(struct jinja_run *run, struct jinja_scope *parent);
bool jinja_assign(struct jinja_run *run, const struct jinja_node *target,
                  const struct jinja_value *value);
