/* worker_batch.h: gathers the events of one step in a worker, so that they cross the socket as one
 * frame.
 * Floor: exec.  Thread: the worker's.  Allocates: copies of what the events point to, until the
 * batch is cleared; large tensors are copied into the memory shared with the agent instead. */
#pragma once
#include "exec/wire.h"

struct worker_share;

struct worker_batch {
    struct sl_buf events; /* of struct wire_event */
    struct sl_arena arena;
    struct worker_share *share;
};

void worker_batch_init(struct worker_batch *batch, struct worker_share *share);
void worker_batch_done(struct worker_batch *batch);
void worker_batch_clear(struct worker_batch *batch);

/* Copies the event and all it points to. NOMEM, LIMIT. */
SL_CHECK sl_status worker_batch_add(struct worker_batch *batch, const struct wire_event *event);

size_t worker_batch_count(const struct worker_batch *batch);
bool worker_batch_full(const struct worker_batch *batch); /* time to send it, step or no step */

/* The batch as a message, which borrows from it. */
void worker_batch_message(const struct worker_batch *batch, struct wire_msg *out);
