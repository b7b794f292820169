/* http_stream_test.c: answers of unknown length: chunks, backpressure, clients that go away, and
 * the timeouts and limits that keep slow or many clients from harming others. */
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
#include "support/http_fixture.h"

#define H "Host: h\r\n"
#define MS INT64_C(1000000)

static struct http_fixture f;
static struct http_peer peer;

static void begin(const struct http_server_cfg *cfg)
{
    fixture_start(&f, cfg);
    peer_connect(&f, &peer);
}

static struct http_exchange *begin_hold(const struct http_server_cfg *cfg)
{
    begin(cfg);
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    return f.held[0];
}

static void end(void)
{
    peer_done(&peer);
    fixture_stop(&f);
}

static void a_stream_is_chunked_and_keeps_the_connection(void **state)
{
    (void)state;
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){0});
    assert_int_equal(http_stream_begin(x, 200, "text/event-stream"), SL_OK);
    peer_expect(&f, &peer, "Transfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(http_stream_write(x, "hello", 5), SL_OK);
    assert_int_equal(http_stream_write(x, "", 0), SL_OK);
    peer_expect(&f, &peer, "\r\n\r\n5\r\nhello\r\n");
    assert_int_equal(http_stream_write(x, "0123456789abcdef", 16), SL_OK);
    http_stream_end(x);
    peer_expect(&f, &peer, "\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &peer, "[GET /echo ? 0 ]");
    assert_int_equal(f.n_closed, 0);
    end();
}

static void http_1_0_streams_until_the_connection_ends(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(f.held[0], "plain", 5), SL_OK);
    http_stream_end(f.held[0]);
    peer_expect_close(&f, &peer);
    assert_false(peer.reset);
    assert_string_equal(strstr(peer.got, "\r\n\r\n"), "\r\n\r\nplain");
    assert_null(strstr(peer.got, "chunked"));
    end();
}

static void head_of_a_stream_has_no_chunks(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "HEAD /hold HTTP/1.1\r\n" H "\r\nGET /echo HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    assert_int_equal(http_stream_write(f.held[0], "hidden", 6), SL_OK);
    http_stream_end(f.held[0]);
    peer_expect(&f, &peer, "chunked\r\n\r\nHTTP/1.1 200 OK");
    end();
}

static void on_drain(void *ctx, struct http_exchange *x)
{
    struct http_fixture *fixture = ctx;
    assert_true(http_stream_backlog(x) < 100000);
    fixture->n_drains++;
}

/* The client reads nothing until the kernel's buffers and the backlog are full. */
static void a_slow_reader_holds_the_stream_back(void **state)
{
    (void)state;
    static char piece[10000];
    memset(piece, 'p', sizeof piece);
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){.stream_backlog_max = 100000});
    http_stream_set_drain_handler(x, on_drain, &f);
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
    size_t n_pieces = 0;
    for (int busy = 0; busy < 10;) {
        sl_status status = http_stream_write(x, piece, sizeof piece);
        assert_true(status == SL_OK || status == SL_BUSY);
        n_pieces += status == SL_OK;
        busy = status == SL_BUSY ? busy + 1 : 0;
        if (status == SL_BUSY) fixture_turn(&f);
    }
    size_t n_drains = f.n_drains;
    assert_in_range(http_stream_backlog(x), 50000, 120000);
    FIXTURE_UNTIL(&f, (peer_read(&peer), f.n_drains > n_drains));
    assert_int_equal(http_stream_write(x, "end", 3), SL_OK);
    http_stream_end(x);
    peer_expect(&f, &peer, "\r\n3\r\nend\r\n0\r\n\r\n");
    assert_int_equal(peer_count(&peer, "\r\n2710\r\npppp"), n_pieces);
    end();
}

static void a_reader_that_stalls_is_cut(void **state)
{
    (void)state;
    static char piece[100000];
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){.write_stall_ns = 20 * MS});
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
    while (http_stream_write(x, piece, sizeof piece) == SL_OK && !f.n_closed) fixture_turn(&f);
    FIXTURE_UNTIL(&f, f.n_closed == 1);
    assert_int_equal(fixture_stats(&f).n_write_stalled, 1);
    assert_int_equal(fixture_stats(&f).n_active, 0);
    end();
}

static void a_client_that_goes_away_is_told_at_once(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct http_exchange *x = begin_hold(&(struct http_server_cfg){0});
        if (how == 1) assert_int_equal(http_stream_begin(x, 200, NULL), SL_OK);
        if (how == 2) {
            struct linger reset = {1, 0};
            setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        peer_done(&peer);
        FIXTURE_UNTIL(&f, f.n_closed == 1);
        assert_int_equal(fixture_stats(&f).n_client_gone, 1);
        assert_int_equal(fixture_stats(&f).n_connections, 0);
        fixture_stop(&f);
    }
}

static void a_late_close_handler_is_told_too(void **state)
{
    (void)state;
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){0});
    http_exchange_set_close_handler(x, NULL, NULL);
    peer_done(&peer);
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_client_gone == 1);
    assert_true(http_exchange_is_closed(x));
    assert_int_equal(http_stream_begin(x, 200, NULL), SL_CANCELLED);
    assert_int_equal(http_stream_write(x, "more", 4), SL_CANCELLED);
    assert_memory_equal(http_exchange_request(x)->peer, "127.0.0.1:", 10);
    http_exchange_set_close_handler(x, on_drain, &f); /* any handler that only counts */
    assert_int_equal(f.n_drains, 0);
    FIXTURE_UNTIL(&f, f.n_drains == 1);
    http_exchange_set_close_handler(x, on_drain, &f);
    fixture_turn(&f);
    assert_int_equal(f.n_drains, 1); /* once */
    http_respond(x, 200, NULL, "nobody reads it", 15);
    assert_int_equal(fixture_stats(&f).n_active, 0);
    fixture_stop(&f);
}

static void abort_cuts_so_that_half_is_not_taken_for_whole(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /hold HTTP/1.0\r\n\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_int_equal(http_stream_begin(f.held[0], 200, NULL), SL_OK);
    fixture_turn(&f);
    http_exchange_abort(f.held[0]);
    peer_expect_close(&f, &peer);
    assert_true(peer.reset);
    assert_int_equal(fixture_stats(&f).n_client_gone, 0);
    end();
}

static void destroying_the_server_tells_and_frees(void **state)
{
    (void)state;
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){0});
    http_exchange_set_close_handler(x, on_drain, &f); /* does not end x */
    http_server_destroy(f.server);
    f.server = NULL;
    assert_int_equal(f.n_drains, 1);
    end();
}

/* --- timeouts --- */

static void slow_heads_and_bodies_get_408(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum http_reject reject;
    } cases[] = {
        {"G", HTTP_REJECT_HEAD_TIMEOUT},
        {"GET / HTTP/1.1\r\n" H "X: y\r\n", HTTP_REJECT_HEAD_TIMEOUT},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nhalf", HTTP_REJECT_BODY_TIMEOUT},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", HTTP_REJECT_BODY_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(&(struct http_server_cfg){
            .head_timeout_ns = 20 * MS, .body_timeout_ns = 20 * MS, .linger_ns = 20 * MS});
        peer_send_str(&f, &peer, cases[i].text);
        peer_expect(&f, &peer, "HTTP/1.1 408 Request Timeout\r\n");
        peer_expect_close(&f, &peer);
        assert_int_equal(fixture_stats(&f).rejected[cases[i].reject], 1);
        end();
    }
}

/* A byte now and then does not extend the time for the whole head. */
static void a_trickle_does_not_help(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.head_timeout_ns = 30 * MS, .linger_ns = 20 * MS});
    peer_send_str(&f, &peer, "GET / HTTP/1.1\r\nX: ");
    FIXTURE_UNTIL(&f, (peer_send_str(&f, &peer, "a"), peer_read(&peer), peer.closed));
    assert_memory_equal(peer.got, "HTTP/1.1 408", 12);
    end();
}

/* What comes fast buys no time to hold on to it. */
static void a_fast_body_without_its_end_is_refused(void **state)
{
    (void)state;
    static char most[90000];
    begin(&(struct http_server_cfg){
        .body_timeout_ns = 20 * MS, .body_rate_min = 1, .linger_ns = 20 * MS});
    peer_send_str(&f, &peer, "POST / HTTP/1.1\r\n" H "Content-Length: 90001\r\n\r\n");
    peer_send(&f, &peer, most, sizeof most);
    peer_expect(&f, &peer, "HTTP/1.1 408 Request Timeout\r\n");
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_BODY_TIMEOUT], 1);
    end();
}

static void idle_connections_are_closed_quietly(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.idle_timeout_ns = 20 * MS});
    peer_expect_close(&f, &peer);
    assert_false(peer.reset);
    assert_int_equal(peer.len, 0);
    peer_done(&peer);
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &peer, "[GET /echo ? 0 ]");
    peer_expect_close(&f, &peer);
    end();
}

static void a_long_answer_is_no_timeout(void **state)
{
    (void)state;
    struct http_exchange *x = begin_hold(&(struct http_server_cfg){.head_timeout_ns = 10 * MS,
                                                                   .body_timeout_ns = 10 * MS,
                                                                   .idle_timeout_ns = 10 * MS,
                                                                   .write_stall_ns = 10 * MS});
    int64_t until_ns = sl_now_ns() + 60 * MS;
    FIXTURE_UNTIL(&f, sl_now_ns() > until_ns);
    http_respond(x, 200, NULL, "patience", 8);
    peer_expect(&f, &peer, "patience");
    end();
}

/* --- limits --- */

#define CROWD 20

static void the_oldest_idle_connection_makes_room(void **state)
{
    (void)state;
    struct http_peer crowd[CROWD];
    fixture_start(&f, &(struct http_server_cfg){.n_connections_max = 5});
    for (size_t i = 0; i < CROWD; i++) {
        peer_connect(&f, &crowd[i]);
        peer_send_str(&f, &crowd[i], "GET /echo HTTP/1.1\r\n" H "\r\n");
        peer_expect(&f, &crowd[i], "[GET /echo ? 0 ]");
        assert_true(fixture_stats(&f).n_connections <= 5);
    }
    for (size_t i = 0; i < CROWD - 5; i++) peer_expect_close(&f, &crowd[i]);
    assert_int_equal(fixture_stats(&f).n_evicted, CROWD - 5);
    for (size_t i = CROWD - 5; i < CROWD; i++) {
        peer_send_str(&f, &crowd[i], "GET /echo?2 HTTP/1.1\r\n" H "\r\n");
        peer_expect(&f, &crowd[i], "[GET /echo ?2 0 ]");
    }
    for (size_t i = 0; i < CROWD; i++) peer_done(&crowd[i]);
    fixture_stop(&f);
}

/* They only connect, or begin a head and never end it. */
static void a_crowd_without_requests_keeps_nobody_out(void **state)
{
    (void)state;
    struct http_peer crowd[CROWD], client, busy;
    fixture_start(&f, &(struct http_server_cfg){.n_connections_max = 6});
    peer_connect(&f, &busy);
    peer_send_str(&f, &busy, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    peer_connect(&f, &client);
    peer_send_str(&f, &client, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &client, "[GET /echo ? 0 ]");
    for (size_t i = 0; i < CROWD; i++) {
        peer_connect(&f, &crowd[i]);
        if (i % 2) peer_send_str(&f, &crowd[i], "GET /echo HTTP/1.1\r\nHo");
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections_total == i + 3);
    }
    assert_int_equal(fixture_stats(&f).n_connections, 6);
    /* The oldest of the crowd went; who had sent a request before is served on. */
    peer_expect_close(&f, &crowd[0]);
    peer_send_str(&f, &client, "GET /echo?2 HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &client, "[GET /echo ?2 0 ]");
    http_respond(f.held[0], 200, NULL, "done", 4);
    peer_expect(&f, &busy, "done");
    for (size_t i = 0; i < CROWD; i++) peer_done(&crowd[i]);
    peer_done(&client);
    peer_done(&busy);
    fixture_stop(&f);
}

/* A server full of clients that come back now and then does not turn away who is just coming. */
static void newcomers_do_not_push_each_other_out(void **state)
{
    (void)state;
    struct http_peer regular[6], slow[2], next;
    fixture_start(&f, &(struct http_server_cfg){.n_connections_max = 6});
    for (size_t i = 0; i < 6; i++) {
        peer_connect(&f, &regular[i]);
        peer_send_str(&f, &regular[i], "GET /echo HTTP/1.1\r\n" H "\r\n");
        peer_expect(&f, &regular[i], "[GET /echo ? 0 ]");
    }
    for (size_t i = 0; i < 2; i++) {
        peer_connect(&f, &slow[i]);
        peer_send_str(&f, &slow[i], "GET /echo?slow HTTP/1.1\r\n");
    }
    peer_connect(&f, &next);
    peer_send_str(&f, &next, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &next, "[GET /echo ? 0 ]");
    for (size_t i = 0; i < 3; i++) peer_expect_close(&f, &regular[i]);
    for (size_t i = 0; i < 2; i++) {
        peer_send_str(&f, &slow[i], H "\r\n");
        peer_expect(&f, &slow[i], "[GET /echo ?slow 0 ]");
    }
    for (size_t i = 0; i < 6; i++) peer_done(&regular[i]);
    for (size_t i = 0; i < 2; i++) peer_done(&slow[i]);
    peer_done(&next);
    fixture_stop(&f);
}

static void busy_connections_make_the_next_wait(void **state)
{
    (void)state;
    struct http_peer busy[3], next;
    fixture_start(&f, &(struct http_server_cfg){.n_connections_max = 3});
    for (size_t i = 0; i < 3; i++) {
        peer_connect(&f, &busy[i]);
        peer_send_str(&f, &busy[i], "GET /hold HTTP/1.1\r\n" H "\r\n");
        FIXTURE_UNTIL(&f, f.n_held == i + 1);
    }
    peer_connect(&f, &next);
    peer_send_str(&f, &next, "GET /echo HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 20; i++) fixture_turn(&f);
    peer_read(&next);
    assert_int_equal(next.len, 0);
    assert_int_equal(fixture_stats(&f).n_connections, 3);
    http_respond(f.held[1], 200, NULL, "done", 4);
    peer_expect(&f, &next, "[GET /echo ? 0 ]");
    assert_int_equal(fixture_stats(&f).n_evicted, 1);
    for (size_t i = 0; i < 3; i++) peer_done(&busy[i]);
    peer_done(&next);
    fixture_stop(&f);
}

/* Each client is within its own limits, but all together hold too much: the worst one goes. */
static void unsent_output_of_all_has_a_limit(void **state)
{
    (void)state;
    static char piece[1000000];
    struct http_peer modest;
    struct http_exchange *greedy_x = begin_hold(
        &(struct http_server_cfg){.stream_backlog_max = 100 << 20, .out_total_bytes_max = 1 << 20});
    peer_connect(&f, &modest);
    peer_send_str(&f, &modest, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 2);
    struct http_exchange *modest_x = f.held[1];
    assert_int_equal(http_stream_begin(greedy_x, 200, NULL), SL_OK);
    assert_int_equal(http_stream_begin(modest_x, 200, NULL), SL_OK);
    for (int i = 0; i < 50 && !f.n_closed; i++) {
        assert_int_equal(http_stream_write(greedy_x, piece, sizeof piece), SL_OK);
        fixture_turn(&f);
    }
    FIXTURE_UNTIL(&f, f.n_closed == 1);
    assert_int_equal(fixture_stats(&f).n_write_stalled, 1);
    http_stream_end(modest_x);
    peer_expect(&f, &modest, "\r\n\r\n0\r\n\r\n");
    peer_done(&modest);
    end();
}

#define MANY 1000

static void idle_connections_cost_little(void **state)
{
    (void)state;
    static struct http_peer many[MANY];
    uint64_t before = sl_mem_live();
    fixture_start(&f, &(struct http_server_cfg){0});
    for (size_t i = 0; i < MANY; i++) {
        peer_connect(&f, &many[i]);
        peer_send_str(&f, &many[i], "GET /echo HTTP/1.1\r\n" H "\r\n");
        fixture_turn(&f);
    }
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections_idle == MANY &&
                          fixture_stats(&f).n_requests == MANY);
    /* Two allocations each, the connection and its watch, and what is kept for reuse. */
    assert_true(sl_mem_live() - before < 2 * MANY + 300);
    for (size_t i = 0; i < MANY; i++) peer_done(&many[i]);
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_chunked_and_keeps_the_connection),
        cmocka_unit_test(http_1_0_streams_until_the_connection_ends),
        cmocka_unit_test(head_of_a_stream_has_no_chunks),
        cmocka_unit_test(a_slow_reader_holds_the_stream_back),
        cmocka_unit_test(a_reader_that_stalls_is_cut),
        cmocka_unit_test(a_client_that_goes_away_is_told_at_once),
        cmocka_unit_test(a_late_close_handler_is_told_too),
        cmocka_unit_test(abort_cuts_so_that_half_is_not_taken_for_whole),
        cmocka_unit_test(destroying_the_server_tells_and_frees),
        cmocka_unit_test(slow_heads_and_bodies_get_408),
        cmocka_unit_test(a_trickle_does_not_help),
        cmocka_unit_test(a_fast_body_without_its_end_is_refused),
        cmocka_unit_test(idle_connections_are_closed_quietly),
        cmocka_unit_test(a_long_answer_is_no_timeout),
        cmocka_unit_test(the_oldest_idle_connection_makes_room),
        cmocka_unit_test(a_crowd_without_requests_keeps_nobody_out),
        cmocka_unit_test(newcomers_do_not_push_each_other_out),
        cmocka_unit_test(busy_connections_make_the_next_wait),
        cmocka_unit_test(unsent_output_of_all_has_a_limit),
        cmocka_unit_test(idle_connections_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
