/* sim.h: the grid under a virtual clock: the production router and the production scheduler of
 * each node, with models of machines, network and failures around them. docs/simulator.md
 * describes these.
 * Floor: sched.  Thread: one.  Allocates: sim_run while it runs, and the results.
 * Pure: no clock, no I/O. The same configuration, trace and seed give the same results, bit by
 * bit. */
#pragma once
#include "sched/router.h"

#define SIM_NAME_MAX 64
#define SIM_NODES_LIMIT 20000
#define SIM_NODE_MODELS_MAX 16
#define SIM_MODELS_LIMIT 256
#define SIM_GATEWAYS_LIMIT 32
#define SIM_FAILURES_LIMIT 4096
#define SIM_REQUESTS_LIMIT 5000000
#define SIM_STEPS_MAX 16 /* measured points of a step's duration */
#define SIM_SITES_LIMIT 256
#define SIM_TARIFFS_LIMIT 256
#define SIM_TARIFF_HOURS_MAX 8784 /* of a leap year */
#define SIM_NONE UINT32_MAX

struct sim_model {
    char name[SIM_NAME_MAX];
    double load_s;  /* from a worker's start to ready, besides reading and fetching its bytes */
    uint64_t bytes; /* of memory, and of the file; placement needs them */
    uint32_t replicas_min, replicas_max; /* of placement; max 0: no limit */
};

/* How long a step takes that decodes n_streams streams. */
struct sim_step {
    uint32_t n_streams;
    double seconds;
};

/* A machine that batches continuously. With b streams decoding and c prompt tokens beside them, one
 * step takes t(b) + c / prefill_tps, where t goes in straight lines through the points of `steps`;
 * without these it grows linearly from 1 / decode_tps at one stream to n_slots / decode_full_tps at
 * n_slots. t(0) is prefill_fixed_s. */
struct sim_node {
    char name[SIM_NAME_MAX];
    uint32_t site;
    double rtt_s, jitter_s; /* to its site; each way takes half, plus up to half the jitter */
    double bits_per_s;      /* of the same line; 0: no limit */
    uint32_t n_slots, n_queue;
    double prefill_tps, decode_tps, decode_full_tps;
    struct sim_step steps[SIM_STEPS_MAX]; /* by n_streams, from 1 */
    uint32_t n_steps;
    double prefill_fixed_s; /* of a step without decoding streams, whatever it computes */
    double context_s;       /* that a token of context adds to a step that decodes after it */
    double overhead_s;      /* of a request before it gets to the scheduler: HTTP, tokenizer */
    uint32_t prefill_chunk; /* prompt tokens in one step at most */
    uint32_t prefill_group; /* and prompts share one until they have so many; 0: each has its own */
    uint64_t kv_tokens;
    uint64_t cache_tokens; /* prefixes kept, in KV room or in the host's memory */
    double watts_idle, watts_busy, price_kwh, price_mtok, carbon_kwh;
    uint32_t tariff;                      /* its price_kwh and carbon_kwh over time, or SIM_NONE */
    uint64_t memory_bytes;                /* for models; 0: all of them fit */
    double disk_bytes_per_s;              /* that a model is read with; 0: no time */
    uint32_t models[SIM_NODE_MODELS_MAX]; /* ready at the start, and on its disk */
    uint32_t n_models;
    uint32_t stored[SIM_NODE_MODELS_MAX]; /* on its disk besides */
    uint32_t n_stored;
};

/* Between two sites, both ways alike. */
struct sim_link {
    double rtt_s, jitter_s;
    double bits_per_s; /* 0: no limit */
    double loss;       /* share of messages that have to be sent again */
};

/* What electricity costs and emits, hour by hour from the start; then it begins again. */
struct sim_tariff {
    char name[SIM_NAME_MAX];
    double *price_kwh, *carbon_kwh; /* carbon: grams of CO2 */
    uint32_t n_price, n_carbon;     /* 0: as the node says */
};

enum sim_failure_kind { SIM_CRASH, SIM_SLOW, SIM_PARTITION, SIM_FAILURE_KIND_COUNT };

/* Once, from at_s for for_s seconds; or again and again, by chance: every_s and for_s are then the
 * means of exponential times between and during failures (MTBF and MTTR). */
struct sim_failure {
    enum sim_failure_kind kind;
    uint32_t node; /* SIM_NONE: every one, each for itself */
    double at_s, for_s;
    double every_s;  /* 0: once */
    double factor;   /* SLOW: of its speed, above 0 */
    int32_t gateway; /* PARTITION: from this one only; -1: from all */
};

struct sim_request {
    int64_t arrival_ns;
    uint32_t model; /* SIM_NONE, and a class SCHED_CLASS_COUNT: sim_trace_mix draws them */
    uint32_t prompt_tokens, output_tokens;
    uint32_t max_tokens;         /* that the client asked for, so that routers know; 0: no limit */
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
    const struct sim_link *links; /* [n_sites][n_sites], symmetric; NULL: sites are one */
    uint32_t n_sites;
    const struct sim_tariff *tariffs;
    uint32_t n_tariffs;
    const struct sim_failure *failures;
    uint32_t n_failures;
    const uint32_t *gateway_sites; /* [n_gateways]; NULL: all at the first */
    uint32_t n_gateways;
    uint32_t n_gateways_assumed; /* what routers believe; 0: as many as there are */
    struct policy policy;
    uint64_t seed;
    double telemetry_s;       /* between reports of a node at rest */
    double report_gap_s;      /* at least; sooner than telemetry_s only what changed is reported */
    double report_delay_s;    /* they take so much longer than other messages */
    double report_loss;       /* share that never arrives */
    bool answers_wanted;      /* in the result */
    bool placement;           /* models follow demand; else they stay where the nodes have them */
    double origin_bits_per_s; /* of what no node has; 0: no limit */
    double gone_s;            /* from a crash until the bus says so */
    double slo_first_s, slo_itl_s;
    double hedge_share;
    uint64_t output_expected; /* what routers assume of an answer; 0: the trace's mean */
};

struct sim_percentiles {
    double mean, p50, p90, p95, p99, max;
};

struct sim_node_result {
    uint64_t n_finished, n_refused;
    double busy_s, joules, cost, co2_g;
    uint64_t prefill_tokens, cached_tokens, decode_tokens;
};

/* Of the requests for a model, or of a class. */
struct sim_share {
    uint64_t n_requests, n_finished, n_in_slo;
    struct sim_percentiles first, total;
};

struct sim_model_result {
    struct sim_share requests;
    uint64_t n_loads, n_unloads; /* after the start */
    double loading_s;            /* all loads together */
    double replicas;             /* ready ones, mean over time */
};

/* What became of one request: seconds from its arrival to the first and to the last token, below 0:
 * never; status OK: it finished. */
struct sim_answer {
    double first_s, total_s;
    uint32_t node; /* that finished it, or else that it was sent to last, or SIM_NONE */
    sl_status status;
};

struct sim_result {
    uint64_t n_requests, n_finished, n_failed, n_in_slo;
    struct sim_percentiles first, itl, total; /* s; itl: of each request the mean between tokens */
    double duration_s;
    double utilisation;         /* mean over the nodes */
    double joules, cost, co2_g; /* modelled */
    double tokens_per_s;
    double cached_share; /* of prompt tokens */
    double imbalance;    /* mean over time of max - mean over the nodes of requests by slots */
    uint64_t n_sent, n_refused, n_retried, n_moved, n_hedged, n_hedges_won;
    uint64_t n_events;
    struct sim_node_result *nodes;   /* [n_nodes] */
    struct sim_model_result *models; /* [n_models] */
    struct sim_share classes[SCHED_CLASS_COUNT];
    double *first_s; /* of finished requests, sorted */
    size_t n_first;
    struct sim_answer *answers; /* [n_requests], in the trace's order; NULL: not wanted */
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
    uint32_t n_models; /* interactive requests for each in turn; 0: sim_trace_mix draws them */
    uint64_t seed;
};
/* Arrivals without memory. INVALID, NOMEM; the trace is sim_trace_done's. */
SL_CHECK sl_status sim_trace_poisson(const struct sim_poisson *poisson, struct sim_trace *out,
                                     struct sl_err *err);
/* Which models and classes requests are for that the trace says nothing of: shares[model][part]
 * are the weights in successive equal parts of the trace's time, of classes at all times. */
struct sim_mix {
    const double *shares; /* [n_models][n_parts], not below 0 */
    uint32_t n_models, n_parts;
    double classes[SCHED_CLASS_COUNT];
    uint64_t seed;
};
/* INVALID: a part of the time has no weight above 0. */
SL_CHECK sl_status sim_trace_mix(struct sim_trace *trace, const struct sim_mix *mix,
                                 struct sl_err *err);
void sim_trace_done(struct sim_trace *trace); /* fine for a zeroed one */

const char *sim_failure_name(enum sim_failure_kind kind); /* "crash"; "?" out of range */
