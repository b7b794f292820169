/* http2_limits_test.c: what HTTP/2 clients may not do: malformed requests, floods, stalls, too much
 * of anything; and a server without memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/http2_client.h"

#define MS INT64_C(1000000)
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

/* :method GET, :scheme http, :path /hold, :authority h (RFC 7541: three indexed, two literal) */
#define HEAD_BLOCK "\x82\x86\x04\x05/hold\x01\x01h"
#define HEAD_BLOCK_LEN 12

static struct http_fixture f;
static struct http2_client client;
static struct http_peer peer;

static void begin(const struct http_server_cfg *cfg)
{
    fixture_start(&f, cfg);
    http2_client_connect(&f, &client, 0);
}

static void end(void)
{
    http2_client_done(&client);
    fixture_stop(&f);
}

/* --- frames by hand --- */

static void raw_begin(const struct http_server_cfg *cfg)
{
    fixture_start(&f, cfg);
    peer_connect(&f, &peer);
    peer_send(&f, &peer, PREFACE, sizeof PREFACE - 1);
}

static void raw_end(void)
{
    peer_done(&peer);
    fixture_stop(&f);
}

static void put_frame(uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t n)
{
    unsigned char frame[9 + 64] = {0,
                                   (unsigned char)(n >> 8),
                                   (unsigned char)n,
                                   type,
                                   flags,
                                   (unsigned char)(id >> 24),
                                   (unsigned char)(id >> 16),
                                   (unsigned char)(id >> 8),
                                   (unsigned char)id};
    assert_true(n <= 64);
    if (n) memcpy(frame + 9, payload, n);
    peer_send(&f, &peer, frame, 9 + n);
}

/* The error code of the first frame of a type that came, -1 while none did. */
static int64_t code_of(uint8_t type)
{
    const unsigned char *at = (const unsigned char *)peer.got;
    for (size_t left = peer.len; left >= 9;) {
        size_t n = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (left < 9 + n) break;
        const unsigned char *code = at + 9 + (type == NGHTTP2_GOAWAY ? 4 : 0);
        if (at[3] == type) return (int64_t)code[0] << 24 | code[1] << 16 | code[2] << 8 | code[3];
        at += 9 + n;
        left -= 9 + n;
    }
    return -1;
}

static void expect_goaway(uint32_t code)
{
    FIXTURE_UNTIL(&f, (peer_read(&peer), code_of(NGHTTP2_GOAWAY) >= 0));
    assert_int_equal(code_of(NGHTTP2_GOAWAY), code);
}

/* --- malformed requests --- */

static void malformed_requests_end_their_stream_alone(void **state)
{
    (void)state;
#define BASE HTTP2_NV(":method", "GET"), HTTP2_NV(":scheme", "http"), HTTP2_NV(":path", "/echo")
    static const nghttp2_nv cases[][6] = {
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("connection", "close")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("transfer-encoding", "chunked")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("upgrade", "h2c")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("te", "gzip")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("x y", "bad name")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("x", "bad\r\nvalue")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV(":unknown", "1")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV(":path", "/twice")},
        {BASE, HTTP2_NV("late", "1"), HTTP2_NV(":authority", "h")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("content-length", "5")},
        {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("content-length", "x")},
        {HTTP2_NV(":method", "GET"), HTTP2_NV(":path", "/echo"), HTTP2_NV(":authority", "h"),
         HTTP2_NV("no", "scheme"), HTTP2_NV("at", "all")},
    };
    begin(&(struct http_server_cfg){0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http2_call *call = http2_call_with(&client, cases[i], 5, true);
        HTTP2_UNTIL(&client, call->closed);
        assert_int_not_equal(call->error_code, NGHTTP2_NO_ERROR);
        assert_string_equal(call->head, "");
    }
    struct http2_call *fine = http2_call(&client, "GET", "/echo", NULL, 0, true);
    HTTP2_UNTIL(&client, fine->closed);
    assert_string_equal(fine->body, "[GET /echo ? 0 ]");
    assert_int_equal(fixture_stats(&f).n_requests, 1);
    assert_int_equal(fixture_stats(&f).n_connections, 1);
    end();
}

static void refusals_are_errors_in_json(void **state)
{
    (void)state;
    static char large[3000];
    memset(large, 'l', sizeof large - 1);
    static const struct {
        const char *status;
        nghttp2_nv fields[6];
        size_t n;
    } cases[] = {
        {"", {BASE}, 3},
        {"400", {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("host", "other")}, 5},
        {"400", {BASE, HTTP2_NV(":authority", "h,i")}, 4},
        {"417", {BASE, HTTP2_NV(":authority", "h"), HTTP2_NV("expect", "x")}, 5},
        {"400",
         {HTTP2_NV(":method", "GET"), HTTP2_NV(":scheme", "http"), HTTP2_NV(":path", "/%zz"),
          HTTP2_NV(":authority", "h")},
         4},
        {"",
         {HTTP2_NV(":method", "GET"), HTTP2_NV(":scheme", "http"),
          HTTP2_NV(":path", "http://h/echo"), HTTP2_NV(":authority", "h")},
         4},
    };
#undef BASE
    begin(&(struct http_server_cfg){.body_bytes_max = 1000});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http2_call *call = http2_call_with(&client, cases[i].fields, cases[i].n, true);
        HTTP2_UNTIL(&client, call->closed);
        if (!*cases[i].status) { /* nghttp2 refuses these itself */
            assert_int_equal(call->error_code, NGHTTP2_PROTOCOL_ERROR);
            continue;
        }
        assert_memory_equal(call->head + 9, cases[i].status, 3);
        assert_non_null(strstr(call->body, "{\"error\":{\"message\":\""));
    }
    struct http2_call *call = http2_call(&client, "POST", "/echo", large, sizeof large, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_memory_equal(call->head, ":status: 413", 12);
    assert_int_equal(fixture_stats(&f).n_requests, 0);
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_HOST], 2);
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_BODY_LARGE], 1);
    end();
}

static void large_heads_get_431(void **state)
{
    (void)state;
    static char value[4000];
    nghttp2_nv fields[20] = {HTTP2_NV(":method", "GET"), HTTP2_NV(":scheme", "http"),
                             HTTP2_NV(":path", "/echo"), HTTP2_NV(":authority", "h")};
    memset(value, 'v', sizeof value);
    for (size_t i = 4; i < 14; i++) {
        fields[i] = (nghttp2_nv){(uint8_t *)"x", (uint8_t *)value, 1, sizeof value, 0};
    }
    begin(&(struct http_server_cfg){0});
    struct http2_call *call = http2_call_with(&client, fields, 14, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_memory_equal(call->head, ":status: 431", 12);
    struct http2_call *fits = http2_call_with(&client, fields, 10, true);
    HTTP2_UNTIL(&client, fits->closed);
    assert_memory_equal(fits->head, ":status: 200", 12);
    end();
}

/* --- floods --- */

static void floods_of_control_frames_end_the_connection(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t id;
        size_t n;
        const char *payload;
    } floods[] = {
        {NGHTTP2_PING, 0, 8, "12345678"},          {NGHTTP2_SETTINGS, 0, 0, NULL},
        {NGHTTP2_PRIORITY, 1, 5, "\0\0\0\0\1"},    {NGHTTP2_DATA, 1, 0, NULL},
        {NGHTTP2_DATA, 1, 4, "\3\0\0\0"}, /* PADDED: nothing but padding */
        {NGHTTP2_WINDOW_UPDATE, 0, 4, "\0\0\0\1"}, {NGHTTP2_RST_STREAM, 1, 4, "\0\0\0\0"},
    };
    for (size_t i = 0; i < sizeof floods / sizeof *floods; i++) {
        raw_begin(&(struct http_server_cfg){0});
        put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, HEAD_BLOCK, HEAD_BLOCK_LEN);
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_streams == 1);
        uint8_t flags = floods[i].type == NGHTTP2_DATA && floods[i].n ? NGHTTP2_FLAG_PADDED : 0;
        for (int k = 0; k < 100000 && fixture_stats(&f).n_floods == 0; k++) {
            put_frame(floods[i].type, flags, floods[i].id, floods[i].payload, floods[i].n);
            if (k % 100 == 0) fixture_turn(&f);
            if (k % 100 == 0) peer_read(&peer);
        }
        expect_goaway(NGHTTP2_ENHANCE_YOUR_CALM);
        assert_int_equal(fixture_stats(&f).n_floods, 1);
        peer_done(&peer);
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_streams == 0);
        raw_end();
    }
}

static void opening_and_resetting_at_once_is_a_flood(void **state)
{
    (void)state;
    raw_begin(&(struct http_server_cfg){0});
    for (uint32_t id = 1; id < 100000 && fixture_stats(&f).n_floods == 0; id += 2) {
        put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, HEAD_BLOCK, HEAD_BLOCK_LEN);
        put_frame(NGHTTP2_RST_STREAM, 0, id, "\0\0\0\x8", 4);
        if (id % 100 == 1) fixture_turn(&f);
    }
    expect_goaway(NGHTTP2_ENHANCE_YOUR_CALM);
    assert_in_range(fixture_stats(&f).n_resets, 900, 1500);
    assert_int_equal(fixture_stats(&f).n_active, 0);
    raw_end();
}

/* CVE-2025-8671: the client has the server reset what it works on. */
static void making_us_reset_is_a_flood(void **state)
{
    (void)state;
    raw_begin(&(struct http_server_cfg){0});
    for (uint32_t id = 1; id < 100000 && fixture_stats(&f).n_floods == 0; id += 2) {
        put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, HEAD_BLOCK, HEAD_BLOCK_LEN);
        put_frame(NGHTTP2_WINDOW_UPDATE, 0, id, "\x7f\xff\xff\xff", 4); /* overflows */
        if (id % 100 == 1) fixture_turn(&f);
        peer_read(&peer);
    }
    expect_goaway(NGHTTP2_ENHANCE_YOUR_CALM);
    raw_end();
}

static void endless_continuations_are_a_flood(void **state)
{
    (void)state;
    raw_begin(&(struct http_server_cfg){0});
    put_frame(NGHTTP2_HEADERS, 0, 1, HEAD_BLOCK, HEAD_BLOCK_LEN);
    for (int i = 0; i < 20; i++) put_frame(NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
    expect_goaway(NGHTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(fixture_stats(&f).n_requests, 0);
    raw_end();
}

static void broken_frames_end_the_connection(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t id;
        const char *payload;
        size_t n;
        uint32_t code;
    } cases[] = {
        {NGHTTP2_PING, 0, "123", 3, NGHTTP2_FRAME_SIZE_ERROR},
        {NGHTTP2_PING, 3, "12345678", 8, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_HEADERS, 2, HEAD_BLOCK, HEAD_BLOCK_LEN, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6, NGHTTP2_COMPRESSION_ERROR},
        {NGHTTP2_DATA, 9, "x", 1, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_WINDOW_UPDATE, 0, "\0\0\0\0", 4, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_PUSH_PROMISE, 1, "\0\0\0\2", 4, NGHTTP2_PROTOCOL_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        raw_begin(&(struct http_server_cfg){0});
        put_frame(cases[i].type, NGHTTP2_FLAG_END_HEADERS * (cases[i].type == NGHTTP2_HEADERS),
                  cases[i].id, cases[i].payload, cases[i].n);
        expect_goaway(cases[i].code);
        raw_end();
    }
}

static void streams_have_a_limit(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.n_streams_max = 5, .n_streams_total_max = 7});
    struct http2_client second;
    http2_client_connect(&f, &second, 0);
    for (int i = 0; i < 8; i++) http2_call(&client, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&client, f.n_held == 5); /* the others wait in the client, or come back refused */
    for (int i = 0; i < 5; i++) http2_call(&second, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&second, second.calls[4]->closed);
    assert_int_equal(second.calls[4]->error_code, NGHTTP2_REFUSED_STREAM);
    assert_int_equal(f.n_held, 7);
    assert_true(fixture_stats(&f).n_streams_refused >= 3);
    assert_int_equal(fixture_stats(&f).n_streams, 7);
    http2_client_done(&second);
    end();
}

static void all_bodies_together_have_a_budget(void **state)
{
    (void)state;
    static char body[998];
    begin(&(struct http_server_cfg){.body_total_bytes_max = 1000});
    http2_call(&client, "POST", "/hold", "abc", 3, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    struct http2_call *call = http2_call(&client, "POST", "/echo", body, sizeof body, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_memory_equal(call->head, ":status: 503", 12);
    assert_non_null(strstr(call->head, "retry-after: 1\n"));
    assert_int_equal(fixture_stats(&f).body_bytes, 3);
    end();
}

/* --- time --- */

static void slow_heads_end_the_connection(void **state)
{
    (void)state;
    raw_begin(&(struct http_server_cfg){.head_timeout_ns = 20 * MS});
    put_frame(NGHTTP2_HEADERS, 0, 1, HEAD_BLOCK, HEAD_BLOCK_LEN);
    expect_goaway(NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_HEAD_TIMEOUT], 1);
    raw_end();
}

static void slow_bodies_get_408_alone(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.body_timeout_ns = 30 * MS});
    struct http2_call *held = http2_call(&client, "GET", "/hold", NULL, 0, true);
    struct http2_call *slow = http2_call(&client, "POST", "/echo", "abc", 3, false);
    HTTP2_UNTIL(&client, slow->closed);
    assert_memory_equal(slow->head, ":status: 408", 12);
    assert_false(held->closed);
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_BODY_TIMEOUT], 1);
    end();
}

static void a_window_that_stays_shut_resets_the_stream(void **state)
{
    (void)state;
    static char bytes[100000];
    begin(&(struct http_server_cfg){.write_stall_ns = 30 * MS});
    client.holds_windows = true;
    struct http2_call *held = http2_call(&client, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    nghttp2_submit_window_update(client.session, 0, 0, 1000000);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(f.held[0], bytes, sizeof bytes), SL_OK);
    HTTP2_UNTIL(&client, held->closed);
    assert_int_equal(held->error_code, NGHTTP2_CANCEL);
    assert_int_equal(f.n_closed, 1);
    assert_int_equal(fixture_stats(&f).n_write_stalled, 1);
    assert_int_equal(fixture_stats(&f).n_connections, 1);
    end();
}

static void a_peer_that_is_dead_is_found(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.ping_after_ns = 20 * MS, .write_stall_ns = 40 * MS});
    http2_call(&client, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    int64_t until_ns = sl_now_ns() + 200 * MS; /* it answers our PINGs */
    while (sl_now_ns() < until_ns) http2_client_turn(&client);
    assert_int_equal(f.n_closed, 0);
    FIXTURE_UNTIL(&f, f.n_closed == 1); /* it does no more */
    assert_int_equal(fixture_stats(&f).n_pings_lost, 1);
    end();
}

static void pings_are_answered(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    for (int i = 0; i < 100; i++) nghttp2_submit_ping(client.session, 0, NULL);
    HTTP2_UNTIL(&client, client.n_pongs == 100);
    assert_false(client.goaway);
    end();
}

static void unsent_output_of_all_has_a_limit(void **state)
{
    (void)state;
    static char bytes[600000];
    begin(&(struct http_server_cfg){.out_total_bytes_max = 1000000, .idle_timeout_ns = 20 * MS});
    for (int i = 0; i < 3; i++) http2_call(&client, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&client, f.n_held == 3);
    client.holds_windows = true;
    for (int i = 0; i < 3; i++) http_respond(f.held[i], 200, NULL, bytes, sizeof bytes);
    HTTP2_UNTIL(&client, client.peer.closed);
    assert_int_equal(fixture_stats(&f).n_write_stalled, 1);
    end();
}

/* --- memory --- */

static void one_connection(void)
{
    struct http2_call *call = http2_call(&client, "POST", "/hold", "abc", 3, true);
    HTTP2_UNTIL(&client, f.n_held == 1 || call->closed || client.peer.closed);
    if (f.n_held && !f.n_closed) {
        struct http_exchange *x = f.held[0];
        sl_status status = http_exchange_trailer_add(x, "t", "v");
        if (status == SL_OK) status = http_stream_begin(x, 200, "text/plain");
        if (status == SL_OK) status = http_stream_write(x, "done", 4);
        if (status == SL_OK) {
            http_stream_end(x);
        } else {
            http_exchange_abort(x);
        }
    }
    HTTP2_UNTIL(&client, call->closed || client.peer.closed);
}

/* Each allocation of a connection and its request fails in turn: an answer, a reset or a closed
 * connection; the next client is served. */
static void connections_without_memory_end_cleanly(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t nth = 1; hit; nth++) {
        fixture_start(&f, &(struct http_server_cfg){.linger_ns = 20 * MS});
        http2_client_connect(&f, &client, 0);
        sl_mem_fail_at(nth, false);
        one_connection();
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        http2_client_done(&client);
        http2_client_connect(&f, &client, 0);
        struct http2_call *call = http2_call(&client, "GET", "/echo", NULL, 0, true);
        HTTP2_UNTIL(&client, call->closed);
        assert_string_equal(call->body, "[GET /echo ? 0 ]");
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_end_their_stream_alone),
        cmocka_unit_test(refusals_are_errors_in_json),
        cmocka_unit_test(large_heads_get_431),
        cmocka_unit_test(floods_of_control_frames_end_the_connection),
        cmocka_unit_test(opening_and_resetting_at_once_is_a_flood),
        cmocka_unit_test(making_us_reset_is_a_flood),
        cmocka_unit_test(endless_continuations_are_a_flood),
        cmocka_unit_test(broken_frames_end_the_connection),
        cmocka_unit_test(streams_have_a_limit),
        cmocka_unit_test(all_bodies_together_have_a_budget),
        cmocka_unit_test(slow_heads_end_the_connection),
        cmocka_unit_test(slow_bodies_get_408_alone),
        cmocka_unit_test(a_window_that_stays_shut_resets_the_stream),
        cmocka_unit_test(a_peer_that_is_dead_is_found),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(unsent_output_of_all_has_a_limit),
        cmocka_unit_test(connections_without_memory_end_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
