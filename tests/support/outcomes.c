#include "support/outcomes.h"
#include "exec/llm/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct outcomes *all = ctx;
    struct outcome *o = &all->v[ev->id][ev->choice];
    assert_int_equal(o->n_done, 0);
    if (ev->type == ENGINE_EVENT_EMBEDDING)
        memcpy(o->vector, ev->embedding, (size_t)ev->n_embd * sizeof *o->vector);
    if (ev->type == ENGINE_EVENT_TOKEN || ev->type == ENGINE_EVENT_DONE) {
        assert_true(o->n_text + ev->n_text < sizeof o->text);
        memcpy(o->text + o->n_text, ev->text, ev->n_text);
        o->n_text += ev->n_text;
    }
    if (ev->type == ENGINE_EVENT_TOKEN) {
        assert_in_range(o->n_tokens, 0, OUTCOME_TOKENS_MAX - 1);
        o->tokens[o->n_tokens++] = ev->token;
        if (ev->has_logprob) o->logprobs += (double)ev->logprob.logprob;
        for (int32_t i = 0; i < ev->n_top; i++)
            o->logprobs += (double)ev->top[i].logprob * (double)(ev->top[i].token + 1);
        if (all->cancel_id == ev->id && o->n_tokens == 2)
            assert_int_equal(engine_cancel(all->engine, ev->id), SL_OK);
    }
    if (ev->type != ENGINE_EVENT_DONE) return;
    o->n_done++;
    o->finish = ev->finish;
    o->status = ev->status;
    o->n_cached = ev->usage->n_cached;
}

struct llm_engine_cfg outcomes_cfg(struct outcomes *all)
{
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    memset(all, 0, sizeof *all);
    cfg.n_ctx = 256;
    cfg.n_threads = 1;
    cfg.n_seqs_max = 16;
    cfg.on_event = on_event;
    cfg.event_ctx = all;
    return cfg;
}

/* A text that is the same for the same seed, of tokens that every vocabulary here has. */
static void fill_prompt(int32_t *out, int32_t n, uint32_t seed)
{
    for (int32_t i = 0; i < n; i++)
        out[i] = 3 + (int32_t)((seed * 7919u + (uint32_t)i * 31u) % 300);
}

void outcomes_submit(struct engine *engine, const struct plain *p, struct engine_generate req,
                     struct sampler_cfg sampler)
{
    int32_t prompt[OUTCOME_PROMPT_MAX];
    struct sl_err err = SL_ERR_INIT;
    fill_prompt(prompt, p->n_prompt, p->prompt_seed);
    sampler.temp = p->temp;
    sampler.seed = p->id;
    req.id = p->id;
    req.tokens = prompt;
    req.n_tokens = (size_t)p->n_prompt;
    req.max_tokens = p->max_tokens;
    req.ignore_end = !req.stop;
    req.sampler = &sampler;
    if (engine_submit(engine, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

void outcomes_submit_plain(struct engine *engine, const struct plain *p)
{
    struct sampler_cfg sampler;
    sampler_cfg_default(&sampler);
    outcomes_submit(engine, p, (struct engine_generate){0}, sampler);
}

void outcomes_submit_embed(struct engine *engine, uint64_t id, int32_t n,
                           enum engine_pooling pooling)
{
    int32_t prompt[OUTCOME_PROMPT_MAX];
    struct sl_err err = SL_ERR_INIT;
    fill_prompt(prompt, n, (uint32_t)id);
    const struct engine_embed req = {
        .id = id, .tokens = prompt, .n_tokens = (size_t)n, .pooling = pooling};
    if (engine_submit_embed(engine, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

void outcomes_compare(const struct outcomes *wanted, const struct outcomes *got)
{
    for (int i = 0; i < OUTCOME_IDS_MAX; i++) {
        for (int c = 0; c < OUTCOME_CHOICES_MAX; c++) {
            const struct outcome *a = &wanted->v[i][c], *b = &got->v[i][c];
            assert_int_equal(a->n_done, b->n_done);
            assert_int_equal(a->finish, b->finish);
            assert_int_equal(b->status, SL_OK);
            assert_int_equal(a->n_tokens, b->n_tokens);
            assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
            assert_string_equal(a->text, b->text);
            assert_memory_equal(a->vector, b->vector, sizeof a->vector);
            assert_true(a->logprobs == b->logprobs);
        }
    }
}

void outcomes_check_empty(struct engine *engine)
{
    struct engine_stats stats;
    engine_stats(engine, &stats);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.kv_blocks_used, 0);
}

struct llm_hparams outcomes_hparams(const char *path)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file;
    struct llm_hparams hp;
    assert_int_equal(gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(llm_hparams_read(file, &hp, &err), SL_OK);
    gguf_close(file);
    return hp;
}
