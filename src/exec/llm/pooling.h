/* pooling.h: one vector of a text, from the hidden states of its tokens.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: create.
 * Invariant: rows are added up in double and in order, so the vector does not depend on how the
 * text was cut into chunks. */
#pragma once
#include "base/err.h"
#include "exec/engine.h"

struct pooling; /* opaque */

/* kind: any but ENGINE_POOLING_MODEL. NOMEM. */
SL_CHECK sl_status pooling_create(enum engine_pooling kind, int32_t n_embd, struct pooling **out);
void pooling_destroy(struct pooling *p); /* NULL is fine */

/* Forgets what was added: the text is computed again. */
void pooling_reset(struct pooling *p);

/* Tokens [from, from + n) of a text of n_tokens are computed: returns how many of them have hidden
 * states that are wanted; these stand together, the first is number *out_first of the n. */
int32_t pooling_wants(const struct pooling *p, int32_t n_tokens, int32_t from, int32_t n,
                      int32_t *out_first);

/* Does the vector need hidden states of tokens before the last? Then a cached prefix, of which only
 * keys and values are kept, is no help. */
bool pooling_needs_all(const struct pooling *p);

/* rows: [n, n_embd], those wanted, in order. */
void pooling_add(struct pooling *p, const float *rows, int32_t n);

/* The vector, [n_embd], valid until destroyed; with `normalize` of Euclidean length 1 (a vector of
 * zeros stays). CORRUPT: the model gave numbers that are not finite. */
SL_CHECK sl_status pooling_finish(struct pooling *p, bool normalize, const float **out,
                                  struct sl_err *err);
