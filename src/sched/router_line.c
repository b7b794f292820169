/* router_line.c: requests that wait for a node, one set of lines a model; and the retry budget. */
#include "sched/router_int.h"

#define MISSES_MAX 4 /* requests in a row that nobody took: the model is full, not one label */
#define STRIDE_ONE (UINT64_C(1) << 32)

static struct router_model *model_of(struct router *router, uint32_t index)
{
    return &router->models[router->requests[index].ask.model];
}

static void look_at(struct router *router, uint32_t model, int64_t at_ns)
{
    index_heap_set(&router->looks, model, at_ns);
}

static bool has_fresh(const struct router_model *model)
{
    for (int c = 0; c < SCHED_CLASS_COUNT; c++)
        if (!index_list_empty(&model->lines[c])) return true;
    return false;
}

void router_line_push(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    struct router_model *model = model_of(router, index);
    request->line = (uint8_t)(request->n_attempts > 0 ? LINE_RETRIES : (int)request->qos_class);
    struct index_list *line = &model->lines[request->line];
    bool was_empty = index_list_empty(line);
    /* Behind fresh ones that found no node there is no use in looking again at once. */
    bool look = request->line == LINE_RETRIES || !has_fresh(model);
    index_list_push(line, router->links, index);
    if (was_empty && request->line != LINE_RETRIES && model->pass[request->line] < model->last_pass)
        model->pass[request->line] = model->last_pass;
    router->totals.n_pending++;
    model->n_pending++;
    if (look) look_at(router, request->ask.model, router->now_ns);
}

void router_line_remove(struct router *router, uint32_t index)
{
    struct routed *request = &router->requests[index];
    if (request->line == LINE_NONE) return;
    struct router_model *model = model_of(router, index);
    index_list_remove(&model->lines[request->line], router->links, index);
    request->line = LINE_NONE;
    router->totals.n_pending--;
    if (--model->n_pending == 0) index_heap_remove(&router->looks, request->ask.model);
}

void router_line_wake(struct router *router, uint32_t model)
{
    if (router->models[model].n_pending > 0) look_at(router, model, router->now_ns);
}

/* The line whose turn it is; ROUTER_LINES when there is none. */
static int next_line(const struct router_model *model, bool retries_too)
{
    if (retries_too && !index_list_empty(&model->lines[LINE_RETRIES])) return LINE_RETRIES;
    int best = ROUTER_LINES;
    for (int c = 0; c < SCHED_CLASS_COUNT; c++) {
        if (index_list_empty(&model->lines[c])) continue;
        if (best == ROUTER_LINES || model->pass[c] < model->pass[best]) best = c;
    }
    return best;
}

static void count_turn(struct router *router, struct router_model *model, int line)
{
    if (line == LINE_RETRIES) return;
    model->last_pass = model->pass[line];
    model->pass[line] += STRIDE_ONE / router->config.class_weight[line];
}

/* The head of a line that nobody took goes to its end, lest it hold up others with other wishes. */
static void rotate(struct router *router, struct router_model *model, int line)
{
    uint32_t head = model->lines[line].head;
    index_list_remove(&model->lines[line], router->links, head);
    index_list_push(&model->lines[line], router->links, head);
}

/* Sends the head of the line. False: no budget, or no node. */
static bool send_head(struct router *router, struct router_model *model, int line)
{
    uint32_t index = model->lines[line].head;
    struct routed *request = &router->requests[index];
    if (request->pays && router->retries.tokens < 1) return false;
    if (!router_send(router, index, false)) {
        /* Where it was refused may be room by now. */
        request->n_excluded = 0;
        for (int i = 0; i < PICK_EXCLUDED_MAX; i++) request->ask.excluded[i] = NODE_NONE;
        rotate(router, model, line);
        return false;
    }
    if (request->pays) (void)router_budget_take(&router->retries);
    request->pays = false;
    router_line_remove(router, index);
    count_turn(router, model, line);
    return true;
}

void router_line_drain(struct router *router, uint32_t number)
{
    struct router_model *model = &router->models[number];
    uint32_t n_sent = 0, n_missed = 0;
    bool retries_too = true; /* without budget or node, they do not hold up what was never sent */
    while (n_sent < ROUTER_SENDS_MAX && n_missed < MISSES_MAX) {
        int line = next_line(model, retries_too);
        if (line == ROUTER_LINES) break;
        bool sent = send_head(router, model, line);
        n_sent += sent;
        n_missed += !sent;
        if (!sent && line == LINE_RETRIES) retries_too = false;
    }
    if (n_sent > 0 || model->n_pending == 0) model->wait_ns = router->config.retry_min_ns;
    if (model->n_pending == 0) return;
    look_at(router, number, router->now_ns + (n_missed > 0 ? model->wait_ns : 0));
    if (n_missed > 0 && model->wait_ns * 2 <= router->config.retry_max_ns) model->wait_ns *= 2;
}

static void fill(struct budget *budget, double per_s, double burst, int64_t now_ns)
{
    budget->tokens += (double)(now_ns - budget->filled_ns) / 1e9 * per_s;
    if (budget->tokens > burst) budget->tokens = burst;
    budget->filled_ns = now_ns;
}

void router_budget_fill(struct router *router)
{
    fill(&router->retries, router->config.retry_per_s, router->config.retry_burst, router->now_ns);
    fill(&router->hedges, 0, router->config.retry_burst, router->now_ns);
}

bool router_budget_take(struct budget *budget)
{
    if (budget->tokens < 1) return false;
    budget->tokens -= 1;
    return true;
}
