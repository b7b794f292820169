/* chat_session.h: a conversation with a model that chats: at a terminal, or turn by turn from
 * stdin.
 * Floor: cli.  Thread: main.  Allocates: the messages. */
#pragma once
#include "cli/chat_history.h"
#include "cli/talk.h"

struct chat_session_cfg {
    struct talk *talk;                /* loaded, with a template */
    volatile sig_atomic_t *interrupt; /* set by SIGINT; ends an answer */
    bool terminal;                    /* else stdin is read, and the first failure ends it */
    int64_t loaded_ns;                /* as run_report's */
};

/* Runs until the input ends (Ctrl-D, /bye). At a terminal what is wrong with one message is said
 * and the next one asked for. Errors are those of talk_ask; IO and NOMEM when the terminal or
 * memory fails. */
SL_CHECK sl_status chat_session_run(const struct chat_session_cfg *cfg, struct sl_err *err);
