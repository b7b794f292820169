/* talk.h: answers of one model, wherever it runs: on a server that is there and has it, or else in
 * this process.
 * Floor: cli.  Thread: main.  Allocates: the engine or the client; a prompt's JSON.
 * Invariant: where it runs is decided once, in talk_find. A server is asked unless the user wants
 * the engine (--local, or an option of the engine's own); one that nobody named is used only when
 * it knows the model. */
#pragma once
#include "cli/chat_history.h"
#include "cli/client.h"
#include "cli/generate.h"
#include "cli/talk_options.h"
#include "grid/store.h"
#include <limits.h>

#define TALK_CONTINUE_TOKENS 256 /* a text without an end of its own has to stop somewhere */

struct talk { /* zeroed before talk_find */
    const struct talk_options *o;
    const char *model;           /* what the user called it */
    struct client *client;       /* NULL: the engine is here */
    struct generator generator;  /* else of no use */
    struct store_model manifest; /* engine here: what the store says; zeroed: nothing */
    struct sl_json_value *parameters;
    char path[PATH_MAX]; /* engine here */
    bool has_template;   /* known after talk_load */
    uint64_t seed;
    const volatile sig_atomic_t *stop;
    struct answer_view view;
};

/* Decides where, and looks for the model there. `talk` must not move afterwards; it is talk_done's,
 * also on failure. As model_path_find, client_find, client_call. */
SL_CHECK sl_status talk_find(struct talk *talk, const struct talk_options *o, const char *model,
                             const volatile sig_atomic_t *stop, struct sl_err *err);
/* Loads the engine, unless a server has it. As llm_engine_load. */
SL_CHECK sl_status talk_load(struct talk *talk, struct sl_err *err);
void talk_done(struct talk *talk);

/* What is asked: a chat, or (history NULL) a text to go on with. */
struct question {
    const struct chat_history *history;
    const char *text; /* n bytes */
    size_t n;
};

/* The answer, which the caller has initialised. OK also when it was stopped. LIMIT: it does not fit
 * the context; INVALID; what the engine or the server says; IO: stdout. */
SL_CHECK sl_status talk_ask(struct talk *talk, const struct question *question,
                            struct answer *answer, struct sl_err *err);

/* Tokens that the model holds; 0: only the server knows. */
int32_t talk_n_ctx(const struct talk *talk);
