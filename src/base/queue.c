/* queue.c: a ring under one lock and one condition: only consumers ever wait. */
#include "base/queue.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct sl_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an item came, or the queue closed */
    void **ring;
    size_t capacity;
    size_t first; /* index of the oldest item */
    size_t len;
    bool closed;
};

/* Timeouts count on the monotonic clock: setting the wall clock must not stretch them. */
static int init_monotonic_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc) return rc;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc;
}

sl_status sl_queue_create(size_t capacity, struct sl_queue **out)
{
    if (capacity == 0) return SL_INVALID;
    struct sl_queue *queue = sl_calloc(1, sizeof *queue);
    if (!queue) return SL_NOMEM;
    queue->capacity = capacity;
    queue->ring = sl_calloc(capacity, sizeof *queue->ring);
    if (!queue->ring) goto fail;
    if (init_monotonic_cond(&queue->changed)) goto fail;
    pthread_mutex_init(&queue->lock, NULL); /* a default mutex cannot fail on Linux */
    *out = queue;
    return SL_OK;
fail:
    sl_free(queue->ring);
    sl_free(queue);
    return SL_NOMEM;
}

void sl_queue_destroy(struct sl_queue *queue)
{
    if (!queue) return;
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->changed);
    sl_free(queue->ring);
    sl_free(queue);
}

static sl_status push_locked(struct sl_queue *queue, void *item)
{
    if (queue->closed) return SL_CANCELLED;
    if (queue->len == queue->capacity) return SL_BUSY;
    size_t to_end = queue->capacity - queue->first;
    queue->ring[queue->len < to_end ? queue->first + queue->len : queue->len - to_end] = item;
    queue->len++;
    return SL_OK;
}

sl_status sl_queue_push(struct sl_queue *queue, void *item)
{
    pthread_mutex_lock(&queue->lock);
    sl_status status = push_locked(queue, item);
    if (status == SL_OK) pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return status;
}

static void *take_locked(struct sl_queue *queue)
{
    void *item = queue->ring[queue->first];
    queue->first = queue->first + 1 == queue->capacity ? 0 : queue->first + 1;
    queue->len--;
    return item;
}

/* Waits until there is an item, the queue is closed, or the time is up. */
static void wait_locked(struct sl_queue *queue, int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        while (queue->len == 0 && !queue->closed) pthread_cond_wait(&queue->changed, &queue->lock);
        return;
    }
    int64_t deadline_ns;
    if (__builtin_add_overflow(sl_now_ns(), timeout_ns, &deadline_ns)) deadline_ns = INT64_MAX;
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000,
                                .tv_nsec = deadline_ns % 1000000000};
    int rc = 0;
    while (queue->len == 0 && !queue->closed && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&queue->changed, &queue->lock, &deadline);
    }
}

sl_status sl_queue_pop(struct sl_queue *queue, int64_t timeout_ns, void **out)
{
    sl_status status = SL_OK;
    pthread_mutex_lock(&queue->lock);
    if (timeout_ns != 0) wait_locked(queue, timeout_ns);
    if (queue->len > 0) {
        *out = take_locked(queue);
    } else {
        status = queue->closed ? SL_CANCELLED : SL_TIMEOUT;
    }
    pthread_mutex_unlock(&queue->lock);
    return status;
}

void sl_queue_close(struct sl_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

size_t sl_queue_len(struct sl_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t len = queue->len;
    pthread_mutex_unlock(&queue->lock);
    return len;
}
