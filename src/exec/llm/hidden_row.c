#include "exec/llm/hidden_row.h"
#include <ggml.h>
#include <math.h>
#include <string.h>

#define HALF_MAX 65504.0f
#define Q8_BLOCK 32

static size_t round_up_4(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

size_t hidden_row_bytes(enum engine_link_type link, int32_t n_embd)
{
    size_t n = (size_t)n_embd;
    switch (link) {
    case ENGINE_LINK_F32: return n * sizeof(float);
    case ENGINE_LINK_F16: return sizeof(float) + round_up_4(n * sizeof(ggml_fp16_t));
    case ENGINE_LINK_Q8_0:
        return n % Q8_BLOCK ? 0 : round_up_4(ggml_row_size(GGML_TYPE_Q8_0, n_embd));
    }
    return 0;
}

/* The power of two that brings the row's largest number into the range of halves; 1 where they fit,
 * and where one is infinite or NaN, which no scale mends. */
static float scale_of(const float *row, int32_t n)
{
    float most = 0;
    int exponent;
    for (int32_t i = 0; i < n; i++) most = fabsf(row[i]) > most ? fabsf(row[i]) : most;
    if (most <= HALF_MAX || !isfinite(most)) return 1;
    (void)frexpf(most / HALF_MAX, &exponent);
    return ldexpf(1, exponent);
}

static void pack_halves(const float *row, int32_t n, char *out)
{
    float scale = scale_of(row, n);
    ggml_fp16_t *halves = (ggml_fp16_t *)(void *)(out + sizeof scale);
    memcpy(out, &scale, sizeof scale);
    if (n % 2) halves[n] = 0;
    if (scale <= 1) {
        ggml_fp32_to_fp16_row(row, halves, n);
        return;
    }
    for (int32_t i = 0; i < n; i++) halves[i] = ggml_fp32_to_fp16(row[i] / scale);
}

static void unpack_halves(const char *in, int32_t n, float *row)
{
    float scale;
    memcpy(&scale, in, sizeof scale);
    ggml_fp16_to_fp32_row((const ggml_fp16_t *)(const void *)(in + sizeof scale), row, n);
    for (int32_t i = 0; i < n && scale != 1; i++) row[i] *= scale;
}

void hidden_rows_pack(enum engine_link_type link, const float *rows, int32_t n_rows, int32_t n_embd,
                      void *out)
{
    size_t row_bytes = hidden_row_bytes(link, n_embd);
    if (link == ENGINE_LINK_F32) {
        memcpy(out, rows, row_bytes * (size_t)n_rows);
        return;
    }
    for (int32_t i = 0; i < n_rows; i++) {
        const float *row = rows + (size_t)i * (size_t)n_embd;
        char *to = (char *)out + row_bytes * (size_t)i;
        size_t n = ggml_row_size(GGML_TYPE_Q8_0, n_embd);
        if (link == ENGINE_LINK_F16) {
            pack_halves(row, n_embd, to);
            continue;
        }
        ggml_get_type_traits(GGML_TYPE_Q8_0)->from_float_ref(row, to, n_embd);
        memset(to + n, 0, row_bytes - n);
    }
}

void hidden_rows_unpack(enum engine_link_type link, const void *in, int32_t n_rows, int32_t n_embd,
                        float *out)
{
    size_t row_bytes = hidden_row_bytes(link, n_embd);
    if (link == ENGINE_LINK_F32) {
        memcpy(out, in, row_bytes * (size_t)n_rows);
        return;
    }
    for (int32_t i = 0; i < n_rows; i++) {
        const char *from = (const char *)in + row_bytes * (size_t)i;
        float *row = out + (size_t)i * (size_t)n_embd;
        if (link == ENGINE_LINK_F16)
            unpack_halves(from, n_embd, row);
        else
            ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(from, row, n_embd);
    }
}
