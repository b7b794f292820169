/* jinja_operator.c: arithmetic, comparison, subscripts and slices, with Python's results. Integers
 * have 64 bits; what would need more is refused. */
#include "exec/chat/jinja_run.h"

#include "base/utf8.h"

#include <math.h>
#include <string.h>

static const char *const op_texts[] = {
    [JINJA_OP_ADD] = "+",        [JINJA_OP_SUB] = "-", [JINJA_OP_MUL] = "*",  [JINJA_OP_DIV] = "/",
    [JINJA_OP_FLOOR_DIV] = "//", [JINJA_OP_MOD] = "%", [JINJA_OP_POW] = "**", [JINJA_OP_NEG] = "-",
    [JINJA_OP_POS] = "+",        [JINJA_OP_LT] = "<",  [JINJA_OP_LE] = "<=",  [JINJA_OP_GT] = ">",
    [JINJA_OP_GE] = ">=",
};

static bool unsupported(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                        const struct jinja_value *b)
{
    if (a->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, a);
    if (b->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, b);
    return jinja_fail(run, SL_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                      op_texts[op], jinja_type_name(a), jinja_type_name(b));
}

static bool overflow(struct jinja_run *run)
{
    return jinja_fail(run, SL_LIMIT, "an integer is past 64 bits");
}

static bool division_by_zero(struct jinja_run *run)
{
    return jinja_fail(run, SL_INVALID, "division by zero");
}

bool jinja_unary(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                 struct jinja_value *out)
{
    if (a->kind == JINJA_FLOAT) {
        *out = jinja_float(op == JINJA_OP_NEG ? -a->f : a->f);
        return true;
    }
    if (!jinja_is_integer(a)) return jinja_type_error(run, "has no sign", a);
    int64_t i = jinja_integer(a);
    if (op == JINJA_OP_NEG && i == INT64_MIN) return overflow(run);
    *out = jinja_int(op == JINJA_OP_NEG ? -i : i);
    return true;
}

/* base ** exponent by squaring; exponent >= 0. */
static bool power(int64_t base, int64_t exponent, int64_t *out)
{
    *out = 1;
    for (;;) {
        if ((exponent & 1) && __builtin_mul_overflow(*out, base, out)) return false;
        exponent >>= 1;
        if (exponent == 0) return true;
        if (__builtin_mul_overflow(base, base, &base)) return false;
    }
}

static bool power_of_integers(struct jinja_run *run, int64_t a, int64_t b, struct jinja_value *out)
{
    int64_t result;
    if (b < 0) {
        if (a == 0) return division_by_zero(run);
        *out = jinja_float(pow((double)a, (double)b));
        return true;
    }
    if (a == 0 || a == 1 || a == -1) {
        result = b == 0 ? 1 : a == -1 && b % 2 == 0 ? 1 : a;
    } else if (b > 63 || !power(a, b, &result)) {
        return overflow(run);
    }
    *out = jinja_int(result);
    return true;
}

/* Division rounds down, and the remainder has the divisor's sign. */
static bool divide_integers(struct jinja_run *run, enum jinja_op op, int64_t a, int64_t b,
                            struct jinja_value *out)
{
    if (b == 0) return division_by_zero(run);
    if (op == JINJA_OP_DIV) return *out = jinja_float((double)a / (double)b), true;
    if (b == -1) {
        if (op == JINJA_OP_FLOOR_DIV && a == INT64_MIN) return overflow(run);
        return *out = jinja_int(op == JINJA_OP_MOD ? 0 : -a), true;
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *out = jinja_int(op == JINJA_OP_MOD ? rest : quotient);
    return true;
}

static bool binary_integers(struct jinja_run *run, enum jinja_op op, int64_t a, int64_t b,
                            struct jinja_value *out)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case JINJA_OP_ADD: over = __builtin_add_overflow(a, b, &result); break;
    case JINJA_OP_SUB: over = __builtin_sub_overflow(a, b, &result); break;
    case JINJA_OP_MUL: over = __builtin_mul_overflow(a, b, &result); break;
    case JINJA_OP_POW: return power_of_integers(run, a, b, out);
    default: return divide_integers(run, op, a, b, out);
    }
    if (over) return overflow(run);
    *out = jinja_int(result);
    return true;
}

static bool binary_floats(struct jinja_run *run, enum jinja_op op, double a, double b,
                          struct jinja_value *out)
{
    double result = 0;
    bool divides = op == JINJA_OP_DIV || op == JINJA_OP_FLOOR_DIV || op == JINJA_OP_MOD;
    if (divides && b == 0) return division_by_zero(run);
    switch (op) {
    case JINJA_OP_ADD: result = a + b; break;
    case JINJA_OP_SUB: result = a - b; break;
    case JINJA_OP_MUL: result = a * b; break;
    case JINJA_OP_DIV: result = a / b; break;
    case JINJA_OP_POW:
        if (a == 0 && b < 0) return division_by_zero(run);
        result = pow(a, b);
        if (isnan(result) && !isnan(a) && !isnan(b))
            return jinja_fail(run, SL_INVALID, "complex numbers are not supported");
        if (isinf(result) && !isinf(a) && !isinf(b))
            return jinja_fail(run, SL_INVALID, "result too large");
        break;
    default: { /* as CPython's float_divmod */
        double rest = fmod(a, b), quotient = (a - rest) / b;
        if (rest != 0 && (rest < 0) != (b < 0)) {
            rest += b;
            quotient -= 1;
        } else if (rest == 0) {
            rest = copysign(0.0, b);
        }
        double whole = floor(quotient);
        if (quotient - whole > 0.5) whole += 1;
        if (quotient == 0) whole = copysign(0.0, a / b);
        result = op == JINJA_OP_MOD ? rest : whole;
    }
    }
    *out = jinja_float(result);
    return true;
}

static bool add_strings(struct jinja_run *run, const struct jinja_string *a,
                        const struct jinja_string *b, struct jinja_value *out)
{
    char *s = jinja_alloc(run, a->n + b->n, 1);
    if (!s || !jinja_charge_bytes(run, a->n + b->n)) return false;
    memcpy(s, a->s, a->n);
    memcpy(s + a->n, b->s, b->n);
    return jinja_string(run, s, a->n + b->n, out);
}

static bool add_lists(struct jinja_run *run, const struct jinja_value *a,
                      const struct jinja_value *b, struct jinja_value *out)
{
    size_t n = a->list->n + b->list->n;
    if (!jinja_charge(run, n / 4) || !jinja_list(run, a->kind, n, out)) return false;
    if (a->list->n) memcpy(out->list->items, a->list->items, a->list->n * sizeof *a->list->items);
    if (b->list->n)
        memcpy(out->list->items + a->list->n, b->list->items, b->list->n * sizeof *b->list->items);
    out->list->n = n;
    return true;
}

static bool repeat_string(struct jinja_run *run, const struct jinja_string *str, int64_t times,
                          struct jinja_value *out)
{
    size_t n;
    if (times < 0 || str->n == 0) times = 0;
    if (__builtin_mul_overflow(str->n, (size_t)times, &n)) n = SIZE_MAX;
    if (!jinja_charge_bytes(run, n)) return false;
    char *s = jinja_alloc(run, n, 1);
    if (!s) return false;
    for (size_t at = 0; at < n; at += str->n) memcpy(s + at, str->s, str->n);
    return jinja_string(run, s, n, out);
}

static bool repeat_list(struct jinja_run *run, const struct jinja_value *list, int64_t times,
                        struct jinja_value *out)
{
    size_t n, each = list->list->n;
    if (times < 0 || each == 0) times = 0;
    if (__builtin_mul_overflow(each, (size_t)times, &n)) n = SIZE_MAX;
    if (!jinja_charge(run, n / 4) || !jinja_list(run, list->kind, n, out)) return false;
    for (size_t i = 0; each > 0 && i < n; i++) out->list->items[i] = list->list->items[i % each];
    out->list->n = n;
    return true;
}

/* sequence * integer, either way round. */
static bool repeat(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                   struct jinja_value *out)
{
    const struct jinja_value *sequence = jinja_is_integer(a) ? b : a;
    const struct jinja_value *times = jinja_is_integer(a) ? a : b;
    if (jinja_is_integer(times)) {
        if (sequence->kind == JINJA_STRING)
            return repeat_string(run, sequence->str, jinja_integer(times), out);
        if (sequence->kind == JINJA_LIST || sequence->kind == JINJA_TUPLE)
            return repeat_list(run, sequence, jinja_integer(times), out);
    }
    return unsupported(run, JINJA_OP_MUL, a, b);
}

bool jinja_binary(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                  const struct jinja_value *b, struct jinja_value *out)
{
    if (jinja_is_integer(a) && jinja_is_integer(b))
        return binary_integers(run, op, jinja_integer(a), jinja_integer(b), out);
    if (jinja_is_number(a) && jinja_is_number(b))
        return binary_floats(run, op, jinja_number(a), jinja_number(b), out);
    if (op == JINJA_OP_ADD && a->kind == b->kind) {
        if (a->kind == JINJA_STRING) return add_strings(run, a->str, b->str, out);
        if (a->kind == JINJA_LIST || a->kind == JINJA_TUPLE) return add_lists(run, a, b, out);
    }
    if (op == JINJA_OP_MOD && a->kind == JINJA_STRING)
        return jinja_format_percent(run, a->str, b, out);
    return op == JINJA_OP_MUL ? repeat(run, a, b, out) : unsupported(run, op, a, b);
}

bool jinja_compare(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                   const struct jinja_value *b, bool *out)
{
    bool same = false,
         nan = (a->kind == JINJA_FLOAT && isnan(a->f)) || (b->kind == JINJA_FLOAT && isnan(b->f));
    bool ok;
    switch (op) {
    case JINJA_OP_EQ: return jinja_equal(run, a, b, out);
    case JINJA_OP_NE:
        ok = jinja_equal(run, a, b, &same);
        *out = !same;
        return ok;
    case JINJA_OP_IN: return jinja_contains(run, b, a, out);
    case JINJA_OP_NOT_IN:
        ok = jinja_contains(run, b, a, &same);
        *out = !same;
        return ok;
    case JINJA_OP_LT: return jinja_less(run, a, b, op_texts[op], out);
    case JINJA_OP_GT: return jinja_less(run, b, a, op_texts[op], out);
    case JINJA_OP_LE: ok = jinja_less(run, b, a, op_texts[op], &same); break;
    default: ok = jinja_less(run, a, b, op_texts[op], &same); break;
    }
    if (ok) *out = !same && !nan;
    return ok;
}

/* --- subscripts */

/* Byte offset of code point i, or of the end. */
static size_t offset_of(struct jinja_string *str, size_t i)
{
    if (jinja_string_chars(str) == str->n) return i; /* ASCII */
    size_t at = 0;
    for (; i > 0 && at < str->n; i--) {
        at++;
        while (at < str->n && ((unsigned char)str->s[at] & 0xc0) == 0x80) at++;
    }
    return at;
}

static bool index_sequence(struct jinja_run *run, const struct jinja_value *owner, int64_t i,
                           struct jinja_value *out, bool *found)
{
    size_t n;
    if (!jinja_length(run, owner, &n)) return false;
    if (i < 0) i += (int64_t)n;
    *found = i >= 0 && (uint64_t)i < n;
    if (!*found) return true;
    if (owner->kind == JINJA_RANGE)
        return *out = jinja_int(owner->range->start + i * owner->range->step), true;
    if (owner->kind != JINJA_STRING) return *out = owner->list->items[i], true;
    size_t from = offset_of(owner->str, (size_t)i);
    uint32_t c;
    size_t len = sl_utf8_decode(owner->str->s + from, owner->str->n - from, &c);
    return jinja_charge_bytes(run, from) && jinja_string(run, owner->str->s + from, len, out);
}

static bool is_sequence(const struct jinja_value *value)
{
    return value->kind == JINJA_STRING || value->kind == JINJA_LIST || value->kind == JINJA_TUPLE ||
           value->kind == JINJA_RANGE;
}

static bool find_item(struct jinja_run *run, const struct jinja_value *owner,
                      const struct jinja_value *key, struct jinja_value *out, bool *found)
{
    *found = false;
    if (owner->kind == JINJA_DICT) {
        const struct jinja_value *value;
        if (key->kind == JINJA_LIST || key->kind == JINJA_DICT) return true;
        if (!jinja_dict_get(run, owner, key, &value)) return false;
        *found = value != NULL;
        if (value) *out = *value;
        return true;
    }
    if (!is_sequence(owner) || !jinja_is_integer(key)) return true;
    return index_sequence(run, owner, jinja_integer(key), out, found);
}

static bool find_attribute(struct jinja_run *run, const struct jinja_value *owner,
                           const struct jinja_value *name, struct jinja_value *out, bool *found)
{
    char text[64]; /* no attribute's name is longer */
    *found = false;
    if (name->kind != JINJA_STRING) return true;
    if (owner->kind == JINJA_NAMESPACE) {
        const struct jinja_value *value = jinja_dict_find(owner, name->str->s, name->str->n);
        *found = value != NULL;
        if (value) *out = *value;
        return true;
    }
    if (name->str->n >= sizeof text) return true;
    memcpy(text, name->str->s, name->str->n);
    text[name->str->n] = '\0';
    if (owner->kind == JINJA_LOOP) {
        if (!jinja_loop_attribute(run, owner->loop, text, out, found)) return false;
        if (*found) return true;
    }
    return jinja_method(run, owner, text, out, found);
}

bool jinja_get_item(struct jinja_run *run, const struct jinja_value *owner,
                    const struct jinja_value *key, struct jinja_value *out)
{
    bool found;
    if (owner->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, owner);
    if (!find_item(run, owner, key, out, &found)) return false;
    if (!found && !find_attribute(run, owner, key, out, &found)) return false;
    return found || jinja_undefined_in(run, owner, key, out);
}

bool jinja_get_attribute(struct jinja_run *run, const struct jinja_value *owner,
                         const struct jinja_value *name, struct jinja_value *out)
{
    bool found;
    if (owner->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, owner);
    if (!find_attribute(run, owner, name, out, &found)) return false;
    if (!found && !find_item(run, owner, name, out, &found)) return false;
    return found || jinja_undefined_in(run, owner, name, out);
}

/* --- slices */

/* A bound within [low, high]; `otherwise` when it was not given. */
static int64_t clamp(const struct jinja_value *bound, int64_t n, int64_t low, int64_t high,
                     int64_t otherwise)
{
    if (bound->kind == JINJA_NONE) return otherwise;
    int64_t i = jinja_integer(bound);
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

bool jinja_put_chars(struct jinja_run *run, struct jinja_string *str, int64_t first, int64_t step,
                     size_t n)
{
    if (n == 0) return true;
    if (step == 1) {
        size_t from = offset_of(str, (size_t)first);
        struct jinja_string rest = {str->s + from, str->n - from,
                                    jinja_string_chars(str) - (size_t)first};
        return jinja_put(run, rest.s, offset_of(&rest, n));
    }
    struct jinja_value characters, text = {JINJA_STRING, {.str = str}};
    if (!jinja_items(run, &text, &characters)) return false;
    for (size_t i = 0; i < n; i++, first += step) {
        const struct jinja_string *c = characters.list->items[first].str;
        if (!jinja_put(run, c->s, c->n)) return false;
    }
    return true;
}

static bool slice_text(struct jinja_run *run, struct jinja_string *str, int64_t first, int64_t step,
                       size_t n, struct jinja_value *out)
{
    if (step == 1) { /* shares the bytes */
        size_t from = offset_of(str, (size_t)first);
        struct jinja_string rest = {str->s + from, str->n - from,
                                    jinja_string_chars(str) - (size_t)first};
        return jinja_charge_bytes(run, str->n) &&
               jinja_string(run, rest.s, offset_of(&rest, n), out);
    }
    size_t mark = run->out.len;
    return jinja_put_chars(run, str, first, step, n) && jinja_take(run, mark, out);
}

static bool slice_range(struct jinja_run *run, const struct jinja_range *range, int64_t first,
                        int64_t step, size_t n, struct jinja_value *out)
{
    struct jinja_range *part = jinja_alloc(run, 1, sizeof *part);
    if (!part) return false;
    /* The items fit; the step past the last may wrap, and is only printed. */
    uint64_t each = (uint64_t)range->step * (uint64_t)step;
    uint64_t start = (uint64_t)range->start + (uint64_t)first * (uint64_t)range->step;
    *part = (struct jinja_range){(int64_t)start, (int64_t)each, n, (int64_t)(start + n * each)};
    *out = (struct jinja_value){JINJA_RANGE, {.range = part}};
    return true;
}

static bool slice_list(struct jinja_run *run, const struct jinja_value *owner, int64_t first,
                       int64_t step, size_t n, struct jinja_value *out)
{
    if (!jinja_charge(run, n / 4) || !jinja_list(run, owner->kind, n, out)) return false;
    for (size_t i = 0; i < n; i++, first += step) out->list->items[i] = owner->list->items[first];
    out->list->n = n;
    return true;
}

bool jinja_slice(struct jinja_run *run, const struct jinja_value *owner,
                 const struct jinja_value bounds[3], struct jinja_value *out)
{
    size_t length;
    if (owner->kind == JINJA_UNDEFINED) return jinja_fail_undefined(run, owner);
    if (!is_sequence(owner)) return jinja_type_error(run, "cannot be sliced", owner);
    for (int i = 0; i < 3; i++) {
        if (bounds[i].kind != JINJA_NONE && !jinja_is_integer(&bounds[i]))
            return jinja_type_error(run, "is no index of a slice", &bounds[i]);
    }
    int64_t step = bounds[2].kind == JINJA_NONE ? 1 : jinja_integer(&bounds[2]);
    if (step == 0) return jinja_fail(run, SL_INVALID, "slice step cannot be zero");
    if (step < -INT32_MAX) step = -INT32_MAX;
    if (step > INT32_MAX) step = INT32_MAX;
    if (!jinja_length(run, owner, &length)) return false;
    int64_t n = (int64_t)length, low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t first = clamp(&bounds[0], n, low, high, step < 0 ? high : low);
    int64_t last = clamp(&bounds[1], n, low, high, step < 0 ? low : high);
    int64_t span = step < 0 ? first - last : last - first;
    size_t count = span > 0 ? (size_t)((span - 1) / (step < 0 ? -step : step) + 1) : 0;
    if (count == 0) first = 0;
    if (owner->kind == JINJA_STRING) return slice_text(run, owner->str, first, step, count, out);
    if (owner->kind == JINJA_RANGE) return slice_range(run, owner->range, first, step, count, out);
    return slice_list(run, owner, first, step, count, out);
}
