/* usage_fixture.c: posts go through a post_box, turns end when a test says so. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/clock.h"
#include "support/temp_dir.h"
#include "support/usage_fixture.h"

static sl_status post(void *fixture, void (*fn)(void *arg), void *arg)
{
    return post_box_post(((struct usage_fixture *)fixture)->box, fn, arg);
}

static void at_turn_end(void *fixture)
{
    struct usage_fixture *f = fixture;
    assert_false(f->turn_asked);
    f->turn_asked = true;
}

void usage_fixture_open(struct usage_fixture *f, struct usage_cfg cfg, bool with_turns)
{
    struct sl_err err = SL_ERR_INIT;
    *f = (struct usage_fixture){.box = post_box_create(), .in_order = true};
    cfg.path = temp_path("state.db");
    cfg.post = post;
    cfg.at_turn_end = with_turns ? at_turn_end : NULL;
    cfg.loop = f;
    if (usage_create(&cfg, &f->usage, &err) != SL_OK) fail_msg("%s", err.text);
    if (db_open(temp_path("state.db"), NULL, &f->db, &err) != SL_OK) fail_msg("%s", err.text);
}

void usage_fixture_close(struct usage_fixture *f)
{
    usage_close(f->usage);
    post_box_destroy(f->box);
    usage_destroy(f->usage);
    db_close(f->db);
}

struct usage_row usage_fixture_row(const char *key_id, int n)
{
    struct usage_row row = {
        .model = "starling",
        .endpoint = "/v1/completions",
        .finish = "stop",
        .http_status = 200,
        .finished_ms = sl_unix_time_ms(),
        .prompt_tokens = n,
        .completion_tokens = 1,
        .queue_us = 5,
        .first_token_us = -1,
        .total_us = 10,
        .qos_class = KEYS_CLASS_NONE,
    };
    snprintf(row.request_id, sizeof row.request_id, "req-%d", n);
    snprintf(row.key_id, sizeof row.key_id, "%s", key_id);
    return row;
}

void usage_fixture_on_done(void *arg, sl_status status, const struct sl_err *err)
{
    struct pending *pending = arg;
    struct usage_fixture *f = pending->fixture;
    f->in_order = f->in_order && pending->number == f->n_done;
    f->n_done++;
    f->n_failed += status != SL_OK;
    pending->status = status;
    assert_int_equal(err->status, status);
    assert_int_equal(err->text[0] == '\0', status == SL_OK);
}

void usage_fixture_submit(struct usage_fixture *f, struct pending *pending, int number,
                          const char *key_id)
{
    *pending = (struct pending){.fixture = f, .number = number};
    struct usage_row row = usage_fixture_row(key_id, number);
    assert_int_equal(usage_submit(f->usage, &row, usage_fixture_on_done, pending), SL_OK);
}

void usage_fixture_end_turn(struct usage_fixture *f)
{
    while (f->turn_asked) {
        f->turn_asked = false;
        usage_turn_end(f->usage);
    }
}

static bool is_done(void *arg)
{
    struct usage_fixture *f = arg;
    usage_fixture_end_turn(f);
    return f->n_done >= f->n_wanted;
}

void usage_fixture_run(struct usage_fixture *f, int n)
{
    f->n_wanted = n;
    assert_true(post_box_run(f->box, is_done, f));
}

void usage_fixture_store(struct usage_fixture *f, struct pending *pending, int number,
                         const char *key_id)
{
    usage_fixture_submit(f, pending, number, key_id);
    usage_fixture_run(f, number + 1);
}

int64_t usage_fixture_query(struct usage_fixture *f, const char *sql)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t v = -1;
    if (db_query_int(f->db, sql, &v, &err) != SL_OK) fail_msg("%s", err.text);
    return v;
}
