#include "grid/node_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include <assert.h>
#include <string.h>

#define AGAIN_MS 1000 /* what a client is told whose request failed for want of something */

/* --- life --- */

static const void *copy(struct sl_arena *arena, const void *bytes, size_t n, bool *ok)
{
    if (!bytes) return NULL;
    void *to = sl_arena_alloc(arena, n + 1);
    if (!to) {
        *ok = false;
        return NULL;
    }
    memcpy(to, bytes, n);
    return to;
}

static void copy_stop(struct node_request *r, bool *ok)
{
    struct node_submit *s = &r->submit;
    if (s->n_stop <= 0) return;
    const char **stop = sl_arena_array(&r->arena, (size_t)s->n_stop, sizeof *stop);
    *ok = *ok && stop;
    for (int i = 0; i < s->n_stop && *ok; i++)
        stop[i] = copy(&r->arena, s->stop[i], strlen(s->stop[i]), ok);
    s->stop = stop;
}

static void copy_sampler(struct node_request *r, bool *ok)
{
    if (!r->submit.sampler) {
        sampler_cfg_default(&r->sampler);
        return;
    }
    r->sampler = *r->submit.sampler;
    r->sampler.bias =
        copy(&r->arena, r->sampler.bias, (size_t)r->sampler.n_bias * sizeof *r->sampler.bias, ok);
    r->sampler.dry_breakers =
        copy(&r->arena, r->sampler.dry_breakers,
             (size_t)r->sampler.n_dry_breakers * sizeof *r->sampler.dry_breakers, ok);
}

static void copy_outputs(struct node_request *r, bool *ok)
{
    struct node_submit *s = &r->submit;
    const char **outputs = sl_arena_array(&r->arena, s->n_outputs + 1, sizeof *outputs);
    *ok = *ok && outputs;
    for (size_t i = 0; i < s->n_outputs && *ok; i++)
        outputs[i] = copy(&r->arena, s->outputs[i], strlen(s->outputs[i]), ok);
    s->outputs = outputs;
}

static bool copy_inputs(struct node_request *r)
{
    struct tensor *inputs = NULL;
    struct node_submit *s = &r->submit;
    sl_status status = tensors_copy(s->inputs, s->n_inputs, &r->arena, &inputs);
    s->inputs = inputs;
    return status == SL_OK;
}

static sl_status copy_tensors(struct node_request *r, struct sl_err *err)
{
    struct node_submit *s = &r->submit;
    size_t n_bytes = tensors_bytes(s->inputs, s->n_inputs);
    if (n_bytes > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "the inputs have %zu bytes together; at most %u are taken",
                          n_bytes, TENSOR_BYTES_MAX);
    if (s->n_inputs > TENSORS_MAX || s->n_outputs > TENSORS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d tensors", TENSORS_MAX);
    for (size_t i = 0; i < s->n_inputs; i++)
        if (tensor_check(&s->inputs[i], err) != SL_OK)
            return sl_err_prefix(err, "input \"%.80s\"", s->inputs[i].name);
    bool ok = s->inputs_stay || copy_inputs(r);
    copy_outputs(r, &ok);
    r->n_rows = 1;
    if (ok && s->n_inputs && s->inputs[0].rank > 0 && s->inputs[0].shape[0] <= INT32_MAX)
        r->n_rows = (int32_t)s->inputs[0].shape[0];
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "tensors");
}

/* What its choices have given elsewhere, as if a worker here had died after it. */
static sl_status copy_resume(struct node_request *r, struct sl_err *err)
{
    const struct node_resume *resume = r->submit.resume;
    r->submit.resume = NULL;
    r->resumed = resume && r->submit.task == NODE_GENERATE;
    for (int32_t i = 0; r->resumed && i < r->n_choices; i++) {
        struct node_choice *choice = &r->choices[i];
        if (resume[i].n_tokens > NODE_PROMPT_BYTES_MAX / sizeof *resume[i].tokens)
            return sl_err_set(err, SL_LIMIT, "choice %d resumes with %zu tokens", (int)i,
                              resume[i].n_tokens);
        size_t n_bytes = resume[i].n_tokens * sizeof *resume[i].tokens;
        sl_status status = sl_buf_add(&choice->tokens, resume[i].tokens, n_bytes);
        if (status != SL_OK) return sl_err_set(err, status, "choice %d", (int)i);
        choice->n_generated = (int32_t)resume[i].n_tokens;
        choice->done = resume[i].done;
        r->n_done += resume[i].done;
    }
    return SL_OK;
}

static sl_status copy_submit(struct node_request *r, const struct node_submit *submit,
                             struct sl_err *err)
{
    struct node_submit *s = &r->submit;
    bool ok = true;
    size_t n_bytes = submit->n_text + submit->n_pair + submit->n_tokens * sizeof *s->tokens;
    if (submit->n_text > NODE_PROMPT_BYTES_MAX || n_bytes > NODE_PROMPT_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "the prompt has %zu bytes; at most %u are taken", n_bytes,
                          NODE_PROMPT_BYTES_MAX);
    *s = *submit;
    s->model = r->entry->name;
    s->request_id = NULL; /* only the dispatcher explains */
    s->text = copy(&r->arena, s->text, s->n_text, &ok);
    s->tokens = copy(&r->arena, s->tokens, s->n_tokens * sizeof *s->tokens, &ok);
    s->pair = copy(&r->arena, s->pair, s->n_pair, &ok);
    copy_stop(r, &ok);
    copy_sampler(r, &ok);
    r->choices = sl_arena_array(&r->arena, (size_t)r->n_choices, sizeof *r->choices);
    if (!ok || !r->choices) return sl_err_set(err, SL_NOMEM, "request");
    for (int32_t i = 0; i < r->n_choices; i++)
        sl_buf_init(&r->choices[i].tokens, NODE_REQUEST_BYTES_MAX);
    sl_status status = copy_resume(r, err);
    if (status != SL_OK) return status;
    return s->task == NODE_INFER ? copy_tensors(r, err) : SL_OK;
}

sl_status node_request_create(struct node *node, const struct node_submit *submit,
                              struct node_request **out, struct sl_err *err)
{
    struct node_entry *entry;
    sl_status status = node_entry_of(node, submit->model, false, &entry, err);
    if (status != SL_OK) return status;
    if (submit->n_choices < 0 || submit->n_choices > ENGINE_CHOICES_MAX)
        return sl_err_set(err, SL_INVALID, "n is %d; it goes from 1 to %d", (int)submit->n_choices,
                          ENGINE_CHOICES_MAX);
    if ((unsigned)submit->qos >= SCHED_CLASS_COUNT)
        return sl_err_set(err, SL_INVALID, "there is no class %d", (int)submit->qos);
    struct node_request *r = sl_calloc(1, sizeof *r);
    if (!r) return sl_err_set(err, SL_NOMEM, "request");
    sl_arena_init(&r->arena, NODE_TENSOR_REQUEST_BYTES_MAX);
    r->node = node;
    r->entry = entry;
    r->n_choices = submit->task == NODE_GENERATE && submit->n_choices > 1 ? submit->n_choices : 1;
    r->submit_ns = sl_now_ns();
    r->now_s = submit->now_s ? submit->now_s : sl_unix_time_ms() / 1000;
    status = copy_submit(r, submit, err);
    entry->n_requests++;
    if (status != SL_OK) {
        node_request_free(r);
        return status;
    }
    *out = r;
    return SL_OK;
}

static void unlink_running(struct node_request *r)
{
    if (!r->linked) return;
    if (r->previous)
        r->previous->next = r->next;
    else
        r->entry->running = r->next;
    if (r->next) r->next->previous = r->previous;
    r->next = r->previous = NULL;
    r->linked = false;
}

static void link_running(struct node_request *r)
{
    if (r->linked) return;
    r->next = r->entry->running;
    r->previous = NULL;
    if (r->next) r->next->previous = r;
    r->entry->running = r;
    r->linked = true;
}

void node_request_free(struct node_request *r)
{
    if (!r) return;
    unlink_running(r);
    if (r->choices)
        for (int32_t i = 0; i < r->n_choices; i++) sl_buf_done(&r->choices[i].tokens);
    r->entry->n_requests--;
    sl_arena_done(&r->arena);
    sl_free(r);
}

/* --- events to the owner --- */

static void emit(struct node_request *r, const struct node_event *event)
{
    if (!r->silent) r->on_event(r->ctx, event);
}

static void fill_times(const struct node_request *r, struct node_event *event)
{
    int64_t now = sl_now_ns();
    event->queue_ns = r->first_step_ns ? r->first_step_ns - r->submit_ns : 0;
    event->first_token_ns = r->first_token_ns ? r->first_token_ns - r->submit_ns : 0;
    event->load_ns = r->load_ns;
    event->total_ns = now - r->submit_ns;
    event->n_attempts = r->n_attempts;
    event->n_prompt = r->n_prompt;
    event->n_cached = r->n_cached;
    for (int32_t i = 0; i < r->n_choices; i++) event->n_generated += r->choices[i].n_generated;
}

static void emit_failed(struct node_request *r, sl_status status, const char *message,
                        int64_t retry_after_ms)
{
    struct node_event event = {.type = NODE_EVENT_FAILED,
                               .status = status,
                               .message = message,
                               .retry_after_ms = retry_after_ms};
    if (r->silent) return;
    fill_times(r, &event);
    r->node->stats.n_failed++;
    r->silent = true; /* before the call: it may cancel, which is then nothing */
    r->on_event(r->ctx, &event);
}

/* The worker is done with it: so is the scheduler, and the owner unless it was told before. */
static void end(struct node_request *r)
{
    struct node *node = r->node;
    struct sched_event finished = {.kind = SCHED_FINISHED, .request = r->id};
    sl_idmap_take(&node->requests, r->id);
    unlink_running(r);
    node_step(node, &finished);
    if (!r->silent) {
        struct node_event event = {.type = NODE_EVENT_DONE};
        node->stats.n_done++;
        fill_times(r, &event);
        r->silent = true;
        r->on_event(r->ctx, &event);
    }
    node_request_free(r);
}

void node_request_finish(struct node_request *r)
{
    end(r);
}

void node_request_refuse(struct node_request *r, const struct sched_action *action)
{
    sl_idmap_take(&r->node->requests, r->id);
    emit_failed(r, action->status, action->reason ? action->reason : "refused",
                (int64_t)action->retry_after_ms);
    node_request_free(r);
}

/* --- to the worker --- */

static uint64_t part_id(const struct node_request *r, unsigned part)
{
    return r->id << NODE_PART_BITS | part;
}

static struct wire_prompt prompt_of(const struct node_request *r)
{
    const struct node_submit *s = &r->submit;
    struct wire_prompt prompt = {.parse_special = s->parse_special, .now_s = r->now_s};
    if (s->prompt == NODE_PROMPT_TOKENS) {
        prompt.tokens = s->tokens;
        prompt.n_tokens = s->n_tokens;
    } else if (s->prompt == NODE_PROMPT_CHAT) {
        prompt.chat = s->text;
        prompt.n_chat = s->n_text;
    } else {
        prompt.text = s->text;
        prompt.n_text = s->n_text;
    }
    return prompt;
}

static sl_status send_generate(struct node_request *r, unsigned part, struct sl_err *err)
{
    const struct node_submit *s = &r->submit;
    struct wire_generate req = {
        .id = part_id(r, part),
        .prompt = prompt_of(r),
        .max_tokens = s->max_tokens,
        .n_choices = r->n_choices,
        .ignore_end = s->ignore_end,
        .sampler = r->sampler,
        .stop = s->stop,
        .n_stop = s->n_stop,
    };
    if (part != NODE_PART_ALL) {
        const struct node_choice *choice = &r->choices[part - 1];
        req.n_choices = 1;
        req.choice_base = (int32_t)part - 1;
        req.resume = (const int32_t *)(const void *)choice->tokens.data;
        req.n_resume = choice->tokens.len / sizeof *req.resume;
        if (!req.n_resume) req.resume = NULL;
    }
    return worker_generate(r->entry->worker, &req, err);
}

static sl_status send_other(struct node_request *r, struct sl_err *err)
{
    const struct node_submit *s = &r->submit;
    uint64_t id = part_id(r, NODE_PART_ALL);
    if (s->task == NODE_EMBED) {
        struct wire_embed req = {.id = id,
                                 .prompt = prompt_of(r),
                                 .pooling = s->pooling,
                                 .no_normalize = s->no_normalize,
                                 .pair = s->pair,
                                 .n_pair = s->n_pair};
        return worker_embed(r->entry->worker, &req, err);
    }
    if (s->task == NODE_INFER) {
        struct wire_infer req = {.id = id,
                                 .inputs = s->inputs,
                                 .n_inputs = s->n_inputs,
                                 .outputs = s->outputs,
                                 .n_outputs = s->n_outputs};
        return worker_infer(r->entry->worker, &req, err);
    }
    if (s->task == NODE_TOKENIZE) {
        struct wire_tokenize req = {id, prompt_of(r), s->no_bos};
        return worker_tokenize(r->entry->worker, &req, err);
    }
    struct wire_detokenize req = {id, s->tokens, s->n_tokens};
    return worker_detokenize(r->entry->worker, &req, err);
}

static sl_status send_part(struct node_request *r, unsigned part, struct sl_err *err)
{
    sl_status status =
        r->submit.task == NODE_GENERATE ? send_generate(r, part, err) : send_other(r, err);
    if (status == SL_OK) r->parts |= UINT32_C(1) << part;
    return status;
}

/* Choices are replayed one by one, since each has come to a place of its own. */
static sl_status send_all(struct node_request *r, struct sl_err *err)
{
    sl_status status = SL_OK;
    bool replays = r->started || r->resumed;
    if (!replays || r->submit.task != NODE_GENERATE) return send_part(r, NODE_PART_ALL, err);
    for (int32_t i = 0; i < r->n_choices && status == SL_OK; i++)
        if (!r->choices[i].done) status = send_part(r, (unsigned)i + 1, err);
    return status;
}

/* Tells the owner, and lets go of the request once the worker has. */
static void fail(struct node_request *r, sl_status status, const char *message)
{
    struct sched_event cancel = {.kind = SCHED_CANCEL, .request = r->id};
    emit_failed(r, status, message, sl_status_retryable(status) ? AGAIN_MS : 0);
    if (r->parts)
        node_step(r->node, &cancel);
    else
        end(r);
}

static void begin(struct node_request *r)
{
    if (r->started) return;
    struct node_event event = {.type = NODE_EVENT_STARTED,
                               .n_prompt = r->n_prompt,
                               .n_cached = r->n_cached,
                               .opens_thinking = r->opens_thinking,
                               .traits = &r->entry->traits};
    r->started = true;
    event.queue_ns = r->first_step_ns > 0 ? r->first_step_ns - r->submit_ns : 0;
    emit(r, &event);
}

/* All of its choices had ended before it came here. The owner may cancel it when it hears of the
 * start. */
static void end_resumed(struct node_request *r)
{
    struct node *node = r->node;
    uint64_t id = r->id;
    begin(r);
    if (sl_idmap_get(&node->requests, id)) end(r);
}

void node_request_dispatch(struct node_request *r)
{
    struct sl_err err = SL_ERR_INIT;
    struct node_entry *entry = r->entry;
    if (!r->n_attempts++) r->dispatch_ns = sl_now_ns();
    r->progressed = false;
    if (!r->first_step_ns && entry->loaded_at_ns > r->submit_ns)
        r->load_ns = entry->loaded_at_ns - r->submit_ns;
    link_running(r);
    if (r->submit.task == NODE_LOAD) {
        node_request_finish(r);
        return;
    }
    /* A worker that is on its way out takes nothing: its exit brings the request back to the
     * queue. */
    if (!entry->worker || !worker_ready(entry->worker)) return;
    sl_status status = send_all(r, &err);
    if (status == SL_OK && !r->parts) end_resumed(r);
    if (status == SL_OK || status == SL_UNAVAILABLE) return;
    fail(r, status == SL_BUSY ? SL_UNAVAILABLE : status, err.text);
}

void node_request_cancel_parts(struct node_request *r)
{
    struct sl_err err = SL_ERR_INIT;
    for (unsigned part = 0; part <= (unsigned)r->n_choices && r->entry->worker; part++)
        if (r->parts >> part & 1 &&
            worker_cancel(r->entry->worker, part_id(r, part), &err) != SL_OK)
            return; /* it is on its way out: its exit ends what runs on it */
}

/* --- from the worker --- */

static void on_prefill(struct node_request *r, const struct engine_event *e)
{
    if (!r->started) {
        r->n_prompt = e->n_total;
        r->n_cached = e->n_cached;
    }
    begin(r);
}

static void on_token(struct node_request *r, struct node_choice *choice,
                     const struct engine_event *e)
{
    begin(r);
    if (!r->progressed) {
        struct sched_event progress = {.kind = SCHED_PROGRESS, .request = r->id};
        r->progressed = true;
        node_step(r->node, &progress);
    }
    if (!r->first_token_ns) r->first_token_ns = sl_now_ns();
    if (sl_buf_add(&choice->tokens, &e->token, sizeof e->token) != SL_OK) {
        fail(r, SL_NOMEM, "no memory for the answer's tokens");
        return;
    }
    choice->n_generated++;
    struct node_event event = {.type = NODE_EVENT_TOKEN,
                               .choice = (int32_t)(choice - r->choices),
                               .token = e->token,
                               .text = e->text,
                               .n_text = e->n_text,
                               .has_logprob = e->has_logprob,
                               .logprob = e->logprob,
                               .n_top = e->n_top,
                               .top = e->top};
    emit(r, &event);
}

static void on_choice_done(struct node_request *r, struct node_choice *choice,
                           const struct engine_event *e)
{
    choice->done = true;
    r->n_done++;
    if (e->usage) {
        choice->n_generated = e->usage->n_generated;
        if (r->n_attempts == 1 && choice == r->choices) { /* others share what the first computed */
            r->first_step_ns = r->dispatch_ns + e->usage->queue_ns; /* the engine's queue too */
            r->n_prompt = e->usage->n_prompt;
            r->n_cached = e->usage->n_cached;
        }
    }
    begin(r);
    struct node_event event = {.type = NODE_EVENT_CHOICE_DONE,
                               .choice = (int32_t)(choice - r->choices),
                               .text = e->text,
                               .n_text = e->n_text,
                               .finish = e->finish,
                               .n_generated = choice->n_generated};
    emit(r, &event);
}

/* True: that was the last of the part. */
static bool part_is_over(struct node_request *r, unsigned part)
{
    if (part != NODE_PART_ALL) return true;
    return r->n_done == r->n_choices;
}

static void on_done(struct node_request *r, unsigned part, struct node_choice *choice,
                    const struct engine_event *e)
{
    if (choice->done) return;
    /* Nobody cancelled it: the engine is giving up, and its worker's exit has the request
     * replayed. */
    if (!r->silent && e->finish == ENGINE_FINISH_CANCELLED) return;
    if (r->silent || e->finish == ENGINE_FINISH_ERROR) {
        choice->done = true;
        r->n_done++;
    } else {
        on_choice_done(r, choice, e);
    }
    if (part_is_over(r, part)) r->parts &= ~(UINT32_C(1) << part);
    if (!r->silent && e->finish == ENGINE_FINISH_ERROR) {
        fail(r, e->status == SL_OK ? SL_INTERNAL : e->status, e->message ? e->message : "");
        return;
    }
    if (!r->parts) end(r);
}

static void on_engine_event(struct node_request *r, unsigned part, const struct engine_event *e)
{
    int32_t index = part == NODE_PART_ALL ? e->choice : (int32_t)part - 1;
    if (index < 0 || index >= r->n_choices) return; /* nonsense from the worker */
    struct node_choice *choice = &r->choices[index];
    if (e->type == ENGINE_EVENT_DONE) {
        on_done(r, part, choice, e);
    } else if (r->silent || choice->done) {
        return;
    } else if (e->type == ENGINE_EVENT_PREFILL) {
        on_prefill(r, e);
    } else if (e->type == ENGINE_EVENT_TOKEN) {
        on_token(r, choice, e);
    } else if (e->type == ENGINE_EVENT_EMBEDDING && !r->has_result) {
        struct node_event event = {
            .type = NODE_EVENT_RESULT, .embedding = e->embedding, .n_embd = e->n_embd};
        r->has_result = true;
        emit(r, &event);
    } else if (e->type == ENGINE_EVENT_TENSORS && !r->has_result) {
        struct node_event event = {.type = NODE_EVENT_RESULT,
                                   .tensors = e->tensors,
                                   .n_tensors = e->n_tensors,
                                   .n_rows = r->n_rows};
        r->has_result = true;
        emit(r, &event);
    }
}

static void on_result(struct node_request *r, const struct wire_event *e)
{
    struct node_event event = {.type = NODE_EVENT_RESULT,
                               .text = e->text,
                               .n_text = e->n_text,
                               .tokens = e->tokens,
                               .n_tokens = e->n_tokens};
    emit(r, &event);
    r->parts = 0;
    end(r);
}

static void on_rejected(struct node_request *r, unsigned part, const struct wire_event *e)
{
    r->parts &= ~(UINT32_C(1) << part);
    if (!r->silent)
        fail(r, e->status, e->message);
    else if (!r->parts)
        end(r);
}

static void on_event(struct node_entry *entry, const struct wire_event *e)
{
    unsigned part = (unsigned)(e->id & ((UINT64_C(1) << NODE_PART_BITS) - 1));
    struct node_request *r = sl_idmap_get(&entry->node->requests, e->id >> NODE_PART_BITS);
    /* Of a request that is over, or a worker's invention. */
    if (!r || r->entry != entry || !(r->parts >> part & 1)) return;
    switch (e->type) {
    case WIRE_EVENT_ACCEPTED:
        if (!r->first_step_ns) r->first_step_ns = sl_now_ns();
        if (!r->started) r->opens_thinking = e->opens_thinking;
        break;
    case WIRE_EVENT_REJECTED: on_rejected(r, part, e); break;
    case WIRE_EVENT_ENGINE: on_engine_event(r, part, &e->engine); break;
    case WIRE_EVENT_TOKENS:
    case WIRE_EVENT_TEXT: on_result(r, e); break;
    }
}

void node_requests_events(struct node_entry *entry, const struct wire_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) on_event(entry, &events[i]);
}

void node_requests_orphan(struct node_entry *entry)
{
    struct node_request *next;
    for (struct node_request *r = entry->running; r; r = next) {
        next = r->next;
        unlink_running(r);
        r->parts = 0;
        if (!r->silent) continue;
        sl_idmap_take(&entry->node->requests, r->id);
        node_request_free(r);
    }
}
