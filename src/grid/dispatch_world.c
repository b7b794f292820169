/* dispatch_world.c: the dispatcher on a real loop and bus. */
#include "base/clock.h"
#include "base/mem.h"
#include "grid/bus.h"
#include "grid/dispatch_int.h"
#include "net/loop.h"
#include <stdio.h>

#define SUBSCRIPTIONS 3

struct dispatch_shell {
    struct dispatch *dispatch;
    struct loop *loop;
    struct bus *bus;
    struct loop_timer *timer;
    struct loop_task task;
    struct bus_subscription *subscriptions[SUBSCRIPTIONS];
};

static int64_t now_ns(void *ctx)
{
    (void)ctx;
    return sl_now_ns();
}

static void tick(void *ctx)
{
    struct dispatch_shell *shell = ctx;
    dispatch_tick(shell->dispatch);
}

static void wake_at(void *ctx, int64_t at_ns)
{
    struct dispatch_shell *shell = ctx;
    int64_t in_ns = at_ns - sl_now_ns();
    if (in_ns <= 0)
        loop_queue_task(shell->loop, &shell->task);
    else
        loop_timer_set(shell->timer, in_ns);
}

static sl_status publish(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct dispatch_shell *shell = ctx;
    struct sl_err err = SL_ERR_INIT;
    return bus_publish(shell->bus, subject, bytes, n, &err);
}

static uint64_t connection(void *ctx)
{
    struct dispatch_shell *shell = ctx;
    struct bus_stats stats;
    bus_stats(shell->bus, &stats);
    return stats.connected ? stats.n_connects : 0;
}

static void on_message(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct dispatch_shell *shell = ctx;
    dispatch_receive(shell->dispatch, subject, bytes, n);
}

static sl_status subscribe(struct dispatch_shell *shell, struct sl_err *err)
{
    char answers[64], pings[64];
    snprintf(answers, sizeof answers, "sl.answer.%s.*", shell->dispatch->self);
    snprintf(pings, sizeof pings, "sl.ping.%s.*", shell->dispatch->self);
    const char *const subjects[SUBSCRIPTIONS] = {answers, pings, "sl.report.*"};
    sl_status status = SL_OK;
    for (int i = 0; i < SUBSCRIPTIONS && status == SL_OK; i++)
        status = bus_subscribe(shell->bus, subjects[i], on_message, shell, &shell->subscriptions[i],
                               err);
    return status;
}

sl_status dispatch_shell_create(struct dispatch *dispatch, struct sl_err *err)
{
    struct dispatch_shell *shell = sl_calloc(1, sizeof *shell);
    if (!shell) return sl_err_set(err, SL_NOMEM, "no memory for a dispatcher");
    dispatch->shell = shell;
    shell->dispatch = dispatch;
    shell->loop = dispatch->cfg.loop;
    shell->bus = dispatch->cfg.bus;
    shell->task = (struct loop_task){.fn = tick, .ctx = shell};
    dispatch->world = (struct dispatch_world){.ctx = shell,
                                              .now_ns = now_ns,
                                              .wake_at = wake_at,
                                              .publish = publish,
                                              .connection = connection};
    if (loop_timer_create(shell->loop, tick, shell, &shell->timer) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for a dispatcher");
    return subscribe(shell, err);
}

void dispatch_shell_destroy(struct dispatch_shell *shell)
{
    if (!shell) return;
    for (int i = 0; i < SUBSCRIPTIONS; i++) bus_unsubscribe(shell->subscriptions[i]);
    if (shell->task.fn) loop_cancel_task(shell->loop, &shell->task);
    loop_timer_destroy(shell->timer);
    sl_free(shell);
}
