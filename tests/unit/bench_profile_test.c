/* bench_profile_test.c: measurements as an entry of a nodes file, which the simulator takes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>

#include "cli/bench_profile.h"
#include "cli/sim_nodes_file.h"

static struct bench_profile profile_make(void)
{
    return (struct bench_profile){.name = "box",
                                  .n_slots = 8,
                                  .prefill_chunk = 512,
                                  .prefill_group = 32,
                                  .kv_tokens = 4096,
                                  .shorter = {32, 0.042}, /* 10 ms, and 1 ms a token */
                                  .longer = {132, 0.142},
                                  .steps = {{1, 0.010}, {2, 0.009}, {4, 0.020}},
                                  .n_steps = 3,
                                  .context_tokens = 100,
                                  .context_step_s = 0.011};
}

static void read_back(const struct bench_profile *profile, struct sim_nodes *out)
{
    struct sl_buf text;
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(&text, 1 << 16);
    assert_int_equal(sl_buf_addf(&text, "models: [{name: m}]\nnodes:\n"), SL_OK);
    assert_int_equal(bench_profile_write(profile, &text), SL_OK);
    sl_status status = sim_nodes_read(text.data, text.len, out, &err);
    if (status != SL_OK) print_message("%s\n%s\n", text.data, err.text);
    assert_int_equal(status, SL_OK);
    sl_buf_done(&text);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-6;
}

static void test_an_entry_is_read_back(void **state)
{
    (void)state;
    struct bench_profile profile = profile_make();
    struct sim_nodes grid;
    read_back(&profile, &grid);
    const struct sim_node *node = &grid.nodes[0];
    assert_string_equal(node->name, "box");
    assert_true(fabs(node->prefill_tps - 1000) < 0.1);
    assert_true(near(node->prefill_fixed_s, 0.010));
    assert_true(near(node->context_s, 0.00001));
    assert_int_equal(node->n_steps, 3);
    assert_true(near(node->steps[1].seconds, 0.010)); /* two streams take no less than one */
    assert_true(near(node->steps[2].seconds, 0.020));
    assert_int_equal(node->n_slots, 8);
    assert_int_equal(node->kv_tokens, 4096);
    assert_int_equal(node->prefill_group, 32);
    sim_nodes_done(&grid);
}

/* A long prompt that is faster by the token says nothing of a fixed part below nothing. */
static void test_noise_makes_no_nonsense(void **state)
{
    (void)state;
    struct bench_profile profile = profile_make();
    struct sim_nodes grid;
    profile.shorter.seconds = 0.010;
    profile.context_step_s = 0.001;
    read_back(&profile, &grid);
    assert_true(grid.nodes[0].prefill_fixed_s == 0 && grid.nodes[0].context_s == 0);
    assert_true(fabs(grid.nodes[0].prefill_tps - 132 / 0.142) < 0.1);
    sim_nodes_done(&grid);
    profile.longer.seconds = 0.005;
    read_back(&profile, &grid);
    assert_true(fabs(grid.nodes[0].prefill_tps - 132 / 0.005) < 0.1);
    sim_nodes_done(&grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry_is_read_back),
        cmocka_unit_test(test_noise_makes_no_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
