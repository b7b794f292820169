/* db_stmt.c: prepared statements. */
#include "base/mem.h"
#include "grid/db_int.h"

struct db_stmt {
    struct db *db;
    sqlite3_stmt *handle;
    int bind_rc; /* the first failure since the last step */
};

sl_status db_prepare(struct db *db, const char *sql, struct db_stmt **out, struct sl_err *err)
{
    struct db_stmt *stmt = sl_calloc(1, sizeof *stmt);
    if (!stmt) return sl_err_set(err, SL_NOMEM, "%s: prepare: out of memory", db->path);
    stmt->db = db;
    int rc =
        sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt->handle, NULL);
    if (rc != SQLITE_OK) {
        sl_free(stmt);
        return db_fail(db, rc, "prepare", err);
    }
    *out = stmt;
    return SL_OK;
}

void db_finalize(struct db_stmt *stmt)
{
    if (!stmt) return;
    (void)sqlite3_finalize(stmt->handle); /* repeats the last step's result, which is known */
    sl_free(stmt);
}

static void bound(struct db_stmt *stmt, int rc)
{
    if (stmt->bind_rc == SQLITE_OK) stmt->bind_rc = rc;
}

void db_bind_int(struct db_stmt *stmt, int index, int64_t v)
{
    bound(stmt, sqlite3_bind_int64(stmt->handle, index, v));
}

void db_bind_num(struct db_stmt *stmt, int index, double v)
{
    bound(stmt, sqlite3_bind_double(stmt->handle, index, v));
}

void db_bind_text(struct db_stmt *stmt, int index, const char *text)
{
    bound(stmt, sqlite3_bind_text(stmt->handle, index, text, -1, SQLITE_STATIC));
}

void db_bind_blob(struct db_stmt *stmt, int index, const void *bytes, size_t n)
{
    bound(stmt, sqlite3_bind_blob64(stmt->handle, index, bytes, n, SQLITE_STATIC));
}

void db_bind_null(struct db_stmt *stmt, int index)
{
    bound(stmt, sqlite3_bind_null(stmt->handle, index));
}

void db_reset(struct db_stmt *stmt)
{
    (void)sqlite3_reset(stmt->handle); /* as in db_finalize */
    stmt->bind_rc = SQLITE_OK;
}

sl_status db_step(struct db_stmt *stmt, bool *row, struct sl_err *err)
{
    int rc = stmt->bind_rc != SQLITE_OK ? stmt->bind_rc : sqlite3_step(stmt->handle);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) return SL_OK;
    sl_status status = rc == SQLITE_DONE ? SL_OK : db_fail(stmt->db, rc, "step", err);
    db_reset(stmt);
    return status;
}

sl_status db_run(struct db_stmt *stmt, struct sl_err *err)
{
    bool row = true;
    sl_status status = SL_OK;
    while (status == SL_OK && row) status = db_step(stmt, &row, err);
    return status;
}

int64_t db_column_int(struct db_stmt *stmt, int column)
{
    return sqlite3_column_int64(stmt->handle, column);
}

double db_column_num(struct db_stmt *stmt, int column)
{
    return sqlite3_column_double(stmt->handle, column);
}

const char *db_column_text(struct db_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt->handle, column);
    return text ? text : "";
}

const void *db_column_blob(struct db_stmt *stmt, int column, size_t *n)
{
    const void *bytes = sqlite3_column_blob(stmt->handle, column);
    *n = (size_t)sqlite3_column_bytes(stmt->handle, column);
    return bytes;
}

bool db_column_is_null(struct db_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt->handle, column) == SQLITE_NULL;
}
