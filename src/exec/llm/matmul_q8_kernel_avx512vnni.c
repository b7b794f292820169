#include <immintrin.h>
#include <stdint.h>

#define KERNEL matmul_q8_avx512vnni
#define BLOCKS 2
typedef __m512i bvec;
typedef __m512 fvec;
#define bvec_load(p) _mm512_loadu_si512(p)
#define bvec_dot(start, w, x) _mm512_dpbusd_epi32(start, w, x)
#define fvec_load(p) _mm512_loadu_ps(p)
#define fvec_zero() _mm512_setzero_ps()
#define fvec_from(b) _mm512_cvtepi32_ps(b)
#define fvec_mul(a, b) _mm512_mul_ps(a, b)
#define fvec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define fvec_sum(v) _mm512_reduce_add_ps(v)

#include "exec/llm/matmul_q8_kernel.h"
