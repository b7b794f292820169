/* probe.h: how long the direct way to another member is, and how wide: over a TLS connection
 * through its grid port, as the stages of a split model have one, and not over the bus.
 *
 *   GET /grid/v1/probe, Upgrade: starlane-probe -> 101
 *   each question: u32 n, little endian, and n bytes; its answer, once all of them came: a byte
 *
 * Some questions without bytes tell the round trip; one with many, after a smaller one that has
 * opened TCP's window, the width. A connection and the questions without bytes cost both sides
 * about two milliseconds of a core.
 * Floor: grid.  Thread: the loop's.  Allocates: a connection while it measures.
 * Invariants: one measurement at a time; at most PROBE_SERVED_MAX of others are answered at a time,
 * each at most PROBE_BYTES_MAX bytes and PROBE_TIMEOUT_NS. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grid_port;
struct loop;
struct probes;

#define PROBE_PATH "/grid/v1/probe"
#define PROBE_PROTOCOL "starlane-probe"
#define PROBE_ROUNDS 3                        /* the least of them is told */
#define PROBE_WARM_BYTES (64u << 10)          /* opens the window; says what more would take */
#define PROBE_WIDE_BYTES (1u << 20)           /* 8 ms at a gigabit, a second at 8 Mbit/s */
#define PROBE_WIDE_S 1.0                      /* a way on which that takes longer gets less */
#define PROBE_BYTES_MAX (2u << 20)            /* in one connection */
#define PROBE_SERVED_MAX 4                    /* others wait, and ask again another time */
#define PROBE_TIMEOUT_NS INT64_C(10000000000) /* of all of it */

struct probe_result {
    double rtt_s;
    double bytes_per_s; /* 0: not asked for */
};

/* result NULL: the way cannot be gone, and why says so. */
typedef void (*probe_fn)(void *ctx, const struct probe_result *result, const struct sl_err *why);

struct probes_cfg {
    struct loop *loop;           /* borrowed, as the port */
    struct grid_port *port;      /* where others' are answered; NULL: nowhere */
    const char *cert, *key, *ca; /* PEM files: as whom */
};

/* Adds a route to the port. NOMEM, INVALID (files), LIMIT. */
SL_CHECK sl_status probes_create(const struct probes_cfg *cfg, struct probes **out,
                                 struct sl_err *err);
void probes_destroy(struct probes *probes); /* calls nobody; NULL is fine */

/* Measures the way to a member at "host:port"; fn is called once, not from within. BUSY: one is
 * under way; else as stream_connect. */
SL_CHECK sl_status probes_measure(struct probes *probes, const char *member, const char *address,
                                  bool wide, probe_fn fn, void *ctx, struct sl_err *err);
/* Ends what is under way without a word. */
void probes_forget(struct probes *probes);
