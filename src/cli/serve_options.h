/* serve_options.h: the options of all commands that run a service: serve, up, join.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/config.h"
#include "cli/service.h"
#include "grid/telemetry.h"

#include <stddef.h>
#include <stdint.h>

struct serve_options {
    const char *host, *origins, *tls_cert, *tls_key, *keep_alive, *queue_timeout, *watchdog, *drain;
    int64_t port, grpc_port, ctx, threads, parallel, gpu_layers, memory, kv_memory, queue, body_max;
    int64_t connections, usage_days;
    int kv, qos_class, usage_sync;
    struct telemetry_declared declared;
    bool insecure, no_prefix_cache, echo;
};

#define SERVE_PARALLEL_MAX 1024
#define SERVE_QUEUE_MAX 100000
#define SERVE_FIELD(field) offsetof(struct serve_options, field)

/* Rows of a command's table whose target struct begins with a struct serve_options. */
/* clang-format off */
#define SERVE_OPTIONS \
    {"host", 'H', SL_OPT_STRING, SERVE_FIELD(host), 0, 0, "ADDRESS", NULL, "127.0.0.1",            \
     "Where to listen: an address, a name, or * for everywhere."},                                 \
    {"port", 'p', SL_OPT_INT, SERVE_FIELD(port), 0, 65535, "N", NULL, "8080",                      \
     "Port of HTTP; 0 takes a free one."},                                                         \
    {"grpc-port", 0, SL_OPT_INT, SERVE_FIELD(grpc_port), -1, 65535, "N", NULL, "8081",             \
     "Port for gRPC of its own, which the other one takes too; -1 takes a free one, 0: none."},    \
    {"tls-cert", 0, SL_OPT_STRING, SERVE_FIELD(tls_cert), 0, 0, "FILE", NULL, NULL,                \
     "Certificate chain (PEM): speak HTTPS."},                                                     \
    {"tls-key", 0, SL_OPT_STRING, SERVE_FIELD(tls_key), 0, 0, "FILE", NULL, NULL,                  \
     "Its private key (PEM). SIGHUP reads both again."},                                           \
    {"insecure", 0, SL_OPT_BOOL, SERVE_FIELD(insecure), 0, 0, NULL, NULL, NULL,                    \
     "Listen beyond this machine even without API keys and TLS."},                                 \
    {"origins", 0, SL_OPT_STRING, SERVE_FIELD(origins), 0, 0, "LIST", NULL, NULL,                  \
     "Web pages that may use the service from a browser, besides those of this machine: "          \
     "https://chat.example.com,... or * for all."},                                                \
    {"memory", 'm', SL_OPT_BYTES, SERVE_FIELD(memory), 0, 0, "BYTES", NULL, "0",                   \
     "For all models together; 0: 80 % of what is free now."},                                     \
    {"keep-alive", 'k', SL_OPT_STRING, SERVE_FIELD(keep_alive), 0, 0, "TIME", NULL, "5m",          \
     "Unload a model that nobody has used for so long; -1: never."},                               \
    {"ctx", 'c', SL_OPT_INT, SERVE_FIELD(ctx), 0, 1 << 22, "N", NULL, "0",                         \
     "Context of every model: most tokens of prompt and answer; 0: its own, at most 4096."},       \
    {"parallel", 0, SL_OPT_INT, SERVE_FIELD(parallel), 0, SERVE_PARALLEL_MAX, "N", NULL, "0",      \
     "Most sequences a model computes at once; 0: 64."},                                           \
    {"threads", 't', SL_OPT_INT, SERVE_FIELD(threads), 0, 512, "N", NULL, "0",                     \
     "Threads of each model; 0: as many as this process may use."},                                \
    {"gpu-layers", 0, SL_OPT_INT, SERVE_FIELD(gpu_layers), -1, 1 << 20, "N", NULL, "-1",           \
     "Layers on the accelerator; -1: as many as fit, 0: none."},                                   \
    {"kv", 0, SL_OPT_ENUM, SERVE_FIELD(kv), 0, 0, "TYPE", "f16,q8_0,f32", "f16",                   \
     "How keys and values are kept; q8_0 takes about half of f16."},                               \
    {"kv-memory", 0, SL_OPT_BYTES, SERVE_FIELD(kv_memory), 0, 0, "BYTES", NULL, "0",               \
     "Keys and values of each model; 0: room for four full contexts."},                            \
    {"no-prefix-cache", 0, SL_OPT_BOOL, SERVE_FIELD(no_prefix_cache), 0, 0, NULL, NULL, NULL,      \
     "Compute every prompt anew."},                                                                \
    {"queue", 'q', SL_OPT_INT, SERVE_FIELD(queue), 1, SERVE_QUEUE_MAX, "N", NULL, "1024",          \
     "Requests that may wait; more are told to come again (429)."},                                \
    {"queue-timeout", 0, SL_OPT_STRING, SERVE_FIELD(queue_timeout), 0, 0, "TIME", NULL, "60s",     \
     "A request that has waited so long is given up (408)."},                                      \
    {"class", 0, SL_OPT_ENUM, SERVE_FIELD(qos_class), 0, 0, "CLASS", "interactive,standard,batch", \
     "standard", "QoS class of requests that name none."},                                         \
    {"watchdog", 0, SL_OPT_STRING, SERVE_FIELD(watchdog), 0, 0, "TIME", NULL, "60s",               \
     "A worker without a sign of life for so long is replaced."},                                  \
    {"drain", 0, SL_OPT_STRING, SERVE_FIELD(drain), 0, 0, "TIME", NULL, "30s",                     \
     "How long a shutdown waits for answers under way."},                                          \
    {"max-body", 0, SL_OPT_BYTES, SERVE_FIELD(body_max), 0, 0, "BYTES", NULL, "68M",               \
     "Largest request body or gRPC message: tensors of 64M, and their names."},                    \
    {"connections", 0, SL_OPT_INT, SERVE_FIELD(connections), 16, 1 << 20, "N", NULL, "16384",      \
     "Most connections at a time."},                                                               \
    {"usage-sync", 0, SL_OPT_ENUM, SERVE_FIELD(usage_sync), 0, 0, "HOW", "normal,full", "normal",  \
     "full waits for the disk at every row, so that a power cut loses none."},                     \
    {"usage-days", 0, SL_OPT_INT, SERVE_FIELD(usage_days), 0, 36500, "N", NULL, "90",              \
     "Rows of usage are summed up by the day after so many; 0: never."},                           \
    {"watts-idle", 0, SL_OPT_FLOAT, SERVE_FIELD(declared.watts_idle), 0, 0, "W", NULL, "0",        \
     "What this machine takes at rest, accelerators left out, where it cannot measure that."},     \
    {"watts-busy", 0, SL_OPT_FLOAT, SERVE_FIELD(declared.watts_busy), 0, 0, "W", NULL, "0",        \
     "And with all its processors at work."},                                                      \
    {"price-kwh", 0, SL_OPT_FLOAT, SERVE_FIELD(declared.price_kwh), 0, 0, "N", NULL, "0",          \
     "What a kilowatt hour costs here, in the same currency on every machine."},                   \
    {"carbon", 0, SL_OPT_FLOAT, SERVE_FIELD(declared.carbon_g_kwh), 0, 0, "G", NULL, "0",          \
     "Grams of CO2 equivalent that a kilowatt hour stands for here."},                             \
    {"echo", 0, SL_OPT_BOOL, SERVE_FIELD(echo), 0, 0, NULL, NULL, NULL,                            \
     "Allow models named echo:..., the scripted engine that tests and benchmarks use."}
/* clang-format on */

/* Everything of *cfg but home, models and what is not an option here. INVALID names the option. */
SL_CHECK sl_status serve_options_read(const struct serve_options *options, struct service_cfg *cfg,
                                      struct sl_err *err);
