/* http2_out.c: answers over HTTP/2: fields, bodies that wait for the client's windows, trailers. A
 * body is copied into its stream and from there, frame by frame, behind the other output of the
 * connection. */
#include "net/http2_int.h"

#include "base/decimal.h"
#include "base/mem.h"

#include <string.h>

#define OUT_BYTES_FULL (256 * 1024) /* of one system call; the rest stays in its streams */
#define OWN_BYTES_MIN (16 * 1024)   /* of a body whose memory is taken over */
#define FIELDS_OWN 6                /* :status, date, server, content-type, -length, retry-after */
#define FRAME_HEAD_LEN 9            /* RFC 9113 4.1 */
#define TRAILERS_MAX 64             /* gRPC sends three */

size_t http2_stream_unsent(const struct http2_stream *stream)
{
    return stream->out.len - stream->out_sent;
}

/* Behind a finished answer nothing is added, so that there room is of no use. */
static void forget_sent(struct http2_stream *stream)
{
    if (http2_stream_unsent(stream) == 0) {
        sl_buf_clear(&stream->out);
        stream->out_sent = 0;
    } else if (stream->out_sent > stream->out.len / 2 && !stream->finished) {
        sl_buf_consume(&stream->out, stream->out_sent); /* moves less than was sent */
        stream->out_sent = 0;
    }
}

static void took(struct http2_stream *stream, size_t n)
{
    struct http_conn *conn = stream->conn;
    stream->out_sent += n;
    conn->h2->n_queued -= n;
    forget_sent(stream);
}

void http2_stream_drop_output(struct http2_stream *stream)
{
    took(stream, http2_stream_unsent(stream));
}

static void count_queued(struct http2_stream *stream, size_t n)
{
    bool was_empty = http2_stream_unsent(stream) == n;
    http2_of(stream)->n_queued += n;
    if (was_empty) stream->taken_ns = loop_now_ns(stream->conn->server->loop);
}

static sl_status queue_bytes(struct http2_stream *stream, const void *bytes, size_t n)
{
    sl_status status = sl_buf_add(&stream->out, bytes, n);
    if (status == SL_OK) count_queued(stream, n);
    return status;
}

/* A whole body, of a stream that has none yet: small ones are cheaper to copy than to free. */
static sl_status queue_body(struct http2_stream *stream, const void *bytes, size_t n,
                            struct sl_buf *own)
{
    if (!own || n < OWN_BYTES_MIN) return queue_bytes(stream, bytes, n);
    sl_buf_done(&stream->out);
    stream->out = *own;
    stream->out.max = HTTP_OUT_BYTES_MAX;
    sl_buf_init(own, own->max);
    count_queued(stream, n);
    return SL_OK;
}

/* --- fields --- */

struct fields {
    nghttp2_nv *at;
    size_t n, max;
};

static nghttp2_nv field(const char *name, size_t name_len, const char *value, size_t value_len)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, name_len, value_len,
                        NGHTTP2_NV_FLAG_NONE};
}

static void put(struct fields *f, const char *name, const char *value, size_t value_len)
{
    if (f->n < f->max) f->at[f->n++] = field(name, strlen(name), value, value_len);
}

static void put_added(struct fields *f, const struct http_added_header *first)
{
    for (const struct http_added_header *h = first; h && f->n < f->max; h = h->next) {
        f->at[f->n++] = field(h->name, h->name_len, h->value, h->value_len);
    }
}

static size_t count_added(const struct http_added_header *first)
{
    size_t n = 0;
    for (const struct http_added_header *h = first; h; h = h->next) n++;
    return n;
}

/* The fields that every answer has. `code` is room for three digits. */
static void put_own(struct fields *f, struct http_server *server, int status,
                    const char *content_type, char code[SL_DECIMAL_MAX])
{
    const char *date = http_answer_date_line(server) + strlen("Date: ");
    size_t code_len = sl_decimal(status, code);
    put(f, ":status", code, code_len);
    put(f, "date", date, strlen(date) - strlen("\r\n"));
    if (server->cfg.server_name) {
        put(f, "server", server->cfg.server_name, strlen(server->cfg.server_name));
    }
    if (content_type) put(f, "content-type", content_type, strlen(content_type));
}

/* --- what nghttp2 asks for --- */

static sl_status status_of(int rc)
{
    if (rc >= 0) return SL_OK;
    return rc == NGHTTP2_ERR_NOMEM ? SL_NOMEM : SL_LIMIT;
}

static sl_status submit_trailers(struct http2_stream *stream)
{
    nghttp2_nv fields[TRAILERS_MAX];
    size_t n = 0;
    const char *end = stream->trailers.data + stream->trailers.len;
    for (const char *at = stream->trailers.data; at < end && n < TRAILERS_MAX; n++) {
        size_t name_len = strlen(at), value_len = strlen(at + name_len + 1);
        fields[n] = field(at, name_len, at + name_len + 1, value_len);
        at += name_len + value_len + 2;
    }
    return status_of(nghttp2_submit_trailer(http2_of(stream)->session, stream->id, fields, n));
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t n_max,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    (void)session, (void)id, (void)out, (void)ctx;
    struct http2_stream *stream = source->ptr;
    size_t unsent = http2_stream_unsent(stream);
    if (stream->cut || (unsent == 0 && !stream->finished)) {
        stream->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t n = unsent < n_max ? unsent : n_max;
    if (n) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n < unsent || !stream->finished) return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (stream->trailers.len == 0) return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return submit_trailers(stream) == SL_OK ? (ssize_t)n : NGHTTP2_ERR_CALLBACK_FAILURE;
}

int http2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                    size_t length, nghttp2_data_source *source, void *ctx)
{
    (void)session, (void)frame;
    struct http_conn *conn = ctx;
    struct http2_stream *stream = source->ptr;
    if (http_conn_unsent(conn) >= OUT_BYTES_FULL) return NGHTTP2_ERR_WOULDBLOCK;
    if (http_conn_gather(conn, head, FRAME_HEAD_LEN) != SL_OK ||
        http_conn_gather(conn, stream->out.data + stream->out_sent, length) != SL_OK) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    stream->taken_ns = loop_now_ns(conn->server->loop);
    took(stream, length);
    if (stream->x && stream->x->drain_wanted) http2_stream_later(stream);
    return 0;
}

bool http2_conn_pump(struct http_conn *conn)
{
    /* What is full now may leave at once, and then nothing else would ask for more. */
    bool moved = http_conn_unsent(conn) >= OUT_BYTES_FULL;
    while (http_conn_unsent(conn) < OUT_BYTES_FULL) {
        const uint8_t *bytes;
        size_t before = http_conn_unsent(conn);
        ssize_t n = nghttp2_session_mem_send(conn->h2->session, &bytes);
        if (n < 0 || (n > 0 && http_conn_gather(conn, bytes, (size_t)n) != SL_OK)) {
            http_conn_reset(conn);
            return false;
        }
        moved = moved || http_conn_unsent(conn) > before;
        if (n == 0) break;
    }
    return moved;
}

/* --- the face --- */

/* With a source of DATA frames, or only the head: then END_STREAM stands on it if `last`. */
static sl_status submit_head(struct http2_stream *stream, const struct fields *f, bool has_data,
                             bool last)
{
    nghttp2_session *session = http2_of(stream)->session;
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_body};
    http_conn_mark(stream->conn);
    if (has_data || last) {
        return status_of(
            nghttp2_submit_response(session, stream->id, f->at, f->n, has_data ? &provider : NULL));
    }
    return status_of(
        nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, stream->id, NULL, f->at, f->n, NULL));
}

/* body_len < 0: not known. */
static sl_status send_head(struct http_exchange *x, int status, const char *content_type,
                           int64_t body_len, bool has_data)
{
    char code[SL_DECIMAL_MAX], length[SL_DECIMAL_MAX];
    struct fields f = {.max = FIELDS_OWN + count_added(x->added)};
    f.at = sl_arena_array(&x->arena, f.max, sizeof *f.at);
    if (!f.at) return SL_NOMEM;
    put_own(&f, x->server, status, content_type, code);
    if (body_len >= 0 && status != 204 && status != 304) {
        put(&f, "content-length", length, sl_decimal(body_len, length));
    }
    put_added(&f, x->added);
    return submit_head(x->stream, &f, has_data, x->bodiless || !x->trailers);
}

/* The exchange may be gone when the last of the body leaves, so they are copied. */
static sl_status keep_trailers(struct http_exchange *x)
{
    struct sl_buf *out = &x->stream->trailers;
    sl_status status = SL_OK;
    if (count_added(x->trailers) > TRAILERS_MAX) return SL_LIMIT;
    for (const struct http_added_header *h = x->trailers; h && status == SL_OK; h = h->next) {
        status = sl_buf_add(out, h->name, h->name_len + 1);
        if (status == SL_OK) status = sl_buf_add(out, h->value, h->value_len + 1);
    }
    return status;
}

static sl_status respond(struct http_exchange *x, int status, const char *content_type,
                         const void *body, size_t n, struct sl_buf *own)
{
    struct http2_stream *stream = x->stream;
    bool has_data = n > 0 && !x->bodiless;
    sl_status result = x->bodiless ? SL_OK : keep_trailers(x);
    if (result == SL_OK && has_data) result = queue_body(stream, body, n, own);
    if (result == SL_OK) result = send_head(x, status, content_type, (int64_t)n, has_data);
    stream->finished = true;
    if (result != SL_OK || has_data || x->bodiless || !x->trailers) return result;
    return submit_trailers(stream);
}

static sl_status begin(struct http_exchange *x, int status, const char *content_type)
{
    return send_head(x, status, content_type, -1, !x->bodiless);
}

static sl_status resume(struct http2_stream *stream)
{
    http_conn_mark(stream->conn);
    if (!stream->deferred) return SL_OK;
    stream->deferred = false;
    return status_of(nghttp2_session_resume_data(http2_of(stream)->session, stream->id));
}

static sl_status write_piece(struct http_exchange *x, const void *bytes, size_t n)
{
    sl_status status = queue_bytes(x->stream, bytes, n);
    return status == SL_OK ? resume(x->stream) : status;
}

/* Trailers behind a body that has left go alone: an empty DATA frame before them says nothing. */
static sl_status finish(struct http_exchange *x)
{
    struct http2_stream *stream = x->stream;
    if (x->bodiless) return SL_OK;
    sl_status status = keep_trailers(x);
    if (status != SL_OK) return status;
    stream->finished = true;
    if (!stream->deferred || !x->trailers) return resume(stream);
    http_conn_mark(stream->conn);
    return submit_trailers(stream);
}

static size_t backlog(const struct http_exchange *x)
{
    return http2_stream_unsent(x->stream);
}

static void body_wanted(struct http_exchange *x)
{
    http2_stream_later(x->stream);
}

static void release(struct http_conn *conn, struct http2_stream *stream, bool cut_off)
{
    stream->x = NULL;
    size_t held = stream->n_unconsumed;
    stream->n_unconsumed = 0;
    int rc = held ? nghttp2_session_consume_connection(conn->h2->session, held) : 0;
    if (cut_off) http2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR);
    if (nghttp2_is_fatal(rc)) http_conn_reset(conn);
    http_conn_mark(conn);
}

const struct http_face http2_face = {
    .respond = respond,
    .begin = begin,
    .write = write_piece,
    .finish = finish,
    .backlog = backlog,
    .body_wanted = body_wanted,
    .release = release,
};

sl_status http2_refuse(struct http2_stream *stream, enum http_reject reject)
{
    char code[SL_DECIMAL_MAX], length[SL_DECIMAL_MAX], body[HTTP_REJECT_BYTES_MAX];
    nghttp2_nv own[FIELDS_OWN];
    struct fields f = {.at = own, .max = FIELDS_OWN};
    size_t n = http_answer_reject_body(reject, body);
    int status = http_reject_status(reject);
    put_own(&f, stream->conn->server, status, "application/json", code);
    put(&f, "content-length", length, sl_decimal((int64_t)n, length));
    if (status == 503) put(&f, "retry-after", "1", 1);
    stream->finished = true;
    sl_status result = queue_bytes(stream, body, n);
    return result == SL_OK ? submit_head(stream, &f, true, true) : result;
}
