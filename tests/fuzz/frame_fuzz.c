/* frame_fuzz.c: any bytes as a stream of frames, fed in pieces: the same frames come out as when it
 * is fed at once, and none is longer than it may be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/frame.h"

#define PAYLOAD_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes in frames until the stream ends or breaks, and a sum over them. */
struct seen {
    size_t n_frames, n_bytes;
    unsigned sum;
    sl_status status;
};

static void drain(struct frame_reader *reader, struct seen *seen)
{
    struct sl_err err = SL_ERR_INIT;
    bool have = true;
    while (have) {
        struct frame frame;
        seen->status = frame_reader_next(reader, &frame, &have, &err);
        if (!have) break;
        if (seen->status != SL_OK || frame.n_payload > PAYLOAD_MAX) abort();
        const unsigned char *bytes = frame.payload;
        for (size_t i = 0; i < frame.n_payload; i++) seen->sum = seen->sum * 31 + bytes[i];
        seen->n_frames++;
        seen->n_bytes += frame.n_payload;
    }
}

static struct seen read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
    struct frame_reader reader;
    struct seen seen = {.status = SL_OK};
    frame_reader_init(&reader, PAYLOAD_MAX);
    for (size_t at = 0; at < size && seen.status == SL_OK; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (frame_reader_feed(&reader, data + at, n) != SL_OK) abort();
        drain(&reader, &seen);
    }
    frame_reader_done(&reader);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 19) return 0;
    struct seen whole = read_in_pieces(data, size, size);
    struct seen pieces = read_in_pieces(data, size, 1 + data[0] % 16);
    if (whole.n_frames != pieces.n_frames || whole.n_bytes != pieces.n_bytes ||
        whole.sum != pieces.sum || whole.status != pieces.status)
        abort();
    return 0;
}
