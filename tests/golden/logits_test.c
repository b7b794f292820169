/* The logits of every reference model, however they are computed: whole, in chunks, in stages,
 * by our attention and by ggml's. The references were computed by llama.cpp in float32 (f32 KV
 * cache, no flash attention). */
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/logits.h"
#include "exec/llm/arch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#ifndef STARLANE_ROOT
#define STARLANE_ROOT "."
#endif
#define FOLDER STARLANE_ROOT "/tests/golden/llm/"
#define TOKENS_MAX 64
#define TOLERANCE 2e-3f /* absolute, on logits of order 1 */

struct golden {
    const char *name;
    char path[1024];
    int32_t tokens[TOKENS_MAX];
    int32_t n_tokens, n_vocab;
    float *logits; /* [n_tokens, n_vocab] */
};

static json_t *manifest;

static void golden_read(struct golden *g, const char *name, json_t *entry)
{
    json_t *tokens = json_object_get(entry, "tokens");
    char path[1024];
    *g = (struct golden){.name = name, .n_tokens = (int32_t)json_array_size(tokens)};
    g->n_vocab = (int32_t)json_integer_value(json_array_get(json_object_get(entry, "shape"), 1));
    assert_in_range(g->n_tokens, 1, TOKENS_MAX);
    for (int32_t i = 0; i < g->n_tokens; i++)
        g->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)i));
    snprintf(g->path, sizeof g->path, FOLDER "%s.gguf", name);
    snprintf(path, sizeof path, FOLDER "%s", json_string_value(json_object_get(entry, "logits")));
    size_t n = (size_t)g->n_tokens * (size_t)g->n_vocab;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    g->logits = malloc(n * sizeof *g->logits);
    assert_non_null(g->logits);
    assert_int_equal(fread(g->logits, sizeof *g->logits, n, f), n);
    fclose(f);
}

static float *compute(const struct golden *g, struct llm_logits_cfg cfg)
{
    struct sl_err err = SL_ERR_INIT;
    int32_t n_vocab;
    float *out = NULL;
    /* One thread unless a test asks: ggml's threads wait actively, which a busy machine makes
     * slow. */
    if (!cfg.n_threads) cfg.n_threads = 1;
    if (llm_logits(g->path, &cfg, g->tokens, g->n_tokens, &out, &n_vocab, &err) != SL_OK)
        fail_msg("%s: %s", g->name, err.text);
    assert_int_equal(n_vocab, g->n_vocab);
    return out;
}

static int32_t argmax(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    return best;
}

static void compare(const struct golden *g, const float *got, float tolerance)
{
    for (int32_t t = 0; t < g->n_tokens; t++) {
        const float *a = got + (size_t)t * (size_t)g->n_vocab,
                    *b = g->logits + (size_t)t * (size_t)g->n_vocab;
        for (int32_t v = 0; v < g->n_vocab; v++) {
            if (!(fabsf(a[v] - b[v]) <= tolerance))
                fail_msg("%s: position %d token %d: %g, reference %g", g->name, t, v, (double)a[v],
                         (double)b[v]);
        }
        assert_int_equal(argmax(a, g->n_vocab), argmax(b, g->n_vocab));
    }
}

static void each_golden(void (*check)(const struct golden *g))
{
    const char *name;
    json_t *entry;
    int n = 0;
    json_object_foreach(manifest, name, entry)
    {
        struct golden g;
        golden_read(&g, name, entry);
        check(&g);
        free(g.logits);
        n++;
    }
    assert_int_equal(n, 10);
}

static void check_with(const struct golden *g, struct llm_logits_cfg cfg, float tolerance)
{
    float *out = compute(g, cfg);
    compare(g, out, tolerance);
    sl_free(out);
}

static void check_whole(const struct golden *g)
{
    check_with(g,
               (struct llm_logits_cfg){
                   .kv_type = LLM_KV_F32, .n_threads = 2, .attention = LLM_ATTENTION_PAGED},
               TOLERANCE);
}

static void check_ggml(const struct golden *g)
{
    check_with(g, (struct llm_logits_cfg){.kv_type = LLM_KV_F32, .attention = LLM_ATTENTION_GGML},
               TOLERANCE);
}

static void check_chunks(const struct golden *g)
{
    for (int32_t chunk = 1; chunk <= 7; chunk += 3)
        check_with(g,
                   (struct llm_logits_cfg){
                       .kv_type = LLM_KV_F32, .attention = LLM_ATTENTION_PAGED, .n_chunk = chunk},
                   TOLERANCE);
}

/* Root mean square of the difference over that of the reference. */
static double relative_error(const struct golden *g, const float *got)
{
    double diff = 0, ref = 0;
    for (int32_t i = 0; i < g->n_tokens * g->n_vocab; i++) {
        double d = (double)got[i] - (double)g->logits[i];
        diff += d * d;
        ref += (double)g->logits[i] * (double)g->logits[i];
    }
    return sqrt(diff / ref);
}

static void check_rounded(const struct golden *g, enum llm_kv_type type, double bound)
{
    float *out = compute(g, (struct llm_logits_cfg){.kv_type = type});
    double error = relative_error(g, out);
    if (!(error < bound)) fail_msg("%s: relative error %g", g->name, error);
    sl_free(out);
}

/* A half has 11 bits, and random weights amplify what it rounds off. */
static void check_half_cache(const struct golden *g)
{
    check_rounded(g, LLM_KV_F16, 0.02);
}

/* The other models' heads are no multiple of 32, or their routers flip experts at this
 * precision. */
static void check_q8_cache(const struct golden *g)
{
    if (!strcmp(g->name, "qwen3") || !strcmp(g->name, "gemma3")) check_rounded(g, LLM_KV_Q8_0, 0.1);
}

static int32_t layers_of(const struct golden *g)
{
    struct gguf_file *file;
    struct llm_hparams hp;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(gguf_open(g->path, &file, &err), SL_OK);
    assert_int_equal(llm_hparams_read(file, &hp, &err), SL_OK);
    gguf_close(file);
    return hp.n_layer;
}

static void check_stages(const struct golden *g)
{
    struct llm_logits_cfg cfg = {.kv_type = LLM_KV_F32};
    float *whole = compute(g, cfg);
    int32_t n_layer = layers_of(g);
    for (cfg.n_stages = 2; cfg.n_stages <= n_layer; cfg.n_stages++) {
        float *split = compute(g, cfg);
        assert_memory_equal(whole, split, (size_t)g->n_tokens * (size_t)g->n_vocab * sizeof *whole);
        sl_free(split);
    }
    sl_free(whole);
}

static void test_whole(void **state)
{
    (void)state;
    each_golden(check_whole);
}

static void test_by_ggml_attention(void **state)
{
    (void)state;
    each_golden(check_ggml);
}

static void test_in_chunks(void **state)
{
    (void)state;
    each_golden(check_chunks);
}

static void test_with_a_half_precision_cache(void **state)
{
    (void)state;
    each_golden(check_half_cache);
}

static void test_with_a_q8_cache(void **state)
{
    (void)state;
    each_golden(check_q8_cache);
}

static void test_stages_are_bit_equal(void **state)
{
    (void)state;
    each_golden(check_stages);
}

static int setup(void **state)
{
    json_error_t error;
    (void)state;
    manifest = json_load_file(FOLDER "manifest.json", 0, &error);
    return manifest ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(manifest);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),           cmocka_unit_test(test_by_ggml_attention),
        cmocka_unit_test(test_in_chunks),       cmocka_unit_test(test_with_a_half_precision_cache),
        cmocka_unit_test(test_with_a_q8_cache), cmocka_unit_test(test_stages_are_bit_equal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
