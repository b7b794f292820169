/* grid_api.h: what administrators change in a grid; grid_views.h shows things. docs/grid.md.
 *   POST   /grid/v1/tokens {"ttl_s","uses"}   makes a token, and shows it once
 *   GET    /grid/v1/tokens                    lists them, without secrets
 *   DELETE /grid/v1/tokens/ID                 revokes one
 *   GET    /grid/v1/members                   the registry, with those that are away or removed
 *   PATCH  /grid/v1/members/ID-OR-NAME {"name","labels":{...},"duty"}
 *   DELETE /grid/v1/members/ID-OR-NAME        removes a member
 * Floor: access.  Thread: the loop's.  Allocates: a call's answer.
 * Who may: whoever shows the text in HOME/grid/admin.key as bearer token, which the owner of the
 * gateway's HOME can read; an API key is for using models, and does not suffice. Without API keys,
 * and while the service listens on loopback only, everybody on this machine may, as with models.
 * On a machine that is in no grid, all of it answers 404 and says how to open one. */
#pragma once
#include <stdbool.h>

struct call;

/* May this call administer the grid? False: it has failed. Its route is an `open` one. */
bool grid_api_admits(struct call *call);

/* The handlers of the paths above, in their order; each ends its call. */
void grid_api_token_make(struct call *call);    /* POST tokens */
void grid_api_tokens(struct call *call);        /* GET tokens */
void grid_api_token_revoke(struct call *call);  /* DELETE tokens/ID */
void grid_api_members(struct call *call);       /* GET members */
void grid_api_member_change(struct call *call); /* PATCH members/... */
void grid_api_member_remove(struct call *call); /* DELETE members/... */
