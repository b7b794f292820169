/* http2_stream.c: a stream's request: its fields, its body whole or in pieces, and its end. */
#include "net/http2_int.h"

#include "base/mem.h"

#include <string.h>
#include <strings.h>

#define HEADERS_FIRST 16     /* what most clients send; it doubles */
#define FIELD_OVERHEAD 32    /* RFC 9113 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE */
#define LENGTH_DIGITS_MAX 18 /* fits 64 bits without a check for overflow */
#define OUT_KEPT_MAX 4096    /* a spare stream keeps a buffer for most answers */
#define NS_PER_S 1000000000

/* --- life --- */

static int64_t now_ns(const struct http2_stream *stream)
{
    return loop_now_ns(stream->conn->server->loop);
}

static struct http2_stream *take_spare(struct http_server *server)
{
    if (server->n_spare_streams) return server->spare_streams[--server->n_spare_streams];
    struct http2_stream *stream = sl_calloc(1, sizeof *stream);
    if (!stream) return NULL;
    sl_buf_init(&stream->out, HTTP_OUT_BYTES_MAX);
    sl_buf_init(&stream->trailers, server->cfg.arena_bytes_max);
    return stream;
}

static void keep_spare(struct http_server *server, struct http2_stream *stream)
{
    bool large = stream->out.cap > OUT_KEPT_MAX || stream->trailers.cap > OUT_KEPT_MAX;
    if (large || server->n_spare_streams == HTTP_SPARE_EXCHANGES) {
        sl_buf_done(&stream->out);
        sl_buf_done(&stream->trailers);
        sl_free(stream);
        return;
    }
    sl_buf_clear(&stream->out);
    sl_buf_clear(&stream->trailers);
    *stream = (struct http2_stream){.out = stream->out, .trailers = stream->trailers};
    server->spare_streams[server->n_spare_streams++] = stream;
}

void http2_spare_streams_free(struct http_server *server)
{
    while (server->n_spare_streams) {
        struct http2_stream *stream = server->spare_streams[--server->n_spare_streams];
        sl_buf_done(&stream->out);
        sl_buf_done(&stream->trailers);
        sl_free(stream);
    }
}

struct http2_stream *http2_stream_create(struct http_conn *conn, int32_t id)
{
    struct http2_stream *stream = take_spare(conn->server);
    if (!stream) return NULL;
    http_link_init(&stream->link);
    http_link_init(&stream->todo);
    stream->conn = conn;
    stream->id = id;
    conn->begin_ns = now_ns(stream);
    stream->x = http_exchange_create(conn, &http2_face);
    if (!stream->x) {
        keep_spare(conn->server, stream);
        return NULL;
    }
    stream->x->stream = stream;
    stream->x->request.version_2 = true;
    http_list_append(&conn->h2->streams, &stream->link);
    conn->h2->n_streams++;
    conn->server->stats.n_streams++;
    return stream;
}

/* Without memory nghttp2 cannot even say that it has none. */
static void check(struct http2_stream *stream, int rc)
{
    if (nghttp2_is_fatal(rc)) http_conn_reset(stream->conn);
}

/* Returns credit: without an exchange the connection's alone, for the stream wants no more. */
static void credit(struct http2_stream *stream, size_t n)
{
    nghttp2_session *session = http2_of(stream)->session;
    stream->n_unconsumed -= n;
    if (n == 0) return;
    check(stream, stream->x ? nghttp2_session_consume(session, stream->id, n)
                            : nghttp2_session_consume_connection(session, n));
}

/* The exchange's owner is told that the client has gone. */
static void orphan(struct http2_stream *stream)
{
    struct http_exchange *x = stream->x;
    stream->x = NULL;
    if (x) http_exchange_orphan(x);
}

void http2_stream_free(struct http2_stream *stream)
{
    struct http_conn *conn = stream->conn;
    orphan(stream);
    credit(stream, stream->n_unconsumed);
    http2_stream_drop_output(stream);
    http_link_remove(&stream->link);
    http_link_remove(&stream->todo);
    conn->h2->n_streams--;
    conn->server->stats.n_streams--;
    keep_spare(conn->server, stream);
}

void http2_stream_later(struct http2_stream *stream)
{
    http_list_append(&http2_of(stream)->todo, &stream->todo);
    http_conn_mark(stream->conn);
}

void http2_stream_reset(struct http2_stream *stream, uint32_t error_code)
{
    stream->conn->server->stats.n_resets_sent++;
    stream->cut = true;
    http2_stream_drop_output(stream);
    orphan(stream);
    http_conn_mark(stream->conn);
    check(stream, nghttp2_submit_rst_stream(http2_of(stream)->session, NGHTTP2_FLAG_NONE,
                                            stream->id, error_code));
}

/* Refuses what has not been given to its owner. */
static void refuse(struct http2_stream *stream, enum http_reject reject)
{
    stream->conn->server->stats.rejected[reject]++;
    http_exchange_free(stream->x);
    stream->x = NULL;
    if (http2_refuse(stream, reject) != SL_OK) {
        http2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR);
    }
}

/* --- the head --- */

static bool is_name(const char *name, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(name, word, len) == 0;
}

static bool add_header(struct http2_stream *stream, const struct http_header *header)
{
    struct http_exchange *x = stream->x;
    struct http_header *headers = (struct http_header *)x->request.headers;
    if (x->request.n_headers == stream->headers_cap) {
        size_t cap = stream->headers_cap ? stream->headers_cap * 2 : HEADERS_FIRST;
        struct http_header *larger = sl_arena_array(&x->arena, cap, sizeof *larger);
        if (!larger) return false;
        if (headers) memcpy(larger, headers, stream->headers_cap * sizeof *larger);
        x->request.headers = headers = larger;
        stream->headers_cap = cap;
    }
    headers[x->request.n_headers++] = *header;
    return true;
}

/* nghttp2 holds the body to the length that it says. */
static void take_length(struct http2_stream *stream, const char *digits, size_t n)
{
    if (n > LENGTH_DIGITS_MAX) stream->reject = HTTP_REJECT_BODY_LARGE;
    for (size_t i = 0; i < n && i < LENGTH_DIGITS_MAX; i++) {
        stream->body_length = stream->body_length * 10 + (uint64_t)(digits[i] - '0');
    }
}

static void take_field(struct http2_stream *stream, const struct http_header *header)
{
    if (is_name(header->name, header->name_len, "content-length")) {
        take_length(stream, header->value, header->value_len);
    } else if (is_name(header->name, header->name_len, "expect")) {
        stream->expects_continue = strcasecmp(header->value, "100-continue") == 0;
        if (!stream->expects_continue) stream->reject = HTTP_REJECT_EXPECT;
    }
    if (!add_header(stream, header)) stream->reject = HTTP_REJECT_NO_MEMORY;
}

/* RFC 9113 8.3.1; nghttp2 has seen to it that each comes once and before all fields. */
static void take_pseudo(struct http2_stream *stream, const struct http_header *header)
{
    struct http_request *request = &stream->x->request;
    if (is_name(header->name, header->name_len, ":method")) {
        request->method_text = header->value;
        request->method = http_method_of(header->value, header->value_len);
        if (header->value_len > HTTP_METHOD_MAX) stream->reject = HTTP_REJECT_REQUEST_LINE;
    } else if (is_name(header->name, header->name_len, ":path")) {
        request->target = header->value;
    } else if (is_name(header->name, header->name_len, ":authority")) {
        stream->authority = header->value;
    }
}

void http2_stream_header(struct http2_stream *stream, const char *name, size_t name_len,
                         const char *value, size_t value_len)
{
    struct http_exchange *x = stream->x;
    stream->head_bytes += name_len + value_len + FIELD_OVERHEAD;
    if (!x || x->given || stream->reject) return; /* trailers are not kept */
    if (stream->head_bytes > HTTP_HEAD_MAX || x->request.n_headers >= HTTP_HEADERS_MAX) {
        stream->reject = HTTP_REJECT_HEAD_LARGE;
        return;
    }
    struct http_header header = {
        .name = sl_arena_strndup(&x->arena, name, name_len),
        .value = sl_arena_strndup(&x->arena, value, value_len),
        .name_len = name_len,
        .value_len = value_len,
    };
    if (!header.name || !header.value) {
        stream->reject = HTTP_REJECT_NO_MEMORY;
    } else if (name[0] == ':') {
        take_pseudo(stream, &header);
    } else {
        take_field(stream, &header);
    }
}

/* Host and :authority say the same, or one of them is there; the owner sees a host. */
static enum http_reject settle_host(struct http2_stream *stream)
{
    const char *host = http_request_header(&stream->x->request, "host");
    const char *authority = stream->authority;
    if (!host && !authority) return HTTP_REJECT_HOST;
    const char *either = host ? host : authority;
    if (!http_is_host(either, strlen(either))) return HTTP_REJECT_HOST;
    if (host && authority && strcasecmp(host, authority) != 0) return HTTP_REJECT_HOST;
    if (host) return HTTP_REJECT_NONE;
    struct http_header header = {"host", authority, 4, strlen(authority)};
    return add_header(stream, &header) ? HTTP_REJECT_NONE : HTTP_REJECT_NO_MEMORY;
}

static enum http_reject check_head(struct http2_stream *stream)
{
    struct http_exchange *x = stream->x;
    const struct http_request *request = &x->request;
    if (stream->reject) return stream->reject;
    if (strcmp(request->method_text, "CONNECT") == 0) return HTTP_REJECT_METHOD;
    enum http_reject reject =
        http_check_target(request->method, request->target, strlen(request->target));
    if (reject == HTTP_REJECT_NONE) reject = settle_host(stream);
    if (reject) return reject;
    return http_exchange_set_target(x, request->target) ? HTTP_REJECT_NONE : HTTP_REJECT_NO_MEMORY;
}

static void say_continue(struct http2_stream *stream)
{
    const nghttp2_nv status = {(uint8_t *)":status", (uint8_t *)"100", 7, 3, NGHTTP2_NV_FLAG_NONE};
    check(stream, nghttp2_submit_headers(http2_of(stream)->session, NGHTTP2_FLAG_NONE, stream->id,
                                         NULL, &status, 1, NULL));
    http_conn_mark(stream->conn);
}

void http2_stream_head_done(struct http2_stream *stream, bool ends)
{
    struct http_exchange *x = stream->x;
    const struct http_server_cfg *cfg = &stream->conn->server->cfg;
    enum http_reject reject = check_head(stream);
    stream->head_done = true;
    if (reject) {
        refuse(stream, reject);
        return;
    }
    x->streamed_body = cfg->on_head && cfg->on_head(cfg->ctx, x);
    if (!x->streamed_body && stream->body_length > cfg->body_bytes_max) {
        refuse(stream, HTTP_REJECT_BODY_LARGE);
        return;
    }
    if (stream->expects_continue && !ends) say_continue(stream);
    if (!x->streamed_body) return;
    sl_buf_init(&x->body, HTTP2_STREAM_WINDOW);
    http_exchange_give(x);
}

/* --- the body --- */

/* Bytes buy time, but no more than body_timeout_ns ahead. */
static void extend_deadline(struct http2_stream *stream, size_t n)
{
    const struct http_server_cfg *cfg = &stream->conn->server->cfg;
    struct http_exchange *x = stream->x;
    int64_t latest_ns = now_ns(stream) + cfg->body_timeout_ns;
    x->body_deadline_ns += (int64_t)((double)n / (double)cfg->body_rate_min * NS_PER_S);
    if (x->body_deadline_ns > latest_ns) x->body_deadline_ns = latest_ns;
}

static void gather_whole(struct http2_stream *stream, const void *bytes, size_t n)
{
    struct http_exchange *x = stream->x;
    bool large = n > stream->conn->server->cfg.body_bytes_max - x->body.len;
    enum http_reject reject = large ? HTTP_REJECT_BODY_LARGE : http_exchange_add_body(x, bytes, n);
    if (reject) {
        refuse(stream, reject);
    } else {
        extend_deadline(stream, n);
    }
    credit(stream, n);
}

static bool takes_pieces(const struct http_exchange *x)
{
    return x->on_body && !x->body_paused && x->body.len == 0;
}

static void hold_piece(struct http2_stream *stream, const void *bytes, size_t n)
{
    enum http_reject reject = http_exchange_add_body(stream->x, bytes, n);
    if (!reject) return;
    stream->conn->server->stats.rejected[reject]++;
    http2_stream_reset(stream, NGHTTP2_ENHANCE_YOUR_CALM);
    credit(stream, stream->n_unconsumed);
}

void http2_stream_body(struct http2_stream *stream, const void *bytes, size_t n)
{
    struct http_exchange *x = stream->x;
    stream->n_unconsumed += n;
    if (!x) {
        credit(stream, n); /* the answer came before the question's end */
    } else if (!x->streamed_body) {
        gather_whole(stream, bytes, n);
    } else if (takes_pieces(x)) {
        x->on_body(x->body_ctx, x, bytes, n, false);
        if (stream->n_unconsumed) credit(stream, n);
    } else {
        hold_piece(stream, bytes, n);
    }
}

void http2_stream_body_done(struct http2_stream *stream)
{
    struct http_exchange *x = stream->x;
    stream->body_done = true;
    if (!x) return;
    if (!x->streamed_body) {
        http_exchange_give(x);
    } else if (takes_pieces(x)) {
        stream->end_told = true;
        x->on_body(x->body_ctx, x, "", 0, true);
    }
}

static void hand_over(struct http2_stream *stream)
{
    struct http_exchange *x = stream->x;
    bool ends = stream->body_done && !stream->end_told;
    if (!x->on_body || x->body_paused || (x->body.len == 0 && !ends)) return;
    struct sl_buf held = x->body;
    sl_buf_init(&x->body, HTTP2_STREAM_WINDOW);
    x->server->stats.body_bytes -= held.len;
    stream->end_told = ends;
    x->on_body(x->body_ctx, x, held.data, held.len, ends);
    if (stream->n_unconsumed) credit(stream, held.len);
    sl_buf_done(&held);
}

void http2_stream_attend(struct http2_stream *stream)
{
    if (stream->x && stream->x->streamed_body) hand_over(stream);
    struct http_exchange *x = stream->x;
    if (!x || !x->drain_wanted) return;
    if (http2_stream_unsent(stream) > x->server->cfg.stream_backlog_max / 2) return;
    x->drain_wanted = false;
    if (x->on_drain) x->on_drain(x->drain_ctx, x);
}

/* --- the clock --- */

static bool window_is_shut(const struct http2_stream *stream)
{
    nghttp2_session *session = http2_of(stream)->session;
    return nghttp2_session_get_remote_window_size(session) <= 0 ||
           nghttp2_session_get_stream_remote_window_size(session, stream->id) <= 0;
}

void http2_stream_tick(struct http2_stream *stream, int64_t at_ns)
{
    struct http_server *server = stream->conn->server;
    struct http_exchange *x = stream->x;
    bool waits = x && !x->given && stream->head_done && at_ns >= x->body_deadline_ns;
    bool stalls = http2_stream_unsent(stream) > 0 &&
                  at_ns >= stream->taken_ns + server->cfg.write_stall_ns && window_is_shut(stream);
    if (waits) {
        refuse(stream, HTTP_REJECT_BODY_TIMEOUT);
    } else if (stalls) {
        server->stats.n_write_stalled++;
        http2_stream_reset(stream, NGHTTP2_CANCEL);
    }
}
