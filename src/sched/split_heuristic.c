/* split_heuristic.c: a good chain soon: orders of the fastest and of the roomiest nodes are tried,
 * the best one is improved by replacing, adding, removing and moving nodes until nothing helps.
 * Where the borders lie is found exactly for every order: by halving when the slowest stage is what
 * counts, by dynamic programming over the layers when the sum does. It is where the exact search
 * begins, and all there is beyond SPLIT_EXACT_NODES nodes. */
#include "base/mem.h"
#include "sched/split_int.h"
#include <math.h>
#include <string.h>

#define HALVINGS 40    /* of the slowest stage's time */
#define PRECISION 1e-6 /* of it */
#define TRADES 8       /* of a slower slowest stage for a smaller sum */
#define FAST_NODES 20  /* that take part in the local search, */
#define ROOMY_NODES 8  /* and so many more of the largest memory */
#define CLIMBS 3       /* from the best chains of different lengths, */
#define TRIES_MAX 600  /* each through so many orders: some 10 us for most */

struct local {
    const struct split_cost *cost;
    int32_t flights, n_layer;
    uint32_t pool[SPLIT_NODES_MAX]; /* nodes that are tried, the best first */
    uint32_t n_pool;
    double
        *sums; /* [SPLIT_STAGES_MAX][n_layer + 1]: least seconds of stages up to one, by its end */
    uint16_t *begins;        /* [SPLIT_STAGES_MAX][n_layer + 1]: where that stage begins then */
    struct split_chain best; /* of the climb under way */
    struct split_chain top[SPLIT_STAGES_MAX + 1]; /* of the rankings, by number of stages */
    uint32_t n_tries;
};

/* --- borders of one order --- */

static bool can(const struct local *l, uint32_t v, int32_t first, int32_t last, double slowest)
{
    return split_fits(l->cost->view, v, first, last) &&
           split_busy_s(l->cost, v, first, last) <= slowest;
}

/* The most layers from `first` on, at most up to `most`; first: none. */
static int32_t farthest(const struct local *l, uint32_t v, int32_t first, int32_t most,
                        double slowest)
{
    int32_t low = first, high = most;
    while (low < high) {
        int32_t middle = (low + high + 1) / 2;
        if (can(l, v, first, middle, slowest))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Every stage takes what it can below the bound: if that does not cover the layers, nothing
 * does. */
static bool cover(const struct local *l, double slowest, struct split_chain *chain)
{
    int32_t first = 0;
    for (uint32_t i = 0; i + 1 < chain->n; i++) {
        int32_t most = l->n_layer - (int32_t)(chain->n - 1 - i);
        int32_t last = farthest(l, chain->node[i], first, most, slowest);
        if (last <= first) return false;
        chain->last[i] = first = last;
    }
    chain->last[chain->n - 1] = l->n_layer;
    return can(l, chain->node[chain->n - 1], first, l->n_layer, slowest);
}

static bool least_slowest(const struct local *l, struct split_chain *chain)
{
    struct split_chain found = *chain;
    double low = 0, middle;
    if (!cover(l, INFINITY, &found)) return false;
    split_chain_time(l->cost, l->flights, &found);
    *chain = found;
    for (int i = 0; i < HALVINGS && low < chain->slowest * (1 - PRECISION); i++) {
        middle = (low + chain->slowest) / 2;
        if (!cover(l, middle, &found)) {
            low = middle;
            continue;
        }
        split_chain_time(l->cost, l->flights, &found);
        if (found.slowest >= chain->slowest) return true; /* a transfer is the slowest */
        *chain = found;
    }
    return true;
}

/* The least sum of which no stage is slower than the bound. */
static bool least_sum(const struct local *l, double slowest, struct split_chain *chain)
{
    size_t row = (size_t)l->n_layer + 1;
    for (uint32_t i = 0; i < chain->n; i++) {
        double *sums = l->sums + i * row;
        int32_t least = (int32_t)i, most = l->n_layer - (int32_t)(chain->n - 1 - i);
        for (size_t k = 0; k < row; k++) sums[k] = INFINITY;
        for (int32_t first = least; first < most; first++) {
            double before = i ? sums[first - (int32_t)row] : first ? INFINITY : 0;
            int32_t last = i + 1 < chain->n ? first + 1 : l->n_layer;
            if (before == INFINITY) continue;
            for (; last <= most && can(l, chain->node[i], first, last, slowest); last++) {
                double sum = before + split_wall_s(l->cost, chain->node[i], first, last);
                if (sum >= sums[last]) continue;
                sums[last] = sum;
                l->begins[i * row + (size_t)last] = (uint16_t)first;
            }
        }
    }
    int32_t last = l->n_layer;
    if (l->sums[(chain->n - 1) * row + (size_t)last] == INFINITY) return false;
    for (uint32_t i = chain->n; i-- > 0;) {
        chain->last[i] = last;
        last = l->begins[i * row + (size_t)last];
    }
    split_chain_time(l->cost, l->flights, chain);
    return true;
}

/* Between the least slowest stage and the least sum lies the least period. */
static void trade(const struct local *l, struct split_chain *chain)
{
    struct split_chain found = *chain;
    double low = chain->slowest, high;
    if (!least_sum(l, INFINITY, &found)) return;
    if (l->best.n && found.sum >= l->best.period) return;
    if (found.period < chain->period) *chain = found;
    high = found.slowest;
    for (int i = 0; i < TRADES && l->flights * high > found.sum && low < high; i++) {
        double middle = (low + high) / 2;
        if (!least_sum(l, middle, &found)) return;
        if (found.period < chain->period) *chain = found;
        if (found.sum > l->flights * middle)
            low = middle;
        else
            high = middle;
    }
}

/* What an order costs wherever its borders are. */
static double least_of(const struct local *l, const struct split_chain *chain)
{
    double sum = split_return_s(l->cost, chain->node[chain->n - 1], chain->node[0]), transfer = 0;
    for (uint32_t i = 0; i + 1 < chain->n; i++) {
        sum += split_link_s(l->cost, chain->node[i], chain->node[i + 1]);
        transfer = fmax(transfer, split_transfer_s(l->cost, chain->node[i], chain->node[i + 1]));
    }
    return fmax(sum, l->flights * transfer);
}

static bool borders(struct local *l, struct split_chain *chain)
{
    const struct split_view *view = l->cost->view;
    if (chain->n < 1 || chain->n > split_stages_max(view) || (int32_t)chain->n > l->n_layer ||
        chain->n < split_stages_min(view) || !split_may_head(view, chain->node[0]))
        return false;
    if (l->best.n && least_of(l, chain) >= l->best.period) return false;
    if (!least_slowest(l, chain)) return false;
    if (l->flights * chain->slowest < chain->sum * (1 - SPLIT_EPS)) trade(l, chain);
    return true;
}

/* --- orders --- */

/* Takes an order over when it is better, or even with fewer stages. */
static bool consider(struct local *l, struct split_chain *chain)
{
    uint32_t n_required = 0;
    l->n_tries++;
    for (uint32_t i = 0; i < chain->n && i < SPLIT_STAGES_MAX; i++)
        n_required += l->cost->view->nodes[chain->node[i]].flags & SPLIT_REQUIRED ? 1 : 0;
    if (n_required < l->cost->view->n_required || !borders(l, chain)) return false;
    if (l->best.n && chain->period >= l->best.period * (1 - SPLIT_EPS)) return false;
    l->best = *chain;
    return true;
}

static bool is_in(const struct split_chain *chain, uint32_t v)
{
    for (uint32_t i = 0; i < chain->n; i++)
        if (chain->node[i] == v) return true;
    return false;
}

static void node_insert(struct split_chain *chain, uint32_t at, uint32_t v)
{
    memmove(chain->node + at + 1, chain->node + at, (chain->n - at) * sizeof *chain->node);
    chain->node[at] = v;
    chain->n++;
}

static uint32_t node_remove(struct split_chain *chain, uint32_t at)
{
    uint32_t v = chain->node[at];
    chain->n--;
    memmove(chain->node + at, chain->node + at + 1, (chain->n - at) * sizeof *chain->node);
    return v;
}

/* The nodes of a set in the order of the nearest neighbour, from each of them. */
static void try_set(struct local *l, const uint32_t *set, uint32_t n)
{
    for (uint32_t start = 0; start < n; start++) {
        struct split_chain chain = {.n = 1, .node = {set[start]}};
        while (chain.n < n) {
            uint32_t near = UINT32_MAX;
            double least = INFINITY;
            for (uint32_t i = 0; i < n; i++) {
                double link = split_link_s(l->cost, chain.node[chain.n - 1], set[i]);
                if (is_in(&chain, set[i]) || link >= least) continue;
                near = set[i];
                least = link;
            }
            if (near == UINT32_MAX) return;
            chain.node[chain.n++] = near;
        }
        consider(l, &chain);
    }
}

/* The first nodes of a ranking, with all that are required. */
static void try_ranking(struct local *l, const uint32_t *ranking)
{
    const struct split_view *view = l->cost->view;
    for (uint32_t n = 1; n <= split_stages_max(view); n++) {
        uint32_t set[SPLIT_STAGES_MAX], n_set = 0;
        l->best = l->top[n];
        for (uint32_t i = 0; i < view->n && n_set < n; i++)
            if (view->nodes[ranking[i]].flags & SPLIT_REQUIRED) set[n_set++] = ranking[i];
        for (uint32_t i = 0; i < view->n && n_set < n; i++)
            if (!(view->nodes[ranking[i]].flags & SPLIT_REQUIRED)) set[n_set++] = ranking[i];
        try_set(l, set, n_set);
        l->top[n] = l->best;
    }
}

static bool improve_by_one(struct local *l)
{
    const struct split_chain from = l->best;
    struct split_chain chain;
    for (uint32_t at = 0; at < from.n; at++) {
        chain = from;
        node_remove(&chain, at);
        if (chain.n && consider(l, &chain)) return true;
        for (uint32_t to = 0; to < from.n; to++) { /* moved to another place */
            chain = from;
            uint32_t v = node_remove(&chain, at);
            node_insert(&chain, to, v);
            if (to != at && consider(l, &chain)) return true;
        }
        for (uint32_t to = at + 1; to < from.n; to++) {
            chain = from;
            chain.node[at] = from.node[to];
            chain.node[to] = from.node[at];
            if (consider(l, &chain)) return true;
        }
    }
    return false;
}

static bool improve_by_others(struct local *l)
{
    const struct split_chain from = l->best;
    struct split_chain chain;
    for (uint32_t i = 0; i < l->n_pool && l->n_tries < TRIES_MAX; i++) {
        uint32_t v = l->pool[i];
        if (is_in(&from, v)) continue;
        for (uint32_t at = 0; at < from.n; at++) {
            chain = from;
            chain.node[at] = v;
            if (consider(l, &chain)) return true;
        }
        for (uint32_t at = 0; at <= from.n && from.n < SPLIT_STAGES_MAX; at++) {
            chain = from;
            node_insert(&chain, at, v);
            if (consider(l, &chain)) return true;
        }
    }
    return false;
}

/* From the best ones of different numbers of stages upwards: one climb alone often ends on a low
 * hill. */
static struct split_chain climb(struct local *l)
{
    struct split_chain best = {0};
    for (uint32_t climbs = 0; climbs < CLIMBS; climbs++) {
        struct split_chain *top = &l->top[0];
        for (uint32_t n = 1; n <= SPLIT_STAGES_MAX; n++)
            if (l->top[n].n && (!top->n || l->top[n].period < top->period)) top = &l->top[n];
        l->best = *top;
        top->n = 0;
        l->n_tries = 0;
        while (l->best.n && l->n_tries < TRIES_MAX && (improve_by_one(l) || improve_by_others(l))) {
        }
        if (l->best.n && (!best.n || l->best.period < best.period)) best = l->best;
    }
    return best;
}

/* --- the pool --- */

static void rank(const double *values, uint32_t n, uint32_t *ranking)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i;
        for (; k > 0 && values[ranking[k - 1]] < values[i]; k--) ranking[k] = ranking[k - 1];
        ranking[k] = i;
    }
}

static void pool_add(struct local *l, uint32_t v)
{
    for (uint32_t i = 0; i < l->n_pool; i++)
        if (l->pool[i] == v) return;
    l->pool[l->n_pool++] = v;
}

static void run(struct local *l)
{
    const struct split_view *view = l->cost->view;
    double values[SPLIT_NODES_MAX] = {0};
    uint32_t by_speed[SPLIT_NODES_MAX], by_room[SPLIT_NODES_MAX];
    for (uint32_t v = 0; v < view->n; v++) values[v] = -split_busy_s(l->cost, v, 0, l->n_layer);
    rank(values, view->n, by_speed);
    for (uint32_t v = 0; v < view->n; v++) values[v] = (double)view->nodes[v].memory_bytes;
    rank(values, view->n, by_room);
    for (uint32_t i = 0; i < view->n && i < FAST_NODES; i++) pool_add(l, by_speed[i]);
    for (uint32_t i = 0; i < view->n && i < ROOMY_NODES; i++) pool_add(l, by_room[i]);
    try_ranking(l, by_speed);
    try_ranking(l, by_room);
    l->best = climb(l);
}

static sl_status local_init(struct local *l, const struct split_cost *cost, int32_t flights)
{
    size_t n = SPLIT_STAGES_MAX * ((size_t)cost->view->model->n_layer + 1);
    *l = (struct local){.cost = cost, .flights = flights, .n_layer = cost->view->model->n_layer};
    l->sums = sl_malloc(n * sizeof *l->sums);
    l->begins = sl_malloc(n * sizeof *l->begins);
    return l->sums && l->begins ? SL_OK : SL_NOMEM;
}

static void local_done(struct local *l)
{
    sl_free(l->sums);
    sl_free(l->begins);
}

sl_status split_heuristic(const struct split_cost *cost, int32_t flights, struct split_chain *chain)
{
    struct local l;
    sl_status status = local_init(&l, cost, flights);
    if (status == SL_OK) {
        if (chain->n) l.top[chain->n] = *chain;
        run(&l);
        *chain = l.best;
    }
    local_done(&l);
    return status;
}

sl_status split_borders(const struct split_cost *cost, int32_t flights, struct split_chain *chain)
{
    struct local l;
    sl_status status = local_init(&l, cost, flights);
    if (status == SL_OK && !borders(&l, chain)) chain->n = 0;
    local_done(&l);
    return status;
}

sl_status split_balance(const struct split_cost *cost, int32_t flights, double sum_max,
                        struct split_chain *chain)
{
    struct local l;
    struct split_chain found = *chain;
    sl_status status = local_init(&l, cost, flights);
    if (status == SL_OK && least_slowest(&l, &found)) {
        double low = found.slowest;
        if (found.sum <= sum_max && found.slowest < chain->slowest) *chain = found;
        for (int i = 0; i < TRADES && low < chain->slowest * (1 - PRECISION); i++) {
            double middle = (low + chain->slowest) / 2;
            if (least_sum(&l, middle, &found) && found.sum <= sum_max)
                *chain = found;
            else
                low = middle;
        }
    }
    local_done(&l);
    return status;
}
