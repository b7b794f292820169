/* pool.c: threads that pop jobs from an sl_queue, and a parallel loop in which the caller works
 * too. */
#include "base/pool.h"

#include "base/mem.h"
#include "base/queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define THREADS_MAX \
    1024 /* more than any machine we know has cores for; a larger number is a mistake */

struct job {
    void (*run)(void *arg);
    void *arg;
};

struct sl_pool {
    struct sl_queue *jobs;
    int n_threads; /* started */
    pthread_t threads[];
};

static void *thread_main(void *arg)
{
    struct sl_pool *pool = arg;
    void *item;
    while (sl_queue_pop(pool->jobs, -1, &item) == SL_OK) {
        struct job job = *(struct job *)item;
        sl_free(item);
        job.run(job.arg);
    }
    return NULL;
}

/* Signals belong to the thread that started the program: a pool thread interrupted by Ctrl-C could
 * not act on it. */
static bool start_threads(struct sl_pool *pool, int n_threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->n_threads < n_threads) {
        if (pthread_create(&pool->threads[pool->n_threads], NULL, thread_main, pool)) break;
        pool->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool->n_threads == n_threads;
}

sl_status sl_pool_create(int n_threads, size_t queue_max, struct sl_pool **out)
{
    if (n_threads < 1 || n_threads > THREADS_MAX) return SL_INVALID;
    size_t n_bytes = sizeof(struct sl_pool) + (size_t)n_threads * sizeof(pthread_t);
    struct sl_pool *pool = sl_calloc(1, n_bytes);
    if (!pool) return SL_NOMEM;
    sl_status status = sl_queue_create(queue_max, &pool->jobs);
    if (status != SL_OK) goto fail;
    status = SL_UNAVAILABLE;
    if (!start_threads(pool, n_threads)) goto fail;
    *out = pool;
    return SL_OK;
fail:
    sl_pool_destroy(pool);
    return status;
}

void sl_pool_destroy(struct sl_pool *pool)
{
    if (!pool) return;
    if (pool->jobs) sl_queue_close(pool->jobs);
    for (int i = 0; i < pool->n_threads; i++) pthread_join(pool->threads[i], NULL);
    sl_queue_destroy(pool->jobs);
    sl_free(pool);
}

sl_status sl_pool_submit(struct sl_pool *pool, void (*run)(void *arg), void *arg)
{
    struct job *job = sl_malloc(sizeof *job);
    if (!job) return SL_NOMEM;
    *job = (struct job){.run = run, .arg = arg};
    sl_status status = sl_queue_push(pool->jobs, job);
    if (status != SL_OK) sl_free(job);
    return status;
}

/* A parallel loop. Helpers are invited through the queue and may come late, even after the loop has
 * ended (they then find nothing to do), so the loop is counted and the caller waits for indices,
 * never for helpers. That is why it cannot deadlock: an index is waited for only once somebody runs
 * it. */
struct loop {
    void (*run)(void *arg, int i);
    void *arg;
    int64_t n;
    _Atomic int64_t next; /* 64 bits: it runs past n once per helper */
    atomic_int n_refs;
    pthread_mutex_t lock;
    pthread_cond_t all_done;
    int64_t n_done; /* under lock */
};

static struct loop *loop_create(int n, void (*run)(void *arg, int i), void *arg)
{
    struct loop *loop = sl_calloc(1, sizeof *loop);
    if (!loop) return NULL;
    loop->run = run;
    loop->arg = arg;
    loop->n = n;
    atomic_init(&loop->next, 0);
    atomic_init(&loop->n_refs, 1);
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->all_done, NULL);
    return loop;
}

static void loop_unref(struct loop *loop)
{
    if (atomic_fetch_sub(&loop->n_refs, 1) != 1) return;
    pthread_mutex_destroy(&loop->lock);
    pthread_cond_destroy(&loop->all_done);
    sl_free(loop);
}

static void loop_work(struct loop *loop)
{
    int64_t n_mine = 0;
    for (int64_t i; (i = atomic_fetch_add(&loop->next, 1)) < loop->n; n_mine++)
        loop->run(loop->arg, (int)i);
    if (n_mine == 0) return;
    pthread_mutex_lock(&loop->lock);
    loop->n_done += n_mine;
    if (loop->n_done == loop->n) pthread_cond_signal(&loop->all_done);
    pthread_mutex_unlock(&loop->lock);
}

static void loop_help(void *arg)
{
    loop_work(arg);
    loop_unref(arg);
}

/* As many as could be of use; none when the queue is full, since the caller gets the work done
 * alone too. */
static void loop_invite(struct loop *loop, struct sl_pool *pool)
{
    int64_t n_helpers = loop->n - 1 < pool->n_threads ? loop->n - 1 : pool->n_threads;
    for (; n_helpers > 0; n_helpers--) {
        atomic_fetch_add(&loop->n_refs, 1);
        if (sl_pool_submit(pool, loop_help, loop) == SL_OK) continue;
        loop_unref(loop);
        return;
    }
}

void sl_pool_for(struct sl_pool *pool, int n, void (*run)(void *arg, int i), void *arg)
{
    struct loop *loop = n > 1 ? loop_create(n, run, arg) : NULL;
    if (!loop) { /* nothing to share, or no memory to share it with */
        for (int i = 0; i < n; i++) run(arg, i);
        return;
    }
    loop_invite(loop, pool);
    loop_work(loop);
    pthread_mutex_lock(&loop->lock);
    while (loop->n_done < loop->n) pthread_cond_wait(&loop->all_done, &loop->lock);
    pthread_mutex_unlock(&loop->lock);
    loop_unref(loop);
}
