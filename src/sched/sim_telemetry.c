/* sim_telemetry.c: what a simulated machine reports: the same to every gateway, unless it is lost.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sim_int.h"

#include <string.h>

#define STREAM_REPORTS 105
#define REPORT_BYTES 1000

struct sim_snapshot {
    uint32_t n_refs;
    struct node_report report;
    struct hosted_load hosted[SIM_NODE_MODELS_MAX];
    uint64_t blocks[]; /* held, then dropped */
};

static uint32_t hosted_fill(const struct sim_machine *machine, struct hosted_load *out)
{
    uint64_t backlog = 0;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++)
        if (machine->jobs[i].state != JOB_FREE) backlog += machine->jobs[i].prefill_left;
    uint32_t n = 0;
    for (uint32_t i = 0; i < machine->n_places && n < SIM_NODE_MODELS_MAX; i++) {
        struct sched_model_info info;
        (void)sched_get_model(machine->sched, i, &info);
        if (info.state == SCHED_UNLOADED) continue;
        out[n++] = (struct hosted_load){.model = machine->places[i].model,
                                        .state = info.state,
                                        .n_slots = info.n_slots,
                                        .n_queue_max = machine->spec->n_queue,
                                        .n_running = info.n_running,
                                        .n_waiting = info.n_waiting,
                                        .prefill_backlog = backlog,
                                        .kv_tokens_max = machine->spec->kv_tokens,
                                        .kv_tokens_used = machine->kv_used,
                                        .prefill_tps = speed_value(&machine->prefill),
                                        .decode_tps = speed_value(&machine->decode),
                                        .service_s = machine->service_s};
    }
    return n;
}

/* The round trip is each gateway's own affair. */
static void facts_fill(const struct sim *sim, const struct sim_node *spec, struct node_facts *out)
{
    *out = (struct node_facts){.site = spec->site,
                               .memory_bytes = sim_machine_memory(sim, spec),
                               .watts_idle = spec->watts_idle,
                               .watts_busy = spec->watts_busy,
                               .price_kwh = sim_energy_price_kwh(sim, spec),
                               .carbon_kwh = sim_energy_carbon_kwh(sim, spec),
                               .price_mtok = spec->price_mtok};
}

static struct sim_snapshot *snapshot_take(const struct sim *sim, uint32_t number)
{
    const struct sim_machine *machine = &sim->machines[number];
    const struct sim_cache *cache = &machine->cache;
    size_t n_blocks = cache->held.n + cache->dropped.n;
    struct sim_snapshot *snapshot = sl_calloc(1, sizeof *snapshot + n_blocks * sizeof(uint64_t));
    if (!snapshot) return NULL;
    snapshot->n_refs = 1;
    if (cache->held.n)
        memcpy(snapshot->blocks, cache->held.hashes, cache->held.n * sizeof(uint64_t));
    if (cache->dropped.n)
        memcpy(snapshot->blocks + cache->held.n, cache->dropped.hashes,
               cache->dropped.n * sizeof(uint64_t));
    uint32_t n_hosted = hosted_fill(machine, snapshot->hosted);
    snapshot->report = (struct node_report){.node = number,
                                            .boot = machine->boot,
                                            .version = machine->version,
                                            .hosted = snapshot->hosted,
                                            .n_hosted = n_hosted,
                                            .held = snapshot->blocks,
                                            .n_held = cache->held.n,
                                            .dropped = snapshot->blocks + cache->held.n,
                                            .n_dropped = cache->dropped.n};
    facts_fill(sim, machine->spec, &snapshot->report.facts);
    return snapshot;
}

void sim_snapshot_release(struct sim_snapshot *snapshot)
{
    if (snapshot && --snapshot->n_refs == 0) sl_free(snapshot);
}

const struct node_report *sim_snapshot_report(const struct sim_snapshot *snapshot)
{
    return &snapshot->report;
}

/* What runs and what waits says that it still does. */
static void tell_progress(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        const struct sim_job *job = &machine->jobs[i];
        if (job->state == JOB_FREE) continue;
        sim_machine_tell(sim, number, job,
                         job->state == JOB_DECODE ? ROUTER_TOKENS : ROUTER_ACCEPTED);
    }
}

static bool is_lost(struct sim *sim)
{
    double share = sim->config->report_loss;
    return share > 0 && sl_rng_uniform(sim->config->seed, STREAM_REPORTS, sim->n_draws++) < share;
}

void sim_machine_hello(struct sim *sim, uint32_t number)
{
    sim->machines[number].version++;
    struct sim_snapshot *snapshot = snapshot_take(sim, number);
    if (!snapshot) {
        sim->status = SL_NOMEM;
        return;
    }
    for (uint32_t g = 0; g < sim->n_gateways; g++)
        sim_gateway_report(sim,
                           &(struct sim_event){.node = number, .gateway = g, .snapshot = snapshot});
    sim_snapshot_release(snapshot);
}

static void send_report(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    sim_engine_catch_up(sim, number);
    sim_engine_rest(sim, number);
    machine->version++;
    struct sim_snapshot *snapshot = snapshot_take(sim, number);
    if (!snapshot) {
        sim->status = SL_NOMEM;
        return;
    }
    uint32_t n_bytes = REPORT_BYTES + 8 * (machine->cache.held.n + machine->cache.dropped.n);
    for (uint32_t g = 0; g < sim->n_gateways; g++) {
        if (is_lost(sim)) continue;
        struct sim_event report = {.kind = SIM_REPORT,
                                   .node = number,
                                   .gateway = g,
                                   .value = machine->seen[g],
                                   .snapshot = snapshot};
        if (!sim_way(sim, number, g, false, n_bytes, &report.at_ns)) continue;
        report.at_ns += sim_ns(sim->config->report_delay_s);
        snapshot->n_refs++;
        sim_queue_push(&sim->queue, report);
    }
    sim_snapshot_release(snapshot);
    machine->cache.held.n = machine->cache.dropped.n = 0;
}

void sim_machine_report_at(struct sim *sim, uint32_t number, int64_t at_ns)
{
    sim->machines[number].report_at_ns = at_ns;
    sim_queue_push(&sim->queue,
                   (struct sim_event){.at_ns = at_ns, .kind = SIM_TELEMETRY, .node = number});
}

void sim_machine_changed(struct sim *sim, uint32_t number)
{
    const struct sim_machine *machine = &sim->machines[number];
    int64_t at_ns = machine->reported_ns + sim_ns(sim->config->report_gap_s);
    if (at_ns < sim->now_ns) at_ns = sim->now_ns;
    if (machine->alive && at_ns < machine->report_at_ns) sim_machine_report_at(sim, number, at_ns);
}

void sim_machine_telemetry(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    int64_t period_ns = sim_ns(sim->config->telemetry_s);
    if (event->at_ns != machine->report_at_ns) return;
    if (machine->alive) send_report(sim, event->node);
    if (machine->alive && sim->now_ns - machine->told_ns >= SIM_PROGRESS_TICKS * period_ns) {
        machine->told_ns = sim->now_ns;
        tell_progress(sim, event->node);
    }
    machine->reported_ns = sim->now_ns;
    sim_machine_report_at(sim, event->node, sim->now_ns + period_ns);
}
