/* usage_lazy_test.c: rows that go to the journal first: called back at the end of their turn,
 * stored later, each once, whatever fails in between; and those that the journal does not take. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "access/usage_recover.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
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

static void pause_a_little(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

static void wait_until_stored(struct usage_fixture *f)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (stats_of(f).n_pending > 0) {
        assert_true(sl_now_ns() < end_ns);
        pause_a_little();
    }
}

/* Rows numbered from f->n_done, in one turn. */
static void store_turn(struct usage_fixture *f, struct pending *pending, int n)
{
    int first = f->n_done;
    for (int i = 0; i < n; i++) usage_fixture_submit(f, &pending[i], first + i, "");
    usage_fixture_end_turn(f);
}

static void assert_all_stored(struct usage_fixture *f)
{
    wait_until_stored(f);
    assert_true(f->in_order);
    assert_int_equal(usage_fixture_query(f, "SELECT count(*) FROM usage"), f->n_done - f->n_failed);
    assert_int_equal(usage_fixture_query(f, "SELECT count(DISTINCT prompt_tokens) FROM usage"),
                     f->n_done - f->n_failed);
}

static void rows_are_called_back_when_their_turn_ends(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[600];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    for (int i = 0; i < 5; i++) usage_fixture_submit(&f, &pending[i], i, "");
    assert_int_equal(f.n_done, 0);
    assert_int_equal(stats_of(&f).n_waiting, 5);
    usage_fixture_end_turn(&f);
    assert_int_equal(f.n_done, 5);
    assert_int_equal(stats_of(&f).n_waiting, 0);
    store_turn(&f, pending, 600); /* more than are gathered */
    assert_int_equal(f.n_done, 605);
    assert_int_equal(stats_of(&f).n_journaled, 605);
    assert_all_stored(&f);
    assert_int_equal(stats_of(&f).n_stored, 605);
    assert_in_range(stats_of(&f).n_commits, 1, 5);
    usage_fixture_close(&f);
    struct stat st;
    assert_int_equal(stat(temp_path("usage-1a.journal"), &st), 0);
    assert_int_equal(st.st_size, 0);
}

/* Nobody waits for the lock but the thread; no callback comes from it. */
static void a_locked_database_holds_nobody_up(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[5];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    assert_int_equal(db_begin(f.db, NULL), SL_OK);
    for (int i = 0; i < 100; i++) store_turn(&f, pending, 5);
    assert_int_equal(f.n_done, 500);
    assert_int_equal(stats_of(&f).n_pending, 500);
    assert_int_equal(db_end(f.db, SL_OK, NULL), SL_OK);
    assert_all_stored(&f);
    usage_fixture_close(&f);
}

static void exec(struct usage_fixture *f, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    if (db_exec(f->db, sql, &err) != SL_OK) fail_msg("%s", err.text);
}

static void wait_for_error(struct usage_fixture *f)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    uint64_t before = stats_of(f).n_errors;
    while (stats_of(f).n_errors < before + 2) {
        assert_true(sl_now_ns() < end_ns);
        pause_a_little();
    }
}

static int n_rooms;

static void count_room(void *loop)
{
    (void)loop;
    n_rooms++;
}

/* A full ring is no reason to wait for ever: who comes while commits fail is told why. */
static void a_commit_that_fails_is_tried_until_it_does_not(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[8];
    usage_fixture_open(&f, (struct usage_cfg){.rows_max = 8, .on_room = count_room}, true);
    n_rooms = 0;
    exec(&f, "ALTER TABLE usage RENAME TO elsewhere");
    store_turn(&f, pending, 8);
    assert_int_equal(f.n_done, 8);
    struct usage_row row = usage_fixture_row("", 8);
    assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[0]), SL_BUSY);
    wait_for_error(&f);
    assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[0]), SL_INTERNAL);
    exec(&f, "ALTER TABLE elsewhere RENAME TO usage");
    assert_all_stored(&f);
    usage_fixture_store(&f, &pending[0], 8, "");
    assert_all_stored(&f);
    assert_int_equal(f.n_failed, 0);
    assert_int_equal(stats_of(&f).n_failed, 0);
    usage_close(f.usage); /* runs what was posted for the row that was refused */
    assert_int_equal(n_rooms, 1);
    usage_fixture_close(&f);
}

/* What a close cannot store is in the journal, and stored by the next start. */
static void a_close_leaves_what_cannot_be_stored(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[8];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    exec(&f, "ALTER TABLE usage RENAME TO elsewhere");
    store_turn(&f, pending, 8);
    usage_close(f.usage);
    exec(&f, "ALTER TABLE elsewhere RENAME TO usage");
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 0);
    usage_fixture_close(&f);
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    assert_int_equal(stats_of(&f).n_recovered, 8);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 8);
    usage_fixture_close(&f);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A file that may not grow stands in for a disk that is full: rows wait for the thread again, and
 * hear what it says; those that were called back are none of them. */
static void on_a_full_disk_rows_fail_in_order(void **state)
{
    (void)state;
    enum { N_ROWS = 300 };
    static struct pending pending[N_ROWS];
    struct usage_fixture f;
    signal(SIGXFSZ, SIG_IGN);
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    limit_file_size(8000);
    for (int i = 0; i < N_ROWS; i++) usage_fixture_submit(&f, &pending[i], i, "");
    usage_fixture_run(&f, N_ROWS);
    limit_file_size(RLIM_INFINITY);
    uint64_t n_journaled = stats_of(&f).n_journaled;
    assert_in_range(n_journaled, 10, 100);
    assert_int_equal(f.n_failed, N_ROWS - (int)n_journaled);
    for (int i = 0; i < N_ROWS; i++)
        assert_int_equal(pending[i].status == SL_OK, i < (int)n_journaled);
    assert_all_stored(&f);
    usage_fixture_store(&f, &pending[0], N_ROWS, "");
    assert_int_equal(pending[0].status, SL_OK);
    assert_all_stored(&f);
    usage_fixture_close(&f);
}

/* While rows wait for their commit, later ones do too, though the journal would take them. */
static void no_row_overtakes_one_that_waits(void **state)
{
    (void)state;
    enum { N_ROWS = 200 };
    static struct pending pending[N_ROWS];
    struct usage_fixture f;
    usage_fixture_open(&f, (struct usage_cfg){.journal_bytes = 4096}, true);
    assert_int_equal(db_begin(f.db, NULL), SL_OK);
    for (int i = 0; i < N_ROWS; i++) {
        usage_fixture_submit(&f, &pending[i], i, "");
        usage_fixture_end_turn(&f);
    }
    assert_in_range(f.n_done, 80, 199); /* as many as both files take */
    assert_int_equal(stats_of(&f).n_journaled, f.n_done);
    assert_int_equal(stats_of(&f).n_waiting, N_ROWS - f.n_done);
    assert_int_equal(db_end(f.db, SL_OK, NULL), SL_OK);
    usage_fixture_run(&f, N_ROWS);
    assert_int_equal(f.n_failed, 0);
    assert_all_stored(&f);
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    for (uint64_t before = stats_of(&f).n_journaled; stats_of(&f).n_journaled == before;) {
        usage_fixture_store(&f, &pending[0], f.n_done, "");
        assert_true(sl_now_ns() < end_ns);
    }
    assert_all_stored(&f);
    usage_fixture_close(&f);
}

/* With small files, locks and turns of all sizes: both ways alternate. */
static void order_and_rows_survive_a_random_load(void **state)
{
    (void)state;
    enum { N_ROWS = 6000 };
    static struct pending pending[N_ROWS];
    struct usage_fixture f;
    usage_fixture_open(&f, (struct usage_cfg){.journal_bytes = 4096}, true);
    for (int n = 0; n < N_ROWS;) {
        int n_turn = 1 + (int)prop_draw(40);
        for (int i = 0; i < n_turn && n < N_ROWS; i++, n++)
            usage_fixture_submit(&f, &pending[n], n, "");
        bool locked = prop_draw(8) == 0;
        if (locked) assert_int_equal(db_begin(f.db, NULL), SL_OK);
        usage_fixture_end_turn(&f);
        if (locked) assert_int_equal(db_end(f.db, SL_OK, NULL), SL_OK);
        if (prop_draw(3) == 0) usage_fixture_run(&f, n);
        if (prop_draw(20) == 0) wait_until_stored(&f);
    }
    usage_fixture_run(&f, N_ROWS);
    struct usage_stats stats = stats_of(&f);
    assert_true(stats.n_journaled > 0 && stats.n_journaled < N_ROWS);
    assert_int_equal(f.n_failed, 0);
    assert_all_stored(&f);
    usage_fixture_close(&f);
}

static void full_sync_has_no_journal(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    usage_fixture_open(&f, (struct usage_cfg){.sync = DB_SYNC_FULL}, true);
    usage_fixture_store(&f, &pending, 0, "");
    assert_int_equal(stats_of(&f).n_journaled, 0);
    assert_int_equal(stats_of(&f).n_stored, 1);
    usage_fixture_close(&f);
}

/* Its rows are stored by each service itself, and seen by who waits for them. */
static void two_services_have_a_journal_each(void **state)
{
    (void)state;
    struct usage_fixture f, g;
    struct usage_recovery recovery;
    struct pending pending[20];
    usage_fixture_open(&f, (struct usage_cfg){0}, true);
    usage_fixture_open(&g, (struct usage_cfg){0}, true);
    store_turn(&f, pending, 10);
    store_turn(&g, pending + 10, 10);
    assert_int_equal(stats_of(&g).n_journaled, 10);
    assert_int_equal(usage_recover(f.db, temp_path("state.db"), NULL, &recovery, NULL), SL_OK);
    assert_int_equal(recovery.n_in_use, 2);
    assert_int_equal(usage_await(f.db, temp_path("state.db"), DEADLINE_NS, NULL), SL_OK);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 20);
    usage_fixture_close(&g);
    usage_fixture_close(&f);
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
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 5);
    usage_fixture_close(&f);
}

static void no_turns(void *loop)
{
    (void)loop;
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    struct post_box *box = post_box_create();
    uint64_t before = sl_mem_live(), nth = 0;
    char path[TEMP_PATH_MAX];
    snprintf(path, sizeof path, "%s", temp_path("state.db"));
    const struct usage_cfg cfg = {
        .path = path, .post = post_box_post, .at_turn_end = no_turns, .loop = box, .rows_max = 4};
    sl_status status = SL_NOMEM;
    struct usage *usage = NULL;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = usage_create(&cfg, &usage, NULL);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 5);
    usage_destroy(usage);
    assert_int_equal(sl_mem_live(), before);
    post_box_destroy(box);
}

int main(void)
{
    prop_begin();
    sl_log_set_level(SL_LOG_OFF);
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_are_called_back_when_their_turn_ends),
        IN_FOLDER(a_locked_database_holds_nobody_up),
        IN_FOLDER(a_commit_that_fails_is_tried_until_it_does_not),
        IN_FOLDER(a_close_leaves_what_cannot_be_stored),
        IN_FOLDER(on_a_full_disk_rows_fail_in_order),
        IN_FOLDER(no_row_overtakes_one_that_waits),
        IN_FOLDER(order_and_rows_survive_a_random_load),
        IN_FOLDER(full_sync_has_no_journal),
        IN_FOLDER(two_services_have_a_journal_each),
        IN_FOLDER(closing_stores_the_rows_of_the_turn),
        IN_FOLDER(creation_survives_every_lost_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
