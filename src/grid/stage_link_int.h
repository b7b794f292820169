/* stage_link_int.h: the parts of stage links, for stage_*.c only.
 *   stage_link.c    opening, accepting, frames in and out, time, the end
 *   stage_relay.c   a link over the bus: envelopes and their numbers
 * Floor: grid.  Thread: the loop's. */
#pragma once
#include "base/buf.h"
#include "grid/stage_link.h"
#include "net/frame.h"
#include "net/loop.h"

struct bus_subscription;
struct stream;
struct tls_client;

#define STAGE_DATA_HEAD_BYTES 8 /* i32 to, i32 from */

/* CONNECTING --direct, or nothing left but the bus--> GREETING --WELCOME--> OPEN --> ENDED: here
 * opened. AWAITING --HELLO--> OPEN --> ENDED: opened elsewhere. All others may end too. */
enum stage_link_state {
    STAGE_LINK_CONNECTING,
    STAGE_LINK_GREETING,
    STAGE_LINK_AWAITING,
    STAGE_LINK_OPEN,
    STAGE_LINK_ENDED
};

struct stage_link {
    struct stage_links *links;
    struct stage_link *next, *previous;
    char peer[GRID_ID_SIZE];
    struct stage_hello hello;
    enum stage_link_state state;
    enum stage_transport transport;
    bool opened_here;
    bool owned; /* somebody has it and is told its end; else it is ours to free */
    struct stage_link_callbacks callbacks;
    void *ctx;
    bool *gone; /* set when it is freed within a callback */
    struct sl_err why;
    int64_t heard_ns;
    /* direct */
    struct stream *stream;
    struct tls_client *tls; /* of one opened here */
    struct frame_reader reader;
    char addresses[STAGE_ADDRESSES_MAX][GRID_ADDRESS_SIZE]; /* to be tried */
    size_t n_addresses, next_address;
    /* relayed */
    uint64_t number; /* the opener's name for it */
    uint64_t seq_out, seq_in;
    /* measured */
    double rtt_s;
    uint64_t n_sent, n_received, bytes_sent, bytes_received;
};

struct stage_links {
    struct stage_links_cfg cfg;
    char self[GRID_ID_SIZE];
    struct bus_subscription *subscription;
    struct loop_timer *timer;
    struct loop_task task; /* tells ends */
    struct stage_link *first;
    size_t n_links;
    int64_t ticked_ns;
    uint64_t last_number;
    struct stage_links_stats stats; /* what is ever */
    struct sl_buf scratch;          /* an envelope on its way out */
};

/* --- stage_link.c --- */

/* A link to or from a member, in no state yet. LIMIT, NOMEM. */
SL_CHECK sl_status stage_link_create(struct stage_links *links, const char *peer,
                                     struct stage_link **out, struct sl_err *err);
/* The owner is told at the end of the turn; without one it is freed then. */
void stage_link_end(struct stage_link *link, sl_status status, const char *fmt, ...)
    SL_PRINTF(3, 4);
/* A frame has come. False: the link was freed meanwhile. */
bool stage_link_take(struct stage_link *link, uint8_t type, const void *payload, size_t n);

/* --- stage_relay.c --- */

/* Hears what others relay to this member. */
SL_CHECK sl_status stage_relay_start(struct stage_links *links, struct sl_err *err);
void stage_relay_stop(struct stage_links *links);
/* A frame in two pieces, head and bytes. As bus_publish. */
SL_CHECK sl_status stage_relay_send(struct stage_link *link, enum stage_frame type,
                                    const void *head, size_t n_head, const void *bytes, size_t n);
