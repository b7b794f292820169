/* dispatch_split_test.c: models over several scripted nodes: when a chain is planned and for whom,
 * what happens to it when members die, drain, slow down or come, what people ask for, and what is
 * told of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "base/json_read.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/fake_grid.h"
#include "support/prop.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define MEMORY UINT64_C(560000000) /* of a node: about half of the model, and a cache */

static struct fake_grid grid;

static struct split_machine machine_of(double speed)
{
    struct split_machine out = {.memory_bytes_s = 1e10 * speed, .attn_one = 1e10 * speed};
    for (int i = 0; i < SPLIT_WEIGHT_COUNT; i++)
        out.speed[i] =
            (struct split_speed){1e10 * speed, {2e10 * speed, 4e10 * speed, 5e10 * speed}};
    return out;
}

/* Four nodes, each with room for half of the model and a bit; the dispatcher is on n0. */
static int setup(void **state)
{
    (void)state;
    fake_grid_begin(&grid, 4);
    fake_grid_splits(&grid);
    for (uint32_t i = 0; i < grid.n_nodes; i++) {
        grid.nodes[i].hosts = false;
        grid.nodes[i].memory_bytes = MEMORY;
        grid.nodes[i].machine = machine_of(1);
        grid.nodes[i].rtt_s = 0.0002;
    }
    return 0;
}

static void start(void)
{
    fake_grid_create(&grid);
    fake_grid_run(&grid, 1500 * MS);
}

static struct dispatch_stats stats(void)
{
    struct dispatch_stats out;
    dispatch_stats_get(grid.dispatch, &out);
    return out;
}

static void ask(struct fake_client *client, const char *text)
{
    struct sl_err err = SL_ERR_INIT;
    fake_client_init(client, text);
    sl_status status = fake_submit(&grid, client, &err);
    if (status != SL_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SL_OK);
}

static void answer(const char *text)
{
    struct fake_client client;
    ask(&client, text);
    assert_true(fake_grid_run_until_ended(&grid, &client, 60 * S));
    fake_client_check(&client);
}

static bool is_stage(const struct fake_node *head, const char *id)
{
    for (size_t i = 0; i < head->chain->n_stages; i++)
        if (!strcmp(head->chain->stages[i].member, id)) return true;
    return false;
}

static struct fake_node *node_named(const char *id)
{
    for (uint32_t i = 0; i < grid.n_nodes; i++)
        if (!strcmp(grid.nodes[i].id, id)) return &grid.nodes[i];
    return NULL;
}

/* --- plans that nobody asked for by hand --- */

static void test_what_fits_nowhere_becomes_a_chain(void **state)
{
    (void)state;
    start();
    answer("a chain answers");
    const struct fake_node *head = fake_chain_head(&grid);
    assert_non_null(head);
    assert_true(head->chain->n_stages == 2);
    assert_int_equal(head->chain->stages[0].first, 0);
    assert_int_equal(head->chain->stages[1].last, FAKE_LAYERS);
    assert_true(head->chain->n_ctx > 0 && head->chain->n_seqs > 0);
    assert_true(head->chain->kv_blocks * 16 >= head->chain->n_ctx * head->chain->n_seqs);
    assert_int_equal(stats().n_chains, 1);
    assert_int_equal(stats().n_plans, 1);
    fake_grid_run(&grid, 60 * S);
    assert_int_equal(stats().n_replans, 0);
    assert_int_equal(head->n_loads, 1);
    fake_grid_end(&grid);
}

static void test_what_fits_is_not_split(void **state)
{
    (void)state;
    grid.nodes[2].memory_bytes = 4 * MEMORY;
    start();
    answer("whole");
    assert_null(fake_chain_head(&grid));
    assert_true(grid.nodes[2].hosts);
    fake_grid_end(&grid);
}

static void test_without_a_plan_the_numbers_are_told(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    (void)state;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].memory_bytes = MEMORY / 4;
    start();
    fake_client_init(&client, "too large");
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "needs 953.7 MiB"));
    assert_non_null(strstr(err.text, "of 4 members"));
    assert_non_null(strstr(err.text, "n3 133.5 MiB"));
    assert_non_null(strstr(err.text, "split over them"));
    fake_grid_end(&grid);
}

static void test_without_a_shape_it_is_not_split(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    (void)state;
    grid.shape = NULL;
    start();
    fake_client_init(&client, "no shape");
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "cannot be split"));
    fake_grid_end(&grid);
}

static void test_whoever_has_the_file_begins(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].has_file = i == 3;
    start();
    answer("holder");
    assert_string_equal(fake_chain_head(&grid)->id, "n3");
    fake_grid_end(&grid);
}

/* --- what happens to chains --- */

static void test_a_dead_follower_is_replaced(void **state)
{
    (void)state;
    start();
    answer("first");
    const struct fake_node *head = fake_chain_head(&grid);
    char gone[GRID_ID_SIZE];
    snprintf(gone, sizeof gone, "%s", head->chain->stages[1].member);
    if (!strcmp(gone, "n0")) { /* the gateway's own machine stays */
        fake_grid_end(&grid);
        return;
    }
    fake_node_die(node_named(gone));
    answer("second");
    head = fake_chain_head(&grid);
    assert_false(is_stage(head, gone));
    assert_int_equal(stats().n_replans, 1);
    fake_grid_end(&grid);
}

static void test_a_dead_head_is_replaced(void **state)
{
    (void)state;
    grid.nodes[0].memory_bytes = MEMORY / 20; /* the gateway takes no part */
    start();
    answer("first");
    struct fake_node *head = fake_chain_head(&grid);
    char gone[GRID_ID_SIZE];
    snprintf(gone, sizeof gone, "%s", head->id);
    fake_node_die(head);
    answer("second");
    head = fake_chain_head(&grid);
    assert_string_not_equal(head->id, gone);
    assert_false(is_stage(head, gone));
    fake_grid_end(&grid);
}

static void test_without_spares_it_waits_for_who_left(void **state)
{
    (void)state;
    grid.nodes[0].memory_bytes = grid.nodes[3].memory_bytes = MEMORY / 20;
    start();
    answer("first");
    struct fake_node *head = fake_chain_head(&grid);
    struct fake_node *follower = node_named(head->chain->stages[1].member);
    fake_node_die(follower);
    fake_grid_run(&grid, 15 * S);
    assert_false(head->hosts);
    fake_node_start(&grid, follower);
    follower->hosts = false;
    struct fake_client client;
    struct sl_err err = SL_ERR_INIT;
    fake_client_init(&client, "second");
    for (int i = 0; i < 60 && fake_submit(&grid, &client, &err) != SL_OK; i++)
        fake_grid_run(&grid, S);
    assert_true(fake_grid_run_until_ended(&grid, &client, 60 * S));
    fake_client_check(&client);
    fake_grid_end(&grid);
}

static void test_a_slow_member_is_left(void **state)
{
    (void)state;
    grid.stage_s = 10 * (double)FAKE_LAYER_BYTES / 1e10;
    start();
    answer("first");
    struct fake_node *head = fake_chain_head(&grid);
    char slow[GRID_ID_SIZE];
    snprintf(slow, sizeof slow, "%s", head->chain->stages[1].member);
    fake_grid_run(&grid, 40 * S);
    assert_int_equal(stats().n_replans, 0);
    node_named(slow)->slow = 4;
    fake_grid_run(&grid, 40 * S);
    head = fake_chain_head(&grid);
    assert_non_null(head);
    assert_false(is_stage(head, slow));
    assert_int_equal(stats().n_replans, 1);
    answer("second");
    fake_grid_end(&grid);
}

static void test_a_better_member_is_taken_after_a_while(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) grid.nodes[i].machine = machine_of(0.2);
    fake_node_die(&grid.nodes[3]);
    start();
    answer("first");
    fake_node_start(&grid, &grid.nodes[3]);
    grid.nodes[3].hosts = false;
    fake_grid_run(&grid, 12 * S);
    assert_int_equal(stats().n_replans, 0); /* it has to last */
    fake_grid_run(&grid, 60 * S);
    assert_true(is_stage(fake_chain_head(&grid), "n3"));
    assert_int_equal(stats().n_replans, 1);
    fake_grid_end(&grid);
}

static void test_what_fits_after_all_is_loaded_whole(void **state)
{
    (void)state;
    fake_node_die(&grid.nodes[3]);
    grid.nodes[3].memory_bytes = 4 * MEMORY;
    start();
    answer("first");
    struct fake_node *head = fake_chain_head(&grid);
    struct fake_node *follower = node_named(head->chain->stages[1].member);
    fake_node_start(&grid, &grid.nodes[3]);
    grid.nodes[3].hosts = false;
    fake_grid_run(&grid, 3 * S);
    if (follower->is_self) follower = head;
    fake_node_die(follower);
    fake_grid_run(&grid, 20 * S);
    answer("second");
    assert_true(grid.nodes[3].hosts);
    assert_null(grid.nodes[3].chain);
    fake_grid_end(&grid);
}

/* --- members that lie --- */

/* One member says what the planner refuses: the others have their chain all the same. */
static void test_odd_numbers_of_one_spoil_no_plan(void **state)
{
    static const double lies[] = {5e-324, 1e-300, 9e17, 1e18, 1e300, DBL_MAX};
    const size_t n = sizeof lies / sizeof *lies;
    (void)state;
    for (size_t i = 0; i < 4 * n; i++) {
        setup(NULL);
        struct fake_node *liar = &grid.nodes[3];
        double *const told[] = {&liar->machine.speed[SPLIT_F16].bytes_s, &liar->machine.step_s,
                                &liar->machine.share, &liar->rtt_s};
        *told[i / n] = lies[i % n];
        start();
        answer("it comes");
        assert_non_null(fake_chain_head(&grid));
        fake_grid_end(&grid);
    }
}

/* A head that the gateway knows nothing of runs a chain that no planner makes. */
static void test_a_chain_with_odd_counts_is_left(void **state)
{
    static const struct grid_stage stages[] = {
        {.member = "n1", .address = "", .first = 0, .last = 10},
        {.member = "n2", .address = "", .first = 10, .last = FAKE_LAYERS}};
    const struct grid_split odd = {.stages = stages,
                                   .n_stages = 2,
                                   .n_ctx = 512,
                                   .n_seqs = 8,
                                   .kv_blocks = 200,
                                   .n_batch = INT32_MAX,
                                   .n_flights = INT32_MAX};
    (void)state;
    grid.nodes[1].chain = grid_split_copy(&odd);
    grid.nodes[1].hosts = true;
    start();
    fake_grid_run(&grid, 60 * S);
    const struct fake_node *head = fake_chain_head(&grid);
    assert_non_null(head);
    assert_true(head->chain->n_flights <= SPLIT_FLIGHTS_MAX);
    answer("from another");
    fake_grid_end(&grid);
}

/* --- by hand --- */

struct told {
    struct sl_buf out;
    struct sl_json_value *root;
};

static sl_status plan(const struct dispatch_plan_ask *what, struct told *told, struct sl_err *err)
{
    struct sl_json json;
    sl_buf_init(&told->out, 1 << 20);
    told->root = NULL;
    sl_json_begin(&json, &told->out, false);
    sl_status status = dispatch_plan(grid.dispatch, what, &json, err);
    if (status != SL_OK) return status;
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_int_equal(sl_json_parse(told->out.data, told->out.len, &told->root, err), SL_OK);
    return status;
}

static void told_done(struct told *told)
{
    sl_json_free(told->root);
    sl_buf_done(&told->out);
}

static int64_t n_stages(const struct told *told)
{
    const struct sl_json_value *stages = sl_json_get(sl_json_get(told->root, "plan"), "stages");
    return (int64_t)sl_json_size(stages);
}

static void test_a_plan_is_told_and_not_done(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    start();
    const struct dispatch_plan_ask what = {.model = "parrot"};
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    assert_int_equal(n_stages(&told), 2);
    const struct sl_json_value *made = sl_json_get(told.root, "plan");
    assert_true(sl_json_to_num(sl_json_get(made, "tokens_s"), 0) > 1);
    assert_int_equal(sl_json_size(sl_json_get(told.root, "members")), 4);
    assert_false(sl_json_to_bool(sl_json_get(told.root, "applied"), true));
    told_done(&told);
    fake_grid_run(&grid, 5 * S);
    assert_null(fake_chain_head(&grid));
    fake_grid_end(&grid);
}

static void test_a_plan_is_done_as_wished(void **state)
{
    static const char *const members[] = {"n1", "n2", "n3"};
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].memory_bytes = 4 * MEMORY;
    start();
    const struct dispatch_plan_ask what = {.model = "parrot",
                                           .members = members,
                                           .n_members = 3,
                                           .n_stages = 3,
                                           .n_seqs = 2,
                                           .context = 1000,
                                           .aim = SPLIT_THROUGHPUT,
                                           .link = ENGINE_LINK_Q8_0,
                                           .apply = true};
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    assert_int_equal(n_stages(&told), 3);
    assert_true(sl_json_to_bool(sl_json_get(told.root, "applied"), false));
    told_done(&told);
    fake_grid_run(&grid, 5 * S);
    const struct fake_node *head = fake_chain_head(&grid);
    assert_non_null(head);
    assert_true(head->hosts && head->chain->n_stages == 3 && !is_stage(head, "n0"));
    assert_int_equal(head->chain->n_ctx, 1000);
    assert_int_equal(head->chain->n_seqs, 2);
    assert_int_equal(head->chain->link, ENGINE_LINK_Q8_0);
    answer("by hand");
    /* It stays, though nobody asks for it. */
    fake_grid_run(&grid, 400 * S);
    assert_ptr_equal(fake_chain_head(&grid), head);
    assert_int_equal(dispatch_stop(grid.dispatch, "parrot", &err), SL_OK);
    fake_grid_run(&grid, 5 * S);
    assert_null(fake_chain_head(&grid));
    assert_int_equal(stats().n_chains, 0);
    fake_grid_end(&grid);
}

static void test_a_plan_that_cannot_be_is_refused(void **state)
{
    static const char *const one[] = {"n1"};
    static const char *const stranger[] = {"nobody"};
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    start();
    struct dispatch_plan_ask what = {.model = "parrot", .members = one, .n_members = 1};
    what.apply = true;
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    assert_non_null(sl_json_to_str(sl_json_get(told.root, "refused"), NULL, NULL));
    assert_null(sl_json_get(told.root, "plan"));
    assert_false(sl_json_to_bool(sl_json_get(told.root, "applied"), true));
    told_done(&told);
    what.members = stranger;
    assert_int_equal(plan(&what, &told, &err), SL_NOT_FOUND);
    told_done(&told);
    what.n_members = 0;
    what.n_stages = SPLIT_STAGES_MAX + 1;
    assert_int_equal(plan(&what, &told, &err), SL_INVALID);
    told_done(&told);
    what = (struct dispatch_plan_ask){.model = "nosuch"};
    assert_int_equal(plan(&what, &told, &err), SL_NOT_FOUND);
    told_done(&told);
    fake_grid_end(&grid);
}

/* Its rest is over, and nothing could be planned meanwhile: it rests on, and is begun as soon as
 * there is room. */
static void test_after_its_rest_it_is_tried_anew(void **state)
{
    const struct dispatch_plan_ask what = {.model = "parrot", .n_stages = 2, .apply = true};
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    struct told told;
    (void)state;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].fails_to_load = true;
    start();
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    told_done(&told);
    fake_grid_run(&grid, 45 * S);
    fake_client_init(&client, "it rests");
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "it failed: the file is cut short"));
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].memory_bytes = MEMORY / 20;
    fake_grid_run(&grid, 90 * S);
    fake_client_init(&client, "it rests on");
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "it failed: the file is cut short"));
    uint64_t n_replans = stats().n_replans;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].memory_bytes = MEMORY;
    fake_grid_run(&grid, 3 * S);
    assert_int_equal(stats().n_replans, n_replans + 1);
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].fails_to_load = false;
    fake_chain_head(&grid)->ready_ns = grid.now_ns + S;
    fake_grid_run(&grid, 3 * S);
    answer("at last");
    fake_grid_end(&grid);
}

static void test_explain_tells_of_the_chain(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf out;
    (void)state;
    grid.stage_s = 0.05;
    start();
    answer("explain");
    fake_grid_run(&grid, 3 * S);
    sl_buf_init(&out, 1 << 20);
    sl_json_begin(&json, &out, false);
    assert_int_equal(dispatch_explain_model(grid.dispatch, "parrot", &json, &err), SL_OK);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_non_null(strstr(out.data, "\"chain\":{\"state\":\"ready\""));
    assert_non_null(strstr(out.data, "no member has room for all of it"));
    assert_non_null(strstr(out.data, "\"compute_ms\":50"));
    assert_non_null(strstr(out.data, "\"kept_here\":true"));
    sl_buf_done(&out);
    fake_grid_end(&grid);
}

static void explain(struct told *told)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    sl_buf_init(&told->out, 1 << 20);
    sl_json_begin(&json, &told->out, false);
    assert_int_equal(dispatch_explain_model(grid.dispatch, "parrot", &json, &err), SL_OK);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_int_equal(sl_json_parse(told->out.data, told->out.len, &told->root, &err), SL_OK);
}

static const char *text_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_str(sl_json_get(object, key), "", NULL);
}

/* The last report of a head that died still says "ready". */
static void test_explain_does_not_believe_the_dead(void **state)
{
    struct told told;
    (void)state;
    grid.nodes[0].memory_bytes = grid.nodes[3].memory_bytes = MEMORY / 20;
    start();
    answer("explain");
    struct fake_node *head = fake_chain_head(&grid);
    char gone[GRID_ID_SIZE];
    snprintf(gone, sizeof gone, "%s", head->id);
    fake_node_die(head);
    fake_grid_run(&grid, 2500 * MS);
    explain(&told);
    const struct sl_json_value *members = sl_json_get(told.root, "members");
    for (size_t i = 0; i < sl_json_size(members); i++) {
        const struct sl_json_value *member = sl_json_at(members, i);
        bool dead = !strcmp(text_of(member, "node"), gone);
        assert_string_equal(text_of(member, "health"), dead ? "dead" : "alive");
        assert_string_equal(text_of(member, "state"), "unloaded");
        if (dead) assert_null(sl_json_get(member, "slots"));
    }
    const struct sl_json_value *chain = sl_json_get(told.root, "chain");
    assert_string_equal(text_of(chain, "state"), "broken");
    assert_string_equal(text_of(sl_json_at(sl_json_get(chain, "stages"), 0), "health"), "dead");
    told_done(&told);
    fake_grid_end(&grid);
}

static void take_model(void *ctx, const struct node_model *model)
{
    *(struct node_model *)ctx = *model;
}

/* As a list of loaded models has it: all of its parts, and until when. */
static void test_a_chain_is_listed_as_a_whole(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct node_model model = {.name = NULL};
    (void)state;
    start();
    answer("listed");
    fake_grid_run(&grid, 2 * S);
    dispatch_models(grid.dispatch, take_model, &model);
    assert_int_equal(model.n_parts, 2);
    assert_int_equal(model.bytes, FAKE_LAYERS * FAKE_LAYER_BYTES);
    assert_true(model.until_unused && !model.pinned);
    assert_in_range(model.expires_in_ns, 60 * S, 900 * S);
    assert_int_equal(dispatch_pin(grid.dispatch, "parrot", &err), SL_OK);
    dispatch_models(grid.dispatch, take_model, &model);
    assert_true(model.pinned && !model.until_unused && model.expires_in_ns < 0);
    fake_grid_end(&grid);
}

/* --- gateways --- */

static void test_the_next_gateway_takes_it_over(void **state)
{
    (void)state;
    start();
    answer("before");
    const struct fake_node *head = fake_chain_head(&grid);
    uint32_t n_loads = head->n_loads;
    dispatch_destroy(grid.dispatch);
    fake_grid_create(&grid);
    fake_grid_run(&grid, 40 * S);
    assert_int_equal(stats().n_chains, 1);
    assert_int_equal(head->n_loads, n_loads);
    answer("after");
    fake_grid_end(&grid);
}

/* Another gateway, which hosts nothing, reports and tells what is wanted there. */
static void gateway_says(const char *id, uint64_t version, const struct grid_demand_entry *wanted)
{
    const struct grid_msg msgs[] = {
        {.type = GRID_REPORT,
         .report =
             {.boot = 1, .version = version, .name = "", .address = "", .program = "", .site = ""}},
        {.type = GRID_DEMAND, .demand = {.boot = 1, .v = wanted, .n = wanted != NULL}}};
    char subject[64];
    snprintf(subject, sizeof subject, "sl.report.%s", id);
    for (int i = 0; i < 2; i++) {
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf out;
        sl_buf_init(&out, 1 << 16);
        assert_int_equal(grid_msg_encode(&msgs[i], &out, &err), SL_OK);
        dispatch_receive(grid.dispatch, subject, out.data, out.len);
        sl_buf_done(&out);
    }
}

static void run_with_gateway(const char *id, const struct grid_demand_entry *wanted, int seconds)
{
    static uint64_t version;
    for (int i = 0; i < seconds; i++) {
        gateway_says(id, ++version, wanted);
        fake_grid_run(&grid, S);
    }
}

static void test_a_chain_that_another_gateway_keeps_is_left_alone(void **state)
{
    struct grid_demand_entry wanted = {
        .name = FAKE_MODEL, .digest = "d1", .n_waiting = 2, .pinned = true, .splits = true};
    (void)state;
    start();
    run_with_gateway("z0", &wanted, 10);
    assert_true(stats().places);
    assert_int_equal(stats().n_plans, 0);
    wanted.splits = false;
    run_with_gateway("z0", &wanted, 5);
    assert_int_equal(stats().n_plans, 1);
    assert_non_null(fake_chain_head(&grid));
    fake_grid_end(&grid);
}

static void test_a_chain_by_hand_is_kept_where_others_place(void **state)
{
    static const char *const members[] = {"n1", "n2"};
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    start();
    run_with_gateway("a0", NULL, 3);
    assert_false(stats().places);
    const struct dispatch_plan_ask what = {
        .model = "parrot", .members = members, .n_members = 2, .n_stages = 2, .apply = true};
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    told_done(&told);
    run_with_gateway("a0", NULL, 5);
    assert_true(fake_chain_head(&grid)->hosts);
    fake_node_die(&grid.nodes[2]);
    run_with_gateway("a0", NULL, 15);
    const struct fake_node *head = fake_chain_head(&grid);
    assert_non_null(head);
    assert_true(head->hosts && !is_stage(head, "n2"));
    fake_grid_end(&grid);
}

/* A whole replica takes the chain's place where somebody wants that. */
static void test_one_stage_is_a_whole_replica(void **state)
{
    static const char *const members[] = {"n1"};
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    start();
    answer("a chain");
    grid.nodes[1].memory_bytes = 4 * MEMORY;
    fake_grid_run(&grid, 3 * S);
    const struct dispatch_plan_ask what = {
        .model = "parrot", .members = members, .n_members = 1, .apply = true};
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    assert_int_equal(n_stages(&told), 1);
    told_done(&told);
    fake_grid_run(&grid, 10 * S);
    assert_null(fake_chain_head(&grid));
    assert_true(grid.nodes[1].hosts);
    answer("whole");
    fake_grid_end(&grid);
}

static void test_layers_as_given(void **state)
{
    static const char *const members[] = {"n3", "n1"};
    static const int32_t layers[] = {8, 12};
    struct sl_err err = SL_ERR_INIT;
    struct told told;
    (void)state;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].memory_bytes = 4 * MEMORY;
    start();
    const struct dispatch_plan_ask what = {.model = "parrot",
                                           .members = members,
                                           .n_members = 2,
                                           .n_stages = 2,
                                           .layers = layers,
                                           .apply = true};
    assert_int_equal(plan(&what, &told, &err), SL_OK);
    told_done(&told);
    fake_grid_run(&grid, 60 * S);
    const struct fake_node *head = fake_chain_head(&grid);
    assert_string_equal(head->id, "n3");
    assert_int_equal(head->chain->stages[0].last, 8);
    assert_int_equal(head->n_loads, 1); /* nothing better is sought */
    fake_grid_end(&grid);
}

/* One allocation of all that a chain needs fails: it comes all the same, and nothing is lost. */
static void test_chains_without_memory(void **state)
{
    uint64_t live = sl_mem_live();
    (void)state;
    for (uint64_t nth = 1; nth < 300; nth += 7) {
        struct fake_client client;
        struct sl_err err = SL_ERR_INIT;
        setup(NULL);
        start();
        fake_client_init(&client, "poor");
        grid.poor = nth;
        if (fake_submit(&grid, &client, &err) == SL_OK) {
            assert_true(fake_grid_run_until_ended(&grid, &client, 30 * S));
            if (client.end.type == NODE_EVENT_DONE) assert_non_null(fake_chain_head(&grid));
        }
        fake_grid_end(&grid);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_fits_nowhere_becomes_a_chain, setup),
        cmocka_unit_test_setup(test_what_fits_is_not_split, setup),
        cmocka_unit_test_setup(test_without_a_plan_the_numbers_are_told, setup),
        cmocka_unit_test_setup(test_without_a_shape_it_is_not_split, setup),
        cmocka_unit_test_setup(test_whoever_has_the_file_begins, setup),
        cmocka_unit_test_setup(test_a_dead_follower_is_replaced, setup),
        cmocka_unit_test_setup(test_a_dead_head_is_replaced, setup),
        cmocka_unit_test_setup(test_without_spares_it_waits_for_who_left, setup),
        cmocka_unit_test_setup(test_a_slow_member_is_left, setup),
        cmocka_unit_test_setup(test_a_better_member_is_taken_after_a_while, setup),
        cmocka_unit_test_setup(test_what_fits_after_all_is_loaded_whole, setup),
        cmocka_unit_test_setup(test_odd_numbers_of_one_spoil_no_plan, setup),
        cmocka_unit_test_setup(test_a_chain_with_odd_counts_is_left, setup),
        cmocka_unit_test_setup(test_a_plan_is_told_and_not_done, setup),
        cmocka_unit_test_setup(test_a_plan_is_done_as_wished, setup),
        cmocka_unit_test_setup(test_a_plan_that_cannot_be_is_refused, setup),
        cmocka_unit_test_setup(test_after_its_rest_it_is_tried_anew, setup),
        cmocka_unit_test_setup(test_explain_tells_of_the_chain, setup),
        cmocka_unit_test_setup(test_explain_does_not_believe_the_dead, setup),
        cmocka_unit_test_setup(test_a_chain_is_listed_as_a_whole, setup),
        cmocka_unit_test_setup(test_the_next_gateway_takes_it_over, setup),
        cmocka_unit_test_setup(test_a_chain_that_another_gateway_keeps_is_left_alone, setup),
        cmocka_unit_test_setup(test_a_chain_by_hand_is_kept_where_others_place, setup),
        cmocka_unit_test_setup(test_one_stage_is_a_whole_replica, setup),
        cmocka_unit_test_setup(test_layers_as_given, setup),
        cmocka_unit_test_setup(test_chains_without_memory, setup),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
