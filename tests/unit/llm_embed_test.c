/* Embeddings: the right numbers, whatever runs beside them. */
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/sampler.h"
#include "support/collect.h"
#include "support/model_edit.h"
#include "support/prop.h"

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

#define EMBD_MAX 512
#define IDS_MAX 64
#define ALONE_ID 63
#define TOKENS_MAX 320
#define N_GOLDEN_TOKENS 24
#define N_GOLDEN_VOCAB 320

struct result {
    float vector[EMBD_MAX];
    int32_t n_embd, n_vectors, n_done, n_tokens;
    int32_t tokens[64]; /* of a generation */
    enum engine_finish finish;
    struct engine_usage usage;
};

static struct result results[IDS_MAX];
static struct engine *engine;
static uint64_t
    cancel_at_vector; /* of a request that is cancelled from its vector's event; 0: none */

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct result *r = &results[ev->id];
    (void)ctx;
    assert_int_equal(r->n_done, 0);
    switch (ev->type) {
    case ENGINE_EVENT_PREFILL: return;
    case ENGINE_EVENT_TOKEN: r->tokens[r->n_tokens++] = ev->token; return;
    case ENGINE_EVENT_EMBEDDING:
        assert_in_range(ev->n_embd, 1, EMBD_MAX);
        memcpy(r->vector, ev->embedding, (size_t)ev->n_embd * sizeof *r->vector);
        r->n_embd = ev->n_embd;
        r->n_vectors++;
        if (cancel_at_vector == ev->id) assert_int_equal(engine_cancel(engine, ev->id), SL_OK);
        return;
    case ENGINE_EVENT_TENSORS: fail_msg("tensors of a language model"); return;
    case ENGINE_EVENT_DONE:
        r->n_done++;
        r->finish = ev->finish;
        r->usage = *ev->usage;
    }
}

static void load(const char *path, struct llm_engine_cfg cfg)
{
    struct sl_err err = SL_ERR_INIT;
    cfg.n_threads = 1;
    cfg.on_event = on_event;
    memset(results, 0, sizeof results);
    if (llm_engine_load(path, &cfg, &engine, &err) != SL_OK) fail_msg("%s", err.text);
}

static bool load_starling(int32_t n_ctx, int32_t n_batch)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    if (!path) return false;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = n_ctx;
    cfg.n_batch = n_batch;
    load(path, cfg);
    return true;
}

static void submit(uint64_t id, const int32_t *tokens, size_t n, enum engine_pooling pooling)
{
    struct sl_err err = SL_ERR_INIT;
    struct engine_embed req = {.id = id, .tokens = tokens, .n_tokens = n, .pooling = pooling};
    results[id] = (struct result){0};
    if (engine_submit_embed(engine, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

static void run_all(void)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    while (!idle) {
        if (engine_step(engine, &idle, &err) != SL_OK) fail_msg("%s", err.text);
    }
}

static const struct result *embed(const int32_t *tokens, size_t n, enum engine_pooling pooling)
{
    submit(ALONE_ID, tokens, n, pooling);
    run_all();
    assert_int_equal(results[ALONE_ID].n_vectors, 1);
    assert_int_equal(results[ALONE_ID].n_done, 1);
    assert_int_equal(results[ALONE_ID].finish, ENGINE_FINISH_STOP);
    return &results[ALONE_ID];
}

static void near(const float *a, const float *b, int32_t n, double tolerance)
{
    for (int32_t i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance))
            fail_msg("[%d]: %g and %g", i, (double)a[i], (double)b[i]);
    }
}

static double length(const float *v, int32_t n)
{
    double squares = 0;
    for (int32_t i = 0; i < n; i++) squares += (double)v[i] * (double)v[i];
    return sqrt(squares);
}

/* ---- against llama.cpp's logits ---- */

struct golden {
    int32_t tokens[N_GOLDEN_TOKENS];
    float logits[N_GOLDEN_TOKENS][N_GOLDEN_VOCAB];
    const float *head; /* [n_vocab, n_embd] of the file */
    int32_t n_embd;
    double hidden[N_GOLDEN_TOKENS][EMBD_MAX];
};

static struct gguf_file *golden_read(struct golden *g, const char *name, json_t *entry)
{
    struct gguf_file *file;
    struct sl_err err = SL_ERR_INIT;
    char path[1024];
    json_t *tokens = json_object_get(entry, "tokens");
    assert_int_equal(json_array_size(tokens), N_GOLDEN_TOKENS);
    for (size_t i = 0; i < N_GOLDEN_TOKENS; i++)
        g->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    snprintf(path, sizeof path, "%s", golden_path(name));
    assert_int_equal(gguf_open(path, &file, &err), SL_OK);
    snprintf(strrchr(path, '.'), 5, ".f32");
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(g->logits, sizeof g->logits, 1, f), 1);
    fclose(f);
    const struct gguf_tensor *head = gguf_tensor_find(file, "output.weight");
    if (!head) head = gguf_tensor_find(file, "token_embd.weight");
    assert_int_equal(head->type, 0); /* f32 */
    g->head = head->data;
    g->n_embd = (int32_t)head->ne[0];
    assert_int_equal(head->ne[1], N_GOLDEN_VOCAB);
    return file;
}

/* Solves a [n, n] times x = b, symmetric and positive, by Cholesky's decomposition in place. */
static void solve(double a[][EMBD_MAX], double *b, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j <= i; j++) {
            double sum = a[i][j];
            for (int32_t k = 0; k < j; k++) sum -= a[i][k] * a[j][k];
            if (i == j) assert_true(sum > 0);
            a[i][j] = i == j ? sqrt(sum) : sum / a[j][j];
        }
        for (int32_t k = 0; k < i; k++) b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (int32_t i = n - 1; i >= 0; i--) {
        for (int32_t k = i + 1; k < n; k++) b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
}

/* logits = head * hidden has ten equations for each unknown: least squares give back the hidden
 * states that llama.cpp had, though it wrote down logits only. */
static void solve_hidden(struct golden *g)
{
    static double normal[EMBD_MAX][EMBD_MAX];
    for (int32_t t = 0; t < N_GOLDEN_TOKENS; t++) {
        for (int32_t i = 0; i < g->n_embd; i++) {
            const float *column = g->head + i;
            double sum = 0;
            for (int32_t v = 0; v < N_GOLDEN_VOCAB; v++)
                sum += (double)column[v * g->n_embd] * (double)g->logits[t][v];
            g->hidden[t][i] = sum;
            for (int32_t j = 0; j <= i; j++) {
                normal[i][j] = 0;
                for (int32_t v = 0; v < N_GOLDEN_VOCAB; v++)
                    normal[i][j] +=
                        (double)column[v * g->n_embd] * (double)g->head[v * g->n_embd + j];
            }
        }
        solve(normal, g->hidden[t], g->n_embd);
    }
}

static void check_against(const struct golden *g, enum engine_pooling pooling, int32_t from,
                          int32_t to)
{
    float want[EMBD_MAX];
    struct sl_err err = SL_ERR_INIT;
    struct engine_embed req = {.id = 1,
                               .tokens = g->tokens,
                               .n_tokens = N_GOLDEN_TOKENS,
                               .pooling = pooling,
                               .no_normalize = true};
    for (int32_t i = 0; i < g->n_embd; i++) {
        double sum = 0;
        for (int32_t t = from; t < to; t++) sum += g->hidden[t][i];
        want[i] = (float)(sum / (to - from));
    }
    results[1] = (struct result){0};
    assert_int_equal(engine_submit_embed(engine, &req, &err), SL_OK);
    run_all();
    assert_int_equal(results[1].n_embd, g->n_embd);
    near(results[1].vector, want, g->n_embd, 2e-3);
}

static void test_hidden_states_are_those_of_llama_cpp(void **state)
{
    (void)state;
    static struct golden g;
    const char *name;
    json_t *entry, *manifest;
    json_error_t error;
    char path[1024];
    snprintf(path, sizeof path, "%s", golden_path("manifest"));
    snprintf(strrchr(path, '.'), 6, ".json");
    manifest = json_load_file(path, 0, &error);
    assert_non_null(manifest);
    json_object_foreach(manifest, name, entry)
    {
        struct llm_engine_cfg cfg;
        struct gguf_file *file = golden_read(&g, name, entry);
        llm_engine_cfg_default(&cfg);
        cfg.kv_type = LLM_KV_F32;
        cfg.n_ctx = 64;
        cfg.n_batch = 10; /* in chunks */
        load(golden_path(name), cfg);
        solve_hidden(&g);
        check_against(&g, ENGINE_POOLING_MEAN, 0, N_GOLDEN_TOKENS);
        check_against(&g, ENGINE_POOLING_CLS, 0, 1);
        check_against(&g, ENGINE_POOLING_LAST, N_GOLDEN_TOKENS - 1, N_GOLDEN_TOKENS);
        engine_unload(engine);
        gguf_close(file);
    }
    json_decref(manifest);
}

/* ---- what the kinds mean ---- */

static void draw_tokens(int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) tokens[i] = (int32_t)prop_draw(4000) + 3;
}

/* Attention looks back only: the last state of a beginning is that token's state in the whole. */
static void test_mean_is_the_mean_of_the_states_of_all_beginnings(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    int32_t tokens[20];
    double sum[EMBD_MAX] = {0};
    float mean[EMBD_MAX];
    if (!load_starling(64, 8)) skip();
    draw_tokens(tokens, 20);
    struct engine_embed req = {.id = 1, .tokens = tokens, .no_normalize = true};
    for (req.n_tokens = 1; req.n_tokens <= 20; req.n_tokens++) {
        req.pooling = ENGINE_POOLING_LAST;
        results[1] = (struct result){0};
        assert_int_equal(engine_submit_embed(engine, &req, &err), SL_OK);
        run_all();
        for (int32_t i = 0; i < results[1].n_embd; i++) sum[i] += (double)results[1].vector[i];
    }
    req.n_tokens = 20;
    req.pooling = ENGINE_POOLING_MEAN;
    results[1] = (struct result){0};
    assert_int_equal(engine_submit_embed(engine, &req, &err), SL_OK);
    run_all();
    for (int32_t i = 0; i < results[1].n_embd; i++) mean[i] = (float)(sum[i] / 20);
    near(results[1].vector, mean, results[1].n_embd, 1e-4);
    assert_true(fabs(length(mean, results[1].n_embd) - 1) > 1e-3); /* not normalised by itself */
    engine_unload(engine);
}

static void test_vectors_have_length_one_and_equal_texts_equal_vectors(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    static const char text[] = "The old king had three daughters.";
    double cosine = 0, other = 0;
    if (!load_starling(64, 64)) skip();
    for (uint64_t id = 1; id <= 3; id++) {
        struct engine_embed req = {
            .id = id, .text = text, .n_text = id == 3 ? 12 : sizeof text - 1};
        assert_int_equal(engine_submit_embed(engine, &req, &err), SL_OK);
    }
    run_all();
    for (int32_t i = 0; i < 320; i++) {
        cosine += (double)results[1].vector[i] * (double)results[2].vector[i];
        other += (double)results[1].vector[i] * (double)results[3].vector[i];
    }
    assert_int_equal(results[1].n_embd, 320);
    assert_true(fabs(length(results[1].vector, 320) - 1) < 1e-5);
    assert_true(fabs(cosine - 1) < 1e-5);
    assert_true(other < 0.999);
    assert_true(results[1].usage.n_prompt > results[3].usage.n_prompt);
    assert_int_equal(results[1].usage.n_generated, 0);
    engine_unload(engine);
}

static void check_model_pooling(uint32_t type, enum engine_pooling same_as)
{
    static const int32_t tokens[] = {19, 236, 180, 244, 75};
    struct llm_engine_cfg cfg;
    float vector[EMBD_MAX];
    llm_engine_cfg_default(&cfg);
    load(EDITED("qwen2", SET_U32("qwen2.pooling_type", type)), cfg);
    const struct result *r = embed(tokens, 5, ENGINE_POOLING_MODEL);
    memcpy(vector, r->vector, sizeof vector);
    near(embed(tokens, 5, same_as)->vector, vector, r->n_embd, 1e-6);
    engine_unload(engine);
}

static void test_the_model_says_how_it_pools(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    struct engine_embed req = {.id = 1, .text = "a", .n_text = 1};
    check_model_pooling(0, ENGINE_POOLING_MEAN);
    check_model_pooling(1, ENGINE_POOLING_MEAN);
    check_model_pooling(2, ENGINE_POOLING_CLS);
    check_model_pooling(3, ENGINE_POOLING_LAST);
    llm_engine_cfg_default(&cfg);
    load(EDITED("qwen2", SET_U32("qwen2.pooling_type", 4)), cfg);
    assert_int_equal(engine_submit_embed(engine, &req, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "qwen2.pooling_type"));
    engine_unload(engine);
}

static void test_attention_in_both_directions_is_refused(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    struct engine *none = NULL;
    llm_engine_cfg_default(&cfg);
    cfg.on_event = on_event;
    assert_int_equal(
        llm_engine_load(EDITED("qwen2", SET_BOOL("qwen2.attention.causal", 0)), &cfg, &none, &err),
        SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "attention.causal"));
}

/* ---- whatever runs beside ---- */

#define N_TEXTS 24

struct text {
    int32_t tokens[TOKENS_MAX];
    size_t n_tokens;
    enum engine_pooling pooling;
    float vector[EMBD_MAX];
};
static struct text texts[N_TEXTS];

static void draw_texts(void)
{
    for (size_t i = 0; i < N_TEXTS; i++) {
        texts[i].n_tokens = prop_draw(150) + 1;
        draw_tokens(texts[i].tokens, texts[i].n_tokens);
        /* begins like another: prefixes are there to be found */
        if (i % 2) memcpy(texts[i].tokens, texts[i - 1].tokens, 64 * sizeof *texts[i].tokens);
        texts[i].pooling = (enum engine_pooling)(ENGINE_POOLING_MEAN + i % 3);
    }
}

static void embed_alone(void)
{
    for (size_t i = 0; i < N_TEXTS; i++) {
        const struct result *r = embed(texts[i].tokens, texts[i].n_tokens, texts[i].pooling);
        memcpy(texts[i].vector, r->vector, sizeof texts[i].vector);
    }
}

static void generate(uint64_t id, int32_t n_tokens)
{
    struct sampler_cfg greedy;
    struct sl_err err = SL_ERR_INIT;
    sampler_cfg_default(&greedy);
    greedy.temp = 0;
    struct engine_generate g = {.id = id,
                                .text = "Once upon a time",
                                .n_text = 16,
                                .max_tokens = n_tokens,
                                .ignore_end = true,
                                .sampler = &greedy};
    results[id] = (struct result){0};
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
}

static void check_together(void)
{
    bool idle;
    struct sl_err err = SL_ERR_INIT;
    for (uint64_t i = 0; i < N_TEXTS; i++) {
        if (i % 6 == 0) generate(40 + i / 6, 40);
        submit(1 + i, texts[i].tokens, texts[i].n_tokens, texts[i].pooling);
        if (prop_draw(2)) assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    }
    run_all();
    for (size_t i = 0; i < N_TEXTS; i++) {
        assert_int_equal(results[1 + i].n_vectors, 1);
        assert_int_equal(results[1 + i].n_done, 1);
        near(results[1 + i].vector, texts[i].vector, results[1 + i].n_embd, 1e-5);
    }
    generate(50, 40);
    run_all();
    for (uint64_t id = 40; id < 44; id++) {
        assert_int_equal(results[id].n_tokens, 40);
        assert_memory_equal(results[id].tokens, results[50].tokens, 40 * sizeof(int32_t));
    }
}

static void check_ways(struct llm_engine_cfg cfg)
{
    struct engine_stats st;
    load(model_path("starling.gguf"), cfg);
    check_together();
    engine_stats(engine, &st);
    assert_int_equal(st.n_running + st.n_waiting, 0);
    assert_int_equal(st.kv_blocks_used, 0);
    engine_unload(engine);
}

static void test_vectors_do_not_depend_on_what_runs_beside(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    draw_texts();
    if (!load_starling(160, 512)) skip();
    embed_alone();
    engine_unload(engine);
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 160;
    cfg.kv_bytes_max = 64 << 20;
    check_ways(cfg);
    cfg.n_batch = 17;
    cfg.n_stages = 3;
    check_ways(cfg);
    cfg.n_stages = 1;
    cfg.kv_bytes_max = 0; /* the pool holds little more than one sequence: preemption */
    check_ways(cfg);
}

static void test_all_tokens_of_a_step_may_be_wanted(void **state)
{
    (void)state;
    int32_t tokens[16];
    float vector[EMBD_MAX];
    if (!load_starling(64, 16)) skip();
    draw_tokens(tokens, 16);
    memcpy(vector, embed(tokens, 16, ENGINE_POOLING_MEAN)->vector, sizeof vector);
    engine_unload(engine);
    if (!load_starling(64, 1)) skip();
    near(embed(tokens, 16, ENGINE_POOLING_MEAN)->vector, vector, 320, 1e-5);
    engine_unload(engine);
}

/* A batch whose every row is wanted, the logits' last in the batch and first in the results. */
static void test_logits_may_stand_behind_hidden_states(void **state)
{
    (void)state;
    static const int32_t bos[] = {0};
    int32_t tokens[5];
    float vector[EMBD_MAX];
    struct sl_err err = SL_ERR_INIT;
    struct engine_generate g = {
        .id = 2, .tokens = bos, .n_tokens = 1, .max_tokens = 8, .ignore_end = true};
    if (!load_starling(64, 16)) skip();
    draw_tokens(tokens, 5);
    memcpy(vector, embed(tokens, 5, ENGINE_POOLING_MEAN)->vector, sizeof vector);
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
    run_all();
    const struct result alone = results[2];
    results[2] = (struct result){0};
    submit(1, tokens, 5, ENGINE_POOLING_MEAN);
    assert_int_equal(engine_submit(engine, &g, &err), SL_OK);
    run_all();
    near(results[1].vector, vector, 320, 1e-5);
    assert_int_equal(results[2].n_tokens, 8);
    assert_memory_equal(results[2].tokens, alone.tokens, 8 * sizeof *alone.tokens);
    engine_unload(engine);
}

/* A generation grows into the blocks of an embedding that is half computed: that starts anew. */
static void test_an_embedding_survives_preemption(void **state)
{
    (void)state;
    int32_t tokens[150];
    float vector[EMBD_MAX];
    struct engine_stats st;
    if (!load_starling(160, 512)) skip();
    draw_tokens(tokens, 150);
    memcpy(vector, embed(tokens, 150, ENGINE_POOLING_MEAN)->vector, sizeof vector);
    engine_unload(engine);
    if (!load_starling(160, 4)) skip();
    generate(1, 60);
    submit(2, tokens, 150, ENGINE_POOLING_MEAN);
    run_all();
    engine_stats(engine, &st);
    assert_true(st.n_preemptions > 0);
    assert_int_equal(results[1].n_tokens, 60);
    assert_int_equal(results[2].n_vectors, 1);
    near(results[2].vector, vector, 320, 1e-5);
    engine_unload(engine);
}

static void test_a_cached_prefix_serves_the_last_state_only(void **state)
{
    (void)state;
    int32_t tokens[40];
    if (!load_starling(64, 64)) skip();
    draw_tokens(tokens, 40);
    assert_int_equal(embed(tokens, 40, ENGINE_POOLING_MEAN)->usage.n_cached, 0);
    assert_int_equal(embed(tokens, 40, ENGINE_POOLING_LAST)->usage.n_cached, 32);
    assert_int_equal(embed(tokens, 40, ENGINE_POOLING_MEAN)->usage.n_cached, 0);
    assert_int_equal(embed(tokens, 40, ENGINE_POOLING_CLS)->usage.n_cached, 0);
    engine_unload(engine);
}

/* ---- refusals and ends ---- */

static void refused(struct engine_embed req, sl_status status, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(engine_submit_embed(engine, &req, &err), status);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_bad_requests_are_refused_with_reasons(void **state)
{
    (void)state;
    static int32_t many[65];
    static const int32_t bad[] = {5, -1};
    if (!load_starling(64, 16)) skip();
    refused((struct engine_embed){.id = 1}, SL_INVALID, "either text or token ids");
    refused((struct engine_embed){.id = 1, .text = "a", .n_text = 1, .tokens = many, .n_tokens = 1},
            SL_INVALID, "either text or token ids");
    refused((struct engine_embed){.id = 1, .text = ""}, SL_INVALID, "empty");
    refused((struct engine_embed){.id = 1, .tokens = many}, SL_INVALID, "empty");
    refused((struct engine_embed){.id = 1, .tokens = bad, .n_tokens = 2}, SL_INVALID, "token -1");
    refused((struct engine_embed){.id = 1, .tokens = many, .n_tokens = 65}, SL_LIMIT,
            "65 tokens, the context holds 64");
    refused(
        (struct engine_embed){.id = 1, .text = "a", .n_text = 1, .pooling = (enum engine_pooling)9},
        SL_INVALID, "pooling: 9");
    submit(1, many, 64, ENGINE_POOLING_MEAN); /* a full context is fine */
    refused((struct engine_embed){.id = 1, .text = "a", .n_text = 1}, SL_EXISTS, "in use");
    run_all();
    assert_int_equal(results[1].n_vectors, 1);
    engine_unload(engine);
}

static void test_cancel_and_unload_end_without_a_vector(void **state)
{
    (void)state;
    static int32_t tokens[60];
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    if (!load_starling(64, 16)) skip();
    for (uint64_t id = 1; id <= 3; id++) submit(id, tokens, 60, ENGINE_POOLING_MEAN);
    assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_int_equal(engine_cancel(engine, 1), SL_OK);
    engine_unload(engine);
    for (int id = 1; id <= 3; id++) {
        assert_int_equal(results[id].n_done, 1);
        assert_int_equal(results[id].n_vectors, 0);
        assert_int_equal(results[id].finish, ENGINE_FINISH_CANCELLED);
    }
}

static void test_cancel_from_the_vector_s_event(void **state)
{
    (void)state;
    static const int32_t tokens[] = {7, 8, 9};
    if (!load_starling(64, 16)) skip();
    cancel_at_vector = 1;
    submit(1, tokens, 3, ENGINE_POOLING_MEAN);
    run_all();
    cancel_at_vector = 0;
    assert_int_equal(results[1].n_vectors, 1);
    assert_int_equal(results[1].n_done, 1);
    assert_int_equal(results[1].finish, ENGINE_FINISH_CANCELLED);
    engine_unload(engine);
}

static void test_numbers_that_are_not_finite_are_an_error(void **state)
{
    (void)state;
    static float norm[32];
    static const int32_t tokens[] = {7, 8, 9};
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    for (int i = 0; i < 32; i++) norm[i] = NAN;
    load(EDITED("gemma3", FLOATS("output_norm.weight", norm, 1, 32)), cfg);
    submit(1, tokens, 3, ENGINE_POOLING_MEAN);
    run_all();
    assert_int_equal(results[1].n_vectors, 0);
    assert_int_equal(results[1].finish, ENGINE_FINISH_ERROR);
    engine_unload(engine);
}

static void test_submitting_survives_failing_allocations(void **state)
{
    (void)state;
    sl_status status = SL_NOMEM;
    if (!load_starling(64, 16)) skip();
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct sl_err err = SL_ERR_INIT;
        struct engine_embed req = {.id = 1, .text = "One day", .n_text = 7};
        sl_mem_fail_at(nth, false);
        status = engine_submit_embed(engine, &req, &err);
        sl_mem_fail_at(0, false);
        assert_true(nth < 100);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    run_all();
    assert_int_equal(results[1].n_vectors, 1);
    engine_unload(engine);
}

static int setup(void **state)
{
    prop_begin();
    return model_folder_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hidden_states_are_those_of_llama_cpp),
        cmocka_unit_test(test_mean_is_the_mean_of_the_states_of_all_beginnings),
        cmocka_unit_test(test_vectors_have_length_one_and_equal_texts_equal_vectors),
        cmocka_unit_test(test_the_model_says_how_it_pools),
        cmocka_unit_test(test_attention_in_both_directions_is_refused),
        cmocka_unit_test(test_vectors_do_not_depend_on_what_runs_beside),
        cmocka_unit_test(test_all_tokens_of_a_step_may_be_wanted),
        cmocka_unit_test(test_logits_may_stand_behind_hidden_states),
        cmocka_unit_test(test_an_embedding_survives_preemption),
        cmocka_unit_test(test_a_cached_prefix_serves_the_last_state_only),
        cmocka_unit_test(test_bad_requests_are_refused_with_reasons),
        cmocka_unit_test(test_cancel_and_unload_end_without_a_vector),
        cmocka_unit_test(test_cancel_from_the_vector_s_event),
        cmocka_unit_test(test_numbers_that_are_not_finite_are_an_error),
        cmocka_unit_test(test_submitting_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, model_folder_remove);
}
