/* usage_table_test.c: sums of usage, and that sweeping rows into days changes none of them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "access/usage.h"
#include "access/usage_int.h"
#include "base/buf.h"
#include "support/temp_dir.h"

#define DAY_0 (INT64_C(20000) * USAGE_DAY_MS) /* 2024-10-04 */

static struct db *open_db(void)
{
    struct db *db = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (db_open(temp_path("state.db"), NULL, &db, &err) != SL_OK) fail_msg("%s", err.text);
    return db;
}

static void insert(struct db *db, const struct usage_row *row)
{
    struct db_stmt *stmt;
    assert_int_equal(usage_prepare_insert(db, &stmt, NULL), SL_OK);
    assert_int_equal(usage_insert(stmt, row, NULL), SL_OK);
    db_finalize(stmt);
}

/* Six requests on three days, by two keys and none, on two models. */
static void fill(struct db *db, char alice_id[KEYS_ID_CHARS + 1])
{
    struct api_key alice;
    char secret[KEYS_SECRET_CHARS + 1];
    assert_int_equal(
        keys_make(db, &(struct keys_request){.name = "alice"}, 1, secret, &alice, NULL), SL_OK);
    memcpy(alice_id, alice.id, sizeof alice.id);
    for (int i = 0; i < 6; i++) {
        struct usage_row row = {
            .http_status = i == 4 ? 500 : 200,
            .finished_ms = DAY_0 + i / 2 * USAGE_DAY_MS + i * 1000,
            .prompt_tokens = 10 + i,
            .cached_tokens = i,
            .completion_tokens = 100,
            .reasoning_tokens = 2 * i,
            .queue_us = i == 4 ? -1 : 1000,
            .first_token_us = i == 4 ? -1 : 2000 + i,
            .total_us = 5000,
            .energy = (enum usage_energy)(i % 3),
            .energy_joules = 1.5,
        };
        strcpy(row.model, i % 2 ? "big" : "small");
        strcpy(row.endpoint, "/v1/completions");
        strcpy(row.finish, "stop");
        if (i < 2) strcpy(row.key_id, alice.id);
        insert(db, &row);
    }
}

static sl_status print_sum(void *arg, const struct usage_sum *s, struct sl_err *err)
{
    (void)err;
    return sl_buf_addf(arg,
                       "%s|%s %lld/%lld p%lld c%lld o%lld r%lld q%lld/%lld f%lld/%lld t%lld "
                       "m%.1f/%lld e%.1f/%lld\n",
                       s->group, s->name, (long long)s->n_requests, (long long)s->n_failed,
                       (long long)s->prompt_tokens, (long long)s->cached_tokens,
                       (long long)s->completion_tokens, (long long)s->reasoning_tokens,
                       (long long)s->queue_us, (long long)s->n_queue, (long long)s->first_token_us,
                       (long long)s->n_first_token, (long long)s->total_us, s->joules_measured,
                       (long long)s->n_measured, s->joules_modelled, (long long)s->n_modelled);
}

static void sum_up(struct db *db, struct usage_query query, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    if (usage_sum(db, &query, print_sum, out, &err) != SL_OK) fail_msg("%s", err.text);
}

static void assert_sums(struct db *db, struct usage_query query, const char *expected)
{
    struct sl_buf out;
    sl_buf_init(&out, 10000);
    sum_up(db, query, &out);
    assert_string_equal(out.data, expected);
    sl_buf_done(&out);
}

#define DAY_1_LINE "2024-10-04| 2/0 p21 c1 o200 r2 q2000/2 f4001/2 t10000 m1.5/1 e0.0/0\n"
#define DAY_2_LINE "2024-10-05| 2/0 p25 c5 o200 r10 q2000/2 f4005/2 t10000 m0.0/0 e1.5/1\n"
#define DAY_3_LINE "2024-10-06| 2/1 p29 c9 o200 r18 q1000/1 f2005/1 t10000 m1.5/1 e1.5/1\n"

static void groups_are_summed(void **state)
{
    (void)state;
    char alice[KEYS_ID_CHARS + 1], by_key[400];
    struct db *db = open_db();
    fill(db, alice);
    assert_sums(db, (struct usage_query){.group = USAGE_BY_DAY}, DAY_1_LINE DAY_2_LINE DAY_3_LINE);
    assert_sums(db, (struct usage_query){.group = USAGE_BY_NOTHING},
                "| 6/1 p75 c15 o600 r30 q5000/5 f10011/5 t30000 m3.0/2 e3.0/2\n");
    snprintf(by_key, sizeof by_key,
             "| 4/1 p54 c14 o400 r28 q3000/3 f6010/3 t20000 m1.5/1 e3.0/2\n"
             "%s|alice 2/0 p21 c1 o200 r2 q2000/2 f4001/2 t10000 m1.5/1 e0.0/0\n",
             alice);
    assert_sums(db, (struct usage_query){.group = USAGE_BY_KEY}, by_key);
    assert_sums(db, (struct usage_query){.group = USAGE_BY_MODEL},
                "big| 3/0 p39 c9 o300 r18 q3000/3 f6009/3 t15000 m1.5/1 e1.5/1\n"
                "small| 3/1 p36 c6 o300 r12 q2000/2 f4002/2 t15000 m1.5/1 e1.5/1\n");
    db_close(db);
}

static void filters_choose_rows(void **state)
{
    (void)state;
    char alice[KEYS_ID_CHARS + 1];
    struct db *db = open_db();
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    fill(db, alice);
    assert_sums(db, (struct usage_query){.key = "alice"}, DAY_1_LINE);
    assert_sums(db, (struct usage_query){.key = alice}, DAY_1_LINE);
    assert_sums(db, (struct usage_query){.model = "none"}, "");
    assert_sums(db, (struct usage_query){.since_ms = DAY_0 + USAGE_DAY_MS}, DAY_2_LINE DAY_3_LINE);
    assert_sums(db, (struct usage_query){.until_ms = DAY_0 + 1001}, DAY_1_LINE);
    assert_sums(db, (struct usage_query){.until_ms = DAY_0 + 1000},
                "2024-10-04| 1/0 p10 c0 o100 r0 q1000/1 f2000/1 t5000 m0.0/0 e0.0/0\n");
    sl_buf_init(&out, 10000);
    const struct usage_query unknown = {.key = "bob"};
    assert_int_equal(usage_sum(db, &unknown, print_sum, &out, &err), SL_NOT_FOUND);
    sl_buf_done(&out);
    db_close(db);
}

static void sweeping_changes_no_sum(void **state)
{
    (void)state;
    char alice[KEYS_ID_CHARS + 1];
    struct db *db = open_db();
    int64_t n_moved = -1, n_left;
    struct sl_buf before, after;
    fill(db, alice);
    sl_buf_init(&before, 10000);
    for (int g = 0; g <= USAGE_BY_NOTHING; g++)
        sum_up(db, (struct usage_query){.group = (enum usage_group)g}, &before);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(usage_sweep(db, DAY_0 + 2 * USAGE_DAY_MS, 3, &n_moved, NULL), SL_OK);
        assert_int_equal(n_moved, i == 0 ? 3 : i == 1 ? 1 : 0);
        sl_buf_init(&after, 10000);
        for (int g = 0; g <= USAGE_BY_NOTHING; g++)
            sum_up(db, (struct usage_query){.group = (enum usage_group)g}, &after);
        assert_string_equal(after.data, before.data);
        sl_buf_done(&after);
    }
    assert_int_equal(db_query_int(db, "SELECT count(*) FROM usage", &n_left, NULL), SL_OK);
    assert_int_equal(n_left, 2);
    /* A day that is summed up counts whole. */
    assert_sums(db, (struct usage_query){.since_ms = DAY_0 + 5000, .until_ms = DAY_0 + 6000},
                DAY_1_LINE);
    sl_buf_done(&before);
    db_close(db);
}

static sl_status refuse(void *arg, const struct usage_sum *sum, struct sl_err *err)
{
    (void)sum;
    ++*(int *)arg;
    return sl_err_set(err, SL_LIMIT, "enough");
}

static void a_walk_can_be_stopped(void **state)
{
    (void)state;
    char alice[KEYS_ID_CHARS + 1];
    struct db *db = open_db();
    struct sl_err err = SL_ERR_INIT;
    const struct usage_query query = {0};
    int n_calls = 0;
    fill(db, alice);
    assert_int_equal(usage_sum(db, &query, refuse, &n_calls, &err), SL_LIMIT);
    assert_string_equal(err.text, "enough");
    assert_int_equal(n_calls, 1);
    db_close(db);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_dir_setup, temp_dir_teardown)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(groups_are_summed),
        IN_FOLDER(filters_choose_rows),
        IN_FOLDER(sweeping_changes_no_sum),
        IN_FOLDER(a_walk_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
