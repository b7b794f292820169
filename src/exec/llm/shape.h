/* shape.h: what a GGUF model asks of the machines that it is split over: bytes of each layer and of
 * both ends, and the work of a token, from the file's header alone.
 * Floor: exec/llm.  Thread: any.  Allocates: during the call only. */
#pragma once
#include "base/err.h"
#include <stdint.h>

#define LLM_SHAPE_LAYERS_MAX 512

struct llm_shape {
    int32_t n_layer, n_embd, n_vocab, n_ctx_train;
    uint64_t layer_bytes[LLM_SHAPE_LAYERS_MAX]; /* of weights; [n_layer] are set */
    uint64_t embd_bytes, head_bytes;            /* head: the embedding again when tied */
    uint64_t kv_bytes;                          /* of one token in one layer, f16 */
    double layer_flops, head_flops;             /* of one token: two for each weight it meets */
    double attn_flops; /* of one token, one token of its context, one layer */
    double active;     /* of a layer's bytes that one token reads: less than 1 with experts */
    const char *type, *head_type; /* ggml's names: of most of the layers' bytes, and of the head */
};

/* Errors as llm_engine_load's. The tensors' data need not be there (a sparse file). */
SL_CHECK sl_status llm_shape_read(const char *path, struct llm_shape *out, struct sl_err *err);
