/* usage_checkpoint_test.c: the log begins anew beside a writer that never rests. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "access/usage.h"
#include "access/usage_checkpoint.h"
#include "base/clock.h"
#include "base/mem.h"
#include "support/temp_dir.h"

#define DEADLINE_NS INT64_C(60000000000)

static struct db *open_db(void)
{
    const struct db_cfg cfg = {.own_checkpoints = true};
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (db_open(temp_path("state.db"), &cfg, &db, &err) != SL_OK) fail_msg("%s", err.text);
    return db;
}

static void exec(struct db *db, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    if (db_exec(db, sql, &err) != SL_OK) fail_msg("%s", err.text);
}

static void step(struct checkpointer *c, struct db *db, bool idle)
{
    struct sl_err err = SL_ERR_INIT;
    if (checkpointer_step(c, db, db_wal_pages(db), idle, &err) != SL_OK) fail_msg("%s", err.text);
}

/* Commits until the log is shorter than it was; returns its greatest length. */
static int64_t write_until_anew(struct checkpointer *c, struct db *db)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS, before, longest = 0;
    do {
        before = db_wal_pages(db);
        longest = before > longest ? before : longest;
        step(c, db, false);
        exec(db, "UPDATE t SET x = randomblob(500000)");
        assert_true(sl_now_ns() < end_ns);
    } while (db_wal_pages(db) > before);
    return longest;
}

static void the_log_begins_anew_without_rest(void **state)
{
    (void)state;
    struct checkpointer *c = NULL;
    struct db *db = open_db();
    assert_int_equal(checkpointer_create(temp_path("state.db"), &c, NULL), SL_OK);
    exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    for (int i = 0; i < 2; i++) {
        /* Either the thread was done while nobody wrote, or the writer saw to it past the most. */
        assert_true(write_until_anew(c, db) >= USAGE_WAL_PAGES_STEP);
    }
    assert_true(checkpointer_n_moves(c) >= 2);
    checkpointer_destroy(c);
    assert_int_equal(db_verify(db, NULL), SL_OK);
    db_close(db);
}

static void a_reader_that_holds_the_log_does_no_harm(void **state)
{
    (void)state;
    struct checkpointer *c = NULL;
    struct db_stmt *stmt;
    bool row;
    struct db *db = open_db(), *reader = open_db();
    assert_int_equal(checkpointer_create(temp_path("state.db"), &c, NULL), SL_OK);
    exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    assert_int_equal(db_prepare(reader, "SELECT x FROM t", &stmt, NULL), SL_OK);
    assert_int_equal(db_step(stmt, &row, NULL), SL_OK);
    for (int64_t n = 0; n < USAGE_WAL_PAGES_MAX + USAGE_WAL_PAGES_STEP; n = db_wal_pages(db)) {
        exec(db, "UPDATE t SET x = randomblob(500000)");
        step(c, db, false);
    }
    assert_int_equal(db_column_int(stmt, 0), 1);
    db_finalize(stmt);
    assert_true(write_until_anew(c, db) > USAGE_WAL_PAGES_MAX);
    checkpointer_destroy(c);
    db_close(reader);
    db_close(db);
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live(), nth = 0;
    struct checkpointer *c = NULL;
    sl_status status = SL_NOMEM;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = checkpointer_create(temp_path("state.db"), &c, NULL);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 2);
    checkpointer_destroy(c);
    checkpointer_destroy(NULL);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_log_begins_anew_without_rest),
        IN_FOLDER(a_reader_that_holds_the_log_does_no_harm),
        IN_FOLDER(creation_survives_every_lost_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
