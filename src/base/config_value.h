/* config_value.h: one option's value: from text into its field, and its range as text; for
 * config*.c only.
 * Floor: base.  Thread: the caller's.  Allocates: nothing. */
#pragma once
#include "base/config.h"

#define SL_OPT_RANGE_TEXT_MAX 64
#define SL_OPT_CHOICES_TEXT_MAX 128 /* longer lists are cut */

/* Parses text as opt says and stores it in target at opt->offset. NULL stores zero (false, NULL, an
 * empty list). INVALID: err says "--name: what is wrong". */
SL_CHECK sl_status sl_opt_set(const struct sl_opt *opt, const char *text, void *target,
                              struct sl_err *err);

/* "1 to 64", "at least 1K", "at most 0.5"; empty without bounds. Returns out. */
const char *sl_opt_range_text(const struct sl_opt *opt, char out[SL_OPT_RANGE_TEXT_MAX]);

/* "f16, q8_0" of an SL_OPT_ENUM. Returns out. */
const char *sl_opt_choices_text(const struct sl_opt *opt, char out[SL_OPT_CHOICES_TEXT_MAX]);
