/* sim_result.c: what a run came to. */
#include "base/mem.h"
#include "sched/sim_int.h"

#include <stdlib.h>

#define JOULES_PER_KWH 3.6e6

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank: the least value that `share` of all do not exceed. */
static double percentile(const double *sorted, size_t n, double share)
{
    size_t rank = (size_t)(share * (double)n);
    if ((double)rank < share * (double)n) rank++;
    return sorted[rank > 0 ? rank - 1 : 0];
}

static struct sim_percentiles percentiles(double *values, size_t n)
{
    if (n == 0) return (struct sim_percentiles){0};
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    qsort(values, n, sizeof *values, by_value);
    return (struct sim_percentiles){.mean = sum / (double)n,
                                    .p50 = percentile(values, n, 0.5),
                                    .p90 = percentile(values, n, 0.9),
                                    .p95 = percentile(values, n, 0.95),
                                    .p99 = percentile(values, n, 0.99),
                                    .max = values[n - 1]};
}

static void times_fill(const struct sim *sim, struct sim_result *out, double *itl, double *total)
{
    const struct sim_trace *trace = sim->trace;
    size_t n = 0, n_itl = 0;
    for (size_t i = 0; i < trace->n; i++) {
        const struct sim_outcome *outcome = &sim->outcomes[i];
        if (outcome->end_ns < 0 || outcome->status != SL_OK) continue;
        double first = (double)(outcome->first_ns - trace->requests[i].arrival_ns) / SIM_NS_PER_S;
        double all = (double)(outcome->end_ns - trace->requests[i].arrival_ns) / SIM_NS_PER_S;
        uint32_t n_gaps = trace->requests[i].output_tokens - 1;
        double gap = n_gaps ? (all - first) / n_gaps : 0;
        out->first_s[n] = first;
        total[n++] = all;
        if (n_gaps) itl[n_itl++] = gap;
        out->n_in_slo += first <= sim->config->slo_first_s && gap <= sim->config->slo_itl_s;
    }
    out->n_finished = out->n_first = n;
    out->n_failed = trace->n - n;
    out->first = percentiles(out->first_s, n);
    out->itl = percentiles(itl, n_itl);
    out->total = percentiles(total, n);
}

static void machines_fill(const struct sim *sim, struct sim_result *out)
{
    uint64_t prefill = 0, cached = 0, decode = 0;
    for (uint32_t i = 0; i < sim->config->n_nodes; i++) {
        const struct sim_node *spec = &sim->config->nodes[i];
        struct sim_node_result *node = &out->nodes[i];
        *node = sim->machines[i].result;
        node->joules = spec->watts_idle * out->duration_s +
                       (spec->watts_busy - spec->watts_idle) * node->busy_s;
        out->joules += node->joules;
        uint64_t tokens = node->prefill_tokens + node->decode_tokens;
        out->cost += node->joules / JOULES_PER_KWH * spec->price_kwh +
                     (double)tokens / 1e6 * spec->price_mtok;
        if (out->duration_s > 0)
            out->utilisation += node->busy_s / out->duration_s / sim->config->n_nodes;
        prefill += node->prefill_tokens;
        cached += node->cached_tokens;
        decode += node->decode_tokens;
    }
    if (out->duration_s > 0) out->tokens_per_s = (double)decode / out->duration_s;
    if (prefill + cached > 0) out->cached_share = (double)cached / (double)(prefill + cached);
}

static void routers_fill(const struct sim *sim, struct sim_result *out)
{
    for (uint32_t i = 0; i < sim->n_gateways; i++) {
        struct router_totals totals;
        router_get_totals(sim->gateways[i].router, &totals);
        out->n_sent += totals.n_sent;
        out->n_refused += totals.n_refused;
        out->n_retried += totals.n_retried;
        out->n_moved += totals.n_moved;
        out->n_hedged += totals.n_hedged;
        out->n_hedges_won += totals.n_hedges_won;
    }
}

sl_status sim_result_fill(struct sim *sim, struct sim_result *out, struct sl_err *err)
{
    size_t n = sim->trace->n;
    double *itl = sl_calloc(n, sizeof *itl), *total = sl_calloc(n, sizeof *total);
    out->first_s = sl_calloc(n, sizeof *out->first_s);
    out->nodes = sl_calloc(sim->config->n_nodes, sizeof *out->nodes);
    sl_status status = SL_OK;
    if (itl && total && out->first_s && out->nodes) {
        out->n_requests = n;
        out->duration_s = (double)sim->now_ns / SIM_NS_PER_S;
        out->imbalance = sim->n_samples ? sim->imbalance / (double)sim->n_samples : 0;
        out->n_events = sim->queue.n_pushed;
        times_fill(sim, out, itl, total);
        machines_fill(sim, out);
        routers_fill(sim, out);
    } else {
        status = sl_err_set(err, SL_NOMEM, "no memory for the results");
        sim_result_done(out);
    }
    sl_free(itl);
    sl_free(total);
    return status;
}

void sim_result_done(struct sim_result *result)
{
    sl_free(result->nodes);
    sl_free(result->first_s);
    *result = (struct sim_result){0};
}
