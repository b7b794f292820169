/* dispatch_hope_test.c: a model that needs room which another one has: when it waits for that, when
 * it is refused at once, and what is told of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/json_read.h"
#include "support/fake_grid.h"
#include "support/prop.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define MB UINT64_C(1000000)

static struct fake_grid grid;

/* Nobody has the model, which takes 1,000 MB; n1 has room for it but for what the lodger has. */
static int setup(void **state)
{
    (void)state;
    fake_grid_begin(&grid, 3);
    for (uint32_t i = 0; i < grid.n_nodes; i++) {
        grid.nodes[i].hosts = false;
        grid.nodes[i].memory_bytes = 100 * MB;
    }
    grid.nodes[1].memory_bytes = 1200 * MB;
    grid.nodes[1].lodger_bytes = 500 * MB;
    return 0;
}

/* n1 and n2 hold half of it each, and n2 has the lodger in the way. */
static int setup_split(void **state)
{
    setup(state);
    fake_grid_splits(&grid);
    grid.nodes[1].memory_bytes = grid.nodes[2].memory_bytes = 560 * MB;
    grid.nodes[1].lodger_bytes = 0;
    grid.nodes[2].lodger_bytes = 400 * MB;
    for (uint32_t i = 0; i < grid.n_nodes; i++) grid.nodes[i].rtt_s = 0.0002;
    return 0;
}

static void start(void)
{
    fake_grid_create(&grid);
    fake_grid_run(&grid, 1500 * MS);
}

static void pin_lodger(void)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(dispatch_pin(grid.dispatch, "lodger", &err), SL_OK);
    fake_grid_run(&grid, 10 * MS);
}

static void ask(struct fake_client *client)
{
    struct sl_err err = SL_ERR_INIT;
    fake_client_init(client, "who is there");
    sl_status status = fake_submit(&grid, client, &err);
    if (status != SL_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SL_OK);
}

static void check_refused(const char *words)
{
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    fake_client_init(&client, "who is there");
    client.retry_after_ms = -1;
    assert_int_equal(fake_submit(&grid, &client, &err), SL_UNAVAILABLE);
    if (!strstr(err.text, words)) print_error("%s\n", err.text);
    assert_non_null(strstr(err.text, words));
    assert_non_null(strstr(err.text, "pinned"));
    assert_int_equal(client.retry_after_ms, 0); /* no time mends it */
}

/* What explain says of the pinned models: "lodger:latest on n1, ...". */
static void check_held(const char *expected)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf out;
    struct sl_json_value *root;
    char told[256] = "";
    sl_buf_init(&out, 1 << 20);
    sl_json_begin(&json, &out, false);
    assert_int_equal(dispatch_explain_model(grid.dispatch, "parrot", &json, &err), SL_OK);
    assert_int_equal(sl_json_end(&json), SL_OK);
    assert_int_equal(sl_json_parse(out.data, out.len, &root, &err), SL_OK);
    const struct sl_json_value *held = sl_json_get(root, "held_by_pinned");
    assert_non_null(held);
    for (size_t i = 0; i < sl_json_size(held); i++) {
        const struct sl_json_value *row = sl_json_at(held, i);
        size_t n = strlen(told);
        snprintf(told + n, sizeof told - n, "%s%s on %s: %lld", n ? ", " : "",
                 sl_json_to_str(sl_json_get(row, "model"), "", NULL),
                 sl_json_to_str(sl_json_get(row, "node"), "", NULL),
                 (long long)sl_json_to_int(sl_json_get(row, "memory_bytes"), 0));
    }
    assert_string_equal(told, expected);
    assert_int_equal(sl_json_get(root, "why") != NULL, *expected != '\0');
    sl_json_free(root);
    sl_buf_done(&out);
}

static void test_a_pinned_model_in_the_way_is_named_at_once(void **state)
{
    (void)state;
    start();
    pin_lodger();
    check_refused("lodger:latest 476.8 MiB on n1");
    check_held("lodger:latest on n1: 500000000");
    fake_grid_end(&grid);
}

static void test_one_that_nobody_keeps_goes(void **state)
{
    struct fake_client client;
    (void)state;
    start();
    check_held("");
    ask(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    assert_int_equal(grid.nodes[1].lodger_bytes, 0);
    fake_grid_end(&grid);
}

static void test_what_is_unpinned_goes_after_all(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct fake_client client;
    (void)state;
    start();
    pin_lodger();
    check_refused("lodger:latest");
    assert_int_equal(dispatch_stop(grid.dispatch, "lodger", &err), SL_OK);
    ask(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    fake_grid_end(&grid);
}

/* One of two replicas may go, whoever wants the other. */
static void test_one_of_two_replicas_goes(void **state)
{
    struct fake_client client;
    (void)state;
    grid.nodes[0].memory_bytes = 600 * MB;
    grid.nodes[0].lodger_bytes = 500 * MB;
    start();
    pin_lodger();
    ask(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, 50 * S));
    fake_client_check(&client);
    assert_int_equal(grid.nodes[0].lodger_bytes + grid.nodes[1].lodger_bytes, 500 * MB);
    fake_grid_end(&grid);
}

static void test_who_waits_while_it_is_pinned_is_told(void **state)
{
    struct fake_client client;
    (void)state;
    grid.nodes[1].lodger_busy = true;
    start();
    ask(&client); /* a busy one may end some time */
    fake_grid_run(&grid, 10 * S);
    assert_false(client.ended);
    pin_lodger();
    assert_true(fake_grid_run_until_ended(&grid, &client, 10 * S));
    assert_int_equal(client.end.status, SL_UNAVAILABLE);
    assert_int_equal(client.end.retry_after_ms, 0);
    assert_non_null(strstr(client.message, "lodger:latest"));
    fake_grid_end(&grid);
}

static void test_a_pin_of_another_gateway_counts(void **state)
{
    const struct grid_demand_entry wanted = {
        .name = FAKE_LODGER, .digest = "lodger", .pinned = true};
    const struct grid_msg msgs[] = {
        {.type = GRID_REPORT,
         .report = {.boot = 1, .version = 1, .name = "", .address = "", .program = "", .site = ""}},
        {.type = GRID_DEMAND, .demand = {.boot = 1, .v = &wanted, .n = 1}}};
    (void)state;
    start();
    for (int i = 0; i < 2; i++) {
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf out;
        sl_buf_init(&out, 1 << 16);
        assert_int_equal(grid_msg_encode(&msgs[i], &out, &err), SL_OK);
        dispatch_receive(grid.dispatch, "sl.report.a0", out.data, out.len);
        sl_buf_done(&out);
    }
    check_refused("lodger:latest");
    fake_grid_end(&grid);
}

/* --- over several members --- */

static void test_pinned_where_a_stage_would_be(void **state)
{
    (void)state;
    start();
    pin_lodger();
    check_refused("lodger:latest 381.5 MiB on n2");
    check_held("lodger:latest on n2: 400000000");
    fake_grid_end(&grid);
}

static void test_idle_models_give_way_to_a_chain(void **state)
{
    struct fake_client client;
    (void)state;
    start();
    ask(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    assert_non_null(fake_chain_head(&grid));
    assert_int_equal(grid.nodes[2].lodger_bytes, 0);
    fake_grid_end(&grid);
}

static void test_a_chain_waits_for_who_is_busy(void **state)
{
    struct fake_client client;
    (void)state;
    grid.nodes[2].lodger_busy = true;
    start();
    ask(&client);
    fake_grid_run(&grid, 20 * S);
    assert_false(client.ended);
    assert_int_equal(grid.nodes[2].lodger_bytes, 400 * MB);
    grid.nodes[2].lodger_busy = false;
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    fake_grid_end(&grid);
}

/* An idle model stays as long as what it has would not be enough for a chain. */
static void test_none_goes_in_vain(void **state)
{
    struct fake_client client;
    (void)state;
    grid.nodes[1].lodger_bytes = 400 * MB;
    grid.nodes[2].lodger_busy = true;
    start();
    ask(&client);
    fake_grid_run(&grid, 20 * S);
    assert_false(client.ended);
    assert_int_equal(grid.nodes[1].lodger_bytes, 400 * MB);
    grid.nodes[2].lodger_busy = false;
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    assert_int_equal(grid.nodes[1].lodger_bytes, 0);
    fake_grid_end(&grid);
}

/* What a pinned model has on the only member for all of it does not keep it from being split. */
static void test_around_a_pinned_model(void **state)
{
    struct fake_client client;
    (void)state;
    setup_split(NULL);
    grid.nodes[0].memory_bytes = 1400 * MB;
    grid.nodes[0].lodger_bytes = 800 * MB;
    grid.nodes[2].lodger_bytes = 0;
    start();
    pin_lodger();
    ask(&client);
    assert_true(fake_grid_run_until_ended(&grid, &client, 20 * S));
    fake_client_check(&client);
    assert_non_null(fake_chain_head(&grid));
    assert_int_equal(grid.nodes[0].lodger_bytes, 800 * MB);
    fake_grid_end(&grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_pinned_model_in_the_way_is_named_at_once, setup),
        cmocka_unit_test_setup(test_one_that_nobody_keeps_goes, setup),
        cmocka_unit_test_setup(test_what_is_unpinned_goes_after_all, setup),
        cmocka_unit_test_setup(test_one_of_two_replicas_goes, setup),
        cmocka_unit_test_setup(test_who_waits_while_it_is_pinned_is_told, setup),
        cmocka_unit_test_setup(test_a_pin_of_another_gateway_counts, setup),
        cmocka_unit_test_setup(test_pinned_where_a_stage_would_be, setup_split),
        cmocka_unit_test_setup(test_idle_models_give_way_to_a_chain, setup_split),
        cmocka_unit_test_setup(test_none_goes_in_vain, setup_split),
        cmocka_unit_test_setup(test_a_chain_waits_for_who_is_busy, setup_split),
        cmocka_unit_test_setup(test_around_a_pinned_model, setup),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
