/* usage.h: what every finished request used, one row each, kept before its client hears the end.
 * Floor: access.  Thread: a `struct usage` is driven by the loop thread and has two threads of its
 * own; functions that take a `struct db` run on that connection's thread.
 * Allocates: usage_create (all rows that may wait).
 *
 * The loop gives a row to usage_submit and holds the last bytes of the answer back until the row's
 * callback. At the end of its turn it appends the turn's rows to a journal (usage_journal.h) with
 * one write(2), and calls back: no row waits for a database, a lock or another thread. The thread
 * gathers rows for USAGE_GATHER_NS, or until there are USAGE_LAZY_ROWS, and puts them into the
 * table in one transaction, which also notes how far the journal is stored. What a kill -9 leaves
 * in the journal is stored by the next start, or by a command that reads usage (usage_recover.h),
 * each row once. A commit that fails is tried again until it does not: a row that was called back
 * is never dropped.
 * Without a journal - with DB_SYNC_FULL, when its disk is full, while rows of that kind still wait
 * - rows are called back after their commit, by one completion for all rows of it. Such a row that
 * the thread could not store (disk full, database locked for DB_BUSY_MS) is not tried again: its
 * callback gets the error, and the gateway decides whether the answer ends well without it.
 * Either way a row whose callback said OK survives a kill -9 at any moment; a power cut may take
 * the last ones, but with DB_SYNC_FULL none.
 * A second thread moves the write-ahead log into the file (usage_checkpoint.h).
 *
 * The thread that stores rows also, once a second: takes changed API keys to the loop's `struct
 * keys`, notes when keys were last used, and moves some rows older than retain_days into daily
 * sums.
 *
 * Invariant: every row that usage_submit accepted gets its callback exactly once, on the loop
 * thread, in the order of submission. */
#pragma once
#include "access/keys.h"
#include "base/err.h"
#include "grid/db.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USAGE_ID_MAX 63
#define USAGE_MODEL_MAX 127
#define USAGE_WORD_MAX 31          /* endpoint, finish reason */
#define USAGE_BATCH_ROWS 1024      /* of one transaction: about 5 ms of work */
#define USAGE_LAZY_ROWS 512        /* of the journal are not gathered any longer */
#define USAGE_GATHER_NS 20000000   /* nor when the first of them waits so long */
#define USAGE_QUEUE_ROWS 8192      /* default of rows_max: a second at 8,000 requests/s */
#define USAGE_WAL_PAGES_STEP 32768 /* 32 MB of log: worth moving; less stalls more often */
#define USAGE_WAL_PAGES_MAX 65536  /* 64 MB of log: the writer itself sees to it that it ends */
#define USAGE_SWEEP_ROWS 2000      /* old rows summed up a second: some 10 ms of work */

enum usage_energy { USAGE_ENERGY_NONE, USAGE_ENERGY_MEASURED, USAGE_ENERGY_MODELLED };

/* Texts are valid UTF-8 and NUL-ended. */
struct usage_row {
    char request_id[USAGE_ID_MAX + 1];
    char key_id[KEYS_ID_CHARS + 1]; /* "": no key was needed */
    char model[USAGE_MODEL_MAX + 1];
    char endpoint[USAGE_WORD_MAX + 1]; /* "/v1/chat/completions" */
    char finish[USAGE_WORD_MAX + 1];   /* "stop", "length", "cancelled", "error", ... */
    int qos_class;                     /* as in keys.h */
    int http_status;
    int64_t finished_ms; /* Unix time */
    int64_t prompt_tokens,
        cached_tokens; /* cached: those of the prompt found in the prefix cache */
    int64_t completion_tokens, reasoning_tokens; /* reasoning: those of the completion within it */
    int64_t queue_us, first_token_us, total_us;  /* since the request came in; -1: did not happen */
    double energy_joules;
    enum usage_energy energy; /* how energy_joules is known; NONE: it is not, and not stored */
};

/* --- the writer --- */

struct usage; /* opaque */

/* Runs fn(arg) on the loop thread, soon; called from the database's thread, with one such call
 * under way at a time at most. BUSY (loop_post's) is tried again within a second. */
typedef sl_status (*usage_post_fn)(void *loop, void (*fn)(void *arg), void *arg);

/* As at_turn_end asks the loop to call usage_turn_end at the end of this turn, or of the next when
 * that is under way. Called by the loop thread, once until then. */
typedef void (*usage_turn_fn)(void *loop);

/* status OK: the row is stored. Else it is not, and err says why (err is never NULL). */
typedef void (*usage_done_fn)(void *arg, sl_status status, const struct sl_err *err);

struct usage_cfg {
    const char *path; /* of state.db */
    enum db_sync sync;
    size_t rows_max;   /* that may wait or be in work; 0: USAGE_QUEUE_ROWS */
    int retain_days;   /* 0: rows are kept for ever */
    struct keys *keys; /* kept up to date; borrowed, the loop's; NULL: none */
    usage_post_fn post;
    usage_turn_fn at_turn_end; /* NULL: there is no journal, as with DB_SYNC_FULL */
    /* After usage_submit said BUSY: rows may be handed in again. NULL: nobody cares. */
    usage_turn_fn on_room;
    void *loop;            /* for these three */
    int64_t journal_bytes; /* of a file, then comes the other; 0: USAGE_JOURNAL_STEP */
};

/* Opens the database, stores what journals still hold, and starts the thread. Keys are not loaded
 * yet: that is keys_load's work. What db_open says, NOMEM. */
SL_CHECK sl_status usage_create(const struct usage_cfg *cfg, struct usage **out,
                                struct sl_err *err);

/* Copies the row and returns at once. BUSY when rows_max rows wait: the disk does not keep up; what
 * the last commit said when they wait because it failed; CANCELLED after usage_close. done is
 * called only after OK. */
SL_CHECK sl_status usage_submit(struct usage *usage, const struct usage_row *row,
                                usage_done_fn done, void *arg);

/* Writes the rows of this turn to the journal and calls back, or hands them to the thread. */
void usage_turn_end(struct usage *usage);

/* Stores what waits, ends the thread and calls the callbacks that are due, all before it returns. A
 * commit that fails is tried for some seconds; rows of the journal then stay there. Calls after the
 * first do nothing. */
void usage_close(struct usage *usage);

/* Closes and frees. What was posted to the loop must have run or been dropped before: end the loop
 * between usage_close and usage_destroy. NULL is fine. */
void usage_destroy(struct usage *usage);

struct usage_stats {
    uint64_t n_stored, n_failed; /* rows */
    uint64_t n_journaled;        /* rows written to the journal */
    uint64_t n_recovered;        /* rows that were found in journals at the start */
    uint64_t n_commits, n_checkpoints;
    uint64_t
        n_errors;     /* failures that cost no row: its commit is tried again, or no row is in it */
    size_t n_waiting; /* rows accepted whose callback has not run */
    size_t n_pending; /* rows that the thread has not stored yet */
    int64_t journal_bytes, wal_bytes;
};
/* All of it at one moment; from any thread. */
void usage_stats(struct usage *usage, struct usage_stats *out);
/* The latest failure, for the log; status OK when there was none. */
void usage_last_error(struct usage *usage, struct sl_err *out);

/* --- the table --- */

/* Sums up rows that finished before `before_ms` into usage_daily and deletes them, at most rows_max
 * of them, oldest first, in one transaction. *n_moved == rows_max: there may be more. */
SL_CHECK sl_status usage_sweep(struct db *db, int64_t before_ms, int64_t rows_max, int64_t *n_moved,
                               struct sl_err *err);

enum usage_group {
    USAGE_BY_DAY,
    USAGE_BY_KEY,
    USAGE_BY_MODEL,
    USAGE_BY_ENDPOINT,
    USAGE_BY_NOTHING
};

struct usage_query {
    const char *key;   /* id or name; NULL: all, as in each of these */
    const char *model; /* the exact name */
    int64_t since_ms;  /* Unix time; 0: from the beginning */
    int64_t until_ms;  /* exclusive; 0: to the end */
    enum usage_group group;
};

/* Sums of one group. Means are sum / count of those requests in which it happened. */
struct usage_sum {
    const char *group;            /* "2026-11-21" (UTC), key id, model, endpoint, or ""; borrowed */
    const char *name;             /* of the key, when grouped by it and known; else "" */
    int64_t n_requests, n_failed; /* failed: HTTP status of 400 and more */
    int64_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
    int64_t queue_us, n_queue, first_token_us, n_first_token, total_us;
    double joules_measured, joules_modelled;
    int64_t n_measured, n_modelled;
};
/* Not OK stops the walk and is returned. */
typedef sl_status (*usage_sum_fn)(void *arg, const struct usage_sum *sum, struct sl_err *err);

/* Calls fn for each group, days in order of time, the rest by tokens, most first. A day that is
 * already summed up counts whole when any of it lies in [since_ms, until_ms). NOT_FOUND for an
 * unknown key. */
SL_CHECK sl_status usage_sum(struct db *db, const struct usage_query *query, usage_sum_fn fn,
                             void *arg, struct sl_err *err);
