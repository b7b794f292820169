#include "exec/llm/sampler_int.h"
#include <math.h>
#include <string.h>

typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x2 __attribute__((vector_size(8)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));

/* A NaN in a compares false and leaves b. */
static inline f32x4 greater_of(f32x4 a, f32x4 b)
{
    i32x4 take = a > b;
    return (f32x4)(((i32x4)a & take) | ((i32x4)b & ~take));
}

static inline f32x4 load4(const float *p)
{
    f32x4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Four chains hide the latency of the comparison. */
static float block_max(const float *logits)
{
    f32x4 a = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, b = a, c = a, d = a;
    for (int i = 0; i < SAMPLER_BLOCK; i += 16) {
        a = greater_of(load4(logits + i), a);
        b = greater_of(load4(logits + i + 4), b);
        c = greater_of(load4(logits + i + 8), c);
        d = greater_of(load4(logits + i + 12), d);
    }
    a = greater_of(greater_of(a, b), greater_of(c, d));
    float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}

float sampler_max(const float *logits, int32_t n)
{
    float max = -INFINITY;
    int32_t i = 0;
    for (; i + SAMPLER_BLOCK <= n; i += SAMPLER_BLOCK) {
        float found = block_max(logits + i);
        if (found > max) max = found;
    }
    for (; i < n; i++) {
        if (logits[i] > max) max = logits[i];
    }
    return max;
}

int32_t sampler_argmax(const float *logits, int32_t n)
{
    float max = -INFINITY;
    int32_t at = -1;
    for (int32_t i = 0; i < n; i += SAMPLER_BLOCK) {
        float found =
            n - i >= SAMPLER_BLOCK ? block_max(logits + i) : sampler_max(logits + i, n - i);
        if (found > max) {
            max = found;
            at = i;
        }
    }
    while (at >= 0 && logits[at] != max) at++;
    return at;
}

/* The bits of a float, read as sign and magnitude, are in the order of the numbers. Adding 0
 * makes -0 and 0 one. */
uint32_t sampler_order(float logit)
{
    uint32_t bits;
    logit += 0.0f;
    memcpy(&bits, &logit, sizeof bits);
    return bits >> 31 ? bits : bits ^ 0x7FFFFFFFu;
}

void sampler_orders(const float *logits, int32_t n, uint32_t *orders)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        u32x4 bits = (u32x4)(load4(logits + i) + 0.0f);
        u32x4 positive = (u32x4)((i32x4)bits >= 0);
        bits ^= positive & 0x7FFFFFFFu;
        memcpy(orders + i, &bits, sizeof bits);
    }
    for (; i < n; i++) orders[i] = sampler_order(logits[i]);
}

/* exp(-gap) for gap in [0, SAMPLER_GAP_MAX], 0 outside (NaN included). -gap = n ln 2 + r with
 * |r| <= ln 2 / 2; e^r is its Taylor series to the 11th power, and n is added to the exponent's
 * bits. Adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits of the sum. */
static inline f64x2 exp_minus(f64x2 gap)
{
    const double round_by = 0x1.8p52;
    f64x2 sum = gap * -0x1.71547652b82fep+0 + round_by; /* 1 / ln 2 */
    f64x2 n = sum - round_by;
    f64x2 r = (-gap - n * 0x1.62e42feep-1) -
              n * 0x1.a39ef35793c76p-33; /* ln 2 in two parts: n times the first is exact */
    f64x2 even = r * r, e4 = even * even;
    f64x2 p0 = (1.0 + r) + even * (1.0 / 2 + r * (1.0 / 6));
    f64x2 p4 = (1.0 / 24 + r * (1.0 / 120)) + even * (1.0 / 720 + r * (1.0 / 5040));
    f64x2 p8 = (1.0 / 40320 + r * (1.0 / 362880)) + even * (1.0 / 3628800 + r * (1.0 / 39916800));
    f64x2 power = p0 + e4 * (p4 + e4 * p8);
    u64x2 bits = (u64x2)power + ((u64x2)sum << 52);
    return (f64x2)(bits & (u64x2)(gap <= SAMPLER_GAP_MAX));
}

bool sampler_weights(const float *logits, int32_t n, float max, double inv_temp,
                     double weights[SAMPLER_BLOCK])
{
    float padded[SAMPLER_BLOCK];
    if (n < SAMPLER_BLOCK) {
        for (int i = 0; i < SAMPLER_BLOCK; i++) padded[i] = i < n ? logits[i] : -INFINITY;
        logits = padded;
    }
    if (!(((double)max - block_max(logits)) * inv_temp <= SAMPLER_GAP_MAX)) return false;
    for (int i = 0; i < SAMPLER_BLOCK; i += 2) {
        f32x2 v;
        memcpy(&v, logits + i, sizeof v);
        f64x2 weight = exp_minus(((double)max - __builtin_convertvector(v, f64x2)) * inv_temp);
        memcpy(weights + i, &weight, sizeof weight);
    }
    return true;
}

double sampler_sum(const double weights[SAMPLER_BLOCK])
{
    f64x2 even = {0, 0}, odd = {0, 0};
    for (int i = 0; i < SAMPLER_BLOCK; i += 4) {
        f64x2 w[2];
        memcpy(w, weights + i, sizeof w);
        even += w[0];
        odd += w[1];
    }
    return (even[0] + even[1]) + (odd[0] + odd[1]);
}

double sampler_sum_row(const float *logits, int32_t n, float max)
{
    double weights[SAMPLER_BLOCK], sum = 0;
    for (int32_t from = 0; from < n; from += SAMPLER_BLOCK) {
        int32_t n_block = n - from < SAMPLER_BLOCK ? n - from : SAMPLER_BLOCK;
        if (sampler_weights(logits + from, n_block, max, 1.0, weights)) sum += sampler_sum(weights);
    }
    return sum;
}
