/* onnx_file_value.c: what goes into a graph and comes out: ValueInfoProto, TypeProto,
 * TensorShapeProto. */
#include "exec/onnx/onnx_file_int.h"
#include <inttypes.h>

enum { VALUE_NAME = 1, VALUE_TYPE = 2 };
enum {
    TYPE_TENSOR = 1,
    TYPE_SEQUENCE = 4,
    TYPE_MAP = 5,
    TYPE_OPAQUE = 7,
    TYPE_SPARSE = 8,
    TYPE_OPTIONAL = 9
};
enum { TENSOR_ELEM = 1, TENSOR_SHAPE = 2 };
enum { SHAPE_DIM = 1 };
enum { DIM_VALUE = 1, DIM_PARAM = 2 };

static sl_status read_dim(struct onnx_str message, struct onnx_dim *out, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    sl_status status = SL_OK;
    *out = (struct onnx_dim){.size = -1};
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == DIM_VALUE)
            status = onnx_get_int(&field, "dim_value", &out->size, err);
        else if (field.number == DIM_PARAM)
            status = onnx_get_text(&field, "dim_param", TENSOR_NAME_MAX, &out->symbol, err);
        if (status == SL_OK && out->size < -1)
            status = sl_err_set(err, SL_CORRUPT, "dim_value: %" PRId64, out->size);
    }
    return status == SL_OK ? onnx_reader_done(&reader, err) : status;
}

static sl_status read_shape(struct onnx_str message, struct onnx_value *out, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str bytes;
    sl_status status = SL_OK;
    out->rank = 0;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number != SHAPE_DIM) continue;
        if (out->rank == TENSOR_RANK_MAX)
            return sl_err_set(err, SL_LIMIT, "shape: more than %d dimensions", TENSOR_RANK_MAX);
        status = onnx_get_bytes(&field, "dim", &bytes, err);
        if (status == SL_OK) status = read_dim(bytes, &out->dims[out->rank++], err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "shape: dimension %d", out->rank);
    return status;
}

static sl_status read_tensor_type(struct onnx_str message, struct onnx_value *out,
                                  struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str shape;
    int64_t type = ONNX_UNDEFINED;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == TENSOR_ELEM) status = onnx_get_int(&field, "elem_type", &type, err);
        if (field.number != TENSOR_SHAPE) continue;
        status = onnx_get_bytes(&field, "shape", &shape, err);
        if (status == SL_OK) status = read_shape(shape, out, err);
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status != SL_OK) return status;
    if (type <= ONNX_UNDEFINED || type >= ONNX_TYPE_COUNT)
        return sl_err_set(err, SL_CORRUPT, "elem_type: %" PRId64 " is no type", type);
    out->type = (enum onnx_type)type;
    return SL_OK;
}

static sl_status read_type(struct onnx_str message, struct onnx_value *out, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str bytes;
    sl_status status = SL_OK;
    bool is_set = false;
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        switch (field.number) {
        case TYPE_TENSOR: out->kind = ONNX_TENSOR; break;
        case TYPE_SPARSE: out->kind = ONNX_SPARSE_TENSOR; break;
        case TYPE_SEQUENCE: out->kind = ONNX_SEQUENCE; break;
        case TYPE_MAP: out->kind = ONNX_MAP; break;
        case TYPE_OPTIONAL: out->kind = ONNX_OPTIONAL; break;
        case TYPE_OPAQUE: out->kind = ONNX_OPAQUE; break;
        default: continue;
        }
        if (is_set) return sl_err_set(err, SL_CORRUPT, "type: two of them");
        is_set = true;
        status = onnx_get_bytes(&field, "type", &bytes, err);
        if (status == SL_OK && out->kind == ONNX_TENSOR) status = read_tensor_type(bytes, out, err);
    }
    return status == SL_OK ? onnx_reader_done(&reader, err) : status;
}

sl_status onnx_read_value(struct onnx_str message, struct onnx_value *out, struct sl_err *err)
{
    struct sl_pb_reader reader = onnx_reader_of(message);
    struct sl_pb_field field;
    struct onnx_str type = {0};
    sl_status status = SL_OK;
    *out = (struct onnx_value){.rank = -1};
    while (status == SL_OK && sl_pb_next(&reader, &field)) {
        if (field.number == VALUE_NAME) {
            status = onnx_get_text(&field, "name", TENSOR_NAME_MAX, &out->name, err);
        } else if (field.number == VALUE_TYPE) {
            if (type.s) status = sl_err_set(err, SL_CORRUPT, "type: two of them");
            if (status == SL_OK) status = onnx_get_bytes(&field, "type", &type, err);
        }
    }
    if (status == SL_OK) status = onnx_reader_done(&reader, err);
    if (status == SL_OK && out->name.len == 0)
        status = sl_err_set(err, SL_CORRUPT, "name: missing");
    if (status == SL_OK && type.s) status = read_type(type, out, err);
    if (status != SL_OK)
        (void)sl_err_prefix(err, "\"%.*s\"", out->name.len < 100 ? (int)out->name.len : 100,
                            out->name.s ? out->name.s : "");
    return status;
}
