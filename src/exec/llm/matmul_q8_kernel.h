/* matmul_q8_kernel.h: the body of the kernels matmul_q8_*, compiled once per instruction set by
 * the files that include it after defining KERNEL (the name), BLOCKS (q8_0 blocks per vector),
 * the types bvec and fvec, and the operations on them.
 *
 * VNNI multiplies unsigned by signed bytes. Weights become unsigned by adding 128 (flipping the
 * top bit), which adds 128 * sum(x) to each lane: every column carries vectors of -128 * sum(x)
 * from which the sums start. One vector of one row and one column then costs a move, a dot
 * product, a conversion, a product with the column's scales and a fused multiply-add with the
 * row's. */
#include "exec/llm/matmul_q8.h"

#include <immintrin.h>
#include <string.h>

#define BLOCK 32
#define BLOCK_BYTES 34 /* a half-precision scale, then 32 signed bytes */
#define LANES (BLOCKS * 8)
#define PREFETCH_BYTES 2048 /* about what arrives while the first level is worked through */

static __m256i block_bytes(const char *block)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)(block + 2));
}

static float block_scale(const char *block)
{
    uint16_t d;
    memcpy(&d, block, sizeof d);
    return _cvtsh_ss(d);
}

#if BLOCKS == 2
/* Two blocks, or one and an empty one. */
static void weights_load(const char *p, bool whole, __m512i *bytes, __m512 *scales)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m256i second = whole ? block_bytes(p + BLOCK_BYTES) : _mm256_setzero_si256();
    __m256 d0 = _mm256_set1_ps(block_scale(p));
    __m256 d1 = whole ? _mm256_set1_ps(block_scale(p + BLOCK_BYTES)) : _mm256_setzero_ps();
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(block_bytes(p)), second, 1);
    *bytes = _mm512_xor_si512(both, flip);
    *scales = _mm512_insertf32x8(_mm512_castps256_ps512(d0), d1, 1);
}
#else
static void weights_load(const char *p, bool whole, __m256i *bytes, __m256 *scales)
{
    (void)whole;
    *bytes = _mm256_xor_si256(block_bytes(p), _mm256_set1_epi8((char)0x80));
    *scales = _mm256_set1_ps(block_scale(p));
}
#endif

struct operands { /* quantised columns and decoded rows; all have n_vecs vectors of LANES lanes */
    size_t n_vecs;
    int8_t *x;      /* [cols][n_vecs * LANES * 4] */
    int32_t *start; /* [cols][n_vecs * LANES]: -128 * sum of the lane's four bytes */
    float *x_scale; /* [cols][n_vecs * LANES]: each block's scale in all its lanes */
    uint8_t *w;     /* [MATMUL_Q8_STRIP][n_vecs * LANES * 4], 128 added */
    float *w_scale; /* [MATMUL_Q8_STRIP][n_vecs * LANES] */
};

static void operands_init(struct operands *o, int64_t k, void *scratch)
{
    char *at = scratch;
    size_t n_blocks = (size_t)k / BLOCK, part;
    o->n_vecs = (n_blocks + BLOCKS - 1) / BLOCKS;
    part = o->n_vecs * LANES * 4;
    o->x = (int8_t *)at;
    o->start = (int32_t *)(void *)(at + MATMUL_Q8_COLS * part);
    o->x_scale = (float *)(void *)(at + 2 * MATMUL_Q8_COLS * part);
    o->w = (uint8_t *)(at + 3 * MATMUL_Q8_COLS * part);
    o->w_scale = (float *)(void *)(at + (3 * MATMUL_Q8_COLS + MATMUL_Q8_STRIP) * part);
}

static float largest_magnitude(const __m256 v[4])
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 a = _mm256_max_ps(_mm256_andnot_ps(sign, v[0]), _mm256_andnot_ps(sign, v[1]));
    __m256 b = _mm256_max_ps(_mm256_andnot_ps(sign, v[2]), _mm256_andnot_ps(sign, v[3]));
    __m128 m;
    a = _mm256_max_ps(a, b);
    m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* 32 floats to bytes of x * 127 / max|x|; returns the scale, rounded to half precision. */
static float quantise_block(const float *x, int8_t *bytes, int32_t *start)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* undoes the lanes of packs */
    const __m256i ones = _mm256_set1_epi8(1), factor = _mm256_set1_epi16(-128);
    __m256 v[4];
    __m256i i[4], packed;
    float most, inverse;
    for (int j = 0; j < 4; j++) v[j] = _mm256_loadu_ps(x + 8 * j);
    most = largest_magnitude(v);
    inverse = most > 0 ? 127 / most : 0;
    for (int j = 0; j < 4; j++)
        i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], _mm256_set1_ps(inverse)));
    packed = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
    packed = _mm256_permutevar8x32_epi32(packed, order);
    _mm256_storeu_si256((__m256i *)(void *)bytes, packed);
    _mm256_storeu_si256((__m256i *)(void *)start,
                        _mm256_madd_epi16(_mm256_maddubs_epi16(ones, packed), factor));
    return _cvtsh_ss(_cvtss_sh(most / 127, _MM_FROUND_TO_NEAREST_INT));
}

static void quantise_column(const struct operands *o, const float *x, int64_t k, size_t col)
{
    size_t lanes = o->n_vecs * LANES, n_blocks = (size_t)k / BLOCK;
    int8_t *bytes = o->x + col * lanes * 4;
    int32_t *start = o->start + col * lanes;
    float *scale = o->x_scale + col * lanes;
    for (size_t b = 0; b < n_blocks; b++) {
        float d = quantise_block(x + b * BLOCK, bytes + b * BLOCK, start + b * 8);
        _mm256_storeu_ps(scale + b * 8, _mm256_set1_ps(d));
    }
    for (size_t b = n_blocks; b < o->n_vecs * BLOCKS; b++) {
        memset(bytes + b * BLOCK, 0, BLOCK);
        memset(start + b * 8, 0, 8 * sizeof *start);
        memset(scale + b * 8, 0, 8 * sizeof *scale);
    }
}

static void decode_row(const struct operands *o, const char *row, int64_t k, size_t at)
{
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    size_t lanes = o->n_vecs * LANES, n_blocks = (size_t)k / BLOCK;
    uint8_t *w = o->w + at * lanes * 4;
    float *scale = o->w_scale + at * lanes;
    for (size_t b = 0; b < n_blocks; b++) {
        const char *block = row + b * BLOCK_BYTES;
        __m256i q = _mm256_xor_si256(block_bytes(block), flip);
        _mm256_storeu_si256((__m256i *)(void *)(w + b * BLOCK), q);
        _mm256_storeu_ps(scale + b * 8, _mm256_set1_ps(block_scale(block)));
    }
    for (size_t b = n_blocks; b < o->n_vecs * BLOCKS; b++) {
        memset(w + b * BLOCK, 0, BLOCK);
        memset(scale + b * 8, 0, 8 * sizeof *scale);
    }
}

/* R decoded rows by C columns from `col` on: out[c][r]. */
#define TILE(R, C) \
    static void tile_##R##x##C(const struct operands *o, size_t col, float *y, size_t y_stride) \
    { \
        size_t lanes = o->n_vecs * LANES; \
        fvec acc[R][C]; \
        for (int r = 0; r < R; r++) \
            for (int c = 0; c < C; c++) acc[r][c] = fvec_zero(); \
        for (size_t at = 0; at < lanes; at += LANES) { \
            bvec w[R]; \
            fvec d[R]; \
            for (size_t r = 0; r < R; r++) { \
                w[r] = bvec_load(o->w + (r * lanes + at) * 4); \
                d[r] = fvec_load(o->w_scale + r * lanes + at); \
            } \
            for (size_t c = 0; c < C; c++) { \
                size_t from = (col + c) * lanes + at; \
                bvec x = bvec_load(o->x + from * 4), start = bvec_load(o->start + from); \
                fvec e = fvec_load(o->x_scale + from); \
                for (int r = 0; r < R; r++) \
                    acc[r][c] = fvec_fma(fvec_mul(fvec_from(bvec_dot(start, w[r], x)), e), d[r], \
                                         acc[r][c]); \
            } \
        } \
        for (size_t c = 0; c < C; c++) \
            for (size_t r = 0; r < R; r++) y[(col + c) * y_stride + r] = fvec_sum(acc[r][c]); \
    }
TILE(4, 4)
TILE(4, 1)
TILE(1, 1)

/* One column by one row straight from the file's layout: what decoding one sequence does, where
 * memory is the limit: the rows are one stream, asked for ahead. Same sums as the tiles'. */
static void one_column(const struct operands *o, const struct matmul_q8 *mm, int64_t row, float *y)
{
    const char *w = (const char *)mm->w + (size_t)row * mm->row_bytes;
    size_t n_blocks = (size_t)mm->k / BLOCK;
    fvec acc = fvec_zero();
    for (size_t v = 0; v < o->n_vecs; v++) {
        const char *p = w + v * BLOCKS * BLOCK_BYTES;
        bvec b;
        fvec d, e = fvec_load(o->x_scale + v * LANES);
        _mm_prefetch(p + PREFETCH_BYTES, _MM_HINT_T0);
        weights_load(p, (v + 1) * BLOCKS <= n_blocks, &b, &d);
        b = bvec_dot(bvec_load(o->start + v * LANES), b, bvec_load(o->x + v * LANES * 4));
        acc = fvec_fma(fvec_mul(fvec_from(b), e), d, acc);
    }
    *y = fvec_sum(acc);
}

static void strip(const struct operands *o, const struct matmul_q8 *mm, int64_t row, size_t n_rows,
                  int64_t col, size_t n_cols)
{
    float *y = mm->y + (size_t)col * mm->y_stride + (size_t)row;
    size_t c = 0;
    if (n_cols == 1) {
        for (size_t r = 0; r < n_rows; r++) one_column(o, mm, row + (int64_t)r, y + r);
        return;
    }
    for (size_t r = 0; r < n_rows; r++)
        decode_row(o, (const char *)mm->w + ((size_t)row + r) * mm->row_bytes, mm->k, r);
    if (n_rows == MATMUL_Q8_STRIP) {
        for (; c + 4 <= n_cols; c += 4) tile_4x4(o, c, y, mm->y_stride);
        for (; c < n_cols; c++) tile_4x1(o, c, y, mm->y_stride);
        return;
    }
    for (; c < n_cols; c++) tile_1x1(o, c, y, mm->y_stride);
}

static void columns(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, void *scratch)
{
    struct operands o;
    operands_init(&o, mm->k, scratch);
    for (int64_t c = 0; c < n_cols; c++)
        quantise_column(&o, mm->x + (size_t)(col + c) * mm->x_stride, mm->k, (size_t)c);
}

static void rows(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, int64_t row_first,
                 int64_t row_last, void *scratch)
{
    struct operands o;
    int64_t row = row_first;
    operands_init(&o, mm->k, scratch);
    for (; row + MATMUL_Q8_STRIP <= row_last; row += MATMUL_Q8_STRIP)
        strip(&o, mm, row, MATMUL_Q8_STRIP, col, (size_t)n_cols);
    for (; row < row_last; row++) strip(&o, mm, row, 1, col, (size_t)n_cols);
}

const struct matmul_q8_kernel KERNEL = {columns, rows};
