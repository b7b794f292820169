#include "access/generation.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

#define OUT_PIECE (64u << 10) /* given to the HTTP server at once: a quarter of its backlog */

/* --- life --- */

static void unlist(struct generation *g)
{
    if (!g->listed) return;
    if (g->previous)
        g->previous->next = g->next;
    else
        g->call->gateway->streams = g->next;
    if (g->next) g->next->previous = g->previous;
    g->listed = false;
}

static void list(struct generation *g)
{
    struct gateway *gateway = g->call->gateway;
    g->next = gateway->streams;
    if (g->next) g->next->previous = g;
    gateway->streams = g;
    g->listed = true;
}

static void choice_done(struct generation_choice *choice)
{
    chat_parser_destroy(choice->parser);
    sl_buf_done(&choice->content);
    sl_buf_done(&choice->reasoning);
    sl_buf_done(&choice->logprobs);
    for (int i = 0; i < choice->n_calls; i++) {
        sl_free(choice->calls[i].id);
        sl_free(choice->calls[i].name);
        sl_buf_done(&choice->calls[i].arguments);
    }
    sl_free(choice->calls);
}

static void generation_free(void *work)
{
    struct generation *g = work;
    unlist(g);
    g->call->gateway->n_out_bytes -= g->out_counted;
    for (int32_t i = 0; g->choices && i < g->n_choices; i++) choice_done(&g->choices[i]);
    sl_free(g->choices);
    sl_free(g->parts);
    sl_buf_done(&g->out);
    sl_free(g);
}

static struct generation *generation_create(struct call *call,
                                            const struct generation_request *request)
{
    struct generation *g = sl_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->call = call;
    g->request = *request;
    int32_t n_each = request->submits[0].n_choices > 1 ? request->submits[0].n_choices : 1;
    g->n_choices = n_each * request->n_submits;
    g->created_s = sl_unix_time_ms() / 1000;
    g->last_write_ns = call->begin_ns;
    sl_buf_init(&g->out, GENERATION_OUT_MAX);
    g->choices = sl_calloc((size_t)g->n_choices, sizeof *g->choices);
    g->parts = sl_calloc((size_t)request->n_submits, sizeof *g->parts);
    if (!g->choices || !g->parts) {
        generation_free(g);
        return NULL;
    }
    for (int32_t i = 0; i < request->n_submits; i++)
        g->parts[i] = (struct generation_part){.generation = g, .choice_first = i * n_each};
    for (int32_t i = 0; i < g->n_choices; i++) {
        struct generation_choice *choice = &g->choices[i];
        choice->generation = g;
        choice->index = i;
        sl_buf_init(&choice->content, GENERATION_OUT_MAX);
        sl_buf_init(&choice->reasoning, GENERATION_OUT_MAX);
        sl_buf_init(&choice->logprobs, GENERATION_OUT_MAX);
    }
    return g;
}

/* --- out to the client --- */

static void stop_node(struct generation *g)
{
    for (int32_t i = 0; i < g->request.n_submits; i++) {
        if (g->parts[i].node_request) grid_cancel(g->parts[i].node_request);
        g->parts[i].node_request = NULL;
    }
}

/* Cuts the connection: a client must never take half an answer for a whole one. */
static void drop(struct generation *g)
{
    struct call *call = g->call;
    stop_node(g);
    call->end = METRICS_END_ABORT;
    if (call->saving) {
        call->gone = true; /* the usage writer still has the call: its answer ends it */
        return;
    }
    http_exchange_abort(call->x);
    call_free(call);
}

static void on_drain(void *ctx, struct http_exchange *x);

static sl_status send_head(struct generation *g)
{
    if (g->head_sent) return SL_OK;
    call_add_times(g->call, g->total.queue_ns > 0 ? g->total.queue_ns : -1,
                   g->total.first_token_ns > 0 ? g->total.first_token_ns : -1);
    (void)!http_exchange_header_add(g->call->x, "Cache-Control", "no-cache");
    http_stream_set_drain_handler(g->call->x, on_drain, g);
    g->head_sent = true;
    return http_stream_begin(g->call->x, 200, g->request.shape->stream_type);
}

static void finish_stream(struct generation *g)
{
    struct call *call = g->call;
    http_stream_end(call->x);
    call_free(call);
}

/* Moving what is left to the front costs less than was sent, and a buffer that has grown large for
 * a slow client is given back as soon as it is empty. */
static void compact_out(struct generation *g)
{
    if (g->out_sent < g->out.len / 2) return;
    if (g->out_sent == g->out.len && g->out.cap > OUT_PIECE) {
        sl_buf_done(&g->out);
        sl_buf_init(&g->out, GENERATION_OUT_MAX);
    } else {
        sl_buf_consume(&g->out, g->out_sent);
    }
    g->out_sent = 0;
}

/* As http_stream_write; what it did not take stays in `out`. LIMIT: too much waits. */
static sl_status write_out(struct generation *g)
{
    struct gateway *gateway = g->call->gateway;
    sl_status status = SL_OK;
    while (status == SL_OK && g->out_sent < g->out.len) {
        size_t left = g->out.len - g->out_sent;
        size_t n = left < OUT_PIECE ? left : OUT_PIECE;
        status = http_stream_write(g->call->x, g->out.data + g->out_sent, n);
        if (status == SL_OK) g->out_sent += n;
    }
    compact_out(g);
    gateway->n_out_bytes += g->out.len - g->out_counted;
    g->out_counted = g->out.len;
    bool over = gateway->n_out_bytes > GENERATION_OUT_ALL_MAX && g->out.len > GENERATION_OUT_FAIR;
    return over ? SL_LIMIT : status;
}

/* False: g is gone. */
static bool flush(struct generation *g)
{
    sl_status status = send_head(g);
    if (status == SL_OK) status = write_out(g);
    g->last_write_ns = sl_now_ns();
    /* BUSY: on_drain goes on. CANCELLED: the close handler is on its way and ends the call. */
    if (status == SL_OK || status == SL_BUSY || status == SL_CANCELLED) return true;
    drop(g);
    return false;
}

static void on_drain(void *ctx, struct http_exchange *x)
{
    struct generation *g = ctx;
    (void)x;
    if (!flush(g)) return;
    if (g->ending && !g->out.len) finish_stream(g);
}

/* What a shape returned; a buffer that is full is a client that does not read. False: g is gone. */
static bool wrote(struct generation *g, sl_status status)
{
    if (status == SL_OK) return true;
    drop(g);
    return false;
}

static void end_stream(struct generation *g, sl_status status)
{
    unlist(g);
    if (!wrote(g, status)) return;
    g->ending = true;
    if (flush(g) && !g->out.len) finish_stream(g);
}

/* --- the end --- */

static const char *end_word(const struct generation *g)
{
    const char *word = "stop";
    for (int32_t i = 0; i < g->n_choices; i++) {
        const char *finish = generation_finish(&g->choices[i]);
        if (strcmp(finish, "stop")) word = finish;
    }
    return word;
}

static enum metrics_end metrics_end_of(const char *word)
{
    if (!strcmp(word, "length")) return METRICS_END_LENGTH;
    return strcmp(word, "tool_calls") ? METRICS_END_STOP : METRICS_END_TOOL_CALLS;
}

/* The row is stored: the last bytes may go. */
static void send_end(struct call *call)
{
    struct generation *g = call->work;
    static const char message[] = "the usage of this request could not be stored";
    if (g->request.stream) {
        bool fails = call->row_failed;
        end_stream(g, fails ? g->request.shape->error(g, 503, message) : g->request.shape->end(g));
        return;
    }
    if (call->row_failed) {
        call_fail(call, SL_UNAVAILABLE, NULL, "usage_not_stored", message);
        return;
    }
    call_add_times(call, g->total.queue_ns, g->total.first_token_ns);
    sl_status status = g->request.shape->whole(g);
    call_respond_json(call, 200, &g->out, status);
}

/* Adds a part's final numbers; the times are those of the part that came first. */
static void add_up(struct generation_part *part, const struct node_event *event)
{
    struct node_event *total = &part->generation->total;
    if (!part->counted) {
        total->n_prompt += event->n_prompt;
        total->n_cached += event->n_cached;
    }
    part->counted = true;
    total->n_generated += event->n_generated;
    if (event->n_attempts > total->n_attempts) total->n_attempts = event->n_attempts;
    if (event->load_ns > total->load_ns) total->load_ns = event->load_ns;
    if (event->queue_ns > 0) total->queue_ns = event->queue_ns;
    if (!total->first_token_ns) total->first_token_ns = event->first_token_ns;
    part->node_request = NULL;
}

static void on_node_done(struct generation_part *part, const struct node_event *event)
{
    struct generation *g = part->generation;
    struct call *call = g->call;
    add_up(part, event);
    if (++g->n_parts_done < g->request.n_submits) return;
    const char *word = end_word(g);
    call->end = metrics_end_of(word);
    call->row.reasoning_tokens = generation_reasoning_tokens(g);
    call_note(call, &g->total, word, 200);
    call_commit(call, send_end);
}

static void send_late_failure(struct call *call)
{
    struct generation *g = call->work;
    end_stream(g, g->request.shape->error(g, call->http_status,
                                          call->body_out.len ? call->body_out.data : "failed"));
}

static void on_node_failed(struct generation_part *part, const struct node_event *event)
{
    struct generation *g = part->generation;
    struct call *call = g->call;
    add_up(part, event);
    stop_node(g);
    call_note(call, &g->total, "error", sl_status_http(event->status));
    if (!g->head_sent) {
        unlist(g);
        call_fail_node(call, event->status, event->message, event->retry_after_ms);
        return;
    }
    call->http_status = event->status == SL_LIMIT ? 400 : sl_status_http(event->status);
    call->end = METRICS_END_ERROR;
    (void)!sl_buf_adds(&call->body_out, event->message);
    call_commit(call, send_late_failure);
}

/* --- the answer --- */

static sl_status add_call(struct generation_choice *choice, const struct chat_event *event)
{
    struct generation_call *calls =
        sl_realloc_array(choice->calls, (size_t)choice->n_calls + 1, sizeof *calls);
    if (!calls) return SL_NOMEM;
    choice->calls = calls;
    struct generation_call *call = &calls[choice->n_calls];
    call->id = sl_strdup(event->id);
    call->name = sl_strdup(event->name);
    sl_buf_init(&call->arguments, GENERATION_OUT_MAX);
    choice->n_calls++;
    return call->id && call->name ? SL_OK : SL_NOMEM;
}

static sl_status collect(struct generation_choice *choice, const struct chat_event *event)
{
    switch (event->type) {
    case CHAT_EVENT_CONTENT: return sl_buf_add(&choice->content, event->text, event->n_text);
    case CHAT_EVENT_REASONING: return sl_buf_add(&choice->reasoning, event->text, event->n_text);
    case CHAT_EVENT_CALL_BEGIN: return add_call(choice, event);
    case CHAT_EVENT_CALL_ARGUMENTS:
        return sl_buf_add(&choice->calls[choice->n_calls - 1].arguments, event->text,
                          event->n_text);
    default: return SL_OK;
    }
}

static sl_status on_chat_event(void *ctx, const struct chat_event *event)
{
    struct generation_choice *choice = ctx;
    struct generation *g = choice->generation;
    choice->thinking = event->type == CHAT_EVENT_REASONING;
    if (!g->request.stream) return collect(choice, event);
    return g->request.shape->piece(choice, event);
}

static sl_status push_text(struct generation_choice *choice, const char *text, size_t n)
{
    if (!n) return SL_OK;
    if (choice->parser) return chat_parser_push(choice->parser, text, n);
    struct chat_event event = {.type = CHAT_EVENT_CONTENT, .text = text, .n_text = n};
    return on_chat_event(choice, &event);
}

static sl_status make_parser(struct generation_choice *choice, const struct node_event *event)
{
    struct generation *g = choice->generation;
    struct sl_err err = SL_ERR_INIT;
    bool thinks = g->traits.thinks && !g->request.no_reasoning;
    struct chat_parser_cfg cfg = {
        .tools = g->traits.tools,
        .has_tools = g->request.has_tools,
        .thinks = thinks,
        .reasoning_open = event->opens_thinking && !g->request.no_reasoning,
        .id_seed = sl_hash64(g->call->id, strlen(g->call->id), (uint64_t)choice->index),
        .event = on_chat_event,
        .ctx = choice,
    };
    choice->thinking = cfg.reasoning_open;
    return chat_parser_create(&cfg, &choice->parser, &err);
}

static sl_status on_started(struct generation_part *part, const struct node_event *event)
{
    struct generation *g = part->generation;
    int32_t end = part->choice_first + g->n_choices / g->request.n_submits;
    sl_status status = SL_OK;
    g->traits = *event->traits;
    g->total.n_prompt += event->n_prompt;
    g->total.n_cached += event->n_cached;
    part->counted = true;
    if (!g->total.queue_ns) g->total.queue_ns = event->queue_ns;
    for (int32_t i = part->choice_first; i < end && g->request.shape->chat && status == SL_OK; i++)
        status = make_parser(&g->choices[i], event);
    return status;
}

/* The text is valid UTF-8: every byte that does not continue a character begins one. */
static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static sl_status on_token(struct generation_choice *choice, const struct node_event *event)
{
    struct generation *g = choice->generation;
    int64_t now = sl_now_ns();
    sl_status status = SL_OK;
    if (choice->last_token_ns)
        metrics_observe(g->call->metrics, METRICS_ITL, now - choice->last_token_ns);
    choice->last_token_ns = now;
    if (!g->total.first_token_ns) {
        g->total.first_token_ns = now - g->call->begin_ns;
        if (g->request.stream) status = g->request.shape->begin(g);
    }
    if (status == SL_OK && event->has_logprob && g->request.shape->logprob)
        status = g->request.shape->logprob(choice, event);
    if (status == SL_OK) status = push_text(choice, event->text, event->n_text);
    choice->n_tokens++;
    choice->n_thinking += choice->thinking;
    choice->text_offset += count_characters(event->text, event->n_text);
    return status;
}

static sl_status on_choice_done(struct generation_choice *choice, const struct node_event *event)
{
    struct generation *g = choice->generation;
    sl_status status = SL_OK;
    choice->finish = event->finish;
    if (g->request.stream && !g->total.first_token_ns) {
        /* The model had nothing to say: the head is still due, once. */
        g->total.first_token_ns = sl_now_ns() - g->call->begin_ns;
        status = g->request.shape->begin(g);
    }
    if (status == SL_OK) status = push_text(choice, event->text, event->n_text);
    if (status == SL_OK && choice->parser) status = chat_parser_finish(choice->parser);
    choice->done = true;
    if (status == SL_OK && g->request.stream) status = g->request.shape->choice_end(choice);
    return status;
}

static void on_node_event(void *ctx, const struct node_event *event)
{
    struct generation_part *part = ctx;
    struct generation *g = part->generation;
    struct generation_choice *choice = &g->choices[part->choice_first + event->choice];
    sl_status status = SL_OK;
    switch (event->type) {
    case NODE_EVENT_STARTED: status = on_started(part, event); break;
    case NODE_EVENT_TOKEN: status = on_token(choice, event); break;
    case NODE_EVENT_CHOICE_DONE: status = on_choice_done(choice, event); break;
    case NODE_EVENT_DONE: on_node_done(part, event); return;
    case NODE_EVENT_FAILED: on_node_failed(part, event); return;
    default: return;
    }
    if (status != SL_OK)
        drop(g);
    else if (g->request.stream && g->out.len)
        flush(g);
}

static void on_gone(struct call *call)
{
    struct generation *g = call->work;
    struct usage_row *row = &call->row;
    row->prompt_tokens = g->total.n_prompt;
    row->cached_tokens = g->total.n_cached;
    for (int32_t i = 0; i < g->n_choices; i++) row->completion_tokens += g->choices[i].n_tokens;
    stop_node(g);
}

void generation_start(struct call *call, const struct generation_request *request)
{
    struct generation *g = generation_create(call, request);
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    if (!g) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    call->work = g;
    call->free_work = generation_free;
    call->on_gone = on_gone;
    sl_status status = SL_OK;
    for (int32_t i = 0; i < request->n_submits && status == SL_OK; i++) {
        struct node_submit *submit = &g->request.submits[i];
        submit->qos = call->qos;
        submit->tenant = call_tenant(call);
        submit->request_id = call->id;
        submit->queue_timeout_ns = call_queue_timeout_ns(call);
        status = grid_submit(call->gateway->cfg.grid, submit, on_node_event, &g->parts[i],
                             &g->parts[i].node_request, &retry_after_ms, &err);
    }
    if (status != SL_OK) {
        stop_node(g);
        call_fail_node(call, status, err.text, retry_after_ms);
        return;
    }
    if (request->stream && request->shape->ping) list(g);
}

const char *generation_finish(const struct generation_choice *choice)
{
    int n_calls = choice->parser ? chat_parser_n_calls(choice->parser) : 0;
    if (choice->finish == ENGINE_FINISH_STOP && n_calls) return "tool_calls";
    return engine_finish_name(choice->finish);
}

int64_t generation_reasoning_tokens(const struct generation *g)
{
    int64_t n = 0;
    for (int32_t i = 0; i < g->n_choices; i++) n += g->choices[i].n_thinking;
    return n;
}

void generation_ping_all(struct gateway *gateway)
{
    int64_t now = sl_now_ns();
    struct generation *next;
    for (struct generation *g = gateway->streams; g; g = next) {
        next = g->next;
        if (now - g->last_write_ns < GENERATION_PING_NS || g->out.len) continue;
        if (sl_buf_adds(&g->out, g->request.shape->ping) == SL_OK) flush(g);
    }
}
