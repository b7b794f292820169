#include "grid/grid.h"
#include "base/mem.h"
#include "grid/dispatch.h"
#include <string.h>

struct grid {
    struct node *node;
    struct dispatch *dispatch;
    struct grid_request *requests; /* that live; doubly linked */
    void (*on_model_change)(void *ctx);
    void *ctx;
};

struct grid_request {
    struct grid *grid;
    struct node_request *local;      /* on one machine */
    struct dispatch_request *remote; /* in a grid */
    node_event_fn on_event;
    void *ctx;
    bool ended; /* DONE or FAILED is being told */
    struct grid_request *next, *previous;
};

sl_status grid_create(struct node *node, struct dispatch *dispatch, struct grid **out,
                      struct sl_err *err)
{
    struct grid *grid = sl_calloc(1, sizeof *grid);
    if (!grid) return sl_err_set(err, SL_NOMEM, "grid");
    grid->node = node;
    grid->dispatch = dispatch;
    *out = grid;
    return SL_OK;
}

static void request_free(struct grid_request *request)
{
    if (request->previous)
        request->previous->next = request->next;
    else
        request->grid->requests = request->next;
    if (request->next) request->next->previous = request->previous;
    sl_free(request);
}

void grid_destroy(struct grid *grid)
{
    if (!grid) return;
    while (grid->requests) grid_cancel(grid->requests);
    sl_free(grid);
}

struct node *grid_node(const struct grid *grid)
{
    return grid->node;
}

struct dispatch *grid_dispatch(const struct grid *grid)
{
    return grid->dispatch;
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct grid_request *request = ctx;
    bool ended = event->type == NODE_EVENT_DONE || event->type == NODE_EVENT_FAILED;
    request->ended = ended; /* before the call: it may cancel, which is then nothing */
    request->on_event(request->ctx, event);
    if (ended) request_free(request);
}

sl_status grid_submit(struct grid *grid, const struct node_submit *req, node_event_fn fn, void *ctx,
                      struct grid_request **out, int64_t *retry_after_ms, struct sl_err *err)
{
    struct grid_request *request = sl_calloc(1, sizeof *request);
    if (!request) return sl_err_set(err, SL_NOMEM, "no memory for the request");
    *request =
        (struct grid_request){.grid = grid, .on_event = fn, .ctx = ctx, .next = grid->requests};
    if (grid->requests) grid->requests->previous = request;
    grid->requests = request;
    sl_status status = grid->dispatch ? dispatch_submit(grid->dispatch, req, on_event, request,
                                                        &request->remote, retry_after_ms, err)
                                      : node_submit(grid->node, req, on_event, request,
                                                    &request->local, retry_after_ms, err);
    if (status != SL_OK) {
        request_free(request);
        return status;
    }
    *out = request;
    return SL_OK;
}

void grid_cancel(struct grid_request *request)
{
    struct node_request *local = request->local;
    struct dispatch_request *remote = request->remote;
    if (request->ended) return;
    request_free(request);
    if (remote)
        dispatch_cancel(remote);
    else
        node_cancel(local);
}

void grid_models(struct grid *grid, void (*fn)(void *ctx, const struct node_model *model),
                 void *ctx)
{
    if (grid->dispatch)
        dispatch_models(grid->dispatch, fn, ctx);
    else
        node_models(grid->node, fn, ctx);
}

sl_status grid_model_find(struct grid *grid, const char *name, struct node_model *out,
                          struct sl_err *err)
{
    return grid->dispatch ? dispatch_model_find(grid->dispatch, name, out, err)
                          : node_model_find(grid->node, name, out, err);
}

bool grid_model_is_loaded(const struct node_model *model)
{
    return model->pid || !strcmp(model->state, sched_model_state_name(SCHED_READY)) ||
           !strcmp(model->state, sched_model_state_name(SCHED_LOADING));
}

sl_status grid_stop(struct grid *grid, const char *model, struct sl_err *err)
{
    return grid->dispatch ? dispatch_stop(grid->dispatch, model, err)
                          : node_stop(grid->node, model, err);
}

void grid_model_changed(struct grid *grid, const char *model)
{
    node_model_changed(grid->node, model);
    if (grid->dispatch) dispatch_model_changed(grid->dispatch, model);
    if (grid->on_model_change) grid->on_model_change(grid->ctx);
}

void grid_on_model_change(struct grid *grid, void (*fn)(void *ctx), void *ctx)
{
    grid->on_model_change = fn;
    grid->ctx = ctx;
}
