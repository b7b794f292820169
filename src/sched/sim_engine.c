/* sim_engine.c: a simulated machine's batch. Every step gives each decoding stream a token and
 * computes up to prefill_chunk tokens of the oldest unfinished prompt, or of several. Equal steps
 * are taken together, so that an hour of a machine costs events for what changes, not for every
 * token. */
#include "sched/sim_int.h"

#define MEASURE_SHARE 0.2 /* of a new measurement in the mean */
#define PREFILL_TOKENS_MIN 8
#define DECODE_TOKENS_MIN 4
#define DECODE_WINDOW_S 1.0

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
    *mean = *mean > 0 ? *mean + (value - *mean) * MEASURE_SHARE : value;
}

/* Tokens whose keys and values a running job has, or will have when its prompt is computed. */
static uint64_t kv_of(const struct sim *sim, const struct sim_job *job)
{
    return (uint64_t)request_of(sim, job)->prompt_tokens + job->n_done;
}

static bool runs(const struct sim_job *job)
{
    return job->state == JOB_PREFILL || job->state == JOB_DECODE;
}

/* --- the batch --- */

static double line_through(double x, struct sim_step a, struct sim_step b)
{
    double share = b.n_streams > a.n_streams ? (x - a.n_streams) / (b.n_streams - a.n_streams) : 0;
    return a.seconds + share * (b.seconds - a.seconds);
}

/* Beyond the last measured point its line goes on. */
static double measured_step_s(const struct sim_node *spec, uint32_t n_streams)
{
    const struct sim_step *steps = spec->steps;
    uint32_t i = 1;
    if (spec->n_steps == 1) return steps[0].seconds;
    while (i + 1 < spec->n_steps && steps[i].n_streams < n_streams) i++;
    return line_through(n_streams, steps[i - 1], steps[i]);
}

static double decode_step_s(const struct sim_node *spec, uint32_t n_streams)
{
    if (n_streams == 0) return spec->prefill_fixed_s;
    if (spec->n_steps) return measured_step_s(spec, n_streams);
    struct sim_step first = {1, 1 / spec->decode_tps};
    struct sim_step full = {spec->n_slots, spec->n_slots / spec->decode_full_tps};
    return line_through(n_streams, first, full);
}

static void apply(struct sim_machine *machine, int64_t n_steps)
{
    struct sim_span *span = &machine->span;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state == JOB_PREFILL) job->prefill_left -= (uint32_t)n_steps * job->n_planned;
        if (job->state != JOB_DECODE) continue;
        job->n_done += (uint32_t)n_steps;
        machine->result.decode_tokens += (uint64_t)n_steps;
    }
    machine->result.prefill_tokens += (uint64_t)n_steps * span->chunk;
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

/* The one dispatched first, of those dispatched after number `since`. */
static struct sim_job *oldest(struct sim_machine *machine, enum sim_job_state state, uint64_t since)
{
    struct sim_job *best = NULL;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state == state && job->order > since && (!best || job->order < best->order))
            best = job;
    }
    return best;
}

static void kv_count(const struct sim *sim, struct sim_machine *machine, uint32_t *out_n_running)
{
    machine->kv_used = 0;
    *out_n_running = 0;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        if (!runs(&machine->jobs[i])) continue;
        machine->kv_used += kv_of(sim, &machine->jobs[i]);
        ++*out_n_running;
    }
}

static void admit(struct sim *sim, struct sim_machine *machine, struct sim_job *job)
{
    size_t n_blocks = request_of(sim, job)->n_blocks;
    uint64_t cached = sim_cache_match(&machine->cache, blocks_of(sim, job), n_blocks) *
                      (uint64_t)sim->trace->block_tokens;
    uint64_t all = kv_of(sim, job);
    if (cached >= all) cached = all - 1;
    machine->result.cached_tokens += cached;
    machine->kv_used += all;
    job->prefill_left = job->n_computed = (uint32_t)(all - cached);
    job->state = JOB_PREFILL;
}

/* Blocked jobs start in turn, where KV room is left for their prompts and everybody's next token.
 * When streams have outgrown it, the youngest gives its room back and is computed anew later. */
static void kv_share(struct sim *sim, struct sim_machine *machine)
{
    struct sim_job *job;
    uint32_t n_running;
    kv_count(sim, machine, &n_running);
    while (n_running > 1 && machine->kv_used + n_running > machine->spec->kv_tokens) {
        struct sim_job *youngest = NULL;
        for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
            job = &machine->jobs[i];
            if (runs(job) && (!youngest || job->order > youngest->order)) youngest = job;
        }
        machine->kv_used -= kv_of(sim, youngest);
        youngest->state = JOB_BLOCKED;
        n_running--;
    }
    while ((job = oldest(machine, JOB_BLOCKED, 0))) {
        uint64_t room = machine->kv_used + kv_of(sim, job) + n_running + 1;
        if (n_running > 0 && room > machine->spec->kv_tokens) return;
        admit(sim, machine, job);
        n_running++;
    }
}

/* What decodes: how many streams, their context, and in how many steps the first of them ends. */
struct decoding {
    uint32_t n_streams, n_steps;
    uint64_t n_context;
};

static struct decoding decoding_of(const struct sim *sim, const struct sim_machine *machine)
{
    struct decoding all = {.n_steps = UINT32_MAX};
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        const struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_DECODE) continue;
        uint32_t left = request_of(sim, job)->output_tokens - job->n_done;
        if (left < all.n_steps) all.n_steps = left;
        all.n_context += request_of(sim, job)->prompt_tokens + job->n_done;
        all.n_streams++;
    }
    return all;
}

/* Prompts in turn, until the step is full or, with one complete, has enough. Returns for how many
 * steps this can be repeated. */
static uint32_t plan_prompts(struct sim_machine *machine, uint32_t n_streams)
{
    const struct sim_node *spec = machine->spec;
    struct sim_span *span = &machine->span;
    uint32_t room = spec->prefill_chunk, n_steps = UINT32_MAX;
    /* A measured engine's budget is one for streams and prompts together. */
    if (spec->prefill_group) room = room > n_streams ? room - n_streams : 1;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) machine->jobs[i].n_planned = 0;
    span->chunk = 0;
    for (struct sim_job *job = oldest(machine, JOB_PREFILL, 0); job && room > 0;
         job = oldest(machine, JOB_PREFILL, job->order)) {
        job->n_planned = job->prefill_left < room ? job->prefill_left : room;
        if (job->n_planned == 0) continue; /* nothing of it is left to compute */
        room -= job->n_planned;
        span->chunk += job->n_planned;
        uint32_t n = job->prefill_left / job->n_planned;
        if (n < n_steps) n_steps = n;
        if (span->chunk >= spec->prefill_group) break;
    }
    return n_steps;
}

/* Context grows while the steps are taken: so many may be alike. */
#define CONTEXT_STEPS_MAX 32

static double context_s(const struct sim_node *spec, const struct decoding *all, uint32_t n_steps)
{
    double mean = (double)all->n_context + 0.5 * all->n_streams * n_steps;
    return spec->context_s * mean;
}

static void plan(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    const struct sim_node *spec = machine->spec;
    struct sim_span *span = &machine->span;
    span->active = false;
    kv_share(sim, machine);
    struct decoding all = decoding_of(sim, machine);
    uint32_t n_steps = plan_prompts(machine, all.n_streams);
    machine->rested_ns = sim->now_ns;
    if (span->chunk == 0 && all.n_streams == 0) return;
    if (all.n_steps < n_steps) n_steps = all.n_steps;
    if (all.n_streams > 0 && (spec->kv_tokens - machine->kv_used) / all.n_streams < n_steps)
        n_steps = (uint32_t)((spec->kv_tokens - machine->kv_used) / all.n_streams);
    if (n_steps == 0) n_steps = 1; /* of the only one, which fits by itself */
    if (spec->context_s > 0 && n_steps > CONTEXT_STEPS_MAX) n_steps = CONTEXT_STEPS_MAX;
    double step_s = decode_step_s(spec, all.n_streams) + span->chunk / spec->prefill_tps +
                    context_s(spec, &all, n_steps);
    step_s /= machine->speed;
    span->step_ns = sim_ns(step_s) + 1;
    /* While anything decodes, its speed is looked at now and then. */
    span->n_steps = (all.n_streams ? sim_ns(DECODE_WINDOW_S) : SIM_SPAN_NS) / span->step_ns;
    if (span->n_steps > n_steps) span->n_steps = n_steps;
    if (span->n_steps == 0) span->n_steps = 1;
    span->start_ns = sim->now_ns;
    span->active = true;
    schedule(sim, number);
}

/* --- measured speeds, as agents measure them: see src/grid/agent_measure.c --- */

static double since_s(const struct sim *sim, int64_t at_ns)
{
    return (double)(sim->now_ns - at_ns) / SIM_NS_PER_S;
}

void sim_engine_await(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    if (job->resumed) return;
    job->awaited = true;
    if (machine->n_awaited++ == 0) machine->awaited_ns = sim->now_ns;
}

void sim_engine_forget(struct sim *sim, uint32_t number, struct sim_job *job)
{
    if (job->awaited) sim->machines[number].n_awaited--;
    job->awaited = false;
}

static void take_prefill(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    if (!job->awaited) return;
    if (job->n_computed >= PREFILL_TOKENS_MIN)
        speed_take(&machine->prefill, job->n_computed, since_s(sim, machine->awaited_ns));
    machine->awaited_ns = sim->now_ns;
    sim_engine_forget(sim, number, job);
}

static void take_decode(struct sim *sim, uint32_t number, struct sim_job *job)
{
    uint32_t n = job->n_done - job->n_measured;
    if (n < DECODE_TOKENS_MIN || sim->now_ns == job->decode_ns) return;
    speed_take(&sim->machines[number].decode, n, since_s(sim, job->decode_ns));
    job->n_measured = job->n_done;
    job->decode_ns = sim->now_ns;
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

void sim_engine_rest(struct sim *sim, uint32_t number)
{
    struct sim_machine *machine = &sim->machines[number];
    if (machine->span.active) return;
    double seconds = since_s(sim, machine->rested_ns);
    speed_rest(&machine->prefill, seconds);
    speed_rest(&machine->decode, seconds);
    machine->rested_ns = sim->now_ns;
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
    job->order = ++machine->n_orders;
    job->started_ns = sim->now_ns;
    sim_engine_interrupt(sim, number);
}

void sim_engine_drop(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    struct sim_span *span = &machine->span;
    sim_engine_catch_up(sim, number);
    if (span->active && job->state == JOB_PREFILL) span->chunk -= job->n_planned;
    job->state = JOB_QUEUED;
    sim_engine_interrupt(sim, number);
}

void sim_engine_reset(struct sim_machine *machine)
{
    machine->span.active = false;
    machine->span.epoch++;
    machine->kv_used = machine->n_awaited = 0;
}

static void prompt_done(struct sim *sim, uint32_t number, struct sim_job *job)
{
    struct sim_machine *machine = &sim->machines[number];
    sim_cache_use(&machine->cache, blocks_of(sim, job), request_of(sim, job)->n_blocks);
    job->state = JOB_DECODE;
    if (job->n_done < request_of(sim, job)->output_tokens) job->n_done++;
    take_prefill(sim, number, job);
    if (!job->decode_ns) { /* not when it was computed anew */
        job->n_measured = job->n_done;
        job->decode_ns = sim->now_ns;
    }
    if (job->n_done < request_of(sim, job)->output_tokens)
        sim_machine_tell(sim, number, job, ROUTER_TOKENS);
}

void sim_engine_step(struct sim *sim, const struct sim_event *event)
{
    struct sim_machine *machine = &sim->machines[event->node];
    struct sim_span *span = &machine->span;
    if (!span->active || event->value != span->epoch) return;
    apply(machine, span->n_steps);
    span->active = false;
    span->stepping = true;
    for (uint32_t i = 0; i < machine->n_jobs_max; i++)
        if (machine->jobs[i].state == JOB_PREFILL && machine->jobs[i].prefill_left == 0)
            prompt_done(sim, event->node, &machine->jobs[i]);
    for (uint32_t i = 0; i < machine->n_jobs_max; i++) {
        struct sim_job *job = &machine->jobs[i];
        if (job->state != JOB_DECODE) continue;
        bool is_done = job->n_done >= request_of(sim, job)->output_tokens;
        if (is_done || since_s(sim, job->decode_ns) >= DECODE_WINDOW_S)
            take_decode(sim, event->node, job);
        if (!is_done) continue;
        if (!job->resumed) measure(&machine->service_s, since_s(sim, job->started_ns));
        sim_machine_finished(sim, event->node, job);
    }
    span->stepping = false;
    plan(sim, event->node);
}
