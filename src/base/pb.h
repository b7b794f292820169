/* pb.h: Protocol Buffers field by field, for messages that carry megabytes: reading points
 * into the message, writing goes straight to the buffer. Also for files in that encoding.
 * Source: protobuf.dev/programming-guides/encoding.
 * Floor: base.  Thread: any.  Allocates: nothing but the buffer written to.
 * Invariant: a reader never leaves its message, whatever is in it. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_pb_kind { SL_PB_VARINT = 0, SL_PB_FIXED64 = 1, SL_PB_BYTES = 2, SL_PB_FIXED32 = 5 };

struct sl_pb_field {
    uint32_t number;
    enum sl_pb_kind kind;
    uint64_t value; /* of VARINT and FIXED */
    const uint8_t *bytes;
    size_t n; /* of BYTES */
};

struct sl_pb_reader {
    const uint8_t *at, *end;
    bool bad; /* what follows is no message */
};

static inline struct sl_pb_reader sl_pb_read(const uint8_t *bytes, size_t n)
{
    return (struct sl_pb_reader){.at = bytes, .end = n ? bytes + n : bytes};
}

/* The next field. False: there is none, or `bad`. Groups are bad: proto3 has none. */
bool sl_pb_next(struct sl_pb_reader *reader, struct sl_pb_field *out);
/* The next number of a packed list. False: as above. */
bool sl_pb_next_varint(struct sl_pb_reader *reader, uint64_t *out);

/* With out NULL it only counts, so that one function gives a message's size and writes it. */
struct sl_pb_writer {
    struct sl_buf *out;
    size_t n; /* written */
    sl_status status;
};

void sl_pb_put_varint(struct sl_pb_writer *writer, uint32_t number, uint64_t value);
void sl_pb_put_double(struct sl_pb_writer *writer, uint32_t number, double value);
/* A number without its tag: an element of a packed list. */
void sl_pb_put_bare(struct sl_pb_writer *writer, uint64_t value);
/* What stands before n bytes that follow. */
void sl_pb_put_head(struct sl_pb_writer *writer, uint32_t number, size_t n);
void sl_pb_put_raw(struct sl_pb_writer *writer, const void *bytes, size_t n);
void sl_pb_put_bytes(struct sl_pb_writer *writer, uint32_t number, const void *bytes, size_t n);
void sl_pb_put_text(struct sl_pb_writer *writer, uint32_t number, const char *text); /* unless "" */
