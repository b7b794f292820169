#include "exec/llm/arch.h"
#include "exec/llm/gguf.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct llm_arch llm_archs[] = {
    {.name = "llama",
     .rope = LLM_ROPE_NORMAL,
     .gating = LLM_GATING_SOFTMAX,
     .flags = LLM_NORMS_TOPK},
    {.name = "qwen2", .rope = LLM_ROPE_NEOX, .flags = LLM_NEEDS_QKV_BIAS},
    {.name = "qwen3", .rope = LLM_ROPE_NEOX, .flags = LLM_HAS_QK_NORM},
    {.name = "qwen3moe",
     .rope = LLM_ROPE_NEOX,
     .gating = LLM_GATING_SOFTMAX,
     .flags = LLM_HAS_QK_NORM | LLM_NORMS_TOPK},
    {.name = "gemma3",
     .rope = LLM_ROPE_NEOX,
     .act = LLM_ACT_GELU,
     .flags = LLM_HAS_QK_NORM | LLM_HAS_POST_NORMS | LLM_SCALES_EMBD | LLM_WINDOW_ROPE,
     .window_period = 6,
     .n_layer_big = 62},
    {.name = "gpt-oss",
     .rope = LLM_ROPE_NEOX,
     .act = LLM_ACT_SWIGLU_OAI,
     .gating = LLM_GATING_SOFTMAX_OF_TOPK,
     .flags = LLM_HAS_SINKS | LLM_FFN_NORM_IS_POST | LLM_NEEDS_QKV_BIAS,
     .window_period = 2},
    {.name = "deepseek2",
     .rope = LLM_ROPE_NORMAL,
     .attn = LLM_ATTN_MLA,
     .gating = LLM_GATING_SOFTMAX},
};

#define LLM_N_ARCHS ((int)(sizeof llm_archs / sizeof *llm_archs))

const struct llm_arch *llm_arch_at(int i)
{
    return i >= 0 && i < LLM_N_ARCHS ? &llm_archs[i] : NULL;
}

const struct llm_arch *llm_arch_find(const char *name, size_t n)
{
    for (int i = 0; i < LLM_N_ARCHS; i++) {
        if (strlen(llm_archs[i].name) == n && !memcmp(llm_archs[i].name, name, n))
            return &llm_archs[i];
    }
    return NULL;
}

bool llm_layer_is_windowed(const struct llm_hparams *hp, int layer)
{
    return hp->window > 0 && hp->window_period > 1 &&
           layer % hp->window_period < hp->window_period - 1;
}

bool llm_layer_is_moe(const struct llm_hparams *hp, int layer)
{
    return hp->n_expert > 0 && layer >= hp->n_layer_dense;
}

/* What reading one file's keys needs; the first failure sticks. */
struct reader {
    const struct gguf_file *file;
    const char *arch;
    struct sl_err *err;
    sl_status status;
};

static const struct gguf_kv *reader_find(const struct reader *rd, const char *key, char full[128])
{
    snprintf(full, 128, "%s.%s", rd->arch, key);
    return gguf_find(rd->file, full);
}

/* A per-layer array counts as its first element; layers that differ are refused. */
static bool kv_uniform_i64(const struct gguf_kv *kv, int64_t *out)
{
    int64_t first, v;
    if (!gguf_kv_i64(kv, 0, &first)) return false;
    for (uint64_t i = 1; i < kv->n; i++) {
        if (!gguf_kv_i64(kv, i, &v) || v != first) return false;
    }
    *out = first;
    return true;
}

static int32_t read_int(struct reader *rd, const char *key, int64_t lo, int64_t hi, int64_t absent)
{
    char full[128];
    const struct gguf_kv *kv = reader_find(rd, key, full);
    int64_t v = absent;
    if (rd->status != SL_OK) return 0;
    if (kv && !kv_uniform_i64(kv, &v))
        rd->status = sl_err_set(rd->err, kv->is_array ? SL_UNSUPPORTED : SL_CORRUPT, "%s: %s", full,
                                kv->is_array ? "differs between layers" : "not an integer");
    else if (!kv && absent < lo)
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s: missing", full);
    else if (v < lo || v > hi) /* a default made of other keys may be so, too */
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s: %lld is not within %lld..%lld", full,
                                (long long)v, (long long)lo, (long long)hi);
    return rd->status == SL_OK ? (int32_t)v : 0;
}

static float read_float(struct reader *rd, const char *key, double lo, double hi, double absent)
{
    char full[128];
    const struct gguf_kv *kv = reader_find(rd, key, full);
    double v = absent;
    if (rd->status != SL_OK) return 0;
    if (kv && (kv->is_array || !gguf_kv_f64(kv, 0, &v)))
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s: not a number", full);
    else if (!kv && isnan(absent))
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s: missing", full);
    else if (kv && !(v >= lo && v <= hi))
        rd->status =
            sl_err_set(rd->err, SL_CORRUPT, "%s: %g is not within %g..%g", full, v, lo, hi);
    return rd->status == SL_OK ? (float)v : 0;
}

static bool read_bool(struct reader *rd, const char *key, bool absent)
{
    char full[128];
    bool v = absent;
    if (rd->status != SL_OK || !reader_find(rd, key, full)) return absent;
    rd->status = gguf_get_bool(rd->file, full, &v, rd->err);
    return v;
}

static void read_vocab(struct reader *rd, struct llm_hparams *hp)
{
    const struct gguf_kv *tokens = gguf_find(rd->file, "tokenizer.ggml.tokens");
    int64_t absent =
        tokens && tokens->is_array && tokens->n <= LLM_VOCAB_MAX ? (int64_t)tokens->n : 0;
    hp->n_vocab = read_int(rd, "vocab_size", 1, LLM_VOCAB_MAX, absent);
    if (rd->status == SL_OK && tokens && tokens->n != (uint64_t)hp->n_vocab)
        /* the list decides; the tensors' shapes are checked against it */
        hp->n_vocab = (int32_t)absent;
}

static void read_sizes(struct reader *rd, struct llm_hparams *hp)
{
    hp->n_layer = read_int(rd, "block_count", 1, LLM_LAYERS_MAX, -1);
    /* Blocks for multi-token prediction stand behind the model's own layers (DeepSeek-V3); they
     * are not used. */
    if (rd->status == SL_OK)
        hp->n_layer -= read_int(rd, "nextn_predict_layers", 0, hp->n_layer - 1, 0);
    hp->n_embd = read_int(rd, "embedding_length", 1, LLM_DIM_MAX, -1);
    hp->n_ctx_train = read_int(rd, "context_length", 1, INT32_MAX, -1);
    hp->n_ff = read_int(rd, "feed_forward_length", 0, LLM_DIM_MAX, 0);
    hp->n_head = read_int(rd, "attention.head_count", 1, 65536, -1);
    hp->n_head_kv = read_int(rd, "attention.head_count_kv", 1, 65536, hp->n_head);
    hp->rms_eps = read_float(rd, "attention.layer_norm_rms_epsilon", 0, 1, NAN);
    if (rd->status != SL_OK) return;
    hp->head_k = read_int(rd, "attention.key_length", 1, LLM_HEAD_DIM_MAX, hp->n_embd / hp->n_head);
    hp->head_v =
        read_int(rd, "attention.value_length", 1, LLM_HEAD_DIM_MAX, hp->n_embd / hp->n_head);
    if (rd->status != SL_OK) return;
    hp->n_rot = read_int(rd, "rope.dimension_count", 2, hp->head_k, hp->head_k);
    if (rd->status == SL_OK && hp->n_head % hp->n_head_kv)
        rd->status = sl_err_set(rd->err, SL_CORRUPT,
                                "%s.attention.head_count: %d is no multiple of head_count_kv %d",
                                rd->arch, hp->n_head, hp->n_head_kv);
    else if (rd->status == SL_OK && hp->n_rot % 2)
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s.rope.dimension_count: %d is odd", rd->arch,
                                hp->n_rot);
}

static void read_window(struct reader *rd, struct llm_hparams *hp)
{
    if (!hp->arch->window_period) return;
    hp->window = read_int(rd, "attention.sliding_window", 0, INT32_MAX, 0);
    hp->window_period = read_int(rd, "attention.sliding_window_pattern", 0, LLM_LAYERS_MAX,
                                 hp->arch->window_period);
}

static bool scaling_parse(struct gguf_str s, enum llm_rope_scaling *out)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    for (int i = 0; i < 4; i++) {
        if (strlen(names[i]) == s.len && !memcmp(names[i], s.s, s.len)) {
            *out = (enum llm_rope_scaling)i;
            return true;
        }
    }
    return false;
}

static void read_rope_scaling(struct reader *rd, struct llm_hparams *hp)
{
    char full[128];
    struct gguf_str type;
    hp->rope_scaling = LLM_ROPE_SCALING_LINEAR; /* with factor 1 unless the file says more */
    if (rd->status != SL_OK || !reader_find(rd, "rope.scaling.type", full)) return;
    rd->status = gguf_get_str(rd->file, full, &type, rd->err);
    if (rd->status == SL_OK && !scaling_parse(type, &hp->rope_scaling))
        rd->status = sl_err_set(rd->err, SL_UNSUPPORTED, "%s: %.*s is unknown", full,
                                (int)(type.len < 32 ? type.len : 32), type.s);
}

static float yarn_mscale(float factor, float mscale)
{
    return factor <= 1 ? 1 : 0.1f * mscale * logf(factor) + 1;
}

/* YaRN's attention factor (arXiv:2309.00071, section 3.4). ggml multiplies by 1 + 0.1 ln(factor)
 * on its own, so that is divided out. DeepSeek scales q.k by mscale^2 instead of the rotated
 * vectors. */
static void derive_yarn(struct llm_hparams *hp, float log_mul)
{
    float factor = 1 / hp->rope_freq_scale, attn = yarn_mscale(factor, 1);
    float cancel = 1 + 0.1f * logf(factor);
    if (log_mul != 0) {
        float mscale = hp->arch->attn == LLM_ATTN_MLA ? log_mul : 1;
        attn = yarn_mscale(factor, mscale) / yarn_mscale(factor, log_mul);
    }
    hp->yarn_ext = 1;
    hp->yarn_attn *= attn / cancel;
}

static void read_rope(struct reader *rd, struct llm_hparams *hp)
{
    float factor, log_mul;
    hp->rope_base = read_float(rd, "rope.freq_base", 1e-3, 1e12, 10000);
    read_rope_scaling(rd, hp);
    factor = read_float(rd, "rope.scaling.factor", 0, 1e6, 0);
    if (factor == 0) factor = read_float(rd, "rope.scale_linear", 0, 1e6, 0);
    hp->yarn_attn = read_float(rd, "rope.scaling.attn_factor", 0, 1e6, 1);
    log_mul = read_float(rd, "rope.scaling.yarn_log_multiplier", 0, 1e3, 0);
    hp->yarn_beta_fast = read_float(rd, "rope.scaling.yarn_beta_fast", 0, 1e6, 32);
    hp->yarn_beta_slow = read_float(rd, "rope.scaling.yarn_beta_slow", 0, 1e6, 1);
    hp->n_ctx_orig =
        read_int(rd, "rope.scaling.original_context_length", 1, INT32_MAX, hp->n_ctx_train);
    if (rd->status != SL_OK) return;
    /* converters store a tenth for this family */
    if (hp->arch->attn == LLM_ATTN_MLA) log_mul /= 0.1f;
    hp->rope_freq_scale = factor == 0 || hp->rope_scaling == LLM_ROPE_SCALING_NONE ? 1 : 1 / factor;
    if (hp->rope_scaling == LLM_ROPE_SCALING_YARN) derive_yarn(hp, log_mul);
    hp->rope_base_window = hp->rope_base;
    hp->rope_freq_scale_window = hp->rope_freq_scale;
    if (hp->arch->flags & LLM_WINDOW_ROPE) {
        hp->rope_base_window = read_float(rd, "rope.freq_base_swa", 1e-3, 1e12, 10000);
        hp->rope_freq_scale_window = 1;
    }
    if (hp->arch->attn == LLM_ATTN_MLA) {
        float f = 1 / hp->rope_freq_scale;
        float org = hp->yarn_attn * (1 + 0.1f * logf(f));
        float mscale = org * (1 + 0.1f * log_mul * logf(f));
        hp->attn_scale = mscale * mscale; /* over sqrt(head), see read_attention */
    }
}

static void read_mla(struct reader *rd, struct llm_hparams *hp)
{
    char full[128];
    if (rd->status == SL_OK && !reader_find(rd, "attention.key_length_mla", full))
        rd->status = sl_err_set(rd->err, SL_UNSUPPORTED,
                                "%s: missing: an old file, with keys and values in one tensor; "
                                "convert the model again",
                                full);
    hp->q_lora = read_int(rd, "attention.q_lora_rank", 0, LLM_DIM_MAX, 0);
    hp->kv_lora = read_int(rd, "attention.kv_lora_rank", 1, LLM_HEAD_DIM_MAX - hp->n_rot, -1);
    hp->mla_head_k = read_int(rd, "attention.key_length_mla", 1, LLM_HEAD_DIM_MAX, -1);
    hp->mla_head_v = read_int(rd, "attention.value_length_mla", 1, LLM_HEAD_DIM_MAX, -1);
    hp->head_k = hp->kv_lora + hp->n_rot;
    hp->head_v = hp->kv_lora;
    hp->n_head_kv = 1;
    if (rd->status == SL_OK && hp->mla_head_k <= hp->n_rot)
        rd->status = sl_err_set(rd->err, SL_CORRUPT,
                                "%s.attention.key_length_mla: %d leaves nothing beside %d rotated",
                                rd->arch, hp->mla_head_k, hp->n_rot);
}

static void read_attention(struct reader *rd, struct llm_hparams *hp)
{
    bool mla = hp->arch->attn == LLM_ATTN_MLA;
    int32_t dim;
    if (mla) read_mla(rd, hp);
    hp->attn_softcap = read_float(rd, "attn_logit_softcapping", 0, 1e6, 0);
    hp->final_softcap = read_float(rd, "final_logit_softcapping", 0, 1e6, 0);
    if (rd->status != SL_OK) return;
    dim = mla ? hp->mla_head_k : hp->head_k;
    if (hp->arch->n_layer_big && hp->n_layer == hp->arch->n_layer_big)
        dim = hp->n_embd / hp->n_head;
    hp->attn_scale = (mla ? hp->attn_scale : 1) / sqrtf((float)dim);
}

static void read_gating(struct reader *rd, struct llm_hparams *hp)
{
    static const enum llm_gating by_number[] = {LLM_GATING_NONE, LLM_GATING_SOFTMAX,
                                                LLM_GATING_SIGMOID, LLM_GATING_SOFTMAX_OF_TOPK};
    int32_t func = read_int(rd, "expert_gating_func", 0, 3, 0);
    hp->gating = func ? by_number[func] : hp->arch->gating;
    hp->expert_norm = read_bool(rd, "expert_weights_norm", hp->arch->flags & LLM_NORMS_TOPK);
    hp->expert_scale = read_float(rd, "expert_weights_scale", 0, 1e6, 0);
    if (hp->expert_scale == 0) hp->expert_scale = 1;
}

static void read_experts(struct reader *rd, struct llm_hparams *hp)
{
    hp->n_expert = read_int(rd, "expert_count", 0, LLM_EXPERTS_MAX, 0);
    if (rd->status != SL_OK || !hp->n_expert) return;
    hp->n_expert_used =
        read_int(rd, "expert_used_count", 1,
                 hp->n_expert < LLM_EXPERTS_USED_MAX ? hp->n_expert : LLM_EXPERTS_USED_MAX, -1);
    hp->n_expert_shared = read_int(rd, "expert_shared_count", 0, 64, 0);
    hp->n_ff_expert = read_int(rd, "expert_feed_forward_length", 1, LLM_DIM_MAX, hp->n_ff);
    hp->n_layer_dense = read_int(rd, "leading_dense_block_count", 0, hp->n_layer, 0);
    hp->n_expert_groups = read_int(rd, "expert_group_count", 0, hp->n_expert, 0);
    hp->n_expert_groups_used = read_int(rd, "expert_group_used_count", 0, hp->n_expert, 0);
    read_gating(rd, hp);
    if (rd->status != SL_OK || hp->n_expert_groups <= 1) return;
    int32_t groups = hp->n_expert_groups, per_group = hp->n_expert / groups;
    if (hp->n_expert % groups || per_group < 2 || hp->n_expert_groups_used < 1 ||
        hp->n_expert_groups_used > groups ||
        hp->n_expert_groups_used * per_group < hp->n_expert_used)
        rd->status = sl_err_set(rd->err, SL_CORRUPT,
                                "%s.expert_group_count: %d groups (%d used) do not fit %d experts",
                                rd->arch, groups, hp->n_expert_groups_used, hp->n_expert);
}

/* What models made for embeddings state. */
static void read_pooling(struct reader *rd, struct llm_hparams *hp)
{
    int32_t type = read_int(rd, "pooling_type", 0, LLM_POOLING_RANK, LLM_POOLING_NONE);
    if (!read_bool(rd, "attention.causal", true) && rd->status == SL_OK)
        rd->status =
            sl_err_set(rd->err, SL_UNSUPPORTED,
                       "%s.attention.causal: false: attention in both directions", rd->arch);
    hp->pooling = (enum llm_pooling)type;
}

static void check_model(struct reader *rd, const struct llm_hparams *hp)
{
    bool has_dense = !hp->n_expert || hp->n_layer_dense > 0;
    if (rd->status != SL_OK) return;
    if (hp->n_expert && hp->arch->gating == LLM_GATING_NONE)
        rd->status = sl_err_set(rd->err, SL_UNSUPPORTED,
                                "%s.expert_count: %d: this architecture has no experts", rd->arch,
                                hp->n_expert);
    else if (has_dense && hp->n_ff < 1)
        rd->status = sl_err_set(rd->err, SL_CORRUPT, "%s.feed_forward_length: missing", rd->arch);
}

sl_status llm_hparams_read(const struct gguf_file *file, struct llm_hparams *out,
                           struct sl_err *err)
{
    struct llm_hparams hp = {0};
    struct gguf_str name;
    struct reader rd = {file, NULL, err, SL_OK};
    sl_status status = gguf_get_str(file, "general.architecture", &name, err);
    if (status != SL_OK) return status;
    hp.arch = llm_arch_find(name.s, name.len);
    if (!hp.arch)
        return sl_err_set(err, SL_UNSUPPORTED, "general.architecture: %.*s is not supported",
                          (int)(name.len < 64 ? name.len : 64), name.s);
    rd.arch = hp.arch->name;
    read_vocab(&rd, &hp);
    read_sizes(&rd, &hp);
    if (rd.status == SL_OK) read_window(&rd, &hp);
    if (rd.status == SL_OK) read_rope(&rd, &hp);
    if (rd.status == SL_OK) read_attention(&rd, &hp);
    if (rd.status == SL_OK) read_experts(&rd, &hp);
    if (rd.status == SL_OK) read_pooling(&rd, &hp);
    check_model(&rd, &hp);
    if (rd.status == SL_OK) *out = hp;
    return rd.status;
}
