/* sched_pick_test.c: policies, scores and the node that is chosen. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "support/grid_fixture.h"

struct world {
    struct node_table table;
    struct policy policy;
    struct pick_ask ask;
    struct pick_state state;
    uint32_t turns[2];
    struct pick_row rows[PICK_ROWS_MAX];
    struct pick_rows explained;
};

static void world_init(struct world *world, const char *policy, uint32_t n_nodes)
{
    struct sl_err err;
    memset(world, 0, sizeof *world);
    grid_table_init(&world->table);
    grid_table_hear(&world->table, n_nodes, 0);
    assert_int_equal(policy_parse(policy, &world->policy, &err), SL_OK);
    world->ask = (struct pick_ask){.prompt_tokens = 500, .output_tokens = 100, .block_tokens = 100};
    for (int i = 0; i < PICK_EXCLUDED_MAX; i++) world->ask.excluded[i] = NODE_NONE;
    world->state.seed = 7;
    world->state.turns = world->turns;
    world->explained = (struct pick_rows){.rows = world->rows, .capacity = PICK_ROWS_MAX};
}

static struct pick pick(struct world *world)
{
    struct pick out;
    pick_node(&world->table, &world->policy, &world->ask, &world->state, 0, &out,
              &world->explained);
    return out;
}

static const struct pick_row *row_of(const struct world *world, uint32_t node)
{
    for (uint32_t i = 0; i < world->explained.n; i++)
        if (world->rows[i].node == node) return &world->rows[i];
    return NULL;
}

static struct hosted_load *load_of(struct world *world, uint32_t node)
{
    return &node_table_hosted(&world->table, node, 0)->load;
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void test_parts_of_a_score(void **state)
{
    (void)state;
    struct world world;
    const uint64_t blocks[] = {1, 2, 3};
    world_init(&world, "balanced", 1);
    struct hosted_load *load = load_of(&world, 0);
    struct node_facts *facts = &world.table.nodes[0].facts;
    load->prefill_backlog = 3000;
    load->kv_tokens_used = 9700;
    load->n_running = 2;
    *facts = (struct node_facts){
        .rtt_s = 0.01, .watts_idle = 50, .watts_busy = 150, .price_kwh = 0.36, .price_mtok = 2};
    world.ask.blocks = blocks;
    world.ask.n_blocks = 3;
    prefix_index_add(&world.table.prefixes, 1, 0);
    prefix_index_add(&world.table.prefixes, 2, 0);
    assert_int_equal(pick(&world).node, 0);
    const struct pick_row *row = row_of(&world, 0);
    assert_true(near(row->part[SCORE_WAIT], 3.0));
    assert_true(near(row->part[SCORE_COMPUTE], 0.5));
    assert_true(near(row->part[SCORE_PREFIX], -0.2));
    assert_int_equal(row->cached_tokens, 200);
    assert_true(near(row->part[SCORE_DECODE], 5.0));
    assert_true(near(row->part[SCORE_NETWORK], 0.01));
    assert_true(near(row->part[SCORE_KV], 0.5)); /* 300 of 600 free */
    assert_true(near(row->part[SCORE_LOAD], 0.5));
    double joules = 100 * (0.3 + 5.0 / 3);
    assert_true(near(row->part[SCORE_ENERGY], joules / 1000));
    assert_true(near(row->part[SCORE_PRICE], 100 * (joules / 3.6e6 * 0.36 + 600 / 1e6 * 2)));
    assert_true(near(row->first_token_s, 3.0 + 0.5 - 0.2 + 0.01));
    double total = 0;
    for (int i = 0; i < SCORE_PART_COUNT; i++) total += world.policy.weight[i] * row->part[i];
    assert_true(near(row->total, total));
    node_table_done(&world.table);
}

/* One that has not run the model yet is taken for as fast as the fastest: it gets the next request,
 * and is measured. */
static void test_who_was_not_measured_is_tried(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, "balanced", 2);
    load_of(&world, 0)->n_running = 2;
    struct hosted_load *fresh = load_of(&world, 1);
    fresh->prefill_tps = fresh->decode_tps = fresh->service_s = 0;
    assert_int_equal(pick(&world).node, 1);
    assert_true(near(row_of(&world, 1)->part[SCORE_DECODE], row_of(&world, 0)->part[SCORE_DECODE]));
    world.table.fastest[0] = (struct model_speed){0};
    assert_int_equal(pick(&world).node, 0); /* nobody knows: a modest machine */
    node_table_done(&world.table);
}

static void test_waiting_for_a_slot(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, "least-work", 1);
    load_of(&world, 0)->n_running = 4;
    load_of(&world, 0)->n_waiting = 1;
    (void)pick(&world);
    /* The second to come into 4 slots that are free every 2 s / 4. */
    assert_true(near(row_of(&world, 0)->part[SCORE_WAIT], 1.0));
    node_table_done(&world.table);
}

static void test_the_last_prompt_token_is_always_computed(void **state)
{
    (void)state;
    struct world world;
    const uint64_t blocks[] = {1, 2, 3, 4, 5};
    world_init(&world, "balanced", 1);
    world.ask.blocks = blocks;
    world.ask.n_blocks = 5;
    for (int i = 0; i < 5; i++) prefix_index_add(&world.table.prefixes, blocks[i], 0);
    assert_int_equal(pick(&world).cached_tokens, 499);
    node_table_done(&world.table);
}

static void test_what_is_filtered_and_why(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, "balanced", 8);
    struct node_table *table = &world.table;
    world.ask.excluded[2] = 0;
    table->nodes[1].health = NODE_SUSPECT;
    table->nodes[2].facts.duty = NODE_DRAINING;
    world.ask.labels_wanted = 1;
    world.ask.labels_refused = 2;
    for (uint32_t i = 0; i < 8; i++) table->nodes[i].facts.labels = 1;
    table->nodes[3].facts.labels = 3;
    load_of(&world, 4)->kv_tokens_max = 599;
    for (int i = 0; i < 5; i++)
        breaker_failure(&node_table_hosted(table, 5, 0)->breaker, &table->config.breaker, 0);
    load_of(&world, 6)->n_running = load_of(&world, 6)->n_waiting = 4;
    struct pick out = pick(&world);
    assert_int_equal(out.node, 7);
    assert_int_equal(out.n_ready, 8);
    const enum pick_filter why[] = {PICK_EXCLUDED, PICK_SUSPECT, PICK_DUTY, PICK_LABELS,
                                    PICK_CONTEXT,  PICK_BREAKER, PICK_FULL, PICK_FITS};
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(row_of(&world, i)->filter, why[i]);
        assert_int_equal(out.n_filtered[why[i]], 1);
    }
    world.ask.labels_wanted = 4;
    assert_int_equal(pick(&world).node, NODE_NONE);
    world.ask.model = 1;
    out = pick(&world);
    assert_int_equal(out.node, NODE_NONE);
    assert_int_equal(out.n_ready, 0);
    node_table_done(table);
}

static void test_presets_differ(void **state)
{
    (void)state;
    struct world world;
    struct sl_err err;
    const uint64_t blocks[] = {1, 2, 3, 4};
    world_init(&world, "least-work", 4);
    load_of(&world, 0)->prefill_tps = 4000; /* fast, far, hungry */
    world.table.nodes[0].facts =
        (struct node_facts){.rtt_s = 0.2, .watts_idle = 0, .watts_busy = 2000};
    world.table.nodes[1].facts = (struct node_facts){.rtt_s = 0.001, .watts_busy = 200};
    world.table.nodes[2].facts = (struct node_facts){.rtt_s = 0.1, .watts_busy = 20};
    world.table.nodes[3].facts = (struct node_facts){.rtt_s = 0.1, .watts_busy = 500};
    load_of(&world, 1)->n_running = 1;
    load_of(&world, 2)->prefill_tps = 500;
    world.ask.blocks = blocks;
    world.ask.n_blocks = 4;
    for (int i = 0; i < 4; i++) prefix_index_add(&world.table.prefixes, blocks[i], 3);
    const struct {
        const char *policy;
        uint32_t node;
    } cases[] = {{"least-work", 0},   {"latency-first", 1},         {"energy-first", 2},
                 {"prefix-aware", 3}, {"least-work:network=10", 1}, {"classic:load=0", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(policy_parse(cases[i].policy, &world.policy, &err), SL_OK);
        assert_int_equal(pick(&world).node, cases[i].node);
    }
    /* The idle one, although it is slow and not the nearest. */
    for (uint32_t i = 0; i < 4; i++) load_of(&world, i)->n_running = i != 2;
    assert_int_equal(policy_parse("classic", &world.policy, &err), SL_OK);
    assert_int_equal(pick(&world).node, 2);
    node_table_done(&world.table);
}

static void test_baselines(void **state)
{
    (void)state;
    struct world world;
    uint32_t hits[4] = {0};
    world_init(&world, "round-robin", 4);
    for (int i = 0; i < 8; i++) hits[pick(&world).node]++;
    for (int i = 0; i < 4; i++) assert_int_equal(hits[i], 2);
    world.policy.rule = POLICY_RANDOM;
    for (int i = 0; i < 400; i++) hits[pick(&world).node]++;
    for (int i = 0; i < 4; i++) assert_true(hits[i] > 60 && hits[i] < 150);
    world.policy.rule = POLICY_LEAST_CONNECTIONS;
    for (uint32_t i = 0; i < 3; i++) (void)node_table_sent(&world.table, i, 0, 1, NULL, 0);
    assert_int_equal(pick(&world).node, 3);
    node_table_done(&world.table);
}

static void test_a_sample_and_the_holders(void **state)
{
    (void)state;
    struct world world;
    const uint64_t blocks[] = {1, 2, 3, 4};
    world_init(&world, "prefix-aware:sample=1", 8);
    (void)pick(&world);
    assert_int_equal(world.explained.n, 1);
    world.ask.blocks = blocks;
    world.ask.n_blocks = 4;
    for (int i = 0; i < 4; i++) prefix_index_add(&world.table.prefixes, blocks[i], 5);
    for (int i = 0; i < 20; i++) assert_int_equal(pick(&world).node, 5);
    /* However unlucky the draw: the one that fits is found. */
    for (uint32_t i = 0; i < 8; i++)
        if (i != 6) world.table.nodes[i].facts.duty = NODE_CORDONED;
    for (int i = 0; i < 20; i++) assert_int_equal(pick(&world).node, 6);
    node_table_done(&world.table);
}

static void test_policies_in_words(void **state)
{
    (void)state;
    struct policy policy;
    struct sl_err err;
    for (size_t i = 0; policy_preset_name(i); i++) {
        assert_int_equal(policy_parse(policy_preset_name(i), &policy, &err), SL_OK);
        assert_string_equal(policy.name, policy_preset_name(i));
        assert_true(policy.n_sample > 0);
    }
    assert_int_equal(policy_parse("balanced:kv=2.5,sample=3,energy=-1", &policy, &err), SL_OK);
    assert_true(policy.weight[SCORE_KV] == 2.5 && policy.weight[SCORE_ENERGY] == -1);
    assert_int_equal(policy.n_sample, 3);
    const char *const bad[] = {"",
                               "fastest",
                               "balanced:kv",
                               "balanced:kv=",
                               "balanced:kv=1x",
                               "balanced:speed=1",
                               "balanced:sample=0",
                               "balanced:kv=nan",
                               "balanced:kv=1e9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(policy_parse(bad[i], &policy, &err), SL_INVALID);
    assert_int_equal(policy_parse("fastest", &policy, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "least-work"));
    assert_string_equal(score_part_name(SCORE_NETWORK), "network");
    assert_string_equal(pick_filter_name(PICK_BREAKER), "breaker");
}

/* The tokens of a prompt are an estimate: what seems too long for all goes to one that will say. */
static void test_too_long_for_all_is_for_a_node_to_say(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, POLICY_DEFAULT, 2);
    load_of(&world, 0)->kv_tokens_max = load_of(&world, 1)->kv_tokens_max = 599;
    assert_int_not_equal(pick(&world).node, NODE_NONE);
    assert_int_equal(world.explained.n, 2);
    load_of(&world, 1)->kv_tokens_max = 600;
    assert_int_equal(pick(&world).node, 1);
    /* Where one could take it later, it waits for that one. */
    load_of(&world, 1)->n_running = load_of(&world, 1)->n_waiting = 4;
    assert_int_equal(pick(&world).node, NODE_NONE);
    node_table_done(&world.table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_of_a_score),
        cmocka_unit_test(test_who_was_not_measured_is_tried),
        cmocka_unit_test(test_waiting_for_a_slot),
        cmocka_unit_test(test_the_last_prompt_token_is_always_computed),
        cmocka_unit_test(test_what_is_filtered_and_why),
        cmocka_unit_test(test_presets_differ),
        cmocka_unit_test(test_baselines),
        cmocka_unit_test(test_a_sample_and_the_holders),
        cmocka_unit_test(test_policies_in_words),
        cmocka_unit_test(test_too_long_for_all_is_for_a_node_to_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
