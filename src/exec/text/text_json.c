/* text_json.c: a pull reader over JSON text. */
#include "exec/text/text_json.h"

#include "base/json_read.h"
#include "base/utf8.h"
#include <stdlib.h>

#define NUMBER_MAX 64 /* digits and signs; a score has some 20 */

void text_json_init(struct text_json *json, struct text_span span, struct sl_err *err)
{
    *json = (struct text_json){span.s, span.s, span.s + span.n, err};
}

sl_status text_json_fail(const struct text_json *json, const char *what)
{
    return sl_err_set(json->err, SL_INVALID, "JSON: %s at byte %zu", what,
                      (size_t)(json->at - json->start));
}

char text_json_peek(struct text_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r'))
        json->at++;
    return json->at < json->end ? *json->at : '\0';
}

sl_status text_json_open(struct text_json *json, char open)
{
    if (text_json_peek(json) != open)
        return text_json_fail(json, open == '[' ? "an array is expected" : "an object is expected");
    json->at++;
    return SL_OK;
}

sl_status text_json_next(struct text_json *json, char close, bool *first, bool *out_more)
{
    char c = text_json_peek(json);
    bool was_first = *first;
    *first = false;
    *out_more = c != close;
    if (c == close) {
        json->at++;
        return SL_OK;
    }
    if (was_first) return SL_OK;
    if (c != ',') return text_json_fail(json, "a comma is expected");
    json->at++;
    return text_json_peek(json) == close ? text_json_fail(json, "a value is expected") : SL_OK;
}

sl_status text_json_colon(struct text_json *json)
{
    if (text_json_peek(json) != ':') return text_json_fail(json, "a colon is expected");
    json->at++;
    return SL_OK;
}

sl_status text_json_end(struct text_json *json)
{
    return text_json_peek(json) || json->at < json->end
               ? text_json_fail(json, "more than one value")
               : SL_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four digits at json->at, stepped over; UINT32_MAX when they are not there. */
static uint32_t read_hex4(struct text_json *json)
{
    uint32_t value = 0;
    if (json->end - json->at < 4) return UINT32_MAX;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(json->at[i]);
        if (digit < 0) return UINT32_MAX;
        value = value << 4 | (uint32_t)digit;
    }
    json->at += 4;
    return value;
}

/* After "\u". */
static sl_status read_unicode_escape(struct text_json *json, struct sl_buf *out)
{
    char bytes[4];
    uint32_t c = read_hex4(json);
    if (c >= 0xd800 && c < 0xdc00 && json->end - json->at > 2 && json->at[0] == '\\' &&
        json->at[1] == 'u') {
        json->at += 2;
        uint32_t low = read_hex4(json);
        if (low < 0xdc00 || low > 0xdfff) return text_json_fail(json, "half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    size_t n = c == UINT32_MAX ? 0 : sl_utf8_encode(c, bytes);
    return n ? sl_buf_add(out, bytes, n) : text_json_fail(json, "a bad \\u escape");
}

/* After the backslash. */
static sl_status read_escape(struct text_json *json, struct sl_buf *out)
{
    static const char NAMES[] = "\"\\/bfnrt", VALUES[] = "\"\\/\b\f\n\r\t";
    char c = json->at < json->end ? *json->at : '\0';
    if (c == 'u') {
        json->at++;
        return read_unicode_escape(json, out);
    }
    const char *found = c ? strchr(NAMES, c) : NULL;
    if (!found) return text_json_fail(json, "a bad escape");
    json->at++;
    return sl_buf_addc(out, VALUES[found - NAMES]);
}

/* The bytes from json->at on that stand for themselves. */
static size_t plain_run(const struct text_json *json)
{
    const char *p = json->at;
    while (p < json->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20) p++;
    return (size_t)(p - json->at);
}

sl_status text_json_string(struct text_json *json, struct sl_buf *out)
{
    sl_buf_clear(out);
    if (text_json_peek(json) != '"') return text_json_fail(json, "a string is expected");
    json->at++;
    for (;;) {
        size_t n = plain_run(json);
        sl_status status = sl_buf_add(out, json->at, n);
        json->at += n;
        if (status == SL_OK && json->at < json->end && *json->at == '\\') {
            json->at++;
            status = read_escape(json, out);
        } else if (status == SL_OK) {
            if (json->at == json->end || *json->at != '"')
                return text_json_fail(json, "a string has no end");
            json->at++;
            return SL_OK;
        }
        if (status == SL_LIMIT)
            return sl_err_set(json->err, status, "a string of more than %zu bytes", out->max);
        if (status == SL_NOMEM) return sl_err_set(json->err, status, "no memory for a string");
        if (status != SL_OK) return status;
    }
}

sl_status text_json_number(struct text_json *json, double *out)
{
    char digits[NUMBER_MAX + 1], *end;
    size_t n = 0;
    (void)text_json_peek(json);
    while (json->at + n < json->end && n < NUMBER_MAX && strchr("+-.0123456789eE", json->at[n]) &&
           json->at[n])
        n++;
    memcpy(digits, json->at, n);
    digits[n] = '\0';
    *out = strtod(digits, &end);
    if (n == 0 || *end) return text_json_fail(json, "a number is expected");
    json->at += n;
    return SL_OK;
}

static sl_status skip_string(struct text_json *json)
{
    for (json->at++; json->at < json->end; json->at++) {
        if (*json->at == '\\') {
            if (++json->at == json->end) break;
        } else if (*json->at == '"') {
            json->at++;
            return SL_OK;
        }
    }
    return text_json_fail(json, "a string has no end");
}

/* A number or a word. */
static sl_status skip_plain(struct text_json *json)
{
    const char *from = json->at;
    while (json->at < json->end && *json->at && !strchr(" \t\r\n,:[]{}\"", *json->at)) json->at++;
    return json->at > from ? SL_OK : text_json_fail(json, "a value is expected");
}

sl_status text_json_skip(struct text_json *json, struct text_span *out)
{
    int depth = 0;
    char c = text_json_peek(json);
    out->s = json->at;
    do {
        sl_status status = SL_OK;
        if (c == '{' || c == '[') {
            json->at++;
            if (++depth > SL_JSON_READ_DEPTH_MAX)
                return sl_err_set(json->err, SL_LIMIT, "JSON nested deeper than %d levels",
                                  SL_JSON_READ_DEPTH_MAX);
        } else if (depth && (c == '}' || c == ']')) {
            json->at++;
            depth--;
        } else if (c == '"') {
            status = skip_string(json);
        } else if (depth && (c == ',' || c == ':')) {
            json->at++;
        } else {
            status = skip_plain(json);
        }
        if (status != SL_OK) return status;
        out->n = (size_t)(json->at - out->s);
        if (depth) c = text_json_peek(json);
    } while (depth);
    return SL_OK;
}
