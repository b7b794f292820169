/* node.h: one machine's part of the service. Takes requests for models, lets src/sched decide
 * which run when and which models are loaded, keeps one worker process a loaded model, and
 * carries what a dead worker had begun over to the next one, so that its client sees a pause.
 *
 *     submit -> waiting -> running -> events ... -> DONE | FAILED
 *                  ^          |
 *                  +----------+   the worker died: what is unfinished is replayed
 *
 * Floor: grid.  Thread: the loop's; everything below is called there, and so are callbacks.
 * Allocates: a request's own memory within NODE_REQUEST_BYTES_MAX; tables at creation.
 * Invariant: every accepted request gets exactly one NODE_EVENT_DONE or NODE_EVENT_FAILED,
 * unless it is cancelled by its owner: then nothing more is called. No event comes from within
 * node_submit. */
#pragma once
#include "base/err.h"
#include "exec/chat/chat_format.h"
#include "exec/engine.h"
#include "sched/local.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grid_card;
struct grid_hop;
struct grid_sources;
struct grid_split;
struct loop;
struct node;
struct node_request;
struct sampler_cfg;
struct sl_json_value;
struct stage_links;
struct store;
struct store_model;

#define NODE_REQUEST_BYTES_MAX (64u << 20) /* prompt and generated ids: past any context of today */
#define NODE_PROMPT_BYTES_MAX (16u << 20)  /* what a worker takes; four million token ids */
#define NODE_TENSOR_REQUEST_BYTES_MAX (TENSOR_BYTES_MAX + (4u << 20)) /* names and shapes too */

struct node_cfg {
    struct loop *loop;
    struct store *store;       /* borrowed; resolves names to files */
    const char *worker_binary; /* NULL: this executable */
    uint64_t memory_bytes; /* budget of all loaded models; 0: 80 % of what the machine has free */
    int32_t n_queue_max;   /* requests waiting in all */
    int64_t keep_alive_ns; /* an idle model is unloaded after it; < 0: never */
    int64_t queue_timeout_ns; /* waited longer: TIMEOUT */
    int64_t watchdog_ms;      /* an engine that makes no step for so long is killed */
    bool allow_echo;          /* models named "echo:..." run the scripted engine (tests) */
    /* defaults of every LLM worker: see llm_engine_cfg */
    int32_t n_threads, n_ctx, n_seqs_max, gpu_layers;
    int kv_type; /* enum llm_kv_type */
    uint64_t kv_bytes_max;
    int32_t kv_contexts;
    bool no_prefix_cache;
    uint64_t seed; /* of back-off jitter; 0: random */
};
void node_cfg_default(struct node_cfg *cfg);

/* NOMEM, INVALID, IO. */
SL_CHECK sl_status node_create(const struct node_cfg *cfg, struct node **out, struct sl_err *err);
const struct node_cfg *node_config(const struct node *node);
/* Ends the workers (killed when they do not go in time) and forgets requests without calling
 * anyone. NULL is fine. */
void node_destroy(struct node *node);

enum node_task {
    NODE_GENERATE,
    NODE_EMBED,
    NODE_TOKENIZE,
    NODE_DETOKENIZE,
    NODE_INFER, /* tensors in, tensors out */
    NODE_LOAD   /* nothing but that the model is loaded */
};

enum node_prompt {
    NODE_PROMPT_TEXT,
    NODE_PROMPT_TOKENS,
    /* JSON object with the variables of the model's chat template: messages, tools,
     * add_generation_prompt and whatever else the template knows */
    NODE_PROMPT_CHAT
};

/* What a choice has given before this node got it: node_submit.resume. */
struct node_resume {
    const int32_t *tokens; /* all those that were told, in order */
    size_t n_tokens;
    bool done; /* it has ended: nothing is told of it */
};

/* Everything is copied at submit. */
struct node_submit {
    enum node_task task;
    const char *model; /* a name or path that the store resolves */
    enum sched_class qos;
    uint64_t tenant;          /* requests of one tenant share its part of a class; 0: nobody's */
    const char *request_id;   /* by which its client knows it, for explanations; NULL: none */
    int64_t queue_timeout_ns; /* 0: the node's; SCHED_NEVER: none */
    int64_t keep_alive_ns;    /* of the model after this request; SCHED_KEEP_ALIVE_* */
    enum node_prompt prompt;
    const char *text; /* TEXT and CHAT; also TOKENIZE */
    size_t n_text;
    const int32_t *tokens; /* TOKENS; also DETOKENIZE */
    size_t n_tokens;
    bool parse_special; /* with TEXT: control tokens spelt out become such */
    bool no_bos;        /* TOKENIZE: without the BOS that the model's tokenizer puts first */
    /* GENERATE */
    int32_t max_tokens; /* 0: until the context is full */
    int32_t n_choices;  /* 0: 1 */
    bool ignore_end;
    const struct sampler_cfg *sampler; /* NULL: defaults */
    /* NULL: a new one. Else of every choice what it gave elsewhere: it goes on after that, as after
     * a worker's death. STARTED is told; what was given is not told again, but n_generated and
     * max_tokens count it. */
    const struct node_resume *resume; /* [n_choices] */
    /* Unix time that chat templates show, so that a resumed prompt is the same; 0: now. */
    int64_t now_s;
    const char *const *stop;
    int n_stop;
    /* EMBED */
    enum engine_pooling pooling;
    bool no_normalize;
    const char *pair; /* with TEXT: the second text of a pair; NULL: none */
    size_t n_pair;
    /* INFER: engine_infer's */
    const struct tensor *inputs;
    size_t n_inputs;
    const char *const *outputs;
    size_t n_outputs;
    /* The inputs stay where they are until the request's last event or node_cancel, and need not be
     * copied. */
    bool inputs_stay;
};

enum node_event_type {
    NODE_EVENT_STARTED, /* the prompt is known: n_prompt, n_cached, opens_thinking, traits */
    NODE_EVENT_TOKEN,
    NODE_EVENT_CHOICE_DONE, /* text that was held back, finish, n_generated */
    NODE_EVENT_RESULT,      /* embedding, tokens, text or tensors */
    NODE_EVENT_DONE,
    NODE_EVENT_FAILED
};

struct node_event {
    enum node_event_type type;
    /* STARTED; DONE too */
    int32_t n_prompt, n_cached; /* tokens; of them, taken from the prefix cache */
    /* STARTED */
    bool opens_thinking; /* the prompt ends inside <think>: the answer begins with reasoning */
    const struct chat_traits *traits; /* of the model's template */
    /* TOKEN, CHOICE_DONE */
    int32_t choice;
    int32_t token;
    const char *text; /* also RESULT of DETOKENIZE */
    size_t n_text;
    bool has_logprob;
    struct engine_logprob logprob;
    int32_t n_top;
    const struct engine_logprob *top;
    enum engine_finish finish;
    int32_t n_generated; /* CHOICE_DONE: of this choice; DONE: of all */
    /* RESULT */
    const float *embedding;
    int32_t n_embd;
    const int32_t *tokens;
    size_t n_tokens;
    const struct tensor *tensors; /* valid during the call */
    size_t n_tensors;
    int32_t n_rows; /* of tensors: the first dimension of the first input, at least 1 */
    /* DONE, FAILED: where the time went, nanoseconds; 0: never came to it */
    int64_t queue_ns;       /* submit to the worker's first step for it, model load included; also
                         STARTED, until the worker took it */
    int64_t load_ns;        /* of that, waiting for the model to load */
    int64_t first_token_ns; /* submit to first token */
    int64_t total_ns;       /* submit to now */
    int32_t n_attempts;     /* 1, plus one for every worker that died under it */
    /* FAILED */
    sl_status status;
    const char *message;
    int64_t retry_after_ms; /* 0: unknown */
};
typedef void (*node_event_fn)(void *ctx, const struct node_event *event);

/* Accepts or refuses at once: NOT_FOUND (no such model, and how to get it), BUSY (the queue is
 * full; *retry_after_ms says when to come again), INVALID, LIMIT, NOMEM, CORRUPT (the model
 * file). */
SL_CHECK sl_status node_submit(struct node *node, const struct node_submit *req,
                               node_event_fn on_event, void *ctx, struct node_request **out,
                               int64_t *retry_after_ms, struct sl_err *err);
/* The owner is gone: no more events; the worker hears of it before its next step. The handle is
 * invalid afterwards, as it is when DONE or FAILED has returned. May be called from on_event. */
void node_cancel(struct node_request *request);
uint64_t node_request_id(const struct node_request *request);

/* What is loaded, for `ps`, /api/ps, /v1/models and metrics. Strings live until the next call into
 * the node. */
struct node_model {
    const char *name;                   /* as the store names it */
    const char *path;                   /* of its file */
    const char *digest;                 /* SHA-256 in hex; "" for a file that nobody hashed */
    const char *state;                  /* sched_model_state_name: "ready", "loading", ... */
    enum sched_model_state sched_state; /* the same */
    uint32_t n_slots;                   /* requests that its worker takes at a time */
    double load_fraction;
    bool pinned;
    uint64_t bytes;        /* weights, KV cache and buffers; an estimate until loaded */
    int64_t expires_in_ns; /* until idle unload; < 0: never, or see until_unused */
    bool until_unused;     /* in a grid: it goes some time after its last request */
    uint32_t n_parts;      /* members that it is split over, all in `bytes`; 0: it is whole */
    int32_t n_running, n_waiting;
    uint32_t n_loads, n_crashes;
    int pid;                        /* 0: no worker */
    const struct engine_info *info; /* NULL until it was loaded once */
    struct chat_traits traits;
    struct engine_stats stats; /* as of the last pong */
    const char *last_error;    /* "" when there is none */
    /* What the store's manifest says; NULL: nothing. */
    const struct sl_json_value *parameters; /* defaults as Ollama names them */
    const char *system;                     /* message for conversations that bring none */
    const char *format;                     /* "gguf", "onnx", "echo" */
    const char *processing; /* JSON object: how images become inputs; NULL: it says nothing */
    const char *options;    /* JSON object: how the engine runs it; NULL */
    /* In a grid: what a member's store says of it (grid_msg.h); NULL: nobody has told. */
    const struct grid_card *card;
    bool part;                      /* node_take_part's: not all of its file is here */
    const struct grid_split *split; /* it is stage 0 of this chain; NULL: it is whole */
    const struct grid_hop *hops;    /* [split->n_stages], measured; NULL: not yet */
};
/* Calls fn for every model that was asked for since start. */
void node_models(struct node *node, void (*fn)(void *ctx, const struct node_model *model),
                 void *ctx);

/* The model of that name, loaded or not. As store_find. */
SL_CHECK sl_status node_model_find(struct node *node, const char *name, struct node_model *out,
                                   struct sl_err *err);

/* fn(ctx) is called whenever a model was loaded or could not be, or its worker went; one at a time,
 * fn NULL: nobody. It may ask, but not change anything. */
void node_watch(struct node *node, void (*fn)(void *ctx), void *ctx);

struct node_stats {
    uint64_t n_waiting[SCHED_CLASS_COUNT];
    uint64_t n_running;
    uint64_t memory_bytes, memory_used_bytes; /* budget, and of it in use, charges included */
    uint64_t charged_bytes;                   /* of these: by node_charge */
    uint64_t n_submitted, n_done, n_failed, n_cancelled, n_replayed, n_expired, n_rejected;
    uint64_t n_crashes;
};
void node_stats_get(const struct node *node, struct node_stats *out);

/* Begins to load the model and keeps it loaded. As node_submit. */
SL_CHECK sl_status node_pin(struct node *node, const char *model, struct sl_err *err);
/* Unloads it once its running requests are done. NOT_FOUND: it is not loaded. */
SL_CHECK sl_status node_stop(struct node *node, const char *model, struct sl_err *err);
/* Forgets what it knows of a model file that was replaced or removed; as node_stop. */
void node_model_changed(struct node *node, const char *model);

/* --- a model over several machines (docs/split.md) --- */

/* Who carries the messages between stages; before the first node_pin_split. Borrowed; to be taken
 * back (NULL) before it is destroyed: chains end with that. */
void node_set_links(struct node *node, struct stage_links *links);
struct stage_links *node_links(const struct node *node); /* or NULL */

/* Loads the model as stage 0 of that chain and keeps it loaded; the split is copied. NULL: whole.
 * sources (NULL: none are known): whom the other stages may ask for their layers, besides members
 * of the chain; copied. They may not reach the head itself.
 * The same split again, as grid_split_equal has it, changes nothing. Another one while it is loaded
 * replaces it: what runs goes back to the queue and is replayed on the new chain. When the chain
 * breaks it is tried once more as it was (a worker may only have crashed); if that fails, requests
 * fail with UNAVAILABLE. INVALID: the split; UNSUPPORTED: no links, or not a GGUF file; as
 * node_pin. */
SL_CHECK sl_status node_pin_split(struct node *node, const char *model,
                                  const struct grid_split *split,
                                  const struct grid_sources *sources, struct sl_err *err);

/* A model of which this machine has only what some of its layers need (fetch_part.h). */
struct node_part {
    const struct store_model *model; /* what members say of it; path: of the part */
    int32_t first, last;             /* these layers, and what embeds before the first of all */
    /* Nobody uses the file any more. From the loop, also from within calls of the node. */
    void (*release)(void *ctx);
    void *ctx;
};

/* The name means that model from now on: for node_pin_split with a stage 0 of these layers, and for
 * nothing else. It is forgotten with its split, or by node_model_changed. A part that was given for
 * it before is released. All but ctx is copied; on failure nothing is released. As node_pin. */
SL_CHECK sl_status node_take_part(struct node *node, const struct node_part *part,
                                  struct sl_err *err);
/* Is there such a part, and enough of it for that split (NULL: never)? */
bool node_has_part(struct node *node, const char *model, const struct grid_split *split);

/* Takes bytes off the budget for something that is not a model of this node: a stage of another
 * member's chain. Idle models give way. NOMEM, with the numbers: it does not fit beside what is in
 * use. */
SL_CHECK sl_status node_charge(struct node *node, uint64_t bytes, struct sl_err *err);
void node_uncharge(struct node *node, uint64_t bytes); /* what was charged, or part of it */
