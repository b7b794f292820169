/* prompt.h: prompts as OpenAI's APIs take them: a text, a list of texts, a list of token ids, or a
 * list of such lists.
 * Floor: access.  Thread: any.  Allocates: in the caller's arena. */
#pragma once
#include "base/arena.h"
#include "base/json_read.h"
#include "grid/grid.h"

/* All prompts of `value`, with NODE_PROMPT_TEXT or _TOKENS and the text or tokens set, the rest
 * zero; the texts are those of `value`. INVALID: it is none of the above, a list is empty, an id is
 * not one, or there are more than n_max; NOMEM. */
SL_CHECK sl_status prompt_read_all(struct sl_arena *arena, const struct sl_json_value *value,
                                   size_t n_max, struct node_submit **out, size_t *out_n);

/* A list of token ids, which may be empty, into submit->tokens. INVALID, NOMEM. */
SL_CHECK sl_status prompt_read_tokens(struct sl_arena *arena, const struct sl_json_value *list,
                                      struct node_submit *submit);
