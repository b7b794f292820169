/* ollama_load.c: requests without a prompt, which load a model or let it go. */
#include "access/ollama_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

#define ANSWER_MAX (64u << 10)

struct load {
    struct call *call;
    struct grid_request *request; /* NULL: not yet, or no more */
    const char *model;
    bool chat;
    bool unloads;
};

static void answer(struct load *load, int64_t load_ns)
{
    struct call *call = load->call;
    struct sl_json json;
    struct sl_buf body;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    ollama_put_head(&json, load->model);
    if (load->chat) {
        sl_json_key(&json, "message");
        sl_json_object(&json);
        sl_json_kv_str(&json, "role", "assistant");
        sl_json_kv_str(&json, "content", "");
        sl_json_object_end(&json);
    } else {
        sl_json_kv_str(&json, "response", "");
    }
    sl_json_kv_bool(&json, "done", true);
    sl_json_kv_str(&json, "done_reason", load->unloads ? "unload" : "load");
    sl_json_kv_int(&json, "total_duration", sl_now_ns() - call->begin_ns);
    if (load_ns > 0) sl_json_kv_int(&json, "load_duration", load_ns);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct load *load = ctx;
    if (event->type == NODE_EVENT_DONE) {
        load->request = NULL;
        answer(load, event->load_ns);
    } else if (event->type == NODE_EVENT_FAILED) {
        load->request = NULL;
        call_fail_node(load->call, event->status, event->message, event->retry_after_ms);
    }
}

static void on_gone(struct call *call)
{
    struct load *load = call->work;
    if (load->request) grid_cancel(load->request);
    load->request = NULL;
}

static bool is_loaded(struct call *call, const char *name)
{
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    return grid_model_find(call->gateway->cfg.grid, name, &model, &err) == SL_OK &&
           grid_model_is_loaded(&model);
}

void ollama_load(struct call *call, const struct ollama_request *request, bool chat)
{
    struct load *load = sl_calloc(1, sizeof *load);
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    /* No tokens: nothing for the usage table, nor for the latencies of requests. */
    call->row.model[0] = '\0';
    call->metrics = NULL;
    if (!load) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *load = (struct load){.call = call,
                          .model = request->model,
                          .chat = chat,
                          .unloads = request->keep_alive_ns == 0};
    call->work = load;
    call->free_work = sl_free;
    call->on_gone = on_gone;
    if (load->unloads && !is_loaded(call, request->model)) {
        answer(load, 0);
        return;
    }
    if (load->unloads && grid_dispatch(call->gateway->cfg.grid)) {
        /* In a grid it is loaded where placement says, for as long as that says. */
        sl_status status = grid_stop(call->gateway->cfg.grid, request->model, &err);
        if (status == SL_OK)
            answer(load, 0);
        else
            call_fail_node(call, status, err.text, 0);
        return;
    }
    /* To unload is a request like any other that wants the model no longer kept: those of others
     * that run or wait are still served. */
    struct node_submit submit = {.task = NODE_LOAD,
                                 .model = request->model,
                                 .qos = call->qos,
                                 .tenant = call_tenant(call),
                                 .request_id = call->id,
                                 .queue_timeout_ns = call_queue_timeout_ns(call),
                                 .keep_alive_ns = request->keep_alive_ns};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_event, load, &load->request,
                                   &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}
