/* calibrator.c: the part of calibrate.h that a service uses: the cache, or a child in the
 * background. */
#include "base/log.h"
#include "base/mem.h"
#include "grid/calibrate_int.h"
#include "net/loop.h"
#include <stdio.h>

struct calibrator {
    struct loop *loop;
    char *home, *program; /* program NULL: this executable */
    int32_t n_threads;
    struct calibration result;
    bool known;
    struct calibrate_child child;
    struct loop_watch *watch;
    struct loop_timer *timer; /* until it begins; a child that never ends is ended */
};

static void stop_child(struct calibrator *c)
{
    loop_watch_destroy(c->watch);
    if (c->timer) loop_timer_cancel(c->timer);
    c->watch = NULL;
    calibrate_child_done(&c->child);
}

static void take_result(struct calibrator *c)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = calibrate_child_result(&c->child, &c->result, &err);
    stop_child(c);
    if (status != SL_OK) {
        sl_log(SL_LOG_WARN, "grid", "measuring this machine: %s", err.text);
        return;
    }
    c->known = true;
    if (calibration_write(c->home, &c->result, &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "%s", err.text);
}

static void on_readable(void *ctx, unsigned ready)
{
    struct calibrator *c = ctx;
    struct sl_err err = SL_ERR_INIT;
    bool done;
    (void)ready;
    if (calibrate_child_read(&c->child, &done, &err) != SL_OK) {
        sl_log(SL_LOG_WARN, "grid", "measuring this machine: %s", err.text);
        stop_child(c);
    } else if (done) {
        take_result(c);
    }
}

static void on_late(struct calibrator *c)
{
    sl_log(SL_LOG_WARN, "grid", "measuring this machine: not done after %d s",
           CALIBRATION_TIMEOUT_MS / 1000);
    stop_child(c);
}

static void start_child(struct calibrator *c)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status =
        calibrate_child_start(c->program, c->home, c->n_threads, true, &c->child, &err);
    if (status == SL_OK) {
        status = loop_watch_create(c->loop, c->child.fd, LOOP_READ, on_readable, c, &c->watch);
        if (status != SL_OK) (void)sl_err_set(&err, status, "waiting for what is measured");
    }
    if (status != SL_OK) {
        sl_log(SL_LOG_WARN, "grid", "measuring this machine: %s", err.text);
        stop_child(c);
        return;
    }
    loop_timer_set(c->timer, CALIBRATION_TIMEOUT_MS * INT64_C(1000000));
}

static void on_timer(void *ctx)
{
    struct calibrator *c = ctx;
    if (c->watch)
        on_late(c);
    else
        start_child(c);
}

sl_status calibrator_create(const struct calibrator_cfg *cfg, struct calibrator **out,
                            struct sl_err *err)
{
    struct sl_err ignored = SL_ERR_INIT;
    struct calibration_key key;
    struct calibrator *c = sl_calloc(1, sizeof *c);
    sl_status status = SL_NOMEM;
    if (!c) return sl_err_set(err, SL_NOMEM, "calibrator");
    c->child = (struct calibrate_child){.pid = -1, .fd = -1};
    c->loop = cfg->loop;
    c->n_threads = cfg->n_threads;
    c->home = sl_strdup(cfg->home);
    c->program = cfg->program ? sl_strdup(cfg->program) : NULL;
    if (!c->home || (cfg->program && !c->program) ||
        loop_timer_create(cfg->loop, on_timer, c, &c->timer) != SL_OK) {
        (void)sl_err_set(err, SL_NOMEM, "calibrator");
        goto fail;
    }
    status = calibration_key_now(cfg->version, cfg->n_threads, &key, err);
    if (status != SL_OK) goto fail;
    c->known = calibration_read(cfg->home, &c->result, &ignored) == SL_OK &&
               calibration_key_equal(&c->result.key, &key);
    if (!c->known) loop_timer_set(c->timer, cfg->delay_ns);
    *out = c;
    return SL_OK;
fail:
    calibrator_destroy(c);
    return status;
}

void calibrator_destroy(struct calibrator *c)
{
    if (!c) return;
    stop_child(c);
    loop_timer_destroy(c->timer);
    sl_free(c->home);
    sl_free(c->program);
    sl_free(c);
}

const struct split_machine *calibrator_machine(const struct calibrator *c)
{
    return c && c->known ? &c->result.machine : NULL;
}
