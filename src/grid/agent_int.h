/* agent_int.h: the parts of an agent, for agent*.c only.
 *   agent.c          creation, what comes over the bus, duty and labels
 *   agent_stream.c   attempts and their events: RUN, STOP, SYNC, EVENTS, BEAT
 *   agent_measure.c  how fast each model is here, and what its cache holds
 *   agent_report.c   REPORT
 *   agent_cards.c    CARDS
 *   agent_shapes.c   what models ask of the machines that they are split over
 *   agent_peers.c    how far other members are
 *   agent_control.c  CONTROL: loading, unloading, fetching
 * Floor: grid.  Thread: the loop's. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/idmap.h"
#include "grid/agent.h"
#include "grid/agent_blocks.h"
#include "grid/bus.h"
#include "grid/node.h"
#include "grid/store.h"
#include "net/loop.h"
#include "sched/speed.h"

#define AGENT_MODELS_MAX 256 /* that are measured; the one not used for the longest makes room */
/* Attempts that ended and were acknowledged, or were stopped: a RUN that comes late is not
 * obeyed. */
#define AGENT_PAST_MAX 1024 /* of one gateway; some seconds of any load */

struct agent_model {
    char *name;
    size_t n_attempts; /* that point here */
    int64_t used_ns;
    uint32_t n_loads; /* of its worker, when last looked at: another one has an empty cache */
    struct speed prefill, decode; /* in tokens a second; the latter of one stream */
    double service_s;             /* smoothed; 0: not known */
    uint32_t n_prefilling;        /* attempts whose prompts are not computed yet, */
    int64_t prefilling_ns;        /* and since when: since the last of them was */
    int64_t busy_ns;              /* it had something to do, or its rest has been counted */
    double tokens_per_s;
    uint64_t n_tokens;   /* since the last look */
    double block_tokens; /* of one hashed block, smoothed; 0: not known */
    uint64_t kv_tokens_max;
    struct agent_blocks blocks;
};

struct agent_gateway;
struct agent_peers;
struct model_shape;

struct agent_attempt {
    struct agent_gateway *gateway;
    uint64_t request;
    uint32_t attempt;
    enum grid_attempt_state state;
    struct node_request *handle; /* NULL: not in the node, or no more */
    struct agent_model *model;   /* NULL: it never got in */
    /* Events first_seq to last_seq as pieces of EVENTS; `ends` has a size_t for each: where it
     * ends, counted from the first piece of all. */
    struct sl_buf pieces, ends;
    size_t n_trimmed; /* bytes that were before pieces.data */
    uint64_t first_seq, last_seq, sent_seq;
    int64_t named_ns, ended_ns;
    bool unsent;
    /* for measuring */
    bool resumed, prefilling; /* the latter: it is among the model's n_prefilling */
    uint64_t n_prompt, n_cached, *blocks;
    size_t n_blocks;
    int64_t first_token_ns, last_token_ns;
    uint32_t n_tokens;                     /* of choice 0 since first_token_ns */
    struct agent_attempt *next, *previous; /* of the gateway */
    struct agent_attempt *same;            /* another attempt at the same request */
};

struct agent_past {
    uint64_t request;
    uint32_t attempt;
};

struct agent_gateway {
    struct agent *agent;
    char id[GRID_ID_SIZE];
    uint64_t boot, sent;
    int64_t heard_ns, synced_ns;
    struct agent_attempt *attempts;
    struct sl_idmap by_request; /* to the first of that request */
    struct agent_past past[AGENT_PAST_MAX];
    size_t n_past;
};

/* A model that is fetched, or could not be: that is told for a while, so that gateways try another
 * member or say why, and do not wait for what does not come. */
struct agent_fetch {
    char *name; /* NULL: free */
    char digest[STORE_DIGEST_SIZE];
    bool failed;
    struct grid_split *split; /* as which it is to be loaded then; NULL: whole */
    struct grid_sources sources;
    int64_t until_ns; /* when it is forgotten that it failed */
    char error[256];
};

/* What a model in the store asks of the machines that it may be split over. */
struct agent_shape {
    char digest[STORE_DIGEST_SIZE];
    struct model_shape *shape; /* NULL: it is not split */
    bool used;                 /* by the CARDS at hand */
};
#define AGENT_SHAPES_MAX 256 /* past it models are not split: 1.2 MB of numbers */
#define AGENT_SHAPES_AT_ONCE \
    2 /* headers of files that are read in one turn: some milliseconds each */

struct agent {
    struct agent_cfg cfg;
    char *strings[5]; /* copies for cfg */
    char **labels;    /* cfg.labels */
    bool drained;
    struct bus_subscription *on_run, *on_ping;
    struct loop_timer *report_timer, *cards_timer, *beat_timer;
    struct loop_task flush;
    struct agent_gateway *gateways[GRID_GATEWAYS_MAX];
    struct agent_model *models[AGENT_MODELS_MAX];
    struct agent_fetch fetches[AGENT_FETCHES_MAX];
    struct sl_arena arena; /* of the message at hand */
    struct sl_buf out;     /* of the message that is being sent */
    uint64_t version, cards_version;
    int64_t reported_ns, measured_ns;
    uint64_t loads_seen; /* loads and models that the last CARDS knew */
    uint64_t held[GRID_CHANGES_MAX], dropped[GRID_CHANGES_MAX]; /* since the last report */
    size_t n_held, n_dropped;
    struct store_models stored; /* as of the last look */
    struct agent_peers *peers;  /* NULL: without a registry */
    struct agent_shape shapes[AGENT_SHAPES_MAX];
    size_t n_shapes, n_shapes_read; /* the latter: by the CARDS at hand */
    struct agent_stats stats;
};

/* --- agent.c --- */

/* Publishes agent->out on sl.KIND.TO.SELF, or without TO. */
void agent_publish(struct agent *agent, const char *kind, const char *to);
/* Encodes and publishes. */
void agent_send(struct agent *agent, const char *kind, const char *to, const struct grid_msg *msg);

/* --- agent_stream.c --- */

/* RUN: begins the attempt, or tells again how it stands. STOP: cancels it. SYNC: what the gateway
 * has of each attempt: that is forgotten here, what it misses is sent again. */
void agent_on_run(struct agent_gateway *gateway, const struct grid_run *run);
void agent_on_stop(struct agent_gateway *gateway, const struct grid_stop *stop);
void agent_on_sync(struct agent_gateway *gateway, const struct grid_sync *sync);
/* By id and boot; a new boot ends what the process before had here. NULL: no room for one more. */
struct agent_gateway *agent_gateway_of(struct agent *agent, const char *id, uint64_t boot);
void agent_gateway_free(struct agent_gateway *gateway); /* NULL is fine */
void agent_flush(void *agent);                          /* sends what has not been sent */
void agent_beat(void *agent);                           /* also ends what is too old */

/* --- agent_measure.c --- */

/* NULL: no memory. */
struct agent_model *agent_model_of(struct agent *agent, const char *name);
void agent_model_free(struct agent_model *model); /* NULL is fine */
/* It goes to the node, where the model is loaded, or is not. */
void agent_measure_start(struct agent_attempt *attempt, bool loaded);
void agent_measure_event(struct agent_attempt *attempt, const struct node_event *event);
void agent_measure_end(struct agent_attempt *attempt); /* fine when it has ended already */
/* Prompt tokens of the attempt that are still to be computed. */
uint64_t agent_backlog(const struct agent_attempt *attempt);
/* What the node says of a model now: its cache is empty when the worker is another one. */
void agent_measure_model(struct agent *agent, struct agent_model *model,
                         const struct node_model *now);
/* Tokens a second since the last call for all models. */
void agent_measure_rates(struct agent *agent, int64_t now_ns);

/* --- agent_report.c --- */

/* Publishes a REPORT, now; the struct agent, as a task's or timer's function takes it. */
void agent_report(void *agent);
void agent_report_soon(void *agent); /* something changed */

/* --- agent_cards.c --- */

/* Publishes CARDS of all models in the store, and of those given by path; as agent_report. */
void agent_cards(void *agent);
/* Report and cards, for who knows nothing of this member. */
void agent_tell_all(struct agent *agent);
/* Another model is known or loaded than the last CARDS told: tells them soon. */
void agent_cards_check(struct agent *agent, uint64_t loads);

/* --- agent_shapes.c --- */

/* Between begin and end; NULL: it cannot be split, or its file is yet to be read. */
const struct split_model *agent_shape(struct agent *agent, const struct store_model *model);
void agent_shapes_begin(struct agent *agent);
/* Forgets the models that are gone. True: there may be files that are yet to be read. */
bool agent_shapes_end(struct agent *agent);
void agent_shapes_done(struct agent *agent);

/* --- agent_peers.c --- */

#define AGENT_PEERS_MAX 16384 /* REGISTRY_MEMBERS_MAX: whose ways are measured */

SL_CHECK sl_status agent_peers_start(struct agent *agent, struct sl_err *err);
void agent_peers_stop(struct agent *agent);
void agent_on_pong(struct agent *agent, const char *id, const struct grid_ping *pong);
/* For a report; strings live until the next turn. */
size_t agent_peers_list(struct agent *agent, struct grid_peer *out, size_t max);

/* --- agent_control.c --- */

/* Adds what is fetched, or could not be, to the `n` models of a report; returns how many there are
 * then. Strings live until the next message. */
size_t agent_fetches_report(struct agent *agent, struct grid_hosted *hosted, size_t n);
void agent_on_control(struct agent *agent, const struct grid_control *control);
void agent_check_drained(struct agent *agent);
