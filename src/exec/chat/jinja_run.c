/* jinja_run.c: a rendering from beginning to end: limits, scopes, the caller's variables. */
#include "exec/chat/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool jinja_fail(struct jinja_run *run, sl_status status, const char *fmt, ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    run->status = sl_err_set(run->err, status, "template line %d: %s", run->line, text);
    return false;
}

bool jinja_fail_memory(struct jinja_run *run)
{
    return jinja_fail(run, SL_NOMEM, "no memory");
}

bool jinja_type_error(struct jinja_run *run, const char *what, const struct jinja_value *value)
{
    if (value->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, value);
    return jinja_fail(run, SL_INVALID, "object of type '%s' %s", jinja_type_name(value), what);
}

/* jinja2's name for what lacks an attribute. */
static void owner_text(const struct jinja_value *owner, char *out, size_t size)
{
    if (owner->kind == JINJA_NONE) {
        snprintf(out, size, "None");
    } else {
        snprintf(out, size, "%s%s object", owner->kind == JINJA_NAMESPACE ? "jinja2.utils." : "",
                 jinja_type_name(owner));
    }
}

bool jinja_fail_undefined(struct jinja_run *run, const struct jinja_value *undefined)
{
    const struct jinja_undefined *why = undefined->undefined;
    char owner[64];
    struct jinja_value name;
    if (why->hint) return jinja_fail(run, SL_INVALID, "%s", why->hint);
    size_t mark = run->out.len;
    if (!jinja_put_repr(run, &why->name) || !jinja_take(run, mark, &name)) return false;
    int n = name.str->n > 200 ? 200 : (int)name.str->n;
    owner_text(&why->owner, owner, sizeof owner);
    if (why->owner.kind == JINJA_ABSENT)
        return jinja_fail(run, SL_INVALID, "%.*s is undefined", n, name.str->s);
    if (why->name.kind == JINJA_STRING)
        return jinja_fail(run, SL_INVALID, "'%s' has no attribute %.*s", owner, n, name.str->s);
    return jinja_fail(run, SL_INVALID, "%s has no element %.*s", owner, n, name.str->s);
}

void *jinja_alloc(struct jinja_run *run, size_t count, size_t size)
{
    void *p = sl_arena_array(&run->arena, count, size);
    if (p) return p;
    size_t left = run->arena.max_bytes - run->arena.used_bytes, n_bytes;
    bool full = __builtin_mul_overflow(count, size, &n_bytes) || n_bytes + 16 > left;
    jinja_fail(run, full ? SL_LIMIT : SL_NOMEM,
               full ? "needs more than %zu bytes" : "no memory (of %zu bytes)",
               run->arena.max_bytes);
    return NULL;
}

bool jinja_charge(struct jinja_run *run, uint64_t steps)
{
    if (steps > run->steps_left) {
        run->steps_left = 0;
        return jinja_fail(run, SL_LIMIT, "takes more than %llu steps",
                          (unsigned long long)run->limits->steps);
    }
    run->steps_left -= steps;
    return true;
}

bool jinja_charge_bytes(struct jinja_run *run, size_t n)
{
    return jinja_charge(run, n / JINJA_BYTES_A_STEP);
}

bool jinja_enter(struct jinja_run *run)
{
    if (++run->depth <= run->limits->depth) return true;
    return jinja_fail(run, SL_LIMIT, "nested deeper than %u levels", (unsigned)run->limits->depth);
}

void jinja_leave(struct jinja_run *run)
{
    run->depth--;
}

bool jinja_scope_push(struct jinja_run *run, struct jinja_scope *parent)
{
    struct jinja_scope *scope = jinja_alloc(run, 1, sizeof *scope);
    if (!scope) return false;
    scope->parent = parent;
    run->scope = scope;
    return true;
}

bool jinja_scope_set(struct jinja_run *run, uint32_t symbol, const struct jinja_value *value)
{
    struct jinja_scope *scope = run->scope;
    for (uint32_t i = 0; i < scope->n; i++) {
        if (scope->vars[i].symbol != symbol) continue;
        scope->vars[i].value = *value;
        return true;
    }
    if (scope->n == scope->cap) {
        uint32_t cap = scope->cap ? 2 * scope->cap : 8;
        struct jinja_binding *vars = jinja_alloc(run, cap, sizeof *vars);
        if (!vars) return false;
        if (scope->n) memcpy(vars, scope->vars, scope->n * sizeof *vars);
        scope->vars = vars;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (struct jinja_binding){symbol, *value};
    return true;
}

/* The text variables, the caller's variables, the globals: the first that has the name. */
static bool find_variable(struct jinja_run *run, const char *name, struct jinja_value *out)
{
    const struct sl_json_value *json = sl_json_get(run->input->variables, name);
    if (json) {
        if (!jinja_from_json(run, json, false, out)) return false;
        return !run->input->adapt || run->input->adapt(run->input->context, run, name, out);
    }
    for (const struct jinja_text *text = run->input->texts; text && text->name; text++) {
        if (text->text && strcmp(text->name, name) == 0)
            return jinja_string(run, text->text, strlen(text->text), out);
    }
    const struct jinja_builtin *function = jinja_global_find(name);
    if (function) *out = (struct jinja_value){JINJA_FUNCTION, {.function = function}};
    return true;
}

static bool run_template(struct jinja_run *run)
{
    const struct jinja_template *tmpl = run->tmpl;
    run->line = 1;
    run->variables = jinja_alloc(run, tmpl->n_symbols, sizeof *run->variables);
    if (!run->variables || !jinja_scope_push(run, NULL)) return false;
    for (uint32_t i = 0; i < tmpl->n_symbols; i++) {
        if (!find_variable(run, tmpl->symbols[i], &run->variables[i])) return false;
    }
    return jinja_exec(run, tmpl->body);
}

sl_status jinja_render(const struct jinja_template *tmpl, const struct jinja_input *input,
                       struct sl_buf *out, struct sl_err *err)
{
    struct jinja_run run = {
        .tmpl = tmpl,
        .limits = &tmpl->limits,
        .input = input,
        .err = err,
        .steps_left = tmpl->limits.steps,
    };
    sl_arena_init(&run.arena, tmpl->limits.memory_bytes);
    sl_buf_init(&run.out, tmpl->limits.output_bytes);
    if (run_template(&run)) {
        run.status = sl_buf_add(out, run.out.data, run.out.len);
        if (run.status != SL_OK)
            sl_err_set(err, run.status, "template: prints %zu bytes; there is room for %zu",
                       run.out.len, out->max - out->len);
    }
    sl_buf_done(&run.out);
    sl_arena_done(&run.arena);
    return run.status;
}
