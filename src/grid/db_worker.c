/* db_worker.c: one thread of a pool, and posts back to the loop. */
#include "grid/db_worker.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/db.h"
#include "net/loop.h"

#include <pthread.h>

struct job {
    struct db_worker *worker;
    db_worker_run_fn run;
    db_worker_done_fn done;
    void *arg;
    sl_status status;
    struct sl_err err;
    struct job *next; /* in `finished` */
};

struct db_worker {
    struct loop *loop;
    struct db *db; /* the thread's, between create and destroy */
    struct sl_pool *pool;
    pthread_mutex_t mutex; /* of what follows */
    struct job *finished, *finished_last;
    bool posted;
};

static struct job *take_finished(struct db_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    struct job *first = worker->finished;
    worker->finished = worker->finished_last = NULL;
    worker->posted = false;
    pthread_mutex_unlock(&worker->mutex);
    return first;
}

static void tell_finished(void *arg)
{
    struct job *next;
    for (struct job *job = take_finished(arg); job; job = next) {
        next = job->next;
        if (job->done) job->done(job->arg, job->status, &job->err);
        sl_free(job);
    }
}

/* On the thread. A full loop leaves the job for the next one's post, or for the end. */
static void run_job(void *arg)
{
    struct job *job = arg;
    struct db_worker *worker = job->worker;
    job->status = job->run(job->arg, worker->db, &job->err);
    pthread_mutex_lock(&worker->mutex);
    if (worker->finished)
        worker->finished_last->next = job;
    else
        worker->finished = job;
    worker->finished_last = job;
    if (!worker->posted) worker->posted = loop_post(worker->loop, tell_finished, worker) == SL_OK;
    pthread_mutex_unlock(&worker->mutex);
}

sl_status db_worker_create(struct loop *loop, const char *path, struct db_worker **out,
                           struct sl_err *err)
{
    struct db_worker *worker = sl_calloc(1, sizeof *worker);
    if (!worker) return sl_err_set(err, SL_NOMEM, "no memory for the database's thread");
    worker->loop = loop;
    pthread_mutex_init(&worker->mutex, NULL);
    sl_status status = db_open(path, NULL, &worker->db, err);
    if (status != SL_OK) goto fail;
    status = sl_pool_create(1, DB_WORKER_JOBS_MAX, &worker->pool);
    if (status != SL_OK) {
        sl_err_set(err, status, "the database's thread: %s", sl_status_text(status));
        goto fail;
    }
    *out = worker;
    return SL_OK;
fail:
    db_worker_destroy(worker);
    return status;
}

void db_worker_destroy(struct db_worker *worker)
{
    if (!worker) return;
    sl_pool_destroy(worker->pool);
    loop_cancel_posts(worker->loop, worker);
    tell_finished(worker);
    db_close(worker->db);
    pthread_mutex_destroy(&worker->mutex);
    sl_free(worker);
}

sl_status db_worker_submit(struct db_worker *worker, db_worker_run_fn run, db_worker_done_fn done,
                           void *arg)
{
    struct job *job = sl_calloc(1, sizeof *job);
    if (!job) return SL_NOMEM;
    *job = (struct job){.worker = worker, .run = run, .done = done, .arg = arg};
    sl_status status = sl_pool_submit(worker->pool, run_job, job);
    if (status != SL_OK) sl_free(job);
    return status;
}
