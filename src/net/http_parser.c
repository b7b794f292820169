/* http_parser.c: line by line. A line is judged when its end is seen or its limit is reached, and
 * only then, so that the way the bytes were cut cannot matter. The one exception is the very first
 * byte: what cannot begin a method (a TLS hello on a plain port) need not wait for a line. */
#include "net/http_parser.h"

#include <string.h>
#include <strings.h>

/* Method, target, version, two spaces, CR LF. */
#define REQUEST_LINE_MAX (HTTP_METHOD_MAX + HTTP_TARGET_MAX + 8 + 4)
#define VERSION_LEN 8        /* "HTTP/1.1" */
#define LENGTH_DIGITS_MAX 18 /* fits 64 bits without a check for overflow */

#define T 1 /* RFC 9110 5.6.2 tchar */
#define U \
    2 /* RFC 3986 characters of path and query, and the brackets that many clients send bare */
#define H 4 /* RFC 3986 3.2.2 host and port, without the comma that would make it a list */

/* clang-format off */
static const uint8_t classes[256] = {
    ['!'] = T | U | H, ['#'] = T, ['$'] = T | U | H, ['%'] = T | U | H, ['&'] = T | U | H,
    ['\''] = T | U | H, ['('] = U | H, [')'] = U | H, ['*'] = T | U | H, ['+'] = T | U | H,
    [','] = U, ['-'] = T | U | H, ['.'] = T | U | H, ['/'] = U, ['0'] = T | U | H,
    ['1'] = T | U | H, ['2'] = T | U | H, ['3'] = T | U | H, ['4'] = T | U | H, ['5'] = T | U | H,
    ['6'] = T | U | H, ['7'] = T | U | H, ['8'] = T | U | H, ['9'] = T | U | H, [':'] = U | H,
    [';'] = U | H, ['='] = U | H, ['?'] = U, ['@'] = U, ['A'] = T | U | H, ['B'] = T | U | H,
    ['C'] = T | U | H, ['D'] = T | U | H, ['E'] = T | U | H, ['F'] = T | U | H, ['G'] = T | U | H,
    ['H'] = T | U | H, ['I'] = T | U | H, ['J'] = T | U | H, ['K'] = T | U | H, ['L'] = T | U | H,
    ['M'] = T | U | H, ['N'] = T | U | H, ['O'] = T | U | H, ['P'] = T | U | H, ['Q'] = T | U | H,
    ['R'] = T | U | H, ['S'] = T | U | H, ['T'] = T | U | H, ['U'] = T | U | H, ['V'] = T | U | H,
    ['W'] = T | U | H, ['X'] = T | U | H, ['Y'] = T | U | H, ['Z'] = T | U | H, ['['] = U | H,
    [']'] = U | H, ['^'] = T, ['_'] = T | U | H, ['`'] = T, ['a'] = T | U | H, ['b'] = T | U | H,
    ['c'] = T | U | H, ['d'] = T | U | H, ['e'] = T | U | H, ['f'] = T | U | H, ['g'] = T | U | H,
    ['h'] = T | U | H, ['i'] = T | U | H, ['j'] = T | U | H, ['k'] = T | U | H, ['l'] = T | U | H,
    ['m'] = T | U | H, ['n'] = T | U | H, ['o'] = T | U | H, ['p'] = T | U | H, ['q'] = T | U | H,
    ['r'] = T | U | H, ['s'] = T | U | H, ['t'] = T | U | H, ['u'] = T | U | H, ['v'] = T | U | H,
    ['w'] = T | U | H, ['x'] = T | U | H, ['y'] = T | U | H, ['z'] = T | U | H, ['|'] = T,
    ['~'] = T | U | H,
};

static const struct {
    int status;
    const char *name;
    const char *message;
} rejects[HTTP_REJECT_COUNT] = {
    [HTTP_REJECT_NONE] = {0, "none", ""},
#define X(name, label, status, message) [HTTP_REJECT_##name] = {status, label, message},
    HTTP_REJECT_TABLE(X)
#undef X
};
/* clang-format on */

int http_reject_status(enum http_reject reject)
{
    return rejects[reject].status;
}

const char *http_reject_message(enum http_reject reject)
{
    return rejects[reject].message;
}

const char *http_reject_name(enum http_reject reject)
{
    return rejects[reject].name;
}

static bool all_in_class(const char *s, size_t n, uint8_t class)
{
    for (size_t i = 0; i < n; i++) {
        if (!(classes[(unsigned char)s[i]] & class)) return false;
    }
    return true;
}

bool http_is_token(const char *s, size_t n)
{
    return n > 0 && all_in_class(s, n, T);
}

bool http_is_host(const char *s, size_t n)
{
    return all_in_class(s, n, H);
}

bool http_is_field_value(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t http_percent_decode(const char *s, size_t n, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            int high = n - i > 2 ? hex_digit(s[i + 1]) : -1;
            int low = n - i > 2 ? hex_digit(s[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) return SIZE_MAX;
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[len++] = c;
    }
    return len;
}

static bool equals(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

void http_parser_init(struct http_parser *parser)
{
    memset(parser, 0, offsetof(struct http_parser, fields)); /* fields are written before read */
}

/* --- the request line --- */

enum http_method http_method_of(const char *s, size_t n)
{
    static const struct {
        const char *text;
        enum http_method method;
    } known[] = {
        {"GET", HTTP_METHOD_GET},         {"POST", HTTP_METHOD_POST},
        {"HEAD", HTTP_METHOD_HEAD},       {"PUT", HTTP_METHOD_PUT},
        {"DELETE", HTTP_METHOD_DELETE},   {"PATCH", HTTP_METHOD_PATCH},
        {"OPTIONS", HTTP_METHOD_OPTIONS},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (n == strlen(known[i].text) && memcmp(s, known[i].text, n) == 0) return known[i].method;
    }
    return HTTP_METHOD_OTHER;
}

static bool escapes_are_valid(const char *s, size_t n)
{
    for (const char *p = s; (p = memchr(p, '%', n - (size_t)(p - s))); p += 3) {
        size_t left = n - (size_t)(p - s);
        int high = left > 2 ? hex_digit(p[1]) : -1;
        int low = left > 2 ? hex_digit(p[2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) return false;
    }
    return true;
}

/* The bytes before the path of an absolute-form target (RFC 9112 3.2.2); 0 for other forms. */
static size_t absolute_prefix(const char *s, size_t n)
{
    size_t scheme = 0;
    if (n > 7 && strncasecmp(s, "http://", 7) == 0) scheme = 7;
    if (n > 8 && strncasecmp(s, "https://", 8) == 0) scheme = 8;
    size_t i = scheme;
    while (scheme && i < n && (classes[(unsigned char)s[i]] & H)) i++;
    return i > scheme && (i == n || s[i] == '/' || s[i] == '?') ? i : 0;
}

static enum http_reject check_characters(const char *s, size_t n)
{
    if (n > HTTP_TARGET_MAX) return HTTP_REJECT_TARGET_LONG;
    bool valid = n > 0 && all_in_class(s, n, U) && escapes_are_valid(s, n);
    return valid ? HTTP_REJECT_NONE : HTTP_REJECT_TARGET;
}

static bool is_asterisk(enum http_method method, const char *s, size_t n)
{
    return n == 1 && s[0] == '*' && method == HTTP_METHOD_OPTIONS;
}

enum http_reject http_check_target(enum http_method method, const char *s, size_t n)
{
    enum http_reject reject = check_characters(s, n);
    if (reject) return reject;
    return s[0] == '/' || is_asterisk(method, s, n) ? HTTP_REJECT_NONE : HTTP_REJECT_TARGET;
}

static enum http_reject parse_target(struct http_parser *parser, const char *s, struct http_span at)
{
    enum http_reject reject = check_characters(s, at.len);
    if (reject) return reject;
    size_t prefix = absolute_prefix(s, at.len);
    if (s[0] != '/' && !is_asterisk(parser->method, s, at.len) && !prefix) {
        return HTTP_REJECT_TARGET;
    }
    parser->target = (struct http_span){at.at + (uint32_t)prefix, at.len - (uint32_t)prefix};
    return HTTP_REJECT_NONE;
}

static enum http_reject parse_version(struct http_parser *parser, const char *s, size_t n)
{
    if (n != VERSION_LEN || memcmp(s, "HTTP/", 5) != 0 || s[6] != '.') {
        return HTTP_REJECT_REQUEST_LINE;
    }
    if (s[5] < '0' || s[5] > '9' || s[7] < '0' || s[7] > '9') return HTTP_REJECT_REQUEST_LINE;
    if (s[5] != '1' || s[7] > '1') return HTTP_REJECT_VERSION;
    parser->version_1_1 = s[7] == '1';
    return HTTP_REJECT_NONE;
}

/* method SP target SP version; the version comes first, so that an HTTP/2 preface out of place
 * gets 505. */
static enum http_reject parse_request_line(struct http_parser *parser, const char *line, size_t n)
{
    const char *space = memchr(line, ' ', n);
    size_t method_len = space ? (size_t)(space - line) : n;
    if (!space || method_len > HTTP_METHOD_MAX || !http_is_token(line, method_len)) {
        return HTTP_REJECT_REQUEST_LINE;
    }
    const char *target = space + 1;
    space = memchr(target, ' ', n - method_len - 1);
    if (!space) return HTTP_REJECT_REQUEST_LINE;
    size_t target_len = (size_t)(space - target);
    enum http_reject reject = parse_version(parser, space + 1, n - method_len - target_len - 2);
    if (reject) return reject;

    parser->method = http_method_of(line, method_len);
    parser->method_text = (struct http_span){parser->line_at, (uint32_t)method_len};
    if (equals(line, method_len, "CONNECT")) return HTTP_REJECT_METHOD;
    uint32_t at = parser->line_at + (uint32_t)method_len + 1;
    return parse_target(parser, target, (struct http_span){at, (uint32_t)target_len});
}

/* --- fields --- */

static enum http_reject take_host(struct http_parser *parser, const char *s, size_t n)
{
    if (parser->has_host || !http_is_host(s, n)) return HTTP_REJECT_HOST;
    parser->has_host = true;
    return HTTP_REJECT_NONE;
}

/* Any repetition is refused, equal or not: nobody honest sends it. */
static enum http_reject take_length(struct http_parser *parser, const char *s, size_t n)
{
    if (parser->has_length || n == 0 || n > LENGTH_DIGITS_MAX) return HTTP_REJECT_LENGTH;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return HTTP_REJECT_LENGTH;
        parser->body_length = parser->body_length * 10 + (uint64_t)(s[i] - '0');
    }
    parser->has_length = true;
    return HTTP_REJECT_NONE;
}

static enum http_reject take_encoding(struct http_parser *parser, const char *s, size_t n)
{
    if (parser->has_encoding || !parser->version_1_1 || !equals(s, n, "chunked")) {
        return HTTP_REJECT_ENCODING;
    }
    parser->has_encoding = parser->chunked = true;
    return HTTP_REJECT_NONE;
}

static enum http_reject take_connection(struct http_parser *parser, const char *s, size_t n)
{
    for (size_t at = 0; at < n;) {
        const char *comma = memchr(s + at, ',', n - at);
        size_t end = comma ? (size_t)(comma - s) : n;
        size_t from = at, to = end;
        while (from < to && (s[from] == ' ' || s[from] == '\t')) from++;
        while (to > from && (s[to - 1] == ' ' || s[to - 1] == '\t')) to--;
        if (equals(s + from, to - from, "close")) parser->wants_close = true;
        if (equals(s + from, to - from, "keep-alive")) parser->wants_keep_alive = true;
        at = end + 1;
    }
    return HTTP_REJECT_NONE;
}

/* RFC 9110 10.1.1: an HTTP/1.0 client cannot mean it. */
static enum http_reject take_expect(struct http_parser *parser, const char *s, size_t n)
{
    if (!equals(s, n, "100-continue")) return HTTP_REJECT_EXPECT;
    parser->expect_continue = parser->version_1_1;
    return HTTP_REJECT_NONE;
}

/* The fields that decide on framing. */
static enum http_reject take_field(struct http_parser *parser, const char *bytes,
                                   const struct http_field *field)
{
    static const struct {
        const char *name;
        enum http_reject (*take)(struct http_parser *, const char *, size_t);
    } known[] = {
        {"host", take_host},
        {"content-length", take_length},
        {"transfer-encoding", take_encoding},
        {"connection", take_connection},
        {"expect", take_expect},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (equals(bytes + field->name.at, field->name.len, known[i].name)) {
            return known[i].take(parser, bytes + field->value.at, field->value.len);
        }
    }
    return HTTP_REJECT_NONE;
}

/* A folded line begins with white space and a space before the colon ends the name: neither is a
 * token. */
static enum http_reject parse_field(struct http_parser *parser, const char *bytes, size_t n)
{
    const char *line = bytes + parser->line_at;
    const char *colon = memchr(line, ':', n);
    if (!colon || !http_is_token(line, (size_t)(colon - line))) return HTTP_REJECT_FIELD;
    if (!http_is_field_value(colon + 1, n - (size_t)(colon + 1 - line))) return HTTP_REJECT_FIELD;
    if (parser->n_fields == HTTP_HEADERS_MAX) return HTTP_REJECT_HEAD_LARGE;

    const char *from = colon + 1, *to = line + n;
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t')) to--;
    struct http_field *field = &parser->fields[parser->n_fields++];
    field->name = (struct http_span){parser->line_at, (uint32_t)(colon - line)};
    field->value = (struct http_span){(uint32_t)(from - bytes), (uint32_t)(to - from)};
    return take_field(parser, bytes, field);
}

static enum http_reject finish_head(struct http_parser *parser)
{
    if (parser->version_1_1 && !parser->has_host) return HTTP_REJECT_HOST;
    if (parser->has_length && parser->chunked) return HTTP_REJECT_LENGTH_AND_TE;
    parser->keep_alive = !parser->wants_close && (parser->version_1_1 || parser->wants_keep_alive);
    return HTTP_REJECT_NONE;
}

/* --- lines --- */

/* A line of n bytes at line_at, without its CR LF, which ends at `end`. */
static enum http_reject parse_line(struct http_parser *parser, const char *bytes, size_t n,
                                   size_t end)
{
    if (parser->request_line_done && n == 0) {
        parser->head_bytes = (uint32_t)end;
        return finish_head(parser);
    }
    if (parser->request_line_done) return parse_field(parser, bytes, n);
    if (n == 0) { /* RFC 9112 2.2: old clients send an empty line after a body */
        bool again = parser->blank_skipped;
        parser->blank_skipped = true;
        return again ? HTTP_REJECT_REQUEST_LINE : HTTP_REJECT_NONE;
    }
    parser->request_line_done = true;
    return parse_request_line(parser, bytes + parser->line_at, n);
}

static bool begins_badly(const struct http_parser *parser, const char *bytes, size_t n)
{
    if (parser->request_line_done || parser->line_at >= n) return false;
    unsigned char c = (unsigned char)bytes[parser->line_at];
    return !(classes[c] & T) && c != '\r' && c != '\n';
}

/* Where the current line must have ended. */
static size_t line_limit(const struct http_parser *parser)
{
    size_t limit = parser->request_line_done ? HTTP_HEAD_MAX : parser->line_at + REQUEST_LINE_MAX;
    return limit < HTTP_HEAD_MAX ? limit : HTTP_HEAD_MAX;
}

static enum http_parse reject(struct http_parser *parser, enum http_reject why)
{
    parser->reject = why;
    return HTTP_PARSE_REJECTED;
}

enum http_parse http_parser_feed(struct http_parser *parser, const char *bytes, size_t n)
{
    while (!parser->reject && !parser->head_bytes) {
        if (begins_badly(parser, bytes, n)) return reject(parser, HTTP_REJECT_REQUEST_LINE);
        size_t limit = line_limit(parser);
        size_t have = n < limit ? n : limit;
        const char *lf =
            have > parser->seen ? memchr(bytes + parser->seen, '\n', have - parser->seen) : NULL;
        if (!lf) {
            parser->seen = (uint32_t)have;
            if (have < limit) return HTTP_PARSE_MORE;
            return reject(parser, parser->request_line_done ? HTTP_REJECT_HEAD_LARGE
                                                            : HTTP_REJECT_TARGET_LONG);
        }
        size_t end = (size_t)(lf - bytes) + 1;
        if (end - parser->line_at < 2 || lf[-1] != '\r') {
            return reject(parser, HTTP_REJECT_LINE_END);
        }
        parser->reject = parse_line(parser, bytes, end - 2 - parser->line_at, end);
        parser->line_at = parser->seen = (uint32_t)end;
    }
    return parser->reject ? HTTP_PARSE_REJECTED : HTTP_PARSE_DONE;
}
