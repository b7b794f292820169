/* service_grid.h: the part of a service that makes its machine a member of a grid: membership,
 * agent, models from other members, and at gateways the dispatcher.
 * Floor: cli.  Thread: main.  Allocates: all of it, at start. */
#pragma once
#include "grid/membership.h"
#include "grid/telemetry.h"
#include "sched/node_table.h"

struct blobs;
struct dispatch;
struct fetch;
struct fetch_parts;
struct loop;
struct node;
struct service_grid;
struct store;
struct telemetry_sampler;

struct service_grid_cfg {
    struct membership_cfg membership; /* without loop, home and callbacks */
    const char *policy;               /* dispatch_cfg's */
    uint32_t replicas;                /* dispatch_cfg's */
    int64_t token_ttl_ms, token_uses; /* a gateway prints a token so at its start; uses 0: none */
};

/* What it stands on; all borrowed. */
struct service_grid_parts {
    struct loop *loop;
    const char *home, *version;
    struct node *node;
    struct store *store;
    struct telemetry_sampler *telemetry;
    struct telemetry_declared declared; /* what its owner says of the machine */
    int64_t queue_timeout_ns;
    int32_t n_threads; /* node_cfg's, as what follows */
    bool allow_echo;
    void (*on_removed)(void *ctx, const char *message); /* from the grid: the service ends */
    void (*on_drained)(void *ctx);                      /* after service_grid_drain */
    void (*on_left)(void *ctx); /* it was drained for good: the service ends, as it should */
    void *ctx;
};

/* Takes part in the grid; nothing of *parts may go before it. On failure *out is untouched. */
SL_CHECK sl_status service_grid_create(const struct service_grid_cfg *cfg,
                                       const struct service_grid_parts *parts,
                                       struct service_grid **out, struct sl_err *err);
/* In two steps: nothing above uses the first part any more, and then the second. NULL is fine. */
void service_grid_stop(struct service_grid *grid);
void service_grid_destroy(struct service_grid *grid);

/* Its parts, for the gateway above; they live as long as it. */
struct membership *service_grid_membership(struct service_grid *grid);
struct dispatch *service_grid_dispatch(struct service_grid *grid); /* NULL: a node */
struct blobs *service_grid_blobs(struct service_grid *grid);
struct fetch *service_grid_fetch(struct service_grid *grid);
struct fetch_parts *service_grid_fetch_parts(struct service_grid *grid);

/* The store of this machine changed: the others are told. `service_grid` as ctx of a callback. */
void service_grid_store_changed(void *service_grid);

/* A gateway has heard of every member that it knows; before, it would say of models that others
 * have that there are none. */
bool service_grid_has_heard_all(const struct service_grid *grid);

/* Takes nothing more from gateways; on_drained comes once what they have here is done. */
void service_grid_drain(struct service_grid *grid);

/* Who and where this member is, in one line on stderr. */
void service_grid_say_where(const struct service_grid *grid);

/* A gateway's `starlane join TOKEN`, on stdout. */
SL_CHECK sl_status service_grid_say_token(struct service_grid *grid, struct sl_err *err);
