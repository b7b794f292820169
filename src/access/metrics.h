/* metrics.h: what the gateway counts, written as Prometheus text.
 * Own names are starlane_* in base units; beside them stand the vllm:* names that existing
 * dashboards and routers read (docs/metrics.md lists all).
 * Format: https://prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
 * Floor: access.  Thread: the loop's.  Allocates: at creation; a block a model, at most
 * METRICS_MODELS_MAX.
 * Invariant: label sets are bounded: models past the limit are counted under "other", and every
 * other label comes from a fixed table. Counters never go down. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

#define METRICS_MODELS_MAX 64 /* a scrape stays under a megabyte */

/* name, help, whether vLLM has it too. All are counted by model. */
/* clang-format off */
#define METRICS_COUNTERS(X)                                                                        \
    X(PROMPT_TOKENS,     "prompt_tokens_total",         "Tokens of prompts.",               true)  \
    X(CACHED_TOKENS,     "prompt_tokens_cached_total",  "Of them, from the prefix cache.",  false) \
    X(GENERATION_TOKENS, "generation_tokens_total",     "Tokens generated.",                true)  \
    X(REASONING_TOKENS,  "reasoning_tokens_total",      "Of them, reasoning.",              false) \
    X(REPLAYS,           "requests_replayed_total",     "Carried over to a new worker.",    false) \
    X(DISCONNECTS,       "requests_disconnected_total", "Requests whose client went away.", false) \
    X(INFER_REQUESTS,    "infer_requests_total",        "Inferences on tensors that ran.",  false) \
    X(INFER_ROWS,        "infer_rows_total",            "Rows of their inputs.",            false) \
    X(INFER_INPUT_BYTES, "infer_input_bytes_total",     "Bytes of their inputs.",           false) \
    X(INFER_OUTPUT_BYTES, "infer_output_bytes_total",   "Bytes of their outputs.",          false)

/* As above; seconds. */
#define METRICS_HISTOGRAMS(X)                                                                      \
    X(TTFT,  "time_to_first_token_seconds", "From arrival to the first token.",           true)    \
    X(ITL,   "inter_token_latency_seconds", "Between two tokens of one choice.",          true)    \
    X(E2E,   "e2e_request_latency_seconds", "From arrival to the last byte.",             true)    \
    X(QUEUE, "request_queue_time_seconds",  "From arrival to the first step for it.",     true)    \
    X(LOAD,  "request_load_time_seconds",   "Of it, waiting for the model to load.",      false)
/* clang-format on */

enum metrics_counter {
#define X(name, text, help, vllm) METRICS_##name,
    METRICS_COUNTERS(X)
#undef X
        METRICS_COUNTER_COUNT
};
enum metrics_histogram {
#define X(name, text, help, vllm) METRICS_##name,
    METRICS_HISTOGRAMS(X)
#undef X
        METRICS_HISTOGRAM_COUNT
};

/* How a request ended: the label `finished_reason`. */
enum metrics_end {
    METRICS_END_STOP,
    METRICS_END_LENGTH,
    METRICS_END_TOOL_CALLS,
    METRICS_END_ABORT,   /* the client went away */
    METRICS_END_ERROR,   /* 5xx */
    METRICS_END_REFUSED, /* 4xx: bad input, no key, over quota, full queue */
    METRICS_END_COUNT
};

struct metrics;
struct metrics_model; /* a model's block; valid as long as its metrics */

SL_CHECK sl_status metrics_create(struct metrics **out); /* NOMEM */
void metrics_destroy(struct metrics *metrics);           /* NULL is fine */

/* The block of this model; past METRICS_MODELS_MAX, or without memory, the one named "other". */
struct metrics_model *metrics_model(struct metrics *metrics, const char *name);

/* Adds to a counter, a time to a histogram, one to the requests that ended in that way. */
void metrics_count(struct metrics_model *model, enum metrics_counter counter, uint64_t by);
void metrics_observe(struct metrics_model *model, enum metrics_histogram histogram, int64_t ns);
void metrics_end(struct metrics_model *model, enum metrics_end end);

/* Appends all of the above. LIMIT, NOMEM: out's own. */
SL_CHECK sl_status metrics_write(const struct metrics *metrics, struct sl_buf *out);

/* One more metric in the same text, for numbers that live elsewhere: "# HELP" and "# TYPE" once,
 * then a sample a call. `labels` is what stands between the braces, already escaped; NULL for
 * none. */
SL_CHECK sl_status metrics_write_head(struct sl_buf *out, const char *name, const char *type,
                                      const char *help);
SL_CHECK sl_status metrics_write_sample(struct sl_buf *out, const char *name, const char *labels,
                                        double value);

/* Appends name="value" with quotes, backslashes and newlines escaped. */
SL_CHECK sl_status metrics_write_label(struct sl_buf *out, const char *name, const char *value);
