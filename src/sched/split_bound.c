/* split_bound.c: how far stages can reach, and what no chain can be better than. */
#include "base/mem.h"
#include "sched/split_int.h"
#include <math.h>
#include <stdlib.h>

#define HALVINGS 60 /* of an interval of seconds: to the last bits of a double */

uint32_t split_stages_max(const struct split_view *view)
{
    uint32_t n = view->goal.n_stages ? (uint32_t)view->goal.n_stages : SPLIT_STAGES_MAX;
    return n < view->n ? n : view->n;
}

uint32_t split_stages_min(const struct split_view *view)
{
    return view->goal.n_stages ? (uint32_t)view->goal.n_stages : 1;
}

/* --- reach --- */

sl_status split_reach_init(const struct split_cost *cost, struct split_reach *out)
{
    size_t n = (size_t)cost->view->n * (size_t)cost->view->model->n_layer + 1;
    *out = (struct split_reach){.cost = cost};
    out->far = sl_calloc(n, sizeof *out->far);
    out->ends = sl_calloc(n, sizeof *out->ends);
    if (out->far && out->ends) return SL_OK;
    split_reach_done(out);
    return SL_NOMEM;
}

void split_reach_done(struct split_reach *reach)
{
    sl_free(reach->far);
    sl_free(reach->ends);
    *reach = (struct split_reach){0};
}

static bool can(const struct split_reach *reach, uint32_t v, int32_t first, int32_t last)
{
    return split_fits(reach->cost->view, v, first, last) &&
           split_busy_s(reach->cost, v, first, last) <= reach->slowest;
}

void split_reach_set(struct split_reach *reach, double slowest)
{
    const struct split_view *view = reach->cost->view;
    int32_t n_layer = view->model->n_layer;
    reach->slowest = slowest;
    for (uint32_t v = 0; v < view->n; v++) {
        uint16_t *far = reach->far + (size_t)v * (size_t)n_layer;
        bool *ends = reach->ends + (size_t)v * (size_t)n_layer;
        int32_t last = 0;
        for (int32_t first = 0; first < n_layer; first++) {
            bool allowed = first > 0 || split_may_head(view, v);
            if (last < first) last = first;
            while (allowed && last + 1 < n_layer && can(reach, v, first, last + 1)) last++;
            far[first] = (uint16_t)last;
            ends[first] = allowed && can(reach, v, first, n_layer);
        }
    }
}

/* --- bounds --- */

static const double *layers_of(const struct split_cost *cost, uint32_t v)
{
    return cost->layers + (size_t)v * ((size_t)cost->view->model->n_layer + 1);
}

static void bound_fill(struct split_bound *bound)
{
    const struct split_cost *cost = bound->cost;
    int32_t n_layer = cost->view->model->n_layer;
    uint32_t n = cost->view->n;
    for (uint32_t v = 0; v < n; v++) bound->factor[v] = INFINITY;
    for (int32_t i = n_layer - 1; i >= 0; i--) {
        double least = INFINITY;
        for (uint32_t v = 0; v < n; v++)
            least = fmin(least, layers_of(cost, v)[i + 1] - layers_of(cost, v)[i]);
        bound->work[i] = bound->work[i + 1] + least;
        for (uint32_t v = 0; v < n && least > 0; v++)
            bound->factor[v] =
                fmin(bound->factor[v], (layers_of(cost, v)[i + 1] - layers_of(cost, v)[i]) / least);
    }
    for (uint32_t v = 0; v < n; v++) {
        bound->link[v] = INFINITY;
        for (uint32_t u = 0; u < n; u++)
            if (u != v)
                bound->link[v] = fmin(bound->link[v],
                                      fmin(split_link_s(cost, u, v), split_return_s(cost, u, v)));
        if (bound->factor[v] == INFINITY) bound->factor[v] = 1;
    }
}

sl_status split_bound_init(const struct split_cost *cost, struct split_bound *out)
{
    size_t n = cost->view->n, n_layers = (size_t)cost->view->model->n_layer + 1;
    *out = (struct split_bound){.cost = cost};
    out->work = sl_calloc(n_layers + 3 * n, sizeof *out->work);
    out->segments = sl_calloc(2 * n + 1, sizeof *out->segments);
    if (!out->work || !out->segments) {
        split_bound_done(out);
        return SL_NOMEM;
    }
    out->factor = out->work + n_layers;
    out->link = out->factor + n;
    out->room = out->link + n;
    bound_fill(out);
    return SL_OK;
}

void split_bound_done(struct split_bound *bound)
{
    sl_free(bound->work);
    sl_free(bound->segments);
    *bound = (struct split_bound){0};
}

static int32_t stage_end(const struct split_reach *reach, uint32_t v, int32_t first)
{
    int32_t n_layer = reach->cost->view->model->n_layer;
    size_t at = (size_t)v * (size_t)n_layer + (size_t)first;
    return reach->ends[at] ? n_layer : reach->far[at];
}

static void add_segment(struct split_bound *bound, uint32_t v, double length, double slope)
{
    uint32_t at = bound->n_segments;
    if (length <= 0) return;
    for (; at > 0 && bound->segments[at - 1].slope > slope; at--)
        bound->segments[at] = bound->segments[at - 1];
    bound->segments[at] = (struct split_segment){length, slope, v};
    bound->n_segments++;
}

/* The lower convex hull of nothing at no cost and of what the node's stage costs: it joins the
 * chain for `entry`, works at `factor` until its slice is used up, and at factor / share beyond. */
static void add_node(struct split_bound *bound, uint32_t v)
{
    const struct split_view *view = bound->cost->view;
    double entry = bound->cost->fixed[v] + (view->n > 1 ? bound->link[v] : 0);
    double share = view->nodes[v].machine.share, factor = bound->factor[v], room = bound->room[v];
    double quick = share < 1 ? fmin(room, split_slice_s(view, v) / factor) : room;
    double slope = entry / quick + factor;
    if (quick >= room || factor / share >= slope) {
        add_segment(bound, v, quick, slope);
        add_segment(bound, v, room - quick, factor / share);
    } else {
        add_segment(bound, v, room, (entry + factor * (quick + (room - quick) / share)) / room);
    }
}

void split_bound_room(struct split_bound *bound, const struct split_reach *reach)
{
    const struct split_view *view = bound->cost->view;
    bound->n_segments = 0;
    for (uint32_t v = 0; v < view->n; v++) {
        bound->room[v] = 0;
        for (int32_t first = 0; first < view->model->n_layer; first++) {
            double work = bound->work[first] - bound->work[stage_end(reach, v, first)];
            if (work > bound->room[v]) bound->room[v] = work;
        }
        if (bound->room[v] > 0) add_node(bound, v);
    }
}

static bool is_used(uint32_t used, uint32_t v)
{
    return v < 32 && used >> v & 1;
}

double split_bound_sum(const struct split_bound *bound, int32_t first, uint32_t used)
{
    const struct split_cost *cost = bound->cost;
    double left = bound->work[first], sum = 0, head = INFINITY;
    for (uint32_t i = 0; i < bound->n_segments; i++) {
        const struct split_segment *segment = &bound->segments[i];
        if (is_used(used, segment->node)) continue;
        double work = fmin(left, segment->length);
        sum += work * segment->slope;
        left -= work;
        head = fmin(head, cost->head[segment->node]);
    }
    /* Sums in another order than the room's: their last bits may differ. */
    return left > SPLIT_EPS * bound->work[0] ? INFINITY : sum + head;
}

/* One stage has no link; of more the first one's is the way back. */
double split_bound_all(const struct split_bound *bound)
{
    double least = split_bound_sum(bound, 0, 0), work = bound->work[0];
    for (uint32_t v = 0; v < bound->cost->view->n; v++)
        if (bound->room[v] >= work * (1 - SPLIT_EPS))
            least =
                fmin(least, bound->cost->fixed[v] + work * bound->factor[v] + bound->cost->head[v]);
    return least;
}

/* Could the layers be covered if every stage could lie where it reaches farthest? */
static bool covers(const struct split_reach *reach)
{
    const struct split_view *view = reach->cost->view;
    int32_t most[SPLIT_NODES_MAX], n_layer = view->model->n_layer, sum = 0;
    uint32_t n_stages = split_stages_max(view);
    for (uint32_t v = 0; v < view->n; v++) {
        most[v] = 0;
        for (int32_t first = 0; first < n_layer; first++) {
            int32_t n = stage_end(reach, v, first) - first;
            if (n > most[v]) most[v] = n;
        }
    }
    for (uint32_t i = 0; i < n_stages; i++) { /* the n_stages longest */
        uint32_t best = 0;
        for (uint32_t v = 1; v < view->n; v++)
            if (most[v] > most[best]) best = v;
        sum += most[best];
        most[best] = 0;
    }
    return sum >= n_layer;
}

/* One stage alone, if it fits, or several with a transfer at least. */
static double with_transfer(const struct split_cost *cost, double slowest)
{
    const struct split_view *view = cost->view;
    double transfer = INFINITY, alone = INFINITY;
    for (uint32_t v = 0; v < view->n; v++) {
        if (split_fits(view, v, 0, view->model->n_layer))
            alone = fmin(alone, split_busy_s(cost, v, 0, view->model->n_layer));
        for (uint32_t u = 0; u < view->n; u++)
            if (u != v) transfer = fmin(transfer, split_transfer_s(cost, u, v));
    }
    return fmin(alone, fmax(slowest, transfer));
}

double split_bound_slowest(struct split_reach *reach)
{
    double low = 0, high = 0;
    for (uint32_t v = 0; v < reach->cost->view->n; v++)
        high = fmax(high, split_busy_s(reach->cost, v, 0, reach->cost->view->model->n_layer) +
                              split_hops_busy_s(reach->cost->view, v));
    split_reach_set(reach, high);
    if (!reach->cost->view->n || !covers(reach)) return INFINITY;
    for (int i = 0; i < HALVINGS && high - low > SPLIT_EPS * high; i++) {
        double middle = (low + high) / 2;
        split_reach_set(reach, middle);
        if (covers(reach))
            high = middle;
        else
            low = middle;
    }
    return with_transfer(reach->cost, low);
}
