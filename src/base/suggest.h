/* suggest.h: how far a mistyped name is from one we know, for "did you mean".
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stddef.h>

#define SL_SUGGEST_DISTANCE 2 /* two slips of the finger; further away would suggest at random */
#define SL_SUGGEST_NAME_MAX \
    64 /* our names are shorter, so a longer text is none of them misspelt */

/* Insertions, deletions and replacements of one byte that turn a into b (Levenshtein 1966).
 * SL_SUGGEST_NAME_MAX when one of them is longer than that. */
int sl_edit_distance(const char *a, size_t a_len, const char *b, size_t b_len);
