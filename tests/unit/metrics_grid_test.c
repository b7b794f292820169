/* metrics_grid_test.c: what a gateway knows of its grid as Prometheus text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "access/metrics_grid.h"
#include "support/metrics_text.h"
#include "support/no_memory.h"

static void fill(struct metrics_grid *grid)
{
    memset(grid, 0, sizeof *grid);
    grid->dispatch.n_members_suspect = 2;
    grid->dispatch.places = true;
    grid->dispatch.router.n_pending = 4294967295u;
    grid->dispatch.router.n_moved = 7;
    grid->dispatch.n_loads = UINT64_C(5000000000);
    grid->bus.connected = true;
    grid->bus.n_overflow = 3;
    grid->blobs.bytes_sent = 11;
    grid->fetch.n_from_members = 12;
    grid->parts = (struct fetch_part_stats){13, 1, UINT64_C(6000000000), 2};
    grid->links.n_relayed = 4;
    grid->members[0] = (struct metrics_grid_member){"nabc", "a \"b\"", 0.25};
    grid->members[1] = (struct metrics_grid_member){"nabd", "c", 1};
    grid->n_members = 2;
}

static void all_widths_are_written(void **state)
{
    (void)state;
    struct metrics_grid grid;
    struct sl_buf text;
    fill(&grid);
    sl_buf_init(&text, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write_grid(&grid, &text), SL_OK);
    assert_metrics_line(&text, "starlane_grid_members{state=\"alive\"} 0\n");
    assert_metrics_line(&text, "starlane_grid_members{state=\"suspect\"} 2\n");
    assert_metrics_line(&text, "starlane_grid_places 1\n");
    assert_metrics_line(&text, "starlane_grid_requests_pending 4294967295\n");
    assert_metrics_line(&text, "starlane_grid_requests_moved_total 7\n");
    assert_metrics_line(&text, "starlane_grid_loads_total 5000000000\n");
    assert_metrics_line(&text, "starlane_grid_bus_connected 1\n");
    assert_metrics_line(&text, "starlane_grid_bus_lost_total{reason=\"overflow\"} 3\n");
    assert_metrics_line(&text, "starlane_grid_blobs_sent_bytes_total 11\n");
    assert_metrics_line(&text, "starlane_grid_fetches_total{source=\"member\"} 12\n");
    assert_metrics_line(&text, "starlane_grid_part_fetches_total{end=\"done\"} 13\n");
    assert_metrics_line(&text, "starlane_grid_part_fetches_total{end=\"failed\"} 1\n");
    assert_metrics_line(&text, "starlane_grid_part_fetch_received_bytes_total 6000000000\n");
    assert_metrics_line(&text, "starlane_grid_part_fetch_bad_chunks_total 2\n");
    assert_metrics_line(&text, "starlane_grid_stage_links{transport=\"relayed\"} 4\n");
    assert_metrics_line(
        &text, "starlane_grid_member_rtt_seconds{member=\"nabc\",name=\"a \\\"b\\\"\"} 0.25\n");
    assert_metrics_line(&text, "starlane_grid_member_rtt_seconds{member=\"nabd\",name=\"c\"} 1\n");
    sl_buf_done(&text);
}

static void names_are_there_without_a_grid(void **state)
{
    (void)state;
    struct metrics_grid grid;
    struct sl_buf without, with;
    fill(&grid);
    sl_buf_init(&without, METRICS_TEXT_MAX);
    sl_buf_init(&with, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write_grid(NULL, &without), SL_OK);
    assert_int_equal(metrics_write_grid(&grid, &with), SL_OK);
    assert_null(strstr(without.data, "\nstarlane_grid"));
    assert_int_equal(metrics_count_text(without.data, "# TYPE "),
                     metrics_count_text(with.data, "# TYPE "));
    sl_buf_done(&without);
    sl_buf_done(&with);
}

static void a_name_of_any_length_fits(void **state)
{
    (void)state;
    struct metrics_grid grid;
    struct sl_buf text;
    char name[GRID_NAME_SIZE];
    fill(&grid);
    memset(name, '"', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (size_t i = 0; i < METRICS_GRID_MEMBERS_MAX; i++)
        grid.members[i] = (struct metrics_grid_member){"nabcdefghijklm", name, 0.1};
    grid.n_members = METRICS_GRID_MEMBERS_MAX;
    sl_buf_init(&text, METRICS_TEXT_MAX);
    assert_int_equal(metrics_write_grid(&grid, &text), SL_OK);
    assert_int_equal(metrics_count_text(text.data, "\nstarlane_grid_member_rtt_seconds{"),
                     METRICS_GRID_MEMBERS_MAX);
    sl_buf_done(&text);
}

static sl_status write_once(void *ctx)
{
    struct sl_buf text;
    sl_buf_init(&text, METRICS_TEXT_MAX);
    sl_status status = metrics_write_grid(ctx, &text);
    sl_buf_done(&text);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct metrics_grid grid;
    fill(&grid);
    no_memory_each(write_once, &grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_widths_are_written),
        cmocka_unit_test(names_are_there_without_a_grid),
        cmocka_unit_test(a_name_of_any_length_fits),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
