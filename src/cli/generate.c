#include "cli/generate.h"
#include "access/chat_parser.h"
#include "base/clock.h"
#include "cli/cli.h"

static void take_text(struct generator *g, const char *text, size_t n)
{
    sl_status status = SL_OK;
    if (!g->parser)
        answer_add_text(g->answer, text, n);
    else if (n > 0)
        status = chat_parser_push(g->parser, text, n);
    if (status != SL_OK) answer_fail(g->answer, status, NULL);
}

static sl_status on_part(void *ctx, const struct chat_event *event)
{
    struct generator *g = ctx;
    if (event->type == CHAT_EVENT_CONTENT) answer_add_text(g->answer, event->text, event->n_text);
    if (event->type == CHAT_EVENT_REASONING)
        answer_add_reasoning(g->answer, event->text, event->n_text);
    return SL_OK;
}

static void take_token(struct generator *g, int32_t token)
{
    sl_status status = sl_buf_add(&g->answer->tokens, &token, sizeof token);
    if (!g->answer->first_token_at_ns) g->answer->first_token_at_ns = sl_now_ns();
    if (status != SL_OK) answer_fail(g->answer, status, NULL);
}

static void on_event(void *ctx, const struct engine_event *event)
{
    struct generator *g = ctx;
    if (event->type == ENGINE_EVENT_TOKEN) take_token(g, event->token);
    if (event->text) take_text(g, event->text, event->n_text);
    if (event->type != ENGINE_EVENT_DONE) return;
    g->done = true;
    g->answer->finish = event->finish;
    if (event->usage) g->answer->usage = *event->usage;
    if (event->finish == ENGINE_FINISH_ERROR) answer_fail(g->answer, event->status, event->message);
    if (g->parser && chat_parser_finish(g->parser) != SL_OK) answer_fail(g->answer, SL_NOMEM, NULL);
}

sl_status generator_load(struct generator *g, const char *path, struct llm_engine_cfg *cfg,
                         struct sl_err *err)
{
    cfg->on_event = on_event;
    cfg->event_ctx = g;
    return llm_engine_load(path, cfg, &g->engine, err);
}

sl_status generator_load_template(struct generator *g, const char *source, struct sl_err *err)
{
    sl_status status = worker_prompter_init(&g->prompter, g->engine, source, err);
    if (status != SL_OK) worker_prompter_done(&g->prompter);
    return status;
}

void generator_unload(struct generator *g)
{
    worker_prompter_done(&g->prompter);
    engine_unload(g->engine);
    g->engine = NULL;
}

static bool is_stopped(const struct generator *g)
{
    return (g->stop && *g->stop) || g->answer->reader_gone || g->answer->failure.status != SL_OK;
}

static sl_status step_to_end(struct generator *g, uint64_t id, struct sl_err *err)
{
    const struct sl_err *failure = &g->answer->failure;
    while (!g->done) {
        bool idle;
        sl_status status = engine_step(g->engine, &idle, err);
        if (status != SL_OK) return status;
        if (idle && !g->done) return sl_err_set(err, SL_INTERNAL, "the engine lost the request");
        /* NOT_FOUND only says that it ended by itself meanwhile. */
        if (!g->done && is_stopped(g) && engine_cancel(g->engine, id) != SL_OK) break;
    }
    if (failure->status == SL_OK) return SL_OK;
    return sl_err_set(err, failure->status, "%s", failure->text);
}

sl_status generator_run(struct generator *g, const struct engine_generate *req,
                        struct answer *answer, struct sl_err *err)
{
    g->answer = answer;
    g->done = false;
    sl_status status = engine_submit(g->engine, req, err);
    if (status == SL_OK) status = step_to_end(g, req->id, err);
    answer_end(answer);
    return status;
}

sl_status generator_chat(struct generator *g, const struct engine_generate *req,
                         const struct sl_buf *variables, struct answer *answer, struct sl_err *err)
{
    const struct chat_traits *traits = &g->prompter.traits;
    const struct wire_prompt chat = {
        .chat = variables->data, .n_chat = variables->len, .now_s = sl_unix_time_ms() / 1000};
    struct engine_generate own = *req;
    struct worker_prompt prompt;
    sl_status status = worker_prompt_make(&g->prompter, &chat, false, &prompt, err);
    if (status != SL_OK) return status;
    own.text = prompt.text;
    own.n_text = prompt.n_text;
    own.parse_special = prompt.parse_special;
    own.show_control = traits->tools != CHAT_TOOLS_NONE || traits->thinks;
    if (own.max_tokens == 0) own.max_tokens = g->prompter.info.n_ctx;
    const struct chat_parser_cfg cfg = {.tools = traits->tools,
                                        .thinks = traits->thinks,
                                        .reasoning_open = prompt.opens_thinking,
                                        .event = on_part,
                                        .ctx = g};
    status = chat_parser_create(&cfg, &g->parser, err);
    if (status == SL_OK) status = generator_run(g, &own, answer, err);
    chat_parser_destroy(g->parser);
    g->parser = NULL;
    return status;
}
