/* usage_kill_test.c: kill -9 at any moment loses no acknowledged row, and stores none twice. A
 * child stores rows and writes a row's number to a pipe once its callback said OK; it is killed,
 * what it left in its journal is stored - by the next child, or by a process that is killed in
 * turn - and the rows are counted. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/usage.h"
#include "access/usage_recover.h"
#include "support/post_box.h"
#include "support/prop.h"
#include "support/temp_dir.h"

#define N_KILLS 50
#define N_AT_ONCE 20       /* at most so many rows are submitted in one turn */
#define JOURNAL_BYTES 8192 /* some 60 rows: the files are changed all the time */
#define ACKED_MAX 400      /* the child is killed after at most so many acknowledged rows */

static int pipe_out = -1;
static int64_t n_acked;

static void acknowledge(void *arg, sl_status status, const struct sl_err *err)
{
    (void)err;
    int64_t number = (int64_t)(intptr_t)arg;
    if (status != SL_OK || write(pipe_out, &number, sizeof number) != sizeof number) _exit(2);
    n_acked++;
}

static bool turn_asked;

static void at_turn_end(void *loop)
{
    (void)loop;
    turn_asked = true;
}

static bool has_acked(void *arg)
{
    return n_acked >= *(int64_t *)arg;
}

static void end_turn(struct usage *usage)
{
    struct usage_stats stats;
    if (turn_asked) usage_turn_end(usage);
    turn_asked = false;
    usage_stats(usage, &stats);
    if (n_acked > 0 && !stats.n_journaled) _exit(6);
}

/* Stores rows numbered from `next` until it is killed. */
static void store_for_ever(int64_t next)
{
    struct post_box *box = post_box_create();
    const struct usage_cfg cfg = {.path = temp_path("state.db"),
                                  .post = post_box_post,
                                  .at_turn_end = at_turn_end,
                                  .loop = box,
                                  .journal_bytes = JOURNAL_BYTES,
                                  .retain_days = 30};
    struct usage *usage = NULL;
    int64_t wanted = 0;
    if (usage_create(&cfg, &usage, NULL) != SL_OK) _exit(3);
    for (;;) {
        size_t n = 1 + prop_draw(N_AT_ONCE);
        for (size_t i = 0; i < n; i++, next++, wanted++) {
            struct usage_row row = {.model = "m", .finished_ms = INT64_C(1) << 42};
            row.prompt_tokens = next;
            if (usage_submit(usage, &row, acknowledge, (void *)(intptr_t)next) != SL_OK) _exit(4);
        }
        end_turn(usage);
        if (!post_box_run(box, has_acked, &wanted)) _exit(5);
    }
}

/* The pipe holds whole numbers only: a write of 8 bytes is atomic. Reads what is left in it. */
static size_t read_acked(int fd, int64_t *numbers, size_t n, size_t n_max)
{
    while (n < n_max && read(fd, &numbers[n], sizeof *numbers) == (ssize_t)sizeof *numbers) n++;
    return n;
}

/* A process that is killed while it stores what is left in journals; or not. */
static void recover(bool kill_it)
{
    struct usage_recovery recovery;
    struct db *db = NULL;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (db_open(temp_path("state.db"), NULL, &db, NULL) != SL_OK) _exit(1);
        if (usage_recover(db, temp_path("state.db"), NULL, &recovery, NULL) != SL_OK) _exit(2);
        db_close(db);
        _exit(0);
    }
    for (size_t spin = kill_it ? prop_draw(3000000) : 0; spin > 0; spin--) __asm__ volatile("");
    if (kill_it) assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!kill_it) assert_int_equal(status, 0);
}

static void assert_stored(const int64_t *numbers, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct db *db = NULL;
    struct db_stmt *stmt;
    bool row;
    if (db_open(temp_path("state.db"), NULL, &db, &err) != SL_OK) fail_msg("%s", err.text);
    if (db_verify(db, &err) != SL_OK) fail_msg("%s", err.text);
    int64_t n_twice = -1;
    assert_int_equal(db_query_int(db, "SELECT count(*) - count(DISTINCT prompt_tokens) FROM usage",
                                  &n_twice, NULL),
                     SL_OK);
    assert_int_equal(n_twice, 0);
    assert_int_equal(
        db_prepare(db, "SELECT count(*) FROM usage WHERE prompt_tokens = ?1", &stmt, NULL), SL_OK);
    assert_int_equal(db_exec(db, "CREATE INDEX IF NOT EXISTS number ON usage(prompt_tokens)", NULL),
                     SL_OK);
    for (size_t i = 0; i < n; i++) {
        db_bind_int(stmt, 1, numbers[i]);
        assert_int_equal(db_step(stmt, &row, NULL), SL_OK);
        assert_int_equal(db_column_int(stmt, 0), 1);
        db_reset(stmt);
    }
    db_finalize(stmt);
    db_close(db);
}

/* Returns the number after the last one that may have been used; adds to *n_seen. */
static int64_t run_and_kill(int64_t next, size_t *n_seen)
{
    int64_t numbers[ACKED_MAX + 65536 / sizeof(int64_t)];
    const size_t n_max = sizeof numbers / sizeof *numbers;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        pipe_out = ends[1];
        store_for_ever(next);
    }
    close(ends[1]);
    /* The moment is random: so many acknowledgements, and then some microseconds. */
    size_t n = read_acked(ends[0], numbers, 0, prop_draw(ACKED_MAX));
    for (size_t spin = prop_draw(200000); spin > 0; spin--) __asm__ volatile("");
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    n = read_acked(ends[0], numbers, n, n_max);
    close(ends[0]);
    while (prop_draw(2) == 0) recover(true);
    recover(false);
    assert_stored(numbers, n);
    *n_seen += n;
    return n > 0 ? numbers[n - 1] + N_AT_ONCE + 1 : next + N_AT_ONCE + 1;
}

static void no_acknowledged_row_is_lost(void **state)
{
    (void)state;
    int64_t next = 0;
    size_t n_seen = 0;
    for (int i = 0; i < N_KILLS; i++) next = run_and_kill(next, &n_seen);
    assert_true(n_seen > N_KILLS);
}

int main(void)
{
    prop_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_acknowledged_row_is_lost, temp_dir_setup,
                                        temp_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
