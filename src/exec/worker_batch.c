#include "exec/worker_batch.h"
#include "exec/worker_share.h"
#include <string.h>

/* A step of 1,000 sequences stays one frame; anything larger goes in pieces, so that neither side
 * holds much. */
#define EVENTS_FULL 4096
#define BYTES_FULL (1u << 20)
#define EVENTS_MAX (2 * EVENTS_FULL)

void worker_batch_init(struct worker_batch *batch, struct worker_share *share)
{
    batch->share = share;
    sl_buf_init(&batch->events, EVENTS_MAX * sizeof(struct wire_event));
    sl_arena_init(&batch->arena, WIRE_ARENA_BYTES_MAX);
}

void worker_batch_done(struct worker_batch *batch)
{
    sl_buf_done(&batch->events);
    sl_arena_done(&batch->arena);
}

void worker_batch_clear(struct worker_batch *batch)
{
    sl_buf_clear(&batch->events);
    sl_arena_reset(&batch->arena);
}

/* NULL when there is no memory; n 0 needs none. */
static const void *copy(struct sl_arena *arena, const void *bytes, size_t n)
{
    void *out = n ? sl_arena_alloc(arena, n) : NULL;
    if (out) memcpy(out, bytes, n);
    return n ? out : "";
}

static bool copy_logprob(struct sl_arena *arena, struct engine_logprob *logprob)
{
    logprob->bytes = copy(arena, logprob->bytes, logprob->n_bytes);
    return logprob->bytes;
}

static bool copy_logprobs(struct sl_arena *arena, struct engine_event *event)
{
    if (!event->has_logprob) return true;
    size_t n = event->n_top > 0 ? (size_t)event->n_top : 0;
    struct engine_logprob *top = sl_arena_array(arena, n + 1, sizeof *top);
    if (!top || !copy_logprob(arena, &event->logprob)) return false;
    for (size_t i = 0; i < n; i++) {
        top[i] = event->top[i];
        if (!copy_logprob(arena, &top[i])) return false;
    }
    event->top = top;
    return true;
}

static bool copy_engine_event(struct sl_arena *arena, struct engine_event *event)
{
    size_t n_embedding = event->type == ENGINE_EVENT_EMBEDDING ? (size_t)event->n_embd : 0;
    event->text = copy(arena, event->text, event->n_text);
    event->embedding = copy(arena, event->embedding, n_embedding * sizeof(float));
    event->message = sl_arena_strndup(arena, event->message ? event->message : "",
                                      event->message ? strlen(event->message) : 0);
    if (event->usage) {
        event->usage = copy(arena, event->usage, sizeof *event->usage);
        if (!event->usage) return false;
    }
    return event->text && event->embedding && event->message && copy_logprobs(arena, event);
}

/* Each tensor's data go into a piece, or else into the arena. */
static bool copy_tensors(struct worker_batch *batch, struct wire_event *event)
{
    struct sl_arena *arena = &batch->arena;
    struct engine_event *engine = &event->engine;
    size_t n = engine->n_tensors;
    struct tensor *v = sl_arena_array(arena, n + 1, sizeof *v);
    uint32_t *pieces = sl_arena_array(arena, n + 1, sizeof *pieces);
    if (!v || !pieces) return false;
    for (size_t i = 0; i < n; i++) {
        v[i] = engine->tensors[i];
        v[i].name = sl_arena_strndup(arena, v[i].name, strlen(v[i].name));
        pieces[i] = worker_share_put(batch->share, &v[i]);
        if (!v[i].name || (!pieces[i] && tensor_copy_data(&v[i], arena) != SL_OK)) return false;
    }
    engine->tensors = v;
    event->pieces = pieces;
    return true;
}

static bool copy_own_event(struct sl_arena *arena, struct wire_event *event)
{
    event->text = copy(arena, event->text, event->n_text);
    event->tokens = copy(arena, event->tokens, event->n_tokens * sizeof(int32_t));
    event->message = sl_arena_strndup(arena, event->message ? event->message : "",
                                      event->message ? strlen(event->message) : 0);
    return event->text && event->tokens && event->message;
}

sl_status worker_batch_add(struct worker_batch *batch, const struct wire_event *event)
{
    struct wire_event own = *event;
    bool ok;
    if (event->type != WIRE_EVENT_ENGINE)
        ok = copy_own_event(&batch->arena, &own);
    else if (event->engine.type == ENGINE_EVENT_TENSORS)
        ok = copy_engine_event(&batch->arena, &own.engine) && copy_tensors(batch, &own);
    else
        ok = copy_engine_event(&batch->arena, &own.engine);
    return ok ? sl_buf_add(&batch->events, &own, sizeof own) : SL_NOMEM;
}

size_t worker_batch_count(const struct worker_batch *batch)
{
    return batch->events.len / sizeof(struct wire_event);
}

bool worker_batch_full(const struct worker_batch *batch)
{
    return worker_batch_count(batch) >= EVENTS_FULL || batch->arena.used_bytes >= BYTES_FULL;
}

void worker_batch_message(const struct worker_batch *batch, struct wire_msg *out)
{
    *out = (struct wire_msg){.type = WIRE_EVENTS};
    out->events.v = (const struct wire_event *)(const void *)batch->events.data;
    out->events.n = worker_batch_count(batch);
}
