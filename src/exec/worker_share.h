/* worker_share.h: memory that an agent and one of its workers share, so that the data of large
 * tensors do not pass through their socket: the sender writes them there once, the receiver reads
 * them where they are.
 * Floor: exec.  Thread: the caller's; the two sides are two processes.  Allocates: two areas of
 * WORKER_SHARE_BYTES of address space; only pages that were used take memory, until the worker's
 * end.
 *
 * An area is written by one side and read by the other, which maps it read-only. It begins with a
 * page of marks, a bit for each slot of the *other* area: it changes when the piece that begins
 * there is no longer read. Then come slots, of which a piece takes a run.
 *
 *     area of the agent   | marks: pieces of the worker's area | slots ... |   inputs
 *     area of the worker  | marks: pieces of the agent's area  | slots ... |   outputs
 *
 * Invariants: neither side trusts the other. What is in use is noted in the sender's own memory; of
 * the other's marks only those of pieces that it gave away count. A receiver checks that a piece
 * lies within the area. An area's size is sealed, so that nobody can cut it short beneath a reader.
 * Data may change while they are read: nothing that is read twice, as the lengths of BYTES, may be
 * in a piece (worker_share_takes). */
#pragma once
#include "base/err.h"
#include "exec/tensor.h"

#define WORKER_SHARE_SLOT_BYTES (64u << 10)
#define WORKER_SHARE_SLOTS 1024u /* 64 MiB: the tensors of the largest request */
#define WORKER_SHARE_HEAD_BYTES 4096u
#define WORKER_SHARE_BYTES \
    (WORKER_SHARE_HEAD_BYTES + (size_t)WORKER_SHARE_SLOTS * WORKER_SHARE_SLOT_BYTES)
/* Below this the socket is as fast: a piece costs two atomics and a walk through the slots, and
 * small tensors would take whole slots. */
#define WORKER_SHARE_DATA_MIN (32u << 10)

struct worker_share_area; /* opaque */

struct worker_share {
    struct worker_share_area *own;     /* NULL: nothing is shared */
    struct worker_share_area *peer;    /* mapped read-only */
    uint16_t runs[WORKER_SHARE_SLOTS]; /* of the own area: slots of the piece that begins here */
    uint64_t used[WORKER_SHARE_SLOTS / 64];
    uint64_t seen[WORKER_SHARE_SLOTS / 64]; /* the other's marks, as they were last looked at */
};

/* The agent's side. fds[0] and fds[1] are for the child, as WORKER_SHARE_FD and the next: the
 * agent's area and the worker's; the caller closes them. IO: the kernel gives none. */
SL_CHECK sl_status worker_share_create(struct worker_share *share, int fds[2], struct sl_err *err);
/* The worker's side, of the same two, which it closes. INVALID: they are no such areas. */
SL_CHECK sl_status worker_share_open(struct worker_share *share, const int fds[2],
                                     struct sl_err *err);
void worker_share_done(struct worker_share *share); /* zeroed is fine */

/* May data of this type be in a piece? */
bool worker_share_takes(enum tensor_type type);

/* Copies the data into a piece of the own area: its number, from 1. 0: such data do not belong
 * there, there is no room now, or nothing is shared; they go through the socket then. */
uint32_t worker_share_put(struct worker_share *share, const struct tensor *tensor);
/* The receiver will never hear of it. */
void worker_share_take_back(struct worker_share *share, uint32_t piece);

/* The tensors of which those with a piece other than 0 have their data in the other's area, each
 * aligned to a page; an array in the arena. CORRUPT: they do not lie within it, or are over
 * TENSOR_BYTES_MAX together. NOMEM. */
SL_CHECK sl_status worker_share_find(const struct worker_share *share, const struct tensor *in,
                                     const uint32_t *pieces, size_t n, struct sl_arena *arena,
                                     const struct tensor **out, struct sl_err *err);
/* Data that worker_share_find found are no longer read here; pieces of 0 are fine. */
void worker_share_release(struct worker_share *share, const uint32_t *pieces, size_t n);
