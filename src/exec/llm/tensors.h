/* tensors.h: which tensors a model of given hyper-parameters has, by role, with their names and
 * exact shapes.
 * Floor: exec/llm.  Thread: any (const).  Allocates: nothing.
 * Names follow llama.cpp's converters (gguf-py tensor_mapping). The table is data: a new
 * optional tensor is a row. */
#pragma once
#include "exec/llm/arch.h"
#include "exec/llm/gguf.h"

enum llm_tensor_role { /* of the whole model */
                       LLM_TOKEN_EMBD,
                       LLM_OUTPUT_NORM,
                       LLM_OUTPUT,
                       LLM_ROPE_FREQS,
                       LLM_ROPE_LONG,
                       LLM_ROPE_SHORT,
                       LLM_MODEL_ROLE_COUNT
};

enum llm_layer_role { /* of one layer */
                      LLM_ATTN_NORM,
                      LLM_WQ,
                      LLM_WK,
                      LLM_WV,
                      LLM_WO,
                      LLM_BQ,
                      LLM_BK,
                      LLM_BV,
                      LLM_BO,
                      LLM_Q_NORM,
                      LLM_K_NORM,
                      LLM_SINKS,
                      LLM_ATTN_POST_NORM,
                      LLM_WQ_A,
                      LLM_Q_A_NORM,
                      LLM_WQ_B,
                      LLM_WKV_A,
                      LLM_KV_A_NORM,
                      LLM_WK_B,
                      LLM_WV_B, /* MLA */
                      LLM_FFN_NORM,
                      LLM_FFN_GATE,
                      LLM_FFN_UP,
                      LLM_FFN_DOWN,
                      LLM_FFN_POST_NORM,
                      LLM_FFN_GATE_BIAS,
                      LLM_FFN_UP_BIAS,
                      LLM_FFN_DOWN_BIAS,
                      LLM_ROUTER,
                      LLM_ROUTER_BIAS,
                      LLM_ROUTER_SELECT_BIAS,
                      LLM_EXPS_GATE,
                      LLM_EXPS_UP,
                      LLM_EXPS_DOWN,
                      LLM_EXPS_GATE_BIAS,
                      LLM_EXPS_UP_BIAS,
                      LLM_EXPS_DOWN_BIAS,
                      LLM_SHEXP_GATE,
                      LLM_SHEXP_UP,
                      LLM_SHEXP_DOWN,
                      LLM_LAYER_ROLE_COUNT
};

/* How the graph uses a tensor: decides where it may live. */
enum llm_tensor_use { LLM_USE_GET_ROWS, LLM_USE_MUL_MAT, LLM_USE_MUL_MAT_ID, LLM_USE_ELEMENTWISE };

struct llm_tensor_spec {
    const char *suffix; /* "attn_q.weight"; the layer's prefix "blk.N." is put before it */
    enum llm_tensor_use use;
    int n_dims;
    int64_t ne[3]; /* expected shape */
    bool required;
};

/* A contiguous range of layers, with or without the ends: a stage of a split model. */
struct llm_range {
    int32_t first, last; /* layers [first, last) */
    bool embeds;         /* has the token embedding */
    bool heads;          /* has the output norm and head */
};

/* False when the model has no tensor of this role (in this layer). */
bool llm_model_tensor(const struct llm_hparams *hp, enum llm_tensor_role role,
                      struct llm_tensor_spec *out);
bool llm_layer_tensor(const struct llm_hparams *hp, int layer, enum llm_layer_role role,
                      struct llm_tensor_spec *out);

/* Finds the tensor of a spec and checks type and shape. *out is NULL when it is absent and not
 * required. CORRUPT names the tensor, its shape and the expected one. layer -1: of the whole
 * model. */
SL_CHECK sl_status llm_tensor_lookup(const struct gguf_file *file, int layer,
                                     const struct llm_tensor_spec *spec,
                                     const struct gguf_tensor **out, struct sl_err *err);

/* Calls fn(ctx, tensor) for each tensor of the file that the range needs, after its check: those of
 * its layers, and of the whole model's those that every stage has or that its ends ask for. The
 * embedding comes for a range that heads without an output tensor, too. fn's failure ends it.
 * Errors as llm_tensor_lookup. */
typedef sl_status llm_tensor_fn(void *ctx, const struct gguf_tensor *tensor, struct sl_err *err);
SL_CHECK sl_status llm_tensors_each(const struct gguf_file *file, const struct llm_hparams *hp,
                                    const struct llm_range *range, llm_tensor_fn *fn, void *ctx,
                                    struct sl_err *err);

/* Are all tensors of the range there, with the types and shapes the hyper-parameters ask for?
 * Errors as llm_tensor_lookup. */
SL_CHECK sl_status llm_tensors_check(const struct gguf_file *file, const struct llm_hparams *hp,
                                     const struct llm_range *range, struct sl_err *err);
