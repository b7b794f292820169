/* grid_msg_fuzz.c: any bytes as a message between members of a grid: refused with a reason, or it
 * can be encoded again and then reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grid/grid_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct grid_msg *msg, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(out, (size_t)GRID_MSG_BYTES_MAX * 2);
    if (grid_msg_encode(msg, out, &err) != SL_OK) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena;
    struct grid_msg msg;
    struct sl_err err = SL_ERR_INIT;
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    if (grid_msg_decode(data, size, &arena, &msg, &err) != SL_OK) {
        if (!err.text[0]) abort();
    } else {
        struct sl_buf first, second;
        encode(&msg, &first);
        if (grid_msg_decode(first.data, first.len, &arena, &msg, &err) != SL_OK) abort();
        encode(&msg, &second);
        if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) abort();
        sl_buf_done(&first);
        sl_buf_done(&second);
    }
    sl_arena_done(&arena);
    return 0;
}
