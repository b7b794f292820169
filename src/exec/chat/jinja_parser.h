/* jinja_parser.h: what the parsers of statements and of expressions share.
 * Floor: exec/chat, private to the engine.  Thread: that of jinja_create.  Allocates: in the
 * template's arena.
 * Invariant: the last token is a JINJA_T_END, and no parser moves past it. Parsers return NULL when
 * they failed; the error is in the reader. */
#pragma once
#include "exec/chat/jinja_ast.h"

struct jinja_symbols {
    const char **names; /* by symbol */
    uint32_t n, cap;
};

struct jinja_parser {
    struct jinja_reader *reader;
    const struct jinja_token *tokens;
    size_t at;
    uint32_t depth; /* of the parser's own recursion */
    uint32_t loops; /* for statements around this place, within the same macro */
    struct jinja_symbols symbols;
};

const struct jinja_token *jinja_peek(const struct jinja_parser *p);
bool jinja_at_operator(const struct jinja_parser *p, const char *op);
bool jinja_at_name(const struct jinja_parser *p, const char *name);
/* Moves past the operator, or name, if it stands here. */
bool jinja_skip_operator(struct jinja_parser *p, const char *op);
bool jinja_skip_name(struct jinja_parser *p, const char *name);
/* The same; fails if it does not. */
bool jinja_expect_operator(struct jinja_parser *p, const char *op);
bool jinja_expect_name(struct jinja_parser *p, const char *name);
bool jinja_parse_fail(struct jinja_parser *p, int line, const char *fmt, ...) SL_PRINTF(3, 4);
bool jinja_parse_unexpected(struct jinja_parser *p, const char *expected);
bool jinja_parse_enter(struct jinja_parser *p);
void jinja_parse_leave(struct jinja_parser *p);

/* A name's number; names are compared by it from then on. False: failed. */
bool jinja_symbol(struct jinja_parser *p, const char *name, size_t n, uint32_t *out);
/* NUL-ended copy. */
const char *jinja_copy_text(struct jinja_parser *p, const char *s, size_t n);
bool jinja_constant_text(struct jinja_parser *p, const char *s, size_t n, struct jinja_value *out);

struct jinja_node *jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, int line);
/* Makes the node at least one higher than its child (NULL is fine). LIMIT. */
bool jinja_adopt(struct jinja_parser *p, struct jinja_node *node, const struct jinja_node *child);
bool jinja_push(struct jinja_parser *p, struct jinja_node *owner, struct jinja_node_list *list,
                struct jinja_node *child);

struct jinja_node *jinja_parse_expression(struct jinja_parser *p, bool with_condition);
/* Expressions with commas between become a tuple. `end_name`: a name that ends it, or NULL. */
struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool with_condition,
                                     const char *end_name);
struct jinja_node *jinja_parse_target(struct jinja_parser *p, bool with_namespace);
struct jinja_node *jinja_parse_name(struct jinja_parser *p);
/* "|name(args)|..."; without_pipe: begins with the name. NULL node and true: no filter here. */
bool jinja_parse_filters(struct jinja_parser *p, struct jinja_node *applied_to, bool without_pipe,
                         struct jinja_node **out);
struct jinja_node *jinja_parse_statements(struct jinja_parser *p);
