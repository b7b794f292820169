/* An answer that was cut and goes on elsewhere is the answer that was never cut: same tokens, same
 * text piece by piece, same log-probabilities, same end. On the bundled model, whose q8_0 weights
 * give the same numbers however tokens are grouped. */
#include "base/mem.h"
#include "exec/llm/sampler.h"
#include "exec/llm/tokenizer.h"
#include "support/collect.h"
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

#define N_CASES 40
#define N_CUTS 4
#define PROMPT_MAX 60
#define TOKENS_MAX 48
#define TEXT_MAX 1024
#define RUNS_MAX 64 /* by id */
#define BIASES_MAX 64
#define LOGPROB_TOLERANCE 1e-4f

struct token_event {
    int32_t token;
    size_t text_end; /* of the run's text after this event */
    float logprob, top_logprob;
    int32_t n_top, top_token;
};

struct run { /* what one request got */
    struct token_event tokens[TOKENS_MAX];
    size_t n_tokens;
    char text[TEXT_MAX];
    size_t n_text;
    int n_done;
    int32_t choice;
    enum engine_finish finish;
    struct engine_usage usage;
};

static struct run runs[RUNS_MAX];
static struct engine *engine;

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct run *r = &runs[ev->id];
    (void)ctx;
    assert_int_equal(r->n_done, 0);
    r->choice = ev->choice;
    if (ev->type == ENGINE_EVENT_PREFILL) return;
    assert_true(r->n_text + ev->n_text < TEXT_MAX);
    memcpy(r->text + r->n_text, ev->text, ev->n_text);
    r->n_text += ev->n_text;
    r->text[r->n_text] = '\0';
    if (ev->type == ENGINE_EVENT_DONE) {
        r->n_done++;
        r->finish = ev->finish;
        r->usage = *ev->usage;
        return;
    }
    assert_true(r->n_tokens < TOKENS_MAX);
    r->tokens[r->n_tokens++] =
        (struct token_event){ev->token,           r->n_text,
                             ev->logprob.logprob, ev->n_top ? ev->top[0].logprob : 0,
                             ev->n_top,           ev->n_top ? ev->top[0].token : -1};
}

static bool load(struct llm_engine_cfg cfg)
{
    const char *path = model_path("starling.gguf");
    struct sl_err err = SL_ERR_INIT;
    if (!path) return false;
    cfg.n_threads = 1;
    cfg.on_event = on_event;
    if (llm_engine_load(path, &cfg, &engine, &err) != SL_OK) fail_msg("%s", err.text);
    return true;
}

static void submit(struct engine_generate *g, uint64_t id)
{
    struct sl_err err = SL_ERR_INIT;
    g->id = id;
    runs[id] = (struct run){0};
    if (engine_submit(engine, g, &err) != SL_OK) fail_msg("%s", err.text);
}

static void run_all(void)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    while (!idle) {
        if (engine_step(engine, &idle, &err) != SL_OK) fail_msg("%s", err.text);
    }
}

struct text_case {
    int32_t prompt[PROMPT_MAX];
    struct sampler_cfg sampler;
    struct sampler_bias bias[BIASES_MAX];
    char stop[2][16];
    const char *stops[2];
    struct engine_generate generate;
};

/* Makes tokens likely that are parts of characters. */
static void add_wide_biases(struct text_case *c)
{
    const struct tokenizer *tok = llm_engine_tokenizer(engine);
    float bias = 8 + (float)prop_draw(20); /* stories have few of them */
    for (int32_t id = 0; id < tokenizer_n_vocab(tok) && c->sampler.n_bias < BIASES_MAX; id++) {
        const char *bytes;
        if (tokenizer_piece(tok, id, 0, &bytes) == 1 && (unsigned char)*bytes >= 0x80)
            c->bias[c->sampler.n_bias++] = (struct sampler_bias){id, bias};
    }
}

static void draw_sampler(struct text_case *c)
{
    struct sampler_cfg *s = &c->sampler;
    sampler_cfg_default(s);
    s->seed = prop_draw(1000);
    s->n_logprobs = (int32_t)prop_draw(4);
    if (prop_draw(4) == 0) s->temp = 0;
    if (prop_draw(3) == 0) {
        /* any token at all: halves of characters, and the end */
        s->temp = 5;
        s->top_k = 0;
        s->top_p = 1;
        s->min_p = 0;
    }
    if (prop_draw(3) == 0) s->repeat_penalty = 1.3f;
    if (prop_draw(3) == 0) s->frequency_penalty = 0.5f;
    if (prop_draw(3) == 0) s->presence_penalty = 0.5f;
    if (prop_draw(3) == 0) s->dry_multiplier = 0.8f;
    if (prop_draw(4) == 0) c->bias[s->n_bias++] = (struct sampler_bias){0, 4}; /* the end */
    if (prop_draw(3) == 0) add_wide_biases(c);
    s->bias = c->bias;
}

static void draw_case(struct text_case *c)
{
    *c = (struct text_case){0};
    size_t n = prop_draw(PROMPT_MAX - 1) + 1;
    for (size_t i = 0; i < n; i++) c->prompt[i] = (int32_t)prop_draw(4000) + 3;
    draw_sampler(c);
    c->generate = (struct engine_generate){.tokens = c->prompt,
                                           .n_tokens = n,
                                           .max_tokens = (int32_t)prop_draw(TOKENS_MAX - 1) + 1,
                                           .ignore_end = prop_draw(2) == 0,
                                           .choice_base = (int32_t)prop_draw(3),
                                           .sampler = &c->sampler};
}

/* Stop strings out of the text that comes: they begin and end within tokens. */
static void draw_stops(struct text_case *c, const struct run *r)
{
    if (r->n_text < 4) return;
    for (int i = 0; i < 2; i++) {
        size_t at = prop_draw(r->n_text - 1), n = prop_draw(sizeof c->stop[i] - 2) + 1;
        if (n > r->n_text - at) n = r->n_text - at;
        if (memchr(r->text + at, 0, n)) continue;
        memcpy(c->stop[i], r->text + at, n);
        /* a string that begins like the text and does not come: text is held back and shown */
        if (prop_draw(3) == 0) c->stop[i][n - 1] = '\x01';
        c->stops[c->generate.n_stop++] = c->stop[i];
    }
    c->generate.stop = c->stops;
}

static void check_token(const struct token_event *a, const struct token_event *b, size_t text_cut)
{
    assert_int_equal(a->token, b->token);
    assert_int_equal(a->text_end, b->text_end + text_cut);
    assert_int_equal(a->n_top, b->n_top);
    assert_int_equal(a->top_token, b->top_token);
    assert_true(isnan(a->logprob) || fabsf(a->logprob - b->logprob) < LOGPROB_TOLERANCE);
    assert_true(fabsf(a->top_logprob - b->top_logprob) < LOGPROB_TOLERANCE);
}

static void check_rest(const struct run *whole, const struct run *rest, size_t cut)
{
    size_t text_cut = cut ? whole->tokens[cut - 1].text_end : 0;
    assert_int_equal(rest->n_done, 1);
    assert_int_equal(rest->choice, whole->choice);
    assert_int_equal(rest->finish, whole->finish);
    assert_int_equal(rest->n_tokens, whole->n_tokens - cut);
    assert_int_equal(rest->n_text, whole->n_text - text_cut);
    assert_memory_equal(rest->text, whole->text + text_cut, rest->n_text);
    for (size_t i = 0; i < rest->n_tokens; i++)
        check_token(&whole->tokens[cut + i], &rest->tokens[i], text_cut);
    assert_int_equal(rest->usage.n_generated, whole->usage.n_generated);
    assert_int_equal(rest->usage.n_prompt, whole->usage.n_prompt);
}

static void check_case(struct text_case *c)
{
    size_t cuts[N_CUTS];
    int32_t resume[TOKENS_MAX];
    struct engine_generate g = c->generate;
    submit(&g, 1);
    run_all();
    const struct run *whole = &runs[1];
    for (size_t i = 0; i < whole->n_tokens; i++) resume[i] = whole->tokens[i].token;
    for (uint64_t i = 0; i < N_CUTS; i++) {
        cuts[i] = i == 0 ? whole->n_tokens : prop_draw(whole->n_tokens + 1);
        g.resume = resume;
        g.n_resume = cuts[i];
        submit(&g, 2 + i);
    }
    run_all();
    for (uint64_t i = 0; i < N_CUTS; i++) check_rest(whole, &runs[2 + i], cuts[i]);
}

static bool has_wide(const struct run *r)
{
    for (size_t i = 0; i < r->n_text; i++) {
        if ((unsigned char)r->text[i] >= 0x80) return true;
    }
    return false;
}

static void cut_and_uncut_agree(struct llm_engine_cfg cfg)
{
    static struct text_case c;
    int n_stops = 0, n_lengths = 0, n_wide = 0;
    if (!load(cfg)) skip();
    for (int i = 0; i < N_CASES; i++) {
        draw_case(&c);
        check_case(&c);
        n_wide += has_wide(&runs[1]);
        n_lengths += runs[1].finish == ENGINE_FINISH_LENGTH;
        draw_stops(&c, &runs[1]);
        if (c.generate.n_stop) check_case(&c);
        n_stops += runs[1].finish == ENGINE_FINISH_STOP;
    }
    engine_unload(engine);
    /* the cases were worth it: ends of both kinds, and characters of several bytes */
    assert_true(n_stops > 0);
    assert_true(n_lengths > 0);
    assert_true(n_wide > 0);
}

static void test_cut_answers_go_on_as_if_uncut(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 256;
    cut_and_uncut_agree(cfg);
}

static void test_also_in_small_chunks_without_a_cache_and_in_stages(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 128;
    cfg.n_batch = 7;
    cfg.n_stages = 2;
    cfg.no_prefix_cache = true;
    cut_and_uncut_agree(cfg);
}

static void test_a_full_context_ends_a_resumed_answer_too(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    int32_t prompt[20], resume[12];
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 32;
    if (!load(cfg)) skip();
    for (int32_t i = 0; i < 20; i++) prompt[i] = 100 + i;
    struct engine_generate g = {
        .tokens = prompt, .n_tokens = 20, .max_tokens = 100, .ignore_end = true};
    submit(&g, 1);
    run_all();
    assert_int_equal(runs[1].n_tokens, 12);
    for (size_t i = 0; i < 12; i++) resume[i] = runs[1].tokens[i].token;
    g.resume = resume;
    for (size_t n = 10; n <= 12; n++) {
        g.n_resume = n;
        submit(&g, 2);
        run_all();
        check_rest(&runs[1], &runs[2], n);
    }
    engine_unload(engine);
}

static void test_one_choice_of_several_is_resumed(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    struct sampler_cfg sampler;
    struct collect *c = calloc(1, sizeof *c);
    struct sl_err err = SL_ERR_INIT;
    const char *path = model_path("starling.gguf");
    assert_non_null(c);
    if (!path) skip();
    sampler_cfg_default(&sampler);
    sampler.temp = 1;
    llm_engine_cfg_default(&cfg);
    collect_load(c, path, &cfg);
    struct engine_generate g = {.id = 1,
                                .text = "The old king",
                                .n_text = 12,
                                .max_tokens = 20,
                                .n_choices = 4,
                                .ignore_end = true,
                                .sampler = &sampler};
    assert_int_equal(engine_submit(c->engine, &g, &err), SL_OK);
    collect_run(c);
    g.n_choices = 1;
    for (int32_t k = 0; k < 4; k++) {
        const struct answer *whole = &c->answers[1][k], *rest = &c->answers[2 + k][k];
        g.id = 2 + (uint64_t)k;
        g.choice_base = k;
        g.resume = whole->tokens;
        g.n_resume = 3 * (size_t)k; /* also from the beginning */
        assert_int_equal(engine_submit(c->engine, &g, &err), SL_OK);
        collect_run(c);
        assert_int_equal(rest->n_done, 1);
        assert_int_equal(rest->n_tokens, 20 - 3 * k);
        assert_memory_equal(rest->tokens, whole->tokens + 3 * k,
                            (size_t)rest->n_tokens * sizeof *rest->tokens);
        assert_string_equal(rest->text, whole->text + (whole->n_text - rest->n_text));
    }
    assert_string_not_equal(c->answers[1][0].text, c->answers[1][1].text);
    engine_unload(c->engine);
    free(c);
}

/* Nothing is emitted at submit, not even for an answer that is over. */
static void test_what_is_over_ends_in_the_next_step_or_is_cancelled(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    struct sl_err err = SL_ERR_INIT;
    int32_t prompt[] = {5, 6, 7}, resume[] = {40, 41};
    bool idle = true;
    llm_engine_cfg_default(&cfg);
    if (!load(cfg)) skip();
    struct engine_generate g = {.tokens = prompt,
                                .n_tokens = 3,
                                .max_tokens = 2,
                                .ignore_end = true,
                                .resume = resume,
                                .n_resume = 2};
    submit(&g, 1);
    assert_int_equal(runs[1].n_done, 0);
    assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_false(idle);
    assert_int_equal(runs[1].n_done, 1);
    assert_int_equal(runs[1].finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(runs[1].usage.n_generated, 2);
    submit(&g, 2);
    assert_int_equal(engine_cancel(engine, 2), SL_OK);
    assert_int_equal(runs[2].n_done, 1);
    assert_int_equal(runs[2].finish, ENGINE_FINISH_CANCELLED);
    run_all();
    engine_unload(engine);
}

static void refused(struct engine_generate g, sl_status status, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(engine_submit(engine, &g, &err), status);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void test_bad_resumes_are_refused_with_reasons(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    static int32_t resume[300];
    static const int32_t bad[] = {5, 4096};
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = 64;
    if (!load(cfg)) skip();
    struct engine_generate g = {.id = 1, .text = "a", .n_text = 1, .max_tokens = 100};
    g.resume = resume;
    g.n_resume = 101;
    refused(g, SL_INVALID, "resume: 101 tokens, max_tokens is 100");
    g.n_resume = 70;
    refused(g, SL_LIMIT, "have 72 tokens, the context holds 64");
    g.n_resume = 1;
    g.n_choices = 2;
    refused(g, SL_INVALID, "only one can be resumed");
    g.n_choices = 1;
    g.resume = bad;
    g.n_resume = 2;
    refused(g, SL_INVALID, "token 4096 is not in the vocabulary");
    g.resume = NULL;
    refused(g, SL_INVALID, "resume: no tokens");
    g.n_resume = 0;
    g.choice_base = ENGINE_CHOICES_MAX;
    refused(g, SL_INVALID, "from number 16 on");
    g.choice_base = -1;
    refused(g, SL_INVALID, "from number -1 on");
    engine_unload(engine);
}

static void test_submitting_survives_failing_allocations(void **state)
{
    (void)state;
    struct llm_engine_cfg cfg;
    static int32_t resume[] = {40, 41, 42};
    static const char *const stops[] = {"xyz"};
    sl_status status = SL_NOMEM;
    llm_engine_cfg_default(&cfg);
    if (!load(cfg)) skip();
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct sl_err err = SL_ERR_INIT;
        struct engine_generate g = {.id = 1,
                                    .text = "One day",
                                    .n_text = 7,
                                    .max_tokens = 5,
                                    .stop = stops,
                                    .n_stop = 1,
                                    .resume = resume,
                                    .n_resume = 3};
        runs[1] = (struct run){0};
        sl_mem_fail_at(nth, false);
        status = engine_submit(engine, &g, &err);
        sl_mem_fail_at(0, false);
        assert_true(nth < 100);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    run_all();
    assert_int_equal(runs[1].n_done, 1);
    engine_unload(engine);
}

static int setup(void **state)
{
    (void)state;
    prop_begin();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_answers_go_on_as_if_uncut),
        cmocka_unit_test(test_also_in_small_chunks_without_a_cache_and_in_stages),
        cmocka_unit_test(test_a_full_context_ends_a_resumed_answer_too),
        cmocka_unit_test(test_one_choice_of_several_is_resumed),
        cmocka_unit_test(test_what_is_over_ends_in_the_next_step_or_is_cancelled),
        cmocka_unit_test(test_bad_resumes_are_refused_with_reasons),
        cmocka_unit_test(test_submitting_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
