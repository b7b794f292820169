#include "exec/llm/matmul_q8.h"
#include "base/cpu.h"

static const struct matmul_q8_kernel *pick(void)
{
#if defined(__x86_64__)
    bool fma = sl_cpu_has(SL_CPU_AVX2) && sl_cpu_has(SL_CPU_FMA) && sl_cpu_has(SL_CPU_F16C);
    if (fma && sl_cpu_has(SL_CPU_AVX512) && sl_cpu_has(SL_CPU_AVX512_VNNI))
        return &matmul_q8_avx512vnni;
    if (fma && sl_cpu_has(SL_CPU_AVX_VNNI)) return &matmul_q8_avxvnni;
#endif
    return NULL;
}

bool matmul_q8_available(void)
{
    return pick() != NULL;
}

size_t matmul_q8_scratch_bytes(int64_t k)
{
    size_t padded = ((size_t)k + 63) / 64 * 64; /* an odd last block gets an empty neighbour */
    return (3 * MATMUL_Q8_COLS + 2 * MATMUL_Q8_STRIP) * padded;
}

void matmul_q8_columns(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, void *scratch)
{
    pick()->columns(mm, col, n_cols, scratch);
}

void matmul_q8_rows(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, int64_t row_first,
                    int64_t row_last, void *scratch)
{
    pick()->rows(mm, col, n_cols, row_first, row_last, scratch);
}
