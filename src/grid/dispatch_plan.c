/* dispatch_plan.c: plans that people ask for, and what is told of chains. */
#include "grid/dispatch_split.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- what was asked for --- */

/* By id, or by a name that one member alone has. */
static sl_status find_member(const struct dispatch *dispatch, const char *text,
                             const struct dispatch_node **out, struct sl_err *err)
{
    *out = dispatch_node_find(dispatch, text);
    if (*out) return SL_OK;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!node->used || strcmp(dispatch_node_name(dispatch, node), text) != 0) continue;
        if (*out) return sl_err_set(err, SL_INVALID, "several members are named %.64s", text);
        *out = node;
    }
    return *out ? SL_OK : sl_err_set(err, SL_NOT_FOUND, "no member is named %.64s", text);
}

static sl_status check_ask(const struct dispatch_model *model, const struct dispatch_plan_ask *ask,
                           struct sl_err *err)
{
    uint64_t trained = dispatch_model_context(model);
    if (trained && ask->context > 0 && (uint64_t)ask->context > trained)
        return sl_err_set(err, SL_INVALID, "a context of %d tokens: %s was trained for %" PRIu64,
                          (int)ask->context, model->name, trained);
    if (ask->n_seqs < 0 || ask->n_seqs > DISPATCH_PLAN_SEQS_MAX)
        return sl_err_set(err, SL_INVALID, "n_seqs is 1 to %d", DISPATCH_PLAN_SEQS_MAX);
    if (ask->prompt < 0 || ask->prompt > DISPATCH_PLAN_CONTEXT_MAX)
        return sl_err_set(err, SL_INVALID, "prompt: from 1 to %d tokens",
                          DISPATCH_PLAN_CONTEXT_MAX);
    if (ask->context < 0 || ask->context > DISPATCH_PLAN_CONTEXT_MAX)
        return sl_err_set(err, SL_INVALID, "context is 1 to %d tokens", DISPATCH_PLAN_CONTEXT_MAX);
    if (ask->n_stages < 0 || ask->n_stages > SPLIT_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "stages is 1 to %d", SPLIT_STAGES_MAX);
    if (ask->n_members > SPLIT_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "at most %d members can be named", SPLIT_STAGES_MAX);
    if (ask->layers && ask->n_stages && (size_t)ask->n_stages != ask->n_members)
        return sl_err_set(err, SL_INVALID, "%d stages, and layers for %zu", (int)ask->n_stages,
                          ask->n_members);
    return SL_OK;
}

/* A member that was named has a part, or it is told why not. */
static sl_status add_member(const struct dispatch *dispatch, const char *text,
                            struct dispatch_wish *out, struct sl_err *err)
{
    const struct dispatch_node *node;
    sl_status status = find_member(dispatch, text, &node, err);
    if (status != SL_OK) return status;
    if (!dispatch_may_stage(dispatch, node))
        return sl_err_set(err, SL_INVALID, "%.64s takes no stages now: it is %s", text,
                          node->has_report && node->report.facts.duty != NODE_OPEN
                              ? "cordoned, or leaves"
                              : "not there");
    for (uint32_t i = 0; i < out->n_members; i++)
        if (!strcmp(out->members[i], node->id))
            return sl_err_set(err, SL_INVALID, "%.64s is named twice", text);
    strcpy(out->members[out->n_members++], node->id);
    return SL_OK;
}

static sl_status take_wish(const struct dispatch *dispatch, const struct dispatch_model *model,
                           const struct dispatch_plan_ask *ask, struct dispatch_wish *out,
                           struct sl_err *err)
{
    sl_status status = check_ask(model, ask, err);
    *out = (struct dispatch_wish){.goal = {.aim = ask->aim,
                                           .n_seqs = ask->n_seqs,
                                           .context = ask->context,
                                           .prompt = ask->prompt,
                                           .n_stages = ask->n_stages},
                                  .link = ask->link,
                                  .head = NODE_NONE};
    for (size_t i = 0; i < ask->n_members && ask->layers && status == SL_OK; i++)
        out->layers[i] = ask->layers[i];
    for (size_t i = 0; i < ask->n_members && status == SL_OK; i++)
        status = add_member(dispatch, ask->members[i], out, err);
    return status;
}

/* --- in JSON --- */

static void put_member(const struct dispatch *dispatch, struct sl_json *json, const char *id)
{
    const struct dispatch_node *node = dispatch_node_find(dispatch, id);
    sl_json_kv_str(json, "member", id);
    sl_json_kv_str(json, "name", node ? dispatch_node_name(dispatch, node) : "");
}

static void put_stage(const struct dispatch *dispatch, struct sl_json *json,
                      const struct dispatch_split *split, size_t i)
{
    const struct split_stage *stage = &split->plan.stages[i];
    const struct dispatch_node *node = &dispatch->nodes[split->members[i]];
    sl_json_object(json);
    put_member(dispatch, json, node->id);
    sl_json_kv_int(json, "first", stage->first);
    sl_json_kv_int(json, "last", stage->last);
    sl_json_kv_int(json, "bytes", (int64_t)stage->memory_bytes);
    sl_json_kv_int(json, "weight_bytes", (int64_t)stage->weight_bytes);
    sl_json_kv_int(json, "kv_bytes", (int64_t)stage->kv_bytes);
    sl_json_kv_num(json, "seconds", stage->token_s);
    sl_json_kv_num(json, "step_seconds", stage->step_s);
    sl_json_kv_num(json, "chunk_seconds", stage->chunk_s);
    sl_json_kv_num(json, "link_seconds", stage->link_s);
    sl_json_kv_num(json, "load_seconds", stage->load_s);
    sl_json_kv_num(json, "slowdown", split->slowdowns[i]);
    sl_json_object_end(json);
}

static void put_plan(const struct dispatch *dispatch, struct sl_json *json,
                     const struct dispatch_split *split)
{
    const struct split_plan *plan = &split->plan;
    sl_json_key(json, "plan");
    sl_json_object(json);
    sl_json_key(json, "stages");
    sl_json_array(json);
    for (size_t i = 0; i < plan->n_stages; i++) put_stage(dispatch, json, split, i);
    sl_json_array_end(json);
    sl_json_kv_int(json, "n_seqs", split->goal.n_seqs);
    sl_json_kv_int(json, "context", split->goal.context);
    sl_json_kv_int(json, "rows", plan->rows);
    sl_json_kv_int(json, "flights", plan->flights);
    sl_json_kv_int(json, "chunk", plan->chunk);
    sl_json_kv_num(json, "tokens_s", plan->tokens_s);
    sl_json_kv_num(json, "tokens_s_total", plan->tokens_s_total);
    sl_json_kv_num(json, "first_token_s", plan->first_token_s);
    sl_json_kv_num(json, "load_s", plan->load_s);
    sl_json_kv_int(json, "bottleneck", (int64_t)plan->bottleneck);
    sl_json_kv_bool(json, "link_bound", plan->link_bound);
    sl_json_kv_bool(json, "exact", plan->exact);
    sl_json_kv_num(json, "gap", plan->gap);
    sl_json_object_end(json);
}

/* What the plan was made from. */
static void put_members(const struct dispatch *dispatch, struct sl_json *json,
                        const struct dispatch_model *model)
{
    sl_json_key(json, "members");
    sl_json_array(json);
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!dispatch_may_stage(dispatch, node)) continue;
        sl_json_object(json);
        put_member(dispatch, json, node->id);
        sl_json_kv_int(json, "memory_bytes", (int64_t)node->report.facts.memory_bytes);
        sl_json_kv_int(json, "memory_used_bytes", (int64_t)node->report.memory_used_bytes);
        sl_json_kv_bool(json, "has_file", dispatch_model_is_at(model, i));
        sl_json_kv_bool(json, "calibrated", node->report.machine != NULL);
        sl_json_kv_num(json, "slowdown", node->slowdown > 0 ? node->slowdown : 1);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_hop(struct sl_json *json, const struct grid_hop *hop)
{
    sl_json_kv_num(json, "compute_ms", 1000 * hop->compute_s);
    sl_json_kv_num(json, "hop_ms", 1000 * hop->hop_s);
    sl_json_kv_num(json, "wait_ms", 1000 * hop->wait_s);
    sl_json_kv_num(json, "hop_bytes", hop->bytes);
    sl_json_kv_num(json, "load", hop->load);
}

static enum node_health health_of(const struct dispatch *dispatch, const char *member)
{
    return dispatch_node_health(dispatch, dispatch_node_find(dispatch, member));
}

/* Without a member there is no chain, whatever its head may still think of it. */
static const char *chain_state(const struct dispatch *dispatch, const struct grid_split *split,
                               const struct grid_hosted *hosted)
{
    for (size_t i = 0; i < split->n_stages; i++)
        if (health_of(dispatch, split->stages[i].member) == NODE_DEAD) return "broken";
    return sched_model_state_name(hosted ? hosted->load.state : SCHED_UNLOADED);
}

static void put_chain(const struct dispatch *dispatch, struct sl_json *json,
                      const struct grid_split *split, const struct grid_hosted *hosted)
{
    const struct grid_hop *hops = hosted ? hosted->hops : NULL;
    sl_json_kv_str(json, "state", chain_state(dispatch, split, hosted));
    sl_json_key(json, "stages");
    sl_json_array(json);
    for (size_t i = 0; i < split->n_stages; i++) {
        sl_json_object(json);
        put_member(dispatch, json, split->stages[i].member);
        sl_json_kv_str(json, "health",
                       node_health_name(health_of(dispatch, split->stages[i].member)));
        sl_json_kv_int(json, "first", split->stages[i].first);
        sl_json_kv_int(json, "last", split->stages[i].last);
        if (hops) put_hop(json, &hops[i]);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
    sl_json_kv_int(json, "context", split->n_ctx);
    sl_json_kv_int(json, "n_seqs", split->n_seqs);
}

/* As the head reports it, if one that lives does. */
static const struct grid_hosted *reported(const struct dispatch *dispatch, uint32_t model)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!node->used || !node->has_report || dispatch_node_health(dispatch, node) == NODE_DEAD)
            continue;
        for (size_t k = 0; k < node->report.n_hosted; k++)
            if (node->hosted_models[k] == model && node->report.hosted[k].split)
                return &node->report.hosted[k];
    }
    return NULL;
}

void dispatch_chain_put(const struct dispatch *dispatch, struct sl_json *json,
                        const struct dispatch_model *model)
{
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model->number);
    const struct grid_hosted *hosted = reported(dispatch, model->number);
    if (!chain && !hosted) return;
    bool as_told = chain && hosted && grid_split_equal(chain->split, hosted->split);
    sl_json_key(json, "chain");
    sl_json_object(json);
    put_chain(dispatch, json, chain ? chain->split : hosted->split,
              as_told || !chain ? hosted : NULL);
    sl_json_kv_bool(json, "kept_here", chain != NULL);
    if (chain) {
        sl_json_kv_bool(json, "by_hand", chain->by_hand);
        sl_json_kv_str(json, "why", chain->why);
        sl_json_kv_int(json, "failures", chain->n_failures);
        if (chain->made.plan.n_stages)
            sl_json_kv_num(json, "tokens_s_foretold", chain->made.plan.tokens_s);
    }
    sl_json_object_end(json);
}

/* --- by hand --- */

/* One stage is a whole replica. */
static sl_status apply(struct dispatch *dispatch, struct dispatch_model *model,
                       const struct dispatch_wish *wish, const struct dispatch_split *split,
                       struct sl_err *err)
{
    sl_status status = SL_OK;
    if (split->plan.n_stages > 1) {
        status = dispatch_chain_set(dispatch, model, wish, split, true, "asked for by hand", err);
    } else {
        const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model->number);
        bool was_head = chain && chain->head == split->members[0];
        if (chain) dispatch_chain_unload(dispatch, chain);
        dispatch_chain_drop(dispatch, model->number);
        /* One that has to unload a chain first is told by placement, as the model is pinned. */
        if (!was_head)
            dispatch_control(dispatch, GRID_CONTROL_LOAD, split->members[0], model->number);
    }
    if (status != SL_OK) return status;
    model->pinned = model->asked_for = true;
    dispatch_model_tell(dispatch, model);
    dispatch->place_now = dispatch->tell_demand = true;
    return SL_OK;
}

sl_status dispatch_plan(struct dispatch *dispatch, const struct dispatch_plan_ask *ask,
                        struct sl_json *json, struct sl_err *err)
{
    struct dispatch_model *model;
    struct dispatch_wish wish;
    struct dispatch_split split;
    struct sl_err refused = SL_ERR_INIT;
    dispatch_clock(dispatch);
    sl_status status = dispatch_model_resolve(dispatch, ask->model, &model, err);
    if (status == SL_OK) status = take_wish(dispatch, model, ask, &wish, err);
    if (status != SL_OK) return status;
    sl_status planned = dispatch_split_make(dispatch, model, &wish, &split, &refused);
    if (planned == SL_OK && ask->apply) status = apply(dispatch, model, &wish, &split, err);
    if (status != SL_OK) return status;
    sl_json_object(json);
    sl_json_kv_str(json, "model", model->name);
    sl_json_kv_str(json, "digest", model->digest);
    sl_json_kv_str(json, "goal", split_aim_name(ask->aim));
    sl_json_kv_str(json, "link", engine_link_name(ask->link));
    if (planned == SL_OK) put_plan(dispatch, json, &split);
    sl_json_kv_bool(json, "applied", planned == SL_OK && ask->apply);
    sl_json_kv_str(json, "refused", planned == SL_OK ? NULL : refused.text);
    put_members(dispatch, json, model);
    sl_json_object_end(json);
    dispatch_wake(dispatch);
    return SL_OK;
}
