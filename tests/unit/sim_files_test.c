/* sim_files_test.c: traces, nodes files and plots of `starlane sim`. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "cli/sim_nodes_file.h"
#include "cli/sim_trace_file.h"
#include "cli/svg_plot.h"

static sl_status trace_read(const char *text, struct sim_trace *out, struct sl_err *err)
{
    return sim_trace_read(text, strlen(text), NULL, out, err);
}

static void test_azure_trace(void **state)
{
    (void)state;
    struct sim_trace trace;
    struct sl_err err;
    assert_int_equal(trace_read("TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                                "2023-12-31 23:59:59.5000000,374,44\r\n"
                                "2024-01-01 00:00:01.2500000,396,0\r\n",
                                &trace, &err),
                     SL_OK);
    assert_int_equal(trace.n, 2);
    assert_int_equal(trace.requests[0].arrival_ns, 0);
    assert_int_equal(trace.requests[1].arrival_ns, 1750000000);
    assert_int_equal(trace.requests[0].prompt_tokens, 374);
    assert_int_equal(trace.requests[1].output_tokens, 1); /* at least one */
    sim_trace_done(&trace);
}

static void test_mooncake_trace(void **state)
{
    (void)state;
    struct sim_trace trace;
    struct sl_err err;
    const char *text =
        "{\"timestamp\": 10, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}\n"
        "{\"timestamp\": 12, \"input_length\": 700, \"output_length\": 6, \"hash_ids\": [0, 2]}\n";
    assert_int_equal(trace_read(text, &trace, &err), SL_OK);
    assert_int_equal(trace.n, 2);
    assert_int_equal(trace.block_tokens, 512);
    assert_int_equal(trace.requests[1].arrival_ns, 2000000);
    assert_int_equal(trace.requests[1].block_at, 2);
    assert_int_equal(trace.blocks[0], trace.blocks[2]);
    assert_int_not_equal(trace.blocks[1], trace.blocks[3]);
    sim_trace_done(&trace);
    assert_int_equal(
        sim_trace_read(text, strlen(text), &(struct sim_trace_opts){.n_max = 1}, &trace, &err),
        SL_OK);
    assert_int_equal(trace.n, 1);
    sim_trace_done(&trace);
}

static void test_models_and_classes_by_name(void **state)
{
    (void)state;
    const struct sim_model models[] = {{.name = "chat"}, {.name = "code"}};
    struct sim_trace_opts opts = {.models = models, .n_models = 2};
    struct sim_trace trace;
    struct sl_err err;
    const char *text = "{\"timestamp\": 0.25, \"input_length\": 6, \"output_length\": 5, "
                       "\"model\": \"code\", \"class\": \"batch\"}\n"
                       "{\"timestamp\": 1, \"input_length\": 7, \"output_length\": 6}\n";
    assert_int_equal(sim_trace_read(text, strlen(text), &opts, &trace, &err), SL_OK);
    assert_int_equal(trace.requests[0].model, 1);
    assert_int_equal(trace.requests[0].qos_class, SCHED_BATCH);
    assert_int_equal(trace.requests[1].model, SIM_NONE);
    assert_int_equal(trace.requests[1].qos_class, SCHED_CLASS_COUNT);
    assert_int_equal(trace.requests[1].arrival_ns, 750000);
    sim_trace_done(&trace);
    opts.n_models = 1; /* nobody knows of code then */
    assert_int_equal(sim_trace_read(text, strlen(text), &opts, &trace, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "model code"));
}

static void test_bad_traces_name_the_line(void **state)
{
    (void)state;
    struct sim_trace trace;
    struct sl_err err;
    const char *const bad[] = {
        "",
        "TIMESTAMP\n",
        "T\n2023-11-16 18:15:46.68,374\n",
        "T\n2023-11-16 18:15:46.68,374,44x\n",
        "T\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,1,1\n",
        "T\n2023-11-16 18:15:46,-1,1\n",
        "{\"timestamp\": -1}\n",
        "{\"timestamp\": 1, \"input_length\": 1e99}\n",
        "{\n",
        "{\"timestamp\": 1, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [\"a\"]}\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t live = sl_mem_live();
        assert_int_equal(trace_read(bad[i], &trace, &err), SL_INVALID);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_int_equal(trace_read(bad[4], &trace, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "line 3"));
}

static sl_status nodes_read(const char *text, struct sim_nodes *out, struct sl_err *err)
{
    return sim_nodes_read(text, strlen(text), out, err);
}

#define MODELS "models: [{name: a, load_s: 2}, {name: b}]\n"
#define SPEEDS "prefill: 100, decode: 10, decode_full: 50, kv_tokens: 1000"

static void test_nodes_file(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = nodes_read(
        MODELS "nodes:\n"
               "  - {name: x, slots: 4, rtt_ms: 20, watts_idle: 5, models: [b], " SPEEDS "}\n"
               "  - {name: y, count: 2, cache_tokens: 0, " SPEEDS "}\n"
               "failures:\n"
               "  - {kind: partition, node: y-1, at_s: 1, for_s: 2, gateway: 0}\n"
               "  - {kind: slow, node: x, at_s: 1, for_s: 2, factor: 0.5}\n",
        &grid, &err);
    if (status != SL_OK) print_message("%s\n", err.text);
    assert_int_equal(status, SL_OK);
    assert_int_equal(grid.n_models, 2);
    assert_int_equal(grid.n_nodes, 3);
    assert_string_equal(grid.nodes[2].name, "y-1");
    assert_int_equal(grid.nodes[0].models[0], 1);
    assert_int_equal(grid.nodes[0].n_queue, 8);
    assert_true(grid.nodes[0].rtt_s == 0.02);
    assert_true(grid.nodes[0].watts_busy == 5);
    assert_int_equal(grid.nodes[0].cache_tokens, 1000);
    assert_int_equal(grid.nodes[1].cache_tokens, 0);
    assert_int_equal(grid.nodes[1].n_models, 2);
    assert_int_equal(grid.failures[0].node, 2);
    assert_int_equal(grid.failures[0].gateway, 0);
    assert_int_equal(grid.failures[1].gateway, -1);
    assert_true(grid.failures[1].factor == 0.5);
    sim_nodes_done(&grid);
}

static void test_a_grid_in_a_nodes_file(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = nodes_read(
        "placement: true\n"
        "models: [{name: a, gb: 4, shares: [1, 3]}, {name: b, gb: 2, replicas_min: 1}]\n"
        "sites: [p, q]\n"
        "links: [{from: p, to: q, rtt_ms: 30, jitter_ms: 2, mbit: 100, loss: 0.01}]\n"
        "gateways: [q]\n"
        "tariffs: [{name: t, price_kwh: [0.1, -0.2], carbon_kwh: [300]}]\n"
        "nodes:\n"
        "  - {name: x, site: q, tariff: t, memory_gb: 5, disk_mb_s: 500, mbit: 1000, stored: [b],\n"
        "     overhead_ms: 1, prefill: 100, prefill_ms: 2, prefill_group: 32, context_us: 3,\n"
        "     kv_tokens: 1000, steps: [{streams: 1, ms: 10}, {streams: 4, ms: 16}]}\n"
        "failures: [{kind: crash, every_s: 60, for_s: 5}]\n",
        &grid, &err);
    if (status != SL_OK) print_message("%s\n", err.text);
    assert_int_equal(status, SL_OK);
    assert_true(grid.placement);
    assert_int_equal(grid.models[0].bytes, 4000000000);
    assert_int_equal(grid.models[1].replicas_min, 1);
    assert_int_equal(grid.n_parts, 2);
    assert_true(grid.shares[1] == 3 && grid.shares[2] == 1 && grid.shares[3] == 1);
    assert_true(grid.links[1].rtt_s == 0.03 && grid.links[2].rtt_s == 0.03);
    assert_true(grid.links[0].rtt_s == 0 && grid.links[1].bits_per_s == 1e8);
    assert_int_equal(grid.gateway_sites[0], 1);
    assert_true(grid.tariffs[0].n_price == 2 && grid.tariffs[0].price_kwh[1] == -0.2);
    const struct sim_node *node = &grid.nodes[0];
    assert_int_equal(node->site, 1);
    assert_int_equal(node->tariff, 0);
    assert_int_equal(node->n_models, 0); /* placement's affair */
    assert_int_equal(node->stored[0], 1);
    assert_int_equal(node->n_steps, 2);
    assert_true(node->decode_tps == 100 && node->decode_full_tps == 250);
    assert_int_equal(grid.failures[0].node, SIM_NONE);
    sim_nodes_done(&grid);
}

static void test_bad_nodes_files_say_what_is_wrong(void **state)
{
    (void)state;
    struct sim_nodes grid;
    struct sl_err err;
    const struct {
        const char *text, *said;
    } bad[] = {
        {"", ""},
        {"nodes: [", ""},
        {MODELS "nodes: []\n", ""},
        {MODELS "nodes: [{name: x}]\n", "prefill"},
        {MODELS "nodes: [{name: x, color: red, " SPEEDS "}]\n", "color"},
        {MODELS "nodes: [{name: x, slots: many, " SPEEDS "}]\n", "slots"},
        {MODELS "nodes: [{name: x, models: [c], " SPEEDS "}]\n", "model c"},
        {MODELS "nodes: [{name: x, count: 999999, " SPEEDS "}]\n", "at most"},
        {MODELS "nodes: [{name: x, " SPEEDS
                "}]\nfailures: [{kind: crash, node: z, at_s: 1, for_s: 1}]\n",
         "no node z"},
        {MODELS "nodes: [{name: x, " SPEEDS
                "}]\nfailures: [{kind: fire, node: x, at_s: 1, for_s: 1}]\n",
         "kind"},
        {MODELS "nodes: [{name: x, site: here, " SPEEDS "}]\n", "site here"},
        {MODELS "nodes: [{name: x, tariff: night, " SPEEDS "}]\n", "tariff night"},
        {MODELS "links: [{from: p, to: q}]\nnodes: [{name: x, " SPEEDS "}]\n", "there are none"},
        {MODELS "sites: [p]\ngateways: [q]\nnodes: [{name: x, " SPEEDS "}]\n", "site q"},
        {"models: [{name: a, shares: [1, 2]}, {name: b, shares: [1, 2, 3]}]\n"
         "nodes: [{name: x, " SPEEDS "}]\n",
         "shares"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t live = sl_mem_live();
        assert_int_equal(nodes_read(bad[i].text, &grid, &err), SL_INVALID);
        assert_int_equal(sl_mem_live(), live);
        if (!strstr(err.text, bad[i].said)) print_message("%zu: %s\n", i, err.text);
        assert_non_null(strstr(err.text, bad[i].said));
    }
}

static void test_plot(void **state)
{
    (void)state;
    const double values[] = {0.01, 0.1, 1, 5};
    const struct svg_series series[] = {{"a<b>&c", values, 4}, {"empty", NULL, 0}};
    struct sl_buf first, second;
    sl_buf_init(&first, 1 << 20);
    sl_buf_init(&second, 1 << 20);
    assert_int_equal(svg_plot_cdf(&first, "title", "seconds", series, 2), SL_OK);
    assert_int_equal(svg_plot_cdf(&second, "title", "seconds", series, 2), SL_OK);
    assert_string_equal(first.data, second.data);
    assert_int_equal(strncmp(first.data, "<svg ", 5), 0);
    assert_string_equal(first.data + first.len - 7, "</svg>\n");
    assert_non_null(strstr(first.data, "a&lt;b&gt;&amp;c"));
    /* The axis goes from 0.01 to 10: the first value stands at its left end. */
    assert_non_null(strstr(first.data, "points=\"64.0,"));
    assert_null(strstr(first.data, "nan"));
    assert_int_equal(svg_plot_cdf(&first, "", "", series, SVG_SERIES_MAX + 1), SL_LIMIT);
    sl_buf_done(&first);
    sl_buf_done(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_azure_trace),
        cmocka_unit_test(test_mooncake_trace),
        cmocka_unit_test(test_models_and_classes_by_name),
        cmocka_unit_test(test_bad_traces_name_the_line),
        cmocka_unit_test(test_nodes_file),
        cmocka_unit_test(test_a_grid_in_a_nodes_file),
        cmocka_unit_test(test_bad_nodes_files_say_what_is_wrong),
        cmocka_unit_test(test_plot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
