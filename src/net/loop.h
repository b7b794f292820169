/* loop.h: one event loop a process: timers, descriptors, signals, work from other threads, work at
 * the end of a turn. libevent is behind it and nothing above knows.
 * Floor: net.  Thread: the one that calls loop_run owns the loop and everything made from it; only
 * loop_post and loop_stop may be called by others.  Allocates: the objects it hands out.
 * Invariant: a callback may destroy the very object it was called for. A turn is: wait, callbacks
 * of what is ready, posted work, then the deferred tasks. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct loop_timer;
struct loop_watch;
struct loop_signal;

#define LOOP_READ 1u
#define LOOP_WRITE 2u

typedef void (*loop_fn)(void *ctx);
typedef void (*loop_watch_fn)(void *ctx, unsigned ready); /* LOOP_READ and/or LOOP_WRITE */

/* A call to be made at the end of the turn; lives in the caller's storage. Zero it but for fn and
 * ctx. A task that another one queues runs in the same turn, once more if it has run already: an
 * answer whose row a task has stored leaves at once. What is queued after that, or by the task
 * itself, runs in the next turn, which does not wait. */
struct loop_task {
    loop_fn fn;
    void *ctx;
    struct loop_task *next; /* the loop's, as what follows */
    bool queued;
    uint64_t turn; /* it ran in last */
    int n_runs;    /* in that turn */
};

/* A loop that takes up to n_posts_max calls from other threads that it has not made yet
 * (0: LOOP_POSTS_DEFAULT). Ignores SIGPIPE for the process, since TLS writes to sockets that may be
 * closed. NOMEM, IO; on failure *out is untouched. */
#define LOOP_POSTS_DEFAULT 65536 /* a second of 50,000 posts fits, in 1 MiB */
SL_CHECK sl_status loop_create(size_t n_posts_max, struct loop **out, struct sl_err *err);

/* NULL is fine. Everything made from the loop must be gone; posts not made yet are dropped. */
void loop_destroy(struct loop *loop);

/* Runs until loop_stop. IO when the kernel's poller fails. A stop before the run ends the run at
 * once and is used up by it. */
SL_CHECK sl_status loop_run(struct loop *loop, struct sl_err *err);

/* One turn, waiting at most timeout_ns (0 polls, < 0 until something happens). For tests and tools
 * that have a loop of their own. */
SL_CHECK sl_status loop_turn(struct loop *loop, int64_t timeout_ns, struct sl_err *err);

void loop_stop(struct loop *loop); /* any thread */

/* Calls fn(arg) on the loop's thread, in the order of the posts of one thread. Any thread; cheap:
 * posts made while a wakeup is under way share it. BUSY when n_posts_max wait already. */
SL_CHECK sl_status loop_post(struct loop *loop, loop_fn fn, void *arg);
/* Calls with this arg that have not been made will not be: for who ends what it points to, once no
 * other thread posts it any more. The loop's thread. */
void loop_cancel_posts(struct loop *loop, const void *arg);

/* Monotonic time, read once a turn: good for timeouts, too coarse for measuring. */
int64_t loop_now_ns(struct loop *loop);

/* At the end of this turn; queueing twice is once. loop_cancel_task takes it out again. */
void loop_queue_task(struct loop *loop, struct loop_task *task);
void loop_cancel_task(struct loop *loop, struct loop_task *task);

/* A timer that is off. NOMEM. */
SL_CHECK sl_status loop_timer_create(struct loop *loop, loop_fn fn, void *ctx,
                                     struct loop_timer **out);
void loop_timer_destroy(struct loop_timer *timer);            /* NULL is fine */
void loop_timer_set(struct loop_timer *timer, int64_t in_ns); /* once; again moves it; <= 0: now */
void loop_timer_cancel(struct loop_timer *timer);

/* Calls fn while fd is ready (level-triggered) for what is asked; errors and hang-ups count as
 * readable and writable. The fd stays the caller's and must outlive the watch. `events` 0 makes a
 * paused watch. NOMEM, IO (a descriptor epoll cannot watch). */
SL_CHECK sl_status loop_watch_create(struct loop *loop, int fd, unsigned events, loop_watch_fn fn,
                                     void *ctx, struct loop_watch **out);
void loop_watch_destroy(struct loop_watch *watch); /* NULL is fine */

/* Changes what is asked; 0 pauses. NOMEM, IO: the watch is then paused for what failed. */
SL_CHECK sl_status loop_watch_set(struct loop_watch *watch, unsigned events);

/* Calls fn on the loop each time the process gets the signal. One loop a process may do this.
 * NOMEM, IO. */
SL_CHECK sl_status loop_signal_create(struct loop *loop, int signo, loop_fn fn, void *ctx,
                                      struct loop_signal **out);
void loop_signal_destroy(struct loop_signal *sig); /* NULL is fine */
