/* client_ask.h: one answer from a server, by the OpenAI API.
 * Floor: cli.  Thread: main.  Allocates: the request's body. */
#pragma once
#include "cli/talk.h"

/* As talk_ask. */
SL_CHECK sl_status client_ask(const struct talk *talk, const struct question *question,
                              struct answer *answer, struct sl_err *err);

/* Takes one event of such a stream: JSON of n bytes. False: it is none. */
bool client_take_chunk(struct answer *answer, const char *data, size_t n);
