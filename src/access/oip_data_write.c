/* oip_data_write.c: a typed array as a JSON list. */
#include "access/oip_data.h"
#include "access/oip_int.h"
#include "base/json.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ELEMENT_MAX 32 /* bytes of the longest number, and a comma */
/* Numbers closer than this, relatively, are the same FP32: half of its smallest step, 2^-25. */
#define SAME_FP32 2.9e-8
#define DIGITS_MIN 6 /* of FP32: what is shorter ends in zeros, which are cut */
#define DIGITS_MAX 9 /* that make it unique */

#define COMMON_MIN 1e-4 /* smaller ones are better written with an exponent */

/* Whole numbers up to here print as such; every one of them is a double. */
#define WHOLE_MAX 1e15

static size_t put_unsigned(char *out, uint64_t v)
{
    char digits[20];
    size_t n = 0;
    do digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    for (size_t i = 0; i < n; i++) out[i] = digits[n - 1 - i];
    return n;
}

static size_t put_integer(char *out, const unsigned char *p, enum tensor_type type)
{
    size_t size = tensor_type_size(type);
    uint64_t bits = 0;
    for (size_t i = 0; i < size; i++) bits |= (uint64_t)p[i] << 8 * i;
    bool negative = type >= TENSOR_INT8 && type <= TENSOR_INT64 && p[size - 1] & 0x80;
    if (!negative) return put_unsigned(out, bits);
    if (size < sizeof bits) bits |= UINT64_MAX << 8 * size;
    *out = '-';
    return 1 + put_unsigned(out + 1, -bits);
}

static size_t put_zeros(char *out, int n)
{
    memset(out, '0', (size_t)n);
    return (size_t)n;
}

/* digits times ten to the exponent, written out in full with a point in it. */
static size_t put_decimal(char *out, uint64_t digits, int exponent)
{
    char text[20];
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    int n_digits = (int)put_unsigned(text, digits), point = n_digits + exponent;
    size_t n = 0, n_before = point > 0 ? (size_t)(point < n_digits ? point : n_digits) : 0;
    if (point <= 0) n += put_zeros(out, 1);
    memcpy(out + n, text, n_before);
    n += n_before;
    if (point > n_digits) n += put_zeros(out + n, point - n_digits);
    out[n++] = '.';
    if (point < 0) n += put_zeros(out + n, -point);
    if (point >= n_digits) return n + put_zeros(out + n, 1);
    memcpy(out + n, text + n_before, (size_t)n_digits - n_before);
    return n + (size_t)n_digits - n_before;
}

/* From 1e-4 to 1e15, where the powers of ten below are exact: the fewest digits that are the same
 * FP32. printf would take five times as long, and tensors have many elements. */
static size_t put_common_float(char *out, double v)
{
    static const double powers[] = {1e-4, 1e-3, 1e-2, 1e-1, 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,
                                    1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    int magnitude = 0; /* v is from ten to it, to ten times that */
    while (v >= powers[magnitude + 5]) magnitude++;
    while (v < powers[magnitude + 4]) magnitude--;
    int scale = DIGITS_MAX - 1 - magnitude;
    double scaled = scale >= 0 ? v * powers[scale + 4] : v / powers[4 - scale];
    uint64_t digits = (uint64_t)(scaled + 0.5), unit = 1;
    for (int n = DIGITS_MAX - 1; n >= DIGITS_MIN; n--) {
        uint64_t shorter = (digits + 5 * unit) / (10 * unit) * (10 * unit);
        if (fabs((double)shorter - scaled) >= scaled * SAME_FP32) break;
        unit *= 10;
    }
    digits = (digits + unit / 2) / unit * unit;
    return put_decimal(out, digits, -scale);
}

static size_t put_number(char *out, double v, int digits_max)
{
    if (!isfinite(v)) {
        memcpy(out, "null", 4);
        return 4;
    }
    size_t sign = signbit(v) != 0;
    double size = fabs(v);
    *out = '-';
    if (size < WHOLE_MAX && size == floor(size)) {
        size_t n = sign + put_unsigned(out + sign, (uint64_t)size);
        memcpy(out + n, ".0", 2);
        return n + 2;
    }
    if (digits_max == DIGITS_MAX && size >= COMMON_MIN && size < WHOLE_MAX)
        return sign + put_common_float(out + sign, size);
    return sign + (size_t)snprintf(out + sign, ELEMENT_MAX - sign, "%.*g", digits_max, size);
}

static size_t put_element(char *out, const unsigned char *p, enum tensor_type type)
{
    float narrow;
    double wide;
    switch (type) {
    case TENSOR_BOOL: return (size_t)(stpcpy(out, *p ? "true" : "false") - out);
    case TENSOR_FP32:
        memcpy(&narrow, p, sizeof narrow);
        return put_number(out, (double)narrow, DIGITS_MAX);
    case TENSOR_FP64: memcpy(&wide, p, sizeof wide); return put_number(out, wide, 17);
    default: return put_integer(out, p, type);
    }
}

static sl_status no_room(struct sl_err *err, sl_status status)
{
    return sl_err_set(err, status,
                      "the answer does not fit into memory as JSON; ask for it as "
                      "binary data (binary_data)");
}

static sl_status write_numbers(const struct tensor *tensor, struct sl_buf *out, struct sl_err *err)
{
    char piece[64 * ELEMENT_MAX];
    const unsigned char *p = tensor->data, *end = p + tensor->n_bytes;
    size_t size = tensor_type_size(tensor->type), n = 0;
    sl_status status = SL_OK;
    for (; p < end && status == SL_OK; p += size) {
        if (p != tensor->data) piece[n++] = ',';
        n += put_element(piece + n, p, tensor->type);
        if (n < sizeof piece - ELEMENT_MAX - 1) continue;
        status = sl_buf_add(out, piece, n);
        n = 0;
    }
    if (status == SL_OK) status = sl_buf_add(out, piece, n);
    return status == SL_OK ? SL_OK : no_room(err, status);
}

static sl_status write_texts(const struct tensor *tensor, struct sl_buf *out, struct sl_err *err)
{
    const char *p = tensor->data, *end = p + tensor->n_bytes;
    sl_status status = SL_OK;
    for (uint64_t i = 0; p < end && status == SL_OK; i++) {
        size_t n = oip_element_length(p);
        struct sl_json json;
        if (!sl_utf8_valid(p + OIP_LENGTH_BYTES, n))
            return sl_err_set(err, SL_INVALID,
                              "element %" PRIu64 " is not UTF-8; ask for it as binary data "
                              "(binary_data)",
                              i);
        if (i) status = sl_buf_addc(out, ',');
        sl_json_begin(&json, out, false);
        sl_json_strn(&json, p + OIP_LENGTH_BYTES, n);
        sl_status ended = sl_json_end(&json);
        if (status == SL_OK) status = ended;
        p += OIP_LENGTH_BYTES + n;
    }
    return status == SL_OK ? SL_OK : no_room(err, status);
}

sl_status oip_data_write(const struct tensor *tensor, struct sl_buf *out, struct sl_err *err)
{
    if (tensor->type == TENSOR_FP16 || tensor->type == TENSOR_BF16)
        return sl_err_set(err, SL_INVALID,
                          "JSON has no form for %s: ask for it as binary data (binary_data)",
                          tensor_type_name(tensor->type));
    sl_status status = sl_buf_addc(out, '[');
    if (status != SL_OK) return no_room(err, status);
    status = tensor->type == TENSOR_BYTES ? write_texts(tensor, out, err)
                                          : write_numbers(tensor, out, err);
    if (status != SL_OK) return status;
    status = sl_buf_addc(out, ']');
    return status == SL_OK ? SL_OK : no_room(err, status);
}
