/* sched_router_test.c: single steps of a router; sched_router_prop.c has the storms. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "support/grid_fixture.h"

struct world {
    struct router *router;
    struct router_config config;
    int64_t now_ns;
    const struct router_action *actions;
    size_t n;
};

static void world_begin(struct world *world)
{
    *world = (struct world){0};
    router_config_default(&world->config);
    world->config.n_requests_max = 64;
    world->config.table.n_nodes_max = 4;
    world->config.table.n_models_max = 1;
    world->config.table.n_prefix_blocks = 64;
}

static void world_create(struct world *world, uint32_t n_nodes)
{
    struct sl_err err;
    assert_int_equal(router_create(&world->config, &world->router, &err), SL_OK);
    for (uint32_t i = 0; i < n_nodes; i++) {
        struct hosted_load load;
        struct node_report report = grid_report(i, 1, &load);
        /* The lower the number, the better. */
        report.facts.rtt_s = 0.01 * i;
        struct router_event event = {.kind = ROUTER_REPORT, .report = &report};
        assert_int_equal(router_step(world->router, &event, 0, &world->actions, &world->n), SL_OK);
    }
}

static sl_status step(struct world *world, struct router_event event)
{
    return router_step(world->router, &event, world->now_ns, &world->actions, &world->n);
}

static sl_status submit(struct world *world, uint64_t request, enum sched_class qos_class,
                        int64_t deadline_ns)
{
    struct router_submit what = {.ask = {.prompt_tokens = 100, .output_tokens = 10},
                                 .qos_class = qos_class,
                                 .deadline_ns = deadline_ns};
    return step(world,
                (struct router_event){.kind = ROUTER_SUBMIT, .request = request, .submit = &what});
}

static void news(struct world *world, enum router_event_kind kind, uint64_t request,
                 uint32_t attempt, uint32_t node, uint64_t n_tokens)
{
    struct router_event event = {.kind = kind,
                                 .request = request,
                                 .attempt = attempt,
                                 .node = node,
                                 .status = SL_UNAVAILABLE,
                                 .n_tokens = n_tokens};
    assert_int_equal(step(world, event), SL_OK);
}

static void pass(struct world *world, int64_t ns)
{
    world->now_ns += ns;
    assert_int_equal(step(world, (struct router_event){.kind = ROUTER_TICK}), SL_OK);
}

/* The actions but WAKE_AT are of these kinds, in this order. */
static void expect(const struct world *world, const enum router_action_kind *kinds, size_t n)
{
    assert_int_equal(world->n, n + 1);
    for (size_t i = 0; i < n; i++) assert_int_equal(world->actions[i].kind, kinds[i]);
    assert_int_equal(world->actions[n].kind, ROUTER_WAKE_AT);
}

#define EXPECT(world, ...) \
    expect((world), (const enum router_action_kind[]){__VA_ARGS__}, \
           sizeof(enum router_action_kind[]){__VA_ARGS__} / sizeof(enum router_action_kind))

static void test_from_submit_to_end(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world_create(&world, 2);
    assert_int_equal(submit(&world, 7, SCHED_STANDARD, 0), SL_OK);
    EXPECT(&world, ROUTER_SEND);
    assert_int_equal(world.actions[0].node, 0);
    assert_int_equal(world.actions[0].attempt, 1);
    assert_int_equal(world.actions[1].at_ns, world.config.answer_ns);
    assert_int_equal(submit(&world, 7, SCHED_STANDARD, 0), SL_EXISTS);
    news(&world, ROUTER_ACCEPTED, 7, 1, 0, 0);
    expect(&world, NULL, 0);
    news(&world, ROUTER_TOKENS, 7, 1, 0, 3);
    EXPECT(&world, ROUTER_DELIVER);
    assert_int_equal(world.actions[0].n_from, 0);
    assert_int_equal(world.actions[0].n_tokens, 3);
    news(&world, ROUTER_TOKENS, 7, 1, 0, 3); /* nothing new */
    expect(&world, NULL, 0);
    news(&world, ROUTER_FINISHED, 7, 1, 0, 5);
    EXPECT(&world, ROUTER_DELIVER, ROUTER_END);
    assert_int_equal(world.actions[0].n_from, 3);
    assert_int_equal(world.actions[1].status, SL_OK);
    news(&world, ROUTER_FINISHED, 7, 1, 0, 5);
    expect(&world, NULL, 0);
    news(&world, ROUTER_TOKENS, 7, 1, 0, 6); /* somebody still works for it */
    EXPECT(&world, ROUTER_STOP);
    router_destroy(world.router);
}

static void test_a_full_node_sends_it_elsewhere(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world_create(&world, 2);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    news(&world, ROUTER_REFUSED, 1, 1, 0, 0);
    EXPECT(&world, ROUTER_SEND);
    assert_int_equal(world.actions[0].node, 1);
    news(&world, ROUTER_REFUSED, 1, 2, 1, 0);
    expect(&world, NULL, 0); /* both are full: it waits */
    struct router_totals totals;
    router_get_totals(world.router, &totals);
    assert_int_equal(totals.n_pending, 1);
    pass(&world, 50 * GRID_MS); /* they may have room again */
    EXPECT(&world, ROUTER_SEND);
    router_destroy(world.router);
}

static void test_it_waits_until_somebody_is_ready(void **state)
{
    (void)state;
    struct world world;
    struct hosted_load load;
    world_begin(&world);
    world_create(&world, 0);
    assert_int_equal(submit(&world, 1, SCHED_BATCH, 1000 * GRID_MS), SL_OK);
    assert_int_equal(submit(&world, 2, SCHED_INTERACTIVE, SCHED_NEVER), SL_OK);
    expect(&world, NULL, 0);
    pass(&world, 1000 * GRID_MS);
    EXPECT(&world, ROUTER_END);
    assert_int_equal(world.actions[0].request, 1);
    assert_int_equal(world.actions[0].status, SL_TIMEOUT);
    struct node_report report = grid_report(2, 1, &load);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_REPORT, .report = &report}),
                     SL_OK);
    EXPECT(&world, ROUTER_SEND);
    assert_int_equal(world.actions[0].request, 2);
    assert_int_equal(world.actions[0].node, 2);
    router_destroy(world.router);
}

static void test_a_dead_node_loses_nothing(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world_create(&world, 2);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    news(&world, ROUTER_TOKENS, 1, 1, 0, 4);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_NODE_GONE, .node = 0}),
                     SL_OK);
    EXPECT(&world, ROUTER_STOP, ROUTER_SEND);
    assert_int_equal(world.actions[1].node, 1);
    assert_int_equal(world.actions[1].n_tokens, 4); /* continues there */
    news(&world, ROUTER_TOKENS, 1, 1, 0, 9);        /* a word from the grave */
    EXPECT(&world, ROUTER_STOP);
    news(&world, ROUTER_FINISHED, 1, 2, 1, 6);
    EXPECT(&world, ROUTER_DELIVER, ROUTER_END);
    assert_int_equal(world.actions[0].n_from, 4);
    router_destroy(world.router);
}

static void test_silence_is_a_failure(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.config.table.suspect_ns = world.config.table.dead_ns = SCHED_NEVER / 2;
    world_create(&world, 2);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, SCHED_NEVER), SL_OK);
    pass(&world, world.config.answer_ns - 1);
    expect(&world, NULL, 0);
    pass(&world, 1);
    EXPECT(&world, ROUTER_STOP, ROUTER_SEND);
    assert_int_equal(world.actions[1].node, 1);
    news(&world, ROUTER_ACCEPTED, 1, 2, 1, 0);
    pass(&world, world.config.silence_ns - 1);
    expect(&world, NULL, 0);
    news(&world, ROUTER_ACCEPTED, 1, 2, 1, 0); /* still there */
    pass(&world, 1);
    expect(&world, NULL, 0);
    router_destroy(world.router);
}

static void test_failures_that_repeat_and_those_that_do_not(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.config.attempts_max = 2;
    world_create(&world, 3);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    news(&world, ROUTER_FAILED, 1, 1, 0, 0);
    EXPECT(&world, ROUTER_SEND);
    news(&world, ROUTER_FAILED, 1, 2, 1, 0);
    EXPECT(&world, ROUTER_END);
    assert_int_equal(world.actions[0].status, SL_UNAVAILABLE);
    assert_true(world.actions[0].retry_after_ms > 0);
    assert_int_equal(submit(&world, 2, SCHED_STANDARD, 0), SL_OK);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_FAILED,
                                                        .request = 2,
                                                        .attempt = 1,
                                                        .node = world.actions[0].node,
                                                        .status = SL_INVALID,
                                                        .reason = "no such grammar"}),
                     SL_OK);
    EXPECT(&world, ROUTER_END);
    assert_int_equal(world.actions[0].status, SL_INVALID);
    assert_string_equal(world.actions[0].reason, "no such grammar");
    router_destroy(world.router);
}

static void test_the_retry_budget(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.config.retry_burst = 1;
    world.config.retry_share = 0;
    world.config.retry_per_s = 1;
    world_create(&world, 3);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    news(&world, ROUTER_FAILED, 1, 1, 0, 0);
    EXPECT(&world, ROUTER_SEND);
    news(&world, ROUTER_FAILED, 1, 2, world.actions[0].node, 0);
    expect(&world, NULL, 0); /* none left; what is new goes on */
    assert_int_equal(submit(&world, 2, SCHED_STANDARD, 0), SL_OK);
    EXPECT(&world, ROUTER_SEND);
    pass(&world, 1001 * GRID_MS);
    EXPECT(&world, ROUTER_SEND);
    assert_int_equal(world.actions[0].request, 1);
    router_destroy(world.router);
}

static void test_a_second_try_for_the_interactive(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.config.hedge_share = 1;
    world_create(&world, 2);
    assert_int_equal(submit(&world, 1, SCHED_INTERACTIVE, 0), SL_OK);
    news(&world, ROUTER_ACCEPTED, 1, 1, 0, 0);
    int64_t due_ns = world.actions[world.n - 1].at_ns;
    assert_true(due_ns >= world.config.hedge_min_ns && due_ns < 1000 * GRID_MS);
    pass(&world, due_ns);
    EXPECT(&world, ROUTER_SEND);
    assert_true(world.actions[0].hedge);
    assert_int_equal(world.actions[0].node, 1);
    news(&world, ROUTER_TOKENS, 1, 2, 1, 1); /* it is first: the other one stops */
    EXPECT(&world, ROUTER_STOP, ROUTER_DELIVER);
    assert_int_equal(world.actions[0].node, 0);
    assert_int_equal(world.actions[1].attempt, 2);
    struct router_totals totals;
    router_get_totals(world.router, &totals);
    assert_int_equal(totals.n_hedged, 1);
    assert_int_equal(totals.n_hedges_won, 1);
    assert_int_equal(submit(&world, 2, SCHED_STANDARD, 0), SL_OK);
    pass(&world, 1500 * GRID_MS); /* not for others */
    expect(&world, NULL, 0);
    router_destroy(world.router);
}

static void test_classes_share_what_becomes_free(void **state)
{
    (void)state;
    struct world world;
    struct hosted_load load;
    uint64_t order[6];
    world_begin(&world);
    world.config.class_weight[SCHED_INTERACTIVE] = 2;
    world.config.class_weight[SCHED_BATCH] = 1;
    world_create(&world, 0);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(submit(&world, i, SCHED_BATCH, SCHED_NEVER), SL_OK);
    for (uint64_t i = 10; i < 14; i++)
        assert_int_equal(submit(&world, i, SCHED_INTERACTIVE, SCHED_NEVER), SL_OK);
    struct node_report report = grid_report(0, 1, &load);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_REPORT, .report = &report}),
                     SL_OK);
    EXPECT(&world, ROUTER_SEND, ROUTER_SEND, ROUTER_SEND, ROUTER_SEND, ROUTER_SEND, ROUTER_SEND,
           ROUTER_SEND);
    for (int i = 0; i < 6; i++) order[i] = world.actions[i].request;
    const uint64_t wanted[] = {10, 0, 11, 12, 1, 13};
    assert_memory_equal(order, wanted, sizeof wanted);
    router_destroy(world.router);
}

static void test_every_decision_is_explained(void **state)
{
    (void)state;
    struct world world;
    struct pick_row rows[PICK_ROWS_MAX];
    struct pick_rows explained = {.rows = rows, .capacity = PICK_ROWS_MAX};
    struct pick pick;
    world_begin(&world);
    world.config.n_explained = 2;
    world_create(&world, 3);
    for (uint64_t i = 1; i <= 3; i++) assert_int_equal(submit(&world, i, SCHED_STANDARD, 0), SL_OK);
    assert_null(router_explain(world.router, 1)); /* not kept any more */
    const struct router_explanation *why = router_explain(world.router, 3);
    assert_non_null(why);
    assert_int_equal(why->n_rows, 3);
    assert_int_equal(why->attempt, 1);
    assert_int_equal(why->pick.node, world.actions[0].node);
    struct pick_ask ask = {.labels_wanted = 1};
    for (int i = 0; i < PICK_EXCLUDED_MAX; i++) ask.excluded[i] = NODE_NONE;
    router_explain_ask(world.router, &ask, 0, &pick, &explained);
    assert_int_equal(pick.node, NODE_NONE);
    assert_int_equal(pick.n_filtered[PICK_LABELS], 3);
    router_destroy(world.router);
}

static void test_any_word_of_a_node_says_that_it_lives(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world_create(&world, 2);
    int64_t step_ns = world.config.table.suspect_ns / 2;
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    uint32_t busy = world.actions[0].node;
    for (int i = 0; i < 10; i++) {
        world.now_ns += step_ns;
        news(&world, ROUTER_ACCEPTED, 1, 1, busy, 0);
    }
    const struct grid_node *nodes = router_nodes(world.router)->nodes;
    assert_int_equal(nodes[busy].health, NODE_ALIVE);
    assert_int_equal(nodes[1 - busy].health,
                     10 * step_ns >= world.config.table.dead_ns ? NODE_DEAD : NODE_SUSPECT);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_HEARD, .node = 4}),
                     SL_INVALID);
    world.now_ns += step_ns;
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_HEARD, .node = busy}),
                     SL_OK);
    world.now_ns += step_ns;
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_TICK}), SL_OK);
    assert_int_equal(nodes[busy].health, NODE_ALIVE);
    router_destroy(world.router);
}

static void test_limits_and_nonsense(void **state)
{
    (void)state;
    struct world world;
    struct sl_err err;
    world_begin(&world);
    world.config.n_requests_max = 1;
    world_create(&world, 1);
    assert_int_equal(submit(&world, 1, SCHED_CLASS_COUNT, 0), SL_INVALID);
    assert_int_equal(submit(&world, 1, SCHED_STANDARD, 0), SL_OK);
    assert_int_equal(submit(&world, 2, SCHED_STANDARD, 0), SL_BUSY);
    assert_int_equal(world.n, 0);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_CANCEL, .request = 1}),
                     SL_OK);
    EXPECT(&world, ROUTER_STOP);
    assert_int_equal(submit(&world, 2, SCHED_STANDARD, 0), SL_OK);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_NODE_GONE, .node = 4}),
                     SL_INVALID);
    assert_int_equal(step(&world, (struct router_event){.kind = ROUTER_EVENT_KIND_COUNT}),
                     SL_INVALID);
    router_destroy(world.router);
    world.config.retry_per_s = 0;
    assert_int_equal(router_create(&world.config, &world.router, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "retry_per_s"));
    assert_string_equal(router_event_name(ROUTER_NODE_GONE), "NODE_GONE");
    assert_string_equal(router_action_name(ROUTER_DELIVER), "DELIVER");
}

static void test_without_memory(void **state)
{
    (void)state;
    struct world world;
    struct sl_err err;
    world_begin(&world);
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        sl_mem_fail_at(nth, false);
        sl_status status = router_create(&world.config, &world.router, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    router_destroy(world.router);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_submit_to_end),
        cmocka_unit_test(test_a_full_node_sends_it_elsewhere),
        cmocka_unit_test(test_it_waits_until_somebody_is_ready),
        cmocka_unit_test(test_a_dead_node_loses_nothing),
        cmocka_unit_test(test_silence_is_a_failure),
        cmocka_unit_test(test_failures_that_repeat_and_those_that_do_not),
        cmocka_unit_test(test_the_retry_budget),
        cmocka_unit_test(test_a_second_try_for_the_interactive),
        cmocka_unit_test(test_classes_share_what_becomes_free),
        cmocka_unit_test(test_every_decision_is_explained),
        cmocka_unit_test(test_any_word_of_a_node_says_that_it_lives),
        cmocka_unit_test(test_limits_and_nonsense),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
