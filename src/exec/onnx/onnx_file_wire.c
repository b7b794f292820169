/* onnx_file_wire.c: the values of fields (base/pb.h), checked. */
#include "base/utf8.h"
#include "exec/onnx/onnx_file_int.h"

struct sl_pb_reader onnx_reader_of(struct onnx_str message)
{
    return sl_pb_read((const uint8_t *)message.s, message.len);
}

struct onnx_str onnx_field_bytes(const struct sl_pb_field *field)
{
    return (struct onnx_str){(const char *)field->bytes, field->n};
}

sl_status onnx_reader_done(const struct sl_pb_reader *reader, struct sl_err *err)
{
    if (!reader->bad) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "cut off, or not in protobuf's encoding");
}

sl_status onnx_get_bytes(const struct sl_pb_field *field, const char *name, struct onnx_str *out,
                         struct sl_err *err)
{
    if (field->kind != SL_PB_BYTES)
        return sl_err_set(err, SL_CORRUPT, "%s: a number where bytes belong", name);
    *out = onnx_field_bytes(field);
    return SL_OK;
}

sl_status onnx_get_int(const struct sl_pb_field *field, const char *name, int64_t *out,
                       struct sl_err *err)
{
    if (field->kind != SL_PB_VARINT) return sl_err_set(err, SL_CORRUPT, "%s: no integer", name);
    *out = (int64_t)field->value;
    return SL_OK;
}

bool onnx_text_is_clean(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < ' ' || s[i] == 127) return false;
    }
    return sl_utf8_valid(s, n);
}

sl_status onnx_get_text(const struct sl_pb_field *field, const char *name, size_t n_max,
                        struct onnx_str *out, struct sl_err *err)
{
    sl_status status = onnx_get_bytes(field, name, out, err);
    if (status != SL_OK) return status;
    if (out->len > n_max)
        return sl_err_set(err, SL_LIMIT, "%s: %zu bytes, at most %zu", name, out->len, n_max);
    if (!onnx_text_is_clean(out->s, out->len))
        return sl_err_set(err, SL_CORRUPT, "%s: not UTF-8, or control characters in it", name);
    return SL_OK;
}
