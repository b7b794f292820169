/* http_body_test.c: chunks and lengths, cut at every place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "net/http_body.h"

#define OUT_MAX 65536

struct outcome {
    enum http_body_state state;
    enum http_reject reject;
    size_t used;
    size_t len;
    char out[OUT_MAX];
};

static void feed_piece(struct http_body *body, const char *s, size_t n, struct outcome *o)
{
    size_t used = 0;
    while (used < n && body->state < HTTP_BODY_DONE) {
        const char *data = NULL;
        size_t n_data, step = http_body_feed(body, s + used, n - used, &data, &n_data);
        assert_true(step > 0 && n_data <= step);
        if (n_data) memcpy(o->out + o->len, data, n_data);
        o->len += n_data;
        used += step;
    }
    o->used += used;
}

static void run(const struct http_parser *head, uint64_t max, const char *s, size_t n, size_t cut,
                struct outcome *o)
{
    struct http_body body;
    o->len = o->used = 0;
    http_body_begin(&body, head, max);
    feed_piece(&body, s, cut, o);
    if (o->used == cut) feed_piece(&body, s + cut, n - cut, o);
    o->state = body.state;
    o->reject = body.reject;
}

static struct outcome whole, part;

static void run_chunked(uint64_t max, const char *s, size_t n)
{
    struct http_parser head = {.chunked = true};
    run(&head, max, s, n, n, &whole);
    for (size_t cut = 0; cut <= n && cut < 300; cut++) {
        run(&head, max, s, n, cut, &part);
        assert_int_equal(part.state, whole.state);
        assert_int_equal(part.reject, whole.reject);
        assert_int_equal(part.len, whole.len);
        assert_int_equal(part.used, whole.used);
        assert_memory_equal(part.out, whole.out, whole.len);
    }
}

static void chunks_make_a_body(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "0005\r\nhello\r\n000000000000006\r\n world\r\n0000\r\n\r\n",
        "b;name=value;x=\"y;z\"\r\nhello world\r\n0;a\r\n\r\n",
        "B\r\nhello world\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char s[200];
        snprintf(s, sizeof s, "%sNEXT", texts[i]);
        run_chunked(100, s, strlen(s));
        assert_int_equal(whole.state, HTTP_BODY_DONE);
        assert_int_equal(whole.used, strlen(s) - 4);
        assert_int_equal(whole.len, 11);
        assert_memory_equal(whole.out, "hello world", 11);
    }
}

static void bad_chunks_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\r\n",
        ";x\r\n",
        "g\r\n",
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "+5\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\n",
        "5\rhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n",
        "5\r\nhello0\r\n\r\n",
        "00000000000000005\r\nhello\r\n",
        "10000000000000005\r\n",
        "5;a\nb\r\nhello",
        "5;a\rb\r\n",
        "5;a\x01\r\n",
        "0\r\n\n",
        "0\r\n folded\r\n\r\n",
        "0\r\n: x\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\nX : a\r\n\r\n",
        "0\r\n\rX",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        run_chunked(1000, texts[i], strlen(texts[i]));
        if (whole.reject != HTTP_REJECT_CHUNK) fail_msg("%s was not refused", texts[i]);
        assert_int_equal(whole.state, HTTP_BODY_REJECTED);
    }
    run_chunked(1000, "5;\0\r\n", 5);
    assert_int_equal(whole.reject, HTTP_REJECT_CHUNK);
}

static void the_limit_is_judged_before_the_data_comes(void **state)
{
    (void)state;
    run_chunked(5, "5\r\nhello\r\n0\r\n\r\n", 15);
    assert_int_equal(whole.state, HTTP_BODY_DONE);
    run_chunked(5, "6\r\n", 3);
    assert_int_equal(whole.reject, HTTP_REJECT_BODY_LARGE);
    run_chunked(5, "5\r\nhello\r\n1\r\n", 13);
    assert_int_equal(whole.reject, HTTP_REJECT_BODY_LARGE);
    run_chunked(5, "ffffffffffffffff\r\n", 18);
    assert_int_equal(whole.reject, HTTP_REJECT_BODY_LARGE);

    struct http_parser head = {.has_length = true, .body_length = 6};
    run(&head, 5, "", 0, 0, &whole);
    assert_int_equal(whole.reject, HTTP_REJECT_BODY_LARGE);
}

static void lengths_take_exactly_their_bytes(void **state)
{
    (void)state;
    struct http_parser head = {.has_length = true, .body_length = 5};
    for (size_t cut = 0; cut <= 8; cut++) {
        run(&head, 5, "helloGET", 8, cut, &whole);
        assert_int_equal(whole.state, HTTP_BODY_DONE);
        assert_int_equal(whole.used, 5);
        assert_memory_equal(whole.out, "hello", 5);
    }
    head.body_length = 0;
    run(&head, 5, "GET", 3, 3, &whole);
    assert_int_equal(whole.state, HTTP_BODY_DONE);
    assert_int_equal(whole.used, 0);
}

static void extensions_and_trailers_have_limits(void **state)
{
    (void)state;
    static char s[OUT_MAX];
    size_t n = 0;
    for (int i = 0; i < 60; i++) n += (size_t)sprintf(s + n, "1;abcdefghijklmnopqrst\r\nx\r\n");
    run_chunked(1000, s, n);
    assert_int_equal(whole.reject, HTTP_REJECT_CHUNK);
    assert_true(whole.len > 40); /* the sum counts, not one line */

    n = (size_t)sprintf(s, "0\r\n");
    for (int i = 0; i < 1000; i++) n += (size_t)sprintf(s + n, "Name-%d: value\r\n", i);
    run_chunked(1000, s, n);
    assert_int_equal(whole.reject, HTTP_REJECT_TRAILER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_make_a_body),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(the_limit_is_judged_before_the_data_comes),
        cmocka_unit_test(lengths_take_exactly_their_bytes),
        cmocka_unit_test(extensions_and_trailers_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
