/* loop.c: libevent turned one turn at a time, so that deferred tasks have a place to run and the
 * time can be read once a turn. */
#include "net/loop.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POSTS_PER_LOCK 64 /* calls taken out of the ring at a time, on the stack */
#define RUNS_PER_TURN 2   /* of a task, or two of them could keep the loop here for ever */
#define NS_PER_US 1000
#define US_PER_S 1000000

struct post {
    loop_fn fn;
    void *arg;
};

/* What other threads put in. While `woken` holds, wake_fd is or will be readable. */
struct inbox {
    pthread_mutex_t lock;
    bool lock_ready;
    bool woken;
    size_t cap, first, len;
    struct post *ring;
    /* Taken out to be called, by the loop's thread alone. */
    struct post *taken;
    size_t n_taken;
};

struct task_list {
    struct loop_task *head, *tail;
};

struct loop {
    struct event_base *base;
    struct event wake, turn_end;
    int wake_fd;
    bool in_turn, in_tasks;
    int64_t now_ns; /* 0: not read in this turn */
    uint64_t turn;  /* the number of this one */
    /* tasks: of the next turn; tasks_running: of this one */
    struct task_list tasks, tasks_running;
    const struct loop_task *running; /* may be gone already: only to compare */
    atomic_bool stop;
    struct inbox inbox;
};

struct loop_timer {
    struct event event;
    loop_fn fn;
    void *ctx;
};

struct loop_watch {
    struct event read, write; /* two, so that asking for one more costs one epoll_ctl */
    loop_watch_fn fn;
    void *ctx;
    unsigned events;
};

struct loop_signal {
    struct event event;
    loop_fn fn;
    void *ctx;
};

static struct timeval timeval_of(int64_t ns)
{
    int64_t us = ns <= 0 ? 0 : ns / NS_PER_US + (ns % NS_PER_US != 0);
    return (struct timeval){.tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S};
}

/* --- posts --- */

/* write(2) can only fail here when the counter is at its end, and then the loop is awake anyway. */
static void wake_up(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(loop->wake_fd, &one, sizeof one);
    (void)n;
}

sl_status loop_post(struct loop *loop, loop_fn fn, void *arg)
{
    struct inbox *inbox = &loop->inbox;
    pthread_mutex_lock(&inbox->lock);
    if (inbox->len == inbox->cap) {
        pthread_mutex_unlock(&inbox->lock);
        return SL_BUSY;
    }
    inbox->ring[(inbox->first + inbox->len++) % inbox->cap] = (struct post){fn, arg};
    bool was_woken = inbox->woken;
    inbox->woken = true;
    pthread_mutex_unlock(&inbox->lock);
    if (!was_woken) wake_up(loop);
    return SL_OK;
}

static void cancel(struct post *post, const void *arg)
{
    if (post->arg == arg) post->fn = NULL;
}

void loop_cancel_posts(struct loop *loop, const void *arg)
{
    struct inbox *inbox = &loop->inbox;
    pthread_mutex_lock(&inbox->lock);
    for (size_t i = 0; i < inbox->len; i++)
        cancel(&inbox->ring[(inbox->first + i) % inbox->cap], arg);
    pthread_mutex_unlock(&inbox->lock);
    for (size_t i = 0; i < inbox->n_taken; i++) cancel(&inbox->taken[i], arg);
}

static size_t inbox_take_locked(struct inbox *inbox, struct post *out, size_t n_max)
{
    size_t n = inbox->len < n_max ? inbox->len : n_max;
    for (size_t i = 0; i < n; i++) {
        out[i] = inbox->ring[inbox->first];
        inbox->first = (inbox->first + 1) % inbox->cap;
    }
    inbox->len -= n;
    return n;
}

static void make_calls(struct inbox *inbox, struct post *posts, size_t n)
{
    inbox->taken = posts;
    inbox->n_taken = n;
    for (size_t i = 0; i < n; i++)
        if (posts[i].fn) posts[i].fn(posts[i].arg);
    inbox->n_taken = 0;
}

/* Makes the calls that waited when it began, not those they post, so that the loop's other work
 * gets its turn. The eventfd stays readable until the ring is empty. */
static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
    (void)what;
    struct loop *loop = ctx;
    struct inbox *inbox = &loop->inbox;
    struct post posts[POSTS_PER_LOCK];
    pthread_mutex_lock(&inbox->lock);
    for (size_t left = inbox->len; left > 0;) {
        size_t n = inbox_take_locked(inbox, posts, left < POSTS_PER_LOCK ? left : POSTS_PER_LOCK);
        left -= n;
        pthread_mutex_unlock(&inbox->lock);
        make_calls(inbox, posts, n);
        pthread_mutex_lock(&inbox->lock);
    }
    if (inbox->len == 0) {
        uint64_t count;
        ssize_t n = read(fd, &count, sizeof count);
        (void)n; /* nothing to read is as good */
        inbox->woken = false;
    }
    pthread_mutex_unlock(&inbox->lock);
}

static sl_status inbox_init(struct inbox *inbox, size_t n_posts_max)
{
    inbox->cap = n_posts_max ? n_posts_max : LOOP_POSTS_DEFAULT;
    inbox->ring = sl_realloc_array(NULL, inbox->cap, sizeof *inbox->ring);
    if (!inbox->ring) return SL_NOMEM;
    inbox->lock_ready = pthread_mutex_init(&inbox->lock, NULL) == 0;
    return inbox->lock_ready ? SL_OK : SL_NOMEM;
}

/* --- life --- */

/* libevent would print what its calls return anyway. */
static void say_nothing(int severity, const char *message)
{
    (void)severity, (void)message;
}

static void on_turn_end(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd, (void)what, (void)ctx; /* only there to end the wait */
}

/* libevent's own locks are off: one thread turns the loop and others only write to the eventfd. */
static struct event_base *base_create(void)
{
    event_set_log_callback(say_nothing);
    struct event_config *config = event_config_new();
    if (!config) return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

sl_status loop_create(size_t n_posts_max, struct loop **out, struct sl_err *err)
{
    struct loop *loop = sl_calloc(1, sizeof *loop);
    if (!loop) return sl_err_set(err, SL_NOMEM, "loop: out of memory");
    loop->wake_fd = -1;
    sl_status status = SL_NOMEM;
    if (inbox_init(&loop->inbox, n_posts_max) != SL_OK) goto fail;
    status = SL_IO;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = base_create();
    if (loop->wake_fd < 0 || !loop->base) goto fail;
    event_assign(&loop->wake, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    event_assign(&loop->turn_end, loop->base, -1, 0, on_turn_end, NULL);
    if (event_add(&loop->wake, NULL) != 0) goto fail;
    signal(SIGPIPE, SIG_IGN);
    *out = loop;
    return SL_OK;
fail:
    sl_err_set(err, status, "loop: %s", sl_status_text(status));
    loop_destroy(loop);
    return status;
}

void loop_destroy(struct loop *loop)
{
    if (!loop) return;
    if (loop->base) {
        if (event_initialized(&loop->wake)) event_del(&loop->wake);
        event_base_free(loop->base);
    }
    if (loop->wake_fd >= 0) close(loop->wake_fd);
    if (loop->inbox.lock_ready) pthread_mutex_destroy(&loop->inbox.lock);
    sl_free(loop->inbox.ring);
    sl_free(loop);
}

/* --- turns --- */

static void run_tasks(struct loop *loop)
{
    loop->tasks_running = loop->tasks;
    loop->tasks = (struct task_list){0};
    loop->in_tasks = true;
    for (struct loop_task *task; (task = loop->tasks_running.head);) {
        loop->tasks_running.head = task->next;
        task->queued = false;
        task->n_runs = task->turn == loop->turn ? task->n_runs + 1 : 1;
        task->turn = loop->turn;
        loop->running = task;
        task->fn(task->ctx);
    }
    loop->in_tasks = false;
}

sl_status loop_turn(struct loop *loop, int64_t timeout_ns, struct sl_err *err)
{
    bool wait = timeout_ns != 0 && !loop->tasks.head && !atomic_load(&loop->stop);
    bool timed = wait && timeout_ns > 0;
    struct timeval timeout = timeval_of(timeout_ns);
    if (timed && event_add(&loop->turn_end, &timeout) != 0) {
        return sl_err_set(err, SL_NOMEM, "loop: no memory for a timer");
    }
    loop->in_turn = true;
    loop->turn++;
    loop->now_ns = 0;
    /* NONBLOCK alone would go on for as long as any descriptor is ready. */
    int rc = event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    if (timed) event_del(&loop->turn_end);
    run_tasks(loop);
    loop->in_turn = false;
    return rc < 0 ? sl_err_set(err, SL_IO, "loop: the kernel's poller failed") : SL_OK;
}

sl_status loop_run(struct loop *loop, struct sl_err *err)
{
    sl_status status = SL_OK;
    while (status == SL_OK && !atomic_load(&loop->stop)) status = loop_turn(loop, -1, err);
    atomic_store(&loop->stop, false);
    return status;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stop, true);
    wake_up(loop);
}

/* Between turns there is nobody to invalidate a kept time, so it is not kept. */
int64_t loop_now_ns(struct loop *loop)
{
    if (!loop->in_turn) return sl_now_ns();
    if (!loop->now_ns) loop->now_ns = sl_now_ns();
    return loop->now_ns;
}

void loop_queue_task(struct loop *loop, struct loop_task *task)
{
    if (task->queued) return;
    bool again = task->turn == loop->turn;
    bool now =
        loop->in_tasks && (!again || (task != loop->running && task->n_runs < RUNS_PER_TURN));
    struct task_list *list = now ? &loop->tasks_running : &loop->tasks;
    task->queued = true;
    task->next = NULL;
    if (list->head) {
        list->tail->next = task;
    } else {
        list->head = task;
    }
    list->tail = task;
}

static void task_list_remove(struct task_list *list, const struct loop_task *task)
{
    struct loop_task *before = NULL;
    for (struct loop_task *t = list->head; t; before = t, t = t->next) {
        if (t != task) continue;
        if (before) {
            before->next = t->next;
        } else {
            list->head = t->next;
        }
        if (list->tail == t) list->tail = before;
        return;
    }
}

void loop_cancel_task(struct loop *loop, struct loop_task *task)
{
    if (!task->queued) return;
    task_list_remove(&loop->tasks, task);
    task_list_remove(&loop->tasks_running, task);
    task->queued = false;
}

/* --- timers --- */

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd, (void)what;
    struct loop_timer *timer = ctx;
    timer->fn(timer->ctx);
}

sl_status loop_timer_create(struct loop *loop, loop_fn fn, void *ctx, struct loop_timer **out)
{
    struct loop_timer *timer = sl_calloc(1, sizeof *timer);
    if (!timer) return SL_NOMEM;
    timer->fn = fn;
    timer->ctx = ctx;
    event_assign(&timer->event, loop->base, -1, 0, on_timer, timer);
    *out = timer;
    return SL_OK;
}

void loop_timer_destroy(struct loop_timer *timer)
{
    if (!timer) return;
    event_del(&timer->event);
    sl_free(timer);
}

/* event_add fails only when libevent's heap of timers cannot grow. Then the timer is made to fire
 * at once: early is what every user of a timer can bear, never is not. */
void loop_timer_set(struct loop_timer *timer, int64_t in_ns)
{
    struct timeval timeout = timeval_of(in_ns);
    if (event_add(&timer->event, &timeout) != 0) event_active(&timer->event, EV_TIMEOUT, 1);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    event_del(&timer->event);
}

/* --- descriptors --- */

static void on_ready(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    struct loop_watch *watch = ctx;
    watch->fn(watch->ctx, (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0));
}

sl_status loop_watch_create(struct loop *loop, int fd, unsigned events, loop_watch_fn fn, void *ctx,
                            struct loop_watch **out)
{
    struct loop_watch *watch = sl_calloc(1, sizeof *watch);
    if (!watch) return SL_NOMEM;
    watch->fn = fn;
    watch->ctx = ctx;
    event_assign(&watch->read, loop->base, fd, EV_READ | EV_PERSIST, on_ready, watch);
    event_assign(&watch->write, loop->base, fd, EV_WRITE | EV_PERSIST, on_ready, watch);
    sl_status status = loop_watch_set(watch, events);
    if (status != SL_OK) {
        loop_watch_destroy(watch);
        return status;
    }
    *out = watch;
    return SL_OK;
}

void loop_watch_destroy(struct loop_watch *watch)
{
    if (!watch) return;
    event_del(&watch->read);
    event_del(&watch->write);
    sl_free(watch);
}

static sl_status switch_event(struct loop_watch *watch, struct event *event, unsigned bit,
                              unsigned events)
{
    if (!((watch->events ^ events) & bit)) return SL_OK;
    watch->events &= ~bit;
    if (!(events & bit)) return event_del(event) == 0 ? SL_OK : SL_IO;
    if (event_add(event, NULL) != 0) return errno == ENOMEM ? SL_NOMEM : SL_IO;
    watch->events |= bit;
    return SL_OK;
}

sl_status loop_watch_set(struct loop_watch *watch, unsigned events)
{
    sl_status read = switch_event(watch, &watch->read, LOOP_READ, events);
    sl_status write = switch_event(watch, &watch->write, LOOP_WRITE, events);
    return read != SL_OK ? read : write;
}

/* --- signals --- */

static void on_signal(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd, (void)what;
    struct loop_signal *sig = ctx;
    sig->fn(sig->ctx);
}

sl_status loop_signal_create(struct loop *loop, int signo, loop_fn fn, void *ctx,
                             struct loop_signal **out)
{
    struct loop_signal *sig = sl_calloc(1, sizeof *sig);
    if (!sig) return SL_NOMEM;
    sig->fn = fn;
    sig->ctx = ctx;
    event_assign(&sig->event, loop->base, signo, EV_SIGNAL | EV_PERSIST, on_signal, sig);
    if (event_add(&sig->event, NULL) != 0) {
        sl_free(sig);
        return SL_IO;
    }
    *out = sig;
    return SL_OK;
}

void loop_signal_destroy(struct loop_signal *sig)
{
    if (!sig) return;
    event_del(&sig->event);
    sl_free(sig);
}
