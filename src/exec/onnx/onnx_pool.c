#include "exec/onnx/onnx_pool.h"
#include "base/mem.h"
#include "base/queue.h"
#include "exec/onnx/onnx_int.h"
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct onnx_pool {
    struct sl_queue *work, *done;
    int fd;
    int32_t n_threads; /* that were started */
    pthread_t threads[];
};

static void *compute(void *arg)
{
    struct onnx_pool *pool = arg;
    void *item;
    while (sl_queue_pop(pool->work, -1, &item) == SL_OK) {
        const uint64_t one = 1;
        onnx_batch_run(item);
        sl_status status = sl_queue_push(pool->done, item);
        (void)status; /* there is room for all, and it is closed after we end */
        ssize_t n = write(pool->fd, &one, sizeof one);
        (void)n; /* fails only when it is readable already */
    }
    return NULL;
}

static sl_status start(struct onnx_pool *pool, int32_t n_threads, int32_t n_jobs_max,
                       struct sl_err *err)
{
    pool->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pool->fd < 0) return sl_err_errno(err, errno, "eventfd");
    sl_status status = sl_queue_create((size_t)n_jobs_max, &pool->work);
    if (status == SL_OK) status = sl_queue_create((size_t)n_jobs_max, &pool->done);
    if (status != SL_OK) return sl_err_set(err, status, "queues of %d jobs", n_jobs_max);
    while (pool->n_threads < n_threads) {
        int errnum = pthread_create(&pool->threads[pool->n_threads], NULL, compute, pool);
        if (errnum) return sl_err_errno(err, errnum, "a thread for an instance");
        pool->n_threads++;
    }
    return SL_OK;
}

sl_status onnx_pool_create(int32_t n_threads, int32_t n_jobs_max, struct onnx_pool **out,
                           struct sl_err *err)
{
    struct onnx_pool *pool = sl_calloc(1, sizeof *pool + (size_t)n_threads * sizeof *pool->threads);
    if (!pool) return sl_err_set(err, SL_NOMEM, "pool");
    sl_status status = start(pool, n_threads, n_jobs_max, err);
    if (status == SL_OK)
        *out = pool;
    else
        onnx_pool_destroy(pool);
    return status;
}

void onnx_pool_destroy(struct onnx_pool *pool)
{
    if (!pool) return;
    if (pool->work) sl_queue_close(pool->work);
    for (int32_t i = 0; i < pool->n_threads; i++) (void)pthread_join(pool->threads[i], NULL);
    sl_queue_destroy(pool->work);
    sl_queue_destroy(pool->done);
    if (pool->fd >= 0) (void)close(pool->fd);
    sl_free(pool);
}

sl_status onnx_pool_submit(struct onnx_pool *pool, struct onnx_job *job)
{
    return sl_queue_push(pool->work, job);
}

struct onnx_job *onnx_pool_take(struct onnx_pool *pool, int64_t wait_ns)
{
    void *item = NULL;
    return sl_queue_pop(pool->done, wait_ns, &item) == SL_OK ? item : NULL;
}

int onnx_pool_fd(const struct onnx_pool *pool)
{
    return pool->fd;
}

void onnx_pool_clear(struct onnx_pool *pool)
{
    uint64_t count;
    ssize_t n = read(pool->fd, &count, sizeof count);
    (void)n; /* fails when there is nothing to clear */
}
