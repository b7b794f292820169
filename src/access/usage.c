/* usage.c: the ring of rows between the loop and the database's thread, and that thread.
 *
 *    stored                         offered         head
 *       |   in work, and waiting       |  of this turn  |   free
 *
 * The loop alone moves `head`, `run` and `offered`; the thread `stored` and `settled`. Cursors only
 * grow; a cursor's slot is its remainder by the ring's size. A slot belongs to whoever moves the
 * cursor at its right.
 * Callbacks have run up to `run`. A row in the journal gets its own when it is written, before it
 * is stored; one that is not, when the thread has settled it: stored it, or failed to. So `run` may
 * be on either side of `stored`, and a slot is free when it lies before both. `owed` is the end of
 * the last rows that the thread has to settle. The loop writes to the journal only while nobody is
 * owed anything, or callbacks would change their order. */
#include "access/usage.h"

#include "access/usage_checkpoint.h"
#include "access/usage_int.h"
#include "access/usage_journal.h"
#include "access/usage_recover.h"
#include "base/clock.h"
#include "base/log.h"
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
#define WATCH_NS INT64_C(1000000000)   /* without a row; then the loop has to wake the thread */
#define RETRY_NS_MIN INT64_C(10000000) /* between tries of a commit that failed, doubling */
#define RETRY_NS_MAX INT64_C(1000000000)
#define CLOSE_NS INT64_C(2000000000) /* a close tries so long; then rows are left in the journal */

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
    usage_turn_fn at_turn_end, on_room;
    void *loop;
    uint64_t run, head;
    uint64_t used_to; /* slots before it are free, at least */
    bool turn_asked;  /* usage_turn_end is on its way */
    bool refused;     /* a row found no room: on_room is owed */
    bool closed;

    struct usage_ring ring;
    struct usage_journal *journal; /* NULL: rows wait for their commit */

    /* The thread's, once it runs. */
    pthread_t thread;
    struct db *db;
    struct usage_writer writer;
    struct db_stmt *touch;
    struct checkpointer *checkpointer;
    struct used_keys used;
    uint64_t n_stored_at_tick;
    int64_t gather_ns;    /* when rows that wait are stored; 0: nobody watches for them */
    int64_t watch_ns;     /* until then it watches though none come */
    int64_t retry_ns;     /* of a commit that failed, with rows of the journal; 0: none */
    int64_t pause_ns;     /* before the next try */
    int64_t close_ns;     /* the last try, when closing */
    int64_t keys_version; /* last handed to the loop */
    int retain_days;

    /* Both's, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* offered or closing */
    bool sleeping;          /* the thread waits for `changed` */
    uint64_t wake_rows;     /* it is to be woken when so many wait, or one that is owed */
    uint64_t offered, stored, settled, owed;
    sl_status failing; /* what the last commit said */
    bool closing;
    bool posted;      /* run_on_loop is on its way */
    bool unposted;    /* the loop had no room for it */
    bool room_wanted; /* the loop is to be called when slots are free */
    bool keys_stale;  /* the loop could not take a list over */
    int64_t wal_pages;
    struct keys_list *fresh;
    struct usage_stats stats;
    struct sl_err last_error;
};

/* False: there is no room. */
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

/* Looks anew when there seems to be no room. */
static bool has_room(struct usage *usage)
{
    if (usage->head - usage->used_to < usage->ring.n_slots) return true;
    pthread_mutex_lock(&usage->lock);
    usage->used_to = usage->stored < usage->run ? usage->stored : usage->run;
    bool room = usage->head - usage->used_to < usage->ring.n_slots;
    usage->room_wanted = !room;
    pthread_mutex_unlock(&usage->lock);
    return room;
}

static sl_status failing(struct usage *usage)
{
    pthread_mutex_lock(&usage->lock);
    sl_status status = usage->failing;
    pthread_mutex_unlock(&usage->lock);
    return status;
}

/* Those that were refused may come again; when it fails for long, to be told so. */
static void tell_room(struct usage *usage)
{
    if (!usage->refused) return;
    if (!usage->closed && !has_room(usage) && failing(usage) == SL_OK) return;
    usage->refused = false;
    if (usage->on_room) usage->on_room(usage->loop);
}

static void run_on_loop(void *arg)
{
    struct usage *usage = arg;
    pthread_mutex_lock(&usage->lock);
    uint64_t settled = usage->settled;
    struct keys_list *fresh = usage->fresh;
    usage->fresh = NULL;
    usage->posted = false;
    pthread_mutex_unlock(&usage->lock);
    take_keys(usage, fresh);
    run_callbacks(usage, settled);
    tell_room(usage);
}

/* Gives the thread what is new; callbacks of rows from `journaled` on are owed. */
static void offer(struct usage *usage, uint64_t journaled)
{
    pthread_mutex_lock(&usage->lock);
    usage->stats.n_journaled += journaled - usage->offered;
    usage->offered = usage->head;
    if (journaled < usage->head) usage->owed = usage->head;
    bool wake = usage->sleeping && (usage->owed > usage->settled ||
                                    usage->offered - usage->stored >= usage->wake_rows);
    if (wake) usage->sleeping = false; /* one signal is enough */
    pthread_mutex_unlock(&usage->lock);
    if (wake) pthread_cond_signal(&usage->changed);
}

sl_status usage_submit(struct usage *usage, const struct usage_row *row, usage_done_fn done,
                       void *arg)
{
    if (usage->closed) return SL_CANCELLED;
    if (!has_room(usage)) {
        sl_status status = failing(usage);
        usage->refused = usage->refused || status == SL_OK;
        return status == SL_OK ? SL_BUSY : status;
    }
    struct usage_slot *slot = usage_slot_at(&usage->ring, usage->head++);
    *slot = (struct usage_slot){.row = *row, .done = done, .arg = arg};
    if (!usage->journal) {
        offer(usage, usage->offered);
    } else if (!usage->turn_asked) {
        usage->turn_asked = true;
        usage->at_turn_end(usage->loop);
    }
    return SL_OK;
}

/* Writes the rows of the turn to the journal, or leaves them to the thread. */
static void end_turn(struct usage *usage)
{
    uint64_t journaled = usage->offered;
    bool in_order = usage->run == usage->offered;
    if (in_order)
        journaled = usage_journal_append(usage->journal, &usage->ring, journaled, usage->head);
    offer(usage, journaled);
    if (in_order) run_callbacks(usage, journaled);
}

void usage_turn_end(struct usage *usage)
{
    if (!usage->turn_asked || usage->closed) return;
    usage->turn_asked = false; /* first: a callback may submit */
    end_turn(usage);
    tell_room(usage);
}

void usage_stats(struct usage *usage, struct usage_stats *out)
{
    pthread_mutex_lock(&usage->lock);
    *out = usage->stats;
    out->n_waiting = (size_t)(usage->head - usage->run);
    out->n_pending = (size_t)(usage->offered - usage->stored);
    out->wal_bytes = usage->wal_pages * DB_PAGE_BYTES;
    pthread_mutex_unlock(&usage->lock);
    out->n_checkpoints = checkpointer_n_moves(usage->checkpointer);
    out->journal_bytes = usage->journal ? usage_journal_bytes(usage->journal) : 0;
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
    const struct used_keys *used = &usage->used;
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
    if (usage->used.n == 0) return;
    note_error(usage, touch_keys(usage, &err), &err);
    usage->used.n = 0;
}

static void note_used_keys(struct usage *usage, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        const struct usage_slot *slot = usage_slot_at(&usage->ring, i);
        if (slot->settled || note_used_key(&usage->used, &slot->row)) continue;
        store_used_keys(usage);
        (void)note_used_key(&usage->used, &slot->row);
    }
}

static uint64_t n_unsettled(const struct usage *usage, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    for (uint64_t i = from; i < to; i++) n += !usage_slot_at(&usage->ring, i)->settled;
    return n;
}

/* After a commit that went well. True: the loop is to be called. */
static bool note_stored(struct usage *usage, uint64_t from, uint64_t to)
{
    uint64_t n = n_unsettled(usage, from, to);
    if (usage->retry_ns) sl_log(SL_LOG_WARN, "usage", "rows are stored again");
    usage->retry_ns = usage->pause_ns = 0;
    note_used_keys(usage, from, to);
    pthread_mutex_lock(&usage->lock);
    bool must_post = usage->owed > usage->settled || usage->room_wanted;
    usage->room_wanted = false;
    usage->stored = to;
    if (usage->settled < to) usage->settled = to;
    usage->failing = SL_OK;
    usage->wal_pages = db_wal_pages(usage->db);
    usage->stats.n_commits++;
    usage->stats.n_stored += n;
    must_post = must_post && must_post_locked(usage);
    pthread_mutex_unlock(&usage->lock);
    return must_post;
}

/* Rows of [from, to) that no journal has are told of their failure. Returns how many. */
static uint64_t settle_failed(struct usage *usage, uint64_t from, uint64_t to, sl_status status)
{
    uint64_t n = 0;
    for (uint64_t i = from; i < to; i++) {
        struct usage_slot *slot = usage_slot_at(&usage->ring, i);
        if (slot->file || slot->settled) continue;
        slot->settled = true;
        slot->status = status;
        n++;
    }
    return n;
}

static bool has_journaled(const struct usage *usage, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        if (usage_slot_at(&usage->ring, i)->file) return true;
    return false;
}

static void try_again_later(struct usage *usage, const struct sl_err *err)
{
    if (!usage->retry_ns)
        sl_log(SL_LOG_ERROR, "usage", "rows wait in the journal and are tried again: %s",
               err->text);
    usage->pause_ns = usage->pause_ns ? usage->pause_ns * 2 : RETRY_NS_MIN;
    if (usage->pause_ns > RETRY_NS_MAX) usage->pause_ns = RETRY_NS_MAX;
    usage->retry_ns = sl_now_ns() + usage->pause_ns;
}

/* Rows of the journal stay, and keep all others from waiting behind them. True: as note_stored. */
static bool note_failed(struct usage *usage, uint64_t from, uint64_t to, const struct sl_err *err)
{
    bool journaled = has_journaled(usage, from, to);
    if (journaled) try_again_later(usage, err);
    pthread_mutex_lock(&usage->lock);
    uint64_t end = journaled ? usage->offered : to;
    bool must_post = usage->owed > usage->settled || usage->room_wanted;
    usage->room_wanted = false;
    usage->stats.n_failed += settle_failed(usage, from, end, err->status);
    usage->stats.n_errors += journaled;
    if (usage->settled < end) usage->settled = end;
    if (!journaled) usage->stored = to;
    usage->failing = journaled ? err->status : SL_OK;
    usage->last_error = *err;
    must_post = must_post && must_post_locked(usage);
    pthread_mutex_unlock(&usage->lock);
    return must_post;
}

/* One transaction for [from, to), and at most one completion. */
static void store_batch(struct usage *usage, uint64_t from, uint64_t to)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = usage_store(&usage->writer, &usage->ring, from, to, usage->journal, &err);
    bool must_post =
        status == SL_OK ? note_stored(usage, from, to) : note_failed(usage, from, to, &err);
    if (must_post) post_to_loop(usage);
    if (status == SL_OK && usage->journal)
        note_error(usage, usage_journal_clean(usage->journal, to, &err), &err);
}

static void move_log(struct usage *usage, bool idle)
{
    struct sl_err err = SL_ERR_INIT;
    note_error(
        usage,
        checkpointer_step(usage->checkpointer, usage->db, db_wal_pages(usage->db), idle, &err),
        &err);
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
    bool end;
};

static bool rows_are_due_locked(const struct usage *usage, int64_t now_ns)
{
    uint64_t n = usage->offered - usage->stored;
    if (usage->owed > usage->settled) return true;
    if (n == 0) return false;
    if (usage->retry_ns) return now_ns >= usage->retry_ns;
    return usage->closing || n >= USAGE_LAZY_ROWS ||
           (usage->gather_ns && now_ns >= usage->gather_ns);
}

/* After the last row, or after the last try. */
static bool is_end_locked(const struct usage *usage, int64_t now_ns)
{
    if (!usage->closing || usage->owed > usage->settled) return false;
    return usage->offered == usage->stored || (usage->retry_ns && now_ns >= usage->close_ns);
}

/* Rows are gathered from when the first of them is seen. While some come, the thread looks by
 * itself: then the loop need not wake it. */
static void watch_locked(struct usage *usage, int64_t now_ns)
{
    if (usage->offered != usage->stored) usage->watch_ns = now_ns + WATCH_NS;
    if (usage->gather_ns > now_ns) return;
    usage->gather_ns = usage->watch_ns > now_ns ? now_ns + USAGE_GATHER_NS : 0;
}

static void sleep_locked(struct usage *usage, int64_t until_ns)
{
    usage->wake_rows = usage->gather_ns ? USAGE_LAZY_ROWS : 1;
    if (usage->gather_ns && usage->gather_ns < until_ns) until_ns = usage->gather_ns;
    if (usage->retry_ns && usage->offered != usage->stored) {
        usage->wake_rows = UINT64_MAX;
        if (usage->retry_ns < until_ns) until_ns = usage->retry_ns;
    }
    const struct timespec until = {.tv_sec = until_ns / 1000000000,
                                   .tv_nsec = until_ns % 1000000000};
    usage->sleeping = true;
    (void)pthread_cond_timedwait(&usage->changed, &usage->lock, &until);
    usage->sleeping = false;
}

/* Until rows are due, the end is near, or it is `until_ns` on the monotonic clock. */
static struct work wait_for_work(struct usage *usage, int64_t until_ns)
{
    struct work work = {0};
    bool rows;
    pthread_mutex_lock(&usage->lock);
    for (;;) {
        int64_t now_ns = sl_now_ns();
        work.end = is_end_locked(usage, now_ns);
        rows = rows_are_due_locked(usage, now_ns);
        if (work.end || rows || now_ns >= until_ns) break;
        watch_locked(usage, now_ns);
        sleep_locked(usage, until_ns);
    }
    uint64_t n = rows ? usage->offered - usage->stored : 0;
    work.from = usage->stored;
    work.to = work.from + (n > USAGE_BATCH_ROWS ? USAGE_BATCH_ROWS : n);
    pthread_mutex_unlock(&usage->lock);
    return work;
}

static void *run_thread(void *arg)
{
    struct usage *usage = arg;
    int64_t next_ns = sl_now_ns();
    if (usage->journal)
        sl_thread_stand_back(); /* the rows are on record already */
    else
        sl_thread_wake_soon(); /* answers wait for it */
    for (struct work work; work = wait_for_work(usage, next_ns), !work.end;) {
        if (work.from < work.to) {
            store_batch(usage, work.from, work.to);
            move_log(usage, false);
        }
        int64_t now_ns = sl_now_ns();
        if (now_ns < next_ns) continue;
        tick(usage);
        next_ns = now_ns + TICK_NS;
    }
    store_used_keys(usage);
    return NULL;
}

/* --- life --- */

/* A home in which no journal can be had is served without one. */
static sl_status open_journal(struct usage *usage, const struct usage_cfg *cfg, struct sl_err *err)
{
    struct usage_journal_pair pair;
    struct usage_recovery recovery;
    const struct usage_journal_cfg journal_cfg = {.bytes_step = cfg->journal_bytes};
    bool wanted = cfg->at_turn_end && cfg->sync == DB_SYNC_NORMAL;
    sl_status status = usage_recover(usage->db, cfg->path, wanted ? &pair : NULL, &recovery, err);
    if (status != SL_OK) return status;
    usage->stats.n_recovered = (uint64_t)recovery.n_rows;
    if (recovery.n_rows)
        sl_log(SL_LOG_INFO, "usage", "%lld rows came out of journals", (long long)recovery.n_rows);
    if (recovery.n_bytes_left)
        sl_log(SL_LOG_WARN, "usage", "%lld bytes at the ends of journals were no whole rows",
               (long long)recovery.n_bytes_left);
    if (wanted && pair.files[0].fd >= 0)
        status = usage_journal_create(&pair, &journal_cfg, &usage->journal, err);
    if (status != SL_OK && status != SL_NOMEM) {
        sl_log(SL_LOG_WARN, "usage", "without a journal: %s", err->text);
        status = SL_OK;
    }
    return status;
}

static sl_status open_table(struct usage *usage, const struct usage_cfg *cfg, struct sl_err *err)
{
    const struct db_cfg db_cfg = {.sync = cfg->sync, .own_checkpoints = true};
    sl_status status = db_open(cfg->path, &db_cfg, &usage->db, err);
    if (status == SL_OK) status = usage_writer_init(&usage->writer, usage->db, err);
    if (status == SL_OK)
        status = db_prepare(usage->db,
                            "UPDATE keys SET last_used_ms = max(last_used_ms, ?2) WHERE id = ?1",
                            &usage->touch, err);
    if (status == SL_OK) status = open_journal(usage, cfg, err);
    if (status == SL_OK) status = checkpointer_create(cfg->path, &usage->checkpointer, err);
    return status;
}

static void destroy_locks(struct usage *usage)
{
    pthread_cond_destroy(&usage->changed);
    pthread_mutex_destroy(&usage->lock);
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
    destroy_locks(usage);
    return sl_err_errno(err, rc, "start the database's thread");
}

static void free_usage(struct usage *usage)
{
    usage_writer_done(&usage->writer);
    db_finalize(usage->touch);
    usage_journal_destroy(usage->journal);
    checkpointer_destroy(usage->checkpointer);
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
    usage->on_room = cfg->on_room;
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
    if (usage->journal) end_turn(usage);
    usage->closed = true;
    offer(usage, usage->offered); /* what callbacks submitted */
    pthread_mutex_lock(&usage->lock);
    usage->closing = true;
    usage->close_ns = sl_now_ns() + CLOSE_NS;
    pthread_cond_signal(&usage->changed);
    pthread_mutex_unlock(&usage->lock);
    pthread_join(usage->thread, NULL);
    run_on_loop(usage);
    if (usage->journal && usage->stored == usage->offered) usage_journal_finish(usage->journal);
}

void usage_destroy(struct usage *usage)
{
    if (!usage) return;
    usage_close(usage);
    destroy_locks(usage);
    free_usage(usage);
}
