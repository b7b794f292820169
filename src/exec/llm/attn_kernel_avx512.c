#include <immintrin.h>
#define VEC 16
#define ATTN_UNIT attn_unit_avx512
#include "exec/llm/attn_kernel.h"

static vec load_f16(const uint16_t *h)
{
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
}
