#include "grid/pull_retry.h"
#include "base/rng.h"

bool pull_retry_may_help(sl_status why)
{
    return why == SL_UNAVAILABLE || why == SL_TIMEOUT || why == SL_BUSY;
}

bool pull_retry_next(struct pull_retry *retry, sl_status why, int64_t retry_after_s,
                     int64_t *delay_ms)
{
    if (!pull_retry_may_help(why) || retry_after_s > PULL_RETRY_AFTER_S_MAX) return false;
    if (++retry->n_failures > retry->n_max) return false;
    int64_t wait_ms = PULL_BACKOFF_MS;
    for (int i = 1; i < retry->n_failures && wait_ms < PULL_BACKOFF_MS_MAX; i++) wait_ms *= 2;
    if (wait_ms > PULL_BACKOFF_MS_MAX) wait_ms = PULL_BACKOFF_MS_MAX;
    double jitter = sl_rng_uniform(retry->seed, 0, retry->n_draws++);
    int64_t half_ms = wait_ms / 2;
    wait_ms = half_ms + (int64_t)(jitter * (double)half_ms);
    int64_t asked_ms = retry_after_s * 1000;
    *delay_ms = asked_ms > wait_ms ? asked_ms : wait_ms;
    return true;
}

void pull_retry_progress(struct pull_retry *retry)
{
    retry->n_failures = 0;
}
