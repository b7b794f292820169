/* config_value.c: the kinds of option values. */
#include "base/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUOTE_MAX 40          /* bytes of a value in a message: enough to recognise it */
#define FRACTION_DIGITS_MAX 6 /* of a size: a terabyte in them still fits 63 bits */
#define BOUND_TEXT_MAX 24     /* a double in %g, or 15 digits, and a unit */

static const char unit_letters[] = "KMGT";

static bool has_bounds(const struct sl_opt *opt)
{
    return opt->min != 0 || opt->max != 0;
}

static bool in_bounds(const struct sl_opt *opt, double v)
{
    return !has_bounds(opt) || (v >= opt->min && v <= opt->max);
}

static void format_bound(const struct sl_opt *opt, double v, char out[BOUND_TEXT_MAX])
{
    char unit[2] = "";
    if (opt->type == SL_OPT_BYTES) {
        for (const char *u = unit_letters; *u && v >= 1024 && fmod(v, 1024) == 0; u++) {
            v /= 1024;
            unit[0] = *u;
        }
    }
    bool whole = v == floor(v) && fabs(v) < 1e15; /* doubles hold these exactly */
    snprintf(out, BOUND_TEXT_MAX, whole ? "%.0f%s" : "%g%s", v, unit);
}

const char *sl_opt_range_text(const struct sl_opt *opt, char out[SL_OPT_RANGE_TEXT_MAX])
{
    char min[BOUND_TEXT_MAX], max[BOUND_TEXT_MAX];
    out[0] = '\0';
    if (!has_bounds(opt)) return out;
    format_bound(opt, opt->min, min);
    format_bound(opt, opt->max, max);
    if (isinf(opt->max)) {
        snprintf(out, SL_OPT_RANGE_TEXT_MAX, "at least %s", min);
    } else if (isinf(opt->min)) {
        snprintf(out, SL_OPT_RANGE_TEXT_MAX, "at most %s", max);
    } else {
        snprintf(out, SL_OPT_RANGE_TEXT_MAX, "%s to %s", min, max);
    }
    return out;
}

const char *sl_opt_choices_text(const struct sl_opt *opt, char out[SL_OPT_CHOICES_TEXT_MAX])
{
    size_t n = 0;
    for (const char *s = opt->choices; *s && n + 3 < SL_OPT_CHOICES_TEXT_MAX; s++) {
        out[n++] = *s;
        if (*s == ',') out[n++] = ' ';
    }
    out[n] = '\0';
    return out;
}

static sl_status out_of_range(const struct sl_opt *opt, const char *text, size_t n,
                              struct sl_err *err)
{
    char range[SL_OPT_RANGE_TEXT_MAX];
    sl_opt_range_text(opt, range);
    int shown = n < QUOTE_MAX ? (int)n : QUOTE_MAX;
    if (!range[0])
        return sl_err_set(err, SL_INVALID, "--%s: %.*s is too large a number", opt->name, shown,
                          text);
    return sl_err_set(err, SL_INVALID, "--%s: %.*s is out of range (%s)", opt->name, shown, text,
                      range);
}

static sl_status not_a(const struct sl_opt *opt, const char *text, size_t n, const char *what,
                       struct sl_err *err)
{
    int shown = n < QUOTE_MAX ? (int)n : QUOTE_MAX;
    return sl_err_set(err, SL_INVALID, "--%s: \"%.*s\" is not %s", opt->name, shown, text, what);
}

/* Decimal digits with an optional sign, and nothing else. INVALID: not a number; LIMIT: does not
 * fit. */
static sl_status parse_i64(const char *text, size_t n, int64_t *out)
{
    bool negative = n > 0 && text[0] == '-';
    size_t i = n > 0 && (text[0] == '-' || text[0] == '+');
    if (i == n) return SL_INVALID;
    bool fits = true;
    int64_t v = 0;
    for (; i < n; i++) {
        if (!isdigit((unsigned char)text[i])) return SL_INVALID;
        int64_t digit = negative ? -(text[i] - '0') : text[i] - '0';
        fits = fits && !__builtin_mul_overflow(v, 10, &v) && !__builtin_add_overflow(v, digit, &v);
    }
    *out = v;
    return fits ? SL_OK : SL_LIMIT;
}

static sl_status set_bool(const struct sl_opt *opt, const char *text, bool *field,
                          struct sl_err *err)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return not_a(opt, text, strlen(text), "true or false", err);
    *field = yes;
    return SL_OK;
}

static sl_status set_int(const struct sl_opt *opt, const char *text, int64_t *field,
                         struct sl_err *err)
{
    size_t n = strlen(text);
    int64_t v;
    sl_status status = parse_i64(text, n, &v);
    if (status == SL_INVALID) return not_a(opt, text, n, "a whole number", err);
    if (status != SL_OK || !in_bounds(opt, (double)v)) return out_of_range(opt, text, n, err);
    *field = v;
    return SL_OK;
}

static sl_status set_float(const struct sl_opt *opt, const char *text, double *field,
                           struct sl_err *err)
{
    char *end;
    double v = strtod(text, &end);
    bool blank_first = isspace((unsigned char)text[0]);
    if (end == text || *end || blank_first || isnan(v))
        return not_a(opt, text, strlen(text), "a number", err);
    if (isinf(v) || !in_bounds(opt, v)) return out_of_range(opt, text, strlen(text), err);
    *field = v;
    return SL_OK;
}

/* How many bits the unit at the end shifts by; 0 without a unit. Takes it off: "G", "GiB". */
static int unit_shift(const char *text, size_t *n)
{
    size_t length = *n > 2 && !memcmp(text + *n - 2, "iB", 2) ? *n - 2 : *n;
    if (length == 0) return 0;
    const char *unit = strchr(unit_letters, toupper((unsigned char)text[length - 1]));
    if (!unit) return 0;
    *n = length - 1;
    return 10 * (int)(unit - unit_letters + 1);
}

/* Adds the digits after the point of a number of units. INVALID: no digits, or too many. */
static sl_status add_fraction(const char *digits, size_t n, int shift, int64_t *bytes)
{
    int64_t v, scale = 1;
    if (n == 0 || n > FRACTION_DIGITS_MAX || !isdigit((unsigned char)*digits)) return SL_INVALID;
    if (parse_i64(digits, n, &v) != SL_OK) return SL_INVALID;
    for (size_t i = 0; i < n; i++) scale *= 10;
    return __builtin_add_overflow(*bytes, (v << shift) / scale, bytes) ? SL_LIMIT : SL_OK;
}

/* "512", "64K", "2.5G", "2.5GiB". As parse_i64. */
static sl_status parse_size(const char *text, size_t n, int64_t *out)
{
    int shift = unit_shift(text, &n);
    const char *point = shift && *text != '-' ? memchr(text, '.', n) : NULL;
    sl_status status = parse_i64(text, point ? (size_t)(point - text) : n, out);
    if (status == SL_OK && __builtin_mul_overflow(*out, (int64_t)1 << shift, out))
        status = SL_LIMIT;
    if (status == SL_INVALID || !point) return status;
    sl_status fraction = add_fraction(point + 1, (size_t)(text + n - point - 1), shift, out);
    return fraction == SL_OK ? status : fraction;
}

static sl_status set_bytes(const struct sl_opt *opt, const char *text, int64_t *field,
                           struct sl_err *err)
{
    size_t n = strlen(text);
    int64_t v;
    sl_status status = parse_size(text, n, &v);
    if (status == SL_INVALID)
        return not_a(opt, text, n, "a size such as 512, 64K, 100M or 2.5G", err);
    if (status != SL_OK || v < 0 || !in_bounds(opt, (double)v))
        return out_of_range(opt, text, n, err);
    *field = v;
    return SL_OK;
}

static sl_status set_enum(const struct sl_opt *opt, const char *text, int *field,
                          struct sl_err *err)
{
    size_t n = strlen(text);
    int index = 0;
    for (const char *choice = opt->choices;; index++) {
        size_t len = strcspn(choice, ",");
        if (len == n && memcmp(choice, text, n) == 0) {
            *field = index;
            return SL_OK;
        }
        if (!choice[len]) break;
        choice += len + 1;
    }
    char choices[SL_OPT_CHOICES_TEXT_MAX];
    int shown = n < QUOTE_MAX ? (int)n : QUOTE_MAX;
    return sl_err_set(err, SL_INVALID, "--%s: \"%.*s\" is not one of %s", opt->name, shown, text,
                      sl_opt_choices_text(opt, choices));
}

static sl_status add_to_ints(const struct sl_opt *opt, const char *item, size_t n,
                             struct sl_opt_ints *ints, struct sl_err *err)
{
    int64_t v;
    sl_status status = parse_i64(item, n, &v);
    if (status == SL_INVALID) return not_a(opt, item, n, "a whole number", err);
    bool fits = status == SL_OK && v >= INT32_MIN && v <= INT32_MAX;
    if (!fits || !in_bounds(opt, (double)v)) return out_of_range(opt, item, n, err);
    if (ints->n == SL_OPT_INTS_MAX) {
        return sl_err_set(err, SL_INVALID, "--%s: more than %d numbers", opt->name,
                          SL_OPT_INTS_MAX);
    }
    ints->v[ints->n++] = (int32_t)v;
    return SL_OK;
}

static sl_status set_ints(const struct sl_opt *opt, const char *text, struct sl_opt_ints *field,
                          struct sl_err *err)
{
    field->n = 0;
    for (const char *item = text;;) {
        size_t len = strcspn(item, ",");
        sl_status status = add_to_ints(opt, item, len, field, err);
        if (status != SL_OK) return status;
        if (!item[len]) return SL_OK;
        item += len + 1;
    }
}

static sl_status add_string(const struct sl_opt *opt, const char *text,
                            struct sl_opt_strings *field, struct sl_err *err)
{
    if (field->n == SL_OPT_STRINGS_MAX)
        return sl_err_set(err, SL_INVALID, "--%s: more than %d of it", opt->name,
                          SL_OPT_STRINGS_MAX);
    field->v[field->n++] = text;
    return SL_OK;
}

static void set_zero(const struct sl_opt *opt, void *field)
{
    switch (opt->type) {
    case SL_OPT_BOOL: *(bool *)field = false; break;
    case SL_OPT_INT:
    case SL_OPT_BYTES: *(int64_t *)field = 0; break;
    case SL_OPT_FLOAT: *(double *)field = 0; break;
    case SL_OPT_STRING: *(const char **)field = NULL; break;
    case SL_OPT_ENUM: *(int *)field = 0; break;
    case SL_OPT_INTS: ((struct sl_opt_ints *)field)->n = 0; break;
    case SL_OPT_STRINGS: ((struct sl_opt_strings *)field)->n = 0; break;
    }
}

sl_status sl_opt_set(const struct sl_opt *opt, const char *text, void *target, struct sl_err *err)
{
    void *field = (char *)target + opt->offset;
    if (!text) {
        set_zero(opt, field);
        return SL_OK;
    }
    switch (opt->type) {
    case SL_OPT_BOOL: return set_bool(opt, text, field, err);
    case SL_OPT_INT: return set_int(opt, text, field, err);
    case SL_OPT_FLOAT: return set_float(opt, text, field, err);
    case SL_OPT_BYTES: return set_bytes(opt, text, field, err);
    case SL_OPT_ENUM: return set_enum(opt, text, field, err);
    case SL_OPT_INTS: return set_ints(opt, text, field, err);
    case SL_OPT_STRINGS: return add_string(opt, text, field, err);
    case SL_OPT_STRING: *(const char **)field = text; return SL_OK;
    }
    return sl_err_set(err, SL_INTERNAL, "--%s: option table names no known type", opt->name);
}
