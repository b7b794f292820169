/* sched_local_test.c: requests through the node's scheduler: admission, order, deadlines, strikes,
 * cancels. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
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

static void begin_again(const struct sched_config *config)
{
    drive_end(&drive);
    drive_begin(&drive, config);
}

/* Model 0 is READY with that many slots. */
static void make_ready(uint32_t n_slots)
{
    drive_add(&drive, 0, 100, n_slots);
    drive_about(&drive, SCHED_PREFETCH, 0);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_up(&drive, 0);
}

static void creation_survives_lost_memory(void **state)
{
    (void)state;
    struct sched_config config = drive_config();
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    int nth = 0;
    for (;;) {
        struct sched *sched = NULL;
        sl_mem_fail_at((uint64_t)++nth, false);
        sl_status status = sched_create(&config, &sched, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        if (hit) assert_null(sched);
        sched_destroy(sched);
        assert_int_equal(sl_mem_live(), live);
        if (!hit) break;
    }
    assert_true(nth > 10);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    sl_mem_fail_at(1, true);
    make_ready(2);
    for (uint64_t id = 0; id < 80; id++) drive_arrive_of(&drive, id, 0, id);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    drive_wait(&drive, 3600 * DRIVE_S);
    bool hit = sl_mem_fail_hit();
    sl_mem_fail_at(0, false);
    assert_false(hit);
}

static void senseless_configurations_are_refused(void **state)
{
    (void)state;
    struct sched *sched = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct sched_config config = drive_config();
    config.class_weight[SCHED_BATCH] = 0;
    assert_int_equal(sched_create(&config, &sched, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "class_weight"));
    config = drive_config();
    config.n_models_max = SCHED_MODELS_LIMIT + 1;
    assert_int_equal(sched_create(&config, &sched, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "n_models_max"));
    config = drive_config();
    config.backoff_max_ns = config.backoff_min_ns - 1;
    assert_int_equal(sched_create(&config, &sched, &err), SL_INVALID);
    assert_null(sched);
}

static sl_status try(const struct sched_event *event)
{
    const struct sched_action *actions;
    size_t n;
    sl_status status = sched_step(drive.sched, event, drive.now_ns, &actions, &n);
    if (status != SL_OK) assert_int_equal(n, 0);
    return status;
}

static void events_with_wrong_numbers_change_nothing(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 7, 0, SCHED_BATCH);
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = 7};
    assert_int_equal(try(&event), SL_EXISTS);
    event.request = 8;
    event.model = 8;
    assert_int_equal(try(&event), SL_INVALID);
    event.model = 0;
    event.arrive.qos_class = SCHED_CLASS_COUNT;
    assert_int_equal(try(&event), SL_INVALID);
    event.kind = SCHED_EVENT_KIND_COUNT;
    assert_int_equal(try(&event), SL_INVALID);
    event = (struct sched_event){.kind = SCHED_MODEL_ADD, .model = 1};
    assert_int_equal(try(&event), SL_INVALID); /* no slots */
    event.model_add.n_slots = 1;
    event.model = 0;
    assert_int_equal(try(&event), SL_EXISTS);
    event = (struct sched_event){.kind = SCHED_STOP, .model = 1};
    assert_int_equal(try(&event), SL_NOT_FOUND);
    struct sched_totals totals;
    sched_get_totals(drive.sched, &totals);
    assert_int_equal(totals.n_running, 1);
}

static void a_request_runs_and_finishes(void **state)
{
    (void)state;
    make_ready(2);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    const struct sched_action *dispatch = drive_find(&drive, SCHED_DISPATCH, 1);
    assert_non_null(dispatch);
    assert_int_equal(dispatch->attempt, 1);
    drive_request(&drive, SCHED_PROGRESS, 1);
    drive_request(&drive, SCHED_FINISHED, 1);
    struct sched_totals totals;
    sched_get_totals(drive.sched, &totals);
    assert_int_equal(totals.n_finished, 1);
    assert_int_equal(totals.n_running, 0);
    drive_request(&drive, SCHED_FINISHED, 1); /* late news of it are no error */
    drive_request(&drive, SCHED_CANCEL, 1);
    assert_int_equal(drive.n_actions, 1);
}

static void an_unknown_model_is_not_found(void **state)
{
    (void)state;
    drive_arrive(&drive, 1, 3, SCHED_STANDARD);
    const struct sched_action *reject = drive_find(&drive, SCHED_REJECT, 1);
    assert_non_null(reject);
    assert_int_equal(reject->status, SL_NOT_FOUND);
    assert_int_equal(reject->retry_after_ms, 0);
}

static void slots_bound_what_runs(void **state)
{
    (void)state;
    make_ready(2);
    for (uint64_t id = 1; id <= 4; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    assert_int_equal(drive_model(&drive, 0).n_running, 2);
    assert_int_equal(drive_model(&drive, 0).n_waiting, 2);
    drive_request(&drive, SCHED_FINISHED, 2);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 3));
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
}

static void higher_classes_go_first(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_arrive(&drive, 2, 0, SCHED_BATCH);
    drive_arrive(&drive, 3, 0, SCHED_INTERACTIVE);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 3));
    drive_request(&drive, SCHED_FINISHED, 3);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 2));
}

static void a_flood_of_one_tenant_does_not_starve_another(void **state)
{
    (void)state;
    make_ready(1);
    for (uint64_t id = 1; id <= 40; id++) drive_arrive_of(&drive, id, 0, 100);
    drive_arrive_of(&drive, 50, 0, 200);
    drive_request(&drive, SCHED_FINISHED, 1); /* the flooder's turn */
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 2));
    drive_request(&drive, SCHED_FINISHED, 2);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 50));
}

static void a_full_queue_says_when_to_come_back(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1000, 0, SCHED_STANDARD);
    drive.now_ns += 2 * DRIVE_S;
    drive_request(&drive, SCHED_FINISHED, 1000); /* a request takes 2 s */
    for (uint64_t id = 0; id <= 64; id++) {
        drive_arrive(&drive, id, 0, SCHED_STANDARD);
        assert_int_equal(drive_count(&drive, SCHED_REJECT), 0);
    }
    drive_arrive(&drive, 65, 0, SCHED_STANDARD);
    const struct sched_action *reject = drive_find(&drive, SCHED_REJECT, 65);
    assert_non_null(reject);
    assert_int_equal(sl_status_http(reject->status), 429);
    assert_int_equal(reject->retry_after_ms, 65 * 2000);
    drive_arrive(&drive, 66, 0, SCHED_BATCH);
    assert_non_null(drive_find(&drive, SCHED_REJECT, 66));
}

static void a_higher_class_displaces_the_youngest_of_the_lowest(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1000, 0, SCHED_STANDARD);
    for (uint64_t id = 0; id < 10; id++) drive_arrive(&drive, id, 0, SCHED_BATCH);
    for (uint64_t id = 10; id < 64; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    drive_arrive(&drive, 100, 0, SCHED_INTERACTIVE);
    const struct sched_action *reject = drive_find(&drive, SCHED_REJECT, 9);
    assert_non_null(reject);
    assert_int_equal(reject->status, SL_BUSY);
    assert_true(reject->retry_after_ms >= 1000);
    assert_int_equal(drive_count(&drive, SCHED_REJECT), 1);
    drive_request(&drive, SCHED_FINISHED, 1000);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 100));
}

static void arrive_with_bytes(uint64_t request, enum sched_class qos_class, uint64_t prompt_bytes)
{
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = request};
    event.arrive.qos_class = qos_class;
    event.arrive.prompt_bytes = prompt_bytes;
    drive_step(&drive, &event);
}

static void prompt_bytes_are_bounded_too(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1000, 0, SCHED_STANDARD);
    arrive_with_bytes(1, SCHED_BATCH, 4000);
    arrive_with_bytes(2, SCHED_BATCH, 97);
    assert_non_null(drive_find(&drive, SCHED_REJECT, 2));
    arrive_with_bytes(3, SCHED_BATCH, 96);
    assert_null(drive_find(&drive, SCHED_REJECT, 3));
    arrive_with_bytes(4, SCHED_STANDARD, 4096); /* both have to go */
    assert_non_null(drive_find(&drive, SCHED_REJECT, 3));
    assert_non_null(drive_find(&drive, SCHED_REJECT, 1));
    arrive_with_bytes(5, SCHED_STANDARD, 4097);
    assert_int_equal(drive_find(&drive, SCHED_REJECT, 5)->status, SL_LIMIT);
}

static void one_that_waits_too_long_expires(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = 2};
    event.arrive.deadline_ns = drive.now_ns + 5 * DRIVE_S;
    drive_step(&drive, &event);
    assert_int_equal(drive_wake_ns(&drive), event.arrive.deadline_ns);
    drive_wait(&drive, 5 * DRIVE_S - 1);
    assert_int_equal(drive_count(&drive, SCHED_EXPIRE), 0);
    drive_wait(&drive, 1);
    assert_non_null(drive_find(&drive, SCHED_EXPIRE, 2));
    assert_int_equal(sl_status_http(drive_find(&drive, SCHED_EXPIRE, 2)->status), 408);
    drive_wait(&drive, 600 * DRIVE_S); /* what runs has no such deadline */
    assert_int_equal(drive_count(&drive, SCHED_EXPIRE), 0);
}

static void the_configured_timeout_holds_when_none_is_given(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    assert_int_equal(drive_wake_ns(&drive), drive.now_ns + drive_config().queue_timeout_ns);
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = 3};
    event.arrive.deadline_ns = SCHED_NEVER;
    drive_step(&drive, &event);
    drive_wait(&drive, 3600 * DRIVE_S);
    assert_non_null(drive_find(&drive, SCHED_EXPIRE, 2));
    assert_null(drive_find(&drive, SCHED_EXPIRE, 3));
}

static void a_waiting_one_is_cancelled_silently(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    drive_request(&drive, SCHED_CANCEL, 2);
    assert_int_equal(drive.n_actions, 1);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 0);
}

static void a_cancelled_running_one_keeps_its_slot_until_given_back(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_arrive(&drive, 2, 0, SCHED_STANDARD);
    drive_request(&drive, SCHED_CANCEL, 1);
    assert_non_null(drive_find(&drive, SCHED_CANCEL_RUNNING, 1));
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 0);
    drive_request(&drive, SCHED_CANCEL, 1);
    assert_int_equal(drive_count(&drive, SCHED_CANCEL_RUNNING), 0);
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 2));
    struct sched_totals totals;
    sched_get_totals(drive.sched, &totals);
    assert_int_equal(totals.n_cancelled, 1);
    assert_int_equal(totals.n_finished, 0);
}

/* The worker dies and the next one is ready. */
static void die_and_recover(void)
{
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    if (drive_model(&drive, 0).state != SCHED_BACKOFF) return;
    drive_wait(&drive, 11 * DRIVE_S);
    assert_non_null(drive_find(&drive, SCHED_SPAWN, 0));
    drive_up(&drive, 0);
}

static void a_death_is_survived_at_the_head_of_the_class(void **state)
{
    (void)state;
    make_ready(2);
    for (uint64_t id = 1; id <= 4; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    drive_arrive(&drive, 5, 0, SCHED_INTERACTIVE);
    die_and_recover();
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 2);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 5));
    const struct sched_action *dispatch = drive_find(&drive, SCHED_DISPATCH, 1);
    assert_non_null(dispatch);
    assert_int_equal(dispatch->attempt, 2);
    drive_request(&drive, SCHED_FINISHED, 5);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 2));
    drive_request(&drive, SCHED_FINISHED, 2);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 3));
}

static void two_deaths_without_a_token_are_enough(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    die_and_recover();
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    const struct sched_action *fail = drive_find(&drive, SCHED_FAIL, 1);
    assert_non_null(fail);
    assert_int_equal(sl_status_http(fail->status), 500);
    assert_non_null(strstr(fail->reason, "it was tested"));
}

/* Three run, the worker dies twice before any has a token: which of them is it? */
static void one_of_several_is_found_out_alone(void **state)
{
    (void)state;
    make_ready(4);
    for (uint64_t id = 1; id <= 3; id++) drive_arrive(&drive, id, 0, SCHED_STANDARD);
    die_and_recover();
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 3);
    die_and_recover();
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 1));
    drive_arrive(&drive, 4, 0, SCHED_INTERACTIVE);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 0);
    drive_request(&drive, SCHED_PROGRESS, 1);
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
    drive_request(&drive, SCHED_PROGRESS, 4);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 2));
    die_and_recover(); /* under 2, which is alone without a token */
    assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
    static const uint64_t turns[] = {4, 3, 1, 2}; /* its class, then longest in line first */
    for (size_t i = 0; i < 3; i++) {
        drive_request(&drive, SCHED_PROGRESS, turns[i]);
        assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
        assert_non_null(drive_find(&drive, SCHED_DISPATCH, turns[i + 1]));
    }
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(drive_count(&drive, SCHED_FAIL), 1);
    assert_non_null(drive_find(&drive, SCHED_FAIL, 2));
}

static void a_token_clears_the_strikes(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    for (int death = 0; death < 20; death++) {
        drive_request(&drive, SCHED_PROGRESS, 1);
        die_and_recover();
        assert_non_null(drive_find(&drive, SCHED_DISPATCH, 1));
    }
    drive_request(&drive, SCHED_FINISHED, 1);
    assert_int_equal(drive_model(&drive, 0).n_deaths, 20);
}

static void a_cancelled_one_is_not_taken_up_again(void **state)
{
    (void)state;
    make_ready(1);
    drive_arrive(&drive, 1, 0, SCHED_STANDARD);
    drive_request(&drive, SCHED_CANCEL, 1);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    assert_int_equal(drive_model(&drive, 0).n_waiting, 0);
    assert_int_equal(drive_count(&drive, SCHED_FAIL), 0);
}

static void one_under_way_does_not_expire(void **state)
{
    (void)state;
    make_ready(1);
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = 1};
    event.arrive.deadline_ns = drive.now_ns + DRIVE_MS;
    drive_step(&drive, &event);
    drive_about(&drive, SCHED_WORKER_DIED, 0);
    drive_wait(&drive, 11 * DRIVE_S);
    assert_int_equal(drive_count(&drive, SCHED_EXPIRE), 0);
    drive_up(&drive, 0);
    assert_non_null(drive_find(&drive, SCHED_DISPATCH, 1));
}

static void the_node_cap_is_shared_in_turn(void **state)
{
    (void)state;
    struct sched_config config = drive_config();
    config.n_running_max = 2;
    begin_again(&config);
    make_ready(4);
    drive_add(&drive, 1, 100, 4);
    drive_about(&drive, SCHED_PREFETCH, 1);
    drive_up(&drive, 1);
    for (uint64_t id = 0; id < 20; id++) drive_arrive(&drive, id, id < 10 ? 0 : 1, SCHED_STANDARD);
    uint64_t running[2] = {0, 1};
    unsigned n_of_model[2] = {0, 0};
    for (int i = 0; i < 8; i++) {
        drive_request(&drive, SCHED_FINISHED, running[0]);
        assert_int_equal(drive_count(&drive, SCHED_DISPATCH), 1);
        running[0] = running[1];
        running[1] = drive.actions[0].request;
        n_of_model[drive.actions[0].model]++;
    }
    assert_int_equal(n_of_model[0], 4);
    assert_int_equal(n_of_model[1], 4);
}

static void the_same_events_give_the_same_actions(void **state)
{
    (void)state;
    int64_t retry_ns[2];
    for (int run = 0; run < 2; run++) {
        struct sched_config config = drive_config();
        config.seed = 42;
        begin_again(&config);
        make_ready(1);
        drive_about(&drive, SCHED_WORKER_DIED, 0);
        retry_ns[run] = drive_model(&drive, 0).retry_ns;
    }
    assert_int_equal(retry_ns[0], retry_ns[1]);
}

static void names_are_names(void **state)
{
    (void)state;
    enum sched_class qos_class;
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) {
        assert_true(sched_class_parse(sched_class_name((enum sched_class)i), &qos_class));
        assert_int_equal(qos_class, i);
    }
    assert_false(sched_class_parse("urgent", &qos_class));
    for (int i = 0; i < SCHED_MODEL_STATE_COUNT; i++)
        assert_true(strlen(sched_model_state_name((enum sched_model_state)i)) > 1);
    for (int i = 0; i < SCHED_EVENT_KIND_COUNT; i++)
        assert_true(strlen(sched_event_name((enum sched_event_kind)i)) > 1);
    for (int i = 0; i < SCHED_ACTION_KIND_COUNT; i++)
        assert_true(strlen(sched_action_name((enum sched_action_kind)i)) > 1);
    assert_string_equal(sched_event_name(SCHED_EVENT_KIND_COUNT), "?");
    assert_string_equal(sched_action_name(SCHED_ACTION_KIND_COUNT), "?");
    assert_string_equal(sched_model_state_name(SCHED_MODEL_STATE_COUNT), "?");
    assert_string_equal(sched_class_name(SCHED_CLASS_COUNT), "?");
}

#define RULE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creation_survives_lost_memory),
        cmocka_unit_test(senseless_configurations_are_refused),
        cmocka_unit_test(names_are_names),
        RULE(steps_allocate_nothing),
        RULE(events_with_wrong_numbers_change_nothing),
        RULE(a_request_runs_and_finishes),
        RULE(an_unknown_model_is_not_found),
        RULE(slots_bound_what_runs),
        RULE(higher_classes_go_first),
        RULE(a_flood_of_one_tenant_does_not_starve_another),
        RULE(a_full_queue_says_when_to_come_back),
        RULE(a_higher_class_displaces_the_youngest_of_the_lowest),
        RULE(prompt_bytes_are_bounded_too),
        RULE(one_that_waits_too_long_expires),
        RULE(the_configured_timeout_holds_when_none_is_given),
        RULE(a_waiting_one_is_cancelled_silently),
        RULE(a_cancelled_running_one_keeps_its_slot_until_given_back),
        RULE(a_death_is_survived_at_the_head_of_the_class),
        RULE(two_deaths_without_a_token_are_enough),
        RULE(one_of_several_is_found_out_alone),
        RULE(a_token_clears_the_strikes),
        RULE(a_cancelled_one_is_not_taken_up_again),
        RULE(one_under_way_does_not_expire),
        RULE(the_node_cap_is_shared_in_turn),
        RULE(the_same_events_give_the_same_actions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
