/* graph_attn.c: the attention half of a layer: projections, RoPE, the paged cache, and the
 * attention itself. */
#include "exec/llm/graph_int.h"
#include <math.h>

static struct ggml_tensor *rope_factors(const struct builder *b)
{
    struct ggml_tensor *const *model = b->env->weights->model;
    if (model[LLM_ROPE_FREQS]) return model[LLM_ROPE_FREQS];
    return model[b->env->n_ctx > b->hp->n_ctx_orig ? LLM_ROPE_LONG : LLM_ROPE_SHORT];
}

/* x [head, n_heads, n_tokens], rotated by position. */
static struct ggml_tensor *rope(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    const struct llm_hparams *hp = b->hp;
    bool windowed = llm_layer_is_windowed(hp, il);
    float base = windowed ? hp->rope_base_window : hp->rope_base;
    float scale = windowed ? hp->rope_freq_scale_window : hp->rope_freq_scale;
    int mode = hp->arch->rope == LLM_ROPE_NEOX ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    return ggml_rope_ext(b->ctx, x, b->g->pos, rope_factors(b), hp->n_rot, mode, hp->n_ctx_orig,
                         base, scale, hp->yarn_ext, hp->yarn_attn, hp->yarn_beta_fast,
                         hp->yarn_beta_slow);
}

/* Writes rows x [n, n_tokens] into the cache at the batch's slots; the result is the whole cache
 * after the write. */
static struct ggml_tensor *cache_store(const struct builder *b, struct ggml_tensor *cache,
                                       struct ggml_tensor *x)
{
    struct ggml_tensor *stored = ggml_set_rows(b->ctx, cache, x, b->g->slots);
    ggml_build_forward_expand(b->g->gf, stored);
    return stored;
}

static void paged_attention(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    const struct llm_attn_op *op = userdata;
    struct attn_call call = {.shape = &op->shape,
                             .batch = *op->batch,
                             .q = dst->src[0]->data,
                             .k = dst->src[1]->data,
                             .v = dst->src[2]->data,
                             .sinks = dst->src[3] ? dst->src[3]->data : NULL,
                             .out = dst->data};
    int32_t n = attn_n_units(&op->shape, *op->batch);
    for (int32_t u = ith; u < n; u += nth)
        attn_unit(&call, u, op->scratch + (size_t)ith * op->scratch_bytes);
}

/* Attention by our own kernels over the block tables. q [head_k, n_head, n_tokens] to [head_v,
 * n_head, n_tokens]. */
static struct ggml_tensor *attend_paged(const struct builder *b, int32_t il, struct ggml_tensor *q,
                                        struct ggml_tensor *k, struct ggml_tensor *v)
{
    struct llm_attn_op *op = &b->env->ops[il - b->env->weights->range.first];
    struct ggml_tensor *args[4] = {q, k, v ? v : k, layer_weight(b, il, LLM_SINKS)};
    return ggml_custom_4d(b->ctx, GGML_TYPE_F32, b->hp->head_v, b->hp->n_head, b->n_tokens, 1, args,
                          args[3] ? 4 : 3, paged_attention, GGML_N_TASKS_MAX, op);
}

/* Attention by ggml over the first n_kv slots of the pool under a mask: what accelerators run.
 * Same shapes. */
static struct ggml_tensor *attend_masked(const struct builder *b, int32_t il, struct ggml_tensor *q,
                                         struct ggml_tensor *k, struct ggml_tensor *v)
{
    const struct llm_hparams *hp = b->hp;
    struct ggml_tensor *mask = llm_layer_is_windowed(hp, il) ? b->g->mask_window : b->g->mask;
    struct ggml_tensor *sinks = layer_weight(b, il, LLM_SINKS), *x;
    int64_t n_kv = b->g->key.n_kv;
    size_t k_head = ggml_row_size(k->type, hp->head_k);
    struct ggml_tensor *kv =
        ggml_view_3d(b->ctx, k, hp->head_k, n_kv, hp->n_head_kv, k->nb[1], k_head, 0);
    struct ggml_tensor *vv =
        v ? ggml_view_3d(b->ctx, v, hp->head_v, n_kv, hp->n_head_kv, v->nb[1],
                         ggml_row_size(v->type, hp->head_v), 0)
          : ggml_view_3d(b->ctx, k, hp->head_v, n_kv, hp->n_head_kv, k->nb[1], k_head, 0);
    q = ggml_permute(b->ctx, q, 0, 2, 1, 3);
    x = ggml_flash_attn_ext(b->ctx, q, kv, vv, mask, hp->attn_scale, 0, hp->attn_softcap);
    if (sinks) ggml_flash_attn_ext_add_sinks(x, sinks);
    ggml_prec_set_acc(x, GGML_PREC_F32);
    return x; /* [head_v, n_head, n_tokens] */
}

static struct ggml_tensor *attend(const struct builder *b, int32_t il, struct ggml_tensor *q,
                                  struct ggml_tensor *k, struct ggml_tensor *v)
{
    return b->env->paged[il - b->env->weights->range.first] ? attend_paged(b, il, q, k, v)
                                                            : attend_masked(b, il, q, k, v);
}

static struct ggml_tensor *heads(const struct builder *b, struct ggml_tensor *x, int32_t head,
                                 int32_t n_head)
{
    return ggml_reshape_3d(b->ctx, x, head, n_head, b->n_tokens);
}

/* Grouped-query attention: n_head queries share n_head_kv keys and values (arXiv:2305.13245). */
static struct ggml_tensor *build_gqa(const struct builder *b, int32_t il, struct ggml_tensor *x,
                                     bool store_only)
{
    const struct llm_hparams *hp = b->hp;
    int32_t at = il - b->env->weights->range.first;
    struct ggml_tensor *q, *k, *v, *norm;
    k = heads(b, linear(b, layer_weight(b, il, LLM_WK), x, layer_weight(b, il, LLM_BK)), hp->head_k,
              hp->n_head_kv);
    v = linear(b, layer_weight(b, il, LLM_WV), x, layer_weight(b, il, LLM_BV));
    if ((norm = layer_weight(b, il, LLM_K_NORM))) k = rms_norm(b, k, norm);
    k = rope(b, il, k);
    k = ggml_reshape_2d(b->ctx, k, (int64_t)hp->head_k * hp->n_head_kv, b->n_tokens);
    k = cache_store(b, b->env->kv.k[at], k);
    v = cache_store(b, b->env->kv.v[at], v);
    if (store_only) return NULL;
    q = heads(b, linear(b, layer_weight(b, il, LLM_WQ), x, layer_weight(b, il, LLM_BQ)), hp->head_k,
              hp->n_head);
    if ((norm = layer_weight(b, il, LLM_Q_NORM))) q = rms_norm(b, q, norm);
    q = rope(b, il, q);
    x = attend(b, il, q, k, v);
    x = ggml_reshape_2d(b->ctx, x, (int64_t)hp->head_v * hp->n_head, b->n_tokens);
    return linear(b, layer_weight(b, il, LLM_WO), x, layer_weight(b, il, LLM_BO));
}

static struct ggml_tensor *mla_queries(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    if (!b->hp->q_lora) return linear(b, layer_weight(b, il, LLM_WQ), x, NULL);
    x = linear(b, layer_weight(b, il, LLM_WQ_A), x, NULL);
    x = rms_norm(b, x, layer_weight(b, il, LLM_Q_A_NORM));
    return linear(b, layer_weight(b, il, LLM_WQ_B), x, NULL);
}

/* The cache row of each token: the compressed latent and the one rotated key that all heads
 * share. */
static struct ggml_tensor *mla_latent(const struct builder *b, int32_t il, struct ggml_tensor *x)
{
    const struct llm_hparams *hp = b->hp;
    /* [kv_lora + n_rot, n_tokens] */
    struct ggml_tensor *kv = linear(b, layer_weight(b, il, LLM_WKV_A), x, NULL);
    struct ggml_tensor *c = ggml_view_2d(b->ctx, kv, hp->kv_lora, b->n_tokens, kv->nb[1], 0);
    struct ggml_tensor *pe = ggml_view_3d(b->ctx, kv, hp->n_rot, 1, b->n_tokens, kv->nb[1],
                                          kv->nb[1], ggml_row_size(kv->type, hp->kv_lora));
    c = rms_norm(b, c, layer_weight(b, il, LLM_KV_A_NORM));
    pe = ggml_reshape_2d(b->ctx, rope(b, il, pe), hp->n_rot, b->n_tokens);
    return ggml_concat(b->ctx, c, pe, 0);
}

/* Multi-head latent attention with W_UK absorbed into the queries and W_UV applied after
 * (arXiv:2405.04434, 2.1): one key-value head of kv_lora + n_rot, whose first kv_lora elements
 * are the values. */
static struct ggml_tensor *build_mla(const struct builder *b, int32_t il, struct ggml_tensor *x,
                                     bool store_only)
{
    const struct llm_hparams *hp = b->hp;
    int32_t nope = hp->mla_head_k - hp->n_rot, n = b->n_tokens;
    struct ggml_tensor *q, *q_nope, *q_pe, *k;
    k = cache_store(b, b->env->kv.k[il - b->env->weights->range.first], mla_latent(b, il, x));
    if (store_only) return NULL;
    q = heads(b, mla_queries(b, il, x), hp->mla_head_k, hp->n_head);
    q_nope = ggml_view_3d(b->ctx, q, nope, hp->n_head, n, q->nb[1], q->nb[2], 0);
    q_pe = ggml_view_3d(b->ctx, q, hp->n_rot, hp->n_head, n, q->nb[1], q->nb[2],
                        ggml_row_size(q->type, nope));
    q_pe = rope(b, il, q_pe);
    /* [nope, n_tokens, n_head] */
    q_nope = ggml_permute(b->ctx, q_nope, 0, 2, 1, 3);
    /* [kv_lora, n_tokens, n_head] */
    q_nope = ggml_mul_mat(b->ctx, layer_weight(b, il, LLM_WK_B), q_nope);
    /* [kv_lora, n_head, n_tokens] */
    q_nope = ggml_cont(b->ctx, ggml_permute(b->ctx, q_nope, 0, 2, 1, 3));
    /* [head_k, n_head, n_tokens] */
    q = ggml_concat(b->ctx, q_nope, q_pe, 0);
    /* [kv_lora, n_head, n_tokens] */
    x = attend(b, il, q, k, NULL);
    x = ggml_permute(b->ctx, x, 0, 2, 1, 3);
    /* [mla_head_v, n_tokens, n_head] */
    x = ggml_mul_mat(b->ctx, layer_weight(b, il, LLM_WV_B), x);
    x = ggml_cont_2d(b->ctx, ggml_permute(b->ctx, x, 0, 2, 1, 3),
                     (int64_t)hp->mla_head_v * hp->n_head, n);
    return linear(b, layer_weight(b, il, LLM_WO), x, NULL);
}

struct ggml_tensor *build_attention(const struct builder *b, int32_t il, struct ggml_tensor *x,
                                    bool store_only)
{
    return b->hp->arch->attn == LLM_ATTN_MLA ? build_mla(b, il, x, store_only)
                                             : build_gqa(b, il, x, store_only);
}
