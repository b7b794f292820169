/* stream.h: a TLS connection that carries bytes both ways for as long as both sides like, on the
 * loop: opened by connecting to a port that speaks HTTP and upgrading there (RFC 9110 section 7.8),
 * or taken over from an HTTP server that was asked to (http_exchange_upgrade).
 *
 *   connecting -> TLS handshake -> GET PATH, Upgrade: PROTOCOL -> 101 -> open -> ended
 *
 * Floor: net.  Thread: the loop's, for every call and callback.  Allocates: the stream; a buffer
 * while bytes wait to be sent, up to the bound given.
 * Invariants: nothing is sent or received before both certificates were checked: the one who
 * connects knows whom it expects, the one who answers has a server that asks for certificates.
 * on_end comes at most once, is the last callback, and never comes from within stream_write. All
 * output of a turn of the loop leaves in as few system calls as TLS allows, without Nagle's delay
 * (TCP_NODELAY). */
#pragma once
#include "base/err.h"
#include "net/pki.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_exchange;
struct loop;
struct stream;
struct tls_client;
struct tls_session;

/* What a socket's buffers and a TLS record leave: one read. */
#define STREAM_READ_BYTES (64u << 10)
/* An HTTP answer to an upgrade is some 200 bytes; one that is longer is no 101. */
#define STREAM_ANSWER_BYTES_MAX (8u << 10)

struct stream_callbacks {
    void (*on_open)(void *ctx); /* of one that connects: the other side agreed. NULL is fine */
    /* bytes are valid during the call. stream_destroy is allowed, as in all callbacks. */
    void (*on_bytes)(void *ctx, const void *bytes, size_t n);
    /* It has failed, could not be opened, or the peer closed it; why says which. The stream is
     * still to be destroyed. */
    void (*on_end)(void *ctx, const struct sl_err *why);
};

struct stream_connect {
    const char *address;     /* "10.0.0.7:4230", "[fd00::7]:4230", "name:4230" */
    struct tls_client *tls;  /* as whom, and whose grid; borrowed while the stream lives */
    const char *peer_id;     /* the member who must answer */
    const char *path;        /* "/grid/v1/stage" */
    const char *protocol;    /* of the Upgrade field: a token */
    int64_t timeout_ns;      /* until it is open */
    size_t unsent_bytes_max; /* of what waits to be sent */
};

/* Strings are copied. on_open or on_end follows, never from within. INVALID (the address is not
 * one), NOMEM, UNAVAILABLE (no thread for a name). */
SL_CHECK sl_status stream_connect(struct loop *loop, const struct stream_connect *cfg,
                                  const struct stream_callbacks *callbacks, void *ctx,
                                  struct stream **out, struct sl_err *err);

/* A connection that exists already. */
struct stream_adopt {
    int fd;                  /* connected, non-blocking */
    struct tls_session *tls; /* its handshake is done */
    const char *address;     /* the peer's, for people */
    const char *greeting;    /* what is sent first; "": nothing */
    size_t unsent_bytes_max;
};

/* NOMEM, IO: socket and session stay the caller's. Reads nothing before stream_listen. */
SL_CHECK sl_status stream_adopt(struct loop *loop, const struct stream_adopt *what,
                                struct stream **out);
void stream_listen(struct stream *stream, const struct stream_callbacks *callbacks, void *ctx);

/* Agrees to the upgrade that x asks for and takes its connection out of the server; x has ended
 * then. What the client sent before it got the 101 is lost. UNSUPPORTED: x does not ask for this
 * protocol, or is HTTP/2; INVALID: bytes follow the request already; NOMEM, IO: then x is still to
 * be answered. Callbacks may come from the next turn on; ended by stream_destroy alone. */
SL_CHECK sl_status http_exchange_upgrade(struct http_exchange *x, const char *protocol,
                                         size_t unsent_bytes_max, struct stream **out,
                                         struct sl_err *err);

/* NULL is fine. What was not sent yet is tried once more and then dropped. No callback comes. */
void stream_destroy(struct stream *stream);

/* Takes all n bytes or none; they leave at the end of the turn. LIMIT: unsent_bytes_max would be
 * passed; NOMEM. Not before on_open; after on_end it does nothing. */
SL_CHECK sl_status stream_write(struct stream *stream, const void *bytes, size_t n);
size_t stream_unsent(const struct stream *stream);

/* Who is on the other side, once it is open; lives as long as the stream. */
const struct pki_peer *stream_peer(const struct stream *stream);
/* Its address, "10.0.0.7:41234". */
const char *stream_address(const struct stream *stream);
