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
 * WAITING and FOLLOW hold no blocks but what a prefix match gave; PREFILL has kv.n_tokens <
 * n_tokens; DECODE has kv.n_tokens == n_tokens - 1 between steps; DONE is freed at the end of
 * the step. */
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
    int32_t batch_row; /* of the first of them */
    int32_t output;    /* row of the logits, or -1 */
    /* rows of the hidden states, for an embedding */
    int32_t hidden, n_hidden;
    struct pooling *pooling; /* an embedding; NULL: a generation */
    bool normalize;
    /* the answer has ended, and how */
    bool over;
    enum engine_finish finish;
    struct sampler *sampler;
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
    uint32_t weight_type; /* of most bytes of the weights */
    /* the step's batch; arrays of cfg.n_batch */
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
void llm_seq_emit_prefill(struct llm_engine *e, struct llm_seq *s);
/* Samples from logits (changed), appends the token, emits it, and finishes the sequence when it
 * is over. */
void llm_seq_advance(struct llm_engine *e, struct llm_seq *s, float *logits);
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
/* Lays the plan out as a batch in the engine's arrays. */
void llm_plan_batch(struct llm_engine *e, struct llm_batch *out);
