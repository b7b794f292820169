/* collect.h: runs an engine and keeps what each request's choices got. For engine tests. */
#pragma once
#include "exec/engine.h"
#include "exec/llm/llm_engine.h"

#define COLLECT_REQUESTS_MAX 256
#define COLLECT_TOKENS_MAX 512
#define COLLECT_TEXT_MAX 4096

struct answer {
    int32_t tokens[COLLECT_TOKENS_MAX];
    int32_t n_tokens;
    char text[COLLECT_TEXT_MAX];
    size_t n_text;
    int n_done; /* must end up 1 */
    enum engine_finish finish;
    sl_status status;
    struct engine_usage usage;
    float first_logprob;
};

struct collect {
    struct answer answers[COLLECT_REQUESTS_MAX][ENGINE_CHOICES_MAX]; /* by id, choice */
    struct engine *engine;
    /* cancelled from within an event once it has cancel_after tokens; 0: none */
    uint64_t cancel_id;
    int32_t cancel_after;
    int n_after_done; /* events that came after a DONE: must stay 0 */
};

void collect_event(void *ctx, const struct engine_event *ev);

/* Loads with the given changes to the defaults (cfg's event fields are set here). Fails the test
 * on an error. */
struct engine *collect_load(struct collect *c, const char *path, struct llm_engine_cfg *cfg);

/* Steps until idle; fails the test on an error or after a million steps. */
void collect_run(struct collect *c);

/* $STARLANE_MODELS/name or models/name; NULL when it is not there. Static storage. */
const char *model_path(const char *name);
/* A file below $STARLANE_SHARED; NULL when it is not there. Static storage. */
const char *shared_path(const char *name);
