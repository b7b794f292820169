/* dispatch_hostile_test.c: a node that was let in and lies: about what it is, what it has, and what
 * it has answered. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "support/fake_grid.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define LIAR "n2" /* fake_grid's third node */

static struct fake_grid grid;
static bool liar_is_member, liar_is_gateway;
static enum node_duty liar_duty;
static const char *liar_name; /* in the registry; NULL: not told */

static bool standing(void *ctx, const char *id, struct dispatch_standing *out)
{
    (void)ctx;
    bool liar = strcmp(id, LIAR) == 0;
    *out = (struct dispatch_standing){.gateway = !liar || liar_is_gateway,
                                      .duty = liar ? liar_duty : NODE_OPEN,
                                      .name = liar ? liar_name : NULL};
    return !liar || liar_is_member;
}

static int setup(void **state)
{
    (void)state;
    liar_is_member = true;
    liar_is_gateway = false;
    liar_duty = NODE_OPEN;
    liar_name = NULL;
    fake_grid_begin(&grid, 3);
    grid.cfg.standing = standing;
    return 0;
}

static void start(void)
{
    fake_grid_create(&grid);
    fake_grid_run(&grid, 1500 * MS);
}

static void say(const char *kind, const char *from, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    char subject[64];
    sl_buf_init(&out, GRID_MSG_BYTES_MAX);
    assert_int_equal(grid_msg_encode(msg, &out, &err), SL_OK);
    if (strcmp(kind, "report") == 0)
        snprintf(subject, sizeof subject, "sl.report.%s", from);
    else
        snprintf(subject, sizeof subject, "sl.%s.%s.%s", kind, grid.nodes[0].id, from);
    dispatch_receive(grid.dispatch, subject, out.data, out.len);
    sl_buf_done(&out);
}

static struct dispatch_stats stats(void)
{
    struct dispatch_stats out;
    dispatch_stats_get(grid.dispatch, &out);
    return out;
}

static void say_cards(const char *from, const struct grid_card *cards, size_t n)
{
    static uint64_t version = 1000;
    const struct grid_msg msg = {
        .type = GRID_CARDS,
        .cards = {.boot = UINT64_MAX, .version = version++, .v = cards, .n = n}};
    say("report", from, &msg);
}

static struct grid_card card_of(const char *name, const char *digest)
{
    return (struct grid_card){.name = name,
                              .digest = digest,
                              .bytes = 1000,
                              .memory_bytes = 1000,
                              .format = "gguf",
                              .family = "",
                              .parameter_size = "",
                              .quantization = ""};
}

static const char *digest_of(const char *name)
{
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    if (dispatch_model_find(grid.dispatch, name, &model, &err) != SL_OK) return NULL;
    return model.digest;
}

/* The live gateway with the lowest id places models: a node must not be taken for one. */
static void test_a_node_does_not_take_the_placement(void **state)
{
    (void)state;
    const struct grid_msg demand = {.type = GRID_DEMAND, .demand = {.boot = 1}};
    strcpy(grid.nodes[0].id, "n5"); /* the gateway's own */
    start();
    for (int i = 0; i < 5; i++) {
        say("report", LIAR, &demand);
        fake_grid_run(&grid, S);
        assert_true(stats().places);
    }
    liar_is_gateway = true;
    say("report", LIAR, &demand);
    fake_grid_run(&grid, S);
    assert_false(stats().places);
    fake_grid_end(&grid);
}

static void test_who_is_no_member_is_not_heard(void **state)
{
    (void)state;
    start();
    assert_true(dispatch_has_heard(grid.dispatch, LIAR));
    liar_is_member = false;
    dispatch_member_gone(grid.dispatch, LIAR);
    fake_grid_run(&grid, 3 * S); /* it reports on */
    assert_false(dispatch_has_heard(grid.dispatch, LIAR));
    fake_grid_end(&grid);
}

static void test_a_cordon_is_not_the_nodes_to_lift(void **state)
{
    (void)state;
    start();
    uint32_t n_before = grid.nodes[2].n_runs;
    liar_duty = NODE_CORDONED;
    fake_grid_run(&grid, 2 * S);
    static struct fake_client clients[20];
    for (size_t i = 0; i < 20; i++) {
        char text[32];
        struct sl_err err = SL_ERR_INIT;
        snprintf(text, sizeof text, "cordon %zu", i);
        fake_client_init(&clients[i], text);
        assert_int_equal(fake_submit(&grid, &clients[i], &err), SL_OK);
    }
    fake_grid_run(&grid, 30 * S);
    for (size_t i = 0; i < 20; i++) fake_client_check(&clients[i]);
    assert_int_equal(grid.nodes[2].n_runs, n_before);
    fake_grid_end(&grid);
}

static void test_a_name_keeps_its_meaning(void **state)
{
    (void)state;
    const struct grid_card honest = card_of("tale:1", "bb"), lie = card_of("tale:1", "aa");
    const struct grid_card shorter = card_of("tale", "aa"), odd = card_of("../tale", "aa");
    start();
    say_cards("n1", &honest, 1);
    assert_string_equal(digest_of("tale:1"), "bb");
    say_cards(LIAR, &lie, 1);
    say_cards("n7", &lie, 1);
    say_cards("n8", &lie, 1);
    assert_string_equal(digest_of("tale:1"), "bb");
    say_cards(LIAR, &shorter, 1);
    assert_string_equal(digest_of("tale"), "bb"); /* its highest number */
    say_cards(LIAR, &odd, 1);
    assert_null(digest_of("../tale"));
    /* Nobody has it any more: now it means the other. */
    say_cards("n1", NULL, 0);
    assert_string_equal(digest_of("tale:1"), "aa");
    fake_grid_end(&grid);
}

static void test_one_member_does_not_fill_the_catalogue(void **state)
{
    (void)state;
    enum { N = 2000 };
    static char names[N][32];
    static struct grid_card cards[N];
    const struct grid_card honest = card_of("tale:1", "bb");
    start();
    for (int turn = 0; turn < 4; turn++) {
        for (int i = 0; i < N; i++) {
            snprintf(names[i], sizeof names[i], "junk%d:%d", turn, i);
            cards[i] = card_of(names[i], "cc");
        }
        say_cards(LIAR, cards, N);
    }
    say_cards("n1", &honest, 1);
    assert_string_equal(digest_of("tale:1"), "bb");
    fake_grid_run(&grid, 2 * S);
    assert_true(stats().n_models <= DISPATCH_MODELS_OF_ONE + 8);
    fake_grid_end(&grid);
}

static void test_a_short_message_does_not_make_many(void **state)
{
    (void)state;
    enum { N = 60000 };
    static struct grid_beat_entry entries[N];
    start();
    for (uint32_t i = 0; i < N; i++)
        entries[i] = (struct grid_beat_entry){.request = 1000000 + i, .attempt = 1};
    struct grid_msg msg = {.type = GRID_BEAT,
                           .beat = {.boot = grid.cfg.boot, .v = entries, .n = N}};
    uint64_t n_before = stats().n_messages_out;
    say("answer", LIAR, &msg);
    assert_true(stats().n_messages_out > n_before);
    assert_true(stats().n_messages_out - n_before < 100);
    fake_grid_end(&grid);
}

/* What a node says of an answer ends in the client's bill, and in the router's sums. */
static void test_numbers_out_of_bounds_are_not_taken(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct grid_msg out;
    struct sl_buf bytes;
    sl_arena_init(&arena, 1 << 20);
    sl_buf_init(&bytes, 1 << 20);
    for (int i = 0; i < 7; i++) {
        struct grid_event event = {.node = {.type = NODE_EVENT_DONE, .message = ""}};
        if (i == 1) event.node.n_prompt = -1;
        if (i == 2) event.node.n_generated = -5;
        if (i == 3) event.node.queue_ns = INT64_MAX;
        if (i == 4) event.node.retry_after_ms = INT64_MAX;
        if (i == 5) event.node.n_cached = INT32_MAX;
        if (i == 6) event.node.total_ns = -1;
        const struct grid_msg msg = {
            .type = GRID_EVENTS,
            .events = {.request = 1, .attempt = 1, .first_seq = 1, .v = &event, .n = 1}};
        sl_buf_clear(&bytes);
        assert_int_equal(grid_msg_encode(&msg, &bytes, &err), SL_OK);
        assert_int_equal(grid_msg_decode(bytes.data, bytes.len, &arena, &out, &err),
                         i ? SL_CORRUPT : SL_OK);
    }
    sl_buf_done(&bytes);
    sl_arena_done(&arena);
}

static void say_report(const char *name, bool drained)
{
    const struct grid_msg msg = {.type = GRID_REPORT,
                                 .report = {.boot = grid.nodes[2].boot,
                                            .version = 1000000,
                                            .name = name,
                                            .address = "",
                                            .program = "",
                                            .site = "",
                                            .drained = drained,
                                            .facts = {.duty = NODE_DRAINING}}};
    say("report", LIAR, &msg);
}

static void keep_liar(void *ctx, const struct dispatch_member *member)
{
    if (strcmp(member->id, LIAR) == 0) *(struct dispatch_member *)ctx = *member;
}

static struct dispatch_member liar(void)
{
    struct dispatch_member member = {.id = NULL};
    dispatch_members(grid.dispatch, keep_liar, &member);
    assert_non_null(member.id);
    return member;
}

static void test_names_are_those_of_the_registry(void **state)
{
    (void)state;
    start();
    say_report("n0, honestly", false);
    assert_string_equal(liar().name, "n0, honestly");
    liar_name = "bonn-7";
    assert_string_equal(liar().name, "bonn-7");
    fake_grid_end(&grid);
}

static void test_who_was_drained_has_left_and_is_not_dead(void **state)
{
    (void)state;
    start();
    assert_false(liar().left);
    say_report("n2", true);
    grid.nodes[2].alive = false;
    assert_true(liar().drained);
    assert_false(liar().left); /* it may speak yet */
    fake_grid_run(&grid, 20 * S);
    assert_true(liar().left);
    assert_int_equal(stats().n_members_left, 1);
    assert_int_equal(stats().n_members_dead, 0);
    fake_grid_end(&grid);
}

/* What needs no file has no card anywhere: the demand alone tells of it. */
static void test_what_another_gateway_waits_for_is_loaded(void **state)
{
    (void)state;
    const struct grid_demand_entry entries[] = {{.name = "echo:x", .digest = "", .n_waiting = 1},
                                                {.name = "parrot:y", .digest = "", .n_waiting = 1}};
    const struct grid_msg demand = {.type = GRID_DEMAND,
                                    .demand = {.boot = 1, .v = entries, .n = 2}};
    grid.cfg.allow_echo = true;
    start();
    uint64_t before = stats().n_loads;
    say("report", grid.nodes[1].id, &demand);
    fake_grid_run(&grid, S);
    assert_true(stats().places);
    assert_int_equal(stats().n_loads, before + 1);
    fake_grid_end(&grid);
}

static void test_a_gateway_that_leaves_is_none_to_rely_on(void **state)
{
    (void)state;
    const char *self = grid.nodes[0].id;
    start();
    assert_true(dispatch_gateway_besides(grid.dispatch, self));
    grid.nodes[1].alive = false;
    fake_grid_run(&grid, 20 * S);
    assert_false(dispatch_gateway_besides(grid.dispatch, self)); /* the third is a node */
    liar_is_gateway = true;
    assert_true(dispatch_gateway_besides(grid.dispatch, self));
    liar_duty = NODE_DRAINING;
    assert_false(dispatch_gateway_besides(grid.dispatch, self));
    assert_true(dispatch_gateway_besides(grid.dispatch, LIAR)); /* ourselves */
    liar_duty = NODE_CORDONED;
    assert_true(dispatch_gateway_besides(grid.dispatch, self));
    liar_is_member = false;
    assert_false(dispatch_gateway_besides(grid.dispatch, self));
    fake_grid_end(&grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_node_does_not_take_the_placement, setup),
        cmocka_unit_test_setup(test_who_is_no_member_is_not_heard, setup),
        cmocka_unit_test_setup(test_a_cordon_is_not_the_nodes_to_lift, setup),
        cmocka_unit_test_setup(test_a_name_keeps_its_meaning, setup),
        cmocka_unit_test_setup(test_one_member_does_not_fill_the_catalogue, setup),
        cmocka_unit_test_setup(test_a_short_message_does_not_make_many, setup),
        cmocka_unit_test_setup(test_names_are_those_of_the_registry, setup),
        cmocka_unit_test_setup(test_who_was_drained_has_left_and_is_not_dead, setup),
        cmocka_unit_test_setup(test_what_another_gateway_waits_for_is_loaded, setup),
        cmocka_unit_test_setup(test_a_gateway_that_leaves_is_none_to_rely_on, setup),
        cmocka_unit_test(test_numbers_out_of_bounds_are_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
