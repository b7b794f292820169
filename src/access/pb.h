/* pb.h: Protocol Buffers field by field, for messages that carry megabytes: reading points
 * into the message, writing goes straight to the buffer. What is small goes through protobuf-c
 * (grpc_codec.c).
 * Source: protobuf.dev/programming-guides/encoding.
 * Floor: access.  Thread: any.  Allocates: nothing but the buffer written to.
 * Invariant: a reader never leaves its message, whatever is in it. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pb_kind { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

struct pb_field {
    uint32_t number;
    enum pb_kind kind;
    uint64_t value; /* of VARINT and FIXED */
    const uint8_t *bytes;
    size_t n; /* of BYTES */
};

struct pb_reader {
    const uint8_t *at, *end;
    bool bad; /* what follows is no message */
};

static inline struct pb_reader pb_read(const uint8_t *bytes, size_t n)
{
    return (struct pb_reader){.at = bytes, .end = n ? bytes + n : bytes};
}

/* The next field. False: there is none, or `bad`. Groups are bad: proto3 has none. */
bool pb_next(struct pb_reader *reader, struct pb_field *out);
/* The next number of a packed list. False: as above. */
bool pb_next_varint(struct pb_reader *reader, uint64_t *out);

/* With out NULL it only counts, so that one function gives a message's size and writes it. */
struct pb_writer {
    struct sl_buf *out;
    size_t n; /* written */
    sl_status status;
};

void pb_put_varint(struct pb_writer *writer, uint32_t number, uint64_t value);
void pb_put_double(struct pb_writer *writer, uint32_t number, double value);
/* A number without its tag: an element of a packed list. */
void pb_put_bare(struct pb_writer *writer, uint64_t value);
/* What stands before n bytes that follow. */
void pb_put_head(struct pb_writer *writer, uint32_t number, size_t n);
void pb_put_raw(struct pb_writer *writer, const void *bytes, size_t n);
void pb_put_bytes(struct pb_writer *writer, uint32_t number, const void *bytes, size_t n);
void pb_put_text(struct pb_writer *writer, uint32_t number, const char *text); /* unless "" */
