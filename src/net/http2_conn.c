/* http2_conn.c: one HTTP/2 connection: nghttp2's session, what it calls, the limits that keep a
 * client from costing more than it gives, and the ways to the end. */
#include "net/http2_int.h"

#include "base/mem.h"

#include <string.h>

/* PING, SETTINGS, PRIORITY, RST_STREAM, CONTINUATION, empty DATA, tiny WINDOW_UPDATE: an honest
 * client sends a few a second, or about one for each frame of ours (a PING to measure the path),
 * which is why those we send give some back. nghttp2 skips unknown frames, which cost no more than
 * their bytes. */
#define CONTROL_BURST 2000
#define CONTROL_PER_S 200
#define CONTINUATIONS_MAX 8 /* 128 KiB of one header block; we take 32 */
#define WINDOW_UPDATE_TINY 64

/* Streams that end badly (CVE-2023-44487: opening and resetting at once costs the client nothing;
 * CVE-2025-8671: the same by making us reset). A client that gives up on everything under way, as
 * at a deadline, stays well under the burst; each stream that ends well allows for one more. */
#define RESETS_BURST 1000
#define RESETS_PER_S 100

#define OUTBOUND_ACKS_MAX 1000     /* answers to PING and SETTINGS that may wait in nghttp2 */
#define NGHTTP2_RESETS_MAX 1000000 /* the budget above is the stricter */
#define DRAIN_NOTICE_NS \
    INT64_C(1000000000) /* until the final GOAWAY, if our PING is not answered */
#define NS_PER_S 1000000000

static const uint8_t drain_ping[8] = "drain";
static const uint8_t alive_ping[8] = "alive";

static int64_t now_ns(const struct http_conn *conn)
{
    return loop_now_ns(conn->server->loop);
}

/* --- limits --- */

static void budget_earn(struct http2_budget *budget, int64_t burst)
{
    if (budget->tokens < burst) budget->tokens++;
}

/* False when nothing is left. */
static bool budget_spend(struct http2_budget *budget, int64_t burst, int64_t per_s, int64_t at_ns)
{
    int64_t earned = (at_ns - budget->counted_ns) / (NS_PER_S / per_s);
    if (earned > 0) {
        budget->tokens = budget->tokens + earned < burst ? budget->tokens + earned : burst;
        budget->counted_ns = at_ns;
    }
    return budget->tokens-- > 0;
}

/* What a callback returns; the connection ends when nghttp2 has returned. */
static int flooded(struct http_conn *conn)
{
    if (!conn->h2->flooded) conn->server->stats.n_floods++;
    conn->h2->flooded = true;
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int charge_control(struct http_conn *conn)
{
    bool paid = budget_spend(&conn->h2->control, CONTROL_BURST, CONTROL_PER_S, now_ns(conn));
    return paid ? 0 : flooded(conn);
}

/* --- what nghttp2 calls while it reads --- */

static struct http2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* A handler may have closed the connection; then nothing more is read of it. */
static int go_on(const struct http_conn *conn)
{
    bool open = conn->state == HTTP_CONN_STREAMS && !conn->h2->flooded;
    return open ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *ctx)
{
    (void)session;
    struct http_conn *conn = ctx;
    switch (head->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_WINDOW_UPDATE:
    case NGHTTP2_DATA: return go_on(conn); /* judged when they are whole */
    default: return charge_control(conn);
    }
}

static bool streams_are_all_taken(const struct http_server *server)
{
    return server->stats.n_streams >= server->cfg.n_streams_total_max;
}

/* RFC 9113 8.7: a refused stream was not looked at, so that the client may try again. */
static int refuse_stream(struct http_conn *conn, int32_t id)
{
    conn->server->stats.n_streams_refused++;
    int rc =
        nghttp2_submit_rst_stream(conn->h2->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return nghttp2_is_fatal(rc) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct http_conn *conn = ctx;
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    conn->h2->head_deadline_ns = now_ns(conn) + conn->server->cfg.head_timeout_ns;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    if (streams_are_all_taken(conn->server)) return refuse_stream(conn, frame->hd.stream_id);
    struct http2_stream *stream = http2_stream_create(conn, frame->hd.stream_id);
    if (!stream) return refuse_stream(conn, frame->hd.stream_id);
    http_conn_wake(conn);
    return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx)
{
    (void)flags, (void)ctx;
    struct http2_stream *stream = stream_of(session, frame->hd.stream_id);
    if (stream) {
        http2_stream_header(stream, (const char *)name, name_len, (const char *)value, value_len);
    }
    return 0;
}

/* nghttp2 would drop such a field and go on; other parsers on the way may read it differently. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *ctx)
{
    (void)session, (void)frame, (void)name, (void)name_len;
    (void)value, (void)value_len, (void)flags, (void)ctx;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t n, void *ctx)
{
    (void)flags;
    struct http_conn *conn = ctx;
    struct http2_stream *stream = stream_of(session, id);
    if (stream) {
        http2_stream_body(stream, data, n);
    } else if (nghttp2_is_fatal(nghttp2_session_consume_connection(session, n))) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return go_on(conn);
}

/* A frame without data, or of nothing but padding. */
static bool is_empty(const nghttp2_frame *frame)
{
    return frame->hd.length <= frame->data.padlen && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
}

static void take_headers(struct http_conn *conn, const nghttp2_frame *frame)
{
    struct http2_stream *stream = stream_of(conn->h2->session, frame->hd.stream_id);
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    conn->h2->head_deadline_ns = 0;
    if (!stream) return;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) http2_stream_head_done(stream, ends);
    if (ends) http2_stream_body_done(stream);
}

/* The client has seen the notice, so that no stream is under way to us any more. */
static int finish_drain(struct http_conn *conn)
{
    struct http2_conn *h2 = conn->h2;
    if (h2->last_told) return 0;
    h2->last_told = true;
    http_conn_mark(conn);
    return nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                 nghttp2_session_get_last_proc_stream_id(h2->session),
                                 NGHTTP2_NO_ERROR, NULL, 0);
}

static void take_ping(struct http_conn *conn, const nghttp2_frame *frame)
{
    if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) || !conn->h2->notice_ns) return;
    if (memcmp(frame->ping.opaque_data, drain_ping, sizeof drain_ping) != 0) return;
    if (nghttp2_is_fatal(finish_drain(conn))) http_conn_reset(conn);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct http_conn *conn = ctx;
    struct http2_stream *stream = stream_of(session, frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: take_headers(conn, frame); break;
    case NGHTTP2_DATA:
        if (is_empty(frame) && charge_control(conn) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
        if (stream && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) http2_stream_body_done(stream);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (frame->window_update.window_size_increment < WINDOW_UPDATE_TINY) {
            return charge_control(conn);
        }
        break;
    case NGHTTP2_RST_STREAM: conn->server->stats.n_resets++; break;
    case NGHTTP2_PING: take_ping(conn, frame); break;
    default: break;
    }
    return go_on(conn);
}

/* It may be writing, and what waits shall leave: a flood is seen to at the end of the turn. */
static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *ctx)
{
    struct http_conn *conn = ctx;
    struct http2_conn *h2 = conn->h2;
    struct http2_stream *stream = stream_of(session, id);
    if (!stream) return 0;
    bool badly = stream->x || (error_code != NGHTTP2_NO_ERROR && !stream->cut);
    http2_stream_free(stream);
    http_conn_mark(conn);
    if (!badly) {
        budget_earn(&h2->resets, RESETS_BURST);
    } else if (!budget_spend(&h2->resets, RESETS_BURST, RESETS_PER_S, now_ns(conn))) {
        (void)flooded(conn);
    }
    return 0;
}

/* --- what it calls while it writes --- */

static ssize_t data_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t conn_window,
                           int32_t stream_window, uint32_t frame_max, void *ctx)
{
    (void)session, (void)type, (void)id, (void)ctx;
    int32_t n = conn_window < stream_window ? conn_window : stream_window;
    return n < (int64_t)frame_max ? n : (ssize_t)frame_max;
}

/* An answer that ends before its request asks the client to stop (RFC 9113 8.1). */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct http_conn *conn = ctx;
    if (frame->hd.type > NGHTTP2_HEADERS) {
        if (frame->hd.type == NGHTTP2_RST_STREAM &&
            frame->rst_stream.error_code == NGHTTP2_PROTOCOL_ERROR) {
            conn->server->stats.n_resets_sent++;
        }
        return 0;
    }
    budget_earn(&conn->h2->control, CONTROL_BURST);
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    struct http2_stream *stream = stream_of(session, frame->hd.stream_id);
    if (!stream || stream->body_done) return 0;
    return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
}

/* --- life --- */

static void *mem_malloc(size_t n, void *ctx)
{
    (void)ctx;
    return sl_malloc(n);
}

static void mem_free(void *p, void *ctx)
{
    (void)ctx;
    sl_free(p);
}

static void *mem_calloc(size_t count, size_t size, void *ctx)
{
    (void)ctx;
    return sl_calloc(count, size);
}

static void *mem_realloc(void *p, size_t n, void *ctx)
{
    (void)ctx;
    return sl_realloc(p, n);
}

static nghttp2_session_callbacks *callbacks_create(void)
{
    nghttp2_session_callbacks *calls;
    if (nghttp2_session_callbacks_new(&calls) != 0) return NULL;
    nghttp2_session_callbacks_set_on_begin_frame_callback(calls, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(calls, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(calls, http2_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(calls, data_length);
    return calls;
}

static nghttp2_option *options_create(void)
{
    nghttp2_option *options;
    if (nghttp2_option_new(&options) != 0) return NULL;
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_max_outbound_ack(options, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_continuations(options, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(options, NGHTTP2_RESETS_MAX, NGHTTP2_RESETS_MAX);
    return options;
}

static sl_status session_create(struct http_conn *conn)
{
    static nghttp2_mem mem = {NULL, mem_malloc, mem_free, mem_calloc, mem_realloc};
    nghttp2_session_callbacks *calls = callbacks_create();
    nghttp2_option *options = options_create();
    int rc = NGHTTP2_ERR_NOMEM;
    if (calls && options) {
        rc = nghttp2_session_server_new3(&conn->h2->session, calls, conn, options, &mem);
    }
    nghttp2_session_callbacks_del(calls);
    nghttp2_option_del(options);
    return rc == 0 ? SL_OK : SL_NOMEM;
}

/* RFC 7540's priorities stay: without them nghttp2 1.52 frees a stream's data twice when it runs
 * out of memory as it queues them. */
static sl_status submit_settings(struct http_conn *conn)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)conn->server->cfg.n_streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX},
    };
    nghttp2_session *session = conn->h2->session;
    int rc = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof *settings);
    if (rc == 0) {
        rc =
            nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, HTTP2_CONN_WINDOW);
    }
    return rc == 0 ? SL_OK : SL_NOMEM;
}

sl_status http2_conn_create(struct http_conn *conn)
{
    struct http2_conn *h2 = sl_calloc(1, sizeof *h2);
    if (!h2) return SL_NOMEM;
    conn->h2 = h2;
    http_link_init(&h2->streams);
    http_link_init(&h2->todo);
    h2->heard_ns = now_ns(conn);
    h2->control = (struct http2_budget){CONTROL_BURST, h2->heard_ns};
    h2->resets = (struct http2_budget){RESETS_BURST, h2->heard_ns};
    if (session_create(conn) != SL_OK || submit_settings(conn) != SL_OK) {
        http2_conn_free(h2);
        conn->h2 = NULL;
        return SL_NOMEM;
    }
    conn->server->stats.n_http2_connections++;
    return SL_OK;
}

void http2_conn_free(struct http2_conn *h2)
{
    if (!h2) return;
    while (!http_list_empty(&h2->streams)) {
        http2_stream_free(HTTP_OF(h2->streams.next, struct http2_stream, link));
    }
    nghttp2_session_del(h2->session);
    sl_free(h2);
}

void http2_conn_orphan(struct http2_conn *h2)
{
    for (struct http_link *at = h2->streams.next; at != &h2->streams; at = at->next) {
        struct http2_stream *stream = HTTP_OF(at, struct http2_stream, link);
        struct http_exchange *x = stream->x;
        stream->x = NULL;
        if (x) http_exchange_orphan(x);
    }
}

/* --- bytes in --- */

static void end_with(struct http_conn *conn, uint32_t error_code)
{
    if (conn->state != HTTP_CONN_STREAMS) return;
    if (nghttp2_session_terminate_session(conn->h2->session, error_code) != 0) {
        http_conn_reset(conn);
        return;
    }
    http2_conn_orphan(conn->h2);
    http2_conn_pump(conn);
    if (conn->state == HTTP_CONN_STREAMS) http_conn_finish(conn);
}

static uint32_t code_of(struct http_conn *conn, ssize_t rc)
{
    if (rc == NGHTTP2_ERR_FLOODED || rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) flooded(conn);
    if (conn->h2->flooded) return NGHTTP2_ENHANCE_YOUR_CALM;
    return rc == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_INTERNAL_ERROR;
}

void http2_conn_feed(struct http_conn *conn, const char *bytes, size_t n)
{
    struct http2_conn *h2 = conn->h2;
    h2->heard_ns = now_ns(conn);
    h2->pinged_ns = 0;
    ssize_t rc = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes, n);
    if (rc == NGHTTP2_ERR_NOMEM) {
        http_conn_reset(conn);
    } else if (rc < 0 || h2->flooded) {
        end_with(conn, code_of(conn, rc));
    }
}

bool http2_conn_end_of_input(struct http_conn *conn)
{
    struct http2_conn *h2 = conn->h2;
    for (struct http_link *at = h2->streams.next; at != &h2->streams; at = at->next) {
        if (HTTP_OF(at, struct http2_stream, link)->x) return false;
    }
    http2_conn_pump(conn);
    return conn->state == HTTP_CONN_STREAMS && http_conn_unsent(conn) > 0;
}

/* --- the end of a turn --- */

void http2_conn_attend(struct http_conn *conn)
{
    struct http2_conn *h2 = conn->h2;
    struct http_link now; /* what is added meanwhile waits for the next turn */
    http_link_init(&now);
    while (!http_list_empty(&h2->todo)) http_list_append(&now, h2->todo.next);
    while (!http_list_empty(&now)) {
        struct http2_stream *stream = HTTP_OF(now.next, struct http2_stream, todo);
        http_link_remove(&stream->todo);
        http2_stream_attend(stream);
    }
    if (h2->flooded) end_with(conn, NGHTTP2_ENHANCE_YOUR_CALM);
}

bool http2_conn_is_idle(const struct http2_conn *h2)
{
    return h2->n_streams == 0 && !h2->notice_ns;
}

bool http2_conn_is_over(const struct http2_conn *h2)
{
    return !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
}

size_t http2_conn_queued(const struct http2_conn *h2)
{
    return h2->n_queued;
}

/* --- the clock --- */

static sl_status ping(struct http_conn *conn, const uint8_t bytes[8])
{
    http_conn_mark(conn);
    return nghttp2_submit_ping(conn->h2->session, NGHTTP2_FLAG_NONE, bytes) == 0 ? SL_OK : SL_NOMEM;
}

/* A peer whose machine died says nothing and takes nothing; while we have nothing to send, only a
 * question shows it. */
static void check_alive(struct http_conn *conn, int64_t at_ns)
{
    struct http2_conn *h2 = conn->h2;
    const struct http_server_cfg *cfg = &conn->server->cfg;
    if (h2->pinged_ns && at_ns >= h2->pinged_ns + cfg->write_stall_ns) {
        conn->server->stats.n_pings_lost++;
        http_conn_reset(conn);
    } else if (!h2->pinged_ns && at_ns >= h2->heard_ns + cfg->ping_after_ns) {
        h2->pinged_ns = at_ns;
        if (ping(conn, alive_ping) != SL_OK) http_conn_reset(conn);
    }
}

void http2_conn_tick(struct http_conn *conn, int64_t at_ns)
{
    struct http2_conn *h2 = conn->h2;
    if (h2->head_deadline_ns && at_ns >= h2->head_deadline_ns) {
        conn->server->stats.rejected[HTTP_REJECT_HEAD_TIMEOUT]++;
        end_with(conn, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    for (struct http_link *at = h2->streams.next; at != &h2->streams; at = at->next) {
        http2_stream_tick(HTTP_OF(at, struct http2_stream, link), at_ns);
    }
    if (h2->notice_ns && at_ns >= h2->notice_ns + DRAIN_NOTICE_NS &&
        nghttp2_is_fatal(finish_drain(conn))) {
        http_conn_reset(conn);
    }
    if (conn->state == HTTP_CONN_STREAMS) check_alive(conn, at_ns);
}

/* --- the end --- */

/* RFC 9113 6.8: first a GOAWAY that forbids nothing, and a PING; when that comes back the client
 * knows, and a second one names the last stream. */
void http2_conn_drain(struct http_conn *conn)
{
    struct http2_conn *h2 = conn->h2;
    if (h2->notice_ns) return;
    h2->notice_ns = now_ns(conn);
    if (nghttp2_submit_shutdown_notice(h2->session) != 0 || ping(conn, drain_ping) != SL_OK) {
        http_conn_reset(conn);
    }
}

void http2_conn_goodbye(struct http_conn *conn)
{
    end_with(conn, NGHTTP2_NO_ERROR);
}
