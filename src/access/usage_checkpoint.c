/* usage_checkpoint.c: see the header for why there are two who move the log. */
#include "access/usage_checkpoint.h"

#include "access/usage.h"
#include "base/mem.h"
#include "base/thread.h"
#include "grid/db.h"

#include <pthread.h>
#include <signal.h>

struct checkpointer {
    /* The writer's: pages of the log. */
    int64_t moved;    /* when the last move began: these are in the file, or soon */
    int64_t retry_at; /* of moving the rest */

    pthread_t thread;
    struct db *db; /* the thread's */

    /* Both's, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted; /* until the move is done */
    bool closing;
    uint64_t n_moves;
    sl_status status; /* of the thread's last failure that the writer has not seen */
    struct sl_err err;
};

static void *run_thread(void *arg)
{
    struct checkpointer *c = arg;
    sl_thread_stand_back(); /* nobody waits for it */
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->wanted && !c->closing) pthread_cond_wait(&c->changed, &c->lock);
        if (c->closing) break;
        pthread_mutex_unlock(&c->lock);
        struct sl_err err = SL_ERR_INIT;
        sl_status status = db_checkpoint(c->db, &err);
        pthread_mutex_lock(&c->lock);
        c->wanted = false;
        c->n_moves++;
        if (status == SL_OK) continue;
        c->status = status;
        c->err = err;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static sl_status start_thread(struct checkpointer *c, struct sl_err *err)
{
    sigset_t all, before;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, run_thread, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) return SL_OK;
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    return sl_err_errno(err, rc, "start the thread for checkpoints");
}

sl_status checkpointer_create(const char *path, struct checkpointer **out, struct sl_err *err)
{
    const struct db_cfg cfg = {.own_checkpoints = true};
    struct checkpointer *c = sl_calloc(1, sizeof *c);
    if (!c) return sl_err_set(err, SL_NOMEM, "checkpoints: out of memory");
    sl_status status = db_open(path, &cfg, &c->db, err);
    if (status == SL_OK) status = start_thread(c, err);
    if (status != SL_OK) goto fail;
    *out = c;
    return SL_OK;
fail:
    db_close(c->db);
    sl_free(c);
    return status;
}

void checkpointer_destroy(struct checkpointer *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    db_close(c->db);
    sl_free(c);
}

uint64_t checkpointer_n_moves(struct checkpointer *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t n = c->n_moves;
    pthread_mutex_unlock(&c->lock);
    return n;
}

static void wake(struct checkpointer *c, int64_t n_pages)
{
    c->moved = n_pages;
    pthread_mutex_lock(&c->lock);
    c->wanted = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* Should a long reader keep the log from starting anew, the next try waits for more of it. */
static sl_status move_rest(struct checkpointer *c, struct db *db, int64_t n_pages,
                           struct sl_err *err)
{
    c->retry_at = n_pages + USAGE_WAL_PAGES_MAX / 4;
    sl_status status = db_checkpoint(db, err);
    pthread_mutex_lock(&c->lock);
    c->n_moves++;
    pthread_mutex_unlock(&c->lock);
    return status;
}

sl_status checkpointer_step(struct checkpointer *c, struct db *db, int64_t n_pages, bool idle,
                            struct sl_err *err)
{
    if (n_pages < c->moved) c->moved = 0; /* the log has begun anew */
    if (n_pages < USAGE_WAL_PAGES_MAX) c->retry_at = USAGE_WAL_PAGES_MAX;
    if (n_pages < USAGE_WAL_PAGES_STEP) return SL_OK;
    pthread_mutex_lock(&c->lock);
    bool busy = c->wanted;
    sl_status status = c->status;
    if (status != SL_OK) *err = c->err;
    c->status = SL_OK;
    pthread_mutex_unlock(&c->lock);
    if (busy || status != SL_OK) return status;
    bool is_long = n_pages >= c->retry_at;
    if (is_long && c->moved >= c->retry_at) return move_rest(c, db, n_pages, err);
    int64_t rest = n_pages - c->moved;
    if (is_long || rest >= (idle ? 1 : USAGE_WAL_PAGES_STEP)) wake(c, n_pages);
    return SL_OK;
}
