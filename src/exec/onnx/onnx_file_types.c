/* onnx_file_types.c: what is known of the types of elements, and of the names of files. */
#include "exec/onnx/onnx_file_int.h"
#include <string.h>

struct type_row {
    const char *name;
    int bits;
    int tensor; /* enum tensor_type; -1: the protocol has none */
};

static const struct type_row types[ONNX_TYPE_COUNT] = {
    [ONNX_UNDEFINED] = {"?", 0, -1},
    [ONNX_FLOAT] = {"FP32", 32, TENSOR_FP32},
    [ONNX_UINT8] = {"UINT8", 8, TENSOR_UINT8},
    [ONNX_INT8] = {"INT8", 8, TENSOR_INT8},
    [ONNX_UINT16] = {"UINT16", 16, TENSOR_UINT16},
    [ONNX_INT16] = {"INT16", 16, TENSOR_INT16},
    [ONNX_INT32] = {"INT32", 32, TENSOR_INT32},
    [ONNX_INT64] = {"INT64", 64, TENSOR_INT64},
    [ONNX_STRING] = {"BYTES", 0, TENSOR_BYTES},
    [ONNX_BOOL] = {"BOOL", 8, TENSOR_BOOL},
    [ONNX_FLOAT16] = {"FP16", 16, TENSOR_FP16},
    [ONNX_DOUBLE] = {"FP64", 64, TENSOR_FP64},
    [ONNX_UINT32] = {"UINT32", 32, TENSOR_UINT32},
    [ONNX_UINT64] = {"UINT64", 64, TENSOR_UINT64},
    [ONNX_COMPLEX64] = {"COMPLEX64", 64, -1},
    [ONNX_COMPLEX128] = {"COMPLEX128", 128, -1},
    [ONNX_BFLOAT16] = {"BF16", 16, TENSOR_BF16},
    [ONNX_FLOAT8E4M3FN] = {"FLOAT8E4M3FN", 8, -1},
    [ONNX_FLOAT8E4M3FNUZ] = {"FLOAT8E4M3FNUZ", 8, -1},
    [ONNX_FLOAT8E5M2] = {"FLOAT8E5M2", 8, -1},
    [ONNX_FLOAT8E5M2FNUZ] = {"FLOAT8E5M2FNUZ", 8, -1},
    [ONNX_UINT4] = {"UINT4", 4, -1},
    [ONNX_INT4] = {"INT4", 4, -1},
    [ONNX_FLOAT4E2M1] = {"FLOAT4E2M1", 4, -1},
    [ONNX_FLOAT8E8M0] = {"FLOAT8E8M0", 8, -1},
    [ONNX_UINT2] = {"UINT2", 2, -1},
    [ONNX_INT2] = {"INT2", 2, -1},
};

static const struct type_row *row_of(enum onnx_type type)
{
    return &types[(unsigned)type < ONNX_TYPE_COUNT ? type : ONNX_UNDEFINED];
}

const char *onnx_type_name(enum onnx_type type)
{
    return row_of(type)->name;
}

int onnx_type_bits(enum onnx_type type)
{
    return row_of(type)->bits;
}

bool onnx_type_to_tensor(enum onnx_type type, enum tensor_type *out)
{
    int tensor = row_of(type)->tensor;
    if (tensor >= 0) *out = (enum tensor_type)tensor;
    return tensor >= 0;
}

const char *onnx_value_kind_name(enum onnx_value_kind kind)
{
    static const char *const names[] = {"tensor", "sparse tensor", "sequence",
                                        "map",    "optional",      "opaque value"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "?";
}

static bool is_plain_component(const char *s, size_t n)
{
    bool dots = (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.');
    return n > 0 && !dots;
}

bool onnx_path_is_plain(const char *text, size_t n)
{
    if (n == 0 || n >= ONNX_PATH_SIZE || !onnx_text_is_clean(text, n)) return false;
    if (memchr(text, '\\', n) || memchr(text, '*', n)) return false;
    for (size_t i = 0, from = 0; i <= n; i++) {
        if (i < n && text[i] != '/') continue;
        if (!is_plain_component(text + from, i - from)) return false;
        from = i + 1;
    }
    return true;
}
