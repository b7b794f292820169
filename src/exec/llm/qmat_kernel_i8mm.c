/* qmat_kernel_i8mm.c: Armv8.6's SMMLA: eight bytes of two rows by eight bytes of two columns. So
 * that eight bytes stand together, words 2i and 2i + 1 are interleaved: columns' when they are
 * quantised, rows' when a step is spread out: word 2i holds both words of a vector's first two
 * rows, word 2i + 1 of its last two. */
#include "exec/llm/qmat_neon.h"

#define KERNEL qmat_i8mm
#define KERNEL_NAME "i8mm"
#define OWN_TILE_DOT
#define COLUMN_RUN 8
#define group_finish(type, n_blocks, g) interleave(type, n_blocks, g)

struct group;
static inline void interleave(int type, int n_blocks, struct group *g);

#include "exec/llm/qmat_kernel.h"

INLINE void interleave(int type, int n_blocks, struct group *g)
{
    const uvec flip = vreinterpretq_u32_u8(vdupq_n_u8(type == QMAT_Q8_0 ? Q8_FLIP : 0));
    const uint8_t *in = g->q;
    uint8_t *out = g->spread[0][0];
    int n_bytes = n_blocks * qmat_layouts[type].block * QMAT_ROWS;
    for (int i = 0; i < n_bytes; i += 128) {
        for (int j = i; j < i + 64; j += VECTOR_BYTES) {
            uvec a = uvec_load(in + j) ^ flip, b = uvec_load(in + j + 64) ^ flip;
            uvec_store(out + j, vzip1q_u32(a, b));
            uvec_store(out + j + 64, vzip2q_u32(a, b));
        }
    }
    g->q = out;
}

INLINE int8x16_t rows_at(const uint8_t *w)
{
    return vreinterpretq_s8_u8(vld1q_u8(w));
}

/* One column: a matrix product would waste half of its work. */
INLINE void column_dot(int n, int n_vecs, const uint8_t *const *w, const char *x,
                       ivec sums[TILE_VECS][PANEL])
{
    for (int v = 0; v < n_vecs; v++) {
        ivec first = {0}, last = {0}; /* each row's even and odd words */
        for (int i = 0; i < n; i += 2) {
            int64_t run;
            memcpy(&run, x + 4 * i, sizeof run);
            int8x16_t both = vreinterpretq_s8_s64(vdupq_n_s64(run));
            first = vdotq_s32(first, rows_at(w[v] + 64 * i), both);
            last = vdotq_s32(last, rows_at(w[v] + 64 * i + 64), both);
        }
        sums[v][0] += vpaddq_s32(first, last);
    }
}

/* Two or four columns, two by two: `first` and `last` are of the first and the last two rows. */
INLINE void tile_dot(int bits, int n, struct extent e, const uint8_t *const *w, const char *x,
                     ivec sums[TILE_VECS][PANEL])
{
    ivec first[TILE_VECS][PANEL / 2], last[TILE_VECS][PANEL / 2];
    (void)bits;
    if (e.cols == 1) {
        column_dot(n, e.vecs, w, x, sums);
        return;
    }
    for (int v = 0; v < e.vecs; v++) {
        for (int c = 0; c < e.cols; c += 2) {
            first[v][c / 2] = vzip1q_s32(sums[v][c], sums[v][c + 1]);
            last[v][c / 2] = vzip2q_s32(sums[v][c], sums[v][c + 1]);
        }
    }
    for (int i = 0; i < n; i += 2) {
        for (int v = 0; v < e.vecs; v++) {
            int8x16_t a = rows_at(w[v] + 64 * i), b = rows_at(w[v] + 64 * i + 64);
            for (int c = 0; c < e.cols; c += 2) {
                int8x16_t both = vld1q_s8((const int8_t *)x + 4 * (i * e.cols + 2 * c));
                first[v][c / 2] = vmmlaq_s32(first[v][c / 2], a, both);
                last[v][c / 2] = vmmlaq_s32(last[v][c / 2], b, both);
            }
        }
    }
    for (int v = 0; v < e.vecs; v++) {
        for (int c = 0; c < e.cols; c += 2) {
            sums[v][c] = vuzp1q_s32(first[v][c / 2], last[v][c / 2]);
            sums[v][c + 1] = vuzp2q_s32(first[v][c / 2], last[v][c / 2]);
        }
    }
}
