/* sim.c: see sim.h: the run. */
#include "sched/sim.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sim_int.h"

#include <assert.h>
#include <math.h>

#define STREAM_JITTER 101
#define STREAM_PHASE 102

void sim_config_default(struct sim_config *config)
{
    *config = (struct sim_config){.n_gateways = 1,
                                  .seed = 1,
                                  .telemetry_s = 1,
                                  .gone_s = 2,
                                  .slo_first_s = 2,
                                  .slo_itl_s = 0.2,
                                  .hedge_share = 0.05};
    struct sl_err err;
    sl_status status = policy_parse(POLICY_DEFAULT, &config->policy, &err);
    assert(status == SL_OK);
    (void)status;
}

const char *sim_failure_name(enum sim_failure_kind kind)
{
    static const char *const names[] = {"crash", "slow", "partition"};
    return (unsigned)kind < SIM_FAILURE_KIND_COUNT ? names[kind] : "?";
}

/* --- what makes sense --- */

static bool above(double value, double least)
{
    return isfinite(value) && value > least;
}

static sl_status node_check(const struct sim_config *config, const struct sim_node *node,
                            struct sl_err *err)
{
    if (node->n_slots == 0 || node->n_slots > 4096 || node->n_queue == 0 || node->n_queue > 65536)
        return sl_err_set(err, SL_INVALID, "node %s: slots: 1 to 4096; queue: 1 to 65536",
                          node->name);
    if (!above(node->prefill_tps, 0) || !above(node->decode_tps, 0) ||
        !above(node->decode_full_tps, 0) || node->prefill_chunk == 0 || node->kv_tokens < 2 ||
        node->kv_tokens > UINT32_MAX || node->cache_tokens > UINT32_MAX)
        return sl_err_set(err, SL_INVALID,
                          "node %s: speeds, prefill chunk and KV tokens have to be above 0",
                          node->name);
    /* More streams never make a step shorter. */
    if (node->n_slots / node->decode_full_tps < 1 / node->decode_tps * 0.999)
        return sl_err_set(err, SL_INVALID, "node %s: decode_full: at most slots times decode (%g)",
                          node->name, node->n_slots * node->decode_tps);
    if (!above(node->rtt_s, -1e-12) || !above(node->jitter_s, -1e-12) ||
        !above(node->watts_idle, -1e-12) || !above(node->watts_busy, node->watts_idle - 1e-12))
        return sl_err_set(err, SL_INVALID, "node %s: rtt, jitter and watts: not below 0",
                          node->name);
    if (node->n_models == 0 || node->n_models > SIM_NODE_MODELS_MAX)
        return sl_err_set(err, SL_INVALID, "node %s: 1 to %d models", node->name,
                          SIM_NODE_MODELS_MAX);
    for (uint32_t i = 0; i < node->n_models; i++)
        if (node->models[i] >= config->n_models)
            return sl_err_set(err, SL_INVALID, "node %s: no such model", node->name);
    return SL_OK;
}

static sl_status failure_check(const struct sim_config *config, const struct sim_failure *failure,
                               struct sl_err *err)
{
    if ((unsigned)failure->kind >= SIM_FAILURE_KIND_COUNT || failure->node >= config->n_nodes ||
        !above(failure->at_s, -1e-12) || !above(failure->for_s, 0) || failure->at_s > 1e9 ||
        failure->for_s > 1e9)
        return sl_err_set(err, SL_INVALID, "a failure needs a node, a time and a duration above 0");
    if (failure->kind == SIM_SLOW && !above(failure->factor, 0))
        return sl_err_set(err, SL_INVALID, "a slow node needs a factor above 0");
    if (failure->gateway >= (int32_t)config->n_gateways)
        return sl_err_set(err, SL_INVALID, "a partition from gateway %d: there are %u",
                          failure->gateway, config->n_gateways);
    return SL_OK;
}

static sl_status config_check(const struct sim_config *config, const struct sim_trace *trace,
                              struct sl_err *err)
{
    if (config->n_nodes == 0 || config->n_nodes > SIM_NODES_LIMIT)
        return sl_err_set(err, SL_INVALID, "nodes: 1 to %d", SIM_NODES_LIMIT);
    if (config->n_models == 0 || config->n_models > SIM_MODELS_LIMIT)
        return sl_err_set(err, SL_INVALID, "models: 1 to %d", SIM_MODELS_LIMIT);
    if (config->n_gateways == 0 || config->n_gateways > SIM_GATEWAYS_LIMIT)
        return sl_err_set(err, SL_INVALID, "gateways: 1 to %d", SIM_GATEWAYS_LIMIT);
    if (config->n_failures > SIM_FAILURES_LIMIT)
        return sl_err_set(err, SL_INVALID, "failures: at most %d", SIM_FAILURES_LIMIT);
    if (!above(config->telemetry_s, 0) || !above(config->gone_s, -1e-12))
        return sl_err_set(err, SL_INVALID, "telemetry: above 0 s");
    if (trace->n == 0 || trace->n > SIM_REQUESTS_LIMIT)
        return sl_err_set(err, SL_INVALID, "the trace: 1 to %d requests", SIM_REQUESTS_LIMIT);
    for (size_t i = 0; i < trace->n; i++)
        if (trace->requests[i].model >= config->n_models || trace->requests[i].output_tokens == 0 ||
            trace->requests[i].prompt_tokens == 0 || trace->requests[i].arrival_ns < 0)
            return sl_err_set(err, SL_INVALID, "request %zu: no such model, or no tokens", i);
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        sl_status status = node_check(config, &config->nodes[i], err);
        if (status != SL_OK) return status;
    }
    for (uint32_t i = 0; i < config->n_failures; i++) {
        sl_status status = failure_check(config, &config->failures[i], err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

/* --- the network --- */

bool sim_way(struct sim *sim, uint32_t node, uint32_t gateway, bool to_node, int64_t *out_ns)
{
    struct sim_machine *machine = &sim->machines[node];
    if (machine->cut >> gateway & 1) return false;
    double lot = sl_rng_uniform(sim->config->seed, STREAM_JITTER, sim->n_draws++);
    double way_s = (machine->spec->rtt_s + machine->spec->jitter_s * lot) / 2;
    int64_t at_ns = sim->now_ns + (int64_t)(way_s * SIM_NS_PER_S);
    int64_t *last_ns = &machine->arrives_ns[gateway * 2 + to_node];
    if (at_ns < *last_ns) at_ns = *last_ns;
    *out_ns = *last_ns = at_ns;
    return true;
}

/* --- failures --- */

static void fail(struct sim *sim, uint32_t number)
{
    const struct sim_failure *failure = &sim->config->failures[number];
    struct sim_machine *machine = &sim->machines[failure->node];
    switch (failure->kind) {
    case SIM_CRASH: sim_machine_crash(sim, failure->node); break;
    case SIM_SLOW:
        machine->speed *= failure->factor;
        sim_engine_interrupt(sim, failure->node);
        break;
    case SIM_PARTITION:
        machine->cut |= failure->gateway < 0 ? UINT32_MAX : UINT32_C(1) << failure->gateway;
        break;
    default: break;
    }
}

static void heal(struct sim *sim, uint32_t number)
{
    const struct sim_failure *failure = &sim->config->failures[number];
    struct sim_machine *machine = &sim->machines[failure->node];
    switch (failure->kind) {
    case SIM_CRASH: sim_machine_recover(sim, failure->node); break;
    case SIM_SLOW: machine->speed /= failure->factor; break;
    case SIM_PARTITION:
        machine->cut &= failure->gateway < 0 ? 0 : ~(UINT32_C(1) << failure->gateway);
        break;
    default: break;
    }
}

/* The bus has noticed that the node's connection is gone. */
static void gone(struct sim *sim, const struct sim_event *event)
{
    if (sim->machines[event->node].boot != event->value) return;
    for (uint32_t g = 0; g < sim->n_gateways; g++)
        sim_gateway_step(sim, g,
                         &(struct router_event){.kind = ROUTER_NODE_GONE, .node = event->node});
}

/* --- the run --- */

static void sample(struct sim *sim)
{
    double most = 0, sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < sim->config->n_nodes; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        if (!machine->alive) continue;
        double load = (double)machine->n_jobs / machine->spec->n_slots;
        if (load > most) most = load;
        sum += load;
        n++;
    }
    if (n) sim->imbalance += most - sum / n;
    sim->n_samples++;
}

static void again(struct sim *sim, const struct sim_event *event)
{
    struct sim_event next = *event;
    next.at_ns += (int64_t)(sim->config->telemetry_s * SIM_NS_PER_S);
    sim_queue_push(&sim->queue, next);
}

static void arrive(struct sim *sim, uint32_t request)
{
    if (request + 1 < sim->trace->n)
        sim_queue_push(&sim->queue,
                       (struct sim_event){.at_ns = sim->trace->requests[request + 1].arrival_ns,
                                          .kind = SIM_ARRIVAL,
                                          .request = request + 1});
    sim_gateway_arrival(sim, request);
}

static void happen(struct sim *sim, const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_ARRIVAL: arrive(sim, event->request); break;
    case SIM_SEND: sim_machine_send(sim, event); break;
    case SIM_STOP: sim_machine_stop(sim, event); break;
    case SIM_NEWS: sim_gateway_news(sim, event); break;
    case SIM_REPORT:
        sim_gateway_report(sim, event);
        sim_snapshot_release(event->snapshot);
        break;
    case SIM_STEP: sim_engine_step(sim, event); break;
    case SIM_LOADED: sim_machine_loaded(sim, event); break;
    case SIM_NODE_WAKE: sim_machine_wake(sim, event); break;
    case SIM_ROUTER_WAKE: sim_gateway_wake(sim, event); break;
    case SIM_TELEMETRY:
        sim_machine_telemetry(sim, event->node);
        again(sim, event);
        break;
    case SIM_SAMPLE:
        sample(sim);
        again(sim, event);
        break;
    case SIM_FAIL: fail(sim, event->request); break;
    case SIM_HEAL: heal(sim, event->request); break;
    case SIM_GONE: gone(sim, event); break;
    }
}

static sl_status sim_allocate(struct sim *sim, struct sl_err *err)
{
    const struct sim_config *config = sim->config;
    sim->machines = sl_calloc(config->n_nodes, sizeof *sim->machines);
    sim->gateways = sl_calloc(config->n_gateways, sizeof *sim->gateways);
    sim->outcomes = sl_calloc(sim->trace->n, sizeof *sim->outcomes);
    if (!sim->machines || !sim->gateways || !sim->outcomes)
        return sl_err_set(err, SL_NOMEM, "no memory for %u nodes", config->n_nodes);
    sim->n_gateways = config->n_gateways;
    sl_status status = SL_OK;
    for (uint32_t i = 0; i < config->n_gateways && status == SL_OK; i++)
        status = sim_gateway_init(sim, i, err);
    for (uint32_t i = 0; i < config->n_nodes && status == SL_OK; i++)
        status = sim_machine_init(sim, i, err);
    return status;
}

static void sim_begin(struct sim *sim)
{
    const struct sim_config *config = sim->config;
    uint64_t n_tokens = 0;
    assert(sim->trace->n > 0);
    for (size_t i = 0; i < sim->trace->n; i++) {
        sim->outcomes[i] = (struct sim_outcome){.first_ns = -1, .end_ns = -1};
        n_tokens += sim->trace->requests[i].output_tokens;
    }
    sim->output_expected =
        config->output_expected ? config->output_expected : n_tokens / sim->trace->n + 1;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        /* The first report comes at once, the others at each node's own phase. */
        double phase = sl_rng_uniform(config->seed, STREAM_PHASE, i) * config->telemetry_s;
        sim_queue_push(&sim->queue, (struct sim_event){.at_ns = (int64_t)(phase * SIM_NS_PER_S),
                                                       .kind = SIM_TELEMETRY,
                                                       .node = i});
    }
    for (uint32_t i = 0; i < config->n_failures; i++) {
        const struct sim_failure *failure = &config->failures[i];
        struct sim_event event = {
            .at_ns = (int64_t)(failure->at_s * SIM_NS_PER_S), .kind = SIM_FAIL, .request = i};
        sim_queue_push(&sim->queue, event);
        event.at_ns += (int64_t)(failure->for_s * SIM_NS_PER_S);
        event.kind = SIM_HEAL;
        sim_queue_push(&sim->queue, event);
    }
    sim_queue_push(&sim->queue, (struct sim_event){.kind = SIM_SAMPLE});
    sim_queue_push(&sim->queue, (struct sim_event){.at_ns = sim->trace->requests[0].arrival_ns,
                                                   .kind = SIM_ARRIVAL});
}

static sl_status sim_loop(struct sim *sim, struct sl_err *err)
{
    struct sim_event event;
    while (sim->n_ended < sim->trace->n && sim_queue_pop(&sim->queue, &event)) {
        sim->now_ns = event.at_ns;
        happen(sim, &event);
        if (sim->queue.failed) return sl_err_set(err, SL_NOMEM, "no memory for events");
        if (sim->status != SL_OK)
            return sl_err_set(err, sim->status, "a scheduler refused an event: %s",
                              sl_status_text(sim->status));
    }
    return SL_OK;
}

static void sim_done(struct sim *sim)
{
    for (uint32_t i = 0; sim->machines && i < sim->config->n_nodes; i++)
        sim_machine_done(&sim->machines[i]);
    for (uint32_t i = 0; sim->gateways && i < sim->n_gateways; i++)
        router_destroy(sim->gateways[i].router);
    sl_free(sim->machines);
    sl_free(sim->gateways);
    sl_free(sim->outcomes);
    sim_queue_done(&sim->queue);
}

sl_status sim_run(const struct sim_config *config, const struct sim_trace *trace,
                  struct sim_result *out, struct sl_err *err)
{
    struct sim sim = {.config = config, .trace = trace};
    *out = (struct sim_result){0};
    sl_status status = config_check(config, trace, err);
    if (status != SL_OK) return status;
    status = sim_allocate(&sim, err);
    if (status == SL_OK) {
        sim_begin(&sim);
        status = sim_loop(&sim, err);
    }
    if (status == SL_OK) status = sim_result_fill(&sim, out, err);
    sim_done(&sim);
    return status;
}
