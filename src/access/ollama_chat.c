/* ollama_chat.c: POST /api/chat. */
#include "access/ollama_int.h"
#include <string.h>

/* --- tool calls: an object each, when all of it is known --- */

static sl_status begin_call(struct sl_buf *out, const char *id, const char *name, int index)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "id", id);
    sl_json_key(&json, "function");
    sl_json_object(&json);
    sl_json_kv_int(&json, "index", index);
    sl_json_kv_str(&json, "name", name);
    sl_json_key(&json, "arguments");
    sl_json_null(&json);
    sl_json_object_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* begin_call ends in `null}}`, in whose place the arguments go. */
static void put_call(struct sl_json *json, const struct sl_buf *call,
                     const struct sl_buf *arguments)
{
    static const char hole[] = "null}}";
    struct sl_buf text;
    sl_buf_init(&text, GENERATION_OUT_MAX);
    sl_status status = sl_buf_add(&text, call->data, call->len - strlen(hole));
    if (status == SL_OK) status = sl_buf_add(&text, arguments->data, arguments->len);
    if (status == SL_OK) status = sl_buf_adds(&text, "}}");
    if (status != SL_OK) json->status = status;
    sl_json_raw(json, text.data, text.len);
    sl_buf_done(&text);
}

static bool is_object(const struct sl_buf *text)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json_value *value = NULL;
    sl_status status = sl_json_parse(text->data, text->len, &value, &err);
    bool ok = status == SL_OK && sl_json_is(value, SL_JSON_OBJECT);
    sl_json_free(value);
    return ok;
}

/* Leaves the message open. */
static void begin_message(struct sl_json *json, struct generation *g)
{
    sl_json_begin(json, &g->out, false);
    sl_json_object(json);
    ollama_put_head(json, g->request.model);
    sl_json_key(json, "message");
    sl_json_object(json);
    sl_json_kv_str(json, "role", "assistant");
}

static void put_texts(struct sl_json *json, const char *content, size_t n_content,
                      const char *thinking, size_t n_thinking)
{
    sl_json_key(json, "content");
    sl_json_strn(json, n_content ? content : "", n_content);
    if (!n_thinking) return;
    sl_json_key(json, "thinking");
    sl_json_strn(json, thinking, n_thinking);
}

/* --- lines --- */

struct line {
    const char *content, *thinking;
    size_t n_content, n_thinking;
    const struct sl_buf *call, *arguments; /* NULL: none */
};

static sl_status put_line(struct generation *g, const struct line *line)
{
    struct sl_json json;
    begin_message(&json, g);
    put_texts(&json, line->content, line->n_content, line->thinking, line->n_thinking);
    if (line->call) {
        sl_json_key(&json, "tool_calls");
        sl_json_array(&json);
        put_call(&json, line->call, line->arguments);
        sl_json_array_end(&json);
    }
    sl_json_object_end(&json);
    sl_json_kv_bool(&json, "done", false);
    return ollama_end_line(&json, g);
}

/* A call that broke off is told as the text it is: half an object is nothing a client can use. */
static sl_status put_call_line(struct generation_choice *choice, bool is_whole)
{
    struct line line = {0};
    if (is_whole) {
        line.call = &choice->reasoning;
        line.arguments = &choice->content;
    } else {
        line.content = choice->content.data;
        line.n_content = choice->content.len;
    }
    sl_status status = put_line(choice->generation, &line);
    sl_buf_clear(&choice->reasoning);
    sl_buf_clear(&choice->content);
    return status;
}

/* A stream's buffers of the choice are free: one holds the call that is under way, the other its
 * arguments so far. */
static sl_status piece(struct generation_choice *choice, const struct chat_event *event)
{
    struct line line = {0};
    switch (event->type) {
    case CHAT_EVENT_CONTENT:
        line.content = event->text;
        line.n_content = event->n_text;
        return put_line(choice->generation, &line);
    case CHAT_EVENT_REASONING:
        line.thinking = event->text;
        line.n_thinking = event->n_text;
        return put_line(choice->generation, &line);
    case CHAT_EVENT_CALL_BEGIN:
        return begin_call(&choice->reasoning, event->id, event->name, event->call);
    case CHAT_EVENT_CALL_ARGUMENTS: return sl_buf_add(&choice->content, event->text, event->n_text);
    case CHAT_EVENT_CALL_END: return put_call_line(choice, event->is_whole);
    }
    return SL_OK;
}

static sl_status end(struct generation *g)
{
    struct sl_json json;
    begin_message(&json, g);
    sl_json_kv_str(&json, "content", "");
    sl_json_object_end(&json);
    ollama_put_end(&json, g);
    return ollama_end_line(&json, g);
}

/* --- the whole --- */

static void put_calls(struct sl_json *json, const struct generation_choice *choice)
{
    struct sl_buf head;
    sl_json_key(json, "tool_calls");
    sl_json_array(json);
    sl_buf_init(&head, GENERATION_OUT_MAX);
    for (int i = 0; i < choice->n_calls; i++) {
        const struct generation_call *call = &choice->calls[i];
        if (!is_object(&call->arguments)) continue;
        sl_buf_clear(&head);
        sl_status status = begin_call(&head, call->id, call->name, i);
        if (status == SL_OK)
            put_call(json, &head, &call->arguments);
        else
            json->status = status;
    }
    sl_json_array_end(json);
    sl_buf_done(&head);
}

/* Calls that broke off join the content. */
static sl_status add_broken(struct generation_choice *choice, int *n_broken)
{
    sl_status status = SL_OK;
    *n_broken = 0;
    for (int i = 0; i < choice->n_calls && status == SL_OK; i++) {
        const struct sl_buf *arguments = &choice->calls[i].arguments;
        if (is_object(arguments)) continue;
        ++*n_broken;
        status = sl_buf_add(&choice->content, arguments->data, arguments->len);
    }
    return status;
}

static sl_status whole(struct generation *g)
{
    struct generation_choice *choice = &g->choices[0];
    struct sl_json json;
    int n_broken;
    sl_status status = add_broken(choice, &n_broken);
    if (status != SL_OK) return status;
    begin_message(&json, g);
    put_texts(&json, choice->content.data, choice->content.len, choice->reasoning.data,
              choice->reasoning.len);
    if (choice->n_calls > n_broken) put_calls(&json, choice);
    sl_json_object_end(&json);
    ollama_put_end(&json, g);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static const struct generation_shape shape = {
    .stream_type = OLLAMA_STREAM_TYPE,
    .chat = true,
    .begin = ollama_begin,
    .piece = piece,
    .choice_end = ollama_choice_end,
    .end = end,
    .error = ollama_error,
    .whole = whole,
};

/* --- the request --- */

/* False: the call has failed. */
static bool check_message(struct call *call, const struct sl_json_value *message)
{
    const struct sl_json_value *content = sl_json_get(message, "content");
    const struct sl_json_value *tool_calls = sl_json_get(message, "tool_calls");
    const char *fault = NULL;
    if (!sl_json_is(message, SL_JSON_OBJECT))
        fault = "messages: every message must be an object";
    else if (!sl_json_is(sl_json_get(message, "role"), SL_JSON_STR))
        fault = "messages: every message needs a role";
    else if (!sl_json_is(content, SL_JSON_STR) && !sl_json_is(content, SL_JSON_NULL))
        fault = "messages: the content of a message must be a text";
    else if (!sl_json_is(tool_calls, SL_JSON_ARRAY) && !sl_json_is(tool_calls, SL_JSON_NULL))
        fault = "messages: tool_calls must be a list";
    if (fault) {
        call_fail(call, SL_INVALID, "messages", NULL, fault);
        return false;
    }
    return ollama_refuse(call, message, "images",
                         "images: models that read images are not supported yet");
}

/* False: the call has failed. */
static bool check_messages(struct call *call)
{
    const struct sl_json_value *messages = sl_json_get(call->body, "messages");
    const struct sl_json_value *tools = sl_json_get(call->body, "tools");
    if (!sl_json_is(messages, SL_JSON_ARRAY) && !sl_json_is(messages, SL_JSON_NULL)) {
        call_fail(call, SL_INVALID, "messages", NULL, "messages: a list is needed here");
        return false;
    }
    if (!sl_json_is(tools, SL_JSON_ARRAY) && !sl_json_is(tools, SL_JSON_NULL)) {
        call_fail(call, SL_INVALID, "tools", NULL, "tools: a list is needed here");
        return false;
    }
    for (size_t i = 0; i < sl_json_size(messages); i++)
        if (!check_message(call, sl_json_at(messages, i))) return false;
    return true;
}

/* Templates know OpenAI's names: reasoning_content and name. */
static const char *template_key(const char *key)
{
    if (!strcmp(key, "thinking")) return "reasoning_content";
    if (!strcmp(key, "tool_name")) return "name";
    return key;
}

static void put_message(struct sl_json *json, const struct sl_json_value *message)
{
    const struct sl_json_value *value;
    void *iter = NULL;
    const char *key;
    size_t n_key;
    bool has_content = sl_json_is(sl_json_get(message, "content"), SL_JSON_STR);
    sl_json_object(json);
    while (sl_json_next(message, &iter, &key, &n_key, &value)) {
        if (!strcmp(key, "images") || (!strcmp(key, "content") && !has_content)) continue;
        sl_json_key(json, template_key(key));
        sl_json_put(json, value);
    }
    if (!has_content) sl_json_kv_str(json, "content", "");
    sl_json_object_end(json);
}

static sl_status write_variables(struct call *call, const char *system, struct sl_buf *out)
{
    const struct sl_json_value *messages = sl_json_get(call->body, "messages");
    const struct sl_json_value *tools = sl_json_get(call->body, "tools");
    const char *role = sl_json_to_str(sl_json_get(sl_json_at(messages, 0), "role"), "", NULL);
    struct sl_json json;
    sl_json_begin(&json, out, false);
    ollama_begin_variables(&json, call);
    if (sl_json_size(tools)) {
        sl_json_key(&json, "tools");
        sl_json_put(&json, tools);
    }
    sl_json_key(&json, "messages");
    sl_json_array(&json);
    if (system && strcmp(role, "system") != 0) {
        sl_json_object(&json);
        sl_json_kv_str(&json, "role", "system");
        sl_json_kv_str(&json, "content", system);
        sl_json_object_end(&json);
    }
    for (size_t i = 0; i < sl_json_size(messages); i++) put_message(&json, sl_json_at(messages, i));
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static void start(struct call *call, const struct ollama_request *request)
{
    struct node_submit *submit = sl_arena_alloc(http_exchange_arena(call->x), sizeof *submit);
    struct sl_buf variables;
    sl_buf_init(&variables, CALL_VARIABLES_MAX);
    sl_status status = write_variables(call, request->system, &variables);
    if (status != SL_OK || !submit) {
        sl_buf_done(&variables);
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *submit = (struct node_submit){
        .prompt = NODE_PROMPT_CHAT, .text = variables.data, .n_text = variables.len};
    ollama_fill_submit(request, submit);
    struct generation_request generation = {
        .shape = &shape,
        .submits = submit,
        .n_submits = 1,
        .stream = request->stream,
        .has_tools = sl_json_size(sl_json_get(call->body, "tools")) > 0,
        .no_reasoning = !request->thinks,
        .model = request->model,
    };
    generation_start(call, &generation);
    sl_buf_done(&variables);
}

void ollama_chat(struct call *call)
{
    struct ollama_request request;
    if (!ollama_read(call, &request) || !check_messages(call)) return;
    if (sl_json_size(sl_json_get(call->body, "messages")))
        start(call, &request);
    else
        ollama_load(call, &request, true);
}
