#include "access/grid_plan.h"
#include "access/gateway_int.h"
#include "access/grid_api.h"
#include "grid/dispatch.h"
#include "grid/grid.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX (4u << 20) /* DISPATCH_MEMBERS_MAX members of some 300 bytes, and the plan */

/* Always false: the call has failed. */
__attribute__((format(printf, 3, 4))) static bool refuse(struct call *call, const char *param,
                                                         const char *fmt, ...)
{
    struct sl_err err = {.status = SL_INVALID};
    va_list args;
    va_start(args, fmt);
    vsnprintf(err.text, sizeof err.text, fmt, args);
    va_end(args);
    call_fail_err(call, &err, param);
    return false;
}

/* False: the call has failed. */
static bool take_members(struct call *call, struct dispatch_plan_ask *ask,
                         const char *members[SPLIT_STAGES_MAX])
{
    const struct sl_json_value *nodes = sl_json_get(call->body, "nodes");
    size_t n = sl_json_size(nodes);
    bool ok = !nodes || (sl_json_is(nodes, SL_JSON_ARRAY) && n > 0 && n <= SPLIT_STAGES_MAX);
    for (size_t i = 0; i < n && ok; i++) {
        members[i] = sl_json_to_str(sl_json_at(nodes, i), NULL, NULL);
        ok = members[i] != NULL;
    }
    if (!ok)
        return refuse(call, "nodes", "nodes are the ids or names of 1 to %d members, in an array",
                      SPLIT_STAGES_MAX);
    ask->members = members;
    ask->n_members = n;
    return true;
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
    return refuse(call, "goal", "a goal is latency or throughput");
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
    return refuse(call, "link", "a link is f32, f16 or q8_0");
}

/* Of a number that is absent: 0. False: the call has failed. */
static bool take_count(struct call *call, const char *key, int32_t max, int32_t *out)
{
    const struct sl_json_value *value = sl_json_get(call->body, key);
    int64_t n = sl_json_to_int(value, value ? -1 : 0);
    if (n >= 0 && n <= max) {
        *out = (int32_t)n;
        return true;
    }
    return refuse(call, key, "%s is a whole number from 1 to %d", key, (int)max);
}

/* False: the call has failed. */
static bool take_counts(struct call *call, struct dispatch_plan_ask *ask)
{
    return take_count(call, "n_seqs", DISPATCH_PLAN_SEQS_MAX, &ask->n_seqs) &&
           take_count(call, "context", DISPATCH_PLAN_CONTEXT_MAX, &ask->context) &&
           take_count(call, "prompt", DISPATCH_PLAN_CONTEXT_MAX, &ask->prompt) &&
           take_count(call, "stages", SPLIT_STAGES_MAX, &ask->n_stages);
}

/* How many layers each of the named members is to have. False: the call has failed. */
static bool take_layers(struct call *call, struct dispatch_plan_ask *ask,
                        int32_t layers[SPLIT_STAGES_MAX])
{
    const struct sl_json_value *value = sl_json_get(call->body, "layers");
    if (!value) return true;
    if (!sl_json_is(value, SL_JSON_ARRAY) || !ask->n_members ||
        sl_json_size(value) != ask->n_members) {
        return refuse(call, "layers",
                      "layers are how many each of the nodes gets: as many numbers as nodes");
    }
    for (size_t i = 0; i < ask->n_members; i++) {
        int64_t n = sl_json_to_int(sl_json_at(value, i), 0);
        if (n < 1 || n > SPLIT_LAYERS_MAX)
            return refuse(call, "layers", "layers of %s: from 1 to %d", ask->members[i],
                          SPLIT_LAYERS_MAX);
        layers[i] = (int32_t)n;
    }
    ask->layers = layers;
    return true;
}

/* False: the call has failed. */
static bool take_model(struct call *call, struct dispatch_plan_ask *ask)
{
    const struct sl_json_value *apply = sl_json_get(call->body, "apply");
    size_t n = 0;
    ask->model = sl_json_to_str(sl_json_get(call->body, "model"), NULL, &n);
    ask->apply = sl_json_to_bool(apply, false);
    if (!ask->model || strlen(ask->model) != n) return refuse(call, "model", "which model?");
    if (apply && !sl_json_is(apply, SL_JSON_BOOL))
        return refuse(call, "apply", "apply is true or false");
    return true;
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
    if (!dispatch) {
        call_fail(call, SL_UNAVAILABLE, NULL, NULL, "this machine dispatches nothing");
        return;
    }
    if (!take_model(call, &ask) || !take_members(call, &ask, members) ||
        !take_goal(call, &ask.aim) || !take_layers(call, &ask, layers) ||
        !take_link(call, &ask.link) || !take_counts(call, &ask))
        return;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    if (dispatch_plan(dispatch, &ask, &json, &err) == SL_OK)
        call_respond_json(call, 200, &body, sl_json_end(&json));
    else
        call_fail_err(call, &err, NULL);
    sl_buf_done(&body);
}
