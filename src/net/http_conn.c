/* http_conn.c: one connection: bytes in, requests out of them, answers back. Input is parsed in the
 * server's one read buffer; only what is left of it (part of a head, pipelined requests) is copied,
 * so that an idle connection owns no buffer. */
#include "net/http_int.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_BYTES_MAX (HTTP_HEAD_MAX + HTTP_PIPELINE_BYTES_MAX + HTTP_READ_BYTES)
#define READS_PER_EVENT 4 /* of a long body, then the others get their turn */
#define NS_PER_S 1000000000
#define PREFACE_LINE 14 /* "PRI * HTTP/2.0" */

#define EDGE(to) (1u << HTTP_CONN_##to)
static const unsigned edges[HTTP_CONN_STATE_COUNT] = {
    [HTTP_CONN_HANDSHAKE] = EDGE(IDLE) | EDGE(STREAMS) | EDGE(CLOSED),
    [HTTP_CONN_IDLE] = EDGE(HEAD) | EDGE(CLOSING) | EDGE(CLOSED),
    [HTTP_CONN_HEAD] = EDGE(BODY) | EDGE(STREAMS) | EDGE(CLOSING) | EDGE(CLOSED),
    [HTTP_CONN_BODY] = EDGE(ANSWER) | EDGE(CLOSING) | EDGE(CLOSED),
    [HTTP_CONN_ANSWER] = EDGE(IDLE) | EDGE(CLOSING) | EDGE(CLOSED),
    [HTTP_CONN_STREAMS] = EDGE(CLOSING) | EDGE(CLOSED),
    [HTTP_CONN_CLOSING] = EDGE(LINGER) | EDGE(CLOSED),
    [HTTP_CONN_LINGER] = EDGE(CLOSED),
};

/* No log line an edge: there are four a request. */
static void set_state(struct http_conn *conn, enum http_conn_state state)
{
    assert(edges[conn->state] & (1u << state));
    conn->state = state;
    conn->deadline_ns = 0;
    http_conn_wake(conn);
}

void http_conn_wake(struct http_conn *conn)
{
    if (!conn->idle) return;
    conn->idle = false;
    conn->deadline_ns = 0;
    conn->server->stats.n_connections_idle--;
    http_list_append(&conn->server->list_busy, &conn->link);
}

void http_conn_proved(struct http_conn *conn)
{
    if (http_list_empty(&conn->new_link)) return;
    http_link_remove(&conn->new_link);
    conn->server->n_new--;
}

static int64_t now_ns(const struct http_conn *conn)
{
    return loop_now_ns(conn->server->loop);
}

static bool is_reading(const struct http_conn *conn)
{
    return !conn->eof && !conn->paused && conn->state < HTTP_CONN_CLOSED;
}

size_t http_conn_unsent(const struct http_conn *conn)
{
    return conn->out.len - conn->out_sent;
}

size_t http_conn_owed(const struct http_conn *conn)
{
    return http_conn_unsent(conn) + (conn->h2 ? http2_conn_queued(conn->h2) : 0);
}

void http_conn_mark(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    if (conn->dirty) return;
    conn->dirty = true;
    conn->next_dirty = NULL;
    if (server->dirty_first) {
        server->dirty_last->next_dirty = conn;
    } else {
        server->dirty_first = conn;
    }
    server->dirty_last = conn;
    loop_queue_task(server->loop, &server->task);
}

/* --- output --- */

/* Buffers of the last turn's answers serve the next turn's. */
static void take_buffer(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    if (conn->out.cap == 0 && server->n_spares) conn->out = server->spares[--server->n_spares];
}

static void release_buffer(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    conn->out_sent = 0;
    if (conn->out.cap == 0) return;
    if (conn->out.cap > HTTP_SPARE_BYTES_MAX || server->n_spares == HTTP_SPARE_BUFFERS) {
        sl_buf_done(&conn->out);
        return;
    }
    sl_buf_clear(&conn->out);
    server->spares[server->n_spares++] = conn->out;
    sl_buf_init(&conn->out, HTTP_OUT_BYTES_MAX);
}

sl_status http_conn_gather(struct http_conn *conn, const void *bytes, size_t n)
{
    take_buffer(conn);
    return sl_buf_add(&conn->out, bytes, n);
}

sl_status http_conn_add(struct http_conn *conn, const void *bytes, size_t n)
{
    http_conn_mark(conn);
    return http_conn_gather(conn, bytes, n);
}

/* Bytes sent, or -1 with *again when the socket is full. */
static long conn_send(struct http_conn *conn, const char *bytes, size_t n, bool *again)
{
    if (conn->tls) {
        enum tls_want want;
        long sent = tls_write(conn->tls, bytes, n, &want);
        *again = sent < 0 && want != TLS_WANT_NOTHING;
        return sent == 0 ? -1 : sent;
    }
    ssize_t sent = send(conn->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    *again = sent < 0 && (errno == EAGAIN || errno == EINTR);
    return sent;
}

static void flush(struct http_conn *conn)
{
    conn->write_blocked = false;
    while (http_conn_unsent(conn)) {
        bool again;
        long n = conn_send(conn, conn->out.data + conn->out_sent, http_conn_unsent(conn), &again);
        if (n < 0 && !again) {
            http_conn_close(conn);
            return;
        }
        if (n < 0) {
            conn->write_blocked = true;
            if (!conn->stall_ns) conn->stall_ns = now_ns(conn) + conn->server->cfg.write_stall_ns;
            break;
        }
        conn->out_sent += (size_t)n;
        conn->stall_ns = 0;
        conn->server->stats.bytes_out += (uint64_t)n;
    }
    if (!http_conn_unsent(conn)) {
        release_buffer(conn);
    } else if (conn->out_sent > conn->out.len / 2) {
        sl_buf_consume(&conn->out, conn->out_sent); /* moves less than was sent */
        conn->out_sent = 0;
    }
}

/* --- the end --- */

static void drop_input(struct http_conn *conn)
{
    sl_buf_done(&conn->in);
    sl_free(conn->parser);
    conn->parser = NULL;
}

void http_conn_close(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_CLOSED) return;
    struct http_server *server = conn->server;
    if (conn->tls && conn->state == HTTP_CONN_CLOSING) tls_goodbye(conn->tls);
    set_state(conn, HTTP_CONN_CLOSED);
    http_conn_proved(conn); /* or never will be */
    http_link_remove(&conn->link);
    loop_watch_destroy(conn->watch);
    conn->watch = NULL;
    tls_session_destroy(conn->tls);
    conn->tls = NULL;
    close(conn->fd);
    conn->fd = -1;
    server->stats.n_connections--;
    if (conn->exchange) http_exchange_orphan(conn->exchange);
    conn->exchange = NULL;
    if (conn->h2) {
        http2_conn_orphan(conn->h2);
        server->stats.n_http2_connections--;
    }
    http_conn_mark(conn);
    http_server_conn_closed(server);
}

void http_conn_detach(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    set_state(conn, HTTP_CONN_CLOSED);
    http_link_remove(&conn->link);
    loop_watch_destroy(conn->watch);
    conn->watch = NULL;
    conn->tls = NULL;
    conn->fd = -1;
    conn->exchange = NULL;
    server->stats.n_connections--;
    http_conn_mark(conn);
    http_server_conn_closed(server);
}

void http_conn_reset(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_CLOSED) return;
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    http_conn_close(conn);
}

void http_conn_free(struct http_conn *conn)
{
    drop_input(conn);
    http2_conn_free(conn->h2);
    sl_buf_done(&conn->out);
    sl_free(conn);
}

void http_conn_finish(struct http_conn *conn)
{
    conn->linger = true; /* lest a reset destroys the last words */
    set_state(conn, HTTP_CONN_CLOSING);
    http_conn_mark(conn);
}

void http_conn_retire(struct http_conn *conn)
{
    if (conn->h2) {
        http2_conn_goodbye(conn);
    } else {
        http_conn_close(conn);
    }
}

static void refuse(struct http_conn *conn, enum http_reject why)
{
    conn->server->stats.rejected[why]++;
    if (conn->exchange) http_exchange_free(conn->exchange);
    conn->exchange = NULL;
    conn->linger = true;
    set_state(conn, HTTP_CONN_CLOSING);
    if (http_answer_reject(conn, why) != SL_OK) http_conn_reset(conn);
}

/* The client sends no more. What was answered may still leave; an answer being made is for nobody.
 */
static void on_eof(struct http_conn *conn)
{
    bool owes = http_conn_unsent(conn) > 0;
    if (conn->state == HTTP_CONN_STREAMS) {
        conn->eof = true;
        owes = http2_conn_end_of_input(conn);
    }
    if (!owes || conn->state == HTTP_CONN_BODY || conn->state == HTTP_CONN_ANSWER) {
        http_conn_close(conn);
        return;
    }
    conn->eof = true;
    if (conn->state != HTTP_CONN_CLOSING) set_state(conn, HTTP_CONN_CLOSING);
    http_conn_mark(conn);
}

/* --- requests --- */

static void give_request(struct http_conn *conn)
{
    set_state(conn, HTTP_CONN_ANSWER);
    http_exchange_give(conn->exchange);
}

/* Bytes buy time, but no more than body_timeout_ns ahead: a client that sends a large body fast,
 * but for its last byte, could keep the memory for hours. */
static void extend_deadline(struct http_conn *conn, struct http_exchange *x)
{
    const struct http_server_cfg *cfg = &conn->server->cfg;
    int64_t latest_ns = now_ns(conn) + cfg->body_timeout_ns;
    double earned_ns =
        (double)(x->body.len - x->n_body_timed) / (double)cfg->body_rate_min * NS_PER_S;
    x->n_body_timed = x->body.len;
    x->body_deadline_ns += (int64_t)earned_ns;
    if (x->body_deadline_ns > latest_ns) x->body_deadline_ns = latest_ns;
    conn->deadline_ns = x->body_deadline_ns;
}

static void after_body(struct http_conn *conn)
{
    struct http_exchange *x = conn->exchange;
    if (x->framing.state == HTTP_BODY_REJECTED) {
        refuse(conn, x->framing.reject);
    } else if (x->framing.state == HTTP_BODY_DONE) {
        give_request(conn);
    } else {
        extend_deadline(conn, x);
    }
}

static void begin_request(struct http_conn *conn, const struct http_parser *head, const char *bytes,
                          bool body_follows)
{
    struct http_exchange *x = http_exchange_create(conn, &http1_face);
    conn->exchange = x;
    conn->fresh = false;
    if (!x || !http_exchange_set_head(x, head, bytes)) {
        refuse(conn, HTTP_REJECT_NO_MEMORY);
        return;
    }
    conn->keep_alive = head->keep_alive;
    set_state(conn, HTTP_CONN_BODY);
    http_body_begin(&x->framing, head, conn->server->cfg.body_bytes_max);
    bool waits = x->framing.state < HTTP_BODY_DONE && head->expect_continue && !body_follows;
    if (waits && http_conn_add(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25) != SL_OK) {
        refuse(conn, HTTP_REJECT_NO_MEMORY);
        return;
    }
    after_body(conn);
}

static sl_status keep_parser(struct http_conn *conn)
{
    conn->parser = sl_malloc(sizeof *conn->parser);
    if (!conn->parser) return SL_NOMEM;
    *conn->parser = conn->server->parser;
    return SL_OK;
}

static void enter_head(struct http_conn *conn)
{
    set_state(conn, HTTP_CONN_HEAD);
    conn->begin_ns = now_ns(conn);
    conn->deadline_ns = conn->begin_ns + conn->server->cfg.head_timeout_ns;
}

static void begin_http2(struct http_conn *conn)
{
    sl_free(conn->parser);
    conn->parser = NULL;
    if (http2_conn_create(conn) != SL_OK) {
        http_conn_reset(conn);
        return;
    }
    set_state(conn, HTTP_CONN_STREAMS);
    if (conn->server->draining) http2_conn_drain(conn);
    http_conn_mark(conn);
}

/* How many bytes begin like an HTTP/2 preface. Over TLS only ALPN chooses HTTP/2. */
static size_t preface_length(const struct http_conn *conn, const char *bytes, size_t n)
{
    size_t len = n < HTTP2_PREFACE_LEN ? n : HTTP2_PREFACE_LEN;
    bool begins = conn->fresh && !conn->tls && memcmp(bytes, HTTP2_PREFACE, len) == 0;
    return begins ? len : 0;
}

/* Bytes used: all of the head or, while it is not complete, none. */
static size_t feed_head(struct http_conn *conn, const char *bytes, size_t n)
{
    struct http_parser *parser = conn->parser;
    if (conn->state == HTTP_CONN_IDLE) enter_head(conn);
    size_t preface = preface_length(conn, bytes, n);
    if (preface == HTTP2_PREFACE_LEN) {
        begin_http2(conn);
        if (conn->h2) http2_conn_feed(conn, bytes, n);
        return n;
    }
    if (preface > PREFACE_LINE) n = PREFACE_LINE; /* the parser would refuse the line's end */
    if (!parser) {
        parser = &conn->server->parser;
        http_parser_init(parser);
    }
    size_t used = 0;
    switch (http_parser_feed(parser, bytes, n)) {
    case HTTP_PARSE_MORE:
        if (!conn->parser && keep_parser(conn) != SL_OK) refuse(conn, HTTP_REJECT_NO_MEMORY);
        return 0;
    case HTTP_PARSE_REJECTED: refuse(conn, parser->reject); break;
    case HTTP_PARSE_DONE:
        used = parser->head_bytes;
        begin_request(conn, parser, bytes, n > used);
        break;
    }
    sl_free(conn->parser);
    conn->parser = NULL;
    return used;
}

static bool may_take_request(const struct http_conn *conn)
{
    return (conn->state == HTTP_CONN_IDLE || conn->state == HTTP_CONN_HEAD) &&
           http_conn_unsent(conn) <= conn->server->cfg.stream_backlog_max;
}

/* Returns how much was used; handlers may answer meanwhile, or the connection end. */
static size_t process(struct http_conn *conn, const char *bytes, size_t n)
{
    size_t used = 0;
    unsigned n_heads = 0;
    while (used < n) {
        size_t step = 0;
        if (conn->state == HTTP_CONN_STREAMS) {
            http2_conn_feed(conn, bytes + used, n - used);
            step = n - used;
        } else if (conn->state == HTTP_CONN_BODY) {
            step = http_exchange_feed(conn->exchange, bytes + used, n - used);
            after_body(conn);
        } else if (may_take_request(conn) && n_heads++ < HTTP_REQUESTS_PER_TURN) {
            step = feed_head(conn, bytes + used, n - used);
        }
        if (step == 0) break;
        used += step;
    }
    return used;
}

static void keep_input(struct http_conn *conn, const char *bytes, size_t n)
{
    if (sl_buf_add(&conn->in, bytes, n) != SL_OK) http_conn_reset(conn);
}

static void process_kept(struct http_conn *conn)
{
    size_t used = process(conn, conn->in.data, conn->in.len);
    if (conn->state >= HTTP_CONN_CLOSING && !conn->linger) {
        conn->linger = conn->in.len > used;
    } else {
        sl_buf_consume(&conn->in, used);
    }
    if (conn->in.len == 0 || conn->state >= HTTP_CONN_CLOSING) drop_input(conn);
}

static void take_input(struct http_conn *conn, const char *bytes, size_t n)
{
    conn->server->stats.bytes_in += n;
    if (conn->state >= HTTP_CONN_CLOSING) return;
    if (conn->in.len || conn->state == HTTP_CONN_ANSWER) {
        keep_input(conn, bytes, n);
        if (conn->state < HTTP_CONN_ANSWER) process_kept(conn);
    } else {
        size_t used = process(conn, bytes, n);
        if (conn->state < HTTP_CONN_CLOSING && used < n) keep_input(conn, bytes + used, n - used);
        if (conn->state == HTTP_CONN_CLOSING && used < n) conn->linger = true;
    }
    http_conn_mark(conn);
}

void http_conn_answered(struct http_conn *conn)
{
    set_state(conn, conn->keep_alive ? HTTP_CONN_IDLE : HTTP_CONN_CLOSING);
    http_conn_mark(conn);
}

/* --- events --- */

/* Bytes read, 0 at the end, or -1 with *again when there are none. */
static long conn_recv(struct http_conn *conn, char *out, size_t n, bool *again)
{
    if (conn->tls) {
        enum tls_want want;
        long got = tls_read(conn->tls, out, n, &want);
        *again = got < 0 && want != TLS_WANT_NOTHING;
        conn->read_blocked = got < 0 && want == TLS_WANT_WRITE;
        return got;
    }
    ssize_t got = recv(conn->fd, out, n, MSG_DONTWAIT);
    *again = got < 0 && (errno == EAGAIN || errno == EINTR);
    return got;
}

static void read_some(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    for (int i = 0; i < READS_PER_EVENT && is_reading(conn); i++) {
        bool again = false;
        long n = conn_recv(conn, server->read_bytes, sizeof server->read_bytes, &again);
        if (n > 0) {
            take_input(conn, server->read_bytes, (size_t)n);
        } else if (n == 0) {
            on_eof(conn);
        } else if (!again) {
            http_conn_close(conn);
        }
        bool in_body = conn->state == HTTP_CONN_BODY || conn->state == HTTP_CONN_STREAMS;
        bool may_have_more = conn->tls || (in_body && n == (long)sizeof server->read_bytes);
        if (n <= 0 || !may_have_more) return;
    }
    if (conn->tls && conn->state != HTTP_CONN_CLOSED) http_conn_mark(conn); /* it may hold more */
}

static void shake_hands(struct http_conn *conn)
{
    enum tls_want want;
    long done = tls_handshake(conn->tls, &want);
    if (done > 0 && tls_is_http2(conn->tls)) {
        begin_http2(conn);
    } else if (done > 0) {
        set_state(conn, HTTP_CONN_IDLE);
        http_conn_mark(conn);
    } else if (done == 0 || want == TLS_WANT_NOTHING) {
        conn->server->stats.n_handshakes_failed++;
        http_conn_close(conn);
    } else {
        conn->write_blocked = want == TLS_WANT_WRITE;
        http_conn_mark(conn);
    }
}

/* TLS may want either direction for either purpose, so it tries both. */
static void on_ready(void *ctx, unsigned ready)
{
    struct http_conn *conn = ctx;
    if (conn->state == HTTP_CONN_HANDSHAKE) shake_hands(conn);
    if (conn->state == HTTP_CONN_HANDSHAKE || conn->state == HTTP_CONN_CLOSED) return;
    if ((ready & LOOP_WRITE) || conn->tls) http_conn_mark(conn);
    if ((ready & LOOP_READ) || conn->tls) read_some(conn);
}

/* After the last byte left: reading on lets a refused client read why, because closing with unread
 * input makes the kernel send a reset that overtakes the answer. */
static void finish_closing(struct http_conn *conn)
{
    if (conn->eof || !conn->linger) {
        http_conn_close(conn);
        return;
    }
    if (conn->tls) tls_goodbye(conn->tls);
    tls_session_destroy(conn->tls);
    conn->tls = NULL;
    shutdown(conn->fd, SHUT_WR);
    set_state(conn, HTTP_CONN_LINGER);
    conn->deadline_ns = now_ns(conn) + conn->server->cfg.linger_ns;
}

static void go_idle(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    if (conn->idle) return;
    if (server->draining) {
        http_conn_retire(conn);
        return;
    }
    conn->idle = true;
    conn->deadline_ns = now_ns(conn) + server->cfg.idle_timeout_ns;
    server->stats.n_connections_idle++;
    http_list_append(&server->list_idle, &conn->link);
}

static void settle_http2(struct http_conn *conn)
{
    if (http2_conn_is_over(conn->h2)) {
        http2_conn_goodbye(conn);
    } else if (http2_conn_is_idle(conn->h2)) {
        go_idle(conn);
    }
}

static void settle(struct http_conn *conn)
{
    if (conn->state == HTTP_CONN_STREAMS && !http_conn_unsent(conn)) settle_http2(conn);
    size_t unsent = http_conn_unsent(conn);
    if (conn->state == HTTP_CONN_CLOSING && !unsent) finish_closing(conn);
    if (conn->state == HTTP_CONN_IDLE && !unsent && !conn->in.len) go_idle(conn);
    if (conn->in.len && !conn->parser && may_take_request(conn)) http_conn_mark(conn);
    bool was_paused = conn->paused;
    conn->paused = conn->in.len >= HTTP_PIPELINE_BYTES_MAX;
    if (was_paused && !conn->paused && conn->tls) http_conn_mark(conn); /* it may hold bytes */
}

static void tell_drained(struct http_conn *conn)
{
    struct http_exchange *x = conn->exchange;
    if (!x || !x->drain_wanted) return;
    if (http_conn_unsent(conn) > conn->server->cfg.stream_backlog_max / 2) return;
    x->drain_wanted = false;
    if (x->on_drain) x->on_drain(x->drain_ctx, x);
}

/* What waits in streams follows as the socket takes it. */
static void send_streams(struct http_conn *conn)
{
    bool moved = true;
    while (moved && conn->state == HTTP_CONN_STREAMS) {
        moved = http2_conn_pump(conn);
        if (conn->state == HTTP_CONN_STREAMS) flush(conn);
        moved = moved && !conn->write_blocked;
    }
}

static void advance(struct http_conn *conn)
{
    if (conn->tls && tls_pending(conn->tls) && is_reading(conn)) read_some(conn);
    if (conn->in.len && conn->state < HTTP_CONN_ANSWER) process_kept(conn);
    if (conn->state == HTTP_CONN_STREAMS) http2_conn_attend(conn);
    if (conn->state == HTTP_CONN_STREAMS) {
        send_streams(conn);
    } else if (conn->state != HTTP_CONN_CLOSED) {
        flush(conn);
    }
    if (conn->state == HTTP_CONN_STREAMS) http2_conn_attend(conn);
    if (conn->state != HTTP_CONN_CLOSED) settle(conn);
    if (conn->state != HTTP_CONN_CLOSED) tell_drained(conn);
}

void http_conn_service(struct http_conn *conn)
{
    if (conn->state != HTTP_CONN_HANDSHAKE) advance(conn);
    if (conn->state == HTTP_CONN_CLOSED) return;
    bool write = conn->write_blocked || conn->read_blocked;
    unsigned events = (is_reading(conn) ? LOOP_READ : 0) | (write ? LOOP_WRITE : 0);
    if (loop_watch_set(conn->watch, events) != SL_OK) http_conn_close(conn);
}

static bool hung_up(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

void http_conn_tick(struct http_conn *conn, int64_t at_ns)
{
    struct http_server_stats *stats = &conn->server->stats;
    if (conn->stall_ns && at_ns >= conn->stall_ns) {
        stats->n_write_stalled++;
        http_conn_reset(conn);
    } else if (conn->paused && hung_up(conn->fd)) {
        http_conn_close(conn); /* nobody reads, so nobody else would see it */
    } else if (conn->state == HTTP_CONN_STREAMS) {
        http2_conn_tick(conn, at_ns);
    } else if (conn->deadline_ns && at_ns >= conn->deadline_ns) {
        if (conn->state == HTTP_CONN_HEAD) {
            refuse(conn, HTTP_REJECT_HEAD_TIMEOUT);
        } else if (conn->state == HTTP_CONN_BODY) {
            refuse(conn, HTTP_REJECT_BODY_TIMEOUT);
        } else {
            if (conn->state == HTTP_CONN_HANDSHAKE) stats->n_handshakes_failed++;
            http_conn_close(conn);
        }
    }
}

sl_status http_conn_create(struct http_server *server, int fd, struct tls_server *tls,
                           const char *peer)
{
    sl_status status = SL_NOMEM;
    struct http_conn *conn = sl_calloc(1, sizeof *conn);
    if (!conn) goto fail;
    conn->server = server;
    conn->fd = fd;
    conn->fresh = true;
    http_link_init(&conn->link);
    http_link_init(&conn->new_link);
    sl_buf_init(&conn->in, IN_BYTES_MAX);
    sl_buf_init(&conn->out, HTTP_OUT_BYTES_MAX);
    snprintf(conn->peer, sizeof conn->peer, "%s", peer);
    if (tls && (status = tls_session_create(tls, fd, &conn->tls)) != SL_OK) goto fail;
    status = loop_watch_create(server->loop, fd, LOOP_READ, on_ready, conn, &conn->watch);
    if (status != SL_OK) goto fail;
    conn->state = tls ? HTTP_CONN_HANDSHAKE : HTTP_CONN_IDLE;
    if (tls) conn->deadline_ns = loop_now_ns(server->loop) + server->cfg.head_timeout_ns;
    http_list_append(&server->list_busy, &conn->link);
    http_list_append(&server->list_new, &conn->new_link);
    server->n_new++;
    server->stats.n_connections++;
    server->stats.n_connections_total++;
    http_conn_mark(conn);
    http_server_tick(server);
    return SL_OK;
fail:
    if (conn) tls_session_destroy(conn->tls);
    sl_free(conn);
    close(fd);
    return status;
}
