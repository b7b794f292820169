/* The engine as a whole, on the bundled model: what a request gets must not depend on what runs
 * beside it. */
#include "base/mem.h"
#include "exec/llm/sampler.h"
#include "support/collect.h"
#include "support/prop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_REQUESTS 64
#define PROMPT_MAX 200

static struct collect *alone, *together;

struct request {
    int32_t tokens[PROMPT_MAX];
    int32_t n_tokens, max_tokens;
    struct sampler_cfg sampler;
    bool cancelled;
};

static struct request requests[N_REQUESTS];

static struct engine_generate generate_of(const struct request *r, uint64_t id)
{
    return (struct engine_generate){.id = id,
                                    .tokens = r->tokens,
                                    .n_tokens = (size_t)r->n_tokens,
                                    .max_tokens = r->max_tokens,
                                    .ignore_end = true,
                                    .sampler = &r->sampler};
}

/* Random prompts, half of which begin like an earlier one; greedy and sampled. */
static void make_requests(void)
{
    for (int i = 0; i < N_REQUESTS; i++) {
        struct request *r = &requests[i];
        const struct request *other = &requests[i ? prop_draw((size_t)i) : 0];
        r->n_tokens = (int32_t)prop_draw(PROMPT_MAX - 2) + 2;
        r->max_tokens = (int32_t)prop_draw(24) + 1;
        for (int32_t t = 0; t < r->n_tokens; t++) r->tokens[t] = (int32_t)prop_draw(500) + 3;
        if (i % 2)
            memcpy(r->tokens, other->tokens,
                   (size_t)(other->n_tokens < r->n_tokens ? other->n_tokens : r->n_tokens - 1) *
                       sizeof *r->tokens);
        sampler_cfg_default(&r->sampler);
        r->sampler.seed = (uint64_t)i;
        if (i % 3 == 0) r->sampler.temp = 0;
        r->cancelled = i % 7 == 3;
    }
}

static void run_alone(const char *path)
{
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    llm_engine_cfg_default(&cfg);
    cfg.no_prefix_cache = true;
    cfg.n_seqs_max = 1;
    cfg.n_ctx = 256;
    cfg.n_threads = 1;
    collect_load(alone, path, &cfg);
    for (int i = 0; i < N_REQUESTS; i++) {
        struct engine_generate g = generate_of(&requests[i], (uint64_t)i + 1);
        assert_int_equal(engine_submit(alone->engine, &g, &err), SL_OK);
        collect_run(alone);
    }
    engine_unload(alone->engine);
}

static void submit_all(struct collect *c)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    for (int i = 0; i < N_REQUESTS; i++) {
        struct engine_generate g = generate_of(&requests[i], (uint64_t)i + 1);
        assert_int_equal(engine_submit(c->engine, &g, &err), SL_OK);
        if (prop_draw(3) == 0) assert_int_equal(engine_step(c->engine, &idle, &err), SL_OK);
        if (requests[i].cancelled) {
            for (size_t steps = prop_draw(4); steps > 0; steps--)
                assert_int_equal(engine_step(c->engine, &idle, &err), SL_OK);
            sl_status status = engine_cancel(c->engine, (uint64_t)i + 1);
            assert_true(status == SL_OK || status == SL_NOT_FOUND);
        }
    }
}

/* ggml sums one f32 row in another order than several, so that once in some ten thousand tokens a
 * close choice falls differently (docs/engine.md): with f32 weights few_differ allows for it. What
 * mixes sequences up changes far more of them; with q8_0 all must be equal. */
static void compare(bool few_differ)
{
    int n_different = 0;
    for (int i = 0; i < N_REQUESTS; i++) {
        const struct answer *a = &alone->answers[i + 1][0], *b = &together->answers[i + 1][0];
        int32_t n = b->n_tokens;
        assert_int_equal(b->n_done, 1);
        if (!requests[i].cancelled) assert_int_equal(n, requests[i].max_tokens);
        assert_true(n <= a->n_tokens);
        n_different += n && memcmp(a->tokens, b->tokens, (size_t)n * sizeof *a->tokens) != 0;
    }
    assert_in_range(n_different, 0, few_differ ? 2 : 0);
}

static void check_idle(const struct engine *engine)
{
    struct engine_stats st;
    engine_stats(engine, &st);
    assert_int_equal(st.n_running, 0);
    assert_int_equal(st.n_waiting, 0);
    assert_int_equal(st.kv_blocks_used, 0);
}

static void together_equals_alone(const char *path, struct llm_engine_cfg cfg, bool few_differ)
{
    if (!path) skip();
    make_requests();
    run_alone(path);
    collect_load(together, path, &cfg);
    submit_all(together);
    collect_run(together);
    compare(few_differ);
    check_idle(together->engine);
    engine_unload(together->engine);
}

static void test_64_sequences_get_what_they_get_alone(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 256;
    cfg.kv_bytes_max = 64 << 20;
    together_equals_alone(shared_path("data/models/stories260K-f32.gguf"), cfg, true);
}

static void test_bundled_model_under_memory_pressure(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 240; /* the pool holds little more than one sequence: preemption all the time */
    cfg.n_batch = 48;

    together_equals_alone(model_path("starling.gguf"), cfg, false);
}

static void greedy_text(const char *path, struct llm_engine_cfg cfg, char out[COLLECT_TEXT_MAX])
{
    static const char prompt[] = "Once upon a time, there was a little girl named Lily.";
    struct sampler_cfg greedy;
    struct sl_err err = SL_ERR_INIT;
    sampler_cfg_default(&greedy);
    greedy.temp = 0;
    collect_load(together, path, &cfg);
    for (uint64_t id = 1; id <= 3; id++) {
        struct engine_generate g = {.id = id,
                                    .text = prompt,
                                    .n_text = sizeof prompt - 1,
                                    .max_tokens = 60,
                                    .sampler = &greedy};
        assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    }
    collect_run(together);
    engine_unload(together->engine);
    assert_string_equal(together->answers[1][0].text, together->answers[3][0].text);
    memcpy(out, together->answers[1][0].text, COLLECT_TEXT_MAX);
}

static void test_greedy_text_is_the_same_however_it_is_computed(void **state)
{
    (void)state;
    static const struct {
        int32_t batch, threads, stages;
        enum llm_attention attention;
    } ways[] = {{512, 2, 1, LLM_ATTENTION_AUTO},
                {1, 1, 1, LLM_ATTENTION_AUTO},
                {7, 2, 2, LLM_ATTENTION_AUTO},
                {32, 1, 5, LLM_ATTENTION_AUTO},
                {512, 2, 1, LLM_ATTENTION_GGML}};
    static char first[COLLECT_TEXT_MAX], text[COLLECT_TEXT_MAX];
    const char *path = shared_path("data/models/stories260K-f32.gguf");
    if (!path) skip();
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct llm_engine_cfg cfg;
        llm_engine_cfg_default(&cfg);
        cfg.n_batch = ways[i].batch;
        cfg.n_threads = ways[i].threads;
        cfg.n_stages = ways[i].stages;
        cfg.attention = ways[i].attention;
        greedy_text(path, cfg, i ? text : first);
        if (i) assert_string_equal(first, text);
    }
    assert_non_null(strstr(first, " She "));
}

static void test_choices_share_the_prompt_and_differ_by_seed(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    struct sampler_cfg sampler;
    struct engine_stats st;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    cfg.kv_bytes_max = 64 << 20;
    collect_load(together, path, &cfg);
    sampler_cfg_default(&sampler);
    sampler.temp = 1.0f;
    sampler.seed = 40;
    struct engine_generate g = {.id = 1,
                                .text = "The old king",
                                .n_text = 12,
                                .max_tokens = 20,
                                .n_choices = 4,
                                .ignore_end = true,
                                .sampler = &sampler};
    assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    collect_run(together);
    sampler.seed = 42; /* choice 2 of the request above */
    g.id = 2;
    g.n_choices = 1;
    assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    collect_run(together);
    for (int c = 0; c < 4; c++) assert_int_equal(together->answers[1][c].n_done, 1);
    assert_string_equal(together->answers[1][2].text, together->answers[2][0].text);
    assert_string_not_equal(together->answers[1][0].text, together->answers[1][1].text);
    engine_stats(together->engine, &st);
    assert_int_equal(st.n_generated_tokens, 100);
    engine_unload(together->engine);
}

static void test_a_shared_prefix_is_computed_once(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    int32_t tokens[201];
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    cfg.kv_bytes_max = 64 << 20;
    collect_load(together, path, &cfg);
    for (int32_t i = 0; i < 200; i++) tokens[i] = 100 + i;
    /* all at once: seven must wait for the first one's prompt */
    for (uint64_t id = 1; id <= 8; id++) {
        tokens[200] = (int32_t)id;
        struct engine_generate g = {
            .id = id, .tokens = tokens, .n_tokens = 201, .max_tokens = 4, .ignore_end = true};
        assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    }
    collect_run(together);
    for (int id = 2; id <= 8; id++) assert_int_equal(together->answers[id][0].usage.n_cached, 192);
    assert_int_equal(together->answers[1][0].usage.n_cached, 0);
    engine_unload(together->engine);
}

/* On a CPU more prompts in a step would only make the first of them wait for the last. */
static void test_a_prompt_does_not_wait_for_those_behind_it(void **state)
{
    static struct collect c;
    struct llm_engine_cfg cfg;
    int32_t tokens[3][40];
    bool idle;
    const char *path = model_path("starling.gguf");
    (void)state;
    if (!path) skip();
    memset(&c, 0, sizeof c);
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = 1;
    cfg.gpu_layers = 0;
    collect_load(&c, path, &cfg);
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i < 40; i++) tokens[r][i] = 300 + 50 * r + i;
        struct engine_generate req = {.id = (uint64_t)r,
                                      .tokens = tokens[r],
                                      .n_tokens = 40,
                                      .max_tokens = 8,
                                      .ignore_end = true};
        assert_int_equal(engine_submit(c.engine, &req, NULL), SL_OK);
    }
    for (int step = 0; step < 3; step++) {
        assert_int_equal(engine_step(c.engine, &idle, NULL), SL_OK);
        for (int r = 0; r < 3; r++)
            assert_int_equal(c.answers[r][0].n_tokens, step < r ? 0 : step - r + 1);
    }
    collect_run(&c);
    for (int r = 0; r < 3; r++) assert_int_equal(c.answers[r][0].n_tokens, 8);
    engine_unload(c.engine);
}

static void test_cancel_from_an_event_ends_within_the_step(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    collect_load(together, path, &cfg);
    together->cancel_id = 1;
    together->cancel_after = 5;
    struct engine_generate g = {
        .id = 1, .text = "One day", .n_text = 7, .max_tokens = 50, .ignore_end = true};
    assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    collect_run(together);
    assert_int_equal(together->answers[1][0].n_tokens, 5);
    assert_int_equal(together->answers[1][0].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(engine_cancel(together->engine, 1), SL_NOT_FOUND);
    check_idle(together->engine);
    engine_unload(together->engine);
}

static void test_unload_ends_what_is_left(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    collect_load(together, path, &cfg);
    for (uint64_t id = 1; id <= 3; id++) {
        struct engine_generate g = {
            .id = id, .text = "One day", .n_text = 7, .max_tokens = 50, .n_choices = 2};
        assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
        assert_int_equal(engine_step(together->engine, &idle, &err), SL_OK);
    }
    engine_unload(together->engine);
    for (int id = 1; id <= 3; id++) {
        for (int c = 0; c < 2; c++) {
            assert_int_equal(together->answers[id][c].n_done, 1);
            assert_int_equal(together->answers[id][c].finish, ENGINE_FINISH_CANCELLED);
        }
    }
    assert_int_equal(together->n_after_done, 0);
}

static void refused(struct engine_generate g, sl_status status, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(engine_submit(together->engine, &g, &err), status);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_bad_requests_are_refused_with_reasons(void **state)
{
    (void)state;
    static int32_t many[300];
    static const int32_t bad[] = {5, 999999};
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 256;
    cfg.n_queue_max = 2;
    collect_load(together, path, &cfg);
    refused((struct engine_generate){.id = 1, .max_tokens = 1}, SL_INVALID,
            "either text or token ids");
    refused((struct engine_generate){.id = 1, .text = "a", .n_text = 1}, SL_INVALID, "max_tokens");
    refused((struct engine_generate){.id = 1, .tokens = many, .n_tokens = 300, .max_tokens = 1},
            SL_LIMIT, "300 tokens, the context holds 256");
    refused((struct engine_generate){.id = 1, .tokens = bad, .n_tokens = 2, .max_tokens = 1},
            SL_INVALID, "token 999999");
    refused((struct engine_generate){.id = 1, .tokens = many, .n_tokens = 0, .max_tokens = 1},
            SL_INVALID, "empty");
    refused(
        (struct engine_generate){
            .id = 1, .text = "a", .n_text = 1, .max_tokens = 1, .n_choices = 17},
        SL_INVALID, "choices");
    struct engine_generate ok = {.id = 1, .text = "a", .n_text = 1, .max_tokens = 1};
    assert_int_equal(engine_submit(together->engine, &ok, &err), SL_OK);
    refused(ok, SL_EXISTS, "in use");
    ok.id = 2;
    assert_int_equal(engine_submit(together->engine, &ok, &err), SL_OK);
    ok.id = 3;
    refused(ok, SL_BUSY, "waiting");
    collect_run(together);
    engine_unload(together->engine);
}

static void test_memory_bound_is_kept_or_refused(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine = NULL;
    struct engine_stats st;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    cfg.on_event = collect_event;
    cfg.event_ctx = together;
    cfg.n_ctx = 512;
    cfg.kv_bytes_max = 100000;
    assert_int_equal(llm_engine_load(path, &cfg, &engine, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "context of 512 tokens"));
    cfg.kv_bytes_max = 20 << 20;
    assert_int_equal(llm_engine_load(path, &cfg, &engine, &err), SL_OK);
    engine_stats(engine, &st);
    assert_true(st.kv_bytes <= cfg.kv_bytes_max);
    assert_true(st.kv_bytes > cfg.kv_bytes_max * 9 / 10);
    engine_unload(engine);
}

static void test_two_models_in_one_process(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    bool idle_a = false, idle_b = false;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    collect_load(alone, path, &cfg);
    collect_load(together, path, &cfg);
    struct engine_generate g = {.id = 1, .text = "One day", .n_text = 7, .max_tokens = 10};
    assert_int_equal(engine_submit(alone->engine, &g, &err), SL_OK);
    assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
    while (!idle_a || !idle_b) {
        assert_int_equal(engine_step(alone->engine, &idle_a, &err), SL_OK);
        assert_int_equal(engine_step(together->engine, &idle_b, &err), SL_OK);
    }
    assert_string_equal(alone->answers[1][0].text, together->answers[1][0].text);
    engine_unload(alone->engine);
    engine_unload(together->engine);
}

static void test_load_survives_failing_allocations(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    uint64_t live;
    struct llm_engine_cfg cfg;
    struct engine *engine = NULL;
    sl_status status = SL_NOMEM;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    cfg.on_event = collect_event;
    cfg.event_ctx = together;
    live = sl_mem_live();
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = llm_engine_load(path, &cfg, &engine, &err);
        sl_mem_fail_at(0, false);
        assert_true(nth < 1000);
        if (status == SL_OK) break;
        assert_true(err.text[0]);
        assert_int_equal(sl_mem_live(), live);
    }
    engine_unload(engine);
    assert_int_equal(sl_mem_live(), live);
}

/* Whatever allocation fails in a step, every choice gets its one DONE, and the engine goes on. */
static void test_steps_survive_failing_allocations(void **state)
{
    (void)state;
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg;
    int n_errors = 0;
    if (!path) skip();
    llm_engine_cfg_default(&cfg);
    collect_load(together, path, &cfg);
    for (uint64_t nth = 1; nth <= 12; nth++) {
        struct sl_err err = SL_ERR_INIT;
        struct engine_generate g = {
            .id = nth, .text = "One day", .n_text = 7, .max_tokens = 20, .n_choices = 2};
        bool idle = false;
        assert_int_equal(engine_submit(together->engine, &g, &err), SL_OK);
        sl_mem_fail_at(nth, false);
        for (int i = 0; i < 100 && !idle; i++) {
            if (engine_step(together->engine, &idle, &err) != SL_OK) break;
        }
        sl_mem_fail_at(0, false);
        for (int c = 0; c < 2; c++) {
            assert_int_equal(together->answers[nth][c].n_done, 1);
            n_errors += together->answers[nth][c].finish == ENGINE_FINISH_ERROR;
        }
        check_idle(together->engine);
    }
    assert_true(n_errors > 0);
    engine_unload(together->engine);
}

static int setup(void **state)
{
    (void)state;
    alone = calloc(1, sizeof *alone);
    together = calloc(1, sizeof *together);
    prop_begin();
    return !alone || !together;
}

static int teardown(void **state)
{
    (void)state;
    free(alone);
    free(together);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_64_sequences_get_what_they_get_alone),
        cmocka_unit_test(test_bundled_model_under_memory_pressure),
        cmocka_unit_test(test_greedy_text_is_the_same_however_it_is_computed),
        cmocka_unit_test(test_choices_share_the_prompt_and_differ_by_seed),
        cmocka_unit_test(test_a_shared_prefix_is_computed_once),
        cmocka_unit_test(test_a_prompt_does_not_wait_for_those_behind_it),
        cmocka_unit_test(test_cancel_from_an_event_ends_within_the_step),
        cmocka_unit_test(test_unload_ends_what_is_left),
        cmocka_unit_test(test_bad_requests_are_refused_with_reasons),
        cmocka_unit_test(test_memory_bound_is_kept_or_refused),
        cmocka_unit_test(test_two_models_in_one_process),
        cmocka_unit_test(test_steps_survive_failing_allocations),
        cmocka_unit_test(test_load_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
