#include "access/admin.h"
#include "access/metrics_grid.h"
#include "access/metrics_machine.h"
#include "base/clock.h"
#include "grid/membership.h"
#include "grid/telemetry_sampler.h"
#include <stdio.h>
#include <string.h>

#define METRICS_TEXT_MAX (8u << 20)
#define TEXT "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

void admin_root(struct call *call)
{
    static const char text[] = "Starlane is running\n";
    call_respond(call, 200, TEXT, text, sizeof text - 1);
}

void admin_health(struct call *call)
{
    struct node_stats stats;
    struct sl_json json;
    struct sl_buf body;
    node_stats_get(grid_node(call->gateway->cfg.grid), &stats);
    uint64_t waiting = 0;
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) waiting += stats.n_waiting[i];
    sl_buf_init(&body, 4096);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "status", "ok");
    sl_json_kv_str(&json, "version", call->gateway->cfg.version);
    sl_json_kv_int(&json, "running", (int64_t)stats.n_running);
    sl_json_kv_int(&json, "waiting", (int64_t)waiting);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}

/* --- metrics that live elsewhere --- */

struct scrape {
    struct sl_buf *out;
    struct sl_buf labels;
    sl_status status;
    const char *name;
    double (*value)(const struct node_model *model);
};

static void put(struct scrape *s, const char *name, const char *type, const char *help,
                double value)
{
    if (s->status == SL_OK) s->status = metrics_write_head(s->out, name, type, help);
    if (s->status == SL_OK) s->status = metrics_write_sample(s->out, name, NULL, value);
}

/* A sample with one label. */
static void put_labelled(struct scrape *s, const char *name, const char *label, const char *is,
                         double value)
{
    sl_buf_clear(&s->labels);
    if (s->status == SL_OK) s->status = metrics_write_label(&s->labels, label, is);
    if (s->status == SL_OK) s->status = metrics_write_sample(s->out, name, s->labels.data, value);
}

static double is_loaded(const struct node_model *m)
{
    return !strcmp(m->state, "ready");
}
static double load_fraction(const struct node_model *m)
{
    return m->load_fraction;
}
static double bytes_of(const struct node_model *m)
{
    return grid_model_is_loaded(m) ? (double)m->bytes : 0;
}
static double n_running(const struct node_model *m)
{
    return m->n_running;
}
static double n_waiting(const struct node_model *m)
{
    return m->n_waiting;
}
static double n_loads(const struct node_model *m)
{
    return m->n_loads;
}
static double n_crashes(const struct node_model *m)
{
    return m->n_crashes;
}
static double kv_usage(const struct node_model *m)
{
    if (m->stats.kv_blocks_total <= 0) return 0;
    return (double)m->stats.kv_blocks_used / (double)m->stats.kv_blocks_total;
}
static double n_preemptions(const struct node_model *m)
{
    return (double)m->stats.n_preemptions;
}
static double n_rows(const struct node_model *m)
{
    return (double)m->stats.n_rows;
}
static double n_runs(const struct node_model *m)
{
    return (double)m->stats.n_runs;
}

static void put_model(void *ctx, const struct node_model *model)
{
    struct scrape *s = ctx;
    put_labelled(s, s->name, "model_name", model->name, s->value(model));
}

static void put_models(struct scrape *s, struct grid *grid)
{
    static const struct {
        const char *name, *type, *help;
        double (*value)(const struct node_model *model);
    } rows[] = {
        {"starlane_model_loaded", "gauge", "1 while the model takes requests.", is_loaded},
        {"starlane_model_load_fraction", "gauge", "How far its load has come.", load_fraction},
        {"starlane_model_memory_bytes", "gauge", "Of its worker; 0 without one.", bytes_of},
        {"starlane_model_requests_running", "gauge", "On its worker.", n_running},
        {"starlane_model_requests_waiting", "gauge", "In the queue.", n_waiting},
        {"starlane_model_loads_total", "counter", "Times it was loaded.", n_loads},
        {"starlane_model_crashes_total", "counter", "Workers that died unasked.", n_crashes},
        {"starlane_model_kv_cache_usage_ratio", "gauge", "KV blocks in use.", kv_usage},
        {"starlane_model_preemptions_total", "counter", "Sequences put back for lack of room.",
         n_preemptions},
        {"starlane_model_batch_rows_total", "counter", "Rows that its runs had.", n_rows},
        {"starlane_model_batch_runs_total", "counter", "Runs on tensors.", n_runs},
        {"vllm:num_requests_running", "gauge", "As starlane_model_requests_running.", n_running},
        {"vllm:num_requests_waiting", "gauge", "As starlane_model_requests_waiting.", n_waiting},
        {"vllm:kv_cache_usage_perc", "gauge", "0 to 1.", kv_usage},
        {"vllm:num_preemptions_total", "counter", "As starlane_model_preemptions_total.",
         n_preemptions},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && s->status == SL_OK; i++) {
        s->status = metrics_write_head(s->out, rows[i].name, rows[i].type, rows[i].help);
        s->name = rows[i].name;
        s->value = rows[i].value;
        grid_models(grid, put_model, s);
    }
}

static void put_node(struct scrape *s, struct node *node)
{
    struct node_stats stats;
    node_stats_get(node, &stats);
    if (s->status == SL_OK)
        s->status = metrics_write_head(s->out, "starlane_queue_waiting", "gauge",
                                       "Requests in the queue, by QoS class.");
    for (int i = 0; i < SCHED_CLASS_COUNT; i++)
        put_labelled(s, "starlane_queue_waiting", "class", sched_class_name((enum sched_class)i),
                     (double)stats.n_waiting[i]);
    put(s, "starlane_requests_running", "gauge", "With a worker.", (double)stats.n_running);
    put(s, "starlane_memory_budget_bytes", "gauge", "For all models.", (double)stats.memory_bytes);
    put(s, "starlane_memory_used_bytes", "gauge", "Of it.", (double)stats.memory_used_bytes);
    put(s, "starlane_requests_submitted_total", "counter", "Taken into the queue.",
        (double)stats.n_submitted);
    put(s, "starlane_requests_rejected_total", "counter", "Turned away by a full queue.",
        (double)stats.n_rejected);
    put(s, "starlane_requests_expired_total", "counter", "Waited too long.",
        (double)stats.n_expired);
    put(s, "starlane_requests_cancelled_total", "counter", "Given up by their clients.",
        (double)stats.n_cancelled);
    put(s, "starlane_worker_crashes_total", "counter", "Workers that died unasked.",
        (double)stats.n_crashes);
    put(s, "starlane_dispatches_repeated_total", "counter",
        "Requests given to a worker once more, after one died.", (double)stats.n_replayed);
}

static void put_http(struct scrape *s, struct http_server *server)
{
    struct http_server_stats stats;
    http_server_stats(server, &stats);
    put(s, "starlane_http_connections", "gauge", "Open now.", (double)stats.n_connections);
    put(s, "starlane_http_connections_idle", "gauge", "Of them.", (double)stats.n_connections_idle);
    put(s, "starlane_http_connections_total", "counter", "Ever accepted.",
        (double)stats.n_connections_total);
    put(s, "starlane_http_connections_evicted_total", "counter",
        "Without a request, closed to make room.", (double)stats.n_evicted);
    put(s, "starlane_http_requests_total", "counter", "Well-formed ones.",
        (double)stats.n_requests);
    put(s, "starlane_http_requests_active", "gauge", "Not yet answered.", (double)stats.n_active);
    put(s, "starlane_http_request_body_bytes", "gauge", "Request bodies in memory.",
        (double)stats.body_bytes);
    put(s, "starlane_http_clients_gone_total", "counter", "Left before their answer ended.",
        (double)stats.n_client_gone);
    put(s, "starlane_http_stalled_total", "counter", "Cut off for not reading their answer.",
        (double)stats.n_write_stalled);
    put(s, "starlane_http_handshakes_failed_total", "counter", "TLS.",
        (double)stats.n_handshakes_failed);
    put(s, "starlane_http_accepts_failed_total", "counter",
        "No descriptor or no memory for a new connection.", (double)stats.n_accept_failed);
    put(s, "starlane_http_received_bytes_total", "counter", "On the wire.", (double)stats.bytes_in);
    put(s, "starlane_http_sent_bytes_total", "counter", "On the wire.", (double)stats.bytes_out);
    if (s->status == SL_OK)
        s->status = metrics_write_head(s->out, "starlane_http_rejected_total", "counter",
                                       "Requests refused before they were read, by reason.");
    for (int i = 1; i < HTTP_REJECT_COUNT; i++)
        put_labelled(s, "starlane_http_rejected_total", "reason",
                     http_reject_name((enum http_reject)i), (double)stats.rejected[i]);
}

static void put_usage(struct scrape *s, const struct gateway *gateway)
{
    struct usage_stats stats;
    if (!gateway->cfg.usage) return;
    usage_stats(gateway->cfg.usage, &stats);
    put(s, "starlane_usage_rows_stored_total", "counter", "Rows of usage in the database.",
        (double)stats.n_stored);
    put(s, "starlane_usage_rows_lost_total", "counter", "Rows that could not be stored.",
        (double)gateway->n_usage_failed);
    put(s, "starlane_usage_rows_journaled_total", "counter", "Rows that went to the journal first.",
        (double)stats.n_journaled);
    put(s, "starlane_usage_commits_total", "counter", "Transactions they took.",
        (double)stats.n_commits);
    put(s, "starlane_usage_rows_waiting", "gauge", "Rows that hold an answer back.",
        (double)stats.n_waiting);
    put(s, "starlane_usage_rows_pending", "gauge", "Rows not yet in the database.",
        (double)stats.n_pending);
    put(s, "starlane_usage_journal_bytes", "gauge", "Of the journal's files.",
        (double)stats.journal_bytes);
}

static void put_machine(struct scrape *s, const struct telemetry_sampler *telemetry)
{
    const struct telemetry_sample *sample = telemetry ? telemetry_latest(telemetry) : NULL;
    if (s->status == SL_OK) s->status = metrics_write_machine(sample, s->out);
}

static void put_grid(struct scrape *s, const struct gateway_cfg *cfg)
{
    struct metrics_grid grid;
    const struct metrics_grid_parts parts = {
        .dispatch = grid_dispatch(cfg->grid),
        .bus = cfg->membership ? membership_bus(cfg->membership) : NULL,
        .blobs = cfg->blobs,
        .fetch = cfg->fetch,
        .fetch_parts = cfg->fetch_parts,
        .links = node_links(grid_node(cfg->grid))};
    bool is_gateway = parts.dispatch && parts.bus;
    if (is_gateway) metrics_grid_read(&parts, &grid);
    if (s->status == SL_OK) s->status = metrics_write_grid(is_gateway ? &grid : NULL, s->out);
}

void admin_metrics(struct call *call)
{
    struct gateway *gateway = call->gateway;
    struct sl_buf body;
    sl_buf_init(&body, METRICS_TEXT_MAX);
    struct scrape s = {.out = &body};
    sl_buf_init(&s.labels, 2048);
    s.status = metrics_write(gateway->metrics, &body);
    put_models(&s, gateway->cfg.grid);
    put_node(&s, grid_node(gateway->cfg.grid));
    put_http(&s, gateway->server);
    put_usage(&s, gateway);
    put_machine(&s, gateway->cfg.telemetry);
    put_grid(&s, &gateway->cfg);
    put(&s, "starlane_uptime_seconds", "gauge", "Since the service started.",
        (double)(sl_unix_time_ms() - gateway->started_ms) / 1000);
    if (s.status == SL_OK)
        call_respond(call, 200, METRICS_TYPE, body.data, body.len);
    else
        call_fail(call, s.status, NULL, NULL, "the metrics do not fit into memory");
    sl_buf_done(&s.labels);
    sl_buf_done(&body);
}
