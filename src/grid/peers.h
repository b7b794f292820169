/* peers.h: how far other members of the grid are, and how fat the way to them is, from pings that
 * cost next to nothing: whom to ping now, and what the answers say. Pure: time is an argument,
 * messages are the caller's (PING and PONG of grid_msg.h).
 * Floor: grid.  Thread: one.  Allocates: peers_create only.
 * Round-trip times are smoothed as TCP does (RFC 6298: 1/8 of each new one); beside the mean stands
 * the least of the last minutes, which is the way itself without queues. Bandwidth is what a ping
 * with padding takes longer than that, or what a transfer of a model showed.
 * Invariants: a round names at most PEERS_ROUND_MAX members, nobody twice, at most one of them with
 * padding; nobody is pinged more often than each PEERS_PING_NS, nor with padding more often than
 * each PEERS_PROBE_NS; every peer's turn comes. */
#pragma once
#include "base/err.h"
#include "net/pki.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peers;

#define PEERS_ID_SIZE PKI_ID_SIZE
#define PEERS_LIMIT 16384                         /* members: more than a grid is tested with */
#define PEERS_ROUND_MAX 8                         /* pings a round: 8 small messages a second */
#define PEERS_PING_NS INT64_C(2000000000)         /* to one peer, at most so often */
#define PEERS_LOST_NS INT64_C(5000000000)         /* a ping without answer counts as lost then */
#define PEERS_PROBE_NS INT64_C(60000000000)       /* with padding, to one peer */
#define PEERS_MIN_WINDOW_NS INT64_C(300000000000) /* the least of the last 5 to 10 minutes */
#define PEERS_PADDING_MIN (16u << 10)             /* 130 ms on a link of 1 Mbit/s */
#define PEERS_PADDING_MAX (256u << 10)            /* GRID_PADDING_MAX */

struct peers_ping {
    const char *id; /* valid until the peer is removed */
    uint64_t seq;
    size_t n_padding; /* bytes to send along; mostly 0 */
};

struct peers_stats {
    const char *id;
    double rtt_s;        /* smoothed; < 0: not measured yet */
    double rtt_min_s;    /* < 0: not measured yet */
    double rtt_jitter_s; /* smoothed mean deviation from rtt_s; < 0: not measured yet */
    double bytes_per_s;  /* to the peer; < 0: not known; a lower bound when `at_least` */
    bool at_least;       /* the largest probe made no difference that could be seen */
    int64_t heard_ns;    /* of the last answer; INT64_MIN: never */
    uint64_t n_pings, n_lost;
};

/* For up to n_max members. LIMIT: n_max is 0 or over PEERS_LIMIT; NOMEM. */
SL_CHECK sl_status peers_create(size_t n_max, struct peers **out, struct sl_err *err);
void peers_destroy(struct peers *peers); /* NULL is fine */

/* Adding one that is there changes nothing. INVALID: an id that is empty or too long; LIMIT. */
SL_CHECK sl_status peers_add(struct peers *peers, const char *id);
void peers_remove(struct peers *peers, const char *id); /* unknown is fine */
size_t peers_count(const struct peers *peers);

/* Whom to ping now; returns how many. To be called once a second; each counts as sent. */
size_t peers_round(struct peers *peers, int64_t now_ns, struct peers_ping out[PEERS_ROUND_MAX]);

/* An answer to ping seq has come. False: not asked for, answered already, or lost long ago. */
bool peers_pong(struct peers *peers, const char *id, uint64_t seq, int64_t now_ns);

/* A transfer between this member and the peer went so well (blobs); one of less than 1 MiB or of no
 * time says nothing. Saves the probe. */
void peers_transferred(struct peers *peers, const char *id, uint64_t n_bytes, int64_t took_ns,
                       int64_t now_ns);

/* What is known of one; false: unknown. */
bool peers_get(const struct peers *peers, const char *id, struct peers_stats *out);

/* All of them, by id. */
void peers_each(const struct peers *peers, void (*fn)(void *ctx, const struct peers_stats *stats),
                void *ctx);
