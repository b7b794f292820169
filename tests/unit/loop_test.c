/* loop_test.c: order, time, wakeups from other threads, and callbacks that destroy what they were
 * called for. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/loop.h"

#define WAIT_NS INT64_C(20000000000)
#define MS INT64_C(1000000)

static struct loop *loop;

static int setup(void **state)
{
    (void)state;
    return loop_create(100, &loop, NULL) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    loop_destroy(loop);
    return sl_mem_live() == 0 ? 0 : -1;
}

static void turn(int64_t timeout_ns)
{
    assert_int_equal(loop_turn(loop, timeout_ns, NULL), SL_OK);
}

#define UNTIL(condition) \
    do { \
        int64_t until_ns = sl_now_ns() + WAIT_NS; \
        while (!(condition)) { \
            assert_true(sl_now_ns() < until_ns); \
            turn(MS); \
        } \
    } while (0)

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void timers_fire_once_and_in_order(void **state)
{
    (void)state;
    struct loop_timer *a, *b, *off;
    int n_a = 0, n_b = 0, n_off = 0;
    assert_int_equal(loop_timer_create(loop, count, &n_a, &a), SL_OK);
    assert_int_equal(loop_timer_create(loop, count, &n_b, &b), SL_OK);
    assert_int_equal(loop_timer_create(loop, count, &n_off, &off), SL_OK);
    loop_timer_set(a, 60000 * MS);
    loop_timer_set(a, 0); /* moves it */
    loop_timer_set(b, 5 * MS);
    loop_timer_set(off, 0);
    loop_timer_cancel(off);
    int64_t begin_ns = sl_now_ns();
    UNTIL(n_b == 1);
    assert_true(sl_now_ns() - begin_ns >= 4 * MS);
    assert_int_equal(n_a, 1);
    for (int i = 0; i < 3; i++) turn(0);
    assert_int_equal(n_a + n_b, 2);
    assert_int_equal(n_off, 0);
    loop_timer_destroy(a);
    loop_timer_destroy(b);
    loop_timer_destroy(off);
    loop_timer_destroy(NULL);
}

struct once {
    struct loop_timer *timer;
    struct loop_watch *watch;
    int n;
};

static void destroy_timer(void *ctx)
{
    struct once *once = ctx;
    once->n++;
    loop_timer_destroy(once->timer);
}

static void destroy_watch(void *ctx, unsigned ready)
{
    struct once *once = ctx;
    assert_true(ready != 0);
    once->n++;
    loop_watch_destroy(once->watch);
}

static void callbacks_may_destroy_their_object(void **state)
{
    (void)state;
    int fds[2];
    struct once timer = {0}, watch = {0};
    assert_int_equal(loop_timer_create(loop, destroy_timer, &timer, &timer.timer), SL_OK);
    loop_timer_set(timer.timer, 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(
        loop_watch_create(loop, fds[0], LOOP_READ, destroy_watch, &watch, &watch.watch), SL_OK);
    UNTIL(timer.n && watch.n);
    for (int i = 0; i < 3; i++) turn(0);
    assert_int_equal(timer.n, 1);
    assert_int_equal(watch.n, 1);
    close(fds[0]);
    close(fds[1]);
}

static void note_ready(void *ctx, unsigned ready)
{
    *(unsigned *)ctx |= ready;
}

static void watches_see_what_they_ask_for(void **state)
{
    (void)state;
    int fds[2];
    unsigned in = 0, out = 0;
    struct loop_watch *reader, *writer;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(loop_watch_create(loop, fds[0], LOOP_READ, note_ready, &in, &reader), SL_OK);
    assert_int_equal(loop_watch_create(loop, fds[1], 0, note_ready, &out, &writer), SL_OK);
    turn(0);
    assert_int_equal(in | out, 0);
    assert_int_equal(loop_watch_set(writer, LOOP_WRITE), SL_OK);
    turn(0);
    assert_int_equal(out, LOOP_WRITE);
    assert_int_equal(write(fds[1], "x", 1), 1);
    turn(0);
    assert_int_equal(in, LOOP_READ);
    in = out = 0;
    assert_int_equal(loop_watch_set(reader, 0), SL_OK);
    assert_int_equal(loop_watch_set(writer, 0), SL_OK);
    turn(0);
    assert_int_equal(in | out, 0);
    loop_watch_destroy(reader);
    loop_watch_destroy(writer);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(loop_watch_create(loop, fds[0], LOOP_READ, note_ready, &in, &reader), SL_IO);
}

struct again {
    struct loop_task task;
    int n;
};

static void run_again(void *ctx)
{
    struct again *again = ctx;
    if (++again->n < 3) loop_queue_task(loop, &again->task);
}

static void tasks_end_the_turn_and_do_not_wait(void **state)
{
    (void)state;
    struct again again = {.task = {.fn = run_again, .ctx = &again}};
    int n = 0, n_cancelled = 0;
    struct loop_task other = {.fn = count, .ctx = &n};
    struct loop_task cancelled = {.fn = count, .ctx = &n_cancelled};
    loop_queue_task(loop, &again.task);
    loop_queue_task(loop, &cancelled);
    loop_queue_task(loop, &other);
    loop_queue_task(loop, &other);
    loop_cancel_task(loop, &cancelled);
    loop_cancel_task(loop, &cancelled);
    turn(-1); /* would hang if it waited */
    assert_int_equal(n, 1);
    assert_int_equal(again.n, 1);
    turn(-1);
    turn(-1);
    assert_int_equal(again.n, 3);
    assert_int_equal(n_cancelled, 0);
}

struct chain {
    struct loop_task task;
    struct chain *next; /* queued by this one */
    int n;
};

static void run_link(void *ctx)
{
    struct chain *link = ctx;
    link->n++;
    if (link->next) loop_queue_task(loop, &link->next->task);
}

static void tasks_that_tasks_queue_run_twice_in_the_turn_at_most(void **state)
{
    (void)state;
    struct chain second = {.task = {.fn = run_link, .ctx = &second}};
    struct chain first = {.task = {.fn = run_link, .ctx = &first}, .next = &second};
    int n_cancelled = 0;
    struct loop_task last = {.fn = count, .ctx = &n_cancelled};
    second.next = &first; /* the third time would be in this turn, too: it is in the next */
    loop_queue_task(loop, &first.task);
    turn(-1);
    assert_int_equal(first.n, 2);
    assert_int_equal(second.n, 2);
    second.next = NULL;
    turn(-1); /* would hang if it waited */
    assert_int_equal(first.n, 3);
    assert_int_equal(second.n, 3);
    loop_queue_task(loop, &last);
    loop_cancel_task(loop, &last);
    turn(0);
    assert_int_equal(first.n, 3);
    assert_int_equal(n_cancelled, 0);
}

/* --- other threads --- */

#define N_THREADS 4
#define N_POSTS 5000

struct poster {
    pthread_t thread;
    int64_t n_posted, n_seen, n_busy;
    bool in_order;
};

static struct poster posters[N_THREADS];

static void on_post(void *arg)
{
    int64_t value = (intptr_t)arg;
    struct poster *poster = &posters[value % N_THREADS];
    poster->in_order = poster->in_order && value / N_THREADS == poster->n_seen;
    poster->n_seen++;
}

static void *post_many(void *arg)
{
    struct poster *poster = arg;
    while (poster->n_posted < N_POSTS) {
        intptr_t value = (intptr_t)(poster->n_posted * N_THREADS + (poster - posters));
        if (loop_post(loop, on_post, (void *)value) == SL_OK) {
            poster->n_posted++;
        } else {
            poster->n_busy++;
        }
    }
    return NULL;
}

static bool all_seen(void)
{
    for (int i = 0; i < N_THREADS; i++) {
        if (posters[i].n_seen < N_POSTS) return false;
    }
    return true;
}

static void posts_of_each_thread_keep_their_order(void **state)
{
    (void)state;
    for (int i = 0; i < N_THREADS; i++) {
        posters[i] = (struct poster){.in_order = true};
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
    }
    UNTIL(all_seen());
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_true(posters[i].in_order);
        assert_int_equal(posters[i].n_seen, N_POSTS);
    }
}

static void a_full_inbox_is_busy(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; i < 100; i++) assert_int_equal(loop_post(loop, count, &n), SL_OK);
    assert_int_equal(loop_post(loop, count, &n), SL_BUSY);
    UNTIL(n == 100);
    assert_int_equal(loop_post(loop, count, &n), SL_OK);
    UNTIL(n == 101);
}

static int n_canceled, n_kept;

/* Cancels what is posted after it, also what was taken out of the inbox along with it. */
static void cancel_others(void *arg)
{
    loop_cancel_posts(loop, &n_canceled);
    *(bool *)arg = true;
}

static void posts_that_were_canceled_are_not_made(void **state)
{
    (void)state;
    bool called = false;
    n_canceled = n_kept = 0;
    assert_int_equal(loop_post(loop, count, &n_canceled), SL_OK);
    assert_int_equal(loop_post(loop, count, &n_kept), SL_OK);
    loop_cancel_posts(loop, &n_canceled);
    UNTIL(n_kept == 1);
    assert_int_equal(n_canceled, 0);
    assert_int_equal(loop_post(loop, cancel_others, &called), SL_OK);
    assert_int_equal(loop_post(loop, count, &n_canceled), SL_OK);
    assert_int_equal(loop_post(loop, count, &n_kept), SL_OK);
    UNTIL(n_kept == 2);
    assert_true(called);
    assert_int_equal(n_canceled, 0);
    assert_int_equal(loop_post(loop, count, &n_canceled), SL_OK); /* a new one is made */
    UNTIL(n_canceled == 1);
}

static void *stop_it(void *arg)
{
    (void)arg;
    loop_stop(loop);
    return NULL;
}

static void run_ends_when_another_thread_stops_it(void **state)
{
    (void)state;
    pthread_t thread;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(pthread_create(&thread, NULL, stop_it, NULL), 0);
    assert_int_equal(loop_run(loop, &err), SL_OK);
    pthread_join(thread, NULL);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    int n = 0;
    struct loop_signal *sig;
    assert_int_equal(loop_signal_create(loop, SIGUSR1, count, &n, &sig), SL_OK);
    raise(SIGUSR1);
    UNTIL(n == 1);
    loop_signal_destroy(sig);
    loop_signal_destroy(NULL);
}

static void keep_now(void *ctx)
{
    *(int64_t *)ctx = loop_now_ns(loop);
}

static void time_is_read_once_a_turn(void **state)
{
    (void)state;
    int64_t seen[3] = {0};
    for (int i = 0; i < 2; i++) assert_int_equal(loop_post(loop, keep_now, &seen[i]), SL_OK);
    UNTIL(seen[1]);
    assert_int_equal(seen[0], seen[1]);
    assert_int_equal(loop_post(loop, keep_now, &seen[2]), SL_OK);
    UNTIL(seen[2]);
    assert_true(seen[2] > seen[0]);
    assert_true(loop_now_ns(loop) >= seen[2]);
}

static void objects_without_memory_are_refused(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct loop_timer *timer = NULL;
    struct loop_watch *watch = NULL;
    struct loop_signal *sig = NULL;
    struct loop *other = NULL;
    sl_mem_fail_at(1, true);
    assert_int_equal(loop_timer_create(loop, count, NULL, &timer), SL_NOMEM);
    assert_int_equal(loop_watch_create(loop, 0, 0, note_ready, NULL, &watch), SL_NOMEM);
    assert_int_equal(loop_signal_create(loop, SIGUSR1, count, NULL, &sig), SL_NOMEM);
    sl_mem_fail_at(2, false);
    assert_int_equal(loop_create(SIZE_MAX / 8, &other, NULL), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_true(!timer && !watch && !sig && !other);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(timers_fire_once_and_in_order),
        TEST(callbacks_may_destroy_their_object),
        TEST(watches_see_what_they_ask_for),
        TEST(tasks_end_the_turn_and_do_not_wait),
        TEST(tasks_that_tasks_queue_run_twice_in_the_turn_at_most),
        TEST(posts_of_each_thread_keep_their_order),
        TEST(posts_that_were_canceled_are_not_made),
        TEST(a_full_inbox_is_busy),
        TEST(run_ends_when_another_thread_stops_it),
        TEST(signals_arrive_on_the_loop),
        TEST(time_is_read_once_a_turn),
        TEST(objects_without_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
