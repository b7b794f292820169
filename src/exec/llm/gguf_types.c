/* gguf_types.c: names and sizes of tensor types and value types. */
#include "exec/llm/gguf_internal.h"

/* Block layouts as in ggml's block structs (ggml/src/ggml-common.h); a half is 2 bytes, QK_K is
 * 256. Numbers that ggml has removed (4, 5, 31 to 33, 36 to 38) have no row, so they are unknown.
 * */
static const struct {
    const char *name;
    uint16_t block_elements;
    uint16_t block_bytes;
} type_table[] = {
    [0] = {"f32", 1, 4},
    [1] = {"f16", 1, 2},
    [2] = {"q4_0", 32, 2 + 16},
    [3] = {"q4_1", 32, 4 + 16},
    [6] = {"q5_0", 32, 2 + 4 + 16},
    [7] = {"q5_1", 32, 4 + 4 + 16},
    [8] = {"q8_0", 32, 2 + 32},
    [9] = {"q8_1", 32, 4 + 32},
    [10] = {"q2_K", 256, 4 + 16 + 64},
    [11] = {"q3_K", 256, 2 + 64 + 32 + 12},
    [12] = {"q4_K", 256, 4 + 12 + 128},
    [13] = {"q5_K", 256, 4 + 12 + 128 + 32},
    [14] = {"q6_K", 256, 2 + 16 + 192},
    [15] = {"q8_K", 256, 4 + 256 + 32},
    [16] = {"iq2_xxs", 256, 2 + 64},
    [17] = {"iq2_xs", 256, 2 + 64 + 8},
    [18] = {"iq3_xxs", 256, 2 + 96},
    [19] = {"iq1_s", 256, 2 + 32 + 16},
    [20] = {"iq4_nl", 32, 2 + 16},
    [21] = {"iq3_s", 256, 2 + 104 + 4},
    [22] = {"iq2_s", 256, 2 + 64 + 16},
    [23] = {"iq4_xs", 256, 2 + 2 + 4 + 128},
    [24] = {"i8", 1, 1},
    [25] = {"i16", 1, 2},
    [26] = {"i32", 1, 4},
    [27] = {"i64", 1, 8},
    [28] = {"f64", 1, 8},
    [29] = {"iq1_m", 256, 32 + 16 + 8},
    [30] = {"bf16", 1, 2},
    [34] = {"tq1_0", 256, 2 + 4 + 48},
    [35] = {"tq2_0", 256, 2 + 64},
    [39] = {"mxfp4", 32, 1 + 16},
    [40] = {"nvfp4", 64, 4 + 32},
    [41] = {"q1_0", 128, 2 + 16},
    [42] = {"q2_0", 64, 2 + 16},
};

static const struct {
    const char *name;
    uint8_t bytes;
} value_type_table[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

static bool type_is_known(uint32_t type)
{
    return type < sizeof(type_table) / sizeof(type_table[0]) && type_table[type].name;
}

bool gguf_type_traits(uint32_t type, int64_t *out_block_elements, size_t *out_block_bytes)
{
    if (!type_is_known(type)) return false;
    *out_block_elements = type_table[type].block_elements;
    *out_block_bytes = type_table[type].block_bytes;
    return true;
}

const char *gguf_tensor_type_name(uint32_t type)
{
    return type_is_known(type) ? type_table[type].name : "?";
}

const char *gguf_value_type_name(uint32_t type)
{
    return type < GGUF_TYPE_COUNT ? value_type_table[type].name : "?";
}

size_t gguf_value_type_bytes(uint32_t type)
{
    return type < GGUF_TYPE_COUNT ? value_type_table[type].bytes : 0;
}
