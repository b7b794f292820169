/* dispatch_split.h: models that run on several members at once, as one gateway plans and keeps
 * them. Which layers go where is decided by sched/split from what members tell: their cards (a
 * model's shape), reports (memory, speed) and peers (the ways between them).
 *
 *   wanted, and fits on no member -> plan -> LOAD with the split to the head's member -> READY
 *        ^                                             |  a member of it died or drains: at once
 *        +------------ plan anew ----------------------+  a much better one: after a while
 *
 *   dispatch_split.c   from what is known of members to a plan, and what a chain has measured
 *   dispatch_chains.c  the life of a chain
 *   dispatch_plan.c    plans that people ask for, and what is told of chains
 *
 * Floor: grid.  Thread: the loop's.  Allocates: a chain's split; a plan's tables while it is made.
 * Invariants: a model has one chain at most, besides whole replicas; the gateway that runs the
 * placement keeps it, or the one at which a person asked for it, and says so in its DEMAND. A
 * chain counts as a replica at its head; what it takes of other members is in their reports. */
#pragma once
#include "grid/dispatch_int.h"
#include "sched/split.h"

#define DISPATCH_CHAINS_MAX 64 /* models that are split at a time */

/* Which of a member's memory a plan may reckon with. */
enum dispatch_room {
    DISPATCH_ROOM_NOW,  /* what is free, or gives way at once */
    DISPATCH_ROOM_SOON, /* all that no pinned model has: others go some time */
    DISPATCH_ROOM_ALL,
};

/* What a chain is to be good for, and which members it may have. */
struct dispatch_wish {
    struct split_goal goal; /* n_seqs and context 0: as much as fits, see dispatch_split_make */
    char members[SPLIT_STAGES_MAX][GRID_ID_SIZE]; /* only these, if there are any */
    uint32_t n_members;
    int32_t layers[SPLIT_STAGES_MAX]; /* of these, in their order; layers[0] 0: as is best */
    enum engine_link_type link;
    uint32_t head;  /* only this one as stage 0; NODE_NONE: any */
    double reserve; /* of each member's memory that is left alone: grows with failures */
    enum dispatch_room room;
};

/* A plan in terms of this gateway's members. */
struct dispatch_split {
    struct split_plan plan;
    uint32_t members[SPLIT_STAGES_MAX]; /* of its stages: numbers of dispatch.nodes */
    double slowdowns[SPLIT_STAGES_MAX]; /* of these, that it reckoned with */
    double hops_s[SPLIT_STAGES_MAX];    /* likewise */
    struct split_goal goal;             /* as it was made for */
    enum engine_link_type link;
};

struct dispatch_chain {
    bool used;
    bool by_hand; /* a person asked for it here: it is kept whether requests come or not */
    uint32_t model, head;
    struct grid_split *split; /* what the head is told */
    struct dispatch_wish wish;
    struct dispatch_split made; /* as predicted when it was looked at last; n_stages 0: not yet */
    int64_t planned_ns, looked_ns, better_ns; /* router time; better < 0: nothing better is known */
    int64_t failed_ns;                        /* the head could not; < 0: it did not fail */
    int64_t broken_ns;                        /* a member is gone since; < 0: all are there */
    uint32_t n_failures;                      /* in a row */
    char why[160];                            /* it is as it is */
};

/* --- dispatch_split.c --- */

/* The best plan for the model over the members that are there. n_seqs 0: 8 streams or what fits,
 * of 4,096 tokens or less each. UNAVAILABLE with the numbers; NOMEM. */
SL_CHECK sl_status dispatch_split_make(struct dispatch *dispatch,
                                       const struct dispatch_model *model,
                                       const struct dispatch_wish *wish, struct dispatch_split *out,
                                       struct sl_err *err);
/* Of the member's memory, for a stage of that model. */
uint64_t dispatch_split_room(const struct dispatch *dispatch, const struct dispatch_node *node,
                             const struct dispatch_model *model, const struct dispatch_wish *wish);
/* Predicts the running chain anew and looks for a better one with the same head: true if that is
 * worth the move; then it is in *out. */
bool dispatch_split_better(struct dispatch *dispatch, struct dispatch_chain *chain,
                           struct dispatch_split *out, struct split_move *move);
/* For the head; sl_free. NULL: no memory. */
struct grid_split *dispatch_split_tell(const struct dispatch *dispatch,
                                       const struct dispatch_split *split);
/* What the chain's head has measured corrects what is foretold of its members. */
void dispatch_split_learn(struct dispatch *dispatch, const struct dispatch_chain *chain);
/* Once a second: what was measured is forgotten by and by, so that a member that was slow gets
 * another chance. */
void dispatch_split_age(struct dispatch *dispatch);
/* May the member have a new stage? */
bool dispatch_may_stage(const struct dispatch *dispatch, const struct dispatch_node *node);

/* --- dispatch_chains.c --- */

/* Looks at what is wanted and at the chains there are; with each dispatch_place. */
void dispatch_chains_step(struct dispatch *dispatch);
/* NULL: it has none that this gateway keeps. */
struct dispatch_chain *dispatch_chain_of(const struct dispatch *dispatch, uint32_t model);
/* As what the member is to load the model; NULL: whole. */
const struct grid_split *dispatch_chain_split(const struct dispatch *dispatch, uint32_t node,
                                              uint32_t model);
/* Is that a head that a person wants there, whatever placement thinks of it? */
bool dispatch_chain_stays(const struct dispatch *dispatch, uint32_t node, uint32_t model);
/* Starts or changes the model's chain. NOMEM; LIMIT: DISPATCH_CHAINS_MAX. */
SL_CHECK sl_status dispatch_chain_set(struct dispatch *dispatch, const struct dispatch_model *model,
                                      const struct dispatch_wish *wish,
                                      const struct dispatch_split *split, bool by_hand,
                                      const char *why, struct sl_err *err);
/* Placement or a person unloads the model: its chain is kept no more. */
void dispatch_chain_drop(struct dispatch *dispatch, uint32_t model);
/* The head unloads it, if it has. */
void dispatch_chain_unload(struct dispatch *dispatch, const struct dispatch_chain *chain);
/* May the model be expected to run on several members? UNAVAILABLE, with the numbers; what was
 * found stands for a second. */
SL_CHECK sl_status dispatch_chain_hope(struct dispatch *dispatch, struct dispatch_model *model,
                                       struct sl_err *err);
void dispatch_chains_done(struct dispatch *dispatch);

/* --- dispatch_plan.c --- */

/* A member "chain" of the object at hand: what reports say of one; nothing without. */
void dispatch_chain_put(const struct dispatch *dispatch, struct sl_json *json,
                        const struct dispatch_model *model);
