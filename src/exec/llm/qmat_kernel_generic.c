/* qmat_kernel_generic.c: plain C (and the compilers' vector types) for any processor: what the
 * other kernels are tested against. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define KERNEL qmat_generic
#define KERNEL_NAME "generic"
#define LANES 4
#define GROUPS 1
#define Q8_BIAS 128
#define LIMIT_4_BITS 8
#define LIMIT_5_BITS 8
#define LIMIT_6_BITS 4
#define LIMIT_8_BITS 8
typedef uint32_t uvec __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(16)));
typedef float fvec __attribute__((vector_size(16)));
typedef int8_t qvec __attribute__((vector_size(4)));

static uvec uvec_larger(uvec a, uvec b)
{
    for (int i = 0; i < LANES; i++) a[i] = b[i] > a[i] ? b[i] : a[i];
    return a;
}

static uint32_t uvec_most(uvec v)
{
    uint32_t most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
}

/* At most 127 in magnitude, or no number. */
static ivec ivec_rounded(fvec v)
{
    ivec out = {0};
    for (int i = 0; i < LANES; i++) out[i] = v[i] == v[i] ? (int32_t)rintf(v[i]) : 0;
    return out;
}

static float half_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13;
    bool finite = (h & 0x7c00) != 0x7c00;
    float f;
    if (!finite) bits |= 0x7f800000;
    memcpy(&f, &bits, sizeof f);
    if (finite) f *= 0x1p112f; /* the exponent's other bias; subnormals come out right */
    return h & 0x8000 ? -f : f;
}

static fvec fvec_from_halves(const uint8_t *p)
{
    fvec v;
    for (int i = 0; i < LANES; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        v[i] = half_to_float(h);
    }
    return v;
}

/* Four unsigned by four signed bytes in each lane. */
static ivec part_dot(ivec part, ivec w, ivec x)
{
    uint8_t a[4 * LANES];
    int8_t b[4 * LANES];
    memcpy(a, &w, sizeof a);
    memcpy(b, &x, sizeof b);
    for (int i = 0; i < 4 * LANES; i++) part[i / 4] += a[i] * b[i];
    return part;
}

static ivec pairs_dot(ivec sum, ivec a, ivec b)
{
    int16_t x[2 * LANES], y[2 * LANES];
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 2 * LANES; i++) sum[i / 2] += x[i] * y[i];
    return sum;
}

#define fvec_fma(a, b, c) ((a) * (b) + (c))
#define part_begin(sum) (sum)
#define part_end(sum, part) (part)

static inline ivec part_dot_q8(ivec part, ivec w, ivec x)
{
    return part_dot(part, w, x);
}

#include "exec/llm/qmat_kernel.h"
