#include "access/gateway_int.h"
#include "access/generation.h"
#include "access/grpc.h"
#include "access/grpc_health.h"
#include "access/ollama.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

#define PING_CHECK_NS INT64_C(2000000000)
static void on_request(void *ctx, struct http_exchange *x)
{
    call_begin(ctx, x);
}

/* gRPC's calls bring messages one by one. */
static bool on_head(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    return grpc_is_request(http_exchange_request(x));
}

static void on_ping(void *ctx)
{
    struct gateway *gateway = ctx;
    generation_ping_all(gateway);
    grpc_health_tick(gateway);
    loop_timer_set(gateway->ping, PING_CHECK_NS);
}

sl_status gateway_create(const struct gateway_cfg *cfg, struct gateway **out, struct sl_err *err)
{
    struct gateway *gateway = sl_calloc(1, sizeof *gateway);
    if (!gateway) return sl_err_set(err, SL_NOMEM, "gateway");
    struct http_server_cfg server = {.on_request = on_request,
                                     .on_head = on_head,
                                     .ctx = gateway,
                                     .body_bytes_max = cfg->body_bytes_max,
                                     .n_connections_max = cfg->n_connections_max,
                                     .arena_bytes_max = GATEWAY_ARENA_BYTES_MAX,
                                     .server_name = "starlane"};
    gateway->cfg = *cfg;
    gateway->id_seed = sl_hash_seed() ^ (uint64_t)sl_now_ns();
    gateway->started_ms = sl_unix_time_ms();
    sl_status status = metrics_create(&gateway->metrics);
    if (status == SL_OK) status = loop_timer_create(cfg->loop, on_ping, gateway, &gateway->ping);
    if (status != SL_OK) {
        sl_err_set(err, status, "gateway: %s", sl_status_text(status));
        goto fail;
    }
    status = http_server_create(cfg->loop, &server, &gateway->server, err);
    if (status != SL_OK) goto fail;
    loop_timer_set(gateway->ping, PING_CHECK_NS);
    *out = gateway;
    return SL_OK;
fail:
    gateway_destroy(gateway);
    return status;
}

void gateway_destroy(struct gateway *gateway)
{
    if (!gateway) return;
    /* Its close handlers end the calls, but for those whose row is being stored: the usage
     * writer is closed by now, so nobody will. */
    http_server_destroy(gateway->server);
    while (gateway->calls) call_free(gateway->calls);
    while (gateway->children) call_free(gateway->children);
    ollama_pulls_destroy(gateway->pulls);
    loop_timer_destroy(gateway->ping);
    metrics_destroy(gateway->metrics);
    sl_free(gateway);
}

struct http_server *gateway_server(struct gateway *gateway)
{
    return gateway->server;
}

void gateway_abort(struct gateway *gateway)
{
    struct call *next;
    for (struct call *call = gateway->calls; call; call = next) {
        next = call->next;
        call_abort(call);
    }
}

void gateway_drain(struct gateway *gateway, void (*on_drained)(void *ctx), void *ctx)
{
    ollama_pulls_cancel(gateway->pulls); /* they may take hours, and can be taken up again */
    grpc_drain(gateway);
    http_server_drain(gateway->server, on_drained, ctx);
}
