/* usage_inline_test.c: the loop stores its rows itself when nothing has to be waited for, and else
 * hands them to the thread; neither order nor rows are lost between the two. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "access/usage_inline.h"
#include "access/usage_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include "support/disk_shim.h"
#include "support/prop.h"
#include "support/temp_dir.h"
#include "support/usage_fixture.h"

#define DEADLINE_NS INT64_C(30000000000)

static struct usage_stats stats_of(struct usage_fixture *f)
{
    struct usage_stats stats;
    usage_stats(f->usage, &stats);
    return stats;
}

static void assert_stored(struct usage_fixture *f, int n_inline, int n_handed_over)
{
    struct usage_stats stats = stats_of(f);
    assert_int_equal(stats.n_inline, n_inline);
    assert_int_equal(stats.n_handed_over, n_handed_over);
    assert_true(f->in_order);
    assert_int_equal(f->n_failed, 0);
    assert_int_equal(usage_fixture_query(f, "SELECT count(*) FROM usage"), f->n_done);
}

static void exec(struct db *db, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    if (db_exec(db, sql, &err) != SL_OK) fail_msg("%s", err.text);
}

/* Rows one by one until the loop stores one itself; the thread may have any number of them. */
static void store_until_inline(struct usage_fixture *f, struct pending *pending)
{
    uint64_t before = stats_of(f).n_inline;
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (stats_of(f).n_inline == before) {
        usage_fixture_store(f, pending, f->n_done, "");
        assert_true(sl_now_ns() < end_ns);
    }
}

static void rows_of_a_turn_are_one_transaction_at_its_end(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[USAGE_INLINE_ROWS];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    store_until_inline(&f, pending);
    int first = f.n_done;
    struct usage_stats before = stats_of(&f);
    for (int i = 0; i < USAGE_INLINE_ROWS; i++)
        usage_fixture_submit(&f, &pending[i], first + i, "");
    assert_int_equal(f.n_done, first);
    assert_int_equal(stats_of(&f).n_waiting, USAGE_INLINE_ROWS);
    usage_fixture_end_turn(&f);
    assert_int_equal(f.n_done, first + USAGE_INLINE_ROWS);
    assert_int_equal(stats_of(&f).n_commits, before.n_commits + 1);
    assert_stored(&f, (int)before.n_inline + USAGE_INLINE_ROWS, (int)before.n_handed_over);
    usage_fixture_close(&f);
}

static void many_rows_are_the_threads(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[USAGE_INLINE_ROWS + 1];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    for (int i = 0; i < USAGE_INLINE_ROWS + 1; i++) usage_fixture_submit(&f, &pending[i], i, "");
    usage_fixture_run(&f, USAGE_INLINE_ROWS + 1);
    assert_stored(&f, 0, USAGE_INLINE_ROWS + 1);
    usage_fixture_close(&f);
}

static void full_sync_is_the_threads(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    usage_fixture_open(&f, (struct usage_cfg){.sync = DB_SYNC_FULL}, true);
    usage_fixture_store(&f, &pending, 0, "");
    assert_stored(&f, 0, 1);
    usage_fixture_close(&f);
}

/* Rows of later turns follow those that the thread has, though the lock is free again. */
static void a_locked_database_is_the_threads_to_wait_for(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[5];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    store_until_inline(&f, &pending[0]);
    int first = f.n_done;
    struct usage_stats before = stats_of(&f);
    assert_int_equal(db_begin(f.db, NULL), SL_OK);
    for (int i = 0; i < 5; i++) {
        usage_fixture_submit(&f, &pending[i], first + i, "");
        usage_fixture_end_turn(&f);
    }
    assert_int_equal(f.n_done, first);
    assert_int_equal(stats_of(&f).n_handed_over, before.n_handed_over + 5);
    assert_int_equal(db_end(f.db, SL_OK, NULL), SL_OK);
    usage_fixture_run(&f, first + 5);
    assert_stored(&f, (int)before.n_inline, (int)before.n_handed_over + 5);
    store_until_inline(&f, &pending[0]);
    usage_fixture_close(&f);
}

/* Turns of a few rows and of many, and a second writer: both ways take turns. */
static void order_holds_when_both_ways_alternate(void **state)
{
    (void)state;
    enum { N_ROWS = 2000 };
    static struct pending pending[N_ROWS];
    struct usage_fixture f;
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    exec(f.db, "CREATE TABLE t(x)");
    for (int n = 0; n < N_ROWS;) {
        int n_turn = 1 + (int)prop_draw(USAGE_INLINE_ROWS + 4);
        for (int i = 0; i < n_turn && n < N_ROWS; i++, n++)
            usage_fixture_submit(&f, &pending[n], n, "");
        bool locked = prop_draw(8) == 0;
        if (locked) assert_int_equal(db_begin(f.db, NULL), SL_OK);
        usage_fixture_end_turn(&f);
        if (locked) assert_int_equal(db_end(f.db, SL_OK, NULL), SL_OK);
        if (prop_draw(3) == 0) usage_fixture_run(&f, n);
    }
    usage_fixture_run(&f, N_ROWS);
    struct usage_stats stats = stats_of(&f);
    assert_true(stats.n_inline > 0 && stats.n_handed_over > 0);
    assert_stored(&f, (int)stats.n_inline, N_ROWS - (int)stats.n_inline);
    usage_fixture_close(&f);
}

/* All of the log is in the file: the next commit begins it anew, and syncs its header. */
static void the_loop_never_syncs(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    disk_shim_install();
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    int n_syncs = disk_shim_n_syncs();
    assert_true(n_syncs > 0); /* of creation: the shim counts */
    for (int i = 0; i < 3; i++) {
        store_until_inline(&f, &pending);
        assert_int_equal(disk_shim_n_syncs(), n_syncs);
        assert_int_equal(db_checkpoint(f.db, NULL), SL_OK);
        n_syncs = disk_shim_n_syncs();
        uint64_t n_inline = stats_of(&f).n_inline;
        usage_fixture_store(&f, &pending, f.n_done, "");
        assert_int_equal(stats_of(&f).n_inline, n_inline);
        assert_int_equal(disk_shim_n_syncs(), n_syncs);
        assert_int_equal(pending.status, SL_OK);
    }
    assert_int_equal(db_verify(f.db, NULL), SL_OK);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), f.n_done);
    usage_fixture_close(&f);
    disk_shim_remove();
}

static void after_a_slow_commit_the_loop_leaves_rows_to_the_thread(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    disk_shim_install();
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    store_until_inline(&f, &pending);
    disk_shim_slow_writes(5 * INLINE_SLOW_NS);
    int64_t begin_ns = sl_now_ns();
    store_until_inline(&f, &pending);
    disk_shim_slow_writes(0);
    int64_t took_ns = 5 * INLINE_SLOW_NS;
    struct usage_stats before = stats_of(&f);
    usage_fixture_store(&f, &pending, f.n_done, "");
    assert_int_equal(stats_of(&f).n_inline, before.n_inline);
    assert_int_equal(stats_of(&f).n_handed_over, before.n_handed_over + 1);
    store_until_inline(&f, &pending);
    assert_true(sl_now_ns() - begin_ns >= INLINE_REST * took_ns);
    assert_true(f.in_order);
    usage_fixture_close(&f);
    disk_shim_remove();
}

static void closing_stores_the_rows_of_the_turn(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[5];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    for (int i = 0; i < 5; i++) usage_fixture_submit(&f, &pending[i], i, "");
    usage_close(f.usage);
    assert_int_equal(f.n_done, 5);
    usage_fixture_end_turn(&f); /* the loop's last turn may end later */
    assert_stored(&f, 0, 5);
    usage_fixture_close(&f);
}

/* More keys than are noted at once: the thread makes room. */
static void the_last_use_of_keys_is_noted_in_both_ways(void **state)
{
    (void)state;
    enum { N_KEYS = 600 };
    struct usage_fixture f;
    struct pending pending;
    static struct api_key keys[N_KEYS];
    char secret[KEYS_SECRET_CHARS + 1], name[16];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    for (int i = 0; i < N_KEYS; i++) {
        snprintf(name, sizeof name, "key %d", i);
        const struct keys_request request = {.name = name};
        assert_int_equal(keys_make(f.db, &request, 1, secret, &keys[i], NULL), SL_OK);
    }
    for (int i = 0; i < N_KEYS; i++) usage_fixture_store(&f, &pending, i, keys[i].id);
    struct usage_stats stats = stats_of(&f);
    assert_true(stats.n_inline > 0);
    assert_stored(&f, (int)stats.n_inline, N_KEYS - (int)stats.n_inline);
    usage_close(f.usage);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM keys WHERE last_used_ms > 1"),
                     N_KEYS);
    usage_fixture_close(&f);
}

/* The log that only the loop writes is moved all the same. */
static void the_thread_sees_how_the_loops_log_grows(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[USAGE_INLINE_ROWS];
    const struct db_cfg cfg = {.own_checkpoints = true};
    struct db *filler = NULL;
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    assert_int_equal(db_open(temp_path("state.db"), &cfg, &filler, NULL), SL_OK);
    exec(filler, "CREATE TABLE t(x)");
    while (db_wal_pages(filler) < USAGE_WAL_PAGES_STEP) {
        exec(filler, "INSERT INTO t VALUES(randomblob(2000000))");
        assert_true(sl_now_ns() < end_ns);
    }
    db_close(filler);
    while (stats_of(&f).n_checkpoints == 0) {
        int first = f.n_done;
        for (int i = 0; i < USAGE_INLINE_ROWS; i++)
            usage_fixture_submit(&f, &pending[i], first + i, "");
        usage_fixture_run(&f, first + USAGE_INLINE_ROWS);
        assert_true(sl_now_ns() < end_ns);
    }
    assert_true(f.in_order);
    usage_fixture_close(&f);
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live(), nth = 0;
    struct inline_writer *w = NULL;
    sl_status status = SL_NOMEM;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = inline_writer_create(temp_path("state.db"), &w, NULL);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 2);
    inline_writer_destroy(w);
    inline_writer_destroy(NULL);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    prop_begin();
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_of_a_turn_are_one_transaction_at_its_end),
        IN_FOLDER(many_rows_are_the_threads),
        IN_FOLDER(full_sync_is_the_threads),
        IN_FOLDER(a_locked_database_is_the_threads_to_wait_for),
        IN_FOLDER(order_holds_when_both_ways_alternate),
        IN_FOLDER(the_loop_never_syncs),
        IN_FOLDER(after_a_slow_commit_the_loop_leaves_rows_to_the_thread),
        IN_FOLDER(closing_stores_the_rows_of_the_turn),
        IN_FOLDER(the_last_use_of_keys_is_noted_in_both_ways),
        IN_FOLDER(the_thread_sees_how_the_loops_log_grows),
        IN_FOLDER(creation_survives_every_lost_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
