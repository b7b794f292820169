/* interactive.h: a text written together at a terminal: each line goes on with the text so far. For
 * models that do not chat; chat_session.h is for those that do.
 * Floor: cli.  Thread: main.  Allocates: the text of the conversation, up to the prompt limit. */
#pragma once
#include "cli/talk.h"

struct interactive {
    struct talk *talk;           /* loaded */
    volatile sig_atomic_t *stop; /* set by SIGINT */
};

/* Runs until the input ends (Ctrl-D, /bye). IO and NOMEM when the terminal or memory fails; what
 * is wrong with one line is said and the next one asked for. */
SL_CHECK sl_status interactive_run(const struct interactive *in, struct sl_err *err);

/* Where the lines typed are kept; "" when there is no place for them. */
void interactive_history_path(char *out, size_t out_size);
