#include "exec/vision/half.h"
#include <math.h>
#include <string.h>

#define MANTISSA_BITS 10
#define EXPONENT_MIN (-14) /* of normal numbers; subnormals have its scale */
#define EXPONENT_BIAS 15
#define INFINITY_BITS 0x7c00u
#define NAN_BITS 0x7e00u

uint16_t half_from_float(float value)
{
    unsigned sign = signbit(value) ? 0x8000u : 0;
    float magnitude = fabsf(value);
    if (isnan(value)) return (uint16_t)(sign | NAN_BITS);
    if (isinf(value)) return (uint16_t)(sign | INFINITY_BITS);
    int exponent = magnitude > 0 ? ilogbf(magnitude) : EXPONENT_MIN;
    if (exponent > EXPONENT_BIAS) return (uint16_t)(sign | INFINITY_BITS);
    if (exponent < EXPONENT_MIN) exponent = EXPONENT_MIN;
    /* The hidden bit adds one to the exponent field; a carry out of the mantissa does so too, up to
     * infinity. */
    unsigned units = (unsigned)lrintf(scalbnf(magnitude, MANTISSA_BITS - exponent));
    unsigned field = (unsigned)(exponent - EXPONENT_MIN) << MANTISSA_BITS;
    return (uint16_t)(sign | (field + units));
}

float half_to_float(uint16_t bits)
{
    float sign = bits & 0x8000u ? -1.0f : 1.0f;
    unsigned mantissa = bits & 0x3ffu, exponent = bits >> MANTISSA_BITS & 0x1fu;
    if (exponent == 0x1fu) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * scalbnf((float)mantissa, EXPONENT_MIN - MANTISSA_BITS);
    return sign * scalbnf((float)(mantissa + 1024u), (int)exponent - EXPONENT_BIAS - MANTISSA_BITS);
}

float bfloat_to_float(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
