/* openai_chat.c: POST /v1/chat/completions. */
#include "access/openai.h"
#include <string.h>

#define ID_PREFIX "chatcmpl-"
#define CHUNK "chat.completion.chunk"

/* --- chunks --- */

struct chunk {
    const struct generation_choice *choice;
    const struct chat_event *event; /* NULL: the head or the end of the choice */
    bool is_end;
};

static void put_call_delta(struct sl_json *json, const struct chat_event *event)
{
    sl_json_key(json, "tool_calls");
    sl_json_array(json);
    sl_json_object(json);
    sl_json_kv_int(json, "index", event->call);
    if (event->type == CHAT_EVENT_CALL_BEGIN) {
        sl_json_kv_str(json, "id", event->id);
        sl_json_kv_str(json, "type", "function");
    }
    sl_json_key(json, "function");
    sl_json_object(json);
    if (event->type == CHAT_EVENT_CALL_BEGIN) sl_json_kv_str(json, "name", event->name);
    sl_json_key(json, "arguments");
    sl_json_strn(json, event->n_text ? event->text : "", event->n_text);
    sl_json_object_end(json);
    sl_json_object_end(json);
    sl_json_array_end(json);
}

static void put_delta(struct sl_json *json, const struct chunk *chunk)
{
    const struct chat_event *event = chunk->event;
    sl_json_key(json, "delta");
    sl_json_object(json);
    if (event && (event->type == CHAT_EVENT_CONTENT || event->type == CHAT_EVENT_REASONING)) {
        sl_json_key(json, event->type == CHAT_EVENT_CONTENT ? "content" : "reasoning_content");
        sl_json_strn(json, event->text, event->n_text);
    } else if (event) {
        put_call_delta(json, event);
    } else if (!chunk->is_end) {
        sl_json_kv_str(json, "role", "assistant");
        sl_json_kv_str(json, "content", "");
    }
    sl_json_object_end(json);
}

/* {"content":[...]} of the tokens since the last chunk, or null. */
static void put_logprobs(struct sl_json *json, const struct generation_choice *choice)
{
    sl_json_key(json, "logprobs");
    if (!choice->logprobs.len) {
        sl_json_null(json);
        return;
    }
    sl_json_object(json);
    sl_json_key(json, "content");
    sl_json_array(json);
    sl_json_raw(json, choice->logprobs.data, choice->logprobs.len);
    sl_json_array_end(json);
    sl_json_key(json, "refusal");
    sl_json_null(json);
    sl_json_object_end(json);
}

static void put_chunk(struct sl_json *json, struct generation *g, const void *arg)
{
    const struct chunk *chunk = arg;
    openai_put_head(json, g, ID_PREFIX, CHUNK);
    sl_json_key(json, "choices");
    sl_json_array(json);
    sl_json_object(json);
    sl_json_kv_int(json, "index", chunk->choice->index);
    put_delta(json, chunk);
    put_logprobs(json, chunk->choice);
    openai_end_choice(json, chunk->choice, chunk->is_end);
}

static sl_status begin(struct generation *g)
{
    sl_status status = SL_OK;
    for (int32_t i = 0; i < g->n_choices && status == SL_OK; i++) {
        struct chunk chunk = {&g->choices[i], NULL, false};
        status = openai_event(g, put_chunk, &chunk);
    }
    return status;
}

static sl_status piece(struct generation_choice *choice, const struct chat_event *event)
{
    if (event->type == CHAT_EVENT_CALL_END) return SL_OK;
    struct chunk chunk = {choice, event, false};
    sl_status status = openai_event(choice->generation, put_chunk, &chunk);
    sl_buf_clear(&choice->logprobs);
    return status;
}

static sl_status choice_end(struct generation_choice *choice)
{
    struct chunk chunk = {choice, NULL, true};
    sl_status status = openai_event(choice->generation, put_chunk, &chunk);
    sl_buf_clear(&choice->logprobs);
    return status;
}

static sl_status end(struct generation *g)
{
    return openai_end_stream(g, ID_PREFIX, CHUNK);
}

/* --- the whole --- */

static void put_calls(struct sl_json *json, const struct generation_choice *choice)
{
    sl_json_key(json, "tool_calls");
    sl_json_array(json);
    for (int i = 0; i < choice->n_calls; i++) {
        const struct generation_call *call = &choice->calls[i];
        sl_json_object(json);
        sl_json_kv_str(json, "id", call->id);
        sl_json_kv_str(json, "type", "function");
        sl_json_key(json, "function");
        sl_json_object(json);
        sl_json_kv_str(json, "name", call->name);
        sl_json_key(json, "arguments");
        sl_json_strn(json, call->arguments.data, call->arguments.len);
        sl_json_object_end(json);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_message(struct sl_json *json, const struct generation_choice *choice)
{
    sl_json_key(json, "message");
    sl_json_object(json);
    sl_json_kv_str(json, "role", "assistant");
    sl_json_key(json, "content");
    if (!choice->content.len && choice->n_calls)
        sl_json_null(json);
    else
        sl_json_strn(json, choice->content.data, choice->content.len);
    if (choice->reasoning.len) {
        sl_json_key(json, "reasoning_content");
        sl_json_strn(json, choice->reasoning.data, choice->reasoning.len);
    }
    sl_json_key(json, "refusal");
    sl_json_null(json);
    if (choice->n_calls) put_calls(json, choice);
    sl_json_object_end(json);
}

static sl_status whole(struct generation *g)
{
    struct sl_json json;
    sl_json_begin(&json, &g->out, false);
    sl_json_object(&json);
    openai_put_head(&json, g, ID_PREFIX, "chat.completion");
    sl_json_key(&json, "choices");
    sl_json_array(&json);
    for (int32_t i = 0; i < g->n_choices; i++) {
        sl_json_object(&json);
        sl_json_kv_int(&json, "index", i);
        put_message(&json, &g->choices[i]);
        put_logprobs(&json, &g->choices[i]);
        sl_json_kv_str(&json, "finish_reason", generation_finish(&g->choices[i]));
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    openai_put_usage(&json, g);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* --- log probabilities --- */

static void put_logprob(struct sl_json *json, const struct engine_logprob *logprob)
{
    sl_json_key(json, "token");
    sl_json_strn(json, logprob->bytes, logprob->n_bytes);
    sl_json_kv_num(json, "logprob", (double)logprob->logprob);
    sl_json_key(json, "bytes");
    sl_json_array(json);
    for (size_t i = 0; i < logprob->n_bytes; i++)
        sl_json_int(json, (unsigned char)logprob->bytes[i]);
    sl_json_array_end(json);
}

static sl_status add_logprob(struct generation_choice *choice, const struct node_event *event)
{
    struct sl_json json;
    if (choice->logprobs.len && sl_buf_addc(&choice->logprobs, ',') != SL_OK) return SL_LIMIT;
    sl_json_begin(&json, &choice->logprobs, false);
    sl_json_object(&json);
    put_logprob(&json, &event->logprob);
    sl_json_key(&json, "top_logprobs");
    sl_json_array(&json);
    for (int32_t i = 0; i < event->n_top; i++) {
        sl_json_object(&json);
        put_logprob(&json, &event->top[i]);
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static const struct generation_shape shape = {
    .stream_type = "text/event-stream",
    .ping = OPENAI_PING,
    .chat = true,
    .begin = begin,
    .piece = piece,
    .choice_end = choice_end,
    .end = end,
    .error = openai_error_event,
    .whole = whole,
    .logprob = add_logprob,
};

/* --- the request --- */

static const char *message_fault(const struct sl_json_value *message)
{
    const struct sl_json_value *content = sl_json_get(message, "content");
    const char *role = sl_json_to_str(sl_json_get(message, "role"), NULL, NULL);
    if (!sl_json_is(message, SL_JSON_OBJECT)) return "every message must be an object";
    if (!role) return "every message needs a role";
    if (sl_json_is(content, SL_JSON_STR)) return NULL;
    if (sl_json_is(content, SL_JSON_NULL))
        return strcmp(role, "assistant") ? "only an assistant's message may be without content"
                                         : NULL;
    if (!sl_json_is(content, SL_JSON_ARRAY))
        return "a message's content must be a text, a list of parts or null";
    for (size_t i = 0; i < sl_json_size(content); i++) {
        const struct sl_json_value *part = sl_json_at(content, i);
        const char *type = sl_json_to_str(sl_json_get(part, "type"), "", NULL);
        if (strcmp(type, "text") != 0 || !sl_json_is(sl_json_get(part, "text"), SL_JSON_STR))
            return "this model reads text only: a content part must be "
                   "{\"type\":\"text\",\"text\":...}";
    }
    return NULL;
}

static bool check_messages(struct call *call)
{
    const struct sl_json_value *messages = sl_json_get(call->body, "messages");
    const char *fault = NULL;
    if (!sl_json_is(messages, SL_JSON_ARRAY) || !sl_json_size(messages))
        fault = "messages: a list with at least one message is needed";
    for (size_t i = 0; i < sl_json_size(messages) && !fault; i++)
        fault = message_fault(sl_json_at(messages, i));
    if (fault) call_fail(call, SL_INVALID, "messages", NULL, fault);
    return !fault;
}

/* Absent, or a list of functions with names. */
static bool tools_are_good(const struct sl_json_value *tools)
{
    if (sl_json_is(tools, SL_JSON_NULL)) return true;
    for (size_t i = 0; i < sl_json_size(tools); i++) {
        const struct sl_json_value *tool = sl_json_at(tools, i);
        const char *type = sl_json_to_str(sl_json_get(tool, "type"), "", NULL);
        const struct sl_json_value *function = sl_json_get(tool, "function");
        if (strcmp(type, "function") || !sl_json_is(sl_json_get(function, "name"), SL_JSON_STR))
            return false;
    }
    return sl_json_is(tools, SL_JSON_ARRAY);
}

/* Are there tools, and may the model call them? False in *ok: the call has failed. */
static bool wants_tools(struct call *call, bool *ok)
{
    const struct sl_json_value *tools = sl_json_get(call->body, "tools");
    const struct sl_json_value *choice = sl_json_get(call->body, "tool_choice");
    const char *word = sl_json_to_str(choice, sl_json_is(choice, SL_JSON_NULL) ? "auto" : "", NULL);
    bool forced = sl_json_is(choice, SL_JSON_OBJECT) || !strcmp(word, "required");
    *ok = true;
    if (!tools_are_good(tools)) {
        call_fail(call, SL_INVALID, "tools", NULL,
                  "tools: a list of {\"type\":\"function\",\"function\":{\"name\",...}} is needed");
        *ok = false;
    } else if (!forced && strcmp(word, "auto") != 0 && strcmp(word, "none") != 0) {
        call_fail(call, SL_INVALID, "tool_choice", NULL, "tool_choice: \"auto\" or \"none\"");
        *ok = false;
    } else if (forced && sl_json_size(tools)) {
        call_fail(call, SL_INVALID, "tool_choice", "unsupported_parameter",
                  "tool_choice: a model cannot be made to call a tool yet; \"auto\" and \"none\" "
                  "are supported");
        *ok = false;
    }
    return sl_json_size(tools) && strcmp(word, "none") != 0;
}

static void put_messages(struct sl_json *json, struct call *call, const char *system)
{
    const struct sl_json_value *messages = sl_json_get(call->body, "messages");
    const char *role = sl_json_to_str(sl_json_get(sl_json_at(messages, 0), "role"), "", NULL);
    sl_json_key(json, "messages");
    if (!system || !strcmp(role, "system") || !strcmp(role, "developer")) {
        sl_json_put(json, messages);
        return;
    }
    sl_json_array(json);
    sl_json_object(json);
    sl_json_kv_str(json, "role", "system");
    sl_json_kv_str(json, "content", system);
    sl_json_object_end(json);
    for (size_t i = 0; i < sl_json_size(messages); i++) sl_json_put(json, sl_json_at(messages, i));
    sl_json_array_end(json);
}

/* The variables of the chat template. `chat_template_kwargs` are the caller's own, as in vLLM. */
static sl_status write_variables(struct call *call, bool tools, const char *system,
                                 struct sl_buf *out)
{
    const struct sl_json_value *extra = sl_json_get(call->body, "chat_template_kwargs");
    const struct sl_json_value *effort = sl_json_get(call->body, "reasoning_effort");
    const struct sl_json_value *value;
    struct sl_json json;
    void *iter = NULL;
    const char *key;
    size_t n_key;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_bool(&json, "add_generation_prompt", true);
    if (sl_json_is(effort, SL_JSON_STR)) {
        sl_json_key(&json, "reasoning_effort");
        sl_json_put(&json, effort);
    }
    while (sl_json_is(extra, SL_JSON_OBJECT) && sl_json_next(extra, &iter, &key, &n_key, &value)) {
        if (!strcmp(key, "messages") || !strcmp(key, "tools")) continue;
        sl_json_key(&json, key);
        sl_json_put(&json, value);
    }
    if (tools) {
        sl_json_key(&json, "tools");
        sl_json_put(&json, sl_json_get(call->body, "tools"));
    }
    put_messages(&json, call, system);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* logprobs and top_logprobs. False: the call has failed. */
static bool read_logprobs(struct call *call, struct sampling *sampling)
{
    const struct sl_json_value *logprobs = sl_json_get(call->body, "logprobs");
    bool wanted = sl_json_to_bool(logprobs, false);
    const struct sl_json_value *top = sl_json_get(call->body, "top_logprobs");
    int64_t n = sl_json_to_int(top, sl_json_is(top, SL_JSON_NULL) ? 0 : -1);
    if (!sl_json_is(logprobs, SL_JSON_NULL) && !sl_json_is(logprobs, SL_JSON_BOOL)) {
        call_fail(call, SL_INVALID, "logprobs", NULL, "logprobs: true or false is needed here");
        return false;
    }
    if (n < 0 || n > ENGINE_TOP_LOGPROBS_MAX || (n > 0 && !wanted)) {
        call_fail(call, SL_INVALID, "top_logprobs", NULL,
                  n > 0 && !wanted ? "top_logprobs: needs logprobs: true"
                                   : "top_logprobs: a number from 0 to 20 is needed");
        return false;
    }
    sampling->sampler.n_logprobs = wanted ? (int32_t)n : -1;
    return true;
}

static void start(struct call *call, const struct openai_request *request, bool tools,
                  const struct sl_buf *variables)
{
    struct node_submit *submit = sl_arena_alloc(http_exchange_arena(call->x), sizeof *submit);
    if (!submit) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *submit = (struct node_submit){
        .model = request->model,
        .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
        .prompt = NODE_PROMPT_CHAT,
        .text = variables->data,
        .n_text = variables->len,
    };
    sampling_fill_submit(&request->sampling, submit);
    struct generation_request generation = {
        .shape = &shape,
        .submits = submit,
        .n_submits = 1,
        .stream = request->stream,
        .stream_usage = request->stream_usage,
        .has_tools = tools,
        .model = request->model,
    };
    generation_start(call, &generation);
}

void openai_chat(struct call *call)
{
    struct openai_request request;
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf variables;
    bool ok;
    if (!openai_read(call, &request) || !check_messages(call)) return;
    bool tools = wants_tools(call, &ok);
    if (!ok || !read_logprobs(call, &request.sampling)) return;
    sl_status status = grid_model_find(call->gateway->cfg.grid, request.model, &model, &err);
    sl_buf_init(&variables, CALL_VARIABLES_MAX);
    if (status == SL_OK) status = write_variables(call, tools, model.system, &variables);
    if (status == SL_OK)
        start(call, &request, tools, &variables);
    else
        call_fail(call, status, NULL, NULL, "the conversation does not fit into memory");
    sl_buf_done(&variables);
}
