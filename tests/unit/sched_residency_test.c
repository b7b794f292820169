/* sched_residency_test.c: models in and out of memory: loading, making room, idling, pins, stops,
 * crashes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "support/sched_drive.h"

static struct drive drive;

static int begin(void **state)
{
    (void)state;
    struct sched_config config = drive_config();
    drive_begin(&drive, &config);
    return 0;
}

static int end(void **state)
{
    (void)state;
    drive_end(&drive);
    return 0;
}

static enum sched_model_state state_of(uint32_t model)
{
    return drive_model(&drive, model).state;
}

static uint64_t used_bytes(void)
{
    struct sched_totals totals;
    sched_get_totals(drive.sched, &totals);
    return totals.used_bytes;
}

/* The model is added and READY; nobody uses it. */
static void bring_up(uint32_t model, uint64_t bytes)
{
    drive_add(&drive, model, bytes, 4);
    drive_about(&drive, SCHED_PREFETCH, model);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, model));
    drive_up(&drive, model);
    assert_int_equal(state_of(model), SCHED_READY);
    drive.now_ns++;
}

static void first_requests_share_one_load(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 4);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    assert_int_equal(drive_count(&drive, SCHED_SPAWN), 0);
    drive_about(&drive, SCHED_WORKER_STARTED, 0);
    assert_int_equal(state_of(0), SCHED_LOADING);
    drive_about(&drive, SCHED_LOADED, 0);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 2);
    assert_int_equal(drive_model(&drive, 0).n_loads, 1);
}

static void the_worker_says_what_it_takes(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 4);
    drive_about(&drive, SCHED_PREFETCH, 0);
    struct sched_event event = {.kind = SCHED_LOADED, .loaded = {.bytes = 300, .n_slots = 9}};
    drive_step(&drive, &event);
    assert_int_equal(used_bytes(), 300);
    assert_int_equal(drive_model(&drive, 0).n_slots, 9);
    drive_about(&drive, SCHED_STOP, 0);
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_int_equal(used_bytes(), 0);
    assert_int_equal(drive_model(&drive, 0).bytes, 300); /* the next estimate */
}

static void the_least_recently_used_makes_room(void **state)
{
    (void)state;
    bring_up(0, 400);
    bring_up(1, 400);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD); /* model 0 is used again */
    drive.now_ns++;
    drive_request(&drive, SCHED_FINISHED, 1);
    drive_add(&drive, 2, 500, 1);
    drive_arrive(&drive, 2, 2, SCHED_STANDARD);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 1));
    assert_null(drive_find(&drive, SCHED_UNLOAD, 0));
    assert_int_equal(drive_count(&drive, SCHED_SPAWN), 0); /* not before it is gone */
    drive_about(&drive, SCHED_WORKER_EXITED, 1);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 2));
    assert_int_equal(used_bytes(), 900);
}

static void busy_and_pinned_ones_do_not_make_room(void **state)
{
    (void)state;
    bring_up(0, 400);
    drive_about(&drive, SCHED_PIN, 0);
    bring_up(1, 400);
    drive_arrive(&drive, 1, 1, SCHED_STANDARD);
    drive_add(&drive, 2, 500, 1);
    drive_arrive(&drive, 2, 2, SCHED_STANDARD);
    assert_int_equal(drive.n_actions, 1);
    assert_int_equal(state_of(2), SCHED_UNLOADED);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 1));
    assert_int_equal(state_of(0), SCHED_READY);
}

static void patience_ends_and_a_busy_one_is_drained(void **state)
{
    (void)state;
    bring_up(0, 800);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_add(&drive, 1, 500, 1);
    drive_arrive(&drive, 2, 1, SCHED_BATCH);
    struct sched_config config = drive_config();
    drive.now_ns = drive_wake_ns(&drive);
    drive_wait(&drive, 0);
    assert_int_equal(state_of(0), SCHED_READY); /* not READY for long enough */
    drive.now_ns = drive_wake_ns(&drive);
    drive_wait(&drive, 0);
    assert_int_equal(state_of(0), SCHED_DRAINING);
    assert_true(drive.now_ns <= DRIVE_S + 1 + config.residency_min_ns);
    assert_int_equal(drive_count(&drive, SCHED_UNLOAD), 0);
    drive_arrive(&drive, 3, 0, SCHED_INTERACTIVE);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 0);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 1));
    assert_int_equal(drive_model(&drive, 0).n_waiting, 1);
}

static void small_ones_load_past_one_that_has_to_wait(void **state)
{
    (void)state;
    bring_up(0, 800);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_add(&drive, 1, 500, 1);
    drive_arrive(&drive, 2, 1, SCHED_STANDARD);
    drive_add(&drive, 2, 200, 1);
    drive_arrive(&drive, 3, 2, SCHED_STANDARD);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 2));
}

static void room_in_the_making_is_not_taken_by_others(void **state)
{
    (void)state;
    bring_up(0, 800);
    drive_add(&drive, 1, 900, 1);
    drive_arrive(&drive, 2, 1, SCHED_STANDARD);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
    drive_add(&drive, 2, 200, 1);
    drive_arrive(&drive, 3, 2, SCHED_STANDARD);
    assert_int_equal(drive_count(&drive, SCHED_SPAWN), 0);
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 1));
    assert_null(drive_find(&drive, SCHED_SPAWN, 2));
}

static void one_that_can_never_fit_is_refused_with_both_numbers(void **state)
{
    (void)state;
    drive_add(&drive, 0, 1001, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    const struct sched_action *reject = drive_find(&drive, SCHED_REJECT, 1);
    assert_non_null(reject);
    assert_int_equal(sl_status_http(reject->status), 503);
    assert_non_null(strstr(reject->reason, "1001"));
    assert_non_null(strstr(reject->reason, "1000"));
    assert_int_equal(reject->retry_after_ms, 0);

    bring_up(1, 300);
    drive_about(&drive, SCHED_PIN, 1);
    drive_add(&drive, 2, 701, 1);
    drive_arrive(&drive, 2, 2, SCHED_STANDARD);
    assert_non_null(strstr(drive_find(&drive, SCHED_REJECT, 2)->reason, "pinned"));
}

static void a_lower_budget_fails_those_that_wait_in_vain(void **state)
{
    (void)state;
    bring_up(0, 800);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_add(&drive, 1, 600, 1);
    drive_arrive(&drive, 2, 1, SCHED_STANDARD);
    drive_step(&drive, &(struct sched_event){.kind = SCHED_SET_BUDGET, .bytes = 500});
    const struct sched_action *fail = drive_find(&drive, SCHED_FAIL, 2);
    assert_non_null(fail);
    assert_int_equal(fail->status, SL_NOMEM);
    assert_int_equal(state_of(0), SCHED_DRAINING); /* it is over the budget, busy or not */
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
}

static void one_bigger_than_estimated_pushes_others_out(void **state)
{
    (void)state;
    bring_up(0, 500);
    drive_add(&drive, 1, 400, 1);
    drive_arrive(&drive, 1, 1, SCHED_STANDARD);
    struct sched_event event = {.kind = SCHED_LOADED, .model = 1, .loaded = {.bytes = 600}};
    drive_step(&drive, &event);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 1));
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
}

static void an_idle_one_is_unloaded_after_keep_alive(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_wait(&drive, 1000 * DRIVE_S); /* busy is not idle */
    assert_int_equal(state_of(0), SCHED_READY);
    drive_request(&drive, SCHED_FINISHED, 1);
    int64_t expires_ns = drive.now_ns + drive_config().keep_alive_ns;
    assert_int_equal(drive_model(&drive, 0).expires_ns, expires_ns);
    assert_int_equal(drive_wake_ns(&drive), expires_ns);
    drive_wait(&drive, drive_config().keep_alive_ns);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_int_equal(state_of(0), SCHED_UNLOADED);
    assert_int_equal(drive_wake_ns(&drive), SCHED_NEVER);
}

static void arrive_with_keep_alive(uint64_t request, int64_t keep_alive_ns)
{
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = request};
    event.arrive.keep_alive_ns = keep_alive_ns;
    drive_step(&drive, &event);
}

static void a_request_may_set_keep_alive(void **state)
{
    (void)state;
    bring_up(0, 100);
    arrive_with_keep_alive(1, SCHED_KEEP_ALIVE_FOREVER);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_int_equal(drive_wake_ns(&drive), SCHED_NEVER);
    arrive_with_keep_alive(2, 7 * DRIVE_S);
    drive_request(&drive, SCHED_FINISHED, 2);
    assert_int_equal(drive_wake_ns(&drive), drive.now_ns + 7 * DRIVE_S);
    arrive_with_keep_alive(3, 0);
    drive_request(&drive, SCHED_FINISHED, 3);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
}

static void a_model_may_set_keep_alive(void **state)
{
    (void)state;
    struct sched_event event = {.kind = SCHED_MODEL_ADD};
    event.model_add.n_slots = 1;
    event.model_add.keep_alive_ns = 3 * DRIVE_S;
    drive_step(&drive, &event);
    drive_about(&drive, SCHED_PREFETCH, 0);
    drive_up(&drive, 0);
    assert_int_equal(drive_wake_ns(&drive), drive.now_ns + 3 * DRIVE_S);
}

static void a_pinned_one_is_loaded_kept_and_restarted(void **state)
{
    (void)state;
    struct sched_event event = {.kind = SCHED_MODEL_ADD};
    event.model_add.n_slots = 1;
    event.model_add.pinned = true;
    event.model_add.keep_alive_ns = 0;
    drive_step(&drive, &event);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_up(&drive, 0);
    drive_wait(&drive, 100000 * DRIVE_S);
    assert_int_equal(state_of(0), SCHED_READY);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    drive_wait(&drive, drive_config().backoff_min_ns);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_up(&drive, 0);
    drive_step(&drive, &(struct sched_event){.kind = SCHED_PIN, .pinned = false});
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0)); /* keep_alive counts again */
}

static void a_pin_in_time_ends_the_draining(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_STOP, 0);
    assert_int_equal(state_of(0), SCHED_DRAINING);
    drive_about(&drive, SCHED_PIN, 0);
    assert_int_equal(state_of(0), SCHED_READY);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_int_equal(drive_count(&drive, SCHED_UNLOAD), 0);
}

static void stop_lets_running_ones_finish_and_fails_the_rest(void **state)
{
    (void)state;
    bring_up(0, 100);
    for (uint64_t id = 1; id <= 5; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_STOP, 0);
    assert_non_null(drive_find(&drive, SCHED_FAIL, 5));
    assert_int_equal(drive_count(&drive, SCHED_FAIL), 1);
    for (uint64_t id = 1; id <= 4; id++) drive_request(&drive, SCHED_FINISHED, id);
    assert_non_null(drive_find(&drive, SCHED_UNLOAD, 0));
    drive_arrive(&drive, 6, 0, SCHED_STANDARD); /* and it may be asked for again */
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
}

static void stop_ends_a_load(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_STOP, 0);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    assert_non_null(drive_find(&drive, SCHED_FAIL, 1));
    drive_about(&drive, SCHED_WORKER_DIED, 0); /* asked for: not a crash */
    assert_int_equal(state_of(0), SCHED_UNLOADED);
    assert_int_equal(drive_model(&drive, 0).n_deaths, 0);
}

static void a_removed_model_goes_when_its_worker_is_gone(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_MODEL_REMOVE, 0);
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    assert_int_equal(drive_find(&drive, SCHED_REJECT, 2)->status, SL_NOT_FOUND);
    drive_about(&drive, SCHED_WORKER_DIED, 0); /* what ran cannot run again */
    assert_int_equal(drive_find(&drive, SCHED_FAIL, 1)->status, SL_NOT_FOUND);
    struct sched_model_info info;
    assert_false(sched_get_model(drive.sched, 0, &info));
    bring_up(0, 100);
}

/* What waits, and what ran when its worker died, may be asked elsewhere. */
static void a_model_that_moved_is_unavailable(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_step(&drive, &(struct sched_event){.kind = SCHED_MODEL_REMOVE, .moved = true});
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(drive_find(&drive, SCHED_FAIL, 1)->status, SL_UNAVAILABLE);
}

static void a_worker_that_does_not_end_is_killed(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_about(&drive, SCHED_STOP, 0);
    assert_int_equal(drive_wake_ns(&drive), drive.now_ns + drive_config().unload_grace_ns);
    drive_wait(&drive, drive_config().unload_grace_ns);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    assert_int_equal(used_bytes(), 100);
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_int_equal(used_bytes(), 0);
}

static void a_load_that_fails_fails_those_that_wait(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_WORKER_STARTED, 0);
    drive_about(&drive, SCHED_LOAD_FAILED, 0);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    const struct sched_action *fail = drive_find(&drive, SCHED_FAIL, 1);
    assert_non_null(fail);
    assert_non_null(strstr(fail->reason, "it was tested"));
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_int_equal(state_of(0), SCHED_BACKOFF);
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    const struct sched_action *reject = drive_find(&drive, SCHED_REJECT, 2);
    assert_non_null(reject);
    assert_non_null(strstr(reject->reason, "it was tested"));
    assert_true(reject->retry_after_ms > 0);
    drive_wait(&drive, drive_config().backoff_min_ns);
    assert_int_equal(drive_count(&drive, SCHED_SPAWN), 0); /* nobody asks */
    drive_arrive(&drive, 3, 0, SCHED_STANDARD);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
}

static void a_load_that_hangs_is_killed(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_wait(&drive, drive_config().start_timeout_ns);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    assert_non_null(strstr(drive_find(&drive, SCHED_FAIL, 1)->reason, "30.0 s"));
}

static void crashes_back_off_and_open_the_breaker(void **state)
{
    (void)state;
    struct sched_config config = drive_config();
    bring_up(0, 100);
    drive_about(&drive, SCHED_PIN, 0);
    int64_t limit_ns = config.backoff_min_ns;
    for (uint32_t failures = 1; failures < config.breaker_failures; failures++) {
        drive_about(&drive, SCHED_WORKER_DIED, 0);
        assert_int_equal(state_of(0), SCHED_BACKOFF);
        int64_t delay_ns = drive_model(&drive, 0).retry_ns - drive.now_ns;
        assert_true(delay_ns >= limit_ns / 2 && delay_ns <= limit_ns);
        drive_arrive(&drive, failures, 0, SCHED_STANDARD); /* it may wait for the next worker */
        assert_int_equal(drive_count(&drive, SCHED_REJECT), 0);
        drive_request(&drive, SCHED_CANCEL, failures);
        drive_wait(&drive, delay_ns);
        assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
        drive_up(&drive, 0);
        limit_ns *= 2;
    }
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(state_of(0), SCHED_FAILED);
    drive_arrive(&drive, 100, 0, SCHED_STANDARD);
    assert_int_equal(drive_find(&drive, SCHED_REJECT, 100)->retry_after_ms,
                     config.breaker_cooldown_ns / DRIVE_MS);
}

/* The breaker of model 0 was open and the cool-down is over; the trial worker is READY. */
static void begin_trial(void)
{
    struct sched_config config = drive_config();
    bring_up(0, 100);
    drive_about(&drive, SCHED_PIN, 0);
    for (uint32_t i = 0; i < config.breaker_failures; i++) {
        drive_about(&drive, SCHED_WORKER_DIED, 0);
        drive.now_ns = drive_model(&drive, 0).retry_ns;
        drive_wait(&drive, 0);
        assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
        drive_up(&drive, 0);
    }
    for (uint64_t id = 1; id <= 3; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    assert_int_equal(drive_model(&drive, 0).n_running, 1);
}

static void after_the_cooldown_one_request_tries(void **state)
{
    (void)state;
    begin_trial();
    drive_request(&drive, SCHED_PROGRESS, 1);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 2);
    assert_string_equal(drive_model(&drive, 0).error, "");
}

static void a_trial_that_fails_opens_the_breaker_again(void **state)
{
    (void)state;
    begin_trial();
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(state_of(0), SCHED_FAILED);
    assert_int_equal(drive_count(&drive, SCHED_FAIL), 3);
}

static void a_long_quiet_life_counts_as_success(void **state)
{
    (void)state;
    bring_up(0, 100);
    drive_about(&drive, SCHED_PIN, 0);
    for (int i = 0; i < 20; i++) {
        drive_wait(&drive, drive_config().stable_ns);
        drive_about(&drive, SCHED_WORKER_DIED, 0);
        assert_int_equal(state_of(0), SCHED_BACKOFF);
        drive_wait(&drive, drive_config().backoff_min_ns);
        drive_up(&drive, 0);
    }
}

static void a_death_while_loading_keeps_them_waiting(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_WORKER_STARTED, 0);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(drive_count(&drive, SCHED_FAIL), 0);
    drive_wait(&drive, drive_config().backoff_min_ns);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_up(&drive, 0);
    assert_int_equal(drive_find(&drive, SCHED_DISPATCH, 1)->attempt, 1);
}

/* --- another way to load it --- */

static void reload(uint32_t model, uint64_t bytes)
{
    struct sched_event event = {.kind = SCHED_RELOAD, .model = model, .bytes = bytes};
    drive_step(&drive, &event);
}

static void a_reload_brings_what_runs_back_unblamed(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 2);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_up(&drive, 0);
    for (int i = 0; i < 5; i++) { /* a death as often would have been too often */
        reload(0, 300);
        assert_non_null(drive_find(&drive, SCHED_KILL, 0));
        drive_about(&drive, SCHED_WORKER_EXITED, 0);
        assert_int_equal(drive_count(&drive, SCHED_FAIL), 0);
        assert_non_null(drive_find(&drive, SCHED_SPAWN, 0)); /* without a pause */
        drive_up(&drive, 0);
        assert_int_equal(drive_find(&drive, SCHED_DISPATCH, 1)->attempt, i + 2);
    }
    assert_int_equal(used_bytes(), 300);
    assert_int_equal(drive_model(&drive, 0).n_deaths, 0);
}

static void a_reload_of_one_that_is_loading_begins_anew(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 2);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_WORKER_STARTED, 0);
    reload(0, 200);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    reload(0, 250); /* once more while it goes */
    assert_null(drive_find(&drive, SCHED_KILL, 0));
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    assert_int_equal(used_bytes(), 250);
}

static void a_reload_ends_a_pause_after_failures(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_about(&drive, SCHED_WORKER_STARTED, 0);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(state_of(0), SCHED_BACKOFF);
    reload(0, 100);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    assert_string_equal(drive_model(&drive, 0).error, "");
}

static void a_reload_that_cannot_fit_is_refused(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    reload(0, 5000);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    assert_int_equal(drive_find(&drive, SCHED_REJECT, 1)->status, SL_NOMEM);
}

static void one_that_drains_is_not_waited_for(void **state)
{
    (void)state;
    drive_add(&drive, 0, 100, 1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_up(&drive, 0);
    drive_about(&drive, SCHED_STOP, 0);
    assert_int_equal(state_of(0), SCHED_DRAINING);
    reload(0, 100);
    assert_non_null(drive_find(&drive, SCHED_KILL, 0));
    drive_about(&drive, SCHED_WORKER_EXITED, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0)); /* the request waits again */
}

#define RULE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULE(first_requests_share_one_load),
        RULE(the_worker_says_what_it_takes),
        RULE(the_least_recently_used_makes_room),
        RULE(busy_and_pinned_ones_do_not_make_room),
        RULE(patience_ends_and_a_busy_one_is_drained),
        RULE(small_ones_load_past_one_that_has_to_wait),
        RULE(room_in_the_making_is_not_taken_by_others),
        RULE(one_that_can_never_fit_is_refused_with_both_numbers),
        RULE(a_lower_budget_fails_those_that_wait_in_vain),
        RULE(one_bigger_than_estimated_pushes_others_out),
        RULE(an_idle_one_is_unloaded_after_keep_alive),
        RULE(a_request_may_set_keep_alive),
        RULE(a_model_may_set_keep_alive),
        RULE(a_pinned_one_is_loaded_kept_and_restarted),
        RULE(a_pin_in_time_ends_the_draining),
        RULE(stop_lets_running_ones_finish_and_fails_the_rest),
        RULE(stop_ends_a_load),
        RULE(a_removed_model_goes_when_its_worker_is_gone),
        RULE(a_model_that_moved_is_unavailable),
        RULE(a_worker_that_does_not_end_is_killed),
        RULE(a_load_that_fails_fails_those_that_wait),
        RULE(a_load_that_hangs_is_killed),
        RULE(crashes_back_off_and_open_the_breaker),
        RULE(after_the_cooldown_one_request_tries),
        RULE(a_trial_that_fails_opens_the_breaker_again),
        RULE(a_long_quiet_life_counts_as_success),
        RULE(a_death_while_loading_keeps_them_waiting),
        RULE(a_reload_brings_what_runs_back_unblamed),
        RULE(a_reload_of_one_that_is_loading_begins_anew),
        RULE(a_reload_ends_a_pause_after_failures),
        RULE(a_reload_that_cannot_fit_is_refused),
        RULE(one_that_drains_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
