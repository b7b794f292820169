/* split_slowest.c: the chain whose slowest stage is fastest, exactly: dynamic programming over sets
 * of nodes asks whether a chain exists none of whose stages takes longer than a bound, and the
 * bound is halved until no chain is left below it.
 *
 * ends(S, v) is the set of layers at which a chain of exactly the nodes S, the last of them v, can
 * end; a stage reaches from a layer to any layer up to `far`, so that ends(S, v) is a union of
 * intervals over the ends of S without v. Sets of layers are bits in words: 2^n * n * n_layer / 64
 * words of memory; 2^n * n * (n + n_layer) steps a question, and some ten questions. */
#include "base/mem.h"
#include "sched/split_int.h"
#include <math.h>
#include <string.h>

#define WORD 64
#define WORDS_MAX (SPLIT_LAYERS_MAX / WORD + 1)
#define HALVINGS 40

struct table {
    const struct split_cost *cost;
    struct split_reach reach;
    uint32_t n, n_sets;
    size_t words;
    uint64_t *ends; /* [n_sets][n][words] */
    uint64_t *any;  /* [n_sets][words]: of any last node */
    uint32_t required;
    uint32_t barred[SPLIT_EXACT_NODES]; /* from which the way to a node takes too long */
};

static uint64_t *ends_of(const struct table *t, uint32_t set, uint32_t v)
{
    return t->ends + ((size_t)set * t->n + v) * t->words;
}

static uint64_t *any_of(const struct table *t, uint32_t set)
{
    return t->any + (size_t)set * t->words;
}

static bool has(const uint64_t *bits, int32_t i)
{
    return bits[i / WORD] >> (i % WORD) & 1;
}

/* Sets bits [from, to]. */
static void set_range(uint64_t *bits, int32_t from, int32_t to)
{
    for (int32_t w = from / WORD; w <= to / WORD; w++) {
        int32_t low = w == from / WORD ? from % WORD : 0;
        int32_t high = w == to / WORD ? to % WORD : WORD - 1;
        bits[w] |= (UINT64_MAX >> (WORD - 1 - high)) & (UINT64_MAX << low);
    }
}

static sl_status table_init(struct table *t, const struct split_cost *cost)
{
    *t = (struct table){.cost = cost, .n = cost->view->n};
    t->n_sets = UINT32_C(1) << t->n;
    t->words = (size_t)cost->view->model->n_layer / WORD + 1;
    for (uint32_t v = 0; v < t->n; v++)
        if (cost->view->nodes[v].flags & SPLIT_REQUIRED) t->required |= UINT32_C(1) << v;
    t->ends = sl_malloc((size_t)t->n_sets * t->n * t->words * sizeof *t->ends);
    t->any = sl_malloc((size_t)t->n_sets * t->words * sizeof *t->any);
    return t->ends && t->any ? split_reach_init(cost, &t->reach) : SL_NOMEM;
}

static void table_done(struct table *t)
{
    split_reach_done(&t->reach);
    sl_free(t->ends);
    sl_free(t->any);
}

/* Layers at which a stage on v may begin, that the nodes `before` come before. */
static const uint64_t *starts(const struct table *t, uint32_t before, uint32_t v,
                              uint64_t room[WORDS_MAX])
{
    if (!(t->barred[v] & before)) return any_of(t, before);
    memset(room, 0, t->words * sizeof *room);
    for (uint32_t u = 0; u < t->n; u++) {
        if (!(before >> u & 1) || t->barred[v] >> u & 1) continue;
        const uint64_t *ends = ends_of(t, before, u);
        for (size_t w = 0; w < t->words; w++) room[w] |= ends[w];
    }
    return room;
}

/* Where a stage on v can end that begins at one of `from`. True: at the end of the model. */
static bool advance(const struct table *t, uint32_t v, const uint64_t *from, uint64_t *ends)
{
    int32_t n_layer = t->cost->view->model->n_layer, done = 0;
    const uint16_t *far = t->reach.far + (size_t)v * (size_t)n_layer;
    const bool *to_end = t->reach.ends + (size_t)v * (size_t)n_layer;
    bool finishes = false;
    for (size_t w = 0; w < t->words; w++) {
        for (uint64_t bits = from[w]; bits; bits &= bits - 1) {
            int32_t first = (int32_t)w * WORD + __builtin_ctzll(bits);
            if (first >= n_layer) break;
            finishes |= to_end[first];
            if (far[first] <= first || far[first] <= done) continue;
            set_range(ends, (first > done ? first : done) + 1, far[first]);
            done = far[first];
        }
    }
    return finishes;
}

static bool may_finish(const struct table *t, uint32_t set)
{
    uint32_t n_stages = (uint32_t)__builtin_popcount(set);
    return (t->required & ~set) == 0 && n_stages >= split_stages_min(t->cost->view);
}

/* Fills the tables for one set. True: it can hold the model, ending with *out_last. */
static bool set_fill(struct table *t, uint32_t set, uint32_t *out_last)
{
    static const uint64_t zero[WORDS_MAX] = {1}; /* the first stage begins at layer 0 */
    uint64_t room[WORDS_MAX];
    uint64_t *any = any_of(t, set);
    bool found = false, may = may_finish(t, set);
    memset(any, 0, t->words * sizeof *any);
    for (uint32_t v = 0; v < t->n; v++) {
        if (!(set >> v & 1)) continue;
        uint32_t before = set & ~(UINT32_C(1) << v);
        uint64_t *ends = ends_of(t, set, v);
        memset(ends, 0, t->words * sizeof *ends);
        if (advance(t, v, before ? starts(t, before, v, room) : zero, ends) && may && !found) {
            found = true;
            *out_last = v;
        }
        for (size_t w = 0; w < t->words; w++) any[w] |= ends[w];
    }
    return found;
}

/* A node and the layer where its stage may begin, so that the chain of `set` ends there at `last`;
 * from the last stage back to the first. */
static bool find_before(const struct table *t, uint32_t set, uint32_t v, int32_t last,
                        int32_t *out_first)
{
    int32_t n_layer = t->cost->view->model->n_layer;
    uint32_t before = set & ~(UINT32_C(1) << v);
    uint64_t room[WORDS_MAX];
    const uint64_t *from = before ? starts(t, before, v, room) : NULL;
    for (int32_t first = last - 1; first >= 0; first--) {
        size_t at = (size_t)v * (size_t)n_layer + (size_t)first;
        bool begins = before ? has(from, first) : first == 0;
        if (!begins || !(last == n_layer ? t->reach.ends[at] : t->reach.far[at] >= last)) continue;
        *out_first = first;
        return true;
    }
    return false;
}

static void trace(const struct table *t, uint32_t set, uint32_t v, struct split_chain *chain)
{
    int32_t last = t->cost->view->model->n_layer, first = 0;
    chain->n = (uint32_t)__builtin_popcount(set);
    for (uint32_t i = chain->n; i-- > 0;) {
        chain->node[i] = v;
        chain->last[i] = last;
        if (!find_before(t, set, v, last, &first))
            return; /* cannot be: the tables say it is there */
        uint32_t after = v;
        set &= ~(UINT32_C(1) << v);
        last = first;
        for (v = 0; set && v < t->n; v++)
            if (set >> v & 1 && !(t->barred[after] >> v & 1) && has(ends_of(t, set, v), last))
                break;
    }
}

/* Is there a chain none of whose stages and transfers takes longer? */
static bool ask(struct table *t, double slowest, struct split_chain *chain)
{
    uint32_t n_stages_max = split_stages_max(t->cost->view), last = 0;
    split_reach_set(&t->reach, slowest);
    for (uint32_t v = 0; v < t->n; v++) {
        t->barred[v] = 0;
        for (uint32_t u = 0; u < t->n; u++)
            if (u != v && split_transfer_s(t->cost, u, v) > slowest)
                t->barred[v] |= UINT32_C(1) << u;
    }
    memset(any_of(t, 0), 0, t->words * sizeof *t->any);
    for (uint32_t set = 1; set < t->n_sets; set++) {
        if ((uint32_t)__builtin_popcount(set) > n_stages_max) {
            memset(any_of(t, set), 0, t->words * sizeof *t->any);
            memset(ends_of(t, set, 0), 0, t->n * t->words * sizeof *t->ends);
        } else if (set_fill(t, set, &last)) {
            trace(t, set, last, chain);
            split_chain_time(t->cost, 1, chain);
            return true;
        }
    }
    return false;
}

sl_status split_least_slowest(const struct split_cost *cost, double lowest,
                              struct split_chain *chain)
{
    struct table t;
    struct split_chain found;
    sl_status status = table_init(&t, cost);
    double low = lowest, high = chain->n ? chain->slowest : INFINITY;
    if (status == SL_OK && !chain->n && ask(&t, INFINITY, chain)) high = chain->slowest;
    for (int i = 0; status == SL_OK && chain->n && i < HALVINGS && low < high * (1 - SPLIT_EPS);
         i++) {
        /* Just below the best one there is mostly nothing: that ends the search at once. */
        double bound = i % 2 ? (low + high) / 2 : high * (1 - SPLIT_EPS);
        if (ask(&t, bound, &found)) {
            *chain = found;
            high = found.slowest;
        } else {
            low = bound;
        }
    }
    table_done(&t);
    return status;
}
