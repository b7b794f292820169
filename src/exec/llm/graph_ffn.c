/* graph_ffn.c: the feed-forward half of a layer: dense, routed experts, shared experts. */
#include "exec/llm/graph_int.h"
#include <math.h>

#define SWIGLU_OAI_ALPHA 1.702f        /* gpt-oss: the sigmoid's slope, */
#define SWIGLU_OAI_LIMIT 7.0f          /* and the clamp of both halves */
#define WEIGHT_SUM_MIN 6.103515625e-5f /* smallest normal half: keeps the division finite */

/* The activated gate times up, for all activations but SiLU. */
static struct ggml_tensor *activate(const struct builder *b, struct ggml_tensor *gate,
                                    struct ggml_tensor *up)
{
    if (b->hp->arch->act == LLM_ACT_GELU) return ggml_geglu_split(b->ctx, gate, up);
    return ggml_swiglu_oai(b->ctx, gate, up, SWIGLU_OAI_ALPHA, SWIGLU_OAI_LIMIT);
}

/* w times the activated gate times up. */
static struct ggml_tensor *down(const struct builder *b, struct ggml_tensor *w,
                                struct ggml_tensor *gate, struct ggml_tensor *up)
{
    return b->hp->arch->act == LLM_ACT_SILU ? product_gated(b, w, gate, up)
                                            : product(b, w, activate(b, gate, up));
}

static struct ggml_tensor *down_experts(const struct builder *b, struct ggml_tensor *w,
                                        struct ggml_tensor *gate, struct ggml_tensor *up,
                                        struct ggml_tensor *chosen)
{
    return b->hp->arch->act == LLM_ACT_SILU ? product_experts_gated(b, w, gate, up, chosen)
                                            : product_experts(b, w, activate(b, gate, up), chosen);
}

static struct ggml_tensor *build_dense(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    struct ggml_tensor *up =
        linear(b, layer_weight(b, il, LLM_FFN_UP), x, layer_weight(b, il, LLM_FFN_UP_BIAS));
    struct ggml_tensor *gate =
        linear(b, layer_weight(b, il, LLM_FFN_GATE), x, layer_weight(b, il, LLM_FFN_GATE_BIAS));
    struct ggml_tensor *bias = layer_weight(b, il, LLM_FFN_DOWN_BIAS);
    struct ggml_tensor *y = down(b, layer_weight(b, il, LLM_FFN_DOWN), gate, up);
    return bias ? ggml_add(b->ctx, y, bias) : y;
}

/* DeepSeek-V3's restriction to the best groups (arXiv:2412.19437, 2.1.2): a group's score is the
 * sum of its two best experts; the experts of other groups become -inf. scores [n_expert, n]. */
static struct ggml_tensor *keep_best_groups(const struct builder *b, struct ggml_tensor *scores)
{
    int64_t n_groups = b->hp->n_expert_groups, per_group = b->hp->n_expert / n_groups,
            n = scores->ne[1];
    struct ggml_tensor *groups = ggml_reshape_3d(b->ctx, scores, per_group, n_groups, n);
    struct ggml_tensor *best = ggml_argsort_top_k(b->ctx, groups, 2); /* [2, n_groups, n] */
    struct ggml_tensor *sum, *chosen, *kept;
    /* [1, 2, n_groups, n] */
    best = ggml_get_rows(b->ctx, ggml_reshape_4d(b->ctx, groups, 1, per_group, n_groups, n), best);
    sum = ggml_sum_rows(b->ctx, ggml_reshape_3d(b->ctx, best, 2, n_groups, n));
    chosen = ggml_argsort_top_k(b->ctx, ggml_reshape_2d(b->ctx, sum, n_groups, n),
                                b->hp->n_expert_groups_used);
    kept = ggml_get_rows(b->ctx, groups, chosen); /* [per_group, n_used, n] */
    kept = ggml_set_rows(b->ctx, ggml_fill(b->ctx, groups, -INFINITY), kept, chosen);
    return ggml_reshape_2d(b->ctx, kept, b->hp->n_expert, n);
}

static struct ggml_tensor *router_probs(const struct builder *b, struct ggml_tensor *logits)
{
    switch (b->hp->gating) {
    case LLM_GATING_SOFTMAX: return ggml_soft_max(b->ctx, logits);
    case LLM_GATING_SIGMOID: return ggml_sigmoid(b->ctx, logits);
    case LLM_GATING_SOFTMAX_OF_TOPK:
    case LLM_GATING_NONE: break;
    }
    return logits;
}

/* Weights of the chosen experts, [1, n_used, n]. */
static struct ggml_tensor *router_weights(const struct builder *b, struct ggml_tensor *probs,
                                          struct ggml_tensor *chosen)
{
    int64_t n_used = b->hp->n_expert_used, n = chosen->ne[1];
    struct ggml_tensor *w =
        ggml_get_rows(b->ctx, ggml_reshape_3d(b->ctx, probs, 1, b->hp->n_expert, n), chosen);
    w = ggml_reshape_2d(b->ctx, w, n_used, n);
    if (b->hp->gating == LLM_GATING_SOFTMAX_OF_TOPK) w = ggml_soft_max(b->ctx, w);
    if (b->hp->expert_norm)
        w = ggml_div(b->ctx, w,
                     ggml_clamp(b->ctx, ggml_sum_rows(b->ctx, w), WEIGHT_SUM_MIN, INFINITY));
    if (b->hp->expert_scale != 1) w = ggml_scale(b->ctx, w, b->hp->expert_scale);
    return ggml_reshape_3d(b->ctx, w, 1, n_used, n);
}

/* x [k, n_used or 1, n] through each token's chosen experts: [m, n_used, n]. */
static struct ggml_tensor *linear_experts(const struct builder *b, struct ggml_tensor *w,
                                          struct ggml_tensor *x, struct ggml_tensor *chosen,
                                          struct ggml_tensor *bias)
{
    struct ggml_tensor *y = product_experts(b, w, x, chosen);
    return bias ? ggml_add_id(b->ctx, y, bias, chosen) : y;
}

static struct ggml_tensor *sum_experts(const struct builder *b, struct ggml_tensor *y)
{
    struct ggml_tensor *sum = NULL;
    for (int64_t i = 0; i < y->ne[1]; i++) {
        struct ggml_tensor *one =
            ggml_view_2d(b->ctx, y, y->ne[0], y->ne[2], y->nb[2], (size_t)i * y->nb[1]);
        sum = sum ? ggml_add(b->ctx, sum, one) : one;
    }
    return y->ne[1] == 1 ? ggml_cont(b->ctx, sum) : sum;
}

static struct ggml_tensor *build_experts(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    struct ggml_tensor *probs, *scores, *chosen, *weights, *up, *gate, *y;
    struct ggml_tensor *select_bias = layer_weight(b, il, LLM_ROUTER_SELECT_BIAS);
    struct ggml_tensor *down_bias = layer_weight(b, il, LLM_EXPS_DOWN_BIAS);
    probs = router_probs(
        b, linear(b, layer_weight(b, il, LLM_ROUTER), x, layer_weight(b, il, LLM_ROUTER_BIAS)));
    scores = select_bias ? ggml_add(b->ctx, probs, select_bias) : probs;
    if (b->hp->n_expert_groups > 1) scores = keep_best_groups(b, scores);
    chosen = ggml_argsort_top_k(b->ctx, scores, b->hp->n_expert_used); /* [n_used, n] */
    weights = router_weights(b, probs, chosen);
    x = ggml_reshape_3d(b->ctx, x, b->hp->n_embd, 1, x->ne[1]);
    up = linear_experts(b, layer_weight(b, il, LLM_EXPS_UP), x, chosen,
                        layer_weight(b, il, LLM_EXPS_UP_BIAS));
    gate = linear_experts(b, layer_weight(b, il, LLM_EXPS_GATE), x, chosen,
                          layer_weight(b, il, LLM_EXPS_GATE_BIAS));
    y = down_experts(b, layer_weight(b, il, LLM_EXPS_DOWN), gate, up, chosen);
    if (down_bias) y = ggml_add_id(b->ctx, y, down_bias, chosen);
    return sum_experts(b, ggml_mul(b->ctx, y, weights)); /* [n_embd, n] */
}

static struct ggml_tensor *build_shared(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    struct ggml_tensor *up = linear(b, layer_weight(b, il, LLM_SHEXP_UP), x, NULL);
    struct ggml_tensor *gate = linear(b, layer_weight(b, il, LLM_SHEXP_GATE), x, NULL);
    return down(b, layer_weight(b, il, LLM_SHEXP_DOWN), gate, up);
}

struct ggml_tensor *build_ffn(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    struct ggml_tensor *y;
    if (!llm_layer_is_moe(b->hp, il)) return build_dense(b, il, x);
    y = build_experts(b, il, x);
    return b->hp->n_expert_shared ? ggml_add(b->ctx, y, build_shared(b, il, x)) : y;
}
