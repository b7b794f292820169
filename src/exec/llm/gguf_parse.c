/* gguf_parse.c: checks and indexes one shard with a cursor that never passes its end. */
#include "base/checked.h"
#include "base/mem.h"
#include "exec/llm/gguf_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reads forward through a shard and never past its end. What is being read is kept for the error's
 * text. */
struct cursor {
    const unsigned char *bytes;
    size_t n_bytes;
    size_t at;
    const char *kind;     /* "key", "tensor", or NULL in the header */
    size_t index;         /* of the key or tensor */
    struct gguf_str name; /* s is NULL until the name was read */
    struct sl_err *err;
};

const char *gguf_escape(char out[GGUF_ESCAPED_MAX], const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        if (len + 4 + sizeof("...") > GGUF_ESCAPED_MAX) {
            memcpy(out + len, "...", 3);
            len += 3;
            break;
        }
        if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
            out[len++] = (char)byte;
            continue;
        }
        out[len++] = '\\';
        out[len++] = 'x';
        out[len++] = hex[byte >> 4];
        out[len++] = hex[byte & 15];
    }
    out[len] = '\0';
    return out;
}

uint64_t gguf_load_le(const unsigned char *p, size_t n_bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n_bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static sl_status SL_PRINTF(4, 5)
    cursor_fail(const struct cursor *c, sl_status status, const char *field, const char *fmt, ...)
{
    char text[256];
    char name[GGUF_ESCAPED_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (!c->kind) return sl_err_set(c->err, status, "%s: %s", field, text);
    if (!c->name.s)
        return sl_err_set(c->err, status, "%s %zu: %s: %s", c->kind, c->index, field, text);
    gguf_escape(name, c->name.s, c->name.len);
    return sl_err_set(c->err, status, "%s %s: %s: %s", c->kind, name, field, text);
}

static size_t cursor_left(const struct cursor *c)
{
    return c->n_bytes - c->at;
}

static void cursor_enter(struct cursor *c, const char *kind, size_t index)
{
    c->kind = kind;
    c->index = index;
    c->name = (struct gguf_str){NULL, 0};
}

static sl_status take(struct cursor *c, uint64_t n, const char *field, const unsigned char **out)
{
    if (n > cursor_left(c)) {
        return cursor_fail(c, SL_CORRUPT, field,
                           "%" PRIu64 " bytes at offset %zu, but the file has %zu left", n, c->at,
                           cursor_left(c));
    }
    *out = c->bytes + c->at;
    c->at += (size_t)n;
    return SL_OK;
}

static sl_status take_u32(struct cursor *c, const char *field, uint32_t *out)
{
    const unsigned char *p = NULL;
    sl_status status = take(c, 4, field, &p);
    if (status) return status;
    *out = (uint32_t)gguf_load_le(p, 4);
    return SL_OK;
}

static sl_status take_u64(struct cursor *c, const char *field, uint64_t *out)
{
    const unsigned char *p = NULL;
    sl_status status = take(c, 8, field, &p);
    if (status) return status;
    *out = gguf_load_le(p, 8);
    return SL_OK;
}

static sl_status take_str(struct cursor *c, const char *field, struct gguf_str *out)
{
    const unsigned char *p = NULL;
    uint64_t len = 0;
    sl_status status = take_u64(c, field, &len);
    if (status) return status;
    status = take(c, len, field, &p);
    if (status) return status;
    *out = (struct gguf_str){(const char *)p, (size_t)len};
    return SL_OK;
}

/* A count of things of at least bytes_min each: refused when the rest of the file cannot hold
 * them. */
static sl_status take_count(struct cursor *c, const char *field, size_t bytes_min, uint64_t *out)
{
    sl_status status = take_u64(c, field, out);
    if (status) return status;
    if (*out > cursor_left(c) / bytes_min) {
        return cursor_fail(c, SL_CORRUPT, field, "%" PRIu64 " do not fit the %zu bytes left", *out,
                           cursor_left(c));
    }
    return SL_OK;
}

static sl_status parse_version(struct cursor *c, uint32_t *out)
{
    sl_status status = take_u32(c, "version", out);
    if (status) return status;
    if (*out >= GGUF_VERSION_MIN && *out <= GGUF_VERSION_MAX) return SL_OK;
    if (*out && !(*out & 0xffff))
        return cursor_fail(c, SL_UNSUPPORTED, "version", "a big-endian file");
    return cursor_fail(c, SL_UNSUPPORTED, "version", "%" PRIu32 ", only 2 and 3 are read", *out);
}

static sl_status parse_header(struct cursor *c, uint32_t *out_version, uint64_t *out_tensors,
                              uint64_t *out_kvs)
{
    const unsigned char *magic = NULL;
    sl_status status = take(c, 4, "magic", &magic);
    if (status) return status;
    if (memcmp(magic, "GGUF", 4) != 0)
        return cursor_fail(c, SL_CORRUPT, "magic", "not a GGUF file");
    if ((status = parse_version(c, out_version)) != SL_OK) return status;
    if ((status = take_u64(c, "tensor count", out_tensors)) != SL_OK) return status;
    if ((status = take_count(c, "key count", GGUF_KV_BYTES_MIN, out_kvs)) != SL_OK) return status;
    /* Tensors come after the keys; once the keys' bytes are known, parse_tensors asks again. */
    if (*out_tensors > cursor_left(c) / GGUF_TENSOR_BYTES_MIN) {
        return cursor_fail(c, SL_CORRUPT, "tensor count",
                           "%" PRIu64 " do not fit the %zu bytes left", *out_tensors,
                           cursor_left(c));
    }
    if (*out_tensors > GGUF_TENSORS_MAX) {
        return cursor_fail(c, SL_LIMIT, "tensor count", "%" PRIu64 ", at most %d", *out_tensors,
                           GGUF_TENSORS_MAX);
    }
    if (*out_kvs > GGUF_KVS_MAX) {
        return cursor_fail(c, SL_LIMIT, "key count", "%" PRIu64 ", at most %d", *out_kvs,
                           GGUF_KVS_MAX);
    }
    return SL_OK;
}

static sl_status parse_key(struct cursor *c, struct gguf_str *out)
{
    struct gguf_str key = {NULL, 0};
    sl_status status = take_str(c, "name", &key);
    if (status) return status;
    if (!key.len) return cursor_fail(c, SL_CORRUPT, "name", "empty");
    if (key.len > GGUF_KEY_MAX)
        return cursor_fail(c, SL_LIMIT, "name", "%zu bytes, at most %d", key.len, GGUF_KEY_MAX);
    c->name = *out = key;
    return SL_OK;
}

static sl_status parse_value_type(struct cursor *c, const char *field, enum gguf_type *out)
{
    uint32_t type = 0;
    sl_status status = take_u32(c, field, &type);
    if (status) return status;
    if (type >= GGUF_TYPE_COUNT)
        return cursor_fail(c, SL_CORRUPT, field, "%" PRIu32 " is not a type of value", type);
    *out = (enum gguf_type)type;
    return SL_OK;
}

static sl_status parse_array_head(struct cursor *c, struct gguf_kv *kv)
{
    sl_status status = parse_value_type(c, "element type", &kv->type);
    if (status) return status;
    if (kv->type == GGUF_ARRAY)
        return cursor_fail(c, SL_UNSUPPORTED, "element type", "arrays of arrays are not read");
    size_t bytes_min = kv->type == GGUF_STRING ? 8 : gguf_value_type_bytes(kv->type);
    kv->is_array = true;
    return take_count(c, "array length", bytes_min, &kv->n);
}

/* kv->n is already known to fit the file: 8 bytes each at least. */
static sl_status parse_strings(struct cursor *c, struct sl_arena *arena, struct gguf_kv *kv)
{
    struct gguf_str *strs = sl_arena_array(arena, kv->n ? (size_t)kv->n : 1, sizeof(*strs));
    if (!strs) return cursor_fail(c, SL_NOMEM, "value", "no memory for %" PRIu64 " strings", kv->n);
    for (uint64_t i = 0; i < kv->n; i++) {
        sl_status status = take_str(c, "string", &strs[i]);
        if (status) return status;
    }
    kv->strs = strs;
    return SL_OK;
}

static sl_status parse_numbers(struct cursor *c, struct gguf_kv *kv)
{
    sl_status status = take(c, kv->n * gguf_value_type_bytes(kv->type), "value", &kv->raw);
    if (status) return status;
    for (uint64_t i = 0; kv->type == GGUF_BOOL && i < kv->n; i++) {
        if (kv->raw[i] > 1)
            return cursor_fail(c, SL_CORRUPT, "value", "%d is neither true nor false", kv->raw[i]);
    }
    return SL_OK;
}

static sl_status parse_kv(struct cursor *c, struct sl_arena *arena, struct gguf_kv *kv)
{
    sl_status status = parse_key(c, &kv->key);
    if (status) return status;
    kv->n = 1;
    if ((status = parse_value_type(c, "type", &kv->type)) != SL_OK) return status;
    if (kv->type == GGUF_ARRAY && (status = parse_array_head(c, kv)) != SL_OK) return status;
    return kv->type == GGUF_STRING ? parse_strings(c, arena, kv) : parse_numbers(c, kv);
}

static sl_status parse_kvs(struct cursor *c, struct gguf_shard *shard, uint64_t n)
{
    shard->kvs = sl_arena_array(&shard->arena, n ? (size_t)n : 1, sizeof(*shard->kvs));
    if (!shard->kvs || sl_strmap_init(&shard->keys, (size_t)n)) {
        return cursor_fail(c, SL_NOMEM, "key count", "no memory for %" PRIu64, n);
    }
    for (size_t i = 0; i < n; i++) {
        struct gguf_kv *kv = &shard->kvs[i];
        cursor_enter(c, "key", i);
        sl_status status = parse_kv(c, &shard->arena, kv);
        if (status) return status;
        if (sl_strmap_get(&shard->keys, kv->key.s, kv->key.len, -1) >= 0) {
            return cursor_fail(c, SL_CORRUPT, "name", "appears twice");
        }
        if (sl_strmap_put(&shard->keys, kv->key.s, kv->key.len, (int32_t)i)) {
            return cursor_fail(c, SL_NOMEM, "name", "no memory");
        }
        shard->n_kvs = i + 1;
    }
    return SL_OK;
}

static sl_status parse_alignment(struct cursor *c, const struct gguf_shard *shard, size_t *out)
{
    const struct gguf_kv *kv = gguf_shard_find(shard, "general.alignment");
    *out = GGUF_ALIGNMENT_DEFAULT;
    if (!kv) return SL_OK;
    cursor_enter(c, "key", 0);
    c->name = kv->key;
    if (kv->is_array || kv->type != GGUF_U32)
        return cursor_fail(c, SL_CORRUPT, "type", "not a u32");
    uint64_t alignment = gguf_load_le(kv->raw, 4);
    if (alignment < GGUF_ALIGNMENT_MIN || alignment > GGUF_ALIGNMENT_MAX ||
        (alignment & (alignment - 1))) {
        return cursor_fail(c, SL_CORRUPT, "value",
                           "%" PRIu64 " is not a power of two from %d to %d", alignment,
                           GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    }
    *out = (size_t)alignment;
    return SL_OK;
}

static sl_status parse_tensor_name(struct cursor *c, struct gguf_tensor *t)
{
    struct gguf_str name = {NULL, 0};
    sl_status status = take_str(c, "name", &name);
    if (status) return status;
    if (!name.len) return cursor_fail(c, SL_CORRUPT, "name", "empty");
    if (name.len > GGUF_NAME_MAX)
        return cursor_fail(c, SL_LIMIT, "name", "%zu bytes, at most %d", name.len, GGUF_NAME_MAX);
    c->name = name;
    if (memchr(name.s, 0, name.len)) return cursor_fail(c, SL_CORRUPT, "name", "holds a NUL");
    memcpy(t->name, name.s, name.len);
    t->name[name.len] = '\0';
    return SL_OK;
}

static sl_status parse_dims(struct cursor *c, struct gguf_tensor *t, int64_t *out_elements)
{
    static const char *const fields[GGUF_DIMS_MAX] = {"dimension 0", "dimension 1", "dimension 2",
                                                      "dimension 3"};
    uint32_t n_dims = 0;
    sl_status status = take_u32(c, "number of dimensions", &n_dims);
    if (status) return status;
    if (n_dims > GGUF_DIMS_MAX) {
        return cursor_fail(c, SL_CORRUPT, "number of dimensions", "%" PRIu32 ", at most %d", n_dims,
                           GGUF_DIMS_MAX);
    }
    t->n_dims = (int)n_dims;
    *out_elements = 1;
    for (int i = 0; i < GGUF_DIMS_MAX; i++) {
        uint64_t ne = 1;
        if (i < t->n_dims && (status = take_u64(c, fields[i], &ne)) != SL_OK) return status;
        if (ne < 1 || ne > INT64_MAX)
            return cursor_fail(c, SL_CORRUPT, fields[i], "%" PRIu64 " elements", ne);
        t->ne[i] = (int64_t)ne;
        if (!sl_mul_i64(*out_elements, t->ne[i], out_elements)) {
            return cursor_fail(c, SL_CORRUPT, fields[i],
                               "%" PRIu64 " makes the element count overflow", ne);
        }
    }
    return SL_OK;
}

static sl_status parse_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t *out_offset)
{
    int64_t n_elements = 0, block_elements;
    size_t block_bytes;
    sl_status status = parse_tensor_name(c, t);
    if (status) return status;
    if ((status = parse_dims(c, t, &n_elements)) != SL_OK) return status;
    if ((status = take_u32(c, "type", &t->type)) != SL_OK) return status;
    if (!gguf_type_traits(t->type, &block_elements, &block_bytes)) {
        return cursor_fail(c, SL_UNSUPPORTED, "type", "%" PRIu32 " is not a known tensor type",
                           t->type);
    }
    if (t->ne[0] % block_elements) {
        return cursor_fail(c, SL_CORRUPT, "dimension 0",
                           "%" PRId64 " is not a multiple of the %" PRId64
                           " elements in a block of %s",
                           t->ne[0], block_elements, gguf_tensor_type_name(t->type));
    }
    if (!sl_mul_size((size_t)(n_elements / block_elements), block_bytes, &t->n_bytes)) {
        return cursor_fail(c, SL_CORRUPT, "type", "%" PRId64 " elements of %s overflow a size",
                           n_elements, gguf_tensor_type_name(t->type));
    }
    return take_u64(c, "offset", out_offset);
}

/* Room for n more tensors, and their names in the map. */
static sl_status reserve_tensors(struct cursor *c, struct gguf_file *file, uint64_t n)
{
    if (n > cursor_left(c) / GGUF_TENSOR_BYTES_MIN) {
        return cursor_fail(c, SL_CORRUPT, "tensor count",
                           "%" PRIu64 " do not fit the %zu bytes left", n, cursor_left(c));
    }
    if (n > GGUF_TENSORS_MAX - file->n_tensors) {
        return cursor_fail(c, SL_LIMIT, "tensor count", "over %d in all shards", GGUF_TENSORS_MAX);
    }
    struct gguf_tensor *tensors =
        sl_realloc_array(file->tensors, file->n_tensors + (size_t)n + 1, sizeof(*tensors));
    if (!tensors) return cursor_fail(c, SL_NOMEM, "tensor count", "no memory for %" PRIu64, n);
    file->tensors = tensors;
    if (!file->names.n_slots && sl_strmap_init(&file->names, (size_t)n)) {
        return cursor_fail(c, SL_NOMEM, "tensor count", "no memory for %" PRIu64, n);
    }
    return SL_OK;
}

static sl_status add_tensor_name(struct cursor *c, struct gguf_file *file)
{
    if (sl_strmap_get(&file->names, c->name.s, c->name.len, -1) >= 0) {
        return cursor_fail(c, SL_CORRUPT, "name", "appears twice");
    }
    if (sl_strmap_put(&file->names, c->name.s, c->name.len, (int32_t)file->n_tensors)) {
        return cursor_fail(c, SL_NOMEM, "name", "no memory");
    }
    return SL_OK;
}

/* Offsets count from data_at and must be aligned and ascending: tensors that overlap could be made
 * to unpack into more memory than the file has bytes. */
static sl_status place_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t offset,
                              size_t alignment, size_t data_at)
{
    size_t data_bytes = data_at < c->n_bytes ? c->n_bytes - data_at : 0;
    if (offset > data_bytes || t->n_bytes > data_bytes - offset) {
        uint64_t past = offset;
        if (!sl_add_u64(past, t->n_bytes, &past)) past = UINT64_MAX;
        return cursor_fail(c, SL_CORRUPT, "data", "%" PRIu64 " bytes past the end of the file",
                           past - data_bytes);
    }
    if (offset % alignment)
        return cursor_fail(c, SL_CORRUPT, "offset", "%" PRIu64 " is not a multiple of %zu", offset,
                           alignment);
    t->data = c->bytes + data_at + offset;
    return SL_OK;
}

static sl_status place_tensors(struct cursor *c, struct gguf_file *file, size_t first,
                               const uint64_t *offsets, size_t alignment)
{
    size_t data_at;
    uint64_t end = 0;
    if (!sl_align_size(c->at, alignment, &data_at))
        return cursor_fail(c, SL_CORRUPT, "data", "its start overflows");
    for (size_t i = first; i < file->n_tensors; i++) {
        struct gguf_tensor *t = &file->tensors[i];
        cursor_enter(c, "tensor", i - first);
        c->name = (struct gguf_str){t->name, strlen(t->name)};
        sl_status status = place_tensor(c, t, offsets[i - first], alignment, data_at);
        if (status) return status;
        if (offsets[i - first] < end)
            return cursor_fail(c, SL_CORRUPT, "offset", "overlaps the tensor before it");
        end = offsets[i - first] + t->n_bytes;
    }
    return SL_OK;
}

static sl_status parse_tensors(struct cursor *c, struct gguf_file *file, int shard_index,
                               uint64_t n)
{
    struct gguf_shard *shard = &file->shards[shard_index];
    size_t first = file->n_tensors, alignment = 0;
    sl_status status = parse_alignment(c, shard, &alignment);
    if (status) return status;
    cursor_enter(c, NULL, 0);
    if ((status = reserve_tensors(c, file, n)) != SL_OK) return status;
    uint64_t *offsets = sl_arena_array(&shard->arena, n ? (size_t)n : 1, sizeof(*offsets));
    if (!offsets) return cursor_fail(c, SL_NOMEM, "tensor count", "no memory for %" PRIu64, n);
    for (size_t i = 0; i < n; i++) {
        struct gguf_tensor *t = &file->tensors[file->n_tensors];
        *t = (struct gguf_tensor){.shard = shard_index};
        cursor_enter(c, "tensor", i);
        if ((status = parse_tensor(c, t, &offsets[i])) != SL_OK) return status;
        if ((status = add_tensor_name(c, file)) != SL_OK) return status;
        file->n_tensors++;
    }
    return place_tensors(c, file, first, offsets, alignment);
}

sl_status gguf_parse_shard(struct gguf_file *file, int i, struct sl_err *err)
{
    struct gguf_shard *shard = &file->shards[i];
    struct cursor c = {.bytes = shard->bytes, .n_bytes = shard->n_bytes, .err = err};
    uint64_t n_tensors = 0, n_kvs = 0;
    size_t index_max;
    if (!shard->n_bytes) return sl_err_set(err, SL_CORRUPT, "magic: the file is empty");
    if (!sl_mul_size(shard->n_bytes, GGUF_INDEX_FACTOR, &index_max) ||
        !sl_add_size(index_max, GGUF_INDEX_SLACK, &index_max)) {
        return sl_err_set(err, SL_LIMIT, "file size: %zu bytes", shard->n_bytes);
    }
    sl_arena_init(&shard->arena, index_max);
    sl_status status = parse_header(&c, &shard->version, &n_tensors, &n_kvs);
    if (status) return status;
    if ((status = parse_kvs(&c, shard, n_kvs)) != SL_OK) return status;
    return parse_tensors(&c, file, i, n_tensors);
}
