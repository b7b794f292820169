/* stage_link.h: a link between two members that carries the messages of one chain of stages
 * (docs/split.md): a TLS connection of its own through the grid port of the one it was opened to,
 * or, where no such connection can be made, messages over the bus.
 *
 *   stage_link_open -> connecting to each address in turn -> direct --+
 *                            | none answers                           +--> open -> ended
 *                            +-> HELLO over the bus, answered ---------+
 *
 * On a connection, frames of net/frame.h: the type is enum stage_frame's, the payload its message
 * (stage_wire.h), but for DATA: who it is for and from, then the bytes as they are. Over the bus,
 * on sl.stage.<to>.<from>, the same frames in envelopes:
 *
 *   0         1        2          10         18     19
 *   +---------+--------+----------+----------+------+---------+
 *   | version | side   | link     | sequence | type | payload |   numbers: little endian
 *   +---------+--------+----------+----------+------+---------+
 *
 * Floor: grid.  Thread: the loop's.  Allocates: a link, with what waits to be sent and the frame
 * that is arriving, STAGE_UNSENT_BYTES_MAX and STAGE_FRAME_BYTES_MAX.
 * Invariants: both sides' certificates were checked, and who answers has looked the opener up among
 * the members; frames arrive whole, in order, once, or the link ends: a gap in the sequence, a peer
 * silent for STAGE_SILENCE_NS, or one that does not read STAGE_UNSENT_BYTES_MAX, ends it. */
#pragma once
#include "base/err.h"
#include "grid/grid_msg.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;
struct grid_port;
struct loop;
struct registry;
struct stage_link;
struct stage_links;

#define STAGE_LINKS_MAX 64    /* of a member: a model is in memory behind every two or three */
#define STAGE_CHAIN_SIZE 33   /* 128 random bits in hex, and a NUL */
#define STAGE_ADDRESSES_MAX 4 /* of a member, that are tried one after the other */
#define STAGE_PATH "/grid/v1/stage"
#define STAGE_PROTOCOL "starlane-stage"

/* A worker's largest message to another stage (STAGE_MSG_BYTES_MAX of exec/llm/stage_msg.h) and who
 * it is for; with an envelope it is below BUS_MESSAGE_BYTES_MAX. */
#define STAGE_FRAME_BYTES_MAX (((size_t)64 << 20) + 64)
/* Four of them under way; a peer that lets more wait does not keep up for seconds. */
#define STAGE_UNSENT_BYTES_MAX ((size_t)256 << 20)
#define STAGE_PING_NS INT64_C(1000000000)
/* A live agent's loop answers within milliseconds; of three pings in a row none is late by chance,
 * and a client that waits notices three seconds, but forgives them. */
#define STAGE_SILENCE_NS INT64_C(3000000000)
#define STAGE_CONNECT_NS INT64_C(2000000000) /* for one address: two lost SYNs */

enum stage_frame {
    STAGE_HELLO = 1, /* the opener's first: stage_hello */
    STAGE_WELCOME,   /* the answer to it */
    STAGE_PING,      /* u64 clock of the sender */
    STAGE_PONG,      /* the same u64 */
    STAGE_OPEN,      /* head to follower: stage_open */
    STAGE_PROGRESS,  /* follower to head */
    STAGE_READY,
    STAGE_FAILED,
    STAGE_DATA,  /* i32 to, i32 from, bytes */
    STAGE_CLOSE, /* the sender ends the link; a reason in words, or nothing */
    STAGE_FRAME_END
};

enum stage_role {
    STAGE_CONTROL, /* head to follower: what the follower is to be; DATA of stage 0 to stage 1, and
                      of the last one to stage 0 */
    STAGE_NEXT,    /* stage i to stage i + 1, i > 0: DATA alone */
    STAGE_ROLE_COUNT
};

/* What a link is for. */
struct stage_hello {
    char chain[STAGE_CHAIN_SIZE];
    enum stage_role role;
    int32_t from, to; /* stages: the opener's, and whom it calls */
};

enum stage_transport { STAGE_DIRECT, STAGE_RELAYED };
const char *stage_transport_name(enum stage_transport transport); /* "direct", "relayed" */

/* Callbacks may do everything but destroy the stage_links; stage_link_close too. */
struct stage_link_callbacks {
    void (*on_open)(void *ctx); /* the opener's: the other side answered. NULL is fine */
    /* OPEN to FAILED. The payload is valid during the call. */
    void (*on_frame)(void *ctx, enum stage_frame type, const void *payload, size_t n);
    void (*on_data)(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n);
    /* The last: it could not be opened, has broken, or the peer closed it. CANCELLED: it closed it
     * without a reason. Still to be closed by stage_link_close. Never from within a call here. */
    void (*on_end)(void *ctx, const struct sl_err *why);
};

/* Somebody opened a link to this member. True: taken, with stage_link_listen; false: it is refused
 * with err's text. */
typedef bool (*stage_accept_fn)(void *ctx, struct stage_link *link, const struct stage_hello *hello,
                                struct sl_err *err);

struct stage_links_cfg {
    struct loop *loop;               /* borrowed, as all here */
    struct grid_port *port;          /* NULL: none can be opened to this member but over the bus */
    struct bus *bus;                 /* NULL: no relay */
    const struct registry *registry; /* who is a member, and their addresses */
    const char *self;                /* this member's id; copied */
    const char *cert, *key, *ca;     /* PEM files, read for each link */
    stage_accept_fn accept;          /* or by stage_links_accept */
    void *ctx;
    bool relay_only; /* no direct connections */
    /* 0: as above; tests have less */
    int64_t ping_ns, silence_ns, connect_ns;
    size_t unsent_bytes_max;
};

/* Adds a route to the port and subscribes on the bus. NOMEM, LIMIT. */
SL_CHECK sl_status stage_links_create(const struct stage_links_cfg *cfg, struct stage_links **out,
                                      struct sl_err *err);
/* Its links must be closed. NULL is fine. */
void stage_links_destroy(struct stage_links *links);
/* Who takes links that others open; NULL: nobody. */
void stage_links_accept(struct stage_links *links, stage_accept_fn accept, void *ctx);
/* Members were removed: links with them end. */
void stage_links_members_changed(struct stage_links *links);

const char *stage_links_self(const struct stage_links *links);
struct loop *stage_links_loop(const struct stage_links *links);

/* Opens a link to a member; address: "host:port" that is tried first, "" for those that the
 * registry knows alone. on_open or on_end follows. LIMIT: STAGE_LINKS_MAX; NOT_FOUND: no such
 * member; NOMEM. */
SL_CHECK sl_status stage_link_open(struct stage_links *links, const char *member,
                                   const char *address, const struct stage_hello *hello,
                                   const struct stage_link_callbacks *callbacks, void *ctx,
                                   struct stage_link **out, struct sl_err *err);
/* For one that was accepted. */
void stage_link_listen(struct stage_link *link, const struct stage_link_callbacks *callbacks,
                       void *ctx);
/* Tells the peer, with a reason (NULL: none) for its on_end, if the link is open; frees it. No
 * callback comes any more. NULL is fine. */
void stage_link_close(struct stage_link *link, const char *reason);

/* OPEN to FAILED. LIMIT: too long, or the peer does not read: the link ends; NOMEM, UNAVAILABLE (it
 * has ended, or is not open yet; or the bus is away). */
SL_CHECK sl_status stage_link_send(struct stage_link *link, enum stage_frame type,
                                   const void *payload, size_t n);
/* As stage_link_send. The bytes are copied once, to where they are encrypted from. */
SL_CHECK sl_status stage_link_send_data(struct stage_link *link, int32_t to, int32_t from,
                                        const void *bytes, size_t n);

struct stage_link_stats {
    const char *member; /* who is on the other side */
    struct stage_hello hello;
    bool open, opened_here;
    enum stage_transport transport;
    const char *address; /* of the peer, where it is direct; "" */
    double rtt_s;        /* of the last ping; 0: not known */
    size_t unsent_bytes;
    uint64_t n_sent, n_received, bytes_sent, bytes_received; /* frames, and what is in them */
};
void stage_link_stats(const struct stage_link *link, struct stage_link_stats *out);

struct stage_links_stats {
    uint64_t n_direct, n_relayed;        /* open now */
    uint64_t n_opened, n_broken;         /* ever; broken: all ends but those that were asked for */
    uint64_t bytes_sent, bytes_received; /* in frames */
};
void stage_links_stats_get(const struct stage_links *links, struct stage_links_stats *out);
