#include "base/pb.h"
#include <string.h>

#define VARINT_BYTES_MAX 10

bool sl_pb_next_varint(struct sl_pb_reader *reader, uint64_t *out)
{
    uint64_t value = 0;
    if (reader->at == reader->end || reader->bad) return false;
    for (int i = 0; i < VARINT_BYTES_MAX && reader->at < reader->end; i++) {
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 127) << (7 * i);
        if (byte < 128) {
            *out = value;
            return true;
        }
    }
    reader->bad = true;
    return false;
}

/* Little-endian. */
static bool read_fixed(struct sl_pb_reader *reader, size_t n, uint64_t *out)
{
    if ((size_t)(reader->end - reader->at) < n) return false;
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | reader->at[i];
    reader->at += n;
    return true;
}

static bool read_value(struct sl_pb_reader *reader, struct sl_pb_field *out)
{
    switch (out->kind) {
    case SL_PB_VARINT: return sl_pb_next_varint(reader, &out->value);
    case SL_PB_FIXED64: return read_fixed(reader, 8, &out->value);
    case SL_PB_FIXED32: return read_fixed(reader, 4, &out->value);
    case SL_PB_BYTES:
        if (!sl_pb_next_varint(reader, &out->value) ||
            out->value > (size_t)(reader->end - reader->at))
            return false;
        out->bytes = reader->at;
        out->n = (size_t)out->value;
        reader->at += out->n;
        return true;
    }
    return false;
}

bool sl_pb_next(struct sl_pb_reader *reader, struct sl_pb_field *out)
{
    uint64_t tag;
    if (!sl_pb_next_varint(reader, &tag)) return false;
    *out = (struct sl_pb_field){.number = (uint32_t)(tag >> 3), .kind = (enum sl_pb_kind)(tag & 7)};
    if (tag >> 3 && tag <= UINT32_MAX && read_value(reader, out)) return true;
    reader->bad = true;
    return false;
}

void sl_pb_put_raw(struct sl_pb_writer *writer, const void *bytes, size_t n)
{
    writer->n += n;
    if (writer->out && writer->status == SL_OK) writer->status = sl_buf_add(writer->out, bytes, n);
}

void sl_pb_put_bare(struct sl_pb_writer *writer, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t n = 0;
    for (; value >= 128; value >>= 7) bytes[n++] = (uint8_t)(value | 128);
    bytes[n++] = (uint8_t)value;
    sl_pb_put_raw(writer, bytes, n);
}

static void put_tag(struct sl_pb_writer *writer, uint32_t number, enum sl_pb_kind kind)
{
    sl_pb_put_bare(writer, (uint64_t)number << 3 | kind);
}

void sl_pb_put_varint(struct sl_pb_writer *writer, uint32_t number, uint64_t value)
{
    put_tag(writer, number, SL_PB_VARINT);
    sl_pb_put_bare(writer, value);
}

void sl_pb_put_double(struct sl_pb_writer *writer, uint32_t number, double value)
{
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(bits >> (8 * i));
    put_tag(writer, number, SL_PB_FIXED64);
    sl_pb_put_raw(writer, bytes, sizeof bytes);
}

void sl_pb_put_head(struct sl_pb_writer *writer, uint32_t number, size_t n)
{
    put_tag(writer, number, SL_PB_BYTES);
    sl_pb_put_bare(writer, n);
}

void sl_pb_put_bytes(struct sl_pb_writer *writer, uint32_t number, const void *bytes, size_t n)
{
    sl_pb_put_head(writer, number, n);
    sl_pb_put_raw(writer, bytes, n);
}

void sl_pb_put_text(struct sl_pb_writer *writer, uint32_t number, const char *text)
{
    size_t n = strlen(text);
    if (n) sl_pb_put_bytes(writer, number, text, n);
}
