#include "exec/llm/attn.h"
#include "base/cpu.h"

typedef void (*attn_unit_fn)(const struct attn_call *call, int32_t unit, void *scratch);

static int32_t heads_per_unit(const struct attn_shape *s)
{
    int32_t rep = s->n_head / s->n_head_kv;
    return rep < ATTN_ROWS_MAX ? rep : ATTN_ROWS_MAX;
}

int32_t attn_tile_tokens(int32_t n_head, int32_t n_head_kv)
{
    int32_t rep = n_head / n_head_kv;
    return rep < ATTN_ROWS_MAX ? ATTN_ROWS_MAX / rep : 1;
}

int32_t attn_n_units(const struct attn_shape *s, const struct attn_batch *batch)
{
    int32_t rep = s->n_head / s->n_head_kv, per = heads_per_unit(s);
    return batch->n_tiles * s->n_head_kv * ((rep + per - 1) / per);
}

size_t attn_scratch_bytes(const struct attn_shape *s)
{
    size_t keys = (size_t)ATTN_TILE * (size_t)s->head_k;
    size_t values = s->v_in_k ? 0 : (size_t)ATTN_TILE * (size_t)s->head_v;
    size_t floats = keys + values + ATTN_ROWS_MAX * ((size_t)s->head_v + ATTN_TILE + 2);
    return (floats * sizeof(float) + 4 * 64 + 63) / 64 * 64; /* each part starts on a cache line */
}

static attn_unit_fn pick(void)
{
#if defined(__x86_64__)
    if (sl_cpu_has(SL_CPU_AVX512)) return attn_unit_avx512;
    if (sl_cpu_has(SL_CPU_AVX2) && sl_cpu_has(SL_CPU_FMA) && sl_cpu_has(SL_CPU_F16C))
        return attn_unit_avx2;
#endif
    return attn_unit_generic;
}

void attn_unit(const struct attn_call *call, int32_t unit, void *scratch)
{
    pick()(call, unit, scratch);
}
