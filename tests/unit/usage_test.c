/* usage_test.c: the writer: every accepted row is stored, then called back, in order, once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/temp_dir.h"
#include "support/usage_fixture.h"

#define DAY_MS INT64_C(86400000)

/* There is no journal here (that is usage_lazy_test.c): all rows are stored by the thread. */
static void open_fixture(struct usage_fixture *f, struct usage_cfg cfg)
{
    usage_fixture_open(f, cfg, false);
}

static void rows_are_stored_before_their_callback(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[100];
    struct usage_stats stats;
    open_fixture(&f, (struct usage_cfg){0});
    for (int i = 0; i < 100; i++) {
        pending[i] = (struct pending){.fixture = &f, .number = i};
        struct usage_row row = usage_fixture_row("", i);
        assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[i]), SL_OK);
        if (i % 10 != 0) continue;
        usage_fixture_run(&f, i + 1);
        assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), i + 1);
    }
    usage_fixture_run(&f, 100);
    assert_true(f.in_order);
    assert_int_equal(f.n_failed, 0);
    assert_int_equal(usage_fixture_query(&f, "SELECT sum(prompt_tokens) FROM usage"), 4950);
    assert_int_equal(
        usage_fixture_query(&f, "SELECT count(*) FROM usage WHERE first_token_us IS NULL AND "
                                "joules IS NULL AND qos_class IS NULL AND queue_us = 5"),
        100);
    usage_stats(f.usage, &stats);
    assert_int_equal(stats.n_stored, 100);
    assert_in_range(stats.n_commits, 11, 100);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.n_journaled, 0);
    usage_fixture_close(&f);
}

static void a_full_queue_is_busy_until_callbacks_ran(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[6];
    open_fixture(&f, (struct usage_cfg){.rows_max = 4});
    for (int i = 0; i < 6; i++) {
        pending[i] = (struct pending){.fixture = &f, .number = i};
        struct usage_row row = usage_fixture_row("", i);
        assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[i]),
                         i < 4 ? SL_OK : SL_BUSY);
    }
    usage_fixture_run(&f, 4);
    struct usage_row row = usage_fixture_row("", 4);
    assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[4]), SL_OK);
    usage_fixture_run(&f, 5);
    assert_true(f.in_order);
    usage_fixture_close(&f);
}

struct chain {
    struct usage_fixture *f;
    struct pending pending;
};

static void submit_another(void *arg, sl_status status, const struct sl_err *err)
{
    struct chain *chain = arg;
    struct usage_fixture *f = chain->f;
    struct usage_row row = usage_fixture_row("", f->n_done + 1);
    usage_fixture_on_done(&chain->pending, status, err);
    chain->pending.number++;
    if (f->n_done < 50)
        assert_int_equal(usage_submit(f->usage, &row, submit_another, chain), SL_OK);
}

/* With one slot: it is free again before its callback runs. */
static void a_callback_may_submit(void **state)
{
    (void)state;
    struct usage_fixture f;
    open_fixture(&f, (struct usage_cfg){.rows_max = 1});
    struct chain chain = {.f = &f, .pending = {.fixture = &f}};
    struct usage_row row = usage_fixture_row("", 0);
    assert_int_equal(usage_submit(f.usage, &row, submit_another, &chain), SL_OK);
    usage_fixture_run(&f, 50);
    assert_true(f.in_order);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 50);
    usage_fixture_close(&f);
}

static void closing_stores_and_calls_back_all(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending[3000];
    open_fixture(&f, (struct usage_cfg){.rows_max = 3000, .sync = DB_SYNC_FULL});
    for (int i = 0; i < 3000; i++) {
        pending[i] = (struct pending){.fixture = &f, .number = i};
        struct usage_row row = usage_fixture_row("", i);
        assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[i]), SL_OK);
    }
    usage_close(f.usage);
    assert_int_equal(f.n_done, 3000);
    assert_true(f.in_order);
    struct usage_row row = usage_fixture_row("", 0);
    assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending[0]), SL_CANCELLED);
    usage_close(f.usage);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 3000);
    usage_fixture_close(&f);
}

static void a_row_that_cannot_be_stored_says_so(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    struct usage_stats stats;
    struct sl_err err = SL_ERR_INIT;
    open_fixture(&f, (struct usage_cfg){0});
    assert_int_equal(db_exec(f.db, "ALTER TABLE usage RENAME TO elsewhere", NULL), SL_OK);
    usage_fixture_store(&f, &pending, 0, "");
    assert_int_equal(pending.status, SL_INTERNAL);
    assert_int_equal(db_exec(f.db, "ALTER TABLE elsewhere RENAME TO usage", NULL), SL_OK);
    usage_fixture_store(&f, &pending, 1, "");
    assert_int_equal(pending.status, SL_OK);
    usage_stats(f.usage, &stats);
    assert_int_equal(stats.n_failed, 1);
    assert_int_equal(stats.n_stored, 1);
    usage_last_error(f.usage, &err);
    assert_non_null(strstr(err.text, "usage"));
    usage_fixture_close(&f);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A file that may not grow stands in for a disk that is full. */
static void a_full_disk_is_an_error_and_no_end(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    struct stat st;
    open_fixture(&f, (struct usage_cfg){0});
    usage_fixture_store(&f, &pending, 0, "");
    assert_int_equal(stat(temp_path("state.db-wal"), &st), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit_file_size((rlim_t)st.st_size);
    usage_fixture_store(&f, &pending, 1, "");
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(pending.status, SL_IO);
    usage_fixture_store(&f, &pending, 2, "");
    assert_int_equal(pending.status, SL_OK);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), 2);
    assert_int_equal(db_verify(f.db, NULL), SL_OK);
    usage_fixture_close(&f);
}

static void a_post_the_loop_refused_is_made_again(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending;
    open_fixture(&f, (struct usage_cfg){0});
    post_box_refuse(f.box, 1);
    usage_fixture_store(&f, &pending, 0, "");
    assert_int_equal(pending.status, SL_OK);
    usage_fixture_close(&f);
}

struct key_wait {
    struct keys *keys;
    const char *secret;
    sl_status wanted;
};

static bool key_is_as_wanted(void *arg)
{
    struct key_wait *wait = arg;
    struct api_key *key;
    return keys_check(wait->keys, wait->secret, sl_unix_time_ms(), &key, NULL) == wait->wanted;
}

static void changed_keys_reach_the_loop(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct keys *keys;
    struct api_key key;
    char secret[KEYS_SECRET_CHARS + 1];
    assert_int_equal(keys_create(&keys), SL_OK);
    open_fixture(&f, (struct usage_cfg){.keys = keys});
    assert_int_equal(
        keys_make(f.db, &(struct keys_request){.name = "a"}, sl_unix_time_ms(), secret, &key, NULL),
        SL_OK);
    struct key_wait wait = {.keys = keys, .secret = secret, .wanted = SL_OK};
    assert_true(post_box_run(f.box, key_is_as_wanted, &wait));
    assert_int_equal(keys_revoke(f.db, "a", sl_unix_time_ms(), NULL, NULL), SL_OK);
    wait.wanted = SL_UNAUTHENTICATED;
    assert_true(post_box_run(f.box, key_is_as_wanted, &wait));
    usage_fixture_close(&f);
    keys_destroy(keys);
}

static void the_last_use_of_many_keys_is_noted(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct api_key keys[100];
    struct pending pending;
    char secret[KEYS_SECRET_CHARS + 1], name[16];
    open_fixture(&f, (struct usage_cfg){0});
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "key %d", i);
        assert_int_equal(
            keys_make(f.db, &(struct keys_request){.name = name}, 1, secret, &keys[i], NULL),
            SL_OK);
    }
    for (int i = 0; i < 99; i++) usage_fixture_store(&f, &pending, i, keys[i].id);
    usage_close(f.usage);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM keys WHERE last_used_ms > 1"),
                     99);
    usage_fixture_close(&f);
}

static bool is_swept(void *arg)
{
    struct usage_fixture *f = arg;
    struct pending pending;
    if (usage_fixture_query(f, "SELECT count(*) FROM usage_daily") > 0) return true;
    usage_fixture_store(f, &pending, f->n_done, ""); /* makes posts for post_box_run to wait for */
    return false;
}

static void old_rows_are_swept_by_the_thread(void **state)
{
    (void)state;
    struct usage_fixture f;
    struct pending pending = {.fixture = &f};
    open_fixture(&f, (struct usage_cfg){.retain_days = 30});
    struct usage_row row = usage_fixture_row("", 7);
    row.finished_ms -= 40 * DAY_MS;
    assert_int_equal(usage_submit(f.usage, &row, usage_fixture_on_done, &pending), SL_OK);
    usage_fixture_run(&f, 1);
    int64_t end_ns = sl_now_ns() + INT64_C(30000000000);
    while (!is_swept(&f) && sl_now_ns() < end_ns) {
    }
    assert_int_equal(usage_fixture_query(&f, "SELECT sum(prompt_tokens) FROM usage_daily"), 7);
    assert_int_equal(usage_fixture_query(&f, "SELECT count(*) FROM usage"), f.n_done - 1);
    usage_fixture_close(&f);
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    struct post_box *box = post_box_create();
    uint64_t before = sl_mem_live(), nth = 0;
    const struct usage_cfg cfg = {
        .path = temp_path("state.db"),
        .post = post_box_post,
        .loop = box,
        .rows_max = 4,
    };
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
    assert_true(nth > 4);
    usage_destroy(usage);
    assert_int_equal(sl_mem_live(), before);
    usage_destroy(NULL);
    post_box_destroy(box);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_are_stored_before_their_callback),
        IN_FOLDER(a_full_queue_is_busy_until_callbacks_ran),
        IN_FOLDER(a_callback_may_submit),
        IN_FOLDER(closing_stores_and_calls_back_all),
        IN_FOLDER(a_row_that_cannot_be_stored_says_so),
        IN_FOLDER(a_full_disk_is_an_error_and_no_end),
        IN_FOLDER(a_post_the_loop_refused_is_made_again),
        IN_FOLDER(changed_keys_reach_the_loop),
        IN_FOLDER(the_last_use_of_many_keys_is_noted),
        IN_FOLDER(old_rows_are_swept_by_the_thread),
        IN_FOLDER(creation_survives_every_lost_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
