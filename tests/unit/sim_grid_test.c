/* sim_grid_test.c: what the simulator has beside machines: sites, placement, electricity over time,
 * failures by chance, reports that are late or lost, and measured profiles. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cli/sim_nodes_file.h"
#include "support/sim_drive.h"

#define EXAMPLES STARLANE_ROOT "/examples/sim/"
#define S INT64_C(1000000000)
#define GB UINT64_C(1000000000)

static const struct sim_model models[2] = {{.name = "a", .load_s = 1, .bytes = 8 * GB},
                                           {.name = "b", .load_s = 1, .bytes = 8 * GB}};

static struct sim_node node_make(void)
{
    return (struct sim_node){.name = "n",
                             .n_slots = 4,
                             .n_queue = 8,
                             .prefill_tps = 1000,
                             .decode_tps = 100,
                             .decode_full_tps = 200,
                             .prefill_chunk = 512,
                             .kv_tokens = 10000,
                             .watts_idle = 100,
                             .watts_busy = 100,
                             .tariff = SIM_NONE,
                             .n_models = 1};
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-3;
}

static struct sim_request request_at(int64_t at_s, uint32_t model)
{
    return (struct sim_request){
        .arrival_ns = at_s * S, .model = model, .prompt_tokens = 100, .output_tokens = 11};
}

/* 100 ms of link, 10 ms of the node's line, 500 bytes and 100 tokens at 8 kbit a second. */
static void test_sites_and_bandwidth(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_link links[4] = {[1] = {.rtt_s = 0.1}, [2] = {.rtt_s = 0.1}};
    uint32_t gateways[1] = {0};
    struct sim_request request = request_at(5, 0);
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    node.rtt_s = 0.01;
    node.site = 1;
    sim_setup(&config, models, 2, &node, 1);
    config.links = links;
    config.n_sites = 2;
    config.gateway_sites = gateways;
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.first.mean, 0.1 + 0.11));
    sim_result_done(&result);
    gateways[0] = 1; /* it stands beside the node */
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.first.mean, 0.1 + 0.01));
    sim_result_done(&result);
    node.bits_per_s = 8000; /* 1,000 bytes there, 200 back, and reports of 1,000 before them */
    sim_run_ok(&config, &trace, &result);
    assert_true(result.first.mean > 0.1 + 0.01 + 1.2 - 1e-3 && result.first.mean < 2.4);
    sim_result_done(&result);
}

/* 8 GB come from the origin at 1 Gbit/s and are read at 1 GB/s; a worker takes 1 s more. */
static void test_a_model_is_loaded_where_it_is_asked_for(void **state)
{
    (void)state;
    struct sim_node nodes[2] = {node_make(), node_make()};
    struct sim_request requests[3] = {request_at(5, 1), request_at(100, 1), request_at(101, 0)};
    struct sim_trace trace = {.requests = requests, .n = 3, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    for (int i = 0; i < 2; i++) {
        nodes[i].memory_bytes = 12 * GB;
        nodes[i].bits_per_s = 1e9;
        nodes[i].disk_bytes_per_s = 1e9;
    }
    nodes[0].models[0] = 0;
    nodes[1].n_models = 0;
    sim_setup(&config, models, 2, nodes, 2);
    config.placement = true;
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_finished, 3);
    assert_int_equal(result.models[1].n_loads, 1);
    assert_int_equal(result.models[0].n_loads, 0);
    assert_true(near(result.models[1].loading_s, 1 + 8 + 64));
    assert_true(result.first.max > 73 && result.first.max < 76);
    assert_int_equal(result.nodes[1].n_finished, 2);
    sim_result_done(&result);
    config.origin_bits_per_s = 0.5e9; /* the slower one of the two counts */
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.models[1].loading_s, 1 + 8 + 128));
    sim_result_done(&result);
}

static void test_models_follow_demand(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "models.yaml", &grid, &err), SL_OK);
    struct sim_poisson poisson = {
        .n = 6000, .rate = 3, .prompt_mean = 500, .output_mean = 100, .seed = 1};
    struct sim_mix mix = {.shares = grid.shares,
                          .n_models = grid.n_models,
                          .n_parts = grid.n_parts,
                          .classes = {8, 1, 1},
                          .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    assert_int_equal(sim_trace_mix(&trace, &mix, &err), SL_OK);
    sim_setup(&config, models, 2, grid.nodes, grid.n_nodes);
    config.models = grid.models;
    config.n_models = grid.n_models;
    config.placement = true;
    config.origin_bits_per_s = 2e9;
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_failed, 0);
    assert_true(result.models[3].n_loads > 0); /* nobody had it at first */
    assert_true(result.models[2].n_unloads > 0 && result.models[2].replicas < 6);
    uint64_t n_moves = 0, n_by_model = 0, n_by_class = 0;
    for (uint32_t i = 0; i < grid.n_models; i++) {
        n_moves += result.models[i].n_loads;
        n_by_model += result.models[i].requests.n_requests;
    }
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) n_by_class += result.classes[i].n_requests;
    assert_int_equal(n_by_model, 6000);
    assert_int_equal(n_by_class, 6000);
    assert_true(result.classes[SCHED_BATCH].n_requests > 400);
    assert_true(n_moves < 40); /* in half an hour with two changes of demand */
    sim_result_done(&result);
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

/* 100 W all the time: the first hour is dear and clean, the second cheap and dirty. */
static void test_electricity_by_the_hour(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    double prices[2] = {0.4, 0.2}, carbon[2] = {100, 500};
    struct sim_tariff tariff = {"t", prices, carbon, 2, 2};
    struct sim_request requests[2] = {request_at(5, 0), request_at(7200, 0)};
    struct sim_trace trace = {.requests = requests, .n = 2, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    node.tariff = 0;
    sim_setup(&config, models, 2, &node, 1);
    config.tariffs = &tariff;
    config.n_tariffs = 1;
    sim_run_ok(&config, &trace, &result);
    assert_true(fabs(result.joules - 100 * result.duration_s) < 1);
    assert_true(fabs(result.co2_g - (0.1 * 100 + 0.1 * 500)) < 0.1);
    assert_true(fabs(result.cost - (0.1 * 0.4 + 0.1 * 0.2)) < 1e-4);
    sim_result_done(&result);
}

/* Of two equal nodes the one with the cleaner current gets the work, as long as it has room. */
static void test_energy_first_goes_where_current_is_clean(void **state)
{
    (void)state;
    struct sim_node nodes[2] = {node_make(), node_make()};
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    struct sim_poisson poisson = {
        .n = 500, .rate = 1, .prompt_mean = 100, .output_mean = 20, .n_models = 1, .seed = 1};
    nodes[0].watts_busy = nodes[1].watts_busy = 300;
    nodes[0].carbon_kwh = 600;
    nodes[1].carbon_kwh = 50;
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, models, 2, nodes, 2);
    assert_int_equal(policy_parse("energy-first", &config.policy, &err), SL_OK);
    sim_run_ok(&config, &trace, &result);
    assert_true(result.nodes[1].n_finished > 4 * result.nodes[0].n_finished);
    sim_result_done(&result);
    sim_trace_done(&trace);
}

static void test_failures_by_chance(void **state)
{
    (void)state;
    struct sim_node nodes[4] = {node_make(), node_make(), node_make(), node_make()};
    struct sim_failure failures[3] = {
        {.kind = SIM_CRASH, .node = SIM_NONE, .every_s = 200, .for_s = 20, .gateway = -1},
        {.kind = SIM_SLOW, .node = SIM_NONE, .every_s = 200, .for_s = 20, .factor = 0.2},
        {.kind = SIM_PARTITION, .node = SIM_NONE, .every_s = 300, .for_s = 10, .gateway = -1}};
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result results[3];
    struct sl_err err;
    struct sim_poisson poisson = {
        .n = 3000, .rate = 2, .prompt_mean = 200, .output_mean = 50, .n_models = 1, .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, models, 2, nodes, 4);
    config.failures = failures;
    config.n_failures = 3;
    for (int i = 0; i < 3; i++) {
        config.seed = i < 2 ? 7 : 8;
        sim_run_ok(&config, &trace, &results[i]);
        assert_int_equal(results[i].n_failed, 0);
        assert_true(results[i].n_moved + results[i].n_retried > 10);
    }
    assert_int_equal(results[0].n_events, results[1].n_events);
    assert_memory_equal(results[0].first_s, results[1].first_s, 3000 * sizeof(double));
    assert_int_not_equal(results[0].n_events, results[2].n_events);
    for (int i = 0; i < 3; i++) sim_result_done(&results[i]);
    sim_trace_done(&trace);
}

/* The first token of the last request in seconds, of four that come to two gateways in turn. All of
 * them would rather have the fast node; the third, with a long prompt, keeps it busy. */
static double first_after_a_long_prompt(double report_gap_s)
{
    struct sim_node nodes[2] = {node_make(), node_make()};
    struct sim_request requests[4] = {request_at(5, 0), request_at(6, 0), request_at(7, 0),
                                      request_at(8, 0)};
    struct sim_trace trace = {.requests = requests, .n = 4, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    nodes[0].prefill_tps *= 2;
    requests[2].prompt_tokens = 5000; /* 2.5 s */
    sim_setup(&config, models, 1, nodes, 2);
    config.n_gateways = 2;
    config.telemetry_s = 100;
    config.report_gap_s = report_gap_s;
    sim_run_ok(&config, &trace, &result);
    double first_s = result.first_s[2];
    sim_result_done(&result);
    return first_s;
}

static void test_changes_are_reported_at_once(void **state)
{
    (void)state;
    assert_true(first_after_a_long_prompt(0.05) < 0.11); /* at the other node */
    assert_true(first_after_a_long_prompt(100) > 1);     /* the gateway did not know */
}

/* Four gateways whose reports are a second old when they come, or lost every other time, do not all
 * run to the same node: the fullest stays about as much above the mean as with fresh ones each
 * second. Reports of changes at once are better than these. */
static void test_stale_reports_make_no_herd(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result prompt, fresh, stale, lost;
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "five-nodes.yaml", &grid, &err), SL_OK);
    struct sim_poisson poisson = {
        .n = 8000, .rate = 1, .prompt_mean = 1000, .output_mean = 200, .n_models = 1, .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, models, 2, grid.nodes, grid.n_nodes);
    config.n_models = 1;
    config.n_gateways = 4;
    sim_trace_speed_up(&trace, 0.6 * sim_capacity(&config, &trace) / sim_trace_rate(&trace));
    sim_run_ok(&config, &trace, &prompt);
    config.report_gap_s = 1;
    sim_run_ok(&config, &trace, &fresh);
    config.report_delay_s = 1;
    sim_run_ok(&config, &trace, &stale);
    config.report_loss = 0.5;
    sim_run_ok(&config, &trace, &lost);
    assert_int_equal(stale.n_failed + lost.n_failed, 0);
    assert_true(stale.imbalance < fresh.imbalance * 1.3);
    assert_true(lost.imbalance < fresh.imbalance * 1.5);
    assert_true(stale.first.p99 < fresh.first.p99 * 1.3);
    assert_true(prompt.first.p99 < fresh.first.p99);
    sim_result_done(&prompt);
    sim_result_done(&fresh);
    sim_result_done(&stale);
    sim_result_done(&lost);
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

/* A lone stream: 100 tokens in 0.1 s, then ten steps of the first point with its context. */
static void test_a_measured_profile(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request requests[2] = {request_at(5, 0), request_at(5, 0)};
    struct sim_trace trace = {.requests = requests, .n = 1, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    node.n_steps = 2;
    node.steps[0] = (struct sim_step){1, 0.02};
    node.steps[1] = (struct sim_step){3, 0.06};
    node.prefill_fixed_s = 0.01;
    node.prefill_group = 32;
    node.overhead_s = 0.05;
    sim_setup(&config, models, 2, &node, 1);
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.first.mean, 0.05 + 0.01 + 0.1));
    assert_true(near(result.total.mean - result.first.mean, 10 * 0.02));
    sim_result_done(&result);
    node.context_s = 0.0001; /* contexts of 101 to 110 tokens */
    sim_run_ok(&config, &trace, &result);
    assert_true(fabs(result.total.mean - result.first.mean - 10 * (0.02 + 0.0106)) < 2e-3);
    sim_result_done(&result);
    node.context_s = 0;
    trace.n = 2; /* the second prompt's step takes the first one's stream along */
    sim_run_ok(&config, &trace, &result);
    assert_true(near(result.first.max, 0.16 + 0.1 + 0.02));
    assert_true(near(result.total.max, 0.28 + 9 * 0.04 + 0.02));
    sim_result_done(&result);
    node.steps[1].seconds = 0.01; /* more streams in less time */
    struct sl_err err;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "steps"));
}

/* Streams that outgrow the KV room: the youngest starts again later, none is lost. */
static void test_kv_room_is_shared(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request requests[4];
    struct sim_trace trace = {.requests = requests, .n = 4, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    for (int i = 0; i < 4; i++) {
        requests[i] = request_at(5, 0);
        requests[i].output_tokens = 300;
    }
    node.kv_tokens = 600;
    sim_setup(&config, models, 2, &node, 1);
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_finished, 4);
    assert_true(result.nodes[0].prefill_tokens > 400); /* some were computed twice */
    sim_result_done(&result);
}

static void test_many_nodes(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sim_trace trace;
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    assert_int_equal(sim_nodes_load(EXAMPLES "ten-thousand.yaml", &grid, &err), SL_OK);
    assert_int_equal(grid.n_nodes, 10000);
    struct sim_poisson poisson = {
        .n = 3000, .rate = 1000, .prompt_mean = 500, .output_mean = 50, .n_models = 2, .seed = 1};
    assert_int_equal(sim_trace_poisson(&poisson, &trace, &err), SL_OK);
    sim_setup(&config, models, 2, grid.nodes, grid.n_nodes);
    config.models = grid.models;
    sim_run_ok(&config, &trace, &result);
    assert_int_equal(result.n_finished, 3000);
    sim_result_done(&result);
    sim_trace_done(&trace);
    sim_nodes_done(&grid);
}

static void test_what_is_wrong_is_named(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request request = request_at(5, 0);
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    sim_setup(&config, models, 2, &node, 1);
    node.site = 1;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "site"));
    node.site = 0;
    config.report_loss = 1;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "reports"));
    config.report_loss = 0;
    config.placement = true;
    node.memory_bytes = 1;
    assert_int_equal(sim_run(&config, &trace, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "memory"));
    double shares[1] = {0};
    struct sim_mix mix = {.shares = shares, .n_models = 1, .n_parts = 1, .classes = {1}};
    request.model = SIM_NONE;
    assert_int_equal(sim_trace_mix(&trace, &mix, &err), SL_INVALID);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct sim_node node = node_make();
    struct sim_request request = request_at(1, 1);
    struct sim_trace trace = {.requests = &request, .n = 1, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    struct sl_err err;
    sim_setup(&config, models, 2, &node, 1);
    config.placement = true;
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
    assert_int_equal(result.models[1].n_loads, 1);
    sim_result_done(&result);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites_and_bandwidth),
        cmocka_unit_test(test_a_model_is_loaded_where_it_is_asked_for),
        cmocka_unit_test(test_models_follow_demand),
        cmocka_unit_test(test_electricity_by_the_hour),
        cmocka_unit_test(test_energy_first_goes_where_current_is_clean),
        cmocka_unit_test(test_failures_by_chance),
        cmocka_unit_test(test_changes_are_reported_at_once),
        cmocka_unit_test(test_stale_reports_make_no_herd),
        cmocka_unit_test(test_a_measured_profile),
        cmocka_unit_test(test_kv_room_is_shared),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
