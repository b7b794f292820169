/* usage_table.c: rows of usage in the database: one in, sums out, old ones into daily sums. */
#include "access/usage_int.h"
#include "access/usage_journal.h"
#include "base/buf.h"
#include "grid/db.h"

#define SQL_MAX 4096 /* the longest statement here is about 2,000 characters */

sl_status usage_prepare_insert(struct db *db, struct db_stmt **out, struct sl_err *err)
{
    return db_prepare(
        db,
        "INSERT INTO usage(id, finished_ms, request_id, key_id, model, endpoint, qos_class,"
        " http_status, finish, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,"
        " queue_us, first_token_us, total_us, joules, energy)"
        " VALUES(max(?1 << 20, ifnull((SELECT max(id) FROM usage), 0) + 1),"
        " ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        out, err);
}

static void bind_duration(struct db_stmt *stmt, int index, int64_t us)
{
    if (us < 0)
        db_bind_null(stmt, index);
    else
        db_bind_int(stmt, index, us);
}

sl_status usage_insert(struct db_stmt *stmt, const struct usage_row *row, struct sl_err *err)
{
    db_bind_int(stmt, 1, row->finished_ms);
    db_bind_text(stmt, 2, row->request_id);
    db_bind_text(stmt, 3, row->key_id);
    db_bind_text(stmt, 4, row->model);
    db_bind_text(stmt, 5, row->endpoint);
    db_bind_text(stmt, 6, keys_class_name(row->qos_class));
    db_bind_int(stmt, 7, row->http_status);
    db_bind_text(stmt, 8, row->finish);
    db_bind_int(stmt, 9, row->prompt_tokens);
    db_bind_int(stmt, 10, row->cached_tokens);
    db_bind_int(stmt, 11, row->completion_tokens);
    db_bind_int(stmt, 12, row->reasoning_tokens);
    bind_duration(stmt, 13, row->queue_us);
    bind_duration(stmt, 14, row->first_token_us);
    db_bind_int(stmt, 15, row->total_us < 0 ? 0 : row->total_us);
    if (row->energy == USAGE_ENERGY_NONE)
        db_bind_null(stmt, 16);
    else
        db_bind_num(stmt, 16, row->energy_joules);
    db_bind_int(stmt, 17, row->energy);
    return db_run(stmt, err);
}

/* --- rows of a journal --- */

sl_status usage_writer_init(struct usage_writer *writer, struct db *db, struct sl_err *err)
{
    *writer = (struct usage_writer){.db = db};
    sl_status status = usage_prepare_insert(db, &writer->insert, err);
    if (status == SL_OK)
        status =
            db_prepare(db, "SELECT applied FROM usage_journals WHERE name = ?1 AND identity = ?2",
                       &writer->applied, err);
    if (status == SL_OK)
        status = db_prepare(db,
                            "INSERT OR REPLACE INTO usage_journals(name, identity, applied)"
                            " VALUES(?1, ?2, ?3)",
                            &writer->mark, err);
    return status;
}

void usage_writer_done(struct usage_writer *writer)
{
    db_finalize(writer->insert);
    db_finalize(writer->applied);
    db_finalize(writer->mark);
    *writer = (struct usage_writer){0};
}

sl_status usage_applied(struct usage_writer *writer, const char *name, uint64_t identity,
                        uint64_t *out, struct sl_err *err)
{
    bool row;
    db_bind_text(writer->applied, 1, name);
    db_bind_int(writer->applied, 2, (int64_t)identity);
    sl_status status = db_step(writer->applied, &row, err);
    if (status != SL_OK) return status;
    *out = row ? (uint64_t)db_column_int(writer->applied, 0) : 0;
    db_reset(writer->applied);
    return SL_OK;
}

sl_status usage_mark(struct usage_writer *writer, const char *name, uint64_t identity, uint64_t seq,
                     struct sl_err *err)
{
    db_bind_text(writer->mark, 1, name);
    db_bind_int(writer->mark, 2, (int64_t)identity);
    db_bind_int(writer->mark, 3, (int64_t)seq);
    return db_run(writer->mark, err);
}

/* How far each file is stored: before and after the rows of a transaction. */
struct progress {
    uint64_t applied, seq;
};

static sl_status read_progress(struct usage_writer *writer, const struct usage_journal *journal,
                               struct progress progress[2], struct sl_err *err)
{
    sl_status status = SL_OK;
    for (int i = 0; status == SL_OK && i < 2; i++) {
        const char *name = usage_journal_file_name(journal, i);
        status = usage_applied(writer, name, usage_journal_identity(journal, i),
                               &progress[i].applied, err);
        progress[i].seq = progress[i].applied;
    }
    return status;
}

static sl_status write_progress(struct usage_writer *writer, const struct usage_journal *journal,
                                const struct progress progress[2], struct sl_err *err)
{
    sl_status status = SL_OK;
    for (int i = 0; status == SL_OK && i < 2; i++)
        if (progress[i].seq > progress[i].applied)
            status = usage_mark(writer, usage_journal_file_name(journal, i),
                                usage_journal_identity(journal, i), progress[i].seq, err);
    return status;
}

static sl_status store_slot(struct usage_writer *writer, const struct usage_slot *slot,
                            struct progress progress[2], struct sl_err *err)
{
    if (slot->settled) return SL_OK;
    if (slot->file) {
        struct progress *of = &progress[slot->file - 1];
        if (slot->seq <= of->applied) return SL_OK; /* by a commit that said it had failed */
        of->seq = slot->seq;
    }
    return usage_insert(writer->insert, &slot->row, err);
}

sl_status usage_store(struct usage_writer *writer, const struct usage_ring *ring, uint64_t from,
                      uint64_t to, const struct usage_journal *journal, struct sl_err *err)
{
    struct progress progress[2] = {0};
    sl_status status = db_begin(writer->db, err);
    if (status != SL_OK) return status;
    if (journal) status = read_progress(writer, journal, progress, err);
    for (uint64_t i = from; status == SL_OK && i < to; i++)
        status = store_slot(writer, usage_slot_at(ring, i), progress, err);
    if (status == SL_OK && journal) status = write_progress(writer, journal, progress, err);
    return db_end(writer->db, status, err);
}

/* The columns of usage_daily after its key, in the order of the table; and a row of `usage` as such
 * sums of one request. */
#define SUMS \
    "n_requests, n_failed, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens," \
    " queue_us, n_queue, first_token_us, n_first_token, total_us," \
    " joules_measured, n_measured, joules_modelled, n_modelled"
#define ROW_AS_SUMS \
    "1 AS n_requests, http_status >= 400 AS n_failed," \
    " prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens," \
    " ifnull(queue_us, 0) AS queue_us, queue_us IS NOT NULL AS n_queue," \
    " ifnull(first_token_us, 0) AS first_token_us, first_token_us IS NOT NULL AS n_first_token," \
    " total_us," \
    " iif(energy = 1, joules, 0.0) AS joules_measured, energy = 1 AS n_measured," \
    " iif(energy = 2, joules, 0.0) AS joules_modelled, energy = 2 AS n_modelled"
#define SUMMED \
    "sum(n_requests), sum(n_failed), sum(prompt_tokens), sum(cached_tokens)," \
    " sum(completion_tokens), sum(reasoning_tokens), sum(queue_us), sum(n_queue)," \
    " sum(first_token_us), sum(n_first_token), sum(total_us), sum(joules_measured)," \
    " sum(n_measured), sum(joules_modelled), sum(n_modelled)"

/* Those of the first rows that are old: bounded work also when there is none. */
#define OLD_ROWS \
    "SELECT id FROM (SELECT id, finished_ms FROM usage ORDER BY id LIMIT ?2)" \
    " WHERE finished_ms < ?1"

static const char add_old_sql[] =
    "INSERT INTO usage_daily(day, key_id, model, endpoint, " SUMS ")"
    " SELECT day, key_id, model, endpoint, " SUMMED
    " FROM (SELECT finished_ms / 86400000 AS day, key_id, model, endpoint, " ROW_AS_SUMS
    "  FROM usage WHERE id IN (" OLD_ROWS ")) WHERE true GROUP BY 1, 2, 3, 4"
    " ON CONFLICT DO UPDATE SET n_requests = n_requests + excluded.n_requests,"
    " n_failed = n_failed + excluded.n_failed,"
    " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
    " cached_tokens = cached_tokens + excluded.cached_tokens,"
    " completion_tokens = completion_tokens + excluded.completion_tokens,"
    " reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,"
    " queue_us = queue_us + excluded.queue_us, n_queue = n_queue + excluded.n_queue,"
    " first_token_us = first_token_us + excluded.first_token_us,"
    " n_first_token = n_first_token + excluded.n_first_token,"
    " total_us = total_us + excluded.total_us,"
    " joules_measured = joules_measured + excluded.joules_measured,"
    " n_measured = n_measured + excluded.n_measured,"
    " joules_modelled = joules_modelled + excluded.joules_modelled,"
    " n_modelled = n_modelled + excluded.n_modelled";
static const char delete_old_sql[] = "DELETE FROM usage WHERE id IN (" OLD_ROWS ")";

static sl_status run_on_old(struct db *db, const char *sql, int64_t before_ms, int64_t rows_max,
                            struct sl_err *err)
{
    struct db_stmt *stmt;
    sl_status status = db_prepare(db, sql, &stmt, err);
    if (status != SL_OK) return status;
    db_bind_int(stmt, 1, before_ms);
    db_bind_int(stmt, 2, rows_max);
    status = db_run(stmt, err);
    db_finalize(stmt);
    return status;
}

sl_status usage_sweep(struct db *db, int64_t before_ms, int64_t rows_max, int64_t *n_moved,
                      struct sl_err *err)
{
    int64_t n = 0;
    sl_status status = db_begin(db, err);
    if (status != SL_OK) return status;
    status = run_on_old(db, add_old_sql, before_ms, rows_max, err);
    if (status == SL_OK) status = run_on_old(db, delete_old_sql, before_ms, rows_max, err);
    if (status == SL_OK) n = db_changes(db);
    status = db_end(db, status, err);
    if (status == SL_OK) *n_moved = n;
    return status;
}

/* What a group is called in `usage`, in usage_daily, and for people; how groups are ordered. */
struct grouping {
    const char *row, *daily, *shown, *name, *order;
};
#define BY_TOKENS "sum(prompt_tokens + completion_tokens) DESC, g"
#define NO_NAME "''"
static const struct grouping groupings[] = {
    [USAGE_BY_DAY] = {"finished_ms / 86400000", "day", "date(g * 86400, 'unixepoch')", NO_NAME,
                      "g"},
    [USAGE_BY_KEY] = {"key_id", "key_id", "g", "(SELECT name FROM keys WHERE id = g)", BY_TOKENS},
    [USAGE_BY_MODEL] = {"model", "model", "g", NO_NAME, BY_TOKENS},
    [USAGE_BY_ENDPOINT] = {"endpoint", "endpoint", "g", NO_NAME, BY_TOKENS},
    [USAGE_BY_NOTHING] = {"''", "''", "g", NO_NAME, "g"},
};

#define FILTER \
    " (?3 IS NULL OR key_id IN (SELECT id FROM keys WHERE id = ?3 OR name = ?3))" \
    " AND (?4 IS NULL OR model = ?4)"

static sl_status sum_sql(enum usage_group group, struct sl_buf *sql)
{
    const struct grouping *by = &groupings[group];
    return sl_buf_addf(
        sql,
        "SELECT %s, %s, " SUMMED " FROM ("
        "SELECT %s AS g, " ROW_AS_SUMS
        " FROM usage WHERE id >= ?1 << 20 AND finished_ms >= ?1 AND finished_ms < ?2 AND" FILTER
        " UNION ALL SELECT %s AS g, " SUMS
        " FROM usage_daily WHERE (day + 1) * 86400000 > ?1 AND day * 86400000 < ?2 AND" FILTER
        ") GROUP BY g ORDER BY %s",
        by->shown, by->name, by->row, by->daily, by->order);
}

static struct usage_sum sum_of(struct db_stmt *stmt)
{
    return (struct usage_sum){
        .group = db_column_text(stmt, 0),
        .name = db_column_text(stmt, 1),
        .n_requests = db_column_int(stmt, 2),
        .n_failed = db_column_int(stmt, 3),
        .prompt_tokens = db_column_int(stmt, 4),
        .cached_tokens = db_column_int(stmt, 5),
        .completion_tokens = db_column_int(stmt, 6),
        .reasoning_tokens = db_column_int(stmt, 7),
        .queue_us = db_column_int(stmt, 8),
        .n_queue = db_column_int(stmt, 9),
        .first_token_us = db_column_int(stmt, 10),
        .n_first_token = db_column_int(stmt, 11),
        .total_us = db_column_int(stmt, 12),
        .joules_measured = db_column_num(stmt, 13),
        .n_measured = db_column_int(stmt, 14),
        .joules_modelled = db_column_num(stmt, 15),
        .n_modelled = db_column_int(stmt, 16),
    };
}

static sl_status walk(struct db_stmt *stmt, usage_sum_fn fn, void *arg, struct sl_err *err)
{
    bool row;
    for (;;) {
        sl_status status = db_step(stmt, &row, err);
        if (status != SL_OK || !row) return status;
        struct usage_sum sum = sum_of(stmt);
        status = fn(arg, &sum, err);
        if (status != SL_OK) return status;
    }
}

static sl_status check_key(struct db *db, const char *key, struct sl_err *err)
{
    struct db_stmt *stmt;
    bool row;
    sl_status status =
        db_prepare(db, "SELECT 1 FROM keys WHERE id = ?1 OR name = ?1 LIMIT 1", &stmt, err);
    if (status != SL_OK) return status;
    db_bind_text(stmt, 1, key);
    status = db_step(stmt, &row, err);
    db_finalize(stmt);
    if (status != SL_OK || row) return status;
    return sl_err_set(err, SL_NOT_FOUND, "there is no key \"%.64s\"; starlane keys ls lists them",
                      key);
}

sl_status usage_sum(struct db *db, const struct usage_query *query, usage_sum_fn fn, void *arg,
                    struct sl_err *err)
{
    struct db_stmt *stmt = NULL;
    struct sl_buf sql;
    sl_status status = query->key ? check_key(db, query->key, err) : SL_OK;
    if (status != SL_OK) return status;
    sl_buf_init(&sql, SQL_MAX);
    status = sum_sql(query->group, &sql);
    if (status != SL_OK)
        (void)sl_err_set(err, status, "usage: %s", sl_status_text(status));
    else
        status = db_prepare(db, sql.data, &stmt, err);
    if (status == SL_OK) {
        db_bind_int(stmt, 1, query->since_ms);
        db_bind_int(stmt, 2, query->until_ms ? query->until_ms : INT64_MAX);
        db_bind_text(stmt, 3, query->key);
        db_bind_text(stmt, 4, query->model);
        status = walk(stmt, fn, arg, err);
    }
    db_finalize(stmt);
    sl_buf_done(&sql);
    return status;
}
