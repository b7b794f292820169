/* The node's side of the grid, with a real node and a scripted gateway: streams over a bus that
 * loses, repeats and delays; admission; duty; what gateways tell it to load; reports and cards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/agent_fixture.h"
#include "support/prop.h"
#include "support/temp_dir.h"

#define MODEL "starling"
#define FOREVER "echo:?tokens=30000&pace_us=1000&slots=1"
#define MS INT64_C(1000000)

static struct agent_fixture f; /* too large for a stack */

static struct agent_stats stats_of(void)
{
    struct agent_stats stats;
    agent_stats_get(f.agent, &stats);
    return stats;
}

static uint64_t n_running(void)
{
    struct node_stats stats;
    node_stats_get(f.node.node, &stats);
    return stats.n_running;
}

/* --- streams --- */

static void test_answers(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:", "hello");
    struct try *t = try_run(&f, &submit);
    try_finish(&f, t);
    assert_string_equal(t->text, "hello");
    assert_int_equal(t->n_started, 1);
    assert_int_equal(t->n_choices_done, 1);
    assert_int_equal(t->end.node.type, NODE_EVENT_DONE);
    assert_int_equal(t->end.node.n_generated, 5);
    while (stats_of().n_attempts) agent_turn(&f); /* until the end is acknowledged */
    assert_int_equal(stats_of().stream_bytes, 0);
    assert_int_equal(stats_of().n_ended, 1);
    int n_reports = f.n_reports;
    while (f.n_reports <= n_reports) agent_turn(&f);
    assert_int_equal(f.report.n_covers, 1);
    assert_string_equal(f.report.covers[0].gateway, AGENT_FIXTURE_GATEWAY);
    assert_int_equal(f.report.covers[0].boot, 7);
    assert_int_equal(f.report.covers[0].sent, 1);
    agent_fixture_done(&f);
}

static void test_other_tasks(void **state)
{
    static const int32_t tokens[] = {'h', 'i'};
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    struct node_submit submit = ask_for("echo:", "hello");
    submit.task = NODE_EMBED;
    struct try *embed = try_run(&f, &submit);
    submit.task = NODE_LOAD;
    struct try *load = try_run(&f, &submit);
    submit.task = NODE_DETOKENIZE;
    submit.tokens = tokens;
    submit.n_tokens = 2;
    struct try *words = try_run(&f, &submit);
    try_finish(&f, embed);
    try_finish(&f, load);
    try_finish(&f, words);
    assert_int_equal(embed->end.node.type, NODE_EVENT_DONE);
    assert_true(embed->embedding_sum != 0);
    assert_int_equal(load->end.node.type, NODE_EVENT_DONE);
    assert_int_equal(words->end.node.type, NODE_EVENT_DONE);
    assert_string_equal(words->text, "hi");
    agent_fixture_done(&f);
}

static void test_lossy_bus(void **state)
{
    static char texts[TRIES_MAX][64];
    (void)state;
    prop_begin();
    agent_fixture_init(&f);
    f.lose = 30;
    f.repeat = 20;
    f.delay = 40;
    agent_fixture_start(&f);
    for (int i = 0; i < 24; i++) {
        snprintf(texts[i], sizeof texts[i], "request %d goes its own way over a poor line", i);
        const struct node_submit submit = ask_for("echo:?pace_us=2000", texts[i]);
        try_run(&f, &submit);
        for (size_t n = prop_draw(6); n; n--) agent_turn(&f);
    }
    for (int i = 0; i < 24; i++) {
        try_finish(&f, &f.tries[i]);
        assert_string_equal(f.tries[i].text, texts[i]);
        assert_int_equal(f.tries[i].end.node.type, NODE_EVENT_DONE);
        assert_int_equal(f.tries[i].n_started, 1);
        assert_int_equal(f.tries[i].n_choices_done, 1);
    }
    assert_int_equal(stats_of().n_runs, 24);
    assert_true(stats_of().n_resent > 0);
    while (stats_of().n_attempts) agent_turn(&f);
    assert_int_equal(stats_of().stream_bytes, 0);
    agent_fixture_done(&f);
}

static void test_run_repeated(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:", "once");
    struct try *t = try_run(&f, &submit);
    try_run_again(&f, t);
    try_finish(&f, t);
    assert_string_equal(t->text, "once");
    assert_int_equal(stats_of().n_runs, 1);
    assert_int_equal(stats_of().n_runs_again, 1);
    while (stats_of().n_attempts) agent_turn(&f);
    /* One that comes after the end is acknowledged changes nothing. */
    t->given_up = true;
    try_run_again(&f, t);
    for (int i = 0; i < 10; i++) agent_turn(&f);
    assert_int_equal(stats_of().n_runs, 1);
    assert_int_equal(stats_of().n_attempts, 0);
    agent_fixture_done(&f);
}

static void test_unknown_attempt_is_gone(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    f.lose = 100;
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:", "found again");
    struct try *t = try_run(&f, &submit); /* is lost */
    f.lose = 0;
    try_finish(&f, t);
    assert_true(t->n_gone >= 1);
    assert_string_equal(t->text, "found again");
    assert_int_equal(stats_of().n_runs, 1);
    agent_fixture_done(&f);
}

static void test_stop(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "on and on");
    struct try *t = try_run(&f, &submit);
    while (!t->n_tokens) agent_turn(&f);
    const struct grid_msg stop = {.type = GRID_STOP,
                                  .stop = {.boot = f.boot, .request = 1, .attempt = 1}};
    t->given_up = true;
    agent_fixture_send(&f, &stop);
    try_run_again(&f, t); /* late: it stays stopped */
    while (stats_of().n_attempts || n_running()) agent_turn(&f);
    assert_int_equal(stats_of().n_stopped, 1);
    assert_int_equal(stats_of().n_runs, 1);
    assert_int_equal(stats_of().stream_bytes, 0);
    agent_fixture_done(&f);
}

static void test_silent_gateway(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    f.cfg.silence_ns = 300 * MS;
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "anybody there");
    struct try *t = try_run(&f, &submit);
    while (!t->n_tokens) agent_turn(&f);
    t->muted = true;
    while (stats_of().n_attempts || n_running()) agent_turn(&f);
    assert_int_equal(stats_of().n_silenced, 1);
    agent_fixture_done(&f);
}

static void test_gateway_started_anew(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "of the old process");
    struct try *old = try_run(&f, &submit);
    while (!old->n_tokens) agent_turn(&f);
    old->given_up = true;
    f.boot++;
    const struct node_submit next = ask_for("echo:", "of the new one");
    struct try *t = try_run(&f, &next);
    try_finish(&f, t);
    assert_string_equal(t->text, "of the new one");
    assert_int_equal(stats_of().n_silenced, 1);
    agent_fixture_done(&f);
}

static void test_events_that_do_not_arrive(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    f.cfg.stream_bytes_max = 4000;
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?tokens=30000", "far too much");
    struct try *t = try_run(&f, &submit);
    t->muted = true;
    while (!stats_of().n_overflown) {
        agent_turn(&f);
        assert_true(stats_of().stream_bytes < 6000);
    }
    t->muted = false;
    t->gap = true;
    try_finish(&f, t);
    assert_int_equal(t->end.node.type, NODE_EVENT_FAILED);
    assert_int_equal(t->end.node.status, SL_UNAVAILABLE);
    while (stats_of().n_attempts || n_running()) agent_turn(&f);
    assert_int_equal(stats_of().stream_bytes, 0);
    agent_fixture_done(&f);
}

static void test_beats(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "tick");
    struct try *t = try_run(&f, &submit);
    while (!t->n_tokens) agent_turn(&f);
    int n_beats = f.n_beats;
    while (f.n_beats < n_beats + 2) agent_turn(&f);
    assert_int_equal(f.beat.request, 1);
    assert_int_equal(f.beat.attempt, 1);
    assert_int_equal(f.beat.state, GRID_RUNNING);
    assert_true(f.beat.last_seq >= 2);
    agent_fixture_done(&f);
}

/* --- resuming --- */

static void test_resumed_answer(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    struct node_submit submit = ask_for(MODEL, "Once upon a time there was");
    submit.max_tokens = 24;
    submit.ignore_end = true;
    struct try *whole = try_run(&f, &submit);
    try_finish(&f, whole);
    assert_int_equal(whole->n_tokens, 24);
    const struct node_resume resume = {.tokens = whole->tokens, .n_tokens = 9};
    submit.resume = &resume;
    struct try *tail = try_run(&f, &submit);
    try_finish(&f, tail);
    assert_int_equal(tail->n_started, 1);
    assert_int_equal(tail->n_tokens, 15);
    assert_memory_equal(tail->tokens, whole->tokens + 9, 15 * sizeof *tail->tokens);
    assert_true(tail->n_text > 0 && tail->n_text < whole->n_text);
    assert_string_equal(tail->text, whole->text + whole->n_text - tail->n_text);
    assert_int_equal(tail->end.node.n_generated, 24);
    agent_fixture_done(&f);
}

static void test_resumed_choices(void **state)
{
    static const int32_t given[] = {'a', 'b', 'c'};
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    struct node_submit submit = ask_for("echo:", "abcdef");
    struct node_resume resume[] = {{given, 3, true}, {given, 3, false}};
    submit.n_choices = 2;
    submit.resume = resume;
    struct try *one_left = try_run(&f, &submit);
    try_finish(&f, one_left);
    assert_string_equal(one_left->text, "def");
    assert_int_equal(one_left->n_choices_done, 1);
    resume[1].done = true;
    struct try *none_left = try_run(&f, &submit);
    try_finish(&f, none_left);
    assert_int_equal(none_left->end.node.type, NODE_EVENT_DONE);
    assert_int_equal(none_left->n_started, 1);
    assert_int_equal(none_left->n_text, 0);
    assert_int_equal(none_left->end.node.n_generated, 6);
    agent_fixture_done(&f);
}

/* --- admission and duty --- */

static void test_full(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "full");
    struct try *runs = try_run(&f, &submit);
    while (!runs->n_tokens) agent_turn(&f); /* the worker has told that it has one slot */
    struct try *waits = try_run(&f, &submit);
    struct try *refused = try_run(&f, &submit);
    try_finish(&f, refused);
    assert_int_equal(refused->end.type, GRID_EVENT_REFUSED);
    assert_int_equal(refused->end.node.status, SL_BUSY);
    assert_true(refused->end.node.retry_after_ms > 0);
    assert_false(waits->ended);
    assert_int_equal(stats_of().n_refused, 1);
    agent_fixture_done(&f);
}

static void test_refusals(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    struct node_submit submit = ask_for("nobody:has-it", "x");
    struct try *unknown = try_run(&f, &submit);
    struct try *other = try_run(&f, &submit);
    submit = ask_for(MODEL, "x");
    other->run.submit = submit;
    other->run.digest = "00";
    other->run.request = 3; /* the same place with other contents */
    f.n_tries = 3;
    f.tries[2] = *other;
    f.tries[2].next_seq = 1;
    try_run_again(&f, &f.tries[2]);
    try_finish(&f, unknown);
    try_finish(&f, &f.tries[2]);
    assert_int_equal(unknown->end.type, GRID_EVENT_REFUSED);
    assert_int_equal(unknown->end.node.status, SL_NOT_FOUND);
    assert_int_equal(f.tries[2].end.node.status, SL_NOT_FOUND);
    assert_non_null(strstr(f.tries[2].message, "another file"));
    agent_fixture_done(&f);
}

static void control(enum grid_control_kind kind, const char *model, enum node_duty duty)
{
    static const char *const labels[] = {"site=berlin", "tier=edge"};
    const struct grid_msg msg = {.type = GRID_CONTROL,
                                 .control = {.kind = kind,
                                             .model = model,
                                             .digest = "",
                                             .duty = duty,
                                             .labels = labels,
                                             .n_labels = kind == GRID_CONTROL_LABELS ? 2 : 0}};
    agent_fixture_send(&f, &msg);
}

static void test_drains(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?pace_us=5000", "it may finish what it began");
    struct try *runs = try_run(&f, &submit);
    while (!runs->n_tokens) agent_turn(&f);
    control(GRID_CONTROL_DUTY, "", NODE_DRAINING);
    struct try *refused = try_run(&f, &submit);
    try_finish(&f, refused);
    assert_int_equal(refused->end.node.status, SL_UNAVAILABLE);
    assert_int_equal(f.n_drained, 0);
    try_finish(&f, runs);
    assert_string_equal(runs->text, "it may finish what it began");
    while (!f.report.drained) agent_turn(&f);
    assert_int_equal(f.report.facts.duty, NODE_DRAINING);
    assert_int_equal(f.n_drained, 1);
    assert_int_equal(f.n_controls, 1);
    control(GRID_CONTROL_DUTY, "", NODE_OPEN);
    while (f.report.facts.duty != NODE_OPEN) agent_turn(&f);
    assert_false(f.report.drained);
    agent_fixture_done(&f);
}

static void test_control(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct grid_hosted *hosted = NULL;
    control(GRID_CONTROL_LABELS, "", NODE_OPEN);
    control(GRID_CONTROL_LOAD, "echo:", NODE_OPEN);
    while (!hosted || hosted->load.state != SCHED_READY) {
        agent_turn(&f);
        hosted = agent_fixture_hosted(&f, "echo:");
    }
    assert_true(hosted->pinned);
    assert_int_equal(f.report.n_labels, 2);
    assert_string_equal(f.report.labels[0], "site=berlin");
    control(GRID_CONTROL_UNLOAD, "echo:", NODE_OPEN);
    while (agent_fixture_hosted(&f, "echo:")) agent_turn(&f);
    control(GRID_CONTROL_LOAD, "nobody:has-it", NODE_OPEN);
    control(GRID_CONTROL_LOAD, "nobody:has-it", NODE_OPEN); /* repeated: fetched once */
    for (int i = 0; i < 10; i++) agent_turn(&f);
    assert_int_equal(f.n_fetches, 1);
    assert_string_equal(f.fetched, "nobody:has-it@");
    struct sl_err why = SL_ERR_INIT;
    assert_int_equal(sl_err_set(&why, SL_IO, "no way there"), SL_IO);
    assert_int_equal(agent_fixture_hosted(&f, "nobody:has-it")->load.state, SCHED_STARTING);
    agent_fetched(f.agent, "nobody:has-it", &why);
    hosted = NULL;
    while (!hosted || hosted->load.state != SCHED_FAILED) {
        agent_turn(&f);
        hosted = agent_fixture_hosted(&f, "nobody:has-it");
    }
    assert_string_equal(hosted->last_error, "no way there");
    control(GRID_CONTROL_LOAD, "nobody:has-it", NODE_OPEN);
    while (f.n_fetches < 2) agent_turn(&f);
    agent_fixture_done(&f);
}

/* --- reports --- */

static void test_reports(void **state)
{
    static const uint64_t blocks[] = {11, 22, 33};
    (void)state;
    agent_fixture_init(&f);
    f.cfg.program = "1.2.3";
    agent_fixture_start(&f);
    while (!f.n_cards || !f.n_reports) agent_turn(&f);
    assert_string_equal(f.report.name, "desk");
    assert_string_equal(f.report.program, "1.2.3");
    assert_true(f.report.boot > 0);
    assert_true(f.report.facts.memory_bytes > 0);
    assert_null(f.report.telemetry);
    assert_int_equal(f.cards.n, 1); /* the bundled model */
    assert_null(f.cards.v[0].info);
    assert_int_equal(strlen(f.cards.v[0].digest), 64);
    struct node_submit submit =
        ask_for(MODEL, "The quick brown fox jumps over the lazy dog, again and again and again.");
    submit.max_tokens = 16;
    submit.ignore_end = true;
    f.n_tries = 1;
    struct try *t = &f.tries[0];
    *t = (struct try){.next_seq = 1,
                      .run = {.boot = f.boot,
                              .request = 1,
                              .attempt = 1,
                              .sent = 5,
                              .digest = "",
                              .submit = submit,
                              .n_prompt = 48,
                              .blocks = blocks,
                              .n_blocks = 3}};
    try_run_again(&f, t);
    try_finish(&f, t);
    const struct node_submit other =
        ask_for(MODEL, "A kind old woman lived in a house by the sea.");
    /* The first one waited for the model, which says nothing of how fast a prompt is computed. */
    f.n_tries = 2;
    f.tries[1] = *t;
    t = &f.tries[1];
    *t = (struct try){.next_seq = 1, .run = f.tries[0].run};
    t->run.request = 2;
    t->run.sent = 6;
    t->run.submit.text = other.text;
    t->run.submit.n_text = other.n_text;
    try_run_again(&f, t);
    try_finish(&f, t);
    const struct grid_hosted *hosted;
    do {
        agent_turn(&f);
        hosted = agent_fixture_hosted(&f, f.cards.v[0].name);
    } while (!hosted || !hosted->load.kv_tokens_max); /* the worker's next pong tells */
    assert_int_equal(hosted->load.state, SCHED_READY);
    assert_true(hosted->load.decode_tps > 0);
    assert_true(hosted->load.prefill_tps > 0);
    assert_true(hosted->load.service_s > 0);
    assert_int_equal(hosted->load.prefill_backlog, 0);
    while (f.report.n_held < 3) agent_turn(&f); /* told again in every report */
    while (!f.cards.v[0].info) agent_turn(&f);
    assert_true(f.cards.v[0].info->n_vocab > 0);
    agent_fixture_done(&f);
}

/* With an hour between reports, only what has changed is told. */
static void test_changes_are_told_at_once(void **state)
{
    const struct grid_hosted *hosted = NULL;
    (void)state;
    agent_fixture_init(&f);
    f.cfg.report_ns = f.cfg.cards_ns = 3600 * 1000 * MS;
    agent_fixture_start(&f);
    control(GRID_CONTROL_LOAD, "echo:", NODE_OPEN);
    while (!hosted || hosted->load.state != SCHED_READY) {
        agent_turn(&f);
        hosted = agent_fixture_hosted(&f, "echo:");
    }
    int n_cards = f.n_cards, n_reports = f.n_reports;
    const struct grid_msg hello = {.type = GRID_SYNC, .sync = {.boot = ++f.boot}};
    agent_fixture_send(&f, &hello);
    while (f.n_cards == n_cards || f.n_reports == n_reports) agent_turn(&f);
    n_cards = f.n_cards, n_reports = f.n_reports;
    agent_bus_changed(f.agent);
    while (f.n_cards == n_cards || f.n_reports == n_reports) agent_turn(&f);
    agent_fixture_done(&f);
}

static void test_pings(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    const struct grid_msg ping = {.type = GRID_PING,
                                  .ping = {.seq = 5, .sent_ns = 77, .n_padding = 1000}};
    sl_buf_init(&out, 4096);
    assert_int_equal(grid_msg_encode(&ping, &out, &err), SL_OK);
    assert_int_equal(bus_publish(f.bus, "sl.run." AGENT_FIXTURE_SELF "." AGENT_FIXTURE_GATEWAY,
                                 "\x63junk", 5, &err),
                     SL_OK);
    const char *subject = "sl.ping." AGENT_FIXTURE_SELF "." AGENT_FIXTURE_GATEWAY;
    assert_int_equal(bus_publish(f.bus, subject, out.data, out.len, &err), SL_OK);
    while (!f.n_pongs) agent_turn(&f);
    assert_int_equal(f.pong.seq, 5);
    assert_int_equal(f.pong.sent_ns, 77);
    assert_int_equal(f.pong.n_padding, 0);
    assert_int_equal(stats_of().n_corrupt, 1);
    sl_buf_done(&out);
    agent_fixture_done(&f);
}

/* --- creation --- */

static void test_refuses_arguments(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct agent *agent = NULL;
    (void)state;
    agent_fixture_init(&f);
    struct agent_cfg cfg = f.cfg;
    cfg.self = "an-id-that-is-far-too-long";
    assert_int_equal(agent_create(&cfg, &agent, &err), SL_INVALID);
    cfg = f.cfg;
    cfg.node = NULL;
    assert_int_equal(agent_create(&cfg, &agent, &err), SL_INVALID);
    cfg = f.cfg;
    cfg.beat_ns = 0;
    assert_int_equal(agent_create(&cfg, &agent, &err), SL_INVALID);
    assert_null(agent);
    agent_fixture_done(&f);
}

/* With the n-th allocation failing. The bus keeps what is left of a subscription until it ends, so
 * all of it goes before memory is counted. */
static sl_status create_and_destroy(uint64_t n)
{
    static const char *const labels[] = {"a=b", "c=d"};
    struct sl_err err = SL_ERR_INIT;
    struct agent *agent = NULL;
    agent_fixture_init(&f);
    f.cfg.labels = labels;
    f.cfg.n_labels = 2;
    sl_mem_fail_at(n, false);
    sl_status status = agent_create(&f.cfg, &agent, &err);
    sl_mem_fail_at(0, false);
    assert_int_equal(agent != NULL, status == SL_OK);
    agent_destroy(agent);
    agent_fixture_done(&f);
    return status;
}

static void test_create_without_memory(void **state)
{
    uint64_t n = 1;
    sl_status status;
    (void)state;
    uint64_t live = sl_mem_live();
    do {
        status = create_and_destroy(n);
        assert_true(status == SL_OK || status == SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
        assert_true(n < 100);
    } while (n++, status != SL_OK);
    assert_true(n > 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_other_tasks),
        TEST(test_lossy_bus),
        TEST(test_run_repeated),
        TEST(test_unknown_attempt_is_gone),
        TEST(test_stop),
        TEST(test_silent_gateway),
        TEST(test_gateway_started_anew),
        TEST(test_events_that_do_not_arrive),
        TEST(test_beats),
        TEST(test_resumed_answer),
        TEST(test_resumed_choices),
        TEST(test_full),
        TEST(test_refusals),
        TEST(test_drains),
        TEST(test_control),
        TEST(test_reports),
        TEST(test_changes_are_told_at_once),
        TEST(test_pings),
        TEST(test_refuses_arguments),
        TEST(test_create_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
