/* http_server_test.c: requests and whole answers over real sockets: framing, order, refusals,
 * bodies, life and drain. */
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
#define N_BLOCKS 6 /* of 50 kB: several times what is read ahead */

static struct http_fixture f;
static struct http_peer peer;

static void begin(const struct http_server_cfg *cfg)
{
    fixture_start(&f, cfg);
    peer_connect(&f, &peer);
}

static void end(void)
{
    peer_done(&peer);
    fixture_stop(&f);
}

static void an_answer_has_its_fields(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.server_name = "starlane"});
    peer_send_str(&f, &peer, "GET /ec%68o?a=b+c HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &peer, "[GET /echo ?a=b+c 0 ]");
    assert_memory_equal(peer.got, "HTTP/1.1 200 OK\r\nDate: ", 23);
    assert_non_null(strstr(peer.got, " GMT\r\nServer: starlane\r\nContent-Type: text/plain\r\n"
                                     "Content-Length: 21\r\n\r\n["));
    assert_int_equal(fixture_stats(&f).n_requests, 1);
    assert_int_equal(fixture_stats(&f).n_active, 0);
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections_idle == 1);
    end();
}

static void held_connections_wait(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 1);
    peer_done(&peer);
    FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
    http_server_hold(f.server, true);
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 20; i++) fixture_turn(&f);
    assert_int_equal(fixture_stats(&f).n_connections_total, 1);
    http_server_hold(f.server, false);
    peer_expect(&f, &peer, "[GET /echo ? 0 ]");
    end();
}

static void pieces_make_the_same_request(void **state)
{
    (void)state;
    static const char text[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"
                               "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                               "5\r\nworld\r\n0\r\n\r\n";
    begin(&(struct http_server_cfg){0});
    for (size_t i = 0; i < sizeof text - 1; i++) {
        peer_send(&f, &peer, text + i, 1);
        fixture_turn(&f);
    }
    peer_expect(&f, &peer, "[POST /echo ? 5 hello]");
    peer_expect(&f, &peer, "[POST /echo ? 5 world]");
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    end();
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\n" H "\r\n");
    for (int i = 0; i < 200; i++) {
        char text[100];
        snprintf(text, sizeof text, "GET /echo?%03d HTTP/1.1\r\n" H "\r\n", i);
        peer_send_str(&f, &peer, text);
    }
    FIXTURE_UNTIL(&f, f.n_held == 1);
    for (int i = 0; i < 5; i++) fixture_turn(&f);
    peer_read(&peer);
    assert_int_equal(peer.len, 0);
    http_respond(f.held[0], 200, NULL, "first", 5);
    peer_expect(&f, &peer, "?199 0 ]");
    const char *at = strstr(peer.got, "first");
    for (int i = 0; i < 200; i++) {
        char text[16];
        snprintf(text, sizeof text, "?%03d ", i);
        assert_non_null(at = strstr(at, text));
    }
    end();
}

static void endless_pipelining_pauses_reading_and_loses_nothing(void **state)
{
    (void)state;
    static char block[60000];
    size_t n = 0, n_requests = 0;
    for (; n < 50000; n_requests++) {
        n += (size_t)sprintf(block + n, "GET /echo?%05zu HTTP/1.1\r\n" H "\r\n", n_requests);
    }
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    for (int i = 0; i < N_BLOCKS; i++) peer_send(&f, &peer, block, n);
    for (int i = 0; i < 20; i++) fixture_turn(&f);
    assert_true(fixture_stats(&f).bytes_in <= 2 * HTTP_PIPELINE_BYTES_MAX);
    http_respond(f.held[0], 200, NULL, NULL, 0);
    size_t n_all = 1 + N_BLOCKS * n_requests;
    FIXTURE_UNTIL(&f, (peer_read(&peer), fixture_stats(&f).n_requests == n_all));
    FIXTURE_UNTIL(&f, (peer_read(&peer), peer_count(&peer, "[GET /echo ?") == n_all - 1));
    end();
}

static void a_client_gone_while_paused_is_seen(void **state)
{
    (void)state;
    static char block[HTTP_PIPELINE_BYTES_MAX + 20000]; /* what is left fits into the kernel */
    memset(block, 'a', sizeof block);
    begin(&(struct http_server_cfg){.head_timeout_ns = 20000000});
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    peer_send(&f, &peer, block, sizeof block);
    peer_done(&peer);
    FIXTURE_UNTIL(&f, f.n_closed == 1);
    fixture_stop(&f);
}

static void refusals_are_errors_in_json_and_close(void **state)
{
    (void)state;
    static const struct {
        const char *text, *status, *message;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request", "Host"},
        {"GET / HTTP/2.0\r\n\r\n", "505 ", "HTTP/1.1"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "400 ", "both"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999\r\n\r\n", "413 ", "too large"},
        {"POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", "413 ",
         ""},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", "413 ", ""},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400 ", "chunk"},
        {"GET / HTTP/1.1\r\n" H "Expect: x\r\n\r\n", "417 ", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(&(struct http_server_cfg){.body_bytes_max = 1000, .linger_ns = 20000000});
        peer_send_str(&f, &peer, cases[i].text);
        peer_send_str(&f, &peer, "and more that nobody reads");
        peer_expect_close(&f, &peer);
        assert_false(peer.reset);
        assert_memory_equal(peer.got + 9, cases[i].status, strlen(cases[i].status));
        assert_non_null(strstr(peer.got, "Connection: close\r\n"));
        assert_non_null(strstr(peer.got, "{\"error\":{\"message\":\""));
        assert_non_null(strstr(peer.got, cases[i].message));
        assert_non_null(strstr(peer.got, "\"type\":\"invalid_request_error\",\"param\":null,"
                                         "\"code\":null}}"));
        assert_int_equal(peer_count(&peer, "Content-Length: "), 1);
        assert_int_equal(fixture_stats(&f).n_requests, 0);
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
        end();
    }
}

static void expect_100_is_answered_only_when_the_client_waits(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer,
                  "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    peer_expect(&f, &peer, "HTTP/1.1 100 Continue\r\n\r\n");
    peer_send_str(&f, &peer, "ok");
    peer_expect(&f, &peer, "2 ok]");
    peer_send_str(&f, &peer,
                  "POST /echo HTTP/1.1\r\n" H
                  "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nno");
    peer_expect(&f, &peer, "2 no]");
    assert_int_equal(peer_count(&peer, "100 Continue"), 1);
    end();
}

static void all_bodies_together_have_a_budget(void **state)
{
    (void)state;
    struct http_peer second;
    begin(&(struct http_server_cfg){.body_total_bytes_max = 1000, .linger_ns = 20000000});
    peer_connect(&f, &second);
    peer_send_str(&f, &peer, "POST /hold HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_int_equal(fixture_stats(&f).body_bytes, 3);
    char head[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 998\r\n\r\n";
    char body[998];
    memset(body, 'b', sizeof body);
    peer_send_str(&f, &second, head);
    peer_send(&f, &second, body, sizeof body);
    peer_expect_close(&f, &second);
    assert_memory_equal(second.got, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(second.got, "Retry-After: 1\r\n"));
    assert_int_equal(fixture_stats(&f).rejected[HTTP_REJECT_BODY_BUDGET], 1);
    http_respond(f.held[0], 200, NULL, "done", 4);
    peer_expect(&f, &peer, "done");
    assert_int_equal(fixture_stats(&f).body_bytes, 0);
    peer_done(&second);
    end();
}

static void large_bodies_leave_room_for_small_ones(void **state)
{
    (void)state;
    struct http_peer large, small;
    size_t n = 600000;
    char *body = malloc(n);
    assert_non_null(body);
    memset(body, 'b', n);
    begin(&(struct http_server_cfg){.body_total_bytes_max = 1000000});
    peer_connect(&f, &large);
    peer_connect(&f, &small);
    peer_send_str(&f, &peer, "POST /hold HTTP/1.1\r\n" H "Content-Length: 600000\r\n\r\n");
    peer_send(&f, &peer, body, n);
    FIXTURE_UNTIL(&f, f.n_held == 1);
    peer_send_str(&f, &large, "POST /hold HTTP/1.1\r\n" H "Content-Length: 300000\r\n\r\n");
    peer_send(&f, &large, body, 300000);
    peer_expect(&f, &large, "HTTP/1.1 503 ");
    peer_send_str(&f, &small, "POST /hold HTTP/1.1\r\n" H "Content-Length: 200000\r\n\r\n");
    peer_send(&f, &small, body, 200000);
    FIXTURE_UNTIL(&f, f.n_held == 2);
    peer_done(&large);
    peer_done(&small);
    free(body);
    end();
}

static void large_bodies_go_both_ways(void **state)
{
    (void)state;
    size_t n = 5000000;
    char *body = malloc(n + 1);
    assert_non_null(body);
    memset(body, 'x', n);
    body[n] = '\0';
    begin(&(struct http_server_cfg){.arena_bytes_max = 32 << 20});
    peer_send_str(&f, &peer, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5000000\r\n\r\n");
    peer_send(&f, &peer, body, n);
    FIXTURE_UNTIL(&f, (peer_read(&peer), peer.len > n && peer.got[peer.len - 1] == ']'));
    assert_non_null(strstr(peer.got, body));
    free(body);
    end();
}

static void head_and_204_have_no_body(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "HEAD /echo HTTP/1.1\r\n" H "\r\nGET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    http_respond(f.held[0], 204, NULL, "ignored", 7);
    peer_expect(&f, &peer, "Content-Length: 17\r\n\r\nHTTP/1.1 204 No Content\r\n");
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &peer, "GMT\r\n\r\nHTTP/1.1 200 OK\r\n");
    assert_null(strstr(peer.got, "ignored"));
    end();
}

static void http_1_0_closes_unless_asked(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    peer_expect(&f, &peer, "Connection: keep-alive\r\n");
    peer_send_str(&f, &peer, "GET /echo HTTP/1.0\r\n\r\n");
    peer_expect(&f, &peer, "Connection: close\r\n");
    peer_expect_close(&f, &peer);
    assert_int_equal(peer_count(&peer, "[GET /echo ? 0 ]"), 2);
    end();
}

static void half_closing_gets_what_was_answered_at_once(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    shutdown(peer.fd, SHUT_WR);
    peer_expect_close(&f, &peer);
    assert_non_null(strstr(peer.got, "[GET /echo ? 0 ]"));
    end();
}

static void header_lookup_and_added_headers(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){0});
    peer_send_str(&f, &peer,
                  "GET /hold?x=1&name=a%20b+c&flag&bad=%zz HTTP/1.1\r\n" H "X-Key:  v \r\n\r\n");
    peer_expect(&f, &peer, "400 Bad Request");
    peer_done(&peer);
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /hold?x=1&name=a%20b+c&flag HTTP/1.1\r\n" H "X-Key:  v \r\n\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1);
    struct http_exchange *x = f.held[0];
    const struct http_request *r = http_exchange_request(x);
    assert_string_equal(http_request_header(r, "x-KEY"), "v");
    assert_null(http_request_header(r, "x-ke"));
    assert_string_equal(r->headers[1].name, "x-key");
    assert_string_equal(http_exchange_query(x, "name"), "a b c");
    assert_string_equal(http_exchange_query(x, "flag"), "");
    assert_null(http_exchange_query(x, "nam"));
    assert_memory_equal(r->peer, "127.0.0.1:", 10);
    http_exchange_set_user(x, &f);
    assert_ptr_equal(http_exchange_user(x), &f);

    assert_int_equal(http_exchange_header_add(x, "X-A", "1"), SL_OK);
    assert_int_equal(http_exchange_header_add(x, "X-B", ""), SL_OK);
    assert_int_equal(http_exchange_header_add(x, "X-C", "a\r\nX-D: b"), SL_INVALID);
    assert_int_equal(http_exchange_header_add(x, "X C", "a"), SL_INVALID);
    assert_int_equal(http_exchange_header_add(x, "content-LENGTH", "1"), SL_INVALID);
    http_respond(x, 299, NULL, "z", 1);
    peer_expect(&f, &peer, "X-A: 1\r\nX-B: \r\n\r\nz");
    assert_non_null(strstr(peer.got, "HTTP/1.1 299 \r\n"));
    end();
}

static void on_drained(void *ctx)
{
    ((struct http_fixture *)ctx)->drained = true;
}

static void draining_lets_active_requests_finish(void **state)
{
    (void)state;
    struct http_peer idle;
    begin(&(struct http_server_cfg){0});
    peer_connect(&f, &idle);
    peer_send_str(&f, &peer, "GET /hold HTTP/1.1\r\n" H "\r\n");
    FIXTURE_UNTIL(&f, f.n_held == 1 && fixture_stats(&f).n_connections_idle == 1);
    http_server_drain(f.server, on_drained, &f);
    assert_false(f.drained);
    peer_expect_close(&f, &idle);
    assert_false(f.drained);
    http_respond(f.held[0], 200, NULL, "last", 4);
    peer_expect_close(&f, &peer);
    assert_non_null(strstr(peer.got, "Connection: close\r\n"));
    assert_non_null(strstr(peer.got, "last"));
    FIXTURE_UNTIL(&f, f.drained);
    peer_done(&idle);
    end();
}

static void draining_an_idle_server_is_quick(void **state)
{
    (void)state;
    fixture_start(&f, &(struct http_server_cfg){0});
    http_server_drain(f.server, on_drained, &f);
    FIXTURE_UNTIL(&f, f.drained);
    fixture_stop(&f);
}

static void several_listeners_serve(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    uint16_t port = 0;
    fixture_start(&f, &(struct http_server_cfg){0});
    assert_int_equal(http_server_listen(f.server, "localhost", 0, NULL, &port, &err), SL_OK);
    assert_int_equal(http_server_listen(f.server, "127.0.0.1", port, NULL, NULL, &err), SL_EXISTS);
    assert_non_null(strstr(err.text, "listen on 127.0.0.1 port "));
    assert_int_equal(http_server_listen(f.server, "no such host.", 0, NULL, NULL, &err),
                     SL_INVALID);
    f.port = port;
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
    peer_expect(&f, &peer, "[GET /echo ? 0 ]");
    end();
}

/* Creation with every allocation failing in turn. */
static void creation_without_memory_leaks_nothing(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct http_server_cfg cfg = {.on_request = (http_request_fn)abort};
    for (uint64_t nth = 1;; nth++) {
        struct loop *loop = NULL;
        struct http_server *server = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        sl_status status = loop_create(10, &loop, &err);
        if (status == SL_OK) status = http_server_create(loop, &cfg, &server, &err);
        if (status == SL_OK) status = http_server_listen(server, "127.0.0.1", 0, NULL, NULL, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        http_server_destroy(server);
        loop_destroy(loop);
        assert_int_equal(sl_mem_live(), live);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        if (!hit) return;
    }
}

/* Each allocation of one request fails in turn: the client gets an answer or a closed connection,
 * and the next client is served. */
static void requests_without_memory_end_cleanly(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t nth = 1; hit; nth++) {
        begin(&(struct http_server_cfg){.linger_ns = 20000000});
        sl_mem_fail_at(nth, false);
        peer_send_str(&f, &peer, "POST /hold HTTP/1.1\r\n" H "Transfer-Enc");
        for (int i = 0; i < 3; i++) fixture_turn(&f);
        peer_send_str(&f, &peer, "oding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        FIXTURE_UNTIL(&f, (peer_read(&peer), f.n_held == 1 || peer.closed));
        if (f.n_held) http_respond(f.held[0], 200, NULL, "done", 4);
        FIXTURE_UNTIL(&f, (peer_read(&peer), peer.closed || strstr(peer.got, "done")));
        hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        peer_done(&peer);
        peer_connect(&f, &peer);
        peer_send_str(&f, &peer, "GET /echo HTTP/1.1\r\n" H "\r\n");
        peer_expect(&f, &peer, "[GET /echo ? 0 ]");
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_its_fields),
        cmocka_unit_test(held_connections_wait),
        cmocka_unit_test(pieces_make_the_same_request),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(endless_pipelining_pauses_reading_and_loses_nothing),
        cmocka_unit_test(a_client_gone_while_paused_is_seen),
        cmocka_unit_test(refusals_are_errors_in_json_and_close),
        cmocka_unit_test(expect_100_is_answered_only_when_the_client_waits),
        cmocka_unit_test(all_bodies_together_have_a_budget),
        cmocka_unit_test(large_bodies_leave_room_for_small_ones),
        cmocka_unit_test(large_bodies_go_both_ways),
        cmocka_unit_test(head_and_204_have_no_body),
        cmocka_unit_test(http_1_0_closes_unless_asked),
        cmocka_unit_test(half_closing_gets_what_was_answered_at_once),
        cmocka_unit_test(header_lookup_and_added_headers),
        cmocka_unit_test(draining_lets_active_requests_finish),
        cmocka_unit_test(draining_an_idle_server_is_quick),
        cmocka_unit_test(several_listeners_serve),
        cmocka_unit_test(creation_without_memory_leaks_nothing),
        cmocka_unit_test(requests_without_memory_end_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
