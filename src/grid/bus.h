/* bus.h: messages between the members of a grid: a subject and opaque bytes, delivered at most once
 * to whoever subscribes. Inside the process always; to other members through NATS, when servers
 * are given. docs/bus.md has the subjects and what is lost when.
 *
 * Subjects are tokens joined by dots; a subscription's may be `*` (any one token) and, at the end,
 * `>` (one or more). Subjects of four tokens are addressed, `sl.KIND.TO.FROM`: one whose TO is this
 * member does not leave the process.
 *
 * Floor: grid.  Thread: the loop's; threads of the bus's own talk to NATS and hand over.
 * Allocates: the bus, subscriptions, and messages on their way within the limits below.
 * Invariant: what one sender publishes on one subject while its connection lasts arrives in that
 * order, with gaps where a limit was hit; no callback comes from within bus_publish or
 * bus_subscribe. A callback may unsubscribe anything, but not destroy the bus. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;
struct bus_subscription;
struct loop;

#define BUS_MESSAGE_BYTES_MAX ((size_t)72 << 20) /* a request with 64 MiB of images as base64 */
#define BUS_PART_BYTES ((size_t)256 << 10)       /* longer ones travel in parts: NATS takes 1 MiB */
#define BUS_SUBJECT_SIZE 192                     /* with the NUL */
#define BUS_SUBSCRIPTIONS_MAX 256                /* a member has about six */
#define BUS_URLS_MAX 64                          /* gateways that a member tries */

/* bytes has n, valid during the call only; aligned to nothing. */
typedef void (*bus_message_fn)(void *ctx, const char *subject, const void *bytes, size_t n);

/* Strings are copied. */
struct bus_cfg {
    struct loop *loop;           /* borrowed, outlives the bus */
    const char *self;            /* this member's id */
    const char *const *urls;     /* see bus_set_urls */
    int n_urls;                  /* 0: in process only, until bus_set_urls */
    bool in_order;               /* try them as listed; or else from a random one on */
    const char *ca, *cert, *key; /* PEM files; ca NULL: the system's, cert NULL: none is shown */
    const char *creds;           /* NATS credentials file, or NULL */
    const char *user, *password; /* or NULL */
    /* The connection to NATS came or went; from the loop, first after bus_create has returned. A
     * change from true to true does not exist: messages may have been lost at each true. NULL is
     * fine. */
    void (*on_state)(void *ctx, bool connected);
    /* False: a message from the server on this subject is dropped, unread. A server that others run
     * may not know who is a member. NULL: none is. */
    bool (*hears)(void *ctx, const char *subject);
    void *ctx;
};

struct bus_stats {
    bool connected;
    char url[320];               /* of the server it is, or was last, connected to; "" */
    char error[512];             /* why the last attempt failed or the connection ended; "" */
    uint64_t n_connects;         /* since bus_create */
    uint64_t n_sent, bytes_sent; /* messages handed to NATS */
    uint64_t n_received, bytes_received; /* messages from NATS, whole */
    uint64_t n_local;                    /* deliveries within the process */
    uint64_t n_unsent;   /* publications that stayed here: no connection, or a full queue */
    uint64_t n_overflow; /* received but dropped, parts too: the loop was too slow */
    uint64_t n_unheard;  /* dropped because cfg.hears said so */
    uint64_t n_broken;   /* messages lost because parts are missing, or that make no sense */
    uint64_t n_refused;  /* the server's refusals: no permission */
};

/* Connecting goes on in the background, for ever. INVALID (more than BUS_URLS_MAX, a URL too
 * long), NOMEM, IO (no thread, no descriptor). */
SL_CHECK sl_status bus_create(const struct bus_cfg *cfg, struct bus **out, struct sl_err *err);
/* Waits for the bus's threads, which may take the 3 s of one attempt to connect. Subscriptions that
 * are left end with it. NULL is fine. */
void bus_destroy(struct bus *bus);

/* INVALID (not a subject), LIMIT, NOMEM. */
SL_CHECK sl_status bus_subscribe(struct bus *bus, const char *subject, bus_message_fn fn, void *ctx,
                                 struct bus_subscription **out, struct sl_err *err);
/* No call to its fn comes after this. NULL is fine. */
void bus_unsubscribe(struct bus_subscription *subscription);

/* Copies n bytes. Subscribers in this process get them at the end of the loop's turn, in the order
 * published. UNAVAILABLE: no connection, only this process gets it; BUSY: too much waits to be
 * sent or delivered, nobody gets it; LIMIT (longer than BUS_MESSAGE_BYTES_MAX), INVALID (not a
 * subject, or with a wildcard), NOMEM. A message that is for this process alone never fails with
 * UNAVAILABLE. */
SL_CHECK sl_status bus_publish(struct bus *bus, const char *subject, const void *bytes, size_t n,
                               struct sl_err *err);

/* Does what is published reach other processes now? */
bool bus_connected(const struct bus *bus);
/* Replaces the servers to try; a connection that exists stays. A URL is nats://HOST:PORT or
 * tls://HOST:PORT, and may end in #ID, the id of the gateway there: then the server's certificate
 * must be that gateway's, whatever address it was reached at; without, it must be for HOST.
 * INVALID, NOMEM: as before. */
SL_CHECK sl_status bus_set_urls(struct bus *bus, const char *const *urls, int n_urls,
                                struct sl_err *err);
void bus_stats(const struct bus *bus, struct bus_stats *out);
