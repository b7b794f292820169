/* jinja_parse_expr.c: expressions, by the grammar of jinja2/parser.py: its precedences are not
 * Python's everywhere (~ binds tighter than +, unary minus tighter than **). */
#include "exec/chat/jinja_parser.h"

#include <string.h>

static struct jinja_node *parse_or(struct jinja_parser *p);
static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter);

static struct jinja_node *pair(struct jinja_parser *p, enum jinja_node_kind kind, int line,
                               struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *node = b ? jinja_node(p, kind, line) : NULL;
    if (!node || !jinja_adopt(p, node, a) || !jinja_adopt(p, node, b)) return NULL;
    node->a = a;
    node->b = b;
    return node;
}

struct jinja_node *jinja_parse_name(struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_peek(p);
    if (token->kind != JINJA_T_NAME) return jinja_parse_unexpected(p, "a name"), NULL;
    struct jinja_node *node = jinja_node(p, JINJA_N_NAME, token->line);
    if (!node || !jinja_symbol(p, token->s, token->n, &node->symbol)) return NULL;
    p->at++;
    return node;
}

static struct jinja_node *constant(struct jinja_parser *p, struct jinja_value value)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_CONST, jinja_peek(p)->line);
    if (node) node->constant = value;
    p->at++;
    return node;
}

/* true, none and their like; NULL and no failure for any other name. */
static struct jinja_node *parse_named_constant(struct jinja_parser *p)
{
    static const struct {
        const char *name;
        struct jinja_value value;
    } known[] = {
        {"true", {JINJA_BOOL, {.b = true}}},   {"True", {JINJA_BOOL, {.b = true}}},
        {"false", {JINJA_BOOL, {.b = false}}}, {"False", {JINJA_BOOL, {.b = false}}},
        {"none", {JINJA_NONE, {0}}},           {"None", {JINJA_NONE, {0}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (jinja_at_name(p, known[i].name)) return constant(p, known[i].value);
    }
    return NULL;
}

/* Strings that follow each other are one. */
static struct jinja_node *parse_strings(struct jinja_parser *p)
{
    const struct jinja_token *first = jinja_peek(p);
    size_t n = 0, count = 0;
    for (; first[count].kind == JINJA_T_STRING; count++) n += first[count].n;
    char *text = jinja_reader_alloc(p->reader, n + 1, 1);
    struct jinja_node *node = text ? jinja_node(p, JINJA_N_CONST, first->line) : NULL;
    if (!node) return NULL;
    n = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(text + n, first[i].s, first[i].n);
        n += first[i].n;
    }
    p->at += count;
    return jinja_constant_text(p, text, n, &node->constant) ? node : NULL;
}

/* Items up to the closing bracket; a comma may end them. */
static struct jinja_node *parse_list(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_LIST, jinja_peek(p)->line);
    if (!node || !jinja_expect_operator(p, "[")) return NULL;
    while (!jinja_at_operator(p, "]")) {
        if (node->children.n && !jinja_expect_operator(p, ",")) return NULL;
        if (jinja_at_operator(p, "]")) break;
        struct jinja_node *item = jinja_parse_expression(p, true);
        if (!item || !jinja_push(p, node, &node->children, item)) return NULL;
    }
    return jinja_expect_operator(p, "]") ? node : NULL;
}

static struct jinja_node *parse_dict(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_DICT, jinja_peek(p)->line);
    if (!node || !jinja_expect_operator(p, "{")) return NULL;
    while (!jinja_at_operator(p, "}")) {
        if (node->children.n && !jinja_expect_operator(p, ",")) return NULL;
        if (jinja_at_operator(p, "}")) break;
        struct jinja_node *key = jinja_parse_expression(p, true);
        if (!key || !jinja_push(p, node, &node->children, key)) return NULL;
        if (!jinja_expect_operator(p, ":")) return NULL;
        struct jinja_node *value = jinja_parse_expression(p, true);
        if (!value || !jinja_push(p, node, &node->children, value)) return NULL;
    }
    return jinja_expect_operator(p, "}") ? node : NULL;
}

static struct jinja_node *parse_parentheses(struct jinja_parser *p)
{
    int line = jinja_peek(p)->line;
    if (!jinja_expect_operator(p, "(")) return NULL;
    if (jinja_skip_operator(p, ")")) return jinja_node(p, JINJA_N_TUPLE, line);
    struct jinja_node *node = jinja_parse_tuple(p, true, NULL);
    return node && jinja_expect_operator(p, ")") ? node : NULL;
}

static struct jinja_node *parse_primary(struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_peek(p);
    switch (token->kind) {
    case JINJA_T_NAME: {
        struct jinja_node *node = parse_named_constant(p);
        return node || p->reader->status != SL_OK ? node : jinja_parse_name(p);
    }
    case JINJA_T_STRING: return parse_strings(p);
    case JINJA_T_INT: return constant(p, (struct jinja_value){JINJA_INT, {.i = token->i}});
    case JINJA_T_FLOAT: return constant(p, (struct jinja_value){JINJA_FLOAT, {.f = token->f}});
    case JINJA_T_OPERATOR:
        if (jinja_at_operator(p, "(")) return parse_parentheses(p);
        if (jinja_at_operator(p, "[")) return parse_list(p);
        if (jinja_at_operator(p, "{")) return parse_dict(p);
        break;
    default: break;
    }
    return jinja_parse_unexpected(p, NULL), NULL;
}

static bool parse_keyword(struct jinja_parser *p, struct jinja_node *owner,
                          struct jinja_node_args *args)
{
    const struct jinja_token *token = jinja_peek(p);
    const char *name = jinja_copy_text(p, token->s, token->n);
    p->at += 2;
    struct jinja_node *value = name ? jinja_parse_expression(p, true) : NULL;
    if (!value) return false;
    uint32_t n = args->keywords.n;
    if ((n & (n - 1)) == 0) { /* full at every power of two */
        const char **names = jinja_reader_alloc(p->reader, n ? 2 * n : 1, sizeof *names);
        if (!names) return false;
        if (n) memcpy(names, args->names, n * sizeof *names);
        args->names = names;
    }
    args->names[n] = name;
    return jinja_push(p, owner, &args->keywords, value);
}

static bool parse_argument(struct jinja_parser *p, struct jinja_node *owner,
                           struct jinja_node_args *args)
{
    const struct jinja_token *token = jinja_peek(p);
    bool keyword = token->kind == JINJA_T_NAME && token[1].kind == JINJA_T_OPERATOR &&
                   token[1].n == 1 && token[1].s[0] == '=';
    bool star = jinja_skip_operator(p, "*"), star_star = !star && jinja_skip_operator(p, "**");
    bool late = args->star_star || (args->star && !keyword && !star_star);
    if (late || (args->keywords.n && !keyword && !star && !star_star))
        return jinja_parse_fail(p, token->line, "invalid syntax for function call expression");
    if (keyword) return parse_keyword(p, owner, args);
    struct jinja_node *value = jinja_parse_expression(p, true);
    if (!value || !jinja_adopt(p, owner, value)) return false;
    if (star) args->star = value;
    if (star_star) args->star_star = value;
    return star || star_star || jinja_push(p, owner, &args->positional, value);
}

static bool parse_arguments(struct jinja_parser *p, struct jinja_node *owner)
{
    struct jinja_node_args *args = jinja_reader_alloc(p->reader, 1, sizeof *args);
    bool first = true;
    owner->args = args;
    if (!args || !jinja_expect_operator(p, "(")) return false;
    while (!jinja_at_operator(p, ")")) {
        if (!first && !jinja_expect_operator(p, ",")) return false;
        if (jinja_at_operator(p, ")")) break;
        if (!parse_argument(p, owner, args)) return false;
        first = false;
    }
    return jinja_expect_operator(p, ")");
}

/* The optional part of a slice in front of ':' , ',' or ']'; NULL and true when there is none. */
static bool parse_bound(struct jinja_parser *p, struct jinja_node *owner, struct jinja_node **out)
{
    *out = NULL;
    if (jinja_at_operator(p, ":") || jinja_at_operator(p, ",") || jinja_at_operator(p, "]"))
        return true;
    *out = jinja_parse_expression(p, true);
    return *out && jinja_adopt(p, owner, *out);
}

static struct jinja_node *parse_slice(struct jinja_parser *p, struct jinja_node *owner,
                                      struct jinja_node *start)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_SLICE, jinja_peek(p)->line);
    struct jinja_node **bounds = jinja_reader_alloc(p->reader, 3, sizeof *bounds);
    if (!node || !bounds) return NULL;
    node->a = owner;
    node->children = (struct jinja_node_list){bounds, 3, 3};
    bounds[0] = start;
    if (!jinja_adopt(p, node, owner) || !jinja_adopt(p, node, start)) return NULL;
    if (!jinja_expect_operator(p, ":") || !parse_bound(p, node, &bounds[1])) return NULL;
    if (jinja_skip_operator(p, ":") && !parse_bound(p, node, &bounds[2])) return NULL;
    return jinja_expect_operator(p, "]") ? node : NULL;
}

static struct jinja_node *parse_subscript(struct jinja_parser *p, struct jinja_node *owner)
{
    int line = jinja_peek(p)->line;
    if (!jinja_expect_operator(p, "[")) return NULL;
    struct jinja_node *key = NULL;
    if (!jinja_at_operator(p, ":") && !(key = jinja_parse_tuple(p, true, NULL))) return NULL;
    if (jinja_at_operator(p, ":")) return parse_slice(p, owner, key);
    struct jinja_node *node = pair(p, JINJA_N_ITEM, line, owner, key);
    return node && jinja_expect_operator(p, "]") ? node : NULL;
}

/* ".name" or ".0" */
static struct jinja_node *parse_attribute(struct jinja_parser *p, struct jinja_node *owner)
{
    int line = jinja_peek(p)->line;
    if (!jinja_expect_operator(p, ".")) return NULL;
    const struct jinja_token *token = jinja_peek(p);
    if (token->kind == JINJA_T_INT) return pair(p, JINJA_N_ITEM, line, owner, parse_primary(p));
    if (token->kind != JINJA_T_NAME) return jinja_parse_unexpected(p, "name or number"), NULL;
    struct jinja_node *node = jinja_node(p, JINJA_N_ATTRIBUTE, line);
    if (!node || !jinja_adopt(p, node, owner)) return NULL;
    const char *name = jinja_copy_text(p, token->s, token->n);
    if (!name || !jinja_constant_text(p, name, token->n, &node->constant)) return NULL;
    node->a = owner;
    p->at++;
    return node;
}

static struct jinja_node *parse_call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_CALL, jinja_peek(p)->line);
    if (!node || !jinja_adopt(p, node, callee)) return NULL;
    node->a = callee;
    return parse_arguments(p, node) ? node : NULL;
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node)
{
    while (node) {
        if (jinja_at_operator(p, ".")) {
            node = parse_attribute(p, node);
        } else if (jinja_at_operator(p, "[")) {
            node = parse_subscript(p, node);
        } else if (jinja_at_operator(p, "(")) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

/* NAME(.NAME)* of a filter or test. */
static const char *parse_dotted(struct jinja_parser *p)
{
    const struct jinja_token *first = jinja_peek(p);
    if (first->kind != JINJA_T_NAME) return jinja_parse_unexpected(p, "a name"), NULL;
    p->at++;
    const struct jinja_token *last = first;
    while (jinja_skip_operator(p, ".")) {
        last = jinja_peek(p);
        if (last->kind != JINJA_T_NAME) return jinja_parse_unexpected(p, "a name"), NULL;
        p->at++;
    }
    return jinja_copy_text(p, first->s, (size_t)(last->s + last->n - first->s));
}

bool jinja_parse_filters(struct jinja_parser *p, struct jinja_node *applied_to, bool without_pipe,
                         struct jinja_node **out)
{
    *out = applied_to;
    while (without_pipe || jinja_skip_operator(p, "|")) {
        without_pipe = false;
        struct jinja_node *node = jinja_node(p, JINJA_N_FILTER, jinja_peek(p)->line);
        if (!node || !jinja_adopt(p, node, *out)) return false;
        node->a = *out;
        node->name = parse_dotted(p);
        if (!node->name) return false;
        if (jinja_at_operator(p, "(") && !parse_arguments(p, node)) return false;
        *out = node;
    }
    return true;
}

/* Does an argument without parentheses follow, as in "x is divisibleby 3"? */
static bool at_test_argument(const struct jinja_parser *p)
{
    switch (jinja_peek(p)->kind) {
    case JINJA_T_NAME:
        return !jinja_at_name(p, "else") && !jinja_at_name(p, "or") && !jinja_at_name(p, "and");
    case JINJA_T_STRING:
    case JINJA_T_INT:
    case JINJA_T_FLOAT: return true;
    default: return jinja_at_operator(p, "[") || jinja_at_operator(p, "{");
    }
}

static bool parse_test_arguments(struct jinja_parser *p, struct jinja_node *node)
{
    if (jinja_at_operator(p, "(")) return parse_arguments(p, node);
    if (!at_test_argument(p)) return true;
    if (jinja_at_name(p, "is"))
        return jinja_parse_fail(p, jinja_peek(p)->line, "You cannot chain multiple tests with is");
    node->args = jinja_reader_alloc(p->reader, 1, sizeof *node->args);
    struct jinja_node *arg = node->args ? parse_postfix(p, parse_primary(p)) : NULL;
    return arg && jinja_push(p, node, &node->args->positional, arg);
}

static struct jinja_node *negate(struct jinja_parser *p, int line, struct jinja_node *a)
{
    struct jinja_node *node = a ? jinja_node(p, JINJA_N_NOT, line) : NULL;
    if (!node || !jinja_adopt(p, node, a)) return NULL;
    node->a = a;
    return node;
}

static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *value)
{
    int line = jinja_peek(p)->line;
    if (!jinja_expect_name(p, "is")) return NULL;
    bool negated = jinja_skip_name(p, "not");
    struct jinja_node *node = jinja_node(p, JINJA_N_TEST, line);
    if (!node || !jinja_adopt(p, node, value)) return NULL;
    node->a = value;
    node->name = parse_dotted(p);
    if (!node->name || !parse_test_arguments(p, node)) return NULL;
    return negated ? negate(p, line, node) : node;
}

static struct jinja_node *parse_filters_and_tests(struct jinja_parser *p, struct jinja_node *node)
{
    while (node) {
        if (jinja_at_operator(p, "|")) {
            if (!jinja_parse_filters(p, node, false, &node)) return NULL;
        } else if (jinja_at_name(p, "is")) {
            node = parse_test(p, node);
        } else if (jinja_at_operator(p, "(")) {
            node = parse_call(p, node);
        } else {
            break;
        }
    }
    return node;
}

static struct jinja_node *parse_signed(struct jinja_parser *p, enum jinja_op op)
{
    int line = jinja_peek(p)->line;
    p->at++;
    if (!jinja_parse_enter(p)) return NULL;
    struct jinja_node *a = parse_unary(p, false);
    jinja_parse_leave(p);
    struct jinja_node *node = a ? jinja_node(p, JINJA_N_UNARY, line) : NULL;
    if (!node || !jinja_adopt(p, node, a)) return NULL;
    node->op = op;
    node->a = a;
    return node;
}

static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter)
{
    struct jinja_node *node;
    if (jinja_at_operator(p, "-")) {
        node = parse_signed(p, JINJA_OP_NEG);
    } else if (jinja_at_operator(p, "+")) {
        node = parse_signed(p, JINJA_OP_POS);
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    return with_filter ? parse_filters_and_tests(p, node) : node;
}

/* The levels of binary operators, loosest first; "~" makes one node of all its operands. */
static const struct level {
    struct {
        const char *text;
        enum jinja_op op;
    } ops[4];
} levels[] = {
    {{{"+", JINJA_OP_ADD}, {"-", JINJA_OP_SUB}}},
    {{{"~", JINJA_OP_ADD}}},
    {{{"*", JINJA_OP_MUL}, {"/", JINJA_OP_DIV}, {"//", JINJA_OP_FLOOR_DIV}, {"%", JINJA_OP_MOD}}},
    {{{"**", JINJA_OP_POW}}},
};
#define N_LEVELS (sizeof levels / sizeof *levels)
#define LEVEL_CONCAT 1

static bool skip_level_operator(struct jinja_parser *p, const struct level *level,
                                enum jinja_op *out)
{
    for (size_t i = 0; i < 4 && level->ops[i].text; i++) {
        *out = level->ops[i].op;
        if (jinja_skip_operator(p, level->ops[i].text)) return true;
    }
    return false;
}

static struct jinja_node *parse_level(struct jinja_parser *p, size_t i);

static struct jinja_node *parse_concat(struct jinja_parser *p, struct jinja_node *first)
{
    struct jinja_node *node = jinja_node(p, JINJA_N_CONCAT, first->line);
    if (!node || !jinja_push(p, node, &node->children, first)) return NULL;
    while (jinja_skip_operator(p, "~")) {
        struct jinja_node *next = parse_level(p, LEVEL_CONCAT + 1);
        if (!next || !jinja_push(p, node, &node->children, next)) return NULL;
    }
    return node;
}

static struct jinja_node *parse_level(struct jinja_parser *p, size_t i)
{
    if (i == N_LEVELS) return parse_unary(p, true);
    struct jinja_node *left = parse_level(p, i + 1);
    if (left && i == LEVEL_CONCAT && jinja_at_operator(p, "~")) return parse_concat(p, left);
    enum jinja_op op;
    int line = jinja_peek(p)->line;
    while (left && skip_level_operator(p, &levels[i], &op)) {
        left = pair(p, JINJA_N_BINARY, line, left, parse_level(p, i + 1));
        if (left) left->op = op;
        line = jinja_peek(p)->line;
    }
    return left;
}

static bool skip_comparison(struct jinja_parser *p, enum jinja_op *out)
{
    static const struct {
        const char *text;
        enum jinja_op op;
    } known[] = {
        {"==", JINJA_OP_EQ}, {"!=", JINJA_OP_NE}, {"<=", JINJA_OP_LE},
        {">=", JINJA_OP_GE}, {"<", JINJA_OP_LT},  {">", JINJA_OP_GT},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *out = known[i].op;
        if (jinja_skip_operator(p, known[i].text)) return true;
    }
    *out = JINJA_OP_IN;
    if (jinja_skip_name(p, "in")) return true;
    *out = JINJA_OP_NOT_IN;
    const struct jinja_token *token = jinja_peek(p);
    if (!jinja_at_name(p, "not") || token[1].kind != JINJA_T_NAME || token[1].n != 2 ||
        memcmp(token[1].s, "in", 2) != 0)
        return false;
    p->at += 2;
    return true;
}

#define COMPARISONS_MAX 16 /* in one chain; nobody writes more than two */

static struct jinja_node *parse_compare(struct jinja_parser *p)
{
    struct jinja_node *left = parse_level(p, 0);
    struct jinja_node *node = NULL;
    enum jinja_op op;
    while (left && skip_comparison(p, &op)) {
        if (!node) {
            node = jinja_node(p, JINJA_N_COMPARE, left->line);
            if (!node || !jinja_adopt(p, node, left)) return NULL;
            node->a = left;
            node->ops = jinja_reader_alloc(p->reader, COMPARISONS_MAX, sizeof *node->ops);
            if (!node->ops) return NULL;
        }
        if (node->children.n == COMPARISONS_MAX)
            return jinja_parse_fail(p, left->line, "too many comparisons"), NULL;
        node->ops[node->children.n] = op;
        struct jinja_node *right = parse_level(p, 0);
        if (!right || !jinja_push(p, node, &node->children, right)) return NULL;
    }
    return node ? node : left;
}

static struct jinja_node *parse_not(struct jinja_parser *p)
{
    int line = jinja_peek(p)->line;
    if (!jinja_skip_name(p, "not")) return parse_compare(p);
    if (!jinja_parse_enter(p)) return NULL;
    struct jinja_node *a = parse_not(p);
    jinja_parse_leave(p);
    return negate(p, line, a);
}

static struct jinja_node *parse_and(struct jinja_parser *p)
{
    struct jinja_node *left = parse_not(p);
    while (left && jinja_skip_name(p, "and"))
        left = pair(p, JINJA_N_AND, left->line, left, parse_not(p));
    return left;
}

static struct jinja_node *parse_or(struct jinja_parser *p)
{
    struct jinja_node *left = parse_and(p);
    while (left && jinja_skip_name(p, "or"))
        left = pair(p, JINJA_N_OR, left->line, left, parse_and(p));
    return left;
}

static struct jinja_node *parse_condition(struct jinja_parser *p)
{
    struct jinja_node *value = parse_or(p);
    while (value && jinja_skip_name(p, "if")) {
        struct jinja_node *node = jinja_node(p, JINJA_N_COND, value->line);
        struct jinja_node *test = node ? parse_or(p) : NULL;
        if (!test || !jinja_adopt(p, node, test) || !jinja_adopt(p, node, value)) return NULL;
        node->a = test;
        node->b = value;
        if (jinja_skip_name(p, "else")) {
            node->c = jinja_parse_expression(p, true);
            if (!node->c || !jinja_adopt(p, node, node->c)) return NULL;
        }
        value = node;
    }
    return value;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *p, bool with_condition)
{
    if (!jinja_parse_enter(p)) return NULL;
    struct jinja_node *node = with_condition ? parse_condition(p) : parse_or(p);
    jinja_parse_leave(p);
    return node;
}

static bool at_tuple_end(const struct jinja_parser *p, const char *end_name)
{
    enum jinja_token_kind kind = jinja_peek(p)->kind;
    return kind == JINJA_T_VARIABLE_END || kind == JINJA_T_BLOCK_END || jinja_at_operator(p, ")") ||
           jinja_at_operator(p, "]") || (end_name && jinja_at_name(p, end_name));
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool with_condition,
                                     const char *end_name)
{
    struct jinja_node *first = jinja_parse_expression(p, with_condition);
    if (!first || !jinja_at_operator(p, ",")) return first;
    struct jinja_node *node = jinja_node(p, JINJA_N_TUPLE, first->line);
    if (!node || !jinja_push(p, node, &node->children, first)) return NULL;
    while (jinja_skip_operator(p, ",") && !at_tuple_end(p, end_name)) {
        struct jinja_node *item = jinja_parse_expression(p, with_condition);
        if (!item || !jinja_push(p, node, &node->children, item)) return NULL;
    }
    return node;
}

/* NAME, NAME.NAME (an attribute of a namespace) or a tuple of targets in parentheses. */
static struct jinja_node *parse_one_target(struct jinja_parser *p, bool with_namespace)
{
    if (jinja_skip_operator(p, "(")) {
        if (!jinja_parse_enter(p)) return NULL;
        struct jinja_node *inner = jinja_parse_target(p, with_namespace);
        jinja_parse_leave(p);
        return inner && jinja_expect_operator(p, ")") ? inner : NULL;
    }
    int line = jinja_peek(p)->line;
    if (parse_named_constant(p)) return jinja_parse_fail(p, line, "can't assign to 'const'"), NULL;
    struct jinja_node *node = jinja_parse_name(p);
    if (!node || !with_namespace || !jinja_skip_operator(p, ".")) return node;
    const struct jinja_token *token = jinja_peek(p);
    if (token->kind != JINJA_T_NAME) return jinja_parse_unexpected(p, "a name"), NULL;
    node->kind = JINJA_N_NAMESPACE;
    p->at++;
    return jinja_constant_text(p, token->s, token->n, &node->constant) ? node : NULL;
}

struct jinja_node *jinja_parse_target(struct jinja_parser *p, bool with_namespace)
{
    struct jinja_node *first = parse_one_target(p, with_namespace);
    if (!first || !jinja_at_operator(p, ",")) return first;
    struct jinja_node *node = jinja_node(p, JINJA_N_TUPLE, first->line);
    if (!node || !jinja_push(p, node, &node->children, first)) return NULL;
    while (jinja_skip_operator(p, ",") && jinja_peek(p)->kind != JINJA_T_BLOCK_END &&
           !jinja_at_name(p, "in") && !jinja_at_operator(p, ")") && !jinja_at_operator(p, "=")) {
        struct jinja_node *item = parse_one_target(p, with_namespace);
        if (!item || !jinja_push(p, node, &node->children, item)) return NULL;
    }
    return node;
}
