#include "exec/vision/classify.h"
#include "base/mem.h"
#include "exec/vision/half.h"
#include <math.h>
#include <string.h>

/* One element, at any alignment. */
union element {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
};

static float read_element(enum tensor_type type, const union element *e)
{
    switch (type) {
    case TENSOR_BOOL:
    case TENSOR_UINT8: return e->u8;
    case TENSOR_UINT16: return e->u16;
    case TENSOR_UINT32: return (float)e->u32;
    case TENSOR_UINT64: return (float)e->u64;
    case TENSOR_INT8: return e->i8;
    case TENSOR_INT16: return e->i16;
    case TENSOR_INT32: return (float)e->i32;
    case TENSOR_INT64: return (float)e->i64;
    case TENSOR_FP16: return half_to_float(e->u16);
    case TENSOR_BF16: return bfloat_to_float(e->u16);
    case TENSOR_FP64: return (float)e->f64;
    default: return e->f32;
    }
}

sl_status vision_floats(const struct tensor *tensor, float **out, size_t *n, struct sl_err *err)
{
    size_t size = tensor_type_size(tensor->type);
    uint64_t count;
    sl_status status = tensor_count(tensor->shape, tensor->rank, &count, err);
    if (status != SL_OK) return status;
    if (!size || count > tensor->n_bytes / size)
        return sl_err_set(err, SL_INVALID, "%s of %zu bytes where %llu numbers belong",
                          tensor_type_name(tensor->type), tensor->n_bytes,
                          (unsigned long long)count);
    if (count > TENSOR_BYTES_MAX / sizeof **out)
        return sl_err_set(err, SL_LIMIT, "%llu numbers in a tensor", (unsigned long long)count);
    float *values = sl_calloc((size_t)count, sizeof *values);
    if (!values) return sl_err_set(err, SL_NOMEM, "the values of a tensor");
    for (size_t i = 0; i < count; i++) {
        union element e;
        memcpy(&e, (const char *)tensor->data + i * size, size);
        values[i] = read_element(tensor->type, &e);
    }
    *out = values;
    *n = (size_t)count;
    return SL_OK;
}

void classify_softmax(float *scores, size_t n)
{
    float highest = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (scores[i] > highest) highest = scores[i];
    }
    /* Infinities, of either sign, leave no differences to speak of. */
    for (size_t i = 0; i < n; i++) {
        bool equal = scores[i] == highest;
        double v = equal ? 1 : isnan(scores[i]) ? 0 : exp((double)scores[i] - highest);
        scores[i] = (float)v;
        sum += v;
    }
    for (size_t i = 0; i < n && sum > 0; i++) scores[i] = (float)(scores[i] / sum);
}

int32_t classify_top(const float *scores, size_t n, int32_t k, struct class_score *out)
{
    int32_t n_out = 0;
    for (size_t i = 0; i < n && i <= INT32_MAX; i++) {
        if (isnan(scores[i]) || k <= 0) continue;
        if (n_out == k && !(scores[i] > out[k - 1].score)) continue;
        int32_t at = n_out < k ? n_out++ : k - 1;
        for (; at > 0 && out[at - 1].score < scores[i]; at--) out[at] = out[at - 1];
        out[at] = (struct class_score){(int32_t)i, scores[i]};
    }
    return n_out;
}
