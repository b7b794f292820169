/* sched_node_table_test.c: what a gateway knows of nodes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/grid_fixture.h"

static bool hear(struct node_table *table, struct node_report report, int64_t now_ns)
{
    bool restarted;
    return node_table_report(table, &report, now_ns, &restarted);
}

static void test_a_report_never_goes_back(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load load;
    grid_table_init(&table);
    struct node_report report = grid_report(1, 5, &load);
    load.n_running = 3;
    assert_true(hear(&table, report, 0));
    assert_int_equal(table.nodes[1].health, NODE_ALIVE);
    load.n_running = 1;
    assert_false(hear(&table, report, 1));
    report.version = 4;
    assert_false(hear(&table, report, 1));
    assert_int_equal(node_table_hosted(&table, 1, 0)->load.n_running, 3);
    report.version = 6;
    assert_true(hear(&table, report, 1));
    assert_int_equal(node_table_hosted(&table, 1, 0)->load.n_running, 1);
    report.boot = 0;
    report.version = 100;
    assert_false(hear(&table, report, 1));
    node_table_done(&table);
}

static void test_a_restart_forgets(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load load;
    const uint64_t blocks[] = {1, 2};
    bool restarted;
    grid_table_init(&table);
    grid_table_hear(&table, 1, 0);
    assert_int_equal(node_table_sent(&table, 0, 0, 100, blocks, 2), 1);
    assert_int_equal(prefix_index_match(&table.prefixes, blocks, 2, 0), 2);
    struct node_report report = grid_report(0, 1, &load);
    report.boot = 2;
    assert_true(node_table_report(&table, &report, 0, &restarted));
    assert_true(restarted);
    assert_int_equal(prefix_index_match(&table.prefixes, blocks, 2, 0), 0);
    assert_int_equal(node_table_hosted(&table, 0, 0)->n_outstanding, 0);
    node_table_done(&table);
}

static void test_what_was_sent_counts_until_a_report_covers_it(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load load;
    grid_table_init(&table);
    table.config.n_gateways = 3;
    grid_table_hear(&table, 1, 0);
    uint64_t first = node_table_sent(&table, 0, 0, 100, NULL, 0);
    (void)node_table_sent(&table, 0, 0, 50, NULL, 0);
    struct hosted_model *hosted = node_table_hosted(&table, 0, 0);
    assert_int_equal(hosted->unseen_prefill, 150);
    /* Two gateways like this one sent as much. */
    assert_true(node_table_requests(&table, hosted) == 6);
    struct node_report report = grid_report(0, 2, &load);
    report.covers = first;
    load.n_running = 1;
    assert_true(hear(&table, report, 1));
    hosted = node_table_hosted(&table, 0, 0);
    assert_int_equal(hosted->unseen_prefill, 50);
    assert_int_equal(hosted->n_outstanding, 2);
    assert_true(node_table_requests(&table, hosted) == 4);
    /* The covered one ends: the report knows it no more than we do. */
    node_table_ended(&table, 0, 0, first, false);
    assert_true(node_table_requests(&table, hosted) == 3);
    node_table_ended(&table, 0, 0, first + 1, true);
    assert_true(node_table_requests(&table, hosted) == 0);
    assert_int_equal(hosted->n_outstanding, 0);
    node_table_done(&table);
}

static void test_more_sends_than_are_remembered(void **state)
{
    (void)state;
    struct node_table table;
    grid_table_init(&table);
    grid_table_hear(&table, 1, 0);
    for (int i = 0; i < NODE_UNSEEN_MAX + 10; i++) (void)node_table_sent(&table, 0, 0, 1, NULL, 0);
    struct hosted_model *hosted = node_table_hosted(&table, 0, 0);
    assert_int_equal(hosted->n_unseen, NODE_UNSEEN_MAX);
    assert_int_equal(hosted->unseen_prefill, NODE_UNSEEN_MAX);
    assert_int_equal(hosted->n_outstanding, NODE_UNSEEN_MAX + 10);
    node_table_done(&table);
}

static void test_silence(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load load;
    grid_table_init(&table);
    int64_t suspect_ns = table.config.suspect_ns, dead_ns = table.config.dead_ns;
    assert_int_equal(node_table_next_silence(&table), SCHED_NEVER);
    grid_table_hear(&table, 2, 0);
    assert_int_equal(node_table_next_silence(&table), suspect_ns);
    assert_int_equal(node_table_next_dead(&table, suspect_ns - 1), NODE_NONE);
    assert_int_equal(table.nodes[0].health, NODE_ALIVE);
    assert_int_equal(node_table_next_dead(&table, suspect_ns), NODE_NONE);
    assert_int_equal(table.nodes[0].health, NODE_SUSPECT);
    assert_true(hear(&table, grid_report(0, 2, &load), dead_ns - 1));
    assert_int_equal(table.nodes[0].health, NODE_ALIVE);
    assert_int_equal(node_table_next_dead(&table, dead_ns), 1);
    assert_int_equal(table.nodes[1].health, NODE_DEAD);
    assert_int_equal(table.n_by_model[0], 1);
    assert_int_equal(node_table_next_dead(&table, dead_ns), NODE_NONE);
    /* Any word keeps a node alive, and brings a suspect one back, but not a dead one. */
    int64_t later_ns = dead_ns - 1 + suspect_ns;
    assert_int_equal(node_table_next_dead(&table, later_ns), NODE_NONE);
    assert_int_equal(table.nodes[0].health, NODE_SUSPECT);
    node_table_heard(&table, 0, later_ns);
    node_table_heard(&table, 1, later_ns);
    node_table_heard(&table, NODE_NONE, later_ns);
    assert_int_equal(table.nodes[0].health, NODE_ALIVE);
    assert_int_equal(table.nodes[1].health, NODE_DEAD);
    assert_int_equal(node_table_next_silence(&table), later_ns + suspect_ns);
    assert_true(hear(&table, grid_report(1, 2, &load), dead_ns));
    assert_int_equal(table.nodes[1].health, NODE_ALIVE);
    assert_int_equal(table.n_by_model[0], 2);
    node_table_done(&table);
}

static void test_gone_for_sure(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load load;
    grid_table_init(&table);
    grid_table_hear(&table, 1, 0);
    node_table_gone(&table, 0);
    assert_int_equal(table.nodes[0].health, NODE_DEAD);
    struct node_report late = grid_report(0, 99, &load);
    assert_false(hear(&table, late, 1));
    late.boot = 2;
    assert_true(hear(&table, late, 1));
    node_table_gone(&table, 12345); /* nobody */
    node_table_done(&table);
}

static void test_ready_lists_follow_the_reports(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load loads[2];
    grid_table_init(&table);
    grid_table_hear(&table, 3, 0);
    assert_int_equal(table.n_by_model[0], 3);
    struct node_report report = grid_report(1, 2, loads);
    loads[1] = loads[0];
    loads[1].model = 1;
    loads[0].state = SCHED_LOADING;
    report.n_hosted = 2;
    assert_true(hear(&table, report, 1));
    assert_int_equal(table.n_by_model[0], 2);
    assert_int_equal(table.n_by_model[1], 1);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(node_table_hosted(&table, table.by_model[i], 0)->rank, i);
    node_table_done(&table);
}

static void test_a_report_with_nonsense_is_not_taken(void **state)
{
    (void)state;
    struct node_table table;
    struct hosted_load loads[2];
    grid_table_init(&table);
    struct node_report report = grid_report(0, 1, loads);
    report.node = 8;
    assert_false(hear(&table, report, 0));
    report = grid_report(0, 1, loads);
    loads[0].model = 2;
    assert_false(hear(&table, report, 0));
    report = grid_report(0, 1, loads);
    loads[0].prefill_tps = NAN;
    assert_false(hear(&table, report, 0));
    report = grid_report(0, 1, loads);
    loads[0].prefill_backlog = UINT64_MAX;
    assert_false(hear(&table, report, 0));
    report = grid_report(0, 1, loads);
    report.facts.rtt_s = -1;
    assert_false(hear(&table, report, 0));
    report = grid_report(0, 1, loads);
    loads[1] = loads[0];
    report.n_hosted = 2;
    assert_false(hear(&table, report, 0));
    assert_int_equal(table.nodes[0].health, NODE_UNKNOWN);
    node_table_done(&table);
}

static void test_configuration_is_checked(void **state)
{
    (void)state;
    struct node_table table;
    struct node_table_config config;
    struct sl_err err;
    node_table_config_default(&config);
    config.n_nodes_max = NODE_TABLE_NODES_LIMIT + 1;
    assert_int_equal(node_table_init(&table, &config, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "n_nodes_max"));
    node_table_config_default(&config);
    config.dead_ns = config.suspect_ns - 1;
    assert_int_equal(node_table_init(&table, &config, &err), SL_INVALID);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct node_table table;
    struct node_table_config config;
    struct sl_err err;
    node_table_config_default(&config);
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        sl_mem_fail_at(nth, false);
        sl_status status = node_table_init(&table, &config, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) {
            assert_int_equal(status, SL_OK);
            break;
        }
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    node_table_done(&table);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_report_never_goes_back),
        cmocka_unit_test(test_a_restart_forgets),
        cmocka_unit_test(test_what_was_sent_counts_until_a_report_covers_it),
        cmocka_unit_test(test_more_sends_than_are_remembered),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_gone_for_sure),
        cmocka_unit_test(test_ready_lists_follow_the_reports),
        cmocka_unit_test(test_a_report_with_nonsense_is_not_taken),
        cmocka_unit_test(test_configuration_is_checked),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
