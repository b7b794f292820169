/* agent_report.c: what this member is, holds and does, once a second and soon after a change. */
#include "base/clock.h"
#include "grid/agent_int.h"
#include "grid/telemetry.h"
#include <string.h>

#define REPEATED_MAX 256 /* blocks held for longer that are told again in one report */

struct reporting {
    struct agent *agent;
    struct grid_hosted *hosted;
    size_t n;
    uint64_t loads; /* of all models, and how many models there are */
};

static uint64_t backlog_of(const struct agent *agent, const struct agent_model *model)
{
    uint64_t n = 0;
    for (size_t i = 0; i < GRID_GATEWAYS_MAX; i++)
        for (const struct agent_attempt *a = agent->gateways[i] ? agent->gateways[i]->attempts
                                                                : NULL;
             a; a = a->next)
            if (a->model == model) n += agent_backlog(a);
    return n < NODE_TOKENS_LIMIT ? n : NODE_TOKENS_LIMIT;
}

static void fill_measures(struct agent *agent, const struct node_model *model,
                          struct grid_hosted *out)
{
    struct agent_model *measured = agent_model_of(agent, model->name);
    if (!measured) return;
    agent_measure_model(agent, measured, model);
    out->load.prefill_backlog = backlog_of(agent, measured);
    out->load.kv_tokens_max = measured->kv_tokens_max;
    out->load.prefill_tps = speed_value(&measured->prefill);
    out->load.decode_tps = speed_value(&measured->decode);
    out->load.service_s = measured->service_s;
    out->tokens_per_s = measured->tokens_per_s;
}

static void add_model(void *ctx, const struct node_model *model)
{
    struct reporting *r = ctx;
    r->loads += 1 + model->n_loads;
    if (model->sched_state == SCHED_UNLOADED && !model->n_waiting) return;
    if (r->n == NODE_HOSTED_LIMIT) return;
    struct grid_hosted *out = &r->hosted[r->n++];
    int64_t kv_used = (int64_t)model->stats.kv_blocks_used * model->stats.kv_block_tokens;
    *out = (struct grid_hosted){.name = model->name,
                                .digest = model->digest,
                                .load = {.state = model->sched_state,
                                         .n_slots = model->n_slots,
                                         .n_queue_max = model->n_slots,
                                         .n_running = (uint32_t)model->n_running,
                                         .n_waiting = (uint32_t)model->n_waiting,
                                         .kv_tokens_used = kv_used > 0 ? (uint64_t)kv_used : 0},
                                .bytes = model->bytes,
                                .load_fraction = model->load_fraction,
                                .pinned = model->pinned,
                                .last_error = model->last_error,
                                .split = model->split,
                                .hops = model->split ? model->hops : NULL};
    fill_measures(r->agent, model, out);
}

/* --- blocks --- */

static bool is_held(const struct agent *agent, uint64_t hash)
{
    for (size_t i = 0; i < AGENT_MODELS_MAX && agent->models[i]; i++)
        if (agent_blocks_has(&agent->models[i]->blocks, hash)) return true;
    return false;
}

/* A block that came and went since the last report is told as it is now. */
static size_t keep_if(struct agent *agent, uint64_t *v, size_t n, bool held)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++)
        if (is_held(agent, v[i]) == held) v[n_kept++] = v[i];
    return n_kept;
}

/* So that who missed a report, or has just come, knows them too after a while. */
static void repeat_held(struct agent *agent)
{
    size_t n = 0;
    for (size_t i = 0; i < AGENT_MODELS_MAX && agent->models[i]; i++) {
        struct agent_blocks *blocks = &agent->models[i]->blocks;
        for (uint32_t k = 0; k < blocks->n && n < REPEATED_MAX; k++, n++) {
            uint64_t hash;
            if (agent->n_held == GRID_CHANGES_MAX || !agent_blocks_next(blocks, &hash)) return;
            agent->held[agent->n_held++] = hash;
        }
    }
}

static void fill_blocks(struct agent *agent, struct grid_report *report)
{
    agent->n_held = keep_if(agent, agent->held, agent->n_held, true);
    agent->n_dropped = keep_if(agent, agent->dropped, agent->n_dropped, false);
    repeat_held(agent);
    report->held = agent->held;
    report->n_held = agent->n_held;
    report->dropped = agent->dropped;
    report->n_dropped = agent->n_dropped;
    agent->n_held = agent->n_dropped = 0; /* the report is encoded before anything is added */
}

/* --- the report --- */

static void fill_covers(struct agent *agent, struct grid_report *report)
{
    struct grid_covers *v = sl_arena_array(&agent->arena, GRID_GATEWAYS_MAX, sizeof *v);
    for (size_t i = 0; i < GRID_GATEWAYS_MAX && v; i++) {
        const struct agent_gateway *gateway = agent->gateways[i];
        if (gateway)
            v[report->n_covers++] = (struct grid_covers){gateway->id, gateway->boot, gateway->sent};
    }
    report->covers = v;
}

static void fill_peers(struct agent *agent, struct grid_report *report)
{
    struct grid_peer *v = sl_arena_array(&agent->arena, GRID_PEERS_MAX, sizeof *v);
    if (!v) return;
    report->peers = v;
    report->n_peers = agent_peers_list(agent, v, GRID_PEERS_MAX);
}

static void fill_stages(struct agent *agent, struct grid_report *report)
{
    struct grid_stage_hosted *v = sl_arena_array(&agent->arena, GRID_STAGES_HOSTED_MAX, sizeof *v);
    if (!v || !agent->cfg.stages) return;
    report->stages = v;
    size_t n = agent->cfg.stages(agent->cfg.ctx, v, GRID_STAGES_HOSTED_MAX);
    report->n_stages = n < GRID_STAGES_HOSTED_MAX ? n : GRID_STAGES_HOSTED_MAX;
}

/* What its label says, which may change. */
static const char *site_of(const struct agent_cfg *cfg)
{
    static const char key[] = "site=";
    for (size_t i = 0; i < cfg->n_labels; i++)
        if (strncmp(cfg->labels[i], key, sizeof key - 1) == 0)
            return cfg->labels[i] + sizeof key - 1;
    return cfg->site;
}

static void fill_self(const struct agent *agent, struct grid_report *report)
{
    struct node_stats stats;
    const struct agent_cfg *cfg = &agent->cfg;
    node_stats_get(cfg->node, &stats);
    report->boot = cfg->boot;
    report->version = agent->version;
    report->name = cfg->name;
    report->address = cfg->address;
    report->program = cfg->program;
    report->site = site_of(cfg);
    report->labels = cfg->labels;
    report->n_labels = cfg->n_labels;
    report->drained = agent->drained;
    report->facts = cfg->facts;
    if (!report->facts.memory_bytes) report->facts.memory_bytes = stats.memory_bytes;
    report->memory_used_bytes = stats.memory_used_bytes;
    report->telemetry = cfg->telemetry ? cfg->telemetry(cfg->ctx) : NULL;
    report->machine = cfg->machine ? cfg->machine(cfg->ctx) : NULL;
}

void agent_report(void *ctx)
{
    struct agent *agent = ctx;
    int64_t now = sl_now_ns();
    struct grid_msg msg = {.type = GRID_REPORT};
    struct reporting reporting = {.agent = agent};
    sl_arena_reset(&agent->arena);
    agent->version++;
    agent->reported_ns = now;
    agent_measure_rates(agent, now);
    fill_self(agent, &msg.report);
    fill_covers(agent, &msg.report);
    fill_peers(agent, &msg.report);
    fill_stages(agent, &msg.report);
    reporting.hosted = sl_arena_array(&agent->arena, NODE_HOSTED_LIMIT, sizeof *reporting.hosted);
    if (reporting.hosted) {
        node_models(agent->cfg.node, add_model, &reporting);
        reporting.n = agent_fetches_report(agent, reporting.hosted, reporting.n);
    }
    msg.report.hosted = reporting.hosted;
    msg.report.n_hosted = reporting.n;
    fill_blocks(agent, &msg.report);
    agent_send(agent, "report", NULL, &msg);
    agent_cards_check(agent, reporting.loads);
    loop_timer_set(agent->report_timer, agent->cfg.report_ns);
}

void agent_report_soon(void *ctx)
{
    struct agent *agent = ctx;
    int64_t since = sl_now_ns() - agent->reported_ns;
    int64_t gap = agent->cfg.report_gap_ns;
    loop_timer_set(agent->report_timer, since < gap ? gap - since : 0);
}

void agent_changed(struct agent *agent)
{
    agent_report_soon(agent);
}
