/* bus_nats.h: one connection to one NATS server, by libnats.
 *
 * Calls may wait: they are made on the threads of bus_link.c, its only user. libnats' own
 * reconnecting is not used: it would keep what is published meanwhile, as if delivered late were
 * better than lost, and its list of servers cannot be changed.
 *
 * Floor: grid.  Thread: any, one at a time, but for bus_nats_flush and bus_nats_shut.
 * Allocates: the connection; libnats allocates on its own.
 * Invariant: no handler is called after bus_nats_close has returned. Messages are handed over in
 * the order they came. */
#pragma once
#include "base/err.h"
#include <stddef.h>

#define BUS_NATS_WAITING_MAX 65536 /* messages that a handler is late with */

struct bus_nats;

/* Strings are borrowed during the call. */
struct bus_nats_identity {
    const char *self;            /* names the connection, for people */
    const char *ca, *cert, *key; /* as in struct bus_cfg, as are those below */
    const char *creds, *user, *password;
};

enum bus_nats_trouble {
    BUS_NATS_REFUSED,  /* a publication or subscription: no permission */
    BUS_NATS_OVERFLOW, /* a handler was too slow, and messages were dropped */
    BUS_NATS_ENDED     /* the server said why it ends the connection */
};

/* Called on threads of libnats'. */
struct bus_nats_handlers {
    void (*on_message)(void *ctx, const char *pattern, const char *subject, const void *bytes,
                       size_t n);
    void (*on_trouble)(void *ctx, enum bus_nats_trouble trouble, const char *text);
    void (*on_closed)(void *ctx); /* it is of no more use */
    void *ctx;
};

/* Connects, for 3 s at most; url as in bus_set_urls. UNAVAILABLE says why not; NOMEM. */
SL_CHECK sl_status bus_nats_open(const struct bus_nats_identity *identity, const char *url,
                                 const struct bus_nats_handlers *handlers, struct bus_nats **out,
                                 struct sl_err *err);
/* Ends it, and the waits of other threads with it. */
void bus_nats_shut(struct bus_nats *nats);
/* Frees it. NULL is fine. */
void bus_nats_close(struct bus_nats *nats);

/* *out is to be given to bus_nats_unsubscribe, before the connection is closed. IO, NOMEM. */
SL_CHECK sl_status bus_nats_subscribe(struct bus_nats *nats, const char *pattern, void **out);
void bus_nats_unsubscribe(void *subscription); /* NULL is fine */

/* LIMIT (longer than the server takes), NOMEM: this message is lost alone; IO: the connection is of
 * no more use. */
SL_CHECK sl_status bus_nats_publish(struct bus_nats *nats, const char *subject, const void *bytes,
                                    size_t n);
/* Waits until the server has taken all that was published before. TIMEOUT, IO. */
SL_CHECK sl_status bus_nats_flush(struct bus_nats *nats, int timeout_ms);

void bus_nats_end_thread(void); /* frees what libnats keeps for a thread that ends */
