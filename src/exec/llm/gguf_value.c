/* gguf_value.c: keys' values by name and type, converted where nothing is lost. */
#include "exec/llm/gguf_internal.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define F64_EXACT_INT_MAX (INT64_C(1) << 53) /* integers up to here are exact in a double */

static bool is_integer(const struct gguf_kv *kv)
{
    switch (kv->type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_U16:
    case GGUF_I16:
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_U64:
    case GGUF_I64: return true;
    default: return false;
    }
}

static uint64_t element_bits(const struct gguf_kv *kv, uint64_t i)
{
    size_t n_bytes = gguf_value_type_bytes(kv->type);
    return gguf_load_le(kv->raw + i * n_bytes, n_bytes);
}

bool gguf_kv_i64(const struct gguf_kv *kv, uint64_t i, int64_t *out)
{
    if (i >= kv->n || (!is_integer(kv) && kv->type != GGUF_BOOL)) return false;
    uint64_t bits = element_bits(kv, i);
    switch (kv->type) {
    case GGUF_I8: *out = (int8_t)bits; return true;
    case GGUF_I16: *out = (int16_t)bits; return true;
    case GGUF_I32: *out = (int32_t)bits; return true;
    case GGUF_I64: *out = (int64_t)bits; return true;
    default:
        if (bits > INT64_MAX) return false;
        *out = (int64_t)bits;
        return true;
    }
}

static double element_float(const struct gguf_kv *kv, uint64_t i)
{
    uint64_t bits = element_bits(kv, i);
    if (kv->type == GGUF_F64) {
        double v;
        memcpy(&v, &bits, sizeof(v));
        return v;
    }
    uint32_t bits32 = (uint32_t)bits;
    float v;
    memcpy(&v, &bits32, sizeof(v));
    return v;
}

bool gguf_kv_f64(const struct gguf_kv *kv, uint64_t i, double *out)
{
    int64_t integer;
    if (i >= kv->n) return false;
    if (kv->type == GGUF_F32 || kv->type == GGUF_F64) {
        *out = element_float(kv, i);
        return true;
    }
    if (!gguf_kv_i64(kv, i, &integer)) return false;
    if (integer > F64_EXACT_INT_MAX || integer < -F64_EXACT_INT_MAX) return false;
    *out = (double)integer;
    return true;
}

const struct gguf_kv *gguf_shard_find(const struct gguf_shard *shard, const char *key)
{
    int32_t i = shard->keys.n_slots ? sl_strmap_get(&shard->keys, key, strlen(key), -1) : -1;
    return i < 0 ? NULL : &shard->kvs[i];
}

const struct gguf_kv *gguf_find(const struct gguf_file *file, const char *key)
{
    return gguf_shard_find(&file->shards[0], key);
}

static sl_status want(const struct gguf_kv *kv, const char *key, const char *wanted,
                      struct sl_err *err)
{
    return sl_err_set(err, SL_CORRUPT, "key %s: is %s%s, not %s", key,
                      kv->is_array ? "an array of " : "a ", gguf_value_type_name(kv->type), wanted);
}

static sl_status absent(const char *key, struct sl_err *err)
{
    return sl_err_set(err, SL_NOT_FOUND, "key %s: not in the file", key);
}

sl_status gguf_shard_u64(const struct gguf_shard *shard, const char *key, uint64_t *out,
                         struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_shard_find(shard, key);
    int64_t v = 0;
    if (!kv) return absent(key, err);
    if (kv->is_array || !is_integer(kv)) return want(kv, key, "an integer", err);
    if (kv->type == GGUF_U64) {
        *out = element_bits(kv, 0);
        return SL_OK;
    }
    if (!gguf_kv_i64(kv, 0, &v) || v < 0)
        return sl_err_set(err, SL_CORRUPT, "key %s: %" PRId64 " is below 0", key, v);
    *out = (uint64_t)v;
    return SL_OK;
}

sl_status gguf_get_u64(const struct gguf_file *file, const char *key, uint64_t *out,
                       struct sl_err *err)
{
    return gguf_shard_u64(&file->shards[0], key, out, err);
}

sl_status gguf_get_u32(const struct gguf_file *file, const char *key, uint32_t *out,
                       struct sl_err *err)
{
    uint64_t v = 0;
    sl_status status = gguf_get_u64(file, key, &v, err);
    if (status) return status;
    if (v > UINT32_MAX)
        return sl_err_set(err, SL_CORRUPT, "key %s: %" PRIu64 " does not fit 32 bits", key, v);
    *out = (uint32_t)v;
    return SL_OK;
}

sl_status gguf_get_f32(const struct gguf_file *file, const char *key, float *out,
                       struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) return absent(key, err);
    if (kv->is_array || (kv->type != GGUF_F32 && kv->type != GGUF_F64))
        return want(kv, key, "a float", err);
    double v = element_float(kv, 0);
    if (isfinite(v) && fabs(v) > FLT_MAX)
        return sl_err_set(err, SL_CORRUPT, "key %s: %g does not fit an f32", key, v);
    *out = (float)v;
    return SL_OK;
}

sl_status gguf_get_bool(const struct gguf_file *file, const char *key, bool *out,
                        struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) return absent(key, err);
    if (kv->is_array || kv->type != GGUF_BOOL) return want(kv, key, "a bool", err);
    *out = kv->raw[0] != 0;
    return SL_OK;
}

sl_status gguf_get_str(const struct gguf_file *file, const char *key, struct gguf_str *out,
                       struct sl_err *err)
{
    const struct gguf_kv *kv = gguf_find(file, key);
    if (!kv) return absent(key, err);
    if (kv->is_array || kv->type != GGUF_STRING) return want(kv, key, "a string", err);
    *out = kv->strs[0];
    return SL_OK;
}
