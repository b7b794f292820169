/* dispatch_explain.c: why a request ran where it did, or why it waits: what was done about it from
 * our own history, and the last decision from the router's, as JSON. */
#include "grid/dispatch_split.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000000)

/* --- the history --- */

static struct dispatch_past *past_of(const struct dispatch *dispatch, uint64_t number)
{
    return &dispatch->history[number % DISPATCH_HISTORY_MAX];
}

static int64_t since_ms(const struct dispatch_request *request)
{
    return (request->dispatch->real_ns - request->submit_ns) / MS;
}

void dispatch_past_begin(const struct dispatch_request *request, const char *request_id)
{
    struct dispatch_past *past = past_of(request->dispatch, request->number);
    *past = (struct dispatch_past){.number = request->number,
                                   .submit_ns = request->submit_ns,
                                   .prompt_tokens = request->submit.ask.prompt_tokens,
                                   .output_tokens = request->submit.ask.output_tokens};
    snprintf(past->request_id, sizeof past->request_id, "%s", request_id ? request_id : "");
    snprintf(past->model, sizeof past->model, "%s", request->model->name);
    snprintf(past->digest, sizeof past->digest, "%s", request->model->digest);
}

/* What is counted are tokens and the ends of choices. */
static uint64_t tokens_of(const struct dispatch_request *request, uint64_t n_counted, int n_done)
{
    uint64_t ends = (uint64_t)n_done;
    return request->task == NODE_GENERATE && n_counted > ends ? n_counted - ends : 0;
}

void dispatch_past_send(const struct dispatch_request *request,
                        const struct dispatch_attempt *attempt, bool hedge)
{
    struct dispatch_past *past = past_of(request->dispatch, request->number);
    if (past->number != request->number) return; /* so many have come since */
    struct dispatch_past_attempt *at = &past->attempts[past->n_attempts++ % DISPATCH_ATTEMPTS_KEPT];
    *at = (struct dispatch_past_attempt){
        .number = attempt->number,
        .hedge = hedge,
        .sent_ms = since_ms(request),
        .ended_ms = -1,
        .n_from = tokens_of(request, attempt->n_tokens, request->n_done)};
    strcpy(at->node, request->dispatch->nodes[attempt->node].id);
}

void dispatch_past_close(const struct dispatch_attempt *attempt, uint64_t n_counted, int n_done,
                         const char *end)
{
    struct dispatch_past *past = past_of(attempt->request->dispatch, attempt->request->number);
    if (past->number != attempt->request->number) return;
    for (int i = 0; i < DISPATCH_ATTEMPTS_KEPT; i++) {
        struct dispatch_past_attempt *at = &past->attempts[i];
        if (at->number != attempt->number || at->end) continue;
        at->end = end;
        at->ended_ms = since_ms(attempt->request);
        at->n_tokens = tokens_of(attempt->request, n_counted, n_done);
    }
}

void dispatch_past_end(const struct dispatch_request *request, sl_status status, const char *end)
{
    struct dispatch_past *past = past_of(request->dispatch, request->number);
    if (past->number != request->number) return;
    past->end = end;
    past->status = status;
    past->end_ms = since_ms(request);
}

static const struct dispatch_past *past_find(const struct dispatch *dispatch, const char *id)
{
    char *end;
    unsigned long long number = strtoull(id, &end, 10);
    const struct dispatch_past *latest = NULL;
    for (size_t i = 0; i < DISPATCH_HISTORY_MAX; i++) {
        const struct dispatch_past *past = &dispatch->history[i];
        bool same = !strcmp(past->request_id, id) || (!*end && past->number == number);
        if (past->number && *id && same && (!latest || past->number > latest->number))
            latest = past;
    }
    return latest;
}

const char *dispatch_explain_whose(const struct dispatch *dispatch, const char *request_id)
{
    const struct dispatch_past *past = past_find(dispatch, request_id);
    return past ? past->model : NULL;
}

/* --- in JSON --- */

static void put_node(const struct dispatch *dispatch, struct sl_json *json, uint32_t number)
{
    const struct dispatch_node *node = &dispatch->nodes[number];
    sl_json_kv_str(json, "node", node->used ? node->id : "");
    if (node->used && node->has_report)
        sl_json_kv_str(json, "name", dispatch_node_name(dispatch, node));
}

static void put_row(const struct dispatch *dispatch, struct sl_json *json,
                    const struct pick_row *row)
{
    sl_json_object(json);
    put_node(dispatch, json, row->node);
    sl_json_kv_str(json, "verdict", pick_filter_name(row->filter));
    if (row->filter != PICK_FITS) {
        sl_json_kv_str(json, "why", pick_filter_text(row->filter));
        sl_json_object_end(json);
        return;
    }
    sl_json_kv_num(json, "score", row->total);
    sl_json_kv_num(json, "first_token_s", row->first_token_s);
    sl_json_kv_int(json, "cached_tokens", (int64_t)row->cached_tokens);
    sl_json_key(json, "parts");
    sl_json_object(json);
    for (int i = 0; i < SCORE_PART_COUNT; i++)
        sl_json_kv_num(json, score_part_name((enum score_part)i), row->part[i] + 0.0); /* no -0 */
    sl_json_object_end(json);
    sl_json_object_end(json);
}

static void put_pick(const struct dispatch *dispatch, struct sl_json *json, const struct pick *pick,
                     const struct pick_row *rows, uint32_t n_rows)
{
    if (pick->node == NODE_NONE)
        sl_json_kv_str(json, "node", NULL);
    else
        put_node(dispatch, json, pick->node);
    sl_json_kv_int(json, "ready_on", pick->n_ready);
    sl_json_key(json, "looked_at");
    sl_json_array(json);
    for (uint32_t i = 0; i < n_rows; i++) put_row(dispatch, json, &rows[i]);
    sl_json_array_end(json);
}

static void put_attempts(const struct dispatch *dispatch, struct sl_json *json,
                         const struct dispatch_past *past)
{
    uint32_t n = past->n_attempts, kept = n < DISPATCH_ATTEMPTS_KEPT ? n : DISPATCH_ATTEMPTS_KEPT;
    sl_json_kv_int(json, "n_attempts", n);
    sl_json_key(json, "attempts");
    sl_json_array(json);
    for (uint32_t i = n - kept; i < n; i++) {
        const struct dispatch_past_attempt *at = &past->attempts[i % DISPATCH_ATTEMPTS_KEPT];
        const struct dispatch_node *node = dispatch_node_find(dispatch, at->node);
        sl_json_object(json);
        sl_json_kv_int(json, "attempt", at->number);
        sl_json_kv_str(json, "node", at->node);
        if (node && node->has_report)
            sl_json_kv_str(json, "name", dispatch_node_name(dispatch, node));
        sl_json_kv_bool(json, "second_try", at->hedge);
        sl_json_kv_int(json, "sent_ms", at->sent_ms);
        sl_json_kv_int(json, "from_token", (int64_t)at->n_from);
        sl_json_kv_str(json, "end", at->end);
        if (at->end) sl_json_kv_int(json, "ended_ms", at->ended_ms);
        if (at->end) sl_json_kv_int(json, "to_token", (int64_t)at->n_tokens);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static const char *state_of(const struct dispatch *dispatch, const struct dispatch_past *past)
{
    const struct dispatch_request *request = dispatch_request_find(dispatch, past->number);
    if (past->end || !request) return past->end ? past->end : "forgotten";
    return request->attempts[0].number || request->attempts[1].number ? "running" : "waiting";
}

static const char *why_waiting(const struct router_explanation *decision)
{
    if (!decision || decision->pick.n_ready == 0)
        return "no member has the model ready; it is being loaded where it fits";
    if (decision->pick.n_filtered[PICK_FULL] > 0) return "all members that have it ready are full";
    return "no member that has it ready may take it";
}

sl_status dispatch_explain_request(struct dispatch *dispatch, const char *request_id,
                                   struct sl_json *json, struct sl_err *err)
{
    const struct dispatch_past *past = past_find(dispatch, request_id);
    if (!past)
        return sl_err_set(err, SL_NOT_FOUND,
                          "%.100s: not one of the last %d requests of this gateway", request_id,
                          DISPATCH_HISTORY_MAX);
    const struct router_explanation *decision = router_explain(dispatch->router, past->number);
    const char *state = state_of(dispatch, past);
    sl_json_object(json);
    sl_json_kv_str(json, "request_id", past->request_id);
    sl_json_kv_int(json, "number", (int64_t)past->number);
    sl_json_kv_str(json, "model", past->model);
    sl_json_kv_str(json, "digest", past->digest);
    sl_json_kv_str(json, "state", state);
    if (!strcmp(state, "waiting")) sl_json_kv_str(json, "why", why_waiting(decision));
    if (past->end) sl_json_kv_int(json, "total_ms", past->end_ms);
    if (past->end && past->status != SL_OK)
        sl_json_kv_str(json, "status", sl_status_text(past->status));
    sl_json_kv_int(json, "prompt_tokens_estimated", (int64_t)past->prompt_tokens);
    sl_json_kv_int(json, "output_tokens_expected", (int64_t)past->output_tokens);
    put_attempts(dispatch, json, past);
    sl_json_key(json, "decision");
    if (decision) {
        sl_json_object(json);
        sl_json_kv_int(json, "attempt", decision->attempt);
        put_pick(dispatch, json, &decision->pick, decision->rows, decision->n_rows);
        sl_json_object_end(json);
    } else {
        sl_json_null(json);
    }
    sl_json_object_end(json);
    return SL_OK;
}

static void put_places(const struct dispatch *dispatch, struct sl_json *json,
                       const struct dispatch_model *model)
{
    sl_json_key(json, "members");
    sl_json_array(json);
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        const struct grid_hosted *hosted =
            node->used ? dispatch_hosted_of(dispatch, i, model->number) : NULL;
        bool has_file = dispatch_model_is_at(model, i);
        if (!node->used || (!hosted && !has_file)) continue;
        /* Its last report says how things were. */
        enum node_health health = dispatch_node_health(dispatch, node);
        if (health == NODE_DEAD) hosted = NULL;
        sl_json_object(json);
        put_node(dispatch, json, i);
        sl_json_kv_str(json, "health", node_health_name(health));
        sl_json_kv_bool(json, "has_file", has_file);
        sl_json_kv_str(json, "state",
                       sched_model_state_name(hosted ? hosted->load.state : SCHED_UNLOADED));
        if (hosted) sl_json_kv_int(json, "running", hosted->load.n_running);
        if (hosted) sl_json_kv_int(json, "waiting", hosted->load.n_waiting);
        if (hosted) sl_json_kv_int(json, "slots", hosted->load.n_slots);
        if (hosted && *hosted->last_error) sl_json_kv_str(json, "error", hosted->last_error);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

sl_status dispatch_explain_model(struct dispatch *dispatch, const char *name, struct sl_json *json,
                                 struct sl_err *err)
{
    struct dispatch_model *model;
    struct pick_row rows[ROUTER_ROWS_MAX];
    struct pick_rows all = {.rows = rows, .capacity = ROUTER_ROWS_MAX};
    struct pick pick;
    sl_status status = dispatch_model_resolve(dispatch, name, &model, err);
    if (status != SL_OK) return status;
    struct pick_ask ask = {.model = model->number, .output_tokens = (uint64_t)model->output_tokens};
    for (int i = 0; i < PICK_EXCLUDED_MAX; i++) ask.excluded[i] = NODE_NONE;
    dispatch_clock(dispatch);
    router_explain_ask(dispatch->router, &ask, dispatch->router_ns, &pick, &all);
    sl_json_object(json);
    sl_json_kv_str(json, "model", model->name);
    sl_json_kv_str(json, "digest", model->digest);
    sl_json_kv_int(json, "memory_bytes", (int64_t)dispatch_model_bytes(model));
    sl_json_kv_int(json, "waiting", router_pending(dispatch->router, model->number));
    sl_json_kv_bool(json, "pinned", model->pinned);
    dispatch_hope_put(dispatch, json, model);
    put_places(dispatch, json, model);
    dispatch_chain_put(dispatch, json, model);
    sl_json_key(json, "decision");
    sl_json_object(json);
    put_pick(dispatch, json, &pick, rows, all.n);
    sl_json_object_end(json);
    sl_json_object_end(json);
    return SL_OK;
}
