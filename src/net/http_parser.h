/* http_parser.h: the head of an HTTP/1.1 request (RFC 9112, RFC 9110), strictly.
 * Why not evhttp: it takes forms that other parsers read differently (bare LF, repeated lengths,
 * both lengths at once), has no limit on the time a head may take, and cannot hold back a stream
 * whose client reads slowly.
 * Floor: net.  Thread: the caller's.  Allocates: nothing.
 * Invariant: feeding a head whole or in any pieces gives the same outcome. Positions are offsets
 * into the caller's bytes, so these may move between calls but must keep all of the head. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEADERS_MAX 100      /* browsers and proxies send 10 to 40 */
#define HTTP_METHOD_MAX 32        /* the longest registered one has 17 characters */
#define HTTP_TARGET_MAX 8000      /* RFC 9112 section 3 asks for at least that */
#define HTTP_HEAD_MAX (32 * 1024) /* request line and fields; tokens and cookies fit */

/* name, the same for metrics, HTTP status, message to the client. */
/* clang-format off */
#define HTTP_REJECT_TABLE(X)                                                                      \
    X(REQUEST_LINE,  "request_line",  400, "malformed request line")                              \
    X(METHOD,        "method",        501, "CONNECT is not supported")                            \
    X(TARGET,        "target",        400, "malformed request target")                            \
    X(TARGET_LONG,   "target_long",   414, "request target is too long")                          \
    X(VERSION,       "version",       505, "only HTTP/1.0 and HTTP/1.1 are spoken here")          \
    X(LINE_END,      "line_end",      400, "a line does not end in CR LF")                        \
    X(FIELD,         "field",         400, "malformed header field")                              \
    X(HEAD_LARGE,    "head_large",    431, "the request's header fields are too large")           \
    X(HOST,          "host",          400, "exactly one valid Host header is required")           \
    X(LENGTH,        "length",        400, "malformed or repeated Content-Length")                \
    X(LENGTH_AND_TE, "length_and_te", 400, "both Content-Length and Transfer-Encoding")           \
    X(ENCODING,      "encoding",      501, "the only Transfer-Encoding supported is chunked")     \
    X(EXPECT,        "expect",        417, "the only expectation supported is 100-continue")      \
    X(CHUNK,         "chunk",         400, "malformed chunk")                                     \
    X(TRAILER,       "trailer",       431, "the trailer section is too large")                    \
    X(BODY_LARGE,    "body_large",    413, "the request body is too large")                       \
    X(BODY_BUDGET,   "body_budget",   503, "too many request bodies in memory, try again later")  \
    X(HEAD_TIMEOUT,  "head_timeout",  408, "the request head took too long")                      \
    X(BODY_TIMEOUT,  "body_timeout",  408, "the request body took too long")                      \
    X(NO_MEMORY,     "no_memory",     503, "out of memory, try again later")

enum http_reject {
    HTTP_REJECT_NONE,
#define X(name, label, status, message) HTTP_REJECT_##name,
    HTTP_REJECT_TABLE(X)
#undef X
    HTTP_REJECT_COUNT
};
/* clang-format on */

int http_reject_status(enum http_reject reject);          /* 0 for NONE */
const char *http_reject_message(enum http_reject reject); /* "" for NONE */
const char *http_reject_name(enum http_reject reject);    /* for metrics; "none" */

enum http_method {
    HTTP_METHOD_OTHER, /* a valid token that is not among these */
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_OPTIONS,
};

struct http_span {
    uint32_t at;
    uint32_t len;
};
struct http_field {
    struct http_span name;
    struct http_span value; /* without the white space around it */
};

enum http_parse { HTTP_PARSE_MORE, HTTP_PARSE_DONE, HTTP_PARSE_REJECTED };

struct http_parser {
    struct http_span method_text;
    struct http_span target;
    enum http_method method;
    bool version_1_1;     /* else 1.0 */
    bool keep_alive;      /* by version and Connection */
    bool chunked;         /* a body in chunks follows */
    bool has_length;      /* Content-Length was given */
    bool expect_continue; /* the client waits for "100 Continue" */
    uint64_t body_length; /* of Content-Length, else 0 */
    uint32_t head_bytes;  /* when DONE: where the body begins */
    enum http_reject reject;
    uint32_t n_fields;

    /* Private. */
    uint32_t line_at; /* where the current line begins */
    uint32_t seen;    /* bytes already searched for the line's end */
    bool blank_skipped, request_line_done, has_host, has_encoding, wants_close, wants_keep_alive;
    struct http_field fields[HTTP_HEADERS_MAX];
};

void http_parser_init(struct http_parser *parser);

/* Goes on with bytes[0..n), which begins with all that earlier calls got. Once it said DONE or
 * REJECTED it says so again. */
enum http_parse http_parser_feed(struct http_parser *parser, const char *bytes, size_t n);

/* Decodes %XX of s[0..n) into out (room for n); the length, or SIZE_MAX for a bad escape or %00. */
size_t http_percent_decode(const char *s, size_t n, char *out);

/* A path with an optional query, or "*" for OPTIONS (RFC 9112 3.2.1, 3.2.4; :path of RFC 9113). */
enum http_reject http_check_target(enum http_method method, const char *s, size_t n);

enum http_method http_method_of(const char *s, size_t n);
bool http_is_host(const char *s, size_t n);        /* RFC 3986 3.2.2 with a port; may be empty */
bool http_is_token(const char *s, size_t n);       /* RFC 9110 5.6.2; false when empty */
bool http_is_field_value(const char *s, size_t n); /* RFC 9110 5.5: no control but TAB */
