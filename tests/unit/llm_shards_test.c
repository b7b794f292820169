/* llm_shards_test.c: a model in several files computes what it computes in one, bit for bit; files
 * that do not belong together are refused. */
#include "base/mem.h"
#include "exec/llm/logits.h"
#include "support/model_edit.h"
#include "support/model_shards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_TOKENS 24

static sl_status logits_of(const char *path, int32_t n_stages, float **out, int32_t *out_n,
                           struct sl_err *err)
{
    static const int32_t tokens[N_TOKENS] = {19,  236, 180, 244, 75,  202, 5,   255,
                                             129, 236, 71,  76,  46,  18,  0,   80,
                                             10,  237, 158, 91,  243, 212, 196, 140};
    struct llm_logits_cfg cfg = {.n_threads = 1, .n_stages = n_stages};
    sl_status status = llm_logits(path, &cfg, tokens, N_TOKENS, out, out_n, err);
    *out_n *= N_TOKENS;
    return status;
}

static void test_shards_compute_what_the_whole_computes(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "qwen3moe", "deepseek2-v3"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct sl_err err = SL_ERR_INIT;
        float *whole, *shards;
        int32_t n_whole = 0, n = 0;
        model_shards_write(golden_path(models[i]));
        assert_int_equal(logits_of(golden_path(models[i]), 1, &whole, &n_whole, &err), SL_OK);
        for (int no = 0; no < MODEL_SHARDS;
             no++) { /* any shard's path opens them all; so do stages */
            if (logits_of(model_shard_path(no), no + 1, &shards, &n, &err) != SL_OK)
                fail_msg("%s", err.text);
            assert_int_equal(n, n_whole);
            assert_memory_equal(shards, whole, (size_t)n * sizeof *whole);
            sl_free(shards);
        }
        sl_free(whole);
    }
}

static void refuse(sl_status status, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    int32_t n = 0;
    float *out;
    sl_status got = logits_of(model_shard_path(0), 1, &out, &n, &err);
    if (got == SL_OK) fail_msg("accepted, expected \"%s\"", what);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_int_equal(got, status);
    assert_int_equal(sl_mem_live(), live);
}

static void test_a_missing_shard(void **state)
{
    (void)state;
    model_shards_write(golden_path("llama"));
    assert_int_equal(unlink(model_shard_path(1)), 0);
    refuse(SL_NOT_FOUND, "model-00002-of-00003.gguf: open");
}

static void test_a_shard_of_another_model(void **state)
{
    (void)state;
    model_shards_write(golden_path("qwen3"));
    model_shard_write(1, (struct model_shard){golden_path("llama"), 1, MODEL_SHARDS, 0});
    refuse(SL_CORRUPT, "split.tensors.count: 35, not 33"); /* the first shard says what there is */
    model_shard_write(0, (struct model_shard){golden_path("qwen3"), 0, MODEL_SHARDS,
                                              33}); /* as if it had been made to fit */
    refuse(SL_CORRUPT, "tensor blk.");
}

static void test_wrong_numbers(void **state)
{
    (void)state;
    model_shards_write(golden_path("llama"));
    model_shard_write(2, (struct model_shard){golden_path("llama"), 1, MODEL_SHARDS, 0});
    refuse(SL_CORRUPT, "model-00003-of-00003.gguf: key split.no: 1, not 2");
    model_shard_write(2, (struct model_shard){golden_path("llama"), 2, 4, 0});
    refuse(SL_CORRUPT, "model-00003-of-00003.gguf: key split.count: 4, not 3");
    model_shards_write(golden_path("llama"));
    model_shard_write(0, (struct model_shard){golden_path("llama"), 0, MODEL_SHARDS, 31});
    refuse(SL_CORRUPT, "key split.tensors.count: 31, not 30");
    model_shards_write(golden_path("llama"));
    model_shard_write(1, (struct model_shard){golden_path("llama"), 0, MODEL_SHARDS, 0});
    refuse(SL_CORRUPT, "model-00002-of-00003.gguf: key split.no: 0, not 1");
}

static void test_one_shard_under_a_name_of_its_own(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    int32_t n = 0;
    float *out;
    model_shards_write(golden_path("llama"));
    assert_int_equal(rename(model_shard_path(0), folder_path("alone.gguf")), 0);
    assert_int_equal(logits_of(folder_path("alone.gguf"), 1, &out, &n, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "split.count: one of 3 files"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_compute_what_the_whole_computes),
        cmocka_unit_test(test_a_missing_shard),
        cmocka_unit_test(test_a_shard_of_another_model),
        cmocka_unit_test(test_wrong_numbers),
        cmocka_unit_test(test_one_shard_under_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, model_folder_make, model_folder_remove);
}
