/* qmat_avx512.h: vectors of 16 rows and their operations for qmat_kernel.h: AVX-512 with VNNI.
 * Floor: exec/llm. */
#include <immintrin.h>
#include <stdint.h>

#define LANES 16
#define GROUPS 4
#define FEW_GROUPS 2 /* more streams from memory at once are no faster */
/* Four by four: 16 sums that do not wait for each other, and half a load per dot product. q6_K's
 * sums start and end so often that the registers do not hold what stands around them. */
#define tile_vecs(type, cols) ((type) == QMAT_Q6_K && (cols) == PANEL ? 2 : TILE_VECS)
#define Q8_BIAS 128
#define LIMIT_4_BITS 8
#define LIMIT_5_BITS 8
#define LIMIT_6_BITS 4
#define LIMIT_8_BITS 8
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef float fvec __attribute__((vector_size(64)));
typedef int8_t qvec __attribute__((vector_size(16)));

#define fvec_from_halves(p) \
    (fvec) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define fvec_fma(a, b, c) ((fvec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define uvec_larger(a, b) ((uvec)_mm512_max_epu32((__m512i)(a), (__m512i)(b)))
#define uvec_most(v) _mm512_reduce_max_epu32((__m512i)(v))
#define ivec_rounded(v) ((ivec)_mm512_cvtps_epi32((__m512)(v)))
#define part_begin(sum) (sum)
#define part_dot(part, w, x) \
    ((ivec)_mm512_dpbusd_epi32((__m512i)(part), (__m512i)(w), (__m512i)(x)))
#define part_end(sum, part) (part)
#define pairs_dot(sum, a, b) ((ivec)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(a), (__m512i)(b)))

static inline ivec part_dot_q8(ivec part, ivec w, ivec x)
{
    return part_dot(part, w, x);
}
