#define VEC 4
#define ATTN_UNIT attn_unit_generic
#include "exec/llm/attn_kernel.h"

static vec load_f16(const uint16_t *h)
{
    return (vec){half_to_float(h[0]), half_to_float(h[1]), half_to_float(h[2]),
                 half_to_float(h[3])};
}
