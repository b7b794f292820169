/* db_worker_test.c: jobs on the database's thread, and their ends on the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/db.h"
#include "grid/db_worker.h"
#include "net/loop.h"
#include "support/temp_dir.h"

#define DEADLINE_NS INT64_C(20000000000)
#define N_JOBS 100

struct log {
    int n_run, n_done;
    sl_status last;
    struct sl_err err;
};

static sl_status run_insert(void *arg, struct db *db, struct sl_err *err)
{
    ((struct log *)arg)->n_run++;
    return db_exec(db, "INSERT INTO members VALUES(hex(randomblob(8)), '{}')", err);
}

static sl_status run_nonsense(void *arg, struct db *db, struct sl_err *err)
{
    ((struct log *)arg)->n_run++;
    return db_exec(db, "INSERT INTO nowhere VALUES(1)", err);
}

static void on_done(void *arg, sl_status status, const struct sl_err *err)
{
    struct log *log = arg;
    log->n_done++;
    log->last = status;
    log->err = *err;
}

static void turn_until_done(struct loop *loop, const struct log *log, int n)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (log->n_done < n) {
        assert_true(sl_now_ns() < end_ns);
        assert_int_equal(loop_turn(loop, 10000000, NULL), SL_OK);
    }
}

static void jobs_run_and_are_told_of(void **state)
{
    (void)state;
    struct loop *loop = NULL;
    struct db_worker *worker = NULL;
    struct log log = {0};
    assert_int_equal(loop_create(0, &loop, NULL), SL_OK);
    assert_int_equal(db_worker_create(loop, temp_path("state.db"), &worker, NULL), SL_OK);
    for (int i = 0; i < N_JOBS; i++)
        assert_int_equal(db_worker_submit(worker, run_insert, on_done, &log), SL_OK);
    turn_until_done(loop, &log, N_JOBS);
    assert_int_equal(log.last, SL_OK);
    assert_int_equal(db_worker_submit(worker, run_nonsense, on_done, &log), SL_OK);
    turn_until_done(loop, &log, N_JOBS + 1);
    assert_int_equal(log.last, SL_INTERNAL);
    assert_non_null(strstr(log.err.text, "nowhere"));
    db_worker_destroy(worker);
    loop_destroy(loop);
}

static void the_end_runs_what_waits(void **state)
{
    (void)state;
    struct loop *loop = NULL;
    struct db_worker *worker = NULL;
    struct log log = {0};
    assert_int_equal(loop_create(0, &loop, NULL), SL_OK);
    assert_int_equal(db_worker_create(loop, temp_path("state.db"), &worker, NULL), SL_OK);
    for (int i = 0; i < N_JOBS; i++)
        assert_int_equal(db_worker_submit(worker, run_insert, i % 2 ? on_done : NULL, &log), SL_OK);
    db_worker_destroy(worker);
    assert_int_equal(log.n_run, N_JOBS);
    assert_int_equal(log.n_done, N_JOBS / 2);
    loop_destroy(loop);
}

static void creation_without_memory_leaks_nothing(void **state)
{
    (void)state;
    struct loop *loop = NULL;
    assert_int_equal(loop_create(0, &loop, NULL), SL_OK);
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        struct db_worker *worker = NULL;
        sl_mem_fail_at(nth, false);
        sl_status status = db_worker_create(loop, temp_path("state.db"), &worker, NULL);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        db_worker_destroy(worker);
        assert_int_equal(sl_mem_live(), live);
        if (!hit) {
            assert_int_equal(status, SL_OK);
            break;
        }
        assert_int_not_equal(status, SL_OK);
    }
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(jobs_run_and_are_told_of, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(the_end_runs_what_waits, temp_dir_setup, temp_dir_teardown),
        cmocka_unit_test_setup_teardown(creation_without_memory_leaks_nothing, temp_dir_setup,
                                        temp_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
