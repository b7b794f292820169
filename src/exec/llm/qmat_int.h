/* qmat_int.h: the packed layouts. Private to qmat*.c.
 * Floor: exec/llm.
 *
 * Weights. 16 rows form a group. All blocks' numbers come first, then all blocks' scales, so that
 * the numbers are whole cache lines and both are streams. GGUF's four-byte words are interleaved:
 * word i of all 16 rows stands together, row 0 first. Within a word nothing is changed, but that
 * q8_0's bytes get 128 added (their top bit is flipped): VNNI wants one factor unsigned. Rows past
 * the end are zeros.
 *
 *     type  block  numbers (words of a row)           scales of 16 rows
 *     q4_0     32  4                                  d [16] f16
 *     q8_0     32  8                                  d [16] f16
 *     q4_K    256  32                                 12 bytes as 3 words, d [16], dmin [16] f16
 *     q5_K    256  32, 8 of high bits                 likewise
 *     q6_K    256  32, 16 of high bits                16 bytes as 4 words, d [16] f16
 *
 * Columns are quantised in steps of 256 elements. Within a step columns stand in panels of four;
 * what is left over is a panel of two, of one, or both. A panel of C columns is a record of C times
 * the bytes below; in each array the index of the column runs last, but for the bytes of a word.
 *
 *     blocks of 32 (q4_0, q8_0)              blocks of 256 (q4_K, q5_K, q6_K)
 *     int8  q[64 words][C][4]                int8  q[64 words][C][4]
 *     int32 start[8][C]                      int32 start[16][C]: -32 * sum of 16 elements
 *     float scale[8][C]                      int16 sums[4][C][2]: of 32 elements
 *                                            float scale[C]
 *
 * start is what the integer sums of a block begin with: minus the sum of its elements times what
 * was added to the weights. sums holds pairs (0, 2), (1, 3), (4, 6), (5, 7): so the packed minima
 * come apart with a mask. i8mm's q is [32 pairs of words][C][8]. */
#pragma once
#include "exec/llm/qmat.h"

#define STEP 256      /* elements */
#define STEP_WORDS 64 /* of four elements */
#define PANEL 4       /* columns */

#define SMALL_RECORD 320 /* bytes a column and step: types with blocks of 32 */
#define SMALL_START 256
#define SMALL_SCALE 288
#define LARGE_RECORD 340 /* blocks of 256 */
#define LARGE_START 256
#define LARGE_SUMS 320
#define LARGE_SCALE 336

struct qmat_layout {
    int block;        /* elements */
    int block_bytes;  /* of one row in the file */
    int number_bytes; /* of one row and block, multiple of 4 */
    int scale_bytes;  /* of 16 rows */
    int record;       /* bytes a column and step */
};
extern const struct qmat_layout qmat_layouts[QMAT_TYPE_COUNT];

static inline size_t qmat_group_bytes(enum qmat_type type, int64_t k)
{
    const struct qmat_layout *l = &qmat_layouts[type];
    size_t n =
        (size_t)(k / l->block) * ((size_t)l->number_bytes * QMAT_ROWS + (size_t)l->scale_bytes);
    return (n + 63) & ~(size_t)63;
}

static inline int64_t qmat_steps(int64_t k)
{
    return (k + STEP - 1) / STEP;
}

/* The panel of n columns that begins at column `col`: 4, 2 or 1 of them. */
static inline int qmat_panel(int64_t n, int64_t col)
{
    return n - col >= 4 ? 4 : n - col >= 2 ? 2 : 1;
}
