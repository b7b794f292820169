/* head_part_test.c: a chain whose head has no file: it fetches what its stage needs from a member
 * that is in no chain, and so does its follower; what is here of the model is good for that and for
 * nothing else. */
#include "grid/head_part.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/no_memory.h"
#include "support/split_fixture.h"

#define HEAD 0
#define HOLDER 2

static const int32_t BORDERS[] = {0, 3, SPLIT_LAYERS};

struct bench {
    struct split_fixture f;
    struct head_parts *heads;
    char digest[STORE_DIGEST_SIZE];
    int n_done;
    sl_status status;
    char message[SL_ERR_TEXT_MAX];
};

static struct bench b;

static void on_done(void *ctx, const char *model, const struct sl_err *why)
{
    assert_ptr_equal(ctx, &b);
    assert_string_equal(model, SPLIT_MODEL);
    b.n_done++;
    b.status = why ? why->status : SL_OK;
    snprintf(b.message, sizeof b.message, "%s", why ? why->text : "");
}

static struct node *head_node(void)
{
    return b.f.machines[HEAD].node;
}

static int setup(void **state)
{
    struct store_model model;
    if (temp_dir_setup(state) != 0) return -1;
    memset(&b, 0, sizeof b);
    split_fixture_init(&b.f);
    b.f.has_model[HEAD] = false;
    b.f.has_model[HOLDER] = true;
    split_fixture_start(&b.f);
    const struct head_parts_cfg cfg = {
        .parts = b.f.parts[HEAD], .node = head_node(), .on_done = on_done, .ctx = &b};
    if (head_parts_create(&cfg, &b.heads, NULL) != SL_OK) return -1;
    if (store_find(b.f.machines[HOLDER].store, SPLIT_MODEL, &model, NULL) != SL_OK) return -1;
    memcpy(b.digest, model.digest, sizeof b.digest);
    store_model_done(&model);
    return 0;
}

/* As the service ends: the node, then who gave it parts, then the parts. */
static int teardown(void **state)
{
    node_set_links(head_node(), NULL);
    stage_host_destroy(b.f.hosts[HEAD]);
    b.f.hosts[HEAD] = NULL;
    node_destroy(head_node());
    b.f.machines[HEAD].node = NULL;
    head_parts_destroy(b.heads);
    split_fixture_done(&b.f);
    return temp_dir_teardown(state);
}

static struct grid_source holder(void)
{
    const struct stage_member *member = &b.f.grid.members[HOLDER];
    return (struct grid_source){member->who.id, member->address};
}

/* With what lets the follower know whom to ask. */
static void pin(const struct grid_split *split)
{
    const struct grid_source source = holder();
    struct grid_sources sources;
    struct sl_err err = SL_ERR_INIT;
    grid_sources_set(&sources, &source, 1);
    if (node_pin_split(head_node(), SPLIT_MODEL, split, &sources, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void fetch(const struct grid_split *split, const char *digest)
{
    const struct grid_source source = holder();
    const struct grid_control control = {.kind = GRID_CONTROL_LOAD,
                                         .model = SPLIT_MODEL,
                                         .digest = digest,
                                         .sources = &source,
                                         .n_sources = 1,
                                         .split = split};
    struct sl_err err = SL_ERR_INIT;
    int n = b.n_done + 1;
    if (head_parts_fetch(b.heads, &control, &err) != SL_OK) fail_msg("%s", err.text);
    STAGE_FIXTURE_UNTIL(&b.f.grid, b.n_done == n);
}

static void answer(struct node_fixture *machine, char out[ASK_TEXT_MAX])
{
    const struct node_submit submit = ask_for(SPLIT_MODEL, "One day a small bird");
    static struct ask asked;
    ask(machine, &asked, &submit);
    finish(machine, &asked);
    snprintf(out, ASK_TEXT_MAX, "%s", asked.choices[0].text);
}

static void test_answers_as_the_whole(void **state)
{
    static char whole[ASK_TEXT_MAX], parts[ASK_TEXT_MAX];
    struct store_models models;
    struct node_model model;
    (void)state;
    const struct grid_split *split = split_over(&b.f, 2, BORDERS);
    fetch(split, b.digest);
    assert_string_equal(b.message, "");
    assert_true(node_has_part(head_node(), SPLIT_MODEL, split));
    pin(split);
    split_wait_ready(&b.f);
    answer(&b.f.machines[HEAD], parts);
    answer(&b.f.machines[HOLDER], whole);
    assert_string_equal(parts, whole);
    assert_true(model_state(&b.f.machines[HEAD], SPLIT_MODEL, &model));
    assert_true(model.part);
    assert_int_equal(store_list(b.f.machines[HEAD].store, &models, NULL), SL_OK);
    assert_int_equal(models.n, 1); /* the bundled one */
    store_models_done(&models);
}

/* Never whole, and never with layers that are not here. */
static void test_good_for_nothing_else(void **state)
{
    static const int32_t wider[] = {0, 4, SPLIT_LAYERS};
    static const int32_t narrower[] = {0, 2, SPLIT_LAYERS};
    struct ask asked;
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    fetch(split_over(&b.f, 2, BORDERS), b.digest);
    assert_int_equal(b.status, SL_OK);
    assert_false(node_has_part(head_node(), SPLIT_MODEL, NULL));
    assert_false(node_has_part(head_node(), SPLIT_MODEL, split_over(&b.f, 2, wider)));
    assert_true(node_has_part(head_node(), SPLIT_MODEL, split_over(&b.f, 2, narrower)));
    assert_int_equal(
        node_pin_split(head_node(), SPLIT_MODEL, split_over(&b.f, 2, wider), NULL, &err),
        SL_INVALID);
    assert_int_equal(node_pin_split(head_node(), SPLIT_MODEL, NULL, NULL, &err), SL_UNSUPPORTED);
    const struct node_submit submit = ask_for(SPLIT_MODEL, "x");
    ask(&b.f.machines[HEAD], &asked, &submit); /* without a split it does not load */
    while (!ask_ended(&asked)) turn(&b.f.machines[HEAD]);
    assert_true(asked.failed);
    assert_true(model_state(&b.f.machines[HEAD], SPLIT_MODEL, &model));
    assert_int_equal(model.pid, 0);
    assert_non_null(strstr(model.last_error, "only some of its layers"));
}

/* With its split the model goes, and the file is nobody's. */
static void test_is_released_with_its_split(void **state)
{
    static const int32_t other[] = {0, 2, SPLIT_LAYERS};
    struct node_model model;
    uint64_t freed = 0;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    fetch(split_over(&b.f, 2, BORDERS), b.digest);
    fetch(split_over(&b.f, 2, other), b.digest); /* in place of the first */
    pin(split_over(&b.f, 2, other));
    split_wait_ready(&b.f);
    assert_int_equal(store_sweep(b.f.machines[HEAD].store, &freed, &err), SL_OK);
    assert_int_equal(freed, 0);
    assert_int_equal(node_stop(head_node(), SPLIT_MODEL, &err), SL_OK);
    while (model_state(&b.f.machines[HEAD], SPLIT_MODEL, &model)) turn(&b.f.machines[HEAD]);
    while (freed == 0) { /* its worker goes after it */
        assert_int_equal(store_sweep(b.f.machines[HEAD].store, &freed, &err), SL_OK);
        turn(&b.f.machines[HEAD]);
    }
}

/* What ran when the chain went elsewhere can be had there: it is not that there is no such
 * model. */
static void test_what_ran_may_be_asked_elsewhere(void **state)
{
    static struct ask asked;
    struct node_submit submit = ask_for(SPLIT_MODEL, "One day a small bird");
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    submit.max_tokens = 200;
    fetch(split_over(&b.f, 2, BORDERS), b.digest);
    pin(split_over(&b.f, 2, BORDERS));
    split_wait_ready(&b.f);
    assert_true(model_state(&b.f.machines[HEAD], SPLIT_MODEL, &model));
    ask(&b.f.machines[HEAD], &asked, &submit);
    while (!asked.n_started) turn(&b.f.machines[HEAD]);
    assert_int_equal(node_stop(head_node(), SPLIT_MODEL, &err), SL_OK);
    assert_int_equal(kill(model.pid, SIGKILL), 0);
    while (!ask_ended(&asked)) turn(&b.f.machines[HEAD]);
    assert_true(asked.failed);
    assert_int_equal(asked.end.status, SL_UNAVAILABLE);
}

static void test_nobody_has_it(void **state)
{
    char digest[STORE_DIGEST_SIZE];
    (void)state;
    memcpy(digest, b.digest, sizeof digest);
    memset(digest, '0', 8);
    fetch(split_over(&b.f, 2, BORDERS), digest);
    assert_int_equal(b.status, SL_NOT_FOUND);
    assert_true(*b.message);
    assert_false(node_has_part(head_node(), SPLIT_MODEL, split_over(&b.f, 2, BORDERS)));
}

static sl_status create_once(void *ctx)
{
    struct head_parts *heads;
    sl_status status = head_parts_create(ctx, &heads, NULL);
    if (status == SL_OK) head_parts_destroy(heads);
    return status;
}

static void test_without_memory(void **state)
{
    struct head_parts_cfg cfg = {0};
    (void)state;
    no_memory_each(create_once, &cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_as_the_whole),
        TEST(test_good_for_nothing_else),
        TEST(test_is_released_with_its_split),
        TEST(test_what_ran_may_be_asked_elsewhere),
        TEST(test_nobody_has_it),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
