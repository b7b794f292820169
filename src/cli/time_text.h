/* time_text.h: points and spans of time between machines and people.
 * Floor: cli.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define TIME_SPAN_TEXT_MAX 32
/* What lies further ahead than a hundred years was meant to be "never". */
#define TIME_FOREVER_MS (INT64_C(100) * 365 * 86400 * 1000)

/* RFC 3339, "2025-01-02T03:04:05.678Z" or with an offset, into Unix time. False: it is none. */
bool time_text_parse(const char *text, int64_t *out_ms);

/* "4 minutes", "1 hour": the largest unit, rounded to the nearest. Returns out. */
const char *time_span_text(int64_t ms, char out[TIME_SPAN_TEXT_MAX]);
