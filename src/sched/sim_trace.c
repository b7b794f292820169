/* sim_trace.c: traces: what they demand, how fast they come, and one made of chance. */
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sim.h"

#include <math.h>

enum stream { STREAM_GAP = 1, STREAM_PROMPT, STREAM_OUTPUT, STREAM_MODEL };

double sim_trace_rate(const struct sim_trace *trace)
{
    if (trace->n < 2) return 0;
    int64_t span = trace->requests[trace->n - 1].arrival_ns - trace->requests[0].arrival_ns;
    return span > 0 ? (double)(trace->n - 1) * 1e9 / (double)span : 0;
}

void sim_trace_speed_up(struct sim_trace *trace, double factor)
{
    for (size_t i = 0; i < trace->n; i++)
        trace->requests[i].arrival_ns = (int64_t)((double)trace->requests[i].arrival_ns / factor);
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
    if (!(poisson->rate > 0) || poisson->n_models == 0)
        return sl_err_set(err, SL_INVALID, "a rate above 0 and a model are needed");
    out->requests = sl_calloc(poisson->n, sizeof *out->requests);
    if (!out->requests) return sl_err_set(err, SL_NOMEM, "no memory for %zu requests", poisson->n);
    out->n = poisson->n;
    double at_s = 0;
    for (size_t i = 0; i < poisson->n; i++) {
        at_s += exponential(1 / poisson->rate, poisson->seed, STREAM_GAP, i);
        double lot = sl_rng_uniform(poisson->seed, STREAM_MODEL, i);
        out->requests[i] = (struct sim_request){
            .arrival_ns = (int64_t)(at_s * 1e9),
            .model = (uint32_t)(lot * poisson->n_models),
            .prompt_tokens = tokens(poisson->prompt_mean, poisson->seed, STREAM_PROMPT, i),
            .output_tokens = tokens(poisson->output_mean, poisson->seed, STREAM_OUTPUT, i),
        };
    }
    return SL_OK;
}

void sim_trace_done(struct sim_trace *trace)
{
    sl_free(trace->requests);
    sl_free(trace->blocks);
    *trace = (struct sim_trace){0};
}
