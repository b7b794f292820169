/* service.h: everything `starlane serve`, `up` and `join` run, put together and taken apart:
 * store, database, keys, usage, node, grid, gateway, on one loop. A node of a grid (`join`) has no
 * gateway, and so no keys and no usage.
 * Floor: cli.  Thread: main.  Allocates: all of it, at start. */
#pragma once
#include "access/gateway.h"
#include "cli/service_grid.h"
#include "grid/db.h"
#include "grid/node.h"
#include "grid/telemetry.h"

#define SERVICE_GRPC_PORT 8081 /* Triton's is 8001, KServe's 8081 */

struct service; /* opaque */

struct service_cfg {
    const char *home;               /* $STARLANE_HOME */
    const char *host;               /* where to listen; "*": everywhere */
    uint16_t port;                  /* 0: a free one */
    bool grpc;                      /* listens for it on a port of its own, too */
    uint16_t grpc_port;             /* 0: a free one */
    const char *tls_cert, *tls_key; /* PEM files; both or neither */
    const char *origins;            /* of web pages that may use it: gateway_cfg's */
    bool insecure;                  /* listens beyond loopback without keys and TLS */
    enum db_sync usage_sync;
    int usage_days; /* rows of usage are kept so long; 0: for ever */
    enum sched_class qos_default;
    size_t body_bytes_max, n_connections_max; /* 0: the HTTP server's defaults */
    int64_t drain_ns;                         /* a shutdown waits so long for answers under way */
    struct node_cfg node;                     /* without loop and store */
    const char *const *models;                /* loaded at start and kept */
    int n_models;
    struct telemetry_declared declared; /* what its owner says of the machine */
    const char *version;
    const struct service_grid_cfg *grid; /* NULL: this machine alone */
    bool no_api;                         /* a grid's node: serves members only */
};

/* Opens, listens, and begins to load the models. Says on stderr where it listens. INVALID: what the
 * user asked for cannot be (the message says what to do); else what the parts say. */
SL_CHECK sl_status service_create(const struct service_cfg *cfg, struct service **out,
                                  struct sl_err *err);
void service_destroy(struct service *service); /* NULL is fine */

/* Serves until SIGINT or SIGTERM, then lets answers under way finish (a second signal does not
 * wait). SIGHUP reads the certificate again. */
SL_CHECK sl_status service_run(struct service *service, struct sl_err *err);
