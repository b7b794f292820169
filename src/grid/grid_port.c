/* grid_port.c: the listener and its routes, and who may use them. */
#include "grid/grid_port.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "grid/registry.h"
#include "net/tls.h"

#include <string.h>

#define ERROR_BYTES_MAX 2048
#define JSON_TYPE "application/json"

struct route {
    enum http_method method;
    const char *path; /* borrowed: a literal */
    bool open;
    http_request_fn fn;
    void *ctx;
};

struct grid_port {
    struct grid_port_cfg cfg;
    struct tls_server *tls;
    struct http_server *server;
    struct route routes[GRID_PORT_ROUTES_MAX];
    int n_routes;
    uint16_t number;
};

/* --- answers --- */

void grid_port_answer(struct http_exchange *x, int http_status, struct sl_buf *body,
                      sl_status status)
{
    if (status == SL_OK)
        http_respond(x, http_status, JSON_TYPE, body->data, body->len);
    else
        http_respond(x, sl_status_http(SL_INTERNAL), NULL, "", 0);
    sl_buf_done(body);
}

void grid_port_fail(struct http_exchange *x, sl_status status, const char *message)
{
    struct sl_json json;
    struct sl_buf body;
    sl_buf_init(&body, ERROR_BYTES_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "error", message);
    sl_json_object_end(&json);
    grid_port_answer(x, sl_status_http(status), &body, sl_json_end(&json));
}

/* --- requests --- */

static bool path_fits(const char *pattern, const char *path)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] != '*') return strcmp(pattern, path) == 0;
    return strncmp(pattern, path, n - 1) == 0;
}

static const struct route *find(const struct grid_port *port, const struct http_request *request)
{
    for (int i = 0; i < port->n_routes; i++) {
        const struct route *route = &port->routes[i];
        if (route->method == request->method && path_fits(route->path, request->path)) return route;
    }
    return NULL;
}

/* False: whoever asks is not a member now, and has been told. */
static bool admit(const struct grid_port *port, struct http_exchange *x)
{
    const char *id = http_exchange_request(x)->peer_id;
    const struct member *member = id ? registry_find(port->cfg.registry, id) : NULL;
    if (!id)
        grid_port_fail(x, SL_UNAUTHENTICATED, "this needs a member's certificate");
    else if (!member)
        grid_port_fail(x, SL_UNAVAILABLE, "this gateway has not heard of that member yet");
    else if (member->removed)
        grid_port_fail(x, SL_DENIED, "this machine was removed from the grid");
    else
        return true;
    return false;
}

static void on_request(void *ctx, struct http_exchange *x)
{
    const struct grid_port *port = ctx;
    const struct route *route = find(port, http_exchange_request(x));
    if (!route)
        grid_port_fail(x, SL_NOT_FOUND, "no such path");
    else if (route->open || admit(port, x))
        route->fn(route->ctx, x);
}

/* --- life --- */

sl_status grid_port_create(const struct grid_port_cfg *cfg, struct grid_port **out,
                           struct sl_err *err)
{
    struct grid_port *port = sl_calloc(1, sizeof *port);
    if (!port) return sl_err_set(err, SL_NOMEM, "no memory for the grid port");
    port->cfg = *cfg;
    struct http_server_cfg server = {.on_request = on_request,
                                     .ctx = port,
                                     .body_bytes_max = GRID_PORT_BODY_BYTES_MAX,
                                     .n_connections_max = GRID_PORT_CONNECTIONS_MAX,
                                     .server_name = "starlane-grid"};
    sl_status status = tls_server_create_for_grid(cfg->cert, cfg->key, cfg->ca, &port->tls, err);
    if (status != SL_OK) goto fail;
    status = http_server_create(cfg->loop, &server, &port->server, err);
    if (status != SL_OK) goto fail;
    *out = port;
    return SL_OK;
fail:
    grid_port_destroy(port);
    return status;
}

void grid_port_destroy(struct grid_port *port)
{
    if (!port) return;
    http_server_destroy(port->server);
    tls_server_destroy(port->tls);
    sl_free(port);
}

static sl_status listen_at(struct grid_port *port, uint16_t number, struct sl_err *err)
{
    return http_server_listen(port->server, port->cfg.host, number, port->tls, &port->number, err);
}

sl_status grid_port_listen(struct grid_port *port, struct sl_err *err)
{
    sl_status status = SL_EXISTS;
    if (port->cfg.port || port->cfg.any_port) {
        status = listen_at(port, port->cfg.port, err);
    } else {
        for (int n = GRID_PORT_FIRST; n <= GRID_PORT_LAST && status == SL_EXISTS; n++)
            status = listen_at(port, (uint16_t)n, err);
    }
    if (status == SL_OK) return SL_OK;
    return sl_err_prefix(err, "the grid port");
}

uint16_t grid_port_number(const struct grid_port *port)
{
    return port->number;
}

sl_status grid_port_route(struct grid_port *port, enum http_method method, const char *path,
                          bool open, http_request_fn fn, void *ctx)
{
    if (port->n_routes == GRID_PORT_ROUTES_MAX) return SL_LIMIT;
    port->routes[port->n_routes++] = (struct route){method, path, open, fn, ctx};
    return SL_OK;
}

sl_status grid_port_reload(struct grid_port *port, struct sl_err *err)
{
    return tls_server_reload(port->tls, err);
}
