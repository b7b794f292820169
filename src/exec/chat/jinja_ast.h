/* jinja_ast.h: tokens and the tree they become.
 * Floor: exec/chat, private to the engine.  Thread: that of jinja_create; the tree is never written
 * afterwards.  Allocates: in the template's arena.
 * Invariant: a node's height is at least 1 more than its children's and at most JINJA_HEIGHT_MAX,
 * so walking a tree needs a bounded stack. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "exec/chat/jinja_value.h"

#define JINJA_HEIGHT_MAX 160 /* gpt-oss's template is 30 high */

enum jinja_token_kind {
    JINJA_T_END,
    JINJA_T_DATA,
    JINJA_T_VARIABLE_BEGIN,
    JINJA_T_VARIABLE_END,
    JINJA_T_BLOCK_BEGIN,
    JINJA_T_BLOCK_END,
    JINJA_T_NAME,
    JINJA_T_STRING,
    JINJA_T_INT,
    JINJA_T_FLOAT,
    JINJA_T_OPERATOR
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    const char *s; /* the text: of a string after its escapes, of an operator itself */
    size_t n;
    int64_t i;
    double f;
};

struct jinja_tokens {
    struct jinja_token *v;
    size_t n, cap;
};

enum jinja_op {
    JINJA_OP_ADD,
    JINJA_OP_SUB,
    JINJA_OP_MUL,
    JINJA_OP_DIV,
    JINJA_OP_FLOOR_DIV,
    JINJA_OP_MOD,
    JINJA_OP_POW,
    JINJA_OP_NEG,
    JINJA_OP_POS,
    JINJA_OP_EQ,
    JINJA_OP_NE,
    JINJA_OP_LT,
    JINJA_OP_LE,
    JINJA_OP_GT,
    JINJA_OP_GE,
    JINJA_OP_IN,
    JINJA_OP_NOT_IN
};

enum jinja_node_kind {
    /* expressions */
    JINJA_N_CONST,
    JINJA_N_NAME,      /* symbol */
    JINJA_N_LIST,      /* children */
    JINJA_N_TUPLE,     /* children */
    JINJA_N_DICT,      /* children: key, value, key, value */
    JINJA_N_ATTRIBUTE, /* a.constant */
    JINJA_N_ITEM,      /* a[b] */
    JINJA_N_SLICE,     /* a[children[0]:children[1]:children[2]], each may be NULL */
    JINJA_N_CALL,      /* a(args) */
    JINJA_N_FILTER,    /* a|name(args); a is NULL in front of a block */
    JINJA_N_TEST,      /* a is name(args) */
    JINJA_N_UNARY,     /* op a */
    JINJA_N_BINARY,    /* a op b */
    JINJA_N_COMPARE,   /* a ops[0] children[0] ops[1] children[1] ... */
    JINJA_N_CONCAT,    /* children[0] ~ children[1] ... */
    JINJA_N_AND,
    JINJA_N_OR,
    JINJA_N_NOT,
    JINJA_N_COND,      /* b if a else c; c may be NULL */
    JINJA_N_NAMESPACE, /* target symbol.constant */
    /* statements; `next` is the one after */
    JINJA_N_DATA,         /* constant */
    JINJA_N_PRINT,        /* a */
    JINJA_N_IF,           /* if a: body, else: orelse (an IF for elif) */
    JINJA_N_FOR,          /* for a in b if c: body, else: orelse */
    JINJA_N_SET,          /* a = b */
    JINJA_N_SET_BLOCK,    /* a = body|b; b may be NULL */
    JINJA_N_MACRO,        /* symbol, params, body */
    JINJA_N_CALL_BLOCK,   /* a is the call, b the macro that becomes caller() */
    JINJA_N_FILTER_BLOCK, /* a is the filter, body */
    JINJA_N_WITH,         /* children: target, value, ...; body */
    JINJA_N_BREAK,
    JINJA_N_CONTINUE
};

struct jinja_node_list {
    struct jinja_node **v;
    uint32_t n, cap;
};

/* What stands in the parentheses of a call, filter or test. */
struct jinja_node_args {
    struct jinja_node_list positional;
    struct jinja_node_list keywords; /* values, by index of names */
    const char **names;
    struct jinja_node *star, *star_star; /* *a, **b; may be NULL */
};

struct jinja_params {
    struct jinja_node_list defaults; /* of the last ones */
    const uint32_t *symbols;
    uint32_t n;
    bool caller, varargs, kwargs; /* the body mentions them */
};

struct jinja_node {
    enum jinja_node_kind kind;
    enum jinja_op op;
    int line;
    uint32_t height;
    uint32_t symbol;
    bool recursive; /* a FOR that may be called as loop() */
    struct jinja_value constant;
    const char *name; /* of a filter or test */
    struct jinja_node *a, *b, *c;
    struct jinja_node_list children;
    enum jinja_op *ops;
    struct jinja_node_args *args;
    struct jinja_params *params;
    struct jinja_node *body, *orelse;
    struct jinja_node *next;
};

/* A parser or lexer at work; its failure is in err, with the line. */
struct jinja_reader {
    struct sl_arena *arena;
    const struct jinja_limits *limits;
    struct sl_err *err;
    sl_status status;
};

/* Records "template line N: ...". Always false. */
bool jinja_reader_fail(struct jinja_reader *reader, sl_status status, int line, const char *fmt,
                       ...) SL_PRINTF(4, 5);
void *jinja_reader_alloc(struct jinja_reader *reader, size_t count, size_t size);

/* Cuts source[0..n) into tokens, the last a JINJA_T_END. */
bool jinja_lex(struct jinja_reader *reader, const char *source, size_t n, struct jinja_tokens *out);
