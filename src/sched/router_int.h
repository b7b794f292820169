/* router_int.h: what the router's files share: router.c (steps), router_attempt.c (sending, and how
 * attempts end), router_line.c (requests that wait for a node), router_query.c (views and names).
 * Floor: sched.  Thread: one.  Allocates: nothing. */
#pragma once
#include "sched/index_list.h"
#include "sched/request_table.h"
#include "sched/router.h"

#define ROUTER_DUE_MAX 64   /* requests looked at in one step; the rest at once in the next */
#define ROUTER_SENDS_MAX 32 /* waiting requests of one model sent in one step */
#define ROUTER_ACTIONS_MAX 512
/* What an event, a due request or a model's line may add: a round starts only with so much room. */
#define ROUTER_ROUND_MAX (ROUTER_SENDS_MAX + 8)

enum attempt_state { ATTEMPT_NONE, ATTEMPT_SENT, ATTEMPT_ACCEPTED, ATTEMPT_STREAMING };

struct attempt {
    enum attempt_state state;
    bool hedge, trial;
    uint32_t number, node;
    uint64_t boot; /* of the node, when it was sent */
    uint64_t sent;
    int64_t sent_ns, heard_ns;
    double predicted_s; /* to its first token */
};

#define ROUTER_LINES (SCHED_CLASS_COUNT + 1)
#define LINE_RETRIES SCHED_CLASS_COUNT /* those that were sent before; they go first */
#define LINE_NONE UINT8_MAX

struct routed {
    uint64_t id;
    bool live;
    struct pick_ask ask;
    struct attempt attempts[2];
    enum sched_class qos_class;
    int64_t deadline_ns, hedge_ns; /* hedge_ns: SCHED_NEVER when there will be none */
    uint64_t n_tokens;             /* delivered */
    uint32_t n_attempts, n_strikes, n_excluded;
    bool pays;    /* its next attempt costs a token of the retry budget */
    uint8_t line; /* that it waits in, or LINE_NONE */
    uint32_t chain_next;
};

struct router_model {
    struct index_list lines[ROUTER_LINES];
    uint64_t pass[SCHED_CLASS_COUNT]; /* stride scheduling, as local.h's queue */
    uint64_t last_pass;
    uint32_t n_pending;
    int64_t wait_ns; /* between looks: doubled while nothing could be sent */
};

struct budget {
    double tokens;
    int64_t filled_ns;
};

struct router {
    struct router_config config;
    struct node_table nodes;
    struct routed *requests;
    struct index_link *links; /* of the lines */
    uint32_t *chains;
    uint32_t n_chains, free_head;
    struct index_heap due; /* requests */
    struct router_model *models;
    struct index_heap looks; /* models with pending requests */
    struct pick_state picks;
    struct budget retries, hedges;
    double late_ratio; /* 95 of 100 first tokens came within this times the prediction */
    struct router_explanation *explained;
    uint64_t n_explained; /* ever; the last config.n_explained are kept */
    struct router_action *actions;
    size_t n_actions;
    int64_t now_ns;
    struct router_totals totals;
};

/* --- router.c --- */
struct router_action *router_act(struct router *router, enum router_action_kind kind,
                                 uint32_t index);
void router_end(struct router *router, uint32_t index, sl_status status, const char *reason);
/* Something about the request may be due: looks at it in this step, or in the next one. */
void router_touch(struct router *router, uint32_t index);

/* --- router_attempt.c --- */
/* Sends the request to the best node that fits; false when there is none. */
bool router_send(struct router *router, uint32_t index, bool hedge);
struct attempt *router_attempt(struct routed *request, uint32_t number); /* live; or NULL */
bool router_is_live(const struct routed *request);                       /* has a live attempt */
/* Did a step in between end the request of that id? */
static inline bool request_ended(const struct routed *request, uint64_t id)
{
    return !request->live || request->id != id;
}
/* The attempt is over: for the node's books, and for the router's. */
void router_attempt_end(struct router *router, struct routed *request, struct attempt *attempt,
                        bool refused);
void router_attempt_stop(struct router *router, uint32_t index, struct attempt *attempt);
/* It was lost, or failed in a way that may not happen elsewhere. */
void router_attempt_failed(struct router *router, uint32_t index, struct attempt *attempt);
void router_first_token(struct router *router, uint32_t index, struct attempt *attempt);
/* Ends what is lost, sends a second try, and says when to look again. */
void router_review(struct router *router, uint32_t index);

/* --- router_line.c --- */
void router_line_push(struct router *router, uint32_t index);
void router_line_remove(struct router *router, uint32_t index);
void router_line_drain(struct router *router, uint32_t model); /* sends what can be sent */
void router_line_wake(struct router *router, uint32_t model);  /* room may have come */
void router_budget_fill(struct router *router);
bool router_budget_take(struct budget *budget);
