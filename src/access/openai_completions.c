/* openai_completions.c: POST /v1/completions. */
#include "access/openai.h"
#include "access/prompt.h"
#include <string.h>

#define ID_PREFIX "cmpl-"
#define OBJECT "text_completion"
#define MAX_TOKENS_DEFAULT 16 /* OpenAI's */
#define LOGPROBS_MAX 5        /* OpenAI's */

/* Of the request; in the exchange's arena. */
struct completion {
    bool echo; /* the answer begins with the prompt */
};

static const struct node_submit *prompt_of(const struct generation_choice *choice)
{
    const struct generation *g = choice->generation;
    return &g->request.submits[choice->index / (g->n_choices / g->request.n_submits)];
}

/* --- log probabilities: four lists side by side, kept as the elements of one each --- */

/* One line a token: a JSON array [token, logprob, {top}, offset]. */
static sl_status add_logprob(struct generation_choice *choice, const struct node_event *event)
{
    struct sl_json json;
    if (choice->logprobs.len && sl_buf_addc(&choice->logprobs, ',') != SL_OK) return SL_LIMIT;
    sl_json_begin(&json, &choice->logprobs, false);
    sl_json_array(&json);
    sl_json_strn(&json, event->logprob.bytes, event->logprob.n_bytes);
    sl_json_num(&json, (double)event->logprob.logprob);
    sl_json_object(&json);
    for (int32_t i = 0; i < event->n_top; i++) {
        sl_json_keyn(&json, event->top[i].bytes, event->top[i].n_bytes);
        sl_json_num(&json, (double)event->top[i].logprob);
    }
    sl_json_object_end(&json);
    sl_json_int(&json, (int64_t)choice->text_offset);
    sl_json_array_end(&json);
    return sl_json_end(&json);
}

/* One of the lists: column `at` of the rows. */
static void put_column(struct sl_json *json, const char *key, const struct sl_json_value *rows,
                       size_t at)
{
    sl_json_key(json, key);
    sl_json_array(json);
    for (size_t i = 0; i < sl_json_size(rows); i++)
        sl_json_put(json, sl_json_at(sl_json_at(rows, i), at));
    sl_json_array_end(json);
}

static void put_logprobs(struct sl_json *json, const struct generation_choice *choice)
{
    struct sl_json_value *rows = NULL;
    struct sl_err err;
    struct sl_buf text;
    sl_json_key(json, "logprobs");
    sl_buf_init(&text, GENERATION_OUT_MAX);
    bool ok = choice->logprobs.len && sl_buf_addf(&text, "[%s]", choice->logprobs.data) == SL_OK &&
              sl_json_parse(text.data, text.len, &rows, &err) == SL_OK;
    if (ok) {
        sl_json_object(json);
        put_column(json, "tokens", rows, 0);
        put_column(json, "token_logprobs", rows, 1);
        put_column(json, "top_logprobs", rows, 2);
        put_column(json, "text_offset", rows, 3);
        sl_json_object_end(json);
    } else {
        sl_json_null(json);
    }
    sl_json_free(rows);
    sl_buf_done(&text);
}

/* --- chunks --- */

struct chunk {
    const struct generation_choice *choice;
    const char *text;
    size_t n_text;
    bool is_end;
};

static void put_chunk(struct sl_json *json, struct generation *g, const void *arg)
{
    const struct chunk *chunk = arg;
    openai_put_head(json, g, ID_PREFIX, OBJECT);
    sl_json_key(json, "choices");
    sl_json_array(json);
    sl_json_object(json);
    sl_json_kv_int(json, "index", chunk->choice->index);
    sl_json_key(json, "text");
    sl_json_strn(json, chunk->n_text ? chunk->text : "", chunk->n_text);
    put_logprobs(json, chunk->choice);
    openai_end_choice(json, chunk->choice, chunk->is_end);
}

static sl_status begin(struct generation *g)
{
    const struct completion *completion = g->request.shape_data;
    sl_status status = SL_OK;
    for (int32_t i = 0; i < g->n_choices && completion->echo && status == SL_OK; i++) {
        const struct node_submit *submit = prompt_of(&g->choices[i]);
        struct chunk chunk = {&g->choices[i], submit->text, submit->n_text, false};
        status = openai_event(g, put_chunk, &chunk);
    }
    return status;
}

static sl_status piece(struct generation_choice *choice, const struct chat_event *event)
{
    struct chunk chunk = {choice, event->text, event->n_text, false};
    sl_status status = openai_event(choice->generation, put_chunk, &chunk);
    sl_buf_clear(&choice->logprobs);
    return status;
}

static sl_status choice_end(struct generation_choice *choice)
{
    struct chunk chunk = {choice, NULL, 0, true};
    sl_status status = openai_event(choice->generation, put_chunk, &chunk);
    sl_buf_clear(&choice->logprobs);
    return status;
}

static sl_status end(struct generation *g)
{
    return openai_end_stream(g, ID_PREFIX, OBJECT);
}

/* --- the whole --- */

static sl_status put_text(struct sl_json *json, const struct generation_choice *choice, bool echo)
{
    const struct node_submit *submit = prompt_of(choice);
    struct sl_buf text;
    sl_status status = SL_OK;
    sl_json_key(json, "text");
    if (!echo) {
        sl_json_strn(json, choice->content.data, choice->content.len);
        return SL_OK;
    }
    sl_buf_init(&text, GENERATION_OUT_MAX);
    status = sl_buf_add(&text, submit->text, submit->n_text);
    if (status == SL_OK) status = sl_buf_add(&text, choice->content.data, choice->content.len);
    sl_json_strn(json, text.data, text.len);
    sl_buf_done(&text);
    return status;
}

static sl_status whole(struct generation *g)
{
    const struct completion *completion = g->request.shape_data;
    struct sl_json json;
    sl_status status = SL_OK;
    sl_json_begin(&json, &g->out, false);
    sl_json_object(&json);
    openai_put_head(&json, g, ID_PREFIX, OBJECT);
    sl_json_key(&json, "choices");
    sl_json_array(&json);
    for (int32_t i = 0; i < g->n_choices && status == SL_OK; i++) {
        sl_json_object(&json);
        sl_json_kv_int(&json, "index", i);
        status = put_text(&json, &g->choices[i], completion->echo);
        put_logprobs(&json, &g->choices[i]);
        sl_json_kv_str(&json, "finish_reason", generation_finish(&g->choices[i]));
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    openai_put_usage(&json, g);
    sl_json_object_end(&json);
    sl_status ended = sl_json_end(&json);
    return status == SL_OK ? ended : status;
}

static const struct generation_shape shape = {
    .stream_type = "text/event-stream",
    .ping = OPENAI_PING,
    .begin = begin,
    .piece = piece,
    .choice_end = choice_end,
    .end = end,
    .error = openai_error_event,
    .whole = whole,
    .logprob = add_logprob,
};

/* --- the request --- */

/* All prompts. NULL: the call has failed. */
static struct node_submit *read_prompts(struct call *call, int32_t *out_n)
{
    struct node_submit *submits;
    size_t n;
    sl_status status =
        prompt_read_all(http_exchange_arena(call->x), sl_json_get(call->body, "prompt"),
                        GENERATION_PROMPTS_MAX, &submits, &n);
    if (status != SL_OK) {
        call_fail(call, status, "prompt", NULL,
                  status == SL_NOMEM
                      ? "no memory for this request"
                      : "prompt: a text, a list of texts, a list of token ids, or a list of such "
                        "lists is needed, none of them empty, at most 64");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) submits[i].parse_special = true;
    *out_n = (int32_t)n;
    return submits;
}

static bool any_tokens(const struct node_submit *submits, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (submits[i].prompt == NODE_PROMPT_TOKENS) return true;
    return false;
}

/* False: the call has failed. */
static bool read_extras(struct call *call, struct sampling *sampling, struct completion *out,
                        bool has_tokens)
{
    const struct sl_json_value *logprobs = sl_json_get(call->body, "logprobs");
    int64_t n = sl_json_to_int(logprobs, -1);
    const char *param = NULL, *message = NULL;
    out->echo = sl_json_to_bool(sl_json_get(call->body, "echo"), false);
    if (!sl_json_is(logprobs, SL_JSON_NULL) && (n < 0 || n > LOGPROBS_MAX)) {
        param = "logprobs";
        message = "logprobs: a number from 0 to 5 is needed";
    } else if (out->echo && (n >= 0 || has_tokens)) {
        param = "echo";
        message = "echo: works for prompts given as text, without logprobs";
    } else if (sl_json_size(sl_json_get(call->body, "suffix")) ||
               *sl_json_to_str(sl_json_get(call->body, "suffix"), "", NULL)) {
        param = "suffix";
        message = "suffix: filling in the middle is not supported";
    } else if (sl_json_to_int(sl_json_get(call->body, "best_of"), 0) > sampling->n_choices) {
        param = "best_of";
        message = "best_of: may not exceed n";
    }
    sampling->sampler.n_logprobs = (int32_t)n;
    if (message) call_fail(call, SL_INVALID, param, NULL, message);
    return !message;
}

void openai_completions(struct call *call)
{
    struct openai_request request;
    int32_t n;
    if (!openai_read(call, &request)) return;
    struct node_submit *submits = read_prompts(call, &n);
    struct completion *completion =
        sl_arena_alloc(http_exchange_arena(call->x), sizeof *completion);
    if (!submits) return;
    if (!completion) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    if (!read_extras(call, &request.sampling, completion, any_tokens(submits, n))) return;
    bool default_max = sl_json_is(sl_json_get(call->body, "max_tokens"), SL_JSON_NULL) &&
                       sl_json_is(sl_json_get(call->body, "max_completion_tokens"), SL_JSON_NULL);
    if (default_max) request.sampling.max_tokens = MAX_TOKENS_DEFAULT;
    for (int32_t i = 0; i < n; i++) {
        submits[i].model = request.model;
        submits[i].keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
        sampling_fill_submit(&request.sampling, &submits[i]);
    }
    struct generation_request generation = {
        .shape = &shape,
        .submits = submits,
        .n_submits = n,
        .stream = request.stream,
        .stream_usage = request.stream_usage,
        .model = request.model,
        .shape_data = completion,
    };
    generation_start(call, &generation);
}
