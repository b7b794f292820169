/* The facade on one machine: requests, cancellation and models go straight to the node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grid/grid.h"
#include "support/node_fixture.h"
#include "support/temp_dir.h"

struct told {
    struct grid_request *handle;
    int n_tokens, n_ends;
    bool cancels;
};

static void on_event(void *ctx, const struct node_event *event)
{
    struct told *told = ctx;
    if (event->type == NODE_EVENT_TOKEN) told->n_tokens++;
    if (event->type == NODE_EVENT_DONE || event->type == NODE_EVENT_FAILED) told->n_ends++;
    if (told->cancels) {
        grid_cancel(told->handle);
        told->cancels = false;
    }
}

static void submit(struct grid *grid, const char *model, struct told *told)
{
    const struct node_submit request = ask_for(model, "hello");
    int64_t retry_after_ms;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(
        grid_submit(grid, &request, on_event, told, &told->handle, &retry_after_ms, &err), SL_OK);
}

static void test_passes_through(void **state)
{
    struct node_fixture f;
    struct grid *grid;
    struct told told = {0}, ends_in_event = {.cancels = true};
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(grid_create(f.node, NULL, &grid, &err), SL_OK);
    submit(grid, "echo:", &told);
    assert_int_equal(told.n_tokens, 0);
    while (!told.n_ends) turn(&f);
    assert_int_equal(told.n_tokens, 5);
    submit(grid, "echo:?tokens=30000&pace_us=1000", &ends_in_event);
    while (ends_in_event.cancels) turn(&f);
    assert_int_equal(ends_in_event.n_ends, 0);
    assert_int_equal(grid_model_find(grid, "echo:", &model, &err), SL_OK);
    assert_int_not_equal(model.pid, 0);
    assert_int_equal(grid_stop(grid, "echo:", &err), SL_OK);
    assert_int_equal(grid_model_find(grid, "nobody", &model, &err), SL_NOT_FOUND);
    assert_ptr_equal(grid_node(grid), f.node);
    assert_null(grid_dispatch(grid));
    grid_destroy(grid);
    node_fixture_done(&f);
}

static void test_drops_what_lives(void **state)
{
    struct node_fixture f;
    struct grid *grid;
    struct told told[2] = {{0}, {0}};
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(grid_create(f.node, NULL, &grid, &err), SL_OK);
    submit(grid, "echo:?tokens=30000&pace_us=1000", &told[0]);
    submit(grid, "echo:?tokens=30000&pace_us=1000", &told[1]);
    while (!told[0].n_tokens) turn(&f);
    grid_destroy(grid);
    assert_int_equal(told[0].n_ends + told[1].n_ends, 0);
    node_fixture_done(&f);
}

static void test_without_memory(void **state)
{
    struct grid *grid = NULL;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    size_t live = sl_mem_live();
    sl_mem_fail_at(1, false);
    assert_int_equal(grid_create(NULL, NULL, &grid, &err), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_null(grid);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_passes_through, temp_dir_setup, temp_dir_teardown),
        cmocka_unit_test_setup_teardown(test_drops_what_lives, temp_dir_setup, temp_dir_teardown),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
