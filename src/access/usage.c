/* usage.c: the ring of rows between the loop and the database's thread, and that thread.
 *
 *      run          stored         taken         offered         head
 *       |  callbacks  |  in work     |   waiting    |  of this turn  |   free
 *
 * The loop alone moves `head`, `run` and `offered`; the thread `taken` and `stored`, but for rows
 * that the loop stores itself: with nothing offered that is not stored, it moves all three. Cursors
 * only grow; a cursor's slot is its remainder by the ring's size. A slot belongs to whoever moves
 * the cursor at its right. */
#include "access/usage.h"

#include "access/usage_checkpoint.h"
#include "access/usage_inline.h"
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
#define USED_KEYS_MAX 256 /* noted before they are written; more are written sooner */
#define IDLE_ROWS 100     /* a second: the log is moved within 10 ms, mostly between two of them */
#define LOOK_PAGES 512    /* the log grows by so many between two looks at a long one */

struct used_keys {
    size_t n;
    struct used_key {
        char id[KEYS_ID_CHARS + 1];
        int64_t at_ms;
    } keys[USED_KEYS_MAX];
};

struct usage {
    /* The loop's. */
    struct keys *keys;
    usage_post_fn post;
    usage_turn_fn at_turn_end;
    void *loop;
    struct inline_writer *inline_writer; /* NULL: the thread stores all rows */
    uint64_t run, head;
    bool turn_asked; /* usage_turn_end is on its way */
    bool closed;

    struct usage_ring ring;

    /* The thread's, once it runs. */
    pthread_t thread;
    struct db *db;
    struct db_stmt *insert, *touch;
    struct checkpointer *checkpointer;
    struct used_keys storing;
    uint64_t n_stored_at_tick;
    int64_t keys_version; /* last handed to the loop */
    int retain_days;

    /* Held by whichever of the two writes to the database. The loop never waits for it. */
    pthread_mutex_t writing;

    /* Both's, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* offered, log_grown or closing */
    bool sleeping;          /* the thread waits for `changed` */
    uint64_t offered, taken, stored;
    bool closing;
    bool posted;     /* run_on_loop is on its way */
    bool unposted;   /* the loop had no room for it */
    bool keys_stale; /* the loop could not take a list over */
    bool log_grown;  /* by the loop's commits: worth a look */
    int64_t wal_pages;
    struct keys_list *fresh;
    struct used_keys used;
    struct usage_stats stats;
    struct sl_err last_error;
};

/* Under the lock, as all of used_keys; false: there is no room. */
static bool note_used_key(struct used_keys *used, const struct usage_row *row)
{
    if (!row->key_id[0]) return true;
    for (size_t i = 0; i < used->n; i++) {
        struct used_key *key = &used->keys[i];
        if (strcmp(key->id, row->key_id) != 0) continue;
        if (key->at_ms < row->finished_ms) key->at_ms = row->finished_ms;
        return true;
    }
    if (used->n == USED_KEYS_MAX) return false;
    struct used_key *key = &used->keys[used->n++];
    memcpy(key->id, row->key_id, sizeof key->id);
    key->at_ms = row->finished_ms;
    return true;
}

/* --- the loop's side --- */

static void run_callbacks(struct usage *usage, uint64_t stored)
{
    while (usage->run < stored) {
        struct usage_slot *slot = usage_slot_at(&usage->ring, usage->run);
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

static void offer(struct usage *usage)
{
    pthread_mutex_lock(&usage->lock);
    usage->stats.n_handed_over += usage->head - usage->offered;
    usage->offered = usage->head;
    bool sleeping = usage->sleeping;
    usage->sleeping = false; /* one signal is enough */
    pthread_mutex_unlock(&usage->lock);
    if (sleeping) pthread_cond_signal(&usage->changed);
}

sl_status usage_submit(struct usage *usage, const struct usage_row *row, usage_done_fn done,
                       void *arg)
{
    if (usage->closed) return SL_CANCELLED;
    if (usage->head - usage->run >= usage->ring.n_slots) return SL_BUSY;
    struct usage_slot *slot = usage_slot_at(&usage->ring, usage->head++);
    *slot = (struct usage_slot){.row = *row, .done = done, .arg = arg};
    if (!usage->inline_writer) {
        offer(usage);
    } else if (!usage->turn_asked) {
        usage->turn_asked = true;
        usage->at_turn_end(usage->loop);
    }
    return SL_OK;
}

/* The rows before are stored, and there is room for these rows' keys: then the thread has nothing
 * to do with them. */
static bool may_store_inline(struct usage *usage, uint64_t *from)
{
    pthread_mutex_lock(&usage->lock);
    *from = usage->offered;
    uint64_t n = usage->head - usage->offered;
    bool may = n <= USAGE_INLINE_ROWS && usage->stored == usage->offered &&
               usage->used.n + n <= USED_KEYS_MAX;
    pthread_mutex_unlock(&usage->lock);
    return may;
}

static void note_inline(struct usage *usage, uint64_t from, uint64_t to)
{
    int64_t n_pages = inline_writer_wal_pages(usage->inline_writer);
    pthread_mutex_lock(&usage->lock);
    usage->offered = usage->taken = usage->stored = to;
    for (uint64_t i = from; i < to; i++)
        (void)note_used_key(&usage->used, &usage_slot_at(&usage->ring, i)->row);
    usage->stats.n_commits++;
    usage->stats.n_stored += to - from;
    usage->stats.n_inline += to - from;
    bool look =
        n_pages >= USAGE_WAL_PAGES_STEP && n_pages / LOOK_PAGES != usage->wal_pages / LOOK_PAGES;
    usage->wal_pages = n_pages;
    usage->log_grown = usage->log_grown || look;
    look = look && usage->sleeping;
    if (look) usage->sleeping = false;
    pthread_mutex_unlock(&usage->lock);
    if (look) pthread_cond_signal(&usage->changed);
}

static bool store_inline(struct usage *usage)
{
    uint64_t from, to = usage->head;
    if (!may_store_inline(usage, &from) || checkpointer_is_moving(usage->checkpointer))
        return false;
    if (pthread_mutex_trylock(&usage->writing) != 0) return false;
    sl_status status = inline_writer_store(usage->inline_writer, &usage->ring, from, to);
    pthread_mutex_unlock(&usage->writing);
    if (status != SL_OK) return false;
    note_inline(usage, from, to);
    run_callbacks(usage, to);
    return true;
}

void usage_turn_end(struct usage *usage)
{
    if (!usage->turn_asked || usage->closed) return;
    usage->turn_asked = false; /* first: a callback may submit */
    if (!store_inline(usage)) offer(usage);
}

void usage_stats(struct usage *usage, struct usage_stats *out)
{
    pthread_mutex_lock(&usage->lock);
    *out = usage->stats;
    out->n_waiting = (size_t)(usage->head - usage->run);
    out->wal_bytes = usage->wal_pages * DB_PAGE_BYTES;
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

static sl_status touch_keys(struct usage *usage, struct sl_err *err)
{
    const struct used_keys *used = &usage->storing;
    sl_status status = db_begin(usage->db, err);
    if (status != SL_OK) return status;
    for (size_t i = 0; status == SL_OK && i < used->n; i++) {
        db_bind_text(usage->touch, 1, used->keys[i].id);
        db_bind_int(usage->touch, 2, used->keys[i].at_ms);
        status = db_run(usage->touch, err);
    }
    return db_end(usage->db, status, err);
}

/* A failure loses a date for people and nothing else. */
static void store_used_keys(struct usage *usage)
{
    struct sl_err err = SL_ERR_INIT;
    pthread_mutex_lock(&usage->lock);
    usage->storing = usage->used;
    usage->used.n = 0;
    pthread_mutex_unlock(&usage->lock);
    if (usage->storing.n == 0) return;
    pthread_mutex_lock(&usage->writing);
    sl_status status = touch_keys(usage, &err);
    pthread_mutex_unlock(&usage->writing);
    note_error(usage, status, &err);
}

/* Makes room for a turn's keys before it is needed, so that the loop need not hand its rows over for
 * that. */
static void note_used_keys(struct usage *usage, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        pthread_mutex_lock(&usage->lock);
        bool full = usage->used.n > USED_KEYS_MAX - USAGE_INLINE_ROWS;
        pthread_mutex_unlock(&usage->lock);
        if (full) store_used_keys(usage);
        pthread_mutex_lock(&usage->lock);
        (void)note_used_key(&usage->used, &usage_slot_at(&usage->ring, i)->row);
        pthread_mutex_unlock(&usage->lock);
    }
}

/* One transaction for [from, to), and one completion. */
static void store_batch(struct usage *usage, uint64_t from, uint64_t to)
{
    struct sl_err err = SL_ERR_INIT;
    pthread_mutex_lock(&usage->writing);
    sl_status status = usage_store(usage->db, usage->insert, &usage->ring, from, to, &err);
    pthread_mutex_unlock(&usage->writing);
    for (uint64_t i = from; i < to; i++) usage_slot_at(&usage->ring, i)->status = status;
    if (status == SL_OK) note_used_keys(usage, from, to);
    pthread_mutex_lock(&usage->lock);
    usage->stored = to;
    if (status == SL_OK) {
        usage->wal_pages = db_wal_pages(usage->db);
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

/* The loop leaves its rows to this thread meanwhile, so that the log can come to its end. */
static void move_log(struct usage *usage, bool idle)
{
    struct sl_err err = SL_ERR_INIT;
    pthread_mutex_lock(&usage->writing);
    pthread_mutex_lock(&usage->lock);
    int64_t n_pages = usage->wal_pages;
    pthread_mutex_unlock(&usage->lock);
    sl_status status = checkpointer_step(usage->checkpointer, usage->db, n_pages, idle, &err);
    pthread_mutex_unlock(&usage->writing);
    note_error(usage, status, &err);
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
    pthread_mutex_lock(&usage->writing);
    sl_status status = usage_sweep(usage->db, before_ms, USAGE_SWEEP_ROWS, &n_moved, err);
    pthread_mutex_unlock(&usage->writing);
    return status;
}

static bool was_idle(struct usage *usage)
{
    pthread_mutex_lock(&usage->lock);
    uint64_t n_stored = usage->stats.n_stored;
    pthread_mutex_unlock(&usage->lock);
    bool idle = n_stored - usage->n_stored_at_tick <= IDLE_ROWS;
    usage->n_stored_at_tick = n_stored;
    return idle;
}

/* What is done once a second, each with a bounded amount of work. */
static void tick(struct usage *usage)
{
    struct sl_err err = SL_ERR_INIT;
    post_again(usage);
    note_error(usage, look_for_keys(usage, &err), &err);
    store_used_keys(usage);
    note_error(usage, sweep(usage, &err), &err);
    move_log(usage, was_idle(usage));
}

/* What the thread is woken for. */
struct work {
    uint64_t from, to; /* rows to store */
    bool log_grown;
};

/* Until there is work, the end is near, or it is `until_ns` on the monotonic clock. False: closing,
 * and there are no rows. */
static bool wait_for_work(struct usage *usage, int64_t until_ns, struct work *work)
{
    const struct timespec until = {.tv_sec = until_ns / 1000000000,
                                   .tv_nsec = until_ns % 1000000000};
    int rc = 0;
    pthread_mutex_lock(&usage->lock);
    while (usage->offered == usage->taken && !usage->closing && !usage->log_grown && rc == 0) {
        usage->sleeping = true;
        rc = pthread_cond_timedwait(&usage->changed, &usage->lock, &until);
    }
    usage->sleeping = false;
    uint64_t n = usage->offered - usage->taken;
    work->from = usage->taken;
    work->to = work->from + (n > USAGE_BATCH_ROWS ? USAGE_BATCH_ROWS : n);
    work->log_grown = usage->log_grown;
    usage->taken = work->to;
    usage->log_grown = false;
    bool more = n > 0 || !usage->closing;
    pthread_mutex_unlock(&usage->lock);
    return more;
}

static void *run_thread(void *arg)
{
    struct usage *usage = arg;
    struct work work;
    int64_t next_ns = sl_now_ns();
    sl_thread_wake_soon(); /* answers wait for it */
    while (wait_for_work(usage, next_ns, &work)) {
        bool rows = work.from < work.to;
        if (rows) store_batch(usage, work.from, work.to);
        if (rows || work.log_grown) move_log(usage, false);
        int64_t now_ns = sl_now_ns();
        if (now_ns < next_ns) continue;
        tick(usage);
        next_ns = now_ns + TICK_NS;
    }
    store_used_keys(usage);
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
    if (status == SL_OK && cfg->at_turn_end && cfg->sync == DB_SYNC_NORMAL)
        status = inline_writer_create(cfg->path, &usage->inline_writer, err);
    return status;
}

static void destroy_locks(struct usage *usage)
{
    pthread_cond_destroy(&usage->changed);
    pthread_mutex_destroy(&usage->writing);
    pthread_mutex_destroy(&usage->lock);
}

/* Signals are the loop's. */
static sl_status start_thread(struct usage *usage, struct sl_err *err)
{
    sigset_t all, before;
    pthread_condattr_t attr;
    pthread_mutex_init(&usage->lock, NULL);
    pthread_mutex_init(&usage->writing, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&usage->changed, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&usage->thread, NULL, run_thread, usage);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) return SL_OK;
    destroy_locks(usage);
    return sl_err_errno(err, rc, "start the database's thread");
}

static void free_usage(struct usage *usage)
{
    db_finalize(usage->insert);
    db_finalize(usage->touch);
    checkpointer_destroy(usage->checkpointer);
    inline_writer_destroy(usage->inline_writer); /* before the last one, which moves the log */
    db_close(usage->db);
    sl_free(usage->ring.slots);
    sl_free(usage);
}

sl_status usage_create(const struct usage_cfg *cfg, struct usage **out, struct sl_err *err)
{
    struct usage *usage = sl_calloc(1, sizeof *usage);
    if (!usage) return sl_err_set(err, SL_NOMEM, "usage: out of memory");
    usage->keys = cfg->keys;
    usage->post = cfg->post;
    usage->at_turn_end = cfg->at_turn_end;
    usage->loop = cfg->loop;
    usage->ring.n_slots = cfg->rows_max ? cfg->rows_max : USAGE_QUEUE_ROWS;
    usage->retain_days = cfg->retain_days;
    usage->keys_version = -1;
    usage->ring.slots = sl_calloc(usage->ring.n_slots, sizeof *usage->ring.slots);
    sl_status status = usage->ring.slots ? open_table(usage, cfg, err)
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
    offer(usage);
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
    destroy_locks(usage);
    free_usage(usage);
}
