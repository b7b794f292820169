/* qmat_kernel_amx.c: Intel AMX. One tile holds the bytes of 16 columns in one block, another the
 * block's words of 16 rows, as they are packed; their product is the block's integer sums, a row of
 * 16 for each column. Scales differ from block to block, so the sums leave the tiles after every
 * block and become floats with AVX-512, which add up in registers over a step.
 *
 * The tile unit is LEAD products ahead of the conversion, also over the end of a unit (16 rows by
 * 16 columns of a step). What lies between them is a ring of 4 KiB: were it larger, stores on their
 * way to the cache would hold up loads whose addresses have the same last 12 bits.
 *
 * Every column is quantised as if it were alone: records of one column, one after the other, so the
 * rows of a tile are a record apart. Weights are spread out to signed bytes. Few columns go to the
 * AVX-512 VNNI kernel, in its layout. Floating-point operations are that kernel's, in its order:
 * results are the same bit for bit. */
#include "base/x86_tiles.h"
#include "exec/llm/qmat_avx512.h"

#define OWN_STEP_COLUMNS
#define RUN_COLUMNS 64 /* between runs the tile unit runs dry */
#define group_finish(type, n_blocks, g) make_signed(type, n_blocks, g)

struct group;
static inline void make_signed(int type, int n_blocks, struct group *g);

#include "exec/llm/qmat_kernel.h"

#define COLS_MIN 16 /* with fewer, what tiles need besides costs more than they save */
#define TILE_COLS TILE_ROWS
#define RING 4 /* tiles of sums */
#define LEAD (RING - 1)

/* Tiles. The last columns, fewer than 16, have tiles of their own. Sums and weights alternate, so
 * that one product need not wait for the one before. */
#define SUMS_EVEN 0
#define SUMS_ODD 1
#define LAST_SUMS_EVEN 2
#define LAST_SUMS_ODD 3
#define COLUMNS 4
#define LAST_COLUMNS 5
#define WEIGHTS_EVEN 6
#define WEIGHTS_ODD 7

typedef int32_t tile_sums[TILE_COLS][QMAT_ROWS];

struct step { /* 256 elements: all columns by up to four groups of 16 rows */
    const struct group *groups;
    int n_groups, n_products, n_units;
    const char *x; /* the first column's record */
    float *acc;
    int64_t n_cols;
};

struct unit { /* 16 rows by at most 16 columns of a step */
    const struct group *group;
    const char *x;
    float *acc; /* columns are PIECE_ROWS apart */
    int n_cols;
};

struct ahead { /* the product that is the tile unit's next */
    struct unit unit;
    int at_unit, at_product;
    unsigned slot; /* of the ring, counted on */
};

INLINE void make_signed(int type, int n_blocks, struct group *g)
{
    const uint8_t *in = g->q;
    uint8_t *out = g->spread[0][0];
    int n_bytes = n_blocks * qmat_layouts[type].block * QMAT_ROWS;
    if (type == QMAT_Q4_K || type == QMAT_Q5_K) return;
    for (int i = 0; i < n_bytes; i += VECTOR_BYTES) {
        __m512i v = _mm512_loadu_si512(in + i);
        if (type == QMAT_Q8_0)
            v = _mm512_xor_si512(v, _mm512_set1_epi8(-128));
        else
            v = _mm512_sub_epi8(v, _mm512_set1_epi8(type == QMAT_Q4_0 ? 8 : 32));
        _mm512_store_si512(out + i, v);
    }
    g->q = out;
}

INLINE int depth_of(enum qmat_type type) /* elements with one scale */
{
    return type == QMAT_Q6_K ? 16 : 32;
}

static void configure(enum qmat_type type, int64_t n_cols)
{
    struct tile_config config = {.palette = 1};
    uint8_t last = n_cols % TILE_COLS ? (uint8_t)(n_cols % TILE_COLS) : TILE_COLS;
    for (int t = 0; t < TILE_COUNT; t++) {
        config.rows[t] = t == SUMS_EVEN || t == SUMS_ODD || t == COLUMNS ? TILE_COLS : last;
        config.row_bytes[t] = TILE_ROW_BYTES;
    }
    config.row_bytes[COLUMNS] = config.row_bytes[LAST_COLUMNS] = (uint16_t)depth_of(type);
    config.rows[WEIGHTS_EVEN] = config.rows[WEIGHTS_ODD] = (uint8_t)(depth_of(type) / 4);
    tile_configure(&config);
}

/* Sums of product number `at` of the step. */
INLINE void multiply(enum qmat_type type, const struct unit *u, int at, tile_sums sums)
{
    const char *x = u->x + at * depth_of(type);
    const uint8_t *w = u->group->q + at * depth_of(type) * QMAT_ROWS;
    int64_t stride = qmat_layouts[type].record;
#define MULTIPLY(to, a, b) \
    tile_zero(to); \
    tile_load(a, x, stride); \
    tile_load(b, w, TILE_ROW_BYTES); \
    tile_dot(to, a, b); \
    tile_store(to, sums, TILE_ROW_BYTES)
    if (u->n_cols == TILE_COLS && at % 2 == 0) {
        MULTIPLY(SUMS_EVEN, COLUMNS, WEIGHTS_EVEN);
    } else if (u->n_cols == TILE_COLS) {
        MULTIPLY(SUMS_ODD, COLUMNS, WEIGHTS_ODD);
    } else if (at % 2 == 0) {
        MULTIPLY(LAST_SUMS_EVEN, LAST_COLUMNS, WEIGHTS_EVEN);
    } else {
        MULTIPLY(LAST_SUMS_ODD, LAST_COLUMNS, WEIGHTS_ODD);
    }
#undef MULTIPLY
}

/* The groups' units follow each other, so that they find the columns in the cache. */
INLINE struct unit unit_at(enum qmat_type type, const struct step *s, int at)
{
    int group = at % s->n_groups;
    int64_t col = (int64_t)(at / s->n_groups) * TILE_COLS, left = s->n_cols - col;
    return (struct unit){&s->groups[group], s->x + col * qmat_layouts[type].record,
                         s->acc + col * PIECE_ROWS + group * QMAT_ROWS,
                         left < TILE_COLS ? (int)left : TILE_COLS};
}

INLINE void multiply_next(enum qmat_type type, const struct step *s, struct ahead *a,
                          tile_sums ring[RING])
{
    if (a->at_unit == s->n_units) return;
    multiply(type, &a->unit, a->at_product, ring[a->slot++ % RING]);
    if (++a->at_product < s->n_products) return;
    a->at_product = 0;
    a->unit = unit_at(type, s, ++a->at_unit);
}

INLINE bool is_small(enum qmat_type type) /* blocks of 32 */
{
    return type == QMAT_Q4_0 || type == QMAT_Q8_0;
}

/* q4_K and q5_K: takes away what the minima make. */
INLINE void take_mins(const struct unit *u, int n, fvec *sum)
{
    const char *x = u->x + LARGE_SUMS;
    ivec mins[4];
    fvec d = fvec_load(u->group->dmin);
    for (int j = 0; j < 4; j++) mins[j] = (ivec)uvec_load(u->group->mins[j]);
    for (int c = 0; c < n; c++, x += LARGE_RECORD) {
        ivec m = {0};
        for (int j = 0; j < 4; j++) m = pairs_dot(m, mins[j], ivec_all(word_at(x + 4 * j)));
        sum[c] = fvec_fma(-__builtin_convertvector(m, fvec), d, sum[c]);
    }
}

/* Converts a unit's products, of which the first is in `slot` of the ring; n: its columns. */
INLINE void convert(enum qmat_type type, const struct step *s, const struct unit *u, int n,
                    tile_sums ring[RING], unsigned slot, struct ahead *a)
{
    fvec sum[TILE_COLS];
    const int64_t record = qmat_layouts[type].record;
    for (int c = 0; c < n; c++)
        sum[c] = is_small(type) ? fvec_load(u->acc + c * PIECE_ROWS) : fvec_all(0);
    for (int b = 0; b < s->n_products; b++, slot++) {
        multiply_next(type, s, a, ring);
        fvec d = fvec_load(u->group->scale[b]);
        const char *scale = u->x + SMALL_SCALE + 4 * b;
        for (int c = 0; c < n; c++) {
            ivec v = (ivec)uvec_load(ring[slot % RING][c]);
            sum[c] = fvec_fma(__builtin_convertvector(v, fvec),
                              is_small(type) ? d * float_at(scale + c * SMALL_RECORD) : d, sum[c]);
        }
    }
    if (type == QMAT_Q4_K || type == QMAT_Q5_K) take_mins(u, n, sum);
    for (int c = 0; c < n; c++) {
        float *acc = u->acc + c * PIECE_ROWS;
        fvec scale = fvec_all(is_small(type) ? 0 : float_at(u->x + c * record + LARGE_SCALE));
        fvec_store(acc, is_small(type) ? sum[c] : fvec_fma(sum[c], scale, fvec_load(acc)));
    }
}

INLINE void step_columns(enum qmat_type type, int n_blocks, int n_vecs, const struct group *groups,
                         const char *x, int64_t n_cols, float *acc)
{
    _Alignas(64) tile_sums ring[RING];
    int n_products = is_small(type) ? n_blocks : STEP / depth_of(type);
    int n_units = (int)((n_cols + TILE_COLS - 1) / TILE_COLS) * n_vecs;
    struct step s = {groups, n_vecs, n_products, n_units, x, acc, n_cols};
    struct ahead a = {.unit = unit_at(type, &s, 0)};
    for (int i = 0; i < LEAD; i++) multiply_next(type, &s, &a, ring);
    for (int i = 0; i < n_units; i++) {
        struct unit u = unit_at(type, &s, i);
        unsigned slot = (unsigned)(i * n_products);
        if (u.n_cols == TILE_COLS)
            convert(type, &s, &u, TILE_COLS, ring, slot, &a);
        else
            convert(type, &s, &u, u.n_cols, ring, slot, &a);
    }
}

/* Do the columns beside column `col`, up to QMAT_COLS_MAX of them, fill tiles? */
static bool fill_tiles(int64_t n, int64_t col)
{
    int64_t left = n - col / QMAT_COLS_MAX * QMAT_COLS_MAX;
    return left >= COLS_MIN;
}

static void amx_quantise(const struct qmat_columns *cols, int64_t col, int64_t first, int64_t last)
{
    int record = qmat_layouts[cols->type].record;
    if (!fill_tiles(cols->n, col)) {
        qmat_avx512vnni.quantise(cols, col, first, last);
        return;
    }
    for (int64_t s = first; s < last; s++) {
        struct qmat_columns one = {.type = cols->type, .k = cols->k - s * STEP, .n = 1};
        one.x = cols->x + (size_t)col * cols->x_stride + s * STEP;
        if (cols->gate) one.gate = cols->gate + (one.x - cols->x);
        one.out = cols->out + (s * cols->n + col) * record;
        quantise(&one, 0, 0, 1);
    }
}

static void amx_product(const struct qmat_product *p, int64_t col, int64_t row_first,
                        int64_t row_last)
{
    if (!fill_tiles(p->n, col)) {
        qmat_avx512vnni.product(p, col, row_first, row_last);
        return;
    }
    configure(p->w->type, p->n - col < QMAT_COLS_MAX ? p->n - col : QMAT_COLS_MAX);
    product(p, col, row_first, row_last);
    tile_release();
}

const struct qmat_kernel qmat_amx = {"amx", amx_quantise, amx_product};
