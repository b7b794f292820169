#include "exec/echo/echo_engine.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/echo/echo_answer.h"
#include "exec/echo/echo_script.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* So many tokens a step at most: cancels and pings are heard between steps. */
#define STEP_TOKENS_MAX 4096
#define BUCKETS 4096 /* of live requests, by id; power of two */
#define LOAD_TICK_MS 10

enum seq_state { SEQ_WAITING, SEQ_RUNNING, SEQ_DONE };

struct request;

struct seq {
    struct request *request;
    enum seq_state state;
    int32_t choice;
    int32_t n_done;          /* tokens given, resumed ones included */
    size_t heap_at;          /* while RUNNING */
    struct seq *prev, *next; /* while WAITING */
    int64_t due_ns;
    int64_t submit_ns, start_ns, first_ns, last_ns;
};

struct request {
    uint64_t id;
    struct request *next; /* in its bucket */
    struct echo_answer answer;
    bool is_embed;
    struct tensor *tensors; /* NULL: no inference; in the arena */
    size_t n_tensors;
    struct sl_arena arena;
    int32_t n_live; /* sequences not DONE, plus one while an event of theirs is being handed out */
    int32_t n_seqs;
    float embedding[ECHO_EMBD];
    struct seq seqs[];
};

struct echo {
    struct echo_script script;
    struct sl_clock clock;
    engine_event_fn on_event;
    void *ctx;
    struct request *buckets[BUCKETS];
    struct seq **heap; /* running, the next due first; [slots] */
    size_t n_running;
    struct seq *first_waiting, *last_waiting;
    int64_t n_waiting;
    struct engine_stats stats;
    int64_t n_tokens; /* given in all: crash_at and hang_at count these */
};

static int64_t now_ns(const struct echo *echo)
{
    return sl_clock_now_ns(&echo->clock);
}

/* The heap: echo->heap[i] is due no later than its children at 2 i + 1 and 2 i + 2. */

static void heap_put(struct echo *echo, size_t at, struct seq *seq)
{
    echo->heap[at] = seq;
    seq->heap_at = at;
}

static void heap_up(struct echo *echo, struct seq *seq)
{
    size_t at = seq->heap_at;
    while (at > 0 && echo->heap[(at - 1) / 2]->due_ns > seq->due_ns) {
        heap_put(echo, at, echo->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(echo, at, seq);
}

static void heap_down(struct echo *echo, struct seq *seq)
{
    size_t at = seq->heap_at;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= echo->n_running) break;
        if (child + 1 < echo->n_running &&
            echo->heap[child + 1]->due_ns < echo->heap[child]->due_ns)
            child++;
        if (echo->heap[child]->due_ns >= seq->due_ns) break;
        heap_put(echo, at, echo->heap[child]);
        at = child;
    }
    heap_put(echo, at, seq);
}

static void heap_add(struct echo *echo, struct seq *seq)
{
    heap_put(echo, echo->n_running++, seq);
    heap_up(echo, seq);
}

static void heap_remove(struct echo *echo, struct seq *seq)
{
    struct seq *last = echo->heap[--echo->n_running];
    if (last == seq) return;
    heap_put(echo, seq->heap_at, last);
    heap_up(echo, last);
    heap_down(echo, last);
}

static void queue_add(struct echo *echo, struct seq *seq)
{
    seq->prev = echo->last_waiting;
    seq->next = NULL;
    *(seq->prev ? &seq->prev->next : &echo->first_waiting) = seq;
    echo->last_waiting = seq;
    echo->n_waiting++;
}

static void queue_remove(struct echo *echo, struct seq *seq)
{
    *(seq->prev ? &seq->prev->next : &echo->first_waiting) = seq->next;
    *(seq->next ? &seq->next->prev : &echo->last_waiting) = seq->prev;
    echo->n_waiting--;
}

static struct request **find_request(struct echo *echo, uint64_t id)
{
    struct request **at = &echo->buckets[id % BUCKETS];
    while (*at && (*at)->id != id) at = &(*at)->next;
    return at;
}

static void request_free(struct request *request)
{
    echo_answer_done(&request->answer);
    sl_arena_done(&request->arena);
    sl_free(request);
}

/* The request goes with the last of its sequences, or after the event that ended it. */
static void release(struct echo *echo, struct request *request)
{
    if (--request->n_live) return;
    *find_request(echo, request->id) = request->next;
    request_free(request);
}

static void emit(struct echo *echo, const struct seq *seq, struct engine_event *event)
{
    event->id = seq->request->id;
    event->choice = seq->choice;
    echo->on_event(echo->ctx, event);
}

static void finish(struct echo *echo, struct seq *seq, enum engine_finish how)
{
    const struct echo_answer *answer = &seq->request->answer;
    const struct engine_usage usage = {
        .n_prompt = answer->n_prompt,
        .n_generated = seq->n_done,
        .queue_ns = seq->start_ns ? seq->start_ns - seq->submit_ns : 0,
        .first_token_ns = seq->first_ns ? seq->first_ns - seq->submit_ns : 0,
        .prefill_ns = seq->first_ns ? seq->first_ns - seq->start_ns : 0,
        .decode_ns = seq->last_ns - seq->first_ns,
    };
    struct engine_event event = {
        .type = ENGINE_EVENT_DONE, .finish = how, .text = "", .message = "", .usage = &usage};
    if (seq->state == SEQ_WAITING) queue_remove(echo, seq);
    if (seq->state == SEQ_RUNNING) heap_remove(echo, seq);
    seq->state = SEQ_DONE;
    emit(echo, seq, &event);
    release(echo, seq->request);
}

static void admit(struct echo *echo, int64_t now)
{
    while (echo->first_waiting && echo->n_running < (size_t)echo->script.slots) {
        struct seq *seq = echo->first_waiting;
        queue_remove(echo, seq);
        seq->state = SEQ_RUNNING;
        seq->start_ns = now;
        seq->due_ns = now + echo->script.prefill_us * 1000;
        heap_add(echo, seq);
    }
}

static void misbehave(const struct echo *echo)
{
    if (echo->n_tokens == echo->script.crash_at) abort();
    while (echo->n_tokens == echo->script.hang_at) pause();
}

/* A request that brings the engine down whenever it comes. */
static void swallow(const struct echo *echo, const struct echo_answer *answer)
{
    const char *poison = echo->script.poison;
    if (poison && memmem(answer->text, answer->n_text, poison, strlen(poison))) abort();
}

static void emit_prefill(struct echo *echo, struct seq *seq, int64_t now)
{
    int32_t n = seq->request->answer.n_prompt;
    struct engine_event event = {.type = ENGINE_EVENT_PREFILL, .n_done = n, .n_total = n};
    swallow(echo, &seq->request->answer);
    seq->first_ns = now;
    echo->stats.n_prompt_tokens += (uint64_t)n;
    emit(echo, seq, &event);
}

static void emit_token(struct echo *echo, struct seq *seq)
{
    const struct echo_answer *answer = &seq->request->answer;
    char text[8]; /* a character of UTF-8 */
    size_t n_text = 0;
    int32_t end = echo_answer_shown(answer, seq->n_done + 1);
    for (int32_t i = echo_answer_shown(answer, seq->n_done); i < end; i++)
        text[n_text++] = (char)echo_answer_token(answer, i);
    struct engine_event event = {.type = ENGINE_EVENT_TOKEN,
                                 .token = echo_answer_token(answer, seq->n_done),
                                 .text = text,
                                 .n_text = n_text};
    seq->n_done++;
    echo->n_tokens++;
    misbehave(echo);
    emit(echo, seq, &event);
}

static void emit_embedding(struct echo *echo, struct seq *seq)
{
    struct engine_event event = {
        .type = ENGINE_EVENT_EMBEDDING, .embedding = seq->request->embedding, .n_embd = ECHO_EMBD};
    emit(echo, seq, &event);
}

static void emit_tensors(struct echo *echo, struct seq *seq)
{
    struct engine_event event = {.type = ENGINE_EVENT_TENSORS,
                                 .tensors = seq->request->tensors,
                                 .n_tensors = seq->request->n_tensors};
    echo->n_tokens++;
    echo->stats.n_rows++;
    echo->stats.n_runs++;
    misbehave(echo);
    emit(echo, seq, &event);
}

/* One token of one sequence. Each event may cancel the sequence that it is about. */
static void advance(struct echo *echo, struct seq *seq, int64_t now)
{
    struct request *request = seq->request;
    const struct echo_answer *answer = &request->answer;
    int64_t pace_ns = echo->script.pace_us * 1000;
    bool at_once = request->is_embed || request->tensors;
    request->n_live++;
    seq->due_ns = pace_ns ? seq->due_ns + pace_ns : now + 1;
    heap_down(echo, seq);
    if (!seq->first_ns && !request->tensors) emit_prefill(echo, seq, now);
    seq->last_ns = now;
    if (seq->state == SEQ_RUNNING && request->tensors)
        emit_tensors(echo, seq);
    else if (seq->state == SEQ_RUNNING && request->is_embed)
        emit_embedding(echo, seq);
    else if (seq->state == SEQ_RUNNING && seq->n_done < answer->n_tokens)
        emit_token(echo, seq);
    if (seq->state == SEQ_RUNNING && (at_once || seq->n_done >= answer->n_tokens))
        finish(echo, seq, answer->finish);
    release(echo, request);
}

static sl_status echo_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct echo *echo = self;
    int64_t now = now_ns(echo);
    int n = 0;
    (void)err;
    admit(echo, now);
    for (; n < STEP_TOKENS_MAX && echo->n_running && echo->heap[0]->due_ns <= now; n++)
        advance(echo, echo->heap[0], now);
    if (n) echo->stats.n_steps++;
    *out_idle = n == 0;
    return SL_OK;
}

static int64_t echo_next_ns(const void *self)
{
    const struct echo *echo = self;
    if (echo->first_waiting && echo->n_running < (size_t)echo->script.slots) return 0;
    if (!echo->n_running) return -1;
    int64_t left = echo->heap[0]->due_ns - now_ns(echo);
    return left > 0 ? left : 0;
}

static sl_status admission(struct echo *echo, uint64_t id, int32_t n_seqs, struct sl_err *err)
{
    if (*find_request(echo, id))
        return sl_err_set(err, SL_EXISTS, "request %llu is live", (unsigned long long)id);
    int64_t room = echo->script.slots + echo->script.queue;
    if ((int64_t)echo->n_running + echo->n_waiting + n_seqs > room)
        return sl_err_set(err, SL_BUSY, "%lld requests wait", (long long)echo->n_waiting);
    return SL_OK;
}

static struct request *request_create(uint64_t id, int32_t n_seqs, struct sl_err *err)
{
    struct request *request = sl_calloc(1, sizeof *request + (size_t)n_seqs * sizeof(struct seq));
    if (!request) {
        (void)sl_err_set(err, SL_NOMEM, "request");
        return NULL;
    }
    request->id = id;
    request->n_seqs = request->n_live = n_seqs;
    sl_arena_init(&request->arena, (size_t)TENSOR_BYTES_MAX * 2);
    return request;
}

static void enqueue(struct echo *echo, struct request *request, int32_t first_choice, size_t n_done)
{
    int64_t now = now_ns(echo);
    *find_request(echo, request->id) = request;
    for (int32_t i = 0; i < request->n_seqs; i++) {
        struct seq *seq = &request->seqs[i];
        *seq = (struct seq){.request = request,
                            .choice = first_choice + i,
                            .n_done = (int32_t)n_done,
                            .submit_ns = now};
        queue_add(echo, seq);
    }
}

static sl_status echo_submit(void *self, const struct engine_generate *req, struct sl_err *err)
{
    struct echo *echo = self;
    const struct echo_limits limits = {.text = echo->script.text,
                                       .n_tokens = (int32_t)echo->script.tokens,
                                       .n_ctx = (int32_t)echo->script.ctx};
    int32_t n_seqs = req->n_choices ? req->n_choices : 1;
    if (n_seqs < 0 || n_seqs > ENGINE_CHOICES_MAX || req->choice_base < 0 ||
        req->choice_base > ENGINE_CHOICES_MAX - n_seqs)
        return sl_err_set(err, SL_INVALID, "%d choices from %d on; at most %d", n_seqs,
                          req->choice_base, ENGINE_CHOICES_MAX);
    if (req->n_resume && n_seqs > 1)
        return sl_err_set(err, SL_INVALID, "only one choice can be resumed");
    sl_status status = admission(echo, req->id, n_seqs, err);
    if (status != SL_OK) return status;
    struct request *request = request_create(req->id, n_seqs, err);
    if (!request) return SL_NOMEM;
    status = echo_answer_init(&request->answer, req, &limits, err);
    if (status == SL_OK)
        enqueue(echo, request, req->choice_base, req->n_resume);
    else
        request_free(request);
    return status;
}

static sl_status echo_embed(void *self, const struct engine_embed *req, struct sl_err *err)
{
    struct echo *echo = self;
    const struct engine_generate prompt = {.text = req->text,
                                           .n_text = req->n_text,
                                           .tokens = req->tokens,
                                           .n_tokens = req->n_tokens,
                                           .max_tokens = 1};
    const struct echo_limits limits = {.n_ctx = (int32_t)echo->script.ctx};
    sl_status status = admission(echo, req->id, 1, err);
    if (status != SL_OK) return status;
    struct request *request = request_create(req->id, 1, err);
    if (!request) return SL_NOMEM;
    status = echo_answer_init(&request->answer, &prompt, &limits, err);
    if (status != SL_OK) {
        request_free(request);
        return status;
    }
    request->is_embed = true;
    request->answer.finish = ENGINE_FINISH_STOP;
    echo_embedding(request->answer.text, request->answer.n_text, request->embedding, ECHO_EMBD);
    enqueue(echo, request, 0, 0);
    return SL_OK;
}

/* The inputs that `req` wants back, all of them without a wish. */
static sl_status choose_tensors(const struct engine_infer *req, struct tensor *out, size_t *n,
                                struct sl_err *err)
{
    *n = req->n_outputs ? req->n_outputs : req->n_inputs;
    for (size_t i = 0; i < *n; i++) {
        size_t at = req->n_outputs ? 0 : i;
        while (req->n_outputs && at < req->n_inputs &&
               strcmp(req->outputs[i], req->inputs[at].name) != 0)
            at++;
        if (at == req->n_inputs)
            return sl_err_set(err, SL_INVALID, "there is no output \"%.80s\": it gives its inputs",
                              req->outputs[i]);
        out[i] = req->inputs[at];
    }
    return SL_OK;
}

static sl_status echo_infer(void *self, const struct engine_infer *req, struct sl_err *err)
{
    struct echo *echo = self;
    sl_status status = admission(echo, req->id, 1, err);
    if (status != SL_OK) return status;
    struct request *request = request_create(req->id, 1, err);
    struct tensor *chosen = sl_calloc(req->n_inputs + req->n_outputs + 1, sizeof *chosen);
    status = request && chosen ? choose_tensors(req, chosen, &request->n_tensors, err) : SL_NOMEM;
    if (status == SL_OK)
        status = tensors_copy(chosen, request->n_tensors, &request->arena, &request->tensors);
    sl_free(chosen);
    if (status == SL_NOMEM) (void)sl_err_set(err, status, "tensors");
    if (status == SL_OK) {
        request->answer.finish = ENGINE_FINISH_STOP;
        enqueue(echo, request, 0, 0);
        if (req->hold) req->hold->release(req->hold);
    } else if (request) {
        request_free(request);
    }
    return status;
}

static void cancel_all(struct echo *echo, struct request *request)
{
    request->n_live++;
    for (int32_t i = 0; i < request->n_seqs; i++) {
        if (request->seqs[i].state != SEQ_DONE)
            finish(echo, &request->seqs[i], ENGINE_FINISH_CANCELLED);
    }
    release(echo, request);
}

static sl_status echo_cancel(void *self, uint64_t id)
{
    struct request *request = *find_request(self, id);
    if (!request) return SL_NOT_FOUND;
    cancel_all(self, request);
    return SL_OK;
}

static void echo_stats(const void *self, struct engine_stats *out)
{
    const struct echo *echo = self;
    *out = echo->stats;
    out->n_waiting = (int32_t)echo->n_waiting;
    out->n_running = (int32_t)echo->n_running;
    out->weight_bytes = (uint64_t)echo->script.bytes;
    out->n_generated_tokens = (uint64_t)echo->n_tokens;
}

static void echo_info(const void *self, struct engine_info *out)
{
    const struct echo *echo = self;
    *out = (struct engine_info){.architecture = "echo",
                                .name = "echo",
                                .chat_template = echo->script.chat_template,
                                .bos_text = "",
                                .eos_text = "",
                                .n_ctx = (int32_t)echo->script.ctx,
                                .n_ctx_model = (int32_t)echo->script.ctx,
                                .n_vocab = 256,
                                .n_embd = ECHO_EMBD,
                                .n_seqs_max = (int32_t)echo->script.slots,
                                .embeds = true,
                                .quantization = "none"};
}

static sl_status echo_tokenize(void *self, const char *text, size_t n, bool parse_special,
                               struct sl_buf *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    size_t before = out->len;
    (void)self;
    (void)parse_special;
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        int32_t token = (unsigned char)text[i];
        status = sl_buf_add(out, &token, sizeof token);
    }
    if (status == SL_OK) return SL_OK;
    sl_buf_truncate(out, before);
    return sl_err_set(err, status, "%zu tokens", n);
}

static sl_status echo_detokenize(void *self, const int32_t *tokens, size_t n, struct sl_buf *out,
                                 struct sl_err *err)
{
    char *bytes = sl_malloc(n + 1);
    (void)self;
    if (!bytes) return sl_err_set(err, SL_NOMEM, "%zu tokens", n);
    sl_status status = echo_tokens_to_bytes(tokens, n, bytes, err);
    if (status == SL_OK) {
        echo_text_make_valid(bytes, n);
        status = sl_buf_add(out, bytes, n);
        if (status != SL_OK) (void)sl_err_set(err, status, "%zu tokens", n);
    }
    sl_free(bytes);
    return status;
}

static void echo_destroy(struct echo *echo)
{
    if (!echo) return;
    echo_script_done(&echo->script);
    sl_free(echo->heap);
    sl_free(echo);
}

static void echo_unload(void *self)
{
    struct echo *echo = self;
    for (int i = 0; i < BUCKETS; i++) {
        while (echo->buckets[i]) cancel_all(echo, echo->buckets[i]);
    }
    echo_destroy(echo);
}

static const struct engine_ops echo_ops = {
    .name = "echo",
    .submit = echo_submit,
    .cancel = echo_cancel,
    .step = echo_step,
    .stats = echo_stats,
    .unload = echo_unload,
    .embed = echo_embed,
    .info = echo_info,
    .tokenize = echo_tokenize,
    .detokenize = echo_detokenize,
    .next_ns = echo_next_ns,
    .infer = echo_infer,
};

static bool report(const struct echo_engine_cfg *cfg, int64_t done, int64_t total)
{
    return !cfg->on_load || cfg->on_load(cfg->ctx, total ? (double)done / (double)total : 1);
}

static sl_status pretend_to_load(const struct echo_script *script,
                                 const struct echo_engine_cfg *cfg, struct sl_err *err)
{
    const struct timespec tick = {.tv_nsec = LOAD_TICK_MS * 1000000};
    for (int64_t ms = 0; ms < script->load_ms; ms += LOAD_TICK_MS) {
        if (!report(cfg, ms, script->load_ms))
            return sl_err_set(err, SL_CANCELLED, "echo engine: the load was given up");
        nanosleep(&tick, NULL);
    }
    if (script->crash_on_load) abort();
    if (script->load_fail) return sl_err_set(err, SL_CORRUPT, "%s", script->load_fail);
    if (!report(cfg, 1, 1))
        return sl_err_set(err, SL_CANCELLED, "echo engine: the load was given up");
    return SL_OK;
}

static void apply_cfg(struct echo *echo, const struct echo_engine_cfg *cfg)
{
    echo->clock = cfg->clock ? *cfg->clock : sl_clock_system();
    echo->on_event = cfg->on_event;
    echo->ctx = cfg->ctx;
    if (cfg->n_ctx > 0) echo->script.ctx = cfg->n_ctx;
    if (cfg->n_seqs_max > 0) echo->script.slots = cfg->n_seqs_max;
    if (cfg->n_queue_max > 0) echo->script.queue = cfg->n_queue_max;
}

sl_status echo_engine_load(const char *script, const struct echo_engine_cfg *cfg,
                           struct engine **out, struct sl_err *err)
{
    struct echo *echo = sl_calloc(1, sizeof *echo);
    if (!echo) return sl_err_set(err, SL_NOMEM, "echo engine");
    sl_status status = echo_script_parse(script, &echo->script, err);
    if (status != SL_OK) goto fail;
    apply_cfg(echo, cfg);
    status = SL_NOMEM;
    echo->heap = sl_calloc((size_t)echo->script.slots, sizeof(struct seq *));
    if (!echo->heap) {
        (void)sl_err_set(err, status, "echo engine: %lld slots", (long long)echo->script.slots);
        goto fail;
    }
    status = pretend_to_load(&echo->script, cfg, err);
    if (status == SL_OK) status = engine_create(&echo_ops, echo, out, err);
    if (status == SL_OK) return SL_OK;
fail:
    echo_destroy(echo);
    return status;
}
