/* duration.h: spans of time as people type them: "500ms", "90s", "1h30m", "2d", or plain seconds.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <stdint.h>

/* Parts of a number and one of ns us (or µs) ms s m h d w, largest first or not; a number alone is
 * seconds. A sign before it all is allowed. INVALID; LIMIT past 290 years. */
SL_CHECK sl_status sl_duration_parse(const char *text, int64_t *out_ns, struct sl_err *err);
