/* text_regex.h: the regular expressions of tokenizer files, which are Oniguruma's, matched by
 * PCRE2.
 * Floor: exec/text.  Thread: a compiled expression is only read; a scratch is one thread's.
 * Allocates: compile, and once for each scratch.
 * Invariant: steps are bounded by the length of the text, so that no expression and no text can
 * hold a thread for long. Three things that the two dialects spell alike and mean differently are
 * rewritten: white space (PCRE2 counts U+180E), word characters, and four-digit \u escapes. Lines
 * begin and end ^ and $ in both. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct text_regex;
struct text_regex_scratch;

/* INVALID: no expression; UNSUPPORTED: intersections of classes (&&); NOMEM. */
SL_CHECK sl_status text_regex_compile(const char *pattern, size_t n, struct text_regex **out,
                                      struct sl_err *err);
void text_regex_destroy(struct text_regex *regex); /* NULL is fine */

SL_CHECK sl_status text_regex_scratch_create(struct text_regex_scratch **out); /* NOMEM */
void text_regex_scratch_destroy(struct text_regex_scratch *scratch);           /* NULL is fine */

/* The first match in text[from..n), of valid UTF-8; what stands before `from` is seen by
 * look-behinds. *out_found false: there is none. LIMIT: too many steps; NOMEM. */
SL_CHECK sl_status text_regex_find(const struct text_regex *regex,
                                   struct text_regex_scratch *scratch, const char *text, size_t n,
                                   size_t from, bool *out_found, size_t *out_start,
                                   size_t *out_end);
