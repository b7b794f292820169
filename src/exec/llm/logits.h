/* logits.h: the logits of every position of a token sequence, for checking engines against each
 * other.
 * Floor: exec/llm.  Thread: the caller's.  Allocates: a model of its own for the call's
 * duration. */
#pragma once
#include "exec/llm/llm_engine.h"

struct llm_logits_cfg {
    int32_t n_threads;  /* 0: as many as this process may use */
    int32_t n_stages;   /* chained in this process; 0: 1 */
    int32_t n_chunk;    /* tokens per compute; 0: all at once */
    int32_t gpu_layers; /* -1: as many as fit, 0: CPU only */
    enum llm_kv_type kv_type;
    enum llm_attention attention;
};

/* *out: [n_tokens, *out_n_vocab] f32, row-major, the caller sl_free()s it. INVALID: a token
 * outside the vocabulary or more stages than layers; else as llm_engine_load. */
SL_CHECK sl_status llm_logits(const char *path, const struct llm_logits_cfg *cfg,
                              const int32_t *tokens, int32_t n_tokens, float **out,
                              int32_t *out_n_vocab, struct sl_err *err);
