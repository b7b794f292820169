/* arch_test.c: hyper-parameters as the reference models state them, and every way to state them
 * wrongly. */
#include "base/mem.h"
#include "exec/llm/arch.h"
#include "exec/llm/gguf.h"
#include "exec/llm/logits.h"
#include "support/model_edit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define N_TOKENS 24
#define N_VOCAB 320
#define N_LAYERS 3
#define HALF_ROT 4 /* half the rotated part of a head of the "llama" reference */

static sl_status read_hparams(const char *path, struct llm_hparams *out, struct sl_err *err)
{
    struct gguf_file *file;
    if (gguf_open(path, &file, err) != SL_OK) fail_msg("%s", err->text);
    sl_status status = llm_hparams_read(file, out, err);
    gguf_close(file);
    return status;
}

static struct llm_hparams hparams_of(const char *path)
{
    struct llm_hparams hp;
    struct sl_err err = SL_ERR_INIT;
    if (read_hparams(path, &hp, &err) != SL_OK) fail_msg("%s", err.text);
    return hp;
}

static void near(float a, double b)
{
    if (!(fabs((double)a - b) <= 1e-5 * fabs(b))) fail_msg("%g, expected %g", (double)a, b);
}

static void test_the_table_of_architectures(void **state)
{
    (void)state;
    int n = 0;
    for (; llm_arch_at(n); n++)
        assert_ptr_equal(llm_arch_find(llm_arch_at(n)->name, strlen(llm_arch_at(n)->name)),
                         llm_arch_at(n));
    assert_int_equal(n, 7);
    assert_null(llm_arch_at(-1));
    assert_null(llm_arch_find("llama4", 6));
    assert_null(llm_arch_find("llam", 4));
}

static void test_llama(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("llama"));
    assert_string_equal(hp.arch->name, "llama");
    assert_int_equal(hp.n_layer, 3);
    assert_int_equal(hp.n_embd, 32);
    assert_int_equal(hp.n_vocab, 320);
    assert_int_equal(hp.n_ctx_train, 256);
    assert_int_equal(hp.n_ff, 64);
    assert_int_equal(hp.n_head, 4);
    assert_int_equal(hp.n_head_kv, 2);
    assert_int_equal(hp.head_k, 8);
    assert_int_equal(hp.head_v, 8);
    assert_int_equal(hp.n_rot, 8);
    assert_int_equal(hp.n_ctx_orig, 256);
    assert_int_equal(hp.window, 0);
    assert_int_equal(hp.n_expert, 0);
    near(hp.rms_eps, 1e-6);
    near(hp.rope_base, 10000);
    near(hp.rope_freq_scale, 1);
    near(hp.attn_scale, 1 / sqrt(8));
    near(hp.yarn_attn, 1);
    assert_false(llm_layer_is_windowed(&hp, 0));
    assert_false(llm_layer_is_moe(&hp, 0));
}

static void test_qwen2_with_yarn(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("qwen2-yarn"));
    assert_int_equal(hp.rope_scaling, LLM_ROPE_SCALING_YARN);
    assert_int_equal(hp.n_ctx_orig, 64);
    near(hp.rope_freq_scale, 0.25);
    near(hp.yarn_ext, 1);
    near(hp.yarn_attn, 1); /* ggml's own factor of 1 + 0.1 ln 4 is all there is */
    near(hp.yarn_beta_fast, 32);
    near(hp.yarn_beta_slow, 1);
}

static void test_gemma3_has_windows_with_a_base_of_their_own(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("gemma3"));
    assert_int_equal(hp.window, 8);
    assert_int_equal(hp.window_period, 6);
    for (int i = 0; i < 7; i++) assert_int_equal(llm_layer_is_windowed(&hp, i), i != 5);
    near(hp.rope_base, 1e6);
    near(hp.rope_base_window, 10000);
    near(hp.attn_scale, 1 / sqrt(32));
    hp = hparams_of(EDITED("gemma3", SET_F32("gemma3.rope.scaling.factor", 8.0f),
                           SET_F32("gemma3.rope.freq_base_swa", 20000.0f)));
    near(hp.rope_freq_scale, 0.125);
    near(hp.rope_freq_scale_window, 1);
    near(hp.rope_base_window, 20000);
    hp = hparams_of(EDITED("gemma3", SET_U32("gemma3.block_count", 62))); /* the 27B model */
    near(hp.attn_scale, 1 / sqrt(32 / 4));
}

static void test_gpt_oss(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("gpt-oss"));
    for (int i = 0; i < 4; i++) assert_int_equal(llm_layer_is_windowed(&hp, i), i % 2 == 0);
    assert_int_equal(hp.gating, LLM_GATING_SOFTMAX_OF_TOPK);
    assert_int_equal(hp.n_expert, 4);
    assert_int_equal(hp.n_expert_used, 2);
    assert_int_equal(hp.n_ff_expert, 48);
    assert_false(hp.expert_norm);
    near(hp.expert_scale, 1);
    near(hp.rope_freq_scale, 0.125);
    near(hp.rope_freq_scale_window, 0.125); /* only Gemma's windows are unscaled */
}

static void test_deepseek_v3(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("deepseek2-v3"));
    double mscale = 1 + 0.1 * log(8);
    assert_int_equal(hp.kv_lora, 32);
    assert_int_equal(hp.q_lora, 24);
    assert_int_equal(hp.mla_head_k, 24);
    assert_int_equal(hp.mla_head_v, 16);
    assert_int_equal(hp.head_k, 40); /* as cached: 32 latent, 8 rotated */
    assert_int_equal(hp.head_v, 32);
    assert_int_equal(hp.n_head_kv, 1);
    assert_int_equal(hp.gating, LLM_GATING_SIGMOID);
    assert_true(hp.expert_norm);
    assert_int_equal(hp.n_expert_groups, 4);
    assert_int_equal(hp.n_expert_groups_used, 2);
    assert_int_equal(hp.n_expert_shared, 1);
    near(hp.expert_scale, 2.5);
    near(hp.attn_scale, mscale * mscale / sqrt(24));
    near(hp.yarn_attn, 1 / mscale); /* ggml's own factor is cancelled */
    assert_false(llm_layer_is_moe(&hp, 0));
    assert_true(llm_layer_is_moe(&hp, 1));
}

static void test_layers_for_prediction_are_left_out(void **state)
{
    (void)state;
    struct llm_hparams hp =
        hparams_of(EDITED("deepseek2-v3", SET_U32("deepseek2.nextn_predict_layers", 1)));
    assert_int_equal(hp.n_layer, 3);
}

static void test_deepseek_lite(void **state)
{
    (void)state;
    struct llm_hparams hp = hparams_of(golden_path("deepseek2-lite"));
    double mscale = 1 + 0.0707 * log(8); /* stored as a tenth of 0.707 */
    assert_int_equal(hp.q_lora, 0);
    assert_int_equal(hp.gating, LLM_GATING_SOFTMAX);
    assert_false(hp.expert_norm);
    near(hp.attn_scale, mscale * mscale / sqrt(16));
}

static void test_what_may_be_absent(void **state)
{
    (void)state;
    static const int32_t same[] = {64, 64, 64};
    struct llm_hparams hp =
        hparams_of(EDITED("llama", DROP("llama.vocab_size"), DROP("llama.rope.dimension_count"),
                          DROP("llama.attention.head_count_kv"), DROP("llama.rope.freq_base"),
                          SET_I32S("llama.feed_forward_length", same, 3)));
    assert_int_equal(hp.n_vocab, 320); /* the token list's */
    assert_int_equal(hp.n_rot, 8);
    assert_int_equal(hp.n_head_kv, 4);
    assert_int_equal(hp.n_ff, 64);
    near(hp.rope_base, 10000);
    hp = hparams_of(EDITED("llama", SET_F32("llama.rope.scale_linear", 4.0f)));
    near(hp.rope_freq_scale, 0.25);
    hp = hparams_of(EDITED("llama", SET_STR("llama.rope.scaling.type", "none"),
                           SET_F32("llama.rope.scaling.factor", 4.0f)));
    near(hp.rope_freq_scale, 1);
    hp = hparams_of(EDITED("llama", SET_U32("llama.vocab_size", 7)));
    assert_int_equal(hp.n_vocab, 320);
}

static void refuse(const char *path, sl_status status, const char *what)
{
    struct llm_hparams hp;
    struct sl_err err = SL_ERR_INIT;
    sl_status got = read_hparams(path, &hp, &err);
    if (got == SL_OK) fail_msg("accepted, expected \"%s\"", what);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_int_equal(got, status);
}

struct refusal {
    struct edit edit;
    const char *what;
};

static void refuse_all(const char *model, const struct refusal *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        refuse(model_edit(golden_path(model), &list[i].edit, 1), SL_CORRUPT, list[i].what);
}

static void test_sizes_out_of_bounds(void **state)
{
    (void)state;
    static const struct refusal list[] = {
        {DROP("llama.block_count"), "llama.block_count: missing"},
        {SET_U32("llama.block_count", 0), "llama.block_count: 0 is not within 1..512"},
        {SET_U32("llama.block_count", 4000000000u),
         "llama.block_count: 4000000000 is not within 1..512"},
        {SET_STR("llama.block_count", "three"), "llama.block_count: not an integer"},
        {SET_F32("llama.block_count", 3), "llama.block_count: not an integer"},
        {DROP("llama.embedding_length"), "llama.embedding_length: missing"},
        {SET_U32("llama.embedding_length", 0), "llama.embedding_length: 0 is not"},
        {SET_U32("llama.embedding_length", 1 << 21), "llama.embedding_length: 2097152 is not"},
        {DROP("llama.context_length"), "llama.context_length: missing"},
        {SET_U32("llama.context_length", 0), "llama.context_length: 0 is not"},
        {SET_U32("llama.context_length", 0x80000000), "llama.context_length: 2147483648 is not"},
        {DROP("llama.feed_forward_length"), "llama.feed_forward_length: missing"},
        {SET_U32("llama.feed_forward_length", 0), "llama.feed_forward_length: missing"},
        {DROP("llama.attention.head_count"), "llama.attention.head_count: missing"},
        {SET_U32("llama.attention.head_count", 0), "llama.attention.head_count: 0 is not"},
        {SET_U32("llama.attention.head_count", 3),
         "llama.attention.head_count: 3 is no multiple of head_count_kv 2"},
        {SET_U32("llama.attention.head_count", 64), "llama.attention.key_length: missing"},
        {SET_U32("llama.attention.head_count_kv", 0), "llama.attention.head_count_kv: 0 is not"},
        {SET_U32("llama.attention.head_count_kv", 3),
         "head_count: 4 is no multiple of head_count_kv 3"},
        {SET_U32("llama.attention.key_length", 0), "llama.attention.key_length: 0 is not"},
        {SET_U32("llama.attention.key_length", 2048),
         "llama.attention.key_length: 2048 is not within 1..1024"},
        {SET_U32("llama.attention.value_length", 0), "llama.attention.value_length: 0 is not"},
        {SET_U32("llama.rope.dimension_count", 0),
         "llama.rope.dimension_count: 0 is not within 2..8"},
        {SET_U32("llama.rope.dimension_count", 7), "llama.rope.dimension_count: 7 is odd"},
        {SET_U32("llama.rope.dimension_count", 10),
         "llama.rope.dimension_count: 10 is not within 2..8"},
        {SET_U32("llama.vocab_size", 0), "llama.vocab_size: 0 is not"},
    };
    refuse_all("llama", list, COUNT(list));
}

static void test_numbers_out_of_bounds(void **state)
{
    (void)state;
    static const struct refusal list[] = {
        {DROP("llama.attention.layer_norm_rms_epsilon"),
         "llama.attention.layer_norm_rms_epsilon: missing"},
        {SET_F32("llama.attention.layer_norm_rms_epsilon", -1),
         "rms_epsilon: -1 is not within 0..1"},
        {SET_F32("llama.attention.layer_norm_rms_epsilon", NAN), "rms_epsilon: nan is not"},
        {SET_STR("llama.attention.layer_norm_rms_epsilon", "small"), "rms_epsilon: not a number"},
        {SET_F32("llama.rope.freq_base", 0), "llama.rope.freq_base: 0 is not"},
        {SET_F32("llama.rope.freq_base", INFINITY), "llama.rope.freq_base: inf is not"},
        {SET_F32("llama.rope.scaling.factor", -2), "llama.rope.scaling.factor: -2 is not"},
        {SET_F32("llama.rope.scaling.factor", NAN), "llama.rope.scaling.factor: nan is not"},
        {SET_F32("llama.rope.scale_linear", INFINITY), "llama.rope.scale_linear: inf is not"},
        {SET_F32("llama.rope.scaling.attn_factor", NAN), "llama.rope.scaling.attn_factor: nan"},
        {SET_F32("llama.rope.scaling.yarn_log_multiplier", -1), "yarn_log_multiplier: -1 is not"},
        {SET_F32("llama.rope.scaling.yarn_beta_fast", NAN), "yarn_beta_fast: nan is not"},
        {SET_F32("llama.rope.scaling.yarn_beta_slow", NAN), "yarn_beta_slow: nan is not"},
        {SET_U32("llama.rope.scaling.original_context_length", 0),
         "original_context_length: 0 is not"},
        {SET_U32("llama.rope.scaling.type", 3), "llama.rope.scaling.type"},
        {SET_F32("llama.attn_logit_softcapping", -1), "llama.attn_logit_softcapping: -1 is not"},
        {SET_F32("llama.final_logit_softcapping", NAN),
         "llama.final_logit_softcapping: nan is not"},
    };
    refuse_all("llama", list, COUNT(list));
}

static void test_experts_out_of_bounds(void **state)
{
    (void)state;
    static const struct refusal list[] = {
        {SET_U32("deepseek2.expert_count", 5000),
         "deepseek2.expert_count: 5000 is not within 0..1024"},
        {SET_U32("deepseek2.expert_used_count", 0),
         "deepseek2.expert_used_count: 0 is not within 1..16"},
        {SET_U32("deepseek2.expert_used_count", 17),
         "deepseek2.expert_used_count: 17 is not within 1..16"},
        {DROP("deepseek2.expert_used_count"), "deepseek2.expert_used_count: missing"},
        {SET_U32("deepseek2.expert_shared_count", 65), "deepseek2.expert_shared_count: 65 is not"},
        {SET_U32("deepseek2.expert_feed_forward_length", 0),
         "deepseek2.expert_feed_forward_length: 0 is not"},
        {SET_U32("deepseek2.leading_dense_block_count", 5),
         "leading_dense_block_count: 5 is not within 0..4"},
        {SET_U32("deepseek2.expert_group_count", 17), "deepseek2.expert_group_count: 17 is not"},
        {SET_U32("deepseek2.expert_group_count", 5),
         "expert_group_count: 5 groups (2 used) do not fit 16 experts"},
        {SET_U32("deepseek2.expert_group_count", 16),
         "expert_group_count: 16 groups (2 used) do not fit"},
        {SET_U32("deepseek2.expert_group_used_count", 0),
         "expert_group_count: 4 groups (0 used) do not fit"},
        {SET_U32("deepseek2.expert_group_used_count", 5),
         "expert_group_count: 4 groups (5 used) do not fit"},
        {SET_U32("deepseek2.expert_used_count", 9),
         "expert_group_count: 4 groups (2 used) do not fit"},
        {SET_U32("deepseek2.expert_gating_func", 4),
         "deepseek2.expert_gating_func: 4 is not within 0..3"},
        {SET_U32("deepseek2.expert_weights_norm", 1), "deepseek2.expert_weights_norm"},
        {SET_F32("deepseek2.expert_weights_scale", NAN),
         "deepseek2.expert_weights_scale: nan is not"},
        {DROP("deepseek2.feed_forward_length"), "deepseek2.feed_forward_length: missing"},
        {DROP("deepseek2.attention.kv_lora_rank"), "deepseek2.attention.kv_lora_rank: missing"},
        {SET_U32("deepseek2.attention.kv_lora_rank", 1024),
         "deepseek2.attention.kv_lora_rank: 1024"},
        {SET_U32("deepseek2.attention.key_length_mla", 8),
         "key_length_mla: 8 leaves nothing beside 8 rotated"},
        {SET_U32("deepseek2.attention.q_lora_rank", 1 << 21),
         "deepseek2.attention.q_lora_rank: 2097152"},
        {DROP("deepseek2.attention.value_length_mla"),
         "deepseek2.attention.value_length_mla: missing"},
    };
    refuse_all("deepseek2-v3", list, COUNT(list));
}

static void test_what_is_not_supported(void **state)
{
    (void)state;
    static const int32_t differ[] = {64, 64, 32};
    refuse(EDITED("llama", SET_STR("general.architecture", "mamba")), SL_UNSUPPORTED,
           "general.architecture: mamba is not supported");
    refuse(EDITED("llama", SET_STR("general.architecture", "")), SL_UNSUPPORTED,
           "general.architecture");
    refuse(EDITED("llama", SET_U32("general.architecture", 1)), SL_CORRUPT, "general.architecture");
    refuse(EDITED("llama", DROP("general.architecture")), SL_NOT_FOUND, "general.architecture");
    refuse(EDITED("llama", SET_STR("llama.rope.scaling.type", "dynamic")), SL_UNSUPPORTED,
           "llama.rope.scaling.type: dynamic is unknown");
    refuse(EDITED("llama", SET_I32S("llama.feed_forward_length", differ, 3)), SL_UNSUPPORTED,
           "llama.feed_forward_length: differs between layers");
    refuse(EDITED("llama", SET_I32S("llama.attention.head_count", differ, 0)), SL_UNSUPPORTED,
           "llama.attention.head_count");
    refuse(EDITED("qwen3", SET_U32("qwen3.expert_count", 4), SET_U32("qwen3.expert_used_count", 2)),
           SL_UNSUPPORTED, "qwen3.expert_count: 4: this architecture has no experts");
    refuse(EDITED("deepseek2-lite", DROP("deepseek2.attention.key_length_mla")), SL_UNSUPPORTED,
           "deepseek2.attention.key_length_mla: missing: an old file");
    refuse(EDITED("llama", SET_U32("llama.embedding_length", 4100)), SL_CORRUPT,
           "llama.attention.key_length: 1025 is not within 1..1024");
    refuse(EDITED("llama", SET_U32("llama.embedding_length", 4100),
                  SET_U32("llama.attention.key_length", 8)),
           SL_CORRUPT, "llama.attention.value_length: 1025 is not within 1..1024");
    refuse(EDITED("gemma3", SET_U32("gemma3.attention.sliding_window", 0x80000000)), SL_CORRUPT,
           "gemma3.attention.sliding_window: 2147483648 is not");
    refuse(EDITED("gemma3", SET_U32("gemma3.attention.sliding_window_pattern", 513)), SL_CORRUPT,
           "gemma3.attention.sliding_window_pattern: 513 is not");
    refuse(EDITED("gemma3", SET_F32("gemma3.rope.freq_base_swa", 0)), SL_CORRUPT,
           "gemma3.rope.freq_base_swa: 0 is not");
}

static const int32_t tokens[N_TOKENS] = {19, 236, 180, 244, 75, 202, 5,   255, 129, 236, 71,  76,
                                         46, 18,  0,   80,  10, 237, 158, 91,  243, 212, 196, 140};

static float *logits_of(const char *path)
{
    struct llm_logits_cfg cfg = {.n_threads = 1, .kv_type = LLM_KV_F32};
    struct sl_err err = SL_ERR_INIT;
    int32_t n_vocab;
    float *out = NULL;
    if (llm_logits(path, &cfg, tokens, N_TOKENS, &out, &n_vocab, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(n_vocab, N_VOCAB);
    return out;
}

/* Largest difference of the two models' logits; NaN counts as a large one. */
static float distance(const char *path, const float *reference)
{
    float *x = logits_of(path), most = 0;
    for (int i = 0; i < N_TOKENS * N_VOCAB; i++) {
        float d = fabsf(x[i] - reference[i]);
        most = d <= most ? most : d < 1e30f ? d : 1e30f;
    }
    sl_free(x);
    return most;
}

static const float ones[HALF_ROT] = {1, 1, 1, 1};
static const float fours[HALF_ROT] = {4, 4, 4, 4};
static const float mixed[HALF_ROT] = {1, 1.5f, 2, 8};

#define LONGROPE(n_orig, long_, short_) \
    SET_STR("llama.rope.scaling.type", "longrope"), \
        SET_U32("llama.rope.scaling.original_context_length", (n_orig)), \
        FLOATS("rope_factors_long.weight", (long_), 1, HALF_ROT), \
        FLOATS("rope_factors_short.weight", (short_), 1, HALF_ROT)

/* Dividing all frequencies by 4 is linear scaling by 4, which the other path computes. */
static void test_longrope_chooses_its_factors_by_the_context(void **state)
{
    (void)state;
    float *plain = logits_of(golden_path("llama"));
    float *linear = logits_of(EDITED("llama", SET_F32("llama.rope.scaling.factor", 4.0f)));
    assert_true(distance(golden_path("llama"), linear) > 0.01f);
    /* 24 tokens are within the original context of 64, and beyond one of 16 */
    assert_true(distance(EDITED("llama", LONGROPE(64, fours, ones)), plain) == 0);
    assert_true(distance(EDITED("llama", LONGROPE(16, ones, fours)), plain) == 0);
    assert_true(distance(EDITED("llama", LONGROPE(64, ones, fours)), linear) < 1e-4f);
    assert_true(distance(EDITED("llama", LONGROPE(16, fours, ones)), linear) < 1e-4f);
    assert_true(distance(EDITED("llama", LONGROPE(16, mixed, ones)), plain) > 0.01f);
    sl_free(plain);
    sl_free(linear);
}

/* Queries and keys both grow by the factor, so their products do by its square: as if the queries
 * had been projected so. */
static void test_longrope_multiplies_by_the_attention_factor(void **state)
{
    (void)state;
    static float wq[N_LAYERS][32 * 32];
    static const char *const names[N_LAYERS] = {"blk.0.attn_q.weight", "blk.1.attn_q.weight",
                                                "blk.2.attn_q.weight"};
    struct edit edits[N_LAYERS];
    struct gguf_file *file;
    assert_int_equal(gguf_open(golden_path("llama"), &file, NULL), SL_OK);
    for (int i = 0; i < N_LAYERS; i++) {
        memcpy(wq[i], gguf_tensor_find(file, names[i])->data, sizeof wq[i]);
        for (size_t j = 0; j < COUNT(wq[i]); j++) wq[i][j] *= 1.25f * 1.25f;
        edits[i] = (struct edit)FLOATS(names[i], wq[i], 2, 32, 32);
    }
    gguf_close(file);
    float *want = logits_of(model_edit(golden_path("llama"), edits, N_LAYERS));
    const char *path = EDITED("llama", LONGROPE(16, ones, fours),
                              SET_F32("llama.rope.scaling.attn_factor", 1.25f));
    assert_true(distance(path, want) < 1e-4f);
    assert_true(distance(golden_path("llama"), want) > 0.01f);
    sl_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_of_architectures),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_qwen2_with_yarn),
        cmocka_unit_test(test_gemma3_has_windows_with_a_base_of_their_own),
        cmocka_unit_test(test_gpt_oss),
        cmocka_unit_test(test_deepseek_v3),
        cmocka_unit_test(test_layers_for_prediction_are_left_out),
        cmocka_unit_test(test_deepseek_lite),
        cmocka_unit_test(test_what_may_be_absent),
        cmocka_unit_test(test_sizes_out_of_bounds),
        cmocka_unit_test(test_numbers_out_of_bounds),
        cmocka_unit_test(test_experts_out_of_bounds),
        cmocka_unit_test(test_what_is_not_supported),
        cmocka_unit_test(test_longrope_chooses_its_factors_by_the_context),
        cmocka_unit_test(test_longrope_multiplies_by_the_attention_factor),
    };
    return cmocka_run_group_tests(tests, model_folder_make, model_folder_remove);
}
