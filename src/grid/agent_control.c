/* agent_control.c: what gateways want of the node as a whole. They repeat it until reports show it
 * done, so everything here may be told again and again. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/agent_int.h"
#include <stdio.h>
#include <string.h>

/* A member that had it may be back, and a full disk have room, after so long. */
#define FETCH_FAILED_NS INT64_C(30000000000)

/* Is the model here, with those contents, and enough of it? */
static bool is_here(struct agent *agent, const struct grid_control *control)
{
    struct node *node = agent->cfg.node;
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    if (node_model_find(node, control->model, &model, &err) != SL_OK) return false;
    if (*control->digest && *model.digest && strcmp(model.digest, control->digest) != 0)
        return false;
    return !model.part || node_has_part(node, control->model, control->split);
}

static struct agent_fetch *fetch_of(struct agent *agent, const char *name)
{
    for (size_t i = 0; i < AGENT_FETCHES_MAX; i++)
        if (agent->fetches[i].name && !strcmp(agent->fetches[i].name, name))
            return &agent->fetches[i];
    return NULL;
}

static void fetch_forget(struct agent_fetch *fetch)
{
    sl_free(fetch->name);
    sl_free(fetch->split);
    *fetch = (struct agent_fetch){0};
}

/* The place of one that is not under way; NULL: all are. */
static struct agent_fetch *fetch_place(struct agent *agent, const char *name)
{
    struct agent_fetch *same = fetch_of(agent, name), *failed = NULL;
    if (same) return same->failed ? same : NULL;
    for (size_t i = 0; i < AGENT_FETCHES_MAX; i++) {
        if (!agent->fetches[i].name) return &agent->fetches[i];
        if (agent->fetches[i].failed) failed = &agent->fetches[i];
    }
    return failed;
}

/* That a chain could not even begin is told for a while, as of one that could not be fetched. */
static void tell_failed(struct agent *agent, const char *name, const struct grid_split *split,
                        const struct sl_err *why)
{
    struct agent_fetch *place = fetch_place(agent, name);
    if (!place) return;
    fetch_forget(place);
    place->name = sl_strdup(name);
    place->split = grid_split_copy(split);
    place->failed = true;
    place->until_ns = sl_now_ns() + FETCH_FAILED_NS;
    snprintf(place->error, sizeof place->error, "%.255s", why->text);
    if (!place->name || !place->split) fetch_forget(place);
}

/* A wish for the whole model leaves a chain that is there as it is. */
static void load(struct agent *agent, const char *name, const struct grid_split *split,
                 const struct grid_sources *sources)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = split ? node_pin_split(agent->cfg.node, name, split, sources, &err)
                             : node_pin(agent->cfg.node, name, &err);
    if (status != SL_OK) sl_log(SL_LOG_WARN, "agent", "%s: not loaded: %s", name, err.text);
    struct agent_fetch *failed = fetch_of(agent, name);
    if (status == SL_OK && failed && failed->failed) fetch_forget(failed);
    if (status != SL_OK && split) tell_failed(agent, name, split, &err);
    agent_report_soon(agent);
}

static void fetch(struct agent *agent, const struct grid_control *control)
{
    struct agent_fetch *place = agent->cfg.fetch ? fetch_place(agent, control->model) : NULL;
    if (!place) return;
    fetch_forget(place);
    place->name = sl_strdup(control->model);
    snprintf(place->digest, sizeof place->digest, "%s", control->digest);
    grid_sources_set(&place->sources, control->sources, control->n_sources);
    if (control->split) place->split = grid_split_copy(control->split);
    if (!place->name || (control->split && !place->split)) {
        fetch_forget(place); /* it is told again */
        return;
    }
    agent->cfg.fetch(agent->cfg.ctx, control);
    agent_report_soon(agent);
}

size_t agent_fetches_report(struct agent *agent, struct grid_hosted *hosted, size_t n)
{
    int64_t now_ns = sl_now_ns();
    for (size_t i = 0; i < AGENT_FETCHES_MAX && n < NODE_HOSTED_LIMIT; i++) {
        struct agent_fetch *fetch = &agent->fetches[i];
        if (fetch->failed && now_ns >= fetch->until_ns) fetch_forget(fetch);
        if (!fetch->name) continue;
        hosted[n++] =
            (struct grid_hosted){.name = fetch->name,
                                 .digest = fetch->digest,
                                 .load = {.state = fetch->failed ? SCHED_FAILED : SCHED_STARTING},
                                 .last_error = fetch->error,
                                 .split = fetch->split};
    }
    return n;
}

void agent_fetched(struct agent *agent, const char *name, const struct sl_err *why)
{
    struct agent_fetch *done = fetch_of(agent, name);
    if (!done) return;
    if (why) {
        sl_log(SL_LOG_WARN, "agent", "%s: not fetched: %s", name, why->text);
        done->failed = true;
        done->until_ns = sl_now_ns() + FETCH_FAILED_NS;
        snprintf(done->error, sizeof done->error, "%.255s", why->text);
        agent_report_soon(agent);
        return;
    }
    struct grid_split *split = done->split;
    const struct grid_sources sources = done->sources;
    done->split = NULL;
    fetch_forget(done);
    if (!node_has_part(agent->cfg.node, name, split)) { /* the store has all of it now */
        node_model_changed(agent->cfg.node, name);
        agent_store_changed(agent);
    }
    load(agent, name, split, &sources);
    sl_free(split);
}

static void take(struct agent *agent, const struct grid_control *control)
{
    struct grid_sources sources;
    if (!is_here(agent, control)) {
        fetch(agent, control);
        return;
    }
    grid_sources_set(&sources, control->sources, control->n_sources);
    load(agent, control->model, control->split, &sources);
}

static void unload(struct agent *agent, const char *name)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = node_stop(agent->cfg.node, name, &err);
    if (status == SL_OK) agent_report_soon(agent);
}

void agent_on_control(struct agent *agent, const struct grid_control *control)
{
    struct sl_err err = SL_ERR_INIT;
    switch (control->kind) {
    case GRID_CONTROL_LOAD: take(agent, control); return;
    case GRID_CONTROL_UNLOAD: unload(agent, control->model); return;
    case GRID_CONTROL_DUTY: agent_set_duty(agent, control->duty); break;
    case GRID_CONTROL_LABELS:
        if (agent_set_labels(agent, control->labels, control->n_labels, &err) != SL_OK) return;
        break;
    case GRID_CONTROL_KIND_COUNT: return;
    }
    if (agent->cfg.on_control) agent->cfg.on_control(agent->cfg.ctx, control);
}

static bool is_idle(const struct agent *agent)
{
    struct node_stats stats;
    node_stats_get(agent->cfg.node, &stats);
    uint64_t n = agent->stats.n_attempts + stats.n_running;
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) n += stats.n_waiting[i];
    return n == 0;
}

void agent_check_drained(struct agent *agent)
{
    if (agent->cfg.facts.duty != NODE_DRAINING || agent->drained || !is_idle(agent)) return;
    agent->drained = true;
    agent_report(agent); /* now: on_drained may end the process */
    if (agent->cfg.on_drained) agent->cfg.on_drained(agent->cfg.ctx);
}
