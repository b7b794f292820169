/* fabric.h: the switch without its devices: ports in segments, the addresses learnt on them, and a
 * link from every port to every other.
 * Part of netlab-switch; pure: frames and time come as arguments, and where a frame goes when is
 * the answer.  Thread: the caller's.  Allocates: fabric_create only.
 * Invariant: a frame never leaves its segment, nor by the port it came in. */
#pragma once
#include "base/err.h"
#include "netlab/link.h"

#define FABRIC_PORTS_MAX 64 /* the links' table is its square; a lab on one machine has a dozen */
#define FABRIC_NAME_MAX 15  /* of a network device: IFNAMSIZ less the NUL */
#define FABRIC_SEGMENTS_MAX 16
#define FABRIC_ANY "*" /* for a port's name: all of them */

struct fabric;

struct fabric_hop {
    int to;
    int64_t due_ns;
};

/* What to do to the links between the ports named a and b (FABRIC_ANY for all). */
enum fabric_verb { FABRIC_LINK, FABRIC_CUT, FABRIC_HEAL };

#define FABRIC_DELAY 1u
#define FABRIC_JITTER 2u
#define FABRIC_LOSS 4u
#define FABRIC_RATE 8u
#define FABRIC_QUEUE 16u

struct fabric_change {
    enum fabric_verb verb;
    char a[FABRIC_NAME_MAX + 1], b[FABRIC_NAME_MAX + 1];
    bool one_way;    /* from a to b only */
    unsigned fields; /* those of `settings` that FABRIC_LINK changes: FABRIC_DELAY | ... */
    struct link_settings settings;
};

/* Chance depends on the seed alone. NOMEM. */
SL_CHECK sl_status fabric_create(uint64_t seed, struct fabric **out);
void fabric_destroy(struct fabric *fabric); /* NULL is fine */

/* Ports are numbered from 0 as they are added; their links are perfect at first. INVALID: name or
 * segment; EXISTS; LIMIT. */
SL_CHECK sl_status fabric_add_port(struct fabric *fabric, const char *name, int segment,
                                   struct sl_err *err);
int fabric_n_ports(const struct fabric *fabric);
const char *fabric_port_name(const struct fabric *fabric, int port);
int fabric_port_segment(const struct fabric *fabric, int port);

/* A frame of n bytes came in at port `from`: fills hops[FABRIC_PORTS_MAX] with where it goes and
 * returns how many. Learns the sender's address; unknown ones and groups go to the whole segment.
 * What is shorter than an Ethernet header goes nowhere. */
int fabric_offer(struct fabric *fabric, int from, const void *bytes, size_t n, int64_t now_ns,
                 struct fabric_hop *hops);

/* To be asked again when a frame is due: the link may have been cut while it was under way, which
 * is then counted. */
bool fabric_arrives(struct fabric *fabric, int from, int to);

/* Applies it to all links it names, and returns their number in *out_n. Links between segments are
 * never named by FABRIC_ANY. INVALID: an unknown port, or two that share no segment. */
SL_CHECK sl_status fabric_apply(struct fabric *fabric, const struct fabric_change *change,
                                int *out_n, struct sl_err *err);

const struct link *fabric_link(const struct fabric *fabric, int from, int to);
