/* onnx_file_wire.c: protobuf's encoding: a message is a row of fields, each a tag and a value. */
#include "base/utf8.h"
#include "exec/onnx/onnx_file_int.h"

#define VARINT_BYTES_MAX 10
#define FIELD_NUMBER_MAX ((1u << 29) - 1)

struct onnx_reader onnx_reader_of(struct onnx_str message)
{
    const unsigned char *p = (const unsigned char *)message.s;
    return (struct onnx_reader){p, p + message.len, false};
}

bool onnx_reader_varint(struct onnx_reader *reader, uint64_t *out)
{
    uint64_t v = 0;
    for (int i = 0; i < VARINT_BYTES_MAX && reader->p < reader->end; i++) {
        unsigned char byte = *reader->p++;
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    reader->bad = true;
    return false;
}

static bool read_fixed(struct onnx_reader *reader, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if ((size_t)(reader->end - reader->p) < n) return false;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)reader->p[i] << (8 * i);
    reader->p += n;
    *out = v;
    return true;
}

static bool read_bytes(struct onnx_reader *reader, struct onnx_str *out)
{
    uint64_t n;
    if (!onnx_reader_varint(reader, &n) || n > (uint64_t)(reader->end - reader->p)) return false;
    *out = (struct onnx_str){(const char *)reader->p, (size_t)n};
    reader->p += n;
    return true;
}

/* Groups, wire types 3 and 4, are of an older protobuf than ONNX: nothing writes them. */
static bool read_value(struct onnx_reader *reader, struct onnx_field *out)
{
    switch (out->wire) {
    case ONNX_VARINT: return onnx_reader_varint(reader, &out->v);
    case ONNX_FIXED64: return read_fixed(reader, 8, &out->v);
    case ONNX_FIXED32: return read_fixed(reader, 4, &out->v);
    case ONNX_BYTES: return read_bytes(reader, &out->bytes);
    }
    return false;
}

bool onnx_reader_next(struct onnx_reader *reader, struct onnx_field *out)
{
    uint64_t tag;
    if (reader->bad || reader->p == reader->end) return false;
    *out = (struct onnx_field){0};
    bool ok = onnx_reader_varint(reader, &tag) && tag >> 3 >= 1 && tag >> 3 <= FIELD_NUMBER_MAX;
    if (ok) {
        out->number = (uint32_t)(tag >> 3);
        out->wire = (enum onnx_wire)(tag & 7);
        ok = read_value(reader, out);
    }
    reader->bad = !ok;
    return ok;
}

sl_status onnx_reader_done(const struct onnx_reader *reader, struct sl_err *err)
{
    if (!reader->bad) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "cut off, or not in protobuf's encoding");
}

sl_status onnx_get_bytes(const struct onnx_field *field, const char *name, struct onnx_str *out,
                         struct sl_err *err)
{
    if (field->wire != ONNX_BYTES)
        return sl_err_set(err, SL_CORRUPT, "%s: a number where bytes belong", name);
    *out = field->bytes;
    return SL_OK;
}

sl_status onnx_get_int(const struct onnx_field *field, const char *name, int64_t *out,
                       struct sl_err *err)
{
    if (field->wire != ONNX_VARINT) return sl_err_set(err, SL_CORRUPT, "%s: no integer", name);
    *out = (int64_t)field->v;
    return SL_OK;
}

bool onnx_text_is_clean(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < ' ' || s[i] == 127) return false;
    }
    return sl_utf8_valid(s, n);
}

sl_status onnx_get_text(const struct onnx_field *field, const char *name, size_t n_max,
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
