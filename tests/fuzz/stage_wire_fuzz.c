/* stage_wire_fuzz.c: any bytes as what the ends of a link between stages tell each other: nothing
 * is read outside of them, and what is taken is within its limits and comes back from its own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grid/stage_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_hello(const uint8_t *data, size_t size)
{
    struct stage_hello hello;
    if (stage_hello_get(data, size, &hello, NULL) != SL_OK) return;
    if (hello.to <= hello.from || hello.to >= GRID_STAGES_MAX || !*hello.chain) abort();
}

static void check_open(const uint8_t *data, size_t size, struct sl_arena *arena)
{
    struct stage_open open, again;
    struct sl_buf bytes;
    if (stage_open_get(data, size, arena, &open, NULL) != SL_OK) return;
    if (grid_split_check(&open.split, NULL) != SL_OK || open.stage < 1 ||
        (size_t)open.stage >= open.split.n_stages || open.n_sources > GRID_SOURCES_MAX)
        abort();
    sl_buf_init(&bytes, STAGE_MESSAGE_BYTES_MAX);
    if (stage_open_put(&open, &bytes) != SL_OK ||
        stage_open_get(bytes.data, bytes.len, arena, &again, NULL) != SL_OK ||
        !grid_split_equal(&open.split, &again.split) || strcmp(open.digest, again.digest) != 0)
        abort();
    sl_buf_done(&bytes);
}

static void check_answers(const uint8_t *data, size_t size, struct sl_arena *arena)
{
    struct stage_progress progress;
    struct stage_ready ready;
    struct stage_failed failed;
    if (stage_progress_get(data, size, &progress, NULL) == SL_OK &&
        !(progress.fraction >= 0 && progress.fraction <= 1))
        abort();
    if (stage_ready_get(data, size, &ready, NULL) != SL_OK) ready.bytes = 0;
    if (stage_failed_get(data, size, arena, &failed, NULL) == SL_OK &&
        strlen(failed.reason) >= STAGE_REASON_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_arena arena;
    sl_arena_init(&arena, 4 * STAGE_ARENA_BYTES_MAX);
    check_hello(data, size);
    check_open(data, size, &arena);
    check_answers(data, size, &arena);
    sl_arena_done(&arena);
    return 0;
}
