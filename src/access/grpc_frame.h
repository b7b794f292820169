/* grpc_frame.h: the bytes of gRPC over HTTP/2: messages with 5 bytes before them, deadlines, status
 * messages. Pure.
 * Source: grpc/doc/PROTOCOL-HTTP2.md.
 * Floor: access.  Thread: any.  Allocates: the reader's buffer while a message comes in pieces.
 * Invariant: what a peer announces is not allocated before it has come. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRPC_PREFIX_BYTES 5 /* a flag and the message's length */

/* Takes messages out of pieces that are cut anywhere. */
struct grpc_reader {
    struct sl_buf in; /* of a message that is not complete: its prefix and what came of it */
    size_t message_max;
};

/* Nothing has come yet; messages longer than message_max will be refused. */
void grpc_reader_init(struct grpc_reader *reader, size_t message_max);
void grpc_reader_done(struct grpc_reader *reader);

/* Takes the next message out of *bytes[0..*n), which it moves past what it took. *out_message is
 * NULL when there is none yet; else it lives until the next call, in the reader, or in the piece
 * where it came whole. LIMIT: longer than message_max; UNSUPPORTED: it is compressed; INVALID: a
 * flag that is none; NOMEM. The reader is of no use after an error. */
SL_CHECK sl_status grpc_reader_next(struct grpc_reader *reader, const uint8_t **bytes, size_t *n,
                                    const uint8_t **out_message, size_t *out_n, struct sl_err *err);
/* Is there part of a message in it? */
bool grpc_reader_is_amid(const struct grpc_reader *reader);

/* Around a message that is appended to out. frame_end: LIMIT past 4 GiB. */
SL_CHECK sl_status grpc_frame_begin(struct sl_buf *out, size_t *out_mark);
SL_CHECK sl_status grpc_frame_end(struct sl_buf *out, size_t mark);

/* "100m" and the like in nanoseconds, at most a year. False: it is none. */
bool grpc_timeout_parse(const char *text, int64_t *out_ns);

/* The message as it may stand in a header field. What does not fit is cut, between characters of
 * ASCII; returns out. */
const char *grpc_percent_encode(const char *message, char *out, size_t size);

/* grpc/statuscodes.md. LIMIT is RESOURCE_EXHAUSTED, as in every gRPC library. */
int grpc_code(sl_status status);
