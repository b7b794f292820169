/* sim_int.h: what the simulator's files share: sim.c (the run), sim_check.c (what makes sense),
 * sim_queue.c (events in order of time), sim_network.c, sim_failure.c, sim_place.c (models that
 * follow demand), sim_energy.c, sim_gateway.c, sim_node.c (a machine's messages and its scheduler),
 * sim_telemetry.c (its reports), sim_engine.c (its batch), sim_result.c.
 * Floor: sched.  Thread: one.  Allocates: as said there. */
#pragma once
#include "sched/placement.h"
#include "sched/sim.h"
#include "sched/speed.h"
#include "sched/sim_cache.h"

#define SIM_NS_PER_S 1e9
#define SIM_SECONDS_MAX 1e6            /* of any duration that is given: days, not years */
#define SIM_END_NS (INT64_MAX / 4)     /* 73 years: what is not over then never is */
#define SIM_SPAN_NS (INT64_MAX / 4096) /* of equal steps: so that sums of some do not overflow */
#define SIM_PROGRESS_TICKS 5 /* telemetry_s between words about what runs: silence_ns is 15 s */

enum sim_event_kind {
    SIM_ARRIVAL,     /* request */
    SIM_SEND,        /* node, gateway, request, attempt, n_tokens; value: its `sent` number */
    SIM_STOP,        /* node, gateway, request, attempt */
    SIM_NEWS,        /* gateway, node, request, attempt, n_tokens; value: enum router_event_kind */
    SIM_REPORT,      /* gateway, node; value: what it covers; snapshot */
    SIM_STEP,        /* node; value: the engine's epoch */
    SIM_LOADED,      /* node, request: the model's place; value: number of the load */
    SIM_UNLOADED,    /* the same */
    SIM_PLACE,       /* placement looks at the nodes */
    SIM_CONTROL,     /* node, request: model; value: enum placement_action_kind */
    SIM_NODE_WAKE,   /* node */
    SIM_ROUTER_WAKE, /* gateway */
    SIM_HELLO,       /* node: its first report */
    SIM_TELEMETRY,   /* node; at its report_at_ns, or it has been put off */
    SIM_SAMPLE,      /* of the imbalance */
    SIM_FAIL,        /* request: number of the failure; node */
    SIM_HEAL,        /* the same */
    SIM_GONE,        /* node; value: the boot that died */
};

/* Durations that come out of others are cut at the longest span. */
static inline int64_t sim_ns(double seconds)
{
    return seconds * SIM_NS_PER_S < (double)SIM_SPAN_NS ? (int64_t)(seconds * SIM_NS_PER_S)
                                                        : SIM_SPAN_NS;
}

struct sim_snapshot; /* a report on its way */

struct sim_event {
    int64_t at_ns;
    uint64_t order; /* of equals, the first pushed is the first */
    enum sim_event_kind kind;
    uint32_t node, gateway, request, attempt, n_tokens;
    uint64_t value;
    struct sim_snapshot *snapshot;
};

struct sim_queue {
    struct sim_event *events; /* a binary heap */
    size_t n, capacity;
    uint64_t n_pushed;
    bool failed; /* no memory: the run ends */
};

void sim_queue_push(struct sim_queue *queue, struct sim_event event);
bool sim_queue_pop(struct sim_queue *queue, struct sim_event *out); /* false: empty */
void sim_queue_done(struct sim_queue *queue);

/* QUEUED: in the node's scheduler.  BLOCKED: it has a slot, but no KV room yet. */
enum sim_job_state { JOB_FREE, JOB_QUEUED, JOB_BLOCKED, JOB_PREFILL, JOB_DECODE };

struct sim_job {
    enum sim_job_state state;
    uint32_t request, gateway, attempt, place; /* place: of its model on the node */
    uint32_t n_done, prefill_left;
    uint32_t n_planned;  /* of its prompt, in each step of the span */
    uint64_t order;      /* of dispatch: prompts are computed in turn */
    int64_t started_ns;  /* dispatched */
    bool resumed;        /* it was begun elsewhere */
    bool awaited;        /* its prompt has still to be measured */
    uint32_t n_computed; /* of its prompt: not cached */
    uint32_t n_measured; /* tokens until decode_ns, from which on decoding has to be measured */
    int64_t decode_ns;
};

/* Equal steps in a row; ends early when something arrives. */
struct sim_span {
    bool active;
    bool stepping; /* its end is being dealt with: the batch is planned after that */
    uint64_t epoch;
    int64_t start_ns, step_ns, n_steps;
    uint32_t chunk; /* prompt tokens in each step, of all jobs */
};

/* A model that a machine can have: every one of its list, or of the grid with placement. */
struct sim_place {
    uint32_t model;
    bool ready, stored;
    uint64_t load; /* number of the worker's load; grows when it ends, too */
    int64_t load_began_ns;
};

struct sim_machine {
    const struct sim_node *spec;
    struct sched *sched;
    struct sim_place *places;
    uint32_t n_places;
    struct sim_cache cache;
    struct sim_job *jobs;
    uint32_t n_jobs_max, n_jobs;
    uint64_t n_orders;
    bool alive;
    double speed; /* 1 unless slowed down */
    uint32_t cut; /* a bit for each gateway that it cannot reach */
    uint64_t boot, version;
    int64_t reported_ns, report_at_ns; /* last, next */
    int64_t told_ns;                   /* what runs, last */
    uint64_t *seen;                    /* by gateway: the highest `sent` number */
    int64_t *arrives_ns;               /* by gateway and direction: messages keep their order */
    int64_t wake_ns;
    struct sim_span span;
    uint64_t kv_used;
    struct speed prefill, decode; /* measured: tokens a second */
    uint32_t n_awaited;           /* prompts; awaited_ns: since then, or since the last was done */
    int64_t awaited_ns;
    double service_s;
    int64_t rested_ns;  /* how far its rest has been counted */
    int64_t charged_ns; /* its energy is accounted for until then */
    double charged_busy_s;
    uint64_t n_lots; /* of random failures */
    struct sim_node_result result;
};

struct sim_gateway {
    struct router *router;
    int64_t wake_ns;
};

struct sim_outcome {
    int64_t first_ns, end_ns; /* -1: not yet */
    uint32_t node;            /* as struct sim_answer's */
    sl_status status;
};

struct sim {
    const struct sim_config *config;
    const struct sim_trace *trace;
    struct sim_queue queue;
    struct sim_machine *machines;
    struct sim_gateway *gateways;
    struct sim_outcome *outcomes;
    struct placement *placement; /* NULL: models stay */
    uint32_t *waiting;           /* [n_models]: its input */
    uint64_t *holders;           /* [n_models][n_holder_words]: nodes with the file, a bit each */
    uint32_t n_holder_words;
    struct sim_model_result *models;
    uint32_t n_gateways;
    size_t n_ended;
    int64_t now_ns;
    uint64_t n_draws;
    uint64_t output_expected;
    double imbalance;
    uint64_t n_samples;
    sl_status status; /* the first failure */
};

/* --- sim_check.c --- */
sl_status sim_check(const struct sim_config *config, const struct sim_trace *trace,
                    struct sl_err *err);

/* --- sim_network.c --- */
/* When a message of n_bytes sent now arrives on the other side; to_node or back. False: the way is
 * cut. */
bool sim_way(struct sim *sim, uint32_t node, uint32_t gateway, bool to_node, uint32_t n_bytes,
             int64_t *out_ns);
/* Seconds of a round trip without load. */
double sim_rtt_s(const struct sim *sim, uint32_t node, uint32_t gateway);
/* Seconds in which n_bytes come to the node from its nearest source of them: the least number of
 * bits a second on the way counts. from SIM_NONE: the origin. */
double sim_transfer_s(const struct sim *sim, uint32_t node, uint32_t from, uint64_t n_bytes);

/* --- sim_failure.c --- */
void sim_failures_begin(struct sim *sim);
void sim_fail(struct sim *sim, const struct sim_event *event);
void sim_heal(struct sim *sim, const struct sim_event *event);
void sim_gone(struct sim *sim, const struct sim_event *event);

/* --- sim_place.c --- */
sl_status sim_place_init(struct sim *sim, struct sl_err *err); /* nothing without placement */
void sim_place_step(struct sim *sim);
void sim_place_stored(struct sim *sim, uint32_t node, uint32_t model); /* it has the file now */
/* From a worker's start to ready. */
double sim_place_load_s(const struct sim *sim, uint32_t node, uint32_t place);

/* --- sim_energy.c --- */
void sim_energy_charge(struct sim *sim, uint32_t node); /* up to now */
double sim_energy_price_kwh(const struct sim *sim, const struct sim_node *spec);
double sim_energy_carbon_kwh(const struct sim *sim, const struct sim_node *spec);

/* --- sim_gateway.c --- */
sl_status sim_gateway_init(struct sim *sim, uint32_t number, struct sl_err *err);
void sim_gateway_step(struct sim *sim, uint32_t number, const struct router_event *event);
void sim_gateway_arrival(struct sim *sim, uint32_t request);
void sim_gateway_news(struct sim *sim, const struct sim_event *event);
void sim_gateway_report(struct sim *sim, const struct sim_event *event);
void sim_gateway_wake(struct sim *sim, const struct sim_event *event);

/* --- sim_node.c --- */
sl_status sim_machine_init(struct sim *sim, uint32_t number, struct sl_err *err);
/* Bytes for models; as good as endless when the node says nothing. */
uint64_t sim_machine_memory(const struct sim *sim, const struct sim_node *spec);
void sim_machine_done(struct sim_machine *machine);
void sim_machine_send(struct sim *sim, const struct sim_event *event);
void sim_machine_stop(struct sim *sim, const struct sim_event *event);
void sim_machine_loaded(struct sim *sim, const struct sim_event *event);
void sim_machine_unloaded(struct sim *sim, const struct sim_event *event);
void sim_machine_control(struct sim *sim, const struct sim_event *event);
void sim_machine_wake(struct sim *sim, const struct sim_event *event);
void sim_machine_crash(struct sim *sim, uint32_t number);
void sim_machine_recover(struct sim *sim, uint32_t number);
/* The job's answer is complete: tells everybody and frees it. */
void sim_machine_finished(struct sim *sim, uint32_t number, struct sim_job *job);
void sim_machine_tell(struct sim *sim, uint32_t number, const struct sim_job *job,
                      enum router_event_kind kind);

/* --- sim_telemetry.c --- */
void sim_machine_telemetry(struct sim *sim, const struct sim_event *event);
/* The next report comes at that time: as its own phase has it, or before. */
void sim_machine_report_at(struct sim *sim, uint32_t number, int64_t at_ns);
/* A request came or went, or a model: it reports now, or report_gap_s after the last report. */
void sim_machine_changed(struct sim *sim, uint32_t number);
/* Tells every gateway at once: the grid was there before the first request. */
void sim_machine_hello(struct sim *sim, uint32_t number);
void sim_snapshot_release(struct sim_snapshot *snapshot);
const struct node_report *sim_snapshot_report(const struct sim_snapshot *snapshot);

/* --- sim_engine.c --- */
void sim_engine_start(struct sim *sim, uint32_t number, struct sim_job *job); /* has a slot now */
/* Brings the jobs up to now; at the next step's end the batch is planned anew. */
void sim_engine_interrupt(struct sim *sim, uint32_t number);
void sim_engine_catch_up(struct sim *sim, uint32_t number);
/* A request has come: its prompt counts for the measured speed. And it is gone. */
void sim_engine_await(struct sim *sim, uint32_t number, struct sim_job *job);
void sim_engine_forget(struct sim *sim, uint32_t number, struct sim_job *job);
/* Lets its measured speeds recover while it has nothing to do. */
void sim_engine_rest(struct sim *sim, uint32_t number);
/* Takes the job out of the batch. */
void sim_engine_drop(struct sim *sim, uint32_t number, struct sim_job *job);
void sim_engine_step(struct sim *sim, const struct sim_event *event);
void sim_engine_reset(struct sim_machine *machine);

/* --- sim_result.c --- */
sl_status sim_result_fill(struct sim *sim, struct sim_result *out, struct sl_err *err);
