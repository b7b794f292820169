/* A split model gives requests what the whole one gives them, whatever they ask for and whatever
 * runs beside them; and its pipeline is filled. */
#include "base/mem.h"
#include "exec/llm/sampler.h"
#include "support/collect.h"
#include "support/outcomes.h"
#include "support/split_chain.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct outcomes whole, split;

static void submit_choices(struct engine *engine)
{
    struct sampler_cfg sampler;
    sampler_cfg_default(&sampler);
    sampler.n_logprobs = 3;
    outcomes_submit(engine, &(struct plain){3, 70, 12, 3, 0.9f},
                    (struct engine_generate){.n_choices = 3}, sampler);
    sampler.repeat_penalty = 1.3f;
    sampler.repeat_last_n = -1;
    outcomes_submit(engine, &(struct plain){4, 33, 20, 4, 0.7f},
                    (struct engine_generate){.n_choices = 2}, sampler);
}

static void submit_samplers(struct engine *engine)
{
    static const struct sampler_bias bias[] = {{300, 6}, {17, -INFINITY}};
    static const int32_t breakers[] = {13, 46};
    struct sampler_cfg sampler;
    sampler_cfg_default(&sampler);
    sampler.n_logprobs = 0;
    sampler.bias = bias;
    sampler.n_bias = 2;
    outcomes_submit(engine, &(struct plain){5, 20, 20, 5, 0.8f}, (struct engine_generate){0},
                    sampler);
    sampler_cfg_default(&sampler);
    sampler.dry_multiplier = 0.8f;
    sampler.dry_breakers = breakers;
    sampler.n_dry_breakers = 2;
    sampler.presence_penalty = 0.5f;
    outcomes_submit(engine, &(struct plain){6, 90, 30, 6, 0}, (struct engine_generate){0}, sampler);
}

static void submit_ends(struct engine *engine)
{
    static const char *const stops[] = {"e", "\n"};
    static const int32_t resumed[] = {40, 41, 42, 43, 44};
    struct sampler_cfg sampler;
    sampler_cfg_default(&sampler);
    outcomes_submit(engine, &(struct plain){7, 12, 40, 7, 0},
                    (struct engine_generate){.stop = stops, .n_stop = 2}, sampler);
    sampler.frequency_penalty = 1;
    outcomes_submit(engine, &(struct plain){8, 44, 20, 8, 0.6f},
                    (struct engine_generate){.resume = resumed, .n_resume = 5}, sampler);
}

/* As many as the chain of stages has places, and some more. */
static void submit_all(struct engine *engine)
{
    outcomes_submit_plain(engine, &(struct plain){1, 150, 20, 1, 0});
    outcomes_submit_plain(engine, &(struct plain){2, 64, 20, 2, 1});
    submit_choices(engine);
    submit_samplers(engine);
    submit_ends(engine);
    outcomes_submit_embed(engine, 9, 120, ENGINE_POOLING_MEAN);
    outcomes_submit_embed(engine, 10, 40, ENGINE_POOLING_LAST);
    outcomes_submit_embed(engine, 11, 40, ENGINE_POOLING_CLS);
    for (uint64_t id = 12; id < 24; id++)
        outcomes_submit_plain(engine, &(struct plain){id, 5 + 9 * (int32_t)(id - 12), 16,
                                                      (uint32_t)id, id % 2 ? 0.8f : 0});
}

static void run_whole(const char *path, struct llm_engine_cfg cfg, void (*submit)(struct engine *))
{
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    if (llm_engine_load(path, &cfg, &whole.engine, &err) != SL_OK) fail_msg("%s", err.text);
    submit(whole.engine);
    while (!idle) assert_int_equal(engine_step(whole.engine, &idle, &err), SL_OK);
    engine_unload(whole.engine);
}

static const int32_t thirds[] = {0, 2, 3, 5}; /* starling's five layers */

static void check_split(const char *path, struct llm_engine_cfg cfg, bool sockets,
                        void (*submit)(struct engine *))
{
    struct split_chain chain;
    split_chain_open(&chain, path, &cfg, thirds, 3, sockets);
    split.engine = split_chain_head(&chain);
    submit(split.engine);
    split_chain_run(&chain);
    outcomes_check_empty(split.engine);
    outcomes_compare(&whole, &split);
    split_chain_close(&chain);
}

static void test_every_sort_of_request(void **state)
{
    const char *path = model_path("starling.gguf");
    (void)state;
    if (!path) skip();
    run_whole(path, outcomes_cfg(&whole), submit_all);
    check_split(path, outcomes_cfg(&split), false, submit_all);
    check_split(path, outcomes_cfg(&split), true, submit_all);
}

static void submit_8(struct engine *engine)
{
    for (uint64_t id = 1; id <= 8; id++)
        outcomes_submit_plain(engine, &(struct plain){id, 30, 40, (uint32_t)id, id % 2 ? 0.8f : 0});
}

static void test_eight_streams_with_any_number_of_flights(void **state)
{
    const char *path = model_path("starling.gguf");
    (void)state;
    if (!path) skip();
    run_whole(path, outcomes_cfg(&whole), submit_8);
    for (int32_t n_flights = 0; n_flights <= 9; n_flights += 3) {
        struct llm_engine_cfg cfg = outcomes_cfg(&split);
        cfg.split.n_flights = n_flights;
        check_split(path, cfg, true, submit_8);
    }
}

static void submit_same(struct engine *engine)
{
    for (uint64_t id = 1; id <= 4; id++)
        outcomes_submit_plain(engine, &(struct plain){id, 130, 8, 1, 0});
}

static void test_prefix_hits(void **state)
{
    const char *path = model_path("starling.gguf");
    (void)state;
    if (!path) skip();
    run_whole(path, outcomes_cfg(&whole), submit_same);
    check_split(path, outcomes_cfg(&split), true, submit_same);
    assert_int_equal(split.v[1][0].n_cached, 0);
    for (int i = 2; i <= 4; i++) assert_int_equal(split.v[i][0].n_cached, 128);
}

/* Room for a context and a little more, for eight sequences that grow together. */
static void test_preemption(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    struct engine_stats stats;
    (void)state;
    if (!path) skip();
    run_whole(path, outcomes_cfg(&whole), submit_8);
    cfg.n_ctx = 128;
    cfg.split.kv_blocks = 20;
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    submit_8(split_chain_head(&chain));
    split_chain_run(&chain);
    outcomes_compare(&whole, &split);
    engine_stats(split_chain_head(&chain), &stats);
    assert_true(stats.n_preemptions > 0);
    outcomes_check_empty(split_chain_head(&chain));
    split_chain_close(&chain);
}

/* ---- cancelled while steps are under way ---- */

static void test_cancel_in_flight(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    (void)state;
    if (!path) skip();
    run_whole(path, outcomes_cfg(&whole), submit_all);
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    struct engine *engine = split_chain_head(&chain);
    for (int n_steps = 1; n_steps < 12; n_steps++) {
        memset(split.v, 0, sizeof split.v);
        submit_all(engine);
        for (int i = 0; i < n_steps; i++)
            if (split_chain_step(&chain)) split_chain_pump(&chain);
        for (uint64_t id = 1; id < 24; id++) {
            sl_status status = engine_cancel(engine, id);
            assert_true(status == SL_OK || split.v[id][0].n_done == 1);
            assert_int_equal(split.v[id][0].n_done, 1);
            if (status == SL_OK) assert_int_equal(split.v[id][0].finish, ENGINE_FINISH_CANCELLED);
        }
        outcomes_check_empty(engine);
    }
    /* What was under way comes home to nobody, and who comes then gets what is right. */
    memset(split.v, 0, sizeof split.v);
    submit_all(engine);
    split_chain_run(&chain);
    outcomes_compare(&whole, &split);
    split_chain_close(&chain);
}

static void test_cancel_from_an_event(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    (void)state;
    if (!path) skip();
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    split.engine = split_chain_head(&chain);
    split.cancel_id = 3; /* of three choices */
    submit_all(split.engine);
    split_chain_run(&chain);
    for (int c = 0; c < 3; c++) {
        assert_int_equal(split.v[3][c].n_done, 1);
        assert_int_equal(split.v[3][c].finish, ENGINE_FINISH_CANCELLED);
    }
    assert_int_equal(split.v[1][0].finish, ENGINE_FINISH_LENGTH);
    outcomes_check_empty(split.engine);
    split_chain_close(&chain);
}

static void test_unload_in_flight(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    uint64_t live = sl_mem_live();
    (void)state;
    if (!path) skip();
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    submit_all(split_chain_head(&chain));
    (void)split_chain_step(&chain);
    (void)split_chain_step(&chain);
    split_chain_close(&chain);
    for (uint64_t id = 1; id < 24; id++) assert_int_equal(split.v[id][0].n_done, 1);
    assert_int_equal(sl_mem_live(), live);
}

/* ---- the pipeline ---- */

static void submit_long(struct engine *engine)
{
    outcomes_submit_plain(engine, &(struct plain){1, 190, 4, 1, 0});
}

static void test_a_prompt_streams_through_the_stages(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    (void)state;
    if (!path) skip();
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    submit_long(split_chain_head(&chain));
    while (!split_chain_step(&chain)) continue;
    /* 190 tokens in chunks of 32, before any of them has come back, and one for the sampler */
    assert_int_equal(chain.n_messages, 6 + 1);
    split_chain_run(&chain);
    assert_int_equal(split.v[1][0].n_tokens, 4);
    split_chain_close(&chain);
}

static void test_sequences_decode_in_groups(void **state)
{
    const char *path = model_path("starling.gguf");
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct split_chain chain;
    struct engine_stats before, after;
    (void)state;
    if (!path) skip();
    split_chain_open(&chain, path, &cfg, thirds, 3, false);
    struct engine *engine = split_chain_head(&chain);
    submit_8(engine);
    while (split.v[8][0].n_tokens < 2)
        if (split_chain_step(&chain)) split_chain_pump(&chain);
    while (!split_chain_step(&chain)) continue;
    split_chain_pump(&chain);
    engine_stats(engine, &before);
    while (!split_chain_step(&chain)) continue;
    engine_stats(engine, &after);
    assert_int_equal(after.n_steps - before.n_steps, 3); /* three groups of three, three and two */
    split_chain_run(&chain);
    split_chain_close(&chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sort_of_request),
        cmocka_unit_test(test_eight_streams_with_any_number_of_flights),
        cmocka_unit_test(test_prefix_hits),
        cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_cancel_in_flight),
        cmocka_unit_test(test_cancel_from_an_event),
        cmocka_unit_test(test_unload_in_flight),
        cmocka_unit_test(test_a_prompt_streams_through_the_stages),
        cmocka_unit_test(test_sequences_decode_in_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
