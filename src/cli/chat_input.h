/* chat_input.h: what a person (or a file) says to a chat, message by message: a line, or several
 * between """ and """.
 * Floor: cli.  Thread: main.  Allocates: the message at hand, within CHAT_MESSAGE_BYTES_MAX; the
 * line editor at a terminal. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#define CHAT_MESSAGE_BYTES_MAX (16u << 20) /* four million tokens: past every context of today */

enum chat_command {
    CHAT_SAYS, /* no command: a message */
    CHAT_HELP,
    CHAT_BYE,
    CHAT_CLEAR,
    CHAT_SYSTEM_IS, /* with a text: the new one; without: show it */
    CHAT_SAVE,
    CHAT_LOAD,
    CHAT_UNKNOWN /* looks like a command */
};

/* "/word rest": which command it is, and its argument without blanks around it (rest NULL is fine).
 * A message that merely begins with a slash ("/etc/passwd?") is one. */
enum chat_command chat_command_parse(const char *text, size_t n, const char **rest, size_t *n_rest);

struct chat_input; /* opaque */

/* At a terminal: lines are edited, and kept in history_path; *interrupt, set by SIGINT, drops what
 * is typed and is cleared before each line. As line_editor_create. */
SL_CHECK sl_status chat_input_create(bool terminal, const char *history_path,
                                     volatile sig_atomic_t *interrupt, struct chat_input **out,
                                     struct sl_err *err);
void chat_input_destroy(struct chat_input *input); /* NULL is fine */

/* The next message, valid until the next call; never an empty one. False: there are no more;
 * *status is then OK, or says why the input cannot be read. */
bool chat_input_read(struct chat_input *input, const char **text, size_t *n, sl_status *status,
                     struct sl_err *err);
