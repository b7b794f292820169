#include "access/grid_plan.h"
#include "access/gateway_int.h"
#include "access/grid_api.h"
#include "grid/dispatch.h"
#include "grid/grid.h"

#include <string.h>

#define ANSWER_MAX (4u << 20) /* DISPATCH_MEMBERS_MAX members of some 300 bytes, and the plan */

/* False: the call has failed. */
static bool take_members(struct call *call, struct dispatch_plan_ask *ask,
                         const char *members[SPLIT_STAGES_MAX])
{
    const struct sl_json_value *nodes = sl_json_get(call->body, "nodes");
    size_t n = sl_json_size(nodes);
    bool ok = (!nodes || sl_json_is(nodes, SL_JSON_ARRAY)) && n <= SPLIT_STAGES_MAX;
    for (size_t i = 0; i < n && ok; i++) {
        members[i] = sl_json_to_str(sl_json_at(nodes, i), NULL, NULL);
        ok = members[i] != NULL;
    }
    if (!ok)
        call_fail(call, SL_INVALID, "nodes", NULL,
                  "nodes are the ids or names of at most 16 members, in an array");
    ask->members = members;
    ask->n_members = n;
    return ok;
}

/* False: the call has failed. */
static bool take_goal(struct call *call, enum split_aim *out)
{
    const char *goal = sl_json_to_str(sl_json_get(call->body, "goal"), NULL, NULL);
    *out = SPLIT_LATENCY;
    if (!goal) return true;
    for (int i = 0; i < SPLIT_AIM_COUNT; i++) {
        *out = (enum split_aim)i;
        if (!strcmp(goal, split_aim_name(*out))) return true;
    }
    call_fail(call, SL_INVALID, "goal", NULL, "a goal is latency or throughput");
    return false;
}

/* False: the call has failed. */
static bool take_link(struct call *call, enum engine_link_type *out)
{
    const char *link = sl_json_to_str(sl_json_get(call->body, "link"), NULL, NULL);
    *out = ENGINE_LINK_F16;
    if (!link) return true;
    for (int i = 0; i < GRID_LINKS; i++) {
        *out = (enum engine_link_type)i;
        if (!strcmp(link, engine_link_name(*out))) return true;
    }
    call_fail(call, SL_INVALID, "link", NULL, "a link is f32, f16 or q8_0");
    return false;
}

/* Of a number that is absent: 0. False: the call has failed. */
static bool take_count(struct call *call, const char *key, int32_t *out)
{
    const struct sl_json_value *value = sl_json_get(call->body, key);
    int64_t n = sl_json_to_int(value, value ? -1 : 0);
    if (n >= 0 && n <= INT32_MAX) {
        *out = (int32_t)n;
        return true;
    }
    call_fail(call, SL_INVALID, key, NULL, "a count is a whole number above 0");
    return false;
}

/* How many layers each of the named members is to have. False: the call has failed. */
static bool take_layers(struct call *call, struct dispatch_plan_ask *ask,
                        int32_t layers[SPLIT_STAGES_MAX])
{
    const struct sl_json_value *value = sl_json_get(call->body, "layers");
    if (!value) return true;
    bool ok =
        sl_json_is(value, SL_JSON_ARRAY) && ask->n_members && sl_json_size(value) == ask->n_members;
    for (size_t i = 0; i < ask->n_members && ok; i++) {
        int64_t n = sl_json_to_int(sl_json_at(value, i), 0);
        ok = n >= 1 && n <= SPLIT_LAYERS_MAX;
        layers[i] = (int32_t)n;
    }
    if (!ok)
        call_fail(call, SL_INVALID, "layers", NULL,
                  "layers are how many each of the nodes gets, in the order of the nodes");
    ask->layers = layers;
    return ok;
}

void grid_plan_make(struct call *call)
{
    const char *members[SPLIT_STAGES_MAX];
    int32_t layers[SPLIT_STAGES_MAX];
    struct dispatch_plan_ask ask = {0};
    struct sl_json json;
    struct sl_buf body;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch *dispatch = grid_dispatch(call->gateway->cfg.grid);
    if (!grid_api_admits(call) || !call_read_json(call)) return;
    ask.model = sl_json_to_str(sl_json_get(call->body, "model"), NULL, NULL);
    ask.apply = sl_json_to_bool(sl_json_get(call->body, "apply"), false);
    if (!ask.model || !dispatch) {
        call_fail(call, SL_INVALID, "model", NULL, "which model?");
        return;
    }
    if (!take_members(call, &ask, members) || !take_goal(call, &ask.aim) ||
        !take_layers(call, &ask, layers) || !take_link(call, &ask.link) ||
        !take_count(call, "n_seqs", &ask.n_seqs) || !take_count(call, "context", &ask.context) ||
        !take_count(call, "stages", &ask.n_stages))
        return;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    if (dispatch_plan(dispatch, &ask, &json, &err) == SL_OK)
        call_respond_json(call, 200, &body, sl_json_end(&json));
    else
        call_fail_err(call, &err, NULL);
    sl_buf_done(&body);
}
