/* stop.h: finds stop strings in text that arrives piece by piece, also across the pieces'
 * borders.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: create; the held-back text is bounded by
 * the longest stop string.
 * Invariant: text handed out never contains a stop string nor the beginning of one that later
 * text could complete. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

#define STOP_STRINGS_MAX 16
#define STOP_STRING_BYTES_MAX 512

struct stop_matcher; /* opaque */

/* INVALID: too many, empty or too long. n = 0 is fine and hands everything through. */
SL_CHECK sl_status stop_create(const char *const *strings, int n, struct stop_matcher **out,
                               struct sl_err *err);
void stop_destroy(struct stop_matcher *m); /* NULL is fine */

/* Appends to out what is now safe to show. *out_hit: a stop string was found; text from it on is
 * dropped, and later pushes give nothing. The match that ends first wins; of several that end
 * there, the longest. */
SL_CHECK sl_status stop_push(struct stop_matcher *m, const char *text, size_t n, struct sl_buf *out,
                             bool *out_hit);
/* The text is over: what was held back is shown after all. */
SL_CHECK sl_status stop_finish(struct stop_matcher *m, struct sl_buf *out);
