/* dispatch_request.c: a request from submit to its end: what is kept of it so that any node can
 * begin or go on with it, and what its owner is told. */
#include "grid/dispatch_int.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include <math.h>
#include <string.h>

#define BLOCK_BYTES 256 /* of a prompt, hashed together: 64 token ids, or about as much text */
#define BLOCK_TOKENS 64
#define BUSY_AFTER_MS 1000 /* what a refused client is told: HTTP counts whole seconds */
#define LEARN_SHARE 0.0625 /* of a new answer in what is expected of the next one */
#define PROMPT_LEARN_MIN 8 /* tokens: of shorter prompts the template is most */
/* What a node's numbers can make of expectations: no vocabulary is outside of it. */
#define BYTES_PER_TOKEN_MIN 0.25
#define BYTES_PER_TOKEN_MAX 64.0
#define OUTPUT_TOKENS_MAX 1e6

/* --- making --- */

static bool has_text(const struct node_submit *req)
{
    return req->task != NODE_DETOKENIZE && req->prompt != NODE_PROMPT_TOKENS;
}

static size_t prompt_bytes(const struct node_submit *req)
{
    return req->n_text + req->n_pair + req->n_tokens * sizeof *req->tokens;
}

static sl_status check(const struct node_submit *req, struct sl_err *err)
{
    if (req->n_choices < 0 || req->n_choices > ENGINE_CHOICES_MAX)
        return sl_err_set(err, SL_INVALID, "n is %d; it goes from 1 to %d", (int)req->n_choices,
                          ENGINE_CHOICES_MAX);
    if ((unsigned)req->qos >= SCHED_CLASS_COUNT)
        return sl_err_set(err, SL_INVALID, "there is no class %d", (int)req->qos);
    if (req->n_text > NODE_PROMPT_BYTES_MAX || prompt_bytes(req) > NODE_PROMPT_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "the prompt has %zu bytes; at most %u are taken",
                          prompt_bytes(req), NODE_PROMPT_BYTES_MAX);
    size_t n_bytes = tensors_bytes(req->inputs, req->n_inputs);
    if (n_bytes > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "the inputs have %zu bytes together; at most %u are taken",
                          n_bytes, TENSOR_BYTES_MAX);
    if (req->n_inputs > TENSORS_MAX || req->n_outputs > TENSORS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d tensors", TENSORS_MAX);
    for (size_t i = 0; i < req->n_inputs; i++)
        if (tensor_check(&req->inputs[i], err) != SL_OK)
            return sl_err_prefix(err, "input \"%.80s\"", req->inputs[i].name);
    return SL_OK;
}

static sl_status make_blocks(struct dispatch_request *request, const struct node_submit *req)
{
    const unsigned char *bytes = (const unsigned char *)req->text;
    size_t n = req->n_text;
    uint64_t hash = request->model->key;
    if (!has_text(req)) {
        bytes = (const unsigned char *)req->tokens;
        n = req->n_tokens * sizeof *req->tokens;
    }
    size_t n_blocks = req->task == NODE_GENERATE ? n / BLOCK_BYTES : 0;
    if (n_blocks > GRID_BLOCKS_MAX) n_blocks = GRID_BLOCKS_MAX;
    request->blocks = sl_malloc(n_blocks * sizeof *request->blocks);
    if (!request->blocks) return SL_NOMEM;
    for (size_t i = 0; i < n_blocks; i++)
        request->blocks[i] = hash = sl_hash64(bytes + i * BLOCK_BYTES, BLOCK_BYTES, hash);
    request->submit.ask.n_blocks = n_blocks;
    return SL_OK;
}

static void expect(struct dispatch_request *request, const struct node_submit *req)
{
    const struct dispatch_model *model = request->model;
    struct pick_ask *ask = &request->submit.ask;
    request->prompt_bytes = has_text(req) ? req->n_text + req->n_pair : 0;
    ask->model = model->number;
    ask->block_tokens = BLOCK_TOKENS;
    if (req->task != NODE_GENERATE && req->task != NODE_EMBED) return;
    ask->prompt_tokens = has_text(req)
                             ? (uint64_t)((double)request->prompt_bytes / model->bytes_per_token)
                             : req->n_tokens;
    if (req->task != NODE_GENERATE) return;
    ask->output_tokens = (uint64_t)model->output_tokens;
    if (req->max_tokens > 0 && (uint64_t)req->max_tokens < ask->output_tokens)
        ask->output_tokens = (uint64_t)req->max_tokens;
    ask->output_tokens *= (uint64_t)request->n_choices;
}

/* What every attempt says alike; attempt, sent, deadline and resume stand in a second part. */
static sl_status make_body(struct dispatch_request *request, const struct node_submit *req,
                           struct sl_err *err)
{
    struct sampler_cfg sampler;
    struct grid_msg msg = {.type = GRID_RUN,
                           .run = {.boot = request->dispatch->cfg.boot,
                                   .request = request->number,
                                   .digest = request->model->digest,
                                   .submit = *req,
                                   .n_prompt = request->submit.ask.prompt_tokens,
                                   .blocks = request->blocks,
                                   .n_blocks = request->submit.ask.n_blocks}};
    sampler_cfg_default(&sampler);
    msg.run.submit.model = request->model->name;
    msg.run.submit.queue_timeout_ns = 0;
    msg.run.submit.resume = NULL;
    if (!req->sampler) msg.run.submit.sampler = &sampler;
    if (!req->now_s) msg.run.submit.now_s = sl_unix_time_ms() / 1000;
    return grid_msg_encode(&msg, &request->body, err);
}

static sl_status make_parts(struct dispatch_request *request, const struct node_submit *req,
                            struct sl_err *err)
{
    request->n_choices = req->task == NODE_GENERATE && req->n_choices > 1 ? req->n_choices : 1;
    request->choices = sl_calloc((size_t)request->n_choices, sizeof *request->choices);
    if (!request->choices) return sl_err_set(err, SL_NOMEM, "request");
    for (int32_t i = 0; i < request->n_choices; i++)
        sl_buf_init(&request->choices[i].tokens, NODE_REQUEST_BYTES_MAX);
    expect(request, req);
    if (make_blocks(request, req) != SL_OK) return sl_err_set(err, SL_NOMEM, "request");
    request->submit.qos_class = req->qos;
    request->submit.deadline_ns =
        req->queue_timeout_ns > 0 ? req->queue_timeout_ns : request->dispatch->cfg.queue_timeout_ns;
    return make_body(request, req, err);
}

static sl_status request_create(struct dispatch *dispatch, struct dispatch_model *model,
                                const struct node_submit *req, struct dispatch_request **out,
                                struct sl_err *err)
{
    struct dispatch_request *request = sl_calloc(1, sizeof *request);
    if (!request) return sl_err_set(err, SL_NOMEM, "no memory for the request");
    request->dispatch = dispatch;
    request->number = ++dispatch->n_requests_ever;
    request->model = model;
    request->task = req->task;
    request->submit_ns = dispatch->real_ns;
    sl_buf_init(&request->body, GRID_MSG_BYTES_MAX);
    model->n_requests++;
    model->asked_for = true;
    sl_status status = make_parts(request, req, err);
    if (status == SL_OK && sl_idmap_put(&dispatch->requests, request->number, request) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "no memory for the request");
    if (status != SL_OK) {
        dispatch_request_free(request);
        return status;
    }
    *out = request;
    return SL_OK;
}

sl_status dispatch_submit(struct dispatch *dispatch, const struct node_submit *req,
                          node_event_fn on_event, void *ctx, struct dispatch_request **out,
                          int64_t *retry_after_ms, struct sl_err *err)
{
    struct dispatch_model *model;
    struct dispatch_request *request = NULL;
    *retry_after_ms = 0;
    dispatch_clock(dispatch);
    sl_status status = dispatch_model_resolve(dispatch, req->model, &model, err);
    if (status == SL_OK) status = check(req, err);
    if (status == SL_OK) status = dispatch_model_hope(dispatch, model, retry_after_ms, err);
    if (status == SL_OK && dispatch->requests.n_entries >= DISPATCH_REQUESTS_MAX) {
        *retry_after_ms = BUSY_AFTER_MS;
        status = sl_err_set(err, SL_BUSY, "%d requests are under way", DISPATCH_REQUESTS_MAX);
    }
    if (status == SL_OK) status = request_create(dispatch, model, req, &request, err);
    if (status != SL_OK) return status;
    request->on_event = on_event;
    request->ctx = ctx;
    dispatch_past_begin(request, req->request_id);
    /* The router's step may end others: their owners hear of it after this call. */
    dispatch_todo(request, TODO_SUBMIT);
    dispatch_wake(dispatch);
    *out = request;
    return SL_OK;
}

void dispatch_cancel(struct dispatch_request *request)
{
    if (request->silent) return;
    request->silent = true;
    dispatch_todo(request, TODO_CANCEL);
    if (!request->dispatch->stepping) dispatch_wake(request->dispatch);
}

uint64_t dispatch_request_number(const struct dispatch_request *request)
{
    return request->number;
}

struct dispatch_request *dispatch_request_find(const struct dispatch *dispatch, uint64_t number)
{
    return sl_idmap_get(&dispatch->requests, number);
}

static void todo_remove(struct dispatch_request *request)
{
    struct dispatch *dispatch = request->dispatch;
    struct dispatch_request *previous = NULL, *at = dispatch->todo_head;
    while (at != request) {
        previous = at;
        at = at->todo_next;
    }
    if (previous)
        previous->todo_next = request->todo_next;
    else
        dispatch->todo_head = request->todo_next;
    if (dispatch->todo_tail == request) dispatch->todo_tail = previous;
}

void dispatch_request_free(struct dispatch_request *request)
{
    for (int i = 0; i < 2; i++)
        if (request->attempts[i].number) dispatch_attempt_close(&request->attempts[i], "stopped");
    if (request->todo != TODO_NONE) todo_remove(request);
    sl_idmap_take(&request->dispatch->requests, request->number);
    request->model->n_requests--;
    for (int32_t i = 0; request->choices && i < request->n_choices; i++)
        sl_buf_done(&request->choices[i].tokens);
    sl_free(request->choices);
    sl_free(request->blocks);
    sl_buf_done(&request->body);
    sl_free(request);
}

/* --- to the owner --- */

bool dispatch_counts(const struct grid_event *event)
{
    return event->type == GRID_EVENT_NODE &&
           (event->node.type == NODE_EVENT_TOKEN || event->node.type == NODE_EVENT_CHOICE_DONE ||
            event->node.type == NODE_EVENT_RESULT);
}

bool dispatch_request_complete(const struct dispatch_request *request)
{
    return request->task == NODE_GENERATE ? request->n_done == request->n_choices
                                          : request->has_result;
}

static void emit(struct dispatch_request *request, const struct node_event *event)
{
    if (!request->silent) request->on_event(request->ctx, event);
}

static void learn(double *mean, double sample, double min, double max)
{
    sample = fmin(fmax(sample, min), max);
    *mean += (sample - *mean) * LEARN_SHARE;
}

/* The first attempt whose answer counts says how the prompt was taken; others drop theirs. */
static void begin(struct dispatch_request *request, const struct dispatch_attempt *attempt)
{
    struct node_event event = attempt->started;
    if (request->started || !attempt->has_started) return;
    request->started = true;
    request->n_prompt = event.n_prompt;
    request->n_cached = event.n_cached;
    if (request->sent_ns) event.queue_ns += request->sent_ns - request->submit_ns;
    request->queue_ns = event.queue_ns;
    if (event.n_prompt >= PROMPT_LEARN_MIN && request->prompt_bytes > 0)
        learn(&request->model->bytes_per_token,
              (double)request->prompt_bytes / (double)event.n_prompt, BYTES_PER_TOKEN_MIN,
              BYTES_PER_TOKEN_MAX);
    event.traits = &attempt->traits;
    emit(request, &event);
}

static void fail_later(struct dispatch_request *request, sl_status status, const char *text)
{
    if (request->silent) return;
    request->fail_status = status;
    request->fail_text = text;
    request->fail_retry_ms = sl_status_retryable(status) ? BUSY_AFTER_MS : 0;
    dispatch_todo(request, TODO_FAIL);
}

/* Notes what the owner is about to be told, so that another node could go on after it. False: it
 * makes no sense, or cannot be noted. */
static bool note(struct dispatch_request *request, const struct node_event *event)
{
    if ((event->type == NODE_EVENT_RESULT) == (request->task == NODE_GENERATE)) return false;
    if (event->type == NODE_EVENT_RESULT) {
        bool first = !request->has_result;
        request->has_result = true;
        return first;
    }
    if (event->choice < 0 || event->choice >= request->n_choices) return false;
    struct dispatch_choice *choice = &request->choices[event->choice];
    if (choice->done) return false;
    if (event->type == NODE_EVENT_CHOICE_DONE) {
        choice->done = true;
        choice->n_generated = event->n_generated;
        request->n_done++;
        return true;
    }
    choice->n_generated++;
    if (sl_buf_add(&choice->tokens, &event->token, sizeof event->token) == SL_OK) return true;
    fail_later(request, SL_NOMEM, "no memory for the answer's tokens");
    return false;
}

void dispatch_deliver(struct dispatch_request *request, struct dispatch_attempt *attempt,
                      uint64_t n_from, uint64_t n_to)
{
    const struct dispatch_window *window = &request->dispatch->window;
    uint64_t count = attempt->n_tokens;
    if (window->attempt != attempt) return;
    begin(request, attempt);
    for (size_t i = 0; i < window->n && count < n_to; i++) {
        const struct grid_event *event = &window->v[i];
        if (!dispatch_counts(event) || ++count <= n_from) continue;
        request->n_tokens = count;
        if (request->silent || request->todo == TODO_FAIL || !note(request, &event->node)) continue;
        if (!request->first_token_ns && event->node.type == NODE_EVENT_TOKEN)
            request->first_token_ns = request->dispatch->real_ns;
        emit(request, &event->node);
    }
}

static void fill_times(const struct dispatch_request *request, const struct node_event *done,
                       struct node_event *event)
{
    int64_t now_ns = request->dispatch->real_ns;
    event->total_ns = now_ns - request->submit_ns;
    event->queue_ns = request->queue_ns;
    event->load_ns = request->load_ns;
    event->first_token_ns =
        request->first_token_ns ? request->first_token_ns - request->submit_ns : 0;
    event->n_prompt = request->n_prompt;
    event->n_cached = request->n_cached;
    event->n_attempts = (int32_t)(request->n_sends ? request->n_sends : 1);
    for (int32_t i = 0; i < request->n_choices; i++)
        event->n_generated += request->choices[i].n_generated;
    if (!done) return;
    event->n_attempts += done->n_attempts > 1 ? done->n_attempts - 1 : 0;
    if (request->started) return;
    event->n_prompt = done->n_prompt;
    event->n_cached = done->n_cached;
    event->queue_ns = done->queue_ns;
}

static void finish(struct dispatch_request *request)
{
    const struct dispatch_window *window = &request->dispatch->window;
    struct node_event event = {.type = NODE_EVENT_DONE};
    const struct node_event *done = NULL;
    if (window->attempt && window->attempt->request == request) {
        begin(request, window->attempt);
        done = window->done;
    }
    fill_times(request, done, &event);
    if (request->task == NODE_GENERATE)
        learn(&request->model->output_tokens, (double)event.n_generated / request->n_choices, 0,
              OUTPUT_TOKENS_MAX);
    dispatch_past_end(request, SL_OK, "finished");
    if (request->silent) return;
    request->silent = true; /* before the call: it may cancel, which is then nothing */
    request->on_event(request->ctx, &event);
}

static void fail(struct dispatch_request *request, const struct router_action *action)
{
    struct node_event event = {.type = NODE_EVENT_FAILED,
                               .status = action->status,
                               .retry_after_ms = (int64_t)action->retry_after_ms,
                               .message = action->reason && *action->reason
                                              ? action->reason
                                              : sl_status_text(action->status)};
    dispatch_past_end(request, action->status, request->silent ? "cancelled" : "failed");
    if (request->silent) return;
    fill_times(request, NULL, &event);
    request->silent = true;
    request->on_event(request->ctx, &event);
}

void dispatch_request_end(struct dispatch_request *request, const struct router_action *action)
{
    const struct router_action lost = {.status = request->fail_status,
                                       .retry_after_ms = (uint64_t)request->fail_retry_ms,
                                       .reason = request->fail_text};
    if (request->todo == TODO_FAIL)
        fail(request, &lost);
    else if (action->status == SL_OK)
        finish(request);
    else
        fail(request, action);
    dispatch_request_free(request);
}
