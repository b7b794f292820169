#include "cli/service.h"
#include "access/keys.h"
#include "access/usage.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "grid/dispatch.h"
#include "grid/grid.h"
#include "grid/store.h"
#include "grid/telemetry_sampler.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/tls.h"
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Members report each second and connect again within one; who is silent for longer is away. */
#define SETTLE_NS INT64_C(5000000000)
#define SETTLE_LOOK_NS INT64_C(50000000)

struct service {
    struct service_cfg cfg;
    struct loop *loop;
    struct store *store;
    struct keys *keys;
    struct usage *usage;
    struct loop_task store_usage;
    struct telemetry_sampler *telemetry;
    struct node *node;
    struct grid *grid;
    struct service_grid *members; /* NULL: this machine alone */
    struct gateway *gateway;      /* NULL: a grid's node */
    struct tls_server *tls;
    struct loop_signal *signals[3];
    struct loop_timer *drain_timer, *settle_timer;
    int64_t settle_until_ns;
    uint16_t port, grpc_port;
    bool stopping;
    int n_draining;    /* parts that have answers under way yet */
    bool left;         /* drained: it ends by itself, and that is right */
    struct sl_err end; /* why it ended by itself; OK: it was told to */
};

/* --- stopping --- */

static void on_drained(void *ctx)
{
    struct service *service = ctx;
    if (--service->n_draining == 0) loop_stop(service->loop);
}

static void on_drain_time(void *ctx)
{
    struct service *service = ctx;
    sl_log(SL_LOG_WARN, "serve", "answers under way are cut off");
    loop_stop(service->loop);
}

static void on_stop(void *ctx)
{
    struct service *service = ctx;
    if (service->stopping) {
        loop_stop(service->loop);
        return;
    }
    service->stopping = true;
    loop_timer_set(service->drain_timer, service->cfg.drain_ns);
    service->n_draining = (service->gateway != NULL) + (service->members != NULL);
    if (service->gateway) {
        struct http_server_stats stats;
        http_server_stats(gateway_server(service->gateway), &stats);
        if (stats.n_active)
            fprintf(stderr, "starlane: finishing answers under way; once more to stop at once\n");
        gateway_drain(service->gateway, on_drained, service);
    }
    if (service->members) service_grid_drain(service->members);
}

static void on_removed(void *ctx, const char *message)
{
    struct service *service = ctx;
    sl_err_set(&service->end, SL_DENIED, "%s", message);
    loop_stop(service->loop);
}

/* What the node had is done. A gateway's clients may have answers under way from other nodes; they
 * are not cut off, but by a signal. */
static void on_left(void *ctx)
{
    struct service *service = ctx;
    if (service->stopping) return;
    service->stopping = service->left = true;
    service->n_draining = 1;
    if (service->gateway)
        gateway_drain(service->gateway, on_drained, service);
    else
        on_drained(service);
}

static void on_reload(void *ctx)
{
    struct service *service = ctx;
    struct sl_err err = SL_ERR_INIT;
    if (!service->tls) return;
    if (tls_server_reload(service->tls, &err) == SL_OK)
        sl_log(SL_LOG_INFO, "serve", "the certificate was read again");
    else
        sl_log(SL_LOG_ERROR, "serve", "the old certificate stays in use: %s", err.text);
}

static sl_status watch_signals(struct service *s, struct sl_err *err)
{
    static const struct {
        int signo;
        loop_fn fn;
    } rows[] = {{SIGINT, on_stop}, {SIGTERM, on_stop}, {SIGHUP, on_reload}};
    sl_status status = loop_timer_create(s->loop, on_drain_time, s, &s->drain_timer);
    for (int i = 0; i < 3 && status == SL_OK; i++)
        status = loop_signal_create(s->loop, rows[i].signo, rows[i].fn, s, &s->signals[i]);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "cannot watch for signals");
}

/* --- parts --- */

static sl_status post(void *service, void (*fn)(void *arg), void *arg)
{
    return loop_post(((struct service *)service)->loop, fn, arg);
}

static void at_turn_end(void *ctx)
{
    struct service *service = ctx;
    loop_queue_task(service->loop, &service->store_usage);
}

static void on_room(void *ctx)
{
    struct service *service = ctx;
    if (service->gateway) gateway_save_rest(service->gateway);
}

static void store_usage(void *ctx)
{
    usage_turn_end(((struct service *)ctx)->usage);
}

static sl_status open_usage(struct service *s, struct sl_err *err)
{
    char path[PATH_MAX];
    struct db *db = NULL;
    struct db_cfg db_cfg = {.sync = s->cfg.usage_sync};
    int n = snprintf(path, sizeof path, "%s/state.db", s->cfg.home);
    if (n < 0 || (size_t)n >= sizeof path) return sl_err_set(err, SL_INVALID, "home: too long");
    sl_status status = keys_create(&s->keys);
    if (status != SL_OK) return sl_err_set(err, status, "keys: %s", sl_status_text(status));
    status = db_open(path, &db_cfg, &db, err);
    if (status == SL_OK) status = keys_load(s->keys, db, sl_now_ns() / 1000000, err);
    db_close(db);
    if (status != SL_OK) return status;
    struct usage_cfg usage_cfg = {.path = path,
                                  .sync = s->cfg.usage_sync,
                                  .retain_days = s->cfg.usage_days,
                                  .keys = s->keys,
                                  .post = post,
                                  .at_turn_end = at_turn_end,
                                  .on_room = on_room,
                                  .loop = s};
    s->store_usage = (struct loop_task){.fn = store_usage, .ctx = s};
    return usage_create(&usage_cfg, &s->usage, err);
}

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1") ||
           !strcmp(host, "[::1]");
}

/* Strangers must not get at the models by a slip of the user's. */
static sl_status check_exposure(const struct service *s, struct sl_err *err)
{
    bool keys = keys_any(s->keys), tls = s->cfg.tls_cert != NULL;
    if (is_loopback(s->cfg.host) || (keys && tls)) return SL_OK;
    const char *missing = keys ? "TLS" : tls ? "API keys" : "API keys and TLS";
    if (!s->cfg.insecure)
        return sl_err_set(
            err, SL_INVALID,
            "--host %s is open to the network, without %s. %s%s%s, or accept the risk "
            "with --insecure",
            s->cfg.host, missing, keys ? "" : "Make keys with `starlane keys create --name NAME`",
            keys || tls ? "" : ", and ",
            tls    ? ""
            : keys ? "Give --tls-cert and --tls-key"
                   : "give --tls-cert and --tls-key");
    fprintf(stderr, "starlane: WARNING: open to the network without %s (--insecure)\n", missing);
    return SL_OK;
}

/* The first port takes gRPC too, so where the usual one is in use the service does without. */
static sl_status listen_grpc(struct service *s, struct sl_err *err)
{
    sl_status status = http_server_listen(gateway_server(s->gateway), s->cfg.host, s->cfg.grpc_port,
                                          s->tls, &s->grpc_port, err);
    if (status == SL_OK) return SL_OK;
    if (status != SL_EXISTS || s->cfg.grpc_port != SERVICE_GRPC_PORT)
        return sl_err_prefix(err, "--grpc-port");
    sl_log(SL_LOG_WARN, "serve", "gRPC is served on port %u only: %s", s->port, err->text);
    s->cfg.grpc = false;
    return SL_OK;
}

static sl_status create_gateway(struct service *s, struct sl_err *err)
{
    struct gateway_cfg cfg = {.loop = s->loop,
                              .grid = s->grid,
                              .store = s->store,
                              .keys = s->keys,
                              .usage = s->usage,
                              .membership = s->members ? service_grid_membership(s->members) : NULL,
                              .blobs = s->members ? service_grid_blobs(s->members) : NULL,
                              .fetch = s->members ? service_grid_fetch(s->members) : NULL,
                              .fetch_parts =
                                  s->members ? service_grid_fetch_parts(s->members) : NULL,
                              .telemetry = s->telemetry,
                              .version = s->cfg.version,
                              .origins = s->cfg.origins,
                              .local_only = is_loopback(s->cfg.host),
                              .qos_default = s->cfg.qos_default,
                              .body_bytes_max = s->cfg.body_bytes_max,
                              .n_connections_max = s->cfg.n_connections_max};
    sl_status status = gateway_create(&cfg, &s->gateway, err);
    if (status == SL_OK && s->cfg.tls_cert)
        status = tls_server_create(s->cfg.tls_cert, s->cfg.tls_key, &s->tls, err);
    if (status == SL_OK)
        status = http_server_listen(gateway_server(s->gateway), s->cfg.host, s->cfg.port, s->tls,
                                    &s->port, err);
    return status == SL_OK && s->cfg.grpc ? listen_grpc(s, err) : status;
}

/* --- a gateway's first moments --- */

static void settle(void *ctx)
{
    struct service *s = ctx;
    bool waits = !service_grid_has_heard_all(s->members) && sl_now_ns() < s->settle_until_ns;
    http_server_hold(gateway_server(s->gateway), waits);
    if (waits) loop_timer_set(s->settle_timer, SETTLE_LOOK_NS);
}

/* Who asks a gateway that does not know the others yet waits for a moment, instead of being told
 * that there is no such model, or no room for it. */
static sl_status settle_begin(struct service *s, struct sl_err *err)
{
    if (!s->members) return SL_OK;
    s->settle_until_ns = sl_now_ns() + SETTLE_NS;
    sl_status status = loop_timer_create(s->loop, settle, s, &s->settle_timer);
    if (status != SL_OK) return sl_err_set(err, status, "no memory for a timer");
    settle(s);
    return SL_OK;
}

/* What only a machine with a public API has. */
static sl_status open_accounts(struct service *s, struct sl_err *err)
{
    if (s->cfg.no_api) return SL_OK;
    sl_status status = open_usage(s, err);
    return status == SL_OK ? check_exposure(s, err) : status;
}

static sl_status create_node(struct service *s, struct sl_err *err)
{
    struct node_cfg cfg = s->cfg.node;
    cfg.loop = s->loop;
    cfg.store = s->store;
    return node_create(&cfg, &s->node, err);
}

static sl_status start_telemetry(struct service *s, struct sl_err *err)
{
    const struct telemetry_cfg cfg = {.home = s->cfg.home, .declared = s->cfg.declared};
    return telemetry_start(s->loop, &cfg, NULL, NULL, &s->telemetry, err);
}

static sl_status join_members(struct service *s, struct sl_err *err)
{
    const struct service_grid_parts parts = {.loop = s->loop,
                                             .home = s->cfg.home,
                                             .version = s->cfg.version,
                                             .node = s->node,
                                             .store = s->store,
                                             .telemetry = s->telemetry,
                                             .declared = s->cfg.declared,
                                             .queue_timeout_ns = s->cfg.node.queue_timeout_ns,
                                             .n_threads = s->cfg.node.n_threads,
                                             .allow_echo = s->cfg.node.allow_echo,
                                             .on_removed = on_removed,
                                             .on_drained = on_drained,
                                             .on_left = on_left,
                                             .ctx = s};
    return s->cfg.grid ? service_grid_create(s->cfg.grid, &parts, &s->members, err) : SL_OK;
}

/* One that was named at the start. In a grid placement would take it away when nobody asks. */
static sl_status keep_model(struct node *node, struct dispatch *dispatch, const char *name,
                            struct sl_err *err)
{
    struct node_model model;
    sl_status status = node_pin(node, name, err);
    if (status != SL_OK || !dispatch) return status;
    status = node_model_find(node, name, &model, err);
    return status == SL_OK ? dispatch_keep(dispatch, model.name, model.digest, err) : status;
}

static sl_status create_parts(struct service *s, struct sl_err *err)
{
    sl_status status = loop_create(0, &s->loop, err);
    if (status == SL_OK) status = watch_signals(s, err);
    if (status == SL_OK) status = store_open(s->cfg.home, &s->store, err);
    if (status == SL_OK) status = open_accounts(s, err);
    if (status == SL_OK) status = start_telemetry(s, err);
    if (status == SL_OK) status = create_node(s, err);
    if (status == SL_OK) status = join_members(s, err);
    if (status != SL_OK) return status;
    struct dispatch *dispatch = s->members ? service_grid_dispatch(s->members) : NULL;
    status = grid_create(s->node, dispatch, &s->grid, err);
    if (status == SL_OK && s->members)
        grid_on_model_change(s->grid, service_grid_store_changed, s->members);
    for (int i = 0; i < s->cfg.n_models && status == SL_OK; i++)
        status = keep_model(s->node, dispatch, s->cfg.models[i], err);
    if (status != SL_OK || s->cfg.no_api) return status;
    status = create_gateway(s, err);
    return status == SL_OK ? settle_begin(s, err) : status;
}

static void say_where(const struct service *s)
{
    const char *host = strcmp(s->cfg.host, "*") ? s->cfg.host : "0.0.0.0";
    if (s->members) service_grid_say_where(s->members);
    if (!s->gateway) return;
    fprintf(stderr, "Starlane %s listens on %s://%s:%u\n", s->cfg.version,
            s->cfg.tls_cert ? "https" : "http", host, s->port);
    if (s->cfg.grpc) fprintf(stderr, "gRPC on %s:%u\n", host, s->grpc_port);
}

sl_status service_create(const struct service_cfg *cfg, struct service **out, struct sl_err *err)
{
    if (!cfg->tls_cert != !cfg->tls_key)
        return sl_err_set(err, SL_INVALID, "--tls-cert and --tls-key go together");
    struct service *service = sl_calloc(1, sizeof *service);
    if (!service) return sl_err_set(err, SL_NOMEM, "service");
    service->cfg = *cfg;
    sl_status status = create_parts(service, err);
    if (status != SL_OK) {
        service_destroy(service);
        return status;
    }
    say_where(service);
    *out = service;
    return SL_OK;
}

void service_destroy(struct service *s)
{
    if (!s) return;
    /* Calls under way hand in their rows; the writer stores them and answers who still waits; then
     * nobody is left who could call back. */
    if (s->gateway) gateway_abort(s->gateway);
    if (s->usage) usage_close(s->usage);
    gateway_destroy(s->gateway);
    grid_destroy(s->grid);
    service_grid_stop(s->members);
    node_destroy(s->node);
    service_grid_destroy(s->members);
    telemetry_stop(s->telemetry);
    tls_server_destroy(s->tls);
    for (int i = 0; i < 3; i++) loop_signal_destroy(s->signals[i]);
    loop_timer_destroy(s->drain_timer);
    loop_timer_destroy(s->settle_timer);
    loop_destroy(s->loop);
    usage_destroy(s->usage);
    keys_destroy(s->keys);
    store_close(s->store);
    sl_free(s);
}

sl_status service_run(struct service *service, struct sl_err *err)
{
    sl_thread_wake_soon();
    sl_status status = service->members ? service_grid_say_token(service->members, err) : SL_OK;
    if (status == SL_OK) status = loop_run(service->loop, err);
    if (status == SL_OK && service->left)
        fprintf(stderr, "starlane: drained: this machine has left the grid; start it again to "
                        "bring it back\n");
    if (status != SL_OK || service->end.status == SL_OK) return status;
    return sl_err_set(err, service->end.status, "%s", service->end.text);
}
