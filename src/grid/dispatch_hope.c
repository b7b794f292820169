/* dispatch_hope.c: what nobody can load, and why. Whatever is not pinned gives its memory back some
 * time, so a request waits for that; for what a pinned model has, or no member has at all, it would
 * wait in vain: it is refused at once, with the numbers. */
#include "base/size_text.h"
#include "grid/dispatch_split.h"
#include <stdio.h>
#include <string.h>

#define S INT64_C(1000000000)
/* A member that died may be back in so long: what only it can load is waited for. */
#define COMEBACK_NS (30 * S)
#define HOPELESS_NS (5 * S) /* a request waits that long for a member that can load its model */
/* Members forget what could not be fetched or loaded after 30 to 60 s. */
#define FAILED_AGAIN_MS 30000
#define PLAN_AGAIN_MS 1000 /* there was no memory to plan with */
#define HELD_MAX 16        /* pinned models that are named */
#define HELD_TEXT_SIZE 240

struct room {
    uint32_t n_seen, n_fit;
    uint64_t largest_bytes;
    const struct dispatch_node *largest;
    const char *error; /* of one where it fits but cannot be loaded */
};

/* Memory of a member that a pinned model has. */
struct held {
    const struct dispatch_node *node;
    const char *model;
    uint64_t bytes;
};

/* Is the member there, or may it be back soon? */
static bool counts(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    const struct grid_node *entry = &router_nodes(dispatch->router)->nodes[node->number];
    if (!node->used || !node->has_report || entry->facts.duty != NODE_OPEN) return false;
    return entry->health == NODE_ALIVE || entry->health == NODE_SUSPECT ||
           dispatch->router_ns - entry->heard_ns < COMEBACK_NS;
}

/* --- what pinned models have --- */

static uint64_t held_by_hosted(const struct dispatch *dispatch, const struct dispatch_node *node,
                               size_t i, const struct dispatch_model *model)
{
    const struct grid_hosted *hosted = &node->report.hosted[i];
    uint32_t number = node->hosted_models[i];
    enum sched_model_state state = hosted->load.state;
    if (number == NODE_NONE || number == model->number || state < SCHED_STARTING ||
        state > SCHED_READY || !dispatch_is_kept(dispatch, number))
        return 0;
    if (hosted->split) return hosted->bytes;
    /* One of several replicas may go. */
    if (router_nodes(dispatch->router)->n_by_model[number] > 1) return 0;
    /* Placement goes by what the card says, the member by what it measured. */
    uint64_t bytes = dispatch_model_bytes(&dispatch->models[number]);
    return bytes > hosted->bytes ? bytes : hosted->bytes;
}

static uint64_t held_by_stage(const struct dispatch *dispatch,
                              const struct grid_stage_hosted *stage,
                              const struct dispatch_model *model)
{
    if (!strcmp(stage->model, model->name)) return 0;
    for (uint32_t i = 0; i < dispatch->n_models; i++)
        if (dispatch->models[i].used && !strcmp(dispatch->models[i].name, stage->model) &&
            dispatch_is_kept(dispatch, i))
            return stage->bytes;
    return 0;
}

/* Adds up to `max` of the member's to out, which may be NULL with max 0; *bytes: all together. What
 * a member that died had is free when it comes back. */
static size_t held_at(const struct dispatch *dispatch, const struct dispatch_node *node,
                      const struct dispatch_model *model, struct held *out, size_t max,
                      uint64_t *bytes)
{
    const struct grid_report *report = &node->report;
    size_t n = 0;
    *bytes = 0;
    if (dispatch_node_health(dispatch, node) == NODE_DEAD) return 0;
    for (size_t i = 0; i < report->n_hosted + report->n_stages; i++) {
        bool stage = i >= report->n_hosted;
        const struct grid_stage_hosted *at = stage ? &report->stages[i - report->n_hosted] : NULL;
        uint64_t held =
            stage ? held_by_stage(dispatch, at, model) : held_by_hosted(dispatch, node, i, model);
        *bytes += held;
        if (held && n < max)
            out[n++] = (struct held){node, stage ? at->model : report->hosted[i].name, held};
    }
    return n;
}

uint64_t dispatch_held_bytes(const struct dispatch *dispatch, const struct dispatch_node *node,
                             const struct dispatch_model *model)
{
    uint64_t bytes;
    (void)held_at(dispatch, node, model, NULL, 0, &bytes);
    return bytes;
}

/* Those in whose place the model would fit as a whole; where it never does, all of them, if it
 * could be split over their members. */
static size_t held_list(const struct dispatch *dispatch, const struct dispatch_model *model,
                        struct held out[HELD_MAX])
{
    uint64_t need = dispatch_model_bytes(model), held;
    size_t n = 0;
    for (int whole = 1; whole >= 0 && n == 0; whole--) {
        if (!whole && (model->hope == SL_OK || !model->hope_held)) break;
        for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
            const struct dispatch_node *node = &dispatch->nodes[i];
            if (!counts(dispatch, node)) continue;
            uint64_t bytes = node->report.facts.memory_bytes;
            size_t more = held_at(dispatch, node, model, out + n, HELD_MAX - n, &held);
            if (!whole || (need <= bytes && need + held > bytes)) n += more;
        }
    }
    return n;
}

/* --- can it be loaded? --- */

/* True: this member could load it, once what is not pinned has gone. */
static bool could_load(const struct dispatch *dispatch, const struct dispatch_node *node,
                       const struct dispatch_model *model, struct room *room)
{
    uint64_t bytes = node->report.facts.memory_bytes, need = dispatch_model_bytes(model);
    const struct grid_hosted *hosted = dispatch_hosted_of(dispatch, node->number, model->number);
    room->n_seen++;
    if (bytes >= room->largest_bytes) {
        room->largest_bytes = bytes;
        room->largest = node;
    }
    if (bytes < need) return false;
    if (bytes - need < dispatch_held_bytes(dispatch, node, model)) return false;
    room->n_fit++;
    if (!hosted || hosted->split || hosted->load.state != SCHED_FAILED) return true;
    room->error = hosted->last_error;
    return false;
}

static bool fits_whole(const struct dispatch *dispatch, const struct dispatch_model *model,
                       struct room *room)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        if (counts(dispatch, &dispatch->nodes[i]) &&
            could_load(dispatch, &dispatch->nodes[i], model, room))
            return true;
    return false;
}

bool dispatch_fits_whole(const struct dispatch *dispatch, const struct dispatch_model *model)
{
    struct room room = {0};
    return fits_whole(dispatch, model, &room);
}

/* --- why not --- */

/* What each has, as far as there is place. */
static void put_rooms(const struct dispatch *dispatch, char *out, size_t size)
{
    size_t at = 0;
    *out = '\0';
    for (uint32_t i = 0; i < dispatch->n_nodes && at + 1 < size; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!counts(dispatch, node)) continue;
        char text[SL_SIZE_TEXT_MAX];
        int n = snprintf(out + at, size - at, "%s%.24s %s", at ? ", " : "",
                         dispatch_node_name(dispatch, node),
                         sl_size_text(node->report.facts.memory_bytes, text));
        if (n < 0 || (size_t)n >= size - at) break;
        at += (size_t)n;
    }
}

static void put_held(const struct dispatch *dispatch, const struct dispatch_model *model,
                     char out[HELD_TEXT_SIZE])
{
    struct held held[HELD_MAX];
    size_t n = held_list(dispatch, model, held), at = 0;
    *out = '\0';
    for (size_t i = 0; i < n; i++) {
        char text[SL_SIZE_TEXT_MAX];
        int wrote = snprintf(out + at, HELD_TEXT_SIZE - at, "%s%.100s %s on %.24s", at ? ", " : "",
                             held[i].model, sl_size_text(held[i].bytes, text),
                             dispatch_node_name(dispatch, held[i].node));
        if (wrote < 0 || (size_t)wrote >= HELD_TEXT_SIZE - at) break;
        at += (size_t)wrote;
    }
}

static sl_status refuse(const struct dispatch *dispatch, const struct dispatch_model *model,
                        const struct room *room, const struct sl_err *why, struct sl_err *err)
{
    char rooms[200], text[HELD_TEXT_SIZE], needs[SL_SIZE_TEXT_MAX], has[SL_SIZE_TEXT_MAX];
    if (room->n_fit > 0)
        return sl_err_set(err, SL_UNAVAILABLE, "%.200s cannot be loaded anywhere: %.200s",
                          model->name, room->error);
    (void)sl_size_text(dispatch_model_bytes(model), needs);
    put_held(dispatch, model, text);
    if (*text)
        return sl_err_set(err, SL_UNAVAILABLE,
                          "%.150s needs %s of memory, and pinned models stay where it could have "
                          "them: %s; starlane stop gives a model's memory back",
                          model->name, needs, text);
    put_rooms(dispatch, rooms, sizeof rooms);
    return sl_err_set(err, SL_UNAVAILABLE,
                      "%.200s needs %s of memory; of %u members the largest, %.64s, has %s for "
                      "models (all: %s); split over them: %.400s",
                      model->name, needs, room->n_seen, dispatch_node_name(dispatch, room->largest),
                      sl_size_text(room->largest_bytes, has), rooms, why->text);
}

sl_status dispatch_model_hope(struct dispatch *dispatch, struct dispatch_model *model,
                              int64_t *retry_after_ms, struct sl_err *err)
{
    struct room room = {0};
    struct sl_err why = SL_ERR_INIT;
    int64_t ignored;
    if (!retry_after_ms) retry_after_ms = &ignored;
    *retry_after_ms = 0;
    if (router_nodes(dispatch->router)->n_by_model[model->number] > 0) return SL_OK;
    if (fits_whole(dispatch, model, &room)) return SL_OK;
    if (room.n_seen == 0) return SL_OK; /* nobody has reported yet, or all rest for a while */
    sl_status status = dispatch_chain_hope(dispatch, model, &why);
    if (status == SL_OK) return SL_OK;
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model->number);
    if (room.n_fit > 0 || (chain && chain->failed_ns >= 0)) *retry_after_ms = FAILED_AGAIN_MS;
    if (status == SL_NOMEM) *retry_after_ms = PLAN_AGAIN_MS;
    return refuse(dispatch, model, &room, &why, err);
}

static void fail_all(struct dispatch *dispatch, const struct dispatch_model *model,
                     int64_t retry_after_ms, const struct sl_err *err)
{
    size_t at = 0;
    struct dispatch_request *request;
    while ((request = sl_idmap_next(&dispatch->requests, &at))) {
        if (request->model != model || request->silent || request->todo != TODO_NONE ||
            request->attempts[0].number || request->attempts[1].number)
            continue;
        request->fail_status = err->status;
        request->fail_text = err->text;
        request->fail_retry_ms = retry_after_ms;
        dispatch_todo(request, TODO_FAIL);
    }
    dispatch_work(dispatch); /* while the text is there */
}

void dispatch_fail_hopeless(struct dispatch *dispatch)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms;
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        struct dispatch_model *model = &dispatch->models[i];
        if (!model->used || !router_pending(dispatch->router, i) ||
            dispatch_model_hope(dispatch, model, &retry_after_ms, &err) == SL_OK) {
            model->hopeless_ns = -1;
        } else if (model->hopeless_ns < 0) {
            model->hopeless_ns = dispatch->router_ns;
        } else if (dispatch->router_ns - model->hopeless_ns >= HOPELESS_NS) {
            fail_all(dispatch, model, retry_after_ms, &err);
        }
    }
}

/* --- in JSON --- */

void dispatch_hope_put(struct dispatch *dispatch, struct sl_json *json,
                       struct dispatch_model *model)
{
    struct held held[HELD_MAX];
    struct sl_err why = SL_ERR_INIT;
    size_t n = 0;
    if (dispatch_model_hope(dispatch, model, NULL, &why) != SL_OK) {
        sl_json_kv_str(json, "why", why.text);
        n = held_list(dispatch, model, held);
    }
    sl_json_key(json, "held_by_pinned");
    sl_json_array(json);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(json);
        sl_json_kv_str(json, "model", held[i].model);
        sl_json_kv_str(json, "node", held[i].node->id);
        sl_json_kv_str(json, "name", dispatch_node_name(dispatch, held[i].node));
        sl_json_kv_int(json, "memory_bytes", (int64_t)held[i].bytes);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}
