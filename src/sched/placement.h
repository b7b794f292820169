/* placement.h: which models live on which nodes, and how many replicas of each, from demand. It
 * decides and never acts: the shell tells nodes to load and unload, and their reports show it
 * done.
 * Floor: sched.  Thread: one.  Allocates: placement_create only.
 * Invariants: a model that has requests keeps its last ready replica; a replica is unloaded only
 * when the others suffice without it; one that is waited for and ready nowhere is loaded in the
 * next step if a node has room; the models of a node never exceed its memory; at most loads_max
 * loads are under way; after a change a model rests for settle_ns, except that what nobody uses
 * gives way to what is ready nowhere. The same inputs with the same times give the same actions. */
#pragma once
#include "sched/node_table.h"

#define PLACEMENT_LOADS_LIMIT 64 /* of loads_max: each moves gigabytes */

struct placement_model {
    uint64_t bytes;  /* of memory on a node; 0: not in the catalogue */
    uint32_t engine; /* bit of node_facts.engines that it needs; 0: any */
    uint64_t labels_wanted;
    /* A bit for each node that has its files, which loads faster than one that must fetch them;
     * [n_nodes_max / 64, up], the caller's; NULL: all have. */
    const uint64_t *holders;
    uint32_t replicas_min, replicas_max; /* min 0: unloaded when nobody asks; max 0: no limit */
    /* As many, where there is room, as long as it is asked for: so that a node's death costs no
     * load. Without waiting for up_after_ns and settle_ns. 0 is the same as 1. */
    uint32_t replicas_wanted;
};

enum placement_action_kind { PLACEMENT_LOAD, PLACEMENT_UNLOAD };

struct placement_action {
    enum placement_action_kind kind;
    uint32_t node, model;
};

/* placement_config_default fills all of it. */
struct placement_config {
    uint32_t n_models_max;
    uint32_t loads_max;      /* under way at a time */
    double target;           /* of a replica's slots that should be busy, 0 to 1 */
    double spare;            /* a replica goes when the others are still below this share */
    int64_t half_life_ns;    /* of the smoothed demand */
    int64_t up_after_ns;     /* of too little before a replica is added */
    int64_t down_after_ns;   /* of too much before one is taken away */
    int64_t settle_ns;       /* after a change of a model's replicas, until the next one */
    int64_t load_timeout_ns; /* a load that no report shows is forgotten after this */
};

struct placement; /* opaque */

void placement_config_default(struct placement_config *config);
/* INVALID names the member that makes no sense; NOMEM. On failure *out is untouched. */
SL_CHECK sl_status placement_create(const struct placement_config *config, struct placement **out,
                                    struct sl_err *err);
void placement_destroy(struct placement *placement); /* NULL is fine */

/* INVALID: no such number, or minimum above maximum. */
SL_CHECK sl_status placement_set_model(struct placement *placement, uint32_t model,
                                       const struct placement_model *what);

/* Looks at the nodes; to be called about once a second. waiting[n_models_max]: requests that
 * wait at the gateways for want of a node. The actions are valid until the next call. */
void placement_step(struct placement *placement, const struct node_table *table,
                    const uint32_t *waiting, int64_t now_ns,
                    const struct placement_action **out_actions, size_t *out_n);

/* How long from now its replicas would stay if nobody asked for it any more; < 0: somebody does, or
 * it stays anyway (replicas_min), or it is ready nowhere. As of the last step. */
int64_t placement_stays_ns(const struct placement *placement, uint32_t model);

/* Slots' worth of requests, smoothed: what the model needs to run all at once. */
double placement_demand(const struct placement *placement, uint32_t model);
