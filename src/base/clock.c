/* clock.c: the system's clocks and one that the caller turns. */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts); /* cannot fail for the two clocks used here */
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t sl_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t sl_unix_time_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

int64_t sl_unix_time_ms(void)
{
    return sl_unix_time_ns() / 1000000;
}

static int64_t system_now_ns(void *ctx)
{
    (void)ctx;
    return sl_now_ns();
}

static int64_t manual_now_ns(void *ctx)
{
    return *(const int64_t *)ctx;
}

struct sl_clock sl_clock_system(void)
{
    return (struct sl_clock){.now_ns = system_now_ns, .ctx = NULL};
}

struct sl_clock sl_clock_manual(int64_t *now_ns)
{
    return (struct sl_clock){.now_ns = manual_now_ns, .ctx = now_ns};
}
