/* dispatch.h: runs requests on the grid for one gateway: knows the members and their models, lets
 * sched/router decide which node a request goes to, carries what the nodes answer to the request's
 * owner, and has it go on elsewhere when a node dies. docs/scheduling.md tells how.
 *
 *   dispatch_submit -> router -> RUN ----> agent -> node.h
 *   on_event <- router's DELIVER <- EVENTS <-+
 *
 *   dispatch.c          creation, the router's steps and actions, time
 *   dispatch_request.c  requests, and delivery to their owners
 *   dispatch_attempt.c  attempts: a numbered stream of events over a bus that may lose anything
 *   dispatch_members.c  reports, round trips, which member has which number
 *   dispatch_catalog.c  models by name, from the members' cards
 *   dispatch_place.c    which models are loaded where: the live gateway with the lowest id decides
 *   dispatch_hope.c     what nobody can load, and why
 *   dispatch_split.c    models over several members: dispatch_split.h has its files
 *   dispatch_explain.c  why a request ran where it did
 *   dispatch_world.c    the loop and the bus, in place of which tests have their own
 *
 * Floor: grid.  Thread: the loop's; everything below is called there, and so are callbacks.
 * Allocates: tables at creation; a request's own memory within NODE_REQUEST_BYTES_MAX; an arena for
 * each message while it is looked at.
 * Invariants: every accepted request gets exactly one NODE_EVENT_DONE or NODE_EVENT_FAILED, unless
 * it is cancelled by its owner: then nothing more is called. Its tokens come in order, each once,
 * whichever nodes made them. No event comes from within dispatch_submit. */
#pragma once
#include "exec/engine_open.h"
#include "grid/grid_msg.h"
#include "sched/router.h"

struct bus;
struct dispatch;
struct dispatch_request;
struct loop;
struct sl_json;
struct store;

/* Members it knows of at a time, dead ones too; those that were dead longest make room. The
 * router's tables take 11 KiB a node. */
#define DISPATCH_MEMBERS_MAX 1024
#define DISPATCH_MODELS_MAX 1024 /* names with different contents count apart */
/* Of these, models that one other member alone has: it cannot keep the rest out. */
#define DISPATCH_MODELS_OF_ONE (DISPATCH_MODELS_MAX / 4)
#define DISPATCH_REQUESTS_MAX 8192 /* live; more are BUSY */
#define DISPATCH_HISTORY_MAX 4096  /* requests that can be explained, live ones too */

/* What it needs of the world, so that tests can bring a virtual clock and a bus that loses
 * things. All of it is called on the loop's thread. */
struct dispatch_world {
    void *ctx;
    int64_t (*now_ns)(void *ctx); /* monotonic */
    /* dispatch_tick is to be called then (at once, but not from within, when that has passed); each
     * call replaces the one before. */
    void (*wake_at)(void *ctx, int64_t at_ns);
    sl_status (*publish)(void *ctx, const char *subject, const void *bytes, size_t n);
    /* The connection to the bus: 0: there is none, only this machine can be heard; else a number
     * that is another one for each connection. */
    uint64_t (*connection)(void *ctx);
};

/* What the grid's registry says of a member, whatever that says of itself. */
struct dispatch_standing {
    bool gateway;
    enum node_duty duty;
    const char *name; /* lives until something changes; NULL: the one that it reports */
};

struct dispatch_cfg {
    const char *self;    /* this member's id; copied */
    struct store *store; /* borrowed; whose digest a name means; NULL: what most members have */
    struct loop *loop;   /* both NULL with a world of one's own */
    struct bus *bus;
    const struct dispatch_world *world; /* copied; NULL: loop and bus */
    const char *policy;                 /* policy_parse's; NULL: POLICY_DEFAULT */
    uint64_t seed;                      /* of lots and jitter; 0: random */
    uint64_t boot;               /* another one for each start; 0: Unix time in milliseconds */
    bool allow_echo;             /* models named "echo:..." need no file: node_cfg's */
    int64_t queue_timeout_ns;    /* to the first token, where the request says nothing */
    double hedge_share;          /* of interactive requests that may be sent twice; 0: none */
    int64_t suspect_ns, dead_ns; /* of a member's silence; docs/scheduling.md has the reasons */
    bool no_placement;           /* models are loaded by hand, or by another gateway */
    uint32_t replicas;           /* of a model that is asked for, where there is room; 0: 1 */
    /* False: it is no member (any more), and what it says is dropped. NULL: everybody is one, may
     * say what a gateway says, and has the duty that it reports. */
    bool (*standing)(void *ctx, const char *id, struct dispatch_standing *out);
    void *ctx; /* of standing */
};
void dispatch_cfg_default(struct dispatch_cfg *cfg); /* all but self, store, loop and bus */

/* INVALID, NOMEM, and what bus_subscribe says. On failure *out is untouched. */
SL_CHECK sl_status dispatch_create(const struct dispatch_cfg *cfg, struct dispatch **out,
                                   struct sl_err *err);
/* Tells the nodes to stop what runs for it and forgets its requests without calling anyone. NULL is
 * fine. */
void dispatch_destroy(struct dispatch *dispatch);

/* --- requests: the vocabulary of node.h --- */

/* As node_submit. Accepts what no node can take yet and waits for one, as long as one might load
 * the model; NOT_FOUND: no member has such a model; UNAVAILABLE: none that is alive can load it,
 * with the numbers; BUSY: DISPATCH_REQUESTS_MAX live. */
SL_CHECK sl_status dispatch_submit(struct dispatch *dispatch, const struct node_submit *req,
                                   node_event_fn on_event, void *ctx, struct dispatch_request **out,
                                   int64_t *retry_after_ms, struct sl_err *err);
/* As node_cancel: no more events, the handle is invalid; from within on_event too. */
void dispatch_cancel(struct dispatch_request *request);
uint64_t dispatch_request_number(const struct dispatch_request *request); /* the router's */

/* As node_models: every model that a name in the members' catalogue means, was asked for here, or
 * is loaded anywhere; counts are summed over the members, `state` is the best one. path is "" and
 * pid 0. Strings live until the next call into the dispatcher. */
void dispatch_models(struct dispatch *dispatch,
                     void (*fn)(void *ctx, const struct node_model *model), void *ctx);
/* The model of that name on any member, loaded or not. NOT_FOUND as store_find words it. */
SL_CHECK sl_status dispatch_model_find(struct dispatch *dispatch, const char *name,
                                       struct node_model *out, struct sl_err *err);
/* Has it loaded on at least one node and keeps it there. As dispatch_submit. */
SL_CHECK sl_status dispatch_pin(struct dispatch *dispatch, const char *model, struct sl_err *err);
/* Keeps what was named at the start, which loads here before any member has told of it: name and
 * digest as in node_model. NOMEM: also, more models than DISPATCH_MODELS_MAX. */
SL_CHECK sl_status dispatch_keep(struct dispatch *dispatch, const char *name, const char *digest,
                                 struct sl_err *err);
/* Unloads it on every member once its running requests are done. NOT_FOUND: it is loaded
 * nowhere. */
SL_CHECK sl_status dispatch_stop(struct dispatch *dispatch, const char *model, struct sl_err *err);
/* The local store changed what the name means, or lost it. */
void dispatch_model_changed(struct dispatch *dispatch, const char *model);

/* The cards of all models in the grid, one a name, sorted by name: for lists. */
void dispatch_cards(struct dispatch *dispatch,
                    void (*fn)(void *ctx, const struct grid_card *card, uint32_t n_members),
                    void *ctx);

/* --- members --- */

struct dispatch_member {
    const char *id, *name, *address, *site, *program;
    const char *const *labels;
    size_t n_labels;
    bool self;    /* this machine */
    bool gateway; /* it publishes what waits there */
    enum node_health health;
    bool drained;
    bool left;               /* silent since it was drained: it has ended, and nothing died */
    int64_t last_seen_ns;    /* ago; < 0: never */
    double rtt_s, rtt_min_s; /* smoothed, and the least; < 0: not measured */
    uint64_t n_sent, n_refused, n_failed; /* attempts of this gateway, ever */
    uint32_t n_running;                   /* of them, now */
    uint64_t n_moved;                     /* away from it, because it died */
    const struct grid_report *report;     /* the latest; NULL: none */
};
/* In the order of ids. Strings live until the next call into the dispatcher. */
void dispatch_members(struct dispatch *dispatch,
                      void (*fn)(void *ctx, const struct dispatch_member *member), void *ctx);
/* The ways that the dispatcher measures anyway, for agent_cfg.peers; at most `max`, returns how
 * many. Strings live until the next call into the dispatcher. */
size_t dispatch_peers(const struct dispatch *dispatch, struct grid_peer *out, size_t max);
/* Has the member told what it is and what models it has? */
bool dispatch_has_heard(const struct dispatch *dispatch, const char *id);
/* Is there a gateway besides `id` that is alive and not about to leave? */
bool dispatch_gateway_besides(const struct dispatch *dispatch, const char *id);
/* The member left or was removed: what runs there moves at once, and it is forgotten. */
void dispatch_member_gone(struct dispatch *dispatch, const char *id);

/* --- views --- */

struct dispatch_stats {
    struct router_totals router;
    uint32_t n_members_alive, n_members_suspect, n_members_dead;
    uint32_t n_members_left; /* not counted as suspect or dead */
    uint32_t n_models;
    uint64_t n_bytes_out, n_messages_out, n_messages_in; /* ever, as what follows */
    uint64_t n_unsent;                                   /* messages that the bus did not take */
    uint64_t n_connections;                              /* of the bus */
    uint64_t n_corrupt;                                  /* messages that could not be read */
    uint64_t n_gaps;       /* events that came out of order and were asked for again */
    uint64_t n_runs_again; /* RUN sent again, since the first was lost */
    uint64_t n_duplicates;
    uint64_t n_resumed;          /* answers that went on on another node */
    uint64_t n_loads, n_unloads; /* told by placement */
    uint32_t n_chains;           /* that this gateway keeps, now */
    uint64_t n_plans, n_replans; /* chains told to heads; of them, in place of another */
    bool places;                 /* this gateway runs the placement */
};
/* What is now, and what was since it was created. */
void dispatch_stats_get(const struct dispatch *dispatch, struct dispatch_stats *out);

/* Why a request runs where it does, or waits: one JSON object. By node_submit.request_id, or by
 * dispatch_request_number in decimal. NOT_FOUND: not one of the last DISPATCH_HISTORY_MAX. */
SL_CHECK sl_status dispatch_explain_request(struct dispatch *dispatch, const char *request_id,
                                            struct sl_json *json, struct sl_err *err);
/* Which model a request is for that dispatch_explain_request knows; NULL: none. */
const char *dispatch_explain_whose(const struct dispatch *dispatch, const char *request_id);
/* Where a request for the model would go now: one JSON object. As dispatch_model_find. */
SL_CHECK sl_status dispatch_explain_model(struct dispatch *dispatch, const char *model,
                                          struct sl_json *json, struct sl_err *err);

/* --- models over several members (docs/split.md) --- */

#define DISPATCH_PLAN_SEQS_MAX 256          /* what an engine runs at once */
#define DISPATCH_PLAN_CONTEXT_MAX (1 << 20) /* tokens */

struct dispatch_plan_ask {
    const char *model;
    const char *const *members; /* ids or names: only these may have a part; none: all */
    size_t n_members;
    enum split_aim aim;
    int32_t n_seqs, context;    /* 0: 8 streams, or what fits, of 4,096 tokens or less each */
    int32_t prompt;             /* tokens that there are as a rule when one is computed; 0: 512 */
    int32_t n_stages;           /* exactly; as many as members are named: each of them. 0: any */
    const int32_t *layers;      /* [n_members] of each, in this order; NULL: as is best */
    enum engine_link_type link; /* how hidden states travel */
    bool apply;                 /* have it so, and keep it so */
};

/* How the model would best be split, and how fast it would be: one JSON object, docs/split.md. What
 * makes no plan possible is told in it ("refused"). NOT_FOUND: the model or a member; INVALID (a
 * name that several members have, numbers); with `apply`: LIMIT, NOMEM. */
SL_CHECK sl_status dispatch_plan(struct dispatch *dispatch, const struct dispatch_plan_ask *ask,
                                 struct sl_json *json, struct sl_err *err);

/* --- for the world: the loop and the bus call these; with a world of one's own, its owner --- */

/* What came on the subjects sl.answer.<self>.*, sl.report.* and sl.ping.<self>.*. */
void dispatch_receive(struct dispatch *dispatch, const char *subject, const void *bytes, size_t n);
void dispatch_tick(struct dispatch *dispatch);
/* The bus came or went: at once, beside what world.connected says. */
void dispatch_bus_changed(struct dispatch *dispatch);
