/* sim_trace_file.h: traces of requests from files: the Azure LLM inference trace (CSV:
 * TIMESTAMP, ContextTokens, GeneratedTokens; https://github.com/Azure/AzurePublicDataset) and
 * Mooncake's (a JSON object a line: timestamp in ms, input_length, output_length, hash_ids of
 * blocks of 512 tokens; https://github.com/kvcache-ai/Mooncake), the latter with three members of
 * our own: model, a name; class; and max_tokens, that the client asked for.
 * Floor: cli.  Thread: main.  Allocates: the trace. */
#pragma once
#include "sched/sim.h"

#define SIM_TRACE_FILE_BYTES_MAX (1u << 30)

struct sim_trace_opts {
    size_t n_max;                   /* requests to take; 0: all */
    const struct sim_model *models; /* by whose names the trace may call them */
    uint32_t n_models; /* 0: everything is for model 0 and interactive; else what the trace does not
                          say is left for sim_trace_mix */
};

/* The kind is told by its first byte. opts NULL: zeroes. INVALID names the line. The trace is
 * sim_trace_done's. */
SL_CHECK sl_status sim_trace_read(const char *text, size_t n, const struct sim_trace_opts *opts,
                                  struct sim_trace *out, struct sl_err *err);
/* From a file; errors name it. */
SL_CHECK sl_status sim_trace_load(const char *path, const struct sim_trace_opts *opts,
                                  struct sim_trace *out, struct sl_err *err);
