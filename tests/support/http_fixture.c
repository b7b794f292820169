/* http_fixture.c: sockets on loopback, all of them non-blocking. */
#include "support/http_fixture.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TURN_NS 2000000
#define READ_BYTES 65536

static void on_held_closed(void *ctx, struct http_exchange *x)
{
    struct http_fixture *f = ctx;
    assert_true(http_exchange_is_closed(x));
    f->n_closed++;
    http_exchange_abort(x);
}

static void echo(struct http_exchange *x)
{
    const struct http_request *r = http_exchange_request(x);
    struct sl_arena *arena = http_exchange_arena(x);
    size_t max = r->path_len + r->query_len + r->body_len + 64;
    char *text = sl_arena_alloc(arena, max);
    assert_non_null(text);
    snprintf(text, max, "[%s %s ?%s %zu %s]", r->method_text, r->path, r->query, r->body_len,
             r->body);
    http_respond(x, 200, "text/plain", text, strlen(text));
}

static void on_request(void *ctx, struct http_exchange *x)
{
    struct http_fixture *f = ctx;
    const char *path = http_exchange_request(x)->path;
    if (strcmp(path, "/echo") == 0) {
        echo(x);
    } else if (strcmp(path, "/hold") == 0) {
        assert_true(f->n_held < FIXTURE_HELD_MAX);
        f->held[f->n_held++] = x;
        http_exchange_set_close_handler(x, on_held_closed, f);
    } else {
        http_respond(x, 404, NULL, NULL, 0);
    }
}

void fixture_start(struct http_fixture *f, const struct http_server_cfg *cfg)
{
    struct http_server_cfg filled = *cfg;
    struct sl_err err = SL_ERR_INIT;
    *f = (struct http_fixture){.live_before = sl_mem_live()};
    if (!filled.on_request) filled.on_request = on_request;
    if (!filled.ctx) filled.ctx = f;
    assert_int_equal(loop_create(0, &f->loop, &err), SL_OK);
    assert_int_equal(http_server_create(f->loop, &filled, &f->server, &err), SL_OK);
    assert_int_equal(http_server_listen(f->server, "127.0.0.1", 0, NULL, &f->port, &err), SL_OK);
    assert_int_not_equal(f->port, 0);
}

void fixture_stop(struct http_fixture *f)
{
    http_server_destroy(f->server);
    loop_destroy(f->loop);
    assert_int_equal(sl_mem_live(), f->live_before);
}

void fixture_turn(struct http_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(loop_turn(f->loop, TURN_NS, &err), SL_OK);
}

struct http_server_stats fixture_stats(struct http_fixture *f)
{
    struct http_server_stats stats;
    http_server_stats(f->server, &stats);
    return stats;
}

void peer_connect(struct http_fixture *f, struct http_peer *peer)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(f->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    *peer = (struct http_peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(peer->fd >= 0);
    /* The kernel's backlog completes the connection without the server's help. */
    assert_int_equal(connect(peer->fd, (struct sockaddr *)&address, sizeof address), 0);
    peer->got = calloc(1, 1);
    assert_non_null(peer->got);
}

void peer_done(struct http_peer *peer)
{
    if (peer->fd >= 0) close(peer->fd);
    free(peer->got);
    *peer = (struct http_peer){.fd = -1};
}

void peer_read(struct http_peer *peer)
{
    while (!peer->closed) {
        if (peer->cap < peer->len + READ_BYTES + 1) {
            peer->cap = (peer->len + READ_BYTES + 1) * 2;
            peer->got = realloc(peer->got, peer->cap);
            assert_non_null(peer->got);
        }
        ssize_t n = recv(peer->fd, peer->got + peer->len, READ_BYTES, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        peer->closed = n <= 0;
        peer->reset = n < 0;
        if (n > 0) peer->len += (size_t)n;
        peer->got[peer->len] = '\0';
    }
}

void peer_send(struct http_fixture *f, struct http_peer *peer, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = send(peer->fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent < 0) {
            fixture_turn(f);
            continue;
        }
        at += sent;
        n -= (size_t)sent;
    }
}

void peer_send_str(struct http_fixture *f, struct http_peer *peer, const char *s)
{
    peer_send(f, peer, s, strlen(s));
}

void peer_expect(struct http_fixture *f, struct http_peer *peer, const char *text)
{
    int64_t deadline_ns = sl_now_ns() + FIXTURE_WAIT_S * INT64_C(1000000000);
    for (peer_read(peer); !strstr(peer->got, text); peer_read(peer)) {
        if (peer->closed || sl_now_ns() > deadline_ns) {
            fail_msg("'%s' did not come, but: %s", text, peer->got);
        }
        fixture_turn(f);
    }
}

void peer_expect_close(struct http_fixture *f, struct http_peer *peer)
{
    FIXTURE_UNTIL(f, (peer_read(peer), peer->closed));
}

size_t peer_count(const struct http_peer *peer, const char *text)
{
    size_t n = 0;
    for (const char *at = peer->got; (at = strstr(at, text)); at += strlen(text)) n++;
    return n;
}
