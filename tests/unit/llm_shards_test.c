/* llm_shards_test.c: a model in several files computes what it computes in one, bit for bit; files
 * that do not belong together are refused. */
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"
#include "exec/llm/logits.h"
#include "support/model_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_SHARDS 3
#define N_TOKENS 24

struct split { /* how one shard is written */
    const char *model;
    uint32_t no, n_shards, n_tensors; /* as its keys state them */
};

static const char *shard_path(int no)
{
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-%05d.gguf", no + 1, N_SHARDS);
    return folder_path(name);
}

static void put_keys(struct gguf_writer *w, const struct gguf_file *file, const struct split *s,
                     int no)
{
    for (size_t i = 0; no == 0 && i < gguf_n_kvs(file); i++)
        assert_int_equal(gguf_write_kv(w, gguf_kv_at(file, i)), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.no", s->no), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.count", s->n_shards), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.tensors.count", s->n_tensors), SL_OK);
}

/* Shard `no` holds its third of the tensors; the first one has the keys. */
static void write_shard(int no, struct split s)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file;
    struct gguf_writer *w;
    if (gguf_open(golden_path(s.model), &file, &err) != SL_OK) fail_msg("%s", err.text);
    size_t n = gguf_n_tensors(file), first = n * (size_t)no / N_SHARDS,
           end = n * (size_t)(no + 1) / N_SHARDS;
    s.n_tensors = s.n_tensors ? s.n_tensors : (uint32_t)n;
    if (gguf_writer_create(shard_path(no), &w, &err) != SL_OK) fail_msg("%s", err.text);
    put_keys(w, file, &s, no);
    for (size_t i = first; i < end; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        assert_int_equal(gguf_write_tensor(w, t->name, t->type, t->n_dims, t->ne), SL_OK);
    }
    assert_int_equal(gguf_write_begin_data(w, &err), SL_OK);
    for (size_t i = first; i < end; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        assert_int_equal(gguf_write_data(w, t->data, t->n_bytes, &err), SL_OK);
    }
    if (gguf_write_finish(w, &err) != SL_OK) fail_msg("%s", err.text);
    gguf_writer_destroy(w);
    gguf_close(file);
}

static void write_shards(const char *model)
{
    for (int i = 0; i < N_SHARDS; i++)
        write_shard(i, (struct split){model, (uint32_t)i, N_SHARDS, 0});
}

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
        write_shards(models[i]);
        assert_int_equal(logits_of(golden_path(models[i]), 1, &whole, &n_whole, &err), SL_OK);
        for (int no = 0; no < N_SHARDS; no++) { /* any shard's path opens them all; so do stages */
            if (logits_of(shard_path(no), no + 1, &shards, &n, &err) != SL_OK)
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
    sl_status got = logits_of(shard_path(0), 1, &out, &n, &err);
    if (got == SL_OK) fail_msg("accepted, expected \"%s\"", what);
    if (!strstr(err.text, what)) fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    assert_int_equal(got, status);
    assert_int_equal(sl_mem_live(), live);
}

static void test_a_missing_shard(void **state)
{
    (void)state;
    write_shards("llama");
    assert_int_equal(unlink(shard_path(1)), 0);
    refuse(SL_NOT_FOUND, "model-00002-of-00003.gguf: open");
}

static void test_a_shard_of_another_model(void **state)
{
    (void)state;
    write_shards("qwen3");
    write_shard(1, (struct split){"llama", 1, N_SHARDS, 0});
    refuse(SL_CORRUPT, "split.tensors.count: 35, not 33"); /* the first shard says what there is */
    write_shard(0, (struct split){"qwen3", 0, N_SHARDS, 33}); /* as if it had been made to fit */
    refuse(SL_CORRUPT, "tensor blk.");
}

static void test_wrong_numbers(void **state)
{
    (void)state;
    write_shards("llama");
    write_shard(2, (struct split){"llama", 1, N_SHARDS, 0});
    refuse(SL_CORRUPT, "model-00003-of-00003.gguf: key split.no: 1, not 2");
    write_shard(2, (struct split){"llama", 2, 4, 0});
    refuse(SL_CORRUPT, "model-00003-of-00003.gguf: key split.count: 4, not 3");
    write_shards("llama");
    write_shard(0, (struct split){"llama", 0, N_SHARDS, 31});
    refuse(SL_CORRUPT, "key split.tensors.count: 31, not 30");
    write_shards("llama");
    write_shard(1, (struct split){"llama", 0, N_SHARDS, 0});
    refuse(SL_CORRUPT, "model-00002-of-00003.gguf: key split.no: 0, not 1");
}

static void test_one_shard_under_a_name_of_its_own(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    int32_t n = 0;
    float *out;
    write_shards("llama");
    assert_int_equal(rename(shard_path(0), folder_path("alone.gguf")), 0);
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
