/* tensors_test.c: which tensors a model must have, of which shape and type; every mistake is named.
 * */
#include "base/mem.h"
#include "exec/llm/logits.h"
#include "exec/llm/tensors.h"
#include "support/model_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { F32 = 0, F16 = 1, Q8_0 = 8, Q8_1 = 9, Q8_K = 15, I8 = 24, I32 = 26, F64 = 28 };

struct model {
    struct gguf_file *file;
    struct llm_hparams hp;
};

static void model_open(struct model *m, const char *path)
{
    struct sl_err err = SL_ERR_INIT;
    if (gguf_open(path, &m->file, &err) != SL_OK) fail_msg("%s", err.text);
    if (llm_hparams_read(m->file, &m->hp, &err) != SL_OK) fail_msg("%s", err.text);
}

static int found(const struct model *m, int layer, const struct llm_tensor_spec *spec)
{
    const struct gguf_tensor *t;
    struct sl_err err = SL_ERR_INIT;
    if (llm_tensor_lookup(m->file, layer, spec, &t, &err) != SL_OK) fail_msg("%s", err.text);
    assert_true(t || !spec->required);
    return t != NULL;
}

/* How many of the file's tensors the table knows. */
static int n_known(const struct model *m)
{
    struct llm_tensor_spec spec;
    int n = 0;
    for (int role = 0; role < LLM_MODEL_ROLE_COUNT; role++) {
        assert_true(llm_model_tensor(&m->hp, (enum llm_tensor_role)role, &spec));
        n += found(m, -1, &spec);
    }
    for (int il = 0; il < m->hp.n_layer; il++) {
        for (int role = 0; role < LLM_LAYER_ROLE_COUNT; role++) {
            if (llm_layer_tensor(&m->hp, il, (enum llm_layer_role)role, &spec))
                n += found(m, il, &spec);
        }
    }
    return n;
}

static void test_every_tensor_of_every_reference_is_known(void **state)
{
    (void)state;
    static const char *const names[] = {"llama",          "llama-ropefreqs-tied",
                                        "qwen2",          "qwen2-yarn",
                                        "qwen3",          "qwen3moe",
                                        "gemma3",         "gpt-oss",
                                        "deepseek2-lite", "deepseek2-v3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct model m;
        model_open(&m, golden_path(names[i]));
        assert_int_equal(n_known(&m), gguf_n_tensors(m.file));
        gguf_close(m.file);
    }
}

static void test_shapes_follow_the_hyper_parameters(void **state)
{
    (void)state;
    struct model m;
    struct llm_tensor_spec spec;
    model_open(&m, golden_path("deepseek2-v3"));
    assert_true(llm_layer_tensor(&m.hp, 1, LLM_WK_B, &spec));
    assert_string_equal(spec.suffix, "attn_k_b.weight");
    assert_int_equal(spec.n_dims, 3);
    assert_int_equal(spec.ne[0], 16);
    assert_int_equal(spec.ne[1], 32);
    assert_int_equal(spec.ne[2], 4);
    assert_true(spec.required);
    assert_false(llm_layer_tensor(&m.hp, 0, LLM_ROUTER, &spec)); /* a dense layer */
    assert_true(llm_layer_tensor(&m.hp, 1, LLM_ROUTER, &spec));
    assert_false(llm_layer_tensor(&m.hp, 1, LLM_WK, &spec)); /* keys are compressed */
    assert_false(llm_layer_tensor(&m.hp, 1, LLM_WQ, &spec)); /* queries too */
    gguf_close(m.file);
}

/* Loading is refused with this message; nothing is left behind. */
static void refuse(const char *path, sl_status status, const char *what)
{
    static const int32_t token = 1;
    struct llm_logits_cfg cfg = {.n_threads = 1};
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    int32_t n_vocab;
    float *out = NULL;
    sl_status got = llm_logits(path, &cfg, &token, 1, &out, &n_vocab, &err);
    if (got == SL_OK) fail_msg("accepted, expected \"%s\"", what);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_int_equal(got, status);
    assert_int_equal(sl_mem_live(), live);
}

static void test_missing_tensors_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *model, *tensor;
    } list[] = {
        {"llama", "token_embd.weight"},
        {"llama", "output_norm.weight"},
        {"llama", "blk.0.attn_norm.weight"},
        {"llama", "blk.2.attn_q.weight"},
        {"llama", "blk.1.ffn_down.weight"},
        {"qwen2", "blk.0.attn_k.bias"},
        {"qwen3", "blk.2.attn_q_norm.weight"},
        {"qwen3moe", "blk.1.ffn_gate_inp.weight"},
        {"qwen3moe", "blk.1.ffn_up_exps.weight"},
        {"gemma3", "blk.6.post_ffw_norm.weight"},
        {"gpt-oss", "blk.3.attn_sinks.weight"},
        {"gpt-oss", "blk.0.ffn_down_exps.bias"},
        {"gpt-oss", "blk.0.post_attention_norm.weight"},
        {"deepseek2-v3", "blk.0.attn_q_a.weight"},
        {"deepseek2-v3", "blk.1.attn_v_b.weight"},
        {"deepseek2-v3", "blk.3.ffn_up_shexp.weight"},
        {"deepseek2-lite", "blk.26.attn_kv_a_mqa.weight"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char what[128];
        struct edit drop = DROP(list[i].tensor);
        snprintf(what, sizeof what, "tensor %s: missing", list[i].tensor);
        refuse(model_edit(golden_path(list[i].model), &drop, 1), SL_CORRUPT, what);
    }
}

static void test_wrong_shapes_are_named_with_the_right_one(void **state)
{
    (void)state;
    refuse(EDITED("llama", ZEROS("blk.1.attn_q.weight", F32, 2, 32, 31)), SL_CORRUPT,
           "tensor blk.1.attn_q.weight: shape 32x31, the hyper-parameters ask for 32x32");
    refuse(EDITED("llama", ZEROS("blk.1.attn_q.weight", F32, 3, 32, 16, 2)), SL_CORRUPT,
           "shape 32x16x2, the hyper-parameters ask for 32x32");
    refuse(EDITED("llama", ZEROS("token_embd.weight", F32, 2, 32, 319)), SL_CORRUPT,
           "tensor token_embd.weight: shape 32x319, the hyper-parameters ask for 32x320");
    refuse(EDITED("llama", ZEROS("output.weight", F32, 2, 320, 32)), SL_CORRUPT,
           "tensor output.weight: shape 320x32");
    refuse(EDITED("llama", ZEROS("output_norm.weight", F32, 1, 33)), SL_CORRUPT,
           "tensor output_norm.weight: shape 33, the hyper-parameters ask for 32");
    refuse(EDITED("llama", ZEROS("blk.0.attn_q.bias", F32, 1, 16)), SL_CORRUPT,
           "tensor blk.0.attn_q.bias: shape 16, the hyper-parameters ask for 32");
    refuse(EDITED("llama-ropefreqs-tied", ZEROS("rope_freqs.weight", F32, 1, 3)), SL_CORRUPT,
           "tensor rope_freqs.weight: shape 3, the hyper-parameters ask for 4");
    refuse(EDITED("llama", ZEROS("rope_factors_long.weight", F32, 1, 8)), SL_CORRUPT,
           "tensor rope_factors_long.weight: shape 8, the hyper-parameters ask for 4");
    refuse(EDITED("gpt-oss", ZEROS("blk.0.attn_sinks.weight", F32, 1, 2)), SL_CORRUPT,
           "tensor blk.0.attn_sinks.weight: shape 2, the hyper-parameters ask for 4");
    refuse(EDITED("qwen3moe", ZEROS("blk.2.ffn_down_exps.weight", F32, 3, 48, 32, 7)), SL_CORRUPT,
           "shape 48x32x7, the hyper-parameters ask for 48x32x8");
    refuse(EDITED("llama", SET_U32("llama.block_count", 4)), SL_CORRUPT,
           "tensor blk.3.attn_norm.weight: missing");
    refuse(EDITED("llama", SET_U32("llama.attention.head_count", 2)), SL_CORRUPT,
           "tensor blk.0.attn_k.weight: shape 32x16, the hyper-parameters ask for 32x32");
}

static void test_types_that_do_not_compute_are_refused(void **state)
{
    (void)state;
    refuse(EDITED("llama", ZEROS("output_norm.weight", F16, 1, 32)), SL_UNSUPPORTED,
           "tensor output_norm.weight: type f16, must be f32");
    refuse(EDITED("llama", ZEROS("blk.0.attn_norm.weight", Q8_0, 1, 32)), SL_UNSUPPORTED,
           "tensor blk.0.attn_norm.weight: type q8_0, must be f32");
    refuse(EDITED("llama-ropefreqs-tied", ZEROS("rope_freqs.weight", F16, 1, 4)), SL_UNSUPPORTED,
           "tensor rope_freqs.weight: type f16, must be f32");
    refuse(EDITED("gpt-oss", ZEROS("blk.0.ffn_gate_exps.bias", F16, 2, 48, 4)), SL_UNSUPPORTED,
           "tensor blk.0.ffn_gate_exps.bias: type f16, must be f32");
    static const struct {
        uint32_t type;
        const char *name;
    } types[] = {{Q8_1, "q8_1"}, {I8, "i8"},       {I8 + 1, "i16"},
                 {I32, "i32"},   {I32 + 1, "i64"}, {F64, "f64"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char what[128];
        snprintf(what, sizeof what, "tensor token_embd.weight: ggml does not compute on type %s",
                 types[i].name);
        refuse(EDITED("llama", ZEROS("token_embd.weight", types[i].type, 2, 32, 320)),
               SL_UNSUPPORTED, what);
        snprintf(what, sizeof what, "tensor blk.1.ffn_up.weight: ggml does not compute on type %s",
                 types[i].name);
        refuse(EDITED("llama", ZEROS("blk.1.ffn_up.weight", types[i].type, 2, 32, 64)),
               SL_UNSUPPORTED, what);
    }
}

/* A scalar is a tensor without dimensions in the file; ggml wants one at least. */
static void test_a_tensor_without_dimensions(void **state)
{
    (void)state;
    struct model m = {.hp = {.arch = llm_arch_find("llama", 5), .n_embd = 1}};
    struct llm_tensor_spec spec;
    const struct gguf_tensor *t;
    struct sl_err err = SL_ERR_INIT;
    /* one tensor, no keys; the name; no dimensions, f32, offset 0; the data begins at 96 */
    static const _Alignas(32) unsigned char bytes[100] =
        "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\x12\0\0\0\0\0\0\0output_norm.weight";
    if (gguf_open_mem(bytes, sizeof bytes, &m.file, &err) != SL_OK) fail_msg("%s", err.text);
    llm_model_tensor(&m.hp, LLM_OUTPUT_NORM, &spec);
    assert_int_equal(spec.ne[0], 1);
    assert_int_equal(llm_tensor_lookup(m.file, -1, &spec, &t, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "tensor output_norm.weight: no dimensions"));
    gguf_close(m.file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_of_every_reference_is_known),
        cmocka_unit_test(test_shapes_follow_the_hyper_parameters),
        cmocka_unit_test(test_missing_tensors_are_named),
        cmocka_unit_test(test_wrong_shapes_are_named_with_the_right_one),
        cmocka_unit_test(test_types_that_do_not_compute_are_refused),
        cmocka_unit_test(test_a_tensor_without_dimensions),
    };
    return cmocka_run_group_tests(tests, model_folder_make, model_folder_remove);
}
