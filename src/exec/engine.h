/* engine.h: the one small interface behind which every engine stands (LLM on ggml, ONNX Runtime,
 * a stage of a split model, an external server): load, submit, cancel, step, stats, unload;
 * results come as events.
 * Floor: exec.  Thread: one engine belongs to one thread, which calls everything below; two
 * engines share nothing.
 * Allocates: at load; per request within the engine's limits.
 * Invariant: every accepted request gets exactly one ENGINE_EVENT_DONE per choice, also when it
 * is cancelled or the engine is unloaded; nothing is emitted for a choice after its DONE. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "exec/tensor.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sampler_cfg;

/* OpenAI allows 128; a choice is a whole sequence, so a request stays bounded */
#define ENGINE_CHOICES_MAX 16
#define ENGINE_TOP_LOGPROBS_MAX 20 /* OpenAI: top_logprobs <= 20 */
/* of one split model; each adds a hop to every token, so that more never pay (grid_msg's bound) */
#define ENGINE_STAGES_MAX 16

enum engine_finish {
    ENGINE_FINISH_STOP,   /* end-of-text token or a stop string */
    ENGINE_FINISH_LENGTH, /* max_tokens, or the context is full */
    ENGINE_FINISH_CANCELLED,
    ENGINE_FINISH_ERROR /* status and message say why */
};
/* "stop", "length", "cancelled", "error" */
const char *engine_finish_name(enum engine_finish finish);

/* One text generation. Everything is copied at submit. */
struct engine_generate {
    uint64_t id; /* the caller's; unique among live requests */
    /* prompt as text (n_text bytes), tokenized by the engine with BOS as the model wants; */
    const char *text;
    size_t n_text;
    /* or as token ids, taken as they are; exactly one of the two */
    const int32_t *tokens;
    size_t n_tokens;
    bool parse_special; /* control tokens spelt out in `text` become such */
    int32_t max_tokens; /* > 0; capped by the context */
    int32_t n_choices;  /* 0 means 1; each with seed + its index */
    bool ignore_end;    /* go on past end-of-text tokens (benchmarks) */
    /* Control tokens of the answer come out as they are spelt ("<|python_tag|>"), for who takes
     * tool calls and reasoning apart; else they give no text. The one that ends the answer never
     * does. */
    bool show_control;
    const struct sampler_cfg *sampler; /* NULL: the defaults of sampler_cfg_default */
    /* stop strings; the text before the first one is the answer */
    const char *const *stop;
    int n_stop;
    /* A choice whose worker died goes on elsewhere: the tokens it had produced so far. They
     * count as generated (max_tokens, penalties, stop strings, text held back) and nothing is
     * emitted for them, so the events that follow are those the first engine would have sent.
     * NULL: a new one. INVALID with n_choices > 1. */
    const int32_t *resume;
    size_t n_resume;
    int32_t choice_base; /* index of the first choice: its seed is the sampler's plus this */
};

enum engine_pooling {
    ENGINE_POOLING_MODEL, /* what the file says (`pooling_type`); mean without it */
    ENGINE_POOLING_MEAN,
    ENGINE_POOLING_CLS, /* the first token's */
    ENGINE_POOLING_LAST,
    /* a classifier's logits in place of a vector: what a cross-encoder makes of a pair */
    ENGINE_POOLING_RANK
};

/* One embedding of one text. Everything is copied at submit. */
struct engine_embed {
    uint64_t id;      /* as engine_generate's */
    const char *text; /* or tokens: exactly one of the two */
    size_t n_text;
    const int32_t *tokens;
    size_t n_tokens;
    /* The second text of a pair, with `text` as the first; NULL: there is none. Only engines of
     * encoders take one. */
    const char *pair;
    size_t n_pair;
    bool parse_special;
    enum engine_pooling pooling;
    bool no_normalize; /* by default the vector has Euclidean length 1; never with RANK */
};

/* Data of inputs that stay where they are, so that they need not be copied. */
struct engine_hold {
    /* Called once by the engine when it reads them no more, from engine_step, engine_cancel,
     * engine_unload or the submit itself; never when the submit failed. */
    void (*release)(struct engine_hold *hold);
};

/* One run of a model on tensors. Everything is copied at submit, but for what `hold` keeps. */
struct engine_infer {
    uint64_t id; /* as engine_generate's */
    const struct tensor *inputs;
    size_t n_inputs;
    struct engine_hold *hold;   /* NULL: no data stay */
    const uint32_t *held;       /* [n_inputs] with hold: other than 0 where the data stay */
    const char *const *outputs; /* names of those wanted, in this order */
    size_t n_outputs;           /* 0: all, in the model's order */
};

/* What a client of the model must know; strings are the engine's, valid until unload. */
struct engine_info {
    const char *architecture;        /* "qwen2" */
    const char *name;                /* the model's own; "" when it has none */
    const char *chat_template;       /* Jinja source; NULL when the model has none */
    const char *bos_text, *eos_text; /* spelt out, for templates; "" when there is none */
    bool adds_bos;                   /* the tokenizer puts BOS before every text */
    int32_t n_ctx;                   /* most tokens of one sequence */
    int32_t n_ctx_model;             /* what the model was trained for */
    int32_t n_vocab, n_embd, n_layer;
    int32_t n_seqs_max; /* sequences that run at once */
    uint64_t n_params;
    const char *quantization; /* of most weights: "q4_0" */
    const char *device;       /* what computes: "cpu", "CUDAExecutionProvider"; NULL: not told */
    bool embeds, ranks;       /* takes engine_embed, and pairs with ENGINE_POOLING_RANK */
    /* Of a model that takes engine_infer; else empty. */
    struct tensor_signature signature;
    int32_t batch_max; /* rows that one run may have; 0 or 1: it does not batch */
};

struct engine_usage {
    int32_t n_prompt;       /* tokens */
    int32_t n_cached;       /* of them taken from the prefix cache */
    int32_t n_generated;    /* of this choice */
    int64_t queue_ns;       /* submit to first prefill step */
    int64_t first_token_ns; /* submit to first token; 0 when there was none */
    int64_t prefill_ns;     /* first prefill step to first token */
    int64_t decode_ns;      /* first to last token */
};

struct engine_logprob {
    int32_t token;
    float logprob;     /* natural log */
    const char *bytes; /* the token's text, valid during the event */
    size_t n_bytes;
};

enum engine_event_type {
    /* progress: n_done of n_total prompt tokens are computed; n_cached of them came from the
     * cache */
    ENGINE_EVENT_PREFILL,
    /* a token was chosen; text may be empty while a character or a possible stop string is open */
    ENGINE_EVENT_TOKEN,
    ENGINE_EVENT_EMBEDDING, /* the vector; DONE follows */
    ENGINE_EVENT_TENSORS,   /* the outputs; DONE follows */
    ENGINE_EVENT_DONE
};

struct engine_event {
    enum engine_event_type type;
    uint64_t id;
    int32_t choice;
    /* PREFILL */
    int32_t n_done, n_total, n_cached;
    /* TOKEN; DONE carries the text that was held back */
    int32_t token;
    const char *text; /* UTF-8, n_text bytes, valid during the call */
    size_t n_text;
    bool has_logprob;
    struct engine_logprob logprob;
    int32_t n_top;
    const struct engine_logprob *top; /* likeliest first */
    /* EMBEDDING: [n_embd] f32, valid during the call */
    const float *embedding;
    int32_t n_embd;
    /* TENSORS, valid during the call */
    const struct tensor *tensors;
    size_t n_tensors;
    /* DONE */
    enum engine_finish finish;
    sl_status status;
    const char *message; /* with ENGINE_FINISH_ERROR */
    const struct engine_usage *usage;
};

/* Called from within engine_step, engine_cancel and engine_unload. May call engine_cancel, not
 * submit nor step. */
typedef void (*engine_event_fn)(void *ctx, const struct engine_event *event);

/* A message for another stage of the same split model: `to` is its number, `bytes` are valid
 * in the call. Messages between two stages arrive in the order in which they were sent, each once.
 * Called from within engine_step. */
typedef void (*engine_frame_fn)(void *ctx, int32_t to, const void *bytes, size_t n);

struct engine_hop { /* one stage of a split model, over all steps that only decoded */
    uint64_t compute_ns;
    uint64_t wait_ns; /* from a step's arrival at the stage to its turn; 0 of stage 0 */
};

struct engine_stats {
    int32_t n_waiting, n_running; /* sequences */
    /* used: held by sequences; cached: reusable prefixes */
    int32_t kv_blocks_total, kv_blocks_used, kv_blocks_cached;
    int32_t kv_block_tokens;
    uint64_t kv_bytes; /* allocated for keys and values */
    /* of the model's tensors that are loaded (mapped or copied) */
    uint64_t weight_bytes;
    uint64_t weight_copied_bytes; /* of them, those copied from the file rather than mapped */
    uint64_t compute_bytes;       /* graph buffers */
    uint64_t n_steps, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_preemptions;
    uint64_t n_graph_builds, n_graph_reuses;
    /* of models on tensors: requests' rows, and runs; rows over runs is the mean batch */
    uint64_t n_rows, n_runs;
    /* Of a split model, told by its stage 0; else zero. Steps that only decoded: how many, how many
     * tokens they had, from the first stage's begin to the result's arrival, and of that what no
     * stage computed nor waited: the way over n_stages links (the last one is the result's). While
     * a stage computes, messages lie at its door: the way itself is what steps took that were alone
     * under way. */
    int32_t n_stages, n_flights; /* steps that may be under way at once */
    uint64_t n_hop_steps, n_hop_tokens;
    uint64_t round_ns, wire_ns;
    uint64_t n_alone_steps, alone_ns;
    struct engine_hop hops[ENGINE_STAGES_MAX]; /* [n_stages] */
};

struct engine; /* opaque; see llm_engine.h for how an LLM is loaded */

/* What an engine implements. `self` is the implementation's own struct. */
struct engine_ops {
    const char *name; /* "llm" */
    sl_status (*submit)(void *self, const struct engine_generate *req, struct sl_err *err);
    sl_status (*cancel)(void *self, uint64_t id);
    sl_status (*step)(void *self, bool *out_idle, struct sl_err *err);
    void (*stats)(const void *self, struct engine_stats *out);
    void (*unload)(void *self);
    /* NULL where an engine has no such thing */
    sl_status (*embed)(void *self, const struct engine_embed *req, struct sl_err *err);
    void (*info)(const void *self, struct engine_info *out);
    sl_status (*tokenize)(void *self, const char *text, size_t n, bool parse_special,
                          struct sl_buf *out, struct sl_err *err);
    sl_status (*detokenize)(void *self, const int32_t *tokens, size_t n, struct sl_buf *out,
                            struct sl_err *err);
    int64_t (*next_ns)(const void *self); /* NULL: an idle engine has nothing to wait for */
    sl_status (*infer)(void *self, const struct engine_infer *req, struct sl_err *err);
    int (*wake_fd)(const void *self); /* NULL: it has no threads that bring results */
    sl_status (*deliver)(void *self, int32_t from, const void *bytes, size_t n, struct sl_err *err);
};

/* Wraps an implementation; takes ownership of self on success. NOMEM. */
SL_CHECK sl_status engine_create(const struct engine_ops *ops, void *self, struct engine **out,
                                 struct sl_err *err);

/* The implementation behind an engine of these ops; NULL when it is another kind. */
void *engine_self(const struct engine *engine, const struct engine_ops *ops);

/* INVALID (bad request: the message says what), LIMIT (prompt longer than the context: both
 * numbers named), BUSY (queue full), EXISTS (id in use), NOMEM. On failure no event will come. */
SL_CHECK sl_status engine_submit(struct engine *engine, const struct engine_generate *req,
                                 struct sl_err *err);

/* All choices of the request end with ENGINE_FINISH_CANCELLED before this returns. NOT_FOUND:
 * unknown or already done. */
SL_CHECK sl_status engine_cancel(struct engine *engine, uint64_t id);

/* One batch step: admits, computes, samples, emits. *out_idle: there was nothing to do. An error
 * is the engine's own (backend failure): every live request has got its DONE, and the engine
 * should be unloaded. */
SL_CHECK sl_status engine_step(struct engine *engine, bool *out_idle, struct sl_err *err);
void engine_stats(const struct engine *engine, struct engine_stats *out);

/* For an engine that is driven by time: when a step was idle, nanoseconds until the next one will
 * not be; -1: nothing will happen unless something is submitted. */
int64_t engine_next_ns(const struct engine *engine);

/* As engine_submit. UNSUPPORTED when the engine computes no embeddings. */
SL_CHECK sl_status engine_submit_embed(struct engine *engine, const struct engine_embed *req,
                                       struct sl_err *err);

/* As engine_submit; INVALID names the tensor and both shapes or types. UNSUPPORTED when the engine
 * runs no tensors. */
SL_CHECK sl_status engine_submit_infer(struct engine *engine, const struct engine_infer *req,
                                       struct sl_err *err);

/* A message of stage `from`, which its engine_frame_fn was given; it is dealt with in the next
 * steps. CORRUPT: it makes no sense, LIMIT: more of them than a stage may send, NOMEM: nothing that
 * follows can be right, and the engine should be unloaded. UNSUPPORTED when the engine is no stage.
 */
SL_CHECK sl_status engine_deliver(struct engine *engine, int32_t from, const void *bytes, size_t n,
                                  struct sl_err *err);

/* Becomes readable when threads of the engine have brought something for the next step, which
 * makes it unreadable again; -1: it has none. The engine's own. */
int engine_wake_fd(const struct engine *engine);

/* Zeroed for an engine that has nothing to tell. */
void engine_info(const struct engine *engine, struct engine_info *out);

/* Appends the token ids as int32_t, with BOS and EOS as the model's tokenizer adds them.
 * UNSUPPORTED, INVALID, LIMIT, NOMEM. */
SL_CHECK sl_status engine_tokenize(struct engine *engine, const char *text, size_t n,
                                   bool parse_special, struct sl_buf *out, struct sl_err *err);
/* Appends the text, valid UTF-8; control tokens spelt out. As engine_tokenize. */
SL_CHECK sl_status engine_detokenize(struct engine *engine, const int32_t *tokens, size_t n,
                                     struct sl_buf *out, struct sl_err *err);
const char *engine_name(const struct engine *engine);
void engine_unload(struct engine *engine); /* NULL is fine */
