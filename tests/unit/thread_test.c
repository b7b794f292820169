#include "base/thread.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <cmocka.h>

static void waking_soon_keeps_policy_and_priority(void **state)
{
    int policy = sched_getscheduler(0), nice_before = getpriority(PRIO_PROCESS, 0);
    (void)state;
    sl_thread_wake_soon();
    assert_int_equal(sched_getscheduler(0) & ~SCHED_RESET_ON_FORK, policy);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), nice_before);
}

static void *stand_back(void *arg)
{
    int *nice_after = arg;
    sl_thread_stand_back();
    *nice_after = getpriority(PRIO_PROCESS, 0);
    return NULL;
}

/* Of that thread alone. */
static void standing_back_lowers_the_priority(void **state)
{
    pthread_t thread;
    int nice_before = getpriority(PRIO_PROCESS, 0), nice_after = -100;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, stand_back, &nice_after), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(nice_after, 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), nice_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waking_soon_keeps_policy_and_priority),
        cmocka_unit_test(standing_back_lowers_the_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
