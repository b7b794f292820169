#include "exec/llm/pooling.h"
#include "base/mem.h"
#include <math.h>
#include <string.h>

struct pooling {
    enum engine_pooling kind;
    int32_t n_embd, n_rows;
    double *sum;   /* [n_embd] */
    float *vector; /* [n_embd] */
};

sl_status pooling_create(enum engine_pooling kind, int32_t n_embd, struct pooling **out)
{
    struct pooling *p = sl_calloc(1, sizeof *p);
    if (!p) return SL_NOMEM;
    p->kind = kind;
    p->n_embd = n_embd;
    p->sum = sl_calloc((size_t)n_embd, sizeof *p->sum);
    p->vector = sl_calloc((size_t)n_embd, sizeof *p->vector);
    if (!p->sum || !p->vector) goto fail;
    *out = p;
    return SL_OK;
fail:
    pooling_destroy(p);
    return SL_NOMEM;
}

void pooling_destroy(struct pooling *p)
{
    if (!p) return;
    sl_free(p->sum);
    sl_free(p->vector);
    sl_free(p);
}

void pooling_reset(struct pooling *p)
{
    p->n_rows = 0;
    memset(p->sum, 0, (size_t)p->n_embd * sizeof *p->sum);
}

int32_t pooling_wants(const struct pooling *p, int32_t n_tokens, int32_t from, int32_t n,
                      int32_t *out_first)
{
    *out_first = p->kind == ENGINE_POOLING_LAST ? n - 1 : 0;
    if (p->kind == ENGINE_POOLING_MEAN) return n;
    if (p->kind == ENGINE_POOLING_CLS) return from == 0;
    return from + n == n_tokens;
}

bool pooling_needs_all(const struct pooling *p)
{
    return p->kind != ENGINE_POOLING_LAST;
}

void pooling_add(struct pooling *p, const float *rows, int32_t n)
{
    for (int32_t r = 0; r < n; r++) {
        const float *row = rows + (size_t)r * (size_t)p->n_embd;
        for (int32_t i = 0; i < p->n_embd; i++) p->sum[i] += (double)row[i];
    }
    p->n_rows += n;
}

sl_status pooling_finish(struct pooling *p, bool normalize, const float **out, struct sl_err *err)
{
    double squares = 0, scale = 1.0 / p->n_rows;
    for (int32_t i = 0; i < p->n_embd; i++) squares += p->sum[i] * p->sum[i];
    if (!isfinite(squares))
        return sl_err_set(err, SL_CORRUPT, "the model's hidden states are not finite");
    if (normalize && squares > 0) scale = 1 / sqrt(squares);
    for (int32_t i = 0; i < p->n_embd; i++) p->vector[i] = (float)(p->sum[i] * scale);
    *out = p->vector;
    return SL_OK;
}
