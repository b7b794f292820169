/* qmat_pack.c: GGUF's blocks to the packed layout of qmat_int.h. The formats of the blocks are
 * ggml's (ggml-common.h, block_q4_0 and so on). */
#include "exec/llm/qmat_int.h"
#include <string.h>

struct source { /* where the parts of a block are */
    int numbers[2], n_words[2];
    int scales, n_scale_words; /* copied as words */
    int halves[2], n_halves;   /* half-precision factors */
};

static const struct source sources[QMAT_TYPE_COUNT] = {
    [QMAT_Q4_0] = {.numbers = {2}, .n_words = {4}, .halves = {0}, .n_halves = 1},
    [QMAT_Q8_0] = {.numbers = {2}, .n_words = {8}, .halves = {0}, .n_halves = 1},
    [QMAT_Q4_K] = {.numbers = {16},
                   .n_words = {32},
                   .scales = 4,
                   .n_scale_words = 3,
                   .halves = {0, 2},
                   .n_halves = 2},
    [QMAT_Q5_K] = {.numbers = {48, 16},
                   .n_words = {32, 8},
                   .scales = 4,
                   .n_scale_words = 3,
                   .halves = {0, 2},
                   .n_halves = 2},
    [QMAT_Q6_K] = {.numbers = {0, 128},
                   .n_words = {32, 16},
                   .scales = 192,
                   .n_scale_words = 4,
                   .halves = {208},
                   .n_halves = 1},
};

const struct qmat_layout qmat_layouts[QMAT_TYPE_COUNT] = {
    [QMAT_Q4_0] = {32, 18, 16, 32, SMALL_RECORD},
    [QMAT_Q8_0] = {32, 34, 32, 32, SMALL_RECORD},
    [QMAT_Q4_K] = {256, 144, 128, 256, LARGE_RECORD},
    [QMAT_Q5_K] = {256, 176, 160, 256, LARGE_RECORD},
    [QMAT_Q6_K] = {256, 210, 192, 288, LARGE_RECORD},
};

static void copy_words(char *out, const char *in, int n, uint32_t flip)
{
    for (int i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, in + 4 * i, 4);
        word ^= flip;
        memcpy(out + 4 * QMAT_ROWS * i, &word, 4);
    }
}

/* One row's block into its group: `numbers` and `scales` are the group's for that block. */
static void pack_block(enum qmat_type type, const char *block, int row, char *numbers, char *scales)
{
    const struct source *s = &sources[type];
    uint32_t flip = type == QMAT_Q8_0 ? 0x80808080u : 0;
    copy_words(numbers + 4 * row, block + s->numbers[0], s->n_words[0], flip);
    copy_words(numbers + 4 * (QMAT_ROWS * s->n_words[0] + row), block + s->numbers[1],
               s->n_words[1], 0);
    copy_words(scales + 4 * row, block + s->scales, s->n_scale_words, 0);
    scales += 4 * QMAT_ROWS * s->n_scale_words;
    for (int i = 0; i < s->n_halves; i++)
        memcpy(scales + 2 * (QMAT_ROWS * i + row), block + s->halves[i], 2);
}

static void pack_group(enum qmat_type type, int64_t k, const char *rows, int64_t n_rows, char *out)
{
    const struct qmat_layout *l = &qmat_layouts[type];
    int64_t n_blocks = k / l->block;
    char *scales = out + n_blocks * l->number_bytes * QMAT_ROWS;
    if (n_rows < QMAT_ROWS) memset(out, 0, qmat_group_bytes(type, k));
    for (int64_t b = 0; b < n_blocks; b++) {
        for (int64_t r = 0; r < n_rows; r++)
            pack_block(type, rows + (r * n_blocks + b) * l->block_bytes, (int)r,
                       out + b * l->number_bytes * QMAT_ROWS, scales + b * l->scale_bytes);
    }
}

void qmat_pack(const struct qmat *shape, const void *blocks, int64_t row_first, int64_t row_last,
               void *out)
{
    const struct qmat_layout *l = &qmat_layouts[shape->type];
    size_t row_bytes = (size_t)(shape->k / l->block * l->block_bytes);
    size_t group_bytes = qmat_group_bytes(shape->type, shape->k);
    for (int64_t row = row_first; row < row_last; row += QMAT_ROWS)
        pack_group(shape->type, shape->k, (const char *)blocks + (size_t)row * row_bytes,
                   row_last - row < QMAT_ROWS ? row_last - row : QMAT_ROWS,
                   (char *)out + (size_t)(row / QMAT_ROWS) * group_bytes);
}
