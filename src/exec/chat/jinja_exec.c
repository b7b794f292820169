/* jinja_exec.c: statements, loops and macros. */
#include "exec/chat/jinja_run.h"

#include <string.h>

/* What the body prints, as a value. A break in it drops the text, as it would in jinja2. */
static bool capture(struct jinja_run *run, const struct jinja_node *body, struct jinja_value *out)
{
    size_t mark = run->out.len;
    struct jinja_scope *scope = run->scope;
    if (!jinja_scope_push(run, scope) || !jinja_exec(run, body)) return false;
    run->scope = scope;
    return jinja_take(run, mark, out);
}

static bool assign_namespace(struct jinja_run *run, const struct jinja_node *target,
                             const struct jinja_value *value)
{
    struct jinja_node name = {.kind = JINJA_N_NAME, .symbol = target->symbol, .line = target->line};
    struct jinja_value owner;
    if (!jinja_eval(run, &name, &owner)) return false;
    if (owner.kind != JINJA_NAMESPACE)
        return jinja_fail(run, SL_INVALID, "cannot assign attribute on non-namespace object");
    return jinja_dict_put(run, &owner, target->constant, *value);
}

static bool assign_tuple(struct jinja_run *run, const struct jinja_node *target,
                         const struct jinja_value *value)
{
    struct jinja_value items;
    if (!jinja_items(run, value, &items)) return false;
    if (items.list->n != target->children.n)
        return jinja_fail(run, SL_INVALID, "cannot unpack %zu values to %u names", items.list->n,
                          (unsigned)target->children.n);
    for (uint32_t i = 0; i < target->children.n; i++) {
        if (!jinja_assign(run, target->children.v[i], &items.list->items[i])) return false;
    }
    return true;
}

bool jinja_assign(struct jinja_run *run, const struct jinja_node *target,
                  const struct jinja_value *value)
{
    switch (target->kind) {
    case JINJA_N_NAMESPACE: return assign_namespace(run, target, value);
    case JINJA_N_TUPLE: return assign_tuple(run, target, value);
    default: return jinja_scope_set(run, target->symbol, value);
    }
}

/* --- loops */

static bool passes_filter(struct jinja_run *run, struct jinja_loop *loop,
                          const struct jinja_value *item, bool *out)
{
    struct jinja_scope *scope = run->scope;
    struct jinja_value test;
    if (!jinja_scope_push(run, loop->outer) || !jinja_assign(run, loop->node->a, item) ||
        !jinja_eval(run, loop->node->c, &test))
        return false;
    run->scope = scope;
    *out = jinja_truth(&test);
    return true;
}

/* The next item that passes the loop's filter; ABSENT at the end. */
static bool fetch(struct jinja_run *run, struct jinja_loop *loop, struct jinja_value *out)
{
    const struct jinja_list *items = loop->items.list;
    while (loop->next < items->n) {
        bool passes = true;
        *out = items->items[loop->next++];
        if (loop->node->c && !passes_filter(run, loop, out, &passes)) return false;
        if (passes) return true;
    }
    out->kind = JINJA_ABSENT;
    return true;
}

static bool look_ahead(struct jinja_run *run, struct jinja_loop *loop)
{
    return loop->after.kind != JINJA_ABSENT || fetch(run, loop, &loop->after);
}

/* The number of items; with a filter, all are put through it now. */
static bool loop_length(struct jinja_run *run, struct jinja_loop *loop, int64_t *out)
{
    if (loop->length < 0 && !loop->node->c) loop->length = (int64_t)loop->items.list->n;
    if (loop->length < 0) {
        struct jinja_value rest, item;
        if (!jinja_list(run, JINJA_LIST, 0, &rest)) return false;
        for (;;) {
            if (!fetch(run, loop, &item)) return false;
            if (item.kind == JINJA_ABSENT) break;
            if (!jinja_list_add(run, &rest, item)) return false;
        }
        loop->length =
            loop->index0 + 1 + (loop->after.kind != JINJA_ABSENT) + (int64_t)rest.list->n;
        struct jinja_node *unfiltered = jinja_alloc(run, 1, sizeof *unfiltered);
        if (!unfiltered) return false;
        *unfiltered = *loop->node;
        unfiltered->c = NULL;
        loop->node = unfiltered;
        loop->items = rest;
        loop->next = 0;
    }
    *out = loop->length;
    return true;
}

static bool neighbour(struct jinja_run *run, struct jinja_loop *loop, bool next,
                      struct jinja_value *out)
{
    if (next && !look_ahead(run, loop)) return false;
    const struct jinja_value *item = next ? &loop->after : &loop->before;
    if (item->kind != JINJA_ABSENT) return *out = *item, true;
    return jinja_undefined(run, next ? "there is no next item" : "there is no previous item", out);
}

bool jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop, const char *name,
                          struct jinja_value *out, bool *found)
{
    int64_t length;
    *found = true;
    if (strcmp(name, "index0") == 0) return *out = jinja_int(loop->index0), true;
    if (strcmp(name, "index") == 0) return *out = jinja_int(loop->index0 + 1), true;
    if (strcmp(name, "first") == 0) return *out = jinja_bool(loop->index0 == 0), true;
    if (strcmp(name, "depth0") == 0) return *out = jinja_int(loop->depth0), true;
    if (strcmp(name, "depth") == 0) return *out = jinja_int(loop->depth0 + 1), true;
    if (strcmp(name, "previtem") == 0) return neighbour(run, loop, false, out);
    if (strcmp(name, "nextitem") == 0) return neighbour(run, loop, true, out);
    if (strcmp(name, "last") == 0) {
        if (!look_ahead(run, loop)) return false;
        return *out = jinja_bool(loop->after.kind == JINJA_ABSENT), true;
    }
    bool back = strcmp(name, "revindex") == 0, back0 = strcmp(name, "revindex0") == 0;
    if (!back && !back0 && strcmp(name, "length") != 0) return *found = false, true;
    if (!loop_length(run, loop, &length)) return false;
    *out = jinja_int(back ? length - loop->index0 : back0 ? length - loop->index0 - 1 : length);
    return true;
}

static bool cycle(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    if (call->n_args < 2) return jinja_fail(run, SL_INVALID, "no items for cycling given");
    int64_t i = call->args[0].loop->index0 % (int64_t)(call->n_args - 1);
    *out = call->args[1 + i];
    return true;
}

static bool changed(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_loop *loop = call->args[0].loop;
    struct jinja_value now;
    bool same = false;
    if (!jinja_list(run, JINJA_TUPLE, call->n_args - 1, &now)) return false;
    for (size_t i = 1; i < call->n_args; i++) {
        if (!jinja_list_add(run, &now, call->args[i])) return false;
    }
    if (!jinja_equal(run, &loop->changed, &now, &same)) return false;
    loop->changed = now;
    *out = jinja_bool(!same);
    return true;
}

const struct jinja_builtin jinja_loop_methods[] = {
    {"cycle", cycle}, {"changed", changed}, {NULL, NULL}};

/* One turn: names, then the body. False in *more: the loop is over. */
static bool turn(struct jinja_run *run, struct jinja_loop *loop, bool *more)
{
    struct jinja_value item = loop->after;
    const struct jinja_value self = {JINJA_LOOP, {.loop = loop}};
    loop->after.kind = JINJA_ABSENT;
    if (item.kind == JINJA_ABSENT && !fetch(run, loop, &item)) return false;
    *more = item.kind != JINJA_ABSENT;
    if (!*more) return true;
    loop->index0++;
    loop->before = loop->current;
    loop->current = item;
    run->scope->n = 0;
    if (!jinja_scope_set(run, JINJA_SYMBOL_LOOP, &self) ||
        !jinja_assign(run, loop->node->a, &item) || !jinja_exec(run, loop->node->body))
        return false;
    *more = run->signal != JINJA_BREAK;
    run->signal = JINJA_GO_ON;
    return true;
}

static bool run_loop(struct jinja_run *run, const struct jinja_node *node,
                     struct jinja_scope *outer, const struct jinja_value *over, int64_t depth0)
{
    struct jinja_loop *loop = jinja_alloc(run, 1, sizeof *loop);
    struct jinja_scope *scope = run->scope;
    if (!loop) return false;
    loop->node = node;
    loop->outer = outer;
    loop->index0 = loop->length = -1;
    loop->depth0 = depth0;
    if (!jinja_items(run, over, &loop->items) || !jinja_scope_push(run, outer)) return false;
    for (bool more = true; more;) {
        if (!jinja_charge(run, 1) || !turn(run, loop, &more)) return false;
    }
    if (loop->index0 < 0 && node->orelse) {
        if (!jinja_scope_push(run, outer) || !jinja_exec(run, node->orelse)) return false;
    }
    run->scope = scope;
    return true;
}

bool jinja_call_loop(struct jinja_run *run, struct jinja_loop *loop, const struct jinja_call *call,
                     struct jinja_value *out)
{
    if (!loop->node->recursive)
        return jinja_fail(run, SL_INVALID,
                          "the loop must have the 'recursive' marker to be called recursively");
    if (call->n_args != 1) return jinja_fail(run, SL_INVALID, "loop() takes one argument");
    size_t mark = run->out.len;
    enum jinja_signal signal = run->signal;
    if (!run_loop(run, loop->node, loop->outer, &call->args[0], loop->depth0 + 1)) return false;
    run->signal = signal;
    return jinja_take(run, mark, out);
}

/* --- macros */

static const struct jinja_value *keyword(const struct jinja_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (strcmp(call->keywords[i].name, name) == 0) return &call->keywords[i].value;
    }
    return NULL;
}

/* A parameter that was not given takes its default, which may use the parameters before it. */
static bool default_parameter(struct jinja_run *run, const struct jinja_params *params, uint32_t i,
                              struct jinja_value *out)
{
    uint32_t first = params->n - params->defaults.n;
    if (i >= first) return jinja_eval(run, params->defaults.v[i - first], out);
    const char *name = run->tmpl->symbols[params->symbols[i]];
    char *hint = jinja_alloc(run, strlen(name) + 40, 1);
    if (!hint) return false;
    strcat(strcat(strcpy(hint, "parameter '"), name), "' was not provided");
    return jinja_undefined(run, hint, out);
}

static bool bind_parameters(struct jinja_run *run, const struct jinja_params *params,
                            const struct jinja_call *call)
{
    for (uint32_t i = 0; i < params->n; i++) {
        const struct jinja_value *given = i < call->n_args ? &call->args[i] : NULL;
        struct jinja_value value;
        if (!given) given = keyword(call, run->tmpl->symbols[params->symbols[i]]);
        if (!given) {
            if (!default_parameter(run, params, i, &value)) return false;
            given = &value;
        }
        if (!jinja_scope_set(run, params->symbols[i], given)) return false;
    }
    return true;
}

static bool is_parameter(const struct jinja_run *run, const struct jinja_params *params,
                         const char *name, size_t n_given)
{
    for (uint32_t i = (uint32_t)n_given; i < params->n; i++) {
        if (strcmp(run->tmpl->symbols[params->symbols[i]], name) == 0) return true;
    }
    return false;
}

static bool bind_caller(struct jinja_run *run, const struct jinja_call *call)
{
    const struct jinja_value *given = keyword(call, "caller");
    struct jinja_value none;
    if (!given) {
        if (!jinja_undefined(run, "No caller defined", &none)) return false;
        given = &none;
    }
    return jinja_scope_set(run, JINJA_SYMBOL_CALLER, given);
}

/* What the parameters did not take: to varargs and kwargs if the body has them, else a mistake. */
static bool bind_rest(struct jinja_run *run, const struct jinja_macro *macro,
                      const struct jinja_call *call)
{
    const struct jinja_params *params = macro->node->params;
    const char *name = run->tmpl->symbols[macro->node->symbol];
    struct jinja_value varargs, kwargs;
    if (!jinja_list(run, JINJA_TUPLE, 0, &varargs) || !jinja_dict(run, 0, &kwargs)) return false;
    if (call->n_args > params->n && !params->varargs)
        return jinja_fail(run, SL_INVALID, "macro '%.60s' takes not more than %u argument(s)", name,
                          (unsigned)params->n);
    for (size_t i = params->n; i < call->n_args; i++) {
        if (!jinja_list_add(run, &varargs, call->args[i])) return false;
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        const struct jinja_keyword *given = &call->keywords[i];
        struct jinja_value key;
        if (is_parameter(run, params, given->name, call->n_args)) continue;
        if (params->caller && strcmp(given->name, "caller") == 0) continue;
        if (!params->kwargs)
            return jinja_fail(run, SL_INVALID, "macro '%.60s' takes no keyword argument '%.60s'",
                              name, given->name);
        if (!jinja_string(run, given->name, strlen(given->name), &key) ||
            !jinja_dict_put(run, &kwargs, key, given->value))
            return false;
    }
    if (params->varargs && !jinja_scope_set(run, JINJA_SYMBOL_VARARGS, &varargs)) return false;
    return !params->kwargs || jinja_scope_set(run, JINJA_SYMBOL_KWARGS, &kwargs);
}

bool jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                      const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_scope *scope = run->scope;
    const struct jinja_params *params = macro->node->params;
    size_t mark = run->out.len;
    if (!jinja_enter(run) || !jinja_scope_push(run, macro->scope)) return false;
    if (params->caller && !bind_caller(run, call)) return false;
    if (!bind_rest(run, macro, call) || !bind_parameters(run, params, call)) return false;
    if (!jinja_exec(run, macro->node->body)) return false;
    run->scope = scope;
    jinja_leave(run);
    return jinja_take(run, mark, out);
}

static bool make_macro(struct jinja_run *run, const struct jinja_node *node,
                       struct jinja_value *out)
{
    struct jinja_macro *macro = jinja_alloc(run, 1, sizeof *macro);
    if (!macro) return false;
    *macro = (struct jinja_macro){node, run->scope};
    *out = (struct jinja_value){JINJA_MACRO, {.macro = macro}};
    return true;
}

/* --- statements */

static bool exec_if(struct jinja_run *run, const struct jinja_node *node)
{
    for (;;) {
        struct jinja_value test;
        if (!jinja_eval(run, node->a, &test)) return false;
        if (jinja_truth(&test)) return jinja_exec(run, node->body);
        const struct jinja_node *orelse = node->orelse;
        if (!orelse || orelse->kind != JINJA_N_IF || orelse->next) return jinja_exec(run, orelse);
        node = orelse; /* a chain of elif takes no depth */
    }
}

static bool exec_for(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value over;
    return jinja_eval(run, node->b, &over) && run_loop(run, node, run->scope, &over, 0);
}

static bool exec_set(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    return jinja_eval(run, node->b, &value) && jinja_assign(run, node->a, &value);
}

static bool exec_set_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value text, value;
    if (!capture(run, node->body, &text)) return false;
    if (run->signal != JINJA_GO_ON) return true;
    if (!node->b) return jinja_assign(run, node->a, &text);
    return jinja_eval_filter(run, node->b, &text, &value) && jinja_assign(run, node->a, &value);
}

static bool exec_macro(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value macro;
    return make_macro(run, node, &macro) && jinja_scope_set(run, node->symbol, &macro);
}

static bool exec_call_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_keyword caller = {.name = "caller"};
    struct jinja_value value;
    return make_macro(run, node->b, &caller.value) &&
           jinja_eval_call(run, node->a, &caller, &value) && jinja_put_str(run, &value);
}

static bool exec_filter_block(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value text, value;
    if (!capture(run, node->body, &text)) return false;
    if (run->signal != JINJA_GO_ON) return true;
    return jinja_eval_filter(run, node->a, &text, &value) && jinja_put_str(run, &value);
}

/* All values are computed before any name is bound. */
static bool exec_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_scope *scope = run->scope;
    uint32_t n = node->children.n / 2;
    struct jinja_value *values = jinja_alloc(run, n, sizeof *values);
    if (!values) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!jinja_eval(run, node->children.v[2 * i + 1], &values[i])) return false;
    }
    if (!jinja_scope_push(run, scope)) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!jinja_assign(run, node->children.v[2 * i], &values[i])) return false;
    }
    if (!jinja_exec(run, node->body)) return false;
    run->scope = scope;
    return true;
}

static bool exec_print(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    return jinja_eval(run, node->a, &value) && jinja_put_str(run, &value);
}

static bool exec_one(struct jinja_run *run, const struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_DATA: return jinja_put(run, node->constant.str->s, node->constant.str->n);
    case JINJA_N_PRINT: return exec_print(run, node);
    case JINJA_N_IF: return exec_if(run, node);
    case JINJA_N_FOR: return exec_for(run, node);
    case JINJA_N_SET: return exec_set(run, node);
    case JINJA_N_SET_BLOCK: return exec_set_block(run, node);
    case JINJA_N_MACRO: return exec_macro(run, node);
    case JINJA_N_CALL_BLOCK: return exec_call_block(run, node);
    case JINJA_N_FILTER_BLOCK: return exec_filter_block(run, node);
    case JINJA_N_WITH: return exec_with(run, node);
    case JINJA_N_BREAK: run->signal = JINJA_BREAK; return true;
    case JINJA_N_CONTINUE: run->signal = JINJA_CONTINUE; return true;
    default: return jinja_fail(run, SL_INTERNAL, "an expression stands for a statement");
    }
}

bool jinja_exec(struct jinja_run *run, const struct jinja_node *body)
{
    if (!jinja_enter(run)) return false;
    for (const struct jinja_node *node = body; node && run->signal == JINJA_GO_ON;
         node = node->next) {
        run->line = node->line;
        if (!jinja_charge(run, 1) || !exec_one(run, node)) return false;
    }
    jinja_leave(run);
    return true;
}
