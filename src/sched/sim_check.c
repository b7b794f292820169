/* sim_check.c: which configurations and traces make sense. */
#include "sched/sim_int.h"

#include <math.h>

#define RATE_MIN 1e-3 /* tokens a second, and the share of a slow node's speed */

/* A speed or its share: neither so slow nor so fast that times leave what can be counted. */
static bool is_rate(double value)
{
    return value >= RATE_MIN && value <= 1e12;
}

static bool is_time(double seconds)
{
    return seconds >= 0 && seconds <= SIM_SECONDS_MAX;
}

/* Of anything that is counted or measured in other units: bytes, watts, prices. */
static bool is_amount(double value)
{
    return value >= 0 && value <= 1e15;
}

static sl_status steps_check(const struct sim_node *node, struct sl_err *err)
{
    if (node->n_steps > SIM_STEPS_MAX)
        return sl_err_set(err, SL_INVALID, "node %s: at most %d measured steps", node->name,
                          SIM_STEPS_MAX);
    for (uint32_t i = 0; i < node->n_steps; i++) {
        const struct sim_step *step = &node->steps[i];
        bool rises =
            i == 0 ? step->n_streams > 0
                   : step->n_streams > step[-1].n_streams && step->seconds >= step[-1].seconds;
        if (!rises || !is_time(step->seconds) || step->seconds <= 0)
            return sl_err_set(err, SL_INVALID,
                              "node %s: steps: streams from 1 on and seconds above 0, both rising",
                              node->name);
    }
    return SL_OK;
}

static sl_status machine_check(const struct sim_config *config, const struct sim_node *node,
                               struct sl_err *err)
{
    if (!is_amount(node->bits_per_s) || !is_amount(node->disk_bytes_per_s) ||
        !is_time(node->prefill_fixed_s) || !is_time(node->context_s) ||
        !is_time(node->overhead_s) || !is_amount(node->price_kwh) || !is_amount(node->price_mtok) ||
        !is_amount(node->carbon_kwh))
        return sl_err_set(err, SL_INVALID, "node %s: a number is below 0 or too large", node->name);
    if (node->site > 0 && node->site >= config->n_sites)
        return sl_err_set(err, SL_INVALID, "node %s: no such site", node->name);
    if (node->n_stored > SIM_NODE_MODELS_MAX)
        return sl_err_set(err, SL_INVALID, "node %s: stored: at most %d", node->name,
                          SIM_NODE_MODELS_MAX);
    for (uint32_t i = 0; i < node->n_stored; i++)
        if (node->stored[i] >= config->n_models)
            return sl_err_set(err, SL_INVALID, "node %s: no such model", node->name);
    uint64_t n_bytes = 0;
    for (uint32_t i = 0; i < node->n_models; i++) n_bytes += config->models[node->models[i]].bytes;
    if (config->placement && node->memory_bytes && n_bytes > node->memory_bytes)
        return sl_err_set(err, SL_INVALID, "node %s: its models do not fit in its memory",
                          node->name);
    return steps_check(node, err);
}

static sl_status node_check(const struct sim_config *config, const struct sim_node *node,
                            struct sl_err *err)
{
    if (node->n_slots == 0 || node->n_slots > 4096 || node->n_queue == 0 || node->n_queue > 65536)
        return sl_err_set(err, SL_INVALID, "node %s: slots: 1 to 4096; queue: 1 to 65536",
                          node->name);
    if (!is_rate(node->prefill_tps) || !is_rate(node->decode_tps) ||
        !is_rate(node->decode_full_tps) || node->prefill_chunk == 0 || node->kv_tokens < 2 ||
        node->kv_tokens > UINT32_MAX || node->cache_tokens > UINT32_MAX)
        return sl_err_set(err, SL_INVALID,
                          "node %s: speeds, prefill chunk and KV tokens have to be above 0",
                          node->name);
    /* More streams never make a step shorter. */
    if (node->n_steps == 0 && node->n_slots / node->decode_full_tps < 1 / node->decode_tps * 0.999)
        return sl_err_set(err, SL_INVALID, "node %s: decode_full: at most slots times decode (%g)",
                          node->name, node->n_slots * node->decode_tps);
    if (!is_time(node->rtt_s) || !is_time(node->jitter_s) || !is_amount(node->watts_idle) ||
        !is_amount(node->watts_busy) || node->watts_busy < node->watts_idle)
        return sl_err_set(err, SL_INVALID,
                          "node %s: rtt, jitter and watts: not below 0, busy not below idle",
                          node->name);
    if ((node->n_models == 0 && !config->placement) || node->n_models > SIM_NODE_MODELS_MAX)
        return sl_err_set(err, SL_INVALID, "node %s: 1 to %d models", node->name,
                          SIM_NODE_MODELS_MAX);
    for (uint32_t i = 0; i < node->n_models; i++)
        if (node->models[i] >= config->n_models)
            return sl_err_set(err, SL_INVALID, "node %s: no such model", node->name);
    return machine_check(config, node, err);
}

static sl_status failure_check(const struct sim_config *config, const struct sim_failure *failure,
                               struct sl_err *err)
{
    if ((unsigned)failure->kind >= SIM_FAILURE_KIND_COUNT ||
        (failure->node >= config->n_nodes && failure->node != SIM_NONE) ||
        !is_time(failure->at_s) || !is_time(failure->for_s) || failure->for_s <= 0 ||
        !is_time(failure->every_s))
        return sl_err_set(err, SL_INVALID, "a failure needs a node, a time and a duration above 0");
    if (failure->kind == SIM_SLOW && !is_rate(failure->factor))
        return sl_err_set(err, SL_INVALID, "a slow node needs a factor above 0");
    if (failure->gateway >= (int32_t)config->n_gateways)
        return sl_err_set(err, SL_INVALID, "a partition from gateway %d: there are %u",
                          failure->gateway, config->n_gateways);
    return SL_OK;
}

static sl_status sites_check(const struct sim_config *config, struct sl_err *err)
{
    if (config->n_sites > SIM_SITES_LIMIT || config->n_tariffs > SIM_TARIFFS_LIMIT)
        return sl_err_set(err, SL_INVALID, "at most %d sites and %d tariffs", SIM_SITES_LIMIT,
                          SIM_TARIFFS_LIMIT);
    for (size_t i = 0; config->links && i < (size_t)config->n_sites * config->n_sites; i++) {
        const struct sim_link *link = &config->links[i];
        if (!is_time(link->rtt_s) || !is_time(link->jitter_s) || !is_amount(link->bits_per_s) ||
            !is_amount(link->loss) || link->loss >= 1)
            return sl_err_set(err, SL_INVALID, "a link: nothing below 0, a loss below 1");
    }
    for (uint32_t i = 0; config->gateway_sites && i < config->n_gateways; i++)
        if (config->gateway_sites[i] > 0 && config->gateway_sites[i] >= config->n_sites)
            return sl_err_set(err, SL_INVALID, "gateway %u: no such site", i);
    return SL_OK;
}

static sl_status tariff_check(const struct sim_tariff *tariff, struct sl_err *err)
{
    for (uint32_t i = 0; i < tariff->n_price; i++)
        if (!is_amount(fabs(tariff->price_kwh[i]))) /* surplus has had prices below 0 */
            return sl_err_set(err, SL_INVALID, "tariff %s: a price is no number", tariff->name);
    for (uint32_t i = 0; i < tariff->n_carbon; i++)
        if (!is_amount(tariff->carbon_kwh[i]))
            return sl_err_set(err, SL_INVALID, "tariff %s: carbon: not below 0", tariff->name);
    return SL_OK;
}

static sl_status scale_check(const struct sim_config *config, struct sl_err *err)
{
    if (config->n_nodes == 0 || config->n_nodes > SIM_NODES_LIMIT)
        return sl_err_set(err, SL_INVALID, "nodes: 1 to %d", SIM_NODES_LIMIT);
    if (config->n_models == 0 || config->n_models > SIM_MODELS_LIMIT)
        return sl_err_set(err, SL_INVALID, "models: 1 to %d", SIM_MODELS_LIMIT);
    if (config->n_gateways == 0 || config->n_gateways > SIM_GATEWAYS_LIMIT)
        return sl_err_set(err, SL_INVALID, "gateways: 1 to %d", SIM_GATEWAYS_LIMIT);
    if (config->n_failures > SIM_FAILURES_LIMIT)
        return sl_err_set(err, SL_INVALID, "failures: at most %d", SIM_FAILURES_LIMIT);
    if (!(config->telemetry_s >= 1e-3) || !is_time(config->telemetry_s) || !is_time(config->gone_s))
        return sl_err_set(err, SL_INVALID, "telemetry: from 1 ms on");
    if (!(config->report_gap_s >= 1e-3) || !is_time(config->report_gap_s))
        return sl_err_set(err, SL_INVALID, "report gap: from 1 ms on");
    if (!is_time(config->report_delay_s) || !is_amount(config->report_loss) ||
        config->report_loss >= 1 || !is_amount(config->origin_bits_per_s))
        return sl_err_set(err, SL_INVALID, "reports: a delay from 0 on, a loss below 1");
    sl_status status = sites_check(config, err);
    for (uint32_t i = 0; i < config->n_tariffs && status == SL_OK; i++)
        status = tariff_check(&config->tariffs[i], err);
    return status;
}

sl_status sim_check(const struct sim_config *config, const struct sim_trace *trace,
                    struct sl_err *err)
{
    sl_status status = scale_check(config, err);
    if (status != SL_OK) return status;
    if (trace->n == 0 || trace->n > SIM_REQUESTS_LIMIT)
        return sl_err_set(err, SL_INVALID, "the trace: 1 to %d requests", SIM_REQUESTS_LIMIT);
    for (size_t i = 0; i < trace->n; i++)
        if (trace->requests[i].model >= config->n_models || trace->requests[i].output_tokens == 0 ||
            trace->requests[i].prompt_tokens == 0 || trace->requests[i].arrival_ns < 0)
            return sl_err_set(err, SL_INVALID, "request %zu: no such model, or no tokens", i);
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        status = node_check(config, &config->nodes[i], err);
        if (status != SL_OK) return status;
    }
    for (uint32_t i = 0; i < config->n_failures; i++) {
        status = failure_check(config, &config->failures[i], err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}
