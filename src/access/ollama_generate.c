/* ollama_generate.c: POST /api/generate. */
#include "access/ollama_int.h"
#include <string.h>

/* --- lines --- */

static sl_status piece(struct generation_choice *choice, const struct chat_event *event)
{
    struct generation *g = choice->generation;
    bool thinks = event->type == CHAT_EVENT_REASONING;
    struct sl_json json;
    sl_json_begin(&json, &g->out, false);
    sl_json_object(&json);
    ollama_put_head(&json, g->request.model);
    sl_json_key(&json, "response");
    sl_json_strn(&json, thinks ? "" : event->text, thinks ? 0 : event->n_text);
    if (thinks) {
        sl_json_key(&json, "thinking");
        sl_json_strn(&json, event->text, event->n_text);
    }
    sl_json_kv_bool(&json, "done", false);
    return ollama_end_line(&json, g);
}

/* Streamed, the texts have gone before and are empty here. */
static sl_status whole(struct generation *g)
{
    const struct generation_choice *choice = &g->choices[0];
    struct sl_json json;
    sl_json_begin(&json, &g->out, false);
    sl_json_object(&json);
    ollama_put_head(&json, g->request.model);
    sl_json_key(&json, "response");
    sl_json_strn(&json, choice->content.data, choice->content.len);
    if (choice->reasoning.len) {
        sl_json_key(&json, "thinking");
        sl_json_strn(&json, choice->reasoning.data, choice->reasoning.len);
    }
    ollama_put_end(&json, g);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status end(struct generation *g)
{
    sl_status status = whole(g);
    return status == SL_OK ? sl_buf_addc(&g->out, '\n') : status;
}

static const struct generation_shape chat_shape = {
    .stream_type = OLLAMA_STREAM_TYPE,
    .chat = true,
    .begin = ollama_begin,
    .piece = piece,
    .choice_end = ollama_choice_end,
    .end = end,
    .error = ollama_error,
    .whole = whole,
};

/* The text as the model writes it. */
static const struct generation_shape raw_shape = {
    .stream_type = OLLAMA_STREAM_TYPE,
    .begin = ollama_begin,
    .piece = piece,
    .choice_end = ollama_choice_end,
    .end = end,
    .error = ollama_error,
    .whole = whole,
};

/* --- the request --- */

static void put_message(struct sl_json *json, const char *role, const char *text, size_t n)
{
    sl_json_object(json);
    sl_json_kv_str(json, "role", role);
    sl_json_key(json, "content");
    sl_json_strn(json, text, n);
    sl_json_object_end(json);
}

static sl_status write_variables(struct call *call, const char *system, const char *prompt,
                                 size_t n_prompt, struct sl_buf *out)
{
    const struct sl_json_value *given = sl_json_get(call->body, "system");
    struct sl_json json;
    size_t n_system = system ? strlen(system) : 0;
    if (sl_json_is(given, SL_JSON_STR)) system = sl_json_to_str(given, "", &n_system);
    sl_json_begin(&json, out, false);
    ollama_begin_variables(&json, call);
    sl_json_key(&json, "messages");
    sl_json_array(&json);
    if (n_system) put_message(&json, "system", system, n_system);
    put_message(&json, "user", prompt, n_prompt);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* A text field, or nothing: "". NULL: the call has failed. */
static const char *text_of(struct call *call, const char *field, const char *message, size_t *out_n)
{
    const struct sl_json_value *value = sl_json_get(call->body, field);
    const char *text = sl_json_to_str(value, sl_json_is(value, SL_JSON_NULL) ? "" : NULL, out_n);
    if (!text) call_fail(call, SL_INVALID, field, NULL, message);
    return text;
}

static void start(struct call *call, const struct ollama_request *request, const char *prompt,
                  size_t n_prompt)
{
    bool raw = sl_json_to_bool(sl_json_get(call->body, "raw"), false);
    struct node_submit *submit = sl_arena_alloc(http_exchange_arena(call->x), sizeof *submit);
    struct sl_buf variables;
    sl_status status = SL_OK;
    sl_buf_init(&variables, CALL_VARIABLES_MAX);
    if (!raw) status = write_variables(call, request->system, prompt, n_prompt, &variables);
    if (status != SL_OK || !submit) {
        sl_buf_done(&variables);
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *submit = (struct node_submit){
        .prompt = raw ? NODE_PROMPT_TEXT : NODE_PROMPT_CHAT,
        .text = raw ? prompt : variables.data,
        .n_text = raw ? n_prompt : variables.len,
        .parse_special = true,
    };
    ollama_fill_submit(request, submit);
    struct generation_request generation = {
        .shape = raw ? &raw_shape : &chat_shape,
        .submits = submit,
        .n_submits = 1,
        .stream = request->stream,
        .no_reasoning = !request->thinks,
        .model = request->model,
    };
    generation_start(call, &generation);
    sl_buf_done(&variables);
}

void ollama_generate(struct call *call)
{
    struct ollama_request request;
    size_t n_prompt, n_system;
    if (!ollama_read(call, &request) ||
        !ollama_refuse(call, call->body, "suffix",
                       "suffix: filling in the middle is not supported yet") ||
        !ollama_refuse(call, call->body, "context",
                       "context: not supported; send the conversation to /api/chat"))
        return;
    const char *prompt = text_of(call, "prompt", "prompt: a text is needed here", &n_prompt);
    if (!prompt || !text_of(call, "system", "system: a text is needed here", &n_system)) return;
    if (n_prompt)
        start(call, &request, prompt, n_prompt);
    else
        ollama_load(call, &request, false);
}
