/* tokens.c: POST /tokenize and /detokenize, as vLLM and llama-server have them:
 *   /tokenize    {"model", "prompt" | "content" | "messages", "add_special_tokens"}
 *                -> {"count", "max_model_len", "tokens"}
 *   /detokenize  {"model", "tokens"} -> {"prompt", "content"} */
#include "access/openai.h"
#include "access/prompt.h"
#include "base/mem.h"
#include <string.h>

struct work {
    struct call *call;
    struct grid_request *request;
    enum node_task task;
    struct sl_buf body;
    bool has_result;
    int32_t n_ctx;
};

static void work_free(void *work)
{
    sl_buf_done(&((struct work *)work)->body);
    sl_free(work);
}

static void on_gone(struct call *call)
{
    struct work *work = call->work;
    if (work->request) grid_cancel(work->request);
    work->request = NULL;
}

static sl_status put_result(struct work *work, const struct node_event *event)
{
    struct sl_json json;
    sl_json_begin(&json, &work->body, false);
    sl_json_object(&json);
    if (work->task == NODE_DETOKENIZE) {
        sl_json_key(&json, "prompt");
        sl_json_strn(&json, event->text, event->n_text);
        sl_json_key(&json, "content");
        sl_json_strn(&json, event->text, event->n_text);
    } else {
        sl_json_kv_int(&json, "count", (int64_t)event->n_tokens);
        if (work->n_ctx) sl_json_kv_int(&json, "max_model_len", work->n_ctx);
        sl_json_key(&json, "tokens");
        sl_json_array(&json);
        for (size_t i = 0; i < event->n_tokens; i++) sl_json_int(&json, event->tokens[i]);
        sl_json_array_end(&json);
    }
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct work *work = ctx;
    struct call *call = work->call;
    struct sl_err err;
    struct node_model model;
    if (event->type == NODE_EVENT_RESULT) {
        if (grid_model_find(call->gateway->cfg.grid, call->row.model, &model, &err) == SL_OK)
            work->n_ctx = model.info ? model.info->n_ctx : 0;
        work->has_result = put_result(work, event) == SL_OK;
        return;
    }
    if (event->type != NODE_EVENT_DONE && event->type != NODE_EVENT_FAILED) return;
    work->request = NULL;
    call->row.model[0] = '\0'; /* nothing was computed: no row */
    if (event->type == NODE_EVENT_FAILED)
        call_fail_node(call, event->status, event->message, event->retry_after_ms);
    else
        call_respond_json(call, 200, &work->body, work->has_result ? SL_OK : SL_NOMEM);
}

static void start(struct call *call, struct node_submit *submit)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    if (!call_admit(call, submit->model, 0)) return;
    struct work *work = sl_calloc(1, sizeof *work);
    if (!work) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    work->call = call;
    work->task = submit->task;
    sl_buf_init(&work->body, CALL_BODY_MAX);
    call->work = work;
    call->free_work = work_free;
    call->on_gone = on_gone;
    submit->qos = call->qos;
    submit->tenant = call_tenant(call);
    submit->request_id = call->id;
    submit->keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
    submit->queue_timeout_ns = call_queue_timeout_ns(call);
    sl_status status = grid_submit(call->gateway->cfg.grid, submit, on_event, work, &work->request,
                                   &retry_after_ms, &err);
    if (status == SL_OK) return;
    call->row.model[0] = '\0';
    call_fail_node(call, status, err.text, retry_after_ms);
}

/* {"messages":[...],"add_generation_prompt":true} for the chat template. */
static sl_status write_chat(struct call *call, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_bool(&json, "add_generation_prompt",
                    sl_json_to_bool(sl_json_get(call->body, "add_generation_prompt"), true));
    sl_json_key(&json, "messages");
    sl_json_put(&json, sl_json_get(call->body, "messages"));
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

void tokens_tokenize(struct call *call)
{
    struct node_submit submit = {.task = NODE_TOKENIZE, .parse_special = true};
    struct sl_buf chat;
    if (!call_read_json(call)) return;
    submit.model = call_need_str(call, "model");
    if (!submit.model) return;
    const struct sl_json_value *text = sl_json_get(call->body, "prompt");
    if (sl_json_is(text, SL_JSON_NULL)) text = sl_json_get(call->body, "content");
    submit.text = sl_json_to_str(text, NULL, &submit.n_text);
    submit.no_bos = !sl_json_to_bool(sl_json_get(call->body, "add_special_tokens"), true);
    sl_buf_init(&chat, CALL_BODY_MAX);
    if (!submit.text && sl_json_size(sl_json_get(call->body, "messages")) &&
        write_chat(call, &chat) == SL_OK) {
        submit.prompt = NODE_PROMPT_CHAT;
        submit.text = chat.data;
        submit.n_text = chat.len;
    }
    if (submit.text)
        start(call, &submit);
    else
        call_fail(call, SL_INVALID, "prompt", NULL, "prompt, content or messages is needed");
    sl_buf_done(&chat);
}

void tokens_detokenize(struct call *call)
{
    struct node_submit submit = {.task = NODE_DETOKENIZE};
    if (!call_read_json(call)) return;
    submit.model = call_need_str(call, "model");
    if (!submit.model) return;
    sl_status status = prompt_read_tokens(http_exchange_arena(call->x),
                                          sl_json_get(call->body, "tokens"), &submit);
    if (status == SL_OK)
        start(call, &submit);
    else
        call_fail(call, status, "tokens", NULL,
                  status == SL_NOMEM ? "no memory for this request"
                                     : "tokens: a list of token ids is needed");
}
