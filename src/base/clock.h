/* clock.h: time as an argument, so that schedulers, timeouts and tests run under any clock.
 * Floor: base.  Thread: any. */
#pragma once
#include <stdint.h>

struct sl_clock {
    int64_t (*now_ns)(void *ctx); /* monotonic, nanoseconds */
    void *ctx;
};

struct sl_clock sl_clock_system(void);            /* CLOCK_MONOTONIC */
struct sl_clock sl_clock_manual(int64_t *now_ns); /* reads the caller's variable */

static inline int64_t sl_clock_now_ns(const struct sl_clock *clock)
{
    return clock->now_ns(clock->ctx);
}
int64_t sl_now_ns(void);       /* shorthand for the system clock */
int64_t sl_unix_time_ms(void); /* wall clock, for people and protocols; never for intervals */
int64_t sl_unix_time_ns(void); /* the same */
