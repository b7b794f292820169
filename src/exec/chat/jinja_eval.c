/* jinja_eval.c: expressions and calls. */
#include "exec/chat/jinja_run.h"

#include <string.h>

static bool eval_name(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    for (const struct jinja_scope *scope = run->scope; scope; scope = scope->parent) {
        for (uint32_t i = 0; i < scope->n; i++) {
            if (scope->vars[i].symbol != node->symbol) continue;
            *out = scope->vars[i].value;
            return true;
        }
    }
    *out = run->variables[node->symbol];
    if (out->kind != JINJA_ABSENT) return true;
    struct jinja_value name;
    const char *text = run->tmpl->symbols[node->symbol];
    return jinja_string(run, text, strlen(text), &name) &&
           jinja_undefined_in(run, NULL, &name, out);
}

static bool eval_children(struct jinja_run *run, const struct jinja_node *node,
                          enum jinja_kind kind, struct jinja_value *out)
{
    if (!jinja_list(run, kind, node->children.n, out)) return false;
    for (uint32_t i = 0; i < node->children.n; i++) {
        if (!jinja_eval(run, node->children.v[i], &out->list->items[i])) return false;
        out->list->n++;
    }
    return true;
}

static bool eval_dict(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    if (!jinja_dict(run, node->children.n / 2, out)) return false;
    for (uint32_t i = 0; i < node->children.n; i += 2) {
        struct jinja_value key, value;
        if (!jinja_eval(run, node->children.v[i], &key) ||
            !jinja_eval(run, node->children.v[i + 1], &value) ||
            !jinja_dict_put(run, out, key, value))
            return false;
    }
    return true;
}

static bool eval_slice(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_value *out)
{
    struct jinja_value owner, bounds[3];
    if (!jinja_eval(run, node->a, &owner)) return false;
    for (int i = 0; i < 3; i++) {
        bounds[i] = jinja_none();
        if (node->children.v[i] && !jinja_eval(run, node->children.v[i], &bounds[i])) return false;
    }
    run->line = node->line;
    return jinja_slice(run, &owner, bounds, out);
}

/* --- arguments */

struct gathering {
    struct jinja_value *args;
    size_t n_args;
    struct jinja_keyword *keywords;
    size_t n_keywords;
};

static bool gather_star(struct jinja_run *run, const struct jinja_node *node,
                        struct jinja_value *out)
{
    struct jinja_value value;
    if (!node) return jinja_list(run, JINJA_LIST, 0, out);
    return jinja_eval(run, node, &value) && jinja_items(run, &value, out);
}

static bool gather_star_star(struct jinja_run *run, const struct jinja_node *node,
                             struct jinja_value *out)
{
    if (!node) return jinja_dict(run, 0, out);
    if (!jinja_eval(run, node, out)) return false;
    return out->kind == JINJA_DICT || jinja_type_error(run, "after ** must be a mapping", out);
}

static bool add_keyword(struct jinja_run *run, struct gathering *g, const char *name,
                        struct jinja_value value)
{
    for (size_t i = 0; i < g->n_keywords; i++) {
        if (strcmp(g->keywords[i].name, name) == 0)
            return jinja_fail(run, SL_INVALID, "keyword argument repeated: %.60s", name);
    }
    g->keywords[g->n_keywords++] = (struct jinja_keyword){name, value};
    return true;
}

static bool gather_keywords(struct jinja_run *run, const struct jinja_node_args *args,
                            const struct jinja_value *more, struct gathering *g)
{
    for (uint32_t i = 0; i < args->keywords.n; i++) {
        struct jinja_value value;
        if (!jinja_eval(run, args->keywords.v[i], &value) ||
            !add_keyword(run, g, args->names[i], value))
            return false;
    }
    for (size_t i = 0; i < more->dict->n; i++) {
        const struct jinja_entry *entry = &more->dict->entries[i];
        if (entry->key.kind != JINJA_STRING)
            return jinja_fail(run, SL_INVALID, "keywords must be strings");
        char *name = jinja_alloc(run, entry->key.str->n + 1, 1);
        if (!name) return false;
        memcpy(name, entry->key.str->s, entry->key.str->n);
        if (!add_keyword(run, g, name, entry->value)) return false;
    }
    return true;
}

/* Evaluates arguments; `first` (NULL: none) comes before them. */
static bool gather(struct jinja_run *run, const struct jinja_node *node,
                   const struct jinja_value *first, const struct jinja_keyword *extra,
                   struct jinja_call *out)
{
    static const struct jinja_node_args none;
    const struct jinja_node_args *args = node->args ? node->args : &none;
    struct gathering g = {0};
    struct jinja_value star, star_star;
    if (!gather_star(run, args->star, &star) || !gather_star_star(run, args->star_star, &star_star))
        return false;
    g.args = jinja_alloc(run, 1 + args->positional.n + star.list->n, sizeof *g.args);
    g.keywords = jinja_alloc(run, 1 + args->keywords.n + star_star.dict->n, sizeof *g.keywords);
    if (!g.args || !g.keywords) return false;
    if (first) g.args[g.n_args++] = *first;
    for (uint32_t i = 0; i < args->positional.n; i++) {
        if (!jinja_eval(run, args->positional.v[i], &g.args[g.n_args++])) return false;
    }
    for (size_t i = 0; i < star.list->n; i++) g.args[g.n_args++] = star.list->items[i];
    if (!gather_keywords(run, args, &star_star, &g)) return false;
    if (extra && !add_keyword(run, &g, extra->name, extra->value)) return false;
    *out = (struct jinja_call){g.args, g.n_args, g.keywords, g.n_keywords, node->name};
    run->line = node->line;
    return true;
}

bool jinja_bind(struct jinja_run *run, const struct jinja_call *call, const char *const *names,
                size_t n_required, struct jinja_value *values)
{
    size_t n = 0;
    for (; names[n]; n++) values[n] = n < call->n_args ? call->args[n] : (struct jinja_value){0};
    if (call->n_args > n)
        return jinja_fail(run, SL_INVALID, "%s() takes at most %zu argument(s), %zu given",
                          call->name, n, call->n_args);
    for (size_t k = 0; k < call->n_keywords; k++) {
        size_t i = 0;
        while (names[i] && strcmp(names[i], call->keywords[k].name) != 0) i++;
        if (!names[i])
            return jinja_fail(run, SL_INVALID, "%s() got an unexpected keyword argument '%.60s'",
                              call->name, call->keywords[k].name);
        if (values[i].kind != JINJA_ABSENT)
            return jinja_fail(run, SL_INVALID, "%s() got multiple values for argument '%s'",
                              call->name, names[i]);
        values[i] = call->keywords[k].value;
    }
    for (size_t i = 0; i < n_required; i++) {
        if (values[i].kind == JINJA_ABSENT)
            return jinja_fail(run, SL_INVALID, "%s() is missing the argument '%s'", call->name,
                              names[i]);
    }
    return true;
}

/* --- calls */

static bool call_bound(struct jinja_run *run, const struct jinja_bound *bound,
                       const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value *args = jinja_alloc(run, call->n_args + 1, sizeof *args);
    if (!args) return false;
    args[0] = bound->self;
    if (call->n_args) memcpy(args + 1, call->args, call->n_args * sizeof *args);
    const struct jinja_call with_self = {args, call->n_args + 1, call->keywords, call->n_keywords,
                                         bound->method->name};
    return bound->method->run(run, &with_self, out);
}

bool jinja_call_value(struct jinja_run *run, const struct jinja_value *callee,
                      const struct jinja_call *call, struct jinja_value *out)
{
    switch (callee->kind) {
    case JINJA_METHOD: return call_bound(run, callee->bound, call, out);
    case JINJA_FUNCTION: {
        struct jinja_call named = *call;
        named.name = callee->function->name;
        return callee->function->run(run, &named, out);
    }
    case JINJA_MACRO: return jinja_call_macro(run, callee->macro, call, out);
    case JINJA_LOOP: return jinja_call_loop(run, callee->loop, call, out);
    default: return jinja_type_error(run, "is not callable", callee);
    }
}

bool jinja_eval_call(struct jinja_run *run, const struct jinja_node *node,
                     const struct jinja_keyword *extra, struct jinja_value *out)
{
    struct jinja_value callee;
    struct jinja_call call;
    return jinja_eval(run, node->a, &callee) && gather(run, node, NULL, extra, &call) &&
           jinja_call_value(run, &callee, &call, out);
}

bool jinja_eval_filter(struct jinja_run *run, const struct jinja_node *node,
                       const struct jinja_value *piped, struct jinja_value *out)
{
    struct jinja_value value;
    struct jinja_call call;
    if (node->a && node->a->kind == JINJA_N_FILTER) {
        if (!jinja_enter(run) || !jinja_eval_filter(run, node->a, piped, &value)) return false;
        jinja_leave(run);
    } else if (node->a) {
        if (!jinja_eval(run, node->a, &value)) return false;
    } else {
        value = *piped;
    }
    run->line = node->line;
    const struct jinja_builtin *filter = jinja_filter_find(node->name);
    if (!filter) return jinja_fail(run, SL_INVALID, "No filter named '%.60s'.", node->name);
    return gather(run, node, &value, NULL, &call) && filter->run(run, &call, out);
}

static bool eval_test(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value value;
    struct jinja_call call;
    const struct jinja_builtin *test = jinja_test_find(node->name);
    if (!test) return jinja_fail(run, SL_INVALID, "No test named '%.60s'.", node->name);
    return jinja_eval(run, node->a, &value) && gather(run, node, &value, NULL, &call) &&
           test->run(run, &call, out);
}

/* --- operators */

static bool eval_compare(struct jinja_run *run, const struct jinja_node *node,
                         struct jinja_value *out)
{
    struct jinja_value left, right;
    bool holds = true;
    if (!jinja_eval(run, node->a, &left)) return false;
    for (uint32_t i = 0; holds && i < node->children.n; i++) {
        if (!jinja_eval(run, node->children.v[i], &right)) return false;
        run->line = node->line;
        if (!jinja_compare(run, node->ops[i], &left, &right, &holds)) return false;
        left = right;
    }
    *out = jinja_bool(holds);
    return true;
}

static bool eval_concat(struct jinja_run *run, const struct jinja_node *node,
                        struct jinja_value *out)
{
    struct jinja_value items;
    size_t mark = run->out.len;
    if (!eval_children(run, node, JINJA_LIST, &items)) return false;
    for (size_t i = 0; i < items.list->n; i++) {
        if (!jinja_put_str(run, &items.list->items[i])) return false;
    }
    return jinja_take(run, mark, out);
}

static bool eval_binary(struct jinja_run *run, const struct jinja_node *node,
                        struct jinja_value *out)
{
    struct jinja_value a, b;
    if (!jinja_eval(run, node->a, &a) || !jinja_eval(run, node->b, &b)) return false;
    run->line = node->line;
    return jinja_binary(run, node->op, &a, &b, out);
}

static bool eval_unary(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_value *out)
{
    struct jinja_value a;
    if (!jinja_eval(run, node->a, &a)) return false;
    if (node->kind == JINJA_N_NOT) return *out = jinja_bool(!jinja_truth(&a)), true;
    run->line = node->line;
    return jinja_unary(run, node->op, &a, out);
}

static bool eval_and_or(struct jinja_run *run, const struct jinja_node *node,
                        struct jinja_value *out)
{
    if (!jinja_eval(run, node->a, out)) return false;
    if (jinja_truth(out) == (node->kind == JINJA_N_OR)) return true;
    return jinja_eval(run, node->b, out);
}

static bool eval_condition(struct jinja_run *run, const struct jinja_node *node,
                           struct jinja_value *out)
{
    struct jinja_value test;
    if (!jinja_eval(run, node->a, &test)) return false;
    if (jinja_truth(&test)) return jinja_eval(run, node->b, out);
    if (node->c) return jinja_eval(run, node->c, out);
    return jinja_undefined(run,
                           "the inline if-expression evaluated to false and no else section "
                           "was defined.",
                           out);
}

static bool eval_attribute(struct jinja_run *run, const struct jinja_node *node,
                           struct jinja_value *out)
{
    struct jinja_value owner;
    if (!jinja_eval(run, node->a, &owner)) return false;
    run->line = node->line;
    return jinja_get_attribute(run, &owner, &node->constant, out);
}

static bool eval_item(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value owner, key;
    if (!jinja_eval(run, node->a, &owner) || !jinja_eval(run, node->b, &key)) return false;
    run->line = node->line;
    return jinja_get_item(run, &owner, &key, out);
}

static bool eval_one(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    switch (node->kind) {
    case JINJA_N_CONST: *out = node->constant; return true;
    case JINJA_N_NAME: return eval_name(run, node, out);
    case JINJA_N_LIST: return eval_children(run, node, JINJA_LIST, out);
    case JINJA_N_TUPLE: return eval_children(run, node, JINJA_TUPLE, out);
    case JINJA_N_DICT: return eval_dict(run, node, out);
    case JINJA_N_ATTRIBUTE: return eval_attribute(run, node, out);
    case JINJA_N_ITEM: return eval_item(run, node, out);
    case JINJA_N_SLICE: return eval_slice(run, node, out);
    case JINJA_N_CALL: return jinja_eval_call(run, node, NULL, out);
    case JINJA_N_FILTER: return jinja_eval_filter(run, node, NULL, out);
    case JINJA_N_TEST: return eval_test(run, node, out);
    case JINJA_N_UNARY:
    case JINJA_N_NOT: return eval_unary(run, node, out);
    case JINJA_N_BINARY: return eval_binary(run, node, out);
    case JINJA_N_COMPARE: return eval_compare(run, node, out);
    case JINJA_N_CONCAT: return eval_concat(run, node, out);
    case JINJA_N_AND:
    case JINJA_N_OR: return eval_and_or(run, node, out);
    case JINJA_N_COND: return eval_condition(run, node, out);
    default: return jinja_fail(run, SL_INTERNAL, "a statement stands for an expression");
    }
}

bool jinja_eval(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out)
{
    run->line = node->line;
    if (!jinja_charge(run, 1) || !jinja_enter(run)) return false;
    bool ok = eval_one(run, node, out);
    jinja_leave(run);
    return ok;
}
