/* llm_int.h: what the LLM engine's files share: sequences, requests, the engine itself. Private
 * to llm_*.c.
 *
 * States of a sequence:
 *
 *     WAITING --admit--> PREFILL --last prompt token computed--> DECODE --finish--> DONE
 *        |                  |                                       |
 *        |<----preempt------+---------------------------------------+        any --cancel,
 * error--> DONE
 *        |
 *     FOLLOW (a further choice of a request) --its leader's prompt is computed: fork--> DECODE
 *
 * An embedding goes from PREFILL to DONE. A choice that was resumed when it was over already goes
 * from WAITING to DONE.
 *
 * WAITING and FOLLOW hold no blocks but what a prefix match gave. kv.n_tokens counts what was given
 * to the stages (a flight), whether it came back or not: all that follows comes after it. PREFILL
 * with kv.n_tokens == n_tokens awaits its first token; DECODE has kv.n_tokens == n_tokens - 1, or
 * n_tokens while it awaits the next. DONE is freed at the end of the step.
 *
 * A flight is one step under way: a whole model's comes back in the same call, and there is one; a
 * split model (llm_split.c) has several on their way through its stages, which come back in
 * order. */
#pragma once
#include "base/buf.h"
#include "exec/llm/arch.h"
#include "exec/llm/backend.h"
#include "exec/llm/gguf.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/pooling.h"
#include "exec/llm/sampler.h"
#include "exec/llm/stage.h"
#include "exec/llm/stage_msg.h"
#include "exec/llm/stop.h"
#include "exec/llm/tokenizer.h"

enum seq_state { SEQ_WAITING, SEQ_FOLLOW, SEQ_PREFILL, SEQ_DECODE, SEQ_DONE };

struct llm_seq {
    struct llm_seq *next, *prev; /* in the engine's waiting or running list, oldest first */
    uint64_t id;
    int32_t choice, n_choices;
    enum seq_state state;
    struct llm_seq *leader; /* of a FOLLOW; NULL otherwise */
    int32_t *tokens;        /* [n_tokens] prompt, then generated; room for n_tokens_max */
    int32_t n_tokens, n_prompt, n_tokens_max;
    bool ignore_end, cancel;
    bool sent_first; /* has generated: survives preemption */
    struct kv_seq kv;
    int32_t n_planned; /* tokens of this step */
    int32_t n_flying;  /* flights that it is part of */
    uint64_t turn;     /* the step that it was last part of */
    /* of a split model: its place in stage_limits.n_seqs_max, -1: none; and the blocks of its table
     * that the other stages know */
    int32_t slot, n_told;
    struct pooling *pooling; /* an embedding; NULL: a generation */
    bool normalize;
    /* the answer has ended, and how */
    bool over;
    enum engine_finish finish;
    struct sampler *sampler;         /* here, or */
    struct sampler_cfg *far_sampler; /* for the last stage of a split model */
    struct stop_matcher *stop;
    struct detokenizer detok;
    struct sl_buf piece, text; /* of the event being made */
    struct engine_usage usage;
    int64_t submit_ns, start_ns, first_ns;
};

struct seq_list {
    struct llm_seq *head, *tail;
    int32_t n;
};

struct flight_part {     /* a sequence in a flight */
    struct llm_seq *seq; /* NULL: it is gone */
    int32_t n_tokens;
    int32_t n_done;         /* kv.n_tokens behind this part */
    int32_t row;            /* of its first token */
    int32_t first_output;   /* of its rows of logits */
    int32_t output, choice; /* the row that is sampled, -1: none; the first choice from it */
    int32_t n_choices;
    int32_t hidden, n_hidden; /* rows of the hidden states, for an embedding */
};

struct llm_flight {
    uint64_t step;
    bool home, decodes, prefills; /* it has come back; it has such tokens */
    bool alone;                   /* no other was under way meanwhile */
    struct flight_part *parts;    /* [cap] */
    int32_t n_parts, cap;
    int32_t n_tokens, n_outputs, n_choices, n_hidden;
    int64_t begin_ns, compute_ns; /* of the stage here */
    /* results */
    float *logits;                      /* [n_outputs, n_vocab]; NULL: not here */
    const float *hidden;                /* [n_hidden, n_embd] */
    const struct stage_choice *choices; /* [n_choices]; NULL: to be made from the logits */
    struct sl_buf bytes;                /* of the message they came in */
    struct sl_arena arena;
};

struct llm_split; /* see llm_split.c */

struct llm_engine {
    struct llm_engine_cfg cfg; /* defaults resolved */
    struct gguf_file *file;
    struct llm_hparams hp;
    struct tokenizer *tok;
    struct llm_backends backends;
    struct llm_stage **stages; /* [cfg.n_stages] */
    struct kv_cache *kv;
    struct seq_list waiting, running;
    bool in_step;
    bool measure;               /* only to find out the sizes; see llm_engine_estimate */
    char *chat_template, *name; /* NUL-ended copies; NULL: the file has none */
    char *bos_text, *eos_text;
    uint64_t n_params;
    uint32_t weight_type;       /* of most bytes of the weights */
    struct llm_split *split;    /* NULL: the whole model is here */
    struct llm_flight *flights; /* [n_flights_max] a ring: the oldest, then n_flying - 1 more */
    int32_t n_flights_max, first_flight, n_flying;
    /* the step's batch; arrays of cfg.n_batch, outputs of twice as many */
    int32_t *b_tokens, *b_pos, *b_outputs;
    int64_t *b_slots;
    struct attn_tile *b_tiles;
    float *row; /* [n_vocab]: a follower's copy of its leader's logits */
    uint64_t n_steps, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_preemptions;
};

void seq_list_push(struct seq_list *l, struct llm_seq *s);
void seq_list_push_front(struct seq_list *l, struct llm_seq *s);
void seq_list_remove(struct seq_list *l, struct llm_seq *s);

/* llm_seq.c */
/* Choice `choice` of a checked request, with what is resumed; ids (int32) are the prompt. */
SL_CHECK sl_status llm_seq_create(struct llm_engine *e, const struct engine_generate *req,
                                  const struct sl_buf *ids, int32_t choice, struct llm_seq **out,
                                  struct sl_err *err);
/* The sequence of a checked embedding. */
SL_CHECK sl_status llm_seq_create_embed(struct llm_engine *e, const struct engine_embed *req,
                                        const struct sl_buf *ids, struct llm_seq **out,
                                        struct sl_err *err);
/* releases its blocks; NULL is fine */
void llm_seq_destroy(struct llm_engine *e, struct llm_seq *s);
/* Tells that n_done tokens of the prompt are computed. */
void llm_seq_emit_prefill(struct llm_engine *e, struct llm_seq *s, int32_t n_done);
/* Appends a token that was chosen, emits it, and finishes the sequence when it is over. */
void llm_seq_take(struct llm_engine *e, struct llm_seq *s, const struct sampler_result *chosen);
/* The text is computed: emits its vector and finishes. */
void llm_seq_embed(struct llm_engine *e, struct llm_seq *s);
/* Emits DONE and puts the sequence into SEQ_DONE. message may be NULL. */
void llm_seq_finish(struct llm_engine *e, struct llm_seq *s, enum engine_finish finish,
                    sl_status status, const char *message);

/* llm_submit.c */
SL_CHECK sl_status llm_submit(void *self, const struct engine_generate *req, struct sl_err *err);
SL_CHECK sl_status llm_submit_embed(void *self, const struct engine_embed *req, struct sl_err *err);

/* llm_step.c */
SL_CHECK sl_status llm_step(void *self, bool *out_idle, struct sl_err *err);
SL_CHECK sl_status llm_cancel(void *self, uint64_t id);
void llm_cancel_all(struct llm_engine *e);

/* llm_info.c */
/* Copies what llm_info tells. CORRUPT, LIMIT, NOMEM. */
SL_CHECK sl_status llm_info_read(struct llm_engine *e, struct sl_err *err);
void llm_info_free(struct llm_engine *e);
void llm_info(const void *self, struct engine_info *out);
SL_CHECK sl_status llm_tokenize(void *self, const char *text, size_t n, bool parse_special,
                                struct sl_buf *out, struct sl_err *err);
SL_CHECK sl_status llm_detokenize(void *self, const int32_t *tokens, size_t n, struct sl_buf *out,
                                  struct sl_err *err);

/* llm_plan.c */
/* Admits waiting sequences and decides how many tokens each running one computes in this step
 * (n_planned); reserves their blocks, preempting the youngest when there are none. Copies of
 * shared blocks are done on the stages. */
SL_CHECK sl_status llm_plan_step(struct llm_engine *e, int32_t *out_n_tokens, struct sl_err *err);
/* Lays the plan out as a batch in the engine's arrays, and as the parts of a flight. NOMEM. */
SL_CHECK sl_status llm_plan_batch(struct llm_engine *e, struct llm_batch *out,
                                  struct llm_flight *flight, struct sl_err *err);

/* llm_flight.c */
SL_CHECK sl_status llm_flights_create(struct llm_engine *e, int32_t n, struct sl_err *err);
void llm_flights_destroy(struct llm_engine *e);
/* The i-th that is under way, the oldest first. */
struct llm_flight *llm_flight_at(const struct llm_engine *e, int32_t i);
/* Computes the batch, or what of it is computed here, and has the flight begin; its tokens count as
 * computed from now on. */
SL_CHECK sl_status llm_flight_begin(struct llm_engine *e, struct llm_flight *flight,
                                    const struct llm_batch *batch, struct sl_err *err);
/* Takes the results of the oldest flight, which is home. */
void llm_flight_harvest(struct llm_engine *e);
/* The sequence goes: no flight knows it any more. */
void llm_flights_forget(struct llm_engine *e, struct llm_seq *s);

/* llm_split.c: stage 0's part of a split model. Calls but the first two are for e->split only. */
SL_CHECK sl_status llm_split_create(struct llm_engine *e, const struct stage_limits *limits,
                                    struct sl_err *err);
void llm_split_destroy(struct llm_split *split); /* NULL is fine */
/* A sequence begins to run: it and its followers get places. */
void llm_split_enter(struct llm_engine *e, struct llm_seq *s);
void llm_split_leave(struct llm_engine *e, struct llm_seq *s);
/* A block was copied for this step. */
void llm_split_copied(struct llm_engine *e, struct llm_seq *s, const struct kv_copy *copy);
/* Sends the flight on, with the hidden states that this stage made of it. */
SL_CHECK sl_status llm_split_send(struct llm_engine *e, const struct llm_flight *flight,
                                  const float *hidden, struct sl_err *err);
SL_CHECK sl_status llm_deliver(void *self, int32_t from, const void *bytes, size_t n,
                               struct sl_err *err);
/* How many steps may be under way, of those that decode and of those that compute prompts. */
int32_t llm_split_flights(const struct llm_engine *e);
int32_t llm_split_prompt_flights(const struct llm_engine *e);
/* The engine has nothing to do until a message comes, or has. */
void llm_split_idle(struct llm_engine *e, bool idle);
void llm_split_stats(const struct llm_engine *e, struct engine_stats *out);
