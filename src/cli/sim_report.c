/* sim_report.c: see sim_report.h. */
#include "cli/sim_report.h"
#include "base/json.h"
#include "cli/page.h"
#include "cli/sim_nodes_file.h"
#include "cli/table.h"

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void policy_row(struct table *table, const char *name, const struct sim_result *r)
{
    table_cell(table, "%s", name);
    table_cell(table, "%llu", (unsigned long long)r->n_failed);
    table_cell(table, "%.3f", r->first.mean);
    table_cell(table, "%.3f", r->first.p50);
    table_cell(table, "%.3f", r->first.p90);
    table_cell(table, "%.3f", r->first.p99);
    table_cell(table, "%.1f", r->itl.p50 * 1000);
    table_cell(table, "%.1f", r->itl.p99 * 1000);
    table_cell(table, "%.2f", r->total.mean);
    table_cell(table, "%.2f", r->total.p99);
    table_cell(table, "%.1f", percent((double)r->n_in_slo, (double)r->n_requests));
    table_cell(table, "%.1f", 100 * r->utilisation);
    table_cell(table, "%.1f", 100 * r->cached_share);
    table_cell(table, "%.0f", r->joules / 1000);
    table_cell(table, "%.0f", r->co2_g);
    uint64_t n_again = r->n_refused + r->n_retried + r->n_moved;
    table_cell(table, "%llu", (unsigned long long)n_again);
    table_cell(table, "%llu", (unsigned long long)r->n_hedged);
}

static sl_status policies_table(const struct sim_report *report, struct sl_buf *out)
{
    static const char *const heading[] = {
        "POLICY",     "FAILED", "TTFT MEAN",  "P50",     "P90",   "P99",
        "ITL MS P50", "P99",    "TOTAL MEAN", "P99",     "SLO %", "BUSY %",
        "CACHED %",   "KJ",     "G CO2",      "RETRIES", "HEDGES"};
    struct table table;
    table_init(&table, "lrrrrrrrrrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, "%s", heading[i]);
    for (size_t i = 0; i < report->n; i++)
        policy_row(&table, report->policies[i].name, &report->results[i]);
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

static sl_status nodes_table(const struct sim_report *report, size_t which, struct sl_buf *out)
{
    static const char *const heading[] = {"NODE",   "FINISHED", "REFUSED", "BUSY %",
                                          "PROMPT", "CACHED",   "OUTPUT",  "KJ"};
    const struct sim_result *result = &report->results[which];
    struct table table;
    table_init(&table, "lrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, "%s", heading[i]);
    for (uint32_t i = 0; i < report->grid->n_nodes; i++) {
        const struct sim_node_result *node = &result->nodes[i];
        table_cell(&table, "%s", report->grid->nodes[i].name);
        table_cell(&table, "%llu", (unsigned long long)node->n_finished);
        table_cell(&table, "%llu", (unsigned long long)node->n_refused);
        table_cell(&table, "%.1f", percent(node->busy_s, result->duration_s));
        table_cell(&table, "%llu", (unsigned long long)node->prefill_tokens);
        table_cell(&table, "%llu", (unsigned long long)node->cached_tokens);
        table_cell(&table, "%llu", (unsigned long long)node->decode_tokens);
        table_cell(&table, "%.0f", node->joules / 1000);
    }
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

static void share_row(struct table *table, const char *name, const struct sim_share *share)
{
    table_cell(table, "%s", name);
    table_cell(table, "%llu", (unsigned long long)share->n_requests);
    table_cell(table, "%llu", (unsigned long long)(share->n_requests - share->n_finished));
    table_cell(table, "%.3f", share->first.mean);
    table_cell(table, "%.3f", share->first.p99);
    table_cell(table, "%.2f", share->total.mean);
    table_cell(table, "%.2f", share->total.p99);
    table_cell(table, "%.1f", percent((double)share->n_in_slo, (double)share->n_requests));
}

static void classes_rows(struct table *table, const struct sim_result *result)
{
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) {
        if (result->classes[i].n_requests == 0) continue;
        share_row(table, sched_class_name((enum sched_class)i), &result->classes[i]);
        for (int k = 0; k < 4; k++) table_cell(table, "-");
    }
}

static sl_status models_table(const struct sim_report *report, size_t which, struct sl_buf *out)
{
    static const char *const heading[] = {
        "MODEL OR CLASS", "REQUESTS", "FAILED", "TTFT MEAN", "P99",      "TOTAL MEAN", "P99",
        "SLO %",          "REPLICAS", "LOADS",  "UNLOADS",   "LOADING S"};
    const struct sim_result *result = &report->results[which];
    struct table table;
    table_init(&table, "lrrrrrrrrrrr");
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, "%s", heading[i]);
    for (uint32_t i = 0; i < report->grid->n_models; i++) {
        const struct sim_model_result *model = &result->models[i];
        share_row(&table, report->grid->models[i].name, &model->requests);
        table_cell(&table, "%.2f", model->replicas);
        table_cell(&table, "%llu", (unsigned long long)model->n_loads);
        table_cell(&table, "%llu", (unsigned long long)model->n_unloads);
        table_cell(&table, "%.1f", model->loading_s);
    }
    classes_rows(&table, result);
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

sl_status sim_report_table(const struct sim_report *report, struct sl_buf *out)
{
    struct page page = {.out = out};
    page_add(&page, "%llu requests on %u nodes, %.2f a second; full batches serve %.2f\n\n",
             (unsigned long long)report->results[0].n_requests, report->grid->n_nodes, report->rate,
             report->capacity);
    if (page.status == SL_OK) page.status = policies_table(report, out);
    for (size_t i = 0; i < report->n && report->by_model; i++) {
        page_add(&page, "\n%s\n\n", report->policies[i].name);
        if (page.status == SL_OK) page.status = models_table(report, i, out);
    }
    for (size_t i = 0; i < report->n && report->by_node; i++) {
        page_add(&page, "\n%s\n\n", report->policies[i].name);
        if (page.status == SL_OK) page.status = nodes_table(report, i, out);
    }
    return page.status;
}

static void put_percentiles(struct sl_json *json, const char *name, const struct sim_percentiles *p)
{
    sl_json_key(json, name);
    sl_json_object(json);
    sl_json_kv_num(json, "mean", p->mean);
    sl_json_kv_num(json, "p50", p->p50);
    sl_json_kv_num(json, "p90", p->p90);
    sl_json_kv_num(json, "p95", p->p95);
    sl_json_kv_num(json, "p99", p->p99);
    sl_json_kv_num(json, "max", p->max);
    sl_json_object_end(json);
}

static void put_nodes(struct sl_json *json, const struct sim_report *report,
                      const struct sim_result *r)
{
    sl_json_key(json, "nodes");
    sl_json_array(json);
    for (uint32_t i = 0; i < report->grid->n_nodes; i++) {
        const struct sim_node_result *node = &r->nodes[i];
        sl_json_object(json);
        sl_json_kv_str(json, "name", report->grid->nodes[i].name);
        sl_json_kv_int(json, "finished", (int64_t)node->n_finished);
        sl_json_kv_int(json, "refused", (int64_t)node->n_refused);
        sl_json_kv_num(json, "busy_s", node->busy_s);
        sl_json_kv_int(json, "prompt_tokens", (int64_t)node->prefill_tokens);
        sl_json_kv_int(json, "cached_tokens", (int64_t)node->cached_tokens);
        sl_json_kv_int(json, "output_tokens", (int64_t)node->decode_tokens);
        sl_json_kv_num(json, "joules_modelled", node->joules);
        sl_json_kv_num(json, "cost_modelled", node->cost);
        sl_json_kv_num(json, "co2_g_modelled", node->co2_g);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_share(struct sl_json *json, const char *name, const struct sim_share *share)
{
    sl_json_kv_str(json, "name", name);
    sl_json_kv_int(json, "requests", (int64_t)share->n_requests);
    sl_json_kv_int(json, "finished", (int64_t)share->n_finished);
    sl_json_kv_num(json, "slo_share",
                   percent((double)share->n_in_slo, (double)share->n_requests) / 100);
    put_percentiles(json, "first_token_s", &share->first);
    put_percentiles(json, "total_s", &share->total);
}

static void put_models(struct sl_json *json, const struct sim_report *report,
                       const struct sim_result *r)
{
    sl_json_key(json, "models");
    sl_json_array(json);
    for (uint32_t i = 0; i < report->grid->n_models; i++) {
        const struct sim_model_result *model = &r->models[i];
        sl_json_object(json);
        put_share(json, report->grid->models[i].name, &model->requests);
        sl_json_kv_num(json, "replicas_mean", model->replicas);
        sl_json_kv_int(json, "loads", (int64_t)model->n_loads);
        sl_json_kv_int(json, "unloads", (int64_t)model->n_unloads);
        sl_json_kv_num(json, "loading_s", model->loading_s);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
    sl_json_key(json, "classes");
    sl_json_array(json);
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) {
        if (r->classes[i].n_requests == 0) continue;
        sl_json_object(json);
        put_share(json, sched_class_name((enum sched_class)i), &r->classes[i]);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_policy(struct sl_json *json, const struct sim_report *report, size_t i)
{
    const struct sim_result *r = &report->results[i];
    sl_json_object(json);
    sl_json_kv_str(json, "policy", report->policies[i].name);
    sl_json_kv_int(json, "requests", (int64_t)r->n_requests);
    sl_json_kv_int(json, "finished", (int64_t)r->n_finished);
    sl_json_kv_int(json, "failed", (int64_t)r->n_failed);
    put_percentiles(json, "first_token_s", &r->first);
    put_percentiles(json, "between_tokens_s", &r->itl);
    put_percentiles(json, "total_s", &r->total);
    sl_json_kv_num(json, "slo_share", percent((double)r->n_in_slo, (double)r->n_requests) / 100);
    sl_json_kv_num(json, "duration_s", r->duration_s);
    sl_json_kv_num(json, "utilisation", r->utilisation);
    sl_json_kv_num(json, "tokens_per_s", r->tokens_per_s);
    sl_json_kv_num(json, "cached_share", r->cached_share);
    sl_json_kv_num(json, "joules_modelled", r->joules);
    sl_json_kv_num(json, "cost_modelled", r->cost);
    sl_json_kv_num(json, "co2_g_modelled", r->co2_g);
    sl_json_kv_num(json, "imbalance", r->imbalance);
    sl_json_kv_int(json, "sent", (int64_t)r->n_sent);
    sl_json_kv_int(json, "refused", (int64_t)r->n_refused);
    sl_json_kv_int(json, "retried", (int64_t)r->n_retried);
    sl_json_kv_int(json, "moved", (int64_t)r->n_moved);
    sl_json_kv_int(json, "hedged", (int64_t)r->n_hedged);
    sl_json_kv_int(json, "hedges_won", (int64_t)r->n_hedges_won);
    if (report->by_model) put_models(json, report, r);
    if (report->by_node) put_nodes(json, report, r);
    sl_json_object_end(json);
}

sl_status sim_report_json(const struct sim_report *report, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, true);
    sl_json_object(&json);
    sl_json_kv_int(&json, "nodes", report->grid->n_nodes);
    sl_json_kv_num(&json, "rate", report->rate);
    sl_json_kv_num(&json, "capacity", report->capacity);
    sl_json_key(&json, "policies");
    sl_json_array(&json);
    for (size_t i = 0; i < report->n; i++) put_policy(&json, report, i);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}
