/* wire_fuzz.c: any bytes as a message between agent and worker (the first is its type): refused
 * with a reason, or it can be encoded again and then reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/wire.h"
#include "net/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct wire_msg *msg, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(out, (size_t)WIRE_FRAME_BYTES_MAX * 2);
    if (wire_encode(msg, out, &err) != SL_OK) abort();
}

static struct frame frame_of(const struct sl_buf *buf)
{
    return (struct frame){.type = (uint8_t)buf->data[FRAME_LENGTH_BYTES],
                          .payload = buf->data + FRAME_HEADER_BYTES,
                          .n_payload = buf->len - FRAME_HEADER_BYTES};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena;
    struct wire_msg msg;
    struct sl_err err = SL_ERR_INIT;
    if (!size) return 0;
    const struct frame frame = {.type = data[0], .payload = data + 1, .n_payload = size - 1};
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    if (wire_decode(&frame, &arena, &msg, &err) != SL_OK) {
        if (!err.text[0]) abort();
    } else {
        struct sl_buf first, second;
        encode(&msg, &first);
        const struct frame again = frame_of(&first);
        if (wire_decode(&again, &arena, &msg, &err) != SL_OK) abort();
        encode(&msg, &second);
        if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) abort();
        sl_buf_done(&first);
        sl_buf_done(&second);
    }
    sl_arena_done(&arena);
    return 0;
}
