/* probe.h: how long a stage takes to compute, on weights that are made up for the purpose: the very
 * graph, kernels and places of weights (mapped, repacked) that models of that type get here.
 * Floor: exec/llm.  Thread: one.  Allocates: at open: weights, a KV cache, the stage.
 * Times are processor time over the threads: what the stage takes when nobody else wants the
 * processor and no quota stops it. */
#pragma once
#include "base/err.h"
#include <stdint.h>

#define LLM_PROBE_ROWS_MAX 128

struct llm_backends;
struct llm_probe; /* opaque */

/* A dense Llama with grouped attention and heads of n_embd / n_head. */
struct llm_probe_shape {
    const char *type; /* ggml's name of the weights' type: "q4_K" */
    int32_t n_layer, n_embd, n_ff, n_head, n_head_kv;
    int32_t n_ctx; /* most tokens of the sequence */
};

/* INVALID: no such type, or rows that are no whole blocks of it; NOMEM. */
SL_CHECK sl_status llm_probe_open(const struct llm_backends *backends,
                                  const struct llm_probe_shape *shape, struct llm_probe **out,
                                  struct sl_err *err);
void llm_probe_close(struct llm_probe *probe); /* NULL is fine */

double llm_probe_layer_bytes(const struct llm_probe *probe);
double llm_probe_layer_flops(const struct llm_probe *probe); /* of one row: its products */
double llm_probe_attn_flops(const struct llm_probe *probe);  /* one row, one token of its context */

/* Computes rows [pos, pos + n_rows) of one sequence once: pos + n_rows <= n_ctx. *out_wall_s may be
 * NULL. */
SL_CHECK sl_status llm_probe_run(struct llm_probe *probe, int32_t n_rows, int32_t pos,
                                 double *out_s, double *out_wall_s, struct sl_err *err);
