/* dispatch_place.c: which models are loaded where. Every gateway says what waits there; the live
 * one with the lowest id decides for all (sched/placement) and tells the nodes, again and again
 * until their reports show it. Two that both think they are it, in a partition, are no harm: each
 * sees the nodes that it can tell. */
#include "grid/dispatch_split.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

#define S INT64_C(1000000000)
#define DEMAND_TRUST_NS (5 * S)   /* a gateway that was silent for five DEMANDs is none */
#define CONTROL_AGAIN_NS (1 * S)  /* a report may be a second away */
#define CONTROL_UNTIL_NS (60 * S) /* placement's load_timeout_ns: then it decides anew */

/* --- what waits where --- */

bool dispatch_is_live_gateway(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    return node->used && node->demand_ns >= 0 &&
           router_nodes(dispatch->router)->nodes[node->number].health == NODE_ALIVE &&
           dispatch->router_ns - node->demand_ns < DEMAND_TRUST_NS;
}

static bool places(const struct dispatch *dispatch)
{
    if (dispatch->cfg.no_placement) return false;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        if (dispatch_is_live_gateway(dispatch, &dispatch->nodes[i]) &&
            strcmp(dispatch->nodes[i].id, dispatch->self) < 0)
            return false;
    return true;
}

static bool ready_somewhere(const struct dispatch *dispatch, uint32_t model)
{
    return router_nodes(dispatch->router)->n_by_model[model] > 0;
}

void dispatch_publish_demand(struct dispatch *dispatch)
{
    struct grid_demand_entry entries[DISPATCH_DEMANDS_MAX];
    struct grid_msg msg = {.type = GRID_DEMAND,
                           .demand = {.boot = dispatch->cfg.boot, .v = entries}};
    for (uint32_t i = 0; i < dispatch->n_models && msg.demand.n < DISPATCH_DEMANDS_MAX; i++) {
        const struct dispatch_model *model = &dispatch->models[i];
        uint32_t n_waiting = router_pending(dispatch->router, i);
        const struct dispatch_chain *chain = dispatch_chain_of(dispatch, i);
        bool splits = chain && chain->by_hand;
        if (model->used && (n_waiting || model->pinned || splits))
            entries[msg.demand.n++] = (struct grid_demand_entry){model->name, model->digest,
                                                                 n_waiting, model->pinned, splits};
    }
    dispatch->tell_demand = false;
    dispatch_send(dispatch, "report", NULL, &msg);
}

void dispatch_on_demand(struct dispatch *dispatch, struct dispatch_node *node,
                        const struct grid_demand *demand)
{
    if (node->self) return;
    dispatch_heard(dispatch, node);
    node->demand_ns = dispatch->router_ns;
    node->n_demands = 0;
    if (demand->n && !node->demands)
        node->demands = sl_calloc(DISPATCH_DEMANDS_MAX, sizeof *node->demands);
    for (size_t i = 0; node->demands && i < demand->n && i < DISPATCH_DEMANDS_MAX; i++) {
        const struct grid_demand_entry *entry = &demand->v[i];
        const struct dispatch_model *model =
            dispatch_model_demanded(dispatch, entry->name, entry->digest);
        if (!model) continue;
        node->demands[node->n_demands++] =
            (struct dispatch_demand){model->number, entry->n_waiting, entry->pinned, entry->splits};
        if (entry->n_waiting && !ready_somewhere(dispatch, model->number))
            dispatch->place_now = true;
    }
}

void dispatch_place_model(struct dispatch *dispatch, const struct dispatch_model *model)
{
    if (ready_somewhere(dispatch, model->number)) return;
    dispatch->place_now = dispatch->tell_demand = true;
}

/* --- telling the nodes --- */

const struct grid_hosted *dispatch_hosted_of(const struct dispatch *dispatch, uint32_t node,
                                             uint32_t model)
{
    const struct dispatch_node *entry = &dispatch->nodes[node];
    for (size_t i = 0; entry->has_report && i < entry->report.n_hosted; i++)
        if (entry->hosted_models[i] == model) return &entry->report.hosted[i];
    return NULL;
}

/* Members that are alive and have the files, in a row that begins elsewhere for each node: not all
 * are sent to the same ones. */
static size_t sources_of(const struct dispatch *dispatch, const struct dispatch_control *control,
                         struct grid_source out[GRID_SOURCES_MAX])
{
    const struct dispatch_model *model = &dispatch->models[control->model];
    size_t n = 0;
    for (uint32_t i = 1; i < dispatch->n_nodes && n < GRID_SOURCES_MAX; i++) {
        uint32_t at = (control->node + i) % dispatch->n_nodes;
        const struct dispatch_node *node = &dispatch->nodes[at];
        if (!dispatch_model_is_at(model, at) || !node->used || !node->has_report ||
            !*node->report.address || dispatch_node_health(dispatch, node) != NODE_ALIVE)
            continue;
        out[n++] = (struct grid_source){node->id, node->report.address};
    }
    return n;
}

static void control_say(struct dispatch *dispatch, struct dispatch_control *control)
{
    const struct dispatch_model *model = &dispatch->models[control->model];
    struct grid_source sources[GRID_SOURCES_MAX];
    struct grid_msg msg = {
        .type = GRID_CONTROL,
        .control = {.kind = control->kind, .model = model->name, .digest = model->digest}};
    if (control->kind == GRID_CONTROL_LOAD) {
        msg.control.sources = sources;
        msg.control.n_sources = sources_of(dispatch, control, sources);
        msg.control.split = dispatch_chain_split(dispatch, control->node, control->model);
    }
    control->next_ns = dispatch->router_ns + CONTROL_AGAIN_NS;
    dispatch_send(dispatch, "run", dispatch->nodes[control->node].id, &msg);
}

void dispatch_control(struct dispatch *dispatch, enum grid_control_kind kind, uint32_t node,
                      uint32_t model)
{
    struct dispatch_control *place = NULL;
    for (uint32_t i = 0; i < DISPATCH_CONTROLS_MAX; i++) {
        struct dispatch_control *at = &dispatch->controls[i];
        if (at->used && at->node == node && at->model == model) {
            place = at;
            break;
        }
        if (!at->used && !place) place = at;
    }
    if (!place) return; /* placement finds out that nothing has happened */
    *place = (struct dispatch_control){.used = true,
                                       .kind = kind,
                                       .node = node,
                                       .model = model,
                                       .epoch = dispatch->nodes[node].epoch,
                                       .version = dispatch->nodes[node].report.version,
                                       .until_ns = dispatch->router_ns + CONTROL_UNTIL_NS};
    control_say(dispatch, place);
}

static bool control_is_done(const struct dispatch *dispatch, const struct dispatch_control *control)
{
    const struct dispatch_node *node = &dispatch->nodes[control->node];
    const struct grid_hosted *hosted = dispatch_hosted_of(dispatch, control->node, control->model);
    enum sched_model_state state = hosted ? hosted->load.state : SCHED_UNLOADED;
    bool loaded = state != SCHED_UNLOADED && state != SCHED_DRAINING;
    if (!node->used || node->epoch != control->epoch) return true; /* it has forgotten */
    if (node->report.version <= control->version) return false;
    const struct grid_split *split = dispatch_chain_split(dispatch, control->node, control->model);
    if (split && control->kind == GRID_CONTROL_LOAD)
        return hosted && grid_split_equal(hosted->split, split);
    return loaded == (control->kind == GRID_CONTROL_LOAD);
}

void dispatch_control_keep(struct dispatch *dispatch, uint32_t node, uint32_t model)
{
    for (uint32_t i = 0; i < DISPATCH_CONTROLS_MAX; i++) {
        const struct dispatch_control *at = &dispatch->controls[i];
        if (at->used && at->node == node && at->model == model) return;
    }
    dispatch_control(dispatch, GRID_CONTROL_LOAD, node, model);
}

void dispatch_control_repeat(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < DISPATCH_CONTROLS_MAX; i++) {
        struct dispatch_control *control = &dispatch->controls[i];
        if (!control->used) continue;
        if (dispatch->router_ns >= control->until_ns || control_is_done(dispatch, control))
            control->used = false;
        else if (dispatch->router_ns >= control->next_ns)
            control_say(dispatch, control);
    }
}

/* --- deciding --- */

static void count_waiting(struct dispatch *dispatch)
{
    bool pinned[DISPATCH_MODELS_MAX] = {false};
    for (uint32_t i = 0; i < dispatch->n_models; i++)
        dispatch->waiting[i] = router_pending(dispatch->router, i);
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!dispatch_is_live_gateway(dispatch, node)) continue;
        for (uint32_t k = 0; k < node->n_demands; k++) {
            dispatch->waiting[node->demands[k].model] += node->demands[k].n_waiting;
            if (node->demands[k].pinned) pinned[node->demands[k].model] = true;
        }
    }
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        struct dispatch_model *model = &dispatch->models[i];
        if (!model->used || model->pinned_elsewhere == pinned[i]) continue;
        model->pinned_elsewhere = pinned[i];
        dispatch_model_tell(dispatch, model);
    }
}

/* Does a gateway say so of the model? */
static bool is_demanded(const struct dispatch *dispatch, uint32_t model, bool splits)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!dispatch_is_live_gateway(dispatch, node)) continue;
        for (uint32_t k = 0; k < node->n_demands; k++)
            if (node->demands[k].model == model &&
                (node->demands[k].splits || (!splits && node->demands[k].pinned)))
                return true;
    }
    return false;
}

/* A person has decided how the model runs, here or at another gateway: it gets no whole replicas
 * beside its chain but those that people load. */
static bool is_split_by_hand(const struct dispatch *dispatch, uint32_t model)
{
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model);
    return (chain && chain->by_hand) || is_demanded(dispatch, model, true);
}

bool dispatch_is_kept(const struct dispatch *dispatch, uint32_t model)
{
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model);
    return dispatch->models[model].pinned || (chain && chain->by_hand) ||
           is_demanded(dispatch, model, false);
}

void dispatch_place(struct dispatch *dispatch)
{
    const struct placement_action *actions;
    size_t n;
    dispatch->place_now = false;
    dispatch->stats.places = places(dispatch);
    if (!dispatch->stats.places) {
        if (dispatch->tell_demand) dispatch_publish_demand(dispatch);
        dispatch_chains_step(dispatch);
        return;
    }
    dispatch->tell_demand = false;
    count_waiting(dispatch);
    placement_step(dispatch->placement, router_nodes(dispatch->router), dispatch->waiting,
                   dispatch->router_ns, &actions, &n);
    for (size_t i = 0; i < n; i++) {
        bool load = actions[i].kind == PLACEMENT_LOAD;
        if (load && is_split_by_hand(dispatch, actions[i].model)) continue;
        dispatch->stats.n_loads += load;
        dispatch->stats.n_unloads += !load;
        if (!load && dispatch_chain_stays(dispatch, actions[i].node, actions[i].model)) continue;
        if (!load && dispatch_chain_split(dispatch, actions[i].node, actions[i].model))
            dispatch_chain_drop(dispatch, actions[i].model);
        dispatch_control(dispatch, load ? GRID_CONTROL_LOAD : GRID_CONTROL_UNLOAD, actions[i].node,
                         actions[i].model);
    }
    dispatch_chains_step(dispatch);
}

/* --- by hand --- */

static void pin(struct dispatch *dispatch, struct dispatch_model *model)
{
    model->pinned = model->asked_for = true;
    dispatch_model_tell(dispatch, model);
    dispatch->place_now = dispatch->tell_demand = true;
    if (!dispatch->stepping) dispatch_wake(dispatch);
}

sl_status dispatch_pin(struct dispatch *dispatch, const char *name, struct sl_err *err)
{
    struct dispatch_model *model;
    sl_status status = dispatch_model_resolve(dispatch, name, &model, err);
    if (status == SL_OK) status = dispatch_model_hope(dispatch, model, NULL, err);
    if (status == SL_OK) pin(dispatch, model);
    return status;
}

sl_status dispatch_keep(struct dispatch *dispatch, const char *name, const char *digest,
                        struct sl_err *err)
{
    struct dispatch_model *model = dispatch_model_of(dispatch, name, digest);
    if (!model) return sl_err_set(err, SL_NOMEM, "no place for model %.200s", name);
    pin(dispatch, model);
    return SL_OK;
}

sl_status dispatch_stop(struct dispatch *dispatch, const char *name, struct sl_err *err)
{
    struct dispatch_model *model;
    uint32_t n_told = 0;
    sl_status status = dispatch_model_resolve(dispatch, name, &model, err);
    if (status != SL_OK) return status;
    model->pinned = false;
    dispatch_chain_drop(dispatch, model->number);
    dispatch_model_tell(dispatch, model);
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct grid_hosted *hosted =
            dispatch->nodes[i].used ? dispatch_hosted_of(dispatch, i, model->number) : NULL;
        if (!hosted || hosted->load.state == SCHED_UNLOADED) continue;
        dispatch_control(dispatch, GRID_CONTROL_UNLOAD, i, model->number);
        n_told++;
    }
    return n_told ? SL_OK : sl_err_set(err, SL_NOT_FOUND, "%.200s is loaded nowhere", model->name);
}
