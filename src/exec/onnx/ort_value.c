#include "exec/onnx/ort_value.h"
#include "base/arena.h"
#include <string.h>

#define BYTES_HEAD 4 /* the length before each element of BYTES */

static const int elements[TENSOR_TYPE_COUNT] = {
    [TENSOR_BOOL] = ORT_ABI_BOOL,     [TENSOR_UINT8] = ORT_ABI_UINT8,
    [TENSOR_UINT16] = ORT_ABI_UINT16, [TENSOR_UINT32] = ORT_ABI_UINT32,
    [TENSOR_UINT64] = ORT_ABI_UINT64, [TENSOR_INT8] = ORT_ABI_INT8,
    [TENSOR_INT16] = ORT_ABI_INT16,   [TENSOR_INT32] = ORT_ABI_INT32,
    [TENSOR_INT64] = ORT_ABI_INT64,   [TENSOR_FP16] = ORT_ABI_FLOAT16,
    [TENSOR_FP32] = ORT_ABI_FLOAT,    [TENSOR_FP64] = ORT_ABI_DOUBLE,
    [TENSOR_BF16] = ORT_ABI_BFLOAT16, [TENSOR_BYTES] = ORT_ABI_STRING,
};

bool ort_element_to_tensor(int element, enum tensor_type *out)
{
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (elements[i] != element) continue;
        *out = (enum tensor_type)i;
        return true;
    }
    return false;
}

int ort_element_of(enum tensor_type type)
{
    return elements[type];
}

static uint32_t take_length(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_length(unsigned char *p, size_t n)
{
    for (int i = 0; i < BYTES_HEAD; i++) p[i] = (unsigned char)(n >> (8 * i));
}

static sl_status fill_strings(const struct ort *ort, const struct tensor *tensor,
                              struct OrtValue *value, struct sl_err *err)
{
    const unsigned char *p = tensor->data;
    const unsigned char *end = p + tensor->n_bytes;
    for (size_t i = 0; p < end; i++) {
        size_t n = take_length(p);
        char *place;
        sl_status status =
            ort_result(ort, ort->api.GetResizedStringTensorElementBuffer(value, i, n, &place), err);
        if (status != SL_OK) return status;
        if (n) memcpy(place, p + BYTES_HEAD, n);
        p += BYTES_HEAD + n;
    }
    return SL_OK;
}

static sl_status make_strings(const struct ort *ort, const struct tensor *tensor,
                              struct OrtValue **out, struct sl_err *err)
{
    struct OrtValue *value = NULL;
    sl_status status =
        ort_result(ort,
                   ort->api.CreateTensorAsOrtValue(ort->allocator, tensor->shape,
                                                   (size_t)tensor->rank, ORT_ABI_STRING, &value),
                   err);
    if (status != SL_OK) return status;
    status = fill_strings(ort, tensor, value, err);
    if (status == SL_OK)
        *out = value;
    else
        ort->api.ReleaseValue(value);
    return status;
}

sl_status ort_value_make(const struct ort *ort, const struct tensor *tensor, struct OrtValue **out,
                         struct sl_err *err)
{
    if (tensor->type == TENSOR_BYTES) return make_strings(ort, tensor, out, err);
    return ort_result(ort,
                      ort->api.CreateTensorWithDataAsOrtValue(
                          ort->memory, (void *)(uintptr_t)tensor->data, tensor->n_bytes,
                          tensor->shape, (size_t)tensor->rank, elements[tensor->type], out),
                      err);
}

static sl_status no_room(size_t n_bytes, struct sl_err *err)
{
    return sl_err_set(err, SL_LIMIT, "an output of %zu bytes of strings", n_bytes);
}

/* The library gives all bytes in a row and where each string begins; we put lengths between. */
static sl_status read_strings(const struct ort *ort, struct OrtValue *value, size_t n,
                              struct sl_arena *arena, struct tensor *out, struct sl_err *err)
{
    size_t n_text = 0;
    sl_status status = ort_result(ort, ort->api.GetStringTensorDataLength(value, &n_text), err);
    if (status != SL_OK) return status;
    size_t *offsets = sl_arena_array(arena, n + 1, sizeof *offsets);
    unsigned char *text = sl_arena_alloc(arena, n_text + 1);
    unsigned char *data = sl_arena_alloc(arena, n_text + n * BYTES_HEAD + 1);
    if (!offsets || !text || !data) return no_room(n_text, err);
    status = ort_result(ort, ort->api.GetStringTensorContent(value, text, n_text, offsets, n), err);
    if (status != SL_OK) return status;
    offsets[n] = n_text;
    out->data = data;
    out->n_bytes = n_text + n * BYTES_HEAD;
    for (size_t i = 0; i < n; i++) {
        size_t length = offsets[i + 1] - offsets[i];
        put_length(data, length);
        memcpy(data + BYTES_HEAD, text + offsets[i], length);
        data += BYTES_HEAD + length;
    }
    return SL_OK;
}

static sl_status read_shape(const struct ort *ort, const struct OrtTensorTypeAndShapeInfo *info,
                            struct tensor *out, struct sl_err *err)
{
    size_t rank = 0;
    int element = 0;
    sl_status status = ort_result(ort, ort->api.GetTensorElementType(info, &element), err);
    if (status == SL_OK) status = ort_result(ort, ort->api.GetDimensionsCount(info, &rank), err);
    if (status != SL_OK) return status;
    if (!ort_element_to_tensor(element, &out->type))
        return sl_err_set(err, SL_UNSUPPORTED,
                          "an output has ONNX's element type %d, which the protocol lacks",
                          element);
    if (rank > TENSOR_RANK_MAX)
        return sl_err_set(err, SL_LIMIT, "an output has %zu dimensions; at most %d", rank,
                          TENSOR_RANK_MAX);
    out->rank = (int32_t)rank;
    return ort_result(ort, ort->api.GetDimensions(info, out->shape, rank), err);
}

static sl_status read_tensor(const struct ort *ort, struct OrtValue *value, struct sl_arena *arena,
                             struct tensor *out, struct sl_err *err)
{
    struct OrtTensorTypeAndShapeInfo *info = NULL;
    uint64_t count;
    void *data = NULL;
    sl_status status = ort_result(ort, ort->api.GetTensorTypeAndShape(value, &info), err);
    if (status != SL_OK) return status;
    status = read_shape(ort, info, out, err);
    ort->api.ReleaseTensorTypeAndShapeInfo(info);
    if (status == SL_OK) status = tensor_count(out->shape, out->rank, &count, err);
    if (status != SL_OK) return status;
    if (out->type == TENSOR_BYTES) return read_strings(ort, value, count, arena, out, err);
    status = ort_result(ort, ort->api.GetTensorMutableData(value, &data), err);
    out->data = data;
    out->n_bytes = count * tensor_type_size(out->type);
    return status;
}

sl_status ort_value_read(const struct ort *ort, struct OrtValue *value, struct sl_arena *arena,
                         struct tensor *out, struct sl_err *err)
{
    int kind = 0, has = 0;
    if (!value) return sl_err_set(err, SL_UNSUPPORTED, "the model gave no value");
    sl_status status = ort_result(ort, ort->api.GetValueType(value, &kind), err);
    if (status == SL_OK) status = ort_result(ort, ort->api.HasValue(value, &has), err);
    if (status != SL_OK) return status;
    if (kind != ORT_ABI_KIND_TENSOR || !has)
        return sl_err_set(err, SL_UNSUPPORTED, "the model gave what is no tensor");
    return read_tensor(ort, value, arena, out, err);
}
