/* grid_msg_events.c: what a node answers to a gateway. */
#include "grid/grid_msg_int.h"
#include <inttypes.h>

/* Past any answer, and sums of them stay exact: a hostile node's numbers end in a client's bill. */
#define COUNT_MAX (1 << 30)
#define SPAN_MAX (INT64_C(366) * 86400 * 1000 * 1000 * 1000) /* nanoseconds */
#define RETRY_MS_MAX (INT64_C(86400) * 1000)

#define EVENT_FIELDS(X) \
    X(n_prompt) \
    X(n_cached) \
    X(opens_thinking) \
    X(choice) \
    X(token) \
    X(n_generated) \
    X(n_rows) \
    X(queue_ns) \
    X(load_ns) \
    X(first_token_ns) \
    X(total_ns) \
    X(n_attempts) \
    X(retry_after_ms)

typedef Starlane__Grid__Event pb_event;
typedef Starlane__Worker__Logprob pb_logprob;

bool grid_event_is_last(const struct grid_event *event)
{
    return event->type != GRID_EVENT_NODE || event->node.type == NODE_EVENT_DONE ||
           event->node.type == NODE_EVENT_FAILED;
}

static sl_status fill_logprobs(const struct node_event *in, pb_event *m, struct sl_arena *scratch)
{
    if (!in->has_logprob) return SL_OK;
    if (in->n_top < 0 || in->n_top > ENGINE_TOP_LOGPROBS_MAX) return SL_LIMIT;
    size_t n = (size_t)in->n_top;
    pb_logprob *v = sl_arena_array(scratch, n + 1, sizeof *v);
    m->top = sl_arena_array(scratch, n + 1, sizeof *m->top);
    if (!v || !m->top) return SL_NOMEM;
    wire_put_logprob(&in->logprob, &v[n]);
    m->logprob = &v[n];
    m->n_top = n;
    for (size_t i = 0; i < n; i++) {
        wire_put_logprob(&in->top[i], &v[i]);
        m->top[i] = &v[i];
    }
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

static sl_status fill_event(const struct grid_event *event, pb_event *m, struct sl_arena *scratch)
{
    const struct node_event *in = &event->node;
    starlane__grid__event__init(m);
    m->type = (uint32_t)event->type;
    m->event = (uint32_t)in->type;
#define X(field) m->field = in->field;
    EVENT_FIELDS(X)
#undef X
    if (in->traits) {
        m->has_traits = true;
        m->tools = (uint32_t)in->traits->tools;
        m->thinks = in->traits->thinks;
    }
    m->text = wire_bytes(in->text, in->n_text);
    m->finish = (Starlane__Worker__Finish)in->finish;
    m->embedding = floats(in->embedding);
    m->n_embedding = in->embedding && in->n_embd > 0 ? (size_t)in->n_embd : 0;
    m->tokens = wire_ints(in->tokens);
    m->n_tokens = in->tokens ? in->n_tokens : 0;
    m->status = (uint32_t)in->status;
    m->message = wire_string(in->message);
    m->n_tensors = in->n_tensors;
    sl_status status = wire_put_tensors(in->tensors, in->n_tensors, scratch, &m->tensors);
    return status == SL_OK ? fill_logprobs(in, m, scratch) : status;
}

static void encode_events(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_events *in = &msg->events;
    Starlane__Grid__Events m = STARLANE__GRID__EVENTS__INIT;
    pb_event *v = sl_arena_array(&sink->scratch, in->n + 1, sizeof *v);
    m.events = sl_arena_array(&sink->scratch, in->n + 1, sizeof *m.events);
    sink->status = in->n > GRID_EVENTS_MAX ? SL_LIMIT : v && m.events ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        m.events[i] = &v[i];
        sink->status = fill_event(&in->v[i], &v[i], &sink->scratch);
    }
    m.boot = in->boot;
    m.request = in->request;
    m.attempt = in->attempt;
    m.first_seq = in->first_seq;
    m.n_events = in->n;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status read_logprobs(const pb_event *m, struct sl_arena *arena, struct node_event *out,
                               struct sl_err *err)
{
    if (!m->logprob) return SL_OK;
    sl_status status = grid_check_count("top logprobs", m->n_top, ENGINE_TOP_LOGPROBS_MAX, err);
    if (status != SL_OK) return status;
    struct engine_logprob *top = sl_arena_array(arena, m->n_top + 1, sizeof *top);
    if (!top) return sl_err_set(err, SL_NOMEM, "logprobs");
    out->has_logprob = true;
    out->top = top;
    out->n_top = (int32_t)m->n_top;
    status = wire_get_logprob(m->logprob, &out->logprob, err);
    for (size_t i = 0; i < m->n_top && status == SL_OK; i++)
        status = wire_get_logprob(m->top[i], &top[i], err);
    return status;
}

static sl_status read_traits(const pb_event *m, struct sl_arena *arena, struct node_event *out,
                             struct sl_err *err)
{
    if (!m->has_traits) return SL_OK;
    struct chat_traits *traits = sl_arena_alloc(arena, sizeof *traits);
    if (!traits) return sl_err_set(err, SL_NOMEM, "traits");
    traits->tools = (enum chat_tool_format)m->tools;
    traits->thinks = m->thinks;
    out->traits = traits;
    return grid_check_enum("tool format", m->tools, CHAT_TOOLS_HARMONY + 1, err);
}

static sl_status check_counts(const pb_event *m, struct sl_err *err)
{
    const int64_t counts[] = {m->n_prompt, m->n_cached, m->n_generated, m->n_rows, m->n_attempts};
    const int64_t spans[] = {m->queue_ns, m->load_ns, m->first_token_ns, m->total_ns};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] < 0 || counts[i] > COUNT_MAX)
            return sl_err_set(err, SL_CORRUPT, "a count of %" PRId64, counts[i]);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++)
        if (spans[i] < 0 || spans[i] > SPAN_MAX)
            return sl_err_set(err, SL_CORRUPT, "a time of %" PRId64 " ns", spans[i]);
    if (m->retry_after_ms < 0 || m->retry_after_ms > RETRY_MS_MAX)
        return sl_err_set(err, SL_CORRUPT, "a wait of %" PRId64 " ms", m->retry_after_ms);
    return SL_OK;
}

static sl_status check_event(const pb_event *m, struct sl_err *err)
{
    sl_status status = grid_check_enum("event of type", m->type, GRID_EVENT_TYPE_COUNT, err);
    if (status == SL_OK)
        status = grid_check_enum("node event of type", m->event, NODE_EVENT_FAILED + 1, err);
    if (status == SL_OK) status = grid_check_enum("status", m->status, SL_STATUS_COUNT, err);
    if (status == SL_OK)
        status = grid_check_enum("finish", (uint32_t)m->finish, ENGINE_FINISH_ERROR + 1, err);
    if (status == SL_OK)
        status = grid_check_enum("choice", (uint32_t)m->choice, ENGINE_CHOICES_MAX, err);
    if (status == SL_OK) status = check_counts(m, err);
    if (status == SL_OK) status = grid_check_count("floats", m->n_embedding, INT32_MAX, err);
    return status;
}

static sl_status read_event(const pb_event *m, struct sl_arena *arena, struct grid_event *event,
                            struct sl_err *err)
{
    struct node_event *out = &event->node;
    sl_status status = check_event(m, err);
    if (status != SL_OK) return status;
    event->type = (enum grid_event_type)m->type;
    out->type = (enum node_event_type)m->event;
#define X(field) out->field = m->field;
    EVENT_FIELDS(X)
#undef X
    out->text = m->text.len ? (const char *)m->text.data : "";
    out->n_text = m->text.len;
    out->finish = (enum engine_finish)m->finish;
    out->embedding = m->n_embedding ? m->embedding : NULL;
    out->n_embd = (int32_t)m->n_embedding;
    out->tokens = m->tokens;
    out->n_tokens = m->n_tokens;
    out->status = (sl_status)m->status;
    out->message = m->message;
    status = wire_get_tensors(m->tensors, m->n_tensors, arena, &out->tensors, err);
    out->n_tensors = m->n_tensors;
    if (status == SL_OK) status = read_traits(m, arena, out, err);
    return status == SL_OK ? read_logprobs(m, arena, out, err) : status;
}

static sl_status decode_events(const void *message, struct sl_arena *arena, struct grid_msg *out,
                               struct sl_err *err)
{
    const Starlane__Grid__Events *m = message;
    sl_status status = grid_check_count("events", m->n_events, GRID_EVENTS_MAX, err);
    if (status != SL_OK) return status;
    struct grid_event *v = sl_arena_array(arena, m->n_events + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "%zu events", m->n_events);
    for (size_t i = 0; i < m->n_events && status == SL_OK; i++)
        status = read_event(m->events[i], arena, &v[i], err);
    out->events = (struct grid_events){.boot = m->boot,
                                       .request = m->request,
                                       .attempt = m->attempt,
                                       .first_seq = m->first_seq,
                                       .v = v,
                                       .n = m->n_events};
    return status;
}

static void encode_beat(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_beat *in = &msg->beat;
    Starlane__Grid__Beat m = STARLANE__GRID__BEAT__INIT;
    Starlane__Grid__Beat__Entry *v = sl_arena_array(&sink->scratch, in->n + 1, sizeof *v);
    m.entries = sl_arena_array(&sink->scratch, in->n + 1, sizeof *m.entries);
    sink->status = in->n > GRID_ENTRIES_MAX ? SL_LIMIT : v && m.entries ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        m.entries[i] = &v[i];
        starlane__grid__beat__entry__init(&v[i]);
        v[i].request = in->v[i].request;
        v[i].attempt = in->v[i].attempt;
        v[i].state = (uint32_t)in->v[i].state;
        v[i].last_seq = in->v[i].last_seq;
    }
    m.boot = in->boot;
    m.n_entries = in->n;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status decode_beat(const void *message, struct sl_arena *arena, struct grid_msg *out,
                             struct sl_err *err)
{
    const Starlane__Grid__Beat *m = message;
    sl_status status = grid_check_count("attempts", m->n_entries, GRID_ENTRIES_MAX, err);
    if (status != SL_OK) return status;
    struct grid_beat_entry *v = sl_arena_array(arena, m->n_entries + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "attempts");
    for (size_t i = 0; i < m->n_entries && status == SL_OK; i++) {
        const Starlane__Grid__Beat__Entry *in = m->entries[i];
        v[i] = (struct grid_beat_entry){.request = in->request,
                                        .attempt = in->attempt,
                                        .state = (enum grid_attempt_state)in->state,
                                        .last_seq = in->last_seq};
        status = grid_check_enum("state", in->state, GRID_ATTEMPT_STATE_COUNT, err);
    }
    out->beat = (struct grid_beat){.boot = m->boot, .v = v, .n = m->n_entries};
    return status;
}

const struct grid_codec grid_codec_events = {"events", &starlane__grid__events__descriptor,
                                             encode_events, decode_events};
const struct grid_codec grid_codec_beat = {"beat", &starlane__grid__beat__descriptor, encode_beat,
                                           decode_beat};
