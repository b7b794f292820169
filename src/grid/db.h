/* db.h: the embedded database of one machine, $STARLANE_HOME/state.db, and the only way to it:
 * what is kept there survives a kill -9 of the process at any moment.
 * Floor: grid.  Thread: a connection and its statements belong to one thread at a time.
 * Allocates: db_open and db_prepare; SQLite keeps its own memory besides.
 * Invariant: an open connection has this program's schema (migrated by user_version), a
 * write-ahead log, a busy timeout and foreign keys; the file can be read by its owner only.
 * Several processes and threads may each hold connections at once: one writes at a time, readers
 * never wait. Durability (https://www.sqlite.org/pragma.html#pragma_synchronous): a commit is in
 * the kernel's page cache when it returns, so no death of the process loses it. DB_SYNC_NORMAL
 * may lose the last commits, never the database, when the power goes; DB_SYNC_FULL waits for the
 * disk at each commit. With either, the first commit of a log that begins anew waits for the
 * disk: its header must not be written after what follows it. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DB_BUSY_MS 5000 /* the wait for another writer; ours hold the lock for milliseconds */

/* Small: nearly all commits here are a few short rows, and each writes whole pages to the log. */
#define DB_PAGE_BYTES 1024

struct db;      /* opaque: one connection */
struct db_stmt; /* opaque: one prepared statement */

enum db_sync { DB_SYNC_NORMAL, DB_SYNC_FULL };

struct db_cfg {
    enum db_sync sync;
    bool own_checkpoints; /* the caller calls db_checkpoint; else commits do it now and then */
};

/* Opens the file, creates it (mode 0600) and its folder (0700) as needed, and brings the schema to
 * this program's version. cfg NULL: the defaults. CORRUPT: damaged, or no database of ours;
 * UNSUPPORTED: written by a newer Starlane; BUSY, DENIED, NOT_FOUND, IO, NOMEM. */
SL_CHECK sl_status db_open(const char *path, const struct db_cfg *cfg, struct db **out,
                           struct sl_err *err);
void db_close(struct db *db); /* NULL is fine; its statements must be gone */

/* Applies steps[user_version..n) in order, all in one transaction. Steps are only ever appended to
 * a list. UNSUPPORTED when the file is past n. db_open calls it with the program's own list. */
SL_CHECK sl_status db_migrate(struct db *db, const char *const *steps, int n, struct sl_err *err);

/* Reads every page and index. CORRUPT, with the first thing found. Takes time by the file's
 * size. */
SL_CHECK sl_status db_verify(struct db *db, struct sl_err *err);

/* Runs SQL text without parameters and results, several statements with ';' between. */
SL_CHECK sl_status db_exec(struct db *db, const char *sql, struct sl_err *err);

/* A transaction that writes: takes the write lock at once (BUSY after DB_BUSY_MS). */
SL_CHECK sl_status db_begin(struct db *db, struct sl_err *err);
/* Ends it: commits when status is OK (and rolls back should that fail), else rolls back. Returns
 * what became of it: status itself, or why the commit failed. err is set in the latter case
 * only. */
SL_CHECK sl_status db_end(struct db *db, sl_status status, struct sl_err *err);

/* One statement, to be run many times. INTERNAL for SQL that does not fit the schema. */
SL_CHECK sl_status db_prepare(struct db *db, const char *sql, struct db_stmt **out,
                              struct sl_err *err);
void db_finalize(struct db_stmt *stmt); /* NULL is fine */

/* Parameters count from 1. A failed bind (NOMEM, no such parameter) is reported by the next
 * db_step. Text and bytes are borrowed: alive at each step. NULL text binds NULL. */
void db_bind_int(struct db_stmt *stmt, int index, int64_t v);
void db_bind_num(struct db_stmt *stmt, int index, double v);
void db_bind_text(struct db_stmt *stmt, int index, const char *text);
void db_bind_blob(struct db_stmt *stmt, int index, const void *bytes, size_t n);
void db_bind_null(struct db_stmt *stmt, int index);

/* The next row: *row true, its columns readable until the next call on stmt. *row false: done.
 * After the last row and after a failure the statement is reset and may be bound again; parameters
 * keep their values until bound anew. EXISTS for a broken UNIQUE, INVALID for another
 * constraint. */
SL_CHECK sl_status db_step(struct db_stmt *stmt, bool *row, struct sl_err *err);
/* Runs a statement whose rows nobody wants. */
SL_CHECK sl_status db_run(struct db_stmt *stmt, struct sl_err *err);
void db_reset(struct db_stmt *stmt); /* leaves it before its last row */

/* Columns count from 0; a NULL reads as 0 and as "". Text and bytes are borrowed until db_step. */
int64_t db_column_int(struct db_stmt *stmt, int column);
double db_column_num(struct db_stmt *stmt, int column);
const char *db_column_text(struct db_stmt *stmt, int column);
const void *db_column_blob(struct db_stmt *stmt, int column, size_t *n);
bool db_column_is_null(struct db_stmt *stmt, int column);

/* A query with one integer in its one row; NOT_FOUND without a row. */
SL_CHECK sl_status db_query_int(struct db *db, const char *sql, int64_t *out, struct sl_err *err);

int64_t db_changes(struct db *db); /* rows that the last INSERT, UPDATE or DELETE changed */

/* Pages in the write-ahead log after this connection's last commit. */
int64_t db_wal_pages(struct db *db);
/* Moves what it can of the log into the file without waiting for anybody, so that the log starts
 * anew at the next commit. Waits for the disk. */
SL_CHECK sl_status db_checkpoint(struct db *db, struct sl_err *err);
