/* router_attempt.c: sending a request to a node, and how that ends. */
#include "sched/router_int.h"

#define PREDICTED_MIN_S 0.010 /* below, noise decides how late an answer is */
#define LATE_STEP 0.02        /* of the estimate, at each answer */
#define LATE_SHARE 0.95
#define LATE_RATIO_MAX 100.0
#define NS_PER_S 1e9

static struct hosted_model *hosted_of(const struct router *router, const struct routed *request,
                                      const struct attempt *attempt)
{
    return node_table_hosted(&router->nodes, attempt->node, request->ask.model);
}

struct attempt *router_attempt(struct routed *request, uint32_t number)
{
    for (int i = 0; i < 2; i++)
        if (request->attempts[i].state != ATTEMPT_NONE && request->attempts[i].number == number)
            return &request->attempts[i];
    return NULL;
}

bool router_is_live(const struct routed *request)
{
    return request->attempts[0].state != ATTEMPT_NONE || request->attempts[1].state != ATTEMPT_NONE;
}

static void exclude(struct routed *request, uint32_t node)
{
    request->ask.excluded[request->n_excluded++ % PICK_EXCLUDED_MAX] = node;
}

/* --- sending --- */

static struct router_explanation *explanation_next(struct router *router, uint64_t request)
{
    if (router->config.n_explained == 0) return NULL;
    uint64_t at = router->n_explained++ % router->config.n_explained;
    struct router_explanation *explanation = &router->explained[at];
    explanation->request = request;
    explanation->attempt = 0;
    explanation->at_ns = router->now_ns;
    return explanation;
}

static uint32_t decide(struct router *router, const struct routed *request,
                       const struct pick_ask *ask, struct pick *out)
{
    struct router_explanation *explanation = explanation_next(router, request->id);
    struct pick_rows rows = {.capacity = ROUTER_ROWS_MAX};
    if (explanation) rows.rows = explanation->rows;
    pick_node(&router->nodes, &router->config.policy, ask, &router->picks, router->now_ns, out,
              explanation ? &rows : NULL);
    if (explanation) {
        explanation->pick = *out;
        explanation->n_rows = rows.n;
        if (out->node != NODE_NONE) explanation->attempt = request->n_attempts + 1;
    }
    return out->node;
}

/* A second try is worth its work only where the answer could have been here by now. */
static bool hedge_pays(const struct router *router, const struct attempt *first,
                       const struct pick *pick)
{
    return pick->first_token_s * NS_PER_S <= (double)(router->now_ns - first->sent_ns);
}

static void plan_hedge(struct router *router, struct routed *request, const struct attempt *attempt)
{
    double late_ns = attempt->predicted_s * router->late_ratio * NS_PER_S;
    int64_t min_ns = router->config.hedge_min_ns;
    request->hedge_ns = SCHED_NEVER;
    if (request->qos_class != SCHED_INTERACTIVE || router->config.hedge_share <= 0) return;
    if (late_ns < (double)(SCHED_NEVER / 4))
        request->hedge_ns = router->now_ns + (late_ns > (double)min_ns ? (int64_t)late_ns : min_ns);
}

static void attempt_begin(struct router *router, struct routed *request, struct attempt *attempt,
                          const struct pick *pick, bool hedge)
{
    uint64_t prefill = request->ask.prompt_tokens + request->n_tokens;
    prefill -= pick->cached_tokens < prefill ? pick->cached_tokens : prefill;
    *attempt = (struct attempt){.state = ATTEMPT_SENT,
                                .hedge = hedge,
                                .number = ++request->n_attempts,
                                .node = pick->node,
                                .boot = router->nodes.nodes[pick->node].boot,
                                .sent_ns = router->now_ns,
                                .heard_ns = router->now_ns,
                                .predicted_s = pick->first_token_s};
    attempt->sent = node_table_sent(&router->nodes, pick->node, request->ask.model, prefill,
                                    request->ask.blocks, request->ask.n_blocks);
    attempt->trial = breaker_send(&hosted_of(router, request, attempt)->breaker);
    router->totals.n_attempts++;
    router->totals.n_sent++;
}

bool router_send(struct router *router, uint32_t index, bool hedge)
{
    struct routed *request = &router->requests[index];
    struct attempt *free_one = &request->attempts[request->attempts[0].state != ATTEMPT_NONE];
    struct attempt *other = free_one == request->attempts ? free_one + 1 : request->attempts;
    struct pick_ask ask = request->ask;
    struct pick pick;
    if (other->state != ATTEMPT_NONE)
        ask.excluded[request->n_excluded % PICK_EXCLUDED_MAX] = other->node;
    if (decide(router, request, &ask, &pick) == NODE_NONE) return false;
    if (hedge && !hedge_pays(router, other, &pick)) return false;
    attempt_begin(router, request, free_one, &pick, hedge);
    if (!hedge) plan_hedge(router, request, free_one);
    struct router_action *action = router_act(router, ROUTER_SEND, index);
    action->attempt = free_one->number;
    action->node = free_one->node;
    action->sent = free_one->sent;
    action->n_tokens = request->n_tokens;
    action->hedge = hedge;
    router_touch(router, index);
    return true;
}

/* --- ends --- */

void router_attempt_end(struct router *router, struct routed *request, struct attempt *attempt,
                        bool refused)
{
    struct hosted_model *hosted = hosted_of(router, request, attempt);
    if (hosted && attempt->trial) breaker_release(&hosted->breaker);
    node_table_ended(&router->nodes, attempt->node, request->ask.model, attempt->sent, refused);
    attempt->state = ATTEMPT_NONE;
    router->totals.n_attempts--;
    router_line_wake(router, request->ask.model);
}

void router_attempt_stop(struct router *router, uint32_t index, struct attempt *attempt)
{
    struct router_action *action = router_act(router, ROUTER_STOP, index);
    action->attempt = attempt->number;
    action->node = attempt->node;
    router_attempt_end(router, &router->requests[index], attempt, false);
}

/* Back into the line, unless another attempt lives or this was one too many. */
static void strike(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    if (++request->n_strikes >= router->config.attempts_max && !router_is_live(request))
        router_end(router, index, SL_UNAVAILABLE, "it failed on too many nodes in a row");
    else if (!router_is_live(request) && request->line == LINE_NONE)
        router_line_push(router, index);
}

void router_attempt_failed(struct router *router, uint32_t index, struct attempt *attempt)
{
    struct routed *request = &router->requests[index];
    struct hosted_model *hosted = hosted_of(router, request, attempt);
    attempt->trial = false;
    if (hosted) breaker_failure(&hosted->breaker, &router->config.table.breaker, router->now_ns);
    exclude(request, attempt->node);
    request->pays = true;
    router->totals.n_retried++;
    strike(router, index);
}

void router_first_token(struct router *router, uint32_t index, struct attempt *attempt)
{
    struct routed *request = &router->requests[index];
    struct hosted_model *hosted = hosted_of(router, request, attempt);
    if (hosted) breaker_success(&hosted->breaker);
    attempt->trial = false;
    if (attempt->hedge) router->totals.n_hedges_won++;
    struct attempt *other = &request->attempts[attempt == request->attempts];
    if (other->state != ATTEMPT_NONE) router_attempt_stop(router, index, other);
    double predicted =
        attempt->predicted_s > PREDICTED_MIN_S ? attempt->predicted_s : PREDICTED_MIN_S;
    double ratio = (double)(router->now_ns - attempt->sent_ns) / NS_PER_S / predicted;
    /* Moves up 19 times as far as down, so that it rests where 19 of 20 are below. */
    double move = ratio > router->late_ratio ? LATE_SHARE : LATE_SHARE - 1;
    router->late_ratio *= 1 + LATE_STEP * move;
    if (router->late_ratio > LATE_RATIO_MAX) router->late_ratio = LATE_RATIO_MAX;
    if (router->late_ratio < 1) router->late_ratio = 1;
}

/* --- what time brings --- */

static bool node_lost(const struct router *router, const struct attempt *attempt)
{
    const struct grid_node *node = &router->nodes.nodes[attempt->node];
    return node->health == NODE_DEAD || node->boot != attempt->boot;
}

static int64_t silence_due(const struct router *router, const struct attempt *attempt)
{
    if (attempt->state == ATTEMPT_SENT) return attempt->sent_ns + router->config.answer_ns;
    return attempt->heard_ns + router->config.silence_ns;
}

static void review_attempt(struct router *router, uint32_t index, struct attempt *attempt)
{
    struct attempt was = *attempt;
    if (node_lost(router, attempt)) {
        router_attempt_stop(router, index, attempt);
        router->totals.n_moved++;
        strike(router, index);
    } else if (router->now_ns >= silence_due(router, attempt)) {
        router_attempt_stop(router, index, attempt);
        router_attempt_failed(router, index, &was);
    }
}

static void review_hedge(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    bool one = (request->attempts[0].state != ATTEMPT_NONE) !=
               (request->attempts[1].state != ATTEMPT_NONE);
    if (router->now_ns < request->hedge_ns || !one || request->n_tokens > 0) return;
    request->hedge_ns = SCHED_NEVER;
    if (router->hedges.tokens < 1 || !router_send(router, index, true)) return;
    (void)router_budget_take(&router->hedges);
    router->totals.n_hedged++;
}

static int64_t next_due(const struct router *router, const struct routed *request)
{
    int64_t due_ns = SCHED_NEVER;
    if (request->n_tokens == 0) due_ns = request->deadline_ns;
    if (router_is_live(request) && request->n_tokens == 0 && request->hedge_ns < due_ns)
        due_ns = request->hedge_ns;
    for (int i = 0; i < 2; i++) {
        const struct attempt *attempt = &request->attempts[i];
        if (attempt->state == ATTEMPT_NONE) continue;
        int64_t at_ns = silence_due(router, attempt);
        if (at_ns < due_ns) due_ns = at_ns;
    }
    return due_ns;
}

void router_review(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    uint64_t id = request->id;
    if (request->n_tokens == 0 && router->now_ns >= request->deadline_ns) {
        router->totals.n_expired++;
        router_end(router, index, SL_TIMEOUT, "no node had begun to answer in time");
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (request->attempts[i].state == ATTEMPT_NONE) continue;
        review_attempt(router, index, &request->attempts[i]);
        if (request_ended(request, id)) return;
    }
    review_hedge(router, index);
    index_heap_set(&router->due, index, next_due(router, request));
}
