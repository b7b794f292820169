#include "exec/llm/attn.h"
#include "base/cpu.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef void (*attn_unit_fn)(const struct attn_call *call, int32_t unit, void *scratch);

static pthread_once_t choose_once = PTHREAD_ONCE_INIT;
static attn_unit_fn chosen;

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

/* What STARLANE_KERNELS names (qmat.h) holds for attention too, so that a class of processors can
 * be measured on a better one. */
static void choose(void)
{
    const char *kernels = getenv("STARLANE_KERNELS");
    chosen = attn_unit_generic;
    if (!kernels) kernels = "";
    if (!strcmp(kernels, "generic")) return;
#if defined(__x86_64__)
    bool narrow = !strcmp(kernels, "avx2") || !strcmp(kernels, "avxvnni");
    if (sl_cpu_has(SL_CPU_AVX2) && sl_cpu_has(SL_CPU_FMA) && sl_cpu_has(SL_CPU_F16C))
        chosen = attn_unit_avx2;
    if (sl_cpu_has(SL_CPU_AVX512) && !narrow) chosen = attn_unit_avx512;
#endif
}

void attn_unit(const struct attn_call *call, int32_t unit, void *scratch)
{
    pthread_once(&choose_once, choose);
    chosen(call, unit, scratch);
}
