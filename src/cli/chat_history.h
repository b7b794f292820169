/* chat_history.h: the messages of a conversation, in memory and as JSON.
 * Floor: cli.  Thread: main.  Allocates: the messages, within CHAT_HISTORY_BYTES_MAX.
 * Invariant: a system message, if there is one, is the first. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/json_read.h"
#include <stddef.h>

#define CHAT_HISTORY_BYTES_MAX (16u << 20) /* of all texts: four million tokens */
#define CHAT_HISTORY_MESSAGES_MAX 100000   /* a person types fewer in a year */

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    char *text; /* n bytes and a NUL */
    size_t n;
};

struct chat_history { /* zeroed is an empty one */
    struct chat_message *v;
    size_t n, n_room;
    size_t n_bytes; /* of all texts */
};

void chat_history_done(struct chat_history *history);

/* Adds a message at the end (a system message: at the front, in place of the one that is there). On
 * failure all is as before. LIMIT, NOMEM. */
SL_CHECK sl_status chat_history_add(struct chat_history *history, enum chat_role role,
                                    const char *text, size_t n);
/* Drops all messages but the first n. */
void chat_history_truncate(struct chat_history *history, size_t n);
/* Drops all but the system message. */
void chat_history_clear(struct chat_history *history);
/* The system message; NULL: there is none. */
const char *chat_history_system(const struct chat_history *history);

/* The messages as OpenAI has them, an array. `system` goes before them when they have none of their
 * own; NULL: nothing does. */
void chat_history_put(const struct chat_history *history, const char *system, struct sl_json *json);

/* Puts the messages of such an array in place of what is there. INVALID: it is none; LIMIT, NOMEM.
 * On failure all is as before. */
SL_CHECK sl_status chat_history_read(struct chat_history *history,
                                     const struct sl_json_value *messages, struct sl_err *err);
