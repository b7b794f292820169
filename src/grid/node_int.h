/* node_int.h: the parts of a node, for node*.c only.
 *   node.c          creation, the scheduler's steps and actions, queries
 *   node_models.c   names to models, workers and their callbacks
 *   node_requests.c one request: copying, dispatch, replay, events
 *   node_split.c    models that are stage 0 of a chain, and what is charged for others' stages
 * Floor: grid.  Thread: the loop's. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/idmap.h"
#include "base/strmap.h"
#include "exec/llm/sampler.h"
#include "exec/worker.h"
#include "grid/chain.h"
#include "grid/node.h"
#include "grid/store.h"
#include "net/loop.h"

#define NODE_MODELS_MAX 1024 /* known at a time; a name nobody uses makes room */
#define NODE_NAMES_MAX 4096  /* spellings of them; past it all are forgotten and looked up again */
/* How long a name is believed before the store is asked again: other programs pull and remove. */
#define NODE_NAME_TRUST_NS INT64_C(2000000000)

/* A worker's request id: the request's, and which part of it. */
#define NODE_PART_BITS 5 /* 1 + ENGINE_CHOICES_MAX parts fit */
#define NODE_PART_ALL 0u /* the whole request; part 1 + c: choice c alone, replayed */

struct node_entry {
    struct node *node;
    uint32_t index;
    bool used;
    bool removed; /* its file is gone or replaced: takes no more requests */
    char *name, *path, *digest, *chat_template, *system;
    struct sl_json_value *parameters;
    const char *kind; /* "llm", "onnx", "echo" */
    char *processing, *options;
    uint64_t file_bytes;
    struct sl_arena signature_arena; /* of info.signature */
    struct worker *worker;
    double load_fraction;
    int64_t loaded_at_ns;
    bool has_info;
    struct engine_info info; /* strings owned */
    struct chat_traits traits;
    uint64_t n_crashes;
    char last_error[SL_ERR_TEXT_MAX];
    struct node_request *running; /* on the worker; doubly linked */
    size_t n_requests;            /* that point here */
    struct grid_split *split;     /* as it was asked for; NULL: whole */
    struct grid_sources *sources; /* of its split; NULL: none are known */
    struct node_entry_part *part; /* what is here of its file; NULL: all */
    struct chain *chain;          /* while a worker of a split model lives, until it breaks */
    double followers_fraction;    /* of load_fraction's parts, as counted last */
    bool split_ends;              /* with the worker: the model was stopped */
    char broken[SL_ERR_TEXT_MAX]; /* why the chain broke under a worker that is yet to go; "" */
    struct engine_stats measured; /* as of the last look at the hops */
    int64_t measured_ns;
    bool has_hops;
    struct grid_hop hops[GRID_STAGES_MAX];
};

struct node_name {
    char *text;
    struct node_entry *entry;
    int64_t checked_ns;
};

struct node_choice {
    struct sl_buf tokens; /* int32_t ids that were told to the owner */
    bool done;
    int32_t n_generated;
};

struct node_request {
    struct node *node;
    struct node_entry *entry;
    uint64_t id;
    node_event_fn on_event;
    void *ctx;
    struct sl_arena arena; /* of what `submit` points to */
    struct node_submit submit;
    struct sampler_cfg sampler;
    int64_t now_s; /* for the chat template: a replay renders the same prompt */
    struct node_choice *choices;
    int32_t n_choices, n_done;
    uint32_t parts; /* bit p: part p is on the worker */
    bool resumed;   /* submit.resume was given */
    bool started, progressed, has_result, opens_thinking;
    bool silent; /* the owner is gone or was told the end; what comes is dropped */
    int32_t n_prompt, n_cached, n_attempts, n_rows;
    int64_t submit_ns, dispatch_ns, first_step_ns, first_token_ns, load_ns;
    struct node_request *next, *previous; /* in entry->running */
    bool linked;
};

/* One action of the scheduler that is yet to be carried out. */
struct node_todo {
    struct sched_action action;
    char reason[SCHED_REASON_MAX];
};

struct node {
    struct node_cfg cfg;
    struct sched *sched;
    struct loop_timer *wake;
    struct loop_task work;
    struct node_todo *todo;
    size_t n_todo, todo_cap, todo_at;
    struct node_entry *entries[NODE_MODELS_MAX];
    size_t n_removed; /* of them, those that go when nobody needs them any more */
    struct node_name *names;
    size_t n_names;
    struct sl_strmap name_index; /* text to its place in names */
    struct sl_idmap requests;
    uint64_t id_last;
    struct stage_links *links;   /* NULL: models run whole */
    uint64_t charged_bytes;      /* off cfg.memory_bytes, by node_charge */
    void (*on_model)(void *ctx); /* node_watch's */
    void *on_model_ctx;
    struct node_stats stats;
};

/* --- node.c --- */

/* Tells the scheduler, and has what it wants done at the end of this turn of the loop. */
void node_step(struct node *node, const struct sched_event *event);
/* Room for the actions of one more request. NOMEM. */
SL_CHECK sl_status node_reserve(struct node *node);

/* --- node_models.c --- */

/* The entry of a model by any of its names; any path too when `any_path`. As store_find. */
SL_CHECK sl_status node_entry_of(struct node *node, const char *name, bool any_path,
                                 struct node_entry **out, struct sl_err *err);
struct node_entry *node_entry_known(struct node *node, const char *name); /* NULL: unknown */
/* A new entry of that model; the store need not know it. As node_entry_of. */
SL_CHECK sl_status node_entry_make(struct node *node, const struct store_model *model,
                                   const char *kind, struct node_entry **out, struct sl_err *err);
void node_entry_remove(struct node_entry *entry);  /* no more requests; unloads */
void node_entry_free(struct node_entry *entry);    /* kills its worker; NULL is fine */
void node_entry_release(struct node_entry *entry); /* frees a removed one that nobody needs */
void node_entry_spawn(struct node_entry *entry);
/* Its worker and, where there is one, its chain are ready: requests may come. Nothing while one of
 * them is not. */
void node_entry_check_loaded(struct node_entry *entry);
/* It cannot be loaded; its worker is to go. */
void node_entry_refuse(struct node_entry *entry, const char *reason);
/* What it will take, with the split that it has. */
SL_CHECK sl_status node_entry_estimate(const struct node_entry *entry, uint64_t *out,
                                       struct sl_err *err);
void node_names_clear(struct node *node);

/* --- node_requests.c --- */

SL_CHECK sl_status node_request_create(struct node *node, const struct node_submit *submit,
                                       struct node_request **out, struct sl_err *err);
void node_request_free(struct node_request *request); /* NULL is fine */
/* Puts it on its model's worker, from the beginning or from where the last one died. */
void node_request_dispatch(struct node_request *request);
void node_request_cancel_parts(struct node_request *request);
/* The scheduler has ended it: tells the owner and frees it. */
void node_request_refuse(struct node_request *request, const struct sched_action *action);
void node_request_finish(struct node_request *request); /* NODE_LOAD: the model is there */
/* What a worker says of any of the node's requests. */
void node_requests_events(struct node_entry *entry, const struct wire_event *events, size_t n);
/* The worker is gone: nothing runs on it any more. */
void node_requests_orphan(struct node_entry *entry);

/* --- node_part.c --- */

/* The model of that name of which only a part is here; NULL: none such. */
struct node_entry *node_part_entry(struct node *node, const char *name);
/* Is what is here of the file enough for that split (NULL: for the whole)? */
bool node_part_fits(const struct node_entry *entry, const struct grid_split *split);
void node_part_free(struct node_entry_part *part); /* tells its owner; NULL is fine */

/* --- node_split.c --- */

/* With the numbers that a split leaves open. Stages are borrowed. */
struct grid_split node_split_resolve(const struct node *node, const struct grid_split *split);
struct engine_split node_split_engine(const struct grid_split *resolved);
/* Opens the chain of an entry that has a split; a failure is told by node_entry_refuse. */
void node_split_open(struct node_entry *entry);
/* The worker is gone: so is the chain. */
void node_split_close(struct node_entry *entry);
void node_split_free(struct node_entry *entry);
void node_split_loading(struct node_entry *entry, double own_fraction);
void node_split_frame(struct node_entry *entry, int32_t to, const void *bytes, size_t n);
void node_split_measure(struct node_entry *entry, const struct engine_stats *stats);
/* node_stop: a split that was planned is not kept for the next load. */
void node_split_stop(struct node_entry *entry);
