/* sim_node.c: a simulated machine: the production scheduler of one node, its queue and its
 * slots, and the messages to and from the gateways. */
#include "base/mem.h"
#include "sched/sim_int.h"

#include <string.h>

#define MODEL_BYTES 1 /* without placement memory is not simulated: all the node's models fit */
#define NEWS_BYTES 200

/* --- life --- */

static void machine_step(struct sim *sim, uint32_t number, const struct sched_event *event);

static bool is_among(const uint32_t *models, uint32_t n, uint32_t model)
{
    for (uint32_t i = 0; i < n; i++)
        if (models[i] == model) return true;
    return false;
}

static uint64_t model_bytes(const struct sim *sim, uint32_t model)
{
    uint64_t n_bytes = sim->placement ? sim->config->models[model].bytes : 0;
    return n_bytes ? n_bytes : MODEL_BYTES;
}

uint64_t sim_machine_memory(const struct sim *sim, const struct sim_node *spec)
{
    uint64_t n_bytes = 0;
    if (!sim->placement) return MODEL_BYTES * (uint64_t)spec->n_models;
    if (spec->memory_bytes) return spec->memory_bytes;
    for (uint32_t i = 0; i < sim->config->n_models; i++) n_bytes += model_bytes(sim, i);
    return n_bytes;
}

static sl_status sched_begin(struct sim *sim, struct sim_machine *machine, struct sl_err *err)
{
    struct sched_config config;
    sched_config_default(&config);
    config.seed = sim->config->seed;
    config.n_models_max = machine->n_places;
    config.n_waiting_max = machine->spec->n_queue;
    config.n_running_max = machine->spec->n_slots * machine->n_places;
    config.budget_bytes = sim_machine_memory(sim, machine->spec);
    config.start_timeout_ns = config.load_timeout_ns = 0; /* fetching 40 GB takes its time */
    config.queue_timeout_ns = SCHED_NEVER / 2;            /* the gateway's deadline counts */
    return sched_create(&config, &machine->sched, err);
}

/* After the start placement says what is loaded. */
static void models_begin(struct sim *sim, uint32_t number)
{
    const struct sim_machine *machine = &sim->machines[number];
    for (uint32_t i = 0; i < machine->n_places; i++) {
        uint32_t model = machine->places[i].model;
        bool pinned =
            !sim->placement ||
            (sim->now_ns == 0 && is_among(machine->spec->models, machine->spec->n_models, model));
        machine_step(
            sim, number,
            &(struct sched_event){.kind = SCHED_MODEL_ADD,
                                  .model = i,
                                  .model_add = {.estimate_bytes = model_bytes(sim, model),
                                                .n_slots = machine->spec->n_slots,
                                                .pinned = pinned,
                                                .keep_alive_ns = SCHED_KEEP_ALIVE_FOREVER}});
    }
}

static sl_status places_init(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    const struct sim_node *spec = machine->spec;
    machine->n_places = sim->placement ? sim->config->n_models : spec->n_models;
    machine->places = sl_calloc(machine->n_places, sizeof *machine->places);
    if (!machine->places) return SL_NOMEM;
    for (uint32_t i = 0; i < machine->n_places; i++) {
        uint32_t model = sim->placement ? i : spec->models[i];
        machine->places[i] =
            (struct sim_place){.model = model,
                               .stored = is_among(spec->models, spec->n_models, model) ||
                                         is_among(spec->stored, spec->n_stored, model)};
        if (machine->places[i].stored) sim_place_stored(sim, number, model);
    }
    return SL_OK;
}

sl_status sim_machine_init(struct sim *sim, uint32_t number, struct sl_err *err)
{
    struct sim_machine *machine = &sim->machines[number];
    const struct sim_node *spec = &sim->config->nodes[number];
    uint32_t block_tokens = sim->trace->block_tokens ? sim->trace->block_tokens : 1;
    uint64_t n_blocks = sim->trace->n_blocks ? spec->cache_tokens / block_tokens : 0;
    *machine = (struct sim_machine){
        .spec = spec, .alive = true, .speed = 1, .boot = 1, .wake_ns = SCHED_NEVER};
    speed_assume(&machine->prefill, spec->prefill_tps);
    speed_assume(&machine->decode, spec->decode_tps);
    machine->n_jobs_max = spec->n_slots * SIM_NODE_MODELS_MAX + spec->n_queue;
    if (!sim->placement) machine->n_jobs_max = spec->n_slots * spec->n_models + spec->n_queue;
    machine->jobs = sl_calloc(machine->n_jobs_max, sizeof *machine->jobs);
    machine->seen = sl_calloc(sim->n_gateways, sizeof *machine->seen);
    machine->arrives_ns = sl_calloc((size_t)sim->n_gateways * 2, sizeof *machine->arrives_ns);
    if (!machine->jobs || !machine->seen || !machine->arrives_ns ||
        places_init(sim, number) != SL_OK ||
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
    sl_free(machine->places);
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
    if (sim_way(sim, number, job->gateway, false, NEWS_BYTES, &news.at_ns))
        sim_queue_push(&sim->queue, news);
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

static void job_free(struct sim *sim, uint32_t number, struct sim_job *job)
{
    sim_engine_forget(sim, number, job);
    *job = (struct sim_job){.state = JOB_FREE};
    sim->machines[number].n_jobs--;
    sim_machine_changed(sim, number);
}

static void job_over(struct sim *sim, uint32_t number, uint64_t key, enum router_event_kind kind)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_job *job = job_find(machine, key);
    if (!job) return;
    machine->result.n_refused += kind == ROUTER_REFUSED;
    sim_machine_tell(sim, number, job, kind);
    job_free(sim, number, job);
}

/* --- the node's scheduler --- */

static void load_begin(struct sim *sim, uint32_t number, uint32_t at)
{
    struct sim_place *place = &sim->machines[number].places[at];
    /* A grid that is simulated was there before: only later starts take their time. */
    double load_s = sim->now_ns == 0 ? 0 : sim_place_load_s(sim, number, at);
    place->load_began_ns = sim->now_ns;
    sim_queue_push(&sim->queue, (struct sim_event){.at_ns = sim->now_ns + sim_ns(load_s),
                                                   .kind = SIM_LOADED,
                                                   .node = number,
                                                   .request = at,
                                                   .value = ++place->load});
}

/* Its memory is back at once; the scheduler hears of it when its step is over. */
static void load_end(struct sim *sim, uint32_t number, uint32_t at)
{
    struct sim_place *place = &sim->machines[number].places[at];
    place->ready = false;
    sim_queue_push(&sim->queue, (struct sim_event){.at_ns = sim->now_ns,
                                                   .kind = SIM_UNLOADED,
                                                   .node = number,
                                                   .request = at,
                                                   .value = ++place->load});
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
    case SCHED_UNLOAD:
    case SCHED_KILL: load_end(sim, number, action->model); break;
    case SCHED_WAKE_AT: wake_at(sim, number, action->at_ns); break;
    default: break; /* a running job ends at once when cancelled */
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
    struct sim_place *place = &machine->places[event->request];
    if (!machine->alive || place->load != event->value) return;
    struct sim_model_result *model = &sim->models[place->model];
    if (event->at_ns > 0) {
        model->n_loads++;
        model->loading_s += (double)(sim->now_ns - place->load_began_ns) / SIM_NS_PER_S;
    }
    place->ready = place->stored = true;
    sim_place_stored(sim, event->node, place->model);
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_WORKER_STARTED, .model = event->request});
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_LOADED, .model = event->request});
    if (event->at_ns > 0) sim_machine_changed(sim, event->node); /* else it was so before */
}

void sim_machine_unloaded(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    struct sim_place *place = &machine->places[event->request];
    if (!machine->alive || place->load != event->value) return;
    sim->models[place->model].n_unloads++;
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_WORKER_EXITED, .model = event->request});
    sim_machine_changed(sim, event->node);
}

void sim_machine_control(struct sim *sim, const struct sim_event *event)
{
    bool load = event->value == PLACEMENT_LOAD;
    if (!sim->machines[event->node].alive) return;
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = load ? SCHED_PIN : SCHED_STOP,
                                       .model = event->request,
                                       .pinned = load});
}

void sim_machine_wake(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    if (event->at_ns != machine->wake_ns) return;
    machine->wake_ns = SCHED_NEVER;
    if (machine->alive) machine_step(sim, event->node, &(struct sched_event){.kind = SCHED_TICK});
}

/* --- requests --- */

/* SIM_NONE: the machine does not have it, or placement has just taken it away. */
static uint32_t place_of(const struct sim *sim, const struct sim_machine *machine, uint32_t model)
{
    for (uint32_t i = 0; i < machine->n_places; i++)
        if (machine->places[i].model == model)
            return sim->placement && !machine->places[i].ready ? SIM_NONE : i;
    return SIM_NONE;
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
                            .resumed = event->n_tokens > 0,
                            .prefill_left = request->prompt_tokens + event->n_tokens};
    struct sim_job *job = job_new(machine);
    uint32_t place = place_of(sim, machine, request->model);
    bool fits =
        (uint64_t)request->prompt_tokens + request->output_tokens <= machine->spec->kv_tokens;
    if (!job || place == SIM_NONE || !fits) {
        machine->result.n_refused++;
        sim_machine_tell(sim, event->node, &order, ROUTER_REFUSED);
        return;
    }
    *job = order;
    job->place = place;
    machine->n_jobs++;
    sim_engine_await(sim, event->node, job);
    sim_machine_tell(sim, event->node, job, ROUTER_ACCEPTED);
    machine_step(sim, event->node,
                 &(struct sched_event){.kind = SCHED_ARRIVE,
                                       .request = key_of(event->request, event->attempt),
                                       .model = place,
                                       .arrive = {.qos_class = request->qos_class,
                                                  .deadline_ns = SCHED_NEVER,
                                                  .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT}});
    sim_machine_changed(sim, event->node);
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
    job_free(sim, event->node, job);
    machine_step(sim, event->node, &(struct sched_event){.kind = SCHED_CANCEL, .request = key});
    if (dispatched)
        machine_step(sim, event->node,
                     &(struct sched_event){.kind = SCHED_FINISHED, .request = key});
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
    for (uint32_t i = 0; i < machine->n_places; i++) {
        machine->places[i].ready = false;
        machine->places[i].load++;
    }
    machine->alive = false;
    sim_engine_reset(machine);
    sim_cache_clear(&machine->cache);
    sim_queue_push(&sim->queue,
                   (struct sim_event){.at_ns = sim->now_ns + sim_ns(sim->config->gone_s),
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
