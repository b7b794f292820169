/* http2_int.h: what the files of HTTP/2 share (RFC 9113; nghttp2 does framing, HPACK and flow
 * control): http2_conn.c (the session, its limits and its end), http2_stream.c (a request and its
 * body), http2_out.c (its answer).
 * Floor: net.  Thread: the loop's.  Allocates: through base/mem.h, nghttp2 too.
 * Invariants:
 * - nghttp2 is fed and emptied only by http2_conn_feed and http2_conn_pump, never from within one
 *   of its callbacks; everything else only queues.
 * - A stream lives from its HEADERS until nghttp2 closes it, its exchange until its owner ends it;
 *   each points at the other while both live.
 * - Body bytes count against both windows until http2_stream_credit gives them back.
 * - A closed connection keeps its session until http_conn_free, so that a callback may close it. */
#pragma once
#include "net/http_int.h"

#include <nghttp2/nghttp2.h>

/* One who spends it all is a flood. It comes back with time and with honest work. */
struct http2_budget {
    int64_t tokens;
    int64_t counted_ns;
};

struct http2_conn {
    nghttp2_session *session;
    struct http_link streams; /* open ones */
    struct http_link todo;    /* of these, by their `todo`: something to tell their owner */
    size_t n_streams;
    size_t n_queued;             /* bytes of answers that wait in streams */
    struct http2_budget control; /* frames that only cost us */
    struct http2_budget resets;  /* streams that ended badly */
    int64_t head_deadline_ns;    /* of a header block under way; 0: none */
    int64_t heard_ns;            /* when bytes last came */
    int64_t pinged_ns;           /* our PING is out since then; 0: none */
    int64_t notice_ns;           /* when a drain was announced; 0: not */
    bool flooded;
    bool last_told; /* the final GOAWAY is out */
};

struct http2_stream {
    struct http_link link, todo;
    struct http_conn *conn;
    struct http_exchange *x; /* NULL once it has ended */
    int32_t id;

    /* The request. */
    enum http_reject reject; /* why its head is refused */
    size_t head_bytes;       /* of the fields, as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    size_t headers_cap;
    const char *authority;
    uint64_t body_length;  /* of Content-Length, else 0 */
    size_t n_unconsumed;   /* body bytes whose credit was not returned */
    bool expects_continue; /* the client waits for "100 Continue" */
    bool head_done;        /* END_HEADERS came */
    bool body_done;        /* END_STREAM came */
    bool end_told;         /* to the body handler */

    /* The answer. */
    struct sl_buf out;      /* from out_sent on, not given to nghttp2 */
    struct sl_buf trailers; /* name NUL value NUL ... */
    size_t out_sent;
    int64_t taken_ns; /* when the client last took a byte, or had taken all before these */
    bool finished;    /* nothing is added any more */
    bool deferred;    /* nghttp2 waits for nghttp2_session_resume_data */
    bool cut;         /* we reset it */
};

static inline struct http2_conn *http2_of(const struct http2_stream *stream)
{
    return stream->conn->h2;
}

/* --- http2_stream.c; what comes in. None fails: trouble ends the stream or the connection --- */

/* NULL without memory. */
struct http2_stream *http2_stream_create(struct http_conn *conn, int32_t id);
void http2_stream_free(struct http2_stream *stream); /* its exchange is told */

void http2_stream_header(struct http2_stream *stream, const char *name, size_t name_len,
                         const char *value, size_t value_len);
void http2_stream_head_done(struct http2_stream *stream, bool ends); /* the head's END_HEADERS */
void http2_stream_body(struct http2_stream *stream, const void *bytes, size_t n);
void http2_stream_body_done(struct http2_stream *stream);

/* The clock's part: slow bodies, stalled answers. */
void http2_stream_tick(struct http2_stream *stream, int64_t now_ns);

/* Hands over what was held, tells of a drained backlog. */
void http2_stream_attend(struct http2_stream *stream);

/* Resets it; its exchange, if it has one, loses its client. */
void http2_stream_reset(struct http2_stream *stream, uint32_t error_code);
void http2_stream_later(struct http2_stream *stream); /* attend at the end of the turn */

/* --- http2_out.c; what goes out --- */

size_t http2_stream_unsent(const struct http2_stream *stream);
void http2_stream_drop_output(struct http2_stream *stream);

/* A refusal in OpenAI's shape. NOMEM, LIMIT. */
SL_CHECK sl_status http2_refuse(struct http2_stream *stream, enum http_reject reject);

/* nghttp2's callback that puts a DATA frame into the connection's output. */
int http2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                    size_t length, nghttp2_data_source *source, void *ctx);
