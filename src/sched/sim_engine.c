/* sim_engine.c: a simulated machine's batch. Every step gives each decoding stream a token and
 * computes up to prefill_chunk tokens of the oldest unfinished prompt. Equal steps are taken
 * together, so that an hour of a machine costs events for what changes, not for every token. */
#include "sched/sim_int.h"

#define MEASURE_SHARE 0.2 /* of a new measurement in the mean */

static const struct sim_request *request_of(const struct sim *sim, const struct sim_job *job)
{
    return &sim->trace->requests[job->request];
}

static const uint64_t *blocks_of(const struct sim *sim, const struct sim_job *job)
{
    return sim->trace->blocks ? sim->trace->blocks + request_of(sim, job)->block_at : NULL;
}

static void measure(double *mean, double value)
{
    *mean += (value - *mean) * MEASURE_SHARE;
}

static uint64_t kv_need(const struct sim *sim, const struct sim_job *job)
{
    const struct sim_request *request = request_of(sim, job);
    return (uint64_t)request->prompt_tokens + request->output_tokens;
}

/* --- the batch --- */

static double decode_step_s(const struct sim_node *spec, uint32_t n_streams)
{
    if (n_streams == 0) return 0;
    double first = 1 / spec->decode_tps, full = spec->n_slots / spec->decode_full_tps;
    double each = spec->n_slots > 1 ? (full - first) / (spec->n_slots - 1) : 0;
    return first + each * (n_streams - 1);
}

static void apply(struct sim_machine *machine, int64_t n_steps)
{
    struct sim_span *span = &machine->span;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_DECODE) continue;
        job->n_done += (uint32_t)n_steps;
        machine->result.decode_tokens += (uint64_t)n_steps;
    }
    if (span->chunk) {
        machine->jobs[span->prefill].prefill_left -= (uint32_t)n_steps * span->chunk;
        machine->result.prefill_tokens += (uint64_t)n_steps * span->chunk;
    }
    machine->result.busy_s += (double)(n_steps * span->step_ns) / SIM_NS_PER_S;
    span->start_ns += n_steps * span->step_ns;
    span->n_steps -= n_steps;
}

static void schedule(struct sim *sim, uint32_t number)
{
    struct sim_span *span = &sim->machines[number].span;
    sim_queue_push(&sim->queue,
                   (struct sim_event){.at_ns = span->start_ns + span->n_steps * span->step_ns,
                                      .kind = SIM_STEP,
                                      .node = number,
                                      .value = ++span->epoch});
}

static struct sim_job *oldest(struct sim_machine *machine, enum sim_job_state state)
{
    struct sim_job *best = NULL;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state == state && (!best || job->order < best->order)) best = job;
    }
    return best;
}

static void admit_blocked(struct sim *sim, struct sim_machine *machine)
{
    struct sim_job *job;
    while ((job = oldest(machine, JOB_BLOCKED))) {
        uint64_t need = kv_need(sim, job);
        if (machine->kv_used + need > machine->spec->kv_tokens) return;
        machine->kv_used += need;
        size_t n_blocks = request_of(sim, job)->n_blocks;
        uint64_t cached = sim_cache_match(&machine->cache, blocks_of(sim, job), n_blocks) *
                          (uint64_t)sim->trace->block_tokens;
        uint64_t all = (uint64_t)request_of(sim, job)->prompt_tokens + job->n_done;
        if (cached >= all) cached = all - 1;
        machine->result.cached_tokens += cached;
        job->prefill_left = (uint32_t)(all - cached);
        job->state = JOB_PREFILL;
    }
}

static uint32_t shortest_decode(const struct sim *sim, const struct sim_machine *machine,
                                uint32_t *out_n)
{
    uint32_t least = UINT32_MAX;
    *out_n = 0;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        const struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_DECODE) continue;
        (*out_n)++;
        uint32_t left = request_of(sim, job)->output_tokens - job->n_done;
        if (left < least) least = left;
    }
    return least;
}

static void plan(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_span *span = &machine->span;
    uint32_t n_streams, n_steps;
    span->active = false;
    admit_blocked(sim, machine);
    n_steps = shortest_decode(sim, machine, &n_streams);
    struct sim_job *prompt = oldest(machine, JOB_PREFILL);
    if (!prompt && n_streams == 0) return;
    span->chunk = 0;
    if (prompt) {
        uint32_t left = prompt->prefill_left, chunk = machine->spec->prefill_chunk;
        span->chunk = left < chunk ? left : chunk;
        span->prefill = (uint32_t)(prompt - machine->jobs);
        if (left / span->chunk < n_steps) n_steps = left / span->chunk;
    }
    double step_s =
        decode_step_s(machine->spec, n_streams) + span->chunk / machine->spec->prefill_tps;
    step_s /= machine->speed;
    span->step_ns = (int64_t)(step_s * SIM_NS_PER_S) + 1;
    span->n_steps = n_steps;
    span->start_ns = sim->now_ns;
    span->active = true;
    if (span->chunk) measure(&machine->prefill_tps, span->chunk / step_s);
    if (n_streams && !span->chunk) measure(&machine->decode_tps, 1 / step_s);
    schedule(sim, number);
}

/* --- what others call --- */

void sim_engine_catch_up(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_span *span = &machine->span;
    if (!span->active) return;
    int64_t n_steps = (sim->now_ns - span->start_ns) / span->step_ns;
    /* The last step is the event's: it has consequences. */
    if (n_steps >= span->n_steps) n_steps = span->n_steps - 1;
    if (n_steps > 0) apply(machine, n_steps);
}

void sim_engine_interrupt(struct sim *sim, uint32_t number)
{
    struct sim_span *span = &sim->machines[number].span;
    if (span->stepping) return;
    if (!span->active) {
        plan(sim, number);
        return;
    }
    sim_engine_catch_up(sim, number);
    if (span->n_steps == 1) return;
    span->n_steps = 1;
    schedule(sim, number);
}

void sim_engine_start(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    job->state = JOB_BLOCKED;
    job->order = machine->n_orders++;
    job->started_ns = sim->now_ns;
    sim_engine_interrupt(sim, number);
}

void sim_engine_drop(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_span *span = &machine->span;
    sim_engine_catch_up(sim, number);
    if (job->state == JOB_PREFILL || job->state == JOB_DECODE)
        machine->kv_used -= kv_need(sim, job);
    if (span->active && span->chunk && &machine->jobs[span->prefill] == job) span->chunk = 0;
    job->state = JOB_QUEUED;
    sim_engine_interrupt(sim, number);
}

void sim_engine_reset(struct sim_machine *machine)
{
    machine->span.active = false;
    machine->span.epoch++;
    machine->kv_used = 0;
}

static void prompt_done(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    sim_cache_use(&machine->cache, blocks_of(sim, job), request_of(sim, job)->n_blocks);
    job->state = JOB_DECODE;
    if (job->n_done < request_of(sim, job)->output_tokens) job->n_done++;
    if (job->n_done < request_of(sim, job)->output_tokens)
        sim_machine_tell(sim, number, job, ROUTER_TOKENS);
}

void sim_engine_step(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    struct sim_span *span = &machine->span;
    if (!span->active || event->value != span->epoch) return;
    uint32_t prefill = span->chunk ? span->prefill : UINT32_MAX;
    apply(machine, span->n_steps);
    span->active = false;
    span->stepping = true;
    if (prefill != UINT32_MAX && machine->jobs[prefill].prefill_left == 0)
        prompt_done(sim, event->node, &machine->jobs[prefill]);
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_DECODE || job->n_done < request_of(sim, job)->output_tokens) continue;
        measure(&machine->service_s, (double)(sim->now_ns - job->started_ns) / SIM_NS_PER_S);
        machine->kv_used -= kv_need(sim, job);
        sim_machine_finished(sim, event->node, job);
    }
    span->stepping = false;
    plan(sim, event->node);
}
