#include <immintrin.h>
#include <stdint.h>

#define KERNEL qmat_avxvnni
#define KERNEL_NAME "avxvnni"
#define LANES 8
#define GROUPS 1
#define TILE_VECS 2
#define tile_vecs(type, cols) ((cols) == PANEL ? 1 : TILE_VECS)
#define Q8_BIAS 128
#define LIMIT_4_BITS 8
#define LIMIT_5_BITS 8
#define LIMIT_6_BITS 4
#define LIMIT_8_BITS 8
typedef uint32_t uvec __attribute__((vector_size(32)));
typedef int32_t ivec __attribute__((vector_size(32)));
typedef float fvec __attribute__((vector_size(32)));
typedef int8_t qvec __attribute__((vector_size(8)));

static inline uint32_t uvec_most(uvec v)
{
    __m128i m =
        _mm_max_epu32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1)));
}

#define fvec_from_halves(p) \
    (fvec) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define fvec_fma(a, b, c) ((fvec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define uvec_larger(a, b) ((uvec)_mm256_max_epu32((__m256i)(a), (__m256i)(b)))
#define ivec_rounded(v) ((ivec)_mm256_cvtps_epi32((__m256)(v)))
#define part_begin(sum) (sum)
#define part_dot(part, w, x) \
    ((ivec)_mm256_dpbusd_avx_epi32((__m256i)(part), (__m256i)(w), (__m256i)(x)))
#define part_end(sum, part) (part)
#define pairs_dot(sum, a, b) \
    ((ivec)_mm256_dpwssd_avx_epi32((__m256i)(sum), (__m256i)(a), (__m256i)(b)))

static inline ivec part_dot_q8(ivec part, ivec w, ivec x)
{
    return part_dot(part, w, x);
}

#include "exec/llm/qmat_kernel.h"
