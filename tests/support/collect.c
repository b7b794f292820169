#include "support/collect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef STARLANE_SHARED
#define STARLANE_SHARED "../shared"
#endif
#ifndef STARLANE_SOURCE_MODELS
#define STARLANE_SOURCE_MODELS "models"
#endif
#define STEPS_MAX 1000000

static void take_text(struct answer *a, const struct engine_event *ev)
{
    assert_true(a->n_text + ev->n_text < COLLECT_TEXT_MAX);
    memcpy(a->text + a->n_text, ev->text, ev->n_text);
    a->n_text += ev->n_text;
    a->text[a->n_text] = '\0';
}

void collect_event(void *ctx, const struct engine_event *ev)
{
    struct collect *c = ctx;
    struct answer *a = &c->answers[ev->id][ev->choice];
    c->n_after_done += a->n_done > 0;
    if (ev->type == ENGINE_EVENT_PREFILL) return;
    take_text(a, ev);
    if (ev->type == ENGINE_EVENT_DONE) {
        a->n_done++;
        a->finish = ev->finish;
        a->status = ev->status;
        a->usage = *ev->usage;
        return;
    }
    if (!a->n_tokens && ev->has_logprob) a->first_logprob = ev->logprob.logprob;
    assert_true(a->n_tokens < COLLECT_TOKENS_MAX);
    a->tokens[a->n_tokens++] = ev->token;
    if (c->cancel_id == ev->id && a->n_tokens == c->cancel_after)
        assert_int_equal(engine_cancel(c->engine, ev->id), SL_OK);
}

struct engine *collect_load(struct collect *c, const char *path, struct llm_engine_cfg *cfg)
{
    struct sl_err err = SL_ERR_INIT;
    memset(c, 0, sizeof *c);
    if (!cfg->n_threads)
        cfg->n_threads = 1; /* ggml's threads wait actively: slow on a busy machine */
    cfg->on_event = collect_event;
    cfg->event_ctx = c;
    if (llm_engine_load(path, cfg, &c->engine, &err) != SL_OK) fail_msg("%s", err.text);
    return c->engine;
}

void collect_run(struct collect *c)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    for (int i = 0; !idle; i++) {
        assert_true(i < STEPS_MAX);
        if (engine_step(c->engine, &idle, &err) != SL_OK) fail_msg("%s", err.text);
    }
    assert_int_equal(c->n_after_done, 0);
}

static const char *existing(const char *dir, const char *name, char path[1024])
{
    snprintf(path, 1024, "%s/%s", dir, name);
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *model_path(const char *name)
{
    static char path[1024];
    const char *env = getenv("STARLANE_MODELS");
    return existing(env ? env : STARLANE_SOURCE_MODELS, name, path);
}

const char *shared_path(const char *name)
{
    static char path[1024];
    const char *env = getenv("STARLANE_SHARED");
    return existing(env ? env : STARLANE_SHARED, name, path);
}
