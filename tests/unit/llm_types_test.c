/* llm_types_test.c: every tensor type that ggml quantises to and multiplies by gives, within its
 * rounding of the activations, what its weights give as floats; every other type is refused by
 * name. */
#include "base/mem.h"
#include "base/rng.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"
#include "exec/llm/logits.h"
#include "support/model_edit.h"

#include <ggml.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_EMBD 256 /* one block of the largest kind */
#define N_FF 256
#define N_HEAD 4
#define N_HEAD_KV 2
#define N_LAYERS 1
#define N_VOCAB 300
#define N_EXPERTS 8
#define N_TOKENS 12
#define ELEMENTS_MAX (N_EXPERTS * N_FF * N_EMBD)
#define COUNT(array) (sizeof(array) / sizeof *(array))

struct variant {
    enum ggml_type type; /* of the matrices; of the experts alone when there are some */
    bool moe, tied;
};

struct shape {
    char name[64];
    int n_dims;
    int64_t ne[3];
};

static struct shape shapes[64];
static int n_shapes;
static float weights[ELEMENTS_MAX], ones[N_FF];
static unsigned char quantised[ELEMENTS_MAX * sizeof(float)];

static void add(int layer, const char *suffix, int64_t ne0, int64_t ne1, int64_t ne2)
{
    struct shape *s = &shapes[n_shapes++];
    assert_true(n_shapes <= (int)COUNT(shapes));
    *s = (struct shape){.n_dims = ne2 ? 3 : ne1 ? 2 : 1, .ne = {ne0, ne1 ? ne1 : 1, ne2 ? ne2 : 1}};
    if (layer < 0)
        snprintf(s->name, sizeof s->name, "%s", suffix);
    else
        snprintf(s->name, sizeof s->name, "blk.%d.%s", layer, suffix);
}

static void add_layer(int il, bool moe)
{
    int64_t head = N_EMBD / N_HEAD;
    add(il, "attn_norm.weight", N_EMBD, 0, 0);
    add(il, "attn_q.weight", N_EMBD, N_EMBD, 0);
    add(il, "attn_k.weight", N_EMBD, head * N_HEAD_KV, 0);
    add(il, "attn_v.weight", N_EMBD, head * N_HEAD_KV, 0);
    add(il, "attn_output.weight", N_EMBD, N_EMBD, 0);
    add(il, "ffn_norm.weight", N_EMBD, 0, 0);
    if (moe) {
        add(il, "attn_q_norm.weight", head, 0, 0);
        add(il, "attn_k_norm.weight", head, 0, 0);
        add(il, "ffn_gate_inp.weight", N_EMBD, N_EXPERTS, 0);
    }
    add(il, moe ? "ffn_gate_exps.weight" : "ffn_gate.weight", N_EMBD, N_FF, moe ? N_EXPERTS : 0);
    add(il, moe ? "ffn_up_exps.weight" : "ffn_up.weight", N_EMBD, N_FF, moe ? N_EXPERTS : 0);
    add(il, moe ? "ffn_down_exps.weight" : "ffn_down.weight", N_FF, N_EMBD, moe ? N_EXPERTS : 0);
}

static void list_shapes(const struct variant *v)
{
    n_shapes = 0;
    add(-1, "token_embd.weight", N_EMBD, N_VOCAB, 0);
    add(-1, "output_norm.weight", N_EMBD, 0, 0);
    if (!v->tied) add(-1, "output.weight", N_EMBD, N_VOCAB, 0);
    for (int il = 0; il < N_LAYERS; il++) add_layer(il, v->moe);
}

/* With experts only these are quantised: the router must see the same numbers in both models, for
 * another expert is no rounding error. */
static bool is_quantised(const struct variant *v, const struct shape *s)
{
    return v->moe ? s->n_dims == 3 : s->n_dims == 2;
}

static void put_u32(struct gguf_writer *w, const char *arch, const char *key, uint32_t v)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    assert_int_equal(gguf_write_u32(w, full, v), SL_OK);
}

static void put_keys(struct gguf_writer *w, const struct variant *v)
{
    const char *arch = v->moe ? "qwen3moe" : "llama";
    char eps[128];
    snprintf(eps, sizeof eps, "%s.attention.layer_norm_rms_epsilon", arch);
    assert_int_equal(gguf_write_str(w, "general.architecture", arch), SL_OK);
    assert_int_equal(gguf_write_u32(w, "general.alignment", 8), SL_OK); /* the least there may be */
    assert_int_equal(gguf_write_f32(w, eps, 1e-5f), SL_OK);
    put_u32(w, arch, "block_count", N_LAYERS);
    put_u32(w, arch, "context_length", 64);
    put_u32(w, arch, "embedding_length", N_EMBD);
    put_u32(w, arch, "feed_forward_length", N_FF);
    put_u32(w, arch, "attention.head_count", N_HEAD);
    put_u32(w, arch, "attention.head_count_kv", N_HEAD_KV);
    put_u32(w, arch, "vocab_size", N_VOCAB);
    if (!v->moe) return;
    put_u32(w, arch, "expert_count", N_EXPERTS);
    put_u32(w, arch, "expert_used_count", 2);
}

/* Uniform numbers of about the variance that trained weights have; norms near 1. */
static void draw_weights(const struct shape *s, int at)
{
    int64_t n = s->ne[0] * s->ne[1] * s->ne[2];
    for (int64_t i = 0; i < n; i++) {
        float u = (float)(sl_rng_u64(7, (uint64_t)at, (uint64_t)i) >> 40) / (1 << 24) - 0.5f;
        weights[i] = s->n_dims == 1 ? 1 + u / 4 : u * 3 / sqrtf((float)s->ne[0]);
    }
}

/* Types whose quantisation searches for seconds. But any bits are weights of theirs, given a sane
 * scale per block. */
static const struct raw_type {
    enum ggml_type type;
    uint16_t scale; /* a half */
} raw_types[] = {{GGML_TYPE_IQ1_S, 0x1e25},
                 {GGML_TYPE_IQ1_M, 0x1e25},
                 {GGML_TYPE_IQ2_XXS, 0x1418},
                 {GGML_TYPE_IQ2_XS, 0x1418},
                 {GGML_TYPE_IQ2_S, 0x1418}};

static void set_scale(unsigned char *block, enum ggml_type type, uint16_t scale)
{
    if (type != GGML_TYPE_IQ1_M) {
        memcpy(block, &scale, sizeof scale);
        return;
    }
    for (int i = 0; i < 4; i++) { /* its nibbles top the four words at the end */
        unsigned char *high = block + 49 + 2 * i;
        *high = (unsigned char)((*high & 0x0f) | ((scale >> (4 * i)) & 0x0f) << 4);
    }
}

static size_t draw_blocks(const struct raw_type *raw, int64_t n, int at)
{
    size_t block_bytes = ggml_type_size(raw->type), n_bytes = ggml_row_size(raw->type, n);
    for (size_t i = 0; i < n_bytes; i++)
        quantised[i] = (unsigned char)sl_rng_u64(8, (uint64_t)at, i);
    for (size_t i = 0; i < n_bytes; i += block_bytes)
        set_scale(quantised + i, raw->type, raw->scale);
    return n_bytes;
}

/* Fills `quantised`; returns its bytes. */
static size_t quantise(enum ggml_type type, const struct shape *s, int at)
{
    int64_t n_rows = s->ne[1] * s->ne[2];
    for (size_t i = 0; i < COUNT(raw_types); i++) {
        if (raw_types[i].type == type) return draw_blocks(&raw_types[i], n_rows * s->ne[0], at);
    }
    return ggml_quantize_chunk(type, weights, quantised, 0, n_rows, s->ne[0], ones);
}

struct
    pair { /* the same model twice: quantised, and what quantising made of its weights as floats */
    struct gguf_writer *quantised, *floats;
};

static void put_tensor(const struct pair *w, const struct variant *v, int at)
{
    const struct shape *s = &shapes[at];
    int64_t n_rows = s->ne[1] * s->ne[2], n = n_rows * s->ne[0];
    size_t n_float_bytes = (size_t)n * sizeof *weights, n_bytes = n_float_bytes;
    const void *bytes = weights;
    draw_weights(s, at);
    if (is_quantised(v, s)) {
        n_bytes = quantise(v->type, s, at);
        bytes = quantised;
        assert_int_equal(n_bytes, (size_t)n_rows * ggml_row_size(v->type, s->ne[0]));
    }
    assert_int_equal(gguf_write_data(w->quantised, bytes, n_bytes, NULL), SL_OK);
    if (bytes == quantised && v->type == GGML_TYPE_F32)
        memcpy(weights, quantised, n_float_bytes);
    else if (bytes == quantised)
        ggml_get_type_traits(v->type)->to_float(quantised, weights, n);
    assert_int_equal(gguf_write_data(w->floats, weights, n_float_bytes, NULL), SL_OK);
}

static void begin(struct gguf_writer **w, const char *name, const struct variant *v, bool floats)
{
    struct sl_err err = SL_ERR_INIT;
    if (gguf_writer_create(folder_path(name), w, &err) != SL_OK) fail_msg("%s", err.text);
    put_keys(*w, v);
    for (int i = 0; i < n_shapes; i++) {
        enum ggml_type type = !floats && is_quantised(v, &shapes[i]) ? v->type : GGML_TYPE_F32;
        assert_int_equal(
            gguf_write_tensor(*w, shapes[i].name, type, shapes[i].n_dims, shapes[i].ne), SL_OK);
    }
    assert_int_equal(gguf_write_begin_data(*w, &err), SL_OK);
}

static void end(struct gguf_writer *w)
{
    struct sl_err err = SL_ERR_INIT;
    if (gguf_write_finish(w, &err) != SL_OK) fail_msg("%s", err.text);
    gguf_writer_destroy(w);
}

static void write_pair(const struct variant *v)
{
    struct pair w;
    list_shapes(v);
    begin(&w.quantised, "quantised.gguf", v, false);
    begin(&w.floats, "floats.gguf", v, true);
    for (int i = 0; i < n_shapes; i++) put_tensor(&w, v, i);
    end(w.quantised);
    end(w.floats);
}

static sl_status logits_of(const char *path, float **out, struct sl_err *err)
{
    static const int32_t tokens[N_TOKENS] = {1, 299, 0, 17, 17, 250, 4, 99, 180, 3, 2, 77};
    struct llm_logits_cfg cfg = {.n_threads = 2, .kv_type = LLM_KV_F32};
    int32_t n_vocab;
    return llm_logits(path, &cfg, tokens, N_TOKENS, out, &n_vocab, err);
}

/* Root mean square of the difference over that of the floats' logits. */
static double relative_error(const struct variant *v)
{
    struct sl_err err = SL_ERR_INIT;
    float *got = NULL, *want = NULL;
    double diff = 0, ref = 0;
    write_pair(v);
    if (logits_of(folder_path("quantised.gguf"), &got, &err) != SL_OK) fail_msg("%s", err.text);
    if (logits_of(folder_path("floats.gguf"), &want, &err) != SL_OK) fail_msg("%s", err.text);
    for (int i = 0; i < N_TOKENS * N_VOCAB; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        ref += (double)want[i] * (double)want[i];
    }
    sl_free(got);
    sl_free(want);
    assert_true(ref > 0);
    return sqrt(diff / ref);
}

/* Activations are rounded to floats, halves (11 bits), bfloat16 (8) or blocks of 8-bit integers. */
struct bound {
    enum ggml_type type;
    double most;
};

static void check_bounds(const struct bound *list, size_t n, struct variant v)
{
    for (size_t i = 0; i < n; i++) {
        v.type = list[i].type;
        double error = relative_error(&v);
        if (!(error <= list[i].most))
            fail_msg("%s: relative error %g, at most %g", ggml_type_name(v.type), error,
                     list[i].most);
    }
}

static const struct bound bounds[] = {
    {GGML_TYPE_F32, 0},        {GGML_TYPE_F16, 2e-3},    {GGML_TYPE_BF16, 2e-2},
    {GGML_TYPE_Q4_0, 0.03},    {GGML_TYPE_Q4_1, 0.03},   {GGML_TYPE_Q5_0, 0.03},
    {GGML_TYPE_Q5_1, 0.03},    {GGML_TYPE_Q8_0, 0.03},   {GGML_TYPE_Q2_K, 0.03},
    {GGML_TYPE_Q3_K, 0.03},    {GGML_TYPE_Q4_K, 0.03},   {GGML_TYPE_Q5_K, 0.03},
    {GGML_TYPE_Q6_K, 0.03},    {GGML_TYPE_IQ1_S, 0.03},  {GGML_TYPE_IQ1_M, 0.03},
    {GGML_TYPE_IQ2_XXS, 0.03}, {GGML_TYPE_IQ2_XS, 0.03}, {GGML_TYPE_IQ2_S, 0.03},
    {GGML_TYPE_IQ3_XXS, 0.03}, {GGML_TYPE_IQ3_S, 0.03},  {GGML_TYPE_IQ4_NL, 0.03},
    {GGML_TYPE_IQ4_XS, 0.03},  {GGML_TYPE_TQ1_0, 0.03},  {GGML_TYPE_TQ2_0, 0.03},
    {GGML_TYPE_MXFP4, 0.03},   {GGML_TYPE_NVFP4, 0.03},  {GGML_TYPE_Q1_0, 0.03},
    {GGML_TYPE_Q2_0, 0.03},
};
static const enum ggml_type refused[] = {GGML_TYPE_Q8_1, GGML_TYPE_Q8_K, GGML_TYPE_I8,
                                         GGML_TYPE_I16,  GGML_TYPE_I32,  GGML_TYPE_I64,
                                         GGML_TYPE_F64};

static void test_every_type_computes(void **state)
{
    (void)state;
    check_bounds(bounds, COUNT(bounds), (struct variant){0});
}

static void test_tied_embeddings(void **state)
{
    (void)state;
    static const struct bound list[] = {
        {GGML_TYPE_Q4_0, 0.03}, {GGML_TYPE_Q6_K, 0.03}, {GGML_TYPE_IQ4_NL, 0.03}};
    check_bounds(list, COUNT(list), (struct variant){.tied = true});
}

static void test_experts(void **state)
{
    (void)state;
    static const struct bound list[] = {{GGML_TYPE_F16, 2e-3},  {GGML_TYPE_Q8_0, 0.03},
                                        {GGML_TYPE_Q4_0, 0.03}, {GGML_TYPE_IQ4_NL, 0.03},
                                        {GGML_TYPE_Q4_K, 0.03}, {GGML_TYPE_Q2_K, 0.03},
                                        {GGML_TYPE_MXFP4, 0.03}};
    check_bounds(list, COUNT(list), (struct variant){.moe = true});
}

static void test_no_type_is_forgotten(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < 256; t++) {
        int64_t elements;
        size_t bytes;
        int n = 0;
        for (size_t i = 0; i < COUNT(bounds); i++) n += bounds[i].type == t;
        for (size_t i = 0; i < COUNT(refused); i++) n += refused[i] == t;
        assert_int_equal(n, gguf_type_traits(t, &elements, &bytes));
        if (!n) continue;
        assert_int_equal(elements, ggml_blck_size((enum ggml_type)t));
        assert_int_equal(bytes, ggml_type_size((enum ggml_type)t));
    }
}

static void test_other_types_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"token_embd.weight", "output.weight",
                                        "blk.0.ffn_down.weight"};
    static const int64_t ne[][2] = {{N_EMBD, N_VOCAB}, {N_EMBD, N_VOCAB}, {N_FF, N_EMBD}};
    char what[128];
    write_pair(&(struct variant){0});
    for (size_t i = 0; i < COUNT(refused); i++) {
        for (size_t j = 0; j < COUNT(names); j++) {
            const struct edit edit = ZEROS(names[j], refused[i], 2, ne[j][0], ne[j][1]);
            struct sl_err err = SL_ERR_INIT;
            float *out;
            snprintf(what, sizeof what, "tensor %s: ggml does not compute on type %s", names[j],
                     ggml_type_name(refused[i]));
            assert_int_equal(
                logits_of(model_edit(folder_path("floats.gguf"), &edit, 1), &out, &err),
                SL_UNSUPPORTED);
            if (!strstr(err.text, what)) fail_msg("\"%s\" is not \"%s\"", err.text, what);
        }
    }
}

static int setup(void **state)
{
    for (int i = 0; i < N_FF; i++) ones[i] = 1;
    return model_folder_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_type_is_forgotten),    cmocka_unit_test(test_every_type_computes),
        cmocka_unit_test(test_tied_embeddings),         cmocka_unit_test(test_experts),
        cmocka_unit_test(test_other_types_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, model_folder_remove);
}
