/* http_parser_test.c: heads whole, byte by byte and cut at every place; the forms by which requests
 * are smuggled. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_parser.h"

#define BIG 70000

static char big[BIG + 1];

static enum http_parse feed(struct http_parser *parser, const char *s, size_t n)
{
    http_parser_init(parser);
    return http_parser_feed(parser, s, n);
}

/* A copy of exactly n bytes, so that ASan sees a read past them. */
static enum http_parse feed_exact(struct http_parser *parser, const char *s, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, s, n);
    enum http_parse result = http_parser_feed(parser, copy, n);
    free(copy);
    return result;
}

static void assert_same(const struct http_parser *a, const struct http_parser *b)
{
    assert_int_equal(a->reject, b->reject);
    if (a->reject) return;
    assert_int_equal(a->head_bytes, b->head_bytes);
    assert_int_equal(a->n_fields, b->n_fields);
    assert_memory_equal(a->fields, b->fields, a->n_fields * sizeof *a->fields);
    assert_memory_equal(&a->method_text, &b->method_text, sizeof a->method_text);
    assert_memory_equal(&a->target, &b->target, sizeof a->target);
    assert_int_equal(a->body_length, b->body_length);
    assert_int_equal(a->keep_alive, b->keep_alive);
    assert_int_equal(a->chunked, b->chunked);
}

static void assert_cuts_do_not_matter(const char *s, size_t n)
{
    struct http_parser whole, cut;
    enum http_parse result = feed(&whole, s, n);
    for (size_t at = 0; at <= n; at++) {
        http_parser_init(&cut);
        feed_exact(&cut, s, at);
        assert_int_equal(feed_exact(&cut, s, n), result);
        assert_same(&whole, &cut);
    }
    http_parser_init(&cut);
    for (size_t len = 0; len <= n; len++) feed_exact(&cut, s, len);
    assert_same(&whole, &cut);
}

static void text_is(const char *s, struct http_span span, const char *expected)
{
    assert_int_equal(span.len, strlen(expected));
    assert_memory_equal(s + span.at, expected, span.len);
}

static void a_head_is_taken_apart(void **state)
{
    (void)state;
    static const char s[] = "POST /v1/x?y=1&z HTTP/1.1\r\nHost: a.example:8080\r\nX-Empty:\r\n"
                            "Content-Length:  12\t\r\nX-Spaces: \t a b \t\r\n\r\nbody";
    struct http_parser p;
    assert_int_equal(feed(&p, s, sizeof s - 1), HTTP_PARSE_DONE);
    text_is(s, p.method_text, "POST");
    text_is(s, p.target, "/v1/x?y=1&z");
    assert_int_equal(p.method, HTTP_METHOD_POST);
    assert_true(p.version_1_1 && p.keep_alive && p.has_length && !p.chunked);
    assert_int_equal(p.body_length, 12);
    assert_int_equal(p.head_bytes, sizeof s - 1 - 4);
    assert_int_equal(p.n_fields, 4);
    text_is(s, p.fields[1].name, "X-Empty");
    text_is(s, p.fields[1].value, "");
    text_is(s, p.fields[3].value, "a b");
    assert_cuts_do_not_matter(s, sizeof s - 1);
}

struct form {
    const char *text;
    enum http_reject reject;
};

#define H "Host: h\r\n"
#define G "GET / HTTP/1.1\r\n"

static const struct form forms[] = {
    {G H "\r\n", HTTP_REJECT_NONE},
    {"\r\n" G H "\r\n", HTTP_REJECT_NONE},
    {"GET / HTTP/1.0\r\n\r\n", HTTP_REJECT_NONE},
    {"GET http://h/p?q HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_NONE},
    {"GET HTTPS://h:1?q HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_NONE},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_NONE},
    {"PURGE /%41?%zz HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"M-SEARCH /a[0] HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_NONE},
    {G "Host:\r\n\r\n", HTTP_REJECT_NONE},
    {G "hOST: [::1]:8080\r\n\r\n", HTTP_REJECT_NONE},
    {G H "Expect: 100-Continue\r\n\r\n", HTTP_REJECT_NONE},
    {G H "Transfer-Encoding: CHUNKED\r\n\r\n", HTTP_REJECT_NONE},
    {G H "X: \xc3\xa9\r\n\r\n", HTTP_REJECT_NONE},
    /* The request line. */
    {"\r\n\r\n" G H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET /\r\n\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET\r\n\r\n", HTTP_REJECT_REQUEST_LINE},
    {" GET / HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET  / HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET /  HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / HTTP/1.1 \r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET\t/\tHTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / x HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"G(T / HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / http/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / HTTP/1.1x\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / HTTP/1,1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / HTTP/x.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"\x16\x03\x01", HTTP_REJECT_REQUEST_LINE},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ / HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    {"GET / HTTP/1.2\r\n" H "\r\n", HTTP_REJECT_VERSION},
    {"GET / HTTP/0.9\r\n" H "\r\n", HTTP_REJECT_VERSION},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_REJECT_VERSION},
    {"CONNECT h:443 HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_METHOD},
    {"GET x HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET * HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET http:// HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET http://a@b/ HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET ftp://h/ HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET /#f HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET /\x7f HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET /%00 HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    {"GET /%4 HTTP/1.1\r\n" H "\r\n", HTTP_REJECT_TARGET},
    /* Line ends. */
    {"GET / HTTP/1.1\nHost: h\n\n", HTTP_REJECT_LINE_END},
    {G "Host: h\n\r\n", HTTP_REJECT_LINE_END},
    {G H "\n", HTTP_REJECT_LINE_END},
    {"\n" G H "\r\n", HTTP_REJECT_LINE_END},
    {G H "X: a\rY: b\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "X: a\r\r\n\r\n", HTTP_REJECT_FIELD},
    {"GET / HTTP/1.1\r\r\n" H "\r\n", HTTP_REJECT_REQUEST_LINE},
    /* Fields. */
    {G H "Content-Length : 5\r\n\r\n", HTTP_REJECT_FIELD},
    {G H " folded\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "\tfolded: x\r\n\r\n", HTTP_REJECT_FIELD},
    {G H ": x\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "no colon\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "X: a\x01\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "X: a\x7f\r\n\r\n", HTTP_REJECT_FIELD},
    {G H "X\xc3: a\r\n\r\n", HTTP_REJECT_FIELD},
    {G "\r\n", HTTP_REJECT_HOST},
    {G H H "\r\n", HTTP_REJECT_HOST},
    {G "Host: a,b\r\n\r\n", HTTP_REJECT_HOST},
    {G "Host: a b\r\n\r\n", HTTP_REJECT_HOST},
    {G "Host: a/b\r\n\r\n", HTTP_REJECT_HOST},
    {G "Host: u@h\r\n\r\n", HTTP_REJECT_HOST},
    {"GET / HTTP/1.0\r\n" H H "\r\n", HTTP_REJECT_HOST},
    /* Framing. */
    {G H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_REJECT_LENGTH_AND_TE},
    {G H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", HTTP_REJECT_LENGTH_AND_TE},
    {G H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: 5, 5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: +5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: -5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: 0x5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: 5 5\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length:\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Content-Length: 18446744073709551617\r\n\r\n", HTTP_REJECT_LENGTH},
    {G H "Transfer-Encoding: gzip, chunked\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: chunked, chunked\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: xchunked\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: identity\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: \"chunked\"\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: chunked;q=1\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding:\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Transfer-Encoding: \x0b"
         "chunked\r\n\r\n",
     HTTP_REJECT_FIELD},
    {G H "Transfer_Encoding : chunked\r\n\r\n", HTTP_REJECT_FIELD},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_REJECT_ENCODING},
    {G H "Expect: something\r\n\r\n", HTTP_REJECT_EXPECT},
};

static void abuse_forms_get_what_they_deserve(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct http_parser p;
        enum http_parse result = feed(&p, forms[i].text, strlen(forms[i].text));
        if (p.reject != forms[i].reject || result == HTTP_PARSE_MORE) {
            fail_msg("%s: %s", forms[i].text, http_reject_name(p.reject));
        }
        assert_cuts_do_not_matter(forms[i].text, strlen(forms[i].text));
    }
}

static void a_nul_is_refused_anywhere(void **state)
{
    (void)state;
    static const char s[] = G H "X: y\r\n\r\n";
    for (size_t at = 0; at < sizeof s - 5; at++) {
        char copy[sizeof s];
        struct http_parser p;
        memcpy(copy, s, sizeof s);
        copy[at] = '\0';
        assert_int_equal(feed(&p, copy, sizeof s - 1), HTTP_PARSE_REJECTED);
        assert_int_equal(http_reject_status(p.reject), 400);
    }
}

static void keep_alive_follows_version_and_connection(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        {G H "\r\n", true},
        {G H "Connection: close\r\n\r\n", false},
        {G H "Connection: keep-alive, CLOSE\r\n\r\n", false},
        {G H "Connection: TE\r\nConnection: close\r\n\r\n", false},
        {G H "Connection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: x ,\tKeep-Alive\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_parser p;
        assert_int_equal(feed(&p, cases[i].text, strlen(cases[i].text)), HTTP_PARSE_DONE);
        assert_int_equal(p.keep_alive, cases[i].keep_alive);
    }
}

static enum http_reject target_of_length(size_t n)
{
    struct http_parser p;
    memset(big, 'a', sizeof big);
    memcpy(big, "GET /", 5);
    strcpy(big + 4 + n, " HTTP/1.1\r\n" H "\r\n");
    feed(&p, big, strlen(big));
    return p.reject;
}

static void long_targets_are_414_exactly_past_the_limit(void **state)
{
    (void)state;
    assert_int_equal(target_of_length(HTTP_TARGET_MAX), HTTP_REJECT_NONE);
    assert_int_equal(target_of_length(HTTP_TARGET_MAX + 1), HTTP_REJECT_TARGET_LONG);
    assert_int_equal(target_of_length(HTTP_TARGET_MAX * 2), HTTP_REJECT_TARGET_LONG);
    struct http_parser p;
    memset(big, 'a', sizeof big);
    assert_int_equal(feed(&p, big, 60000), HTTP_PARSE_REJECTED); /* no line end at all */
    assert_int_equal(p.reject, HTTP_REJECT_TARGET_LONG);
}

static void large_heads_are_431(void **state)
{
    (void)state;
    struct http_parser p;
    size_t n = (size_t)sprintf(big, G H "X: ");
    memset(big + n, 'a', HTTP_HEAD_MAX - n);
    strcpy(big + HTTP_HEAD_MAX - 4, "\r\n\r\n");
    assert_int_equal(feed(&p, big, HTTP_HEAD_MAX), HTTP_PARSE_DONE);
    big[HTTP_HEAD_MAX - 4] = 'a';
    strcpy(big + HTTP_HEAD_MAX - 3, "\r\n\r\n");
    assert_int_equal(feed(&p, big, HTTP_HEAD_MAX + 1), HTTP_PARSE_REJECTED);
    assert_int_equal(p.reject, HTTP_REJECT_HEAD_LARGE);
    memset(big + n, 'a', BIG - n);
    assert_int_equal(feed(&p, big, BIG), HTTP_PARSE_REJECTED);
    assert_int_equal(p.reject, HTTP_REJECT_HEAD_LARGE);
}

static void too_many_fields_are_431(void **state)
{
    (void)state;
    for (size_t n_fields = HTTP_HEADERS_MAX; n_fields <= HTTP_HEADERS_MAX + 1; n_fields++) {
        struct http_parser p;
        size_t n = (size_t)sprintf(big, G H);
        for (size_t i = 1; i < n_fields; i++) n += (size_t)sprintf(big + n, "A%zu: b\r\n", i);
        n += (size_t)sprintf(big + n, "\r\n");
        bool fits = n_fields <= HTTP_HEADERS_MAX;
        assert_int_equal(feed(&p, big, n), fits ? HTTP_PARSE_DONE : HTTP_PARSE_REJECTED);
        assert_int_equal(p.reject, fits ? HTTP_REJECT_NONE : HTTP_REJECT_HEAD_LARGE);
    }
}

static void percent_decoding_refuses_bad_escapes(void **state)
{
    (void)state;
    char out[16];
    assert_int_equal(http_percent_decode("a%2Fb%c3%A9", 11, out), 5);
    assert_memory_equal(out, "a/b\xc3\xa9", 5);
    assert_int_equal(http_percent_decode("", 0, out), 0);
    assert_int_equal(http_percent_decode("%", 1, out), SIZE_MAX);
    assert_int_equal(http_percent_decode("%4", 2, out), SIZE_MAX);
    assert_int_equal(http_percent_decode("%4g", 3, out), SIZE_MAX);
    assert_int_equal(http_percent_decode("%00", 3, out), SIZE_MAX);
}

static void every_reason_has_status_message_and_name(void **state)
{
    (void)state;
    assert_string_equal(http_reject_name(HTTP_REJECT_NONE), "none");
    for (int i = 1; i < HTTP_REJECT_COUNT; i++) {
        assert_in_range(http_reject_status(i), 400, 599);
        assert_true(strlen(http_reject_message(i)) > 5);
        assert_null(strpbrk(http_reject_message(i), "\"\\"));
        assert_true(strlen(http_reject_name(i)) > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_taken_apart),
        cmocka_unit_test(abuse_forms_get_what_they_deserve),
        cmocka_unit_test(a_nul_is_refused_anywhere),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(long_targets_are_414_exactly_past_the_limit),
        cmocka_unit_test(large_heads_are_431),
        cmocka_unit_test(too_many_fields_are_431),
        cmocka_unit_test(percent_decoding_refuses_bad_escapes),
        cmocka_unit_test(every_reason_has_status_message_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
