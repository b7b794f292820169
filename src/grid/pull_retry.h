/* pull_retry.h: after a failure: again or not, and when. Pure: no clock, no I/O.
 * Floor: grid.  Thread: the caller's.  Allocates: nothing.
 * Exponential backoff with full-range jitter below the half (so that clients who failed together do
 * not come back together); a server's Retry-After counts more than our own guess. */
#pragma once
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

#define PULL_BACKOFF_MS 250        /* the first wait; each next one is twice as long */
#define PULL_BACKOFF_MS_MAX 30000  /* a person still waits for it */
#define PULL_RETRY_AFTER_S_MAX 300 /* who says longer wants us to go away */

struct pull_retry {
    int n_failures; /* in a row */
    int n_max;
    uint64_t seed; /* of the jitter */
    uint64_t n_draws;
};

/* Was this failure one that may pass: no connection, a drop, a stall, 408, 429, 5xx? */
bool pull_retry_may_help(sl_status why);

/* Notes a failure. False: give up. Else wait *delay_ms. retry_after_s -1: nobody said. */
bool pull_retry_next(struct pull_retry *retry, sl_status why, int64_t retry_after_s,
                     int64_t *delay_ms);
void pull_retry_progress(struct pull_retry *retry); /* bytes came: it is worth going on */
