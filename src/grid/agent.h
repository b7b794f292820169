/* agent.h: the node's side of the grid: takes requests from gateways over the bus, has the node run
 * them, and answers so that no word is lost though the bus may lose any message; tells what the
 * machine has, holds and does. docs/grid-protocol.md has the messages and the reasons.
 *
 *     an attempt:   RUN -> WAITING -> RUNNING -> ENDED --- all its events arrived ---> forgotten
 *                    |        |          |         |                                       ^
 *                    |        +----------+---------+--- STOP, or its gateway is silent ----+
 *                    +---> REFUSED, which is an event as well: ENDED
 *
 * Floor: grid.  Thread: the loop's.  Allocates: an attempt with its events that have not arrived,
 * AGENT_STREAM_BYTES_MAX and one event each and cfg.stream_bytes_max together.
 * Invariants: the events of an attempt are those of its node_request, numbered from 1, each kept
 * until its gateway has it; the last one is terminal. An attempt is submitted to the node once. */
#pragma once
#include "base/err.h"
#include "grid/grid_msg.h"

struct agent;
struct bus;
struct loop;
struct node;
struct probes;
struct registry;
struct store;

#define AGENT_ATTEMPTS_MAX 65536 /* of all gateways: past any machine's slots and queue */
/* Events of one attempt that a gateway has not got; one that lets so much stand has gone, or the
 * way to it. */
#define AGENT_STREAM_BYTES_MAX (8u << 20)
#define AGENT_FETCHES_MAX 16 /* models that are fetched at a time */
/* An attempt that a gateway's SYNCs have not named for so long, while they came, is stopped: the
 * STOP was lost. */
#define AGENT_FORGOTTEN_NS INT64_C(5000000000)
#define AGENT_ENDED_KEEP_NS INT64_C(60000000000) /* events of an ended attempt, for its gateway */

/* agent_cfg_default fills all but what is borrowed. */
struct agent_cfg {
    struct loop *loop;
    struct bus *bus;
    struct node *node;
    struct store *store;
    const char *self; /* this member's id; strings are copied */
    const char *name, *address, *program;
    const char *site;          /* without a label "site=..." */
    const char *const *labels; /* "key=value"; at most GRID_LABELS_MAX, GRID_LABEL_MAX bytes each */
    size_t n_labels;
    /* What the owner says of the machine: watts, prices, wake_s. memory_bytes 0: the node's budget.
     * Others are the agent's to fill. */
    struct node_facts facts;
    uint64_t boot; /* grows with each start on this machine; 0: Unix time in milliseconds */
    /* Brings control->model into the store, from one of control->sources or wherever; agent_fetched
     * must follow, also later, and not from within. Its digest "": whatever the name means. NULL:
     * models that are not there cannot be loaded. */
    void (*fetch)(void *ctx, const struct grid_control *control);
    /* The latest sample; NULL: there is none. The function may be NULL too. */
    const struct telemetry_sample *(*telemetry)(void *ctx);
    /* Whose ways the agent measures itself, by `probes` and over the bus; borrowed, each may be
     * NULL: then it does not. */
    const struct registry *registry;
    struct probes *probes;
    /* The ways to other members that somebody else measures over the bus, at most `max`; returns
     * how many. Strings live until the next call. NULL: nobody does, and the agent pings. */
    size_t (*peers)(void *ctx, struct grid_peer *out, size_t max);
    /* How fast this machine computes (calibrate.h); NULL: not measured yet. The function may be
     * NULL too. */
    const struct split_machine *(*machine)(void *ctx);
    /* The stages that it runs in other members' chains: at most `max`, returns how many there are;
     * stage_host_list. NULL: none. */
    size_t (*stages)(void *ctx, struct grid_stage_hosted *out, size_t max);
    /* Duty is DRAINING and the last request has ended; once for each agent_set_duty. It may destroy
     * the agent. May be NULL. */
    void (*on_drained)(void *ctx);
    /* A gateway changed duty or labels by CONTROL, to be written down. May be NULL. */
    void (*on_control)(void *ctx, const struct grid_control *control);
    void *ctx;
    uint64_t stream_bytes_max; /* of all attempts' events that have not arrived */
    int64_t report_ns, report_gap_ns, cards_ns, beat_ns;
    int64_t silence_ns; /* of a gateway, after which its attempts are cancelled */
};
void agent_cfg_default(struct agent_cfg *cfg);

/* Subscribes, and reports from the first turn of the loop on. INVALID (names what), NOMEM, and
 * what bus_subscribe says. */
SL_CHECK sl_status agent_create(const struct agent_cfg *cfg, struct agent **out,
                                struct sl_err *err);
/* Cancels what gateways have here without a word to them. NULL is fine. */
void agent_destroy(struct agent *agent);

/* CORDONED takes nothing new; DRAINING neither, and tells when nothing is left. */
void agent_set_duty(struct agent *agent, enum node_duty duty);
enum node_duty agent_duty(const struct agent *agent);
/* INVALID: too many or too long. NOMEM. Then nothing changed. */
SL_CHECK sl_status agent_set_labels(struct agent *agent, const char *const *labels, size_t n,
                                    struct sl_err *err);

/* The end of a fetch: why is NULL when the model is in the store now, or the node has been given
 * the part that its split needs (node_take_part); it is loaded then. */
void agent_fetched(struct agent *agent, const char *name, const struct sl_err *why);
/* The bus came back: whoever missed something is told at once. */
void agent_bus_changed(struct agent *agent);
/* What `stages` or `machine` tells is another: reports it without delay. */
void agent_changed(struct agent *agent);
/* The store's content changed (a pull, an import, a removal): tells it without delay. */
void agent_store_changed(struct agent *agent);

struct agent_stats {
    uint64_t n_attempts, stream_bytes;                            /* now */
    uint64_t n_runs, n_runs_again, n_refused, n_ended, n_stopped; /* ever */
    uint64_t n_silenced;  /* cancelled, for their gateway was silent or forgot them */
    uint64_t n_overflown; /* failed, for their events did not arrive */
    uint64_t n_resent;    /* events sent more than once */
    uint64_t n_gone;      /* SYNCs for attempts that are unknown */
    uint64_t n_corrupt;   /* messages that could not be read */
    uint64_t n_unsent;    /* messages that the bus did not take */
};
/* What is now, and what was since it was created. */
void agent_stats_get(const struct agent *agent, struct agent_stats *out);
