/* sched_sim_test.c: the simulator: its machines, its repeatability, and what policies are worth
 * in it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/sim_nodes_file.h"
#include "cli/sim_trace_file.h"
#include "support/sim_drive.h"

#define TRACES STARLANE_SHARED "/data/traces/"
#define EXAMPLES STARLANE_ROOT "/examples/sim/"

static const struct sim_model one_model = {.name = "m", .load_s = 5};

static struct sim_node node_make(void)
{
    return (struct sim_node){.name = "n",
                             .n_slots = 2,
                             .n_queue = 4,
                             .prefill_tps = 1000,
                             .decode_tps = 100,
                             .decode_full_tps = 100, /* two streams: each half as fast */
                             .prefill_chunk = 100,
                             .kv_tokens = 10000,
                             .watts_idle = 10,
                             .watts_busy = 110,
                             .n_models = 1};
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-4;
}

/* 300 prompt tokens in 0.3 s, then 49 steps of 10 ms; 20 ms of network. */
static void test_one_request_alone(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request request = {
        .arrival_ns = INT64_C(2000000000), .prompt_tokens = 300, .output_tokens = 50};
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    node.rtt_s = 0.02;
    sim_setup(&config, &one_model, 1, &node, 1);
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_finished, 1);
    assert_true(near(result.first.mean, 0.32));
    assert_true(near(result.total.mean, 0.32 + 0.49));
    assert_true(near(result.itl.mean, 0.01));
    assert_true(near(result.nodes[0].busy_s, 0.3 + 0.49));
    assert_true(near(result.joules, 10 * result.duration_s + 100 * 0.79));
    sim_result_done(&result);
}

/* The second prompt waits for the first one's; both streams share the steps. */
static void test_two_requests_share_a_machine(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request requests[2] = {
        {.arrival_ns = INT64_C(2000000000), .prompt_tokens = 100, .output_tokens = 100},
        {.arrival_ns = INT64_C(2000000001), .prompt_tokens = 100, .output_tokens = 100}};
    struct sim_trace trace = {.requests = requests, .n = 2, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    sim_setup(&config, &one_model, 1, &node, 1);
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.first_s[0], 0.1));
    assert_true(near(result.first_s[1], 0.1 + 0.11)); /* a step of both: 10 ms and 100 ms */
    /* 98 steps of two streams, 20 ms each; then the second alone has one more token. */
    assert_true(near(result.total.max, 0.21 + 98 * 0.02 + 0.01));
    sim_result_done(&result);
}

static void test_a_cached_prefix_is_not_computed_again(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    uint64_t blocks[] = {1, 2, 3, 1, 2, 4};
    struct sim_request requests[2] = {{.arrival_ns = INT64_C(2000000000),
                                       .prompt_tokens = 300,
                                       .output_tokens = 1,
                                       .n_blocks = 3},
                                      {.arrival_ns = INT64_C(4000000000),
                                       .prompt_tokens = 300,
                                       .output_tokens = 1,
                                       .block_at = 3,
                                       .n_blocks = 3}};
    struct sim_trace trace = {
        .requests = requests, .n = 2, .blocks = blocks, .n_blocks = 6, .block_tokens = 100};
    struct sim_config config;
    struct sim_result result;
    node.cache_tokens = 1000;
    sim_setup(&config, &one_model, 1, &node, 1);
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.nodes[0].cached_tokens, 200);
    assert_true(near(result.first_s[0], 0.1));
    assert_true(near(result.first_s[1], 0.3));
    sim_result_done(&result);
    node.cache_tokens = 100; /* of a prompt, its beginning stays */
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.nodes[0].cached_tokens, 100);
    sim_result_done(&result);
}

static void test_a_crash_moves_what_ran(void **state)
{
    (void)state;
    struct sim_node nodes[2] = {node_make(), node_make()};
    struct sim_request request = {
        .arrival_ns = INT64_C(2000000000), .prompt_tokens = 100, .output_tokens = 400};
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_failure crash = {.kind = SIM_CRASH, .node = 0, .at_s = 4, .for_s = 10};
    struct sim_config config;
    struct sim_result result;
    nodes[1].rtt_s = 0.1; /* so the first one is taken */
    sim_setup(&config, &one_model, 1, nodes, 2);
    config.failures = &crash;
    config.n_failures = 1;
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_finished, 1);
    assert_int_equal(result.n_moved, 1);
    /* 2 s until somebody notices; the prompt and 190 tokens are computed on the other one. */
    assert_true(result.total.mean > 0.1 + 4.0 + 2.0 && result.total.mean < 0.1 + 4.0 + 2.9);
    sim_result_done(&result);
}

static void test_failures_fail_no_request(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "storm.yaml", &grid, &err), SL_OK);
    struct sim_poisson poisson = {
        .n = 2000, .rate = 2.5, .prompt_mean = 1000, .output_mean = 200, .n_models = 1, .seed = 3};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, &one_model, 1, grid.nodes, grid.n_nodes);
    config.failures = grid.failures;
    config.n_failures = grid.n_failures;
    config.n_gateways = 2;
    config.hedge_share = 0.05;
    for (size_t i = 0; policy_preset_name(i); i++) {
        struct sim_result result;
        assert_int_equal(policy_parse(policy_preset_name(i), &config.policy, &err), SL_OK);
        sim_run_ok(&config, &trace, &result);
        assert_int_equal(result.n_finished, 2000);
        assert_true(result.n_moved > 0);
        sim_result_done(&result);
    }
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

static void test_the_same_seed_the_same_bits(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result results[3];
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "five-nodes.yaml", &grid, &err), SL_OK);
    struct sim_poisson poisson = {
        .n = 2000, .rate = 3, .prompt_mean = 1000, .output_mean = 200, .n_models = 1, .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, &one_model, 1, grid.nodes, grid.n_nodes);
    config.n_gateways = 3;
    for (int i = 0; i < 3; i++) {
        config.seed = i < 2 ? 5 : 6;
        sim_run_ok(&config, &trace, &results[i]);
    }
    assert_memory_equal(results[0].first_s, results[1].first_s, 2000 * sizeof(double));
    assert_memory_equal(results[0].nodes, results[1].nodes, 5 * sizeof *results[0].nodes);
    assert_int_equal(results[0].n_events, results[1].n_events);
    assert_memory_not_equal(results[0].first_s, results[2].first_s, 2000 * sizeof(double));
    for (int i = 0; i < 3; i++) sim_result_done(&results[i]);
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

/* p99 of the time to the first token, of a preset. */
static double p99_of(struct sim_config *config, const struct sim_trace *trace, const char *policy)
{
    struct sim_result result;
    struct sl_err err;
    assert_int_equal(policy_parse(policy, &config->policy, &err), SL_OK);
    sim_run_ok(config, trace, &result);
    double p99 = result.first.p99;
    sim_result_done(&result);
    return p99;
}

static void load_to(const struct sim_config *config, struct sim_trace *trace, double load)
{
    sim_trace_speed_up(trace, load * sim_capacity(config, trace) / sim_trace_rate(trace));
}

static void test_unlike_nodes_under_a_real_trace(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sl_err err;
    if (access(TRACES "AzureLLMInferenceTrace_conv.csv", R_OK) != 0) skip();
    assert_int_equal(sim_nodes_load(EXAMPLES "five-nodes.yaml", &grid, &err), SL_OK);
    assert_int_equal(sim_trace_load(TRACES "AzureLLMInferenceTrace_conv.csv", NULL, &trace, &err),
                     SL_OK);
    assert_int_equal(trace.n, 19366);
    sim_setup(&config, &one_model, 1, grid.nodes, grid.n_nodes);
    load_to(&config, &trace, 0.8);
    double ours = p99_of(&config, &trace, POLICY_DEFAULT);
    assert_true(ours * 2 <= p99_of(&config, &trace, "round-robin"));
    assert_true(ours < p99_of(&config, &trace, "least-connections"));
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

static void test_prefixes_under_a_real_trace(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sl_err err;
    if (access(TRACES "conversation_trace.jsonl", R_OK) != 0) skip();
    assert_int_equal(sim_nodes_load(EXAMPLES "five-gpus.yaml", &grid, &err), SL_OK);
    assert_int_equal(sim_trace_load(TRACES "conversation_trace.jsonl", NULL, &trace, &err), SL_OK);
    assert_int_equal(trace.n_blocks, 288500);
    sim_setup(&config, &one_model, 1, grid.nodes, grid.n_nodes);
    load_to(&config, &trace, 1);
    assert_true(p99_of(&config, &trace, "prefix-aware") * 2 <=
                p99_of(&config, &trace, "least-work"));
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

/* Eight gateways with reports that are up to a second old must not all run to the same node. */
static void test_gateways_do_not_herd(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result alone, many;
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "five-nodes.yaml", &grid, &err), SL_OK);
    struct sim_poisson poisson = {
        .n = 8000, .rate = 1, .prompt_mean = 1000, .output_mean = 200, .n_models = 1, .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, &one_model, 1, grid.nodes, grid.n_nodes);
    load_to(&config, &trace, 0.6);
    sim_run_ok(&config, &trace, &alone);
    config.n_gateways = 8;
    sim_run_ok(&config, &trace, &many);
    assert_int_equal(many.n_failed, 0);
    assert_true(many.imbalance < alone.imbalance * 2);
    assert_true(many.first.p99 < alone.first.p99 * 1.5);
    sim_result_done(&alone);
    sim_result_done(&many);
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

static void test_configuration_is_checked(void **state)
{
    (void)state;
    struct sim_request request = {.prompt_tokens = 1, .output_tokens = 1};
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_node node = node_make();
    struct sim_failure failure = {.kind = SIM_SLOW, .at_s = 1, .for_s = 1};
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    sim_setup(&config, &one_model, 1, &node, 1);
    node.decode_full_tps = 1000;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "decode_full"));
    node = node_make();
    node.prefill_tps = NAN;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    node = node_make();
    request.model = 1;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    request.model = 0;
    config.failures = &failure;
    config.n_failures = 1;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "factor"));
    assert_null(result.first_s);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    uint64_t blocks[] = {1};
    struct sim_request request = {.prompt_tokens = 10, .output_tokens = 5, .n_blocks = 1};
    struct sim_trace trace = {
        .requests = &request, .n = 1, .blocks = blocks, .n_blocks = 1, .block_tokens = 10};
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    node.cache_tokens = 100;
    sim_setup(&config, &one_model, 1, &node, 1);
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        sl_mem_fail_at(nth, false);
        sl_status status = sim_run(&config, &trace, &result, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_int_equal(result.n_finished, 1);
    sim_result_done(&result);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_request_alone),
        cmocka_unit_test(test_two_requests_share_a_machine),
        cmocka_unit_test(test_a_cached_prefix_is_not_computed_again),
        cmocka_unit_test(test_a_crash_moves_what_ran),
        cmocka_unit_test(test_failures_fail_no_request),
        cmocka_unit_test(test_the_same_seed_the_same_bits),
        cmocka_unit_test(test_unlike_nodes_under_a_real_trace),
        cmocka_unit_test(test_prefixes_under_a_real_trace),
        cmocka_unit_test(test_gateways_do_not_herd),
        cmocka_unit_test(test_configuration_is_checked),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
