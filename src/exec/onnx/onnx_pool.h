/* onnx_pool.h: threads that run jobs, for a model with several instances.
 * Floor: exec/onnx.  Thread: the engine's; its own threads only compute.  Allocates: create.
 * Invariant: a job is the pool's from submit until it is taken back; at most as many are there as
 * was said at its creation. */
#pragma once
#include "base/err.h"
#include <stdint.h>

struct onnx_job;
struct onnx_pool; /* opaque */

/* NOMEM, and what the kernel says when it gives no thread or descriptor. */
SL_CHECK sl_status onnx_pool_create(int32_t n_threads, int32_t n_jobs_max, struct onnx_pool **out,
                                    struct sl_err *err);
/* Waits for the jobs that run; they must have been taken back. NULL is fine. */
void onnx_pool_destroy(struct onnx_pool *pool);

/* BUSY: n_jobs_max are there. */
SL_CHECK sl_status onnx_pool_submit(struct onnx_pool *pool, struct onnx_job *job);
/* One that is done; NULL: there is none now, or after a wait of up to wait_ns (< 0: for ever). */
struct onnx_job *onnx_pool_take(struct onnx_pool *pool, int64_t wait_ns);

/* Readable when a job is done; made unreadable by onnx_pool_clear. */
int onnx_pool_fd(const struct onnx_pool *pool);
void onnx_pool_clear(struct onnx_pool *pool);
