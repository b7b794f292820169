/* sim_trace.c: traces: what they demand, how fast they come, and one made of chance. */
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sim.h"

#include <math.h>

enum stream { STREAM_GAP = 1, STREAM_PROMPT, STREAM_OUTPUT, STREAM_MODEL, STREAM_CLASS };

double sim_trace_rate(const struct sim_trace *trace)
{
    if (trace->n < 2) return 0;
    int64_t span = trace->requests[trace->n - 1].arrival_ns - trace->requests[0].arrival_ns;
    return span > 0 ? (double)(trace->n - 1) * 1e9 / (double)span : 0;
}

void sim_trace_speed_up(struct sim_trace *trace, double factor)
{
    for (size_t i = 0; i < trace->n; i++) {
        double at_ns = (double)trace->requests[i].arrival_ns / factor;
        trace->requests[i].arrival_ns = at_ns < (double)INT64_MAX ? (int64_t)at_ns : INT64_MAX;
    }
}

double sim_capacity(const struct sim_config *config, const struct sim_trace *trace)
{
    double prompt = 0, output = 0, rate = 0;
    for (size_t i = 0; i < trace->n; i++) {
        prompt += trace->requests[i].prompt_tokens;
        output += trace->requests[i].output_tokens;
    }
    if (trace->n == 0) return 0;
    prompt /= (double)trace->n;
    output /= (double)trace->n;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        const struct sim_node *node = &config->nodes[i];
        rate += 1 / (prompt / node->prefill_tps + output / node->decode_full_tps);
    }
    return rate;
}

static double exponential(double mean, uint64_t seed, enum stream stream, uint64_t i)
{
    return -mean * log(1 - sl_rng_uniform(seed, stream, i));
}

static uint32_t tokens(uint32_t mean, uint64_t seed, enum stream stream, uint64_t i)
{
    return 1 + (uint32_t)exponential(mean > 1 ? mean - 1 : 0, seed, stream, i);
}

sl_status sim_trace_poisson(const struct sim_poisson *poisson, struct sim_trace *out,
                            struct sl_err *err)
{
    *out = (struct sim_trace){.block_tokens = 1};
    if (poisson->n == 0 || poisson->n > SIM_REQUESTS_LIMIT)
        return sl_err_set(err, SL_INVALID, "requests: 1 to %d", SIM_REQUESTS_LIMIT);
    if (!(poisson->rate > 0)) return sl_err_set(err, SL_INVALID, "a rate above 0 is needed");
    out->requests = sl_calloc(poisson->n, sizeof *out->requests);
    if (!out->requests) return sl_err_set(err, SL_NOMEM, "no memory for %zu requests", poisson->n);
    out->n = poisson->n;
    double at_s = 0;
    for (size_t i = 0; i < poisson->n; i++) {
        at_s += exponential(1 / poisson->rate, poisson->seed, STREAM_GAP, i);
        out->requests[i] = (struct sim_request){
            .arrival_ns = (int64_t)(at_s * 1e9),
            .model = poisson->n_models ? (uint32_t)(i % poisson->n_models) : SIM_NONE,
            .qos_class = poisson->n_models ? SCHED_INTERACTIVE : SCHED_CLASS_COUNT,
            .prompt_tokens = tokens(poisson->prompt_mean, poisson->seed, STREAM_PROMPT, i),
            .output_tokens = tokens(poisson->output_mean, poisson->seed, STREAM_OUTPUT, i),
        };
    }
    return SL_OK;
}

/* The number of the weight that the lot, 0 to 1, falls on; n: they have no sum. */
static uint32_t drawn(const double *weights, uint32_t n, uint32_t stride, double lot)
{
    double sum = 0;
    uint32_t last = n;
    for (uint32_t i = 0; i < n; i++) sum += weights[(size_t)i * stride];
    lot *= sum;
    for (uint32_t i = 0; i < n && sum > 0; i++) {
        double weight = weights[(size_t)i * stride];
        if (weight > 0) last = i;
        if (weight > 0 && lot < weight) break;
        lot -= weight;
    }
    return last;
}

sl_status sim_trace_mix(struct sim_trace *trace, const struct sim_mix *mix, struct sl_err *err)
{
    int64_t end_ns = trace->n ? trace->requests[trace->n - 1].arrival_ns + 1 : 1;
    for (size_t i = 0; i < trace->n; i++) {
        struct sim_request *request = &trace->requests[i];
        double share = (double)request->arrival_ns / (double)end_ns;
        uint32_t part = (uint32_t)(share * mix->n_parts);
        if (request->model == SIM_NONE)
            request->model = drawn(mix->shares + part, mix->n_models, mix->n_parts,
                                   sl_rng_uniform(mix->seed, STREAM_MODEL, i));
        if (request->model >= mix->n_models)
            return sl_err_set(err, SL_INVALID, "no model has a share in part %u", part + 1);
        if (request->qos_class == SCHED_CLASS_COUNT)
            request->qos_class = (enum sched_class)drawn(
                mix->classes, SCHED_CLASS_COUNT, 1, sl_rng_uniform(mix->seed, STREAM_CLASS, i));
        if (request->qos_class == SCHED_CLASS_COUNT)
            return sl_err_set(err, SL_INVALID, "no class has a share");
    }
    return SL_OK;
}

void sim_trace_done(struct sim_trace *trace)
{
    sl_free(trace->requests);
    sl_free(trace->blocks);
    *trace = (struct sim_trace){0};
}
