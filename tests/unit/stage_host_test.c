/* stage_host_test.c: a member that runs stages for others, asked by a head that the test plays:
 * what it takes, what it refuses, and what it says when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "grid/fetch_part.h"
#include "grid/stage_wire.h"
#include "support/split_fixture.h"

static const int32_t HALVES[] = {0, 2, SPLIT_LAYERS};
static const int32_t THIRDS[] = {0, 2, 3, SPLIT_LAYERS};

static struct split_fixture f;

/* The head's end of a link, and what came over it. */
static struct head {
    struct stage_link *link;
    bool open, ended, ready, failed;
    struct sl_err why; /* of the end */
    sl_status status;  /* of FAILED */
    char reason[256];
    double fraction;
} h, other;

static void on_open(void *ctx)
{
    ((struct head *)ctx)->open = true;
}

static void on_frame(void *ctx, enum stage_frame type, const void *payload, size_t n)
{
    struct head *head = ctx;
    struct stage_progress progress;
    struct stage_ready ready;
    struct stage_failed failed;
    struct sl_arena arena;
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    if (type == STAGE_PROGRESS) {
        assert_int_equal(stage_progress_get(payload, n, &progress, NULL), SL_OK);
        assert_true(progress.fraction >= head->fraction);
        head->fraction = progress.fraction;
    } else if (type == STAGE_READY) {
        assert_int_equal(stage_ready_get(payload, n, &ready, NULL), SL_OK);
        assert_true(ready.bytes > 0);
        head->ready = true;
    } else {
        assert_int_equal(type, STAGE_FAILED);
        assert_int_equal(stage_failed_get(payload, n, &arena, &failed, NULL), SL_OK);
        head->failed = true;
        head->status = failed.status;
        snprintf(head->reason, sizeof head->reason, "%s", failed.reason);
    }
    sl_arena_done(&arena);
}

static void on_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    (void)ctx, (void)to, (void)from, (void)bytes, (void)n;
}

static void on_end(void *ctx, const struct sl_err *why)
{
    struct head *head = ctx;
    head->ended = true;
    head->why = *why;
}

static const struct stage_link_callbacks CALLBACKS = {on_open, on_frame, on_data, on_end};

static int set_up(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    h = other = (struct head){0};
    split_fixture_init(&f);
    f.has_model[1] = true;
    return 0;
}

static int tear_down(void **state)
{
    stage_link_close(h.link, NULL);
    stage_link_close(other.link, NULL);
    split_fixture_done(&f);
    return temp_dir_teardown(state);
}

static void open_link(struct head *head, size_t from, enum stage_role role, const char *chain)
{
    struct stage_hello hello = {.role = role, .from = role == STAGE_NEXT, .to = 1};
    struct sl_err err = SL_ERR_INIT;
    if (role == STAGE_NEXT) hello.to = 2;
    snprintf(hello.chain, sizeof hello.chain, "%s", chain);
    if (stage_link_open(f.grid.members[from].links, stage_fixture_id(&f.grid, 1), "", &hello,
                        &CALLBACKS, head, &head->link, &err) != SL_OK)
        fail_msg("%s", err.text);
    STAGE_FIXTURE_UNTIL(&f.grid, head->open || head->ended);
}

static void start(void)
{
    split_fixture_start(&f);
    open_link(&h, 0, STAGE_CONTROL, "c");
    assert_true(h.open);
}

static void digest_of_model(char out[STORE_DIGEST_SIZE])
{
    struct sl_err err = SL_ERR_INIT;
    struct store_model model;
    if (store_find(f.machines[0].store, SPLIT_MODEL, &model, &err) != SL_OK)
        fail_msg("%s", err.text);
    snprintf(out, STORE_DIGEST_SIZE, "%s", model.digest);
    store_model_done(&model);
}

static void say_open(const struct grid_split *split, int32_t stage)
{
    struct sl_buf message;
    char digest[STORE_DIGEST_SIZE];
    digest_of_model(digest);
    struct stage_open open = {
        .model = SPLIT_MODEL, .digest = digest, .stage = stage, .split = *split};
    open.split.kv_blocks = 40;
    sl_buf_init(&message, STAGE_MESSAGE_BYTES_MAX);
    assert_int_equal(stage_open_put(&open, &message), SL_OK);
    assert_int_equal(stage_link_send(h.link, STAGE_OPEN, message.data, message.len), SL_OK);
    sl_buf_done(&message);
}

static void wait_for_failure(sl_status status, const char *words)
{
    STAGE_FIXTURE_UNTIL(&f.grid, h.ended);
    assert_true(h.failed);
    assert_int_equal(h.status, status);
    if (!strstr(h.reason, words)) fail_msg("%s", h.reason);
    while (split_stages_at(&f, 1)) stage_fixture_turn(&f.grid);
}

static uint64_t charged(void)
{
    struct node_stats stats;
    node_stats_get(f.machines[1].node, &stats);
    return stats.charged_bytes;
}

/* --- it serves --- */

static void a_stage_is_loaded_listed_charged_and_ended(void **state)
{
    struct grid_stage_hosted stage;
    struct stage_host_stats stats;
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ready || h.ended);
    assert_true(h.ready);
    assert_int_equal(stage_host_list(f.hosts[1], &stage, 1), 1);
    assert_string_equal(stage.chain, "c");
    assert_string_equal(stage.model, SPLIT_MODEL);
    assert_string_equal(stage.head, stage_fixture_id(&f.grid, 0));
    assert_int_equal(stage.first, 2);
    assert_int_equal(stage.last, SPLIT_LAYERS);
    assert_int_equal(stage.state, SCHED_READY);
    assert_int_equal(stage.bytes, charged());
    stage_link_close(h.link, NULL);
    h.link = NULL;
    while (split_stages_at(&f, 1)) stage_fixture_turn(&f.grid);
    assert_int_equal(charged(), 0);
    stage_host_stats_get(f.hosts[1], &stats);
    assert_int_equal(stats.n_opened, 1);
    assert_int_equal(stats.n_ready, 1);
    assert_int_equal(stats.n_stages, 0);
}

static void its_worker_dies_and_the_head_hears_why(void **state)
{
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ready);
    assert_int_equal(kill(split_follower_pid(&f), SIGKILL), 0);
    wait_for_failure(SL_UNAVAILABLE, "SIGKILL");
    assert_int_equal(charged(), 0);
}

/* --- it refuses --- */

static void nonsense_in_place_of_open_is_refused(void **state)
{
    (void)state;
    start();
    assert_int_equal(stage_link_send(h.link, STAGE_OPEN, "\xff\xff", 2), SL_OK);
    wait_for_failure(SL_CORRUPT, "open message");
}

static void followers_words_from_a_head_are_refused(void **state)
{
    (void)state;
    start();
    assert_int_equal(stage_link_send(h.link, STAGE_READY, NULL, 0), SL_OK);
    wait_for_failure(SL_CORRUPT, "out of turn");
}

static void a_second_open_is_refused(void **state)
{
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    say_open(split_over(&f, 2, HALVES), 1);
    wait_for_failure(SL_CORRUPT, "out of turn");
    assert_int_equal(charged(), 0);
}

static void a_chain_of_others_is_refused(void **state)
{
    struct grid_split split;
    struct grid_stage stages[2];
    (void)state;
    start();
    split = *split_over(&f, 2, HALVES);
    memcpy(stages, split.stages, sizeof stages);
    split.stages = stages;
    stages[0].member = stage_fixture_id(&f.grid, 2); /* not who asks */
    say_open(&split, 1);
    wait_for_failure(SL_CORRUPT, "not stage 1");
}

static void a_file_that_nobody_has_is_not_found(void **state)
{
    (void)state;
    f.has_model[1] = false;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    wait_for_failure(SL_NOT_FOUND, "");
    assert_int_equal(charged(), 0);
}

static void layers_that_the_model_has_not_are_refused(void **state)
{
    static const int32_t too_many[] = {0, 2, SPLIT_LAYERS + 3};
    (void)state;
    start();
    say_open(split_over(&f, 2, too_many), 1);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ended);
    assert_true(h.failed);
    assert_int_equal(charged(), 0);
}

static void messages_before_it_is_ready_are_refused(void **state)
{
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    assert_int_equal(stage_link_send_data(h.link, 1, 0, "x", 1), SL_OK);
    wait_for_failure(SL_CORRUPT, "before it is ready");
}

static void a_message_of_another_stage_is_refused(void **state)
{
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ready);
    assert_int_equal(stage_link_send_data(h.link, 1, 2, "x", 1), SL_OK);
    wait_for_failure(SL_CORRUPT, "of another stage");
}

static void nonsense_for_the_worker_ends_the_stage(void **state)
{
    (void)state;
    start();
    say_open(split_over(&f, 2, HALVES), 1);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ready);
    assert_int_equal(stage_link_send_data(h.link, 1, 0, "nonsense", 8), SL_OK);
    STAGE_FIXTURE_UNTIL(&f.grid, h.ended);
    assert_true(h.failed);
}

static void a_neighbour_needs_a_stage_to_come_to(void **state)
{
    (void)state;
    start();
    open_link(&other, 0, STAGE_NEXT, "c");
    assert_true(other.ended); /* stage 2 of that chain is not here */
    assert_non_null(strstr(other.why.text, "no such stage"));
}

static void only_the_chains_own_neighbour_may_come(void **state)
{
    struct stage_hello hello = {.chain = "d", .role = STAGE_CONTROL, .to = 2};
    struct grid_split split;
    struct grid_stage stages[3];
    (void)state;
    split_fixture_start(&f);
    assert_int_equal(stage_link_open(f.grid.members[0].links, stage_fixture_id(&f.grid, 1), "",
                                     &hello, &CALLBACKS, &h, &h.link, NULL),
                     SL_OK);
    STAGE_FIXTURE_UNTIL(&f.grid, h.open);
    open_link(&other, 0, STAGE_NEXT, "d"); /* the head itself: it is not stage 1 */
    assert_true(other.open);
    split = *split_over(&f, 3, THIRDS);
    memcpy(stages, split.stages, sizeof stages);
    stages[1].member = stage_fixture_id(&f.grid, 2);
    stages[2].member = stage_fixture_id(&f.grid, 1);
    split.stages = stages;
    say_open(&split, 2);
    wait_for_failure(SL_DENIED, "another member than the chain's");
}

static void there_are_so_many_stages(void **state)
{
    struct stage_link *links[STAGE_HOST_MAX];
    static struct head heads[STAGE_HOST_MAX];
    char chain[STAGE_CHAIN_SIZE];
    (void)state;
    split_fixture_start(&f);
    for (int i = 0; i < STAGE_HOST_MAX; i++) {
        snprintf(chain, sizeof chain, "chain%d", i);
        heads[i] = (struct head){0};
        open_link(&heads[i], 0, STAGE_CONTROL, chain);
        assert_true(heads[i].open);
        links[i] = heads[i].link;
    }
    open_link(&h, 0, STAGE_CONTROL, "chain0");
    assert_non_null(strstr(h.why.text, "here already"));
    stage_link_close(h.link, NULL);
    h = (struct head){0};
    open_link(&h, 0, STAGE_CONTROL, "one more");
    assert_true(h.ended);
    assert_non_null(strstr(h.why.text, "takes no more"));
    for (int i = 0; i < STAGE_HOST_MAX; i++) stage_link_close(links[i], NULL);
}

/* --- what they say, in bytes --- */

static void messages_come_back_as_they_were(void **state)
{
    static const struct grid_source sources[] = {{"nabc", "10.0.0.7:4230"}, {"ndef", ""}};
    struct sl_buf bytes;
    struct sl_arena arena;
    struct stage_open in, out;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    in = (struct stage_open){.model = "m",
                             .digest = "d",
                             .stage = 1,
                             .split = *split_over(&f, 3, THIRDS),
                             .kv_type = 1,
                             .sources = sources,
                             .n_sources = 2};
    sl_buf_init(&bytes, STAGE_MESSAGE_BYTES_MAX);
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    assert_int_equal(stage_open_put(&in, &bytes), SL_OK);
    if (stage_open_get(bytes.data, bytes.len, &arena, &out, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_true(grid_split_equal(&in.split, &out.split));
    assert_string_equal(out.sources[0].address, "10.0.0.7:4230");
    assert_int_equal(out.kv_type, 1);
    for (size_t n = 0; n < bytes.len; n++) /* cut off anywhere it is refused, or less */
        if (stage_open_get(bytes.data, n, &arena, &out, &err) == SL_OK)
            assert_true(out.n_sources < 2 || out.kv_type == 0);
    sl_arena_done(&arena);
    sl_buf_done(&bytes);
}

static void numbers_out_of_range_are_refused(void **state)
{
    struct sl_buf bytes;
    struct stage_hello hello = {.chain = "c", .role = STAGE_NEXT, .from = 1, .to = 3}, got;
    struct stage_progress progress = {.fraction = 1.5};
    struct stage_failed failed;
    struct sl_arena arena;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    sl_buf_init(&bytes, STAGE_MESSAGE_BYTES_MAX);
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    assert_int_equal(stage_hello_put(&hello, &bytes), SL_OK);
    assert_int_equal(stage_hello_get(bytes.data, bytes.len, &got, &err), SL_CORRUPT);
    sl_buf_clear(&bytes);
    hello = (struct stage_hello){.chain = "", .role = STAGE_CONTROL, .to = 1};
    assert_int_equal(stage_hello_put(&hello, &bytes), SL_OK);
    assert_int_equal(stage_hello_get(bytes.data, bytes.len, &got, &err), SL_CORRUPT);
    sl_buf_clear(&bytes);
    assert_int_equal(stage_progress_put(&progress, &bytes), SL_OK);
    assert_int_equal(stage_progress_get(bytes.data, bytes.len, &progress, &err), SL_CORRUPT);
    assert_int_equal(stage_failed_get("\x08\x7f", 2, &arena, &failed, &err), SL_CORRUPT);
    sl_arena_done(&arena);
    sl_buf_done(&bytes);
}

static void without_memory_nothing_stays(void **state)
{
    sl_status status = SL_NOMEM;
    (void)state;
    stage_fixture_start(&f.grid);
    const struct stage_host_cfg cfg = {.loop = f.grid.loop, .links = f.grid.members[2].links};
    const uint64_t before = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct stage_host *host = NULL;
        sl_mem_fail_at(n, false);
        status = stage_host_create(&cfg, &host, NULL);
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, host != NULL);
        stage_host_destroy(host);
        assert_int_equal(sl_mem_live(), before);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stage_is_loaded_listed_charged_and_ended),
        TEST(its_worker_dies_and_the_head_hears_why),
        TEST(nonsense_in_place_of_open_is_refused),
        TEST(followers_words_from_a_head_are_refused),
        TEST(a_second_open_is_refused),
        TEST(a_chain_of_others_is_refused),
        TEST(a_file_that_nobody_has_is_not_found),
        TEST(layers_that_the_model_has_not_are_refused),
        TEST(messages_before_it_is_ready_are_refused),
        TEST(a_message_of_another_stage_is_refused),
        TEST(nonsense_for_the_worker_ends_the_stage),
        TEST(a_neighbour_needs_a_stage_to_come_to),
        TEST(only_the_chains_own_neighbour_may_come),
        TEST(there_are_so_many_stages),
        TEST(messages_come_back_as_they_were),
        TEST(numbers_out_of_range_are_refused),
        TEST(without_memory_nothing_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
