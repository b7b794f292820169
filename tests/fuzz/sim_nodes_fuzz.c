/* sim_nodes_fuzz.c: nodes files from any bytes: what is taken can be simulated or is refused with a
 * reason, and nothing is left behind. */
#include "base/mem.h"
#include "cli/sim_nodes_file.h"

#include <stdlib.h>
#include <string.h>

#define NODES_RUN_MAX 8 /* a run of more takes too long for a fuzzer */
#define SLOTS_RUN_MAX 64
#define SECONDS_RUN_MAX 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held)
{
    if (!held) abort();
}

static void check(const struct sim_nodes *grid)
{
    must(grid->n_models > 0 && grid->n_models <= SIM_MODELS_LIMIT);
    must(grid->n_nodes > 0 && grid->n_nodes <= SIM_NODES_LIMIT);
    must(grid->n_gateways <= SIM_GATEWAYS_LIMIT && grid->n_parts > 0);
    for (uint32_t i = 0; i < grid->n_gateways; i++)
        must(grid->gateway_sites[i] == 0 || grid->gateway_sites[i] < grid->n_sites);
    for (uint32_t i = 0; i < grid->n_nodes; i++) {
        const struct sim_node *node = &grid->nodes[i];
        must(memchr(node->name, '\0', sizeof node->name) != NULL);
        must(node->site == 0 || node->site < grid->n_sites);
        must(node->tariff == SIM_NONE || node->tariff < grid->n_tariffs);
        for (uint32_t k = 0; k < node->n_models; k++) must(node->models[k] < grid->n_models);
    }
}

/* Numbers that only make a run long, not wrong. */
static bool is_quick(const struct sim_nodes *grid)
{
    bool quick = grid->n_nodes <= NODES_RUN_MAX;
    for (uint32_t i = 0; i < grid->n_nodes && quick; i++)
        quick = grid->nodes[i].n_slots <= SLOTS_RUN_MAX &&
                grid->nodes[i].n_queue <= SLOTS_RUN_MAX && grid->nodes[i].cache_tokens <= 1000000 &&
                grid->nodes[i].decode_tps >= 1 && grid->nodes[i].rtt_s < SECONDS_RUN_MAX;
    for (uint32_t i = 0; i < grid->n_failures && quick; i++)
        quick = grid->failures[i].every_s == 0 || grid->failures[i].every_s >= 1;
    return quick;
}

static void run(const struct sim_nodes *grid)
{
    struct sim_request requests[2] = {{.arrival_ns = 0, .prompt_tokens = 20, .output_tokens = 5},
                                      {.arrival_ns = 1000, .prompt_tokens = 9, .output_tokens = 2}};
    struct sim_trace trace = {.requests = requests, .n = 2, .block_tokens = 1};
    struct sim_config config;
    struct sim_result result;
    struct sl_err err = SL_ERR_INIT;
    sim_config_default(&config);
    config.models = grid->models;
    config.n_models = grid->n_models;
    config.nodes = grid->nodes;
    config.n_nodes = grid->n_nodes;
    config.links = grid->links;
    config.n_sites = grid->n_sites;
    config.tariffs = grid->tariffs;
    config.n_tariffs = grid->n_tariffs;
    config.failures = grid->failures;
    config.n_failures = grid->n_failures;
    config.placement = grid->placement;
    sl_status status = sim_run(&config, &trace, &result, &err);
    must(status == SL_OK || err.text[0]);
    if (status == SL_OK) must(result.n_finished + result.n_failed == 2);
    sim_result_done(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sim_nodes grid;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    sl_status status = sim_nodes_read((const char *)data, size, &grid, &err);
    must(status == SL_OK || err.text[0]);
    if (status == SL_OK) {
        check(&grid);
        if (is_quick(&grid)) run(&grid);
    }
    sim_nodes_done(&grid);
    must(sl_mem_live() == live);
    return 0;
}
