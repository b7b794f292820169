/* split.c: see split.h. Which numbers of micro-batches are looked at, in which order, by which
 * search; what is said when nothing fits; and when a chain that runs is left for another. */
#include "sched/split.h"
#include "base/mem.h"
#include "base/size_text.h"
#include "sched/split_int.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BALANCE_ROWS \
    128             /* of a chunk by which stages are compared: compute bounds it, as all larger */
#define ASK_STEPS 2 /* of work, for a node of a set, in one question of split_slowest.c */
#define ASKS 10     /* that it mostly takes */
#define ROOMY_NODES 4     /* of the few that the exact search looks at among many */
#define SLOWDOWN_STEP 0.2 /* of the way to what was measured: one slow step says little */
#define SLOWDOWN_MIN 0.1
#define SLOWDOWN_MAX 10.0
#define GAIN_IMPOSSIBLE 1e9

const char *split_aim_name(enum split_aim aim)
{
    static const char *const names[SPLIT_AIM_COUNT] = {"latency", "throughput"};
    return (unsigned)aim < SPLIT_AIM_COUNT ? names[aim] : "?";
}

/* --- the search --- */

struct trial { /* of one number of micro-batches */
    int32_t flights, rows;
    double slowest; /* bound of the slowest stage's time */
    double lowest;  /* bound of the period */
};

struct maker {
    const struct split_view *view;
    struct trial trials[SPLIT_FLIGHTS_MAX];
    int n_trials;
    struct split_chain best;
    int32_t flights; /* of the best */
    double bound;    /* of all periods */
    uint64_t work;
    bool exact;
};

static sl_status trial_cost(const struct split_view *view, const struct trial *trial,
                            struct split_cost *out)
{
    const struct split_load load = {
        .rows = trial->rows, .outputs = trial->rows, .context = view->goal.prompt};
    return split_cost_init(view, &load, out);
}

static sl_status find_lowest(const struct split_view *view, struct trial *trial)
{
    struct split_cost cost;
    struct split_reach reach = {0};
    struct split_bound bound = {0};
    sl_status status = trial_cost(view, trial, &cost);
    if (status == SL_OK) status = split_reach_init(&cost, &reach);
    if (status == SL_OK) status = split_bound_init(&cost, &bound);
    if (status == SL_OK) {
        trial->slowest = split_bound_slowest(&reach);
        split_reach_set(&reach, INFINITY);
        split_bound_room(&bound, &reach);
        trial->lowest = fmax(trial->flights * trial->slowest, split_bound_all(&bound));
    }
    split_bound_done(&bound);
    split_reach_done(&reach);
    split_cost_done(&cost);
    return status;
}

/* For least latency one stream counts, and one row. More micro-batches of no fewer rows are of no
 * use. */
static sl_status list_trials(struct maker *m)
{
    int32_t n = m->view->goal.aim == SPLIT_LATENCY ? 1 : m->view->goal.n_seqs, rows = 0;
    for (int32_t f = 1; f <= n && f <= SPLIT_FLIGHTS_MAX; f++) {
        struct trial trial = {.flights = f, .rows = (n + f - 1) / f};
        if (trial.rows == rows) continue;
        rows = trial.rows;
        sl_status status = find_lowest(m->view, &trial);
        if (status != SL_OK) return status;
        int at = m->n_trials++;
        for (; at > 0 && m->trials[at - 1].lowest > trial.lowest; at--)
            m->trials[at] = m->trials[at - 1];
        m->trials[at] = trial;
    }
    m->bound = m->trials[0].lowest;
    return SL_OK;
}

static void take_if_better(struct maker *m, const struct split_chain *chain, int32_t flights)
{
    if (!chain->n || chain->period >= m->best.period * (1 - SPLIT_EPS)) return;
    m->best = *chain;
    m->flights = flights;
}

/* Raises trial->lowest to what the slowest stage makes it, and takes that chain if it is better.
 * Where the heuristic has no chain the question is only whether there is one at all. */
static sl_status search_slowest(struct maker *m, const struct split_cost *cost, struct trial *trial,
                                struct split_chain *chain)
{
    uint64_t work = ((uint64_t)m->view->n << m->view->n) * ASK_STEPS * ASKS;
    bool affordable = m->work >= work && m->view->goal.aim == SPLIT_THROUGHPUT;
    if (!affordable && chain->n) return SL_OK;
    sl_status status = split_least_slowest(cost, affordable ? trial->slowest : INFINITY, chain);
    if (status != SL_OK || !chain->n) return status;
    if (affordable) {
        m->work -= work;
        trial->slowest = chain->slowest;
        split_chain_time(cost, trial->flights, chain);
    } else {
        split_chain_time(cost, trial->flights, chain);
        status = split_heuristic(cost, trial->flights, chain);
    }
    take_if_better(m, chain, trial->flights);
    trial->lowest = fmax(trial->lowest, trial->flights * trial->slowest);
    return status;
}

static sl_status search_exact(struct maker *m, const struct split_cost *cost, struct trial *trial,
                              struct split_chain *chain)
{
    bool exact = true;
    sl_status status = SL_OK;
    /* A first chain, where the heuristic has none: there may be none at all. */
    if (trial->flights > 1 || !chain->n) status = search_slowest(m, cost, trial, chain);
    if (status != SL_OK || !chain->n || trial->lowest >= m->best.period * (1 - SPLIT_EPS))
        return status;
    chain->period = m->best.period;
    status = split_least_period(cost, trial->flights, &m->work, chain, &exact);
    m->exact &= exact;
    if (status == SL_OK) take_if_better(m, chain, trial->flights);
    return status;
}

static sl_status search_trial(struct maker *m, struct trial *trial)
{
    struct split_cost cost;
    struct split_chain chain;
    sl_status status = trial_cost(m->view, trial, &cost);
    if (status != SL_OK) return status;
    chain.n = 0;
    status = split_heuristic(&cost, trial->flights, &chain);
    if (status == SL_OK) take_if_better(m, &chain, trial->flights);
    if (m->view->n > SPLIT_EXACT_NODES)
        m->exact = false;
    else if (status == SL_OK)
        status = search_exact(m, &cost, trial, &chain);
    split_cost_done(&cost);
    return status;
}

/* As far as the sum allows: first the stages of a prompt's chunks alike, which is what the first
 * token waits for, or else those of a token. */
static sl_status balance_chain(const struct split_cost *token, int32_t flights,
                               struct split_chain *chain)
{
    const struct split_goal *goal = &token->view->goal;
    const struct split_load load = {.rows =
                                        goal->prompt < BALANCE_ROWS ? goal->prompt : BALANCE_ROWS,
                                    .context = goal->prompt / 2.0,
                                    .is_prompt = true};
    struct split_chain found = *chain;
    struct split_cost chunk;
    double sum_max = chain->period * (1 + SPLIT_SLACK);
    sl_status status = split_cost_init(token->view, &load, &chunk);
    if (status != SL_OK) return status;
    split_chain_time(&chunk, 1, &found);
    status = split_balance(&chunk, 1, INFINITY, &found);
    split_cost_done(&chunk);
    if (status != SL_OK) return status;
    split_chain_time(token, flights, &found);
    if (found.period > sum_max) return split_balance(token, flights, sum_max, chain);
    *chain = found;
    return SL_OK;
}

/* Nodes that are alike give the same latency wherever the borders are. */
static sl_status balance(struct maker *m)
{
    struct split_cost cost;
    sl_status status = trial_cost(m->view, &m->trials[0], &cost);
    if (status != SL_OK) return status;
    status = balance_chain(&cost, m->trials[0].flights, &m->best);
    split_cost_done(&cost);
    return status;
}

static sl_status search(struct maker *m)
{
    sl_status status = m->view->n ? list_trials(m) : SL_OK;
    for (int i = 0; i < m->n_trials && status == SL_OK; i++) {
        if (m->trials[i].lowest >= m->best.period * (1 - SPLIT_EPS)) break;
        status = search_trial(m, &m->trials[i]);
    }
    if (status == SL_OK && m->best.n > 1 && m->view->goal.aim == SPLIT_LATENCY) status = balance(m);
    return status;
}

/* --- the answer --- */

static sl_status refuse_stages(const struct split_view *view, struct sl_err *err)
{
    int32_t n = view->goal.n_stages;
    if (n > view->model->n_layer)
        return sl_err_set(err, SL_UNAVAILABLE, "%d stages of a model that has %d layers", n,
                          view->model->n_layer);
    if (n > 0 && (uint32_t)n > view->n)
        return sl_err_set(err, SL_UNAVAILABLE, "%d stages, and %u usable nodes", n, view->n);
    return SL_OK;
}

static sl_status refuse(const struct split_view *view, struct sl_err *err)
{
    const struct split_model *model = view->model;
    char text[6][SL_SIZE_TEXT_MAX];
    uint64_t total = 0, most = 0;
    uint64_t weights = view->bytes[model->n_layer] + model->embd_bytes + model->head_bytes;
    uint64_t kv = view->kv_bytes * (uint64_t)model->n_layer;
    uint64_t buffers = model->stage_bytes + model->head_buffer_bytes;
    if (refuse_stages(view, err) != SL_OK) return SL_UNAVAILABLE;
    for (uint32_t v = 0; v < view->n; v++) {
        uint64_t room = UINT64_MAX - total;
        total += view->nodes[v].memory_bytes < room ? view->nodes[v].memory_bytes : room;
        if (view->nodes[v].memory_bytes > most) most = view->nodes[v].memory_bytes;
    }
    bool too_little = total < weights + kv + buffers;
    return sl_err_set(err, SL_UNAVAILABLE,
                      "%s are needed (weights %s, KV cache of %d x %d tokens %s) and up to %s "
                      "more for each stage; %u usable nodes have %s together, the largest %s%s",
                      sl_size_text(weights + kv, text[0]), sl_size_text(weights, text[1]),
                      view->goal.n_seqs, view->goal.context, sl_size_text(kv, text[2]),
                      sl_size_text(buffers, text[3]), view->n, sl_size_text(total, text[4]),
                      sl_size_text(most, text[5]),
                      too_little ? "" : ", and no chain of them holds whole layers");
}

static sl_status plan_of_chain(const struct split_problem *problem, const struct maker *m,
                               struct split_plan *out, struct sl_err *err)
{
    const struct split_chain *chain = &m->best;
    *out = (struct split_plan){.n_stages = chain->n, .exact = m->exact};
    for (uint32_t i = 0; i < chain->n; i++)
        out->stages[i] = (struct split_stage){.node = m->view->number[chain->node[i]],
                                              .first = i ? chain->last[i - 1] : 0,
                                              .last = chain->last[i]};
    if (m->view->goal.aim == SPLIT_THROUGHPUT) out->flights = m->flights;
    if (!m->exact) out->gap = fmax(0, chain->period / m->bound - 1);
    out->exact |= out->gap < SPLIT_EPS;
    return split_predict(problem, out, err);
}

/* Among many nodes: those that are required, those of the heuristic's chain, the roomiest and the
 * fastest, until there are as many as the exact search takes. */
static void choose_few(const struct maker *m, struct split_node *nodes)
{
    const struct split_view *view = m->view;
    bool chosen[SPLIT_NODES_MAX] = {false};
    uint32_t n = 0, roomy = ROOMY_NODES;
    for (uint32_t v = 0; v < view->n; v++) chosen[v] = view->nodes[v].flags & SPLIT_REQUIRED;
    for (uint32_t i = 0; i < m->best.n; i++) chosen[m->best.node[i]] = true;
    for (uint32_t v = 0; v < view->n; v++) n += chosen[v];
    for (; n < SPLIT_EXACT_NODES; n++) {
        uint32_t best = 0;
        double most = -1;
        for (uint32_t v = 0; v < view->n; v++) {
            const struct split_node *node = &view->nodes[v];
            double value = roomy ? (double)node->memory_bytes
                                 : node->machine.speed[view->model->weight].bytes_s *
                                       node->machine.share / node->slowdown;
            if (chosen[v] || value <= most) continue;
            most = value;
            best = v;
        }
        roomy -= roomy ? 1 : 0;
        chosen[best] = true;
    }
    for (uint32_t v = 0; v < view->n; v++)
        if (!chosen[v]) nodes[view->number[v]].flags |= SPLIT_EXCLUDED;
}

static double period_of(const struct split_view *view, const struct split_plan *plan)
{
    return view->goal.aim == SPLIT_LATENCY ? 1 / plan->tokens_s
                                           : view->goal.n_seqs / plan->tokens_s_total;
}

/* The exact search over a part of the nodes that has the heuristic's. */
static sl_status make_of_few(const struct split_problem *problem, const struct maker *m,
                             struct split_plan *out, struct sl_err *err)
{
    struct split_problem few = *problem;
    struct split_plan plan = {.tokens_s = 1, .tokens_s_total = 1};
    struct split_node *nodes = sl_malloc((problem->n_nodes + 1) * sizeof *nodes);
    if (!nodes) return sl_err_set(err, SL_NOMEM, "tables of the planner");
    memcpy(nodes, problem->nodes, problem->n_nodes * sizeof *nodes);
    choose_few(m, nodes);
    few.nodes = nodes;
    sl_status status = split_make(&few, &plan, err);
    sl_free(nodes);
    if (status == SL_UNAVAILABLE) return m->best.n ? SL_OK : refuse(m->view, err);
    if (status != SL_OK) return status;
    if (!m->best.n || period_of(m->view, &plan) < period_of(m->view, out)) *out = plan;
    out->gap = fmax(0, period_of(m->view, out) / m->bound - 1);
    out->exact = out->gap < SPLIT_EPS;
    return SL_OK;
}

sl_status split_make(const struct split_problem *problem, struct split_plan *out,
                     struct sl_err *err)
{
    struct split_view view;
    sl_status status = split_view_init(problem, &view, err);
    if (status != SL_OK) return status;
    struct maker m = {.view = &view,
                      .best.period = INFINITY,
                      .bound = INFINITY,
                      .work = view.goal.work_max,
                      .exact = true};
    status = search(&m);
    bool many = view.n > SPLIT_EXACT_NODES && view.n_required <= SPLIT_EXACT_NODES;
    if (status != SL_OK) (void)sl_err_set(err, status, "tables of the planner");
    if (status == SL_OK && m.best.n) status = plan_of_chain(problem, &m, out, err);
    if (status == SL_OK && many)
        status = make_of_few(problem, &m, out, err);
    else if (status == SL_OK && !m.best.n)
        status = refuse(&view, err);
    split_view_done(&view);
    return status;
}

/* --- a running chain and a better one --- */

/* The nodes of a chain in their order, numbered as in the view. False: one cannot be used. */
static bool nodes_of(const struct split_view *view, const struct split_plan *plan,
                     struct split_chain *out)
{
    *out = (struct split_chain){.n = (uint32_t)plan->n_stages};
    for (size_t i = 0; i < plan->n_stages; i++) {
        uint32_t v = 0;
        while (v < view->n && view->number[v] != plan->stages[i].node) v++;
        if (v == view->n) return false;
        out->node[i] = v;
    }
    return plan->n_stages > 0;
}

/* The running chain's nodes with the best borders for as many micro-batches as `plan` has. */
static sl_status reborder(const struct split_problem *problem, const struct split_plan *running,
                          const struct split_plan *plan, struct split_plan *out, bool *out_found)
{
    struct split_view view;
    struct split_cost cost = {0};
    struct split_chain chain;
    sl_status status = split_view_init(problem, &view, NULL);
    *out_found = false;
    if (status != SL_OK) return status;
    struct maker m = {.view = &view, .flights = plan->flights, .exact = false, .bound = INFINITY};
    struct trial trial = {.flights = 1, .rows = 1};
    if (view.goal.aim == SPLIT_THROUGHPUT)
        trial = (struct trial){.flights = plan->flights, .rows = plan->rows};
    bool usable = nodes_of(&view, running, &chain);
    if (usable) status = trial_cost(&view, &trial, &cost);
    if (usable && status == SL_OK) status = split_borders(&cost, trial.flights, &chain);
    if (usable && status == SL_OK && chain.n > 1 && view.goal.aim == SPLIT_LATENCY)
        status = balance_chain(&cost, 1, &chain);
    if (usable && status == SL_OK && chain.n) {
        m.best = chain;
        *out_found = plan_of_chain(problem, &m, out, NULL) == SL_OK;
    }
    split_cost_done(&cost);
    split_view_done(&view);
    return status;
}

static double rate_of(const struct split_problem *problem, const struct split_plan *plan)
{
    return problem->goal.aim == SPLIT_LATENCY ? plan->tokens_s : plan->tokens_s_total;
}

sl_status split_make_near(const struct split_problem *problem, const struct split_plan *running,
                          struct split_plan *out, struct sl_err *err)
{
    struct split_plan near;
    bool found;
    sl_status status = split_make(problem, out, err);
    if (status != SL_OK) return status;
    status = reborder(problem, running, out, &near, &found);
    if (status != SL_OK) return sl_err_set(err, status, "tables of the planner");
    double best = rate_of(problem, out), rate = found ? rate_of(problem, &near) : 0;
    if (!found || rate < best * (1 - SPLIT_NEAR)) return SL_OK;
    near.gap = fmax(0, best * (1 + out->gap) / rate - 1);
    near.exact = near.gap < SPLIT_EPS;
    *out = near;
    return SL_OK;
}

/* Layers of a stage that its node does not have from the chain that runs. */
static uint64_t new_bytes(const struct split_problem *problem, const struct split_plan *running,
                          const struct split_stage *stage)
{
    const struct split_model *model = problem->model;
    const struct split_stage *old = NULL;
    uint64_t bytes = 0;
    for (size_t i = 0; i < running->n_stages; i++)
        if (running->stages[i].node == stage->node) old = &running->stages[i];
    for (int32_t il = stage->first; il < stage->last; il++)
        if (!old || il < old->first || il >= old->last) bytes += model->layer_bytes[il];
    if (stage->first == 0 && !(old && old->first == 0)) bytes += model->embd_bytes;
    if (stage->last == model->n_layer && !(old && old->last == model->n_layer))
        bytes += model->head_bytes;
    return bytes;
}

void split_better(const struct split_problem *problem, const struct split_plan *running,
                  const struct split_plan *plan, const struct split_hysteresis *hysteresis,
                  struct split_move *out)
{
    static const struct split_hysteresis usual = {SPLIT_GAIN, SPLIT_HORIZON_S};
    struct split_plan now = *running;
    struct sl_err err = SL_ERR_INIT;
    if (!hysteresis) hysteresis = &usual;
    *out = (struct split_move){0};
    for (size_t i = 0; i < plan->n_stages; i++) {
        const struct split_stage *stage = &plan->stages[i];
        uint64_t bytes = new_bytes(problem, running, stage);
        double share = stage->weight_bytes ? (double)bytes / (double)stage->weight_bytes : 0;
        out->bytes += bytes;
        out->seconds = fmax(out->seconds, share * stage->load_s);
    }
    if (split_predict(problem, &now, &err) != SL_OK) {
        out->gain = GAIN_IMPOSSIBLE;
        out->worth_it = true;
        return;
    }
    out->gain = rate_of(problem, plan) / rate_of(problem, &now) - 1;
    /* Tokens that are not made while it moves come back by the gain within the horizon. */
    out->worth_it = out->gain >= hysteresis->gain &&
                    out->gain * (hysteresis->horizon_s - out->seconds) > out->seconds;
}

double split_slowdown(double old, double predicted_s, double measured_s)
{
    if (!(old > 0)) old = 1;
    if (!(predicted_s > 0) || !(measured_s > 0)) return old;
    double value = old + SLOWDOWN_STEP * (old * measured_s / predicted_s - old);
    return fmin(fmax(value, SLOWDOWN_MIN), SLOWDOWN_MAX);
}

double split_computing_s(const struct split_machine *machine, double foretold_s)
{
    double share = machine->share;
    if (!(share > 0) || share >= 1) return foretold_s;
    double slice = share * (machine->period_s > 0 ? machine->period_s : SPLIT_PERIOD_S);
    return foretold_s <= slice ? foretold_s : slice + (foretold_s - slice) * share;
}

double split_unthrottled_s(const struct split_machine *machine, double compute_s, double measured_s)
{
    double share = machine->share;
    if (!(share > 0) || share >= 1 || measured_s < compute_s) return measured_s;
    return fmax(compute_s, measured_s * share);
}

void split_chain_text(const struct split_plan *plan, const char *const *names, char *out,
                      size_t out_size)
{
    size_t at = 0;
    if (out_size) *out = '\0';
    for (size_t i = 0; i < plan->n_stages && at < out_size; i++) {
        const struct split_stage *stage = &plan->stages[i];
        int n = snprintf(out + at, out_size - at, "%s%s: layers %d-%d", i ? ", " : "",
                         names[stage->node], stage->first, stage->last - 1);
        at += n > 0 ? (size_t)n : 0;
    }
}
