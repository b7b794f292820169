/* telemetry_sampler_test.c: the thread that reads, the loop that is told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/telemetry_history.h"
#include "grid/telemetry_sampler.h"
#include "net/loop.h"
#include "support/file_tree.h"

#define DEADLINE_NS INT64_C(20000000000)

struct watcher {
    struct telemetry_sampler *sampler;
    int n_samples;
    bool stop_at_first;
    struct telemetry_sample last;
};

static struct loop *loop_of(void)
{
    struct loop *loop = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(loop_create(0, &loop, &err), SL_OK);
    return loop;
}

static void on_sample(void *ctx, const struct telemetry_sample *sample)
{
    struct watcher *watcher = ctx;
    watcher->n_samples++;
    watcher->last = *sample;
    if (watcher->stop_at_first) {
        telemetry_stop(watcher->sampler);
        watcher->sampler = NULL;
    }
}

static void turn_until(struct loop *loop, const struct watcher *watcher, int n_samples)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t deadline_ns = sl_now_ns() + DEADLINE_NS;
    while (watcher->n_samples < n_samples && sl_now_ns() < deadline_ns)
        assert_int_equal(loop_turn(loop, DEADLINE_NS, &err), SL_OK);
    assert_true(watcher->n_samples >= n_samples);
}

static struct telemetry_cfg cfg_of(void)
{
    return (struct telemetry_cfg){.root = file_tree_root(), .libraries = {"", "", ""}};
}

static void samples_come_by_themselves(void **state)
{
    (void)state;
    struct watcher watcher = {0};
    struct sl_err err = SL_ERR_INIT;
    struct telemetry_cfg cfg = cfg_of();
    struct loop *loop = loop_of();
    file_tree_put("/proc/loadavg", "3.5 0 0 1/2 3\n");
    assert_int_equal(telemetry_start(loop, &cfg, on_sample, &watcher, &watcher.sampler, &err),
                     SL_OK);
    assert_true(telemetry_latest(watcher.sampler)->load_1m == TELEMETRY_UNKNOWN);
    turn_until(loop, &watcher, 2);
    assert_true(watcher.last.load_1m == 3.5);
    assert_int_equal(telemetry_latest(watcher.sampler)->at_ns, watcher.last.at_ns);
    const struct telemetry_history *history = telemetry_history_of(watcher.sampler);
    assert_int_equal(telemetry_history_count(history), watcher.n_samples);
    assert_int_equal(telemetry_history_latest_ns(history), watcher.last.at_ns);
    assert_true(watcher.last.at_ns - telemetry_history_oldest_ns(history) >= TELEMETRY_PERIOD_NS);
    telemetry_stop(watcher.sampler);
    loop_destroy(loop);
}

static void the_callback_may_stop_it(void **state)
{
    (void)state;
    struct watcher watcher = {.stop_at_first = true};
    struct sl_err err = SL_ERR_INIT;
    struct telemetry_cfg cfg = cfg_of();
    struct loop *loop = loop_of();
    assert_int_equal(telemetry_start(loop, &cfg, on_sample, &watcher, &watcher.sampler, &err),
                     SL_OK);
    turn_until(loop, &watcher, 1);
    assert_null(watcher.sampler);
    loop_destroy(loop);
}

static void a_loop_that_never_turns_is_no_harm(void **state)
{
    (void)state;
    struct telemetry_sampler *sampler = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct telemetry_cfg cfg = cfg_of();
    struct loop *loop = loop_of();
    assert_int_equal(telemetry_start(loop, &cfg, NULL, NULL, &sampler, &err), SL_OK);
    telemetry_stop(sampler);
    loop_destroy(loop);
}

static void declared_nonsense_does_not_start(void **state)
{
    (void)state;
    struct telemetry_sampler *sampler = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct telemetry_cfg cfg = cfg_of();
    struct loop *loop = loop_of();
    cfg.declared.price_kwh = -1;
    assert_int_equal(telemetry_start(loop, &cfg, NULL, NULL, &sampler, &err), SL_INVALID);
    assert_null(sampler);
    loop_destroy(loop);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct loop *loop = loop_of();
    struct telemetry_cfg cfg = cfg_of();
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct telemetry_sampler *sampler = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = telemetry_start(loop, &cfg, NULL, NULL, &sampler, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || (status == SL_NOMEM && !sampler));
        telemetry_stop(sampler);
        assert_int_equal(sl_mem_live(), live);
    }
    loop_destroy(loop);
}

#define in_tree(f) cmocka_unit_test_setup_teardown(f, file_tree_setup, file_tree_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_tree(samples_come_by_themselves),         in_tree(the_callback_may_stop_it),
        in_tree(a_loop_that_never_turns_is_no_harm), in_tree(declared_nonsense_does_not_start),
        in_tree(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
