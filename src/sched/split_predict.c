/* split_predict.c: what a given chain will do: its memory, its tokens a second, the time to the
 * first one; and the naive splits to compare with. */
#include "base/size_text.h"
#include "sched/split_int.h"
#include <math.h>

#define CHUNK_MIN 32        /* shorter ones waste the speed that many rows have */
#define CHUNK_MAX (1 << 24) /* the longest context */

/* --- the chain of a plan --- */

/* Those that a stranger's chain may bring along: no arithmetic with them overflows. */
static sl_status check_counts(const struct split_plan *plan, struct sl_err *err)
{
    if (plan->flights >= 0 && plan->flights <= SPLIT_SEQS_MAX && plan->rows >= 0 &&
        plan->rows <= SPLIT_SEQS_MAX && plan->chunk >= 0 && plan->chunk <= CHUNK_MAX)
        return SL_OK;
    return sl_err_set(err, SL_INVALID, "%d flights of %d rows, chunks of %d", plan->flights,
                      plan->rows, plan->chunk);
}

static bool find_node(const struct split_view *view, uint32_t number, uint32_t *out)
{
    for (uint32_t v = 0; v < view->n; v++) {
        if (view->number[v] != number) continue;
        *out = v;
        return true;
    }
    return false;
}

static sl_status take_chain(const struct split_view *view, const struct split_plan *plan,
                            struct split_chain *out, struct sl_err *err)
{
    int32_t done = 0;
    if (plan->n_stages < 1 || plan->n_stages > SPLIT_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "%zu stages, from 1 to %d", plan->n_stages,
                          SPLIT_STAGES_MAX);
    *out = (struct split_chain){.n = (uint32_t)plan->n_stages};
    for (size_t i = 0; i < plan->n_stages; i++) {
        const struct split_stage *stage = &plan->stages[i];
        if (stage->first != done || stage->last <= done || stage->last > view->model->n_layer)
            return sl_err_set(err, SL_INVALID, "stage %zu: layers %d to %d, after %d of %d", i,
                              stage->first, stage->last, done, view->model->n_layer);
        if (!find_node(view, stage->node, &out->node[i]))
            return sl_err_set(err, SL_UNAVAILABLE, "stage %zu: node %u cannot be used", i,
                              stage->node);
        for (size_t k = 0; k < i; k++)
            if (out->node[k] == out->node[i])
                return sl_err_set(err, SL_INVALID, "stages %zu and %zu are on one node", k, i);
        done = out->last[i] = stage->last;
    }
    if (done == view->model->n_layer) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%d of %d layers are covered", done, view->model->n_layer);
}

static bool has_room(const struct split_view *view, const struct split_chain *chain, int32_t chunk)
{
    int32_t first = 0;
    for (uint32_t i = 0; i < chain->n; i++) {
        if (split_memory_of(view, first, chain->last[i], chunk) >
            view->nodes[chain->node[i]].memory_bytes)
            return false;
        first = chain->last[i];
    }
    return true;
}

static sl_status check_room(const struct split_view *view, const struct split_chain *chain,
                            struct sl_err *err)
{
    char takes[SL_SIZE_TEXT_MAX], has[SL_SIZE_TEXT_MAX];
    int32_t first = 0;
    for (uint32_t i = 0; i < chain->n; i++) {
        if (!split_fits(view, chain->node[i], first, chain->last[i]))
            return sl_err_set(
                err, SL_UNAVAILABLE, "stage %u: layers %d to %d take %s, its node has %s", i, first,
                chain->last[i] - 1, sl_size_text(split_memory(view, first, chain->last[i]), takes),
                sl_size_text(view->nodes[chain->node[i]].memory_bytes, has));
        first = chain->last[i];
    }
    return SL_OK;
}

/* --- its times --- */

static double load_s(const struct split_node *node, uint64_t bytes)
{
    double rate = node->machine.disk_bytes_s;
    if (node->fetch_bytes_s > 0) rate = fmin(rate, node->fetch_bytes_s);
    return (double)bytes / rate;
}

static void fill_stages(const struct split_view *view, const struct split_chain *chain,
                        struct split_plan *plan)
{
    const struct split_model *model = view->model;
    plan->load_s = 0;
    for (uint32_t i = 0; i < chain->n; i++) {
        struct split_stage *stage = &plan->stages[i];
        stage->memory_bytes = split_memory_of(view, stage->first, stage->last, plan->chunk);
        stage->kv_bytes = (uint64_t)(stage->last - stage->first) * view->kv_bytes;
        stage->weight_bytes = split_memory(view, stage->first, stage->last) - stage->kv_bytes -
                              model->stage_bytes -
                              (i + 1 == chain->n ? model->head_buffer_bytes : 0);
        stage->load_s = load_s(&view->nodes[chain->node[i]], stage->weight_bytes);
        plan->load_s = fmax(plan->load_s, stage->load_s);
    }
}

static sl_status one_stream(const struct split_view *view, struct split_chain *chain,
                            struct split_plan *plan)
{
    const struct split_load load = {.rows = 1, .outputs = 1, .context = view->goal.prompt};
    struct split_cost cost;
    sl_status status = split_cost_init(view, &load, &cost);
    if (status != SL_OK) return status;
    split_chain_time(&cost, 1, chain);
    plan->tokens_s = 1 / chain->period;
    for (uint32_t i = 0; i < chain->n; i++) {
        struct split_stage *stage = &plan->stages[i];
        uint32_t v = chain->node[i];
        bool is_last = i + 1 == chain->n;
        stage->token_s = split_wall_s(&cost, v, stage->first, stage->last);
        stage->link_s = is_last ? split_return_s(&cost, v, chain->node[0])
                                : split_link_s(&cost, v, chain->node[i + 1]);
    }
    split_cost_done(&cost);
    return SL_OK;
}

static int32_t rows_of(int32_t n_seqs, int32_t flights)
{
    return (n_seqs + flights - 1) / flights;
}

static sl_status cost_of_rows(const struct split_view *view, int32_t rows, struct split_cost *out)
{
    const struct split_load load = {.rows = rows, .outputs = rows, .context = view->goal.prompt};
    return split_cost_init(view, &load, out);
}

/* The number of micro-batches that gives most, unless the plan has one already. */
static sl_status choose_flights(const struct split_view *view, struct split_chain *chain,
                                struct split_plan *plan)
{
    int32_t n_seqs = view->goal.n_seqs, best = 1;
    double least = INFINITY;
    for (int32_t f = 1; f <= SPLIT_FLIGHTS_MAX && f <= n_seqs && !plan->flights; f++) {
        struct split_cost cost;
        if (f > 1 && rows_of(n_seqs, f) == rows_of(n_seqs, f - 1)) continue;
        sl_status status = cost_of_rows(view, rows_of(n_seqs, f), &cost);
        if (status != SL_OK) return status;
        split_chain_time(&cost, f, chain);
        split_cost_done(&cost);
        if (chain->period >= least * (1 - SPLIT_EPS)) continue;
        least = chain->period;
        best = f;
    }
    if (!plan->flights) plan->flights = best;
    if (!plan->rows) plan->rows = rows_of(n_seqs, plan->flights);
    return SL_OK;
}

static sl_status all_streams(const struct split_view *view, struct split_chain *chain,
                             struct split_plan *plan)
{
    struct split_cost cost;
    double slowest = 0;
    sl_status status = choose_flights(view, chain, plan);
    if (status == SL_OK) status = cost_of_rows(view, plan->rows, &cost);
    if (status != SL_OK) return status;
    split_chain_time(&cost, plan->flights, chain);
    plan->tokens_s_total = view->goal.n_seqs / chain->period;
    for (uint32_t i = 0; i < chain->n; i++) {
        struct split_stage *stage = &plan->stages[i];
        uint32_t v = chain->node[i];
        stage->step_s = split_wall_s(&cost, v, stage->first, stage->last);
        stage->busy_s = split_busy_s(&cost, v, stage->first, stage->last);
        double transfer = i + 1 < chain->n ? split_transfer_s(&cost, v, chain->node[i + 1]) : 0;
        if (fmax(stage->busy_s, transfer) <= slowest) continue;
        slowest = fmax(stage->busy_s, transfer);
        plan->bottleneck = i;
        plan->link_bound = transfer > stage->busy_s;
    }
    split_cost_done(&cost);
    return SL_OK;
}

/* The first chunk passes all stages; the others come out of the last one as fast as the slowest
 * takes them. Of the last chunk alone one row goes through the head. */
static sl_status prompt_time(const struct split_view *view, struct split_chain *chain,
                             int32_t chunk, struct split_plan *plan)
{
    int32_t prompt = view->goal.prompt, n_chunks = (prompt + chunk - 1) / chunk;
    const struct split_load load = {
        .rows = rows_of(prompt, n_chunks), .context = prompt / 2.0, .is_prompt = true};
    const struct split_load last = {.rows = 1, .outputs = 1};
    struct split_cost cost, end;
    sl_status status = split_cost_init(view, &load, &cost);
    if (status != SL_OK) return status;
    status = split_cost_init(view, &last, &end);
    if (status == SL_OK) {
        split_chain_time(&cost, 1, chain);
        double first =
            chain->sum + (n_chunks - 1) * chain->slowest + end.head[chain->node[chain->n - 1]];
        if (!plan->chunk || first < plan->first_token_s) {
            plan->chunk = chunk;
            plan->first_token_s = first;
            for (uint32_t i = 0; i < chain->n; i++)
                plan->stages[i].chunk_s = split_wall_s(&cost, chain->node[i], plan->stages[i].first,
                                                       plan->stages[i].last);
        }
    }
    split_cost_done(&end);
    split_cost_done(&cost);
    return status;
}

static sl_status choose_chunk(const struct split_view *view, struct split_chain *chain,
                              struct split_plan *plan)
{
    int32_t given = plan->chunk;
    sl_status status = SL_OK;
    plan->chunk = 0;
    if (given) return prompt_time(view, chain, given, plan);
    for (int32_t chunk = CHUNK_MIN; chunk <= SPLIT_ROWS_MAX && status == SL_OK; chunk *= 2) {
        if (chunk > CHUNK_MIN && chunk / 2 >= view->goal.prompt) break;
        if (chunk > SPLIT_CHUNK_FITS && !has_room(view, chain, chunk)) break;
        status = prompt_time(view, chain, chunk, plan);
    }
    return status;
}

static sl_status predict(const struct split_view *view, struct split_plan *plan, struct sl_err *err)
{
    struct split_chain chain = {0};
    sl_status status = check_counts(plan, err);
    if (status == SL_OK) status = take_chain(view, plan, &chain, err);
    if (status == SL_OK) status = check_room(view, &chain, err);
    if (status != SL_OK) return status;
    status = one_stream(view, &chain, plan);
    if (status == SL_OK) status = all_streams(view, &chain, plan);
    if (status == SL_OK) status = choose_chunk(view, &chain, plan);
    if (status == SL_OK) fill_stages(view, &chain, plan);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "tables of the planner");
}

sl_status split_predict(const struct split_problem *problem, struct split_plan *plan,
                        struct sl_err *err)
{
    struct split_view view;
    sl_status status = split_view_init(problem, &view, err);
    if (status != SL_OK) return status;
    status = predict(&view, plan, err);
    split_view_done(&view);
    return status;
}

/* --- naive splits --- */

static sl_status split_by(const struct split_problem *problem, const uint32_t *nodes, size_t n,
                          struct split_plan *out, bool by_memory, struct sl_err *err)
{
    double total = 0, before = 0;
    int32_t n_layer = problem->model->n_layer, done = 0;
    *out = (struct split_plan){.n_stages = n};
    if (n < 1 || n > SPLIT_STAGES_MAX || (int32_t)n > n_layer)
        return sl_err_set(err, SL_INVALID, "%zu stages of %d layers", n, n_layer);
    for (size_t i = 0; i < n; i++) {
        if (nodes[i] >= problem->n_nodes)
            return sl_err_set(err, SL_INVALID, "there is no node %u", nodes[i]);
        total += by_memory ? (double)problem->nodes[nodes[i]].memory_bytes : 1;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t least = done + 1, most = n_layer - (int32_t)(n - 1 - i);
        before += by_memory ? (double)problem->nodes[nodes[i]].memory_bytes : 1;
        int32_t last = total > 0 ? (int32_t)lround(n_layer * before / total) : most;
        if (last < least) last = least;
        if (last > most || i + 1 == n) last = most;
        out->stages[i] = (struct split_stage){.node = nodes[i], .first = done, .last = last};
        done = last;
    }
    return split_predict(problem, out, err);
}

sl_status split_equal(const struct split_problem *problem, const uint32_t *nodes, size_t n,
                      struct split_plan *out, struct sl_err *err)
{
    return split_by(problem, nodes, n, out, false, err);
}

sl_status split_by_memory(const struct split_problem *problem, const uint32_t *nodes, size_t n,
                          struct split_plan *out, struct sl_err *err)
{
    return split_by(problem, nodes, n, out, true, err);
}
