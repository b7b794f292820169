/* frame.h: messages on a byte stream: a length, a type, a payload. What the payload means is the
 * caller's business; so is every system call.
 *
 *   0        4      5
 *   +--------+------+-----------------+
 *   | length | type | payload         |   length: u32, big endian, of type and payload together
 *   +--------+------+-----------------+
 *
 * Floor: net.  Thread: the caller's.  Allocates: the buffers, within the maximum given at birth.
 * Invariant: a frame longer than the limit is refused at its first four bytes, before any of it is
 * stored; after a failure the reader stays failed, as nothing that follows can be trusted. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_BYTES 5
#define FRAME_LENGTH_BYTES 4 /* the part of the header that the length does not count */

struct frame {
    uint8_t type;
    const void *payload; /* borrowed */
    size_t n_payload;
};

struct frame_reader {
    struct sl_buf buf;
    size_t pos; /* of the first byte that no frame has taken */
    size_t payload_max;
    bool failed;
};

void frame_reader_init(struct frame_reader *reader, size_t payload_bytes_max);
void frame_reader_done(struct frame_reader *reader);

/* Takes in what was received. Frames handed out before are gone. To be called when
 * frame_reader_next has no more, so that what is stored stays under one frame and one read. NOMEM;
 * LIMIT when the caller does not heed that. */
SL_CHECK sl_status frame_reader_feed(struct frame_reader *reader, const void *bytes, size_t n);

/* The next whole frame, valid until the next feed; *out_have false: more bytes are needed. CORRUPT
 * (no type), LIMIT (too long): the stream is beyond repair. */
SL_CHECK sl_status frame_reader_next(struct frame_reader *reader, struct frame *out, bool *out_have,
                                     struct sl_err *err);

/* Begins a frame at the end of `out`; the caller appends the payload, then calls frame_end with
 * what this put into *mark. NOMEM, LIMIT (out's maximum). */
SL_CHECK sl_status frame_begin(struct sl_buf *out, uint8_t type, size_t *mark);
/* LIMIT: the payload is longer than payload_bytes_max; out is then as before frame_begin. */
SL_CHECK sl_status frame_end(struct sl_buf *out, size_t mark, size_t payload_bytes_max);

/* Bytes on their way to a socket that takes them piece by piece. */
struct frame_writer {
    struct sl_buf buf; /* frames are appended here */
    size_t sent;       /* of them: those the socket has taken */
};

void frame_writer_init(struct frame_writer *writer, size_t bytes_max);
void frame_writer_done(struct frame_writer *writer);

/* What waits to be sent; *n 0: nothing. Valid until the next change. */
const void *frame_writer_pending(const struct frame_writer *writer, size_t *n);
/* The socket took the first n of them. */
void frame_writer_sent(struct frame_writer *writer, size_t n);
