#include "access/pb.h"
#include <string.h>

#define VARINT_BYTES_MAX 10

bool pb_next_varint(struct pb_reader *reader, uint64_t *out)
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
static bool read_fixed(struct pb_reader *reader, size_t n, uint64_t *out)
{
    if ((size_t)(reader->end - reader->at) < n) return false;
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | reader->at[i];
    reader->at += n;
    return true;
}

static bool read_value(struct pb_reader *reader, struct pb_field *out)
{
    switch (out->kind) {
    case PB_VARINT: return pb_next_varint(reader, &out->value);
    case PB_FIXED64: return read_fixed(reader, 8, &out->value);
    case PB_FIXED32: return read_fixed(reader, 4, &out->value);
    case PB_BYTES:
        if (!pb_next_varint(reader, &out->value) || out->value > (size_t)(reader->end - reader->at))
            return false;
        out->bytes = reader->at;
        out->n = (size_t)out->value;
        reader->at += out->n;
        return true;
    }
    return false;
}

bool pb_next(struct pb_reader *reader, struct pb_field *out)
{
    uint64_t tag;
    if (!pb_next_varint(reader, &tag)) return false;
    *out = (struct pb_field){.number = (uint32_t)(tag >> 3), .kind = (enum pb_kind)(tag & 7)};
    if (tag >> 3 && tag <= UINT32_MAX && read_value(reader, out)) return true;
    reader->bad = true;
    return false;
}

void pb_put_raw(struct pb_writer *writer, const void *bytes, size_t n)
{
    writer->n += n;
    if (writer->out && writer->status == SL_OK) writer->status = sl_buf_add(writer->out, bytes, n);
}

void pb_put_bare(struct pb_writer *writer, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t n = 0;
    for (; value >= 128; value >>= 7) bytes[n++] = (uint8_t)(value | 128);
    bytes[n++] = (uint8_t)value;
    pb_put_raw(writer, bytes, n);
}

static void put_tag(struct pb_writer *writer, uint32_t number, enum pb_kind kind)
{
    pb_put_bare(writer, (uint64_t)number << 3 | kind);
}

void pb_put_varint(struct pb_writer *writer, uint32_t number, uint64_t value)
{
    put_tag(writer, number, PB_VARINT);
    pb_put_bare(writer, value);
}

void pb_put_double(struct pb_writer *writer, uint32_t number, double value)
{
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(bits >> (8 * i));
    put_tag(writer, number, PB_FIXED64);
    pb_put_raw(writer, bytes, sizeof bytes);
}

void pb_put_head(struct pb_writer *writer, uint32_t number, size_t n)
{
    put_tag(writer, number, PB_BYTES);
    pb_put_bare(writer, n);
}

void pb_put_bytes(struct pb_writer *writer, uint32_t number, const void *bytes, size_t n)
{
    pb_put_head(writer, number, n);
    pb_put_raw(writer, bytes, n);
}

void pb_put_text(struct pb_writer *writer, uint32_t number, const char *text)
{
    size_t n = strlen(text);
    if (n) pb_put_bytes(writer, number, text, n);
}
