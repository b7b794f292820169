/* grid_port.h: where members of the grid speak HTTP to each other, over TLS with their
 * certificates: joining, saying hello, fetching parts of models.
 * Floor: grid.  Thread: the loop's.  Allocates: at creation; a route.
 * Invariants: a handler of a members' route is called only for a peer whose certificate leads to
 * the grid's root and whose id the registry knows and does not have as removed; all others are
 * answered here: 401 without certificate, 403 to a removed member, 503 to one not known here yet.
 * Errors are {"error":"one line"}. */
#pragma once
#include "base/err.h"
#include "net/http_server.h"

struct grid_port;
struct loop;
struct registry;
struct sl_buf;

#define GRID_PORT_FIRST 4230
#define GRID_PORT_LAST 4260
#define GRID_PORT_ROUTES_MAX 16
#define GRID_PORT_BODY_BYTES_MAX \
    (64u << 10)                        /* of a request: a certificate request and its labels */
#define GRID_PORT_CONNECTIONS_MAX 2048 /* every member twice, in the largest grid tested */

struct grid_port_cfg {
    struct loop *loop;
    struct registry *registry; /* borrowed, as all here */
    const char *host;          /* NULL or "*": everywhere */
    uint16_t port;             /* 0: the first free one of GRID_PORT_FIRST to _LAST */
    bool any_port;             /* with port 0: whichever the kernel has free (tests) */
    const char *cert, *key;    /* PEM files */
    const char *ca;            /* of clients' certificates */
};

/* Does not listen yet. */
SL_CHECK sl_status grid_port_create(const struct grid_port_cfg *cfg, struct grid_port **out,
                                    struct sl_err *err);
void grid_port_destroy(struct grid_port *port); /* NULL is fine */

/* From now on. EXISTS: the port, or all of them, are in use. As http_server_listen. */
SL_CHECK sl_status grid_port_listen(struct grid_port *port, struct sl_err *err);
uint16_t grid_port_number(const struct grid_port *port); /* 0 before it listens */

/* fn(ctx, x) ends every exchange. A path that ends in "*" takes whatever begins with what is before
 * it. `open`: for everybody. LIMIT. */
SL_CHECK sl_status grid_port_route(struct grid_port *port, enum http_method method,
                                   const char *path, bool open, http_request_fn fn, void *ctx);

/* {"error":...} with the status's HTTP code; ends x. */
void grid_port_fail(struct http_exchange *x, sl_status status, const char *message);
/* The body as a JSON document, and the end of x; body is done with and freed. */
void grid_port_answer(struct http_exchange *x, int http_status, struct sl_buf *body,
                      sl_status status);

/* The certificate was renewed. */
SL_CHECK sl_status grid_port_reload(struct grid_port *port, struct sl_err *err);
