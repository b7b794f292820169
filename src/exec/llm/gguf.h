/* gguf.h: a hardened reader for GGUF model files (format:
 * github.com/ggml-org/ggml/blob/master/docs/gguf.md, v2 and v3).
 * Floor: exec/llm.  Thread: read-only after open, so any.  Allocates: the index, in proportion
 * to the file's size. The file is hostile until checked: every count, offset, length, type,
 * alignment and string is verified before use, and the error names the field ("tensor
 * blk.3.attn_q.weight: 12 bytes past the end of the file"). Nothing of ggml is needed.
 * Invariant: after open, every tensor's bytes lie inside its mapped file, its rows are whole
 * blocks, names are unique. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_DIMS_MAX 4
#define GGUF_NAME_MAX 63       /* ggml keeps 64 bytes with the NUL */
#define GGUF_SHARDS_MAX 1024   /* more is a mistake, not a model */
#define GGUF_TENSORS_MAX 65536 /* DeepSeek-V3 has 1,025 */
#define GGUF_KVS_MAX 65536
#define GGUF_ARRAY_DEPTH_MAX 1 /* arrays of arrays are refused: no model has them */

enum gguf_type { /* value types, numbered as in the format */
                 GGUF_U8,
                 GGUF_I8,
                 GGUF_U16,
                 GGUF_I16,
                 GGUF_U32,
                 GGUF_I32,
                 GGUF_F32,
                 GGUF_BOOL,
                 GGUF_STRING,
                 GGUF_ARRAY,
                 GGUF_U64,
                 GGUF_I64,
                 GGUF_F64,
                 GGUF_TYPE_COUNT
};

struct gguf_str {
    const char *s; /* into the mapped file, not NUL-ended; may hold any bytes */
    size_t len;
};

struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type; /* of the value, or of the array's elements */
    bool is_array;
    uint64_t n;                  /* elements; 1 for a scalar */
    const unsigned char *raw;    /* first element, unaligned, little endian (not for strings) */
    const struct gguf_str *strs; /* n strings, when type is GGUF_STRING */
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX + 1];
    int n_dims;
    int64_t ne[GGUF_DIMS_MAX]; /* elements per dimension, ne[0] contiguous; unused ones are 1 */
    uint32_t type;             /* ggml_type number; known to gguf_type_traits */
    size_t n_bytes;
    const void *data; /* mapped, aligned to the file's general.alignment */
    int shard;        /* which file of a sharded model */
};

struct gguf_file; /* opaque */

/* Maps the file read-only and checks all of it but the tensors' contents. `path` of any shard
 * named `*-00001-of-00005.gguf` opens them all, checked against split.count, split.no and
 * split.tensors.count. NOT_FOUND, IO, CORRUPT, UNSUPPORTED (version 1, big endian, a tensor type
 * nobody here knows), LIMIT, NOMEM. */
SL_CHECK sl_status gguf_open(const char *path, struct gguf_file **out, struct sl_err *err);

/* The same over n bytes in memory (fuzzing, tests); borrowed until gguf_close. `bytes` must be
 * 32-byte aligned. */
SL_CHECK sl_status gguf_open_mem(const void *bytes, size_t n, struct gguf_file **out,
                                 struct sl_err *err);
void gguf_close(struct gguf_file *file); /* NULL is fine */

uint32_t gguf_version(const struct gguf_file *file);
uint64_t gguf_file_bytes(const struct gguf_file *file); /* all shards */
int gguf_n_shards(const struct gguf_file *file);
/* The mapping of shard i: *out_bytes long. For buffers over mapped memory and madvise. */
const void *gguf_shard_map(const struct gguf_file *file, int i, size_t *out_bytes);

/* of the first shard */
size_t gguf_n_kvs(const struct gguf_file *file);
const struct gguf_kv *gguf_kv_at(const struct gguf_file *file, size_t i);
const struct gguf_kv *gguf_find(const struct gguf_file *file, const char *key); /* NULL: absent */

/* Typed access. Absent: NOT_FOUND; wrong type or out of range: CORRUPT; both name the key.
 * Integers convert between widths when the value fits; floats accept F32, F64. *out is untouched
 * on failure. */
SL_CHECK sl_status gguf_get_u32(const struct gguf_file *file, const char *key, uint32_t *out,
                                struct sl_err *err);
SL_CHECK sl_status gguf_get_u64(const struct gguf_file *file, const char *key, uint64_t *out,
                                struct sl_err *err);
SL_CHECK sl_status gguf_get_f32(const struct gguf_file *file, const char *key, float *out,
                                struct sl_err *err);
SL_CHECK sl_status gguf_get_bool(const struct gguf_file *file, const char *key, bool *out,
                                 struct sl_err *err);
SL_CHECK sl_status gguf_get_str(const struct gguf_file *file, const char *key, struct gguf_str *out,
                                struct sl_err *err);

/* Element i of a numeric scalar (i = 0) or array, converted; false when i >= n, not numeric, or
 * it does not fit. */
bool gguf_kv_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out);
bool gguf_kv_f64(const struct gguf_kv *kv, uint64_t i, double *out);

size_t gguf_n_tensors(const struct gguf_file *file); /* all shards */
const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t i);
/* NULL: absent */
const struct gguf_tensor *gguf_tensor_find(const struct gguf_file *file, const char *name);

/* Elements and bytes per block of a ggml tensor type; false when the type is unknown (or removed
 * from ggml). */
bool gguf_type_traits(uint32_t type, int64_t *out_block_elements, size_t *out_block_bytes);
const char *gguf_tensor_type_name(uint32_t type); /* "q4_K"; "?" when unknown */
