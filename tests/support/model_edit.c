#include "support/model_edit.h"
#include "exec/llm/gguf.h"
#include "exec/llm/gguf_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef STARLANE_ROOT
#define STARLANE_ROOT "."
#endif
#define FILLS_BYTES 4096
#define N_PATHS 4

static char folder[256];

int model_folder_make(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/starlane-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

int model_folder_remove(void **state)
{
    char command[sizeof folder + 16];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *next_path(void)
{
    static char paths[N_PATHS][MODEL_PATH_MAX];
    static int i;
    return paths[i++ % N_PATHS];
}

const char *folder_path(const char *name)
{
    char *path = next_path();
    snprintf(path, MODEL_PATH_MAX, "%s/%s", folder, name);
    return path;
}

const char *golden_path(const char *name)
{
    char *path = next_path();
    snprintf(path, MODEL_PATH_MAX, STARLANE_ROOT "/tests/golden/llm/%s.gguf", name);
    return path;
}

struct job {
    const struct gguf_file *file;
    struct gguf_writer *w;
    const struct edit *edits;
    size_t n_edits;
};

static const struct edit *edit_of(const struct job *job, const char *name, size_t n)
{
    for (size_t i = 0; i < job->n_edits; i++) {
        if (strlen(job->edits[i].name) == n && !memcmp(job->edits[i].name, name, n))
            return &job->edits[i];
    }
    return NULL;
}

static void write_key(struct gguf_writer *w, const struct edit *e)
{
    sl_status status = SL_OK;
    switch (e->kind) {
    case EDIT_U32: status = gguf_write_u32(w, e->name, e->u32); break;
    case EDIT_F32: status = gguf_write_f32(w, e->name, e->f32); break;
    case EDIT_BOOL: status = gguf_write_bool(w, e->name, e->u32); break;
    case EDIT_STR: status = gguf_write_str(w, e->name, e->str); break;
    case EDIT_I32S: status = gguf_write_i32s(w, e->name, e->i32s, e->n_elements); break;
    case EDIT_STRS: status = gguf_write_strs(w, e->name, e->strs, e->n_elements); break;
    case EDIT_DROP:
    case EDIT_TENSOR: break;
    }
    if (status != SL_OK) fail_msg("%s: %s", e->name, sl_status_text(status));
}

static void write_keys(const struct job *job)
{
    for (size_t i = 0; i < gguf_n_kvs(job->file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(job->file, i);
        const struct edit *e = edit_of(job, kv->key.s, kv->key.len);
        if (e)
            write_key(job->w, e);
        else
            assert_int_equal(gguf_write_kv(job->w, kv), SL_OK);
    }
    for (size_t i = 0; i < job->n_edits; i++) {
        if (!gguf_find(job->file, job->edits[i].name)) write_key(job->w, &job->edits[i]);
    }
}

static void declare(struct gguf_writer *w, const struct edit *e)
{
    if (e->kind == EDIT_TENSOR)
        assert_int_equal(gguf_write_tensor(w, e->name, e->type, e->n_dims, e->ne), SL_OK);
}

static void declare_tensors(const struct job *job)
{
    for (size_t i = 0; i < gguf_n_tensors(job->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(job->file, i);
        const struct edit *e = edit_of(job, t->name, strlen(t->name));
        if (e)
            declare(job->w, e);
        else
            assert_int_equal(gguf_write_tensor(job->w, t->name, t->type, t->n_dims, t->ne), SL_OK);
    }
    for (size_t i = 0; i < job->n_edits; i++) {
        if (!gguf_tensor_find(job->file, job->edits[i].name)) declare(job->w, &job->edits[i]);
    }
}

static size_t edit_bytes(const struct edit *e)
{
    int64_t block_elements, n = 1;
    size_t block_bytes;
    assert_true(gguf_type_traits(e->type, &block_elements, &block_bytes));
    for (int i = 0; i < e->n_dims; i++) n *= e->ne[i];
    return (size_t)(n / block_elements) * block_bytes;
}

static void write_content(struct gguf_writer *w, const struct edit *e)
{
    unsigned char fills[FILLS_BYTES];
    size_t n, left = e->kind == EDIT_TENSOR ? edit_bytes(e) : 0;
    if (left && e->data) {
        assert_int_equal(gguf_write_data(w, e->data, left, NULL), SL_OK);
        return;
    }
    memset(fills, e->fill, sizeof fills);
    for (; left; left -= n) {
        n = left < sizeof fills ? left : sizeof fills;
        assert_int_equal(gguf_write_data(w, fills, n, NULL), SL_OK);
    }
}

static void write_tensors(const struct job *job)
{
    for (size_t i = 0; i < gguf_n_tensors(job->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(job->file, i);
        const struct edit *e = edit_of(job, t->name, strlen(t->name));
        if (e)
            write_content(job->w, e);
        else
            assert_int_equal(gguf_write_data(job->w, t->data, t->n_bytes, NULL), SL_OK);
    }
    for (size_t i = 0; i < job->n_edits; i++) {
        if (!gguf_tensor_find(job->file, job->edits[i].name)) write_content(job->w, &job->edits[i]);
    }
}

const char *model_edit(const char *from, const struct edit *edits, size_t n_edits)
{
    struct sl_err err = SL_ERR_INIT;
    struct gguf_file *file;
    struct job job = {.edits = edits, .n_edits = n_edits};
    const char *path = folder_path("edited.gguf");
    if (gguf_open(from, &file, &err) != SL_OK) fail_msg("%s", err.text);
    job.file = file;
    if (gguf_writer_create(path, &job.w, &err) != SL_OK) fail_msg("%s", err.text);
    write_keys(&job);
    declare_tensors(&job);
    assert_int_equal(gguf_write_begin_data(job.w, &err), SL_OK);
    write_tensors(&job);
    if (gguf_write_finish(job.w, &err) != SL_OK) fail_msg("%s", err.text);
    gguf_writer_destroy(job.w);
    gguf_close(file);
    return path;
}
