/* pool.h: a fixed set of threads that run jobs from one bounded queue.
 * Floor: base.  Thread: submit from any; jobs run on the pool's threads.  Allocates: at creation
 * and per job.
 * Invariant: a job accepted by pool_submit runs exactly once, also during destroy, which drains and
 * joins. */
#pragma once
#include "base/status.h"
#include <stddef.h>

struct sl_pool; /* opaque */

/* 1 to 1,024 threads; queue_max jobs may wait. INVALID, NOMEM, UNAVAILABLE (no more threads). */
SL_CHECK sl_status sl_pool_create(int n_threads, size_t queue_max, struct sl_pool **out);
void sl_pool_destroy(struct sl_pool *pool); /* NULL is fine; not from one of its own jobs */

/* BUSY when the queue is full, CANCELLED during destroy, NOMEM. */
SL_CHECK sl_status sl_pool_submit(struct sl_pool *pool, void (*run)(void *arg), void *arg);

/* Calls run(arg, i) for i in [0, n) on the pool's threads and the caller's, and returns when all
 * are done. Safe inside a job and with a full queue: at worst the caller does all the work. */
void sl_pool_for(struct sl_pool *pool, int n, void (*run)(void *arg, int i), void *arg);
