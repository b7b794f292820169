/* oip_data_read.c: a JSON list into a typed array. */
#include "access/oip_data.h"
#include "access/oip_int.h"
#include "base/json_read.h"
#include "base/utf8.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 24    /* bytes of a bad element that its message has */
#define EXACT_DIGITS 19 /* decimal ones that fit uint64_t */
#define EXACT_POWER 22  /* the largest power of ten that a double has exactly */
#define EXACT_MANTISSA_BITS 53
#define DROPPED_BITS 29 /* of a double's mantissa, in FP32 */

struct reader {
    const char *at, *end;
    struct tensor *tensor;
    unsigned char *out;        /* where the next element goes */
    uint64_t n, n_max;         /* elements read, and of the shape */
    uint64_t n_room;           /* of them those that there is memory for */
    size_t size;               /* of one; 0: BYTES */
    int depth, depth_elements; /* of lists now; where elements stand, 0 before the first */
    uint64_t counts[TENSOR_RANK_MAX + 1]; /* members of the open lists, by depth */
    struct sl_err *err;
};

typedef sl_status (*read_fn)(struct reader *r, const char *text, size_t n);

static sl_status bad(struct reader *r, const char *text, size_t n, const char *why)
{
    int shown = (int)(n < SHOWN_MAX ? n : SHOWN_MAX);
    return sl_err_set(r->err, SL_INVALID, "element %" PRIu64 ": %.*s %s %s", r->n, shown, text, why,
                      tensor_type_name(r->tensor->type));
}

/* --- elements --- */

static bool is_word(const char *text, size_t n, const char *word)
{
    return n == strlen(word) && !memcmp(text, word, n);
}

static sl_status read_bool(struct reader *r, const char *text, size_t n)
{
    if (is_word(text, n, "true") || is_word(text, n, "1"))
        *r->out = 1;
    else if (is_word(text, n, "false") || is_word(text, n, "0"))
        *r->out = 0;
    else
        return bad(r, text, n, "is not true, false, 0 or 1 of");
    return SL_OK;
}

/* -?(0|[1-9][0-9]*), into magnitude and sign; *out_fits: it is at most UINT64_MAX. */
static bool parse_integer(const char *text, size_t n, uint64_t *out, bool *out_negative,
                          bool *out_fits)
{
    size_t i = n && *text == '-';
    *out_negative = i;
    *out = 0;
    *out_fits = true;
    if (i == n || (text[i] == '0' && n > i + 1)) return false;
    for (; i < n; i++) {
        unsigned digit = (unsigned char)text[i] - (unsigned)'0';
        if (digit > 9) return false;
        *out_fits = *out_fits && !__builtin_mul_overflow(*out, UINT64_C(10), out) &&
                    !__builtin_add_overflow(*out, digit, out);
    }
    return true;
}

static sl_status read_integer(struct reader *r, const char *text, size_t n)
{
    enum tensor_type type = r->tensor->type;
    bool is_signed = type >= TENSOR_INT8 && type <= TENSOR_INT64, negative, fits;
    uint64_t magnitude, limit = r->size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * r->size) - 1;
    if (!parse_integer(text, n, &magnitude, &negative, &fits))
        return bad(r, text, n, "is no whole number of");
    if (is_signed) limit = (limit >> 1) + negative;
    if (!fits || magnitude > limit || (negative && magnitude && !is_signed))
        return bad(r, text, n, "does not fit");
    uint64_t bits = negative ? -magnitude : magnitude;
    for (size_t i = 0; i < r->size; i++) r->out[i] = (unsigned char)(bits >> 8 * i);
    return SL_OK;
}

/* A number's parts (RFC 8259, section 6). */
struct number {
    uint64_t digits; /* the first EXACT_DIGITS of them */
    int n_digits;    /* after leading zeros */
    int exponent;    /* of ten, for `digits` */
};

static bool scan_digits(const char **at, const char *end, struct number *out, int step)
{
    const char *begin = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        out->exponent -= step;
        if (!out->n_digits && **at == '0') continue;
        if (++out->n_digits <= EXACT_DIGITS)
            out->digits = out->digits * 10 + (uint64_t)(**at - '0');
    }
    return *at > begin;
}

/* False: it is no number. */
static bool scan_number(const char *text, size_t n, struct number *out)
{
    const char *at = text, *end = text + n;
    struct number exponent = {0};
    if (at < end && *at == '-') at++;
    bool zero = at < end && *at == '0';
    const char *begin = at;
    if (!scan_digits(&at, end, out, 0) || (zero && at > begin + 1)) return false;
    if (at < end && *at == '.') {
        at++;
        if (!scan_digits(&at, end, out, 1)) return false;
    }
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        bool negative = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        if (!scan_digits(&at, end, &exponent, 0)) return false;
        /* One that is longer than an int's is left to strtod. */
        if (exponent.n_digits > 6) out->n_digits = EXACT_DIGITS + 1;
        out->exponent += (int)(negative ? -(int64_t)exponent.digits : (int64_t)exponent.digits);
    }
    return at == end;
}

/* Would another value within a few units of the last place round to another FP32? */
static bool is_near_middle(double value)
{
    uint64_t bits, middle = UINT64_C(1) << (DROPPED_BITS - 1);
    memcpy(&bits, &value, sizeof bits);
    uint64_t dropped = bits & ((UINT64_C(1) << DROPPED_BITS) - 1);
    return fabs(value) < (double)FLT_MIN || (dropped > middle - 8 && dropped < middle + 8);
}

/* W. D. Clinger, "How to read floating point numbers accurately" (1990): when both the digits and
 * the power of ten are doubles, one operation rounds right. Where they are not, the result is off
 * by a few units, which an FP32 mostly has no place for. */
static double value_of(const struct number *number, const char *text, bool narrow)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int e = number->exponent;
    if (number->n_digits > EXACT_DIGITS || e > EXACT_POWER || e < -EXACT_POWER)
        return strtod(text, NULL);
    double digits = (double)number->digits;
    double value = e < 0 ? digits / powers[-e] : digits * powers[e];
    if (number->digits >> EXACT_MANTISSA_BITS && (!narrow || is_near_middle(value)))
        return strtod(text, NULL);
    return *text == '-' ? -value : value;
}

static bool read_special(const char *text, size_t n, double *out)
{
    if (is_word(text, n, "NaN"))
        *out = (double)NAN;
    else if (is_word(text, n, "Infinity"))
        *out = (double)INFINITY;
    else if (is_word(text, n, "-Infinity"))
        *out = -(double)INFINITY;
    else
        return false;
    return true;
}

static sl_status read_float(struct reader *r, const char *text, size_t n)
{
    struct number number = {0};
    double value;
    bool special = read_special(text, n, &value);
    if (!special && !scan_number(text, n, &number)) return bad(r, text, n, "is no number of");
    if (!special) value = value_of(&number, text, r->tensor->type == TENSOR_FP32);
    if (r->tensor->type == TENSOR_FP32) {
        float narrow = (float)value;
        memcpy(r->out, &narrow, sizeof narrow);
        if (!special && isinf(narrow)) return bad(r, text, n, "does not fit");
    } else {
        memcpy(r->out, &value, sizeof value);
        if (!special && isinf(value)) return bad(r, text, n, "does not fit");
    }
    return SL_OK;
}

/* --- texts --- */

static const char *string_end(const struct reader *r)
{
    const char *p = r->at + 1;
    while (p < r->end && *p != '"') p += *p == '\\' && p + 1 < r->end ? 2 : 1;
    return p < r->end ? p + 1 : NULL;
}

static void add_text(struct reader *r, const char *text, size_t n)
{
    for (int i = 0; i < OIP_LENGTH_BYTES; i++) r->out[i] = (unsigned char)(n >> 8 * i);
    memcpy(r->out + OIP_LENGTH_BYTES, text, n);
    r->out += OIP_LENGTH_BYTES + n;
}

static bool is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == '\\') return false;
    return sl_utf8_valid(text, n);
}

/* A text in quotes; text[0..n) has them too. */
static sl_status read_text(struct reader *r, const char *text, size_t n)
{
    struct sl_json_value *value = NULL;
    size_t n_plain;
    if (*text != '"') return bad(r, text, n, "is no text of");
    if (is_plain(text + 1, n - 2)) {
        add_text(r, text + 1, n - 2);
        return SL_OK;
    }
    sl_status status = sl_json_parse(text, n, &value, r->err);
    if (status != SL_OK) return sl_err_prefix(r->err, "element %" PRIu64, r->n);
    const char *plain = sl_json_to_str(value, "", &n_plain);
    add_text(r, plain, n_plain);
    sl_json_free(value);
    return SL_OK;
}

/* --- the list --- */

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static sl_status broken(struct reader *r, const char *what)
{
    return sl_err_set(r->err, SL_INVALID, "after element %" PRIu64 ": %s", r->n, what);
}

static bool ends_word(char c)
{
    switch (c) {
    case ',':
    case ']':
    case ' ':
    case '\n':
    case '\t':
    case '\r':
    case '[':
    case '{':
    case '"': return true;
    default: return false;
    }
}

static sl_status read_element(struct reader *r, read_fn read)
{
    const char *begin = r->at;
    if (*begin == '"') {
        r->at = string_end(r);
        if (!r->at) return broken(r, "a text without its end");
    } else {
        while (r->at < r->end && !ends_word(*r->at)) r->at++;
        if (r->at == begin) return broken(r, "a value is needed here");
    }
    if (!r->depth_elements) r->depth_elements = r->depth;
    if (r->depth != r->depth_elements || (r->depth > 1 && r->depth != r->tensor->rank))
        return broken(r, "the lists are not nested as the shape is");
    if (r->n < r->n_room) {
        sl_status status = read(r, begin, (size_t)(r->at - begin));
        if (status != SL_OK) return status;
        r->out += r->size;
    }
    r->n++;
    return SL_OK;
}

static sl_status open_list(struct reader *r)
{
    int deepest = r->tensor->rank > 1 ? r->tensor->rank : 1;
    r->at++;
    if (r->depth == deepest) return broken(r, "the lists are nested deeper than the shape");
    if (r->depth_elements && r->depth == r->depth_elements)
        return broken(r, "a list where elements stand");
    r->counts[++r->depth] = 0;
    return SL_OK;
}

static sl_status close_list(struct reader *r)
{
    uint64_t n = r->counts[r->depth];
    bool flat = r->depth == 1 && (r->depth_elements == 1 || !n);
    r->at++;
    if (!flat && (int64_t)n != r->tensor->shape[r->depth - 1])
        return sl_err_set(r->err, SL_INVALID,
                          "before element %" PRIu64 ": a list of %" PRIu64
                          " where dimension %d of the shape is %" PRId64,
                          r->n, n, r->depth - 1, r->tensor->shape[r->depth - 1]);
    r->depth--;
    return SL_OK;
}

/* One member, a comma before it. */
static sl_status read_member(struct reader *r, read_fn read)
{
    if (r->counts[r->depth]++) {
        if (*r->at != ',') return broken(r, "a comma is missing");
        r->at++;
        skip_space(r);
        if (r->at == r->end || *r->at == ']') return broken(r, "a value is needed here");
    }
    return *r->at == '[' ? open_list(r) : read_element(r, read);
}

static sl_status read_all(struct reader *r, read_fn read)
{
    sl_status status = open_list(r);
    while (status == SL_OK && r->depth) {
        skip_space(r);
        if (r->at == r->end) return broken(r, "the list has no end");
        status = *r->at == ']' ? close_list(r) : read_member(r, read);
    }
    if (status == SL_OK && r->n != r->n_max)
        return sl_err_set(r->err, SL_INVALID, "%" PRIu64 " elements where the shape needs %" PRIu64,
                          r->n, r->n_max);
    return status;
}

static read_fn reader_of(enum tensor_type type)
{
    switch (type) {
    case TENSOR_BOOL: return read_bool;
    case TENSOR_FP32:
    case TENSOR_FP64: return read_float;
    case TENSOR_BYTES: return read_text;
    case TENSOR_FP16:
    case TENSOR_BF16: return NULL;
    default: return read_integer;
    }
}

sl_status oip_data_read(const struct oip_data *list, struct sl_arena *arena, struct tensor *tensor,
                        struct sl_err *err)
{
    struct reader r = {.at = list->text, .end = list->text + list->n, .tensor = tensor, .err = err};
    read_fn read = reader_of(tensor->type);
    if (!read)
        return sl_err_set(err, SL_INVALID,
                          "JSON has no form for %s: send it as binary data (binary_data_size)",
                          tensor_type_name(tensor->type));
    sl_status status = tensor_count(tensor->shape, tensor->rank, &r.n_max, err);
    if (status != SL_OK)
        return sl_err_set(err, SL_INVALID, "shape: more elements than can be counted");
    r.size = tensor_type_size(tensor->type);
    /* An element takes a byte of text, and a comma: no shape makes us take memory for more. */
    r.n_room = r.n_max < list->n / 2 + 1 ? r.n_max : list->n / 2 + 1;
    size_t n_bytes = r.size ? (size_t)r.n_room * r.size : list->n * 2 + OIP_LENGTH_BYTES;
    unsigned char *data = sl_arena_alloc(arena, n_bytes ? n_bytes : 1);
    if (!data) return sl_err_set(err, SL_LIMIT, "the tensors take too much memory");
    r.out = data;
    status = read_all(&r, read);
    tensor->data = data;
    tensor->n_bytes = (size_t)(r.out - data);
    return status;
}
