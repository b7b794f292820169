/* generate.h: one answer from an engine, step by step, until it is done or somebody stops it.
 * Floor: cli.  Thread: main.  Allocates: the engine; an answer's buffers, up to their limits. */
#pragma once
#include "exec/engine.h"
#include "exec/llm/llm_engine.h"
#include "base/buf.h"
#include <signal.h>

#define ANSWER_BYTES_MAX (64u << 20) /* text, and token ids: far past any context of today */

struct answer {
    struct sl_buf text;   /* whole, also when it was streamed */
    struct sl_buf tokens; /* int32_t ids */
    enum engine_finish finish;
    struct engine_usage usage;
    int64_t first_token_at_ns; /* by sl_now_ns; 0: none came */
    bool reader_gone;          /* stdout was closed under us */
};

struct generator {
    struct engine *engine;
    const volatile sig_atomic_t *stop; /* becomes true when the user wants no more; NULL is fine */
    bool stream;                       /* text goes to stdout as it comes */
    /* of the answer in progress */
    struct answer *answer;
    struct sl_err failure; /* the first; status SL_OK: none yet */
    bool done;
};

/* Loads the model and makes the generator its event sink, so `g` must not move. As
 * llm_engine_load. */
SL_CHECK sl_status generator_load(struct generator *g, const char *path, struct llm_engine_cfg *cfg,
                                  struct sl_err *err);
void generator_unload(struct generator *g); /* zeroed is fine */

/* Submits req and steps until its end. OK also when the answer was stopped (finish says so). As
 * engine_submit and engine_step; IO when stdout cannot be written. `answer` is initialised here and
 * the caller's to answer_done, whatever is returned. */
SL_CHECK sl_status generator_run(struct generator *g, const struct engine_generate *req,
                                 struct answer *answer, struct sl_err *err);
void answer_done(struct answer *answer);
