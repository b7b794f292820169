/* router.c: see router.h. One step: the event; requests that are due; models whose waiting requests
 * may find a node; requests that became due by that; WAKE_AT. */
#include "sched/router_int.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define MS INT64_C(1000000)
#define FULL_MIN_NS (20 * MS)   /* a node that refused is left alone for at least this */
#define FULL_MAX_NS (1000 * MS) /* and at most this: its report will say */
#define RETRY_AFTER_MS 1000     /* what a refused client is told: HTTP counts whole seconds */

void router_config_default(struct router_config *config)
{
    *config = (struct router_config){
        .seed = 1,
        .n_requests_max = 16384,
        .n_explained = 256,
        .class_weight = {[SCHED_INTERACTIVE] = 16, [SCHED_STANDARD] = 4, [SCHED_BATCH] = 1},
        .queue_timeout_ns = 300000 * MS,
        .answer_ns = 2000 * MS,
        .silence_ns = 15000 * MS,
        .retry_min_ns = 5 * MS,
        .retry_max_ns = 200 * MS,
        .attempts_max = 16,
        .retry_share = 0.2,
        .retry_burst = 100,
        .retry_per_s = 10,
        .hedge_share = 0.05,
        .hedge_min_ns = 50 * MS,
    };
    node_table_config_default(&config->table);
    struct sl_err err;
    sl_status status = policy_parse(POLICY_DEFAULT, &config->policy, &err);
    assert(status == SL_OK);
    (void)status;
}

static sl_status config_check(const struct router_config *config, struct sl_err *err)
{
    if (config->n_requests_max == 0 || config->n_requests_max > ROUTER_REQUESTS_LIMIT)
        return sl_err_set(err, SL_INVALID, "n_requests_max: 1 to %d", ROUTER_REQUESTS_LIMIT);
    if (config->n_explained > ROUTER_EXPLAINED_LIMIT)
        return sl_err_set(err, SL_INVALID, "n_explained: at most %d", ROUTER_EXPLAINED_LIMIT);
    for (int i = 0; i < SCHED_CLASS_COUNT; i++)
        if (config->class_weight[i] == 0 || config->class_weight[i] > SCHED_WEIGHT_LIMIT)
            return sl_err_set(err, SL_INVALID, "class_weight: 1 to %d", SCHED_WEIGHT_LIMIT);
    if (config->queue_timeout_ns <= 0 || config->answer_ns <= 0 || config->silence_ns <= 0)
        return sl_err_set(err, SL_INVALID, "queue_timeout_ns, answer_ns, silence_ns: above 0");
    if (config->retry_min_ns <= 0 || config->retry_max_ns < config->retry_min_ns)
        return sl_err_set(err, SL_INVALID, "retry_min_ns: above 0 and not above the maximum");
    /* With no refill a last retry could wait for ever. */
    if (!(config->retry_per_s > 0) || !(config->retry_burst >= 1) || !(config->retry_share >= 0))
        return sl_err_set(err, SL_INVALID, "retry_per_s: above 0; retry_burst: at least 1");
    if (config->attempts_max == 0 || !(config->hedge_share >= 0) || config->hedge_min_ns < 0)
        return sl_err_set(err, SL_INVALID, "attempts_max: above 0; hedges: not below 0");
    return SL_OK;
}

static sl_status router_allocate(struct router *router, struct sl_err *err)
{
    const struct router_config *config = &router->config;
    uint32_t n = config->n_requests_max, n_models = config->table.n_models_max;
    sl_status status = node_table_init(&router->nodes, &config->table, err);
    if (status != SL_OK) return status;
    router->n_chains = power_of_two_from(n);
    router->requests = sl_calloc(n, sizeof *router->requests);
    router->links = sl_calloc(n, sizeof *router->links);
    router->chains = sl_malloc(router->n_chains * sizeof *router->chains);
    router->models = sl_calloc(n_models, sizeof *router->models);
    router->picks.turns = sl_calloc(n_models, sizeof *router->picks.turns);
    router->explained = sl_calloc(config->n_explained, sizeof *router->explained);
    router->actions = sl_calloc(ROUTER_ACTIONS_MAX, sizeof *router->actions);
    if (!router->requests || !router->links || !router->chains || !router->models ||
        !router->picks.turns || !router->explained || !router->actions ||
        index_heap_init(&router->due, n) != SL_OK ||
        index_heap_init(&router->looks, n_models) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for %u requests", n);
    return SL_OK;
}

static void tables_begin(struct router *router)
{
    uint32_t n = router->config.n_requests_max;
    for (uint32_t i = 0; i < router->n_chains; i++) router->chains[i] = INDEX_NONE;
    for (uint32_t i = 0; i < n; i++)
        router->requests[i].chain_next = i + 1 < n ? i + 1 : INDEX_NONE;
    for (uint32_t i = 0; i < router->config.table.n_models_max; i++) {
        router->models[i].wait_ns = router->config.retry_min_ns;
        for (int line = 0; line < ROUTER_LINES; line++)
            router->models[i].lines[line] = (struct index_list)INDEX_LIST_INIT;
    }
    router->picks.seed = router->config.seed;
    router->retries.tokens = router->config.retry_burst;
    router->late_ratio = 3; /* until there are answers to learn from */
}

sl_status router_create(const struct router_config *config, struct router **out, struct sl_err *err)
{
    sl_status status = config_check(config, err);
    if (status != SL_OK) return status;
    struct router *router = sl_calloc(1, sizeof *router);
    if (!router) return sl_err_set(err, SL_NOMEM, "no memory for a router");
    router->config = *config;
    status = router_allocate(router, err);
    if (status != SL_OK) goto fail;
    tables_begin(router);
    *out = router;
    return SL_OK;
fail:
    router_destroy(router);
    return status;
}

void router_destroy(struct router *router)
{
    if (!router) return;
    node_table_done(&router->nodes);
    sl_free(router->requests);
    sl_free(router->links);
    sl_free(router->chains);
    sl_free(router->models);
    sl_free(router->picks.turns);
    sl_free(router->explained);
    sl_free(router->actions);
    index_heap_done(&router->due);
    index_heap_done(&router->looks);
    sl_free(router);
}

/* --- records --- */

static uint32_t *chain_of(const struct router *router, uint64_t id)
{
    return &router->chains[mix_u64(id) & (router->n_chains - 1)];
}

static uint32_t request_find(const struct router *router, uint64_t id)
{
    uint32_t i = *chain_of(router, id);
    while (i != INDEX_NONE && router->requests[i].id != id) i = router->requests[i].chain_next;
    return i;
}

static void request_free(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    uint32_t *at = chain_of(router, request->id);
    while (*at != index) at = &router->requests[*at].chain_next;
    *at = request->chain_next;
    index_heap_remove(&router->due, index);
    *request = (struct routed){.chain_next = router->free_head};
    router->free_head = index;
    router->totals.n_live--;
}

struct router_action *router_act(struct router *router, enum router_action_kind kind,
                                 uint32_t index)
{
    assert(router->n_actions < ROUTER_ACTIONS_MAX);
    struct router_action *action = &router->actions[router->n_actions++];
    *action = (struct router_action){.kind = kind};
    if (index != INDEX_NONE) action->request = router->requests[index].id;
    return action;
}

void router_touch(struct router *router, uint32_t index)
{
    index_heap_set(&router->due, index, router->now_ns);
}

/* Takes the request out of everything; its live attempts are stopped. */
static void request_leave(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    for (int i = 0; i < 2; i++)
        if (request->attempts[i].state != ATTEMPT_NONE)
            router_attempt_stop(router, index, &request->attempts[i]);
    router_line_remove(router, index);
}

void router_end(struct router *router, uint32_t index, sl_status status, const char *reason)
{
    request_leave(router, index);
    struct router_action *action = router_act(router, ROUTER_END, index);
    action->status = status;
    action->reason = reason;
    action->retry_after_ms = sl_status_retryable(status) ? RETRY_AFTER_MS : 0;
    if (status == SL_OK)
        router->totals.n_finished++;
    else if (status != SL_TIMEOUT)
        router->totals.n_failed++;
    request_free(router, index);
}

/* --- events --- */

static sl_status on_submit(struct router *router, const struct router_event *event)
{
    const struct router_submit *submit = event->submit;
    const struct router_config *config = &router->config;
    if (!submit || submit->ask.model >= config->table.n_models_max ||
        (unsigned)submit->qos_class >= SCHED_CLASS_COUNT ||
        submit->ask.prompt_tokens > NODE_TOKENS_LIMIT ||
        submit->ask.output_tokens > NODE_TOKENS_LIMIT)
        return SL_INVALID;
    if (request_find(router, event->request) != INDEX_NONE) return SL_EXISTS;
    uint32_t index = router->free_head;
    if (index == INDEX_NONE) return SL_BUSY;
    struct routed *request = &router->requests[index];
    router->free_head = request->chain_next;
    uint32_t *chain = chain_of(router, event->request);
    *request = (struct routed){.id = event->request,
                               .live = true,
                               .ask = submit->ask,
                               .qos_class = submit->qos_class,
                               .deadline_ns = submit->deadline_ns,
                               .hedge_ns = SCHED_NEVER,
                               .line = LINE_NONE,
                               .chain_next = *chain};
    *chain = index;
    if (request->deadline_ns == 0) request->deadline_ns = router->now_ns + config->queue_timeout_ns;
    for (int i = 0; i < PICK_EXCLUDED_MAX; i++) request->ask.excluded[i] = NODE_NONE;
    router->totals.n_live++;
    router->totals.n_submitted++;
    router->retries.tokens += config->retry_share;
    router->hedges.tokens += config->hedge_share;
    router_line_push(router, index);
    router_touch(router, index);
    return SL_OK;
}

static void on_cancel(struct router *router, uint32_t index)
{
    request_leave(router, index);
    request_free(router, index);
    router->totals.n_cancelled++;
}

static void on_refused(struct router *router, uint32_t index, struct attempt *attempt,
                       int64_t retry_after_ns)
{
    struct routed *request = &router->requests[index];
    struct hosted_model *hosted =
        node_table_hosted(&router->nodes, attempt->node, request->ask.model);
    int64_t rest_ns = retry_after_ns < FULL_MIN_NS ? FULL_MIN_NS : retry_after_ns;
    if (hosted)
        hosted->full_until_ns = router->now_ns + (rest_ns < FULL_MAX_NS ? rest_ns : FULL_MAX_NS);
    router->totals.n_refused++;
    request->ask.excluded[request->n_excluded++ % PICK_EXCLUDED_MAX] = attempt->node;
    router_attempt_end(router, request, attempt, true);
    if (!router_is_live(request)) router_line_push(router, index);
}

static void on_failed(struct router *router, uint32_t index, struct attempt *attempt,
                      const struct router_event *event)
{
    struct attempt was = *attempt;
    router_attempt_end(router, &router->requests[index], attempt, false);
    if (sl_status_retryable(event->status))
        router_attempt_failed(router, index, &was);
    else
        router_end(router, index, event->status ? event->status : SL_INTERNAL, event->reason);
}

static void on_tokens(struct router *router, uint32_t index, struct attempt *attempt,
                      uint64_t n_tokens)
{
    struct routed *request = &router->requests[index];
    if (attempt->state != ATTEMPT_STREAMING && n_tokens > request->n_tokens) {
        attempt->state = ATTEMPT_STREAMING;
        router_first_token(router, index, attempt);
    }
    if (n_tokens <= request->n_tokens) return;
    struct router_action *action = router_act(router, ROUTER_DELIVER, index);
    action->attempt = attempt->number;
    action->n_from = request->n_tokens;
    action->n_tokens = request->n_tokens = n_tokens;
    request->n_strikes = 0;
}

static void on_finished(struct router *router, uint32_t index, struct attempt *attempt,
                        uint64_t n_tokens)
{
    struct routed *request = &router->requests[index];
    struct hosted_model *hosted =
        node_table_hosted(&router->nodes, attempt->node, request->ask.model);
    on_tokens(router, index, attempt, n_tokens);
    if (hosted) {
        breaker_success(&hosted->breaker);
        hosted->full_until_ns = 0;
    }
    attempt->trial = false;
    router_attempt_end(router, request, attempt, false);
    router_end(router, index, SL_OK, NULL);
}

/* News from an attempt that is over: whoever still works for it is told to stop. */
static void on_stale(struct router *router, const struct router_event *event)
{
    if (event->kind != ROUTER_ACCEPTED && event->kind != ROUTER_TOKENS) return;
    struct router_action *action = router_act(router, ROUTER_STOP, INDEX_NONE);
    action->request = event->request;
    action->attempt = event->attempt;
    action->node = event->node;
}

static void on_attempt_event(struct router *router, const struct router_event *event)
{
    uint32_t index = request_find(router, event->request);
    node_table_heard(&router->nodes, event->node, router->now_ns);
    struct attempt *attempt =
        index == INDEX_NONE ? NULL : router_attempt(&router->requests[index], event->attempt);
    if (!attempt || attempt->node != event->node) {
        on_stale(router, event);
        return;
    }
    attempt->heard_ns = router->now_ns;
    if (attempt->state == ATTEMPT_SENT) attempt->state = ATTEMPT_ACCEPTED;
    router_touch(router, index);
    switch (event->kind) {
    case ROUTER_REFUSED: on_refused(router, index, attempt, event->retry_after_ns); break;
    case ROUTER_FAILED: on_failed(router, index, attempt, event); break;
    case ROUTER_TOKENS: on_tokens(router, index, attempt, event->n_tokens); break;
    case ROUTER_FINISHED: on_finished(router, index, attempt, event->n_tokens); break;
    default: break;
    }
}

/* What ran on the node moves: its requests are looked at in this step and the next ones. */
static void on_node_lost(struct router *router, uint32_t node)
{
    if (router->totals.n_attempts == 0) return;
    for (uint32_t i = 0; i < router->config.n_requests_max; i++) {
        const struct routed *request = &router->requests[i];
        for (int k = 0; k < 2; k++)
            if (request->attempts[k].state != ATTEMPT_NONE && request->attempts[k].node == node)
                router_touch(router, i);
    }
}

static bool has_room(const struct hosted_load *load)
{
    return load->n_running < load->n_slots || load->n_waiting < load->n_queue_max;
}

static void on_report(struct router *router, const struct node_report *report)
{
    bool restarted;
    if (!node_table_report(&router->nodes, report, router->now_ns, &restarted)) {
        router->totals.n_stale_reports++;
        return;
    }
    if (restarted) on_node_lost(router, report->node);
    for (uint32_t i = 0; i < report->n_hosted; i++) {
        const struct hosted_load *load = &report->hosted[i];
        if (load->state != SCHED_READY || !has_room(load)) continue;
        node_table_hosted(&router->nodes, report->node, load->model)->full_until_ns = 0;
        router_line_wake(router, load->model);
    }
}

static sl_status on_event(struct router *router, const struct router_event *event)
{
    switch (event->kind) {
    case ROUTER_SUBMIT: return on_submit(router, event);
    case ROUTER_CANCEL: {
        uint32_t index = request_find(router, event->request);
        if (index != INDEX_NONE) on_cancel(router, index);
        return SL_OK;
    }
    case ROUTER_ACCEPTED:
    case ROUTER_REFUSED:
    case ROUTER_FAILED:
    case ROUTER_TOKENS:
    case ROUTER_FINISHED: on_attempt_event(router, event); return SL_OK;
    case ROUTER_REPORT:
        if (!event->report) return SL_INVALID;
        on_report(router, event->report);
        return SL_OK;
    case ROUTER_NODE_GONE:
        if (event->node >= router->config.table.n_nodes_max) return SL_INVALID;
        node_table_gone(&router->nodes, event->node);
        on_node_lost(router, event->node);
        return SL_OK;
    case ROUTER_HEARD:
        if (event->node >= router->config.table.n_nodes_max) return SL_INVALID;
        node_table_heard(&router->nodes, event->node, router->now_ns);
        return SL_OK;
    case ROUTER_TICK: return SL_OK;
    default: return SL_INVALID;
    }
}

/* --- a step --- */

static bool room_for_round(const struct router *router)
{
    return router->n_actions + ROUTER_ROUND_MAX < ROUTER_ACTIONS_MAX;
}

static void run_due(struct router *router)
{
    uint32_t index;
    int64_t at_ns;
    for (int i = 0; i < ROUTER_DUE_MAX && room_for_round(router); i++) {
        if (!index_heap_min(&router->due, &index, &at_ns) || at_ns > router->now_ns) return;
        router_review(router, index);
    }
}

static void run_lines(struct router *router)
{
    uint32_t model;
    int64_t at_ns;
    while (room_for_round(router) && index_heap_min(&router->looks, &model, &at_ns) &&
           at_ns <= router->now_ns)
        router_line_drain(router, model);
}

static void run_silence(struct router *router)
{
    uint32_t node = node_table_next_dead(&router->nodes, router->now_ns);
    for (; node != NODE_NONE; node = node_table_next_dead(&router->nodes, router->now_ns))
        on_node_lost(router, node);
}

static int64_t next_wake(const struct router *router)
{
    uint32_t item;
    int64_t wake_ns = node_table_next_silence(&router->nodes), at_ns;
    if (index_heap_min(&router->due, &item, &at_ns) && at_ns < wake_ns) wake_ns = at_ns;
    if (index_heap_min(&router->looks, &item, &at_ns) && at_ns < wake_ns) wake_ns = at_ns;
    return wake_ns;
}

sl_status router_step(struct router *router, const struct router_event *event, int64_t now_ns,
                      const struct router_action **out_actions, size_t *out_n)
{
    if (now_ns > router->now_ns) router->now_ns = now_ns;
    router->n_actions = 0;
    *out_actions = router->actions;
    *out_n = 0;
    router_budget_fill(router);
    sl_status status = on_event(router, event);
    if (status != SL_OK) return status;
    run_silence(router);
    run_due(router);
    run_lines(router);
    run_due(router);
    router_act(router, ROUTER_WAKE_AT, INDEX_NONE)->at_ns = next_wake(router);
    *out_n = router->n_actions;
    return SL_OK;
}
