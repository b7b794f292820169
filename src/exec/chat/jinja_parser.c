/* jinja_parser.c: statements, and what both parsers share. */
#include "exec/chat/jinja_parser.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "exec/chat/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SYMBOLS_MAX 4096 /* names in one template; gpt-oss has 80 */

const struct jinja_token *jinja_peek(const struct jinja_parser *p)
{
    return &p->tokens[p->at];
}

static bool is_token(const struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    const struct jinja_token *token = jinja_peek(p);
    return token->kind == kind && token->n == strlen(text) && memcmp(token->s, text, token->n) == 0;
}

bool jinja_at_operator(const struct jinja_parser *p, const char *op)
{
    return is_token(p, JINJA_T_OPERATOR, op);
}

bool jinja_at_name(const struct jinja_parser *p, const char *name)
{
    return is_token(p, JINJA_T_NAME, name);
}

bool jinja_skip_operator(struct jinja_parser *p, const char *op)
{
    bool here = jinja_at_operator(p, op);
    p->at += here;
    return here;
}

bool jinja_skip_name(struct jinja_parser *p, const char *name)
{
    bool here = jinja_at_name(p, name);
    p->at += here;
    return here;
}

bool jinja_expect_operator(struct jinja_parser *p, const char *op)
{
    return jinja_skip_operator(p, op) || jinja_parse_unexpected(p, op);
}

bool jinja_expect_name(struct jinja_parser *p, const char *name)
{
    return jinja_skip_name(p, name) || jinja_parse_unexpected(p, name);
}

static bool expect_block_end(struct jinja_parser *p)
{
    if (jinja_peek(p)->kind != JINJA_T_BLOCK_END) return jinja_parse_unexpected(p, "%}");
    p->at++;
    return true;
}

bool jinja_parse_fail(struct jinja_parser *p, int line, const char *fmt, ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return jinja_reader_fail(p->reader, SL_INVALID, line, "%s", text);
}

bool jinja_parse_unexpected(struct jinja_parser *p, const char *expected)
{
    const struct jinja_token *token = jinja_peek(p);
    static const char *const kinds[] = {
        [JINJA_T_END] = "end of the template", [JINJA_T_DATA] = "text",
        [JINJA_T_VARIABLE_BEGIN] = "{{",       [JINJA_T_VARIABLE_END] = "}}",
        [JINJA_T_BLOCK_BEGIN] = "{%",          [JINJA_T_BLOCK_END] = "%}",
    };
    int n = token->n > 40 ? 40 : (int)token->n;
    const char *found = token->kind < JINJA_T_NAME ? kinds[token->kind] : token->s;
    if (token->kind < JINJA_T_NAME) n = (int)strlen(found);
    if (!expected) return jinja_parse_fail(p, token->line, "unexpected '%.*s'", n, found);
    return jinja_parse_fail(p, token->line, "expected %s, got '%.*s'", expected, n, found);
}

bool jinja_parse_enter(struct jinja_parser *p)
{
    if (++p->depth <= JINJA_HEIGHT_MAX) return true;
    return jinja_reader_fail(p->reader, SL_LIMIT, jinja_peek(p)->line,
                             "nested deeper than %d levels", JINJA_HEIGHT_MAX);
}

void jinja_parse_leave(struct jinja_parser *p)
{
    p->depth--;
}

const char *jinja_copy_text(struct jinja_parser *p, const char *s, size_t n)
{
    char *copy = jinja_reader_alloc(p->reader, n + 1, 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

bool jinja_symbol(struct jinja_parser *p, const char *name, size_t n, uint32_t *out)
{
    struct jinja_symbols *symbols = &p->symbols;
    for (*out = 0; *out < symbols->n; ++*out) {
        if (strlen(symbols->names[*out]) == n && memcmp(symbols->names[*out], name, n) == 0)
            return true;
    }
    if (symbols->n == SYMBOLS_MAX)
        return jinja_reader_fail(p->reader, SL_LIMIT, jinja_peek(p)->line, "more than %d names",
                                 SYMBOLS_MAX);
    if (symbols->n == symbols->cap) {
        uint32_t cap = symbols->cap ? 2 * symbols->cap : 64;
        const char **names = jinja_reader_alloc(p->reader, cap, sizeof *names);
        if (!names) return false;
        if (symbols->n) memcpy(names, symbols->names, symbols->n * sizeof *names);
        symbols->names = names;
        symbols->cap = cap;
    }
    symbols->names[symbols->n] = jinja_copy_text(p, name, n);
    return symbols->names[symbols->n++] != NULL;
}

bool jinja_constant_text(struct jinja_parser *p, const char *s, size_t n, struct jinja_value *out)
{
    struct jinja_string *str = jinja_reader_alloc(p->reader, 1, sizeof *str);
    if (!str) return false;
    *str = (struct jinja_string){s, n, JINJA_CHARS_UNKNOWN};
    jinja_string_chars(str); /* now: a run must not write to the tree */
    *out = (struct jinja_value){JINJA_STRING, {.str = str}};
    return true;
}

struct jinja_node *jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, int line)
{
    struct jinja_node *node = jinja_reader_alloc(p->reader, 1, sizeof *node);
    if (!node) return NULL;
    node->kind = kind;
    node->line = line;
    node->height = 1;
    return node;
}

bool jinja_adopt(struct jinja_parser *p, struct jinja_node *node, const struct jinja_node *child)
{
    if (child && child->height >= node->height) node->height = child->height + 1;
    if (node->height <= JINJA_HEIGHT_MAX) return true;
    return jinja_reader_fail(p->reader, SL_LIMIT, node->line, "nested deeper than %d levels",
                             JINJA_HEIGHT_MAX);
}

bool jinja_push(struct jinja_parser *p, struct jinja_node *owner, struct jinja_node_list *list,
                struct jinja_node *child)
{
    if (list->n == list->cap) {
        uint32_t cap = list->cap ? 2 * list->cap : 4;
        struct jinja_node **v = jinja_reader_alloc(p->reader, cap, sizeof *v);
        if (!v) return false;
        if (list->n) memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = child;
    return jinja_adopt(p, owner, child);
}

/* The body of a statement: from its "%}" to "{%" and one of the names (NULL ends the list), which
 * stays unread. */
static bool parse_body(struct jinja_parser *p, struct jinja_node *owner, const char *const *ends,
                       struct jinja_node **out)
{
    jinja_skip_operator(p, ":");
    if (!expect_block_end(p) || !jinja_parse_enter(p)) return false;
    *out = jinja_parse_statements(p);
    jinja_parse_leave(p);
    if (p->reader->status != SL_OK) return false;
    for (size_t i = 0; ends[i]; i++) {
        if (!jinja_at_name(p, ends[i])) continue;
        for (const struct jinja_node *node = *out; node; node = node->next) {
            if (!jinja_adopt(p, owner, node)) return false;
        }
        return true;
    }
    if (jinja_peek(p)->kind == JINJA_T_END)
        return jinja_parse_fail(p, jinja_peek(p)->line,
                                "unexpected end of the template; %s is missing", ends[0]);
    return jinja_parse_fail(p, jinja_peek(p)->line, "unknown tag '%.*s'; %s is missing",
                            (int)(jinja_peek(p)->n > 40 ? 40 : jinja_peek(p)->n), jinja_peek(p)->s,
                            ends[0]);
}

/* The same to one end, which is read. */
static bool parse_body_to(struct jinja_parser *p, struct jinja_node *owner, const char *end,
                          struct jinja_node **out)
{
    const char *const ends[] = {end, NULL};
    if (!parse_body(p, owner, ends, out)) return false;
    p->at++;
    return true;
}

static bool parse_if(struct jinja_parser *p, struct jinja_node *node)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    struct jinja_node *branch = node;
    for (;;) {
        branch->a = jinja_parse_tuple(p, false, NULL);
        if (!branch->a || !jinja_adopt(p, branch, branch->a)) return false;
        if (!parse_body(p, branch, ends, &branch->body)) return false;
        if (!jinja_adopt(p, node, branch->body)) return false;
        if (node != branch && !jinja_adopt(p, node, branch)) return false;
        int line = jinja_peek(p)->line;
        if (jinja_skip_name(p, "endif")) return true;
        if (jinja_skip_name(p, "else")) return parse_body_to(p, node, "endif", &branch->orelse);
        p->at++;
        branch->orelse = jinja_node(p, JINJA_N_IF, line);
        branch = branch->orelse;
        if (!branch) return false;
    }
}

static bool parse_for(struct jinja_parser *p, struct jinja_node *node)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    node->a = jinja_parse_target(p, false);
    if (!node->a || !jinja_adopt(p, node, node->a) || !jinja_expect_name(p, "in")) return false;
    node->b = jinja_parse_tuple(p, false, "recursive");
    if (!node->b || !jinja_adopt(p, node, node->b)) return false;
    if (jinja_skip_name(p, "if")) {
        node->c = jinja_parse_expression(p, true);
        if (!node->c || !jinja_adopt(p, node, node->c)) return false;
    }
    node->recursive = jinja_skip_name(p, "recursive");
    p->loops++;
    bool ok = parse_body(p, node, ends, &node->body);
    p->loops--;
    if (!ok) return false;
    if (jinja_skip_name(p, "endfor")) return true;
    p->at++;
    return parse_body_to(p, node, "endfor", &node->orelse);
}

static bool parse_set(struct jinja_parser *p, struct jinja_node *node)
{
    node->a = jinja_parse_target(p, true);
    if (!node->a || !jinja_adopt(p, node, node->a)) return false;
    if (jinja_skip_operator(p, "=")) {
        node->b = jinja_parse_tuple(p, true, NULL);
        return node->b && jinja_adopt(p, node, node->b);
    }
    node->kind = JINJA_N_SET_BLOCK;
    if (!jinja_parse_filters(p, NULL, false, &node->b) || !jinja_adopt(p, node, node->b))
        return false;
    return parse_body_to(p, node, "endset", &node->body);
}

static bool add_parameter(struct jinja_parser *p, struct jinja_params *params, uint32_t *symbols,
                          struct jinja_node *owner)
{
    if (params->n == JINJA_HEIGHT_MAX)
        return jinja_parse_fail(p, owner->line, "too many parameters");
    struct jinja_node *name = jinja_parse_name(p);
    if (!name) return false;
    symbols[params->n++] = name->symbol;
    if (jinja_skip_operator(p, "=")) {
        struct jinja_node *value = jinja_parse_expression(p, true);
        return value && jinja_push(p, owner, &params->defaults, value);
    }
    return params->defaults.n == 0 ||
           jinja_parse_fail(p, owner->line, "non-default argument follows default argument");
}

/* "(a, b=1)" */
static bool parse_parameters(struct jinja_parser *p, struct jinja_node *owner, bool required)
{
    struct jinja_params *params = jinja_reader_alloc(p->reader, 1, sizeof *params);
    uint32_t *symbols = jinja_reader_alloc(p->reader, JINJA_HEIGHT_MAX, sizeof *symbols);
    if (!params || !symbols) return false;
    owner->params = params;
    params->symbols = symbols;
    if (!required && !jinja_at_operator(p, "(")) return true;
    if (!jinja_expect_operator(p, "(")) return false;
    while (!jinja_at_operator(p, ")")) {
        if (params->n && !jinja_expect_operator(p, ",")) return false;
        if (!add_parameter(p, params, symbols, owner)) return false;
    }
    return jinja_expect_operator(p, ")");
}

/* A macro's body, and whether it mentions the names that only exist when it does. */
static bool parse_macro_body(struct jinja_parser *p, struct jinja_node *node, const char *end)
{
    size_t from = p->at;
    uint32_t loops = p->loops;
    p->loops = 0;
    bool ok = parse_body_to(p, node, end, &node->body);
    p->loops = loops;
    for (size_t at = p->at; ok && from < at; from++) {
        struct jinja_parser here = {.tokens = p->tokens, .at = from};
        node->params->caller |= jinja_at_name(&here, "caller");
        node->params->varargs |= jinja_at_name(&here, "varargs");
        node->params->kwargs |= jinja_at_name(&here, "kwargs");
    }
    return ok;
}

static bool parse_macro(struct jinja_parser *p, struct jinja_node *node)
{
    struct jinja_node *name = jinja_parse_name(p);
    if (!name || !parse_parameters(p, node, true)) return false;
    node->symbol = name->symbol;
    return parse_macro_body(p, node, "endmacro");
}

static bool parse_call_block(struct jinja_parser *p, struct jinja_node *node)
{
    node->b = jinja_node(p, JINJA_N_MACRO, node->line);
    if (!node->b) return false;
    node->b->symbol = JINJA_SYMBOL_CALLER;
    if (!parse_parameters(p, node->b, false)) return false;
    node->a = jinja_parse_expression(p, true);
    if (!node->a || !jinja_adopt(p, node, node->a)) return false;
    if (node->a->kind != JINJA_N_CALL) return jinja_parse_fail(p, node->line, "expected call");
    return parse_macro_body(p, node->b, "endcall") && jinja_adopt(p, node, node->b);
}

static bool parse_filter_block(struct jinja_parser *p, struct jinja_node *node)
{
    if (!jinja_parse_filters(p, NULL, true, &node->a) || !jinja_adopt(p, node, node->a))
        return false;
    return parse_body_to(p, node, "endfilter", &node->body);
}

static bool parse_with(struct jinja_parser *p, struct jinja_node *node)
{
    while (jinja_peek(p)->kind != JINJA_T_BLOCK_END) {
        if (node->children.n && !jinja_expect_operator(p, ",")) return false;
        struct jinja_node *target = jinja_parse_target(p, false);
        if (!target || !jinja_push(p, node, &node->children, target)) return false;
        if (!jinja_expect_operator(p, "=")) return false;
        struct jinja_node *value = jinja_parse_expression(p, true);
        if (!value || !jinja_push(p, node, &node->children, value)) return false;
    }
    return parse_body_to(p, node, "endwith", &node->body);
}

/* Marks what the model wrote, for training; to print it, it is a scope like {% with %}. */
static bool parse_generation(struct jinja_parser *p, struct jinja_node *node)
{
    uint32_t loops = p->loops;
    p->loops = 0;
    bool ok = parse_body_to(p, node, "endgeneration", &node->body);
    p->loops = loops;
    return ok;
}

static bool parse_loop_control(struct jinja_parser *p, struct jinja_node *node)
{
    return p->loops > 0 || jinja_parse_fail(p, node->line, "'break' or 'continue' outside loop");
}

static const struct statement {
    const char *name;
    enum jinja_node_kind kind;
    bool (*parse)(struct jinja_parser *p, struct jinja_node *node);
} statements[] = {
    {"if", JINJA_N_IF, parse_if},
    {"for", JINJA_N_FOR, parse_for},
    {"set", JINJA_N_SET, parse_set},
    {"macro", JINJA_N_MACRO, parse_macro},
    {"call", JINJA_N_CALL_BLOCK, parse_call_block},
    {"filter", JINJA_N_FILTER_BLOCK, parse_filter_block},
    {"with", JINJA_N_WITH, parse_with},
    {"generation", JINJA_N_WITH, parse_generation},
    {"break", JINJA_N_BREAK, parse_loop_control},
    {"continue", JINJA_N_CONTINUE, parse_loop_control},
};

/* Behind "{%". NULL and no failure: no statement's name; it is for the caller to look at. */
static struct jinja_node *parse_statement(struct jinja_parser *p)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        int line = jinja_peek(p)->line;
        if (!jinja_skip_name(p, statements[i].name)) continue;
        struct jinja_node *node = jinja_node(p, statements[i].kind, line);
        return node && statements[i].parse(p, node) && expect_block_end(p) ? node : NULL;
    }
    if (jinja_peek(p)->kind != JINJA_T_NAME) jinja_parse_unexpected(p, "tag name");
    return NULL;
}

static struct jinja_node *parse_data(struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_peek(p);
    struct jinja_node *node = jinja_node(p, JINJA_N_DATA, token->line);
    p->at++;
    return node && jinja_constant_text(p, token->s, token->n, &node->constant) ? node : NULL;
}

static struct jinja_node *parse_print(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_PRINT, jinja_peek(p)->line);
    p->at++;
    node = node && (node->a = jinja_parse_tuple(p, true, NULL)) ? node : NULL;
    if (!node || !jinja_adopt(p, node, node->a)) return NULL;
    if (jinja_peek(p)->kind != JINJA_T_VARIABLE_END) return jinja_parse_unexpected(p, "}}"), NULL;
    p->at++;
    return node;
}

struct jinja_node *jinja_parse_statements(struct jinja_parser *p)
{
    struct jinja_node *first = NULL, **link = &first;
    while (jinja_peek(p)->kind != JINJA_T_END) {
        struct jinja_node *node;
        switch (jinja_peek(p)->kind) {
        case JINJA_T_DATA: node = parse_data(p); break;
        case JINJA_T_VARIABLE_BEGIN: node = parse_print(p); break;
        default:
            p->at++;
            node = parse_statement(p);
            if (!node) return first;
        }
        if (!node) return first;
        *link = node;
        link = &node->next;
    }
    return first;
}

/* Line breaks become \n, and one at the end goes, as jinja2 has it. */
static char *normalise(struct jinja_reader *reader, const char *source, size_t n, size_t *out_n)
{
    char *copy = jinja_reader_alloc(reader, n + 1, 1);
    size_t len = 0;
    if (!copy) return NULL;
    for (size_t i = 0; i < n; i++) {
        copy[len++] = source[i] == '\r' ? '\n' : source[i];
        if (source[i] == '\r' && i + 1 < n && source[i + 1] == '\n') i++;
    }
    if (len > 0 && copy[len - 1] == '\n') len--;
    *out_n = len;
    return copy;
}

static bool parse(struct jinja_reader *reader, const char *source, size_t n,
                  struct jinja_template *tmpl)
{
    struct jinja_tokens tokens;
    struct jinja_parser p = {.reader = reader};
    size_t len;
    const char *text = normalise(reader, source, n, &len);
    if (!text || !jinja_lex(reader, text, len, &tokens)) return false;
    p.tokens = tokens.v;
    static const char *const fixed[] = {
        [JINJA_SYMBOL_LOOP] = "loop",
        [JINJA_SYMBOL_CALLER] = "caller",
        [JINJA_SYMBOL_VARARGS] = "varargs",
        [JINJA_SYMBOL_KWARGS] = "kwargs",
    };
    for (uint32_t i = 0, symbol; i < sizeof fixed / sizeof *fixed; i++) {
        if (!jinja_symbol(&p, fixed[i], strlen(fixed[i]), &symbol)) return false;
    }
    tmpl->body = jinja_parse_statements(&p);
    if (reader->status != SL_OK) return false;
    const struct jinja_token *rest = jinja_peek(&p);
    if (rest->kind != JINJA_T_END)
        return jinja_parse_fail(&p, rest->line, "unknown tag '%.*s'",
                                (int)(rest->n > 40 ? 40 : rest->n), rest->s);
    tmpl->symbols = p.symbols.names;
    tmpl->n_symbols = p.symbols.n;
    return true;
}

const struct jinja_limits jinja_limits_default = {
    JINJA_SOURCE_BYTES_MAX, JINJA_MEMORY_BYTES_MAX, JINJA_OUTPUT_BYTES_MAX,
    JINJA_STEPS_MAX,        JINJA_DEPTH_MAX,        JINJA_RANGE_MAX,
};

sl_status jinja_create(const char *source, size_t n, const struct jinja_limits *limits,
                       struct jinja_template **out, struct sl_err *err)
{
    if (!limits) limits = &jinja_limits_default;
    if (n > limits->source_bytes)
        return sl_err_set(err, SL_LIMIT, "template of %zu bytes; at most %zu are taken", n,
                          limits->source_bytes);
    if (!sl_utf8_valid(source, n)) return sl_err_set(err, SL_INVALID, "template is not UTF-8");
    struct jinja_template *tmpl = sl_calloc(1, sizeof *tmpl);
    if (!tmpl) return sl_err_set(err, SL_NOMEM, "template: no memory");
    tmpl->limits = *limits;
    sl_arena_init(&tmpl->arena, limits->memory_bytes);
    struct jinja_reader reader = {.arena = &tmpl->arena, .limits = limits, .err = err};
    if (!parse(&reader, source, n, tmpl)) goto fail;
    *out = tmpl;
    return SL_OK;
fail:
    jinja_destroy(tmpl);
    return reader.status;
}

void jinja_destroy(struct jinja_template *tmpl)
{
    if (!tmpl) return;
    sl_arena_done(&tmpl->arena);
    sl_free(tmpl);
}
