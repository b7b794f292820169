/* http2_server_test.c: requests and answers over HTTP/2: bodies whole and in pieces, streams,
 * trailers, resets from both sides, and the end of a connection. */
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
#define N_CONNECTIONS 10
#define N_STREAMS 100 /* of each */

static struct http_fixture f;
static struct http2_client client;

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

/* A request that the fixture keeps: the exchange, and the client's side in *out. */
static struct http_exchange *hold(struct http2_call **out)
{
    size_t n = f.n_held;
    *out = http2_call(&client, "GET", "/hold", NULL, 0, true);
    HTTP2_UNTIL(&client, f.n_held == n + 1);
    return f.held[n];
}

static bool has(const char *text, const char *piece)
{
    return strstr(text, piece) != NULL;
}

/* --- whole requests and answers --- */

static void requests_are_answered_in_any_order(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.server_name = "starlane"});
    struct http2_call *held, *echo, *get, *missing;
    struct http_exchange *x = hold(&held);
    echo = http2_call(&client, "POST", "/echo?q=1", "hello", 5, true);
    get = http2_call(&client, "GET", "/%65cho", NULL, 0, true);
    missing = http2_call(&client, "GET", "/nothing", NULL, 0, true);
    HTTP2_UNTIL(&client, echo->closed && get->closed && missing->closed);
    assert_string_equal(echo->body, "[POST /echo ?q=1 5 hello]");
    assert_string_equal(get->body, "[GET /echo ? 0 ]");
    assert_true(has(missing->head, ":status: 404\n"));
    assert_true(has(echo->head, ":status: 200\ndate: "));
    assert_true(has(echo->head, "server: starlane\ncontent-type: text/plain\n"));
    assert_true(has(echo->head, "content-length: 25\n"));
    assert_false(held->closed);
    http_respond(x, 200, NULL, "late", 4);
    HTTP2_UNTIL(&client, held->closed);
    assert_string_equal(held->body, "late");
    assert_int_equal(held->error_code, NGHTTP2_NO_ERROR);
    struct http_server_stats stats = fixture_stats(&f);
    assert_int_equal(stats.n_requests, 4);
    assert_int_equal(stats.n_http2_connections, 1);
    assert_int_equal(stats.n_streams + stats.n_active, 0);
    assert_int_equal(stats.n_connections_idle, 1);
    end();
}

static void the_request_is_as_over_http_1(void **state)
{
    (void)state;
    const nghttp2_nv fields[] = {
        HTTP2_NV(":method", "POST"),    HTTP2_NV(":scheme", "http"),
        HTTP2_NV(":authority", "h:80"), HTTP2_NV(":path", "/hold?a=b%20c"),
        HTTP2_NV("te", "trailers"),     HTTP2_NV("x-key", "v"),
    };
    begin(&(struct http_server_cfg){0});
    http2_call_with(&client, fields, 6, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    const struct http_request *request = http_exchange_request(f.held[0]);
    assert_true(request->version_2);
    assert_false(request->version_1_1 || request->is_tls);
    assert_int_equal(request->method, HTTP_METHOD_POST);
    assert_string_equal(request->target, "/hold?a=b%20c");
    assert_string_equal(http_exchange_query(f.held[0], "a"), "b c");
    assert_string_equal(http_request_header(request, "Host"), "h:80");
    assert_string_equal(http_request_header(request, "x-key"), "v");
    assert_int_equal(request->n_headers, 3);
    assert_memory_equal(request->peer, "127.0.0.1:", 10);
    http_respond(f.held[0], 204, NULL, NULL, 0);
    HTTP2_UNTIL(&client, client.calls[0]->closed);
    assert_false(has(client.calls[0]->head, "content-length"));
    end();
}

static void many_fields_arrive_and_leave(void **state)
{
    (void)state;
    char names[60][16];
    nghttp2_nv fields[64] = {HTTP2_NV(":method", "GET"), HTTP2_NV(":scheme", "http"),
                             HTTP2_NV(":authority", "h"), HTTP2_NV(":path", "/hold")};
    for (size_t i = 0; i < 60; i++) {
        size_t n = (size_t)snprintf(names[i], sizeof names[i], "x-%zu", i);
        fields[4 + i] = (nghttp2_nv){(uint8_t *)names[i], (uint8_t *)names[i], n, n, 0};
    }
    begin(&(struct http_server_cfg){0});
    struct http2_call *call = http2_call_with(&client, fields, 64, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    for (size_t i = 0; i < 60; i++) {
        const char *value = http_request_header(http_exchange_request(f.held[0]), names[i]);
        assert_string_equal(value, names[i]);
        assert_int_equal(http_exchange_header_add(f.held[0], names[i], value), SL_OK);
    }
    assert_int_equal(http_exchange_header_add(f.held[0], "X-Upper", "U"), SL_OK);
    assert_int_equal(http_exchange_header_add(f.held[0], "Connection", "close"), SL_INVALID);
    http_respond(f.held[0], 200, NULL, NULL, 0);
    HTTP2_UNTIL(&client, call->closed);
    assert_true(has(call->head, "x-0: x-0\n") && has(call->head, "x-59: x-59\n"));
    assert_true(has(call->head, "x-upper: U\n"));
    end();
}

static void large_bodies_pass_the_windows(void **state)
{
    (void)state;
    enum { N = 6000000 }; /* more than the connection's window */
    char *bytes = malloc(N);
    assert_non_null(bytes);
    for (size_t i = 0; i < N; i++) bytes[i] = (char)(i % 251);
    begin(&(struct http_server_cfg){0});
    struct http2_call *call = http2_call(&client, "POST", "/hold", bytes, N, true);
    HTTP2_UNTIL(&client, f.n_held == 1);
    const struct http_request *request = http_exchange_request(f.held[0]);
    assert_int_equal(request->body_len, N);
    assert_memory_equal(request->body, bytes, N);
    assert_int_equal(fixture_stats(&f).body_bytes, N);
    http_respond(f.held[0], 200, NULL, request->body, request->body_len);
    HTTP2_UNTIL(&client, call->closed);
    assert_int_equal(call->len, N);
    assert_memory_equal(call->body, bytes, N);
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    end();
    free(bytes);
}

static void head_and_expect_are_kept(void **state)
{
    (void)state;
    const nghttp2_nv fields[] = {HTTP2_NV(":method", "HEAD"), HTTP2_NV(":scheme", "http"),
                                 HTTP2_NV(":authority", "h"), HTTP2_NV(":path", "/echo"),
                                 HTTP2_NV("expect", "100-continue")};
    begin(&(struct http_server_cfg){0});
    struct http2_call *call = http2_call_with(&client, fields, 5, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_true(has(call->head, "content-length: 17\n"));
    assert_int_equal(call->len, 0);
    assert_false(has(call->head, ":status: 100")); /* nothing is to come */
    call = http2_call_with(&client, fields, 5, false);
    HTTP2_UNTIL(&client, has(call->head, ":status: 100\n"));
    assert_false(call->has_head);
    http2_call_add(call, "x", 1, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_true(has(call->head, ":status: 200\n"));
    end();
}

/* --- trailers --- */

static void trailers_follow_every_kind_of_answer(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    for (int how = 0; how < 5; how++) {
        struct http2_call *call;
        struct http_exchange *x = hold(&call);
        assert_int_equal(http_exchange_trailer_add(x, "grpc-status", "0"), SL_OK);
        assert_int_equal(http_exchange_trailer_add(x, "Grpc-Message", ""), SL_OK);
        assert_int_equal(http_exchange_trailer_add(x, "bad name", "x"), SL_INVALID);
        if (how < 2) {
            http_respond(x, 200, "application/grpc", "body", how ? 4 : 0);
        } else {
            assert_int_equal(http_stream_begin(x, 200, "application/grpc"), SL_OK);
            if (how > 2) assert_int_equal(http_stream_write(x, "body", 4), SL_OK);
            if (how > 3) HTTP2_UNTIL(&client, call->len == 4);
            http_stream_end(x);
        }
        HTTP2_UNTIL(&client, call->closed);
        assert_string_equal(call->trailers, "grpc-status: 0\ngrpc-message: \n");
        assert_string_equal(call->body, how % 2 || how == 4 ? "body" : "");
        assert_int_equal(call->error_code, NGHTTP2_NO_ERROR);
        assert_true(has(call->head, "content-type: application/grpc\n"));
    }
    end();
}

static void trailers_over_http_1_come_with_the_last_chunk(void **state)
{
    (void)state;
    struct http_peer peer;
    fixture_start(&f, &(struct http_server_cfg){0});
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_int_equal(http_exchange_trailer_add(f.held[0], "X-End", "1"), SL_OK);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(f.held[0], "hello", 5), SL_OK);
    http_stream_end(f.held[0]);
    peer_expect(&f, &peer, "5\r\nhello\r\n0\r\nX-End: 1\r\n\r\n");
    peer_done(&peer);
    fixture_stop(&f);
}

/* --- streams --- */

static void a_stream_arrives_piece_by_piece(void **state)
{
    (void)state;
    struct http2_call *call;
    begin(&(struct http_server_cfg){0});
    struct http_exchange *x = hold(&call);
    assert_int_equal(http_stream_begin(x, 200, "text/event-stream"), SL_OK);
    HTTP2_UNTIL(&client, call->has_head);
    for (size_t i = 1; i <= 3; i++) {
        assert_int_equal(http_stream_write(x, "data: x\n\n", 9), SL_OK);
        HTTP2_UNTIL(&client, call->len == 9 * i);
    }
    assert_false(call->closed);
    http_stream_end(x);
    HTTP2_UNTIL(&client, call->closed);
    assert_int_equal(call->error_code, NGHTTP2_NO_ERROR);
    end();
}

static void on_drain(void *ctx, struct http_exchange *x)
{
    struct http_fixture *fixture = ctx;
    assert_true(http_stream_backlog(x) <= 50000);
    fixture->n_drains++;
}

/* The window of one stream is shut; the other goes on. */
static void a_shut_window_holds_one_stream_back(void **state)
{
    (void)state;
    static char piece[10000];
    struct http2_call *slow, *quick;
    begin(&(struct http_server_cfg){.stream_backlog_max = 100000});
    client.holds_windows = true;
    struct http_exchange *x = hold(&slow), *y = hold(&quick);
    http_stream_set_drain_handler(x, on_drain, &f);
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
    nghttp2_submit_window_update(client.session, 0, 0, 1000000);
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        n += http_stream_write(x, piece, sizeof piece) == SL_OK ? sizeof piece : 0;
        http2_client_turn(&client);
    }
    assert_int_equal(slow->len, 65535);
    assert_int_equal(http_stream_backlog(x), n - 65535);
    assert_in_range(http_stream_backlog(x), 100000, 110000);
    assert_int_equal(f.n_drains, 0);
    http_respond(y, 200, NULL, "quick", 5);
    HTTP2_UNTIL(&client, quick->closed);
    nghttp2_submit_window_update(client.session, 0, slow->id, 1000000);
    HTTP2_UNTIL(&client, f.n_drains == 1 && slow->len == n);
    http_stream_end(x);
    HTTP2_UNTIL(&client, slow->closed);
    end();
}

static void tiny_windows_pass_everything(void **state)
{
    (void)state;
    fixture_start(&f, &(struct http_server_cfg){0});
    http2_client_connect(&f, &client, 7);
    struct http2_call *call = http2_call(&client, "POST", "/echo", "0123456789", 10, true);
    HTTP2_UNTIL(&client, call->closed);
    assert_string_equal(call->body, "[POST /echo ? 10 0123456789]");
    assert_true(client.n_data_frames >= 4);
    end();
}

static void a_thousand_streams_on_ten_connections(void **state)
{
    (void)state;
    static struct http2_client clients[N_CONNECTIONS];
    fixture_start(&f, &(struct http_server_cfg){0});
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        http2_client_connect(&f, &clients[i], 0);
        for (size_t k = 0; k < N_STREAMS; k++) {
            http2_call(&clients[i], "POST", "/hold", "abc", 3, true);
        }
    }
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        HTTP2_UNTIL(&clients[i], f.n_held == (i + 1) * N_STREAMS);
    }
    assert_int_equal(fixture_stats(&f).n_streams, N_CONNECTIONS * N_STREAMS);
    assert_int_equal(fixture_stats(&f).n_http2_connections, N_CONNECTIONS);
    for (size_t i = 0; i < f.n_held; i++) {
        assert_int_equal(http_exchange_request(f.held[i])->body_len, 3);
        http_respond(f.held[i], 200, NULL, "done", 4);
    }
    for (size_t i = 0; i < N_CONNECTIONS; i++) {
        for (size_t k = 0; k < N_STREAMS; k++) {
            HTTP2_UNTIL(&clients[i], clients[i].calls[k]->closed);
            assert_string_equal(clients[i].calls[k]->body, "done");
        }
        http2_client_done(&clients[i]);
    }
    fixture_stop(&f);
}

/* --- bodies in pieces --- */

static struct {
    struct http_exchange *x;
    char got[4096];
    size_t len, n_calls, n_ends;
} pieces;

static bool on_head(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    assert_int_equal(http_exchange_request(x)->body_len, 0);
    return strcmp(http_exchange_request(x)->path, "/hold") == 0;
}

static void on_piece(void *ctx, struct http_exchange *x, const void *bytes, size_t n, bool last)
{
    (void)ctx;
    assert_ptr_equal(x, f.held[0]);
    if (pieces.len + n < sizeof pieces.got) memcpy(pieces.got + pieces.len, bytes, n);
    pieces.len += n;
    pieces.n_calls++;
    pieces.n_ends += last;
}

static struct http2_call *begin_pieces(const struct http_server_cfg *cfg, const void *body,
                                       size_t n)
{
    memset(&pieces, 0, sizeof pieces);
    begin(cfg);
    struct http2_call *call = http2_call(&client, "POST", "/hold", body, n, false);
    HTTP2_UNTIL(&client, f.n_held == 1);
    pieces.x = f.held[0];
    return call;
}

static const struct http_server_cfg pieces_cfg = {.on_head = on_head};

static void a_call_answers_while_it_is_asked(void **state)
{
    (void)state;
    struct http2_call *call = begin_pieces(&pieces_cfg, "one", 3);
    for (int i = 0; i < 3; i++) http2_client_turn(&client);
    http_exchange_set_body_handler(pieces.x, on_piece, NULL);
    assert_int_equal(pieces.n_calls, 0); /* never from within */
    HTTP2_UNTIL(&client, pieces.len == 3);
    assert_int_equal(http_stream_begin(pieces.x, 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(pieces.x, "first", 5), SL_OK);
    HTTP2_UNTIL(&client, call->len == 5);
    http2_call_add(call, "two", 3, false);
    HTTP2_UNTIL(&client, pieces.len == 6);
    assert_int_equal(pieces.n_ends, 0);
    http2_call_add(call, NULL, 0, true);
    HTTP2_UNTIL(&client, pieces.n_ends == 1);
    assert_memory_equal(pieces.got, "onetwo", 6);
    assert_int_equal(http_stream_write(pieces.x, "second", 6), SL_OK);
    http_stream_end(pieces.x);
    HTTP2_UNTIL(&client, call->closed);
    assert_string_equal(call->body, "firstsecond");
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    end();
}

static void an_empty_body_ends_for_its_handler_too(void **state)
{
    (void)state;
    memset(&pieces, 0, sizeof pieces);
    begin(&pieces_cfg);
    struct http2_call *call;
    struct http_exchange *x = hold(&call);
    http_exchange_set_body_handler(x, on_piece, NULL);
    HTTP2_UNTIL(&client, pieces.n_ends == 1);
    assert_int_equal(pieces.len, 0);
    http_respond(x, 200, NULL, NULL, 0);
    HTTP2_UNTIL(&client, call->closed);
    end();
}

/* What is not taken stops the client at the stream's window, and nothing more is held. */
static void a_pause_stops_the_client(void **state)
{
    (void)state;
    enum { N = 3 * HTTP2_STREAM_WINDOW };
    char *bytes = calloc(1, N);
    assert_non_null(bytes);
    struct http2_call *call = begin_pieces(&pieces_cfg, bytes, N);
    http_exchange_set_body_handler(pieces.x, on_piece, NULL);
    http_exchange_body_pause(pieces.x, true);
    HTTP2_UNTIL(&client, call->upload_sent >= HTTP2_STREAM_WINDOW);
    for (int i = 0; i < 20; i++) http2_client_turn(&client);
    assert_true(fixture_stats(&f).body_bytes <= HTTP2_STREAM_WINDOW);
    assert_true(call->upload_sent <= HTTP2_STREAM_WINDOW + pieces.len);
    size_t before = pieces.len;
    for (int i = 0; i < 5; i++) http2_client_turn(&client);
    assert_int_equal(pieces.len, before);
    http_exchange_body_pause(pieces.x, false);
    http2_call_add(call, NULL, 0, true);
    HTTP2_UNTIL(&client, pieces.n_ends == 1);
    assert_int_equal(pieces.len, N);
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    http_respond(pieces.x, 200, NULL, NULL, 0);
    HTTP2_UNTIL(&client, call->closed);
    end();
    free(bytes);
}

/* The credit of a stream that ended with bytes held goes back to its connection. */
static void what_was_held_does_not_shut_the_connection(void **state)
{
    (void)state;
    static char bytes[HTTP2_STREAM_WINDOW / 2];
    begin(&pieces_cfg);
    for (size_t i = 0; i < 12; i++) { /* more than the connection's window in all */
        struct http2_call *call = http2_call(&client, "POST", "/hold", bytes, sizeof bytes, false);
        HTTP2_UNTIL(&client, f.n_held == i + 1 && call->upload_sent == sizeof bytes);
        if (i % 3 == 0) http_respond(f.held[i], 200, NULL, "early", 5);
        if (i % 3 == 1) http_exchange_abort(f.held[i]);
        if (i % 3 == 2) http2_call_reset(call, NGHTTP2_CANCEL);
        HTTP2_UNTIL(&client, call->closed);
        if (i % 3 == 0) assert_string_equal(call->body, "early");
        if (i % 3 == 0) assert_int_equal(call->error_code, NGHTTP2_NO_ERROR);
    }
    HTTP2_UNTIL(&client, fixture_stats(&f).n_active == 0);
    assert_int_equal(f.n_closed, 4);
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    end();
}

static void end_on_piece(void *ctx, struct http_exchange *x, const void *bytes, size_t n, bool last)
{
    (void)ctx, (void)bytes, (void)n, (void)last;
    pieces.n_calls++;
    http_respond(x, 200, NULL, "enough", 6);
}

static void a_handler_may_end_its_exchange(void **state)
{
    (void)state;
    for (int held = 0; held < 2; held++) {
        struct http2_call *call = begin_pieces(&pieces_cfg, "x", held ? 1 : 0);
        for (int i = 0; i < 3; i++) http2_client_turn(&client);
        http_exchange_set_body_handler(pieces.x, end_on_piece, NULL);
        http2_client_turn(&client);
        if (!held) http2_call_add(call, "abc", 3, false);
        HTTP2_UNTIL(&client, call->closed);
        assert_string_equal(call->body, "enough");
        assert_int_equal(pieces.n_calls, 1);
        end();
    }
}

/* --- ends --- */

static void a_reset_cancels_one_exchange(void **state)
{
    (void)state;
    struct http2_call *gone, *left;
    begin(&(struct http_server_cfg){0});
    struct http_exchange *x = hold(&gone), *y = hold(&left);
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
    http2_call_reset(gone, NGHTTP2_CANCEL);
    HTTP2_UNTIL(&client, f.n_closed == 1);
    assert_false(http_exchange_is_closed(y));
    http_respond(y, 200, NULL, "left", 4);
    HTTP2_UNTIL(&client, left->closed);
    assert_string_equal(left->body, "left");
    assert_int_equal(fixture_stats(&f).n_resets, 1);
    assert_int_equal(fixture_stats(&f).n_client_gone, 1);
    assert_int_equal(fixture_stats(&f).n_connections, 1);
    end();
}

static void abort_resets_the_stream_alone(void **state)
{
    (void)state;
    struct http2_call *call, *echo;
    begin(&(struct http_server_cfg){0});
    struct http_exchange *x = hold(&call);
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(x, "half", 4), SL_OK);
    http_exchange_abort(x);
    HTTP2_UNTIL(&client, call->closed);
    assert_int_equal(call->error_code, NGHTTP2_INTERNAL_ERROR);
    echo = http2_call(&client, "GET", "/echo", NULL, 0, true);
    HTTP2_UNTIL(&client, echo->closed);
    assert_string_equal(echo->body, "[GET /echo ? 0 ]");
    assert_int_equal(fixture_stats(&f).n_resets_sent, 1);
    end();
}

static void a_client_that_goes_away_is_told_to_all_its_streams(void **state)
{
    (void)state;
    struct http2_call *call;
    begin(&(struct http_server_cfg){0});
    for (int i = 0; i < 5; i++) hold(&call);
    assert_int_equal(http_stream_begin(f.held[2], 200, NULL), SL_OK);
    http2_client_done(&client);
    FIXTURE_UNTIL(&f, f.n_closed == 5);
    assert_int_equal(fixture_stats(&f).n_connections + fixture_stats(&f).n_streams, 0);
    fixture_stop(&f);
}

static void destroying_the_server_frees_all(void **state)
{
    (void)state;
    struct http2_call *call;
    begin(&(struct http_server_cfg){0});
    for (int i = 0; i < 3; i++) hold(&call);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(f.held[0], "half", 4), SL_OK);
    http_server_destroy(f.server);
    f.server = NULL;
    assert_int_equal(f.n_closed, 3);
    end();
}

static void on_drained(void *ctx)
{
    ((struct http_fixture *)ctx)->drained = true;
}

static void a_drain_finishes_what_is_under_way(void **state)
{
    (void)state;
    struct http2_client idle;
    struct http2_call *call;
    begin(&(struct http_server_cfg){0});
    http2_client_connect(&f, &idle, 0);
    HTTP2_UNTIL(&idle, fixture_stats(&f).n_connections_idle == 2);
    struct http_exchange *x = hold(&call);
    http_server_drain(f.server, on_drained, &f);
    HTTP2_UNTIL(&idle, idle.goaway && idle.peer.closed);
    assert_false(idle.peer.reset);
    HTTP2_UNTIL(&client, client.n_goaways == 2);
    assert_int_equal(client.goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(client.goaway_last, call->id);
    assert_false(client.peer.closed || f.drained);
    http_respond(x, 200, NULL, "last", 4);
    HTTP2_UNTIL(&client, call->closed && client.peer.closed && f.drained);
    assert_false(client.peer.reset);
    assert_string_equal(call->body, "last");
    http2_client_done(&idle);
    end();
}

static void an_idle_connection_gets_goaway(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.idle_timeout_ns = 20 * MS});
    struct http2_call *call = http2_call(&client, "GET", "/echo", NULL, 0, true);
    HTTP2_UNTIL(&client, call->closed);
    HTTP2_UNTIL(&client, client.goaway && client.peer.closed);
    assert_false(client.peer.reset);
    assert_int_equal(client.goaway_code, NGHTTP2_NO_ERROR);
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
    end();
}

static void both_versions_share_a_port(void **state)
{
    (void)state;
    struct http_peer peer;
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    begin(&(struct http_server_cfg){0});
    struct http2_call *call = http2_call(&client, "GET", "/echo", NULL, 0, true);
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    peer_expect(&f, &peer, "[GET /echo ? 0 ]");
    HTTP2_UNTIL(&client, call->closed);
    peer_send_str(&f, &peer, preface); /* only as the first bytes */
    peer_expect(&f, &peer, "HTTP/1.1 505 ");
    peer_done(&peer);
    peer_connect(&f, &peer);
    for (size_t i = 0; i < sizeof preface - 1; i++) { /* in pieces */
        peer_send(&f, &peer, preface + i, 1);
        fixture_turn(&f);
    }
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_http2_connections == 2);
    FIXTURE_UNTIL(&f, (peer_read(&peer), peer.len > 9));
    assert_int_equal(peer.got[3], NGHTTP2_SETTINGS);
    peer_done(&peer);
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX");
    peer_expect(&f, &peer, "HTTP/1.1 505 ");
    peer_done(&peer);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered_in_any_order),
        cmocka_unit_test(the_request_is_as_over_http_1),
        cmocka_unit_test(many_fields_arrive_and_leave),
        cmocka_unit_test(large_bodies_pass_the_windows),
        cmocka_unit_test(head_and_expect_are_kept),
        cmocka_unit_test(trailers_follow_every_kind_of_answer),
        cmocka_unit_test(trailers_over_http_1_come_with_the_last_chunk),
        cmocka_unit_test(a_stream_arrives_piece_by_piece),
        cmocka_unit_test(a_shut_window_holds_one_stream_back),
        cmocka_unit_test(tiny_windows_pass_everything),
        cmocka_unit_test(a_thousand_streams_on_ten_connections),
        cmocka_unit_test(a_call_answers_while_it_is_asked),
        cmocka_unit_test(an_empty_body_ends_for_its_handler_too),
        cmocka_unit_test(a_pause_stops_the_client),
        cmocka_unit_test(what_was_held_does_not_shut_the_connection),
        cmocka_unit_test(a_handler_may_end_its_exchange),
        cmocka_unit_test(a_reset_cancels_one_exchange),
        cmocka_unit_test(abort_resets_the_stream_alone),
        cmocka_unit_test(a_client_that_goes_away_is_told_to_all_its_streams),
        cmocka_unit_test(destroying_the_server_frees_all),
        cmocka_unit_test(a_drain_finishes_what_is_under_way),
        cmocka_unit_test(an_idle_connection_gets_goaway),
        cmocka_unit_test(both_versions_share_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
