/* pick.h: filter, score, pick: the node that a request is sent to, and why.
 * Floor: sched.  Thread: one.  Allocates: nothing.
 * The cost is that of policy.n_sample nodes, however many there are ("power of d choices":
 * Vvedenskaya 1996, Mitzenmacher 2001): they are drawn at random from those where the model is
 * ready; the nodes that hold the longest known beginning of the prompt are always among them. */
#pragma once
#include "sched/node_table.h"
#include "sched/policy.h"

enum pick_filter {
    PICK_FITS,     /* not filtered: it has a score */
    PICK_EXCLUDED, /* this request was there already */
    PICK_SUSPECT,  /* not heard of for a while */
    PICK_DUTY,     /* cordoned or draining */
    PICK_LABELS,   /* lacks a label that the request wants, or has one it refuses */
    PICK_CONTEXT,  /* the request is taken to need more KV room than the node has in all, and
                      others have it; where nobody has, the node itself may judge */
    PICK_BREAKER,  /* the circuit breaker is open */
    PICK_FULL,     /* it refused a moment ago, or its queue must be full by now */
    PICK_FILTER_COUNT
};

#define PICK_EXCLUDED_MAX 4
#define PICK_ROWS_MAX (POLICY_SAMPLE_LIMIT + PREFIX_HOLDERS_MAX)

/* What is known of a request. */
struct pick_ask {
    uint32_t model;
    uint64_t prompt_tokens, output_tokens; /* the latter expected */
    uint64_t labels_wanted, labels_refused;
    const uint64_t *blocks; /* hashes of the prompt's blocks, as prefix_index.h wants them */
    size_t n_blocks;
    uint32_t block_tokens;
    uint32_t excluded[PICK_EXCLUDED_MAX]; /* nodes; NODE_NONE: a free place */
};

struct pick_row {
    uint32_t node;
    enum pick_filter filter;
    double part[SCORE_PART_COUNT]; /* unweighted; all 0 when filtered */
    double total;
    double first_token_s; /* predicted time to the first token */
    uint64_t cached_tokens;
};

struct pick {
    uint32_t node;        /* or NODE_NONE: nobody fits now */
    double first_token_s; /* of the node, when it fits */
    uint64_t cached_tokens;
    uint32_t n_ready;                       /* nodes where the model is ready */
    uint32_t n_filtered[PICK_FILTER_COUNT]; /* of those that were looked at */
};

/* An explanation: every node that was looked at, in the order it was drawn. */
struct pick_rows {
    struct pick_row *rows; /* the caller's, [capacity] */
    uint32_t n, capacity;  /* more than PICK_ROWS_MAX are never needed */
};

/* Random draws and turns; the same seed gives the same picks. */
struct pick_state {
    uint64_t seed, n_draws;
    uint32_t *turns; /* by model: round robin's next; the caller's */
};

/* rows may be NULL. */
void pick_node(struct node_table *table, const struct policy *policy, const struct pick_ask *ask,
               struct pick_state *state, int64_t now_ns, struct pick *out, struct pick_rows *rows);

const char *pick_filter_name(enum pick_filter filter); /* "labels"; "?" out of range */
const char *pick_filter_text(enum pick_filter filter); /* for people */
