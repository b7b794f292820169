/* json.c: the JSON writer. */
#include "base/json.h"

#include "base/decimal.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static void fail(struct sl_json *json, sl_status status)
{
    if (json->status == SL_OK) json->status = status;
}

static void put(struct sl_json *json, const char *bytes, size_t n)
{
    if (json->status == SL_OK) json->status = sl_buf_add(json->out, bytes, n);
}

static void puts_lit(struct sl_json *json, const char *s)
{
    put(json, s, strlen(s));
}

static void put_newline(struct sl_json *json)
{
    if (!json->pretty) return;
    puts_lit(json, "\n");
    for (int i = 0; i < json->depth; i++) puts_lit(json, "  ");
}

/* The comma and the new line before a key, or before a value outside objects. */
static void put_separator(struct sl_json *json)
{
    if (json->has_item[json->depth]) puts_lit(json, ",");
    json->has_item[json->depth] = true;
    if (json->depth > 0) put_newline(json);
}

/* To be called before every value; false when none may stand here. */
static bool value_begin(struct sl_json *json)
{
    if (json->status != SL_OK) return false;
    bool second_root = json->depth == 0 && json->has_item[0];
    bool key_missing = json->is_object[json->depth] && !json->after_key;
    if (second_root || key_missing) {
        fail(json, SL_INTERNAL);
        return false;
    }
    if (!json->after_key) put_separator(json);
    json->after_key = false;
    return true;
}

void sl_json_begin(struct sl_json *json, struct sl_buf *out, bool pretty)
{
    *json = (struct sl_json){.out = out, .pretty = pretty};
}

sl_status sl_json_end(struct sl_json *json)
{
    if (json->depth != 0 || !json->has_item[0]) fail(json, SL_INTERNAL);
    return json->status;
}

static void container_begin(struct sl_json *json, bool is_object)
{
    if (!value_begin(json)) return;
    if (json->depth == SL_JSON_DEPTH_MAX) {
        fail(json, SL_LIMIT);
        return;
    }
    puts_lit(json, is_object ? "{" : "[");
    json->depth++;
    json->has_item[json->depth] = false;
    json->is_object[json->depth] = is_object;
}

static void container_end(struct sl_json *json, bool is_object)
{
    if (json->status != SL_OK) return;
    if (json->depth == 0 || json->is_object[json->depth] != is_object || json->after_key) {
        fail(json, SL_INTERNAL);
        return;
    }
    bool empty = !json->has_item[json->depth];
    json->depth--;
    if (!empty) put_newline(json);
    puts_lit(json, is_object ? "}" : "]");
}

void sl_json_object(struct sl_json *json)
{
    container_begin(json, true);
}

void sl_json_object_end(struct sl_json *json)
{
    container_end(json, true);
}

void sl_json_array(struct sl_json *json)
{
    container_begin(json, false);
}

void sl_json_array_end(struct sl_json *json)
{
    container_end(json, false);
}

static void put_escaped_ascii(struct sl_json *json, unsigned char c)
{
    static const char letters[] =
        "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: byte, letter after the backslash */
    for (const char *pair = letters; *pair; pair += 2) {
        if ((unsigned char)pair[0] != c) continue;
        put(json, (char[2]){'\\', pair[1]}, 2);
        return;
    }
    char text[8];
    int n = snprintf(text, sizeof text, "\\u%04x", c);
    put(json, text, (size_t)n);
}

/* Is this byte a character that stands for itself? */
static inline bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Length of the longest prefix that can be copied as it is. */
static size_t plain_length(const char *s, size_t n)
{
    size_t i = 0;
    for (;;) {
        while (i < n && is_plain((unsigned char)s[i])) i++;
        if (i == n || (unsigned char)s[i] < 0x80) return i;
        uint32_t codepoint;
        size_t len = sl_utf8_decode(s + i, n - i, &codepoint);
        if (len == 0) return i;
        i += len;
    }
}

static void put_quoted(struct sl_json *json, const char *s, size_t n)
{
    puts_lit(json, "\"");
    while (n > 0 && json->status == SL_OK) {
        size_t plain = plain_length(s, n);
        put(json, s, plain);
        s += plain;
        n -= plain;
        if (n == 0) break;
        if ((unsigned char)*s < 0x80) {
            put_escaped_ascii(json, (unsigned char)*s);
        } else {
            puts_lit(json, REPLACEMENT);
        }
        s++;
        n--;
    }
    puts_lit(json, "\"");
}

void sl_json_keyn(struct sl_json *json, const char *key, size_t n)
{
    if (json->status != SL_OK) return;
    if (!json->is_object[json->depth] || json->after_key) {
        fail(json, SL_INTERNAL);
        return;
    }
    put_separator(json);
    put_quoted(json, key, n);
    puts_lit(json, json->pretty ? ": " : ":");
    json->after_key = true;
}

void sl_json_key(struct sl_json *json, const char *key)
{
    sl_json_keyn(json, key, strlen(key));
}

void sl_json_strn(struct sl_json *json, const char *s, size_t n)
{
    if (value_begin(json)) put_quoted(json, s, n);
}

void sl_json_str(struct sl_json *json, const char *s)
{
    if (s) {
        sl_json_strn(json, s, strlen(s));
    } else {
        sl_json_null(json);
    }
}

void sl_json_raw(struct sl_json *json, const char *text, size_t n)
{
    if (value_begin(json)) put(json, text, n);
}

static void put_word(struct sl_json *json, const char *word)
{
    if (value_begin(json)) puts_lit(json, word);
}

void sl_json_int(struct sl_json *json, int64_t v)
{
    char text[SL_DECIMAL_MAX];
    size_t n = sl_decimal(v, text);
    if (value_begin(json)) put(json, text, n);
}

/* The fewest digits that read back as the same double. Relies on the "C" numeric locale, which no
 * part of the program changes. */
void sl_json_num(struct sl_json *json, double v)
{
    if (!isfinite(v)) {
        sl_json_null(json);
        return;
    }
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    if (v == 0 && signbit(v)) strcpy(text, "-0.0"); /* "-0" would read back as the integer 0 */
    put_word(json, text);
}

void sl_json_bool(struct sl_json *json, bool v)
{
    put_word(json, v ? "true" : "false");
}

void sl_json_null(struct sl_json *json)
{
    put_word(json, "null");
}

void sl_json_kv_str(struct sl_json *json, const char *key, const char *s)
{
    sl_json_key(json, key);
    sl_json_str(json, s);
}

void sl_json_kv_int(struct sl_json *json, const char *key, int64_t v)
{
    sl_json_key(json, key);
    sl_json_int(json, v);
}

void sl_json_kv_num(struct sl_json *json, const char *key, double v)
{
    sl_json_key(json, key);
    sl_json_num(json, v);
}

void sl_json_kv_bool(struct sl_json *json, const char *key, bool v)
{
    sl_json_key(json, key);
    sl_json_bool(json, v);
}
