/* qmat_kernel_dotprod.c: Armv8.2's SDOT: four bytes of four rows by four bytes of a column, which
 * are one lane of a vector: a panel's word is one load. */
#include "exec/llm/qmat_neon.h"

#define KERNEL qmat_dotprod
#define KERNEL_NAME "dotprod"
#define OWN_TILE_DOT
#define group_finish(type, n_blocks, g) \
    do { \
        if ((type) != QMAT_Q8_0) break; \
        signed_bytes((g)->q, (g)->spread[0][0], 32 * 16 * (n_blocks)); \
        (g)->q = (g)->spread[0][0]; \
    } while (0)

#include "exec/llm/qmat_kernel.h"

/* By word number `at` of those at x. */
INLINE ivec word_dot(ivec sum, int8x16_t rows, const char *x, int at)
{
    int8x16_t words = vld1q_s8((const int8_t *)x + at / 4 * 16);
    switch (at % 4) { /* lanes are literals */
    case 0: return vdotq_laneq_s32(sum, rows, words, 0);
    case 1: return vdotq_laneq_s32(sum, rows, words, 1);
    case 2: return vdotq_laneq_s32(sum, rows, words, 2);
    default: return vdotq_laneq_s32(sum, rows, words, 3);
    }
}

INLINE void tile_dot(int bits, int n, struct extent e, const uint8_t *const *w, const char *x,
                     ivec sums[TILE_VECS][PANEL])
{
    (void)bits;
    for (int i = 0; i < n; i++) {
        for (int v = 0; v < e.vecs; v++) {
            int8x16_t rows = vreinterpretq_s8_u8(vld1q_u8(w[v] + 64 * i));
            for (int c = 0; c < e.cols; c++)
                sums[v][c] = word_dot(sums[v][c], rows, x, i * e.cols + c);
        }
    }
}
