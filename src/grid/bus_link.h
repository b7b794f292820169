/* bus_link.h: the bus's link to NATS servers: threads that connect, send and receive, so that the
 * loop never waits. bus.c is its only user.
 *
 *   loop                                 threads
 *   bus_link_send ------> queue -------> sender: connects, subscribes, publishes
 *   bus_link_take <------ arrivals <---- libnats' own
 *
 * Floor: grid.  Thread: bus_link_* belong to the loop's.  Allocates: the link, and what waits,
 * within the limits below.
 * Invariant: a link that is destroyed has no thread or callback left. */
#pragma once
#include "base/err.h"
#include "grid/bus.h"
#include "grid/bus_nats.h"
#include "grid/bus_parts.h"
#include <stdatomic.h>

#define BUS_WAITING_MAX BUS_NATS_WAITING_MAX      /* messages in each direction */
#define BUS_WAITING_BYTES_MAX ((size_t)160 << 20) /* two of the longest messages */
#define BUS_URL_SIZE 320                          /* a host name has up to 253 characters */

/* A message on its way out, shared by the loop, for this process's own subscribers, and the
 * sender. */
struct bus_message {
    atomic_int n_refs;
    struct bus_message *next; /* in the sender's queue */
    size_t n;
    char subject[BUS_SUBJECT_SIZE];
    uint8_t header[BUS_WHOLE_HEADER_BYTES]; /* what a short message is sent with */
    uint8_t bytes[];                        /* [n]; follows the header without a gap */
};
_Static_assert(offsetof(struct bus_message, bytes) ==
                   offsetof(struct bus_message, header) + BUS_WHOLE_HEADER_BYTES,
               "header and bytes are sent as one");
void bus_message_unref(struct bus_message *message);

/* A NATS message that came in. */
struct bus_arrival {
    struct bus_arrival *next;
    uint32_t topic; /* the id that its subscription was given */
    size_t n;
    char subject[BUS_SUBJECT_SIZE];
    uint8_t bytes[]; /* [n] */
};

struct bus_link;

/* Copies the strings of cfg that it needs. NOMEM, IO. */
SL_CHECK sl_status bus_link_create(const struct bus_cfg *cfg, struct bus_link **out,
                                   struct sl_err *err);
/* What is queued still leaves, within a second. NULL is fine. */
void bus_link_destroy(struct bus_link *link);

/* A descriptor that becomes readable when there is something to take. */
int bus_link_fd(const struct bus_link *link);

/* Everything that has arrived, oldest first, the caller's to sl_free one by one; and how often the
 * connection was made, and whether it exists. */
struct bus_arrival *bus_link_take(struct bus_link *link, uint64_t *n_connects, bool *connected);

/* The first server starts the sender. NOMEM, IO (no thread). `urls` are valid. */
SL_CHECK sl_status bus_link_set_urls(struct bus_link *link, const char *const *urls, int n_urls,
                                     struct sl_err *err);

/* Subscribes on this connection and those to come. NOMEM. */
SL_CHECK sl_status bus_link_subscribe(struct bus_link *link, uint32_t topic, const char *pattern);
void bus_link_unsubscribe(struct bus_link *link, uint32_t topic);

/* Takes a reference of its own. UNAVAILABLE: not connected; BUSY: too much waits. */
SL_CHECK sl_status bus_link_send(struct bus_link *link, struct bus_message *message);

/* From any thread. */
bool bus_link_connected(struct bus_link *link);
/* Sets what the link knows: all but n_local and n_broken. */
void bus_link_stats(struct bus_link *link, struct bus_stats *out);
