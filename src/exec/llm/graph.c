#include "exec/llm/graph.h"
#include "exec/llm/graph_int.h"
#include <ggml-backend.h>
#include <math.h>
#include <string.h>

/* DeepSeek's layer with expert groups takes about 75, plus one view and add per expert */
#define NODES_PER_LAYER 96
#define NODES_FIXED 64
#define MASK_ROWS_ALIGN 64 /* some of ggml's kernels read whole tiles of mask rows */

size_t llm_graph_nodes_max(const struct llm_graph_env *env)
{
    size_t n_layers = (size_t)(env->weights->range.last - env->weights->range.first);
    return NODES_FIXED + n_layers * (NODES_PER_LAYER + 2 * (size_t)env->hp->n_expert_used);
}

struct ggml_tensor *layer_weight(const struct builder *b, int32_t il, enum llm_layer_role role)
{
    return b->env->weights->layers[il - b->env->weights->range.first].t[role];
}

struct ggml_tensor *rms_norm(const struct builder *b, struct ggml_tensor *x, struct ggml_tensor *w)
{
    x = ggml_rms_norm(b->ctx, x, b->hp->rms_eps);
    return w ? ggml_mul(b->ctx, x, w) : x;
}

static struct ggml_tensor *input(const struct builder *b, enum ggml_type type, int64_t ne0,
                                 int64_t ne1, const char *name)
{
    struct ggml_tensor *t = ggml_new_tensor_2d(b->ctx, type, ne0, ne1);
    ggml_set_input(t);
    ggml_set_name(t, name);
    return t;
}

/* Columns that the last layer of a stage with a head keeps. */
static int32_t n_kept(const struct llm_graph_key *key)
{
    return key->n_outputs + key->n_hidden;
}

static void make_inputs(struct builder *b)
{
    const struct llm_graph_key *key = &b->g->key;
    bool is_mixed = key->n_outputs > 0 && key->n_hidden > 0;
    const struct llm_range *r = &b->env->weights->range;
    int64_t rows = (key->n_tokens + MASK_ROWS_ALIGN - 1) / MASK_ROWS_ALIGN * MASK_ROWS_ALIGN;
    if (r->embeds)
        b->g->tokens = input(b, GGML_TYPE_I32, key->n_tokens, 1, "tokens");
    else
        b->g->embd = input(b, GGML_TYPE_F32, b->hp->n_embd, key->n_tokens, "hidden");
    b->g->pos = input(b, GGML_TYPE_I32, key->n_tokens, 1, "positions");
    b->g->slots = input(b, GGML_TYPE_I64, key->n_tokens, 1, "slots");
    if (r->heads && n_kept(key) > 0 && (n_kept(key) < key->n_tokens || is_mixed))
        b->g->outputs = input(b, GGML_TYPE_I32, n_kept(key), 1, "outputs");
    if (b->env->any_masked) {
        b->g->mask = input(b, GGML_TYPE_F16, key->n_kv, rows, "mask");
        if (b->hp->window)
            b->g->mask_window = input(b, GGML_TYPE_F16, key->n_kv, rows, "mask_window");
    }
}

static struct ggml_tensor *embed(const struct builder *b)
{
    struct ggml_tensor *x;
    if (b->g->embd) return b->g->embd;
    x = ggml_get_rows(b->ctx, b->env->weights->model[LLM_TOKEN_EMBD], b->g->tokens);
    return b->hp->arch->flags & LLM_SCALES_EMBD ? ggml_scale(b->ctx, x, sqrtf((float)b->hp->n_embd))
                                                : x;
}

/* One transformer block. `last` of a stage with a head keeps only the columns whose logits or
 * hidden states are wanted. */
static struct ggml_tensor *build_layer(struct builder *b, int32_t il, struct ggml_tensor *x,
                                       bool last)
{
    bool post_norms = b->hp->arch->flags & LLM_HAS_POST_NORMS;
    struct ggml_tensor *ffn_norm = layer_weight(
        b, il, b->hp->arch->flags & LLM_FFN_NORM_IS_POST ? LLM_ATTN_POST_NORM : LLM_FFN_NORM);
    bool store_only = last && n_kept(&b->g->key) == 0;
    struct ggml_tensor *y = rms_norm(b, x, layer_weight(b, il, LLM_ATTN_NORM));
    y = build_attention(b, il, y, store_only);
    if (store_only) return NULL;
    if (last && b->g->outputs) {
        y = ggml_get_rows(b->ctx, y, b->g->outputs);
        x = ggml_get_rows(b->ctx, x, b->g->outputs);
        b->n_tokens = n_kept(&b->g->key);
    }
    if (post_norms) y = rms_norm(b, y, layer_weight(b, il, LLM_ATTN_POST_NORM));
    x = ggml_add(b->ctx, y, x);
    y = build_ffn(b, il, rms_norm(b, x, ffn_norm));
    if (post_norms) y = rms_norm(b, y, layer_weight(b, il, LLM_FFN_POST_NORM));
    return ggml_add(b->ctx, y, x);
}

/* NULL: no logits are wanted. */
static struct ggml_tensor *build_head(const struct builder *b, struct ggml_tensor *x)
{
    float cap = b->hp->final_softcap;
    int32_t n_outputs = b->g->key.n_outputs;
    x = rms_norm(b, x, b->env->weights->model[LLM_OUTPUT_NORM]);
    if (b->g->key.n_hidden > 0) {
        b->g->hidden = x;
        ggml_set_output(x);
        ggml_set_name(x, "hidden_normed");
        ggml_build_forward_expand(b->g->gf, x);
        if (!n_outputs) return NULL;
        x = ggml_view_2d(b->ctx, x, x->ne[0], n_outputs, x->nb[1], 0);
    }
    x = product(b, b->env->weights->model[LLM_OUTPUT], x);
    if (cap > 0) x = ggml_scale(b->ctx, ggml_tanh(b->ctx, ggml_scale(b->ctx, x, 1 / cap)), cap);
    return x;
}

static void build_stage(struct builder *b)
{
    const struct llm_range *r = &b->env->weights->range;
    struct ggml_tensor *x;
    make_inputs(b);
    x = embed(b);
    for (int32_t il = r->first; il < r->last && x; il++)
        x = build_layer(b, il, x, r->heads && il == r->last - 1);
    if (x && r->heads) x = build_head(b, x);
    b->g->out = x;
    if (!x) return;
    ggml_set_output(x);
    ggml_set_name(x, r->heads ? "logits" : "hidden_out");
    ggml_build_forward_expand(b->g->gf, x);
}

sl_status llm_graph_build(const struct llm_graph_env *env, const struct llm_graph_key *key,
                          struct llm_graph *out, struct sl_err *err)
{
    size_t n_nodes = llm_graph_nodes_max(env);
    struct ggml_init_params params = {2 * n_nodes * ggml_tensor_overhead() +
                                          ggml_graph_overhead_custom(n_nodes, false),
                                      NULL, true};
    struct quantised last = {0};
    struct builder b = {
        .env = env, .hp = env->hp, .g = out, .last = &last, .n_tokens = key->n_tokens};
    *out = (struct llm_graph){.key = *key};
    out->ctx = ggml_init(params);
    if (!out->ctx) return sl_err_set(err, SL_NOMEM, "graph of %d tokens", key->n_tokens);
    b.ctx = out->ctx;
    out->gf = ggml_new_graph_custom(out->ctx, n_nodes, false);
    build_stage(&b);
    return SL_OK;
}

void llm_graph_free(struct llm_graph *g)
{
    ggml_free(g->ctx);
    *g = (struct llm_graph){0};
}
