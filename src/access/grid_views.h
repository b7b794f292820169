/* grid_views.h: what the grid shows of itself: its members, its models, and why a request ran where
 * it did. Read only; grid_api.h changes things. docs/grid-views.md has examples.
 *   GET /grid/v1/nodes                    members with telemetry and loaded models
 *   GET /grid/v1/models                   what any member has in its store
 *   GET /grid/v1/explain?request=ID       why there
 *   GET /grid/v1/explain?model=NAME       where such a request would go now
 *   GET /grid/v1/status                   counters of this gateway's dispatcher
 * Floor: access.  Thread: the loop's.  Allocates: a call's answer.
 * On a machine that is in no grid all of them answer 404 and say how to open one. */
#pragma once
#include <stdbool.h>

struct call;

/* Who may look: whoever has an API key, or the administrator's; everybody while there are no keys.
 * False: the call has failed. */
bool grid_view_admits(struct call *call);

/* The handlers of the paths above; each ends its call. */
void grid_view_nodes(struct call *call);   /* GET nodes */
void grid_view_models(struct call *call);  /* GET models */
void grid_view_explain(struct call *call); /* GET explain */
void grid_view_status(struct call *call);  /* GET status */
