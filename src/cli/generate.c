#include "cli/generate.h"
#include "base/clock.h"
#include "cli/cli.h"

static void fail(struct generator *g, sl_status status, const char *what)
{
    if (g->failure.status == SL_OK)
        (void)sl_err_set(&g->failure, status, "%s", what ? what : sl_status_text(status));
}

static void take_text(struct generator *g, const char *text, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    if (g->failure.status != SL_OK || g->answer->reader_gone || n == 0) return;
    sl_status status = sl_buf_add(&g->answer->text, text, n);
    if (status != SL_OK) {
        fail(g, status, "the answer's text: over its limit, or out of memory");
        return;
    }
    if (g->stream) status = cli_write(text, n, &err);
    if (status == SL_CANCELLED)
        g->answer->reader_gone = true;
    else if (status != SL_OK)
        fail(g, status, err.text);
}

static void take_token(struct generator *g, int32_t token)
{
    sl_status status = sl_buf_add(&g->answer->tokens, &token, sizeof token);
    if (!g->answer->first_token_at_ns) g->answer->first_token_at_ns = sl_now_ns();
    if (status != SL_OK) fail(g, status, NULL);
}

static void on_event(void *ctx, const struct engine_event *event)
{
    struct generator *g = ctx;
    if (event->type == ENGINE_EVENT_TOKEN) take_token(g, event->token);
    if (event->type != ENGINE_EVENT_PREFILL) take_text(g, event->text, event->n_text);
    if (event->type != ENGINE_EVENT_DONE) return;
    g->done = true;
    g->answer->finish = event->finish;
    if (event->usage) g->answer->usage = *event->usage;
    if (event->finish == ENGINE_FINISH_ERROR) fail(g, event->status, event->message);
}

sl_status generator_load(struct generator *g, const char *path, struct llm_engine_cfg *cfg,
                         struct sl_err *err)
{
    cfg->on_event = on_event;
    cfg->event_ctx = g;
    return llm_engine_load(path, cfg, &g->engine, err);
}

void generator_unload(struct generator *g)
{
    engine_unload(g->engine);
    g->engine = NULL;
}

static bool is_stopped(const struct generator *g)
{
    return (g->stop && *g->stop) || g->answer->reader_gone || g->failure.status != SL_OK;
}

static sl_status step_to_end(struct generator *g, uint64_t id, struct sl_err *err)
{
    while (!g->done) {
        bool idle;
        sl_status status = engine_step(g->engine, &idle, err);
        if (status != SL_OK) return status;
        if (idle && !g->done) return sl_err_set(err, SL_INTERNAL, "the engine lost the request");
        /* NOT_FOUND only says that it ended by itself meanwhile. */
        if (!g->done && is_stopped(g) && engine_cancel(g->engine, id) != SL_OK) break;
    }
    if (g->failure.status == SL_OK) return SL_OK;
    return sl_err_set(err, g->failure.status, "%s", g->failure.text);
}

sl_status generator_run(struct generator *g, const struct engine_generate *req,
                        struct answer *answer, struct sl_err *err)
{
    *answer = (struct answer){0};
    sl_buf_init(&answer->text, ANSWER_BYTES_MAX);
    sl_buf_init(&answer->tokens, ANSWER_BYTES_MAX);
    g->answer = answer;
    g->failure = (struct sl_err)SL_ERR_INIT;
    g->done = false;
    sl_status status = engine_submit(g->engine, req, err);
    return status == SL_OK ? step_to_end(g, req->id, err) : status;
}

void answer_done(struct answer *answer)
{
    sl_buf_done(&answer->text);
    sl_buf_done(&answer->tokens);
}
