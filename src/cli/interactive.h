/* interactive.h: a conversation at a terminal: each line goes on with the text so far.
 * Floor: cli.  Thread: main.  Allocates: the text of the conversation, up to the prompt limit. */
#pragma once
#include "cli/generate.h"

struct interactive {
    struct generator *generator;
    struct engine_generate request; /* all but the prompt */
    const char *model;              /* what the user called it */
    bool quiet;                     /* no statistics after an answer */
    volatile sig_atomic_t *stop;    /* set by SIGINT */
};

/* Runs until the input ends (Ctrl-D, /bye). IO and NOMEM when the terminal or memory fails; what
 * is wrong with one line is said and the next one asked for. */
SL_CHECK sl_status interactive_run(const struct interactive *in, struct sl_err *err);
