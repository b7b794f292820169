/* oip_repository.c: Triton's model repository extension: which models there are, load, unload. */
#include "access/oip_int.h"
#include "base/mem.h"
#include <string.h>

/* --- index --- */

struct indexing {
    struct call *call;
    const struct store_models *stored;
    bool ready_only;
    void (*put)(void *ctx, const struct oip_entry *entry);
    void *ctx;
    const char *name;        /* of the model that is looked for */
    struct node_model found; /* it, when the node knows it */
    bool is_found;
};

/* NULL: it takes no requests before it is loaded (again). */
static const char *state_of(const struct node_model *loaded)
{
    const char *state = loaded ? loaded->state : "unloaded";
    if (!strcmp(state, "ready")) return "READY";
    if (!strcmp(state, "starting") || !strcmp(state, "loading")) return "LOADING";
    return strcmp(state, "draining") ? NULL : "UNLOADING";
}

static void put_entry(struct indexing *x, const char *name, const struct node_model *loaded)
{
    char base[STORE_NAME_SIZE];
    size_t n_base;
    const char *version = oip_version_of(name, &n_base);
    const char *state = state_of(loaded);
    if (x->ready_only && !(loaded && !strcmp(loaded->state, "ready"))) return;
    memcpy(base, name, n_base);
    base[n_base] = '\0';
    struct oip_entry entry = {base, version, state ? state : "UNAVAILABLE", ""};
    if (!state)
        entry.reason =
            loaded && *loaded->last_error ? loaded->last_error : "not loaded; a request loads it";
    x->put(x->ctx, &entry);
}

static void match(void *ctx, const struct node_model *model)
{
    struct indexing *x = ctx;
    if (x->is_found || strcmp(x->name, model->name) != 0) return;
    x->found = *model;
    x->is_found = true;
}

/* A model that was given by its path: the node knows it, the store does not. */
static void put_unstored(void *ctx, const struct node_model *model)
{
    struct indexing *x = ctx;
    for (size_t i = 0; i < x->stored->n; i++)
        if (!strcmp(x->stored->v[i].name, model->name)) return;
    if (call_allows(x->call, model->name)) put_entry(x, model->name, model);
}

sl_status oip_repository_index(struct call *call, bool ready_only,
                               void (*put)(void *ctx, const struct oip_entry *entry), void *ctx,
                               struct sl_err *err)
{
    struct grid *grid = call->gateway->cfg.grid;
    struct store_models stored = {0};
    sl_status status = store_list(call->gateway->cfg.store, &stored, err);
    if (status != SL_OK) return status;
    struct indexing x = {
        .call = call, .stored = &stored, .ready_only = ready_only, .put = put, .ctx = ctx};
    for (size_t i = 0; i < stored.n; i++) {
        x.name = stored.v[i].name;
        x.is_found = false;
        if (!call_allows(call, x.name)) continue;
        grid_models(grid, match, &x);
        put_entry(&x, x.name, x.is_found ? &x.found : NULL);
    }
    grid_models(grid, put_unstored, &x);
    store_models_done(&stored);
    return SL_OK;
}

/* --- load and unload --- */

struct loading {
    struct call *call;
    struct grid_request *request; /* NULL: not yet, or no more */
    call_fn then;
};

static void on_event(void *ctx, const struct node_event *event)
{
    struct loading *loading = ctx;
    if (event->type == NODE_EVENT_DONE) {
        loading->request = NULL;
        loading->then(loading->call);
    } else if (event->type == NODE_EVENT_FAILED) {
        loading->request = NULL;
        call_fail_node(loading->call, event->status, event->message, event->retry_after_ms);
    }
}

static void on_gone(struct call *call)
{
    struct loading *loading = call->work;
    if (loading->request) grid_cancel(loading->request);
    loading->request = NULL;
}

/* False: the call has failed. */
static bool find(struct call *call, const char *model, struct node_model *out)
{
    if (call_allows(call, model)) return call_find_model(call, model, out);
    call_fail(call, SL_DENIED, "model", "model_not_allowed", "this key may not use that model");
    return false;
}

void oip_repository_load(struct call *call, const char *model, call_fn then)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    struct node_model found;
    if (!find(call, model, &found)) return;
    struct loading *loading = sl_calloc(1, sizeof *loading);
    if (!loading) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *loading = (struct loading){.call = call, .then = then};
    call->work = loading;
    call->free_work = sl_free;
    call->on_gone = on_gone;
    const struct node_submit submit = {.task = NODE_LOAD,
                                       .model = model,
                                       .qos = call->qos,
                                       .tenant = call_tenant(call),
                                       .request_id = call->id,
                                       .queue_timeout_ns = call_queue_timeout_ns(call),
                                       .keep_alive_ns = SCHED_KEEP_ALIVE_FOREVER};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_event, loading,
                                   &loading->request, &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}

void oip_repository_unload(struct call *call, const char *model, call_fn then)
{
    struct sl_err err = SL_ERR_INIT;
    struct node_model found;
    if (!find(call, model, &found)) return;
    sl_status status = grid_stop(call->gateway->cfg.grid, found.name, &err);
    /* One that is not loaded is what was wanted. */
    if (status == SL_OK || status == SL_NOT_FOUND)
        then(call);
    else
        call_fail_err(call, &err, NULL);
}
