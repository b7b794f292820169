#include "access/ollama_int.h"
#include "base/clock.h"
#include "base/duration.h"
#include "grid/store.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

/* --- fields --- */

const char *ollama_need_model(struct call *call)
{
    bool old = sl_json_is(sl_json_get(call->body, "model"), SL_JSON_NULL) &&
               !sl_json_is(sl_json_get(call->body, "name"), SL_JSON_NULL);
    return call_need_str(call, old ? "name" : "model");
}

bool ollama_read_stream(struct call *call, bool *out)
{
    const struct sl_json_value *stream = sl_json_get(call->body, "stream");
    *out = sl_json_to_bool(stream, true);
    if (sl_json_is(stream, SL_JSON_NULL) || sl_json_is(stream, SL_JSON_BOOL)) return true;
    call_fail(call, SL_INVALID, "stream", NULL, "stream: true or false is needed here");
    return false;
}

static int64_t to_ns(double ns)
{
    if (ns >= 9.2e18) return INT64_MAX;
    /* INT64_MIN means "the default" to the scheduler, so the other end is kept out. */
    return ns <= -9.2e18 ? -INT64_MAX : (int64_t)ns;
}

bool ollama_parse_duration(const char *text, int64_t *out_ns)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = sl_duration_parse(text, out_ns, &err);
    if (status == SL_LIMIT) *out_ns = *text == '-' ? -INT64_MAX : INT64_MAX;
    return status == SL_OK || status == SL_LIMIT;
}

bool ollama_read_keep_alive(struct call *call, int64_t *out_ns)
{
    const struct sl_json_value *value = sl_json_get(call->body, "keep_alive");
    enum sl_json_type type = sl_json_type(value);
    const char *text = sl_json_to_str(value, "", NULL);
    *out_ns = SCHED_KEEP_ALIVE_DEFAULT;
    if (type == SL_JSON_NULL || (type == SL_JSON_STR && !*text)) return true;
    if (type == SL_JSON_INT || type == SL_JSON_NUM) {
        *out_ns = to_ns(sl_json_to_num(value, 0) * (double)NS_PER_S);
        return true;
    }
    if (type == SL_JSON_STR && ollama_parse_duration(text, out_ns)) return true;
    call_fail(call, SL_INVALID, "keep_alive", NULL,
              "keep_alive: a number of seconds or a duration such as \"5m\" is needed here");
    return false;
}

bool ollama_refuse(struct call *call, const struct sl_json_value *object, const char *field,
                   const char *message)
{
    const struct sl_json_value *value = sl_json_get(object, field);
    bool empty =
        !sl_json_size(value) && !*sl_json_to_str(value, "", NULL) && !sl_json_to_bool(value, false);
    if (!empty) call_fail(call, SL_INVALID, field, NULL, message);
    return empty;
}

/* What would change the answer and cannot be done is refused, not passed over. */
static bool refuse_unsupported(struct call *call)
{
    const struct sl_json_value *format = sl_json_get(call->body, "format");
    if (sl_json_is(format, SL_JSON_OBJECT)) {
        call_fail(call, SL_INVALID, "format", NULL,
                  "format: answers after a JSON schema are not supported yet");
        return false;
    }
    return ollama_refuse(call, call->body, "format",
                         "format: JSON mode is not supported yet; leave it out for text") &&
           ollama_refuse(call, call->body, "images",
                         "images: models that read images are not supported yet");
}

bool ollama_read(struct call *call, struct ollama_request *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena *arena = http_exchange_arena(call->x);
    struct node_model model;
    const char *param = NULL;
    if (!call_read_json(call)) return false;
    call->qos = call_class(call);
    out->model = ollama_need_model(call);
    if (!out->model || !refuse_unsupported(call) || !ollama_read_stream(call, &out->stream) ||
        !ollama_read_keep_alive(call, &out->keep_alive_ns))
        return false;
    out->thinks = sl_json_to_bool(sl_json_get(call->body, "think"), true);
    if (!call_find_model(call, out->model, &model)) return false;
    out->system = model.system ? sl_arena_strndup(arena, model.system, strlen(model.system)) : NULL;
    sampling_init(&out->sampling, model.parameters, arena);
    sl_status status = sampling_read_ollama(&out->sampling, sl_json_get(call->body, "options"),
                                            arena, &param, &err);
    if (status != SL_OK) {
        call_fail_err(call, &err, param);
        return false;
    }
    return call_admit(call, out->model, call_tokens_guess(call));
}

void ollama_fill_submit(const struct ollama_request *request, struct node_submit *submit)
{
    submit->model = request->model;
    submit->keep_alive_ns = request->keep_alive_ns;
    sampling_fill_submit(&request->sampling, submit);
}

void ollama_begin_variables(struct sl_json *json, const struct call *call)
{
    const struct sl_json_value *think = sl_json_get(call->body, "think");
    sl_json_object(json);
    sl_json_kv_bool(json, "add_generation_prompt", true);
    if (sl_json_is(think, SL_JSON_BOOL))
        sl_json_kv_bool(json, "enable_thinking", sl_json_to_bool(think, true));
    if (!sl_json_is(think, SL_JSON_STR)) return;
    sl_json_kv_bool(json, "enable_thinking", true);
    sl_json_kv_str(json, "reasoning_effort", sl_json_to_str(think, "", NULL));
}

bool ollama_may_change_store(struct call *call)
{
    if (!call->key) return true;
    call_fail(call, SL_DENIED, NULL, NULL,
              "an API key may use models, not change them: use starlane pull, cp and rm on the "
              "server");
    return false;
}

/* --- parts of answers --- */

void ollama_time_text(int64_t unix_ns, char out[OLLAMA_TIME_SIZE])
{
    time_t seconds = (time_t)(unix_ns / NS_PER_S);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, OLLAMA_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, OLLAMA_TIME_SIZE - n, ".%09dZ", (int)(unix_ns % NS_PER_S));
}

void ollama_put_head(struct sl_json *json, const char *model)
{
    char now[OLLAMA_TIME_SIZE];
    ollama_time_text(sl_unix_time_ns(), now);
    sl_json_kv_str(json, "model", model);
    sl_json_kv_str(json, "created_at", now);
}

/* Clients divide counts by it, so it is never 0. */
static void put_duration(struct sl_json *json, const char *key, int64_t ns)
{
    sl_json_kv_int(json, key, ns > 0 ? ns : 1);
}

void ollama_put_end(struct sl_json *json, const struct generation *g)
{
    const struct node_event *total = &g->total;
    const struct generation_choice *choice = &g->choices[0];
    int64_t first_ns = g->call->begin_ns + total->first_token_ns;
    sl_json_kv_bool(json, "done", true);
    sl_json_kv_str(json, "done_reason", choice->finish == ENGINE_FINISH_LENGTH ? "length" : "stop");
    put_duration(json, "total_duration", sl_now_ns() - g->call->begin_ns);
    sl_json_kv_int(json, "load_duration", total->load_ns);
    sl_json_kv_int(json, "prompt_eval_count", total->n_prompt);
    put_duration(json, "prompt_eval_duration", total->first_token_ns - total->queue_ns);
    sl_json_kv_int(json, "eval_count", total->n_generated);
    put_duration(json, "eval_duration", choice->last_token_ns - first_ns);
}

void ollama_put_details(struct sl_json *json, const struct store_details *details)
{
    sl_json_key(json, "details");
    sl_json_object(json);
    sl_json_kv_str(json, "parent_model", "");
    sl_json_kv_str(json, "format", details->format);
    sl_json_kv_str(json, "family", details->family);
    sl_json_key(json, "families");
    sl_json_array(json);
    sl_json_str(json, details->family);
    sl_json_array_end(json);
    sl_json_kv_str(json, "parameter_size", details->parameter_size);
    sl_json_kv_str(json, "quantization_level", details->quantization_level);
    sl_json_object_end(json);
}

sl_status ollama_end_line(struct sl_json *json, struct generation *g)
{
    sl_json_object_end(json);
    sl_status status = sl_json_end(json);
    return status == SL_OK ? sl_buf_addc(&g->out, '\n') : status;
}

sl_status ollama_begin(struct generation *g)
{
    (void)g; /* the first line is the first piece */
    return SL_OK;
}

sl_status ollama_choice_end(struct generation_choice *choice)
{
    (void)choice;
    return SL_OK;
}

sl_status ollama_error(struct generation *g, int http_status, const char *message)
{
    sl_status status = call_error_json(g->call, http_status, NULL, NULL, message, &g->out);
    return status == SL_OK ? sl_buf_addc(&g->out, '\n') : status;
}
