/* A stage of a split model: what it refuses, what it takes, and of which file. */
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/sampler.h"
#include "exec/llm/stage_engine.h"
#include "exec/llm/stage_msg.h"
#include "exec/llm/tensors.h"
#include "support/collect.h"
#include "support/model_edit.h"
#include "support/outcomes.h"
#include "support/prop.h"
#include "support/split_chain.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct outcomes whole, split;

/* Messages of a real run, to be sent again with other bytes. */
struct tape {
    struct {
        int32_t from;
        size_t n;
        char *bytes;
    } v[64];
    int n;
    int32_t to; /* which stage's are kept */
};

static void record(void *ctx, int32_t from, int32_t to, void *bytes, size_t n)
{
    struct tape *tape = ctx;
    if (to != tape->to || tape->n == 64) return;
    tape->v[tape->n].from = from;
    tape->v[tape->n].n = n;
    tape->v[tape->n].bytes = malloc(n);
    assert_non_null(tape->v[tape->n].bytes);
    memcpy(tape->v[tape->n++].bytes, bytes, n);
}

static void tape_free(struct tape *tape)
{
    for (int i = 0; i < tape->n; i++) free(tape->v[i].bytes);
}

static struct llm_engine_cfg tiny_cfg(const char *path)
{
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    int32_t n_layer = outcomes_hparams(path).n_layer;
    cfg.n_ctx = 64;
    cfg.n_batch = 16;
    cfg.n_seqs_max = 8;
    cfg.split = (struct engine_split){2, 1, 1, n_layer, 40, ENGINE_LINK_F32, 0};
    return cfg;
}

static void submit_tiny(struct engine *engine)
{
    struct sampler_cfg sampler;
    sampler_cfg_default(&sampler);
    sampler.repeat_penalty = 1.2f;
    sampler.n_logprobs = 2;
    for (uint64_t id = 1; id < 5; id++) {
        struct plain p = {id, 20, 4, 1, 0.5f};
        outcomes_submit(engine, &p, (struct engine_generate){.n_choices = id == 2 ? 2 : 1},
                        sampler);
    }
    outcomes_submit_embed(engine, 5, 20, ENGINE_POOLING_MEAN);
}

static void make_tape(const char *path, int32_t to, struct tape *tape)
{
    struct llm_engine_cfg cfg = tiny_cfg(path);
    struct split_chain chain;
    *tape = (struct tape){.to = to};
    const int32_t borders[] = {0, 1, cfg.split.last};
    split_chain_open(&chain, path, &cfg, borders, 2, false);
    chain.on_message = record;
    chain.ctx = tape;
    submit_tiny(split_chain_head(&chain));
    split_chain_run(&chain);
    split_chain_close(&chain);
    assert_true(tape->n > 5);
}

/* Nothing is left unchecked: the numbers lie in front of the hidden states. */
static size_t draw_place(size_t n)
{
    return prop_draw(prop_draw(4) && n > 300 ? 300 : n);
}

static void frame_nowhere(void *ctx, int32_t to, const void *bytes, size_t n)
{
    (void)bytes;
    *(size_t *)ctx += n + (size_t)to;
}

/* Each message with a chance of a broken byte, until one is refused. */
static void play_broken(const char *path, const struct tape *tape)
{
    struct llm_engine_cfg cfg = tiny_cfg(path);
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine;
    size_t n_sent = 0;
    sl_status status = SL_OK;
    cfg.on_frame = frame_nowhere;
    cfg.frame_ctx = &n_sent;
    assert_int_equal(stage_engine_load(path, &cfg, &engine, &err), SL_OK);
    for (int i = 0; i < tape->n && status == SL_OK; i++) {
        char *bytes = tape->v[i].bytes;
        size_t at = draw_place(tape->v[i].n);
        char flip = prop_draw(3) ? 0 : (char)(1 << prop_draw(8));
        bool idle;
        bytes[at] ^= flip;
        status = engine_deliver(engine, tape->v[i].from, bytes,
                                tape->v[i].n - (prop_draw(50) ? 0 : 1), &err);
        bytes[at] ^= flip;
        if (status == SL_OK) status = engine_step(engine, &idle, &err);
    }
    assert_true(status == SL_OK || status == SL_CORRUPT);
    engine_unload(engine);
}

static void test_hostile_messages_to_a_stage(void **state)
{
    char path[1024];
    struct tape tape;
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("llama"));
    make_tape(path, 1, &tape);
    for (int i = 0; i < 300; i++) play_broken(path, &tape);
    tape_free(&tape);
}

/* Hidden states that are no numbers, from a stage that lies or computed nonsense. */
static void play_strange(const char *path, const struct tape *tape, const float values[2])
{
    struct llm_engine_cfg cfg = tiny_cfg(path);
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine;
    int32_t n_embd = outcomes_hparams(path).n_embd;
    size_t n_sent = 0;
    bool idle;
    cfg.on_frame = frame_nowhere;
    cfg.frame_ctx = &n_sent;
    assert_int_equal(stage_engine_load(path, &cfg, &engine, &err), SL_OK);
    for (int i = 0; i < tape->n; i++) {
        char *bytes = tape->v[i].bytes;
        if (stage_msg_kind(bytes, tape->v[i].n) == STAGE_MSG_BATCH) {
            int32_t n_tokens;
            memcpy(&n_tokens, bytes + 16, sizeof n_tokens); /* behind the header */
            size_t n = (size_t)(n_tokens * n_embd);
            char *hidden = bytes + tape->v[i].n - n * sizeof *values;
            for (size_t k = 0; k < n; k++)
                memcpy(hidden + k * sizeof *values, &values[k % 2], sizeof *values);
        }
        if (engine_deliver(engine, tape->v[i].from, bytes, tape->v[i].n, &err) != SL_OK ||
            engine_step(engine, &idle, &err) != SL_OK)
            fail_msg("%s: %s", path, err.text);
    }
    assert_true(n_sent > 0);
    engine_unload(engine);
}

static void test_hidden_states_that_are_no_numbers(void **state)
{
    static const char *const models[] = {"llama",   "gemma3",         "qwen3moe",
                                         "gpt-oss", "deepseek2-lite", "deepseek2-v3"};
    static const float values[][2] = {
        {NAN, NAN}, {NAN, 1}, {INFINITY, -INFINITY}, {INFINITY, 1}, {FLT_MAX, -FLT_MAX}};
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[1024];
        struct tape tape;
        (void)snprintf(path, sizeof path, "%s", golden_path(models[m]));
        make_tape(path, 1, &tape);
        for (size_t i = 0; i < sizeof values / sizeof *values; i++)
            play_strange(path, &tape, values[i]);
        tape_free(&tape);
    }
}

/* What a stage refuses though each message could be right. */
static void test_messages_out_of_place(void **state)
{
    char path[1024];
    struct tape tape;
    struct engine *engine;
    struct sl_err err = SL_ERR_INIT;
    size_t n_sent = 0;
    bool idle;
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("llama"));
    make_tape(path, 1, &tape);
    struct llm_engine_cfg cfg = tiny_cfg(path);
    cfg.on_frame = frame_nowhere;
    cfg.frame_ctx = &n_sent;
    assert_int_equal(stage_engine_load(path, &cfg, &engine, &err), SL_OK);
    int second = 2;
    while (stage_msg_kind(tape.v[second].bytes, tape.v[second].n) != STAGE_MSG_BATCH) second++;
    assert_int_equal(engine_deliver(engine, 0, tape.v[second].bytes, tape.v[second].n, &err),
                     SL_CORRUPT);
    assert_non_null(strstr(err.text, "step"));
    assert_int_equal(engine_deliver(engine, 1, tape.v[0].bytes, tape.v[0].n, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "stage 1"));
    assert_int_equal(engine_deliver(engine, 0, tape.v[0].bytes, tape.v[0].n, &err), SL_OK);
    assert_int_equal(engine_deliver(engine, 0, tape.v[1].bytes, tape.v[1].n, &err), SL_OK);
    assert_int_equal(engine_deliver(engine, 0, tape.v[1].bytes, tape.v[1].n, &err), SL_CORRUPT);
    /* samplers, and the batch that needs them */
    assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_int_equal(n_sent, 0);
    assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_true(n_sent > 0);
    assert_int_equal(engine_step(engine, &idle, &err), SL_OK);
    assert_true(idle);
    /* so many that nobody sends them */
    sl_status status = SL_OK;
    for (int i = 0; i < 10000 && status == SL_OK; i++)
        status = engine_deliver(engine, 0, tape.v[0].bytes, tape.v[0].n, &err);
    assert_int_equal(status, SL_LIMIT);
    engine_unload(engine);
    tape_free(&tape);
}

static void break_result(void *ctx, int32_t from, int32_t to, void *bytes, size_t n)
{
    (void)ctx;
    (void)from;
    if (to == 0 && prop_draw(3) == 0) ((char *)bytes)[draw_place(n)] ^= (char)(1 << prop_draw(8));
}

/* Stage 0 believes no last stage: at worst a token is another one. */
static void test_hostile_results(void **state)
{
    char path[1024];
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("llama"));
    for (int i = 0; i < 200; i++) {
        struct llm_engine_cfg cfg = tiny_cfg(path);
        struct split_chain chain;
        struct engine_stats stats;
        const int32_t borders[] = {0, 1, cfg.split.last};
        split_chain_open(&chain, path, &cfg, borders, 2, false);
        chain.on_message = break_result;
        submit_tiny(split_chain_head(&chain));
        do {
            bool idle = split_chain_step(&chain);
            if (idle) split_chain_try_pump(&chain);
            engine_stats(split_chain_head(&chain), &stats);
        } while ((stats.n_running || stats.n_waiting) && !chain.stages[0].failure[0]);
        split_chain_close(&chain);
        for (uint64_t id = 1; id < 6; id++) assert_int_equal(split.v[id][0].n_done, 1);
    }
}

/* A chain that is asked for nothing takes no results, and a whole model none at all. */
static void test_results_nobody_waits_for(void **state)
{
    char path[1024];
    struct tape tape;
    struct split_chain chain;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("llama"));
    make_tape(path, 0, &tape);
    struct llm_engine_cfg cfg = tiny_cfg(path);
    const int32_t borders[] = {0, 1, cfg.split.last};
    split_chain_open(&chain, path, &cfg, borders, 2, false);
    struct engine *engine = split_chain_head(&chain);
    assert_int_equal(engine_deliver(engine, 1, tape.v[0].bytes, tape.v[0].n, &err), SL_CORRUPT);
    submit_tiny(engine);
    (void)split_chain_step(&chain);
    assert_int_equal(engine_deliver(engine, 1, tape.v[1].bytes, tape.v[1].n, &err), SL_CORRUPT);
    assert_int_equal(engine_deliver(engine, 0, tape.v[0].bytes, tape.v[0].n, &err), SL_CORRUPT);
    split_chain_close(&chain);
    cfg = outcomes_cfg(&whole);
    assert_int_equal(llm_engine_load(path, &cfg, &engine, &err), SL_OK);
    assert_int_equal(engine_deliver(engine, 1, tape.v[0].bytes, tape.v[0].n, &err), SL_UNSUPPORTED);
    engine_unload(engine);
    tape_free(&tape);
}

static sl_status load_status(const char *path, struct engine_split s, enum llm_kv_type kv_type)
{
    struct llm_engine_cfg cfg = outcomes_cfg(&split);
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine = NULL;
    cfg.kv_type = kv_type;
    cfg.split = s;
    cfg.on_frame = s.n_flights == 64 ? NULL : (engine_frame_fn)abort;
    sl_status status = s.stage ? stage_engine_load(path, &cfg, &engine, &err)
                               : llm_engine_load(path, &cfg, &engine, &err);
    if (status != SL_OK) assert_non_null(strstr(err.text, "starling.gguf"));
    engine_unload(engine);
    return status;
}

static void test_bad_splits_are_refused(void **state)
{
    const char *path = model_path("starling.gguf");
    const struct engine_split good = {3, 1, 2, 3, 17, ENGINE_LINK_F16, 0};
    struct engine_split s;
    (void)state;
    if (!path) skip();
    assert_int_equal(load_status(path, good, LLM_KV_F16), SL_OK);
#define REFUSES(field, value) \
    s = good; \
    s.field = value; \
    assert_int_equal(load_status(path, s, LLM_KV_F16), SL_INVALID)
    REFUSES(n_stages, 1);
    REFUSES(n_stages, 6);
    REFUSES(n_stages, -1);
    REFUSES(stage, 3);
    REFUSES(stage, -1);
    REFUSES(first, 0);
    REFUSES(first, 4);
    REFUSES(last, 2);
    REFUSES(last, 5);
    REFUSES(kv_blocks, 16);
    REFUSES(kv_blocks, 0);
    REFUSES(n_flights, -1);
    REFUSES(n_flights, 65);
    REFUSES(n_flights, 64); /* without on_frame */
    REFUSES(link, (enum engine_link_type)7);
#undef REFUSES
    s = good;
    s.stage = 0;
    assert_int_equal(load_status(path, s, LLM_KV_F16), SL_INVALID); /* first is 2 */
    s.kv_blocks = INT32_MAX / 16;
    s.stage = 1;
    assert_int_equal(load_status(path, s, LLM_KV_F16), SL_NOMEM);
}

/* ---- what a stage takes, and of which file ---- */

static struct llm_engine_cfg half_cfg(const char *path, int32_t stage)
{
    struct llm_engine_cfg cfg = tiny_cfg(path);
    int32_t n_layer = cfg.split.last;
    cfg.split.stage = stage;
    cfg.split.first = stage ? n_layer / 2 : 0;
    cfg.split.last = stage ? n_layer : n_layer / 2;
    cfg.on_frame = (engine_frame_fn)abort;
    return cfg;
}

static struct engine *load_stage(const char *path, const struct llm_engine_cfg *cfg)
{
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine;
    sl_status status = cfg->split.stage ? stage_engine_load(path, cfg, &engine, &err)
                                        : llm_engine_load(path, cfg, &engine, &err);
    if (status != SL_OK) fail_msg("%s", err.text);
    return engine;
}

static void check_estimate(const char *path, int32_t stage, struct llm_engine_estimate *out)
{
    struct llm_engine_cfg cfg = half_cfg(path, stage);
    struct engine_stats stats;
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine = load_stage(path, &cfg);
    engine_stats(engine, &stats);
    engine_unload(engine);
    cfg.on_frame = NULL;
    if (llm_engine_estimate(path, &cfg, out, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(out->weight_bytes, stats.weight_bytes);
    assert_int_equal(out->weight_copied_bytes, stats.weight_copied_bytes);
    assert_int_equal(out->kv_bytes, stats.kv_bytes);
    assert_true(out->compute_bytes > 0);
}

/* Each tensor is one stage's, but for an embedding that is the head too. */
static void test_estimates_of_stages(void **state)
{
    static const char *const names[] = {"qwen2", "llama-ropefreqs-tied", "qwen3moe"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        struct llm_engine_estimate halves[2], all;
        struct sl_err err = SL_ERR_INIT;
        (void)snprintf(path, sizeof path, "%s", golden_path(names[i]));
        struct llm_engine_cfg cfg = tiny_cfg(path);
        cfg.split.n_stages = 0;
        check_estimate(path, 0, &halves[0]);
        check_estimate(path, 1, &halves[1]);
        assert_int_equal(llm_engine_estimate(path, &cfg, &all, &err), SL_OK);
        uint64_t both = halves[0].weight_bytes + halves[1].weight_bytes;
        if (i == 1)
            assert_true(both > all.weight_bytes && halves[1].weight_bytes > 0);
        else
            assert_int_equal(both, all.weight_bytes);
    }
}

/* A copy of a file in which only the header and one stage's tensors are; as large as the whole. */
static void make_sparse(const char *path, const struct llm_range *range, const char *to)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file;
    struct llm_hparams hp;
    size_t n, header;
    assert_int_equal(gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(llm_hparams_read(file, &hp, &err), SL_OK);
    const char *base = gguf_shard_map(file, 0, &n);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    header = n;
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        size_t at = (size_t)((const char *)t->data - base);
        int layer = -1;
        header = at < header ? at : header;
        bool is_embedding = strcmp(t->name, "token_embd.weight") == 0;
        bool wanted = sscanf(t->name, "blk.%d.", &layer) == 1
                          ? layer >= range->first && layer < range->last
                          : (is_embedding ? range->embeds : range->heads);
        if (!wanted) continue;
        (void)fseek(out, (long)at, SEEK_SET);
        assert_int_equal(fwrite(t->data, 1, t->n_bytes, out), t->n_bytes);
    }
    rewind(out);
    assert_int_equal(fwrite(base, 1, header, out), header);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(truncate(to, (off_t)n), 0);
    gguf_close(file);
}

static void run_tiny(const char *const paths[2], struct outcomes *out)
{
    struct llm_engine_cfg cfg = tiny_cfg(paths[0]);
    const int32_t borders[] = {0, cfg.split.last / 2, cfg.split.last};
    struct split_chain chain;
    split_chain_open_files(&chain, paths, &cfg, borders, 2, false);
    submit_tiny(split_chain_head(&chain));
    split_chain_run(&chain);
    split_chain_close(&chain);
    if (out != &split) *out = split;
}

static void test_stages_of_sparse_files(void **state)
{
    char path[1024], first[1024], last[1024];
    struct llm_engine_estimate a, b;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("qwen2"));
    (void)snprintf(first, sizeof first, "%s", folder_path("first.gguf"));
    (void)snprintf(last, sizeof last, "%s", folder_path("last.gguf"));
    const struct llm_engine_cfg cfg = half_cfg(path, 1);
    make_sparse(path, &(struct llm_range){0, cfg.split.first, true, false}, first);
    make_sparse(path, &(struct llm_range){cfg.split.first, cfg.split.last, false, true}, last);
    assert_int_equal(llm_engine_estimate(path, &cfg, &a, &err), SL_OK);
    assert_int_equal(llm_engine_estimate(last, &cfg, &b, &err), SL_OK);
    assert_memory_equal(&a, &b, sizeof a);
    run_tiny((const char *const[]){path, path}, &whole);
    run_tiny((const char *const[]){first, last}, &split);
    outcomes_compare(&whole, &split);
}

static void test_loading_survives_failing_allocations(void **state)
{
    const char *path = golden_path("llama");
    int32_t n_layer = outcomes_hparams(path).n_layer;
    (void)state;
    for (int32_t stage = 0; stage < 2; stage++) {
        bool ok = false;
        for (uint64_t n = 1; !ok; n++) {
            struct llm_engine_cfg cfg = outcomes_cfg(&split);
            struct sl_err err = SL_ERR_INIT;
            struct engine *engine = NULL;
            uint64_t live = sl_mem_live();
            cfg.n_ctx = 64;
            cfg.split = (struct engine_split){2, stage, stage, stage ? n_layer : 1, 5, 0, 0};
            cfg.on_frame = (engine_frame_fn)abort;
            sl_mem_fail_at(n, false);
            sl_status status = stage ? stage_engine_load(path, &cfg, &engine, &err)
                                     : llm_engine_load(path, &cfg, &engine, &err);
            ok = !sl_mem_fail_hit();
            sl_mem_fail_at(0, false);
            if (ok && status != SL_OK) fail_msg("%s", err.text);
            if (status == SL_OK) engine_unload(engine);
            assert_int_equal(sl_mem_live(), live);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_messages_to_a_stage),
        cmocka_unit_test(test_hidden_states_that_are_no_numbers),
        cmocka_unit_test(test_messages_out_of_place),
        cmocka_unit_test(test_hostile_results),
        cmocka_unit_test(test_results_nobody_waits_for),
        cmocka_unit_test(test_bad_splits_are_refused),
        cmocka_unit_test(test_estimates_of_stages),
        cmocka_unit_test(test_stages_of_sparse_files),
        cmocka_unit_test(test_loading_survives_failing_allocations),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, model_folder_make, model_folder_remove);
}
