#include "exec/onnx/onnx_number.h"
#include <math.h>
#include <string.h>

#define HALF_BIAS_MORE 112 /* exponents: 127 of binary32 less 15 of binary16 */

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double half_to_double(uint32_t half)
{
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 0) return ldexp(sign ? -(double)fraction : (double)fraction, -24);
    exponent = exponent == 31 ? 255 : exponent + HALF_BIAS_MORE;
    return (double)float_of(sign | exponent << 23 | fraction << 13);
}

bool onnx_is_float(enum tensor_type type)
{
    return type == TENSOR_FP16 || type == TENSOR_BF16 || type == TENSOR_FP32 || type == TENSOR_FP64;
}

double onnx_number_get(const struct tensor *tensor, uint64_t at)
{
    const char *p = (const char *)tensor->data + at * tensor_type_size(tensor->type);
    uint32_t bits = 0;
    double wide = 0;
    switch (tensor->type) {
    case TENSOR_FP64: memcpy(&wide, p, sizeof wide); return wide;
    case TENSOR_FP32: memcpy(&bits, p, 4); return (double)float_of(bits);
    case TENSOR_BF16: memcpy(&bits, p, 2); return (double)float_of(bits << 16);
    default: memcpy(&bits, p, 2); return half_to_double(bits);
    }
}

void onnx_number_put(enum tensor_type type, void *p, double value)
{
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    switch (type) {
    case TENSOR_FP64: memcpy(p, &value, sizeof value); return;
    case TENSOR_FP32: memcpy(p, &single, sizeof single); return;
    case TENSOR_BF16: bits >>= 16; break;
    default:
        bits = bits >> 23 > HALF_BIAS_MORE
                   ? (((bits >> 23) - HALF_BIAS_MORE) << 10 | (bits >> 13 & 1023))
                   : 0;
    }
    memcpy(p, &bits, 2);
}
