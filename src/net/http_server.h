/* http_server.h: an HTTP/1.0, 1.1 and 2 server, plain and TLS, on one loop. A plain listener takes
 * HTTP/2 by its client preface, a TLS one by ALPN "h2"; there is no h2c Upgrade. See docs/http.md.
 * Floor: net.  Thread: the loop's, for every call here.  Allocates: connections on accept; buffers
 * only while bytes wait in them, so an idle connection costs under 1 KiB (HTTP/2: 14, nghttp2's).
 * Invariants:
 * - One request at a time per HTTP/1 connection: answers must leave in order anyway, so a pipelined
 *   request waits as bytes (at most HTTP_PIPELINE_BYTES_MAX, then reading pauses) until the one
 *   before it is answered.
 * - Every exchange given to on_request is ended by its owner exactly once, by http_respond,
 *   http_stream_end or http_exchange_abort, in on_request or any time later; also when the client
 *   has gone. The pointer is invalid from then on.
 * - All output of a turn of the loop leaves in one system call per connection.
 * - A client that closes its sending side counts as gone, so that its generation stops at once.
 *   Half-closing clients (nc -N) only get what was answered within on_request.
 *   One that goes away behind more pipelined bytes than the kernel holds is only noticed once
 *   these are read, or by its reset.
 * - Malformed requests never reach on_request. They are answered in OpenAI's error shape and the
 *   connection is closed; over HTTP/2 they end their stream alone.
 * - At n_connections_max a connection is closed for the new one: the oldest of those that never
 *   sent a request where they are more than half, else the one that has been idle longest, else the
 *   oldest without a request. One with a request under way never is: when all have one, new ones
 *   wait in the kernel's backlog. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "net/http_parser.h"
#include "net/loop.h"
#include "net/tls.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_PIPELINE_BYTES_MAX (64 * 1024) /* one read's worth */
#define HTTP_PEER_TEXT_MAX 64               /* "[v6 address%scope]:port" */

struct http_server;
struct http_exchange;

typedef void (*http_request_fn)(void *ctx, struct http_exchange *x);
typedef void (*http_exchange_fn)(void *ctx, struct http_exchange *x);
typedef bool (*http_head_fn)(void *ctx, struct http_exchange *x);
typedef void (*http_body_fn)(void *ctx, struct http_exchange *x, const void *bytes, size_t n,
                             bool end);
typedef void (*http_drained_fn)(void *ctx);

/* Zero means the default given. */
struct http_server_cfg {
    http_request_fn on_request;
    http_head_fn on_head;        /* HTTP/2, see "A body in pieces"; NULL: every body comes whole */
    void *ctx;                   /* of both */
    size_t n_connections_max;    /* 16384; cut to what RLIMIT_NOFILE leaves */
    size_t body_bytes_max;       /* of one request: 32 MiB */
    size_t body_total_bytes_max; /* of all requests not yet ended: 256 MiB */
    size_t stream_backlog_max;   /* unsent bytes at which http_stream_write is BUSY: 256 KiB */
    size_t out_total_bytes_max;  /* unsent bytes of all; past it the largest is cut: 512 MiB */
    size_t arena_bytes_max;      /* of one exchange, head included: 1 MiB */
    int64_t head_timeout_ns;     /* for a whole head, TLS handshake alike: 10 s */
    int64_t body_timeout_ns;     /* that a body may fall behind body_rate_min: 30 s */
    size_t body_rate_min;        /* bytes a second: 4096 */
    int64_t idle_timeout_ns;     /* between requests: 60 s */
    int64_t write_stall_ns;      /* without the client taking a byte: 30 s */
    int64_t linger_ns;           /* reading on after a refusal, so that it arrives: 2 s */
    size_t n_streams_max;        /* of one HTTP/2 connection: 256 */
    size_t n_streams_total_max;  /* of all; past it new ones are refused: 65536 */
    int64_t ping_after_ns;       /* of silence on an HTTP/2 connection with streams: 60 s */
    const char *server_name;     /* Server header, borrowed; NULL: none */
};

/* Raises RLIMIT_NOFILE to its hard limit. on_request must be set. INVALID, NOMEM, IO. */
SL_CHECK sl_status http_server_create(struct loop *loop, const struct http_server_cfg *cfg,
                                      struct http_server **out, struct sl_err *err);

/* NULL is fine. Calls the close handlers of live exchanges, then frees these as if ended. Not to be
 * called from a handler of its own, but for on_drained. */
void http_server_destroy(struct http_server *server);

/* Listens on every address of host (a name, IPv4 or IPv6 address; NULL or "*": all) at port (0: a
 * free one, then in *out_port, which may be NULL). With tls, speaks TLS there; it is borrowed and
 * must outlive the server. May be called several times. INVALID: no such host; EXISTS: the address
 * is in use; DENIED; LIMIT: HTTP_LISTENERS_MAX; IO, NOMEM. */
#define HTTP_LISTENERS_MAX 16
SL_CHECK sl_status http_server_listen(struct http_server *server, const char *host, uint16_t port,
                                      struct tls_server *tls, uint16_t *out_port,
                                      struct sl_err *err);

/* While held, connections are not accepted but wait in the kernel, as those over
 * n_connections_max. Listeners that are added later are not held. */
void http_server_hold(struct http_server *server, bool hold);

/* Stops accepting, closes idle connections, answers what is under way with Connection: close
 * (HTTP/2: after a GOAWAY). Calls on_drained(ctx) from the loop once no connection is left, never
 * from within this call. */
void http_server_drain(struct http_server *server, http_drained_fn on_drained, void *ctx);

struct http_server_stats {
    uint64_t n_connections;       /* open now */
    uint64_t n_connections_idle;  /* of these */
    uint64_t n_connections_total; /* ever accepted */
    uint64_t n_evicted;           /* without a request, closed to make room */
    uint64_t n_accept_failed;     /* no descriptor or no memory left */
    uint64_t n_handshakes_failed; /* TLS */
    uint64_t n_requests;          /* given to on_request */
    uint64_t n_active;            /* exchanges not yet ended */
    uint64_t n_client_gone;       /* clients that left before their answer ended */
    uint64_t n_write_stalled;     /* closed for not reading */
    uint64_t bytes_in, bytes_out; /* on the wire; above TLS where there is TLS */
    uint64_t body_bytes;          /* request bodies in memory now */
    uint64_t n_http2_connections; /* of n_connections */
    uint64_t n_streams;           /* open now; HTTP/2, as what follows */
    uint64_t n_streams_refused;   /* past n_streams_total_max or while draining: may be retried */
    uint64_t n_resets;            /* streams that the client reset */
    uint64_t n_resets_sent;       /* that we reset: malformed, aborted, not read */
    uint64_t n_floods;            /* connections ended with ENHANCE_YOUR_CALM */
    uint64_t n_pings_lost;        /* closed for not answering ours */
    uint64_t rejected[HTTP_REJECT_COUNT];
};
void http_server_stats(const struct http_server *server, struct http_server_stats *out);

/* --- The request. Everything lives until the exchange is ended; strings end in NUL too. --- */

struct http_header {
    const char *name; /* lower case */
    const char *value;
    size_t name_len, value_len;
};

struct http_request {
    enum http_method method;
    const char *method_text;
    const char *target; /* as sent: origin-form, or absolute-form cut down to it, or "*" */
    const char *path;   /* percent-decoded; may hold any bytes but NUL. "*" for OPTIONS * */
    size_t path_len;
    const char *query; /* after '?', as sent; "" when absent */
    size_t query_len;
    const struct http_header *headers;
    size_t n_headers;
    const char *body; /* complete; "" when empty */
    size_t body_len;
    const char *peer;    /* "127.0.0.1:40312", "[::1]:40312" */
    const char *peer_id; /* the grid's member who asks, proved by its certificate; NULL: anybody */
    bool peer_is_gateway;
    bool version_1_1;
    bool version_2; /* :authority is then the header "host", if there is none of that name */
    bool is_tls;
    int64_t begin_ns; /* when its first byte was read, loop_now_ns */
};

const struct http_request *http_exchange_request(const struct http_exchange *x);

/* The first header of that name in any case, or NULL. */
const char *http_request_header(const struct http_request *request, const char *name);

/* The value of query parameter `name`, decoded ('+' is a space) into the exchange's arena; NULL
 * when absent or out of memory. */
const char *http_exchange_query(struct http_exchange *x, const char *name);

/* --- A body in pieces (HTTP/2; for calls that answer while they are asked) ---
 * cfg.on_head is asked for each HTTP/2 request when its head is complete; it only looks at the
 * request. When it returns true, on_request is called at once, with an empty body, and the body
 * goes to the body handler as it comes. At most the stream's flow-control window is held while
 * there is no handler or the body is paused, so that a slow consumer holds its client back.
 * HTTP/1 never asks: its bodies come whole. */

#define HTTP2_STREAM_WINDOW (1024 * 1024)   /* a round trip of 10 ms at 100 MB/s */
#define HTTP2_CONN_WINDOW (4 * 1024 * 1024) /* some streams at once at that rate */

/* fn(ctx, x, bytes, n, end) gets the pieces in order; `end` comes exactly once, with the last piece
 * or with n = 0. bytes live for the call. fn may end x. What came before is handed over at the end
 * of the turn, never from within this call. fn NULL: pieces are held. Where the body came whole fn
 * is never called. */
void http_exchange_set_body_handler(struct http_exchange *x, http_body_fn fn, void *ctx);

/* While paused no piece is handed over and no credit returned; a call under way is the last. */
void http_exchange_body_pause(struct http_exchange *x, bool paused);

/* --- The answer --- */

/* Memory that lives until the exchange is ended. */
struct sl_arena *http_exchange_arena(struct http_exchange *x);

void http_exchange_set_user(struct http_exchange *x, void *user);
void *http_exchange_user(const struct http_exchange *x);

/* Called once when the client goes away before the answer's end; x must still be ended, and may be
 * in there. fn NULL takes it back. A client already gone is told at the end of the turn. */
void http_exchange_set_close_handler(struct http_exchange *x, http_exchange_fn fn, void *ctx);
bool http_exchange_is_closed(const struct http_exchange *x);

/* Adds a header to the answer, before respond or stream_begin. INVALID: not a token, or CR, LF or
 * NUL in the value, or one of Content-Length, Transfer-Encoding, Connection, Date, which are the
 * server's; LIMIT, NOMEM: the arena. */
SL_CHECK sl_status http_exchange_header_add(struct http_exchange *x, const char *name,
                                            const char *value);

/* Adds a field that leaves after the body, before http_respond or http_stream_end. HTTP/2 sends it
 * whatever the body; HTTP/1.1 with the last chunk of a stream; where there are no chunks
 * (http_respond over HTTP/1.1, HTTP/1.0) and after HEAD, 204 and 304 it is left out. Errors as
 * http_exchange_header_add; an answer with more than 64 of them is cut. */
SL_CHECK sl_status http_exchange_trailer_add(struct http_exchange *x, const char *name,
                                             const char *value);

/* The whole answer; copies body[0..n). content_type NULL: no such header. HEAD gets the head only.
 * Ends x whatever happens; without memory the connection is closed. */
void http_respond(struct http_exchange *x, int status, const char *content_type, const void *body,
                  size_t n);

/* The same; takes the buffer's memory rather than copy it where it can, and leaves it empty or as
 * it was. */
void http_respond_buf(struct http_exchange *x, int status, const char *content_type,
                      struct sl_buf *body);

/* Begins an answer of unknown length: chunked, or until the connection's end for HTTP/1.0.
 * CANCELLED: the client has gone; NOMEM. x must be ended in either case. */
SL_CHECK sl_status http_stream_begin(struct http_exchange *x, int status, const char *content_type);

/* Takes all n bytes or none. BUSY: the backlog has reached stream_backlog_max; on_drain comes once
 * half of it is sent. CANCELLED: the client has gone. NOMEM. */
SL_CHECK sl_status http_stream_write(struct http_exchange *x, const void *bytes, size_t n);

/* on_drain(ctx, x) is called at the end of a turn after a BUSY. NULL takes it back. */
void http_stream_set_drain_handler(struct http_exchange *x, http_exchange_fn fn, void *ctx);

/* Unsent bytes of the connection; HTTP/2: of the stream. */
size_t http_stream_backlog(const struct http_exchange *x);

void http_stream_end(struct http_exchange *x); /* ends x */

/* Ends x without the rest of an answer: the connection is cut (HTTP/2: the stream is reset), so
 * that a client never takes half an answer for a whole one. */
void http_exchange_abort(struct http_exchange *x);
