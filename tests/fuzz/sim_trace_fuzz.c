/* sim_trace_fuzz.c: traces from any bytes: what is taken is in order, within limits and names only
 * models that there are, and what is refused leaves nothing behind. */
#include "base/mem.h"
#include "cli/sim_trace_file.h"

#include <stdlib.h>

#define N_MODELS 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held)
{
    if (!held) abort();
}

static void check(const struct sim_trace *trace)
{
    must(trace->n > 0 && trace->n <= SIM_REQUESTS_LIMIT && trace->block_tokens > 0);
    for (size_t i = 0; i < trace->n; i++) {
        const struct sim_request *request = &trace->requests[i];
        must(request->prompt_tokens > 0 && request->output_tokens > 0);
        must(request->arrival_ns >= (i ? request[-1].arrival_ns : 0));
        must(request->model < N_MODELS || request->model == SIM_NONE);
        must((unsigned)request->qos_class <= SCHED_CLASS_COUNT);
        must((size_t)request->block_at + request->n_blocks <= trace->n_blocks);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sim_model models[N_MODELS] = {{.name = "chat"}, {.name = "code"}};
    struct sim_trace_opts opts = {.n_max = size % 3, .models = models, .n_models = N_MODELS};
    struct sim_trace trace;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    sl_status status = sim_trace_read((const char *)data, size, &opts, &trace, &err);
    must(status == SL_OK || err.text[0]);
    if (status == SL_OK) check(&trace);
    sim_trace_done(&trace);
    must(sl_mem_live() == live);
    return 0;
}
