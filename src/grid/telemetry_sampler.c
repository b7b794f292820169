/* telemetry_sampler.c: the thread reads and puts the sample into `fresh`, under the lock, and rings
 * at the loop by an eventfd; the loop takes it from there. Another eventfd ends the thread's sleep
 * when it is to stop. */
#include "grid/telemetry_sampler.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "grid/telemetry_history.h"
#include "net/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct telemetry_sampler {
    struct telemetry *telemetry; /* the thread's, while it runs */
    struct telemetry_history *history;
    telemetry_sample_fn on_sample;
    void *ctx;
    struct loop_watch *watch;
    int ready, stop; /* eventfds */
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;
    struct telemetry_sample fresh; /* under the lock */
    struct telemetry_sample latest;
};

static void ring(int fd)
{
    const uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n; /* full: it rings already */
}

/* False: it is time to stop. */
static bool sleep_until(const struct telemetry_sampler *s, int64_t at_ns)
{
    for (;;) {
        struct pollfd stop = {.fd = s->stop, .events = POLLIN};
        int64_t left_ns = at_ns - sl_now_ns();
        if (left_ns <= 0) left_ns = 0;
        int n = poll(&stop, 1, (int)((left_ns + 999999) / 1000000));
        if (n > 0) return false;
        if (n == 0) return true;
    }
}

static void *run(void *arg)
{
    struct telemetry_sampler *s = arg;
    struct telemetry_sample sample;
    int64_t next_ns;
    sl_thread_stand_back();
    do {
        int64_t now_ns = sl_now_ns();
        telemetry_read(s->telemetry, now_ns, &sample);
        pthread_mutex_lock(&s->lock);
        s->fresh = sample;
        pthread_mutex_unlock(&s->lock);
        ring(s->ready);
        next_ns = now_ns + TELEMETRY_PERIOD_NS;
    } while (sleep_until(s, next_ns));
    return NULL;
}

static void on_ready(void *ctx, unsigned ready)
{
    struct telemetry_sampler *s = ctx;
    uint64_t count;
    (void)ready;
    if (read(s->ready, &count, sizeof count) != sizeof count) return;
    pthread_mutex_lock(&s->lock);
    s->latest = s->fresh;
    pthread_mutex_unlock(&s->lock);
    telemetry_history_add(s->history, &s->latest);
    if (s->on_sample) s->on_sample(s->ctx, &s->latest);
}

/* Signals are the loop's. */
static sl_status start_thread(struct telemetry_sampler *s, struct sl_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) return sl_err_errno(err, error, "telemetry: thread");
    s->started = true;
    return SL_OK;
}

static sl_status begin(struct telemetry_sampler *s, struct loop *loop, struct sl_err *err)
{
    s->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->ready < 0 || s->stop < 0) return sl_err_errno(err, errno, "telemetry");
    sl_status status = telemetry_history_create(&s->history);
    if (status == SL_OK)
        status = loop_watch_create(loop, s->ready, LOOP_READ, on_ready, s, &s->watch);
    if (status != SL_OK) return sl_err_set(err, status, "telemetry: %s", sl_status_text(status));
    return start_thread(s, err);
}

sl_status telemetry_start(struct loop *loop, const struct telemetry_cfg *cfg,
                          telemetry_sample_fn on_sample, void *ctx, struct telemetry_sampler **out,
                          struct sl_err *err)
{
    struct telemetry_sampler *s = sl_calloc(1, sizeof *s);
    if (!s) return sl_err_set(err, SL_NOMEM, "telemetry");
    s->on_sample = on_sample;
    s->ctx = ctx;
    s->ready = s->stop = -1;
    pthread_mutex_init(&s->lock, NULL);
    telemetry_sample_init(&s->latest);
    sl_status status = telemetry_create(cfg, &s->telemetry, err);
    if (status == SL_OK) status = begin(s, loop, err);
    if (status != SL_OK) goto fail;
    *out = s;
    return SL_OK;
fail:
    telemetry_stop(s);
    return status;
}

void telemetry_stop(struct telemetry_sampler *s)
{
    if (!s) return;
    if (s->started) {
        ring(s->stop);
        pthread_join(s->thread, NULL);
    }
    loop_watch_destroy(s->watch);
    if (s->ready >= 0) close(s->ready);
    if (s->stop >= 0) close(s->stop);
    telemetry_destroy(s->telemetry);
    telemetry_history_destroy(s->history);
    pthread_mutex_destroy(&s->lock);
    sl_free(s);
}

const struct telemetry_sample *telemetry_latest(const struct telemetry_sampler *sampler)
{
    return &sampler->latest;
}

const struct telemetry_history *telemetry_history_of(const struct telemetry_sampler *sampler)
{
    return sampler->history;
}
