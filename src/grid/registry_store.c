/* registry_store.c: one row a member, its entry as JSON. */
#include "grid/registry_store.h"
#include "grid/db.h"

#include <string.h>

static sl_status take_row(struct registry *registry, const char *text, struct sl_err *err)
{
    struct sl_json_value *value = NULL;
    struct member member;
    if (sl_json_parse(text, strlen(text), &value, NULL) != SL_OK) return SL_OK;
    bool readable = member_read(value, &member, NULL) == SL_OK;
    sl_json_free(value);
    return readable ? registry_merge(registry, &member, NULL, err) : SL_OK;
}

sl_status registry_load(struct registry *registry, struct db *db, struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row = true;
    sl_status status = db_prepare(db, "SELECT entry FROM members", &stmt, err);
    if (status != SL_OK) return status;
    while (status == SL_OK && row) {
        status = db_step(stmt, &row, err);
        if (status == SL_OK && row) status = take_row(registry, db_column_text(stmt, 0), err);
    }
    db_finalize(stmt);
    return status;
}

static sl_status save_one(struct db_stmt *stmt, const struct member *member, struct sl_err *err)
{
    struct sl_json json;
    struct sl_buf text;
    sl_buf_init(&text, MEMBER_JSON_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    member_put(&json, member);
    sl_status status = sl_json_end(&json);
    if (status != SL_OK) sl_err_set(err, status, "a member's entry: %s", sl_status_text(status));
    db_bind_text(stmt, 1, member->id);
    db_bind_text(stmt, 2, text.data);
    if (status == SL_OK) status = db_run(stmt, err);
    sl_buf_done(&text);
    return status;
}

static sl_status prepare(struct db *db, struct db_stmt **out, struct sl_err *err)
{
    return db_prepare(db, "INSERT OR REPLACE INTO members(id, entry) VALUES(?1, ?2)", out, err);
}

sl_status registry_save(struct db *db, const struct member *members, size_t n, struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = prepare(db, &stmt, err);
    if (status != SL_OK) return status;
    status = db_begin(db, err);
    if (status == SL_OK) {
        for (size_t i = 0; i < n && status == SL_OK; i++) status = save_one(stmt, &members[i], err);
        status = db_end(db, status, err);
    }
    db_finalize(stmt);
    return status;
}

static sl_status replace_all(struct db *db, struct db_stmt *stmt, const struct registry *registry,
                             struct sl_err *err)
{
    sl_status status = db_exec(db, "DELETE FROM members", err);
    for (size_t i = 0; i < registry_count(registry) && status == SL_OK; i++)
        status = save_one(stmt, registry_at(registry, i), err);
    return status;
}

sl_status registry_save_all(struct db *db, const struct registry *registry, struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = prepare(db, &stmt, err);
    if (status != SL_OK) return status;
    status = db_begin(db, err);
    if (status == SL_OK) status = db_end(db, replace_all(db, stmt, registry, err), err);
    db_finalize(stmt);
    return status;
}
