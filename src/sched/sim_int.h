/* sim_int.h: what the simulator's files share: sim.c (the run), sim_queue.c (events in order of
 * time), sim_gateway.c, sim_node.c (a machine's messages and its scheduler), sim_engine.c (its
 * batch), sim_result.c.
 * Floor: sched.  Thread: one.  Allocates: as said there. */
#pragma once
#include "sched/sim.h"
#include "sched/sim_cache.h"

#define SIM_NS_PER_S 1e9
#define SIM_PROGRESS_TICKS 5 /* reports between two words about what runs: silence_ns is 15 s */

enum sim_event_kind {
    SIM_ARRIVAL,     /* request */
    SIM_SEND,        /* node, gateway, request, attempt, n_tokens; value: its `sent` number */
    SIM_STOP,        /* node, gateway, request, attempt */
    SIM_NEWS,        /* gateway, node, request, attempt, n_tokens; value: enum router_event_kind */
    SIM_REPORT,      /* gateway, node; value: what it covers; snapshot */
    SIM_STEP,        /* node; value: the engine's epoch */
    SIM_LOADED,      /* node, request: the model's place; value: the machine's boot */
    SIM_NODE_WAKE,   /* node */
    SIM_ROUTER_WAKE, /* gateway */
    SIM_TELEMETRY,   /* node */
    SIM_SAMPLE,      /* of the imbalance */
    SIM_FAIL,        /* request: number of the failure */
    SIM_HEAL,        /* the same */
    SIM_GONE,        /* node; value: the boot that died */
};

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
    uint64_t order;     /* of dispatch: prompts are computed in turn */
    int64_t started_ns; /* dispatched */
};

/* Equal steps in a row; ends early when something arrives. */
struct sim_span {
    bool active;
    bool stepping; /* its end is being dealt with: the batch is planned after that */
    uint64_t epoch;
    int64_t start_ns, step_ns, n_steps;
    uint32_t chunk;   /* prompt tokens in each step */
    uint32_t prefill; /* the job they belong to */
};

struct sim_machine {
    const struct sim_node *spec;
    struct sched *sched;
    struct sim_cache cache;
    struct sim_job *jobs;
    uint32_t n_jobs_max, n_jobs;
    uint64_t n_orders;
    bool alive;
    double speed; /* 1 unless slowed down */
    uint32_t cut; /* a bit for each gateway that it cannot reach */
    uint64_t boot, version, n_ticks;
    uint64_t *seen;      /* by gateway: the highest `sent` number */
    int64_t *arrives_ns; /* by gateway and direction: messages keep their order */
    int64_t wake_ns;
    struct sim_span span;
    uint64_t kv_used;
    double prefill_tps, decode_tps, service_s; /* measured */
    struct sim_node_result result;
};

struct sim_gateway {
    struct router *router;
    int64_t wake_ns;
};

struct sim_outcome {
    int64_t first_ns, end_ns; /* -1: not yet */
    sl_status status;
};

struct sim {
    const struct sim_config *config;
    const struct sim_trace *trace;
    struct sim_queue queue;
    struct sim_machine *machines;
    struct sim_gateway *gateways;
    struct sim_outcome *outcomes;
    uint32_t n_gateways;
    size_t n_ended;
    int64_t now_ns;
    uint64_t n_draws;
    uint64_t output_expected;
    double imbalance;
    uint64_t n_samples;
    sl_status status; /* the first failure */
};

/* --- sim.c --- */
/* When a message sent now arrives on the other side; to_node or back. False: the way is cut. */
bool sim_way(struct sim *sim, uint32_t node, uint32_t gateway, bool to_node, int64_t *out_ns);

/* --- sim_gateway.c --- */
sl_status sim_gateway_init(struct sim *sim, uint32_t number, struct sl_err *err);
void sim_gateway_step(struct sim *sim, uint32_t number, const struct router_event *event);
void sim_gateway_arrival(struct sim *sim, uint32_t request);
void sim_gateway_news(struct sim *sim, const struct sim_event *event);
void sim_gateway_report(struct sim *sim, const struct sim_event *event);
void sim_gateway_wake(struct sim *sim, const struct sim_event *event);

/* --- sim_node.c --- */
sl_status sim_machine_init(struct sim *sim, uint32_t number, struct sl_err *err);
void sim_machine_done(struct sim_machine *machine);
void sim_machine_send(struct sim *sim, const struct sim_event *event);
void sim_machine_stop(struct sim *sim, const struct sim_event *event);
void sim_machine_loaded(struct sim *sim, const struct sim_event *event);
void sim_machine_wake(struct sim *sim, const struct sim_event *event);
void sim_machine_telemetry(struct sim *sim, uint32_t number);
void sim_machine_crash(struct sim *sim, uint32_t number);
void sim_machine_recover(struct sim *sim, uint32_t number);
/* The job's answer is complete: tells everybody and frees it. */
void sim_machine_finished(struct sim *sim, uint32_t number, struct sim_job *job);
void sim_machine_tell(struct sim *sim, uint32_t number, const struct sim_job *job,
                      enum router_event_kind kind);
void sim_snapshot_release(struct sim_snapshot *snapshot);
const struct node_report *sim_snapshot_report(const struct sim_snapshot *snapshot);

/* --- sim_engine.c --- */
void sim_engine_start(struct sim *sim, uint32_t number, struct sim_job *job); /* has a slot now */
/* Brings the jobs up to now; at the next step's end the batch is planned anew. */
void sim_engine_interrupt(struct sim *sim, uint32_t number);
void sim_engine_catch_up(struct sim *sim, uint32_t number);
/* Takes the job out of the batch. */
void sim_engine_drop(struct sim *sim, uint32_t number, struct sim_job *job);
void sim_engine_step(struct sim *sim, const struct sim_event *event);
void sim_engine_reset(struct sim_machine *machine);

/* --- sim_result.c --- */
sl_status sim_result_fill(struct sim *sim, struct sim_result *out, struct sl_err *err);
