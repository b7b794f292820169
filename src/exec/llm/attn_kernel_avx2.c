#include <immintrin.h>
#define VEC 8
#define ATTN_UNIT attn_unit_avx2
#include "exec/llm/attn_kernel.h"

static vec load_f16(const uint16_t *h)
{
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
}
