#include "support/model_shards.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"
#include "support/model_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

const char *model_shard_path(int no)
{
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-%05d.gguf", no + 1, MODEL_SHARDS);
    return folder_path(name);
}

static void put_keys(struct gguf_writer *w, const struct gguf_file *file,
                     const struct model_shard *s, int no)
{
    for (size_t i = 0; no == 0 && i < gguf_n_kvs(file); i++)
        assert_int_equal(gguf_write_kv(w, gguf_kv_at(file, i)), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.no", s->no), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.count", s->n_shards), SL_OK);
    assert_int_equal(gguf_write_u32(w, "split.tensors.count", s->n_tensors), SL_OK);
}

void model_shard_write(int no, struct model_shard s)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file;
    struct gguf_writer *w;
    if (gguf_open(s.from, &file, &err) != SL_OK) fail_msg("%s", err.text);
    size_t n = gguf_n_tensors(file), first = n * (size_t)no / MODEL_SHARDS,
           end = n * (size_t)(no + 1) / MODEL_SHARDS;
    s.n_tensors = s.n_tensors ? s.n_tensors : (uint32_t)n;
    if (gguf_writer_create(model_shard_path(no), &w, &err) != SL_OK) fail_msg("%s", err.text);
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

void model_shards_write(const char *from)
{
    for (int i = 0; i < MODEL_SHARDS; i++)
        model_shard_write(i, (struct model_shard){from, (uint32_t)i, MODEL_SHARDS, 0});
}
