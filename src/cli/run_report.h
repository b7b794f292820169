/* run_report.h: what `starlane run` says about an answer: statistics for people, or one JSON
 * object.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "cli/generate.h"

struct run_report {
    const char *model_path;
    const struct engine *engine;
    const struct answer *answer;
    const char *prompt; /* n_prompt bytes */
    size_t n_prompt;
    uint64_t seed;
    int64_t loaded_ns; /* by sl_now_ns: when the model was there */
};

/* Four lines on stderr: prompt, generation, time to the first token, memory. */
void run_report_print(const struct run_report *r);

/* One JSON object and a newline. */
SL_CHECK sl_status run_report_json(const struct run_report *r, struct sl_buf *out);

/* Why an answer ended early, for a person; NULL when there is nothing to say. */
const char *run_report_note(const struct engine *engine, const struct answer *answer);

/* Tokens a second; 0 when there is nothing to divide. */
double run_prompt_tps(const struct engine_usage *usage);
double run_generation_tps(const struct engine_usage *usage);
