/* virtual_cluster.h: a router, a few nodes and a bad network in one thread, without a clock:
 * messages are delayed, reordered and lost, nodes crash and come back, clients leave. Every
 * action of the router is checked against what the nodes really did.
 * Thread: one. All choices come from prop.h's generator. */
#pragma once
#include "sched/router.h"

#define CLUSTER_NODES_MAX 5
#define CLUSTER_REQUESTS_MAX 12
#define CLUSTER_JOBS_MAX 8
#define CLUSTER_MESSAGES_MAX 256
#define CLUSTER_ATTEMPTS_MAX 64 /* of one request */

/* What became of a request, seen from outside. */
struct cluster_request {
    bool submitted, ended, cancelled;
    sl_status status;
    uint64_t length, n_delivered;
    int64_t deadline_ns;
    uint32_t n_live;                 /* attempts */
    uint32_t n_lost;                 /* attempts that ended badly since the last token */
    bool live[CLUSTER_ATTEMPTS_MAX]; /* by attempt */
    uint32_t node[CLUSTER_ATTEMPTS_MAX];
    uint64_t n_made[CLUSTER_ATTEMPTS_MAX]; /* tokens that exist, made or given */
};

struct cluster_job {
    bool used, told;
    uint64_t request, n_done;
    uint32_t attempt;
};

struct cluster_node {
    bool alive, cut;
    uint32_t n_slots, n_queue, n_foreign; /* foreign: of other gateways */
    uint64_t boot, version, seen;
    struct cluster_job jobs[CLUSTER_JOBS_MAX];
    uint32_t n_outstanding; /* live attempts there */
};

enum cluster_message_kind { TO_NODE_SEND, TO_NODE_STOP, TO_ROUTER_NEWS, TO_ROUTER_REPORT };

struct cluster_message {
    enum cluster_message_kind kind;
    enum router_event_kind news;
    uint64_t request, n_tokens, sent;
    uint32_t attempt, node;
    struct node_report report;
    struct hosted_load load;
};

struct cluster {
    struct router *router, *twin; /* twin: gets the same events, must do the same; or NULL */
    struct router_config config;
    int64_t now_ns, wake_ns;
    uint32_t n_nodes;
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    uint32_t n_requests; /* submitted so far */
    struct cluster_request requests[CLUSTER_REQUESTS_MAX];
    uint32_t n_messages;
    struct cluster_message messages[CLUSTER_MESSAGES_MAX];
    bool calm; /* nothing is lost any more */
    uint64_t n_actions[ROUTER_ACTION_KIND_COUNT], n_ends[SL_STATUS_COUNT], n_hedges;
};

void cluster_begin(struct cluster *cluster, bool twin);
void cluster_end(struct cluster *cluster);

void cluster_chaos(struct cluster *cluster); /* one random thing happens */
/* All heals; then everything works until every request has ended, or asserts that it does. */
void cluster_calm(struct cluster *cluster);
