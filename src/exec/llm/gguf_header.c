#include "exec/llm/gguf_header.h"
#include "exec/llm/gguf_internal.h"
#include <inttypes.h>
#include <string.h>

/* Moves over the bytes that are there. Once `at` has passed n nothing is read any more: numbers
 * are 0 then, and `at` is what is needed. */
struct walk {
    const unsigned char *bytes;
    uint64_t n, at;
};

static bool is_short(const struct walk *w)
{
    return w->at > w->n;
}

/* Lengths come from a stranger: `at` stays far from wrapping round. */
static void skip(struct walk *w, uint64_t n)
{
    if (is_short(w)) return;
    w->at = n > GGUF_HEADER_BYTES_MAX ? GGUF_HEADER_BYTES_MAX + 1 : w->at + n;
}

static uint64_t take(struct walk *w, size_t n_bytes)
{
    uint64_t from = w->at;
    skip(w, n_bytes);
    return is_short(w) ? 0 : gguf_load_le(w->bytes + from, n_bytes);
}

static void skip_string(struct walk *w)
{
    skip(w, take(w, 8));
}

static void skip_strings(struct walk *w, uint64_t n)
{
    for (uint64_t i = 0; i < n && !is_short(w); i++) skip_string(w);
}

static sl_status skip_value(struct walk *w, struct sl_err *err)
{
    uint32_t type = (uint32_t)take(w, 4);
    uint64_t n = 1;
    if (type == GGUF_ARRAY) {
        type = (uint32_t)take(w, 4);
        n = take(w, 8);
    }
    if (is_short(w)) return SL_OK;
    size_t bytes = gguf_value_type_bytes(type);
    if (type == GGUF_STRING)
        skip_strings(w, n);
    else if (bytes == 0)
        return sl_err_set(err, SL_CORRUPT, "%" PRIu32 " is not a type of value", type);
    else
        skip(w, n > GGUF_HEADER_BYTES_MAX ? n : n * bytes);
    return SL_OK;
}

static sl_status skip_kvs(struct walk *w, uint64_t n, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (uint64_t i = 0; i < n && !is_short(w) && status == SL_OK; i++) {
        skip_string(w);
        status = skip_value(w, err);
    }
    return status;
}

static sl_status skip_tensors(struct walk *w, uint64_t n, struct sl_err *err)
{
    for (uint64_t i = 0; i < n && !is_short(w); i++) {
        skip_string(w);
        uint64_t n_dims = take(w, 4);
        if (n_dims > GGUF_DIMS_MAX)
            return sl_err_set(err, SL_CORRUPT, "a tensor of %" PRIu64 " dimensions", n_dims);
        skip(w, n_dims * 8 + 4 + 8); /* its type and its offset follow */
    }
    return SL_OK;
}

static sl_status walk_all(struct walk *w, struct sl_err *err)
{
    static const char MAGIC[4] = "GGUF";
    skip(w, sizeof MAGIC);
    if (is_short(w)) return SL_OK;
    if (memcmp(w->bytes, MAGIC, sizeof MAGIC) != 0)
        return sl_err_set(err, SL_CORRUPT, "not a GGUF file");
    uint64_t version = take(w, 4), n_tensors = take(w, 8), n_kvs = take(w, 8);
    if (is_short(w)) return SL_OK;
    if (version < GGUF_VERSION_MIN || version > GGUF_VERSION_MAX)
        return sl_err_set(err, SL_UNSUPPORTED, "GGUF version %" PRIu64, version);
    if (n_tensors > GGUF_TENSORS_MAX || n_kvs > GGUF_KVS_MAX)
        return sl_err_set(err, SL_LIMIT, "%" PRIu64 " tensors and %" PRIu64 " keys", n_tensors,
                          n_kvs);
    sl_status status = skip_kvs(w, n_kvs, err);
    return status == SL_OK ? skip_tensors(w, n_tensors, err) : status;
}

sl_status gguf_header_length(const void *bytes, size_t n, uint64_t *out, struct sl_err *err)
{
    struct walk w = {.bytes = bytes, .n = n};
    sl_status status = walk_all(&w, err);
    if (status == SL_OK && w.at > GGUF_HEADER_BYTES_MAX)
        status = sl_err_set(err, SL_LIMIT, "a header of more than %" PRIu64 " bytes",
                            GGUF_HEADER_BYTES_MAX);
    if (status == SL_OK) *out = w.at;
    return status;
}
