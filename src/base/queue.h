/* queue.h: bounded queue of pointers between threads. A full queue is a BUSY answer,
 * never a longer list.
 * Floor: base.  Thread: any number of producers and consumers.  Allocates: the ring, at creation.
 * Invariant: items leave in the order they came; after close, pushes fail and pops drain what is
 * left. */
#pragma once
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct sl_queue; /* opaque */

/* INVALID for a capacity of 0, NOMEM. */
SL_CHECK sl_status sl_queue_create(size_t capacity, struct sl_queue **out);
void sl_queue_destroy(struct sl_queue *queue); /* NULL is fine; items are the caller's */

/* BUSY when full, CANCELLED after close. */
SL_CHECK sl_status sl_queue_push(struct sl_queue *queue, void *item);

/* The oldest item. timeout_ns < 0 waits for ever, 0 polls. TIMEOUT, or CANCELLED when
 * closed and empty. */
SL_CHECK sl_status sl_queue_pop(struct sl_queue *queue, int64_t timeout_ns, void **out);

void sl_queue_close(struct sl_queue *queue); /* wakes all waiters */
size_t sl_queue_len(struct sl_queue *queue);
