/* chain_test.c: a real model over two and three members: nodes, links over TLS and over the bus,
 * and worker processes, in one test process. What it says is what the whole model says, whatever
 * dies in between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/chain.h"
#include "support/split_fixture.h"

#define N_TOKENS 120
#define PROMPT "Once upon a time there was a bird"

static struct split_fixture f;
static const int32_t HALVES[] = {0, 2, SPLIT_LAYERS};
static const int32_t THIRDS[] = {0, 2, 3, SPLIT_LAYERS};

static int set_up(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    split_fixture_init(&f);
    return 0;
}

static int tear_down(void **state)
{
    split_fixture_done(&f);
    return temp_dir_teardown(state);
}

static struct node_submit story(void)
{
    struct node_submit submit = ask_for(SPLIT_MODEL, PROMPT);
    submit.max_tokens = N_TOKENS;
    submit.ignore_end = true;
    return submit;
}

/* What the second member's node, which has the whole model, says to the same. */
static void expect_same(const struct ask *told)
{
    struct ask whole;
    const struct node_submit submit = story();
    ask(&f.machines[1], &whole, &submit);
    finish(&f.machines[1], &whole);
    assert_int_equal(told->choices[0].n_generated, whole.choices[0].n_generated);
    assert_string_equal(told->choices[0].text, whole.choices[0].text);
}

static void tell_story(struct ask *a)
{
    const struct node_submit submit = story();
    ask(&f.machines[0], a, &submit);
    finish(&f.machines[0], a);
}

static void start(size_t n_stages)
{
    f.has_model[1] = true;
    split_fixture_start(&f);
    split_pin(&f, split_over(&f, n_stages, n_stages == 2 ? HALVES : THIRDS));
    split_wait_ready(&f);
}

/* --- it works --- */

static void two_members_tell_the_same_story_as_one(void **state)
{
    struct ask a;
    struct node_model model;
    struct node_stats stats;
    (void)state;
    start(2);
    assert_int_equal(split_stages_at(&f, 1), 1);
    assert_true(model_state(&f.machines[0], SPLIT_MODEL, &model));
    assert_non_null(model.split);
    assert_int_equal(model.split->n_stages, 2);
    node_stats_get(f.machines[1].node, &stats);
    assert_true(stats.charged_bytes > 0 && stats.memory_used_bytes == stats.charged_bytes);
    tell_story(&a);
    expect_same(&a);
}

static void three_members_tell_it_too(void **state)
{
    struct ask a;
    (void)state;
    start(3);
    tell_story(&a);
    assert_int_equal(split_stages_at(&f, 1) + split_stages_at(&f, 2), 2);
    expect_same(&a);
}

static void over_the_bus_too(void **state)
{
    struct ask a;
    (void)state;
    f.relayed = true;
    start(3);
    tell_story(&a);
    expect_same(&a);
}

static void several_requests_run_at_once(void **state)
{
    struct ask a[4];
    (void)state;
    start(2);
    const struct node_submit submit = story();
    for (int i = 0; i < 4; i++) ask(&f.machines[0], &a[i], &submit);
    for (int i = 0; i < 4; i++) finish(&f.machines[0], &a[i]);
    for (int i = 1; i < 4; i++) assert_string_equal(a[i].choices[0].text, a[0].choices[0].text);
}

static void a_member_without_the_file_fetches_its_part(void **state)
{
    struct ask a;
    (void)state;
    split_fixture_start(&f);
    split_pin(&f, split_over(&f, 3, THIRDS));
    split_wait_ready(&f);
    tell_story(&a);
    struct sl_err err = SL_ERR_INIT;
    struct store_model model;
    assert_int_equal(store_find(f.machines[1].store, SPLIT_MODEL, &model, &err), SL_NOT_FOUND);
}

/* --- it changes --- */

static void the_same_split_again_changes_nothing(void **state)
{
    (void)state;
    start(2);
    int pid = model_pid(&f.machines[0], SPLIT_MODEL);
    split_pin(&f, split_over(&f, 2, HALVES));
    for (int i = 0; i < 5; i++) turn(&f.machines[0]);
    assert_int_equal(model_pid(&f.machines[0], SPLIT_MODEL), pid);
}

static void a_new_split_takes_over_in_the_middle(void **state)
{
    struct ask a;
    (void)state;
    start(2);
    const struct node_submit submit = story();
    ask(&f.machines[0], &a, &submit);
    wait_until(&f.machines[0], ask_has_token, &a);
    split_pin(&f, split_over(&f, 3, THIRDS));
    finish(&f.machines[0], &a);
    assert_int_equal(split_stages_at(&f, 1) + split_stages_at(&f, 2), 2);
    expect_same(&a);
}

static void a_whole_model_takes_over_in_the_middle(void **state)
{
    struct ask a;
    struct node_model model;
    (void)state;
    start(2);
    const struct node_submit submit = story();
    ask(&f.machines[0], &a, &submit);
    wait_until(&f.machines[0], ask_has_token, &a);
    split_pin(&f, NULL);
    finish(&f.machines[0], &a);
    assert_true(model_state(&f.machines[0], SPLIT_MODEL, &model));
    assert_null(model.split);
    assert_int_equal(split_stages_at(&f, 1), 0);
    expect_same(&a);
}

static void unloading_ends_all_stages(void **state)
{
    struct node_stats stats;
    struct node_model model;
    (void)state;
    start(3);
    assert_int_equal(node_stop(f.machines[0].node, SPLIT_MODEL, NULL), SL_OK);
    while (split_stages_at(&f, 1) + split_stages_at(&f, 2)) turn(&f.machines[0]);
    wait_for_pid(&f.machines[0], SPLIT_MODEL, false);
    node_stats_get(f.machines[1].node, &stats);
    assert_int_equal(stats.charged_bytes, 0);
    assert_true(model_state(&f.machines[0], SPLIT_MODEL, &model));
    assert_null(model.split); /* a plan is not kept for the next load */
}

/* --- it breaks --- */

static void a_dead_worker_of_another_member_is_a_pause(void **state)
{
    struct ask a;
    (void)state;
    start(2);
    const struct node_submit submit = story();
    ask(&f.machines[0], &a, &submit);
    wait_until(&f.machines[0], ask_has_token, &a);
    int pid = split_follower_pid(&f);
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    finish(&f.machines[0], &a);
    assert_int_equal(a.end.n_attempts, 2);
    expect_same(&a);
}

static void the_heads_own_worker_may_die(void **state)
{
    struct ask a;
    (void)state;
    start(2);
    const struct node_submit submit = story();
    ask(&f.machines[0], &a, &submit);
    wait_until(&f.machines[0], ask_has_token, &a);
    kill_worker(&f.machines[0], SPLIT_MODEL);
    finish(&f.machines[0], &a);
    expect_same(&a);
    assert_int_equal(split_stages_at(&f, 1), 1);
}

static void a_member_that_leaves_fails_the_requests_elsewhere(void **state)
{
    struct ask a;
    (void)state;
    start(2);
    const struct node_submit submit = story();
    ask(&f.machines[0], &a, &submit);
    wait_until(&f.machines[0], ask_has_token, &a);
    stage_host_destroy(f.hosts[1]);
    f.hosts[1] = NULL;
    wait_until(&f.machines[0], ask_ended, &a);
    assert_true(a.failed);
    assert_int_equal(a.end.status, SL_UNAVAILABLE);
    assert_non_null(strstr(a.message, "stage 1"));
}

static void what_does_not_fit_is_refused_with_numbers(void **state)
{
    struct node_model model;
    (void)state;
    f.machines[1].cfg.memory_bytes = 1 << 20;
    f.has_model[1] = true;
    split_fixture_start(&f);
    split_pin(&f, split_over(&f, 2, HALVES));
    do turn(&f.machines[0]);
    while (model_state(&f.machines[0], SPLIT_MODEL, &model) && !*model.last_error);
    assert_non_null(strstr(model.last_error, "of memory"));
    assert_non_null(strstr(model.last_error, "1.0 MiB of 1.0 MiB are available"));
}

static void some_splits_are_refused_at_once(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct grid_split split;
    struct grid_stage stages[2];
    (void)state;
    split_fixture_start(&f);
    struct node *node = f.machines[0].node;
    const struct grid_split *good = split_over(&f, 2, HALVES);
    split = *good;
    memcpy(stages, good->stages, sizeof stages);
    split.stages = stages;
    stages[1].first = 3; /* a gap */
    assert_int_equal(node_pin_split(node, SPLIT_MODEL, &split, NULL, &err), SL_INVALID);
    memcpy(stages, good->stages, sizeof stages);
    stages[0].member = f.grid.members[2].who.id;
    assert_int_equal(node_pin_split(node, SPLIT_MODEL, &split, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "not this member"));
    split = *good;
    split.n_ctx = split.n_seqs = INT32_MAX;
    assert_int_equal(node_pin_split(node, SPLIT_MODEL, &split, NULL, &err), SL_INVALID);
    assert_int_equal(node_pin_split(node, "nosuchmodel", good, NULL, &err), SL_NOT_FOUND);
    node_set_links(node, NULL);
    assert_int_equal(node_pin_split(node, SPLIT_MODEL, good, NULL, &err), SL_UNSUPPORTED);
}

/* --- the chain alone --- */

static struct {
    bool ready, ended;
    struct sl_err why;
} told;

static void on_ready(void *ctx)
{
    (void)ctx;
    told.ready = true;
}

static void on_data(void *ctx, int32_t from, const void *bytes, size_t n)
{
    (void)ctx, (void)from, (void)bytes, (void)n;
}

static void on_end(void *ctx, const struct sl_err *why)
{
    (void)ctx;
    told.ended = true;
    told.why = *why;
}

static struct chain_cfg chain_cfg(const struct grid_split *split)
{
    return (struct chain_cfg){
        .links = f.grid.members[0].links, .model = "none", .digest = "00", .split = split};
}

static const struct chain_callbacks CALLBACKS = {
    .on_ready = on_ready, .on_data = on_data, .on_end = on_end};

static void a_chain_to_nobody_ends(void **state)
{
    struct chain *chain;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    memset(&told, 0, sizeof told);
    stage_fixture_start(&f.grid); /* links, and nobody who takes stages */
    const struct chain_cfg cfg = chain_cfg(split_over(&f, 3, THIRDS));
    if (chain_open(&cfg, &CALLBACKS, NULL, &chain, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(chain_send(chain, 1, "x", 1), SL_UNAVAILABLE);
    assert_int_equal(chain_send(chain, 2, "x", 1), SL_INVALID);
    STAGE_FIXTURE_UNTIL(&f.grid, told.ended);
    assert_false(told.ready);
    assert_non_null(strstr(told.why.text, "takes no stages"));
    assert_false(chain_is_ready(chain));
    chain_close(chain);
}

static void a_chain_without_memory_leaves_nothing(void **state)
{
    sl_status status = SL_NOMEM;
    (void)state;
    stage_fixture_start(&f.grid);
    const struct chain_cfg cfg = chain_cfg(split_over(&f, 3, THIRDS));
    for (int i = 0; i < 3; i++) turn(&f.machines[0]);
    for (uint64_t n = 1; status != SL_OK && n < 400; n++) {
        struct chain *chain = NULL;
        const uint64_t before = sl_mem_live();
        sl_mem_fail_at(n, false);
        status = chain_open(&cfg, &CALLBACKS, NULL, &chain, NULL);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, chain != NULL);
        chain_close(chain);
        if (status != SL_OK) assert_int_equal(sl_mem_live(), before);
        if (hit) status = SL_NOMEM; /* a link that could not connect tells it later */
    }
    assert_int_equal(status, SL_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_members_tell_the_same_story_as_one),
        TEST(three_members_tell_it_too),
        TEST(over_the_bus_too),
        TEST(several_requests_run_at_once),
        TEST(a_member_without_the_file_fetches_its_part),
        TEST(the_same_split_again_changes_nothing),
        TEST(a_new_split_takes_over_in_the_middle),
        TEST(a_whole_model_takes_over_in_the_middle),
        TEST(unloading_ends_all_stages),
        TEST(a_dead_worker_of_another_member_is_a_pause),
        TEST(the_heads_own_worker_may_die),
        TEST(a_member_that_leaves_fails_the_requests_elsewhere),
        TEST(what_does_not_fit_is_refused_with_numbers),
        TEST(some_splits_are_refused_at_once),
        TEST(a_chain_to_nobody_ends),
        TEST(a_chain_without_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
