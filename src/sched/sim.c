/* sim.c: see sim.h: the run. */
#include "sched/sim.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sim_int.h"

#include <assert.h>

#define STREAM_PHASE 102

void sim_config_default(struct sim_config *config)
{
    *config = (struct sim_config){.n_gateways = 1,
                                  .seed = 1,
                                  .telemetry_s = 1,
                                  .report_gap_s = 0.05,
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

/* --- the run --- */

static void sample(struct sim *sim)
{
    double most = 0, sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < sim->config->n_nodes; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        sim_energy_charge(sim, i);
        for (uint32_t k = 0; k < machine->n_places; k++)
            sim->models[machine->places[k].model].replicas += machine->places[k].ready;
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
    next.at_ns += sim_ns(sim->config->telemetry_s);
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
    case SIM_UNLOADED: sim_machine_unloaded(sim, event); break;
    case SIM_PLACE:
        sim_place_step(sim);
        again(sim, event);
        break;
    case SIM_CONTROL: sim_machine_control(sim, event); break;
    case SIM_NODE_WAKE: sim_machine_wake(sim, event); break;
    case SIM_ROUTER_WAKE: sim_gateway_wake(sim, event); break;
    case SIM_HELLO: sim_machine_hello(sim, event->node); break;
    case SIM_TELEMETRY: sim_machine_telemetry(sim, event); break;
    case SIM_SAMPLE:
        sample(sim);
        again(sim, event);
        break;
    case SIM_FAIL: sim_fail(sim, event); break;
    case SIM_HEAL: sim_heal(sim, event); break;
    case SIM_GONE: sim_gone(sim, event); break;
    }
}

static sl_status sim_allocate(struct sim *sim, struct sl_err *err)
{
    const struct sim_config *config = sim->config;
    sim->machines = sl_calloc(config->n_nodes, sizeof *sim->machines);
    sim->gateways = sl_calloc(config->n_gateways, sizeof *sim->gateways);
    sim->outcomes = sl_calloc(sim->trace->n, sizeof *sim->outcomes);
    sim->models = sl_calloc(config->n_models, sizeof *sim->models);
    if (!sim->machines || !sim->gateways || !sim->outcomes || !sim->models)
        return sl_err_set(err, SL_NOMEM, "no memory for %u nodes", config->n_nodes);
    sim->n_gateways = config->n_gateways;
    sl_status status = sim_place_init(sim, err);
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
        sim->outcomes[i] = (struct sim_outcome){.first_ns = -1, .end_ns = -1, .node = SIM_NONE};
        n_tokens += sim->trace->requests[i].output_tokens;
    }
    sim->output_expected =
        config->output_expected ? config->output_expected : n_tokens / sim->trace->n + 1;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        /* The first report is there at once, the others come at each node's own phase. */
        sim_queue_push(&sim->queue, (struct sim_event){.kind = SIM_HELLO, .node = i});
        double phase = sl_rng_uniform(config->seed, STREAM_PHASE, i) * config->telemetry_s;
        sim_machine_report_at(sim, i, sim_ns(phase));
    }
    sim_failures_begin(sim);
    if (sim->placement) sim_queue_push(&sim->queue, (struct sim_event){.kind = SIM_PLACE});
    sim_queue_push(&sim->queue, (struct sim_event){.kind = SIM_SAMPLE});
    sim_queue_push(&sim->queue, (struct sim_event){.at_ns = sim->trace->requests[0].arrival_ns,
                                                   .kind = SIM_ARRIVAL});
}

static sl_status sim_loop(struct sim *sim, struct sl_err *err)
{
    struct sim_event event;
    while (sim->n_ended < sim->trace->n && sim_queue_pop(&sim->queue, &event)) {
        if (event.at_ns > SIM_END_NS) {
            sim_snapshot_release(event.snapshot);
            return sl_err_set(err, SL_LIMIT, "after 73 years it was not over");
        }
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
    sl_free(sim->models);
    sl_free(sim->waiting);
    sl_free(sim->holders);
    placement_destroy(sim->placement);
    sim_queue_done(&sim->queue);
}

sl_status sim_run(const struct sim_config *config, const struct sim_trace *trace,
                  struct sim_result *out, struct sl_err *err)
{
    struct sim sim = {.config = config, .trace = trace};
    *out = (struct sim_result){0};
    sl_status status = sim_check(config, trace, err);
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
