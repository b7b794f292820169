/* serve_options.c: from what a person typed to what the service takes. */
#include "cli/serve_options.h"
#include "base/duration.h"

struct spans {
    int64_t keep_alive_ns, queue_timeout_ns, watchdog_ns, drain_ns;
};

static sl_status read_spans(const struct serve_options *o, struct spans *out, struct sl_err *err)
{
    const struct {
        const char *name, *text;
        int64_t *to;
        int64_t min;
    } rows[] = {{"--keep-alive", o->keep_alive, &out->keep_alive_ns, INT64_MIN},
                {"--queue-timeout", o->queue_timeout, &out->queue_timeout_ns, 1000000},
                {"--watchdog", o->watchdog, &out->watchdog_ns, 1000000},
                {"--drain", o->drain, &out->drain_ns, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sl_status status = sl_duration_parse(rows[i].text, rows[i].to, err);
        if (status == SL_OK && *rows[i].to < rows[i].min)
            status = sl_err_set(err, SL_INVALID, "%s is too short a time", rows[i].text);
        if (status != SL_OK) {
            sl_err_prefix(err, "%s", rows[i].name);
            return SL_INVALID;
        }
    }
    return SL_OK;
}

static void fill(const struct serve_options *o, const struct spans *spans, struct service_cfg *cfg)
{
    *cfg = (struct service_cfg){.host = o->host,
                                .port = (uint16_t)o->port,
                                .grpc = o->grpc_port != 0,
                                .grpc_port = o->grpc_port > 0 ? (uint16_t)o->grpc_port : 0,
                                .origins = o->origins,
                                .tls_cert = o->tls_cert,
                                .tls_key = o->tls_key,
                                .insecure = o->insecure,
                                .usage_sync = o->usage_sync ? DB_SYNC_FULL : DB_SYNC_NORMAL,
                                .usage_days = (int)o->usage_days,
                                .qos_default = (enum sched_class)o->qos_class,
                                .body_bytes_max = (size_t)o->body_max,
                                .n_connections_max = (size_t)o->connections,
                                .drain_ns = spans->drain_ns,
                                .declared = o->declared,
                                .version = STARLANE_VERSION};
    node_cfg_default(&cfg->node);
    cfg->node.memory_bytes = (uint64_t)o->memory;
    cfg->node.n_queue_max = (int32_t)o->queue;
    cfg->node.keep_alive_ns = spans->keep_alive_ns;
    cfg->node.queue_timeout_ns = spans->queue_timeout_ns;
    cfg->node.watchdog_ms = spans->watchdog_ns / 1000000;
    cfg->node.allow_echo = o->echo;
    cfg->node.n_threads = (int32_t)o->threads;
    cfg->node.n_ctx = (int32_t)o->ctx;
    cfg->node.n_seqs_max = (int32_t)o->parallel;
    cfg->node.gpu_layers = (int32_t)o->gpu_layers;
    cfg->node.kv_type = o->kv;
    cfg->node.kv_bytes_max = (uint64_t)o->kv_memory;
    cfg->node.no_prefix_cache = o->no_prefix_cache;
}

sl_status serve_options_read(const struct serve_options *options, struct service_cfg *cfg,
                             struct sl_err *err)
{
    struct spans spans;
    sl_status status = read_spans(options, &spans, err);
    if (status == SL_OK) status = telemetry_declared_check(&options->declared, err);
    if (status == SL_OK) fill(options, &spans, cfg);
    return status;
}
