/* dispatch_test.c: requests on a grid of scripted nodes: where they go, what a loss, a death, a
 * refusal or a restart does to them, which models are loaded for them, and what is told of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/fake_grid.h"
#include "support/prop.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)

static struct fake_grid grid;

/* A text whose answer has at least so many tokens. */
static void long_text(struct fake_client *client, int32_t n_tokens, const char *stem)
{
    for (int i = 0;; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %d", stem, i);
        uint64_t prompt = fake_prompt(text);
        if (fake_length(prompt, 0) < n_tokens) continue;
        fake_client_init(client, text);
        return;
    }
}

static int setup(void **state)
{
    (void)state;
    fake_grid_begin(&grid, 3);
    return 0;
}

static void start(void)
{
    fake_grid_create(&grid);
    fake_grid_run(&grid, 1500 * MS);
}

static void submit(struct fake_client *client)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = fake_submit(&grid, client, &err);
    if (status != SL_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SL_OK);
}

static void answer(struct fake_client *client)
{
    submit(client);
    assert_true(fake_grid_run_until_ended(&grid, client, 60 * S));
    fake_client_check(client);
}

static struct fake_node *node_of(const struct fake_client *client)
{
    for (uint32_t i = 0; i < grid.n_nodes; i++)
        for (int k = 0; k < FAKE_ATTEMPTS_MAX; k++)
            if (grid.nodes[i].attempts[k].used &&
                grid.nodes[i].attempts[k].request == dispatch_request_number(client->request))
                return &grid.nodes[i];
    return NULL;
}

static void run_until_tokens(struct fake_client *client, int32_t n_tokens)
{
    for (int i = 0; i < 10000 && client->n_tokens[0] < n_tokens; i++) fake_grid_run(&grid, MS);
    assert_true(client->n_tokens[0] >= n_tokens);
}

static struct dispatch_stats stats(void)
{
    struct dispatch_stats out;
    dispatch_stats_get(grid.dispatch, &out);
    return out;
}

/* --- answers --- */

static void test_an_answer_comes_whole(void **state)
{
    (void)state;
    start();
    struct fake_client one, two, vector, load;
    fake_client_init(&one, "hello");
    fake_client_init(&two, "two choices");
    two.n_choices = 2;
    fake_client_init(&vector, "embed me");
    vector.task = NODE_EMBED;
    fake_client_init(&load, "");
    load.task = NODE_LOAD;
    answer(&one);
    answer(&two);
    answer(&vector);
    answer(&load);
    assert_int_equal(one.end.n_attempts, 1);
    assert_int_equal(one.end.n_prompt, 12);
    assert_int_equal(stats().router.n_finished, 4);
    fake_grid_end(&grid);
}

static void test_no_event_comes_from_submit(void **state)
{
    (void)state;
    start();
    struct fake_client client;
    fake_client_init(&client, "quiet");
    submit(&client);
    assert_false(client.started || client.ended);
    assert_int_equal(stats().router.n_submitted, 0);
    assert_true(fake_grid_run_until_ended(&grid, &client, S));
    fake_client_check(&client);
    fake_grid_end(&grid);
}

static void test_bad_requests_are_refused_at_once(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch_request *request;
    int64_t after;
    start();
    struct node_submit submit = {.model = "nosuch", .text = "x", .n_text = 1};
    assert_int_equal(dispatch_submit(grid.dispatch, &submit, NULL, NULL, &request, &after, &err),
                     SL_NOT_FOUND);
    submit.model = FAKE_MODEL;
    submit.n_choices = ENGINE_CHOICES_MAX + 1;
    assert_int_equal(dispatch_submit(grid.dispatch, &submit, NULL, NULL, &request, &after, &err),
                     SL_INVALID);
    submit.n_choices = 1;
    submit.n_text = NODE_PROMPT_BYTES_MAX + 1;
    assert_int_equal(dispatch_submit(grid.dispatch, &submit, NULL, NULL, &request, &after, &err),
                     SL_LIMIT);
    assert_int_equal(stats().router.n_live, 0);
    fake_grid_end(&grid);
}

static void test_many_share_the_nodes(void **state)
{
    (void)state;
    static struct fake_client clients[60];
    start();
    for (size_t i = 0; i < 60; i++) {
        char text[32];
        snprintf(text, sizeof text, "request %zu", i);
        fake_client_init(&clients[i], text);
        submit(&clients[i]);
    }
    fake_grid_run(&grid, 20 * S);
    for (size_t i = 0; i < 60; i++) fake_client_check(&clients[i]);
    for (uint32_t i = 0; i < 3; i++) assert_true(grid.nodes[i].n_runs > 5);
    fake_grid_end(&grid);
}

/* --- cancelling --- */

static void test_cancel_stops_the_node(void **state)
{
    (void)state;
    start();
    struct fake_client before, within, running;
    fake_client_init(&before, "never sent");
    submit(&before);
    before.cancelled = true;
    dispatch_cancel(before.request);
    long_text(&within, 6, "cancel from within");
    within.cancel_after = 3;
    submit(&within);
    long_text(&running, 10, "cancel from outside");
    submit(&running);
    run_until_tokens(&running, 2);
    running.cancelled = true;
    dispatch_cancel(running.request);
    fake_grid_run(&grid, S);
    assert_int_equal(within.n_tokens[0], 3);
    assert_int_equal(stats().router.n_live, 0);
    for (uint32_t i = 0; i < 3; i++)
        for (int k = 0; k < FAKE_ATTEMPTS_MAX; k++) assert_false(grid.nodes[i].attempts[k].used);
    fake_grid_end(&grid);
}

/* --- when things go wrong --- */

static void test_a_death_moves_the_answer(void **state)
{
    (void)state;
    start();
    struct fake_client client;
    long_text(&client, 15, "moves");
    submit(&client);
    run_until_tokens(&client, 5);
    struct fake_node *node = node_of(&client);
    assert_non_null(node);
    int64_t died_ns = grid.now_ns;
    fake_node_die(node);
    run_until_tokens(&client, client.n_tokens[0] + 1);
    /* suspect and dead are 1.2 and 2 s of silence. */
    assert_true(grid.now_ns - died_ns < 2600 * MS);
    assert_true(fake_grid_run_until_ended(&grid, &client, 10 * S));
    fake_client_check(&client);
    assert_int_equal(client.end.n_attempts, 2);
    assert_int_equal(stats().n_resumed, 1);
    fake_grid_end(&grid);
}

static void test_a_restart_moves_the_answer_at_once(void **state)
{
    (void)state;
    start();
    struct fake_client client;
    long_text(&client, 15, "restarts");
    submit(&client);
    run_until_tokens(&client, 3);
    struct fake_node *node = node_of(&client);
    fake_node_die(node);
    fake_node_start(&grid, node);
    int64_t at_ns = grid.now_ns;
    run_until_tokens(&client, client.n_tokens[0] + 1);
    assert_true(grid.now_ns - at_ns < 500 * MS);
    assert_true(fake_grid_run_until_ended(&grid, &client, 10 * S));
    fake_client_check(&client);
    fake_grid_end(&grid);
}

static void test_a_clock_set_back_is_no_end(void **state)
{
    (void)state;
    start();
    fake_node_die(&grid.nodes[1]);
    fake_grid_run(&grid, 4 * S);
    assert_int_equal(stats().n_members_dead, 1);
    grid.nodes[1].boot = 5;
    fake_node_start(&grid, &grid.nodes[1]);
    fake_grid_run(&grid, S);
    assert_int_equal(stats().n_members_alive, 3);
    fake_grid_end(&grid);
}

#define LOSSY 60 /* that no RUN of so many is lost has a chance of one in 650,000 */

static void test_losses_are_made_good(void **state)
{
    (void)state;
    static struct fake_client clients[LOSSY];
    start();
    grid.loss_percent = 20;
    grid.twice_percent = 20;
    for (size_t i = 0; i < LOSSY; i++) {
        char text[32];
        snprintf(text, sizeof text, "lossy %zu", i);
        fake_client_init(&clients[i], text);
        submit(&clients[i]);
    }
    fake_grid_run(&grid, 60 * S);
    for (size_t i = 0; i < LOSSY; i++) fake_client_check(&clients[i]);
    assert_true(stats().n_gaps > 0 && stats().n_runs_again > 0 && stats().n_duplicates > 0);
    fake_grid_end(&grid);
}

static void test_full_nodes_send_elsewhere(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    grid.nodes[0].refuse_percent = grid.nodes[1].refuse_percent = 100;
    for (int i = 0; i < 5; i++) {
        char text[32];
        snprintf(text, sizeof text, "refused %d", i);
        fake_client_init(&client, text);
        answer(&client);
    }
    assert_true(stats().router.n_refused > 0);
    fake_grid_end(&grid);
}

static void test_its_own_fault_is_not_tried_elsewhere(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    for (uint32_t i = 0; i < 3; i++) grid.nodes[i].fail_status = SL_INVALID;
    fake_client_init(&client, "bad sampler");
    submit(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, S));
    assert_int_equal(client.end.type, NODE_EVENT_FAILED);
    assert_int_equal(client.end.status, SL_INVALID);
    assert_string_equal(client.message, "it failed");
    assert_int_equal(stats().router.n_sent, 1);
    fake_grid_end(&grid);
}

static void test_a_failure_is_tried_elsewhere(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    grid.nodes[0].fail_status = grid.nodes[1].fail_status = SL_UNAVAILABLE;
    long_text(&client, 8, "fails twice");
    answer(&client);
    fake_grid_end(&grid);
}

static void test_a_model_that_was_removed_is_asked_for_elsewhere(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    grid.nodes[0].fail_status = grid.nodes[1].fail_status = SL_NOT_FOUND;
    long_text(&client, 8, "removed twice");
    answer(&client);
    fake_grid_end(&grid);
}

static void test_without_a_bus_time_stands_still(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    grid.nodes[0].hosts = false; /* the answer comes from another machine */
    fake_grid_run(&grid, 1100 * MS);
    long_text(&client, 15, "bus");
    submit(&client);
    run_until_tokens(&client, 3);
    grid.connection = 0;
    fake_grid_run(&grid, 10 * S);
    assert_int_equal(stats().n_members_alive, 3);
    assert_false(client.ended);
    grid.connection = ++grid.n_connections;
    assert_true(fake_grid_run_until_ended(&grid, &client, 2 * S));
    fake_client_check(&client);
    assert_int_equal(client.end.n_attempts, 1);
    grid.connection = 0;
    fake_grid_run(&grid, 40 * S);
    assert_int_equal(stats().n_members_alive, 1); /* this machine itself */
    grid.connection = ++grid.n_connections;
    fake_grid_run(&grid, 4 * S);
    assert_int_equal(stats().n_members_alive, 3);
    fake_grid_end(&grid);
}

static void test_our_own_stall_is_not_their_silence(void **state)
{
    (void)state;
    start();
    grid.now_ns += 20 * S; /* nobody was called meanwhile */
    fake_grid_run(&grid, 100 * MS);
    assert_int_equal(stats().n_members_alive, 3);
    assert_int_equal(stats().n_members_dead, 0);
    fake_grid_end(&grid);
}

/* --- models --- */

static void unload_all(void)
{
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].hosts = false;
}

static void test_a_cold_model_is_loaded_at_once(void **state)
{
    (void)state;
    struct fake_client client;
    unload_all();
    grid.nodes[0].has_file = grid.nodes[1].has_file = false;
    start();
    fake_client_init(&client, "cold");
    int64_t at_ns = grid.now_ns;
    answer(&client);
    assert_true(grid.now_ns - at_ns < S); /* of that, 300 ms to load and 20 a token */
    assert_int_equal(grid.nodes[2].n_loads, 1);
    assert_int_equal(grid.nodes[0].n_loads + grid.nodes[1].n_loads, 0);
    fake_grid_end(&grid);
}

static void test_what_fits_nowhere_is_told_with_numbers(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    unload_all();
    for (uint32_t i = 0; i < 3; i++) grid.nodes[i].memory_bytes = 400000000 + 100000000 * i;
    start();
    fake_client_init(&client, "too big");
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "953.7 MiB"));
    assert_non_null(strstr(err.text, "572.2 MiB"));
    assert_non_null(strstr(err.text, "n2"));
    fake_grid_end(&grid);
}

static void test_what_cannot_be_loaded_fails_with_the_reason(void **state)
{
    (void)state;
    struct fake_client client;
    unload_all();
    start();
    fake_client_init(&client, "cut");
    submit(&client);
    fake_grid_run(&grid, 10 * MS);
    for (uint32_t i = 0; i < 3; i++) grid.nodes[i].fails_to_load = true;
    assert_true(fake_grid_run_until_ended(&grid, &client, 10 * S));
    assert_int_equal(client.end.status, SL_UNAVAILABLE);
    assert_non_null(strstr(client.message, "cut short"));
    fake_grid_end(&grid);
}

static uint32_t n_loaded(void)
{
    return (uint32_t)grid.nodes[0].hosts + grid.nodes[1].hosts + grid.nodes[2].hosts;
}

static void test_stop_unloads_everywhere_and_for_good(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    start();
    fake_client_init(&client, "warm");
    answer(&client);
    assert_int_equal(dispatch_stop(grid.dispatch, "parrot", &err), SL_OK);
    fake_grid_run(&grid, 10 * S);
    for (uint32_t i = 0; i < 3; i++) assert_false(grid.nodes[i].hosts);
    assert_int_equal(dispatch_stop(grid.dispatch, "parrot", &err), SL_NOT_FOUND);
    assert_int_equal(dispatch_pin(grid.dispatch, "parrot", &err), SL_OK);
    fake_grid_run(&grid, 3 * S);
    assert_int_equal(n_loaded(), 1);
    fake_grid_end(&grid);
}

static void test_what_nobody_asks_for_goes_unless_it_is_kept(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    for (int kept = 0; kept < 2; kept++) {
        start();
        if (kept) assert_int_equal(dispatch_keep(grid.dispatch, FAKE_MODEL, "d1", &err), SL_OK);
        fake_grid_run(&grid, 1200 * S);
        assert_int_equal(n_loaded(), kept);
        fake_grid_end(&grid);
        fake_grid_begin(&grid, 3);
    }
}

static void count_model(void *ctx, const struct node_model *model)
{
    assert_string_equal(model->name, FAKE_MODEL);
    ++*(int *)ctx;
}

static void test_names_mean_what_is_here(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct node_model model;
    int n = 0;
    grid.nodes[1].digest = grid.nodes[2].digest = "d2";
    start();
    assert_int_equal(dispatch_model_find(grid.dispatch, "parrot", &model, &err), SL_OK);
    assert_string_equal(model.digest, "d1"); /* ours, though most have the other */
    assert_string_equal(model.name, FAKE_MODEL);
    assert_string_equal(model.state, "ready");
    assert_int_equal(model.n_slots, 4);
    assert_int_equal(dispatch_model_find(grid.dispatch, "parrot:2", &model, &err), SL_NOT_FOUND);
    dispatch_models(grid.dispatch, count_model, &n);
    assert_int_equal(n, 2);
    dispatch_model_changed(grid.dispatch, FAKE_MODEL); /* removed here */
    grid.nodes[0].hosts = grid.nodes[0].has_file = false;
    fake_grid_run(&grid, 1100 * MS);
    assert_int_equal(dispatch_model_find(grid.dispatch, "parrot", &model, &err), SL_OK);
    assert_string_equal(model.digest, "d2");
    fake_grid_end(&grid);
}

/* --- several gateways --- */

static void say_as(const char *id, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    char subject[64];
    sl_buf_init(&out, GRID_MSG_BYTES_MAX);
    assert_int_equal(grid_msg_encode(msg, &out, &err), SL_OK);
    snprintf(subject, sizeof subject, "sl.report.%s", id);
    dispatch_receive(grid.dispatch, subject, out.data, out.len);
    sl_buf_done(&out);
}

static void gateway_says(uint64_t version, uint32_t n_waiting)
{
    const struct grid_msg report = {
        .type = GRID_REPORT,
        .report = {
            .boot = 1, .version = version, .name = "", .address = "", .program = "", .site = ""}};
    const struct grid_demand_entry entry = {
        .name = FAKE_MODEL, .digest = "d1", .n_waiting = n_waiting};
    const struct grid_msg demand = {.type = GRID_DEMAND,
                                    .demand = {.boot = 1, .v = &entry, .n = n_waiting > 0}};
    say_as("a0", &report);
    say_as("a0", &demand);
}

static void count_gateways(void *ctx, const struct dispatch_member *member)
{
    *(int *)ctx += member->gateway;
}

static void test_one_gateway_places_for_all(void **state)
{
    (void)state;
    struct fake_client client;
    int n_gateways = 0;
    unload_all();
    start();
    assert_true(stats().places);
    gateway_says(1, 0); /* its id is lower than ours */
    fake_client_init(&client, "its turn");
    submit(&client);
    fake_grid_run(&grid, 900 * MS);
    assert_false(stats().places);
    assert_int_equal(stats().n_loads, 0);
    assert_false(client.ended);
    dispatch_members(grid.dispatch, count_gateways, &n_gateways);
    assert_int_equal(n_gateways, 2);
    /* It falls silent: our turn. */
    assert_true(fake_grid_run_until_ended(&grid, &client, 5 * S));
    fake_client_check(&client);
    assert_true(stats().places);
    fake_grid_end(&grid);
}

static void test_what_waits_elsewhere_is_loaded_too(void **state)
{
    (void)state;
    unload_all();
    strcpy(grid.nodes[0].id, "A"); /* lower than the other gateway's */
    start();
    gateway_says(1, 3);
    fake_grid_run(&grid, 500 * MS);
    assert_int_equal(stats().n_loads, 1);
    fake_grid_end(&grid);
}

/* --- members and explanations --- */

static void see_member(void *ctx, const struct dispatch_member *member)
{
    uint32_t *n = ctx;
    assert_string_equal(member->id, grid.nodes[*n].id);
    assert_string_equal(member->name, grid.nodes[*n].id);
    assert_int_equal(member->self, *n == 0);
    assert_int_equal(member->health, NODE_ALIVE);
    if (*n > 0) assert_true(member->rtt_s > 0.003 && member->rtt_s < 0.005);
    ++*n;
}

static void test_members_are_seen(void **state)
{
    (void)state;
    uint32_t n = 0;
    start();
    fake_grid_run(&grid, 5 * S);
    dispatch_members(grid.dispatch, see_member, &n);
    assert_int_equal(n, 3);
    dispatch_member_gone(grid.dispatch, "n2");
    fake_node_die(&grid.nodes[2]);
    n = 0;
    dispatch_members(grid.dispatch, see_member, &n);
    assert_int_equal(n, 2);
    fake_grid_end(&grid);
}

static void test_who_was_there_before_is_asked_for_its_cards(void **state)
{
    (void)state;
    grid.nodes[1].version = 2; /* its next cards by themselves are eight reports away */
    fake_grid_create(&grid);
    assert_false(dispatch_has_heard(grid.dispatch, "n1"));
    fake_grid_run(&grid, 1500 * MS);
    assert_true(dispatch_has_heard(grid.dispatch, "n1"));
    assert_false(dispatch_has_heard(grid.dispatch, "n9"));
    fake_grid_end(&grid);
}

static void test_a_story_is_told(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf out;
    struct fake_client client;
    sl_buf_init(&out, 1 << 20);
    start();
    long_text(&client, 15, "story");
    submit(&client);
    run_until_tokens(&client, 5);
    char id[GRID_ID_SIZE];
    snprintf(id, sizeof id, "%s", node_of(&client)->id);
    fake_node_die(node_of(&client));
    assert_true(fake_grid_run_until_ended(&grid, &client, 10 * S));
    sl_json_begin(&json, &out, false);
    assert_int_equal(dispatch_explain_request(grid.dispatch, client.text, &json, &err), SL_OK);
    assert_int_equal(sl_json_end(&json), SL_OK);
    char node[64];
    snprintf(node, sizeof node, "\"node\":\"%s\"", id);
    assert_non_null(strstr(out.data, node));
    assert_non_null(strstr(out.data, "the node died"));
    assert_non_null(strstr(out.data, "\"state\":\"finished\""));
    assert_non_null(strstr(out.data, "\"n_attempts\":2"));
    assert_non_null(strstr(out.data, "\"parts\""));
    sl_buf_clear(&out);
    sl_json_begin(&json, &out, false);
    assert_int_equal(dispatch_explain_model(grid.dispatch, "parrot", &json, &err), SL_OK);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_non_null(strstr(out.data, "\"ready_on\":2"));
    sl_json_begin(&json, &out, false);
    assert_int_equal(dispatch_explain_request(grid.dispatch, "nobody", &json, &err), SL_NOT_FOUND);
    sl_buf_done(&out);
    fake_grid_end(&grid);
}

/* --- hostile and poor --- */

static void test_garbage_is_counted(void **state)
{
    (void)state;
    struct fake_client client;
    start();
    uint64_t n_before = stats().n_corrupt;
    dispatch_receive(grid.dispatch, "sl.answer.n0.n1", "\xff\xff", 2);
    dispatch_receive(grid.dispatch, "sl.report.n1", "\x07\xff\xff", 3);
    dispatch_receive(grid.dispatch, "sl.report.a-name-that-is-far-too-long", "\x07", 1);
    dispatch_receive(grid.dispatch, "sl.answer.n0.stranger", "\x05", 1);
    dispatch_receive(grid.dispatch, "nonsense", "", 0);
    assert_int_equal(stats().n_corrupt, n_before + 2);
    fake_client_init(&client, "still works");
    answer(&client);
    fake_grid_end(&grid);
}

static void test_creation_without_memory(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    start();
    fake_grid_end(&grid);
    uint64_t live = sl_mem_live();
    const struct dispatch_world world = fake_world(&grid);
    struct dispatch_cfg cfg = grid.cfg;
    cfg.world = &world;
    for (uint64_t nth = 1;; nth++) {
        struct dispatch *dispatch = NULL;
        sl_mem_fail_at(nth, false);
        sl_status status = dispatch_create(&cfg, &dispatch, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (status == SL_OK) {
            dispatch_destroy(dispatch);
            if (!hit) break;
            continue;
        }
        assert_int_equal(status, SL_NOMEM);
        assert_null(dispatch);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_int_equal(sl_mem_live(), live);
}

/* One allocation of a whole request's life fails: it is refused, fails, or comes whole. */
static void test_requests_without_memory(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    uint64_t n_whole = 0, n_bad = 0;
    for (uint64_t nth = 1; nth < 400; nth += 3) {
        struct fake_client client;
        fake_grid_begin(&grid, 2);
        start();
        long_text(&client, 4, "poor");
        grid.poor = nth;
        sl_status status = fake_submit(&grid, &client, &err);
        if (status == SL_OK) {
            assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
            if (client.end.type == NODE_EVENT_DONE) {
                fake_client_check(&client);
                n_whole++;
            } else {
                assert_int_equal(client.end.status, SL_NOMEM);
            }
        } else {
            assert_int_equal(status, SL_NOMEM);
            n_bad++;
        }
        fake_grid_end(&grid);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_true(n_whole > 0 && n_bad > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_an_answer_comes_whole, setup),
        cmocka_unit_test_setup(test_no_event_comes_from_submit, setup),
        cmocka_unit_test_setup(test_bad_requests_are_refused_at_once, setup),
        cmocka_unit_test_setup(test_many_share_the_nodes, setup),
        cmocka_unit_test_setup(test_cancel_stops_the_node, setup),
        cmocka_unit_test_setup(test_a_death_moves_the_answer, setup),
        cmocka_unit_test_setup(test_a_restart_moves_the_answer_at_once, setup),
        cmocka_unit_test_setup(test_a_clock_set_back_is_no_end, setup),
        cmocka_unit_test_setup(test_losses_are_made_good, setup),
        cmocka_unit_test_setup(test_full_nodes_send_elsewhere, setup),
        cmocka_unit_test_setup(test_its_own_fault_is_not_tried_elsewhere, setup),
        cmocka_unit_test_setup(test_a_failure_is_tried_elsewhere, setup),
        cmocka_unit_test_setup(test_a_model_that_was_removed_is_asked_for_elsewhere, setup),
        cmocka_unit_test_setup(test_without_a_bus_time_stands_still, setup),
        cmocka_unit_test_setup(test_our_own_stall_is_not_their_silence, setup),
        cmocka_unit_test_setup(test_a_cold_model_is_loaded_at_once, setup),
        cmocka_unit_test_setup(test_what_fits_nowhere_is_told_with_numbers, setup),
        cmocka_unit_test_setup(test_what_cannot_be_loaded_fails_with_the_reason, setup),
        cmocka_unit_test_setup(test_stop_unloads_everywhere_and_for_good, setup),
        cmocka_unit_test_setup(test_what_nobody_asks_for_goes_unless_it_is_kept, setup),
        cmocka_unit_test_setup(test_names_mean_what_is_here, setup),
        cmocka_unit_test_setup(test_one_gateway_places_for_all, setup),
        cmocka_unit_test_setup(test_what_waits_elsewhere_is_loaded_too, setup),
        cmocka_unit_test_setup(test_members_are_seen, setup),
        cmocka_unit_test_setup(test_who_was_there_before_is_asked_for_its_cards, setup),
        cmocka_unit_test_setup(test_a_story_is_told, setup),
        cmocka_unit_test_setup(test_garbage_is_counted, setup),
        cmocka_unit_test_setup(test_creation_without_memory, setup),
        cmocka_unit_test_setup(test_requests_without_memory, setup),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
