#include "exec/llm/tensors.h"
#include <stdio.h>
#include <string.h>

enum dim { /* a width, by what it is made of */
           D_NONE,
           D_EMBD,
           D_VOCAB,
           D_Q,
           D_K,
           D_V,
           D_O,
           D_HEAD,
           D_N_HEAD,
           D_FF,
           D_EXPERT,
           D_FF_EXPERT,
           D_FF_SHARED,
           D_ROT_HALF,
           D_Q_LORA,
           D_KV_LORA,
           D_KV_A,
           D_NOPE,
           D_MLA_V
};

enum { /* when a layer has the tensor */
       W_GQA = 1,
       W_MLA = 2,
       W_Q_LORA = 4,
       W_Q_FULL = 8,
       W_QK_NORM = 16,
       W_SINKS = 32,
       W_POST_NORMS = 64,
       W_DENSE = 128,
       W_MOE = 256,
       W_SHARED = 512,
       W_QKV_BIAS = 1024,
       W_OAI = 2048,
       W_FFN_NORM = 4096,
       W_OPTIONAL = 1 << 20
};

struct row {
    const char *suffix;
    enum llm_tensor_use use;
    enum dim dims[3];
    unsigned when; /* all of these must hold; W_OPTIONAL: may still be absent */
};

/* clang-format off */
#define MM LLM_USE_MUL_MAT
#define MI LLM_USE_MUL_MAT_ID
#define EL LLM_USE_ELEMENTWISE
static const struct row layer_rows[LLM_LAYER_ROLE_COUNT] = {
    [LLM_ATTN_NORM] = {"attn_norm.weight", EL, {D_EMBD}, 0},
    [LLM_WQ] = {"attn_q.weight", MM, {D_EMBD, D_Q}, W_Q_FULL},
    [LLM_WK] = {"attn_k.weight", MM, {D_EMBD, D_K}, W_GQA},
    [LLM_WV] = {"attn_v.weight", MM, {D_EMBD, D_V}, W_GQA},
    [LLM_WO] = {"attn_output.weight", MM, {D_O, D_EMBD}, 0},
    [LLM_BQ] = {"attn_q.bias", EL, {D_Q}, W_GQA | W_QKV_BIAS},
    [LLM_BK] = {"attn_k.bias", EL, {D_K}, W_GQA | W_QKV_BIAS},
    [LLM_BV] = {"attn_v.bias", EL, {D_V}, W_GQA | W_QKV_BIAS},
    [LLM_BO] = {"attn_output.bias", EL, {D_EMBD}, W_GQA | W_OPTIONAL},
    [LLM_Q_NORM] = {"attn_q_norm.weight", EL, {D_HEAD}, W_QK_NORM},
    [LLM_K_NORM] = {"attn_k_norm.weight", EL, {D_HEAD}, W_QK_NORM},
    [LLM_SINKS] = {"attn_sinks.weight", EL, {D_N_HEAD}, W_SINKS},
    [LLM_ATTN_POST_NORM] = {"post_attention_norm.weight", EL, {D_EMBD}, W_POST_NORMS},
    [LLM_WQ_A] = {"attn_q_a.weight", MM, {D_EMBD, D_Q_LORA}, W_Q_LORA},
    [LLM_Q_A_NORM] = {"attn_q_a_norm.weight", EL, {D_Q_LORA}, W_Q_LORA},
    [LLM_WQ_B] = {"attn_q_b.weight", MM, {D_Q_LORA, D_Q}, W_Q_LORA},
    [LLM_WKV_A] = {"attn_kv_a_mqa.weight", MM, {D_EMBD, D_KV_A}, W_MLA},
    [LLM_KV_A_NORM] = {"attn_kv_a_norm.weight", EL, {D_KV_LORA}, W_MLA},
    [LLM_WK_B] = {"attn_k_b.weight", MM, {D_NOPE, D_KV_LORA, D_N_HEAD}, W_MLA},
    [LLM_WV_B] = {"attn_v_b.weight", MM, {D_KV_LORA, D_MLA_V, D_N_HEAD}, W_MLA},
    [LLM_FFN_NORM] = {"ffn_norm.weight", EL, {D_EMBD}, W_FFN_NORM},
    [LLM_FFN_GATE] = {"ffn_gate.weight", MM, {D_EMBD, D_FF}, W_DENSE},
    [LLM_FFN_UP] = {"ffn_up.weight", MM, {D_EMBD, D_FF}, W_DENSE},
    [LLM_FFN_DOWN] = {"ffn_down.weight", MM, {D_FF, D_EMBD}, W_DENSE},
    [LLM_FFN_POST_NORM] = {"post_ffw_norm.weight", EL, {D_EMBD}, W_POST_NORMS},
    [LLM_FFN_GATE_BIAS] = {"ffn_gate.bias", EL, {D_FF}, W_DENSE | W_OPTIONAL},
    [LLM_FFN_UP_BIAS] = {"ffn_up.bias", EL, {D_FF}, W_DENSE | W_OPTIONAL},
    [LLM_FFN_DOWN_BIAS] = {"ffn_down.bias", EL, {D_EMBD}, W_DENSE | W_OPTIONAL},
    [LLM_ROUTER] = {"ffn_gate_inp.weight", MM, {D_EMBD, D_EXPERT}, W_MOE},
    [LLM_ROUTER_BIAS] = {"ffn_gate_inp.bias", EL, {D_EXPERT}, W_MOE | W_OAI},
    [LLM_ROUTER_SELECT_BIAS] = {"exp_probs_b.bias", EL, {D_EXPERT}, W_MOE | W_OPTIONAL},
    [LLM_EXPS_GATE] = {"ffn_gate_exps.weight", MI, {D_EMBD, D_FF_EXPERT, D_EXPERT}, W_MOE},
    [LLM_EXPS_UP] = {"ffn_up_exps.weight", MI, {D_EMBD, D_FF_EXPERT, D_EXPERT}, W_MOE},
    [LLM_EXPS_DOWN] = {"ffn_down_exps.weight", MI, {D_FF_EXPERT, D_EMBD, D_EXPERT}, W_MOE},
    [LLM_EXPS_GATE_BIAS] = {"ffn_gate_exps.bias", EL, {D_FF_EXPERT, D_EXPERT}, W_MOE | W_OAI},
    [LLM_EXPS_UP_BIAS] = {"ffn_up_exps.bias", EL, {D_FF_EXPERT, D_EXPERT}, W_MOE | W_OAI},
    [LLM_EXPS_DOWN_BIAS] = {"ffn_down_exps.bias", EL, {D_EMBD, D_EXPERT}, W_MOE | W_OAI},
    [LLM_SHEXP_GATE] = {"ffn_gate_shexp.weight", MM, {D_EMBD, D_FF_SHARED}, W_MOE | W_SHARED},
    [LLM_SHEXP_UP] = {"ffn_up_shexp.weight", MM, {D_EMBD, D_FF_SHARED}, W_MOE | W_SHARED},
    [LLM_SHEXP_DOWN] = {"ffn_down_shexp.weight", MM, {D_FF_SHARED, D_EMBD}, W_MOE | W_SHARED},
};

static const struct row model_rows[LLM_MODEL_ROLE_COUNT] = {
    [LLM_TOKEN_EMBD] = {"token_embd.weight", LLM_USE_GET_ROWS, {D_EMBD, D_VOCAB}, 0},
    [LLM_OUTPUT_NORM] = {"output_norm.weight", EL, {D_EMBD}, 0},
    [LLM_OUTPUT] = {"output.weight", MM, {D_EMBD, D_VOCAB}, W_OPTIONAL}, /* else tied */
    [LLM_ROPE_FREQS] = {"rope_freqs.weight", EL, {D_ROT_HALF}, W_OPTIONAL},
    [LLM_ROPE_LONG] = {"rope_factors_long.weight", EL, {D_ROT_HALF}, W_OPTIONAL},
    [LLM_ROPE_SHORT] = {"rope_factors_short.weight", EL, {D_ROT_HALF}, W_OPTIONAL},
};
#undef MM
#undef MI
#undef EL
/* clang-format on */

static int64_t dim_size(const struct llm_hparams *hp, enum dim d)
{
    bool mla = hp->arch->attn == LLM_ATTN_MLA;
    switch (d) {
    case D_EMBD: return hp->n_embd;
    case D_VOCAB: return hp->n_vocab;
    case D_Q: return (int64_t)hp->n_head * (mla ? hp->mla_head_k : hp->head_k);
    case D_K: return (int64_t)hp->n_head_kv * hp->head_k;
    case D_V: return (int64_t)hp->n_head_kv * hp->head_v;
    case D_O: return (int64_t)hp->n_head * (mla ? hp->mla_head_v : hp->head_v);
    case D_HEAD: return hp->head_k;
    case D_N_HEAD: return hp->n_head;
    case D_FF: return hp->n_ff;
    case D_EXPERT: return hp->n_expert;
    case D_FF_EXPERT: return hp->n_ff_expert;
    case D_FF_SHARED: return (int64_t)hp->n_ff_expert * hp->n_expert_shared;
    case D_ROT_HALF: return hp->n_rot / 2;
    case D_Q_LORA: return hp->q_lora;
    case D_KV_LORA: return hp->kv_lora;
    case D_KV_A: return (int64_t)hp->kv_lora + hp->n_rot;
    case D_NOPE: return hp->mla_head_k - hp->n_rot;
    case D_MLA_V: return hp->mla_head_v;
    case D_NONE: break;
    }
    return 0;
}

static unsigned layer_traits(const struct llm_hparams *hp, int layer)
{
    unsigned flags = hp->arch->flags;
    bool mla = hp->arch->attn == LLM_ATTN_MLA, moe = llm_layer_is_moe(hp, layer);
    unsigned t = mla ? W_MLA : W_GQA;
    t |= mla && hp->q_lora ? W_Q_LORA : W_Q_FULL;
    t |= moe ? W_MOE : W_DENSE;
    t |= flags & LLM_HAS_QK_NORM ? W_QK_NORM : 0;
    t |= flags & LLM_HAS_SINKS ? W_SINKS | W_OAI : 0;
    t |= flags & (LLM_HAS_POST_NORMS | LLM_FFN_NORM_IS_POST) ? W_POST_NORMS : 0;
    t |= flags & LLM_FFN_NORM_IS_POST ? 0 : W_FFN_NORM;
    t |= hp->n_expert_shared ? W_SHARED : 0;
    return t | W_QKV_BIAS | W_OPTIONAL;
}

static void spec_fill(const struct llm_hparams *hp, const struct row *row,
                      struct llm_tensor_spec *out)
{
    *out = (struct llm_tensor_spec){row->suffix, row->use, 0, {1, 1, 1}, !(row->when & W_OPTIONAL)};
    while (out->n_dims < 3 && row->dims[out->n_dims] != D_NONE) {
        out->ne[out->n_dims] = dim_size(hp, row->dims[out->n_dims]);
        out->n_dims++;
    }
}

bool llm_model_tensor(const struct llm_hparams *hp, enum llm_tensor_role role,
                      struct llm_tensor_spec *out)
{
    spec_fill(hp, &model_rows[role], out);
    return true;
}

bool llm_layer_tensor(const struct llm_hparams *hp, int layer, enum llm_layer_role role,
                      struct llm_tensor_spec *out)
{
    const struct row *row = &layer_rows[role];
    if (row->when & ~layer_traits(hp, layer)) return false;
    if (role == LLM_FFN_POST_NORM && !(hp->arch->flags & LLM_HAS_POST_NORMS)) return false;
    spec_fill(hp, row, out);
    if (row->when & W_QKV_BIAS) out->required = hp->arch->flags & LLM_NEEDS_QKV_BIAS;
    return true;
}

static void shape_text(char *text, size_t n, const int64_t *ne, int n_dims)
{
    size_t len = 0;
    for (int i = 0; i < n_dims && len < n; i++)
        len += (size_t)snprintf(text + len, n - len, "%s%lld", i ? "x" : "", (long long)ne[i]);
}

sl_status llm_tensor_lookup(const struct gguf_file *file, int layer,
                            const struct llm_tensor_spec *spec, const struct gguf_tensor **out,
                            struct sl_err *err)
{
    char name[GGUF_NAME_MAX + 1], got[96], want[96];
    if (layer >= 0)
        snprintf(name, sizeof name, "blk.%d.%s", layer, spec->suffix);
    else
        snprintf(name, sizeof name, "%s", spec->suffix);
    const struct gguf_tensor *t = gguf_tensor_find(file, name);
    *out = t;
    if (!t && spec->required) return sl_err_set(err, SL_CORRUPT, "tensor %s: missing", name);
    if (!t) return SL_OK;
    if (!t->n_dims) return sl_err_set(err, SL_CORRUPT, "tensor %s: no dimensions", name);
    bool same = true;
    for (int i = 0; i < GGUF_DIMS_MAX; i++)
        same = same && t->ne[i] == (i < spec->n_dims ? spec->ne[i] : 1);
    if (!same) {
        shape_text(got, sizeof got, t->ne, t->n_dims);
        shape_text(want, sizeof want, spec->ne, spec->n_dims);
        return sl_err_set(err, SL_CORRUPT, "tensor %s: shape %s, the hyper-parameters ask for %s",
                          name, got, want);
    }
    if (spec->use == LLM_USE_ELEMENTWISE && strcmp(gguf_tensor_type_name(t->type), "f32"))
        return sl_err_set(err, SL_UNSUPPORTED, "tensor %s: type %s, must be f32", name,
                          gguf_tensor_type_name(t->type));
    return SL_OK;
}

/* A range, and what is done with each of its tensors. */
struct visit {
    const struct gguf_file *file;
    const struct llm_hparams *hp;
    const struct llm_range *range;
    llm_tensor_fn *fn;
    void *ctx;
    struct sl_err *err;
};

static sl_status visit_tensor(const struct visit *v, int layer, const struct llm_tensor_spec *spec)
{
    const struct gguf_tensor *t;
    sl_status status = llm_tensor_lookup(v->file, layer, spec, &t, v->err);
    return status == SL_OK && t ? v->fn(v->ctx, t, v->err) : status;
}

static bool range_needs(const struct visit *v, enum llm_tensor_role role)
{
    const struct llm_range *range = v->range;
    if (role == LLM_OUTPUT || role == LLM_OUTPUT_NORM) return range->heads;
    if (role != LLM_TOKEN_EMBD) return true;
    return range->embeds || (range->heads && !gguf_tensor_find(v->file, "output.weight"));
}

sl_status llm_tensors_each(const struct gguf_file *file, const struct llm_hparams *hp,
                           const struct llm_range *range, llm_tensor_fn *fn, void *ctx,
                           struct sl_err *err)
{
    const struct visit v = {file, hp, range, fn, ctx, err};
    struct llm_tensor_spec spec;
    sl_status status = SL_OK;
    for (int role = 0; role < LLM_MODEL_ROLE_COUNT && status == SL_OK; role++) {
        llm_model_tensor(hp, (enum llm_tensor_role)role, &spec);
        if (range_needs(&v, (enum llm_tensor_role)role)) status = visit_tensor(&v, -1, &spec);
    }
    for (int32_t il = range->first; il < range->last; il++) {
        for (int role = 0; role < LLM_LAYER_ROLE_COUNT && status == SL_OK; role++)
            if (llm_layer_tensor(hp, il, (enum llm_layer_role)role, &spec))
                status = visit_tensor(&v, il, &spec);
    }
    return status;
}

static sl_status ignore_tensor(void *ctx, const struct gguf_tensor *tensor, struct sl_err *err)
{
    (void)ctx;
    (void)tensor;
    (void)err;
    return SL_OK;
}

sl_status llm_tensors_check(const struct gguf_file *file, const struct llm_hparams *hp,
                            const struct llm_range *range, struct sl_err *err)
{
    return llm_tensors_each(file, hp, range, ignore_tensor, NULL, err);
}
