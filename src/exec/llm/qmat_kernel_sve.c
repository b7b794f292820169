/* qmat_kernel_sve.c: SVE's SDOT, for vectors of any length. A vector is 4, 8 or 16 rows of a group,
 * whatever the processor's length allows; a tile is two of them by a panel. SVE's types have no
 * size, so they stand in no arrays: a tile's eight sums are variables s00 to s13, by vector and
 * column. */
#include "exec/llm/qmat_neon.h"

#include <arm_sve.h>

#define KERNEL qmat_sve
#define KERNEL_NAME "sve"
#define OWN_STEP_COLUMNS
#define group_finish(type, n_blocks, g) \
    do { \
        if ((type) != QMAT_Q8_0) break; \
        signed_bytes((g)->q, (g)->spread[0][0], 32 * 16 * (n_blocks)); \
        (g)->q = (g)->spread[0][0]; \
    } while (0)

#include "exec/llm/qmat_kernel.h"

struct rows { /* a vector of them */
    const struct group *group;
    int first; /* within the group */
    float *acc;
};

struct tile {
    struct rows rows[2];
    const char *x; /* the panel's record */
};

/* Does something to all sums; those of columns that the panel lacks are nobody's input. */
#define EACH_SUM(DO) DO(0, 0) DO(0, 1) DO(0, 2) DO(0, 3) DO(1, 0) DO(1, 1) DO(1, 2) DO(1, 3)

INLINE svint32_t word_all(const char *p)
{
    return svdup_s32(word_at(p));
}

INLINE svint32_t half_all(const char *p)
{
    int16_t x;
    memcpy(&x, p, sizeof x);
    return svdup_s32(x);
}

INLINE svint8_t bytes_at(svbool_t lanes, const struct rows *r, int word)
{
    return svreinterpret_s8(svld1_u8(lanes, r->group->q + 64 * word + 4 * r->first));
}

/* By column c's word of those at x; four columns' are one load. */
INLINE svint32_t word_dot(svint32_t sum, svint8_t rows, const char *x, int c, int cols)
{
    if (c >= cols) return sum;
    if (cols < PANEL) return svdot_s32(sum, rows, svreinterpret_s8(word_all(x + 4 * c)));
    svint8_t four = svld1rq_s8(svptrue_b8(), (const int8_t *)x);
    switch (c) { /* lanes are literals */
    case 0: return svdot_lane_s32(sum, rows, four, 0);
    case 1: return svdot_lane_s32(sum, rows, four, 1);
    case 2: return svdot_lane_s32(sum, rows, four, 2);
    default: return svdot_lane_s32(sum, rows, four, 3);
    }
}

/* Minimum j's part of a sum: both halves of its pair. */
INLINE svint32_t pair_dot(svint32_t sum, svuint32_t pair, const char *x)
{
    svbool_t all = svptrue_b32();
    sum = svmla_s32_x(all, sum, svreinterpret_s32(svand_n_u32_x(all, pair, 0xffff)), half_all(x));
    return svmla_s32_x(all, sum, svreinterpret_s32(svlsr_n_u32_x(all, pair, 16)), half_all(x + 2));
}

INLINE svfloat32_t float_of(svint32_t x)
{
    return svcvt_f32_s32_x(svptrue_b32(), x);
}

/* As qmat_kernel.h's: the same operations in the same order for each sum. */
INLINE void tile_any(enum qmat_type type, int n_blocks, int cols, svbool_t lanes0, svbool_t lanes1,
                     const struct tile *t)
{
    const bool small = type == QMAT_Q4_0 || type == QMAT_Q8_0;
    const int words = type == QMAT_Q6_K ? 4 : 8;
    const int n_sums = small ? n_blocks : STEP_WORDS / words;
    const char *start = t->x + (small ? SMALL_START : LARGE_START) * cols;
    const char *scale = t->x + (small ? SMALL_SCALE : LARGE_SCALE) * cols;
    const svbool_t all = svptrue_b32();
    const struct rows *r0 = &t->rows[0], *r1 = &t->rows[1];
#define ACC(v, c) (r##v->acc + (c)*PIECE_ROWS)
#define LOAD_ACC(v, c) \
    svfloat32_t f##v##c = small && (c) < cols ? svld1_f32(lanes##v, ACC(v, c)) : svdup_f32(0);
    EACH_SUM(LOAD_ACC)
    for (int j = 0; j < n_sums; j++) {
        const bool starts_at_zero = !small && words == 8;
#define START(v, c) \
    svint32_t s##v##c = \
        starts_at_zero || (c) >= cols ? svdup_s32(0) : word_all(start + 4 * (j * cols + (c)));
        EACH_SUM(START)
        for (int i = 0; i < words; i++) {
            const char *x = t->x + 4 * (words * j + i) * cols;
            svint8_t w0 = bytes_at(lanes0, r0, words * j + i);
            svint8_t w1 = bytes_at(lanes1, r1, words * j + i);
#define DOT(v, c) s##v##c = word_dot(s##v##c, w##v, x, c, cols);
            EACH_SUM(DOT)
        }
        svfloat32_t d0 = svld1_f32(lanes0, r0->group->scale[j] + r0->first);
        svfloat32_t d1 = svld1_f32(lanes1, r1->group->scale[j] + r1->first);
#define SCALE(v, c) \
    if ((c) < cols) \
        f##v##c = svmla_f32_x( \
            all, f##v##c, float_of(s##v##c), \
            small ? svmul_n_f32_x(all, d##v, float_at(scale + 4 * (j * cols + (c)))) : d##v);
        EACH_SUM(SCALE)
    }
    if (!small && words == 8) {
        const char *sums = t->x + LARGE_SUMS * cols;
#define ZERO(v, c) svint32_t m##v##c = svdup_s32(0);
        EACH_SUM(ZERO)
        for (int j = 0; j < 4; j++) {
            svuint32_t pair0 = svld1_u32(lanes0, r0->group->mins[j] + r0->first);
            svuint32_t pair1 = svld1_u32(lanes1, r1->group->mins[j] + r1->first);
#define PAIR(v, c) \
    if ((c) < cols) m##v##c = pair_dot(m##v##c, pair##v, sums + 4 * (j * cols + (c)));
            EACH_SUM(PAIR)
        }
        svfloat32_t dmin0 = svld1_f32(lanes0, r0->group->dmin + r0->first);
        svfloat32_t dmin1 = svld1_f32(lanes1, r1->group->dmin + r1->first);
#define TAKE_AWAY(v, c) f##v##c = svmls_f32_x(all, f##v##c, float_of(m##v##c), dmin##v);
        EACH_SUM(TAKE_AWAY)
    }
#define ADD_TO_ACC(v, c) \
    if (!small && (c) < cols) \
        f##v##c = svmla_n_f32_x(all, svld1_f32(lanes##v, ACC(v, c)), f##v##c, \
                                float_at(scale + 4 * (c))); \
    if ((c) < cols) svst1_f32(lanes##v, ACC(v, c), f##v##c);
    EACH_SUM(ADD_TO_ACC)
}

INLINE struct rows rows_at(const struct group *groups, int row, float *acc)
{
    return (struct rows){&groups[row / QMAT_ROWS], row % QMAT_ROWS, acc + row};
}

/* How many rows a vector is: so that it lies within a group, a power of two. */
INLINE int vector_rows(void)
{
    uint64_t n = svcntw();
    return n >= 16 ? 16 : n >= 8 ? 8 : 4;
}

INLINE void step_columns(enum qmat_type type, int n_blocks, int n_vecs, const struct group *groups,
                         const char *x, int64_t n_cols, float *acc)
{
    const int n_rows = n_vecs * LANES, n = vector_rows();
    const svbool_t lanes = svwhilelt_b8_s32(0, 4 * n);
    for (int64_t c = 0, width; c < n_cols; c += width) {
        float *panel_acc = acc + c * PIECE_ROWS;
        width = qmat_panel(n_cols, c);
        for (int row = 0; row < n_rows; row += 2 * n) {
            bool pair = row + n < n_rows; /* else the second vector does nothing */
            svbool_t lanes1 = pair ? lanes : svpfalse_b();
            struct tile t = {
                {rows_at(groups, row, panel_acc), rows_at(groups, pair ? row + n : row, panel_acc)},
                x + c * qmat_layouts[type].record};
            if (width == 4)
                tile_any(type, n_blocks, 4, lanes, lanes1, &t);
            else if (width == 2)
                tile_any(type, n_blocks, 2, lanes, lanes1, &t);
            else
                tile_any(type, n_blocks, 1, lanes, lanes1, &t);
        }
    }
}
