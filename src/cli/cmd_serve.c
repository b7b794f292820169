/* cmd_serve.c: `starlane serve`: the service on one machine. */
#include "base/duration.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/service.h"
#include <limits.h>

#include <stdio.h>
#include <string.h>

struct options {
    const char *host, *origins, *tls_cert, *tls_key, *keep_alive, *queue_timeout, *watchdog, *drain;
    int64_t port, grpc_port, ctx, threads, parallel, gpu_layers, memory, kv_memory, queue, body_max;
    int64_t connections, usage_days;
    int kv, qos_class, usage_sync;
    bool insecure, no_prefix_cache, echo;
};

#define FIELD(field) offsetof(struct options, field)
#define PARALLEL_MAX 1024
#define QUEUE_MAX 100000

static const struct sl_opt opts[] = {
    {"host", 'H', SL_OPT_STRING, FIELD(host), 0, 0, "ADDRESS", NULL, "127.0.0.1",
     "Where to listen: an address, a name, or * for everywhere."},
    {"port", 'p', SL_OPT_INT, FIELD(port), 0, 65535, "N", NULL, "8080",
     "Port of HTTP; 0 takes a free one."},
    {"grpc-port", 0, SL_OPT_INT, FIELD(grpc_port), -1, 65535, "N", NULL, "8081",
     "Port for gRPC of its own, which the other one takes too; -1 takes a free one, 0: none."},
    {"tls-cert", 0, SL_OPT_STRING, FIELD(tls_cert), 0, 0, "FILE", NULL, NULL,
     "Certificate chain (PEM): speak HTTPS."},
    {"tls-key", 0, SL_OPT_STRING, FIELD(tls_key), 0, 0, "FILE", NULL, NULL,
     "Its private key (PEM). SIGHUP reads both again."},
    {"insecure", 0, SL_OPT_BOOL, FIELD(insecure), 0, 0, NULL, NULL, NULL,
     "Listen beyond this machine even without API keys and TLS."},
    {"origins", 0, SL_OPT_STRING, FIELD(origins), 0, 0, "LIST", NULL, NULL,
     "Web pages that may use the service from a browser, besides those of this machine: "
     "https://chat.example.com,... or * for all."},
    {"memory", 'm', SL_OPT_BYTES, FIELD(memory), 0, 0, "BYTES", NULL, "0",
     "For all models together; 0: 80 % of what is free now."},
    {"keep-alive", 'k', SL_OPT_STRING, FIELD(keep_alive), 0, 0, "TIME", NULL, "5m",
     "Unload a model that nobody has used for so long; -1: never."},
    {"ctx", 'c', SL_OPT_INT, FIELD(ctx), 0, 1 << 22, "N", NULL, "0",
     "Context of every model: most tokens of prompt and answer; 0: its own, at most 4096."},
    {"parallel", 0, SL_OPT_INT, FIELD(parallel), 0, PARALLEL_MAX, "N", NULL, "0",
     "Most sequences a model computes at once; 0: 64."},
    {"threads", 't', SL_OPT_INT, FIELD(threads), 0, 512, "N", NULL, "0",
     "Threads of each model; 0: as many as this process may use."},
    {"gpu-layers", 0, SL_OPT_INT, FIELD(gpu_layers), -1, 1 << 20, "N", NULL, "-1",
     "Layers on the accelerator; -1: as many as fit, 0: none."},
    {"kv", 0, SL_OPT_ENUM, FIELD(kv), 0, 0, "TYPE", "f16,q8_0,f32", "f16",
     "How keys and values are kept; q8_0 takes about half of f16."},
    {"kv-memory", 0, SL_OPT_BYTES, FIELD(kv_memory), 0, 0, "BYTES", NULL, "0",
     "Keys and values of each model; 0: room for four full contexts."},
    {"no-prefix-cache", 0, SL_OPT_BOOL, FIELD(no_prefix_cache), 0, 0, NULL, NULL, NULL,
     "Compute every prompt anew."},
    {"queue", 'q', SL_OPT_INT, FIELD(queue), 1, QUEUE_MAX, "N", NULL, "1024",
     "Requests that may wait; more are told to come again (429)."},
    {"queue-timeout", 0, SL_OPT_STRING, FIELD(queue_timeout), 0, 0, "TIME", NULL, "60s",
     "A request that has waited so long is given up (408)."},
    {"class", 0, SL_OPT_ENUM, FIELD(qos_class), 0, 0, "CLASS", "interactive,standard,batch",
     "standard", "QoS class of requests that name none."},
    {"watchdog", 0, SL_OPT_STRING, FIELD(watchdog), 0, 0, "TIME", NULL, "60s",
     "A worker without a sign of life for so long is replaced."},
    {"drain", 0, SL_OPT_STRING, FIELD(drain), 0, 0, "TIME", NULL, "30s",
     "How long a shutdown waits for answers under way."},
    {"max-body", 0, SL_OPT_BYTES, FIELD(body_max), 0, 0, "BYTES", NULL, "68M",
     "Largest request body or gRPC message: tensors of 64M, and their names."},
    {"connections", 0, SL_OPT_INT, FIELD(connections), 16, 1 << 20, "N", NULL, "16384",
     "Most connections at a time."},
    {"usage-sync", 0, SL_OPT_ENUM, FIELD(usage_sync), 0, 0, "HOW", "normal,full", "normal",
     "full waits for the disk at every row, so that a power cut loses none."},
    {"usage-days", 0, SL_OPT_INT, FIELD(usage_days), 0, 36500, "N", NULL, "90",
     "Rows of usage are summed up by the day after so many; 0: never."},
    {"echo", 0, SL_OPT_BOOL, FIELD(echo), 0, 0, NULL, NULL, NULL,
     "Allow models named echo:..., the scripted engine that tests and benchmarks use."},
    {0},
};

const struct sl_command cmd_serve_spec = {
    .name = "serve",
    .usage = "[MODEL...]",
    .summary = "Serve models over HTTP: the OpenAI API and Ollama's.",
    .details =
        "Every stored model can be asked for by its name and is loaded when it is; MODELs are "
        "loaded at once and kept. A MODEL is a name or the path of a GGUF file, which clients then "
        "know by the file's name without .gguf.\n\n"
        "Each model runs in a process of its own. When one dies it is started anew, and answers "
        "under way go on where they were.\n\n"
        "    starlane serve starling\n"
        "    curl http://127.0.0.1:8080/v1/completions \\\n"
        "        -d '{\"model\":\"starling\",\"prompt\":\"Once upon a time\","
        "\"max_tokens\":40}'\n\n"
        "SIGINT and SIGTERM let answers under way finish first.",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = -1,
};

struct spans {
    int64_t keep_alive_ns, queue_timeout_ns, watchdog_ns, drain_ns;
};

static sl_status read_spans(const struct options *o, struct spans *out, struct sl_err *err)
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

static void fill(const struct options *o, const struct spans *spans, struct service_cfg *cfg)
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

int cmd_serve(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct spans spans;
    struct service_cfg cfg;
    struct service *service = NULL;
    struct sl_err err = SL_ERR_INIT;
    char home[PATH_MAX];
    int exit_code;
    if (!cli_parse(&cmd_serve_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_mem_keep_buffers();
    sl_status status = read_spans(&o, &spans, &err);
    if (status != SL_OK) return cli_fail(&cmd_serve_spec, &err);
    fill(&o, &spans, &cfg);
    cfg.home = cli_home(home, sizeof home);
    cfg.models = args.v;
    cfg.n_models = args.n;
    status = service_create(&cfg, &service, &err);
    if (status == SL_OK) status = service_run(service, &err);
    service_destroy(service);
    return status == SL_OK ? CLI_OK : cli_fail(&cmd_serve_spec, &err);
}
