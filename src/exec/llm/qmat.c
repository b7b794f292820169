#include "exec/llm/qmat.h"
#include "base/cpu.h"
#include "exec/llm/qmat_int.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FEW_ROWS (2 * QMAT_ROWS)
#define MANY_ROWS (4 * QMAT_ROWS) /* what kernels work through together at most */

static pthread_once_t choose_once = PTHREAD_ONCE_INIT;
static const struct qmat_kernel *chosen;

int qmat_kernels(const struct qmat_kernel *out[QMAT_KERNELS_MAX])
{
    int n = 0;
#if defined(__x86_64__)
    bool fma = sl_cpu_has(SL_CPU_AVX2) && sl_cpu_has(SL_CPU_FMA) && sl_cpu_has(SL_CPU_F16C);
    bool wide = fma && sl_cpu_has(SL_CPU_AVX512) && sl_cpu_has(SL_CPU_AVX512_VNNI);
    if (wide && !qmat_amx_problem()) out[n++] = &qmat_amx;
    if (wide) out[n++] = &qmat_avx512vnni;
    if (fma && sl_cpu_has(SL_CPU_AVX_VNNI)) out[n++] = &qmat_avxvnni;
    if (fma) out[n++] = &qmat_avx2;
#elif defined(__aarch64__)
    bool dotprod = sl_cpu_has(SL_CPU_DOTPROD), sve = sl_cpu_has(SL_CPU_SVE);
    bool sve_is_wide = sl_cpu_sve_bytes() > 16; /* else SDOT does it with fewer instructions */
    if (dotprod && sl_cpu_has(SL_CPU_I8MM)) out[n++] = &qmat_i8mm;
    if (sve && sve_is_wide) out[n++] = &qmat_sve;
    if (dotprod) out[n++] = &qmat_dotprod;
    if (sve && !sve_is_wide) out[n++] = &qmat_sve;
#endif
    out[n++] = &qmat_generic;
    return n;
}

static void choose(void)
{
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    const char *name = getenv("STARLANE_KERNELS");
    int n = qmat_kernels(list);
    if (!name || !*name) {
        chosen = n > 1 ? list[0] : NULL;
        return;
    }
    for (int i = 0; i < n; i++) {
        if (!strcmp(name, list[i]->name)) chosen = list[i];
    }
}

const struct qmat_kernel *qmat_kernel_chosen(void)
{
    pthread_once(&choose_once, choose);
    return chosen;
}

bool qmat_type_from_gguf(uint32_t gguf_type, enum qmat_type *out)
{
    static const uint8_t types[QMAT_TYPE_COUNT] = {/* as in ggml.h */
                                                   [QMAT_Q4_0] = 2,
                                                   [QMAT_Q8_0] = 8,
                                                   [QMAT_Q4_K] = 12,
                                                   [QMAT_Q5_K] = 13,
                                                   [QMAT_Q6_K] = 14};
    for (int i = 0; i < QMAT_TYPE_COUNT; i++) {
        if (types[i] != gguf_type) continue;
        *out = (enum qmat_type)i;
        return true;
    }
    return false;
}

int64_t qmat_block(enum qmat_type type)
{
    return qmat_layouts[type].block;
}

size_t qmat_bytes(enum qmat_type type, int64_t k, int64_t m)
{
    return (size_t)((m + QMAT_ROWS - 1) / QMAT_ROWS) * qmat_group_bytes(type, k);
}

size_t qmat_columns_bytes(enum qmat_type type, int64_t k, int64_t n)
{
    return (size_t)(qmat_steps(k) * n) * (size_t)qmat_layouts[type].record;
}

int64_t qmat_n_pieces(int64_t k)
{
    return qmat_steps(k);
}

int64_t qmat_chunk_rows(int64_t n)
{
    return n < PANEL ? FEW_ROWS : MANY_ROWS;
}

bool qmat_shares_columns(enum qmat_type a, enum qmat_type b)
{
    return a == b || (qmat_layouts[a].block == STEP && qmat_layouts[b].block == STEP);
}
