/* graph_product.c: products with weights. A packed weight (weights.h) is multiplied by our own
 * kernels: one node quantises the columns, and every product that reads the same columns shares
 * them. */
#include "exec/llm/graph_int.h"
#include <assert.h>

/* Pieces of a product per thread: small enough that a thread that was held up does not hold up the
 * rest. */
#define CHUNKS_PER_THREAD 8

static const enum qmat_type types[QMAT_TYPE_COUNT] = {
    [QMAT_Q4_0] = QMAT_Q4_0, [QMAT_Q8_0] = QMAT_Q8_0, [QMAT_Q4_K] = QMAT_Q4_K,
    [QMAT_Q5_K] = QMAT_Q5_K, [QMAT_Q6_K] = QMAT_Q6_K,
};

void *product_type(enum qmat_type type)
{
    return (void *)(uintptr_t)&types[type];
}

void product_op_leave(struct llm_product_op *op, int n_threads)
{
    if (atomic_fetch_add(&op->done, 1) < n_threads - 1) return;
    atomic_store(&op->next, 0);
    atomic_store(&op->done, 0);
}

static void quantise(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    const struct ggml_tensor *x = dst->src[0];
    const enum qmat_type *type = userdata;
    struct qmat_columns columns = {.type = *type,
                                   .k = x->ne[0],
                                   .n = x->ne[1],
                                   .x = x->data,
                                   .x_stride = x->nb[1] / sizeof(float),
                                   .out = dst->data,
                                   .gate = dst->src[1] ? dst->src[1]->data : NULL};
    int64_t per_column = qmat_n_pieces(columns.k), n = per_column * columns.n;
    int64_t at = n * ith / nth, end = n * (ith + 1) / nth;
    while (at < end) {
        int64_t col = at / per_column, first = at % per_column;
        int64_t last = first + end - at < per_column ? first + end - at : per_column;
        qmat_kernel_chosen()->quantise(&columns, col, first, last);
        at += last - first;
    }
}

static void multiply(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    struct llm_product_op *op = userdata;
    const struct llm_packed *w = dst->src[0]->extra;
    int64_t m = w->matrix.m;
    struct qmat_product p = {&w->matrix, dst->src[1]->data,          dst->ne[1],
                             dst->data,  dst->nb[1] / sizeof(float), NULL};
    int64_t best = qmat_chunk_rows(p.n), n_blocks = (p.n + QMAT_COLS_MAX - 1) / QMAT_COLS_MAX;
    int64_t rows = (m / (nth * CHUNKS_PER_THREAD * n_blocks) / best + 1) * best;
    int64_t n_chunks = (m + rows - 1) / rows, i, n = n_blocks * n_chunks;
    (void)ith;
    while ((i = atomic_fetch_add(&op->next, 1)) < n) {
        int64_t row = i % n_chunks * rows;
        qmat_kernel_chosen()->product(&p, i / n_chunks * QMAT_COLS_MAX, row,
                                      row + rows < m ? row + rows : m);
    }
    product_op_leave(op, nth);
}

/* Columns x as products with weights of this type read them. */
static struct ggml_tensor *quantised(const struct builder *b, struct ggml_tensor *x,
                                     enum qmat_type type)
{
    struct quantised *last = b->last;
    int64_t n_bytes = (int64_t)qmat_columns_bytes(type, x->ne[0], x->ne[1]);
    if (last->x == x && !last->by_expert && qmat_shares_columns(last->type, type))
        return last->columns;
    assert(ggml_is_matrix(x) && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float));
    last->x = x;
    last->type = type;
    last->by_expert = false;
    last->columns = ggml_custom_4d(b->ctx, GGML_TYPE_I8, n_bytes, 1, 1, 1, &x, 1, quantise,
                                   GGML_N_TASKS_MAX, product_type(type));
    return last->columns;
}

static struct ggml_tensor *product_of(const struct builder *b, struct ggml_tensor *w,
                                      struct ggml_tensor *columns, int64_t n)
{
    struct ggml_tensor *args[2] = {w, columns};
    return ggml_custom_4d(b->ctx, GGML_TYPE_F32, w->ne[1], n, 1, 1, args, 2, multiply,
                          GGML_N_TASKS_MAX, b->env->product);
}

struct ggml_tensor *product(const struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x)
{
    const struct llm_packed *packed = llm_weight_packed(b->env->weights, w);
    if (!packed) return ggml_mul_mat(b->ctx, w, x);
    return product_of(b, w, quantised(b, x, packed->matrix.type), x->ne[1]);
}

struct ggml_tensor *product_gated(const struct builder *b, struct ggml_tensor *w,
                                  struct ggml_tensor *gate, struct ggml_tensor *x)
{
    const struct llm_packed *packed = llm_weight_packed(b->env->weights, w);
    struct ggml_tensor *args[2] = {x, gate};
    enum qmat_type type;
    if (!packed) return product(b, w, ggml_swiglu_split(b->ctx, gate, x));
    assert(ggml_are_same_shape(gate, x) && ggml_are_same_stride(gate, x));
    type = packed->matrix.type;
    x = ggml_custom_4d(b->ctx, GGML_TYPE_I8, (int64_t)qmat_columns_bytes(type, x->ne[0], x->ne[1]),
                       1, 1, 1, args, 2, quantise, GGML_N_TASKS_MAX, product_type(type));
    return product_of(b, w, x, args[0]->ne[1]);
}

struct ggml_tensor *linear(const struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x,
                           struct ggml_tensor *bias)
{
    struct ggml_tensor *y = product(b, w, x);
    return bias ? ggml_add(b->ctx, y, bias) : y;
}
