/* split_int.h: what the planner's files share: a problem with its defaults filled in, its model of
 * time as tables, and chains. Private to split*.c. Nodes are numbered by their place in the
 * view. */
#pragma once
#include "sched/split.h"
#include <stdbool.h>

#define SPLIT_EPS 1e-9 /* periods closer than this share are the same */

struct split_view {
    const struct split_problem *problem;
    const struct split_model *model;
    struct split_goal goal;   /* defaults filled in */
    struct split_node *nodes; /* [n] usable ones, defaults filled in */
    uint32_t *number;         /* [n] in the problem */
    uint32_t n;
    uint64_t *bytes;        /* [n_layer + 1] of weights before a layer */
    double layer_bytes_avg; /* whose work is model->layer_flops */
    double active;          /* model->active, 1 where it is 0 */
    uint64_t kv_bytes;      /* of a layer, for all streams */
    uint32_t n_required;
    bool any_head; /* only nodes with SPLIT_HEAD may be first */
};

/* The time of micro-batches of so many rows. */
struct split_cost {
    const struct split_view *view;
    int32_t rows;
    double *layers; /* [n][n_layer + 1]: computing the layers before one, in all */
    double *head;   /* [n] */
    double *fixed;  /* [n]: of a step */
};

/* What a cost is for. */
struct split_load {
    int32_t rows;
    int32_t outputs; /* rows that go through the head: 0 or rows */
    double context;  /* tokens that each row looks back at */
    bool is_prompt;  /* rows of one sequence: attention shares what it reads */
};

struct split_chain {
    uint32_t n;
    uint32_t node[SPLIT_STAGES_MAX];
    int32_t last[SPLIT_STAGES_MAX];
    double sum, slowest; /* seconds: stages and links of a round; the busiest of them */
    double period;       /* max(flights * slowest, sum) */
};

SL_CHECK sl_status split_view_init(const struct split_problem *problem, struct split_view *view,
                                   struct sl_err *err);
void split_view_done(struct split_view *view); /* zeroed is fine */

SL_CHECK sl_status split_cost_init(const struct split_view *view, const struct split_load *load,
                                   struct split_cost *out);
void split_cost_done(struct split_cost *cost); /* zeroed is fine */

/* Memory of a stage that takes chunks of SPLIT_CHUNK_FITS rows, and whether the node has it. */
uint64_t split_memory(const struct split_view *view, int32_t first, int32_t last);
bool split_fits(const struct split_view *view, uint32_t v, int32_t first, int32_t last);
/* The same with chunks of so many rows. */
uint64_t split_memory_of(const struct split_view *view, int32_t first, int32_t last, int32_t chunk);

/* Of a stage: computing at full speed; from its begin to its end; and of all time. */
double split_compute_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last);
double split_wall_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last);
double split_busy_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last);
/* What handing a micro-batch from and to the network takes of all time. */
double split_hops_busy_s(const struct split_view *view, uint32_t v);
/* The seconds of computing after which a node's quota stops it for the rest of the period. */
double split_slice_s(const struct split_view *view, uint32_t v);
/* Of the way of a micro-batch between nodes: all of it, and the time that the wire is taken. */
double split_link_s(const struct split_cost *cost, uint32_t from, uint32_t to);
double split_transfer_s(const struct split_cost *cost, uint32_t from, uint32_t to);
/* Of the tokens' way back to the first stage. */
double split_return_s(const struct split_cost *cost, uint32_t from, uint32_t to);

bool split_may_head(const struct split_view *view, uint32_t v);

/* Fills sum, slowest and period of a chain whose nodes and borders are set. */
void split_chain_time(const struct split_cost *cost, int32_t flights, struct split_chain *chain);

/* --- the search --- */

/* How far a stage on a node can reach from each layer without taking longer than `slowest` and
 * more memory than there is. */
struct split_reach {
    const struct split_cost *cost;
    double slowest;
    uint16_t *far; /* [n][n_layer]: the most that `last` can be, short of the end; first: none */
    bool *ends;    /* [n][n_layer]: can it take all the rest, and the head? */
};

SL_CHECK sl_status split_reach_init(const struct split_cost *cost, struct split_reach *out);
void split_reach_done(struct split_reach *reach); /* zeroed is fine */
void split_reach_set(struct split_reach *reach, double slowest);

/* A part of what a node can take: so much work at so many seconds for each unit of it. */
struct split_segment {
    double length, slope;
    uint32_t node;
};

/* What no chain can be better than: a relaxation in which layers are cut anywhere, links are as
 * short as the shortest way to a node, and a node that takes a part of what it has room for pays
 * the same part of what joining the chain costs. What a node takes then costs a convex function of
 * two straight pieces (up to its quota's slice, and beyond), and the cheapest pieces come first. */
struct split_bound {
    const struct split_cost *cost;
    double
        *work; /* [n_layer + 1]: of the layers from one on, seconds on the fastest node of each */
    double *factor; /* [n]: by which a node is slower than that, at least */
    double *link;   /* [n]: the shortest way to it */
    double *room;   /* [n]: work that it can take in one stage, of split_bound_room */
    struct split_segment *segments; /* [2 n], by slope */
    uint32_t n_segments;
};

SL_CHECK sl_status split_bound_init(const struct split_cost *cost, struct split_bound *out);
void split_bound_done(struct split_bound *bound); /* zeroed is fine */
/* Takes `room` from how far stages reach. */
void split_bound_room(struct split_bound *bound, const struct split_reach *reach);
/* Seconds of stages and of links that layers from `first` on take at least, on nodes whose bit is
 * not in `used` (nodes from 32 on are never used), the way to the first of them included; INFINITY
 * when they have no room. */
double split_bound_sum(const struct split_bound *bound, int32_t first, uint32_t used);
/* The same for the whole model. */
double split_bound_all(const struct split_bound *bound);
/* The least that the slowest stage can be. INFINITY: nothing fits. */
double split_bound_slowest(struct split_reach *reach);

/* A good chain, by orders of nodes and local search, beginning with *chain too when its n is not 0;
 * chain->n 0: none was found. NOMEM. */
SL_CHECK sl_status split_heuristic(const struct split_cost *cost, int32_t flights,
                                   struct split_chain *chain);

/* The best borders for the nodes of the chain in their order; chain->n 0: there are none. NOMEM. */
SL_CHECK sl_status split_borders(const struct split_cost *cost, int32_t flights,
                                 struct split_chain *chain);

/* Makes the slowest stage of the chain faster by other borders, as far as its sum stays within
 * sum_max. NOMEM. */
SL_CHECK sl_status split_balance(const struct split_cost *cost, int32_t flights, double sum_max,
                                 struct split_chain *chain);

/* The chain whose slowest stage is fastest, for up to SPLIT_EXACT_NODES nodes: *chain is taken as
 * a first one when its n is not 0, and is left alone when there is none better. `lowest` is a lower
 * bound. NOMEM. */
SL_CHECK sl_status split_least_slowest(const struct split_cost *cost, double lowest,
                                       struct split_chain *chain);

/* The chain of the least period, likewise. *work is what is left of the search's allowance; false
 * in *out_exact: it was not enough. NOMEM. */
SL_CHECK sl_status split_least_period(const struct split_cost *cost, int32_t flights,
                                      uint64_t *work, struct split_chain *chain, bool *out_exact);

/* The most and the fewest stages that the goal allows. */
uint32_t split_stages_max(const struct split_view *view);
uint32_t split_stages_min(const struct split_view *view);
