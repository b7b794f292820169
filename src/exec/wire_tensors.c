/* wire_tensors.c: tensors and signatures within messages. */
#include "exec/wire_int.h"
#include "exec/worker_share.h"
#include <string.h>

static int64_t *shape_of(const int64_t *v)
{
    union {
        const int64_t *in;
        int64_t *out;
    } cast = {.in = v};
    return cast.out;
}

sl_status wire_put_pieces(const struct tensor *in, const uint32_t *pieces, size_t n,
                          struct sl_arena *scratch, Starlane__Worker__Tensor ***out)
{
    Starlane__Worker__Tensor *v = sl_arena_array(scratch, n + 1, sizeof *v);
    Starlane__Worker__Tensor **refs = sl_arena_array(scratch, n + 1, sizeof *refs);
    if (!v || !refs) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        starlane__worker__tensor__init(&v[i]);
        v[i].name = wire_string(in[i].name);
        v[i].type = (uint32_t)in[i].type;
        v[i].shape = shape_of(in[i].shape);
        v[i].n_shape = (size_t)in[i].rank;
        v[i].piece = pieces ? pieces[i] : 0;
        if (v[i].piece)
            v[i].piece_bytes = in[i].n_bytes;
        else
            v[i].data = wire_bytes(in[i].data, in[i].n_bytes);
        refs[i] = &v[i];
    }
    *out = refs;
    return SL_OK;
}

sl_status wire_put_tensors(const struct tensor *in, size_t n, struct sl_arena *scratch,
                           Starlane__Worker__Tensor ***out)
{
    return wire_put_pieces(in, NULL, n, scratch, out);
}

/* Type and shape of a tensor or a spec; rank and sizes are the caller's to judge. */
static sl_status get_shape(uint32_t type, const int64_t *shape, size_t rank,
                           enum tensor_type *out_type, int64_t *out, struct sl_err *err)
{
    if (type >= TENSOR_TYPE_COUNT) return sl_err_set(err, SL_CORRUPT, "tensor of type %u", type);
    if (rank > TENSOR_RANK_MAX)
        return sl_err_set(err, SL_CORRUPT, "tensor of %zu dimensions", rank);
    *out_type = (enum tensor_type)type;
    if (rank) memcpy(out, shape, rank * sizeof *out);
    return SL_OK;
}

static sl_status get_tensor(const Starlane__Worker__Tensor *in, struct tensor *out,
                            struct sl_err *err)
{
    *out = (struct tensor){.name = in->name,
                           .rank = (int32_t)in->n_shape,
                           .data = in->piece ? NULL : in->data.data,
                           .n_bytes = in->piece ? (size_t)in->piece_bytes : in->data.len};
    sl_status status = get_shape(in->type, in->shape, in->n_shape, &out->type, out->shape, err);
    if (status == SL_OK && in->piece && (!worker_share_takes(out->type) || in->data.len))
        return sl_err_set(err, SL_CORRUPT, "a tensor's data cannot be in a piece");
    if (status == SL_OK && tensor_check(out, err) != SL_OK)
        status = sl_err_set(err, SL_CORRUPT, "a tensor's data is not what its shape tells");
    return status;
}

sl_status wire_get_pieces(Starlane__Worker__Tensor *const *in, size_t n, struct sl_arena *arena,
                          const struct tensor **out, const uint32_t **out_pieces,
                          struct sl_err *err)
{
    *out_pieces = NULL;
    if (n > TENSORS_MAX) return sl_err_set(err, SL_CORRUPT, "%zu tensors", n);
    struct tensor *v = sl_arena_array(arena, n + 1, sizeof *v);
    uint32_t *pieces = sl_arena_array(arena, n + 1, sizeof *pieces);
    sl_status status = v && pieces ? SL_OK : sl_err_set(err, SL_NOMEM, "tensors");
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        status = get_tensor(in[i], &v[i], err);
        pieces[i] = in[i]->piece;
        if (pieces[i]) *out_pieces = pieces;
    }
    *out = v;
    return status;
}

sl_status wire_get_tensors(Starlane__Worker__Tensor *const *in, size_t n, struct sl_arena *arena,
                           const struct tensor **out, struct sl_err *err)
{
    const uint32_t *pieces;
    sl_status status = wire_get_pieces(in, n, arena, out, &pieces, err);
    if (status == SL_OK && pieces)
        status = sl_err_set(err, SL_CORRUPT, "a tensor's data are in memory that is not shared");
    return status;
}

sl_status wire_put_specs(const struct tensor_spec *in, size_t n, struct sl_arena *scratch,
                         Starlane__Worker__TensorSpec ***out)
{
    Starlane__Worker__TensorSpec *v = sl_arena_array(scratch, n + 1, sizeof *v);
    Starlane__Worker__TensorSpec **refs = sl_arena_array(scratch, n + 1, sizeof *refs);
    if (!v || !refs) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        starlane__worker__tensor_spec__init(&v[i]);
        v[i].name = wire_string(in[i].name);
        v[i].type = (uint32_t)in[i].type;
        v[i].any_rank = in[i].rank < 0;
        v[i].shape = shape_of(in[i].shape);
        v[i].n_shape = in[i].rank > 0 ? (size_t)in[i].rank : 0;
        v[i].optional = in[i].optional;
        refs[i] = &v[i];
    }
    *out = refs;
    return SL_OK;
}

sl_status wire_get_specs(Starlane__Worker__TensorSpec *const *in, size_t n, struct sl_arena *arena,
                         const struct tensor_spec **out, struct sl_err *err)
{
    if (n > TENSORS_MAX) return sl_err_set(err, SL_CORRUPT, "%zu tensors in a signature", n);
    struct tensor_spec *v = sl_arena_array(arena, n + 1, sizeof *v);
    sl_status status = v ? SL_OK : sl_err_set(err, SL_NOMEM, "signature");
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        v[i] = (struct tensor_spec){.name = in[i]->name,
                                    .rank = in[i]->any_rank ? -1 : (int32_t)in[i]->n_shape,
                                    .optional = in[i]->optional};
        status = get_shape(in[i]->type, in[i]->shape, in[i]->n_shape, &v[i].type, v[i].shape, err);
    }
    *out = v;
    return status;
}
