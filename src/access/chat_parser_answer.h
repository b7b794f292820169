/* chat_parser_answer.h: a whole answer out of the chat parser's events, for replies that are not
 * streamed.
 * Floor: access.  Thread: the caller's.  Allocates: the buffers, up to a maximum given at init. */
#pragma once
#include "access/chat_parser.h"
#include "base/buf.h"

struct chat_answer_call {
    char id[CHAT_CALL_ID_LEN + 1];
    char name[CHAT_CALL_NAME_MAX + 1];
    struct sl_buf arguments;
    bool is_whole; /* false: cut off or broken; arguments is what there was */
};

struct chat_answer {
    struct sl_buf content, reasoning;
    struct chat_answer_call *calls;
    int n_calls;
    size_t bytes_max; /* of content, of reasoning, and of the arguments of each call */
};

/* Empty; each of its texts may grow to bytes_max. */
void chat_answer_init(struct chat_answer *answer, size_t bytes_max);
void chat_answer_done(struct chat_answer *answer);

/* A chat_event_fn whose ctx is the struct chat_answer. NOMEM, LIMIT. */
sl_status chat_answer_event(void *ctx, const struct chat_event *event);

/* Parses a whole text into an initialised answer; the event function of cfg is not used.
 * NOMEM, LIMIT. */
SL_CHECK sl_status chat_answer_parse(struct chat_answer *answer, const struct chat_parser_cfg *cfg,
                                     const char *text, size_t n, struct sl_err *err);
