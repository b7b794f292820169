/* node_table.h: what a gateway knows of the grid's nodes: where each model is ready, how busy
 * and how fast it is there, who is alive; corrected for what the gateway itself has sent since.
 * Floor: sched.  Thread: one.  Allocates: node_table_init only.
 * Nodes and models are the caller's numbers below n_nodes_max and n_models_max.
 * Invariants: a report never replaces a newer one (boot, then version); a node is in by_model[m]
 * exactly while its latest report says that m is READY there and it is not DEAD; all sizes are
 * fixed at init. */
#pragma once
#include "base/err.h"
#include "sched/breaker.h"
#include "sched/index_heap.h"
#include "sched/local.h"
#include "sched/prefix_index.h"

#define NODE_NONE UINT32_MAX
#define NODE_TABLE_NODES_LIMIT PREFIX_NODES_LIMIT
#define NODE_TABLE_MODELS_LIMIT SCHED_MODELS_LIMIT
#define NODE_HOSTED_LIMIT 64 /* models in one node's report: what one machine has in use */
#define NODE_UNSEEN_MAX 64   /* sends to one node that no report covers yet; older count as seen */
#define NODE_TOKENS_LIMIT (UINT64_C(1) << 40) /* of any count of tokens: sums stay exact */

/* What the gateway thinks of a node.
 *
 *               a report                 silence              silence, or NODE_GONE
 *     UNKNOWN -----------> ALIVE <-------------------> SUSPECT -----------------> DEAD
 *                            ^          a report                                   |
 *                            +-----------------------------------------------------+
 *                                             a newer report
 *
 * Requests are sent to ALIVE nodes; those that run on a SUSPECT one stay; those on a DEAD one
 * move. */
enum node_health { NODE_UNKNOWN, NODE_ALIVE, NODE_SUSPECT, NODE_DEAD, NODE_HEALTH_COUNT };

/* What the node's owner wants: CORDONED and DRAINING take nothing new. */
enum node_duty { NODE_OPEN, NODE_CORDONED, NODE_DRAINING, NODE_DUTY_COUNT };

/* One model on one node, as the node reports it. */
struct hosted_load {
    uint32_t model;
    enum sched_model_state state;
    uint32_t n_slots;     /* requests it runs at a time */
    uint32_t n_queue_max; /* requests it lets wait besides */
    uint32_t n_running, n_waiting;
    uint64_t prefill_backlog; /* prompt tokens of all these that are still to be computed */
    uint64_t kv_tokens_max, kv_tokens_used;
    double prefill_tps; /* measured: prompt tokens a second; 0: not known yet */
    double decode_tps; /* measured: tokens a second of one stream, as busy as it is; 0: not known */
    double service_s;  /* mean from start to finish of a request; 0: not known */
};

struct node_facts {
    uint32_t site;
    uint64_t labels;       /* a bit for each label the caller knows */
    uint64_t memory_bytes; /* for models */
    uint32_t engines;      /* a bit for each engine it can run */
    enum node_duty duty;
    double rtt_s; /* measured between this gateway and the node */
    double watts_idle, watts_busy;
    double price_kwh;  /* of its electricity */
    double carbon_kwh; /* grams of CO2 that a kWh of it emits */
    double price_mtok; /* asked for a million tokens, whatever they cost to make */
    double wake_s;     /* its power state: the time until it can work; 0: awake */
};

struct node_report {
    uint32_t node;
    uint64_t boot;    /* grows with each start of the node's process */
    uint64_t version; /* grows with each report of one boot */
    uint64_t covers;  /* the highest `sent` number of this gateway that the node had received */
    struct node_facts facts;
    const struct hosted_load *hosted; /* all models it has in use; others are not there */
    uint32_t n_hosted;
    const uint64_t *held,
        *dropped; /* blocks that came into or left its KV cache since the last one */
    uint32_t n_held, n_dropped;
};

struct hosted_model {
    struct hosted_load load; /* of the latest report */
    uint32_t rank;           /* place in by_model, or NODE_NONE */
    /* Since that report, by this gateway: */
    uint32_t n_unseen, n_ended;
    uint64_t unseen_prefill;
    uint32_t n_outstanding; /* this gateway's attempts that live there, reported or not */
    int64_t full_until_ns;  /* it refused: nothing more is sent before */
    struct breaker breaker;
};

struct unseen_send {
    uint64_t sent;
    uint32_t hosted;
    uint32_t prefill;
};

struct grid_node {
    enum node_health health;
    uint64_t boot, version;
    int64_t heard_ns;
    uint64_t sent; /* number of the last request sent there */
    struct node_facts facts;
    uint32_t n_hosted;
    uint32_t unseen_head, n_unseen; /* a ring */
};

struct node_table_config {
    uint32_t n_nodes_max, n_models_max;
    uint32_t n_hosted_max;    /* by node */
    uint32_t n_prefix_blocks; /* of the prefix index */
    uint32_t n_gateways;      /* that share the nodes: what we sent unseen, the others did too */
    int64_t suspect_ns;       /* of silence */
    int64_t dead_ns;          /* of silence */
    struct breaker_config breaker;
};

/* The fastest that a model was of late on any node: what one that has not run it yet is taken for,
 * so that it is tried, and measured, before others are busy. 0: nobody has measured it. */
struct model_speed {
    double prefill_tps, decode_tps;
};

struct node_table {
    struct node_table_config config;
    struct grid_node *nodes;
    struct hosted_model *hosted; /* [n_nodes_max][n_hosted_max] */
    struct unseen_send *unseen;  /* [n_nodes_max][NODE_UNSEEN_MAX] */
    uint32_t *by_model;          /* [n_models_max][n_nodes_max]: nodes where it is READY */
    uint32_t *n_by_model;
    struct model_speed *fastest; /* [n_models_max] */
    struct index_heap silence;   /* ALIVE and SUSPECT nodes, by when that changes */
    struct prefix_index prefixes;
};

void node_table_config_default(struct node_table_config *config);

/* INVALID names the member that makes no sense; NOMEM. */
SL_CHECK sl_status node_table_init(struct node_table *table, const struct node_table_config *config,
                                   struct sl_err *err);
void node_table_done(struct node_table *table); /* fine for a zeroed one */

/* Takes a report over. False: nothing changed, for it is older than what is known, or its
 * numbers are out of range. *out_restarted: the node's process is another one than before, so
 * that whatever ran there is gone. */
bool node_table_report(struct node_table *table, const struct node_report *report, int64_t now_ns,
                       bool *out_restarted);

/* A word of the node, whatever it was about: it is not silent. A DEAD one needs a report. */
void node_table_heard(struct node_table *table, uint32_t node, int64_t now_ns);

/* The node is gone for sure: DEAD at once. A report of the same boot does not bring it back. */
void node_table_gone(struct node_table *table, uint32_t node);

/* A node whose silence made it DEAD by now, one a call; NODE_NONE when there is no more. Makes
 * others SUSPECT on the way. */
uint32_t node_table_next_dead(struct node_table *table, int64_t now_ns);
int64_t node_table_next_silence(const struct node_table *table); /* or SCHED_NEVER */

/* The model on the node, or NULL. Valid until the node's next report. */
struct hosted_model *node_table_hosted(const struct node_table *table, uint32_t node,
                                       uint32_t model);

/* A request was sent: counts until a report covers it. Returns its `sent` number. The blocks
 * will be in that node's cache. */
uint64_t node_table_sent(struct node_table *table, uint32_t node, uint32_t model, uint64_t prefill,
                         const uint64_t *blocks, size_t n_blocks);
/* An attempt ended, however: `refused` when it never got in there. */
void node_table_ended(struct node_table *table, uint32_t node, uint32_t model, uint64_t sent,
                      bool refused);

/* Requests that run or wait there by now, as far as can be known. */
double node_table_requests(const struct node_table *table, const struct hosted_model *hosted);

const char *node_health_name(enum node_health health); /* "alive"; "?" out of range */
const char *node_duty_name(enum node_duty duty);       /* "cordoned" */
