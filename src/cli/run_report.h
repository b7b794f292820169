/* run_report.h: what is said about an answer: statistics for people, or one JSON object.
 * Floor: cli.  Thread: main.  Allocates: the JSON, for as long as it takes. */
#pragma once
#include "cli/talk.h"

struct run_report {
    const struct talk *talk;
    const struct answer *answer;
    const char *prompt; /* n_prompt bytes */
    size_t n_prompt;
    int64_t loaded_ns; /* by sl_now_ns: when the model was there, or its server found */
};

/* Four lines on stderr: prompt, generation, time to the first token, memory or server. */
void run_report_print(const struct run_report *r);

/* One line on stderr, for a conversation; without numbers when `quiet`. */
void run_report_line(const struct talk *talk, const struct answer *answer, bool quiet);

/* One JSON object and a newline on stdout. What only the engine in this process knows (tokens,
 * threads, context, memory) is left out when a server gave the answer. LIMIT, NOMEM; IO: stdout. */
SL_CHECK sl_status run_report_print_json(const struct run_report *r, struct sl_err *err);

/* Why an answer ended early, for a person; NULL when there is nothing to say. */
const char *run_report_note(const struct talk *talk, const struct answer *answer);

/* Tokens a second; 0 when there is nothing to divide. */
double run_prompt_tps(const struct engine_usage *usage);
double run_generation_tps(const struct engine_usage *usage);
