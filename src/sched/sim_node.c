/* sim_node.c: a simulated machine: the production scheduler of one node, its queue and its
 * slots, with the messages to and from the gateways, and its reports. */
#include "base/mem.h"
#include "sched/sim_int.h"

#include <string.h>

#define MODEL_BYTES 1 /* memory is not what is simulated here: all the node's models fit */

struct sim_snapshot {
    uint32_t n_refs;
    struct node_report report;
    struct hosted_load hosted[SIM_NODE_MODELS_MAX];
    uint64_t blocks[]; /* held, then dropped */
};

/* --- life --- */

static void machine_step(struct sim *sim, uint32_t number, const struct sched_event *event);

static sl_status sched_begin(struct sim *sim, struct sim_machine *machine, struct sl_err *err)
{
    struct sched_config config;
    sched_config_default(&config);
    config.seed = sim->config->seed;
    config.n_models_max = machine->spec->n_models;
    config.n_waiting_max = machine->spec->n_queue;
    config.n_running_max = machine->spec->n_slots * machine->spec->n_models;
    config.budget_bytes = MODEL_BYTES * (uint64_t)machine->spec->n_models;
    config.queue_timeout_ns = SCHED_NEVER / 2; /* the gateway's deadline counts */
    return sched_create(&config, &machine->sched, err);
}

static void models_begin(struct sim *sim, uint32_t number)
{
    const struct sim_node *spec = sim->machines[number].spec;
    for (uint32_t i = 0; i < spec->n_models; i++)
        machine_step(
            sim, number,
            &(struct sched_event){.kind = SCHED_MODEL_ADD,
                                  .model = i,
                                  .model_add = {.estimate_bytes = MODEL_BYTES,
                                                .n_slots = spec->n_slots,
                                                .pinned = true,
                                                .keep_alive_ns = SCHED_KEEP_ALIVE_FOREVER}});
}

sl_status sim_machine_init(struct sim *sim, uint32_t number, struct sl_err *err)
{
    struct sim_machine *machine = &sim->machines[number];
    const struct sim_node *spec = &sim->config->nodes[number];
    uint32_t block_tokens = sim->trace->block_tokens ? sim->trace->block_tokens : 1;
    uint64_t n_blocks = sim->trace->n_blocks ? spec->cache_tokens / block_tokens : 0;
    machine->spec = spec;
    machine->alive = true;
    machine->speed = 1;
    machine->boot = 1;
    machine->wake_ns = SCHED_NEVER;
    machine->prefill_tps = spec->prefill_tps;
    machine->decode_tps = spec->decode_tps;
    machine->n_jobs_max = spec->n_slots * spec->n_models + spec->n_queue;
    machine->jobs = sl_calloc(machine->n_jobs_max, sizeof *machine->jobs);
    machine->seen = sl_calloc(sim->n_gateways, sizeof *machine->seen);
    machine->arrives_ns = sl_calloc((size_t)sim->n_gateways * 2, sizeof *machine->arrives_ns);
    if (!machine->jobs || !machine->seen || !machine->arrives_ns ||
        sim_cache_init(&machine->cache, (uint32_t)n_blocks) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for node %s", spec->name);
    sl_status status = sched_begin(sim, machine, err);
    if (status != SL_OK) return sl_err_prefix(err, "node %s", spec->name);
    models_begin(sim, number);
    return SL_OK;
}

void sim_machine_done(struct sim_machine *machine)
{
    sched_destroy(machine->sched);
    sim_cache_done(&machine->cache);
    sl_free(machine->jobs);
    sl_free(machine->seen);
    sl_free(machine->arrives_ns);
}

/* --- messages --- */

void sim_machine_tell(struct sim *sim, uint32_t number, const struct sim_job *job,
                      enum router_event_kind kind)
{
    struct sim_event news = {.kind = SIM_NEWS,
                             .node = number,
                             .gateway = job->gateway,
                             .request = job->request,
                             .attempt = job->attempt,
                             .n_tokens = job->n_done,
                             .value = kind};
    if (sim_way(sim, number, job->gateway, false, &news.at_ns)) sim_queue_push(&sim->queue, news);
}

static uint64_t key_of(uint32_t request, uint32_t attempt)
{
    return (uint64_t)request << 32 | attempt;
}

static struct sim_job *job_find(struct sim_machine *machine, uint64_t key)
{
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_FREE && key_of(job->request, job->attempt) == key) return job;
    }
    return NULL;
}

static void job_free(struct sim_machine *machine, struct sim_job *job)
{
    *job = (struct sim_job){.state = JOB_FREE};
    machine->n_jobs--;
}

static void job_over(struct sim *sim, uint32_t number, uint64_t key, enum router_event_kind kind)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_job *job = job_find(machine, key);
    if (!job) return;
    machine->result.n_refused += kind == ROUTER_REFUSED;
    sim_machine_tell(sim, number, job, kind);
    job_free(machine, job);
}

/* --- the node's scheduler --- */

static void load_begin(struct sim *sim, uint32_t number, uint32_t place)
{
    const struct sim_machine *machine = &sim->machines[number];
    /* A grid that is simulated was there before: only later starts take their time. */
    double load_s =
        machine->boot == 1 ? 0 : sim->config->models[machine->spec->models[place]].load_s;
    sim_queue_push(&sim->queue,
                   (struct sim_event){.at_ns = sim->now_ns + (int64_t)(load_s * SIM_NS_PER_S),
                                      .kind = SIM_LOADED,
                                      .node = number,
                                      .request = place,
                                      .value = machine->boot});
}

static void wake_at(struct sim *sim, uint32_t number, int64_t at_ns)
{
    struct sim_machine *machine = &sim->machines[number];
    if (at_ns == SCHED_NEVER || at_ns >= machine->wake_ns) return;
    machine->wake_ns = at_ns;
    sim_queue_push(&sim->queue,
                   (struct sim_event){.at_ns = at_ns, .kind = SIM_NODE_WAKE, .node = number});
}

static void carry_out(struct sim *sim, uint32_t number, const struct sched_action *action)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_job *job;
    switch (action->kind) {
    case SCHED_DISPATCH:
        job = job_find(machine, action->request);
        if (job) sim_engine_start(sim, number, job);
        break;
    case SCHED_REJECT: job_over(sim, number, action->request, ROUTER_REFUSED); break;
    case SCHED_EXPIRE:
    case SCHED_FAIL: job_over(sim, number, action->request, ROUTER_FAILED); break;
    case SCHED_SPAWN: load_begin(sim, number, action->model); break;
    case SCHED_WAKE_AT: wake_at(sim, number, action->at_ns); break;
    default: break; /* models stay: they are pinned; a running job ends at once when cancelled */
    }
}

static void machine_step(struct sim *sim, uint32_t number, const struct sched_event *event)
{
    const struct sched_action *actions;
    size_t n;
    sl_status status = sched_step(sim->machines[number].sched, event, sim->now_ns, &actions, &n);
    if (status != SL_OK && sim->status == SL_OK) sim->status = status;
    for (size_t i = 0; i < n; i++) carry_out(sim, number, &actions[i]);
}

void sim_machine_finished(struct sim *sim, uint32_t number, struct sim_job *job)
{
    uint64_t key = key_of(job->request, job->attempt);
    sim->machines[number].result.n_finished++;
    job_over(sim, number, key, ROUTER_FINISHED);
    machine_step(sim, number, &(struct sched_event){.kind = SCHED_FINISHED, .request = key});
}

void sim_machine_loaded(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    if (!machine->alive || machine->boot != event->value) return;
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_WORKER_STARTED, .model = event->request});
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_LOADED, .model = event->request});
}

void sim_machine_wake(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    if (event->at_ns != machine->wake_ns) return;
    machine->wake_ns = SCHED_NEVER;
    if (machine->alive) machine_step(sim, event->node, &(struct sched_event){.kind = SCHED_TICK});
}

/* --- requests --- */

static int place_of(const struct sim_node *spec, uint32_t model)
{
    for (uint32_t i = 0; i < spec->n_models; i++)
        if (spec->models[i] == model) return (int)i;
    return -1;
}

static struct sim_job *job_new(struct sim_machine *machine)
{
    for (uint32_t i = 0; i < machine->n_jobs_max; i++)
        if (machine->jobs[i].state == JOB_FREE) return &machine->jobs[i];
    return NULL;
}

void sim_machine_send(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    const struct sim_request *request = &sim->trace->requests[event->request];
    if (!machine->alive || machine->cut >> event->gateway & 1) return;
    if (event->value > machine->seen[event->gateway]) machine->seen[event->gateway] = event->value;
    struct sim_job order = {.state = JOB_QUEUED,
                            .request = event->request,
                            .gateway = event->gateway,
                            .attempt = event->attempt,
                            .n_done = event->n_tokens,
                            .prefill_left = request->prompt_tokens + event->n_tokens};
    struct sim_job *job = job_new(machine);
    int place = place_of(machine->spec, request->model);
    bool fits =
        (uint64_t)request->prompt_tokens + request->output_tokens <= machine->spec->kv_tokens;
    if (!job || place < 0 || !fits) {
        machine->result.n_refused++;
        sim_machine_tell(sim, event->node, &order, ROUTER_REFUSED);
        return;
    }
    *job = order;
    job->place = (uint32_t)place;
    machine->n_jobs++;
    sim_machine_tell(sim, event->node, job, ROUTER_ACCEPTED);
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_ARRIVE,
                                       .request = key_of(event->request, event->attempt),
                                       .model = (uint32_t)place,
                                       .arrive = {.qos_class = request->qos_class,
                                                  .deadline_ns = SCHED_NEVER,
                                                  .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT}});
}

void sim_machine_stop(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    if (!machine->alive || machine->cut >> event->gateway & 1) return;
    uint64_t key = key_of(event->request, event->attempt);
    struct sim_job *job = job_find(machine, key);
    if (!job) return;
    bool dispatched = job->state != JOB_QUEUED;
    if (dispatched) sim_engine_drop(sim, event->node, job);
    job_free(machine, job);
    machine_step(sim, event->node, &(struct sched_event){.kind = SCHED_CANCEL, .request = key});
    if (dispatched)
        machine_step(sim, event->node,
                     &(struct sched_event){.kind = SCHED_FINISHED, .request = key});
}

/* --- reports --- */

static void hosted_fill(const struct sim_machine *machine, struct hosted_load *out)
{
    uint64_t backlog = 0;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++)
        if (machine->jobs[i].state != JOB_FREE) backlog += machine->jobs[i].prefill_left;
    for (uint32_t i = 0; i < machine->spec->n_models; i++) {
        struct sched_model_info info;
        (void)sched_get_model(machine->sched, i, &info);
        out[i] = (struct hosted_load){.model = machine->spec->models[i],
                                      .state = info.state,
                                      .n_slots = info.n_slots,
                                      .n_queue_max = machine->spec->n_queue,
                                      .n_running = info.n_running,
                                      .n_waiting = info.n_waiting,
                                      .prefill_backlog = backlog,
                                      .kv_tokens_max = machine->spec->kv_tokens,
                                      .kv_tokens_used = machine->kv_used,
                                      .prefill_tps = machine->prefill_tps,
                                      .decode_tps = machine->decode_tps,
                                      .service_s = machine->service_s};
    }
}

static void facts_fill(const struct sim_node *spec, struct node_facts *out)
{
    *out = (struct node_facts){.site = spec->site,
                               .rtt_s = spec->rtt_s,
                               .watts_idle = spec->watts_idle,
                               .watts_busy = spec->watts_busy,
                               .price_kwh = spec->price_kwh,
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
    hosted_fill(machine, snapshot->hosted);
    snapshot->report = (struct node_report){.node = number,
                                            .boot = machine->boot,
                                            .version = machine->version,
                                            .hosted = snapshot->hosted,
                                            .n_hosted = machine->spec->n_models,
                                            .held = snapshot->blocks,
                                            .n_held = cache->held.n,
                                            .dropped = snapshot->blocks + cache->held.n,
                                            .n_dropped = cache->dropped.n};
    facts_fill(machine->spec, &snapshot->report.facts);
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

void sim_machine_telemetry(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    if (!machine->alive) return;
    sim_engine_catch_up(sim, number);
    machine->version++;
    struct sim_snapshot *snapshot = snapshot_take(sim, number);
    if (!snapshot) {
        sim->status = SL_NOMEM;
        return;
    }
    for (uint32_t g = 0; g < sim->n_gateways; g++) {
        struct sim_event report = {.kind = SIM_REPORT,
                                   .node = number,
                                   .gateway = g,
                                   .value = machine->seen[g],
                                   .snapshot = snapshot};
        if (!sim_way(sim, number, g, false, &report.at_ns)) continue;
        snapshot->n_refs++;
        sim_queue_push(&sim->queue, report);
    }
    sim_snapshot_release(snapshot);
    machine->cache.held.n = machine->cache.dropped.n = 0;
    if (++machine->n_ticks % SIM_PROGRESS_TICKS == 0) tell_progress(sim, number);
}

/* --- trouble --- */

void sim_machine_crash(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    if (!machine->alive) return;
    sim_engine_catch_up(sim, number);
    /* Tokens go out one by one: what was made until now is on its way already. */
    for (uint32_t i = 0; i < machine->n_jobs_max; i++)
        if (machine->jobs[i].state == JOB_DECODE)
            sim_machine_tell(sim, number, &machine->jobs[i], ROUTER_TOKENS);
    memset(machine->jobs, 0, machine->n_jobs_max * sizeof *machine->jobs);
    machine->n_jobs = 0;
    machine->alive = false;
    sim_engine_reset(machine);
    sim_cache_clear(&machine->cache);
    sim_queue_push(
        &sim->queue,
        (struct sim_event){.at_ns = sim->now_ns + (int64_t)(sim->config->gone_s * SIM_NS_PER_S),
                           .kind = SIM_GONE,
                           .node = number,
                           .value = machine->boot});
}

void sim_machine_recover(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sl_err err;
    if (machine->alive) return;
    machine->alive = true;
    machine->boot++;
    machine->version = 0;
    machine->wake_ns = SCHED_NEVER;
    memset(machine->seen, 0, sim->n_gateways * sizeof *machine->seen);
    sched_destroy(machine->sched);
    machine->sched = NULL;
    sl_status status = sched_begin(sim, machine, &err);
    if (status == SL_OK)
        models_begin(sim, number);
    else
        sim->status = status;
}
