#include "exec/onnx/onnx_encoder.h"
#include "exec/onnx/onnx_number.h"
#include <math.h>

/* Which of the tokens' rows [first, first + n) count. */
static void rows_of(enum engine_pooling pooling, size_t n_tokens, size_t *first, size_t *n)
{
    *first = pooling == ENGINE_POOLING_LAST && n_tokens ? n_tokens - 1 : 0;
    *n = pooling == ENGINE_POOLING_MEAN ? n_tokens : 1;
}

/* Padding stands behind the text, so the mask is a matter of counting. */
static void pool(const struct tensor *output, size_t row, size_t n_tokens,
                 enum engine_pooling pooling, float *out)
{
    size_t n_embd = (size_t)output->shape[2], first, n;
    size_t base = row * (size_t)output->shape[1];
    rows_of(pooling, n_tokens, &first, &n);
    for (size_t i = 0; i < n_embd; i++) {
        double sum = 0;
        for (size_t t = first; t < first + n; t++)
            sum += onnx_number_get(output, (base + t) * n_embd + i);
        out[i] = (float)(sum / (double)(n ? n : 1));
    }
}

static sl_status finish(float *v, size_t n, bool normalize, struct sl_err *err)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    if (!isfinite(sum))
        return sl_err_set(err, SL_CORRUPT, "the model gave numbers that are not finite");
    if (!normalize || sum == 0) return SL_OK;
    for (size_t i = 0; i < n; i++) v[i] = (float)(v[i] / sqrt(sum));
    return SL_OK;
}

sl_status onnx_encoder_vector(const struct tensor *output, size_t row, size_t n_tokens,
                              const struct onnx_vector_cfg *cfg, struct sl_arena *arena,
                              float **out, int32_t *out_n, struct sl_err *err)
{
    char shape[TENSOR_SHAPE_TEXT_MAX];
    bool is_vector = cfg->pooling == ENGINE_POOLING_MODEL || cfg->pooling == ENGINE_POOLING_RANK;
    int32_t rank = is_vector ? 2 : 3;
    if (!onnx_is_float(output->type) || output->rank != rank || (size_t)output->shape[0] <= row ||
        output->shape[rank - 1] < 1 || (!is_vector && (size_t)output->shape[1] < n_tokens))
        return sl_err_set(err, SL_UNSUPPORTED, "output \"%.80s\" is %s %s, no vector of a text",
                          output->name, tensor_type_name(output->type),
                          tensor_shape_text(output->shape, output->rank, shape));
    size_t n = (size_t)output->shape[rank - 1];
    float *v = sl_arena_array(arena, n, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "no memory for a vector");
    if (is_vector) {
        for (size_t i = 0; i < n; i++) v[i] = (float)onnx_number_get(output, row * n + i);
    } else {
        pool(output, row, n_tokens, cfg->pooling, v);
    }
    *out = v;
    *out_n = (int32_t)n;
    return finish(v, n, cfg->normalize, err);
}
