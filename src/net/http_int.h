/* http_int.h: what the files of the HTTP server share: http_server.c (life, the clock tick, the end
 * of a turn), http_listen.c (accepting), http_conn.c (bytes in and out, the connection's states),
 * http_exchange.c (a request and its answer), http_answer.c (status lines and fields).
 * Floor: net.  Thread: the loop's.
 * Invariants:
 * - A connection is freed only by the server's task at the end of a turn, so that any code may
 *   close it and then look at its state. Close handlers run only there too.
 * - A connection is in list_new exactly until the head of its first request is there; n_new counts
 *   them.
 * - A connection is in list_idle exactly while it waits for a request (HTTP/2: has no stream) and
 *   owes no output, else in list_busy; a closed one is in neither.
 * - conn->parser exists exactly while conn->in begins with part of a head. */
#pragma once
#include "base/buf.h"
#include "net/http_body.h"
#include "net/http_server.h"

#include <stdio.h>
#include <sys/types.h>

struct http2_conn;
struct http2_stream;

#define HTTP_READ_BYTES (64 * 1024)            /* one read: a TLS record is 16 KiB */
#define HTTP_OUT_BYTES_MAX (256 * 1024 * 1024) /* unsent answers of one connection */
#define HTTP_BODY_SMALL (256 * 1024)           /* most requests; the longest prompts are larger */
#define HTTP_ACCEPTS_PER_EVENT 64              /* then the others get their turn */
#define HTTP_REQUESTS_PER_TURN 32              /* pipelined on one connection */
#define HTTP_SPARE_BUFFERS 64                  /* connections that write in the same turn */
#define HTTP_SPARE_BYTES_MAX (64 * 1024)       /* larger ones go back to malloc */
#define HTTP_SPARE_EXCHANGES 256               /* a few HTTP/2 connections' worth; 5 KiB each */
#define HTTP_REJECT_BYTES_MAX 256              /* the longest message is under 60 */

/* Doubly linked, with a sentinel; removing needs no list. */
struct http_link {
    struct http_link *prev, *next;
};

static inline void http_link_init(struct http_link *link)
{
    link->prev = link->next = link;
}

static inline bool http_list_empty(const struct http_link *list)
{
    return list->next == list;
}

static inline void http_link_remove(struct http_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    http_link_init(link);
}

/* Moves link, which may be in another list, to the end. */
static inline void http_list_append(struct http_link *list, struct http_link *link)
{
    http_link_remove(link);
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

#define HTTP_OF(link_, type, member) ((type *)((char *)(link_)-offsetof(type, member)))

/*  HANDSHAKE (TLS only) --> IDLE <--------------------------+
 *                            | bytes                         | kept alive
 *                            v                               |
 *                    HEAD --------> BODY --------> ANSWER ---+
 *                     |  refused     |  refused      | Connection: close
 *                     +------+-------+---------------+
 *                            v
 *                         CLOSING (output leaves) --> LINGER (after a refusal) --> CLOSED
 * HANDSHAKE (ALPN "h2"), IDLE and HEAD (the client preface) --> STREAMS --> CLOSING: HTTP/2, whose
 * streams have states of their own.
 * Any state may go to CLOSED. A connection has an exchange in BODY and ANSWER. */
enum http_conn_state {
    HTTP_CONN_HANDSHAKE,
    HTTP_CONN_IDLE,
    HTTP_CONN_HEAD,
    HTTP_CONN_BODY,
    HTTP_CONN_ANSWER,
    HTTP_CONN_STREAMS,
    HTTP_CONN_CLOSING,
    HTTP_CONN_LINGER,
    HTTP_CONN_CLOSED,
    HTTP_CONN_STATE_COUNT,
};

struct http_conn {
    struct http_link link;     /* idle or busy */
    struct http_link new_link; /* in list_new until its first request, or its end */
    struct http_server *server;
    struct http_conn *next_dirty;
    struct loop_watch *watch;
    struct tls_session *tls; /* NULL: plain */
    int fd;
    enum http_conn_state state;
    bool dirty;          /* waits for the server's task */
    bool processing;     /* http_conn_process is on the stack */
    bool eof;            /* the client will send no more */
    bool idle;           /* in list_idle */
    bool paused;         /* not reading: enough pipelined bytes */
    bool write_blocked;  /* the socket took less than it was given */
    bool read_blocked;   /* TLS must write before it can read */
    bool keep_alive;     /* after the current answer */
    bool fresh;          /* no request yet: an HTTP/2 preface may come */
    bool linger;         /* read on after the last answer, lest a reset destroys it */
    int64_t deadline_ns; /* of the state; 0: none */
    int64_t stall_ns;    /* when unsent output counts as stalled; 0: none */
    int64_t begin_ns;    /* of the request */
    struct sl_buf in;    /* bytes not understood yet */
    struct sl_buf out;   /* from out_sent on, unsent */
    size_t out_sent;
    struct http_parser *parser;
    struct http_exchange *exchange; /* HTTP/1 */
    struct http2_conn *h2;          /* NULL: HTTP/1 */
    char peer[HTTP_PEER_TEXT_MAX];
};

struct http_added_header {
    struct http_added_header *next;
    const char *name, *value;
    size_t name_len, value_len;
};

/* What the HTTP versions do differently: how an answer becomes bytes. Called only while the client
 * is there. Errors: NOMEM, LIMIT. */
struct http_face {
    /* `own`: the buffer that the body stands in, whose memory may be taken; NULL: there is none. */
    sl_status (*respond)(struct http_exchange *x, int status, const char *content_type,
                         const void *body, size_t n, struct sl_buf *own);
    sl_status (*begin)(struct http_exchange *x, int status, const char *content_type);
    sl_status (*write)(struct http_exchange *x, const void *bytes, size_t n); /* n > 0 */
    sl_status (*finish)(struct http_exchange *x); /* the end of a stream */
    size_t (*backlog)(const struct http_exchange *x);
    void (*body_wanted)(struct http_exchange *x); /* its handler or its pause changed */

    /* The exchange has ended and been freed; cut_off: its answer is not whole. */
    void (*release)(struct http_conn *conn, struct http2_stream *stream, bool cut_off);
};
extern const struct http_face http1_face, http2_face;

struct http_exchange {
    struct http_link link; /* live, untold or told */
    struct http_server *server;
    struct http_conn *conn;      /* NULL once the client has gone */
    struct http2_stream *stream; /* NULL: HTTP/1, or the client has gone */
    const struct http_face *face;
    struct http_request request;
    struct sl_arena arena;
    struct sl_buf body;
    struct http_body framing;
    int64_t body_deadline_ns;
    size_t n_body_timed; /* bytes of the body that its deadline allows for */
    struct http_added_header *added, **added_end;
    struct http_added_header *trailers, **trailers_end;
    http_exchange_fn on_close, on_drain;
    http_body_fn on_body;
    void *close_ctx, *drain_ctx, *body_ctx, *user;
    bool given;         /* on_request has it */
    bool streamed_body; /* on_head said so */
    bool body_paused;
    bool streaming;    /* stream_begin was called */
    bool chunked;      /* the stream's framing */
    bool bodiless;     /* HEAD, 204, 304: the answer ends with its head */
    bool drain_wanted; /* a write was BUSY */
    bool told;         /* on_close was called */
};

struct http_listener {
    struct http_server *server;
    struct loop_watch *watch;
    struct tls_server *tls;
    int fd;
};

struct http_server {
    struct loop *loop;
    struct http_server_cfg cfg;
    struct loop_timer *tick;
    int64_t tick_ns;
    bool ticking;
    struct loop_task task;
    struct http_listener *listeners[HTTP_LISTENERS_MAX];
    size_t n_listeners;
    bool accept_paused, held; /* held: until http_server_hold says otherwise */
    bool draining;
    http_drained_fn on_drained;
    void *drained_ctx;
    struct http_link list_idle, list_busy; /* connections; the idle one longest first */
    struct http_link list_new;             /* of these, by new_link; the oldest first */
    size_t n_new;
    struct http_link list_live, list_untold, list_told; /* exchanges; the last two without client */
    struct http_conn *dirty_first, *dirty_last;
    struct http_server_stats stats;
    struct sl_buf spares[HTTP_SPARE_BUFFERS];
    size_t n_spares;
    struct http_exchange *spare_exchanges[HTTP_SPARE_EXCHANGES];
    size_t n_spare_exchanges;
    struct http2_stream *spare_streams[HTTP_SPARE_EXCHANGES];
    size_t n_spare_streams;
    int64_t date_s;            /* the second that date_line says */
    char date_line[48];        /* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" */
    struct http_parser parser; /* for heads that come in one piece */
    char read_bytes[HTTP_READ_BYTES];
};

/* --- http_conn.c --- */

/* Takes over fd (closed on failure). NOMEM, IO. */
SL_CHECK sl_status http_conn_create(struct http_server *server, int fd, struct tls_server *tls,
                                    const char *peer);
void http_conn_close(struct http_conn *conn); /* at once; freed by the server's task */
void http_conn_free(struct http_conn *conn);  /* a closed one */
/* As http_conn_close in the middle of an exchange, but its socket and session live on: they are
 * the caller's, who has looked that nothing waits to be sent or understood. */
void http_conn_detach(struct http_conn *conn);
void http_conn_reset(struct http_conn *conn); /* close with RST */

/* Has the server's task look at it at the end of the turn. */
void http_conn_mark(struct http_conn *conn);

/* The task's work: pipelined requests, output, what follows from its being sent. */
void http_conn_service(struct http_conn *conn);

/* Deadlines that have passed; for a connection in list_busy. */
void http_conn_tick(struct http_conn *conn, int64_t now_ns);

/* The exchange is over and its answer is in `out`. */
void http_conn_answered(struct http_conn *conn);
size_t http_conn_unsent(const struct http_conn *conn);
size_t http_conn_owed(const struct http_conn *conn); /* and what waits in streams */

void http_conn_proved(struct http_conn *conn); /* a request has come: out of list_new */

void http_conn_wake(struct http_conn *conn); /* out of list_idle: HTTP/2 has a stream */

/* The last output is in `out`; afterwards it is closed. For HTTP/2. */
void http_conn_finish(struct http_conn *conn);

/* Closes one in list_idle: HTTP/2 says GOAWAY first. */
void http_conn_retire(struct http_conn *conn);

/* Adds to `out`. NOMEM, LIMIT; what was there stays. http_conn_gather is for output that is made
 * while the connection is serviced. */
SL_CHECK sl_status http_conn_add(struct http_conn *conn, const void *bytes, size_t n);
SL_CHECK sl_status http_conn_gather(struct http_conn *conn, const void *bytes, size_t n);

/* --- http_exchange.c --- */

/* An exchange without a request yet. NULL without memory. */
struct http_exchange *http_exchange_create(struct http_conn *conn, const struct http_face *face);

/* Fills in the request from the head in bytes, which is copied. False without memory. */
bool http_exchange_set_head(struct http_exchange *x, const struct http_parser *head,
                            const char *bytes);

/* Path and query of target, which must live as long as x and be valid. False without memory. */
bool http_exchange_set_target(struct http_exchange *x, const char *target);
void http_exchange_free(struct http_exchange *x);

/* Takes what of in[0..n) belongs to the body; returns how much. framing.state tells the rest. */
size_t http_exchange_feed(struct http_exchange *x, const char *in, size_t n);

/* Adds to the body, within the budgets of all bodies. */
enum http_reject http_exchange_add_body(struct http_exchange *x, const void *data, size_t n);

void http_exchange_give(struct http_exchange *x); /* to on_request, which may end it */

/* The client has gone. Frees x when its owner does not know it yet. */
void http_exchange_orphan(struct http_exchange *x);
void http_exchange_tell_closed(struct http_exchange *x); /* one in list_untold */

/* --- http_answer.c --- */

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", of this second. */
const char *http_answer_date_line(struct http_server *server);

/* A refusal's body in OpenAI's shape; its length. */
size_t http_answer_reject_body(enum http_reject reject, char out[HTTP_REJECT_BYTES_MAX]);

/* All of a refusal over HTTP/1. NOMEM, LIMIT. */
SL_CHECK sl_status http_answer_reject(struct http_conn *conn, enum http_reject reject);

/* --- http2_conn.c --- */

#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" /* RFC 9113 3.4 */
#define HTTP2_PREFACE_LEN 24

SL_CHECK sl_status http2_conn_create(struct http_conn *conn); /* sets conn->h2. NOMEM */
void http2_conn_free(struct http2_conn *h2);                  /* NULL is fine */
void http2_conn_feed(struct http_conn *conn, const char *bytes, size_t n);

/* Moves output of nghttp2 into `out`, up to a system call's worth. True: once that has left
 * there may be more. */
bool http2_conn_pump(struct http_conn *conn);
void http2_conn_attend(struct http_conn *conn); /* what owners wait for */

/* The client sends no more: false when nobody is left to whom anything is owed. */
bool http2_conn_end_of_input(struct http_conn *conn);
bool http2_conn_is_idle(const struct http2_conn *h2);
bool http2_conn_is_over(const struct http2_conn *h2); /* GOAWAY, and no stream is left */
void http2_conn_tick(struct http_conn *conn, int64_t now_ns);
size_t http2_conn_queued(const struct http2_conn *h2);

/* Takes no new streams after a notice, ends with the last stream. */
void http2_conn_drain(struct http_conn *conn);
void http2_conn_goodbye(struct http_conn *conn); /* GOAWAY, and the end of all its streams */
void http2_conn_orphan(struct http2_conn *h2);   /* no exchange has a client any more */
void http2_spare_streams_free(struct http_server *server);

/* --- http_listen.c --- */

void http_listeners_close(struct http_server *server);
void http_listeners_resume(struct http_server *server); /* after a pause, if there is room */

/* --- http_server.c --- */

void http_server_tick(struct http_server *server); /* starts the clock tick if anything needs it */

void http_server_conn_closed(struct http_server *server); /* maybe room for another */
