/* graph_int.h: what the graph builder's files share. Private to graph*.c. */
#pragma once
#include "exec/llm/graph.h"
#include <ggml.h>

/* The newest quantised columns, and the newest order of tokens by experts: products that follow
 * share them. */
struct quantised {
    struct ggml_tensor *x, *columns, *chosen, *order;
    enum qmat_type type;
    bool by_expert; /* the columns stand in that order */
};

struct builder {
    const struct llm_graph_env *env;
    const struct llm_hparams *hp;
    struct llm_graph *g;
    struct ggml_context *ctx;
    struct quantised *last;
    int32_t n_tokens; /* columns of the current hidden state */
};

/* Weights of layer il (counted in the whole model); NULL when it has none of this role. */
struct ggml_tensor *layer_weight(const struct builder *b, int32_t il, enum llm_layer_role role);

/* w [k, m] times x [k, n]: [m, n]. By our own kernels when w is packed, else by ggml's. */
struct ggml_tensor *product(const struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x);

/* x [k, n_used or 1, n] through each token's chosen experts, w [k, m, n_expert]: [m, n_used, n]. */
struct ggml_tensor *product_experts(const struct builder *b, struct ggml_tensor *w,
                                    struct ggml_tensor *x, struct ggml_tensor *chosen);

/* w times x, each of whose elements is first multiplied by the SiLU of gate's (SwiGLU,
 * arXiv:2002.05202): in one pass when w is packed. gate and x are of the same shape. */
struct ggml_tensor *product_gated(const struct builder *b, struct ggml_tensor *w,
                                  struct ggml_tensor *gate, struct ggml_tensor *x);
struct ggml_tensor *product_experts_gated(const struct builder *b, struct ggml_tensor *w,
                                          struct ggml_tensor *gate, struct ggml_tensor *x,
                                          struct ggml_tensor *chosen);

/* A constant that tells a node's function the type; and what a product's thread does at its end. */
void *product_type(enum qmat_type type);
void product_op_leave(struct llm_product_op *op, int n_threads);

/* x [n, ...] times w [n, m], plus bias [m] when there is one. */
struct ggml_tensor *linear(const struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x,
                           struct ggml_tensor *bias);
struct ggml_tensor *rms_norm(const struct builder *b, struct ggml_tensor *x, struct ggml_tensor *w);

/* [n_embd, n_tokens] normalised in; attention's output before the residual, [n_embd, n_tokens].
 * NULL when `store_only`: the layer's keys and values are written and nothing else is wanted. */
struct ggml_tensor *build_attention(const struct builder *b, int32_t il, struct ggml_tensor *x,
                                    bool store_only);

/* Feed-forward of layer il: dense, or routed and shared experts. [n_embd, n] to [n_embd, n]. */
struct ggml_tensor *build_ffn(const struct builder *b, int32_t il, struct ggml_tensor *x);
