/* graph_experts.c: products with experts' packed weights. One node sorts the pairs of a token and a
 * chosen expert by expert, one quantises the columns in that order, and then each expert's matrix
 * meets all its columns at once. */
#include "exec/llm/graph_int.h"
#include <assert.h>
#include <string.h>

/* Pieces of one expert's rows per thread; there are several experts. */
#define CHUNKS_PER_THREAD 2

/* Pair number i is token i / n_used with its choice i % n_used, and column i of the result. */
struct order {
    int64_t n_experts, n_pairs, n_used;
    int32_t *begin; /* [n_experts + 1]: where an expert's pairs begin */
    int32_t *pairs; /* [n_pairs], by expert */
};

static struct order order_of(const struct ggml_tensor *order, const struct ggml_tensor *chosen)
{
    struct order o = {.n_pairs = chosen->ne[0] * chosen->ne[1], .n_used = chosen->ne[0]};
    o.n_experts = order->ne[0] - 1 - o.n_pairs;
    o.begin = order->data;
    o.pairs = o.begin + o.n_experts + 1;
    return o;
}

static int32_t chosen_expert(const struct ggml_tensor *chosen, int64_t pair)
{
    const char *token = (const char *)chosen->data + (size_t)(pair / chosen->ne[0]) * chosen->nb[1];
    int32_t expert;
    memcpy(&expert, token + (size_t)(pair % chosen->ne[0]) * chosen->nb[0], sizeof expert);
    return expert;
}

/* Counting sort; pairs of an expert stay in order. */
static void sort_pairs(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    const struct ggml_tensor *chosen = dst->src[0];
    struct order o = order_of(dst, chosen);
    (void)nth, (void)userdata;
    if (ith) return;
    memset(o.begin, 0, (size_t)(o.n_experts + 1) * sizeof *o.begin);
    for (int64_t i = 0; i < o.n_pairs; i++) o.begin[chosen_expert(chosen, i) + 1]++;
    for (int64_t e = 0; e < o.n_experts; e++) o.begin[e + 1] += o.begin[e];
    for (int64_t i = 0; i < o.n_pairs; i++)
        o.pairs[o.begin[chosen_expert(chosen, i)]++] = (int32_t)i;
    memmove(o.begin + 1, o.begin, (size_t)o.n_experts * sizeof *o.begin);
    o.begin[0] = 0;
}

static const float *pair_column(const struct ggml_tensor *x, int64_t pair, int64_t n_used)
{
    const char *token = (const char *)x->data + (size_t)(pair / n_used) * x->nb[2];
    size_t at = x->ne[1] == 1 ? 0 : (size_t)(pair % n_used) * x->nb[1];
    return (const float *)(const void *)(token + at);
}

static void quantise_pairs(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    const struct ggml_tensor *x = dst->src[0], *gate = dst->src[3];
    const enum qmat_type *type = userdata;
    struct order o = order_of(dst->src[1], dst->src[2]);
    size_t column_bytes = qmat_columns_bytes(*type, x->ne[0], 1);
    int64_t n_pieces = qmat_n_pieces(x->ne[0]), expert = 0;
    for (int64_t i = o.n_pairs * ith / nth; i < o.n_pairs * (ith + 1) / nth; i++) {
        while (o.begin[expert + 1] <= i) expert++;
        int64_t begin = o.begin[expert], n = o.begin[expert + 1] - begin;
        struct qmat_columns columns = {.type = *type,
                                       .k = x->ne[0],
                                       .n = n,
                                       .x = pair_column(x, o.pairs[i], o.n_used),
                                       .out = (char *)dst->data + (size_t)begin * column_bytes,
                                       .gate =
                                           gate ? pair_column(gate, o.pairs[i], o.n_used) : NULL};
        qmat_kernel_chosen()->quantise(&columns, i - begin, 0, n_pieces);
    }
}

/* One expert's share of a product. */
struct share {
    struct qmat w;
    struct qmat_product product;
    int64_t n_chunks, rows; /* pieces of the rows */
};

static int64_t share_units(const struct share *s)
{
    return (s->product.n + QMAT_COLS_MAX - 1) / QMAT_COLS_MAX * s->n_chunks;
}

static void share_begin(struct share *s, const struct ggml_tensor *dst, const struct order *o,
                        int64_t expert)
{
    const struct llm_packed *packed = dst->src[0]->extra;
    size_t column_bytes = qmat_columns_bytes(packed->matrix.type, packed->matrix.k, 1);
    int64_t begin = o->begin[expert];
    s->w = llm_packed_matrix(packed, expert);
    s->product = (struct qmat_product){
        .w = &s->w,
        .x = (const char *)dst->src[1]->data + (size_t)begin * column_bytes,
        .n = o->begin[expert + 1] - begin,
        .y = dst->data,
        .y_stride = dst->nb[1] / sizeof(float),
        .to = o->pairs + begin,
    };
}

static void share_unit(const struct share *s, int64_t unit)
{
    int64_t row = unit % s->n_chunks * s->rows;
    qmat_kernel_chosen()->product(&s->product, unit / s->n_chunks * QMAT_COLS_MAX, row,
                                  row + s->rows < s->w.m ? row + s->rows : s->w.m);
}

static void multiply_experts(struct ggml_tensor *dst, int ith, int nth, void *userdata)
{
    struct llm_product_op *op = userdata;
    const struct llm_packed *packed = dst->src[0]->extra;
    struct order o = order_of(dst->src[2], dst->src[3]);
    int64_t expert = 0, before = 0, i, m = packed->matrix.m;
    int64_t best = qmat_chunk_rows(o.n_pairs / o.n_experts);
    struct share s = {.rows = (m / (nth * CHUNKS_PER_THREAD) / best + 1) * best};
    s.n_chunks = (m + s.rows - 1) / s.rows;
    (void)ith;
    share_begin(&s, dst, &o, 0);
    for (;;) {
        i = atomic_fetch_add(&op->next, 1);
        while (expert < o.n_experts && i >= before + share_units(&s)) {
            before += share_units(&s);
            if (++expert < o.n_experts) share_begin(&s, dst, &o, expert);
        }
        if (expert == o.n_experts) break;
        share_unit(&s, i - before);
    }
    product_op_leave(op, nth);
}

static struct ggml_tensor *order_by_expert(const struct builder *b, struct ggml_tensor *chosen,
                                           int64_t n_experts)
{
    struct quantised *last = b->last;
    int64_t n = n_experts + 1 + chosen->ne[0] * chosen->ne[1];
    if (last->chosen == chosen) return last->order;
    last->chosen = chosen;
    last->order =
        ggml_custom_4d(b->ctx, GGML_TYPE_I32, n, 1, 1, 1, &chosen, 1, sort_pairs, 1, NULL);
    return last->order;
}

/* args: the columns, the order, the chosen experts, and the columns' gates or NULL. */
static struct ggml_tensor *quantise_node(const struct builder *b, struct ggml_tensor *args[4],
                                         enum qmat_type type)
{
    int64_t k = args[0]->ne[0], n_pairs = args[2]->ne[0] * args[2]->ne[1];
    assert(args[0]->type == GGML_TYPE_F32 && args[0]->nb[0] == sizeof(float));
    return ggml_custom_4d(b->ctx, GGML_TYPE_I8, (int64_t)qmat_columns_bytes(type, k, n_pairs), 1, 1,
                          1, args, args[3] ? 4 : 3, quantise_pairs, GGML_N_TASKS_MAX,
                          product_type(type));
}

static struct ggml_tensor *quantised_pairs(const struct builder *b, struct ggml_tensor *x,
                                           struct ggml_tensor *order, struct ggml_tensor *chosen,
                                           enum qmat_type type)
{
    struct ggml_tensor *args[4] = {x, order, chosen, NULL};
    struct quantised *last = b->last;
    if (last->x == x && last->by_expert && qmat_shares_columns(last->type, type))
        return last->columns;
    last->x = x;
    last->type = type;
    last->by_expert = true;
    last->columns = quantise_node(b, args, type);
    return last->columns;
}

/* args: the weights, the quantised columns, the order, the chosen experts. */
static struct ggml_tensor *product_node(const struct builder *b, struct ggml_tensor *args[4])
{
    const struct ggml_tensor *w = args[0], *chosen = args[3];
    return ggml_custom_4d(b->ctx, GGML_TYPE_F32, w->ne[1], chosen->ne[0], chosen->ne[1], 1, args, 4,
                          multiply_experts, GGML_N_TASKS_MAX, b->env->product);
}

struct ggml_tensor *product_experts(const struct builder *b, struct ggml_tensor *w,
                                    struct ggml_tensor *x, struct ggml_tensor *chosen)
{
    const struct llm_packed *packed = llm_weight_packed(b->env->weights, w);
    struct ggml_tensor *args[4] = {w, NULL, NULL, chosen};
    if (!packed) return ggml_mul_mat_id(b->ctx, w, x, chosen);
    args[2] = order_by_expert(b, chosen, w->ne[2]);
    args[1] = quantised_pairs(b, x, args[2], chosen, packed->matrix.type);
    return product_node(b, args);
}

struct ggml_tensor *product_experts_gated(const struct builder *b, struct ggml_tensor *w,
                                          struct ggml_tensor *gate, struct ggml_tensor *x,
                                          struct ggml_tensor *chosen)
{
    const struct llm_packed *packed = llm_weight_packed(b->env->weights, w);
    struct ggml_tensor *args[4] = {w, NULL, NULL, chosen};
    if (!packed) return ggml_mul_mat_id(b->ctx, w, ggml_swiglu_split(b->ctx, gate, x), chosen);
    assert(ggml_are_same_shape(gate, x) && ggml_are_same_stride(gate, x));
    args[2] = order_by_expert(b, chosen, w->ne[2]);
    struct ggml_tensor *columns[4] = {x, args[2], chosen, gate};
    args[1] = quantise_node(b, columns, packed->matrix.type);
    return product_node(b, args);
}
