#include "access/openai.h"
#include <string.h>

static bool is_bool_or_null(const struct sl_json_value *value)
{
    return sl_json_is(value, SL_JSON_NULL) || sl_json_is(value, SL_JSON_BOOL);
}

static bool read_stream(struct call *call, struct openai_request *out)
{
    const struct sl_json_value *stream = sl_json_get(call->body, "stream");
    const struct sl_json_value *options = sl_json_get(call->body, "stream_options");
    const struct sl_json_value *usage = sl_json_get(options, "include_usage");
    if (!is_bool_or_null(stream)) {
        call_fail(call, SL_INVALID, "stream", NULL, "stream: true or false is needed here");
        return false;
    }
    if ((!sl_json_is(options, SL_JSON_NULL) && !sl_json_is(options, SL_JSON_OBJECT)) ||
        !is_bool_or_null(usage)) {
        call_fail(call, SL_INVALID, "stream_options", NULL,
                  "stream_options: {\"include_usage\": true or false} is needed here");
        return false;
    }
    out->stream = sl_json_to_bool(stream, false);
    out->stream_usage = sl_json_to_bool(usage, false);
    return true;
}

/* What would change the answer and cannot be done is refused, not passed over. */
static bool refuse_unsupported(struct call *call)
{
    const struct sl_json_value *format = sl_json_get(call->body, "response_format");
    const char *type = sl_json_to_str(sl_json_get(format, "type"), "", NULL);
    if (!sl_json_is(format, SL_JSON_NULL) && strcmp(type, "text") != 0) {
        call_fail(call, SL_INVALID, "response_format", "unsupported_parameter",
                  "response_format: only {\"type\":\"text\"} is supported yet");
        return true;
    }
    return false;
}

bool openai_read(struct call *call, struct openai_request *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena *arena = http_exchange_arena(call->x);
    struct node_model model;
    const char *param = NULL;
    if (!call_read_json(call)) return false;
    call->qos = call_class(call);
    out->model = call_need_str(call, "model");
    if (!out->model || refuse_unsupported(call) || !read_stream(call, out)) return false;
    if (!call_find_model(call, out->model, &model)) return false;
    sampling_init(&out->sampling, model.parameters, arena);
    sl_status status = sampling_read_openai(&out->sampling, call->body, arena, &param, &err);
    if (status != SL_OK) {
        call_fail_err(call, &err, param);
        return false;
    }
    return call_admit(call, out->model, call_tokens_guess(call));
}

void openai_put_head(struct sl_json *json, const struct generation *g, const char *id_prefix,
                     const char *object)
{
    char id[CALL_ID_MAX + 16];
    (void)stpcpy(stpcpy(id, id_prefix), g->call->id + strlen("req_"));
    sl_json_kv_str(json, "id", id);
    sl_json_kv_str(json, "object", object);
    sl_json_kv_int(json, "created", g->created_s);
    sl_json_kv_str(json, "model", g->request.model);
}

void openai_put_usage(struct sl_json *json, const struct generation *g)
{
    sl_json_key(json, "usage");
    sl_json_object(json);
    sl_json_kv_int(json, "prompt_tokens", g->total.n_prompt);
    sl_json_kv_int(json, "completion_tokens", g->total.n_generated);
    sl_json_kv_int(json, "total_tokens", (int64_t)g->total.n_prompt + g->total.n_generated);
    sl_json_key(json, "prompt_tokens_details");
    sl_json_object(json);
    sl_json_kv_int(json, "cached_tokens", g->total.n_cached);
    sl_json_object_end(json);
    sl_json_key(json, "completion_tokens_details");
    sl_json_object(json);
    sl_json_kv_int(json, "reasoning_tokens", generation_reasoning_tokens(g));
    sl_json_object_end(json);
    sl_json_object_end(json);
}

sl_status openai_event(struct generation *g,
                       void (*put)(struct sl_json *json, struct generation *g, const void *arg),
                       const void *arg)
{
    struct sl_json json;
    sl_status status = sl_buf_adds(&g->out, "data: ");
    if (status != SL_OK) return status;
    sl_json_begin(&json, &g->out, false);
    sl_json_object(&json);
    put(&json, g, arg);
    sl_json_object_end(&json);
    status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_adds(&g->out, "\n\n") : status;
}

sl_status openai_error_event(struct generation *g, int http_status, const char *message)
{
    sl_status status = sl_buf_adds(&g->out, "data: ");
    if (status == SL_OK)
        status = call_error_json(g->call, http_status, NULL, NULL, message, &g->out);
    return status == SL_OK ? sl_buf_adds(&g->out, "\n\n") : status;
}

void openai_end_choice(struct sl_json *json, const struct generation_choice *choice, bool is_end)
{
    sl_json_key(json, "finish_reason");
    sl_json_str(json, is_end ? generation_finish(choice) : NULL);
    sl_json_object_end(json);
    sl_json_array_end(json);
    if (!choice->generation->request.stream_usage) return;
    sl_json_key(json, "usage");
    sl_json_null(json);
}

struct last_chunk {
    const char *id_prefix, *object;
};

static void put_last(struct sl_json *json, struct generation *g, const void *arg)
{
    const struct last_chunk *chunk = arg;
    openai_put_head(json, g, chunk->id_prefix, chunk->object);
    sl_json_key(json, "choices");
    sl_json_array(json);
    sl_json_array_end(json);
    openai_put_usage(json, g);
}

sl_status openai_end_stream(struct generation *g, const char *id_prefix, const char *object)
{
    const struct last_chunk chunk = {id_prefix, object};
    sl_status status = SL_OK;
    if (g->request.stream_usage) status = openai_event(g, put_last, &chunk);
    return status == SL_OK ? sl_buf_adds(&g->out, "data: [DONE]\n\n") : status;
}
