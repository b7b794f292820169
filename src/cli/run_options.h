/* run_options.h: the options of `starlane run`, as its table fills them in.
 * Floor: cli. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct run_options {
    int64_t max_tokens, top_k, seed, repeat_last_n;
    double temp, top_p, min_p, repeat_penalty;
    const char *stop;
    int64_t threads, ctx, batch, stages, gpu_layers;
    int kv; /* enum llm_kv_type */
    bool raw, echo, ignore_end, quiet, json;
};
