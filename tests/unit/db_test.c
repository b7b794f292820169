/* db_test.c: the database: files, schema, statements, damage, several users at once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "grid/db.h"
#include "support/temp_dir.h"

static struct db *open_db(const char *name)
{
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (db_open(temp_path(name), NULL, &db, &err) != SL_OK) fail_msg("%s", err.text);
    return db;
}

static void exec(struct db *db, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    if (db_exec(db, sql, &err) != SL_OK) fail_msg("%s", err.text);
}

static int64_t query(struct db *db, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t v = -1;
    if (db_query_int(db, sql, &v, &err) != SL_OK) fail_msg("%s", err.text);
    return v;
}

static void assert_open_fails(const char *name, sl_status expected, const char *text)
{
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(db_open(temp_path(name), NULL, &db, &err), expected);
    assert_null(db);
    if (!strstr(err.text, text)) fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void write_at(const char *name, long offset, const void *bytes, size_t n)
{
    int fd = open(temp_path(name), O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, offset), (ssize_t)n);
    close(fd);
}

static mode_t mode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(temp_path(name), &st), 0);
    return st.st_mode & 0777;
}

static void a_new_file_is_private_and_has_the_schema(void **state)
{
    (void)state;
    mode_t before = umask(0);
    struct db *db = open_db("home/state.db");
    umask(before);
    assert_int_equal(mode_of("home"), 0700);
    assert_int_equal(mode_of("home/state.db"), 0600);
    assert_int_equal(mode_of("home/state.db-wal"), 0600);
    assert_int_equal(query(db, "SELECT count(*) FROM usage"), 0);
    assert_int_equal(query(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(query(db, "PRAGMA synchronous"), 1);
    db_close(db);
    assert_int_equal(chmod(temp_path("home/state.db"), 0644), 0);
    db_close(open_db("home/state.db"));
    assert_int_equal(mode_of("home/state.db"), 0600);
    db_close(NULL);
}

static void full_sync_is_set_when_asked_for(void **state)
{
    (void)state;
    const struct db_cfg cfg = {.sync = DB_SYNC_FULL};
    struct db *db = NULL;
    assert_int_equal(db_open(temp_path("state.db"), &cfg, &db, NULL), SL_OK);
    assert_int_equal(query(db, "PRAGMA synchronous"), 2);
    db_close(db);
}

static void a_newer_database_is_refused(void **state)
{
    (void)state;
    struct db *db = open_db("state.db");
    exec(db, "PRAGMA user_version=99");
    db_close(db);
    assert_open_fails("state.db", SL_UNSUPPORTED, "newer Starlane");
}

static void a_database_of_another_program_is_refused(void **state)
{
    (void)state;
    struct db *db = open_db("marked.db");
    exec(db, "PRAGMA application_id=7");
    db_close(db);
    assert_open_fails("marked.db", SL_CORRUPT, "another program");
    db = open_db("unmarked.db");
    exec(db, "PRAGMA application_id=0");
    db_close(db);
    assert_open_fails("unmarked.db", SL_CORRUPT, "another program");
}

static void what_is_no_database_is_refused(void **state)
{
    (void)state;
    const char text[] = "Once upon a time there was a file that was no database at all.\n";
    char page[4096];
    for (size_t i = 0; i < sizeof page; i++) page[i] = text[i % (sizeof text - 1)];
    write_at("text.db", 0, page, sizeof page);
    assert_open_fails("text.db", SL_CORRUPT, "damaged");
    assert_int_equal(mkdir(temp_path("folder.db"), 0700), 0);
    assert_open_fails("folder.db", SL_INVALID, "not a file");
    assert_open_fails("no/such/state.db", SL_NOT_FOUND, "no/such");
}

static void damage_is_found(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct db *db = open_db("state.db");
    exec(db, "CREATE TABLE t(x)");
    exec(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
             " INSERT INTO t SELECT hex(randomblob(50)) FROM n");
    assert_int_equal(db_verify(db, &err), SL_OK);
    int64_t root = query(db, "SELECT rootpage FROM sqlite_schema WHERE name = 't'");
    db_close(db);
    char garbage[DB_PAGE_BYTES];
    memset(garbage, 0x5a, sizeof garbage);
    write_at("state.db", (long)(root - 1) * DB_PAGE_BYTES, garbage, sizeof garbage);
    db = open_db("state.db");
    assert_int_equal(db_verify(db, &err), SL_CORRUPT);
    int64_t n;
    assert_int_equal(db_query_int(db, "SELECT count(*) FROM t", &n, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "backup"));
    db_close(db);
}

static void migrations_apply_in_order_and_all_or_nothing(void **state)
{
    (void)state;
    const char *const steps[] = {"broken", "CREATE TABLE a(x)", "INSERT INTO a VALUES(1)",
                                 "INSERT INTO a VALUES(2); INSERT INTO nowhere VALUES(3)"};
    struct sl_err err = SL_ERR_INIT;
    struct db *db = open_db("state.db");
    exec(db, "PRAGMA user_version=1");
    assert_int_equal(db_migrate(db, steps, 4, &err), SL_INTERNAL);
    assert_non_null(strstr(err.text, "schema step 3"));
    assert_int_equal(query(db, "PRAGMA user_version"), 1);
    assert_int_equal(db_exec(db, "SELECT * FROM a", &err), SL_INTERNAL);
    assert_int_equal(db_migrate(db, steps, 2, &err), SL_OK);
    assert_int_equal(db_migrate(db, steps, 3, &err), SL_OK);
    assert_int_equal(db_migrate(db, steps, 3, &err), SL_OK);
    assert_int_equal(query(db, "SELECT count(*) FROM a"), 1);
    assert_int_equal(db_migrate(db, steps, 2, &err), SL_UNSUPPORTED);
    db_close(db);
}

static void statements_carry_every_type(void **state)
{
    (void)state;
    struct db *db = open_db("state.db");
    struct db_stmt *put, *get;
    bool row;
    size_t n;
    exec(db, "CREATE TABLE t(i, r, s, b, z)");
    assert_int_equal(db_prepare(db, "INSERT INTO t VALUES(?1, ?2, ?3, ?4, ?5)", &put, NULL), SL_OK);
    db_bind_int(put, 1, INT64_MIN);
    db_bind_num(put, 2, 0.5);
    db_bind_text(put, 3, "h\xc3\xa4");
    db_bind_blob(put, 4, "a\0b", 3);
    db_bind_text(put, 5, NULL);
    assert_int_equal(db_run(put, NULL), SL_OK);
    assert_int_equal(db_changes(db), 1);
    assert_int_equal(db_run(put, NULL), SL_OK); /* parameters stay */
    db_finalize(put);
    assert_int_equal(db_prepare(db, "SELECT * FROM t", &get, NULL), SL_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(db_step(get, &row, NULL), SL_OK);
        assert_true(row);
        assert_true(db_column_int(get, 0) == INT64_MIN);
        assert_true(db_column_num(get, 1) == 0.5);
        assert_string_equal(db_column_text(get, 2), "h\xc3\xa4");
        assert_memory_equal(db_column_blob(get, 3, &n), "a\0b", 3);
        assert_int_equal(n, 3);
        assert_true(db_column_is_null(get, 4));
        assert_string_equal(db_column_text(get, 4), "");
    }
    assert_int_equal(db_step(get, &row, NULL), SL_OK);
    assert_false(row);
    db_finalize(get);
    db_finalize(NULL);
    db_close(db);
}

static void failures_have_their_status(void **state)
{
    (void)state;
    struct db *db = open_db("state.db");
    struct sl_err err = SL_ERR_INIT;
    struct db_stmt *stmt;
    int64_t n;
    bool row;
    exec(db, "CREATE TABLE t(x UNIQUE CHECK(x > 0)); INSERT INTO t VALUES(1)");
    assert_int_equal(db_exec(db, "INSERT INTO t VALUES(1)", &err), SL_EXISTS);
    assert_int_equal(db_exec(db, "INSERT INTO t VALUES(-1)", &err), SL_INVALID);
    assert_int_equal(db_query_int(db, "SELECT x FROM t WHERE x = 9", &n, &err), SL_NOT_FOUND);
    assert_int_equal(db_prepare(db, "SELECT nonsense", &stmt, &err), SL_INTERNAL);
    assert_int_equal(db_prepare(db, "SELECT ?1", &stmt, &err), SL_OK);
    db_bind_int(stmt, 2, 7);
    db_bind_int(stmt, 1, 7);
    assert_int_equal(db_step(stmt, &row, &err), SL_INTERNAL);
    assert_false(row);
    assert_int_equal(db_step(stmt, &row, &err), SL_OK);
    assert_int_equal(db_column_int(stmt, 0), 7);
    db_reset(stmt);
    db_finalize(stmt);
    db_close(db);
}

static void a_failed_transaction_leaves_nothing(void **state)
{
    (void)state;
    struct db *db = open_db("state.db");
    exec(db, "CREATE TABLE t(x)");
    assert_int_equal(db_begin(db, NULL), SL_OK);
    exec(db, "INSERT INTO t VALUES(1)");
    assert_int_equal(db_end(db, SL_LIMIT, NULL), SL_LIMIT);
    assert_int_equal(query(db, "SELECT count(*) FROM t"), 0);
    assert_int_equal(db_begin(db, NULL), SL_OK);
    exec(db, "INSERT INTO t VALUES(1)");
    assert_int_equal(db_end(db, SL_OK, NULL), SL_OK);
    assert_int_equal(query(db, "SELECT count(*) FROM t"), 1);
    db_close(db);
}

static void the_log_is_counted_and_moved(void **state)
{
    (void)state;
    const struct db_cfg cfg = {.own_checkpoints = true};
    struct db *db = NULL;
    assert_int_equal(db_open(temp_path("state.db"), &cfg, &db, NULL), SL_OK);
    exec(db, "CREATE TABLE t(x)");
    for (int i = 0; i < 50; i++) exec(db, "INSERT INTO t VALUES(randomblob(9000))");
    int64_t before = db_wal_pages(db);
    assert_true(before > 100);
    assert_int_equal(db_checkpoint(db, NULL), SL_OK);
    assert_int_equal(db_wal_pages(db), 0);
    exec(db, "INSERT INTO t VALUES(1)");
    assert_in_range(db_wal_pages(db), 1, 10);
    db_close(db);
}

static void an_older_database_is_upgraded_in_place(void **state)
{
    (void)state;
    struct db *db = open_db("state.db");
    exec(db, "INSERT INTO usage_daily VALUES(1,'','m','e',1,0,7,0,0,0,0,0,0,0,0,0.0,0,0.0,0)");
    exec(db, "DROP TABLE usage_journals; DROP TABLE members; DROP TABLE tokens; "
             "PRAGMA user_version=1");
    db_close(db);
    db = open_db("state.db");
    assert_int_equal(query(db, "SELECT count(*) FROM usage_journals"), 0);
    assert_int_equal(query(db, "SELECT prompt_tokens FROM usage_daily"), 7);
    db_close(db);
}

static void open_survives_every_lost_allocation(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live(), nth = 0;
    sl_status status = SL_NOMEM;
    struct db *db = NULL;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = db_open(temp_path("state.db"), NULL, &db, NULL);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), before);
        assert_null(db);
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 3);
    db_close(db);
    assert_int_equal(sl_mem_live(), before);
}

#define N_WRITERS 4
#define N_WRITES 25

/* Returns the number of failures. */
static int write_rows(void)
{
    struct db *db = NULL;
    int n_failed = 0;
    if (db_open(temp_path("state.db"), NULL, &db, NULL) != SL_OK) return 1;
    n_failed += db_exec(db, "CREATE TABLE IF NOT EXISTS t(x)", NULL) != SL_OK;
    for (int i = 0; i < N_WRITES; i++)
        n_failed += db_exec(db, "INSERT INTO t VALUES(1)", NULL) != SL_OK;
    db_close(db);
    return n_failed;
}

/* All of them find no file, and make it at the same time. */
static void processes_may_open_and_write_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < N_WRITERS; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) _exit(write_rows() > 0);
    }
    for (int i = 0; i < N_WRITERS; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    struct db *db = open_db("state.db");
    assert_int_equal(query(db, "SELECT count(*) FROM t"), N_WRITERS * N_WRITES);
    assert_int_equal(db_verify(db, NULL), SL_OK);
    db_close(db);
}

/* Opening a second connection must not drop the locks of the first (POSIX locks belong to the
 * process): another process would then take the log away when it closes. */
static void a_second_connection_leaves_the_first_its_locks(void **state)
{
    (void)state;
    struct db *first = open_db("state.db");
    exec(first, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    db_close(open_db("state.db"));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct db *db = NULL;
        bool good = db_open(temp_path("state.db"), NULL, &db, NULL) == SL_OK &&
                    db_exec(db, "INSERT INTO t VALUES(2)", NULL) == SL_OK;
        db_close(db);
        _exit(!good);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(temp_path("state.db-wal"), F_OK), 0);
    exec(first, "INSERT INTO t VALUES(3)");
    assert_int_equal(query(first, "SELECT sum(x) FROM t"), 6);
    db_close(first);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_new_file_is_private_and_has_the_schema),
        IN_FOLDER(full_sync_is_set_when_asked_for),
        IN_FOLDER(a_newer_database_is_refused),
        IN_FOLDER(a_database_of_another_program_is_refused),
        IN_FOLDER(what_is_no_database_is_refused),
        IN_FOLDER(damage_is_found),
        IN_FOLDER(migrations_apply_in_order_and_all_or_nothing),
        IN_FOLDER(statements_carry_every_type),
        IN_FOLDER(failures_have_their_status),
        IN_FOLDER(a_failed_transaction_leaves_nothing),
        IN_FOLDER(the_log_is_counted_and_moved),
        IN_FOLDER(an_older_database_is_upgraded_in_place),
        IN_FOLDER(open_survives_every_lost_allocation),
        IN_FOLDER(processes_may_open_and_write_at_once),
        IN_FOLDER(a_second_connection_leaves_the_first_its_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
