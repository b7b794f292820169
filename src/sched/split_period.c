/* split_period.c: the chain of the least period, exactly: dynamic programming over (set of nodes,
 * last node, layers done) for each first node.
 *
 * sums(S, v)[l] is the least time of stages and links of a chain over exactly the nodes S, the last
 * of them v, that has done l layers, none of its stages being slower than a bound. It follows from
 * sums(S without v, u) for all u. What cannot become better than the best chain known, by
 * split_bound.c, is dropped, and with it most sets. At worst 2^n * n * n_layer * (n + n_layer)
 * steps for each first node and each bound; a first bound mostly is enough, for the sum, and the
 * slowest stage's share of the period, are both below the best period known. */
#include "base/mem.h"
#include "sched/split_int.h"
#include <math.h>
#include <string.h>

#define ROWS_MAX (1 << 20)
#define SUMS_MAX (16 << 20) /* numbers in all rows: 128 MB, which only hopeless cases reach */
#define BOUNDS 60           /* halvings of the slowest stage's time, to the last bits */

struct row { /* sums of one set and last node, for layers [low, low + n) */
    uint32_t at, low, n;
};

struct search {
    const struct split_cost *cost;
    int32_t n_layer;
    uint32_t n, required;
    struct split_reach reach;
    struct split_bound bound;
    uint32_t *index; /* [2^n][n]: a row's number, from 1 on; 0: none */
    struct row *rows;
    double *sums;
    size_t n_rows, rows_room, n_sums, sums_room;
    double *begins, *ends, *rest; /* [n_layer + 1]: of one set and node; rest: bounds of a set */
    uint32_t first;
    double limit; /* sums from it on are of no use */
    struct split_chain best;
    uint64_t work; /* left */
    bool exhausted;
};

/* --- rows --- */

static const struct row *row_of(const struct search *s, uint32_t set, uint32_t v)
{
    uint32_t number = s->index[(size_t)set * s->n + v];
    return number ? &s->rows[number - 1] : NULL;
}

static bool make_room(struct search *s, size_t n)
{
    if (s->n_rows == s->rows_room) {
        size_t room = s->rows_room ? 2 * s->rows_room : 1024;
        struct row *rows = room <= ROWS_MAX ? sl_realloc_array(s->rows, room, sizeof *rows) : NULL;
        if (!rows) return false;
        s->rows = rows;
        s->rows_room = room;
    }
    while (s->n_sums + n > s->sums_room) {
        size_t room = s->sums_room ? 2 * s->sums_room : 65536;
        double *sums = room <= SUMS_MAX ? sl_realloc_array(s->sums, room, sizeof *sums) : NULL;
        if (!sums) return false;
        s->sums = sums;
        s->sums_room = room;
    }
    return true;
}

/* Keeps what is worth going on from of s->ends. */
static void row_add(struct search *s, uint32_t set, uint32_t v)
{
    int32_t low = s->n_layer, high = 0;
    for (int32_t l = 1; l < s->n_layer; l++) {
        if (s->ends[l] >= s->limit) continue;
        if (isnan(s->rest[l])) s->rest[l] = split_bound_sum(&s->bound, l, set);
        if (s->ends[l] + s->rest[l] >= s->limit) {
            s->ends[l] = INFINITY;
            continue;
        }
        if (l < low) low = l;
        high = l;
    }
    if (low > high) return;
    size_t n = (size_t)(high - low) + 1;
    if (!make_room(s, n)) {
        s->exhausted = true; /* as good an answer as there is room for */
        return;
    }
    s->rows[s->n_rows++] = (struct row){(uint32_t)s->n_sums, (uint32_t)low, (uint32_t)n};
    memcpy(s->sums + s->n_sums, s->ends + low, n * sizeof *s->sums);
    s->n_sums += n;
    s->index[(size_t)set * s->n + v] = (uint32_t)s->n_rows;
}

/* --- one step --- */

/* Least sums with which the work can be at v after the nodes `before`. */
static bool fill_begins(struct search *s, uint32_t before, uint32_t v)
{
    bool any = false;
    for (int32_t l = 0; l <= s->n_layer; l++) s->begins[l] = INFINITY;
    for (uint32_t u = 0; u < s->n; u++) {
        const struct row *row = before >> u & 1 ? row_of(s, before, u) : NULL;
        if (!row || split_transfer_s(s->cost, u, v) > s->reach.slowest) continue;
        double link = split_link_s(s->cost, u, v);
        for (uint32_t i = 0; i < row->n; i++)
            s->begins[row->low + i] = fmin(s->begins[row->low + i], s->sums[row->at + i] + link);
        any = true;
    }
    return any;
}

static void fill_ends(struct search *s, uint32_t v)
{
    const uint16_t *far = s->reach.far + (size_t)v * (size_t)s->n_layer;
    const bool *to_end = s->reach.ends + (size_t)v * (size_t)s->n_layer;
    for (int32_t l = 0; l <= s->n_layer; l++) s->ends[l] = INFINITY;
    for (int32_t begin = 0; begin < s->n_layer; begin++) {
        double before = s->begins[begin];
        if (before >= s->limit) continue;
        uint64_t work = (uint64_t)(far[begin] - begin) + 1;
        s->exhausted |= s->work < work;
        s->work -= s->work < work ? s->work : work;
        for (int32_t end = begin + 1; end <= far[begin]; end++)
            s->ends[end] = fmin(s->ends[end], before + split_wall_s(s->cost, v, begin, end));
        if (to_end[begin])
            s->ends[s->n_layer] =
                fmin(s->ends[s->n_layer], before + split_wall_s(s->cost, v, begin, s->n_layer));
    }
}

/* Where the stage of v that ends at `last` begins, and the node before it. */
static int32_t find_begin(struct search *s, uint32_t before, uint32_t v, int32_t last,
                          uint32_t *out_node)
{
    double least = INFINITY;
    int32_t found = 0;
    for (uint32_t u = 0; u < s->n; u++) {
        const struct row *row = before >> u & 1 ? row_of(s, before, u) : NULL;
        if (!row || split_transfer_s(s->cost, u, v) > s->reach.slowest) continue;
        for (uint32_t i = 0; i < row->n && (int32_t)(row->low + i) < last; i++) {
            int32_t begin = (int32_t)(row->low + i);
            size_t at = (size_t)v * (size_t)s->n_layer + (size_t)begin;
            if (last == s->n_layer ? !s->reach.ends[at] : s->reach.far[at] < last) continue;
            double sum = s->sums[row->at + i] + split_link_s(s->cost, u, v) +
                         split_wall_s(s->cost, v, begin, last);
            if (sum >= least) continue;
            least = sum;
            found = begin;
            *out_node = u;
        }
    }
    return found;
}

static void trace(struct search *s, uint32_t set, uint32_t v)
{
    int32_t last = s->n_layer;
    s->best.n = (uint32_t)__builtin_popcount(set);
    for (uint32_t i = s->best.n; i-- > 0;) {
        uint32_t before = s->first;
        s->best.node[i] = v;
        s->best.last[i] = last;
        set &= ~(UINT32_C(1) << v);
        if (set) last = find_begin(s, set, v, last, &before);
        v = before;
    }
}

/* The whole model is done: is it the best? */
static void take_end(struct search *s, uint32_t set, uint32_t v)
{
    double sum = s->ends[s->n_layer] + split_return_s(s->cost, v, s->first);
    if (sum >= s->limit || (s->required & ~set) ||
        (uint32_t)__builtin_popcount(set) < split_stages_min(s->cost->view))
        return;
    s->limit = sum * (1 - SPLIT_EPS);
    trace(s, set, v);
}

static void do_set(struct search *s, uint32_t set)
{
    bool goes_on = (uint32_t)__builtin_popcount(set) < split_stages_max(s->cost->view);
    for (int32_t l = 0; l < s->n_layer; l++) s->rest[l] = NAN;
    for (uint32_t v = 0; v < s->n && !s->exhausted; v++) {
        uint32_t before = set & ~(UINT32_C(1) << v);
        if (before == set || v == s->first || !fill_begins(s, before, v)) continue;
        fill_ends(s, v);
        take_end(s, set, v);
        if (goes_on) row_add(s, set, v);
    }
}

static void do_first(struct search *s, uint32_t first)
{
    uint32_t n_sets = UINT32_C(1) << s->n, alone = UINT32_C(1) << first;
    memset(s->index, 0, (size_t)n_sets * s->n * sizeof *s->index);
    s->n_rows = s->n_sums = 0;
    s->first = first;
    for (int32_t l = 0; l <= s->n_layer; l++) s->begins[l] = INFINITY;
    for (int32_t l = 0; l < s->n_layer; l++) s->rest[l] = NAN;
    s->begins[0] = 0;
    fill_ends(s, first);
    take_end(s, alone, first);
    if (split_stages_max(s->cost->view) > 1) row_add(s, alone, first);
    for (uint32_t set = alone + 1; set < n_sets && s->n_rows && !s->exhausted; set++)
        if (set & alone && (uint32_t)__builtin_popcount(set) <= split_stages_max(s->cost->view))
            do_set(s, set);
}

/* The least sum below `limit` of chains none of whose stages is slower than `slowest`. */
static bool least_sum(struct search *s, double slowest, double limit)
{
    s->limit = limit;
    s->best.n = 0;
    split_reach_set(&s->reach, slowest);
    split_bound_room(&s->bound, &s->reach);
    for (uint32_t v = 0; v < s->n && !s->exhausted; v++)
        if (split_may_head(s->cost->view, v)) do_first(s, v);
    return s->best.n > 0;
}

/* --- the period --- */

static void least_period(struct search *s, int32_t flights, struct split_chain *chain)
{
    double low = 0;
    for (int i = 0; i < BOUNDS && !s->exhausted; i++) {
        double limit = chain->period * (1 - SPLIT_EPS), high = limit / flights;
        double slowest = i % 2 ? (low + high) / 2 : high;
        if (low >= high) return;
        if (!least_sum(s, slowest, limit)) {
            if (slowest == high) return;
            low = slowest;
            continue;
        }
        *chain = s->best;
        split_chain_time(s->cost, flights, chain);
        /* Only what has a slower stage can have a smaller sum. */
        if (chain->sum < flights * chain->slowest) continue;
        if (slowest == high) return;
        low = slowest;
    }
}

static sl_status search_init(struct search *s, const struct split_cost *cost)
{
    const struct split_view *view = cost->view;
    size_t n_layers = (size_t)view->model->n_layer + 1;
    s->cost = cost;
    s->n = view->n;
    s->n_layer = view->model->n_layer;
    for (uint32_t v = 0; v < view->n; v++)
        if (view->nodes[v].flags & SPLIT_REQUIRED) s->required |= UINT32_C(1) << v;
    sl_status status = split_reach_init(cost, &s->reach);
    if (status == SL_OK) status = split_bound_init(cost, &s->bound);
    s->index = sl_calloc((size_t)s->n << s->n, sizeof *s->index);
    s->begins = sl_calloc(3 * n_layers, sizeof *s->begins);
    if (!s->index || !s->begins) return SL_NOMEM;
    s->ends = s->begins + n_layers;
    s->rest = s->ends + n_layers;
    return status;
}

sl_status split_least_period(const struct split_cost *cost, int32_t flights, uint64_t *work,
                             struct split_chain *chain, bool *out_exact)
{
    struct search s = {.work = *work};
    sl_status status = search_init(&s, cost);
    if (status == SL_OK) least_period(&s, flights, chain);
    *work = s.work;
    *out_exact = !s.exhausted;
    split_reach_done(&s.reach);
    split_bound_done(&s.bound);
    sl_free(s.index);
    sl_free(s.rows);
    sl_free(s.sums);
    sl_free(s.begins);
    return status;
}
