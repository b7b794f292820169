/* json_read.c: a recursive-descent reader that builds jansson's tree, and the queries on it.
 * jansson keeps the tree because its objects are hashed with a random seed and remember their
 * order. Its own parser is not used: it refuses NUL in keys and integers past int64_t, recurses
 * deeper than we allow, and goes past its buffer when memory runs out in the middle of a string. */
#include "base/json_read.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -2^63, and 2^63, the first whole number past int64_t; both are doubles. */
#define INT64_LOW (-9223372036854775808.0)
#define INT64_PAST 9223372036854775808.0

struct reader {
    const char *text, *at, *end;
    int depth, n_values;
    struct sl_buf scratch; /* a string without its escapes, or a number with a NUL behind it */
    struct sl_err *err;
    sl_status status;
};

/* jansson's allocator is the process's, also for tests that use jansson themselves: setting it
 * before main runs means that what it allocates and what it frees always match. */
__attribute__((constructor)) static void use_our_allocator(void)
{
    json_set_alloc_funcs(sl_malloc, sl_free);
}

/* Both return NULL, for read_* to return in turn. */
static void *fail(struct reader *r, sl_status status, const char *what)
{
    int line = 1, column = 1; /* columns count characters: bytes that continue one do not */
    for (const char *p = r->text; p < r->at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*p & 0xc0) != 0x80) {
            column++;
        }
    }
    r->status = sl_err_set(r->err, status, "line %d, column %d: %s", line, column, what);
    return NULL;
}

static void *no_memory(struct reader *r)
{
    r->status = sl_err_set(r->err, SL_NOMEM, "out of memory");
    return NULL;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool next_is(const struct reader *r, char c)
{
    return r->at < r->end && *r->at == c;
}

static bool take(struct reader *r, char c)
{
    if (!next_is(r, c)) return false;
    r->at++;
    return true;
}

/* As take, but white space may come first. */
static bool take_token(struct reader *r, char c)
{
    skip_space(r);
    return take(r, c);
}

/* Strings */

static bool save(struct reader *r, const char *bytes, size_t n)
{
    if (sl_buf_add(&r->scratch, bytes, n) == SL_OK) return true;
    no_memory(r); /* LIMIT cannot be: what is saved is never longer than its spelling */
    return false;
}

/* The first byte that cannot be taken as it is: quote, backslash, control, bad UTF-8. */
static const char *plain_end(const char *s, const char *end)
{
    while (s < end) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\') break;
        uint32_t codepoint;
        size_t n = c < 0x80 ? 1 : sl_utf8_decode(s, (size_t)(end - s), &codepoint);
        if (n == 0) break;
        s += n;
    }
    return s;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits after \u. */
static bool read_hex4(struct reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int digit = r->at < r->end ? hex_value(*r->at) : -1;
        if (digit < 0) return fail(r, SL_INVALID, "\\u needs four hexadecimal digits");
        *out = *out << 4 | (uint32_t)digit;
        r->at++;
    }
    return true;
}

/* What stands after \u: one code point, or two surrogates that make one (RFC 8259, section 7). */
static bool read_unicode_escape(struct reader *r)
{
    uint32_t code, low;
    if (!read_hex4(r, &code)) return false;
    if (code >= 0xd800 && code < 0xdc00) {
        if (!take(r, '\\') || !take(r, 'u')) return fail(r, SL_INVALID, "half a surrogate pair");
        if (!read_hex4(r, &low)) return false;
        if (low < 0xdc00 || low > 0xdfff) return fail(r, SL_INVALID, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    char bytes[4];
    size_t n = sl_utf8_encode(code, bytes);
    if (n == 0) return fail(r, SL_INVALID, "half a surrogate pair");
    return save(r, bytes, n);
}

static bool read_escape(struct reader *r)
{
    static const char letters[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    r->at++; /* the backslash */
    if (take(r, 'u')) return read_unicode_escape(r);
    const char *letter = r->at < r->end && *r->at ? strchr(letters, *r->at) : NULL;
    if (!letter) return fail(r, SL_INVALID, "no such escape in a string");
    r->at++;
    return save(r, bytes + (letter - letters), 1);
}

/* Goes on with a string that is not plain to its end, copying it. */
static bool read_escaped_string(struct reader *r, const char *start)
{
    sl_buf_clear(&r->scratch);
    for (;;) {
        if (!save(r, start, (size_t)(r->at - start))) return false;
        if (r->at == r->end) return fail(r, SL_INVALID, "the string does not end");
        if (take(r, '"')) return true;
        if ((unsigned char)*r->at < 0x20)
            return fail(r, SL_INVALID, "a control character in a string must be escaped");
        if (*r->at != '\\') return fail(r, SL_INVALID, "not UTF-8");
        if (!read_escape(r)) return false;
        start = r->at;
        r->at = plain_end(start, r->end);
    }
}

/* At the opening quote. *out is valid until the next string or number is read. */
static bool read_string(struct reader *r, const char **out, size_t *n)
{
    const char *start = ++r->at;
    r->at = plain_end(start, r->end);
    *out = start;
    *n = (size_t)(r->at - start);
    if (take(r, '"')) return true;
    if (!read_escaped_string(r, start)) return false;
    *out = r->scratch.data;
    *n = r->scratch.len;
    return true;
}

/* Numbers */

static bool skip_digits(struct reader *r)
{
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    if (r->at > start) return true;
    return fail(r, SL_INVALID, "expected a digit");
}

/* False when the integer does not fit. */
static bool digits_to_int(const char *s, const char *end, int64_t *out)
{
    bool negative = *s == '-';
    int64_t value = 0; /* kept negative, because INT64_MIN has no positive counterpart */
    for (s += negative; s < end; s++) {
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_sub_overflow(value, *s - '0', &value)) return false;
    }
    if (!negative && value == INT64_MIN) return false;
    *out = negative ? value : -value;
    return true;
}

/* Relies on the "C" numeric locale, which no part of the program changes. */
static json_t *make_real(struct reader *r, const char *start)
{
    sl_buf_clear(&r->scratch);
    if (!save(r, start, (size_t)(r->at - start))) return NULL;
    double value = strtod(r->scratch.data, NULL);
    if (!isfinite(value)) return fail(r, SL_INVALID, "the number is out of range");
    json_t *real = json_real(value);
    return real ? real : no_memory(r);
}

static json_t *read_number(struct reader *r)
{
    const char *start = r->at;
    bool is_whole = true;
    int64_t value;
    take(r, '-');
    if (!take(r, '0') && !skip_digits(r)) return NULL;
    if (take(r, '.')) {
        is_whole = false;
        if (!skip_digits(r)) return NULL;
    }
    if (take(r, 'e') || take(r, 'E')) {
        is_whole = false;
        if (!take(r, '+')) take(r, '-');
        if (!skip_digits(r)) return NULL;
    }
    if (!is_whole || !digits_to_int(start, r->at, &value)) return make_real(r, start);
    json_t *integer = json_integer(value);
    return integer ? integer : no_memory(r);
}

/* Values */

static json_t *read_value(struct reader *r);

/* At the key. */
static bool read_member(struct reader *r, json_t *object)
{
    const char *key;
    size_t n_key;
    char *copy = NULL; /* the value may use the scratch buffer, where the key may be */
    if (!next_is(r, '"')) return fail(r, SL_INVALID, "expected a key in double quotes");
    if (!read_string(r, &key, &n_key)) return false;
    if (!take_token(r, ':')) return fail(r, SL_INVALID, "expected ':' after the key");
    if (key == r->scratch.data) {
        key = copy = sl_memdup(key, n_key);
        if (!copy) return no_memory(r);
    }
    json_t *value = read_value(r);
    bool ok = value && json_object_setn_new_nocheck(object, key, n_key, value) == 0;
    if (value && !ok) no_memory(r);
    sl_free(copy);
    return ok;
}

static json_t *read_object(struct reader *r)
{
    json_t *object = json_object();
    if (!object) return no_memory(r);
    r->at++; /* the brace */
    if (take_token(r, '}')) return object;
    do {
        skip_space(r);
        if (!read_member(r, object)) goto fail;
    } while (take_token(r, ','));
    if (take(r, '}')) return object;
    fail(r, SL_INVALID, "expected ',' or '}'");
fail:
    json_decref(object);
    return NULL;
}

static json_t *read_array(struct reader *r)
{
    json_t *array = json_array();
    if (!array) return no_memory(r);
    r->at++; /* the bracket */
    if (take_token(r, ']')) return array;
    do {
        json_t *item = read_value(r);
        if (!item) goto fail;
        if (json_array_append_new(array, item) != 0) {
            no_memory(r);
            goto fail;
        }
    } while (take_token(r, ','));
    if (take(r, ']')) return array;
    fail(r, SL_INVALID, "expected ',' or ']'");
fail:
    json_decref(array);
    return NULL;
}

static json_t *read_container(struct reader *r)
{
    if (r->depth == SL_JSON_READ_DEPTH_MAX) return fail(r, SL_LIMIT, "nested too deeply");
    r->depth++;
    json_t *value = *r->at == '{' ? read_object(r) : read_array(r);
    r->depth--;
    return value;
}

static json_t *read_string_value(struct reader *r)
{
    const char *s;
    size_t n;
    if (!read_string(r, &s, &n)) return NULL;
    json_t *value = json_stringn_nocheck(s, n);
    return value ? value : no_memory(r);
}

static json_t *read_word(struct reader *r)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, words[i], n) != 0) continue;
        r->at += n;
        return i == 2 ? json_null() : json_boolean(i == 0);
    }
    return fail(r, SL_INVALID, "expected a value");
}

static json_t *read_value(struct reader *r)
{
    skip_space(r);
    if (r->at == r->end) return fail(r, SL_INVALID, "the text ends where a value should be");
    if (r->n_values++ == SL_JSON_READ_VALUES_MAX) return fail(r, SL_LIMIT, "too many values");
    char c = *r->at;
    if (c == '"') return read_string_value(r);
    if (c == '{' || c == '[') return read_container(r);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r);
    return read_word(r);
}

sl_status sl_json_parse(const char *text, size_t n, struct sl_json_value **out, struct sl_err *err)
{
    struct reader r = {.text = text, .at = text, .end = text + n, .err = err};
    sl_buf_init(&r.scratch, n);
    json_t *root = read_value(&r);
    skip_space(&r);
    if (root && r.at < r.end) {
        json_decref(root);
        root = fail(&r, SL_INVALID, "something stands after the value");
    }
    sl_buf_done(&r.scratch);
    if (root) *out = (struct sl_json_value *)root;
    return r.status;
}

/* Queries. A value is a json_t behind the opaque type; jansson's queries take them mutable. */

static json_t *node(const struct sl_json_value *value)
{
    return (json_t *)(uintptr_t)value;
}

void sl_json_free(struct sl_json_value *root)
{
    json_decref((json_t *)root);
}

enum sl_json_type sl_json_type(const struct sl_json_value *value)
{
    static const enum sl_json_type types[] = {
        [JSON_OBJECT] = SL_JSON_OBJECT, [JSON_ARRAY] = SL_JSON_ARRAY, [JSON_STRING] = SL_JSON_STR,
        [JSON_INTEGER] = SL_JSON_INT,   [JSON_REAL] = SL_JSON_NUM,    [JSON_TRUE] = SL_JSON_BOOL,
        [JSON_FALSE] = SL_JSON_BOOL,    [JSON_NULL] = SL_JSON_NULL,
    };
    return value ? types[json_typeof(node(value))] : SL_JSON_NULL;
}

const char *sl_json_type_name(enum sl_json_type type)
{
    static const char *const names[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    return names[type];
}

bool sl_json_is(const struct sl_json_value *value, enum sl_json_type type)
{
    return sl_json_type(value) == type;
}

bool sl_json_to_bool(const struct sl_json_value *value, bool otherwise)
{
    return sl_json_is(value, SL_JSON_BOOL) ? json_is_true(node(value)) : otherwise;
}

int64_t sl_json_to_int(const struct sl_json_value *value, int64_t otherwise)
{
    if (sl_json_is(value, SL_JSON_INT)) return json_integer_value(node(value));
    if (!sl_json_is(value, SL_JSON_NUM)) return otherwise;
    double number = json_real_value(node(value));
    bool fits = number >= INT64_LOW && number < INT64_PAST && number == floor(number);
    return fits ? (int64_t)number : otherwise;
}

double sl_json_to_num(const struct sl_json_value *value, double otherwise)
{
    bool is_number = sl_json_is(value, SL_JSON_INT) || sl_json_is(value, SL_JSON_NUM);
    return is_number ? json_number_value(node(value)) : otherwise;
}

const char *sl_json_to_str(const struct sl_json_value *value, const char *otherwise, size_t *n)
{
    bool is_string = sl_json_is(value, SL_JSON_STR);
    if (n && is_string) *n = json_string_length(node(value));
    if (n && !is_string) *n = otherwise ? strlen(otherwise) : 0;
    return is_string ? json_string_value(node(value)) : otherwise;
}

size_t sl_json_size(const struct sl_json_value *value)
{
    if (sl_json_is(value, SL_JSON_OBJECT)) return json_object_size(node(value));
    return json_array_size(node(value)); /* 0 for all else, NULL too */
}

const struct sl_json_value *sl_json_at(const struct sl_json_value *array, size_t i)
{
    return (const struct sl_json_value *)json_array_get(node(array), i);
}

const struct sl_json_value *sl_json_get(const struct sl_json_value *object, const char *key)
{
    return (const struct sl_json_value *)json_object_get(node(object), key);
}

bool sl_json_next(const struct sl_json_value *object, void **iter, const char **key, size_t *n_key,
                  const struct sl_json_value **out)
{
    *iter = *iter ? json_object_iter_next(node(object), *iter) : json_object_iter(node(object));
    if (!*iter) return false;
    *key = json_object_iter_key(*iter);
    *n_key = json_object_iter_key_len(*iter);
    *out = (const struct sl_json_value *)json_object_iter_value(*iter);
    return true;
}

static void put_members(struct sl_json *json, const struct sl_json_value *object)
{
    const struct sl_json_value *member;
    const char *key;
    size_t n_key;
    void *iter = NULL;
    sl_json_object(json);
    while (sl_json_next(object, &iter, &key, &n_key, &member)) {
        sl_json_keyn(json, key, n_key);
        sl_json_put(json, member);
    }
    sl_json_object_end(json);
}

static void put_items(struct sl_json *json, const struct sl_json_value *array)
{
    size_t n = sl_json_size(array);
    sl_json_array(json);
    for (size_t i = 0; i < n; i++) sl_json_put(json, sl_json_at(array, i));
    sl_json_array_end(json);
}

void sl_json_put(struct sl_json *json, const struct sl_json_value *value)
{
    switch (sl_json_type(value)) {
    case SL_JSON_NULL: sl_json_null(json); break;
    case SL_JSON_BOOL: sl_json_bool(json, sl_json_to_bool(value, false)); break;
    case SL_JSON_INT: sl_json_int(json, sl_json_to_int(value, 0)); break;
    case SL_JSON_NUM: sl_json_num(json, sl_json_to_num(value, 0)); break;
    case SL_JSON_STR: {
        size_t n;
        const char *s = sl_json_to_str(value, "", &n);
        sl_json_strn(json, s, n);
        break;
    }
    case SL_JSON_ARRAY: put_items(json, value); break;
    case SL_JSON_OBJECT: put_members(json, value); break;
    }
}
