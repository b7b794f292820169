#include <immintrin.h>
#include <stdint.h>

#define KERNEL matmul_q8_avxvnni
#define BLOCKS 1
typedef __m256i bvec;
typedef __m256 fvec;

static float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

#define bvec_load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define bvec_dot(start, w, x) _mm256_dpbusd_avx_epi32(start, w, x)
#define fvec_load(p) _mm256_loadu_ps(p)
#define fvec_zero() _mm256_setzero_ps()
#define fvec_from(b) _mm256_cvtepi32_ps(b)
#define fvec_mul(a, b) _mm256_mul_ps(a, b)
#define fvec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define fvec_sum(v) sum8(v)

#include "exec/llm/matmul_q8_kernel.h"
