/* wire_reply.c: the messages from a worker. */
#include "exec/wire_int.h"
#include <math.h>
#include <string.h>

#define LOADED_FIELDS(X) \
    X(adds_bos) \
    X(n_ctx) \
    X(n_ctx_model) \
    X(n_vocab) \
    X(n_embd) \
    X(n_layer) \
    X(n_seqs_max) \
    X(n_params) \
    X(embeds) \
    X(ranks) \
    X(batch_max)

#define LOADED_STRINGS(X) \
    X(architecture) \
    X(name) \
    X(bos_text) \
    X(eos_text) \
    X(quantization)

#define LOADED_NUMBERS(X) \
    X(weight_bytes) \
    X(kv_bytes) \
    X(compute_bytes) \
    X(load_ns)

#define USAGE_FIELDS(X) \
    X(n_prompt) \
    X(n_cached) \
    X(n_generated) \
    X(queue_ns) \
    X(first_token_ns) \
    X(prefill_ns) \
    X(decode_ns)

#define STATS_FIELDS(X) \
    X(n_waiting) \
    X(n_running) \
    X(kv_blocks_total) \
    X(kv_blocks_used) \
    X(kv_blocks_cached) \
    X(kv_block_tokens) \
    X(kv_bytes) \
    X(weight_bytes) \
    X(weight_copied_bytes) \
    X(compute_bytes) \
    X(n_steps) \
    X(n_prompt_tokens) \
    X(n_cached_tokens) \
    X(n_generated_tokens) \
    X(n_preemptions) \
    X(n_graph_builds) \
    X(n_graph_reuses) \
    X(n_rows) \
    X(n_runs) \
    X(n_stages) \
    X(n_flights) \
    X(n_hop_steps) \
    X(n_hop_tokens) \
    X(round_ns) \
    X(wire_ns) \
    X(n_alone_steps) \
    X(alone_ns)

typedef Starlane__Worker__Event pb_event;
typedef Starlane__Worker__Logprob pb_logprob;
typedef Starlane__Worker__Usage pb_usage;

#define PB_EVENT(name) STARLANE__WORKER__EVENT_TYPE__##name

_Static_assert((int)ENGINE_FINISH_ERROR == (int)STARLANE__WORKER__FINISH__ERROR,
               "enum engine_finish and Finish have the same values");

static sl_status read_status(uint32_t in, sl_status *out, struct sl_err *err)
{
    if (in >= SL_STATUS_COUNT) return sl_err_set(err, SL_CORRUPT, "status %u", in);
    *out = (sl_status)in;
    return SL_OK;
}

static void encode_loading(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Loading m = STARLANE__WORKER__LOADING__INIT;
    m.fraction = (float)msg->loading;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_loading(const void *message, struct sl_arena *arena, struct wire_msg *out,
                                struct sl_err *err)
{
    const Starlane__Worker__Loading *m = message;
    (void)arena;
    if (!(m->fraction >= 0 && m->fraction <= 1))
        return sl_err_set(err, SL_CORRUPT, "fraction %g", (double)m->fraction);
    out->loading = m->fraction;
    return SL_OK;
}

sl_status wire_put_loaded(const struct wire_loaded *in, Starlane__Worker__Loaded *m,
                          struct sl_arena *scratch)
{
    const struct tensor_signature *signature = &in->info.signature;
    const char *tmpl = in->info.chat_template;
    starlane__worker__loaded__init(m);
#define X(field) m->field = in->info.field;
    LOADED_FIELDS(X)
#undef X
#define X(field) m->field = wire_string(in->info.field);
    LOADED_STRINGS(X)
#undef X
#define X(field) m->field = in->field;
    LOADED_NUMBERS(X)
#undef X
    m->chat_template = wire_bytes(tmpl, tmpl ? strlen(tmpl) : 0);
    m->tools = (uint32_t)in->traits.tools;
    m->thinks = in->traits.thinks;
    m->device = wire_string(in->info.device);
    m->n_inputs = signature->n_inputs;
    m->n_outputs = signature->n_outputs;
    sl_status status = wire_put_specs(signature->inputs, m->n_inputs, scratch, &m->inputs);
    if (status != SL_OK) return status;
    return wire_put_specs(signature->outputs, m->n_outputs, scratch, &m->outputs);
}

static void encode_loaded(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Loaded m;
    sink->status = wire_put_loaded(&msg->loaded, &m, &sink->scratch);
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

sl_status wire_get_loaded(const Starlane__Worker__Loaded *m, struct sl_arena *arena,
                          struct wire_loaded *loaded, struct sl_err *err)
{
    struct tensor_signature *signature = &loaded->info.signature;
    if (m->tools > CHAT_TOOLS_HARMONY)
        return sl_err_set(err, SL_CORRUPT, "tool format %u", m->tools);
    if (m->n_ctx < 0 || m->n_embd < 0 || m->n_vocab < 0)
        return sl_err_set(err, SL_CORRUPT, "a size below 0");
#define X(field) loaded->info.field = m->field;
    LOADED_FIELDS(X)
    LOADED_STRINGS(X)
#undef X
#define X(field) loaded->field = m->field;
    LOADED_NUMBERS(X)
#undef X
    loaded->traits.tools = (enum chat_tool_format)m->tools;
    loaded->traits.thinks = m->thinks;
    if (*m->device) loaded->info.device = m->device;
    signature->n_inputs = m->n_inputs;
    signature->n_outputs = m->n_outputs;
    sl_status status = wire_get_specs(m->inputs, m->n_inputs, arena, &signature->inputs, err);
    if (status == SL_OK)
        status = wire_get_specs(m->outputs, m->n_outputs, arena, &signature->outputs, err);
    if (status != SL_OK || !m->chat_template.len) return status;
    loaded->info.chat_template =
        sl_arena_strndup(arena, (const char *)m->chat_template.data, m->chat_template.len);
    return loaded->info.chat_template ? SL_OK : sl_err_set(err, SL_NOMEM, "chat template");
}

static sl_status decode_loaded(const void *message, struct sl_arena *arena, struct wire_msg *out,
                               struct sl_err *err)
{
    return wire_get_loaded(message, arena, &out->loaded, err);
}

static void encode_load_failed(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__LoadFailed m = STARLANE__WORKER__LOAD_FAILED__INIT;
    m.status = (uint32_t)msg->load_failed.status;
    m.message = wire_string(msg->load_failed.message);
    wire_sink_put(sink, &m.base);
}

static sl_status decode_load_failed(const void *message, struct sl_arena *arena,
                                    struct wire_msg *out, struct sl_err *err)
{
    const Starlane__Worker__LoadFailed *m = message;
    (void)arena;
    out->load_failed.message = m->message;
    return read_status(m->status, &out->load_failed.status, err);
}

/* What one event needs beside its own struct. */
struct event_parts {
    pb_logprob logprob;
    pb_logprob top[ENGINE_TOP_LOGPROBS_MAX];
    pb_logprob *top_refs[ENGINE_TOP_LOGPROBS_MAX];
};

void wire_put_logprob(const struct engine_logprob *in, Starlane__Worker__Logprob *out)
{
    starlane__worker__logprob__init(out);
    out->token = in->token;
    out->logprob = in->logprob;
    out->text = wire_bytes(in->bytes, in->n_bytes);
}

static sl_status fill_token(const struct engine_event *in, pb_event *out, struct sl_arena *scratch)
{
    out->type = PB_EVENT(TOKEN);
    out->token = in->token;
    if (!in->has_logprob) return SL_OK;
    struct event_parts *parts = sl_arena_alloc(scratch, sizeof *parts);
    if (!parts) return SL_NOMEM;
    if (in->n_top > ENGINE_TOP_LOGPROBS_MAX) return SL_LIMIT;
    wire_put_logprob(&in->logprob, &parts->logprob);
    for (int32_t i = 0; i < in->n_top; i++) {
        wire_put_logprob(&in->top[i], &parts->top[i]);
        parts->top_refs[i] = &parts->top[i];
    }
    out->logprob = &parts->logprob;
    out->top = parts->top_refs;
    out->n_top = in->n_top > 0 ? (size_t)in->n_top : 0;
    return SL_OK;
}

static sl_status fill_done(const struct engine_event *in, pb_event *out, struct sl_arena *scratch)
{
    out->type = PB_EVENT(DONE);
    out->finish = (Starlane__Worker__Finish)in->finish;
    out->status = (uint32_t)in->status;
    out->message = wire_string(in->message);
    if (!in->usage) return SL_OK;
    pb_usage *usage = sl_arena_alloc(scratch, sizeof *usage);
    if (!usage) return SL_NOMEM;
    starlane__worker__usage__init(usage);
#define X(field) usage->field = in->usage->field;
    USAGE_FIELDS(X)
#undef X
    out->usage = usage;
    return SL_OK;
}

static float *floats(const float *v)
{
    union {
        const float *in;
        float *out;
    } cast = {.in = v};
    return cast.out;
}

static sl_status fill_engine_event(const struct engine_event *in, pb_event *out,
                                   struct sl_arena *scratch)
{
    out->choice = in->choice;
    out->text = wire_bytes(in->text, in->n_text);
    switch (in->type) {
    case ENGINE_EVENT_TOKEN: return fill_token(in, out, scratch);
    case ENGINE_EVENT_DONE: return fill_done(in, out, scratch);
    case ENGINE_EVENT_PREFILL:
        out->type = PB_EVENT(PREFILL);
        out->n_done = in->n_done;
        out->n_total = in->n_total;
        out->n_cached = in->n_cached;
        return SL_OK;
    case ENGINE_EVENT_EMBEDDING:
        out->type = PB_EVENT(EMBEDDING);
        out->embedding = floats(in->embedding);
        out->n_embedding = in->n_embd > 0 ? (size_t)in->n_embd : 0;
        return SL_OK;
    case ENGINE_EVENT_TENSORS: return SL_OK; /* fill_tensors has them */
    }
    return SL_INVALID;
}

static sl_status fill_tensors(const struct wire_event *in, pb_event *out, struct sl_arena *scratch)
{
    const struct engine_event *event = &in->engine;
    if (event->type != ENGINE_EVENT_TENSORS) return SL_OK;
    out->type = PB_EVENT(TENSORS);
    out->n_tensors = event->n_tensors;
    return wire_put_pieces(event->tensors, in->pieces, event->n_tensors, scratch, &out->tensors);
}

static sl_status fill_event(const struct wire_event *in, pb_event *out, struct sl_arena *scratch)
{
    starlane__worker__event__init(out);
    out->id = in->id;
    if (in->type == WIRE_EVENT_ENGINE) {
        sl_status status = fill_engine_event(&in->engine, out, scratch);
        return status == SL_OK ? fill_tensors(in, out, scratch) : status;
    }
    if (in->type == WIRE_EVENT_REJECTED) {
        out->type = PB_EVENT(REJECTED);
        out->status = (uint32_t)in->status;
        out->message = wire_string(in->message);
        return SL_OK;
    }
    out->type = in->type == WIRE_EVENT_TOKENS ? PB_EVENT(TOKENS_RESULT)
                : in->type == WIRE_EVENT_TEXT ? PB_EVENT(TEXT_RESULT)
                                              : PB_EVENT(ACCEPTED);
    out->text = wire_bytes(in->text, in->n_text);
    out->tokens = wire_ints(in->tokens);
    out->n_tokens = in->tokens ? in->n_tokens : 0;
    out->opens_thinking = in->opens_thinking;
    return SL_OK;
}

static void encode_events(const struct wire_msg *msg, struct wire_sink *sink)
{
    const struct wire_events *in = &msg->events;
    Starlane__Worker__Events m = STARLANE__WORKER__EVENTS__INIT;
    pb_event *v = sl_arena_array(&sink->scratch, in->n, sizeof *v);
    m.events = sl_arena_array(&sink->scratch, in->n, sizeof *m.events);
    m.n_events = in->n;
    sink->status = v && m.events ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        sink->status = fill_event(&in->v[i], &v[i], &sink->scratch);
        m.events[i] = &v[i];
    }
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

sl_status wire_get_logprob(const Starlane__Worker__Logprob *in, struct engine_logprob *out,
                           struct sl_err *err)
{
    if (isnan(in->logprob)) return sl_err_set(err, SL_CORRUPT, "logprob is not a number");
    *out = (struct engine_logprob){.token = in->token,
                                   .logprob = in->logprob,
                                   .bytes = in->text.len ? (const char *)in->text.data : "",
                                   .n_bytes = in->text.len};
    return SL_OK;
}

static sl_status read_token(const pb_event *in, struct engine_event *out, struct sl_arena *arena,
                            struct sl_err *err)
{
    out->type = ENGINE_EVENT_TOKEN;
    out->token = in->token;
    if (!in->logprob) return SL_OK;
    if (in->n_top > ENGINE_TOP_LOGPROBS_MAX)
        return sl_err_set(err, SL_CORRUPT, "%zu top logprobs", in->n_top);
    struct engine_logprob *top = sl_arena_array(arena, in->n_top, sizeof *top);
    if (!top) return sl_err_set(err, SL_NOMEM, "logprobs");
    out->has_logprob = true;
    out->top = top;
    out->n_top = (int32_t)in->n_top;
    sl_status status = wire_get_logprob(in->logprob, &out->logprob, err);
    for (size_t i = 0; i < in->n_top && status == SL_OK; i++)
        status = wire_get_logprob(in->top[i], &top[i], err);
    return status;
}

static sl_status read_done(const pb_event *in, struct engine_event *out, struct sl_arena *arena,
                           struct sl_err *err)
{
    if ((unsigned)in->finish > ENGINE_FINISH_ERROR)
        return sl_err_set(err, SL_CORRUPT, "finish %d", (int)in->finish);
    struct engine_usage *usage = sl_arena_alloc(arena, sizeof *usage);
    if (!usage) return sl_err_set(err, SL_NOMEM, "usage");
    out->type = ENGINE_EVENT_DONE;
    out->finish = (enum engine_finish)in->finish;
    out->message = in->message;
    out->usage = usage;
    if (in->usage) {
#define X(field) usage->field = in->usage->field;
        USAGE_FIELDS(X)
#undef X
    }
    return read_status(in->status, &out->status, err);
}

static sl_status read_engine_event(const pb_event *in, struct engine_event *out,
                                   struct sl_arena *arena, struct sl_err *err)
{
    if (in->choice < 0 || in->choice >= ENGINE_CHOICES_MAX)
        return sl_err_set(err, SL_CORRUPT, "choice %d", in->choice);
    out->id = in->id;
    out->choice = in->choice;
    out->text = in->text.len ? (const char *)in->text.data : "";
    out->n_text = in->text.len;
    if (in->type == PB_EVENT(TOKEN)) return read_token(in, out, arena, err);
    if (in->type == PB_EVENT(DONE)) return read_done(in, out, arena, err);
    if (in->type == PB_EVENT(PREFILL)) {
        out->type = ENGINE_EVENT_PREFILL;
        out->n_done = in->n_done;
        out->n_total = in->n_total;
        out->n_cached = in->n_cached;
        return SL_OK;
    }
    if (in->type == PB_EVENT(TENSORS)) {
        out->type = ENGINE_EVENT_TENSORS;
        return SL_OK;
    }
    if (in->n_embedding > INT32_MAX) return sl_err_set(err, SL_CORRUPT, "embedding too long");
    out->type = ENGINE_EVENT_EMBEDDING;
    out->embedding = in->embedding;
    out->n_embd = (int32_t)in->n_embedding;
    return SL_OK;
}

static sl_status read_tensors(const pb_event *in, struct wire_event *out, struct sl_arena *arena,
                              struct sl_err *err)
{
    struct engine_event *event = &out->engine;
    if (event->type != ENGINE_EVENT_TENSORS) return SL_OK;
    event->n_tensors = in->n_tensors;
    return wire_get_pieces(in->tensors, in->n_tensors, arena, &event->tensors, &out->pieces, err);
}

static sl_status read_event(const pb_event *in, struct wire_event *out, struct sl_arena *arena,
                            struct sl_err *err)
{
    sl_status status;
    out->id = in->id;
    out->text = in->text.len ? (const char *)in->text.data : "";
    out->n_text = in->text.len;
    out->tokens = in->tokens;
    out->n_tokens = in->n_tokens;
    out->opens_thinking = in->opens_thinking;
    switch (in->type) {
    case PB_EVENT(ACCEPTED): out->type = WIRE_EVENT_ACCEPTED; return SL_OK;
    case PB_EVENT(TOKENS_RESULT): out->type = WIRE_EVENT_TOKENS; return SL_OK;
    case PB_EVENT(TEXT_RESULT): out->type = WIRE_EVENT_TEXT; return SL_OK;
    case PB_EVENT(REJECTED):
        out->type = WIRE_EVENT_REJECTED;
        out->message = in->message;
        return read_status(in->status, &out->status, err);
    case PB_EVENT(PREFILL):
    case PB_EVENT(TOKEN):
    case PB_EVENT(EMBEDDING):
    case PB_EVENT(TENSORS):
    case PB_EVENT(DONE):
        out->type = WIRE_EVENT_ENGINE;
        status = read_engine_event(in, &out->engine, arena, err);
        return status == SL_OK ? read_tensors(in, out, arena, err) : status;
    default: return sl_err_set(err, SL_CORRUPT, "event of type %d", (int)in->type);
    }
}

static sl_status decode_events(const void *message, struct sl_arena *arena, struct wire_msg *out,
                               struct sl_err *err)
{
    const Starlane__Worker__Events *m = message;
    struct wire_event *v = sl_arena_array(arena, m->n_events, sizeof *v);
    sl_status status = v ? SL_OK : sl_err_set(err, SL_NOMEM, "%zu events", m->n_events);
    for (size_t i = 0; i < m->n_events && status == SL_OK; i++)
        status = read_event(m->events[i], &v[i], arena, err);
    out->events = (struct wire_events){.v = v, .n = m->n_events};
    return status;
}

static void encode_pong(const struct wire_msg *msg, struct wire_sink *sink)
{
    Starlane__Worker__Pong m = STARLANE__WORKER__PONG__INIT;
    m.seq = msg->pong.seq;
    m.loaded = msg->pong.loaded;
    const struct engine_stats *stats = &msg->pong.stats;
    uint64_t compute_ns[ENGINE_STAGES_MAX], wait_ns[ENGINE_STAGES_MAX];
#define X(field) m.field = stats->field;
    STATS_FIELDS(X)
#undef X
    for (int32_t i = 0; i < stats->n_stages; i++) {
        compute_ns[i] = stats->hops[i].compute_ns;
        wait_ns[i] = stats->hops[i].wait_ns;
    }
    m.hop_compute_ns = compute_ns;
    m.hop_wait_ns = wait_ns;
    m.n_hop_compute_ns = m.n_hop_wait_ns = (size_t)stats->n_stages;
    wire_sink_put(sink, &m.base);
}

static sl_status decode_pong(const void *message, struct sl_arena *arena, struct wire_msg *out,
                             struct sl_err *err)
{
    const Starlane__Worker__Pong *m = message;
    (void)arena;
    if (m->n_stages < 0 || m->n_stages > ENGINE_STAGES_MAX ||
        m->n_hop_compute_ns != (size_t)m->n_stages || m->n_hop_wait_ns != (size_t)m->n_stages)
        return sl_err_set(err, SL_CORRUPT, "numbers of %d stages", m->n_stages);
    out->pong.seq = m->seq;
    out->pong.loaded = m->loaded;
#define X(field) out->pong.stats.field = m->field;
    STATS_FIELDS(X)
#undef X
    for (int32_t i = 0; i < m->n_stages; i++)
        out->pong.stats.hops[i] = (struct engine_hop){m->hop_compute_ns[i], m->hop_wait_ns[i]};
    return SL_OK;
}

static void encode_frame(const struct wire_msg *msg, struct wire_sink *sink)
{
    wire_put_stage(&msg->frame, sink);
}

static sl_status decode_frame(const void *message, struct sl_arena *arena, struct wire_msg *out,
                              struct sl_err *err)
{
    (void)arena;
    return wire_get_stage(message, &out->frame, err);
}

#define ROW(type) [type - WIRE_LOADING]
const struct wire_codec wire_replies[WIRE_REPLIES] = {
    ROW(WIRE_LOADING) = {"loading", &starlane__worker__loading__descriptor, encode_loading,
                         decode_loading},
    ROW(WIRE_LOADED) = {"loaded", &starlane__worker__loaded__descriptor, encode_loaded,
                        decode_loaded},
    ROW(WIRE_LOAD_FAILED) = {"load failure", &starlane__worker__load_failed__descriptor,
                             encode_load_failed, decode_load_failed},
    ROW(WIRE_EVENTS) = {"events", &starlane__worker__events__descriptor, encode_events,
                        decode_events},
    ROW(WIRE_PONG) = {"pong", &starlane__worker__pong__descriptor, encode_pong, decode_pong},
    ROW(WIRE_FRAME) = {"stage", NULL, encode_frame, decode_frame},
};
