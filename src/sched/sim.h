/* sim.h: the grid under a virtual clock: the production router and the production scheduler of
 * each node, with models of machines, network and failures around them. docs/simulator.md
 * describes these.
 * Floor: sched.  Thread: one.  Allocates: sim_run while it runs, and the results.
 * Pure: no clock, no I/O. The same configuration, trace and seed give the same results, bit by
 * bit. / */
#pragma once
#include "sched/router.h"

#define SIM_NAME_MAX 64
#define SIM_NODES_LIMIT 20000
#define SIM_NODE_MODELS_MAX 16
#define SIM_MODELS_LIMIT 256
#define SIM_GATEWAYS_LIMIT 32
#define SIM_FAILURES_LIMIT 4096
#define SIM_REQUESTS_LIMIT 5000000

struct sim_model {
    char name[SIM_NAME_MAX];
    double load_s; /* from a node's start to ready */
};

/* A machine that batches continuously. With b streams decoding and c prompt tokens beside them, one
 * step takes t(b) + c / prefill_tps, where t grows linearly from 1 / decode_tps at one stream to
 * n_slots / decode_full_tps at n_slots. */
struct sim_node {
    char name[SIM_NAME_MAX];
    uint32_t site;
    double rtt_s, jitter_s; /* to every gateway; each way takes half, plus up to half the jitter */
    uint32_t n_slots, n_queue;
    double prefill_tps, decode_tps, decode_full_tps;
    uint32_t prefill_chunk; /* prompt tokens in one step at most */
    uint64_t kv_tokens;
    uint64_t cache_tokens; /* prefixes kept, in KV room or in the host's memory */
    double watts_idle, watts_busy, price_kwh, price_mtok;
    uint32_t models[SIM_NODE_MODELS_MAX];
    uint32_t n_models;
};

enum sim_failure_kind { SIM_CRASH, SIM_SLOW, SIM_PARTITION, SIM_FAILURE_KIND_COUNT };

struct sim_failure {
    enum sim_failure_kind kind;
    uint32_t node;
    double at_s, for_s;
    double factor;   /* SLOW: of its speed, above 0 */
    int32_t gateway; /* PARTITION: from this one only; -1: from all */
};

struct sim_request {
    int64_t arrival_ns;
    uint32_t model;
    uint32_t prompt_tokens, output_tokens;
    uint32_t block_at, n_blocks; /* in the trace's blocks */
    enum sched_class qos_class;
};

struct sim_trace {
    struct sim_request *requests; /* by arrival */
    size_t n;
    uint64_t *blocks; /* hashes of prefixes */
    size_t n_blocks;
    uint32_t block_tokens;
};

struct sim_config {
    const struct sim_model *models;
    uint32_t n_models;
    const struct sim_node *nodes;
    uint32_t n_nodes;
    const struct sim_failure *failures;
    uint32_t n_failures;
    uint32_t n_gateways;
    uint32_t n_gateways_assumed; /* what routers believe; 0: as many as there are */
    struct policy policy;
    uint64_t seed;
    double telemetry_s; /* between reports */
    double gone_s;      /* from a crash until the bus says so */
    double slo_first_s, slo_itl_s;
    double hedge_share;
    uint64_t output_expected; /* what routers assume of an answer; 0: the trace's mean */
};

struct sim_percentiles {
    double mean, p50, p90, p95, p99, max;
};

struct sim_node_result {
    uint64_t n_finished, n_refused;
    double busy_s, joules;
    uint64_t prefill_tokens, cached_tokens, decode_tokens;
};

struct sim_result {
    uint64_t n_requests, n_finished, n_failed, n_in_slo;
    struct sim_percentiles first, itl, total; /* s; itl: of each request the mean between tokens */
    double duration_s;
    double utilisation; /* mean over the nodes */
    double joules, cost;
    double tokens_per_s;
    double cached_share; /* of prompt tokens */
    double imbalance;    /* mean over time of max - mean over the nodes of requests by slots */
    uint64_t n_sent, n_refused, n_retried, n_moved, n_hedged, n_hedges_won;
    uint64_t n_events;
    struct sim_node_result *nodes; /* [n_nodes] */
    double *first_s;               /* of finished requests, sorted */
    size_t n_first;
};

void sim_config_default(struct sim_config *config);

/* Runs the whole trace. INVALID names what makes no sense; NOMEM. On failure *out is zeroed. */
SL_CHECK sl_status sim_run(const struct sim_config *config, const struct sim_trace *trace,
                           struct sim_result *out, struct sl_err *err);
void sim_result_done(struct sim_result *result); /* fine for a zeroed one */

/* Requests a second that the nodes can serve when every batch is full and nothing is cached. */
double sim_capacity(const struct sim_config *config, const struct sim_trace *trace);
/* Requests a second that the trace brings. */
double sim_trace_rate(const struct sim_trace *trace);
/* Lets it arrive `factor` times as fast. */
void sim_trace_speed_up(struct sim_trace *trace, double factor);

struct sim_poisson {
    size_t n;
    double rate;                       /* requests a second */
    uint32_t prompt_mean, output_mean; /* of exponential distributions, at least 1 token */
    uint32_t n_models;                 /* one is drawn for each request, each alike */
    uint64_t seed;
};
/* Arrivals without memory. INVALID, NOMEM; the trace is sim_trace_done's. */
SL_CHECK sl_status sim_trace_poisson(const struct sim_poisson *poisson, struct sim_trace *out,
                                     struct sl_err *err);
void sim_trace_done(struct sim_trace *trace); /* fine for a zeroed one */

const char *sim_failure_name(enum sim_failure_kind kind); /* "crash"; "?" out of range */
