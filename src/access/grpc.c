#include "access/grpc.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/loop.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CONTENT_GRPC "application/grpc"
#define STATUS_MESSAGE_MAX 4096 /* clients take 8 KiB of trailers, and percents triple */

/* The carrier of a call. */
struct grpc_call {
    struct call *call;
    struct loop_timer *deadline; /* NULL: it has none */
    int64_t timeout_ns;
    /* in */
    struct grpc_reader reader;
    grpc_message_fn on_unary;  /* NULL: not unary */
    struct grpc_stream stream; /* of a stream */
    bool is_stream;
    uint8_t *kept;          /* a unary message that came in one piece */
    const uint8_t *message; /* of a unary call, once it is here */
    size_t n_message;
    struct sl_buf held; /* what came while the stream was paused */
    size_t n_counted;   /* in gateway->n_grpc_in_bytes */
    bool client_done;   /* no more will come */
    bool end_told;      /* on_end was called */
    bool paused;        /* by the service */
    bool feeding;       /* messages are being handed over: `feed` frees it then */
    /* out */
    struct sl_buf out; /* what the HTTP server did not take */
    bool begun;        /* the head was sent */
    bool ending;
    int end_code;
    char *end_message;
    struct grpc_call *next, *previous;
};

bool grpc_is_request(const struct http_request *request)
{
    const char *type = http_request_header(request, "content-type");
    size_t n = strlen(CONTENT_GRPC);
    if (!type || strncasecmp(type, CONTENT_GRPC, n) != 0) return false;
    if (!strncasecmp(type + n, "+proto", 6)) n += 6;
    return !type[n] || type[n] == ';' || type[n] == ' ';
}

/* --- life --- */

static void free_carrier(void *carrier)
{
    struct grpc_call *g = carrier;
    struct gateway *gateway = g->call->gateway;
    if (g->previous)
        g->previous->next = g->next;
    else
        gateway->grpc_calls = g->next;
    if (g->next) g->next->previous = g->previous;
    gateway->n_grpc_in_bytes -= g->n_counted;
    loop_timer_destroy(g->deadline);
    grpc_reader_done(&g->reader);
    sl_buf_done(&g->held);
    sl_buf_done(&g->out);
    sl_free(g->kept);
    sl_free(g->end_message);
    g->call = NULL;
    if (!g->feeding) sl_free(g);
}

static void on_deadline(void *ctx)
{
    struct grpc_call *g = ctx;
    struct call *call = g->call;
    char message[96];
    if (call->saving || g->ending) return; /* the answer is on its way */
    if (call->on_gone) call->on_gone(call);
    snprintf(message, sizeof message, "the deadline of %.3f ms has passed",
             (double)g->timeout_ns / 1e6);
    call_fail(call, SL_TIMEOUT, NULL, NULL, message);
}

/* False: the call has failed. */
static bool set_deadline(struct grpc_call *g)
{
    struct call *call = g->call;
    const char *text = http_request_header(call->request, "grpc-timeout");
    if (!text) return true;
    if (!grpc_timeout_parse(text, &g->timeout_ns)) {
        call_fail(call, SL_INVALID, NULL, NULL, "grpc-timeout: at most 8 digits and one of HMSmun");
        return false;
    }
    if (loop_timer_create(call->gateway->cfg.loop, on_deadline, g, &g->deadline) != SL_OK) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return false;
    }
    loop_timer_set(g->deadline, g->timeout_ns);
    return true;
}

/* A client that speaks no gRPC must not take an answer 200 for a good one. */
static void refuse(struct call *call, int http_status, const char *text)
{
    if (http_status == 415) (void)!http_exchange_header_add(call->x, "Accept", CONTENT_GRPC);
    call_respond(call, http_status, "text/plain", text, strlen(text));
}

static void fail(struct call *call)
{
    grpc_end(call, call->grpc_status, call->body_out.data);
}

bool grpc_open(struct call *call)
{
    struct gateway *gateway = call->gateway;
    if (!grpc_is_request(call->request)) {
        refuse(call, 415, "this path takes gRPC: Content-Type: " CONTENT_GRPC "\n");
        return false;
    }
    if (!call->request->version_2) {
        refuse(call, 505, "gRPC needs HTTP/2: with prior knowledge, or by ALPN \"h2\" with TLS\n");
        return false;
    }
    struct grpc_call *g = sl_calloc(1, sizeof *g);
    if (!g) {
        refuse(call, 503, "no memory for this request\n");
        return false;
    }
    size_t max = gateway->cfg.body_bytes_max ? gateway->cfg.body_bytes_max : GRPC_MESSAGE_MAX;
    g->call = call;
    grpc_reader_init(&g->reader, max);
    sl_buf_init(&g->held, max + GRPC_PREFIX_BYTES);
    sl_buf_init(&g->out, GRPC_OUT_MAX + GRPC_OUT_SLACK);
    g->next = gateway->grpc_calls;
    if (g->next) g->next->previous = g;
    gateway->grpc_calls = g;
    call->carrier = g;
    call->free_carrier = free_carrier;
    call->on_fail = fail;
    return set_deadline(g);
}

/* --- in --- */

/* False: the call has failed. */
static bool count_in(struct grpc_call *g)
{
    size_t *all = &g->call->gateway->n_grpc_in_bytes;
    size_t n = g->reader.in.len + g->held.len + (g->kept ? g->n_message : 0);
    if (g->message && !g->kept) n += g->n_message; /* the reader has let go of it, but keeps it */
    *all = *all - g->n_counted + n;
    g->n_counted = n;
    if (*all <= GRPC_IN_ALL_MAX) return true;
    call_fail(g->call, SL_BUSY, NULL, NULL, "too many messages are on their way in; try again");
    return false;
}

/* False: the call has failed. */
static bool keep_unary(struct grpc_call *g, const uint8_t *message, size_t n, bool in_piece)
{
    if (g->message) {
        call_fail(g->call, SL_INVALID, NULL, NULL, "one message was expected, and more came");
        return false;
    }
    if (in_piece) g->kept = (uint8_t *)sl_memdup(message, n);
    g->message = in_piece ? g->kept : message;
    g->n_message = n;
    if (g->message) return true;
    call_fail(g->call, SL_NOMEM, NULL, NULL, "no memory for the message");
    return false;
}

/* Hands over one message. False: there is none, or the call has failed. */
static bool feed_one(struct grpc_call *g, const uint8_t **bytes, size_t *n)
{
    struct sl_err err = SL_ERR_INIT;
    const uint8_t *message, *piece = *bytes;
    size_t n_message, n_piece = *n;
    if (grpc_reader_next(&g->reader, bytes, n, &message, &n_message, &err) != SL_OK) {
        if (err.status == SL_UNSUPPORTED)
            (void)!http_exchange_header_add(g->call->x, "grpc-accept-encoding", "identity");
        call_fail_err(g->call, &err, NULL);
        return false;
    }
    if (!message) return false;
    if (g->on_unary)
        return keep_unary(g, message, n_message, message > piece && message <= piece + n_piece);
    g->stream.on_message(g->call, message, n_message);
    return true;
}

/* Moves *bytes on past what was handed over. False: the call has ended, and g is gone. */
static bool feed(struct grpc_call *g, const uint8_t **bytes, size_t *n)
{
    bool more = true;
    g->feeding = true;
    while (more && g->call && !g->paused && !g->ending) more = feed_one(g, bytes, n);
    g->feeding = false;
    if (g->call) return true;
    sl_free(g);
    return false;
}

/* The end of what the client sends, once all of it was handed over. It may end the call. */
static void feed_end(struct grpc_call *g)
{
    struct call *call = g->call;
    if (g->end_told || g->ending) return;
    g->end_told = true;
    if (grpc_reader_is_amid(&g->reader))
        call_fail(call, SL_INVALID, NULL, NULL, "the stream ended within a message");
    else if (g->on_unary && !g->message)
        call_fail(call, SL_INVALID, NULL, NULL, "no message came");
    else if (g->on_unary)
        g->on_unary(call, g->message, g->n_message);
    else if (g->stream.on_end)
        g->stream.on_end(call);
    else
        grpc_end(call, 0, NULL);
}

/* Hands over what was held while the stream was paused, and then lets more come. */
static void feed_held(struct grpc_call *g)
{
    const uint8_t *bytes = (const uint8_t *)g->held.data;
    size_t n = g->held.len;
    if (!feed(g, &bytes, &n) || g->ending) return;
    sl_buf_consume(&g->held, g->held.len - n);
    if (!count_in(g) || g->paused) return;
    http_exchange_body_pause(g->call->x, false);
    if (g->client_done) feed_end(g);
}

static void on_body(void *ctx, struct http_exchange *x, const void *bytes, size_t n, bool end)
{
    struct grpc_call *g = ctx;
    const uint8_t *at = bytes;
    (void)x;
    if (g->ending) return;
    if (end) g->client_done = true;
    if (!g->paused && !g->held.len && !feed(g, &at, &n)) return;
    if (g->ending) return;
    if (n && sl_buf_add(&g->held, at, n) != SL_OK) {
        call_fail(g->call, SL_NOMEM, NULL, NULL, "no memory for the messages");
        return;
    }
    if (count_in(g) && end && !g->held.len && !g->paused) feed_end(g);
}

void grpc_unary(struct call *call, grpc_message_fn fn)
{
    struct grpc_call *g = call->carrier;
    g->on_unary = fn;
    http_exchange_set_body_handler(call->x, on_body, g);
}

void grpc_stream(struct call *call, const struct grpc_stream *stream)
{
    struct grpc_call *g = call->carrier;
    g->stream = *stream;
    g->is_stream = true;
    http_exchange_set_body_handler(call->x, on_body, g);
}

void grpc_pause(struct call *call, bool paused)
{
    struct grpc_call *g = call->carrier;
    if (g->ending || g->paused == paused) return;
    g->paused = paused;
    if (paused || g->feeding)
        http_exchange_body_pause(call->x, paused);
    else
        feed_held(g);
}

bool grpc_is_all_in(const struct call *call)
{
    const struct grpc_call *g = call->carrier;
    return g->end_told;
}

/* --- out --- */

static void add_status(struct grpc_call *g, bool in_head)
{
    char code[16], text[STATUS_MESSAGE_MAX];
    sl_status (*add)(struct http_exchange * x, const char *name, const char *value) =
        in_head ? http_exchange_header_add : http_exchange_trailer_add;
    snprintf(code, sizeof code, "%d", g->end_code);
    (void)!add(g->call->x, "grpc-status", code);
    if (g->end_message)
        (void)!add(g->call->x, "grpc-message",
                   grpc_percent_encode(g->end_message, text, sizeof text));
}

/* All that was sent is with the HTTP server. */
static void finish(struct grpc_call *g)
{
    struct call *call = g->call;
    add_status(g, !g->begun);
    if (g->begun)
        http_stream_end(call->x);
    else
        http_respond(call->x, 200, CONTENT_GRPC, "", 0);
    call_free(call);
}

void grpc_end(struct call *call, int code, const char *message)
{
    struct grpc_call *g = call->carrier;
    if (g->ending) return;
    g->ending = true;
    g->end_code = code;
    g->end_message = message && *message ? sl_strdup(message) : NULL;
    if (!g->out.len) finish(g);
}

void grpc_respond(struct call *call, struct sl_buf *frame)
{
    (void)!http_exchange_trailer_add(call->x, "grpc-status", "0");
    call_respond_buf(call, 200, CONTENT_GRPC, frame);
}

/* The HTTP server takes more. */
static void on_drain(void *ctx, struct http_exchange *x)
{
    struct grpc_call *g = ctx;
    if (!g->out.len || http_stream_write(x, g->out.data, g->out.len) == SL_BUSY) return;
    sl_buf_done(&g->out);
    if (g->ending)
        finish(g);
    else if (g->stream.on_room)
        g->stream.on_room(g->call);
}

sl_status grpc_send(struct call *call, const void *frame, size_t n)
{
    struct grpc_call *g = call->carrier;
    struct http_exchange *x = call->x;
    if (!g->begun) {
        if (http_stream_begin(x, 200, CONTENT_GRPC) != SL_OK) return SL_OK; /* it has gone */
        g->begun = true;
        http_stream_set_drain_handler(x, on_drain, g);
    }
    sl_status status = g->out.len ? SL_BUSY : http_stream_write(x, frame, n);
    if (status == SL_BUSY && n > GRPC_SMALL_MAX && g->out.len + n > GRPC_OUT_MAX) return SL_LIMIT;
    if (status == SL_BUSY) return sl_buf_add(&g->out, frame, n);
    return status == SL_CANCELLED ? SL_OK : status;
}

bool grpc_is_full(const struct call *call)
{
    const struct grpc_call *g = call->carrier;
    return g->out.len > 0;
}

void grpc_drain(struct gateway *gateway)
{
    struct grpc_call *next;
    gateway->draining = true;
    for (struct grpc_call *g = gateway->grpc_calls; g; g = next) {
        next = g->next;
        if (!g->is_stream || g->ending) continue;
        if (g->stream.on_drain)
            g->stream.on_drain(g->call);
        else
            grpc_end(g->call, GRPC_UNAVAILABLE, "the server is going down");
    }
}
