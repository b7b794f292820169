/* generate.h: one answer from an engine in this process, step by step, until it is done or somebody
 * stops it.
 * Floor: cli.  Thread: main.  Allocates: the engine; the prompt of a chat. */
#pragma once
#include "base/json_read.h"
#include "cli/answer.h"
#include "exec/llm/llm_engine.h"
#include "exec/worker_prompt.h"
#include <signal.h>

struct chat_parser;

struct generator { /* zeroed but for `stop` before it is loaded */
    struct engine *engine;
    const volatile sig_atomic_t *stop; /* becomes true when the user wants no more; NULL is fine */
    struct worker_prompter prompter;   /* zeroed: this model does not chat */
    /* of the answer in progress */
    struct answer *answer;
    struct chat_parser *parser; /* NULL: the text is taken as it is */
    bool done;
};

/* Loads the model and makes the generator its event sink, so `g` must not move. As
 * llm_engine_load. */
SL_CHECK sl_status generator_load(struct generator *g, const char *path, struct llm_engine_cfg *cfg,
                                  struct sl_err *err);
/* Makes it ready to chat by that template, or else by the model's own (NULL). As
 * worker_prompter_init. */
SL_CHECK sl_status generator_load_template(struct generator *g, const char *source,
                                           struct sl_err *err);
void generator_unload(struct generator *g); /* zeroed is fine */

/* Submits req and steps until its end. OK also when the answer was stopped (finish says so). As
 * engine_submit and engine_step; IO when stdout cannot be written. */
SL_CHECK sl_status generator_run(struct generator *g, const struct engine_generate *req,
                                 struct answer *answer, struct sl_err *err);

/* The same for a chat: `variables` is the JSON object that the template gets; req has no prompt and
 * may have max_tokens 0, what the context holds. Reasoning is told apart. Needs the template. */
SL_CHECK sl_status generator_chat(struct generator *g, const struct engine_generate *req,
                                  const struct sl_buf *variables, struct answer *answer,
                                  struct sl_err *err);
