/* qmat_kernel.h: the body of the kernels qmat_*, compiled once per instruction set by the files
 * that include it after defining KERNEL (the name), LANES (rows per vector), GROUPS (groups of 16
 * rows at once), Q8_BIAS (what its dot product wants added to q8_0's numbers), LIMIT_* (how many
 * words a part may sum up), the vector types and the operations on them. What it may bring besides:
 * FEW_GROUPS (instead of GROUPS, where there is less than a panel of columns), TILE_VECS (most
 * vectors of rows in a tile), tile_vecs (how many with so many columns: what fits into the
 * registers), RUN_COLUMNS, OWN_TILE_DOT or OWN_STEP_COLUMNS (that function stands behind the
 * inclusion), group_finish (what is done to a step's weights last), COLUMN_RUN (bytes of a column
 * that stand together), and pairs_total with the type pairs_sum. Without KERNEL, quantise and
 * product are for the file itself.
 *
 * Rows are worked through in pieces of GROUPS * 16, each in steps of 256 elements: the step's
 * weights are spread out to bytes and their scales to floats, which stay in the first-level cache,
 * and then meet all columns, a panel at a time. A tile is some vectors of rows by a panel's
 * columns: its integer sums live in registers. Between the runs of columns of a step (RUN_COLUMNS
 * each) parts of what comes later are fetched, and in a piece's last step a run is stored at once:
 * whatever goes from or to memory would be waited for if it all went together. One column's
 * floating-point operations are the same whatever the shape of the tile. */
#include "exec/llm/qmat_int.h"
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define VECTOR_BYTES (4 * LANES)
#define GROUP_VECS (QMAT_ROWS / LANES)
#define PIECE_ROWS (GROUPS * QMAT_ROWS)
#define LOW4 0x0f0f0f0fu
#define LOW6 0x3f3f3f3fu
#define MID2 0x30303030u
#define EVEN_BYTES 0x00ff00ffu
#define MAGNITUDE_MIN 1e-30f /* below it is zero: 127 / x must be finite */
#define EXP_MAX 87.0f        /* e^x and e^-x are normal floats */
#define LOG2_E 1.44269504f
#define LN2_HIGH 0.693359375f /* few bits: times any exponent it is exact */
#define LN2_LOW -2.12194440e-4f
#define PREFETCH_BYTES 4096 /* of a group's numbers: more than a core has under way */

#ifndef FEW_GROUPS
#define FEW_GROUPS GROUPS
#endif
#ifndef TILE_VECS
#define TILE_VECS GROUPS
#endif
#ifndef tile_vecs
#define tile_vecs(type, cols) TILE_VECS
#endif
#ifndef RUN_COLUMNS
#define RUN_COLUMNS PANEL
#endif
#ifndef COLUMN_RUN
#define COLUMN_RUN 4
#endif
#ifndef group_finish
#define group_finish(type, n_blocks, g) ((void)0)
#endif
#ifndef pairs_total
#define pairs_total(sum) (sum)
typedef ivec pairs_sum;
#endif

struct group { /* 16 rows of a step */
    _Alignas(64) uint8_t spread[STEP_WORDS][QMAT_ROWS][4];
    const uint8_t *q;            /* spread, or the packed numbers themselves; same shape */
    float scale[16][QMAT_ROWS];  /* of the step's blocks or sub-blocks */
    uint32_t mins[4][QMAT_ROWS]; /* pairs, as qmat_int.h's sums */
    float dmin[QMAT_ROWS];
};

struct extent { /* of a tile: constants wherever it is used */
    int vecs, cols;
};

/* How many words of so many bits, times a signed byte each, a part may sum up. */
static const int8_t limits[] = {
    [4] = LIMIT_4_BITS, [5] = LIMIT_5_BITS, [6] = LIMIT_6_BITS, [8] = LIMIT_8_BITS};

INLINE uvec uvec_load(const void *p)
{
    uvec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void uvec_store(void *p, uvec v)
{
    memcpy(p, &v, sizeof v);
}

INLINE fvec fvec_load(const float *p)
{
    fvec v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void fvec_store(float *p, fvec v)
{
    memcpy(p, &v, sizeof v);
}

INLINE fvec fvec_all(float x)
{
    return x - (fvec){0};
}

INLINE ivec ivec_all(int32_t x)
{
    return x - (ivec){0};
}

INLINE int32_t word_at(const char *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE float float_at(const char *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Low halves of n bytes to out, high halves to out + n. */
INLINE void spread_halves(const uint8_t *in, uint8_t *out, int n)
{
    for (int i = 0; i < n; i += VECTOR_BYTES) {
        uvec v = uvec_load(in + i);
        uvec_store(out + i, v & LOW4);
        uvec_store(out + n + i, v >> 4 & LOW4);
    }
}

/* The fifth bits of sub-blocks 2 * pair and 2 * pair + 1 stand in bits 2 * pair and up. */
INLINE void spread_q5(const uint8_t *in, const uint8_t *high, uint8_t *out, int pair)
{
    for (int i = 0; i < 512; i += VECTOR_BYTES) {
        uvec v = uvec_load(in + i), h = uvec_load(high + i) >> 2 * pair;
        uvec_store(out + i, (v & LOW4) | (h << 4 & 0x10101010u));
        uvec_store(out + 512 + i, (v >> 4 & LOW4) | (h << 3 & 0x10101010u));
    }
}

/* 128 elements of q6_K: four runs of 32. */
INLINE void spread_q6(const uint8_t *in, const uint8_t *high, uint8_t *out)
{
    for (int i = 0; i < 512; i += VECTOR_BYTES) {
        uvec a = uvec_load(in + i), b = uvec_load(in + 512 + i), h = uvec_load(high + i);
        uvec_store(out + i, (a & LOW4) | (h << 4 & MID2));
        uvec_store(out + 512 + i, (b & LOW4) | (h << 2 & MID2));
        uvec_store(out + 1024 + i, (a >> 4 & LOW4) | (h & MID2));
        uvec_store(out + 1536 + i, (b >> 4 & LOW4) | (h >> 2 & MID2));
    }
}

struct share { /* of what is fetched during a step */
    int at, n;
};

INLINE void prefetch(const uint8_t *from, int n_bytes, struct share share)
{
    int lines = (n_bytes + 63) / 64, each = (lines + share.n - 1) / share.n, end;
    if (share.n == 1) { /* a constant number: decoding is faster with it */
        for (int i = 0; i < lines; i++) __builtin_prefetch(from + 64 * i);
        return;
    }
    end = (share.at + 1) * each < lines ? (share.at + 1) * each : lines;
    for (int i = share.at * each; i < end; i++) __builtin_prefetch(from + 64 * i);
}

/* Fetches what step `at` of a group needs some steps later: with few columns the time goes into
 * waiting for memory. After the last step come the first ones of the piece that follows, n_groups
 * further on. */
INLINE void prefetch_later(enum qmat_type type, const uint8_t *group, int64_t n_blocks, int64_t at,
                           int n_groups, struct share share)
{
    const struct qmat_layout *l = &qmat_layouts[type];
    const int per_step = STEP / l->block, bytes = per_step * l->number_bytes * QMAT_ROWS;
    int64_t n_steps = (n_blocks + per_step - 1) / per_step;
    at += PREFETCH_BYTES / bytes > 0 ? PREFETCH_BYTES / bytes : 1;
    if (at >= n_steps) {
        at -= n_steps;
        group += (size_t)n_groups * qmat_group_bytes(type, n_blocks * l->block);
    }
    prefetch(group + at * bytes, bytes, share);
    prefetch(group + n_blocks * l->number_bytes * QMAT_ROWS + at * per_step * l->scale_bytes,
             per_step * l->scale_bytes, share);
}

INLINE void small_scales(const uint8_t *halves, int n_blocks, struct group *g)
{
    for (int b = 0; b < n_blocks; b++) {
        for (int i = 0; i < QMAT_ROWS; i += LANES)
            fvec_store(&g->scale[b][i], fvec_from_halves(halves + 2 * (QMAT_ROWS * b + i)));
    }
}

/* Scale and minimum have six bits each: twelve bytes a row, in ggml's order. */
INLINE void k_scales(const uint8_t *p, struct group *g)
{
    for (int i = 0; i < QMAT_ROWS; i += LANES) {
        uvec w0 = uvec_load(p + 4 * i), w1 = uvec_load(p + 64 + 4 * i),
             w2 = uvec_load(p + 128 + 4 * i);
        uvec scales[2] = {w0 & LOW6, (w2 & LOW4) | (w0 >> 2 & MID2)};
        uvec mins[2] = {w1 & LOW6, (w2 >> 4 & LOW4) | (w1 >> 2 & MID2)};
        fvec d = fvec_from_halves(p + 192 + 2 * i);
        fvec_store(g->dmin + i, fvec_from_halves(p + 224 + 2 * i));
        for (int j = 0; j < 8; j++) {
            uvec s = scales[j / 4] >> 8 * (j % 4) & 0xffu;
            fvec_store(&g->scale[j][i], d * __builtin_convertvector((ivec)s, fvec));
        }
        for (int j = 0; j < 4; j++)
            uvec_store(&g->mins[j][i], mins[j / 2] >> 8 * (j % 2) & EVEN_BYTES);
    }
}

INLINE void q6_scales(const uint8_t *p, struct group *g)
{
    for (int i = 0; i < QMAT_ROWS; i += LANES) {
        fvec d = fvec_from_halves(p + 256 + 2 * i);
        for (int j = 0; j < 16; j++) {
            ivec s = (ivec)(uvec_load(p + j / 4 * 64 + 4 * i) << (24 - 8 * (j % 4))) >> 24;
            fvec_store(&g->scale[j][i], d * __builtin_convertvector(s, fvec));
        }
    }
}

/* Step `at` of the group whose numbers and scales begin there. */
INLINE void group_unpack(enum qmat_type type, const uint8_t *numbers, const uint8_t *scales,
                         int64_t at, int n_blocks, struct group *g)
{
    const struct qmat_layout *l = &qmat_layouts[type];
    int64_t block = at * (STEP / l->block);
    const uint8_t *q = numbers + block * l->number_bytes * QMAT_ROWS;
    scales += block * l->scale_bytes;
    g->q = g->spread[0][0];
    if (type == QMAT_Q8_0) g->q = q;
    if (type == QMAT_Q4_0) {
        for (int b = 0; b < n_blocks; b++) spread_halves(q + 256 * b, g->spread[8 * b][0], 256);
    }
    for (int pair = 0; pair < 4 && type == QMAT_Q4_K; pair++)
        spread_halves(q + 512 * pair, g->spread[16 * pair][0], 512);
    for (int pair = 0; pair < 4 && type == QMAT_Q5_K; pair++)
        spread_q5(q + 512 * pair, q + 2048, g->spread[16 * pair][0], pair);
    for (int half = 0; half < 2 && type == QMAT_Q6_K; half++)
        spread_q6(q + 1024 * half, q + 2048 + 512 * half, g->spread[32 * half][0]);
    if (type == QMAT_Q6_K)
        q6_scales(scales, g);
    else if (l->block == STEP)
        k_scales(scales, g);
    else
        small_scales(scales, n_blocks, g);
    group_finish(type, n_blocks, g);
}

#ifdef OWN_STEP_COLUMNS
INLINE void step_columns(enum qmat_type type, int n_blocks, int n_vecs, const struct group *groups,
                         const char *x, int64_t n_cols, float *acc);
#else

/* sums[v][c] += n words of vectors v by columns c. */
#ifdef OWN_TILE_DOT
INLINE void tile_dot(int bits, int n, struct extent e, const uint8_t *const *w, const char *x,
                     ivec sums[TILE_VECS][PANEL]);
#else
INLINE void tile_dot(int bits, int n, struct extent e, const uint8_t *const *w, const char *x,
                     ivec sums[TILE_VECS][PANEL])
{
    for (int first = 0; first < n; first += limits[bits]) {
        ivec part[TILE_VECS][PANEL];
        for (int v = 0; v < e.vecs; v++)
            for (int c = 0; c < e.cols; c++) part[v][c] = part_begin(sums[v][c]);
        for (int i = first; i < first + limits[bits]; i++) {
            ivec b[PANEL];
            for (int c = 0; c < e.cols; c++) b[c] = ivec_all(word_at(x + 4 * (i * e.cols + c)));
            for (int v = 0; v < e.vecs; v++) {
                ivec a = (ivec)uvec_load(w[v] + 64 * i);
                for (int c = 0; c < e.cols; c++)
                    part[v][c] = bits == 8 ? part_dot_q8(part[v][c], a, b[c])
                                           : part_dot(part[v][c], a, b[c]);
            }
        }
        for (int v = 0; v < e.vecs; v++)
            for (int c = 0; c < e.cols; c++) sums[v][c] = part_end(sums[v][c], part[v][c]);
    }
}
#endif

struct tile { /* where V vectors of rows meet C columns */
    const struct group *groups;
    int vec;       /* the first, counted over the groups */
    const char *x; /* the panel's record */
    float *acc;    /* [C][PIECE_ROWS] */
};

INLINE const struct group *tile_group(const struct tile *t, int v)
{
    return &t->groups[(t->vec + v) / GROUP_VECS];
}

INLINE int tile_row(const struct tile *t, int v) /* within its group */
{
    return (t->vec + v) % GROUP_VECS * LANES;
}

INLINE fvec tile_scale(const struct tile *t, int v, int j)
{
    return fvec_load(&tile_group(t, v)->scale[j][tile_row(t, v)]);
}

INLINE float *tile_acc(const struct tile *t, int v, int c)
{
    return t->acc + c * PIECE_ROWS + (t->vec + v) * LANES;
}

INLINE void tile_small(bool is_q8, int n_blocks, struct extent e, const struct tile *t)
{
    fvec acc[TILE_VECS][PANEL];
    for (int v = 0; v < e.vecs; v++)
        for (int c = 0; c < e.cols; c++) acc[v][c] = fvec_load(tile_acc(t, v, c));
    for (int b = 0; b < n_blocks; b++) {
        const char *start = t->x + SMALL_START * e.cols + 4 * b * e.cols;
        const char *scale = t->x + SMALL_SCALE * e.cols + 4 * b * e.cols;
        const uint8_t *w[TILE_VECS];
        ivec sums[TILE_VECS][PANEL];
        for (int v = 0; v < e.vecs; v++) {
            w[v] = tile_group(t, v)->q + 4 * tile_row(t, v) + 512 * b;
            for (int c = 0; c < e.cols; c++) sums[v][c] = ivec_all(word_at(start + 4 * c));
        }
        tile_dot(is_q8 ? 8 : 4, 8, e, w, t->x + 32 * b * e.cols, sums);
        for (int v = 0; v < e.vecs; v++) {
            fvec d = tile_scale(t, v, b);
            for (int c = 0; c < e.cols; c++)
                acc[v][c] = fvec_fma(__builtin_convertvector(sums[v][c], fvec),
                                     d * float_at(scale + 4 * c), acc[v][c]);
        }
    }
    for (int v = 0; v < e.vecs; v++)
        for (int c = 0; c < e.cols; c++) fvec_store(tile_acc(t, v, c), acc[v][c]);
}

/* q4_K and q5_K: what the minima take away. */
INLINE void tile_mins(struct extent e, const struct tile *t, fvec sum[TILE_VECS][PANEL])
{
    for (int v = 0; v < e.vecs; v++) {
        const struct group *g = tile_group(t, v);
        int row = tile_row(t, v);
        for (int c = 0; c < e.cols; c++) {
            pairs_sum m = {0};
            for (int j = 0; j < 4; j++)
                m = pairs_dot(m, (ivec)uvec_load(&g->mins[j][row]),
                              ivec_all(word_at(t->x + LARGE_SUMS * e.cols + 4 * (j * e.cols + c))));
            sum[v][c] = fvec_fma(-__builtin_convertvector(pairs_total(m), fvec),
                                 fvec_load(g->dmin + row), sum[v][c]);
        }
    }
}

/* `words` per sub-block: 8 (q4_K, q5_K) or 4 (q6_K). */
INLINE void tile_large(int words, struct extent e, const struct tile *t)
{
    const char *start = t->x + LARGE_START * e.cols;
    fvec sum[TILE_VECS][PANEL];
    for (int v = 0; v < e.vecs; v++)
        for (int c = 0; c < e.cols; c++) sum[v][c] = fvec_all(0);
    for (int j = 0; j < STEP_WORDS / words; j++) {
        const uint8_t *w[TILE_VECS];
        ivec sums[TILE_VECS][PANEL];
        for (int v = 0; v < e.vecs; v++) {
            w[v] = tile_group(t, v)->q + 4 * tile_row(t, v) + 64 * words * j;
            for (int c = 0; c < e.cols; c++)
                sums[v][c] =
                    words == 4 ? ivec_all(word_at(start + 4 * (j * e.cols + c))) : (ivec){0};
        }
        tile_dot(words == 4 ? 6 : 5, words, e, w, t->x + 4 * words * j * e.cols, sums);
        for (int v = 0; v < e.vecs; v++) {
            fvec d = tile_scale(t, v, j);
            for (int c = 0; c < e.cols; c++)
                sum[v][c] = fvec_fma(__builtin_convertvector(sums[v][c], fvec), d, sum[v][c]);
        }
    }
    if (words == 8) tile_mins(e, t, sum);
    for (int v = 0; v < e.vecs; v++) {
        for (int c = 0; c < e.cols; c++) {
            float *acc = tile_acc(t, v, c);
            fvec scale = fvec_all(float_at(t->x + LARGE_SCALE * e.cols + 4 * c));
            fvec_store(acc, fvec_fma(sum[v][c], scale, fvec_load(acc)));
        }
    }
}

INLINE void tile_any(enum qmat_type type, int n_blocks, struct extent e, const struct tile *t)
{
    if (type == QMAT_Q4_0)
        tile_small(false, n_blocks, e, t);
    else if (type == QMAT_Q8_0)
        tile_small(true, n_blocks, e, t);
    else
        tile_large(type == QMAT_Q6_K ? 4 : 8, e, t);
}

/* As many tiles as there are rows for. */
INLINE void tiles(enum qmat_type type, int n_blocks, int n_vecs, struct extent e, struct tile *t)
{
    for (; t->vec + e.vecs <= n_vecs; t->vec += e.vecs) tile_any(type, n_blocks, e, t);
}

/* All rows of a panel: low tiles for what high ones leave over. */
INLINE void panel(enum qmat_type type, int n_blocks, int n_vecs, int cols, struct tile *t)
{
    const int high = tile_vecs(type, cols);
    tiles(type, n_blocks, n_vecs, (struct extent){high, cols}, t);
    if (GROUP_VECS % high == 0) return;
    if (high > 2) tiles(type, n_blocks, n_vecs, (struct extent){2, cols}, t);
    tiles(type, n_blocks, n_vecs, (struct extent){1, cols}, t);
}

/* All columns of a step by n_vecs vectors of rows. */
INLINE void step_columns(enum qmat_type type, int n_blocks, int n_vecs, const struct group *groups,
                         const char *x, int64_t n_cols, float *acc)
{
    for (int64_t c = 0, width; c < n_cols; c += width) {
        struct tile t = {groups, 0, x + c * qmat_layouts[type].record, acc + c * PIECE_ROWS};
        width = qmat_panel(n_cols, c);
        if (width == 4)
            panel(type, n_blocks, n_vecs, 4, &t);
        else if (width == 2)
            panel(type, n_blocks, n_vecs, 2, &t);
        else
            panel(type, n_blocks, n_vecs, 1, &t);
    }
}
#endif

INLINE float *result_at(const struct qmat_product *p, int64_t col, int64_t row)
{
    return p->y + (size_t)(p->to ? p->to[col] : col) * p->y_stride + row;
}

static void store_columns(const struct qmat_product *p, int64_t col, int64_t n_cols, int64_t row,
                          int64_t n_rows, const float *acc)
{
    int64_t whole = n_rows / LANES * LANES;
    for (int64_t c = 0; c < n_cols; c++, acc += PIECE_ROWS) {
        float *y = result_at(p, col + c, row);
        for (int64_t r = 0; r < whole; r += LANES) fvec_store(y + r, fvec_load(acc + r));
        if (whole < n_rows) memcpy(y + whole, acc + whole, (size_t)(n_rows - whole) * sizeof *acc);
    }
}

/* Where columns will be stored comes into the cache. */
static void prefetch_results(const struct qmat_product *p, int64_t col, int64_t n_cols, int64_t row,
                             int64_t n_rows)
{
    for (int64_t c = 0; c < n_cols; c++) {
        const float *y = result_at(p, col + c, row);
        for (int64_t r = 0; r < n_rows; r += QMAT_ROWS) __builtin_prefetch(y + r, 1);
    }
}

/* Rows [row, row + n_rows), at most PIECE_ROWS. */
INLINE void piece(enum qmat_type type, const struct qmat_product *p, int64_t col, int64_t n_cols,
                  int64_t row, int64_t n_rows)
{
    const struct qmat_layout *l = &qmat_layouts[type];
    const struct qmat *w = p->w;
    size_t group_bytes = qmat_group_bytes(type, w->k);
    const uint8_t *packed = (const uint8_t *)w->data + (size_t)(row / QMAT_ROWS) * group_bytes;
    int64_t n_blocks = w->k / l->block, n_steps = qmat_steps(w->k);
    int per_step = STEP / l->block, n_groups = (int)((n_rows + QMAT_ROWS - 1) / QMAT_ROWS);
    /* Other types have half of q8_0's bytes: sharing costs them more than waiting does. */
    bool shared = type == QMAT_Q8_0;
    struct share share = {.n = shared ? (int)((n_cols + RUN_COLUMNS - 1) / RUN_COLUMNS) : 1};
    _Alignas(64) float acc[QMAT_COLS_MAX * PIECE_ROWS];
    struct group groups[GROUPS];
    memset(acc, 0, (size_t)n_cols * PIECE_ROWS * sizeof *acc);
    for (int64_t s = 0; s < n_steps; s++) {
        int64_t left = n_blocks - s * per_step;
        int n = left < per_step ? (int)left : per_step;
        for (int g = 0; g < n_groups; g++) {
            const uint8_t *numbers = packed + (size_t)g * group_bytes;
            share.at = 0;
            prefetch_later(type, numbers, n_blocks, s, n_groups, share);
            group_unpack(type, numbers, numbers + n_blocks * l->number_bytes * QMAT_ROWS, s, n,
                         &groups[g]);
        }
        for (int64_t c = 0, run; c < n_cols; c += run, share.at++) {
            run = n_cols - c < RUN_COLUMNS ? n_cols - c : RUN_COLUMNS;
            for (int g = 0; g < n_groups && share.at > 0 && share.at < share.n; g++)
                prefetch_later(type, packed + (size_t)g * group_bytes, n_blocks, s, n_groups,
                               share);
            if (s == n_steps - 1) prefetch_results(p, col + c, run, row, n_rows);
            step_columns(type, n, n_groups * GROUP_VECS, groups,
                         p->x + (s * p->n + col + c) * l->record, run, acc + c * PIECE_ROWS);
            if (s == n_steps - 1) store_columns(p, col + c, run, row, n_rows, acc + c * PIECE_ROWS);
        }
    }
}

INLINE void rows_of(enum qmat_type type, const struct qmat_product *p, int64_t col,
                    int64_t row_first, int64_t row_last)
{
    int64_t n_cols = p->n - col < QMAT_COLS_MAX ? p->n - col : QMAT_COLS_MAX;
    int64_t n = n_cols < PANEL ? FEW_GROUPS * QMAT_ROWS : PIECE_ROWS;
    for (int64_t row = row_first; row < row_last; row += n)
        piece(type, p, col, n_cols, row, row_last - row < n ? row_last - row : n);
}

static void product(const struct qmat_product *p, int64_t col, int64_t row_first, int64_t row_last)
{
    switch (p->w->type) {
    case QMAT_Q4_0: rows_of(QMAT_Q4_0, p, col, row_first, row_last); break;
    case QMAT_Q8_0: rows_of(QMAT_Q8_0, p, col, row_first, row_last); break;
    case QMAT_Q4_K: rows_of(QMAT_Q4_K, p, col, row_first, row_last); break;
    case QMAT_Q5_K: rows_of(QMAT_Q5_K, p, col, row_first, row_last); break;
    case QMAT_Q6_K: rows_of(QMAT_Q6_K, p, col, row_first, row_last); break;
    case QMAT_TYPE_COUNT: break;
    }
}

/* n floats to bytes of x * 127 / max|x|, rounded to nearest; returns the scale. As integers, floats
 * without their sign keep their order. What is no number becomes anything within the range. */
INLINE float quantise_run(const float *x, int n, int8_t *out)
{
    uvec bits = {0};
    uint32_t top;
    float most, inverse;
    for (int i = 0; i < n; i += LANES) bits = uvec_larger(bits, uvec_load(x + i) & 0x7fffffffu);
    top = uvec_most(bits);
    memcpy(&most, &top, sizeof most);
    inverse = most > MAGNITUDE_MIN ? 127 / most : 0;
    for (int i = 0; i < n; i += LANES) {
        qvec q = __builtin_convertvector(ivec_rounded(fvec_load(x + i) * inverse), qvec);
        memcpy(out + i, &q, sizeof q);
    }
    return most / 127;
}

/* Sums of a step's words: dot products with ones. */
INLINE void word_sums(const int8_t *q, int32_t out[STEP_WORDS])
{
    const ivec zero = {0}, ones = ivec_all(0x01010101);
    for (int i = 0; i < STEP_WORDS; i += LANES) {
        ivec part = part_dot(part_begin(zero), ones, (ivec)uvec_load(q + 4 * i));
        uvec_store(out + i, (uvec)part_end(zero, part));
    }
}

/* One column of a panel's record. */
struct column {
    char *record;
    int width, at;
};

/* n words of one of the record's arrays. */
static void put_words(const struct column *c, int array, int n, const void *words)
{
    char *out = c->record + array * c->width + 4 * c->at;
    for (int i = 0; i < n; i++) memcpy(out + 4 * i * c->width, (const char *)words + 4 * i, 4);
}

/* A step's numbers, by runs. */
static void put_numbers(const struct column *c, const int8_t *q)
{
    char *out = c->record + COLUMN_RUN * c->at;
    for (int i = 0; i < STEP; i += COLUMN_RUN) memcpy(out + i * c->width, q + i, COLUMN_RUN);
}

static int32_t sum4(const int32_t *sums)
{
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static void quantise_small(const struct column *c, const float *x, int n, int32_t bias)
{
    int8_t q[STEP] = {0};
    int32_t sums[STEP_WORDS], start[STEP / 32];
    float scale[STEP / 32] = {0};
    for (int b = 0; 32 * b < n; b++) scale[b] = quantise_run(x + 32 * b, 32, q + 32 * b);
    word_sums(q, sums);
    for (int b = 0; b < STEP / 32; b++)
        start[b] = -bias * (sum4(sums + 8 * b) + sum4(sums + 8 * b + 4));
    put_numbers(c, q);
    put_words(c, SMALL_START, STEP / 32, start);
    put_words(c, SMALL_SCALE, STEP / 32, scale);
}

static void quantise_large(const struct column *c, const float *x)
{
    static const int8_t first[4] = {0, 1, 4, 5}; /* of the pairs (first, first + 2) */
    int8_t q[STEP];
    int32_t sums[STEP_WORDS], start[16];
    int16_t halves[8], pairs[4][2]; /* sums of 32 elements */
    float scale = quantise_run(x, STEP, q);
    word_sums(q, sums);
    for (int i = 0; i < 16; i++) start[i] = -32 * sum4(sums + 4 * i);
    for (int i = 0; i < 8; i++) halves[i] = (int16_t)(sum4(sums + 8 * i) + sum4(sums + 8 * i + 4));
    for (int i = 0; i < 4; i++) {
        pairs[i][0] = halves[first[i]];
        pairs[i][1] = halves[first[i] + 2];
    }
    put_numbers(c, q);
    put_words(c, LARGE_START, 16, start);
    put_words(c, LARGE_SUMS, 4, pairs);
    put_words(c, LARGE_SCALE, 1, &scale);
}

/* x, or the limit of its sign where it is beyond. */
INLINE fvec fvec_limited(fvec x, float limit)
{
    ivec above = (ivec)(x > fvec_all(limit)), below = (ivec)(x < fvec_all(-limit));
    return (fvec)(((ivec)x & ~(above | below)) | ((ivec)fvec_all(limit) & above) |
                  ((ivec)fvec_all(-limit) & below));
}

/* e^x within 2 units in the last place, |x| <= EXP_MAX: a power of two times the Taylor series of
 * the rest, which is at most ln(2) / 2. */
INLINE fvec fvec_exp(fvec x)
{
    static const float inverse[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1}; /* factorials */
    ivec n = ivec_rounded(x * LOG2_E);
    fvec turns = __builtin_convertvector(n, fvec), sum = fvec_all(1.0f / 720);
    x = fvec_fma(turns, fvec_all(-LN2_HIGH), x);
    x = fvec_fma(turns, fvec_all(-LN2_LOW), x);
    for (int i = 0; i < 6; i++) sum = fvec_fma(sum, x, fvec_all(inverse[i]));
    return sum * (fvec)((n + 127) << 23);
}

/* n products of x and SiLU(gate) = gate / (1 + e^-gate). */
static void gated(const float *gate, const float *x, int n, float *out)
{
    for (int i = 0; i < n; i += LANES) {
        fvec g = fvec_load(gate + i);
        fvec_store(out + i, fvec_load(x + i) * g / (1 + fvec_exp(fvec_limited(-g, EXP_MAX))));
    }
}

static void quantise(const struct qmat_columns *cols, int64_t col, int64_t first, int64_t last)
{
    const struct qmat_layout *l = &qmat_layouts[cols->type];
    float values[STEP];
    int64_t panel = col / PANEL * PANEL;
    struct column c = {.width = qmat_panel(cols->n, panel)};
    if (c.width == 2 && col - panel == 2) panel += 2, c.width = 1;
    c.at = (int)(col - panel);
    for (int64_t s = first; s < last; s++) {
        size_t at = (size_t)col * cols->x_stride + (size_t)s * STEP;
        int n = cols->k - s * STEP < STEP ? (int)(cols->k - s * STEP) : STEP;
        const float *x = cols->x + at;
        if (cols->gate) {
            gated(cols->gate + at, x, n, values);
            x = values;
        }
        c.record = cols->out + (s * cols->n + panel) * l->record;
        if (l->block == STEP)
            quantise_large(&c, x);
        else
            quantise_small(&c, x, n, cols->type == QMAT_Q4_0 ? 8 : Q8_BIAS);
    }
}

#ifdef KERNEL
const struct qmat_kernel KERNEL = {KERNEL_NAME, quantise, product};
#endif
