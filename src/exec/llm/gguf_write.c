/* gguf_write.c: collects keys and tensor declarations, then streams the data behind them. */
#include "exec/llm/gguf_write.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/mem.h"
#include "base/strmap.h"
#include "exec/llm/gguf_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES_MAX (256u << 20) /* the largest vocabularies take about 20 MB */
#define NAMES_BYTES_MAX (64u << 20)   /* keys and tensor names, kept to refuse duplicates */
#define TEMP_SUFFIX ".part-XXXXXX"    /* mkostemp's pattern */

struct declared_tensor {
    const char *name;
    uint32_t type;
    int n_dims;
    int64_t ne[GGUF_DIMS_MAX];
    size_t n_bytes;
};

struct gguf_writer {
    char *path;
    char *temp_path;
    int fd;       /* -1 once finished */
    bool failed;  /* a write failed: the file is no good */
    bool in_data; /* the header is written */
    size_t alignment;
    struct sl_buf kvs; /* encoded */
    uint64_t n_kvs;
    struct sl_arena names;
    struct sl_strmap keys;
    struct sl_strmap tensor_names;
    struct declared_tensor *tensors;
    size_t n_tensors, tensors_cap;
    size_t current;       /* tensor whose data comes next */
    size_t current_bytes; /* of it, already written */
};

static char *concat(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *s = sl_malloc(a_len + b_len + 1);
    if (!s) return NULL;
    memcpy(s, a, a_len);
    memcpy(s + a_len, b, b_len + 1);
    return s;
}

static sl_status create_temp(struct gguf_writer *w, const char *path, struct sl_err *err)
{
    w->path = sl_strdup(path);
    char *temp_path = concat(path, TEMP_SUFFIX);
    if (!w->path || !temp_path) {
        sl_free(temp_path);
        return sl_err_set(err, SL_NOMEM, "%s: no memory", path);
    }
    w->fd = mkostemp(temp_path, O_CLOEXEC);
    if (w->fd < 0) {
        int errnum = errno;
        sl_free(temp_path);
        return sl_err_errno(err, errnum, "%s: create", path);
    }
    w->temp_path = temp_path; /* from here on destroy removes it */
    if (fchmod(w->fd, 0644) != 0) return sl_err_errno(err, errno, "%s: mode", path);
    return SL_OK;
}

sl_status gguf_writer_create(const char *path, struct gguf_writer **out, struct sl_err *err)
{
    struct gguf_writer *w = sl_calloc(1, sizeof(*w));
    if (!w) return sl_err_set(err, SL_NOMEM, "%s: no memory", path);
    w->fd = -1;
    w->alignment = GGUF_ALIGNMENT_DEFAULT;
    sl_buf_init(&w->kvs, HEADER_BYTES_MAX);
    sl_arena_init(&w->names, NAMES_BYTES_MAX);
    sl_status status = create_temp(w, path, err);
    if (status) goto fail;
    *out = w;
    return SL_OK;
fail:
    gguf_writer_destroy(w);
    return status;
}

void gguf_writer_destroy(struct gguf_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->temp_path) unlink(w->temp_path);
    sl_free(w->temp_path);
    sl_free(w->path);
    sl_buf_done(&w->kvs);
    sl_arena_done(&w->names);
    sl_strmap_done(&w->keys);
    sl_strmap_done(&w->tensor_names);
    sl_free(w->tensors);
    sl_free(w);
}

static sl_status add_le(struct sl_buf *buf, uint64_t v, size_t n_bytes)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n_bytes; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    return sl_buf_add(buf, bytes, n_bytes);
}

static sl_status add_str(struct sl_buf *buf, const char *s, size_t len)
{
    sl_status status = add_le(buf, len, 8);
    return status ? status : sl_buf_add(buf, s, len);
}

static uint32_t float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* Takes a copy of the name into the set; EXISTS when it is there. */
static sl_status claim_name(struct gguf_writer *w, struct sl_strmap *set, struct gguf_str name,
                            const char **out)
{
    if (sl_strmap_get(set, name.s, name.len, -1) >= 0) return SL_EXISTS;
    char *copy = sl_arena_strndup(&w->names, name.s, name.len);
    if (!copy) return SL_NOMEM;
    if (out) *out = copy;
    return sl_strmap_put(set, copy, name.len, 0);
}

/* Everything of a key-value but its elements. On a later failure the caller truncates w->kvs and
 * the name stays taken. */
static sl_status begin_kv(struct gguf_writer *w, struct gguf_str key, enum gguf_type type,
                          const uint64_t *n_array)
{
    if (w->in_data || !key.len || key.len > GGUF_KEY_MAX) return SL_INVALID;
    if (w->n_kvs == GGUF_KVS_MAX) return SL_LIMIT;
    sl_status status = claim_name(w, &w->keys, key, NULL);
    if (!status) status = add_str(&w->kvs, key.s, key.len);
    if (!status && n_array) status = add_le(&w->kvs, GGUF_ARRAY, 4);
    if (!status) status = add_le(&w->kvs, type, 4);
    if (!status && n_array) status = add_le(&w->kvs, *n_array, 8);
    return status;
}

/* A failed key-value leaves no half of itself behind. */
static sl_status end_kv(struct gguf_writer *w, size_t start, sl_status status)
{
    if (status)
        sl_buf_truncate(&w->kvs, start);
    else
        w->n_kvs++;
    return status;
}

static struct gguf_str key_str(const char *key)
{
    return (struct gguf_str){key, strlen(key)};
}

static bool alignment_is_valid(uint64_t v)
{
    return v >= GGUF_ALIGNMENT_MIN && v <= GGUF_ALIGNMENT_MAX && !(v & (v - 1));
}

/* The key that moves the data: taken note of, because the reader will obey it. */
static sl_status note_alignment(struct gguf_writer *w, struct gguf_str key, enum gguf_type type,
                                uint64_t v)
{
    static const char name[] = "general.alignment";
    if (key.len != sizeof(name) - 1 || memcmp(key.s, name, key.len) != 0) return SL_OK;
    if (type != GGUF_U32 || !alignment_is_valid(v)) return SL_INVALID;
    w->alignment = (size_t)v;
    return SL_OK;
}

static sl_status write_scalar(struct gguf_writer *w, const char *key, enum gguf_type type,
                              uint64_t bits)
{
    size_t start = w->kvs.len;
    sl_status status = begin_kv(w, key_str(key), type, NULL);
    if (!status) status = add_le(&w->kvs, bits, gguf_value_type_bytes(type));
    if (!status) status = note_alignment(w, key_str(key), type, bits);
    return end_kv(w, start, status);
}

sl_status gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    return write_scalar(w, key, GGUF_U32, v);
}

sl_status gguf_write_f32(struct gguf_writer *w, const char *key, float v)
{
    return write_scalar(w, key, GGUF_F32, float_bits(v));
}

sl_status gguf_write_bool(struct gguf_writer *w, const char *key, bool v)
{
    return write_scalar(w, key, GGUF_BOOL, v);
}

sl_status gguf_write_str(struct gguf_writer *w, const char *key, const char *s)
{
    size_t start = w->kvs.len;
    sl_status status = begin_kv(w, key_str(key), GGUF_STRING, NULL);
    if (!status) status = add_str(&w->kvs, s, strlen(s));
    return end_kv(w, start, status);
}

sl_status gguf_write_strs(struct gguf_writer *w, const char *key, const char *const *s, size_t n)
{
    size_t start = w->kvs.len;
    uint64_t n_array = n;
    sl_status status = begin_kv(w, key_str(key), GGUF_STRING, &n_array);
    for (size_t i = 0; i < n && !status; i++) status = add_str(&w->kvs, s[i], strlen(s[i]));
    return end_kv(w, start, status);
}

sl_status gguf_write_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    size_t start = w->kvs.len;
    uint64_t n_array = n;
    sl_status status = begin_kv(w, key_str(key), GGUF_I32, &n_array);
    for (size_t i = 0; i < n && !status; i++) status = add_le(&w->kvs, (uint32_t)v[i], 4);
    return end_kv(w, start, status);
}

sl_status gguf_write_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n)
{
    size_t start = w->kvs.len;
    uint64_t n_array = n;
    sl_status status = begin_kv(w, key_str(key), GGUF_F32, &n_array);
    for (size_t i = 0; i < n && !status; i++) status = add_le(&w->kvs, float_bits(v[i]), 4);
    return end_kv(w, start, status);
}

static sl_status add_elements(struct gguf_writer *w, const struct gguf_kv *kv)
{
    sl_status status = SL_OK;
    if (kv->type != GGUF_STRING)
        return sl_buf_add(&w->kvs, kv->raw, kv->n * gguf_value_type_bytes(kv->type));
    for (uint64_t i = 0; i < kv->n && !status; i++)
        status = add_str(&w->kvs, kv->strs[i].s, kv->strs[i].len);
    return status;
}

sl_status gguf_write_kv(struct gguf_writer *w, const struct gguf_kv *kv)
{
    size_t start = w->kvs.len;
    int64_t v = 0;
    sl_status status = begin_kv(w, kv->key, kv->type, kv->is_array ? &kv->n : NULL);
    if (!status) status = add_elements(w, kv);
    if (!status && gguf_kv_i64(kv, 0, &v))
        status = note_alignment(w, kv->key, kv->type, (uint64_t)v);
    return end_kv(w, start, status);
}

static sl_status tensor_bytes(uint32_t type, int n_dims, const int64_t *ne, size_t *out)
{
    int64_t n_elements = 1, block_elements;
    size_t block_bytes;
    if (n_dims < 1 || n_dims > GGUF_DIMS_MAX ||
        !gguf_type_traits(type, &block_elements, &block_bytes))
        return SL_INVALID;
    for (int i = 0; i < n_dims; i++) {
        if (ne[i] < 1 || !sl_mul_i64(n_elements, ne[i], &n_elements)) return SL_INVALID;
    }
    if (ne[0] % block_elements) return SL_INVALID;
    return sl_mul_size((size_t)(n_elements / block_elements), block_bytes, out) ? SL_OK
                                                                                : SL_INVALID;
}

static sl_status grow_tensors(struct gguf_writer *w)
{
    if (w->n_tensors < w->tensors_cap) return SL_OK;
    if (w->n_tensors == GGUF_TENSORS_MAX) return SL_LIMIT;
    size_t cap = w->tensors_cap ? w->tensors_cap * 2 : 64;
    struct declared_tensor *tensors = sl_realloc_array(w->tensors, cap, sizeof(*tensors));
    if (!tensors) return SL_NOMEM;
    w->tensors = tensors;
    w->tensors_cap = cap;
    return SL_OK;
}

sl_status gguf_write_tensor(struct gguf_writer *w, const char *name, uint32_t type, int n_dims,
                            const int64_t *ne)
{
    struct declared_tensor t = {.type = type, .n_dims = n_dims};
    size_t len = strlen(name);
    if (w->in_data || !len || len > GGUF_NAME_MAX) return SL_INVALID;
    sl_status status = tensor_bytes(type, n_dims, ne, &t.n_bytes);
    if (!status) status = grow_tensors(w);
    if (!status) status = claim_name(w, &w->tensor_names, key_str(name), &t.name);
    if (status) return status;
    memcpy(t.ne, ne, (size_t)n_dims * sizeof(*ne));
    w->tensors[w->n_tensors++] = t;
    return SL_OK;
}

/* Appends the tensor's description and moves *offset past its data and the padding behind it. */
static sl_status add_tensor_info(const struct gguf_writer *w, struct sl_buf *buf,
                                 const struct declared_tensor *t, size_t *offset)
{
    sl_status status = add_str(buf, t->name, strlen(t->name));
    if (!status) status = add_le(buf, (uint64_t)t->n_dims, 4);
    for (int i = 0; i < t->n_dims && !status; i++) status = add_le(buf, (uint64_t)t->ne[i], 8);
    if (!status) status = add_le(buf, t->type, 4);
    if (!status) status = add_le(buf, *offset, 8);
    if (status) return status;
    if (!sl_add_size(*offset, t->n_bytes, offset)) return SL_LIMIT;
    return sl_align_size(*offset, w->alignment, offset) ? SL_OK : SL_LIMIT;
}

static sl_status write_all(struct gguf_writer *w, const void *bytes, size_t n, struct sl_err *err)
{
    const char *p = bytes;
    while (n) {
        ssize_t done = write(w->fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) {
            w->failed = true;
            return sl_err_errno(err, errno, "%s: write", w->path);
        }
        p += done;
        n -= (size_t)done;
    }
    return SL_OK;
}

static sl_status add_header(const struct gguf_writer *w, struct sl_buf *buf)
{
    size_t offset = 0;
    sl_status status = sl_buf_add(buf, "GGUF", 4);
    if (!status) status = add_le(buf, GGUF_VERSION_MAX, 4);
    if (!status) status = add_le(buf, w->n_tensors, 8);
    if (!status) status = add_le(buf, w->n_kvs, 8);
    if (!status) status = sl_buf_add(buf, w->kvs.data, w->kvs.len);
    for (size_t i = 0; i < w->n_tensors && !status; i++)
        status = add_tensor_info(w, buf, &w->tensors[i], &offset);
    while (!status && buf->len % w->alignment) status = sl_buf_addc(buf, 0);
    return status;
}

sl_status gguf_write_begin_data(struct gguf_writer *w, struct sl_err *err)
{
    struct sl_buf header;
    if (w->in_data)
        return sl_err_set(err, SL_INVALID, "%s: the header was already written", w->path);
    sl_buf_init(&header, HEADER_BYTES_MAX);
    sl_status status = add_header(w, &header);
    if (status)
        sl_err_set(err, status, "%s: header", w->path);
    else
        status = write_all(w, header.data, header.len, err);
    sl_buf_done(&header);
    w->in_data = !status;
    return status;
}

static sl_status end_tensor(struct gguf_writer *w, const struct declared_tensor *t,
                            struct sl_err *err)
{
    static const char zeros[4096];
    sl_status status = SL_OK;
    for (size_t left = -t->n_bytes & (w->alignment - 1); left && !status;) {
        size_t n = left < sizeof(zeros) ? left : sizeof(zeros);
        status = write_all(w, zeros, n, err);
        left -= n;
    }
    w->current++;
    w->current_bytes = 0;
    return status;
}

sl_status gguf_write_data(struct gguf_writer *w, const void *bytes, size_t n, struct sl_err *err)
{
    if (!w->in_data || w->current == w->n_tensors) {
        return sl_err_set(err, SL_INVALID, "%s: no tensor awaits data", w->path);
    }
    const struct declared_tensor *t = &w->tensors[w->current];
    if (n > t->n_bytes - w->current_bytes) {
        return sl_err_set(err, SL_INVALID, "tensor %s: %zu bytes more than its %zu", t->name,
                          n - (t->n_bytes - w->current_bytes), t->n_bytes);
    }
    sl_status status = write_all(w, bytes, n, err);
    if (status) return status;
    w->current_bytes += n;
    return w->current_bytes == t->n_bytes ? end_tensor(w, t, err) : SL_OK;
}

sl_status gguf_write_finish(struct gguf_writer *w, struct sl_err *err)
{
    if (!w->in_data || w->failed || w->fd < 0)
        return sl_err_set(err, SL_INVALID, "%s: not in the data part", w->path);
    if (w->current < w->n_tensors) {
        return sl_err_set(err, SL_INVALID, "tensor %s: its data is missing",
                          w->tensors[w->current].name);
    }
    if (fsync(w->fd) != 0) return sl_err_errno(err, errno, "%s: sync", w->path);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return sl_err_errno(err, errno, "%s: close", w->path);
    if (rename(w->temp_path, w->path) != 0) return sl_err_errno(err, errno, "%s: rename", w->path);
    sl_free(w->temp_path);
    w->temp_path = NULL;
    return SL_OK;
}
