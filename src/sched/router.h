/* router.h: the grid's scheduler on the gateway's side. It decides which node a request is sent
 * to, when it is sent again elsewhere, and which of two answers counts; it never acts.
 * docs/scheduling.md has the reasons.
 * Floor: sched.  Thread: one (the loop's).  Allocates: router_create only; a step never does.
 * Pure: no clock, no I/O, no logging. The same events with the same times and seed give the same
 * actions.
 * Invariants: every accepted ROUTER_SUBMIT ends exactly once: by a ROUTER_END action or by
 * ROUTER_CANCEL from the caller. The DELIVER actions of a request cover its tokens in order,
 * each once. A request has at most two live attempts, and one from its first token on. An
 * attempt ends once: the node says so, or a STOP was given. */
#pragma once
#include "sched/pick.h"

#define ROUTER_REQUESTS_LIMIT 1000000 /* of n_requests_max; 350 bytes each */
#define ROUTER_EXPLAINED_LIMIT 65536  /* of n_explained; 4 KiB each */
#define ROUTER_ROWS_MAX 24            /* of an explanation that is kept */

enum router_event_kind {
    ROUTER_SUBMIT,    /* request, submit: a new one */
    ROUTER_CANCEL,    /* request: its client is gone */
    ROUTER_ACCEPTED,  /* attempt: the node has it. Repeated while it waits there, so that silence
                         means trouble: at least three times in silence_ns */
    ROUTER_REFUSED,   /* attempt, retry_after_ns: the node is full; it goes elsewhere */
    ROUTER_FAILED,    /* attempt, status, reason: it ran or waited there and ended badly */
    ROUTER_TOKENS,    /* attempt, n_tokens: so many of the answer exist now */
    ROUTER_FINISHED,  /* attempt, n_tokens: the answer is complete */
    ROUTER_REPORT,    /* report: telemetry of a node */
    ROUTER_NODE_GONE, /* node: it is dead for sure */
    ROUTER_HEARD,     /* node: any word of it, so it lives; as are words about attempts */
    ROUTER_TICK,      /* nothing happened but time */
    ROUTER_EVENT_KIND_COUNT
};

struct router_submit {
    struct pick_ask ask; /* the hashes are borrowed until the request ends; excluded is ignored */
    enum sched_class qos_class;
    int64_t deadline_ns; /* absolute: by then its first token must be there, else END with
                            SL_TIMEOUT. 0: after queue_timeout_ns; SCHED_NEVER: none */
};

/* Members not named at the kind above are ignored. "attempt" means request, attempt and node. */
struct router_event {
    enum router_event_kind kind;
    uint64_t request;
    uint32_t attempt; /* of the SEND */
    uint32_t node;
    sl_status status;
    const char *reason;
    int64_t retry_after_ns;
    uint64_t n_tokens; /* of the whole answer, with those that the node was told to continue from */
    const struct router_submit *submit;
    const struct node_report *report;
};

enum router_action_kind {
    ROUTER_SEND,    /* request, attempt, node, sent, n_tokens: let it run there; the answer's first
                       n_tokens are given and the node continues after them */
    ROUTER_STOP,    /* request, attempt, node: tell the node to end it; nothing it says counts */
    ROUTER_DELIVER, /* request, attempt, n_from, n_tokens: the client gets the tokens from number
                       n_from up to n_tokens, as this attempt made them */
    ROUTER_END,     /* request, status, retry_after_ms, reason: over. SL_OK: after all tokens */
    ROUTER_WAKE_AT, /* at_ns: send a TICK then, unless a step came before. The last action of every
                       step; SCHED_NEVER when nothing is due */
    ROUTER_ACTION_KIND_COUNT
};

struct router_action {
    enum router_action_kind kind;
    sl_status status;
    uint64_t request;
    uint32_t attempt, node;
    uint64_t sent; /* what the node's next report `covers` */
    uint64_t n_from, n_tokens;
    int64_t at_ns;
    uint64_t retry_after_ms;
    bool hedge;         /* SEND: a second try beside the first */
    const char *reason; /* valid until the next step; NULL when there is none */
};

/* router_config_default fills all of it; the reasons for the numbers are in docs/scheduling.md. */
struct router_config {
    uint64_t seed;
    struct node_table_config table;
    struct policy policy;
    uint32_t n_requests_max;
    uint32_t n_explained;                     /* decisions kept for router_explain; 0: none */
    uint32_t class_weight[SCHED_CLASS_COUNT]; /* share of what is sent when all classes wait */
    int64_t queue_timeout_ns;           /* submit to first token, where the request says nothing */
    int64_t answer_ns;                  /* SEND to the node's first word; then it counts as lost */
    int64_t silence_ns;                 /* any later word */
    int64_t retry_min_ns, retry_max_ns; /* between looks for a free node while requests wait */
    uint32_t attempts_max;              /* in a row without a new token; then it fails */
    double retry_share;   /* of requests that may be sent again after a failure, in the long run */
    double retry_burst;   /* and this many at once */
    double retry_per_s;   /* and this many a second, so that the last ones get on too */
    double hedge_share;   /* of requests that may be sent twice; 0: none */
    int64_t hedge_min_ns; /* no second try before */
};

struct router; /* opaque */

void router_config_default(struct router_config *config);

/* INVALID names the member that makes no sense; NOMEM. On failure *out is untouched. */
SL_CHECK sl_status router_create(const struct router_config *config, struct router **out,
                                 struct sl_err *err);
void router_destroy(struct router *router); /* NULL is fine */

/* Takes one event at a time that never goes back (an earlier now_ns counts as the last one). The
 * actions are to be carried out in order; they are valid until the next step. News of an attempt
 * that is over, or of an unknown request, is no error; if it still runs, a STOP follows.
 * INVALID: a number out of range; EXISTS: the request lives; BUSY: n_requests_max live. Then
 * nothing changed but time, and there are no actions: the last WAKE_AT stands. */
SL_CHECK sl_status router_step(struct router *router, const struct router_event *event,
                               int64_t now_ns, const struct router_action **out_actions,
                               size_t *out_n);

struct router_totals {
    uint32_t n_live;    /* requests */
    uint32_t n_pending; /* of them: no node has them */
    uint32_t n_attempts;
    uint64_t n_submitted, n_finished, n_failed, n_expired, n_cancelled; /* ever */
    uint64_t n_sent, n_refused, n_retried, n_moved;                     /* ever */
    uint64_t n_hedged, n_hedges_won, n_stale_reports;                   /* ever */
};
void router_get_totals(const struct router *router, struct router_totals *out);

/* Requests for the model that no node has; 0 for an unknown one. What placement_step waits on. */
uint32_t router_pending(const struct router *router, uint32_t model);

/* What is known of the nodes; changes with every step. */
const struct node_table *router_nodes(const struct router *router);

struct router_explanation {
    uint64_t request;
    uint32_t attempt; /* 0: it was not sent, nobody fitted */
    int64_t at_ns;
    struct pick pick;
    uint32_t n_rows; /* at most ROUTER_ROWS_MAX of those looked at */
    struct pick_row rows[ROUTER_ROWS_MAX];
};

/* The latest decision about a request; NULL when it is not kept any more. Valid until the next
 * step. */
const struct router_explanation *router_explain(const struct router *router, uint64_t request);

/* What would be decided about such a request now, and why; sends nothing. */
void router_explain_ask(struct router *router, const struct pick_ask *ask, int64_t now_ns,
                        struct pick *out, struct pick_rows *rows);

const char *router_event_name(enum router_event_kind kind);   /* "SUBMIT" */
const char *router_action_name(enum router_action_kind kind); /* "SEND" */
