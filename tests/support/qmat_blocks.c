/* qmat_blocks.c: GGUF's blocks, as ggml-common.h lays them out. */
#include "support/qmat_blocks.h"

#include <math.h>
#include <string.h>

static const struct {
    uint8_t bytes, n_factors, factors[2];
} formats[QMAT_TYPE_COUNT] = {
    [QMAT_Q4_0] = {18, 1, {0}},     [QMAT_Q8_0] = {34, 1, {0}},    [QMAT_Q4_K] = {144, 2, {0, 2}},
    [QMAT_Q5_K] = {176, 2, {0, 2}}, [QMAT_Q6_K] = {210, 1, {208}},
};

size_t qmat_block_bytes(enum qmat_type type)
{
    return formats[type].bytes;
}

int qmat_block_factors(enum qmat_type type, size_t at[2])
{
    for (int i = 0; i < 2; i++) at[i] = formats[type].factors[i];
    return formats[type].n_factors;
}

/* IEEE 754 binary16, finite. */
static float half_at(const uint8_t *p)
{
    int exponent = p[1] >> 2 & 31, fraction = (p[1] & 3) << 8 | p[0];
    float size =
        exponent ? ldexpf((float)(fraction + 1024), exponent - 25) : ldexpf((float)fraction, -24);
    return p[1] & 0x80 ? -size : size;
}

static int nibble(const uint8_t *p, int i, bool high)
{
    return high ? p[i] >> 4 : p[i] & 15;
}

static float q4_0_at(const uint8_t *block, int i)
{
    return half_at(block) * (float)(nibble(block + 2, i % 16, i >= 16) - 8);
}

static float q8_0_at(const uint8_t *block, int i)
{
    return half_at(block) * (float)(int8_t)block[2 + i];
}

/* The six bits of scale or minimum number j, of 12 packed bytes. */
static int six_bits(const uint8_t *p, int j, bool is_minimum)
{
    if (j < 4) return p[j + 4 * is_minimum] & 63;
    return nibble(p, j + 4, is_minimum) | p[j - 4 + 4 * is_minimum] >> 6 << 4;
}

/* q4_K and q5_K: runs of 32, whose nibbles lie beside each other by two runs. */
static float k_number(const uint8_t *block, int run, int number)
{
    const uint8_t *scales = block + 4;
    return half_at(block) * (float)six_bits(scales, run, false) * (float)number -
           half_at(block + 2) * (float)six_bits(scales, run, true);
}

static float q4_k_at(const uint8_t *block, int i)
{
    int run = i / 32;
    return k_number(block, run, nibble(block + 16, run / 2 * 32 + i % 32, run % 2));
}

static float q5_k_at(const uint8_t *block, int i)
{
    int run = i / 32, high = block[16 + i % 32] >> run & 1;
    return k_number(block, run, nibble(block + 48, run / 2 * 32 + i % 32, run % 2) | high << 4);
}

/* Four runs of 32 in either half: two of low nibbles, two of high ones, two more bits for each. */
static float q6_k_at(const uint8_t *block, int i)
{
    int half = i / 128, run = i % 128 / 32, at = i % 32;
    int low = nibble(block, 64 * half + run % 2 * 32 + at, run >= 2);
    int high = block[128 + 32 * half + at] >> 2 * run & 3;
    int scale = (int8_t)block[192 + i / 16];
    return half_at(block + 208) * (float)scale * (float)((low | high << 4) - 32);
}

void qmat_decode(enum qmat_type type, const void *blocks, int64_t n, float *out)
{
    static float (*const number_at[QMAT_TYPE_COUNT])(const uint8_t *, int) = {
        [QMAT_Q4_0] = q4_0_at, [QMAT_Q8_0] = q8_0_at, [QMAT_Q4_K] = q4_k_at,
        [QMAT_Q5_K] = q5_k_at, [QMAT_Q6_K] = q6_k_at,
    };
    int64_t size = qmat_block(type);
    for (int64_t i = 0; i < n; i++)
        out[i] = number_at[type]((const uint8_t *)blocks + i / size * formats[type].bytes,
                                 (int)(i % size));
}
