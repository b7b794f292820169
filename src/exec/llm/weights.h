/* weights.h: the tensors of one stage as ggml tensors: mapped from the file where the CPU
 * computes on the file's own layout, packed for our own kernels (qmat.h), copied where a device or
 * ggml's repacked layouts want it.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: at load; freed as a whole.
 * Invariant: every tensor has the type and shape that tensors.h asks for; the GGUF file outlives
 * the weights. */
#pragma once
#include "exec/llm/qmat.h"
#include "exec/llm/tensors.h"

struct ggml_tensor;
struct llm_backends;

#define LLM_PLACES_MAX 8 /* mapped, packed, accelerator, and the CPU's repacking buffer types */

struct llm_place {                         /* where some of the tensors live */
    struct ggml_backend_buffer_type *buft; /* NULL: mapped */
    void *memory;                          /* packed: where its tensors are */
    struct ggml_context *ctx;
    struct ggml_backend_buffer *buffer;
    uint64_t n_bytes;
};

struct llm_packed {     /* what a tensor was packed to */
    struct qmat matrix; /* the first */
    int64_t n;          /* matrices: experts, or 1 */
};

struct llm_layer_weights {
    struct ggml_tensor *t[LLM_LAYER_ROLE_COUNT]; /* NULL: the model has none */
};

struct llm_weights {
    struct llm_range range;
    /* LLM_OUTPUT is the embedding again when tied */
    struct ggml_tensor *model[LLM_MODEL_ROLE_COUNT];
    struct llm_layer_weights *layers; /* [range.last - range.first] */
    struct llm_place places[LLM_PLACES_MAX];
    int n_places;
    struct llm_packed *packed; /* one for each packed tensor */
    int n_packed;
    struct ggml_backend_buffer **maps; /* one per shard; NULL where nothing is used */
    int n_maps;
    uint64_t mapped_bytes, copied_bytes;
    int32_t gpu_first; /* layers from this one on are on the accelerator */
};

/* Somebody who waits for a load. */
struct llm_load_watch {
    bool (*on_load)(void *ctx, double fraction); /* false cancels the load; NULL: nobody watches */
    void *ctx;
    double from, to; /* the part of the whole load that this one is */
};

struct llm_weights_cfg {
    const struct gguf_file *file;
    const struct llm_hparams *hp;
    struct llm_range range;
    const struct llm_backends *backends;
    /* the last n layers of the range go to the accelerator; -1: as many as fit */
    int32_t gpu_layers;
    const struct llm_load_watch *watch; /* may be NULL */
    bool measure; /* tensors get a type, a shape and a place, but no memory is taken for copies */
};

/* CORRUPT and UNSUPPORTED name the tensor; NOMEM gives needed and available bytes; CANCELLED by the
 * watch. */
SL_CHECK sl_status llm_weights_load(const struct llm_weights_cfg *cfg, struct llm_weights *out,
                                    struct sl_err *err);
void llm_weights_free(struct llm_weights *w); /* zeroed is fine */

/* The tensor's data is then for qmat.h's products alone. NULL: it was not packed. */
const struct llm_packed *llm_weight_packed(const struct llm_weights *w,
                                           const struct ggml_tensor *t);
struct qmat llm_packed_matrix(const struct llm_packed *packed, int64_t i);

/* Gives the tensors of a context an empty buffer of this type, for measuring: graphs over them can
 * be planned and not computed. NULL: no memory. */
struct ggml_backend_buffer *llm_buffer_measure(struct ggml_context *ctx,
                                               struct ggml_backend_buffer_type *buft);
