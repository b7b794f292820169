/* chat_parser_answer.c: collects events. */
#include "access/chat_parser_answer.h"

#include "base/mem.h"

#include <stdio.h>

void chat_answer_init(struct chat_answer *answer, size_t bytes_max)
{
    *answer = (struct chat_answer){.bytes_max = bytes_max};
    sl_buf_init(&answer->content, bytes_max);
    sl_buf_init(&answer->reasoning, bytes_max);
}

void chat_answer_done(struct chat_answer *answer)
{
    for (int i = 0; i < answer->n_calls; i++) sl_buf_done(&answer->calls[i].arguments);
    sl_free(answer->calls);
    sl_buf_done(&answer->content);
    sl_buf_done(&answer->reasoning);
    answer->calls = NULL;
    answer->n_calls = 0;
}

static sl_status add_call(struct chat_answer *answer, const struct chat_event *event)
{
    size_t count = (size_t)answer->n_calls + 1;
    struct chat_answer_call *calls = sl_realloc_array(answer->calls, count, sizeof *calls);
    if (!calls) return SL_NOMEM;
    struct chat_answer_call *call = &calls[answer->n_calls++];
    answer->calls = calls;
    snprintf(call->id, sizeof call->id, "%s", event->id);
    snprintf(call->name, sizeof call->name, "%s", event->name);
    sl_buf_init(&call->arguments, answer->bytes_max);
    call->is_whole = false;
    return SL_OK;
}

sl_status chat_answer_event(void *ctx, const struct chat_event *event)
{
    struct chat_answer *answer = ctx;
    switch (event->type) {
    case CHAT_EVENT_CONTENT: return sl_buf_add(&answer->content, event->text, event->n_text);
    case CHAT_EVENT_REASONING: return sl_buf_add(&answer->reasoning, event->text, event->n_text);
    case CHAT_EVENT_CALL_BEGIN: return add_call(answer, event);
    case CHAT_EVENT_CALL_ARGUMENTS:
        return sl_buf_add(&answer->calls[event->call].arguments, event->text, event->n_text);
    case CHAT_EVENT_CALL_END: answer->calls[event->call].is_whole = event->is_whole; break;
    }
    return SL_OK;
}

sl_status chat_answer_parse(struct chat_answer *answer, const struct chat_parser_cfg *cfg,
                            const char *text, size_t n, struct sl_err *err)
{
    struct chat_parser_cfg own = *cfg;
    struct chat_parser *parser;
    own.event = chat_answer_event;
    own.ctx = answer;
    sl_status status = chat_parser_create(&own, &parser, err);
    if (status != SL_OK) return status;
    status = chat_parser_push(parser, text, n);
    if (status == SL_OK) status = chat_parser_finish(parser);
    chat_parser_destroy(parser);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "chat answer: too long, or no memory");
}
