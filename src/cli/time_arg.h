/* time_arg.h: times as people type them: a span ("30d", "1h30m", "2w") or a day
 * ("2026-11-01", UTC); and back to text.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <stdint.h>

/* Unix time of a span before now (ago) or after it, or of a day's beginning. INVALID. `option` is
 * for the message. */
SL_CHECK sl_status time_arg_past(const char *option, const char *text, int64_t now_ms,
                                 int64_t *out_ms, struct sl_err *err);
SL_CHECK sl_status time_arg_future(const char *option, const char *text, int64_t now_ms,
                                   int64_t *out_ms, struct sl_err *err);

/* "2026-11-21 20:15" (UTC), or "-" for 0. Returns out. */
#define TIME_ARG_TEXT_MAX 32
const char *time_arg_text(int64_t unix_ms, char out[TIME_ARG_TEXT_MAX]);
