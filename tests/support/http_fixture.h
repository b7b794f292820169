/* http_fixture.h: an HTTP server and hand-made clients in one thread: every wait turns the loop
 * until its condition holds, or fails the test after FIXTURE_WAIT_S. */
#pragma once
#include "net/http_server.h"

#define FIXTURE_WAIT_S 20 /* only a failing test waits that long */
#define FIXTURE_HELD_MAX 1024

/* /echo answers with the request; /hold keeps the exchange for the test; all else is 404. */
struct http_fixture {
    struct loop *loop;
    struct http_server *server;
    uint16_t port;
    struct http_exchange *held[FIXTURE_HELD_MAX];
    size_t n_held;
    size_t n_closed; /* close handlers called for held exchanges, which end in there */
    size_t n_drains; /* on_drain calls */
    bool drained;
    uint64_t live_before; /* allocations */
};

struct http_peer {
    int fd;
    char *got; /* NUL-ended */
    size_t len, cap;
    bool closed; /* by the server, orderly or not */
    bool reset;
};

void fixture_start(struct http_fixture *f, const struct http_server_cfg *cfg);
void fixture_stop(struct http_fixture *f); /* and checks that nothing leaks */
void fixture_turn(struct http_fixture *f);
struct http_server_stats fixture_stats(struct http_fixture *f);

/* Turns the loop until the expression holds. */
#define FIXTURE_UNTIL(f, condition) \
    do { \
        int64_t fixture_deadline_ns = sl_now_ns() + FIXTURE_WAIT_S * INT64_C(1000000000); \
        while (!(condition)) { \
            assert_true(sl_now_ns() < fixture_deadline_ns); \
            fixture_turn(f); \
        } \
    } while (0)

void peer_connect(struct http_fixture *f, struct http_peer *peer);
void peer_done(struct http_peer *peer);

/* Sends all, turning the loop when the socket is full; stops early when the server closed. */
void peer_send(struct http_fixture *f, struct http_peer *peer, const void *bytes, size_t n);
void peer_send_str(struct http_fixture *f, struct http_peer *peer, const char *s);
void peer_read(struct http_peer *peer); /* what is there now */

/* Waits for text to arrive, or for the server to close. */
void peer_expect(struct http_fixture *f, struct http_peer *peer, const char *text);
void peer_expect_close(struct http_fixture *f, struct http_peer *peer);
size_t peer_count(const struct http_peer *peer, const char *text); /* occurrences in `got` */
