/* split.h: one model over several nodes: which node computes which layers, in which order, and how
 * fast that will be. It decides and never acts, from numbers that others measured.
 * Floor: sched.  Thread: any; a call keeps nothing.  Allocates: during a call only.
 *
 * A chain has stages 0..n-1, each a contiguous range of layers on a node of its own. The first
 * stage embeds, the last computes the output head, and the tokens go back to the first. A step
 * carries `rows` tokens through the chain. The model of time (docs/split.md says why):
 *
 *     product(w, rows)  of weights w: measured at 1, 8, 32 and 128 rows, linear in between:
 *                       at 1 row  bytes / bytes_s, at r rows  the larger of that and
 *                       r * flops / flops_s[r]
 *     stage(rows)       step_s + layers * (layer_s + rows * n_embd * value_s) + products
 *                       + attention over the context, all times the node's `slowdown`
 *     link(rows)        hop_s of both ends + seconds one way + rows * row bytes / bytes_s
 *
 * A machine whose quota grants it only a share of the time computes at full speed until its slice
 * of the period is used up: a stage takes longer than its slice only for what is beyond it, but of
 * all time it is busy stage / share (`busy`). With f micro-batches under way (flights) each stream
 * gets a token every max(f * the busiest stage or transfer, sum of stages and links); f is 1 for
 * one stream alone.
 *
 * Invariants of a plan: every layer is in exactly one stage; no node has two stages; no stage's
 * memory exceeds its node's; excluded nodes have none, required ones have one. The same problem
 * gives the same plan. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPLIT_LAYERS_MAX 512 /* the deepest model today has 126 */
#define SPLIT_NODES_MAX 256  /* who has more gives the fastest: a chain takes few of them */
#define SPLIT_STAGES_MAX 16  /* a deeper chain loses more to links than it gains */
#define SPLIT_EXACT_NODES 16 /* the search is exact up to so many usable nodes */
#define SPLIT_FLIGHTS_MAX 16 /* micro-batches under way: a few more than stages */
#define SPLIT_SEQS_MAX 4096
#define SPLIT_ROWS_MAX 1024 /* of a chunk of a prompt */
/* A chain is sought that has the memory for chunks of so many; longer ones, which save little more,
 * where its nodes have room. */
#define SPLIT_CHUNK_FITS 128
#define SPLIT_CHAIN_TEXT_MAX 1024
#define SPLIT_NUMBER_END 1e18 /* of speeds, times and bytes, which are below it */

/* Weight types whose products are measured. Others count as the nearest: split_weight_of. */
enum split_weight {
    SPLIT_Q4_0,
    SPLIT_Q8_0,
    SPLIT_Q4_K,
    SPLIT_Q6_K,
    SPLIT_F16,
    SPLIT_F32,
    SPLIT_WEIGHT_COUNT
};
const char *split_weight_name(enum split_weight weight); /* "q4_0", "q4_k"; "?" out of range */
/* By ggml's name of a tensor type in any case ("Q4_K", "iq3_xxs"): the measured type that costs
 * about as much a byte. */
enum split_weight split_weight_of(const char *ggml_type_name);

/* What a model asks of its nodes. */
struct split_model {
    int32_t n_layer, n_embd;
    const uint64_t *layer_bytes;     /* [n_layer] of weights; the caller's */
    uint64_t embd_bytes, head_bytes; /* head: the output matrix, the embedding again when tied */
    uint64_t kv_bytes;               /* of one token in one layer, f16 */
    /* Any stage's buffers and process, besides weights and KV, and what the last one needs more:
     * logits. Of a stage that takes SPLIT_CHUNK_FITS rows in a step; and for each row more. */
    uint64_t stage_bytes, head_buffer_bytes;
    uint64_t stage_row_bytes, head_row_bytes;
    double layer_flops, head_flops; /* of one token: two for each weight that it meets */
    double attn_flops;              /* of one token, one token of its context, one layer */
    /* Of a layer's bytes that one token reads: 1, less where experts are chosen. */
    double active;
    enum split_weight weight, head_weight;
};

/* A product's speed with weights of one type. 0: not measured. */
#define SPLIT_CURVE 3 /* rows 8, 32, 128 */
struct split_speed {
    double bytes_s;              /* at one row: weights streamed from memory */
    double flops_s[SPLIT_CURVE]; /* at 8, 32 and 128 rows */
};
extern const int32_t split_curve_rows[SPLIT_CURVE];

/* What calibration measured on a machine with the threads its workers use. */
struct split_machine {
    struct split_speed speed[SPLIT_WEIGHT_COUNT];
    double attn_one, attn_many; /* FLOP/s of attention: one row a sequence; rows of a prompt */
    double step_s;              /* of a step, whatever is in it */
    double layer_s;             /* of a layer in a step: starting its operations */
    double value_s;        /* of a layer, a row and one of n_embd: norms, activations, additions */
    double memory_bytes_s; /* read by all threads: stands in for a speed that is 0 */
    double share;          /* of the time that its quota lets it compute; 0: 1, no quota */
    double period_s;       /* over which the quota counts; 0: SPLIT_PERIOD_S */
    double disk_bytes_s;   /* 0: not known, taken for 500 MB/s */
};
#define SPLIT_PERIOD_S 0.1 /* the kernel's own, where a control group says no other */

/* Numbers that a machine can have. A problem with others is refused as a whole, so who plans with
 * what strangers say of themselves asks before. */
bool split_machine_ok(const struct split_machine *machine);

enum split_node_flag {
    SPLIT_EXCLUDED = 1, /* gets nothing */
    SPLIT_REQUIRED = 2, /* gets a stage in any plan */
    SPLIT_HEAD = 4,     /* may be the first stage; if no node has this flag, all may */
};

struct split_node {
    uint64_t memory_bytes; /* free for this model */
    struct split_machine machine;
    double slowdown;      /* live correction of what was measured: 1.25 takes a quarter longer */
    double hop_s;         /* to hand a micro-batch to or from the network; 0: SPLIT_HOP_S. What it
                             takes longer than that is waiting, and not computing. */
    double fetch_bytes_s; /* at which weights come that are not here; 0: they are here */
    unsigned flags;       /* of enum split_node_flag */
};
#define SPLIT_HOP_S 100e-6 /* process to process to TLS, of a small frame */

struct split_link {
    double seconds; /* one way */
    double bytes_s; /* 0: not known, taken for 125 MB/s */
};

enum split_aim {
    SPLIT_LATENCY,    /* least time of a token of one stream */
    SPLIT_THROUGHPUT, /* most tokens/s of n_seqs streams */
    SPLIT_AIM_COUNT
};
const char *split_aim_name(enum split_aim aim); /* "latency" */

struct split_goal {
    enum split_aim aim;
    int32_t n_seqs;    /* streams at once: there is KV room for each; 0: 1 */
    int32_t context;   /* tokens of each; 0: 4096 */
    int32_t prompt;    /* whose time to the first token is predicted, and that a token looks back
                          at; 0: 512 */
    int32_t n_stages;  /* exactly; 0: as many as serve the aim */
    double row_bytes;  /* of one row on a link; 0: f16, 2 * n_embd */
    uint64_t work_max; /* of the search, in steps of some 20 ns; 0: SPLIT_WORK_MAX. Past it the
                              best plan so far is the answer, with its gap to the bound. */
};
#define SPLIT_WORK_MAX (UINT64_C(50) << 20) /* about a second; SPLIT_WORK_QUICK for a loop thread */
#define SPLIT_WORK_QUICK (UINT64_C(1) << 20)

struct split_problem {
    const struct split_model *model;
    const struct split_node *nodes; /* [n_nodes] */
    size_t n_nodes;
    /* [n_nodes * n_nodes], from * n_nodes + to; the diagonal is not looked at. NULL: no time */
    const struct split_link *links;
    struct split_goal goal;
};

struct split_stage {
    uint32_t node;
    int32_t first, last;                           /* layers [first, last) */
    uint64_t weight_bytes, kv_bytes, memory_bytes; /* memory: all it takes */
    double token_s;                                /* of a step of one row */
    double step_s;                                 /* of a step of `rows` rows */
    double busy_s;  /* of all time, for that step: the quota's share counted */
    double chunk_s; /* of a chunk of the prompt, mean over the prompt */
    double link_s;  /* one row's way to the next stage, or from the last to the first */
    double load_s;  /* until its weights are in memory */
};

struct split_plan {
    struct split_stage stages[SPLIT_STAGES_MAX];
    size_t n_stages;
    int32_t rows;          /* of a micro-batch when n_seqs streams decode */
    int32_t flights;       /* micro-batches under way */
    int32_t chunk;         /* rows of a chunk of a prompt */
    double tokens_s;       /* of one stream alone */
    double tokens_s_total; /* of n_seqs streams together */
    double first_token_s;  /* of a prompt of goal.prompt tokens, nothing else running */
    double load_s;         /* the slowest stage's */
    size_t bottleneck;     /* the slowest stage when n_seqs streams decode */
    bool link_bound;       /* its link to the next is slower than any stage */
    bool exact;            /* nothing is better, by the model of time */
    double gap;            /* exact: 0; else no plan is better by more than this share */
};

/* The best plan. Among chains that are within SPLIT_SLACK of the least latency, as those of equal
 * nodes are wherever their borders lie, it takes the borders whose slowest stage is fastest, which
 * serves prompts and more streams. A single stage is a plan too: the whole model on one node.
 * INVALID names the member that makes no sense; NOMEM: the search's own tables; UNAVAILABLE:
 * nothing fits, the text says what is needed and what there is. */
SL_CHECK sl_status split_make(const struct split_problem *problem, struct split_plan *out,
                              struct sl_err *err);

#define SPLIT_SLACK 0.005

/* As split_make, but keeps the nodes of a running chain in their order, with other borders at most,
 * where that is as good but for SPLIT_NEAR: less has to move. */
SL_CHECK sl_status split_make_near(const struct split_problem *problem,
                                   const struct split_plan *running, struct split_plan *out,
                                   struct sl_err *err);
#define SPLIT_NEAR 0.05

/* Predicts a chain that somebody gives: of every stage `node`, `first` and `last`; n_stages, and
 * rows, flights and chunk where they are not 0, are taken from the plan, all else is filled in.
 * INVALID: no chain over all layers, or counts that no chain has; UNAVAILABLE: a stage has no room.
 * `exact` and `gap` are left alone. */
SL_CHECK sl_status split_predict(const struct split_problem *problem, struct split_plan *plan,
                                 struct sl_err *err);

/* The naive splits over the same nodes in the order given, for comparison: layers in equal numbers,
 * or in proportion to memory. Errors as split_predict. */
SL_CHECK sl_status split_equal(const struct split_problem *problem, const uint32_t *nodes, size_t n,
                               struct split_plan *out, struct sl_err *err);
SL_CHECK sl_status split_by_memory(const struct split_problem *problem, const uint32_t *nodes,
                                   size_t n, struct split_plan *out, struct sl_err *err);

/* What decides between a chain that runs and a better one. */
struct split_hysteresis {
    double gain;      /* least gain, as a share of what runs */
    double horizon_s; /* the time by which the move must have paid for itself */
};
#define SPLIT_GAIN 0.15 /* predictions are good to a tenth */
#define SPLIT_HORIZON_S 600.0

struct split_move {
    uint64_t bytes; /* weights that nodes must load which they do not hold now */
    double seconds; /* during which the chain does not answer: the slowest load */
    double gain;    /* of the aim's rate, as a share of the present one; may be negative */
    bool worth_it;
};

/* Compares a running chain with a plan, both under the problem as it is now: `running` is
 * predicted anew. What a node holds of the layers already is not loaded again. A chain that is no
 * longer possible (a node gone or out of memory) is always worth leaving: gain is 1e9.
 * `hysteresis` NULL: SPLIT_GAIN and SPLIT_HORIZON_S. */
void split_better(const struct split_problem *problem, const struct split_plan *running,
                  const struct split_plan *plan, const struct split_hysteresis *hysteresis,
                  struct split_move *out);

/* A node's new `slowdown` after its stage took measured_s where predicted_s was foretold with the
 * old one: moves a fifth of the way, within 0.1 to 10. */
double split_slowdown(double old, double predicted_s, double measured_s);

/* What of a stage's foretold time is computing, and not standing still under a quota. */
double split_computing_s(const struct split_machine *machine, double foretold_s);

/* What a stage's measured time says of its computing under the machine's quota, where compute_s was
 * foretold: anything from that (within what is left of a slice) to compute_s / share is as
 * foretold. */
double split_unthrottled_s(const struct split_machine *machine, double compute_s,
                           double measured_s);

/* "a: layers 0-11, b: 12-23", by the nodes' names. */
void split_chain_text(const struct split_plan *plan, const char *const *names, char *out,
                      size_t out_size);
