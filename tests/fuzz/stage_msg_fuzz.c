/* stage_msg_fuzz.c: any bytes as a message between stages: refused with a reason, or it is within
 * the limits, and written again it is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/llm/hidden_row.h"
#include "exec/llm/stage_msg.h"

#define BYTES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct stage_limits limits = {.n_stages = 3,
                                           .n_batch = 8,
                                           .n_ctx = 64,
                                           .n_seqs_max = 4,
                                           .kv_blocks = 20,
                                           .n_embd = 4,
                                           .n_vocab = 6,
                                           .link = ENGINE_LINK_F32};

static void expect(bool ok)
{
    if (!ok) abort();
}

/* All but the reserved bytes of the header, which writers leave empty. */
static void expect_same(const char *a, size_t n, const struct sl_buf *b)
{
    expect(n == b->len && !memcmp(a, b->data, 4) && !memcmp(a + 8, b->data + 8, n - 8));
}

static void check_batch(const char *bytes, size_t n, struct sl_buf *out)
{
    struct stage_batch b;
    struct sl_err err = SL_ERR_INIT;
    if (stage_batch_decode(&limits, bytes, n, &b, &err) != SL_OK) {
        expect(err.text[0]);
        return;
    }
    for (int32_t i = 0; i < b.n_blocks; i++) expect(b.blocks[i] >= 0 && b.blocks[i] < 20);
    for (int32_t i = 0; i < b.n_outputs; i++) expect(b.outputs[i].row < b.n_tokens);
    expect(stage_batch_encode(&limits, &b, b.hidden, out, &err) == SL_OK);
    expect_same(bytes, n, out);
}

/* A sampler that closes loses its numbers, and the reserved ones are lost: it is read again. */
static void check_samplers(const char *bytes, size_t n, struct sl_arena *arena, struct sl_buf *out)
{
    struct stage_samplers first, second;
    struct sl_err err = SL_ERR_INIT;
    if (stage_samplers_decode(&limits, bytes, n, arena, &first, &err) != SL_OK) {
        expect(err.text[0]);
        return;
    }
    expect(stage_samplers_encode(&first, out, &err) == SL_OK);
    expect(stage_samplers_decode(&limits, out->data, out->len, arena, &second, &err) == SL_OK);
    expect(first.n == second.n);
    for (int32_t i = 0; i < first.n; i++)
        expect(first.v[i].id == second.v[i].id && first.v[i].open == second.v[i].open);
}

static void check_result(const char *bytes, size_t n, struct sl_arena *arena, struct sl_buf *out)
{
    struct stage_result first, second;
    struct sl_err err = SL_ERR_INIT;
    if (stage_result_decode(&limits, bytes, n, arena, &first, &err) != SL_OK) {
        expect(err.text[0]);
        return;
    }
    expect(stage_result_encode(&limits, &first, out, &err) == SL_OK);
    expect(stage_result_decode(&limits, out->data, out->len, arena, &second, &err) == SL_OK);
    expect(first.n_choices == second.n_choices && first.n_rows == second.n_rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _Alignas(8) static char bytes[BYTES_MAX];
    struct sl_arena arena;
    struct sl_buf out;
    if (size > sizeof bytes) return 0;
    if (size) memcpy(bytes, data, size);
    sl_arena_init(&arena, BYTES_MAX * 8);
    sl_buf_init(&out, BYTES_MAX * 2);
    switch (stage_msg_kind(bytes, size)) {
    case STAGE_MSG_BATCH: check_batch(bytes, size, &out); break;
    case STAGE_MSG_SAMPLERS: check_samplers(bytes, size, &arena, &out); break;
    case STAGE_MSG_RESULT: check_result(bytes, size, &arena, &out); break;
    default: check_batch(bytes, size, &out); break;
    }
    sl_buf_done(&out);
    sl_arena_done(&arena);
    return 0;
}
