/* grid.h: the service as those above see it: give it a request for a model, get its events, however
 * many machines there are. On one machine requests go straight to its node; in a grid they go
 * through the dispatcher to the node that suits best, which may be this machine's own.
 *
 *   access -> grid_submit --+-- one machine --> node.h
 *                           +-- a grid -------> dispatch.h -> bus -> agent -> node.h
 *
 * Requests, events and models are those of node.h: struct node_submit, node_event, node_model.
 * Floor: grid.  Thread: the loop's.  Allocates: a handle a request, and what node.h and dispatch.h
 * do.
 * Invariant: that of node.h: every accepted request gets exactly one DONE or FAILED, unless it is
 * cancelled; no event comes from within grid_submit. */
#pragma once
#include "base/err.h"
#include "grid/node.h"

struct dispatch;
struct grid;
struct grid_request;

/* Both are borrowed and outlive the grid; dispatch NULL: one machine. NOMEM. */
SL_CHECK sl_status grid_create(struct node *node, struct dispatch *dispatch, struct grid **out,
                               struct sl_err *err);
/* Requests that live are dropped without a word. NULL is fine. */
void grid_destroy(struct grid *grid);

struct node *grid_node(const struct grid *grid);         /* this machine's own */
struct dispatch *grid_dispatch(const struct grid *grid); /* NULL: one machine */

/* As node_submit. In a grid also UNAVAILABLE: no machine can run such a model. */
SL_CHECK sl_status grid_submit(struct grid *grid, const struct node_submit *req,
                               node_event_fn on_event, void *ctx, struct grid_request **out,
                               int64_t *retry_after_ms, struct sl_err *err);
/* As node_cancel. */
void grid_cancel(struct grid_request *request);

/* As node_models: every model that was asked for; in a grid every one that any machine has. */
void grid_models(struct grid *grid, void (*fn)(void *ctx, const struct node_model *model),
                 void *ctx);
/* As node_model_find: on whatever machine. */
SL_CHECK sl_status grid_model_find(struct grid *grid, const char *name, struct node_model *out,
                                   struct sl_err *err);
/* Does it take memory anywhere: loading, ready, or on its way out? */
bool grid_model_is_loaded(const struct node_model *model);

/* As node_stop: on every machine that has it loaded. */
SL_CHECK sl_status grid_stop(struct grid *grid, const char *model, struct sl_err *err);
/* As node_model_changed: of this machine's store. */
void grid_model_changed(struct grid *grid, const char *model);
/* Who else is to hear of such changes; fn NULL: nobody. */
void grid_on_model_change(struct grid *grid, void (*fn)(void *ctx), void *ctx);
