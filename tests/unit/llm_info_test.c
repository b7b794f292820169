/* What the engine tells before and beside generating: the model's properties, its tokenizer, the
 * progress of a load, and the memory it would take. */
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/sampler.h"
#include "exec/llm/tokenizer.h"
#include "support/collect.h"
#include "support/model_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHAT_TEMPLATE "{% for m in messages %}{{ m.content }}{% endfor %}"
#define Q4_0 2 /* ggml's number */

static void on_nothing(void *ctx, const struct engine_event *ev)
{
    (void)ctx;
    (void)ev;
}

static struct llm_engine_cfg default_cfg(void)
{
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = 1;
    cfg.on_event = on_nothing;
    return cfg;
}

static struct engine *load(const char *path, struct llm_engine_cfg cfg)
{
    struct engine *engine = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (llm_engine_load(path, &cfg, &engine, &err) != SL_OK) fail_msg("%s", err.text);
    return engine;
}

/* ---- what is in the file ---- */

static void test_info_of_the_bundled_model(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = default_cfg();
    struct engine_info info;
    if (!path) skip();
    cfg.n_ctx = 128;
    cfg.n_seqs_max = 7;
    struct engine *engine = load(path, cfg);
    engine_info(engine, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.name, "starling");
    assert_null(info.chat_template);
    assert_string_equal(info.quantization, "q8_0");
    assert_true(info.adds_bos);
    assert_string_equal(info.bos_text, info.eos_text);
    assert_true(*info.bos_text);
    assert_int_equal(info.n_ctx, 128);
    assert_int_equal(info.n_ctx_model, 512);
    assert_int_equal(info.n_vocab, 4096);
    assert_int_equal(info.n_embd, 320);
    assert_int_equal(info.n_layer, 5);
    assert_int_equal(info.n_seqs_max, 7);
    assert_in_range(info.n_params, 7400000, 7600000);
    engine_unload(engine);
}

static void test_the_chat_template_is_the_file_s(void **state)
{
    (void)state;
    struct engine_info info;
    struct engine *engine = load(
        EDITED("qwen2", SET_STR("tokenizer.chat_template", CHAT_TEMPLATE), DROP("general.name")),
        default_cfg());
    engine_info(engine, &info);
    assert_string_equal(info.chat_template, CHAT_TEMPLATE);
    assert_string_equal(info.name, "");
    assert_string_equal(info.quantization, "f32");
    assert_false(info.adds_bos);
    engine_unload(engine);
}

static void refused_load(const char *path, sl_status status, const char *what)
{
    struct llm_engine_cfg cfg = default_cfg();
    struct engine *engine = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(llm_engine_load(path, &cfg, &engine, &err), status);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_hostile_templates_are_refused(void **state)
{
    (void)state;
    size_t n = (1 << 20) + 1;
    char *huge = calloc(1, n + 1);
    assert_non_null(huge);
    memset(huge, 'a', n);
    refused_load(EDITED("qwen2", SET_STR("tokenizer.chat_template", huge)), SL_LIMIT,
                 "tokenizer.chat_template");
    free(huge);
    refused_load(EDITED("qwen2", SET_STR("tokenizer.chat_template", "\xff")), SL_CORRUPT,
                 "tokenizer.chat_template");
    refused_load(EDITED("qwen2", SET_U32("tokenizer.chat_template", 1)), SL_CORRUPT,
                 "tokenizer.chat_template");
}

/* ---- the tokenizer ---- */

static void test_tokens_and_text_and_back(void **state)
{
    (void)state;
    static const char text[] = "The old king \xE2\x80\x9Cslept\xE2\x80\x9D.";
    const char *path = model_path("starling.gguf");
    struct sl_buf ids, out;
    struct sl_err err = SL_ERR_INIT;
    struct engine_info info;
    if (!path) skip();
    struct engine *engine = load(path, default_cfg());
    engine_info(engine, &info);
    sl_buf_init(&ids, 4096);
    sl_buf_init(&out, 4096);
    assert_int_equal(engine_tokenize(engine, text, sizeof text - 1, false, &ids, &err), SL_OK);
    const int32_t *t = (const int32_t *)(const void *)ids.data;
    size_t n = ids.len / sizeof *t;
    assert_true(n > 4);
    assert_int_equal(engine_detokenize(engine, t + 1, n - 1, &out, &err), SL_OK);
    assert_string_equal(out.data, text);
    sl_buf_clear(&out);
    assert_int_equal(engine_detokenize(engine, t, 1, &out, &err), SL_OK);
    assert_string_equal(out.data, info.bos_text);
    sl_buf_clear(&ids);
    assert_int_equal(
        engine_tokenize(engine, info.bos_text, strlen(info.bos_text), true, &ids, &err), SL_OK);
    assert_int_equal(ids.len, 2 * sizeof *t); /* BOS as always, and the one spelt out */
    sl_buf_done(&ids);
    sl_buf_done(&out);
    engine_unload(engine);
}

/* The first of the tokens that are a single byte of a longer character. */
static int32_t half_character(const struct tokenizer *tok)
{
    const char *bytes;
    for (int32_t id = 0; id < tokenizer_n_vocab(tok); id++) {
        if (tokenizer_piece(tok, id, 0, &bytes) == 1 && (unsigned char)*bytes >= 0xC2) return id;
    }
    fail_msg("no such token");
    return -1;
}

static void test_text_of_tokens_is_valid_or_nothing(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    if (!path) skip();
    struct engine *engine = load(path, default_cfg());
    int32_t tokens[] = {40, half_character(llm_engine_tokenizer(engine)), 4096};
    sl_buf_init(&out, 100);
    assert_int_equal(sl_buf_adds(&out, "before:"), SL_OK);
    assert_int_equal(engine_detokenize(engine, tokens, 3, &out, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "token 4096"));
    assert_string_equal(out.data, "before:");
    assert_int_equal(engine_detokenize(engine, tokens, 2, &out, &err), SL_OK);
    assert_true(sl_utf8_valid(out.data, out.len));
    assert_true(out.len > 8);
    sl_buf_done(&out);
    sl_buf_init(&out, 3);
    assert_int_equal(engine_detokenize(engine, tokens, 2, &out, &err), SL_LIMIT);
    assert_int_equal(out.len, 0);
    assert_int_equal(engine_tokenize(engine, "abc", 3, false, &out, &err), SL_LIMIT);
    sl_buf_done(&out);
    engine_unload(engine);
}

/* ---- an engine that has none of it ---- */

static void unload_nothing(void *self)
{
    (void)self;
}

static void test_engines_without_these_say_so(void **state)
{
    (void)state;
    static const struct engine_ops ops = {.name = "plain", .unload = unload_nothing};
    struct engine *engine;
    struct engine_info info;
    struct engine_embed req = {.text = "a", .n_text = 1};
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    int32_t token = 1;
    assert_int_equal(engine_create(&ops, NULL, &engine, &err), SL_OK);
    sl_buf_init(&out, 100);
    assert_int_equal(engine_submit_embed(engine, &req, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "plain"));
    assert_int_equal(engine_tokenize(engine, "a", 1, false, &out, &err), SL_UNSUPPORTED);
    assert_int_equal(engine_detokenize(engine, &token, 1, &out, &err), SL_UNSUPPORTED);
    memset(&info, 0xff, sizeof info);
    engine_info(engine, &info);
    assert_null(info.architecture);
    assert_int_equal(info.n_ctx, 0);
    engine_unload(engine);
}

/* ---- biases and bytes, as the API above passes them on ---- */

static void test_a_bias_outside_the_vocabulary_is_refused(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct sampler_bias bias = {4096, 1};
    struct sampler_cfg sampler;
    struct sl_err err = SL_ERR_INIT;
    if (!path) skip();
    struct engine *engine = load(path, default_cfg());
    sampler_cfg_default(&sampler);
    sampler.bias = &bias;
    sampler.n_bias = 1;
    struct engine_generate g = {
        .id = 1, .text = "a", .n_text = 1, .max_tokens = 1, .sampler = &sampler};
    assert_int_equal(engine_submit(engine, &g, &err), SL_INVALID);
    assert_string_equal(err.text, "a token in bias is 4096, must be within [0, 4095]");
    bias.token = -1;
    assert_int_equal(engine_submit(engine, &g, &err), SL_INVALID);
    bias.token = 4095;
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
    engine_unload(engine);
}

struct seen {
    const struct tokenizer *tok;
    int32_t wanted;
    int n_tokens, n_top;
};

static void check_bytes(const struct seen *seen, const struct engine_logprob *lp)
{
    const char *bytes;
    size_t n = tokenizer_piece(seen->tok, lp->token, DETOKENIZE_SPECIAL, &bytes);
    assert_int_equal(lp->n_bytes, n);
    assert_memory_equal(lp->bytes, bytes, n);
}

static void see(void *ctx, const struct engine_event *ev)
{
    struct seen *seen = ctx;
    if (ev->type != ENGINE_EVENT_TOKEN) return;
    assert_int_equal(ev->token, seen->wanted);
    assert_int_equal(ev->n_text, 0); /* half a character is no text yet */
    check_bytes(seen, &ev->logprob);
    assert_int_equal(ev->logprob.n_bytes, 1);
    for (int32_t i = 0; i < ev->n_top; i++) check_bytes(seen, &ev->top[i]);
    seen->n_tokens++;
    seen->n_top += ev->n_top;
}

/* OpenAI's `bytes`: what the token stands for, also where that is no character. */
static void test_logprobs_carry_the_bytes_of_half_characters(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct seen seen = {0};
    struct llm_engine_cfg cfg = default_cfg();
    struct sampler_cfg sampler;
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    if (!path) skip();
    cfg.on_event = see;
    cfg.event_ctx = &seen;
    struct engine *engine = load(path, cfg);
    seen.tok = llm_engine_tokenizer(engine);
    seen.wanted = half_character(seen.tok);
    struct sampler_bias bias = {seen.wanted, 1000};
    sampler_cfg_default(&sampler);
    sampler.bias = &bias;
    sampler.n_bias = 1;
    sampler.n_logprobs = 5;
    struct engine_generate g = {
        .id = 1, .text = "a", .n_text = 1, .max_tokens = 1, .sampler = &sampler};
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
    while (!idle) assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_int_equal(seen.n_tokens, 1);
    assert_int_equal(seen.n_top, 5);
    engine_unload(engine);
}

/* ---- loading ---- */

struct progress {
    double last;
    int n_calls;
    int stop_at; /* 0: never */
};

static bool on_load(void *ctx, double fraction)
{
    struct progress *p = ctx;
    assert_true(fraction >= p->last && fraction <= 1);
    p->last = fraction;
    return ++p->n_calls != p->stop_at;
}

/* llama's matrices as q4_0, which the CPU's plug-in may want repacked. */
static int n_quantized;
static const char *quantized(void)
{
    static struct edit edits[32];
    static char names[32][32];
    static const char *const parts[] = {"attn_q", "attn_output", "ffn_gate", "ffn_up"};
    struct llm_engine_cfg cfg = default_cfg();
    struct engine_info info;
    struct engine *engine = load(golden_path("llama"), cfg);
    size_t n = 0;
    engine_info(engine, &info);
    int32_t n_embd = info.n_embd, n_layer = info.n_layer;
    engine_unload(engine);
    for (int32_t il = 0; il < n_layer && n + 4 <= 32; il++) {
        for (int i = 0; i < 2; i++, n++) {
            snprintf(names[n], sizeof names[n], "blk.%d.%s.weight", il, parts[i]);
            edits[n] = (struct edit)ZEROS(names[n], Q4_0, 2, n_embd, n_embd);
        }
    }
    n_quantized = (int)n;
    return model_edit(golden_path("llama"), edits, n);
}

static void check_progress(const char *path, int32_t n_stages, bool is_copied)
{
    struct llm_engine_cfg cfg = default_cfg();
    struct progress p = {0};
    struct engine_stats st;
    cfg.on_load = on_load;
    cfg.load_ctx = &p;
    cfg.n_stages = n_stages;
    struct engine *engine = load(path, cfg);
    engine_stats(engine, &st);
    engine_unload(engine);
    assert_true(p.last == 1);
    assert_true(p.n_calls >= 2 * n_stages);
    /* one for each matrix that was copied */
    if (is_copied && st.weight_copied_bytes) assert_int_equal(p.n_calls, n_stages + n_quantized);
    int n_calls = p.n_calls;
    for (int at = 1; at <= n_calls; at++) {
        uint64_t live = sl_mem_live();
        struct sl_err err = SL_ERR_INIT;
        p = (struct progress){.stop_at = at};
        assert_int_equal(llm_engine_load(path, &cfg, &engine, &err), SL_CANCELLED);
        assert_int_equal(p.n_calls, at);
        assert_non_null(strstr(err.text, "cancelled"));
        assert_int_equal(sl_mem_live(), live);
    }
}

static void test_a_load_tells_how_far_it_is_and_can_be_cancelled(void **state)
{
    (void)state;
    check_progress(golden_path("qwen2"), 1, false);
    check_progress(golden_path("qwen2"), 2, false);
    check_progress(quantized(), 1, true);
    check_progress(quantized(), 2, true);
}

/* ---- the estimate ---- */

static void near(uint64_t estimate, uint64_t real, const char *what)
{
    uint64_t diff = estimate > real ? estimate - real : real - estimate;
    if (diff * 50 > real)
        fail_msg("%s: %llu estimated, %llu taken", what, (unsigned long long)estimate,
                 (unsigned long long)real);
}

static void check_estimate(const char *path, struct llm_engine_cfg cfg)
{
    struct llm_engine_estimate estimate;
    struct engine_stats st;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    if (llm_engine_estimate(path, &cfg, &estimate, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(sl_mem_live(), live);
    struct engine *engine = load(path, cfg);
    engine_stats(engine, &st);
    engine_unload(engine);
    assert_int_equal(estimate.weight_bytes, st.weight_bytes);
    assert_int_equal(estimate.weight_copied_bytes, st.weight_copied_bytes);
    near(estimate.kv_bytes, st.kv_bytes, "KV cache");
    near(estimate.compute_bytes, st.compute_bytes, "graphs");
    assert_true(estimate.compute_bytes > 0);
}

static void test_the_estimate_is_what_a_load_takes(void **state)
{
    (void)state;
    static const char *const names[] = {"llama",   "llama-ropefreqs-tied", "qwen3moe", "gemma3",
                                        "gpt-oss", "deepseek2-v3"};
    struct llm_engine_cfg cfg = default_cfg();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_estimate(golden_path(names[i]), cfg);
    check_estimate(quantized(), cfg);
    if (model_path("starling.gguf")) check_estimate(model_path("starling.gguf"), cfg);
    cfg.n_ctx = 100;
    cfg.n_batch = 33;
    cfg.n_stages = 2;
    cfg.kv_type = LLM_KV_F32;
    check_estimate(golden_path("qwen3"), cfg);
    cfg.attention = LLM_ATTENTION_GGML;
    cfg.kv_bytes_max = 8 << 20;
    check_estimate(golden_path("gemma3"), cfg);
    check_estimate(quantized(), cfg);
}

static void test_an_estimate_needs_no_memory_and_no_callbacks(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    struct llm_engine_estimate estimate;
    struct sl_err err = SL_ERR_INIT;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 1 << 22; /* more than most machines have: whether it is there is not asked */
    if (model_path("starling.gguf")) {
        assert_int_equal(llm_engine_estimate(model_path("starling.gguf"), &cfg, &estimate, &err),
                         SL_OK);
        assert_true(estimate.kv_bytes > 25000000000);
    }
    cfg.n_ctx = 1000;
    cfg.kv_bytes_max = 1000;
    assert_int_equal(llm_engine_estimate(golden_path("llama"), &cfg, &estimate, &err), SL_INVALID);
    assert_int_equal(llm_engine_estimate("/does/not/exist.gguf", &cfg, &estimate, &err),
                     SL_NOT_FOUND);
}

static void test_an_estimate_survives_failing_allocations(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg = default_cfg();
    struct llm_engine_estimate estimate;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = llm_engine_estimate(golden_path("llama"), &cfg, &estimate, &err);
        sl_mem_fail_at(0, false);
        assert_true(nth < 1000);
        assert_true(status == SL_OK || err.text[0]);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info_of_the_bundled_model),
        cmocka_unit_test(test_the_chat_template_is_the_file_s),
        cmocka_unit_test(test_hostile_templates_are_refused),
        cmocka_unit_test(test_tokens_and_text_and_back),
        cmocka_unit_test(test_text_of_tokens_is_valid_or_nothing),
        cmocka_unit_test(test_engines_without_these_say_so),
        cmocka_unit_test(test_a_bias_outside_the_vocabulary_is_refused),
        cmocka_unit_test(test_logprobs_carry_the_bytes_of_half_characters),
        cmocka_unit_test(test_a_load_tells_how_far_it_is_and_can_be_cancelled),
        cmocka_unit_test(test_the_estimate_is_what_a_load_takes),
        cmocka_unit_test(test_an_estimate_needs_no_memory_and_no_callbacks),
        cmocka_unit_test(test_an_estimate_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, model_folder_make, model_folder_remove);
}
