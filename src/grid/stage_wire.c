#include "grid/stage_wire.h"
#include "exec/llm/llm_engine.h"
#include "grid/grid_msg_int.h"
#include "grid/store.h"
#include <proto/stage.pb-c.h>
#include <string.h>

#define KV_TYPES (LLM_KV_F32 + 1) /* enum llm_kv_type */

typedef Starlane__Stage__Open pb_open;

static void append(ProtobufCBuffer *base, size_t n, const uint8_t *data)
{
    struct wire_sink *sink = (struct wire_sink *)(void *)base;
    if (sink->status == SL_OK) sink->status = sl_buf_add(sink->out, data, n);
}

/* On failure out is as it was. */
static sl_status put(const ProtobufCMessage *message, struct sl_buf *out)
{
    struct wire_sink sink = {.base = {.append = append}, .out = out};
    size_t before = out->len;
    wire_sink_put(&sink, message);
    if (sink.status == SL_OK && out->len - before > STAGE_MESSAGE_BYTES_MAX) sink.status = SL_LIMIT;
    if (sink.status != SL_OK) sl_buf_truncate(out, before);
    return sink.status;
}

static sl_status get(const ProtobufCMessageDescriptor *descriptor, const void *bytes, size_t n,
                     struct sl_arena *arena, ProtobufCMessage **out, struct sl_err *err)
{
    if (n > STAGE_MESSAGE_BYTES_MAX) return sl_err_set(err, SL_CORRUPT, "%zu bytes", n);
    return wire_unpack(descriptor, bytes, n, arena, out, err);
}

/* --- HELLO --- */

sl_status stage_hello_put(const struct stage_hello *hello, struct sl_buf *out)
{
    Starlane__Stage__Hello m = STARLANE__STAGE__HELLO__INIT;
    m.chain = wire_string(hello->chain);
    m.role = (uint32_t)hello->role;
    m.from = (uint32_t)hello->from;
    m.to = (uint32_t)hello->to;
    return put(&m.base, out);
}

static sl_status take_hello(const Starlane__Stage__Hello *m, struct stage_hello *out,
                            struct sl_err *err)
{
    sl_status status = grid_check_enum("role", m->role, STAGE_ROLE_COUNT, err);
    if (status == SL_OK) status = grid_check_text("chain's id", m->chain, sizeof out->chain, err);
    if (status == SL_OK) status = grid_check_enum("stage", m->from, GRID_STAGES_MAX, err);
    if (status == SL_OK) status = grid_check_enum("stage", m->to, GRID_STAGES_MAX, err);
    if (status != SL_OK) return status;
    *out = (struct stage_hello){
        .role = (enum stage_role)m->role, .from = (int32_t)m->from, .to = (int32_t)m->to};
    memcpy(out->chain, m->chain, strlen(m->chain) + 1);
    bool fits = out->role == STAGE_CONTROL ? out->from == 0 && out->to > 0
                                           : out->from > 0 && out->to == out->from + 1;
    return *out->chain && fits ? SL_OK : sl_err_set(err, SL_CORRUPT, "stages that have no link");
}

sl_status stage_hello_get(const void *bytes, size_t n, struct stage_hello *out, struct sl_err *err)
{
    ProtobufCMessage *m = NULL;
    struct sl_arena arena;
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    sl_status status = get(&starlane__stage__hello__descriptor, bytes, n, &arena, &m, err);
    if (status == SL_OK) status = take_hello((const Starlane__Stage__Hello *)(void *)m, out, err);
    sl_arena_done(&arena);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "hello message");
}

/* --- OPEN --- */

static sl_status put_sources(const struct stage_open *in, struct sl_arena *scratch, pb_open *m)
{
    Starlane__Stage__Open__Source *v = sl_arena_array(scratch, in->n_sources + 1, sizeof *v);
    m->sources = sl_arena_array(scratch, in->n_sources + 1, sizeof *m->sources);
    if (!v || !m->sources) return SL_NOMEM;
    for (size_t i = 0; i < in->n_sources; i++) {
        m->sources[i] = &v[i];
        starlane__stage__open__source__init(&v[i]);
        v[i].id = wire_string(in->sources[i].id);
        v[i].address = wire_string(in->sources[i].address);
    }
    m->n_sources = in->n_sources;
    return SL_OK;
}

sl_status stage_open_put(const struct stage_open *open, struct sl_buf *out)
{
    pb_open m = STARLANE__STAGE__OPEN__INIT;
    struct sl_arena scratch;
    sl_arena_init(&scratch, STAGE_ARENA_BYTES_MAX);
    m.model = wire_string(open->model);
    m.digest = wire_string(open->digest);
    m.stage = (uint32_t)open->stage;
    m.kv_type = (uint32_t)open->kv_type;
    sl_status status = grid_put_split(&open->split, &scratch, &m.split);
    if (status == SL_OK) status = put_sources(open, &scratch, &m);
    if (status == SL_OK) status = put(&m.base, out);
    sl_arena_done(&scratch);
    return status;
}

static sl_status take_sources(const pb_open *m, struct sl_arena *arena, struct stage_open *out,
                              struct sl_err *err)
{
    sl_status status = grid_check_count("sources", m->n_sources, GRID_SOURCES_MAX, err);
    if (status != SL_OK) return status;
    struct grid_source *v = sl_arena_array(arena, m->n_sources + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "sources");
    for (size_t i = 0; i < m->n_sources && status == SL_OK; i++) {
        v[i] = (struct grid_source){m->sources[i]->id, m->sources[i]->address};
        status = grid_check_text("source's id", v[i].id, GRID_ID_SIZE, err);
        if (status == SL_OK)
            status = grid_check_text("source's address", v[i].address, GRID_ADDRESS_SIZE, err);
    }
    out->sources = v;
    out->n_sources = m->n_sources;
    return status;
}

static sl_status take_open(const pb_open *m, struct sl_arena *arena, struct stage_open *out,
                           struct sl_err *err)
{
    const struct grid_split *split = NULL;
    sl_status status = grid_check_text("model's name", m->model, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("digest", m->digest, STORE_DIGEST_SIZE, err);
    if (status == SL_OK) status = grid_check_enum("type of KV cache", m->kv_type, KV_TYPES, err);
    if (status == SL_OK) status = grid_take_split(m->split, arena, &split, err);
    if (status != SL_OK) return status;
    if (!split || m->stage < 1 || m->stage >= split->n_stages)
        return sl_err_set(err, SL_CORRUPT, "no such stage: %u", m->stage);
    *out = (struct stage_open){.model = m->model,
                               .digest = m->digest,
                               .stage = (int32_t)m->stage,
                               .split = *split,
                               .kv_type = (int32_t)m->kv_type};
    return take_sources(m, arena, out, err);
}

sl_status stage_open_get(const void *bytes, size_t n, struct sl_arena *arena,
                         struct stage_open *out, struct sl_err *err)
{
    ProtobufCMessage *m = NULL;
    sl_status status = get(&starlane__stage__open__descriptor, bytes, n, arena, &m, err);
    if (status == SL_OK) status = take_open((const pb_open *)(void *)m, arena, out, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "open message");
}

/* --- what a follower says --- */

sl_status stage_progress_put(const struct stage_progress *progress, struct sl_buf *out)
{
    Starlane__Stage__Progress m = STARLANE__STAGE__PROGRESS__INIT;
    m.fraction = progress->fraction;
    m.done = progress->done;
    m.total = progress->total;
    return put(&m.base, out);
}

sl_status stage_progress_get(const void *bytes, size_t n, struct stage_progress *out,
                             struct sl_err *err)
{
    ProtobufCMessage *message = NULL;
    struct sl_arena arena;
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    sl_status status = get(&starlane__stage__progress__descriptor, bytes, n, &arena, &message, err);
    const Starlane__Stage__Progress *m = (const void *)message;
    if (status == SL_OK) {
        *out = (struct stage_progress){m->fraction, m->done, m->total};
        if (!(out->fraction >= 0 && out->fraction <= 1))
            status = sl_err_set(err, SL_CORRUPT, "fraction %g", out->fraction);
    }
    sl_arena_done(&arena);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "progress message");
}

sl_status stage_ready_put(const struct stage_ready *ready, struct sl_buf *out)
{
    Starlane__Stage__Ready m = STARLANE__STAGE__READY__INIT;
    m.bytes = ready->bytes;
    return put(&m.base, out);
}

sl_status stage_ready_get(const void *bytes, size_t n, struct stage_ready *out, struct sl_err *err)
{
    ProtobufCMessage *message = NULL;
    struct sl_arena arena;
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    sl_status status = get(&starlane__stage__ready__descriptor, bytes, n, &arena, &message, err);
    if (status == SL_OK) out->bytes = ((const Starlane__Stage__Ready *)(void *)message)->bytes;
    sl_arena_done(&arena);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "ready message");
}

sl_status stage_failed_put(const struct stage_failed *failed, struct sl_buf *out)
{
    Starlane__Stage__Failed m = STARLANE__STAGE__FAILED__INIT;
    m.status = (uint32_t)failed->status;
    m.reason = wire_string(failed->reason);
    return put(&m.base, out);
}

sl_status stage_failed_get(const void *bytes, size_t n, struct sl_arena *arena,
                           struct stage_failed *out, struct sl_err *err)
{
    ProtobufCMessage *message = NULL;
    sl_status status = get(&starlane__stage__failed__descriptor, bytes, n, arena, &message, err);
    const Starlane__Stage__Failed *m = (const void *)message;
    if (status == SL_OK) status = grid_check_enum("status", m->status, SL_STATUS_COUNT, err);
    if (status == SL_OK) status = grid_check_text("reason", m->reason, STAGE_REASON_MAX, err);
    if (status != SL_OK) return sl_err_prefix(err, "failed message");
    *out = (struct stage_failed){(sl_status)m->status, m->reason};
    return SL_OK;
}
