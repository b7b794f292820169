/* sched_split_test.c: plans whose answer is plain to see, predictions that follow from simple
 * numbers, refusals, and the choice between a running chain and a better one. split_prop.c compares
 * with brute force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sched/split.h"

#define GB UINT64_C(1000000000)
#define LAYERS 24
#define NODES_MAX 32
#define LAYER_BYTES (GB / 100) /* 10 MB: 1 ms at 10 GB/s */

static uint64_t layer_bytes[LAYERS];
static struct split_model model;
static struct split_node nodes[NODES_MAX];
static struct split_link links[NODES_MAX * NODES_MAX];
static struct split_problem problem;
static struct split_plan plan;
static struct sl_err err;

/* Nodes that take 1 ms for a row in a layer; no ends, links of no time. */
static void begin(size_t n)
{
    for (int i = 0; i < LAYERS; i++) layer_bytes[i] = LAYER_BYTES;
    model = (struct split_model){.n_layer = LAYERS,
                                 .n_embd = 1000,
                                 .layer_bytes = layer_bytes,
                                 .layer_flops = 2e7,
                                 .active = 1};
    memset(nodes, 0, sizeof nodes);
    memset(links, 0, sizeof links);
    for (size_t i = 0; i < n; i++) {
        nodes[i] = (struct split_node){.memory_bytes = GB, .hop_s = 1e-9};
        for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++)
            nodes[i].machine.speed[w] = (struct split_speed){1e10, {2e10, 2e10, 2e10}};
        nodes[i].machine.disk_bytes_s = 1e9;
    }
    for (size_t i = 0; i < n * n; i++) links[i].bytes_s = 1e15;
    problem = (struct split_problem){.model = &model, .nodes = nodes, .n_nodes = n, .links = links};
    err = (struct sl_err)SL_ERR_INIT;
}

static void make(void)
{
    if (split_make(&problem, &plan, &err) != SL_OK) fail_msg("%s", err.text);
    assert_true(plan.exact);
}

static void assert_near(double value, double expected, double share)
{
    if (fabs(value / expected - 1) > share) fail_msg("%g, expected %g", value, expected);
}

static void slow_down(size_t node, double times)
{
    nodes[node].slowdown = times;
}

static void link_both(size_t a, size_t b, double seconds)
{
    links[a * problem.n_nodes + b].seconds = links[b * problem.n_nodes + a].seconds = seconds;
}

static void test_one_node_when_it_fits(void **state)
{
    (void)state;
    begin(3);
    make();
    assert_int_equal(plan.n_stages, 1);
    assert_int_equal(plan.stages[0].first, 0);
    assert_int_equal(plan.stages[0].last, LAYERS);
    assert_near(plan.tokens_s, 1 / 24e-3, 1e-6);
    assert_near(plan.load_s, 0.24, 1e-6);
}

static void test_as_few_as_memory_allows(void **state)
{
    (void)state;
    begin(3);
    for (int i = 0; i < 3; i++) nodes[i].memory_bytes = 15 * LAYER_BYTES;
    for (int i = 0; i < 9; i++) links[i].seconds = 1e-3;
    make();
    assert_int_equal(plan.n_stages, 2);
    assert_near(plan.tokens_s, 1 / 26e-3, 1e-6); /* there and back */
}

static void test_room_for_the_load(void **state)
{
    (void)state;
    begin(4);
    model.kv_bytes = 1000;
    problem.goal = (struct split_goal){.n_seqs = 10, .context = 1000}; /* as much as the weights */
    for (int i = 0; i < 4; i++) nodes[i].memory_bytes = 14 * LAYER_BYTES;
    make();
    assert_int_equal(plan.n_stages, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(plan.stages[i].memory_bytes <= nodes[plan.stages[i].node].memory_bytes);
        assert_int_equal(plan.stages[i].kv_bytes, plan.stages[i].weight_bytes);
    }
}

static void test_throughput_uses_all_by_their_speed(void **state)
{
    (void)state;
    begin(3);
    slow_down(1, 2);
    slow_down(2, 4);
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 8};
    make();
    assert_int_equal(plan.n_stages, 3);
    /* 24 layers at 1 : 1/2 : 1/4: 14, 7 and 3; the slowest takes 14 ms. */
    for (size_t i = 0; i < 3; i++) {
        static const int32_t expected[] = {14, 7, 3};
        assert_int_equal(plan.stages[i].last - plan.stages[i].first, expected[plan.stages[i].node]);
    }
    assert_near(plan.tokens_s_total, 8 / (plan.flights * plan.rows * 14e-3), 0.01);
    assert_int_equal(plan.rows * plan.flights >= 8, 1);
    assert_false(plan.link_bound);

    struct split_plan equal, by_memory;
    const uint32_t order[] = {0, 1, 2};
    assert_int_equal(split_equal(&problem, order, 3, &equal, &err), SL_OK);
    assert_true(plan.tokens_s_total > 2 * equal.tokens_s_total); /* 32 ms against 14 */
    assert_int_equal(split_by_memory(&problem, order, 3, &by_memory, &err), SL_OK);
    assert_near(by_memory.tokens_s_total, equal.tokens_s_total, 1e-9); /* all have the same */
}

static void test_naive_splits_follow_memory(void **state)
{
    const uint32_t order[] = {1, 0};
    (void)state;
    begin(2);
    nodes[0].memory_bytes = GB / 2;
    nodes[1].memory_bytes = GB / 4;
    assert_int_equal(split_by_memory(&problem, order, 2, &plan, &err), SL_OK);
    assert_int_equal(plan.stages[0].node, 1);
    assert_int_equal(plan.stages[0].last, 8);
    nodes[1].memory_bytes = 9 * LAYER_BYTES;
    assert_int_equal(split_equal(&problem, order, 2, &plan, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "114.4 MiB"));
    assert_int_equal(split_equal(&problem, order, 0, &plan, &err), SL_INVALID);
}

static void test_the_head_counts(void **state)
{
    (void)state;
    begin(2);
    model.head_bytes = 8 * LAYER_BYTES;
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 2};
    make();
    assert_int_equal(plan.n_stages, 2);
    assert_int_equal(plan.stages[0].last, 16); /* 16 layers against 8 and the head */
    assert_int_equal(plan.stages[1].weight_bytes, 16 * LAYER_BYTES);
}

static void test_order_follows_links(void **state)
{
    (void)state;
    begin(4);
    for (int i = 0; i < 4; i++) nodes[i].memory_bytes = 7 * LAYER_BYTES;
    for (int i = 0; i < 16; i++) links[i].seconds = 0.1;
    link_both(2, 0, 1e-3); /* the ring 2 - 0 - 3 - 1 is short */
    link_both(0, 3, 1e-3);
    link_both(3, 1, 1e-3);
    link_both(1, 2, 1e-3);
    make();
    assert_int_equal(plan.n_stages, 4);
    assert_near(plan.tokens_s, 1 / 28e-3, 1e-6);
}

static void test_a_slow_link_is_not_used(void **state)
{
    (void)state;
    begin(3);
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 4};
    for (int i = 0; i < 9; i++) links[i].bytes_s = 1e4; /* 2,000 bytes a row: 0.2 s */
    make();
    assert_int_equal(plan.n_stages, 1);
    links[0 * 3 + 2].bytes_s = 1e9;
    make();
    assert_int_equal(plan.n_stages, 2);
    assert_int_equal(plan.stages[0].node, 0);
    assert_int_equal(plan.stages[1].node, 2);
}

static void test_flights_hide_links(void **state)
{
    (void)state;
    begin(2);
    for (int i = 0; i < 4; i++) links[i].seconds = 0.05;
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 8, .n_stages = 2};
    make();
    assert_true(plan.flights > 2); /* two would wait for the links */
    assert_near(plan.tokens_s_total,
                8 / fmax(plan.flights * plan.rows * 12e-3, 100e-3 + plan.rows * 24e-3), 0.01);
}

static void test_flags(void **state)
{
    (void)state;
    begin(3);
    nodes[0].flags = SPLIT_EXCLUDED;
    nodes[1].flags = SPLIT_HEAD;
    nodes[2].flags = SPLIT_REQUIRED;
    make();
    assert_int_equal(plan.n_stages, 2);
    assert_int_equal(plan.stages[0].node, 1);
    assert_int_equal(plan.stages[1].node, 2);
    nodes[1].flags = SPLIT_EXCLUDED;
    nodes[2].flags = SPLIT_EXCLUDED;
    assert_int_equal(split_make(&problem, &plan, &err), SL_UNAVAILABLE);
    begin(3);
    problem.goal.n_stages = 3;
    make();
    assert_int_equal(plan.n_stages, 3);
}

/* At a quarter of the time, steps within the slice of 25 ms take no longer, but all of them do. */
static void test_a_quota_bounds_the_rate(void **state)
{
    (void)state;
    begin(1);
    nodes[0].machine.share = 0.25;
    make();
    assert_near(plan.stages[0].token_s, 24e-3, 1e-6);
    assert_near(plan.tokens_s, 1 / 96e-3, 1e-6);
    nodes[0].machine.period_s = 0.016; /* 4 ms, and 20 more at a quarter */
    make();
    assert_near(plan.stages[0].token_s, 84e-3, 1e-6);
    assert_near(plan.tokens_s, 1 / 96e-3, 1e-6);
    begin(2);
    nodes[1].machine.share = 0.25;
    make();
    assert_int_equal(plan.n_stages, 1);
    assert_int_equal(plan.stages[0].node, 0);
}

static void test_experts_are_read_at_last(void **state)
{
    (void)state;
    begin(1);
    model.active = 0.125;
    model.layer_flops = 1;
    make();
    assert_near(plan.stages[0].token_s, 3e-3, 1e-6);
    problem.goal.n_seqs = 128;
    problem.goal.context = 1;
    plan = (struct split_plan){.n_stages = 1, .flights = 1, .stages = {{.last = LAYERS}}};
    assert_int_equal(split_predict(&problem, &plan, &err), SL_OK);
    assert_near(plan.stages[0].step_s, 24e-3, 0.01); /* all of them by then */
}

static void test_prompts_stream_through(void **state)
{
    double alone;
    (void)state;
    begin(2);
    problem.goal = (struct split_goal){.prompt = 1024, .context = 2048};
    for (size_t i = 0; i < 2; i++)
        nodes[i].machine.step_s = 1e-3; /* so that tiny chunks do not pay */
    make();
    alone = plan.first_token_s;
    problem.goal.n_stages = 2;
    make();
    assert_true(alone > 1.6 * plan.first_token_s);
    assert_in_range(plan.chunk, 32, 512);
    assert_near(alone, 1024 * 24e-3, 0.05);
}

/* A row more takes 1 MB in every stage, and 2 MB in the last one besides. */
static void test_chunks_are_as_long_as_there_is_room(void **state)
{
    (void)state;
    begin(2);
    model.stage_bytes = 128000000;
    model.head_buffer_bytes = 256000000;
    model.stage_row_bytes = 1000000;
    model.head_row_bytes = 2000000;
    problem.goal = (struct split_goal){.prompt = 1024, .n_stages = 2};
    for (size_t i = 0; i < 2; i++) nodes[i].machine.step_s = 100; /* long ones pay */
    for (size_t i = 0; i < 2; i++) nodes[i].memory_bytes = 20 * GB;
    make();
    assert_int_equal(plan.chunk, 1024);
    for (size_t i = 0; i < 2; i++) nodes[i].memory_bytes = GB;
    make();
    assert_int_equal(plan.chunk, 256);
    assert_int_equal(plan.stages[1].memory_bytes, plan.stages[1].weight_bytes + 768000000);
    plan.chunk = 32;
    assert_int_equal(split_predict(&problem, &plan, &err), SL_OK);
    assert_int_equal(plan.stages[0].memory_bytes, plan.stages[0].weight_bytes + 32000000);
    assert_int_equal(plan.stages[1].memory_bytes, plan.stages[1].weight_bytes + 96000000);
}

static void test_refusal_names_the_numbers(void **state)
{
    (void)state;
    begin(2);
    nodes[0].memory_bytes = nodes[1].memory_bytes = 11 * LAYER_BYTES;
    model.kv_bytes = 10;
    problem.goal = (struct split_goal){.n_seqs = 4, .context = 512};
    assert_int_equal(split_make(&problem, &plan, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "229.4 MiB are needed"));
    assert_non_null(strstr(err.text, "4 x 512 tokens"));
    assert_non_null(strstr(err.text, "2 usable nodes have 209.8 MiB together"));
    assert_non_null(strstr(err.text, "the largest 104.9 MiB"));
    begin(2);
    problem.n_nodes = 0;
    assert_int_equal(split_make(&problem, &plan, &err), SL_UNAVAILABLE);
}

static void test_invalid(void **state)
{
    (void)state;
    begin(1);
    model.n_layer = 0;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    begin(1);
    nodes[0].machine.step_s = NAN;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    begin(2);
    links[1].seconds = -1;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    begin(1);
    problem.goal.n_stages = SPLIT_STAGES_MAX + 1;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    begin(2);
    plan =
        (struct split_plan){.n_stages = 2, .stages = {{.last = 5}, {.first = 6, .last = LAYERS}}};
    assert_int_equal(split_predict(&problem, &plan, &err), SL_INVALID);
    plan.stages[1].first = 5; /* both on node 0 */
    assert_int_equal(split_predict(&problem, &plan, &err), SL_INVALID);
    plan.stages[1].node = 1;
    const struct split_plan good = plan;
    assert_int_equal(split_predict(&problem, &plan, &err), SL_OK);
    for (int i = 0; i < 6; i++) {
        int32_t value = i % 2 ? INT32_MAX : -1;
        plan = good;
        *(i < 2 ? &plan.flights : i < 4 ? &plan.rows : &plan.chunk) = value;
        assert_int_equal(split_predict(&problem, &plan, &err), SL_INVALID);
    }
}

/* Each number is within its own bounds, and their sum is 2^64 and more. */
static void test_sizes_that_no_sum_holds(void **state)
{
    static uint64_t many[SPLIT_LAYERS_MAX];
    (void)state;
    begin(1);
    model.n_layer = SPLIT_LAYERS_MAX;
    model.layer_bytes = many;
    model.kv_bytes = 1 << 20;
    problem.goal = (struct split_goal){.n_seqs = SPLIT_SEQS_MAX, .context = 1 << 24};
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    model.kv_bytes = 0;
    for (int i = 0; i < SPLIT_LAYERS_MAX; i++) many[i] = UINT64_C(1) << 55;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    for (int i = 0; i < SPLIT_LAYERS_MAX; i++) many[i] = 0;
    model.embd_bytes = model.head_bytes = UINT64_C(1) << 63;
    assert_int_equal(split_make(&problem, &plan, &err), SL_INVALID);
    model.embd_bytes = model.head_bytes = 0;
    assert_int_equal(split_make(&problem, &plan, &err), SL_OK);
}

/* Numbers that nobody measures, but members may tell: the plan of the others stands. */
static void test_numbers_at_their_ends(void **state)
{
    static const double ends[] = {0, 5e-324, 1e-300, 1e-9, 1e9, 9e17};
    const size_t n = sizeof ends / sizeof *ends;
    (void)state;
    for (size_t i = 0; i < n * n * n; i++) {
        begin(4);
        for (int k = 0; k < 4; k++) nodes[k].memory_bytes = 14 * LAYER_BYTES;
        struct split_machine *machine = &nodes[i % 4].machine;
        for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) machine->speed[w].bytes_s = ends[i % n];
        machine->share = ends[i / n % n];
        machine->step_s = machine->layer_s = nodes[i % 4].hop_s = ends[i / n / n];
        links[(i + 1) % 4].seconds = links[4 + i % 3].bytes_s = ends[i / n % n];
        problem.goal.aim = i % 2 ? SPLIT_THROUGHPUT : SPLIT_LATENCY;
        problem.goal.n_seqs = 3;
        assert_int_equal(split_make(&problem, &plan, &err), SL_OK);
        assert_int_equal(plan.stages[plan.n_stages - 1].last, LAYERS);
        assert_true(plan.tokens_s > 1 && plan.tokens_s_total > 1);
        assert_true(plan.gap >= 0 && isfinite(plan.gap));
    }
}

static void test_many_nodes(void **state)
{
    (void)state;
    begin(NODES_MAX);
    for (int i = 0; i < NODES_MAX; i++) {
        nodes[i].memory_bytes = (uint64_t)(3 + i % 5) * LAYER_BYTES;
        slow_down((size_t)i, 1 + i % 7);
    }
    for (int i = 0; i < NODES_MAX * NODES_MAX; i++) links[i].seconds = 1e-4 * (1 + i % 3);
    assert_int_equal(split_make(&problem, &plan, &err), SL_OK);
    assert_true(plan.gap < 0.25);
    assert_int_equal(plan.stages[plan.n_stages - 1].last, LAYERS);
    /* Most have no room at all, and only all the others together hold the model. */
    for (int i = 0; i < NODES_MAX; i++) nodes[i].memory_bytes = i % 4 ? 1 : 3 * LAYER_BYTES;
    assert_int_equal(split_make(&problem, &plan, &err), SL_OK);
    assert_int_equal(plan.n_stages, 8);
}

static void test_better_only_when_it_pays(void **state)
{
    struct split_plan running;
    struct split_move move;
    (void)state;
    begin(2);
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 2};
    make();
    running = plan;
    assert_int_equal(running.stages[0].last, 12);
    split_better(&problem, &running, &plan, NULL, &move);
    assert_false(move.worth_it);
    assert_int_equal(move.bytes, 0);
    assert_near(1 + move.gain, 1, 1e-9);
    /* One node is at half speed: 16 and 8 layers instead. */
    slow_down(running.stages[1].node, 2);
    assert_int_equal(split_make_near(&problem, &running, &plan, &err), SL_OK);
    assert_int_equal(plan.stages[0].node, running.stages[0].node);
    assert_int_equal(plan.stages[0].last, 16);
    split_better(&problem, &running, &plan, NULL, &move);
    assert_near(move.gain, 0.5, 0.01);
    assert_true(move.worth_it);
    assert_int_equal(move.bytes, 4 * LAYER_BYTES);
    const struct split_hysteresis stubborn = {.gain = 0.6, .horizon_s = 600};
    split_better(&problem, &running, &plan, &stubborn, &move);
    assert_false(move.worth_it);
    const struct split_hysteresis hasty = {.gain = 0.1, .horizon_s = 1e-3};
    split_better(&problem, &running, &plan, &hasty, &move);
    assert_false(move.worth_it);
    nodes[running.stages[0].node].flags = SPLIT_EXCLUDED; /* it is gone */
    assert_int_equal(split_make_near(&problem, &running, &plan, &err), SL_OK);
    assert_int_equal(plan.n_stages, 1);
    split_better(&problem, &running, &plan, &stubborn, &move);
    assert_true(move.worth_it);
}

static void test_slowdown(void **state)
{
    double value = 1;
    (void)state;
    assert_near(split_slowdown(1, 1e-3, 2e-3), 1.2, 1e-9);
    for (int i = 0; i < 60; i++) value = split_slowdown(value, value * 1e-3, 3e-3);
    assert_near(value, 3, 1e-3);
    assert_near(split_slowdown(2, 0, 1), 2, 1e-9);
    assert_near(split_slowdown(0, 1e-3, 1e-3), 1, 1e-9);
    for (int i = 0; i < 100; i++) value = split_slowdown(value, 1e-3, 1);
    assert_near(value, 10, 1e-9);
}

/* A slice of 1 s in 4: 5 s were foretold for 2 s of computing. */
static void test_a_quota_hides_speed(void **state)
{
    struct split_machine machine = {.share = 0.25, .period_s = 4};
    (void)state;
    assert_near(split_computing_s(&machine, 5), 2, 1e-9);
    assert_near(split_computing_s(&machine, 0.75), 0.75, 1e-9);
    assert_near(split_unthrottled_s(&machine, 2, 1), 1, 1e-9);
    assert_near(split_unthrottled_s(&machine, 2, 7), 2, 1e-9);
    assert_near(split_unthrottled_s(&machine, 2, 16), 4, 1e-9);
    machine.period_s = 0; /* 100 ms */
    assert_near(split_computing_s(&machine, 0.225), 0.075, 1e-9);
    machine.share = 0;
    assert_near(split_computing_s(&machine, 5), 5, 1e-9);
    assert_near(split_unthrottled_s(&machine, 2, 16), 16, 1e-9);
}

static void test_names(void **state)
{
    const char *const names[] = {"a", "b"};
    char text[SPLIT_CHAIN_TEXT_MAX], little[8];
    (void)state;
    begin(2);
    const uint32_t order[] = {1, 0};
    assert_int_equal(split_equal(&problem, order, 2, &plan, &err), SL_OK);
    split_chain_text(&plan, names, text, sizeof text);
    assert_string_equal(text, "b: layers 0-11, a: layers 12-23");
    split_chain_text(&plan, names, little, sizeof little);
    assert_string_equal(little, "b: laye");
    assert_string_equal(split_weight_name(SPLIT_Q6_K), "q6_k");
    assert_int_equal(split_weight_of("Q4_K"), SPLIT_Q4_K);
    assert_int_equal(split_weight_of("iq3_xxs"), SPLIT_Q4_K);
    assert_int_equal(split_weight_of("bf16"), SPLIT_F16);
    assert_string_equal(split_aim_name(SPLIT_THROUGHPUT), "throughput");
}

/* Too little work allowed: the heuristic's plan, and how far it can be from the best. */
static void test_little_work(void **state)
{
    (void)state;
    begin(12);
    for (int i = 0; i < 12; i++) {
        nodes[i].memory_bytes = (uint64_t)(2 + i % 4) * LAYER_BYTES;
        slow_down((size_t)i, 1 + 0.1 * i);
    }
    for (int i = 0; i < 144; i++) links[i].seconds = 1e-4 * (1 + i * 7 % 11);
    problem.goal.work_max = 1;
    assert_int_equal(split_make(&problem, &plan, &err), SL_OK);
    double quick = plan.tokens_s, gap = plan.gap;
    problem.goal.work_max = 0;
    make();
    assert_true(plan.tokens_s >= quick * (1 - 1e-9));
    assert_true(plan.tokens_s <= quick * (1 + gap) * (1 + 1e-9));
}

static void test_no_memory(void **state)
{
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    (void)state;
    begin(20);
    problem.goal = (struct split_goal){.aim = SPLIT_THROUGHPUT, .n_seqs = 3};
    for (int i = 0; i < 20; i++) nodes[i].memory_bytes = 9 * LAYER_BYTES;
    for (int i = 0; i < 400; i++) links[i].seconds = 1e-2;
    for (uint64_t n = 1; status == SL_NOMEM; n++) {
        sl_mem_fail_at(n, false);
        status = split_make(&problem, &plan, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(sl_mem_live(), live);
        assert_true(status == SL_NOMEM || !hit || status == SL_OK);
        assert_true(n < 10000);
    }
    assert_int_equal(status, SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node_when_it_fits),
        cmocka_unit_test(test_as_few_as_memory_allows),
        cmocka_unit_test(test_room_for_the_load),
        cmocka_unit_test(test_throughput_uses_all_by_their_speed),
        cmocka_unit_test(test_naive_splits_follow_memory),
        cmocka_unit_test(test_the_head_counts),
        cmocka_unit_test(test_order_follows_links),
        cmocka_unit_test(test_a_slow_link_is_not_used),
        cmocka_unit_test(test_flights_hide_links),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_a_quota_bounds_the_rate),
        cmocka_unit_test(test_experts_are_read_at_last),
        cmocka_unit_test(test_prompts_stream_through),
        cmocka_unit_test(test_chunks_are_as_long_as_there_is_room),
        cmocka_unit_test(test_refusal_names_the_numbers),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_sizes_that_no_sum_holds),
        cmocka_unit_test(test_numbers_at_their_ends),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_better_only_when_it_pays),
        cmocka_unit_test(test_slowdown),
        cmocka_unit_test(test_a_quota_hides_speed),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_little_work),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
