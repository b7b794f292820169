/* sim_result.c: what a run came to. */
#include "base/mem.h"
#include "sched/sim_int.h"

#include <stdlib.h>

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

static double since_arrival(const struct sim *sim, size_t i, int64_t at_ns)
{
    return at_ns < 0 ? -1 : (double)(at_ns - sim->trace->requests[i].arrival_ns) / SIM_NS_PER_S;
}

static void answers_fill(const struct sim *sim, struct sim_result *out)
{
    for (size_t i = 0; i < sim->trace->n; i++) {
        const struct sim_outcome *outcome = &sim->outcomes[i];
        out->answers[i] = (struct sim_answer){.first_s = since_arrival(sim, i, outcome->first_ns),
                                              .total_s = since_arrival(sim, i, outcome->end_ns),
                                              .node = outcome->node,
                                              .status = outcome->status};
    }
}

/* Times of finished requests that are alike: of a model, of a class, or all. */
struct times {
    double *first, *itl, *total; /* [n_requests]; room that the next ones use again */
    size_t n, n_itl;
};

static void time_add(const struct sim *sim, size_t i, struct times *times, struct sim_share *out)
{
    const struct sim_outcome *outcome = &sim->outcomes[i];
    const struct sim_request *request = &sim->trace->requests[i];
    out->n_requests++;
    if (outcome->end_ns < 0 || outcome->status != SL_OK) return;
    double first = since_arrival(sim, i, outcome->first_ns);
    double all = since_arrival(sim, i, outcome->end_ns);
    uint32_t n_gaps = request->output_tokens - 1;
    double gap = n_gaps ? (all - first) / n_gaps : 0;
    times->first[times->n] = first;
    times->total[times->n++] = all;
    if (n_gaps) times->itl[times->n_itl++] = gap;
    out->n_in_slo += first <= sim->config->slo_first_s && gap <= sim->config->slo_itl_s;
}

/* model, qos_class: -1 stands for any. */
static struct sim_share share_of(const struct sim *sim, int model, int qos_class,
                                 struct times *times)
{
    struct sim_share share = {0};
    times->n = times->n_itl = 0;
    for (size_t i = 0; i < sim->trace->n; i++) {
        const struct sim_request *request = &sim->trace->requests[i];
        if ((model < 0 || (int)request->model == model) &&
            (qos_class < 0 || (int)request->qos_class == qos_class))
            time_add(sim, i, times, &share);
    }
    share.n_finished = times->n;
    share.first = percentiles(times->first, times->n);
    share.total = percentiles(times->total, times->n);
    return share;
}

static void shares_fill(const struct sim *sim, struct sim_result *out, struct times *times)
{
    for (uint32_t i = 0; i < sim->config->n_models; i++) {
        out->models[i] = sim->models[i];
        out->models[i].requests = share_of(sim, (int)i, -1, times);
        if (sim->n_samples) out->models[i].replicas /= (double)sim->n_samples;
    }
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) out->classes[i] = share_of(sim, -1, i, times);
    /* The last ones stay: the result keeps the times to the first token. */
    struct sim_share all = share_of(sim, -1, -1, times);
    out->n_requests = all.n_requests;
    out->n_finished = out->n_first = all.n_finished;
    out->n_failed = all.n_requests - all.n_finished;
    out->n_in_slo = all.n_in_slo;
    out->first = all.first;
    out->total = all.total;
    out->itl = percentiles(times->itl, times->n_itl);
}

static void machines_fill(struct sim *sim, struct sim_result *out)
{
    uint64_t prefill = 0, cached = 0, decode = 0;
    for (uint32_t i = 0; i < sim->config->n_nodes; i++) {
        struct sim_node_result *node = &out->nodes[i];
        sim_energy_charge(sim, i);
        *node = sim->machines[i].result;
        uint64_t tokens = node->prefill_tokens + node->decode_tokens;
        node->cost += (double)tokens / 1e6 * sim->config->nodes[i].price_mtok;
        out->joules += node->joules;
        out->cost += node->cost;
        out->co2_g += node->co2_g;
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
    struct times times = {.itl = sl_calloc(n, sizeof *times.itl),
                          .total = sl_calloc(n, sizeof *times.total)};
    times.first = out->first_s = sl_calloc(n, sizeof *out->first_s);
    bool wanted = sim->config->answers_wanted;
    if (wanted) out->answers = sl_calloc(n, sizeof *out->answers);
    out->nodes = sl_calloc(sim->config->n_nodes, sizeof *out->nodes);
    out->models = sl_calloc(sim->config->n_models, sizeof *out->models);
    sl_status status = SL_OK;
    if (times.itl && times.total && times.first && (out->answers || !wanted) && out->nodes &&
        out->models) {
        out->duration_s = (double)sim->now_ns / SIM_NS_PER_S;
        out->imbalance = sim->n_samples ? sim->imbalance / (double)sim->n_samples : 0;
        out->n_events = sim->queue.n_pushed;
        if (wanted) answers_fill(sim, out);
        shares_fill(sim, out, &times);
        machines_fill(sim, out);
        routers_fill(sim, out);
    } else {
        status = sl_err_set(err, SL_NOMEM, "no memory for the results");
        sim_result_done(out);
    }
    sl_free(times.itl);
    sl_free(times.total);
    return status;
}

void sim_result_done(struct sim_result *result)
{
    sl_free(result->nodes);
    sl_free(result->models);
    sl_free(result->first_s);
    sl_free(result->answers);
    *result = (struct sim_result){0};
}
