/* arch.h: architectures as data: one row of traits each, and the hyper-parameters a GGUF file
 * states for its model.
 * Floor: exec/llm.  Thread: any (const).  Allocates: nothing.
 * The one graph builder (graph.c) reads the row; adding an architecture that fits the traits is
 * a row here and a golden file. Keys: github.com/ggml-org/ggml/blob/master/docs/gguf.md. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_file;

#define LLM_LAYERS_MAX 512    /* the deepest model today has 126 */
#define LLM_DIM_MAX (1 << 20) /* bound of every width, so that products fit in 64 bits */
#define LLM_VOCAB_MAX (1 << 24)
#define LLM_EXPERTS_MAX 1024
/* Per token. Each is two nodes of the graph, and ggml takes 22 KB of address space a node. */
#define LLM_EXPERTS_USED_MAX 64
/* scratch of the attention kernels; DeepSeek's 576 is the largest today */
#define LLM_HEAD_DIM_MAX 1024

enum llm_rope { LLM_ROPE_NORMAL, LLM_ROPE_NEOX }; /* pairs (2i, 2i+1), or (i, i + n_rot/2) */
enum llm_rope_scaling {
    LLM_ROPE_SCALING_NONE,
    LLM_ROPE_SCALING_LINEAR,
    LLM_ROPE_SCALING_YARN,
    LLM_ROPE_SCALING_LONGROPE
};
/* grouped queries; DeepSeek's latent attention, arXiv:2405.04434 */
enum llm_attn { LLM_ATTN_GQA, LLM_ATTN_MLA };
enum llm_act { LLM_ACT_SILU, LLM_ACT_GELU, LLM_ACT_SWIGLU_OAI };
enum llm_gating {
    LLM_GATING_NONE,
    LLM_GATING_SOFTMAX,        /* softmax over all experts, then top-k */
    LLM_GATING_SIGMOID,        /* DeepSeek-V3 */
    LLM_GATING_SOFTMAX_OF_TOPK /* top-k, then softmax over those: gpt-oss */
};

enum llm_pooling { /* <arch>.pooling_type, numbered as in the format */
                   LLM_POOLING_NONE,
                   LLM_POOLING_MEAN,
                   LLM_POOLING_CLS,
                   LLM_POOLING_LAST,
                   LLM_POOLING_RANK /* a score instead of a vector */
};

enum {                         /* llm_arch.flags */
       LLM_HAS_QK_NORM = 1,    /* RMS norm of each query and key head before RoPE */
       LLM_HAS_POST_NORMS = 2, /* norms after attention and after the feed-forward: Gemma */
       LLM_HAS_SINKS = 4,      /* a learned logit per head in the softmax's denominator: gpt-oss */
       LLM_SCALES_EMBD = 8,    /* embeddings times sqrt(n_embd): Gemma */
       LLM_NORMS_TOPK = 16,    /* weights of the chosen experts are normalised to sum 1 */
       /* the norm before the feed-forward is called post_attention_norm: gpt-oss */
       LLM_FFN_NORM_IS_POST = 32,
       /* windowed layers have a RoPE base of their own, unscaled: Gemma 3 */
       LLM_WINDOW_ROPE = 64,
       LLM_NEEDS_QKV_BIAS = 128,
};

struct llm_arch {
    const char *name; /* general.architecture, and the prefix of its keys */
    enum llm_rope rope;
    enum llm_attn attn;
    enum llm_act act;
    enum llm_gating gating; /* default where the file does not say */
    unsigned flags;
    /* sliding windows: of every `period` layers all but the last; 0: the key is ignored */
    int32_t window_period;
    /* with this many layers queries scale by n_embd / n_head, not by the head size; 0: never */
    int32_t n_layer_big;
};

const struct llm_arch *llm_arch_find(const char *name, size_t n); /* NULL: unknown */
const struct llm_arch *llm_arch_at(int i);                        /* NULL past the last */

struct llm_hparams {
    const struct llm_arch *arch;
    int32_t n_layer, n_embd, n_vocab, n_ctx_train;
    int32_t n_ff; /* dense feed-forward width */
    int32_t n_head, n_head_kv;
    int32_t head_k, head_v; /* as stored in the cache; MLA: lora + rope, and lora */
    int32_t n_rot;
    float rms_eps;
    /* attention */
    /* of q.k, YaRN's factor included where the model wants it */
    float attn_scale;
    float attn_softcap, final_softcap; /* 0: off */
    /* tokens a windowed layer sees, itself included; 0: none */
    int32_t window;
    int32_t window_period;
    /* RoPE */
    enum llm_rope_scaling rope_scaling;
    float rope_base, rope_base_window;
    float rope_freq_scale, rope_freq_scale_window;
    float yarn_ext, yarn_attn, yarn_beta_fast, yarn_beta_slow;
    int32_t n_ctx_orig;
    /* MLA */
    int32_t q_lora, kv_lora;        /* q_lora 0: queries are not compressed (V2-Lite) */
    int32_t mla_head_k, mla_head_v; /* decompressed head sizes */
    /* experts */
    int32_t n_expert, n_expert_used, n_expert_shared, n_ff_expert, n_layer_dense;
    int32_t n_expert_groups, n_expert_groups_used;
    float expert_scale;
    bool expert_norm;
    enum llm_gating gating;
    enum llm_pooling pooling; /* of embeddings; NONE where the file does not say */
};

/* Reads and checks everything the builder relies on. CORRUPT or UNSUPPORTED names the key, its
 * value and the bound. */
SL_CHECK sl_status llm_hparams_read(const struct gguf_file *file, struct llm_hparams *out,
                                    struct sl_err *err);

bool llm_layer_is_windowed(const struct llm_hparams *hp, int layer);
bool llm_layer_is_moe(const struct llm_hparams *hp, int layer);
