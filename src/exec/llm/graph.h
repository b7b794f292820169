/* graph.h: builds the compute graph of one stage for one batch shape, reading the architecture's
 * row of traits.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: the graph's metadata; its data is the
 * scheduler's.
 * Invariant: a graph depends on its key and on nothing else of a batch, so it is reused as long
 * as the key stays. */
#pragma once
#include "exec/llm/attn.h"
#include "exec/llm/weights.h"
#include <stdatomic.h>

struct ggml_cgraph;
struct ggml_context;

struct llm_kv_tensors {     /* the stage's keys and values; [layers of the stage] */
    struct ggml_tensor **k; /* [n_head_kv * head_k, n_slots] */
    struct ggml_tensor **v; /* [n_head_kv * head_v, n_slots]; NULL entries with MLA */
};

/* What a paged attention node needs when it runs; one per layer, stable while the stage lives. */
struct llm_attn_op {
    struct attn_shape shape;
    const struct attn_batch *const *batch; /* the stage's current one */
    char *scratch;                         /* [n_threads] of scratch_bytes */
    size_t scratch_bytes;
};

/* What products with packed weights need when they run; one for a stage: its nodes run one after
 * another. */
struct llm_product_op {
    atomic_int next,
        done; /* rows are handed out in chunks; the last thread to finish clears both */
};

struct llm_graph_env { /* what stays the same for all graphs of a stage */
    const struct llm_hparams *hp;
    const struct llm_weights *weights;
    struct llm_kv_tensors kv;
    struct llm_attn_op *ops; /* [layers of the stage] */
    struct llm_product_op *product;
    const bool *paged; /* [layers]: paged kernels, else ggml's attention */
    bool any_masked;   /* some layer uses ggml's attention: masks are needed */
    int32_t n_ctx;     /* of the engine: chooses LongRoPE's factors */
};

struct llm_graph_key {
    int32_t n_tokens, n_outputs;
    int32_t n_hidden; /* rows whose normed hidden states are wanted, after those of the logits */
    int32_t n_kv;     /* slots that masked attention looks at; 0 when all layers are paged */
};

struct llm_graph {
    struct llm_graph_key key;
    struct ggml_context *ctx;
    struct ggml_cgraph *gf;
    /* inputs; NULL where the graph has no use for them */
    struct ggml_tensor *tokens;  /* [n_tokens] i32 */
    struct ggml_tensor *embd;    /* [n_tokens, n_embd] f32: hidden states of the stage before */
    struct ggml_tensor *pos;     /* [n_tokens] i32 */
    struct ggml_tensor *slots;   /* [n_tokens] i64 */
    struct ggml_tensor *outputs; /* [n_outputs + n_hidden] i32 */
    struct ggml_tensor *mask, *mask_window; /* [n_tokens padded, n_kv] f16 */
    /* [n_outputs, n_vocab] or [n_tokens, n_embd] f32; NULL: nothing to read */
    struct ggml_tensor *out;
    /* [n_outputs + n_hidden, n_embd] f32: what goes into the head; NULL when n_hidden is 0 */
    struct ggml_tensor *hidden;
};

/* Enough nodes for the deepest layer plan; the context and the scheduler are sized by it. */
size_t llm_graph_nodes_max(const struct llm_graph_env *env);

SL_CHECK sl_status llm_graph_build(const struct llm_graph_env *env, const struct llm_graph_key *key,
                                   struct llm_graph *out, struct sl_err *err); /* NOMEM */
void llm_graph_free(struct llm_graph *g);                                      /* zeroed is fine */
