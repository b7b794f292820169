/* gguf_internal.h: what the parts of the GGUF reader share: gguf.c maps files and answers queries,
 * gguf_parse.c checks and indexes one shard, gguf_value.c converts values, gguf_types.c knows the
 * types' sizes.
 * Floor: exec/llm.  Thread: the one that opens.  Allocates: gguf_parse_shard, into the shard and
 * the file.
 * Invariant: everything a shard's index takes comes from bytes of that shard already counted, see
 * GGUF_INDEX_FACTOR. */
#pragma once
#include "base/arena.h"
#include "base/strmap.h"
#include "exec/llm/gguf.h"

#define GGUF_ALIGNMENT_DEFAULT 32
#define GGUF_ALIGNMENT_MIN 8     /* the format: a multiple of 8 */
#define GGUF_ALIGNMENT_MAX 65536 /* the largest page anyone maps; more only wastes the file */
#define GGUF_KEY_MAX 65535       /* the format's limit */
#define GGUF_ESCAPED_MAX 160     /* bytes of a name in an error; longer names are cut */
#define GGUF_VERSION_MIN 2
#define GGUF_VERSION_MAX 3

/* Smallest key-value: length, one byte of key, type, one byte of value. Smallest tensor: length,
 * one byte of name, number of dimensions, type, offset. A count that needs more than the bytes
 * left is refused before anything is allocated. */
#define GGUF_KV_BYTES_MIN (8 + 1 + 4 + 1)
#define GGUF_TENSOR_BYTES_MIN (8 + 1 + 4 + 4 + 8)

/* A shard's values take at most this many bytes of memory per byte of file: a 48-byte gguf_kv
 * stands for at least 14, a 16-byte gguf_str for at least 8. The arena enforces it, should a check
 * ever be missing. */
#define GGUF_INDEX_FACTOR 8
#define GGUF_INDEX_SLACK 4096

struct gguf_shard {
    const unsigned char *bytes; /* mapped, or borrowed from gguf_open_mem's caller */
    size_t n_bytes;
    bool is_mapped;
    uint32_t version;
    struct sl_arena arena; /* kvs, their strings, the tensors' offsets */
    struct gguf_kv *kvs;
    size_t n_kvs;
    struct sl_strmap keys; /* key -> index in kvs */
};

struct gguf_file {
    struct gguf_shard *shards;
    int n_shards;
    struct gguf_tensor *tensors; /* of all shards, in file order */
    size_t n_tensors;
    struct sl_strmap names; /* tensor name, in the mapping -> index in tensors */
};

/* Indexes shard i, whose bytes are set: fills its kvs and appends its tensors to the file's. On
 * failure the caller closes the file. CORRUPT, UNSUPPORTED, LIMIT, NOMEM, with the field named. */
SL_CHECK sl_status gguf_parse_shard(struct gguf_file *file, int i, struct sl_err *err);

/* A shard's key-value, or NULL. */
const struct gguf_kv *gguf_shard_find(const struct gguf_shard *shard, const char *key);

/* Integer value of a shard's key, converted. NOT_FOUND, CORRUPT. */
SL_CHECK sl_status gguf_shard_u64(const struct gguf_shard *shard, const char *key, uint64_t *out,
                                  struct sl_err *err);

/* Name and bytes of a value type; "?" and 0 when unknown, 0 for strings and arrays. */
const char *gguf_value_type_name(uint32_t type);
size_t gguf_value_type_bytes(uint32_t type);

/* Little-endian number of n_bytes <= 8. */
uint64_t gguf_load_le(const unsigned char *p, size_t n_bytes);

/* Copies s, cut to fit, with all but printable ASCII as \xNN, so that an error never carries a
 * stranger's control bytes. */
const char *gguf_escape(char out[GGUF_ESCAPED_MAX], const char *s, size_t n);
