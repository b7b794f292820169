#include "base/thread.h"
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE_LAST 19
#define RESET_ON_FORK 1               /* SCHED_FLAG_RESET_ON_FORK */
#define SLICE_MIN_NS UINT64_C(100000) /* the kernel's least */

/* struct sched_attr of <linux/sched/types.h>, version 0, which glibc 2.36 does not have. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void sl_thread_wake_soon(void)
{
    struct attributes attributes = {
        .size = sizeof attributes,
        .policy = SCHED_OTHER,
        .flags = RESET_ON_FORK,               /* workers compute: long slices suit them */
        .nice = getpriority(PRIO_PROCESS, 0), /* of this thread, on Linux */
        .runtime_ns = SLICE_MIN_NS,
    };
    /* An older kernel ignores the slice, a sandbox refuses the call: neither matters. */
    if (sched_getscheduler(0) == SCHED_OTHER) (void)!syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void sl_thread_stand_back(void)
{
    struct attributes attributes = {
        .size = sizeof attributes, .policy = SCHED_BATCH, .nice = NICE_LAST};
    (void)!syscall(SYS_sched_setattr, 0, &attributes, 0);
}
