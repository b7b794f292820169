/* jinja_tests.c: what can stand behind "is". */
#include "exec/chat/jinja_run.h"

#include "base/utf8.h"
#include "base/unicode.h"

#include <math.h>
#include <string.h>

static bool one(struct jinja_run *run, const struct jinja_call *call)
{
    return (call->n_args == 1 && call->n_keywords == 0) ||
           jinja_fail(run, SL_INVALID, "test '%s' takes no arguments", call->name);
}

static bool two(struct jinja_run *run, const struct jinja_call *call)
{
    return (call->n_args == 2 && call->n_keywords == 0) ||
           jinja_fail(run, SL_INVALID, "test '%s' takes one argument", call->name);
}

/* A test of the value alone: NAME(value expression). */
#define PLAIN_TEST(name, holds) \
    static bool test_##name(struct jinja_run *run, const struct jinja_call *call, \
                            struct jinja_value *out) \
    { \
        if (!one(run, call)) return false; \
        const struct jinja_value *value = &call->args[0]; \
        return *out = jinja_bool(holds), true; \
    }

PLAIN_TEST(defined, value->kind != JINJA_UNDEFINED)
PLAIN_TEST(undefined, value->kind == JINJA_UNDEFINED)
PLAIN_TEST(none, value->kind == JINJA_NONE)
PLAIN_TEST(boolean, value->kind == JINJA_BOOL)
PLAIN_TEST(false, value->kind == JINJA_BOOL && !value->b)
PLAIN_TEST(true, value->kind == JINJA_BOOL && value->b)
PLAIN_TEST(integer, value->kind == JINJA_INT)
PLAIN_TEST(float, value->kind == JINJA_FLOAT)
PLAIN_TEST(number, jinja_is_number(value))
PLAIN_TEST(string, value->kind == JINJA_STRING)
PLAIN_TEST(mapping, value->kind == JINJA_DICT)
PLAIN_TEST(iterable, jinja_is_iterable(value))
PLAIN_TEST(sequence, jinja_has_length(value) && value->kind != JINJA_VIEW)
PLAIN_TEST(escaped, value->kind == JINJA_ABSENT) /* nothing is ever marked as escaped */
PLAIN_TEST(callable, value->kind == JINJA_MACRO || value->kind == JINJA_FUNCTION ||
                         value->kind == JINJA_METHOD || value->kind == JINJA_LOOP ||
                         value->kind == JINJA_UNDEFINED)

static bool remainder_is(struct jinja_run *run, const struct jinja_value *value, int64_t divisor,
                         int64_t wanted, struct jinja_value *out)
{
    const struct jinja_value by = jinja_int(divisor), is = jinja_int(wanted);
    struct jinja_value rest;
    bool same;
    if (!jinja_binary(run, JINJA_OP_MOD, value, &by, &rest) || !jinja_equal(run, &rest, &is, &same))
        return false;
    return *out = jinja_bool(same), true;
}

static bool test_odd(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return one(run, call) && remainder_is(run, &call->args[0], 2, 1, out);
}

static bool test_even(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return one(run, call) && remainder_is(run, &call->args[0], 2, 0, out);
}

static bool test_divisibleby(struct jinja_run *run, const struct jinja_call *call,
                             struct jinja_value *out)
{
    static const char *const names[] = {"value", "num", NULL};
    struct jinja_value args[2], rest;
    const struct jinja_value zero = jinja_int(0);
    bool same;
    if (!jinja_bind(run, call, names, 2, args) ||
        !jinja_binary(run, JINJA_OP_MOD, &args[0], &args[1], &rest) ||
        !jinja_equal(run, &rest, &zero, &same))
        return false;
    return *out = jinja_bool(same), true;
}

static bool has_case(struct jinja_run *run, const struct jinja_call *call, bool upper,
                     struct jinja_value *out)
{
    struct jinja_value text;
    bool any = false;
    if (!one(run, call) || !jinja_to_string(run, &call->args[0], &text)) return false;
    *out = jinja_bool(false);
    for (size_t at = 0; at < text.str->n;) {
        uint32_t c;
        size_t len = sl_utf8_decode(text.str->s + at, text.str->n - at, &c);
        if (!len || (upper ? sl_unicode_is_lower(c) : sl_unicode_is_upper(c)) ||
            sl_unicode_is_title(c))
            return true;
        any |= upper ? sl_unicode_is_upper(c) : sl_unicode_is_lower(c);
        at += len;
    }
    return *out = jinja_bool(any), true;
}

static bool test_lower(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return has_case(run, call, false, out);
}

static bool test_upper(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return has_case(run, call, true, out);
}

/* Python's `is`: the same object. Small values are the same when they are equal. */
static bool test_sameas(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    if (!two(run, call)) return false;
    const struct jinja_value *a = &call->args[0], *b = &call->args[1];
    bool same = a->kind == b->kind;
    if (same && a->kind >= JINJA_LIST) {
        same = a->list == b->list;
    } else if (same && !jinja_equal(run, a, b, &same)) {
        return false;
    }
    return *out = jinja_bool(same), true;
}

static bool test_in(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    bool found;
    if (!two(run, call) || !jinja_contains(run, &call->args[1], &call->args[0], &found))
        return false;
    return *out = jinja_bool(found), true;
}

static bool test_filter(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    char name[64] = "";
    if (!one(run, call)) return false;
    const struct jinja_value *value = &call->args[0];
    if (value->kind == JINJA_STRING && value->str->n < sizeof name)
        memcpy(name, value->str->s, value->str->n);
    return *out = jinja_bool(jinja_filter_find(name) != NULL), true;
}

#define COMPARE_TEST(name, op) \
    static bool test_##name(struct jinja_run *run, const struct jinja_call *call, \
                            struct jinja_value *out) \
    { \
        bool holds; \
        if (!two(run, call) || !jinja_compare(run, op, &call->args[0], &call->args[1], &holds)) \
            return false; \
        return *out = jinja_bool(holds), true; \
    }

COMPARE_TEST(eq, JINJA_OP_EQ)
COMPARE_TEST(ne, JINJA_OP_NE)
COMPARE_TEST(lt, JINJA_OP_LT)
COMPARE_TEST(le, JINJA_OP_LE)
COMPARE_TEST(gt, JINJA_OP_GT)
COMPARE_TEST(ge, JINJA_OP_GE)

static const struct jinja_builtin tests[] = {
    {"boolean", test_boolean},
    {"callable", test_callable},
    {"defined", test_defined},
    {"divisibleby", test_divisibleby},
    {"eq", test_eq},
    {"equalto", test_eq},
    {"escaped", test_escaped},
    {"even", test_even},
    {"false", test_false},
    {"filter", test_filter},
    {"float", test_float},
    {"ge", test_ge},
    {"greaterthan", test_gt},
    {"gt", test_gt},
    {"in", test_in},
    {"integer", test_integer},
    {"iterable", test_iterable},
    {"le", test_le},
    {"lessthan", test_lt},
    {"lower", test_lower},
    {"lt", test_lt},
    {"mapping", test_mapping},
    {"ne", test_ne},
    {"none", test_none},
    {"number", test_number},
    {"odd", test_odd},
    {"sameas", test_sameas},
    {"sequence", test_sequence},
    {"string", test_string},
    {"true", test_true},
    {"undefined", test_undefined},
    {"upper", test_upper},
    {"==", test_eq},
    {"!=", test_ne},
    {"<", test_lt},
    {"<=", test_le},
    {">", test_gt},
    {">=", test_ge},
    {NULL, NULL},
};

const struct jinja_builtin *jinja_test_find(const char *name)
{
    return jinja_builtin_find(tests, name);
}
