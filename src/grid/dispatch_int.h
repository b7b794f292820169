/* dispatch_int.h: what dispatch*.c share; dispatch.h says what each file does.
 * Floor: grid.  Thread: the loop's.
 * Invariants: a router step is never begun within another; what a callback of an owner wants done
 * (cancel, submit) is put on `todo` and done after the step. An attempt exists exactly from the
 * router's SEND until its node ended it or the router's STOP or END. */
#pragma once
#include "base/buf.h"
#include "base/idmap.h"
#include "base/json_read.h"
#include "grid/dispatch.h"
#include "grid/store_name.h"
#include "sched/placement.h"

#define DISPATCH_TICK_NS INT64_C(250000000) /* between SYNCs, and looks at whoever is silent */
#define DISPATCH_LABEL_BITS 64              /* different labels that the router tells apart */
#define DISPATCH_DEMANDS_MAX 256            /* models that wait at another gateway */
#define DISPATCH_ATTEMPTS_KEPT 8            /* of a request in the history */
#define DISPATCH_ID_TEXT_SIZE 80            /* of a request's own id in the history */

struct dispatch_chain;
struct model_shape;
struct peers;

/* --- members --- */

struct dispatch_attempt;

struct dispatch_demand {
    uint32_t model, n_waiting;
    bool pinned, splits;
};

/* A member as this gateway knows it. Its place in dispatch.nodes is the router's number. */
struct dispatch_node {
    bool used, self;
    uint32_t number;
    char id[GRID_ID_SIZE];
    struct dispatch_standing standing; /* as of its last message */
    uint64_t epoch; /* the router's boot of it: grows whatever clock the member has */
    bool has_report, has_cards;
    struct sl_arena report_arena, cards_arena;
    struct grid_report report;
    uint32_t *hosted_models; /* [report.n_hosted]: numbers in the catalogue, or NODE_NONE */
    struct grid_cards cards;
    uint32_t *card_models;           /* likewise */
    int64_t demand_ns;               /* router time of its last DEMAND; < 0: it is no gateway */
    struct dispatch_demand *demands; /* [n_demands]; made for gateways only */
    uint32_t n_demands;
    struct dispatch_attempt *attempts; /* those that live there; doubly linked */
    uint32_t n_attempts;
    uint64_t n_sent, n_refused, n_failed, n_moved;
    double slowdown; /* of stages there, against what it was calibrated at; 0: not known */
    double hop_s;    /* to hand a micro-batch to or from the network there; 0: not known */
};

/* --- models --- */

struct dispatch_model {
    bool used, pinned, pinned_elsewhere, asked_for;
    bool settled;  /* a request's name has meant it: that stays, as long as anybody has it */
    uint64_t born; /* counts up with each new model */
    uint32_t number, next; /* next of the same name or name's hash; NODE_NONE */
    char *name, *digest;
    uint64_t key;      /* of its blocks' hashes */
    uint64_t *holders; /* a bit for each member that has its files */
    uint32_t n_holders;
    uint32_t card_node; /* whose card it is, or NODE_NONE */
    const struct grid_card *card;
    struct model_shape *own_shape;    /* read here, as long as no card tells; NULL: it was not */
    struct sl_json_value *parameters; /* of the card; NULL: none, or not read yet */
    uint32_t n_requests;              /* that live here and want it */
    uint32_t n_hosted;                /* members whose reports name it */
    uint64_t bytes_guess;             /* of memory, where no card tells; 0: not known */
    double bytes_per_token, output_tokens; /* learned */
    int64_t hopeless_ns;                   /* since when no member could load it; < 0: one can */
    int64_t split_ns;                      /* no chain is looked for before */
    int64_t hope_ns;                       /* until then it stands whether one could be */
    sl_status hope;
    char hope_text[200]; /* why not */
    bool hope_held;      /* without pinned models one could be */
};

/* --- requests --- */

struct dispatch_choice {
    struct sl_buf tokens; /* int32_t ids that were told to the owner */
    bool done;
    int32_t n_generated;
};

/* One attempt at a request: a stream of numbered events from one node. */
struct dispatch_attempt {
    struct dispatch_request *request;
    uint32_t number; /* 0: a free place */
    uint32_t node;
    uint64_t sent;
    uint64_t next_seq; /* of the first event that has not come */
    uint64_t n_tokens; /* counted events of the whole answer up to there */
    bool heard;        /* the node has said something about it */
    bool has_started;
    struct node_event started; /* STARTED waits for the first counted event */
    struct chat_traits traits;
    int64_t run_ns, asked_ns; /* real time of the last RUN, and of the last wish for a repetition */
    struct dispatch_attempt *next, *previous; /* in dispatch_node.attempts */
};

enum dispatch_todo { TODO_NONE, TODO_SUBMIT, TODO_CANCEL, TODO_COMPLETE, TODO_FAIL };

struct dispatch_request {
    struct dispatch *dispatch;
    uint64_t number;
    node_event_fn on_event;
    void *ctx;
    bool silent; /* the owner is gone or was told the end */
    struct dispatch_model *model;
    enum node_task task;
    struct sl_buf body; /* the RUN, encoded, but for what differs between attempts */
    uint64_t *blocks;
    struct router_submit submit;
    struct dispatch_choice *choices;
    int32_t n_choices, n_done;
    bool has_result, started;
    uint64_t n_tokens; /* counted events that the owner was told */
    size_t prompt_bytes;
    int32_t n_prompt, n_cached;
    int64_t submit_ns, sent_ns, first_token_ns; /* real time; 0: not yet */
    int64_t queue_ns, load_ns;
    uint32_t n_sends, n_worker_deaths;
    struct dispatch_attempt attempts[2]; /* the router has no more at a time */
    enum dispatch_todo todo;
    sl_status fail_status; /* TODO_FAIL */
    const char *fail_text;
    int64_t fail_retry_ms; /* 0: it is no use to ask again soon */
    struct dispatch_request *todo_next;
};

/* --- history --- */

struct dispatch_past_attempt {
    uint32_t number;
    char node[GRID_ID_SIZE];
    bool hedge;
    int64_t sent_ms, ended_ms; /* since the request was submitted; ended < 0: it has not */
    uint64_t n_from, n_tokens; /* the answer it went on from, and had when it ended */
    const char *end;           /* a word for why; NULL: it lives */
};

struct dispatch_past {
    uint64_t number;
    char request_id[DISPATCH_ID_TEXT_SIZE];
    char model[128], digest[13];
    int64_t submit_ns;
    uint64_t prompt_tokens, output_tokens;
    uint32_t n_attempts; /* ever; the last ones are kept */
    struct dispatch_past_attempt attempts[DISPATCH_ATTEMPTS_KEPT];
    const char *end; /* NULL: it lives */
    sl_status status;
    int64_t end_ms;
};

/* --- all of it --- */

/* A CONTROL that is said again until the member's reports show it done. */
struct dispatch_control {
    bool used;
    enum grid_control_kind kind;
    uint32_t node, model;
    uint64_t epoch, version;   /* of the member's report when it was first said */
    int64_t next_ns, until_ns; /* router time */
};
#define DISPATCH_CONTROLS_MAX 256

/* Events that are being looked at: what DELIVER and END take from. */
struct dispatch_window {
    const struct dispatch_attempt *attempt;
    const struct grid_event *v;
    size_t n;
    const struct node_event *done; /* among them; or NULL */
};

struct dispatch {
    struct dispatch_cfg cfg; /* strings are not kept */
    char self[GRID_ID_SIZE];
    struct dispatch_world world;
    struct dispatch_shell *shell; /* the loop and the bus behind `world`; or NULL */
    struct router *router;
    struct placement *placement;
    struct peers *peers;
    struct dispatch_node *nodes; /* [DISPATCH_MEMBERS_MAX] */
    uint32_t n_nodes;            /* places ever used */
    uint32_t self_node;
    uint64_t n_epochs;
    char *labels[DISPATCH_LABEL_BITS];
    uint32_t n_labels;
    struct dispatch_model *models; /* [DISPATCH_MODELS_MAX] */
    uint32_t n_models;             /* places ever used */
    uint64_t n_models_ever;
    uint64_t *holders;     /* of all models */
    struct sl_idmap ids;   /* hash of a member's id to its dispatch_node */
    struct sl_idmap names; /* hash of a name to the first model of it */
    struct sl_idmap requests;
    uint64_t n_requests_ever;
    struct dispatch_request *todo_head, *todo_tail;
    struct dispatch_control controls[DISPATCH_CONTROLS_MAX];
    struct dispatch_chain *chains; /* [DISPATCH_CHAINS_MAX], once there was one; else NULL */
    struct dispatch_past *history; /* [DISPATCH_HISTORY_MAX] */
    bool stepping;
    struct dispatch_window window;
    struct sl_arena arena; /* of the message that is looked at */
    struct sl_buf out, head;
    uint32_t *waiting; /* [DISPATCH_MODELS_MAX] for placement */
    /* time */
    int64_t real_ns, router_ns; /* as of the last dispatch_clock */
    int64_t router_wake_ns;     /* router time */
    int64_t tick_ns, second_ns; /* real time of the next ones */
    uint64_t connection;
    int64_t lost_ns, back_ns; /* when the connection went, and came */
    bool place_now;           /* something has changed that placement should look at */
    bool tell_demand;         /* and whoever runs the placement should know */
    struct dispatch_stats stats;
};

/* --- dispatch.c --- */

void dispatch_clock(struct dispatch *dispatch); /* brings real_ns and router_ns up to now */
/* Steps the router and carries its actions out. */
SL_CHECK sl_status dispatch_try(struct dispatch *dispatch, const struct router_event *event);
void dispatch_step(struct dispatch *dispatch, const struct router_event *event);
void dispatch_todo(struct dispatch_request *request, enum dispatch_todo todo);
void dispatch_work(struct dispatch *dispatch); /* what is to be done after steps */
void dispatch_wake(struct dispatch *dispatch); /* says when to be woken */
/* To sl.KIND.TO.SELF, or sl.KIND.SELF when `to` is NULL. What the bus does not take is lost, as
 * anything may be. */
void dispatch_send(struct dispatch *dispatch, const char *kind, const char *to,
                   const struct grid_msg *msg);
void dispatch_send_bytes(struct dispatch *dispatch, const char *kind, const char *to,
                         const struct sl_buf *bytes);

/* --- dispatch_request.c --- */

/* Takes it out of all tables; its owner hears nothing. */
void dispatch_request_free(struct dispatch_request *request);
/* By the router's number; NULL: it has ended. */
struct dispatch_request *dispatch_request_find(const struct dispatch *dispatch, uint64_t number);
/* DELIVER: counted events from number n_from up to n_to, from the window. */
void dispatch_deliver(struct dispatch_request *request, struct dispatch_attempt *attempt,
                      uint64_t n_from, uint64_t n_to);
/* END: tells the owner and frees the request. `done` may be NULL. */
void dispatch_request_end(struct dispatch_request *request, const struct router_action *action);
bool dispatch_request_complete(const struct dispatch_request *request);
/* Is it one of those that the router's token numbers count? */
bool dispatch_counts(const struct grid_event *event);

/* --- dispatch_attempt.c --- */

/* SEND: an attempt of the request at the node that the action names, and RUN to that node. */
void dispatch_attempt_send(struct dispatch_request *request, const struct router_action *action);
/* STOP; also for attempts that are not known any more. */
void dispatch_attempt_stop(struct dispatch *dispatch, const struct router_action *action);
void dispatch_attempt_close(struct dispatch_attempt *attempt, const char *end);
void dispatch_on_events(struct dispatch *dispatch, struct dispatch_node *node,
                        const struct grid_events *events);
void dispatch_on_beat(struct dispatch *dispatch, struct dispatch_node *node,
                      const struct grid_beat *beat);
void dispatch_sync_all(struct dispatch *dispatch, bool resend);
void dispatch_stop_at(struct dispatch *dispatch, const struct dispatch_node *node, uint64_t request,
                      uint32_t attempt);
/* An empty SYNC: an agent that has not heard of this gateway tells it everything at once. */
void dispatch_hello(struct dispatch *dispatch, const struct dispatch_node *node);

/* --- dispatch_members.c --- */

/* The member of that id; NULL: nothing was heard of it. _of makes it known. */
struct dispatch_node *dispatch_node_find(const struct dispatch *dispatch, const char *id);
/* As the router sees it; DEAD for NULL. */
enum node_health dispatch_node_health(const struct dispatch *dispatch,
                                      const struct dispatch_node *node);
struct dispatch_node *dispatch_node_of(struct dispatch *dispatch, const char *id); /* or NULL */
/* A REPORT and a PONG of that member, as the bus brought them. */
void dispatch_on_report(struct dispatch *dispatch, struct dispatch_node *node, const void *bytes,
                        size_t n);
void dispatch_on_pong(struct dispatch *dispatch, struct dispatch_node *node,
                      const struct grid_ping *pong);
/* It is alive: the router counts its silence from now. */
void dispatch_heard(struct dispatch *dispatch, const struct dispatch_node *node);
/* What people call it, for use at once: by the registry, or else as it reports; "". */
const char *dispatch_node_name(const struct dispatch *dispatch, const struct dispatch_node *node);
/* Is it silent since it was drained? */
bool dispatch_node_left(const struct dispatch *dispatch, const struct dispatch_node *node);
void dispatch_ping_silent(struct dispatch *dispatch);
void dispatch_ping_round(struct dispatch *dispatch);
void dispatch_nodes_done(struct dispatch *dispatch);
double dispatch_rtt_s(const struct dispatch *dispatch, const struct dispatch_node *node);

/* --- dispatch_catalog.c --- */

/* CARDS of that member: the catalogue has its models then, and no others of it. */
void dispatch_on_cards(struct dispatch *dispatch, struct dispatch_node *node, const void *bytes,
                       size_t n);
/* The model of exactly that name and digest, a new one if need be; NULL: no place, or no memory. */
struct dispatch_model *dispatch_model_of(struct dispatch *dispatch, const char *name,
                                         const char *digest);
/* The model that waits at another gateway; NULL: it is not known here, and needs a file. */
struct dispatch_model *dispatch_model_demanded(struct dispatch *dispatch, const char *name,
                                               const char *digest);
/* May that member have a model of that name? Another one's names are spelt out whole, or else they
 * could stand for what a shorter name means here. */
bool dispatch_may_name(const struct dispatch *dispatch, uint32_t node, const char *name);
/* What a user's name means. NOT_FOUND, NOMEM. */
SL_CHECK sl_status dispatch_model_resolve(struct dispatch *dispatch, const char *name,
                                          struct dispatch_model **out, struct sl_err *err);
/* NULL: not in the catalogue. */
struct dispatch_model *dispatch_model_known(const struct dispatch *dispatch, const char *name,
                                            const char *digest);
/* What it asks of the members that it may be split over; NULL: it is not split, or nobody has
 * told. */
const struct split_model *dispatch_model_shape(const struct dispatch_model *model);
/* Tokens that it was trained for; 0: not known. */
uint64_t dispatch_model_context(const struct dispatch_model *model);
/* Of memory that it takes when loaded, by its card; 0: not known. */
uint64_t dispatch_model_bytes(const struct dispatch_model *model);
void dispatch_model_tell(struct dispatch *dispatch,
                         const struct dispatch_model *model); /* placement */
void dispatch_cards_forget(struct dispatch *dispatch, struct dispatch_node *node);
void dispatch_models_sweep(struct dispatch *dispatch);
void dispatch_models_make_room(struct dispatch *dispatch); /* sweeps, should there be none */
void dispatch_models_done(struct dispatch *dispatch);

/* --- dispatch_place.c --- */

/* What waits at that gateway, for the one that places. */
void dispatch_on_demand(struct dispatch *dispatch, struct dispatch_node *node,
                        const struct grid_demand *demand);
/* Decides where models are to be loaded, all that are wanted or one, and tells the members. */
void dispatch_place(struct dispatch *dispatch);
void dispatch_place_model(struct dispatch *dispatch, const struct dispatch_model *model);
/* Tells the gateway that places what waits here. */
void dispatch_publish_demand(struct dispatch *dispatch);
/* Says again what members have not followed yet: the bus may have lost it. */
void dispatch_control_repeat(struct dispatch *dispatch);
/* Somebody wants it loaded, asked for or not, here or at another gateway: it gives way to none. */
bool dispatch_is_kept(const struct dispatch *dispatch, uint32_t model);
/* Does the member say that it has the model's files? */
bool dispatch_model_is_at(const struct dispatch_model *model, uint32_t node);
/* As the member's report has it, whatever has become of the member since; NULL: it has not. */
const struct grid_hosted *dispatch_hosted_of(const struct dispatch *dispatch, uint32_t node,
                                             uint32_t model);
bool dispatch_is_live_gateway(const struct dispatch *dispatch, const struct dispatch_node *node);
/* Says it to the member, and again until its reports show it done; a later wish takes the place of
 * an earlier one. */
void dispatch_control(struct dispatch *dispatch, enum grid_control_kind kind, uint32_t node,
                      uint32_t model);
/* LOAD, unless something about that model is being said there already. */
void dispatch_control_keep(struct dispatch *dispatch, uint32_t node, uint32_t model);

/* --- dispatch_hope.c --- */

/* UNAVAILABLE: no member can load it, with the numbers and the pinned models that are why;
 * *retry_after_ms, which may be NULL, says when that may be another, 0: it will not by itself. */
SL_CHECK sl_status dispatch_model_hope(struct dispatch *dispatch, struct dispatch_model *model,
                                       int64_t *retry_after_ms, struct sl_err *err);
/* Ends requests that wait in vain. */
void dispatch_fail_hopeless(struct dispatch *dispatch);
/* Could one member load all of it, once whatever is not pinned has gone? */
bool dispatch_fits_whole(const struct dispatch *dispatch, const struct dispatch_model *model);
/* Of the member's memory, what pinned models other than this one have and keep. */
uint64_t dispatch_held_bytes(const struct dispatch *dispatch, const struct dispatch_node *node,
                             const struct dispatch_model *model);
/* Members of the object at hand: why it cannot be loaded, if so, and the pinned models that hold
 * the room that is missing. */
void dispatch_hope_put(struct dispatch *dispatch, struct sl_json *json,
                       struct dispatch_model *model);

/* --- dispatch_explain.c --- */

/* What dispatch_explain will tell of a request: that it came, where it was sent, how it ended. */
void dispatch_past_begin(const struct dispatch_request *request, const char *request_id);
void dispatch_past_send(const struct dispatch_request *request,
                        const struct dispatch_attempt *attempt, bool hedge);
/* n_counted as dispatch_counts, of which n_done are ends of choices. */
void dispatch_past_close(const struct dispatch_attempt *attempt, uint64_t n_counted, int n_done,
                         const char *end);
void dispatch_past_end(const struct dispatch_request *request, sl_status status, const char *end);

/* --- dispatch_world.c --- */

/* What ties the dispatcher to the loop and the bus: a timer, subscriptions, clocks. As
 * dispatch_create. */
SL_CHECK sl_status dispatch_shell_create(struct dispatch *dispatch, struct sl_err *err);
void dispatch_shell_destroy(struct dispatch_shell *shell); /* NULL is fine */
