/* usage.c: the ring of rows between the loop and the database's thread, and that thread.
 *
 *      run          stored         taken          head
 *       |  callbacks  |  in work     |   waiting    |   free
 *
 * The loop alone moves `head` and `run`; the thread alone moves `taken` and `stored`. Cursors only
 * grow; a cursor's slot is its remainder by the ring's size. A slot belongs to whoever moves the
 * cursor at its right. */
#include "access/usage.h"

#include "access/usage_checkpoint.h"
#include "access/usage_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define TICK_NS INT64_C(1000000000)
#define USED_KEYS_MAX 64 /* noted before they are written; more are written sooner */

struct slot {
    struct usage_row row;
    usage_done_fn done;
    void *arg;
    sl_status status;
};

struct used_key {
    char id[KEYS_ID_CHARS + 1];
    int64_t at_ms;
};

struct usage {
    /* The loop's. */
    struct keys *keys;
    usage_post_fn post;
    void *loop;
    uint64_t run;
    bool closed;

    struct slot *ring;
    size_t rows_max;

    /* The thread's, once it runs. */
    pthread_t thread;
    struct db *db;
    struct db_stmt *insert, *touch;
    struct checkpointer *checkpointer;
    struct used_key used[USED_KEYS_MAX];
    size_t n_used;
    int64_t keys_version; /* last handed to the loop */
    int retain_days;

    /* Both's, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* head or closing */
    bool sleeping;          /* the thread waits for `changed` */
    uint64_t head, taken, stored;
    bool closing;
    bool posted;     /* run_on_loop is on its way */
    bool unposted;   /* the loop had no room for it */
    bool keys_stale; /* the loop could not take a list over */
    struct keys_list *fresh;
    struct usage_stats stats;
    struct sl_err last_error;
};

/* --- the loop's side --- */

static void run_callbacks(struct usage *usage, uint64_t stored)
{
    while (usage->run < stored) {
        struct slot *slot = &usage->ring[usage->run % usage->rows_max];
        usage_done_fn done = slot->done;
        void *arg = slot->arg;
        struct sl_err err = {.status = slot->status};
        if (slot->status != SL_OK) {
            usage_last_error(usage, &err);
            err.status = slot->status;
        }
        usage->run++; /* first: the callback may submit */
        done(arg, err.status, &err);
    }
}

static void take_keys(struct usage *usage, struct keys_list *fresh)
{
    if (!fresh) return;
    if (keys_apply(usage->keys, fresh, sl_now_ns() / 1000000) != SL_OK) {
        pthread_mutex_lock(&usage->lock);
        usage->keys_stale = true;
        pthread_mutex_unlock(&usage->lock);
    }
    keys_list_destroy(fresh);
}

static void run_on_loop(void *arg)
{
    struct usage *usage = arg;
    pthread_mutex_lock(&usage->lock);
    uint64_t stored = usage->stored;
    struct keys_list *fresh = usage->fresh;
    usage->fresh = NULL;
    usage->posted = false;
    pthread_mutex_unlock(&usage->lock);
    take_keys(usage, fresh);
    run_callbacks(usage, stored);
}

sl_status usage_submit(struct usage *usage, const struct usage_row *row, usage_done_fn done,
                       void *arg)
{
    if (usage->closed) return SL_CANCELLED;
    if (usage->head - usage->run >= usage->rows_max) return SL_BUSY;
    struct slot *slot = &usage->ring[usage->head % usage->rows_max];
    *slot = (struct slot){.row = *row, .done = done, .arg = arg};
    pthread_mutex_lock(&usage->lock);
    usage->head++;
    bool sleeping = usage->sleeping;
    usage->sleeping = false; /* one signal is enough */
    pthread_mutex_unlock(&usage->lock);
    if (sleeping) pthread_cond_signal(&usage->changed);
    return SL_OK;
}

void usage_stats(struct usage *usage, struct usage_stats *out)
{
    pthread_mutex_lock(&usage->lock);
    *out = usage->stats;
    out->n_waiting = (size_t)(usage->head - usage->run);
    pthread_mutex_unlock(&usage->lock);
    out->n_checkpoints = checkpointer_n_moves(usage->checkpointer);
}

void usage_last_error(struct usage *usage, struct sl_err *out)
{
    pthread_mutex_lock(&usage->lock);
    *out = usage->last_error;
    pthread_mutex_unlock(&usage->lock);
}

/* --- the thread's side --- */

/* True: the caller is to call post_to_loop, once the lock is free again. */
static bool must_post_locked(struct usage *usage)
{
    bool must = !usage->posted;
    usage->posted = true;
    return must;
}

static void post_to_loop(struct usage *usage)
{
    if (usage->post(usage->loop, run_on_loop, usage) == SL_OK) return;
    pthread_mutex_lock(&usage->lock);
    usage->posted = false;
    usage->unposted = true;
    pthread_mutex_unlock(&usage->lock);
}

/* What the loop had no room for when it was new. */
static void post_again(struct usage *usage)
{
    pthread_mutex_lock(&usage->lock);
    bool must_post = usage->unposted && must_post_locked(usage);
    usage->unposted = false;
    pthread_mutex_unlock(&usage->lock);
    if (must_post) post_to_loop(usage);
}

/* A failure that belongs to no row. */
static void note_error(struct usage *usage, sl_status status, const struct sl_err *err)
{
    if (status == SL_OK) return;
    pthread_mutex_lock(&usage->lock);
    usage->stats.n_errors++;
    usage->last_error = *err;
    pthread_mutex_unlock(&usage->lock);
}

static sl_status store_used_keys(struct usage *usage, struct sl_err *err)
{
    size_t n = usage->n_used;
    usage->n_used = 0; /* also on failure: only a date for people is lost */
    if (n == 0) return SL_OK;
    sl_status status = db_begin(usage->db, err);
    if (status != SL_OK) return status;
    for (size_t i = 0; status == SL_OK && i < n; i++) {
        db_bind_text(usage->touch, 1, usage->used[i].id);
        db_bind_int(usage->touch, 2, usage->used[i].at_ms);
        status = db_run(usage->touch, err);
    }
    return db_end(usage->db, status, err);
}

static void note_used_key(struct usage *usage, const struct usage_row *row)
{
    struct sl_err err = SL_ERR_INIT;
    if (!row->key_id[0]) return;
    for (size_t i = 0; i < usage->n_used; i++) {
        if (strcmp(usage->used[i].id, row->key_id) != 0) continue;
        if (usage->used[i].at_ms < row->finished_ms) usage->used[i].at_ms = row->finished_ms;
        return;
    }
    if (usage->n_used == USED_KEYS_MAX) note_error(usage, store_used_keys(usage, &err), &err);
    struct used_key *used = &usage->used[usage->n_used++];
    memcpy(used->id, row->key_id, sizeof used->id);
    used->at_ms = row->finished_ms;
}

static sl_status store(struct usage *usage, uint64_t from, uint64_t to, struct sl_err *err)
{
    sl_status status = db_begin(usage->db, err);
    if (status != SL_OK) return status;
    for (uint64_t i = from; status == SL_OK && i < to; i++)
        status = usage_insert(usage->insert, &usage->ring[i % usage->rows_max].row, err);
    return db_end(usage->db, status, err);
}

/* One transaction for [from, to), and one completion. */
static void store_batch(struct usage *usage, uint64_t from, uint64_t to)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = store(usage, from, to, &err);
    for (uint64_t i = from; i < to; i++) {
        struct slot *slot = &usage->ring[i % usage->rows_max];
        slot->status = status;
        if (status == SL_OK) note_used_key(usage, &slot->row);
    }
    pthread_mutex_lock(&usage->lock);
    usage->stored = to;
    usage->stats.wal_bytes = db_wal_pages(usage->db) * DB_PAGE_BYTES;
    if (status == SL_OK) {
        usage->stats.n_commits++;
        usage->stats.n_stored += to - from;
    } else {
        usage->stats.n_failed += to - from;
        usage->last_error = err;
    }
    bool must_post = must_post_locked(usage);
    pthread_mutex_unlock(&usage->lock);
    if (must_post) post_to_loop(usage);
}

static void move_log(struct usage *usage, bool idle)
{
    struct sl_err err = SL_ERR_INIT;
    note_error(usage, checkpointer_step(usage->checkpointer, usage->db, idle, &err), &err);
}

static void hand_over_keys(struct usage *usage, struct keys_list *list)
{
    usage->keys_version = list->version;
    pthread_mutex_lock(&usage->lock);
    struct keys_list *older = usage->fresh;
    usage->fresh = list;
    bool must_post = must_post_locked(usage);
    pthread_mutex_unlock(&usage->lock);
    if (must_post) post_to_loop(usage);
    keys_list_destroy(older);
}

static sl_status look_for_keys(struct usage *usage, struct sl_err *err)
{
    int64_t version;
    struct keys_list *list;
    if (!usage->keys) return SL_OK;
    pthread_mutex_lock(&usage->lock);
    bool stale = usage->keys_stale;
    usage->keys_stale = false;
    pthread_mutex_unlock(&usage->lock);
    if (stale) usage->keys_version = -1;
    sl_status status = keys_version(usage->db, &version, err);
    if (status != SL_OK || version == usage->keys_version) return status;
    status = keys_read(usage->db, &list, err);
    if (status == SL_OK) hand_over_keys(usage, list);
    return status;
}

static sl_status sweep(struct usage *usage, struct sl_err *err)
{
    int64_t n_moved;
    if (usage->retain_days <= 0) return SL_OK;
    int64_t before_ms = sl_unix_time_ms() - usage->retain_days * USAGE_DAY_MS;
    return usage_sweep(usage->db, before_ms, USAGE_SWEEP_ROWS, &n_moved, err);
}

/* What is done once a second, each with a bounded amount of work. */
static void tick(struct usage *usage, bool idle)
{
    struct sl_err err = SL_ERR_INIT;
    post_again(usage);
    note_error(usage, look_for_keys(usage, &err), &err);
    note_error(usage, store_used_keys(usage, &err), &err);
    note_error(usage, sweep(usage, &err), &err);
    move_log(usage, idle);
}

/* Until there are rows, the end is near, or it is `until_ns` on the monotonic clock. Sets the rows
 * to store; false: closing, and there are none. */
static bool wait_for_rows(struct usage *usage, int64_t until_ns, uint64_t *from, uint64_t *to)
{
    const struct timespec until = {.tv_sec = until_ns / 1000000000,
                                   .tv_nsec = until_ns % 1000000000};
    int rc = 0;
    pthread_mutex_lock(&usage->lock);
    while (usage->head == usage->taken && !usage->closing && rc == 0) {
        usage->sleeping = true;
        rc = pthread_cond_timedwait(&usage->changed, &usage->lock, &until);
    }
    usage->sleeping = false;
    *from = usage->taken;
    *to = usage->head - usage->taken > USAGE_BATCH_ROWS ? usage->taken + USAGE_BATCH_ROWS
                                                        : usage->head;
    usage->taken = *to;
    bool more = *from < *to || !usage->closing;
    pthread_mutex_unlock(&usage->lock);
    return more;
}

static void *run_thread(void *arg)
{
    struct usage *usage = arg;
    struct sl_err err = SL_ERR_INIT;
    uint64_t from, to;
    int64_t next_ns = sl_now_ns();
    sl_thread_wake_soon(); /* answers wait for it */
    while (wait_for_rows(usage, next_ns, &from, &to)) {
        if (from < to) {
            store_batch(usage, from, to);
            move_log(usage, false);
        }
        int64_t now_ns = sl_now_ns();
        if (now_ns < next_ns) continue;
        tick(usage, from == to);
        next_ns = now_ns + TICK_NS;
    }
    note_error(usage, store_used_keys(usage, &err), &err);
    return NULL;
}

/* --- life --- */

static sl_status open_table(struct usage *usage, const struct usage_cfg *cfg, struct sl_err *err)
{
    const struct db_cfg db_cfg = {.sync = cfg->sync, .own_checkpoints = true};
    sl_status status = db_open(cfg->path, &db_cfg, &usage->db, err);
    if (status == SL_OK) status = usage_prepare_insert(usage->db, &usage->insert, err);
    if (status == SL_OK)
        status = db_prepare(usage->db,
                            "UPDATE keys SET last_used_ms = max(last_used_ms, ?2) WHERE id = ?1",
                            &usage->touch, err);
    if (status == SL_OK) status = checkpointer_create(cfg->path, &usage->checkpointer, err);
    return status;
}

/* Signals are the loop's. */
static sl_status start_thread(struct usage *usage, struct sl_err *err)
{
    sigset_t all, before;
    pthread_condattr_t attr;
    pthread_mutex_init(&usage->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&usage->changed, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&usage->thread, NULL, run_thread, usage);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) return SL_OK;
    pthread_cond_destroy(&usage->changed);
    pthread_mutex_destroy(&usage->lock);
    return sl_err_errno(err, rc, "start the database's thread");
}

static void free_usage(struct usage *usage)
{
    db_finalize(usage->insert);
    db_finalize(usage->touch);
    checkpointer_destroy(usage->checkpointer);
    db_close(usage->db);
    sl_free(usage->ring);
    sl_free(usage);
}

sl_status usage_create(const struct usage_cfg *cfg, struct usage **out, struct sl_err *err)
{
    struct usage *usage = sl_calloc(1, sizeof *usage);
    if (!usage) return sl_err_set(err, SL_NOMEM, "usage: out of memory");
    usage->keys = cfg->keys;
    usage->post = cfg->post;
    usage->loop = cfg->loop;
    usage->rows_max = cfg->rows_max ? cfg->rows_max : USAGE_QUEUE_ROWS;
    usage->retain_days = cfg->retain_days;
    usage->keys_version = -1;
    usage->ring = sl_calloc(usage->rows_max, sizeof *usage->ring);
    sl_status status = usage->ring ? open_table(usage, cfg, err)
                                   : sl_err_set(err, SL_NOMEM, "usage: out of memory");
    if (status == SL_OK) status = start_thread(usage, err);
    if (status != SL_OK) goto fail;
    *out = usage;
    return SL_OK;
fail:
    free_usage(usage);
    return status;
}

void usage_close(struct usage *usage)
{
    if (usage->closed) return;
    usage->closed = true;
    pthread_mutex_lock(&usage->lock);
    usage->closing = true;
    pthread_cond_signal(&usage->changed);
    pthread_mutex_unlock(&usage->lock);
    pthread_join(usage->thread, NULL);
    run_on_loop(usage);
}

void usage_destroy(struct usage *usage)
{
    if (!usage) return;
    usage_close(usage);
    pthread_cond_destroy(&usage->changed);
    pthread_mutex_destroy(&usage->lock);
    free_usage(usage);
}
