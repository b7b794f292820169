/* gguf_write.h: writes GGUF v3 files: tests, benchmark models, and whatever converts models.
 * Floor: exec/llm.  Thread: the caller's.  Allocates: the header; tensor data goes straight to
 * the file. Order: create, all key-values, all tensor declarations, begin_data, each tensor's
 * data in declared order, finish.
 * Invariant: the file appears under its name only when finish succeeded (written beside it, then
 * renamed). */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_writer; /* opaque */
struct gguf_kv;

SL_CHECK sl_status gguf_writer_create(const char *path, struct gguf_writer **out,
                                      struct sl_err *err);
void gguf_writer_destroy(struct gguf_writer *w); /* removes an unfinished file; NULL is fine */

SL_CHECK sl_status gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v);
SL_CHECK sl_status gguf_write_f32(struct gguf_writer *w, const char *key, float v);
SL_CHECK sl_status gguf_write_bool(struct gguf_writer *w, const char *key, bool v);
SL_CHECK sl_status gguf_write_str(struct gguf_writer *w, const char *key, const char *s);
SL_CHECK sl_status gguf_write_strs(struct gguf_writer *w, const char *key, const char *const *s,
                                   size_t n);
SL_CHECK sl_status gguf_write_i32s(struct gguf_writer *w, const char *key, const int32_t *v,
                                   size_t n);
SL_CHECK sl_status gguf_write_f32s(struct gguf_writer *w, const char *key, const float *v,
                                   size_t n);
/* Copies one key-value of a file that was read, as it is. */
SL_CHECK sl_status gguf_write_kv(struct gguf_writer *w, const struct gguf_kv *kv);

/* Declares a tensor of ggml type `type` with ne[0..n_dims). */
SL_CHECK sl_status gguf_write_tensor(struct gguf_writer *w, const char *name, uint32_t type,
                                     int n_dims, const int64_t *ne);
SL_CHECK sl_status gguf_write_begin_data(struct gguf_writer *w, struct sl_err *err);
/* Bytes of the next declared tensor; may come in several calls. */
SL_CHECK sl_status gguf_write_data(struct gguf_writer *w, const void *bytes, size_t n,
                                   struct sl_err *err);
SL_CHECK sl_status gguf_write_finish(struct gguf_writer *w, struct sl_err *err);
