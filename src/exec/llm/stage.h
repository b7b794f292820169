/* stage.h: a contiguous range of a model's layers with its weights, its part of the KV pool and
 * its compute graph. A whole model is the stage [0, n_layer) that embeds and heads; a split
 * model is a chain of them.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: at creation; graph metadata per batch
 * shape.
 * Invariant: the same tokens at the same positions give the same hidden states, bit for bit,
 * however the layers are cut. */
#pragma once
#include "exec/llm/attn.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/weights.h"

struct llm_stage; /* opaque */

struct llm_stage_cfg {
    const struct gguf_file *file; /* must outlive the stage */
    const struct llm_hparams *hp; /* likewise */
    struct llm_range range;
    const struct llm_backends *backends; /* likewise */
    int32_t n_slots;                     /* of the KV pool, a multiple of the block size */
    int32_t n_batch;                     /* most tokens per compute */
    int32_t n_ctx;
    int32_t gpu_layers; /* of this stage; -1: as many as fit */
    enum llm_kv_type kv_type;
    enum llm_attention attention;
    const struct llm_load_watch *watch; /* may be NULL */
    /* only finds out the sizes: nothing is allocated for weights, cache and graphs, and the stage
     * cannot compute */
    bool measure;
};

/* One step's tokens, laid out for all stages alike. Sequences' tokens stand together, positions
 * ascending. */
struct llm_batch {
    int32_t n_tokens;
    const int32_t *tokens;  /* [n_tokens] */
    const int32_t *pos;     /* [n_tokens] */
    const int64_t *slots;   /* [n_tokens]: where each token's key and value go */
    struct attn_batch attn; /* block tables */
    int32_t n_outputs;
    int32_t n_hidden;
    /* [n_outputs + n_hidden]: rows whose logits are wanted, ascending, then other rows whose hidden
     * states are, ascending too */
    const int32_t *outputs;
};

/* Errors as llm_weights_load; NOMEM names the KV cache's size. INVALID: q8_0 keys with a head
 * size that is no multiple of 32. */
SL_CHECK sl_status llm_stage_create(const struct llm_stage_cfg *cfg, struct llm_stage **out,
                                    struct sl_err *err);
void llm_stage_destroy(struct llm_stage *stage); /* NULL is fine */

/* Computes the batch. `hidden` [n_tokens, n_embd] comes from the stage before; NULL when this
 * one embeds. *out is valid until the next compute: logits [n_outputs, n_vocab] of a stage that
 * heads (NULL when n_outputs is 0), else hidden states [n_tokens, n_embd], all f32. */
SL_CHECK sl_status llm_stage_compute(struct llm_stage *stage, const struct llm_batch *batch,
                                     const float *hidden, float **out, struct sl_err *err);

/* Hidden states after the last norm, [batch->n_hidden, n_embd] f32, of the last compute of a stage
 * that heads; valid until the next one. NOMEM. */
SL_CHECK sl_status llm_stage_hidden(struct llm_stage *stage, const float **out, struct sl_err *err);

/* Copies n_slots rows of keys and values from slot `src` to slot `dst` in every layer (copy on
 * write). */
SL_CHECK sl_status llm_stage_copy_slots(struct llm_stage *stage, int32_t src, int32_t dst,
                                        int32_t n_slots, struct sl_err *err);

struct llm_stage_stats {
    uint64_t mapped_bytes, copied_bytes; /* weights */
    uint64_t kv_bytes, compute_bytes;
    uint64_t n_graph_builds, n_graph_reuses;
    int32_t gpu_layers;
};
void llm_stage_stats(const struct llm_stage *stage, struct llm_stage_stats *out);

/* Bytes of keys and values per token over the layers of `range`. 0 when the type does not fit
 * the head sizes. */
uint64_t llm_kv_token_bytes(const struct llm_hparams *hp, const struct llm_range *range,
                            enum llm_kv_type type);
