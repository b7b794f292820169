/* db.c: connections: the file, its settings, transactions, the log. */
#include "grid/db.h"

#include "base/mem.h"
#include "grid/db_int.h"
#include "grid/db_schema.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* "Star": says in the file's header whose it is (https://www.sqlite.org/fileformat.html, 1.3). */
#define APPLICATION_ID 0x53746172
/* The log's file shrinks to this when it starts anew; a long transaction may have let it grow. */
#define WAL_FILE_BYTES "67108864"

static sl_status status_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return SL_OK;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return SL_BUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return SL_CORRUPT;
    case SQLITE_NOMEM: return SL_NOMEM;
    case SQLITE_PERM:
    case SQLITE_READONLY: return SL_DENIED;
    case SQLITE_TOOBIG: return SL_LIMIT;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL: return SL_IO;
    case SQLITE_CONSTRAINT:
        return rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ? SL_EXISTS
                                                                                    : SL_INVALID;
    default: return SL_INTERNAL;
    }
}

sl_status db_fail(struct db *db, int rc, const char *doing, struct sl_err *err)
{
    sl_status status = status_of(rc);
    if (status == SL_CORRUPT)
        return sl_err_set(err, status,
                          "%s: the file is damaged or no database (%s); move it away, or put a "
                          "backup in its place",
                          db->path, sqlite3_errmsg(db->handle));
    if (status == SL_BUSY)
        return sl_err_set(err, status, "%s: %s: locked by another process for %d s", db->path,
                          doing, DB_BUSY_MS / 1000);
    return sl_err_set(err, status, "%s: %s: %s", db->path, doing, sqlite3_errmsg(db->handle));
}

sl_status db_exec(struct db *db, const char *sql, struct sl_err *err)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SL_OK : db_fail(db, rc, "execute", err);
}

sl_status db_query_int(struct db *db, const char *sql, int64_t *out, struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row = false;
    sl_status status = db_prepare(db, sql, &stmt, err);
    if (status != SL_OK) return status;
    status = db_step(stmt, &row, err);
    if (status == SL_OK && !row)
        status = sl_err_set(err, SL_NOT_FOUND, "%s: no such row", db->path);
    if (status == SL_OK) *out = db_column_int(stmt, 0);
    db_finalize(stmt);
    return status;
}

static sl_status run_kept(struct db *db, sqlite3_stmt **kept, const char *sql, struct sl_err *err)
{
    int rc = SQLITE_OK;
    if (!*kept) rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, kept, NULL);
    if (rc == SQLITE_OK) {
        (void)sqlite3_step(*kept);
        rc = sqlite3_reset(*kept); /* repeats what the step said */
    }
    return rc == SQLITE_OK ? SL_OK : db_fail(db, rc, "execute", err);
}

sl_status db_begin(struct db *db, struct sl_err *err)
{
    return run_kept(db, &db->begin, "BEGIN IMMEDIATE", err);
}

sl_status db_end(struct db *db, sl_status status, struct sl_err *err)
{
    if (status == SL_OK) status = run_kept(db, &db->commit, "COMMIT", err);
    /* Some failures have rolled back by themselves already. */
    if (status != SL_OK && !sqlite3_get_autocommit(db->handle))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

int64_t db_changes(struct db *db)
{
    return sqlite3_changes64(db->handle);
}

int64_t db_wal_pages(struct db *db)
{
    return db->wal_pages;
}

sl_status db_checkpoint(struct db *db, struct sl_err *err)
{
    int n_log = 0, n_moved = 0;
    int rc =
        sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &n_log, &n_moved);
    if (rc != SQLITE_OK && rc != SQLITE_BUSY) return db_fail(db, rc, "checkpoint", err);
    /* What is moved is gone from the log at the next commit. */
    if (rc == SQLITE_OK && n_log >= n_moved) db->wal_pages = n_log - n_moved;
    return SL_OK;
}

/* The hook takes the place of SQLite's own checkpoints, which count pages in the same way. */
static int on_commit(void *arg, sqlite3 *handle, const char *schema, int n_pages)
{
    (void)handle;
    (void)schema;
    struct db *db = arg;
    db->wal_pages = n_pages;
    return SQLITE_OK;
}

sl_status db_verify(struct db *db, struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row;
    sl_status status = db_prepare(db, "PRAGMA integrity_check(1)", &stmt, err);
    if (status != SL_OK) return status;
    status = db_step(stmt, &row, err);
    if (status == SL_OK && row && strcmp(db_column_text(stmt, 0), "ok") != 0)
        status = sl_err_set(err, SL_CORRUPT, "%s: damaged: %s", db->path, db_column_text(stmt, 0));
    db_finalize(stmt);
    return status;
}

static sl_status apply_steps(struct db *db, const char *const *steps, int64_t from, int n,
                             struct sl_err *err)
{
    char version[64];
    for (int64_t i = from; i < n; i++) {
        sl_status status = db_exec(db, steps[i], err);
        if (status != SL_OK) return sl_err_prefix(err, "schema step %d", (int)i);
    }
    snprintf(version, sizeof version, "PRAGMA user_version=%d", n);
    return db_exec(db, version, err);
}

static sl_status schema_version(struct db *db, int n, int64_t *out, struct sl_err *err)
{
    sl_status status = db_query_int(db, "PRAGMA user_version", out, err);
    if (status == SL_OK && (*out > n || *out < 0))
        return sl_err_set(err, SL_UNSUPPORTED,
                          "%s: written by a newer Starlane (its version %lld, known here: %d); "
                          "install that one",
                          db->path, (long long)*out, n);
    return status;
}

sl_status db_migrate(struct db *db, const char *const *steps, int n, struct sl_err *err)
{
    int64_t version;
    sl_status status = schema_version(db, n, &version, err);
    if (status != SL_OK || version == n) return status;
    status = db_begin(db, err);
    if (status != SL_OK) return status;
    /* Another process may have been faster. */
    status = schema_version(db, n, &version, err);
    if (status == SL_OK && version < n) status = apply_steps(db, steps, version, n, err);
    return db_end(db, status, err);
}

/* A database without any mark is ours to take only while it is empty. */
static sl_status claim(struct db *db, struct sl_err *err)
{
    int64_t id, n_tables = 0;
    sl_status status = db_query_int(db, "PRAGMA application_id", &id, err);
    if (status != SL_OK || id == APPLICATION_ID) return status;
    if (id == 0) status = db_query_int(db, "SELECT count(*) FROM sqlite_schema", &n_tables, err);
    if (status != SL_OK) return status;
    if (id != 0 || n_tables > 0)
        return sl_err_set(err, SL_CORRUPT, "%s: a database of another program", db->path);
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d", APPLICATION_ID);
    return db_exec(db, sql, err);
}

/* Several processes may find an empty file at once: one claims it, the rest find it claimed. */
static sl_status claim_alone(struct db *db, struct sl_err *err)
{
    int64_t id = 0;
    sl_status status = db_query_int(db, "PRAGMA application_id", &id, err);
    if (status != SL_OK || id == APPLICATION_ID) return status;
    status = db_begin(db, err);
    if (status != SL_OK) return status;
    return db_end(db, claim(db, err), err);
}

/* Changing the mode needs the file for a moment alone, and SQLite does not wait for that. */
static sl_status use_wal(struct db *db, struct sl_err *err)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int rc = SQLITE_BUSY;
    for (int waited_ms = 0; waited_ms < DB_BUSY_MS; waited_ms += 5) {
        rc = sqlite3_exec(db->handle, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
        if (rc != SQLITE_BUSY) break;
        nanosleep(&pause, NULL);
    }
    return rc == SQLITE_OK ? SL_OK : db_fail(db, rc, "open", err);
}

static sl_status set_up(struct db *db, const struct db_cfg *cfg, struct sl_err *err)
{
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
    char page_size[64];
    snprintf(page_size, sizeof page_size, "PRAGMA page_size=%d", DB_PAGE_BYTES);
    sl_status status = db_exec(db, page_size, err); /* heeded while the file is empty */
    if (status == SL_OK) status = claim_alone(db, err);
    if (status == SL_OK) status = use_wal(db, err);
    if (status == SL_OK)
        status = db_exec(db,
                         "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                         "PRAGMA journal_size_limit=" WAL_FILE_BYTES,
                         err);
    if (status == SL_OK)
        status = db_exec(
            db, cfg->sync == DB_SYNC_FULL ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL",
            err);
    if (status == SL_OK) status = db_migrate(db, db_schema_steps, db_schema_n_steps, err);
    if (status == SL_OK && cfg->own_checkpoints) sqlite3_wal_hook(db->handle, on_commit, db);
    return status;
}

/* Parents are the user's matter. */
static sl_status make_folder(const char *path, struct sl_err *err)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return SL_OK;
    size_t n = (size_t)(slash - path);
    if (n >= sizeof folder) return sl_err_set(err, SL_LIMIT, "the path is too long");
    memcpy(folder, path, n);
    folder[n] = '\0';
    if (mkdir(folder, 0700) == 0 || errno == EEXIST) return SL_OK;
    return sl_err_errno(err, errno, "make folder %s", folder);
}

/* SQLite would create the file as the umask says; its -wal and -shm take the file's mode. The file
 * is never opened here: closing it again would drop the locks of this process's other connections
 * (https://www.sqlite.org/howtocorrupt.html, 2.2). */
static sl_status make_file(const char *path, struct sl_err *err)
{
    struct stat st;
    sl_status status = make_folder(path, err);
    if (status != SL_OK) return status;
    if (mknod(path, S_IFREG | 0600, 0) != 0 && errno != EEXIST)
        return sl_err_errno(err, errno, "make %s", path);
    if (stat(path, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode)) return sl_err_set(err, SL_INVALID, "%s: not a file", path);
    if ((st.st_mode & 077) && chmod(path, 0600) != 0)
        return sl_err_errno(err, errno, "%s: others may read it, and it cannot be made private",
                            path);
    return SL_OK;
}

sl_status db_open(const char *path, const struct db_cfg *cfg, struct db **out, struct sl_err *err)
{
    const struct db_cfg defaults = {.sync = DB_SYNC_NORMAL};
    /* The lock is the caller's thread. */
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    sl_status status = make_file(path, err);
    if (status != SL_OK) return status;
    size_t n = strlen(path) + 1;
    struct db *db = sl_calloc(1, sizeof *db + n);
    if (!db) return sl_err_set(err, SL_NOMEM, "%s: out of memory", path);
    memcpy(db->path, path, n);
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK) {
        status = db_fail(db, rc, "open", err);
        goto fail;
    }
    status = set_up(db, cfg ? cfg : &defaults, err);
    if (status != SL_OK) goto fail;
    *out = db;
    return SL_OK;
fail:
    db_close(db);
    return status;
}

void db_close(struct db *db)
{
    if (!db) return;
    (void)sqlite3_finalize(db->begin);
    (void)sqlite3_finalize(db->commit);
    (void)sqlite3_close(db->handle);
    sl_free(db);
}
