/* Every kernel of qmat.h on random shapes and random blocks: against sums in double precision of
 * what GGUF's blocks say and what the columns were rounded to at most; against the plain C kernel;
 * and bit for bit against itself when rows and columns are grouped otherwise. */
#include "exec/llm/qmat.h"
#include "support/prop.h"

#include <ggml.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 15
#define GUARD 64 /* bytes behind every buffer that nobody may write */
#define GUARD_BYTE 0x5a

static const struct {
    enum ggml_type type;
    size_t halves[2]; /* where a block's half-precision factors are */
    int n_halves;
} formats[QMAT_TYPE_COUNT] = {
    {GGML_TYPE_Q4_0, {0}, 1},    {GGML_TYPE_Q8_0, {0}, 1},   {GGML_TYPE_Q4_K, {0, 2}, 2},
    {GGML_TYPE_Q5_K, {0, 2}, 2}, {GGML_TYPE_Q6_K, {208}, 1},
};

struct problem {
    enum qmat_type type;
    int64_t k, m, n, x_stride;
    char *blocks, *packed;
    float *exact; /* [m, k] */
    float *x;     /* [n, x_stride] */
    int32_t *to;  /* [n], or NULL */
};

static char *guarded(size_t n)
{
    char *p = aligned_alloc(64, (n + GUARD + 63) / 64 * 64);
    assert_non_null(p);
    memset(p + n, GUARD_BYTE, GUARD);
    return p;
}

static void check_guard(const char *p, size_t n)
{
    for (size_t i = 0; i < GUARD; i++) assert_int_equal(p[n + i], GUARD_BYTE);
}

/* Any bytes are numbers and scales; factors are small, of either sign, sometimes subnormal. */
static void draw_block(enum qmat_type type, char *block)
{
    size_t n = ggml_type_size(formats[type].type);
    int extreme = prop_draw(8) ? 0 : prop_draw(2) ? 0xff : 0x80;
    for (size_t i = 0; i < n; i++) block[i] = (char)(extreme ? extreme : (int)prop_draw(256));
    for (int i = 0; i < formats[type].n_halves; i++) {
        uint16_t exponent = prop_draw(10) ? (uint16_t)(4 + prop_draw(8)) : 0;
        uint16_t half = (uint16_t)(prop_draw(2) << 15 | (unsigned)exponent << 10 | prop_draw(1024));
        memcpy(block + formats[type].halves[i], &half, sizeof half);
    }
}

static void problem_init(struct problem *p, enum qmat_type type)
{
    static const int64_t columns[] = {1, 2, 3, 4, 5, 8, 16, 127, 128, 131, 260};
    int64_t block = qmat_block(type);
    size_t block_bytes = ggml_type_size(formats[type].type);
    *p = (struct problem){.type = type,
                          .k = block * (int64_t)(prop_draw((size_t)(1280 / block)) + 1),
                          .m = (int64_t)prop_draw(70) + 1,
                          .n = columns[prop_draw(sizeof columns / sizeof *columns)]};
    size_t n_blocks = (size_t)(p->m * p->k / block);
    p->x_stride = p->k + (int64_t)prop_draw(7);
    p->blocks = malloc(n_blocks * block_bytes);
    p->exact = malloc((size_t)(p->m * p->k) * sizeof *p->exact);
    p->x = malloc((size_t)(p->n * p->x_stride) * sizeof *p->x);
    for (size_t b = 0; b < n_blocks; b++) draw_block(type, p->blocks + b * block_bytes);
    ggml_get_type_traits(formats[type].type)->to_float(p->blocks, p->exact, p->m * p->k);
    for (int64_t i = 0; i < p->n * p->x_stride; i++)
        p->x[i] = prop_draw(8) ? (float)((int)prop_draw(2001) - 1000) / 300.0f : 0.0f;
    if (prop_draw(4) == 0) memset(p->x, 0, (size_t)p->k * sizeof *p->x); /* a column of zeros */
    size_t n_bytes = qmat_bytes(type, p->k, p->m);
    struct qmat shape = {type, p->k, p->m, NULL};
    int64_t cut = (int64_t)prop_draw((size_t)p->m / QMAT_ROWS + 1) * QMAT_ROWS;
    p->packed = guarded(n_bytes);
    qmat_pack(&shape, p->blocks, cut, p->m, p->packed);
    qmat_pack(&shape, p->blocks, 0, cut, p->packed);
    check_guard(p->packed, n_bytes);
}

static void problem_done(struct problem *p)
{
    free(p->blocks);
    free(p->packed);
    free(p->exact);
    free(p->x);
    free(p->to);
}

/* [n, m]; rows_per_call and pieces_per_call are how the work is cut. */
static float *run(const struct problem *p, const struct qmat_kernel *kernel, int64_t rows_per_call,
                  int64_t pieces_per_call)
{
    size_t x_bytes = qmat_columns_bytes(p->type, p->k, p->n);
    size_t y_bytes = (size_t)(p->n * p->m) * sizeof(float);
    char *x = guarded(x_bytes), *y = guarded(y_bytes);
    struct qmat w = {p->type, p->k, p->m, p->packed};
    struct qmat_columns columns = {p->type, p->k, p->n, p->x, (size_t)p->x_stride, x};
    struct qmat_product product = {&w, x, p->n, (float *)(void *)y, (size_t)p->m, p->to};
    int64_t n_pieces = qmat_n_pieces(p->k);
    for (int64_t c = p->n - 1; c >= 0; c--)
        for (int64_t i = 0; i < n_pieces; i += pieces_per_call)
            kernel->quantise(&columns, c, i,
                             i + pieces_per_call < n_pieces ? i + pieces_per_call : n_pieces);
    for (int64_t c = 0; c < p->n; c += QMAT_COLS_MAX)
        for (int64_t r = 0; r < p->m; r += rows_per_call)
            kernel->product(&product, c, r, r + rows_per_call < p->m ? r + rows_per_call : p->m);
    check_guard(x, x_bytes);
    check_guard(y, y_bytes);
    free(x);
    return (float *)(void *)y;
}

/* Rounding an activation moves it by at most half a step of its block's scale. */
static void compare_exact(const struct problem *p, const float *y)
{
    int64_t block = qmat_block(p->type);
    for (int64_t c = 0; c < p->n; c++) {
        const float *x = p->x + c * p->x_stride;
        for (int64_t r = 0; r < p->m; r++) {
            double sum = 0, slack = 1e-6;
            for (int64_t b = 0; b < p->k; b += block) {
                double most = 0, weight = 0, size = 0;
                for (int64_t i = b; i < b + block; i++) {
                    double w = (double)p->exact[r * p->k + i];
                    sum += (double)x[i] * w;
                    most = fmax(most, fabs((double)x[i]));
                    weight += fabs(w);
                    size += fabs((double)x[i] * w);
                }
                slack += weight * most * 0.501 / 127 + 1e-4 * size;
            }
            if (!(fabs((double)y[c * p->m + r] - sum) <= slack))
                fail_msg("row %lld column %lld: %g, should be %g +- %g", (long long)r, (long long)c,
                         (double)y[c * p->m + r], sum, slack);
        }
    }
}

/* The integer sums are equal, only the order of the floating-point ones differs: far less than the
 * rounding of the activations. */
static void compare_kernels(const struct problem *p, const float *a, const float *b)
{
    for (int64_t c = 0; c < p->n; c++) {
        for (int64_t r = 0; r < p->m; r++) {
            double size = 1e-6;
            for (int64_t i = 0; i < p->k; i++)
                size += fabs((double)p->exact[r * p->k + i]) * 10.0 / 3.0;
            assert_true(fabs((double)a[c * p->m + r] - (double)b[c * p->m + r]) <= 1e-4 * size);
        }
    }
}

static void check(const struct qmat_kernel *kernel, enum qmat_type type)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct problem p;
        problem_init(&p, type);
        int64_t rows = QMAT_ROWS * ((int64_t)prop_draw(4) + 1);
        float *a = run(&p, kernel, p.m, qmat_n_pieces(p.k)), *b = run(&p, kernel, rows, 1);
        assert_memory_equal(a, b, (size_t)(p.n * p.m) * sizeof *a);
        compare_exact(&p, a);
        free(b);
        b = run(&p, &qmat_generic, p.m, qmat_n_pieces(p.k));
        compare_kernels(&p, a, b);
        free(a);
        free(b);
        problem_done(&p);
    }
}

static void check_type(enum qmat_type type)
{
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    assert_ptr_equal(list[n - 1], &qmat_generic);
    for (int i = 0; i < n; i++) check(list[i], type);
}

/* Columns of the result go where they are told to. */
static void test_columns_are_scattered(void **state)
{
    (void)state;
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        const struct qmat_kernel *list[QMAT_KERNELS_MAX];
        struct problem p;
        qmat_kernels(list);
        problem_init(&p, (enum qmat_type)t);
        float *in_order = run(&p, list[0], p.m, 1);
        p.to = malloc((size_t)p.n * sizeof *p.to);
        for (int64_t i = 0; i < p.n; i++) p.to[i] = (int32_t)(p.n - 1 - i);
        float *reversed = run(&p, list[0], p.m, 1);
        for (int64_t i = 0; i < p.n; i++)
            assert_memory_equal(in_order + i * p.m, reversed + (p.n - 1 - i) * p.m,
                                (size_t)p.m * sizeof *reversed);
        free(in_order);
        free(reversed);
        problem_done(&p);
    }
}

/* A column alone gives the bits that it gives among others. */
static void test_columns_are_independent(void **state)
{
    (void)state;
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n = qmat_kernels(list);
    for (int i = 0; i < n; i++) {
        for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
            struct problem p, one;
            problem_init(&p, (enum qmat_type)t);
            float *all = run(&p, list[i], p.m, 1);
            int64_t c = (int64_t)prop_draw((size_t)p.n);
            one = p;
            one.n = 1;
            one.x = p.x + c * p.x_stride;
            float *alone = run(&one, list[i], p.m, 1);
            assert_memory_equal(alone, all + c * p.m, (size_t)p.m * sizeof *alone);
            free(all);
            free(alone);
            problem_done(&p);
        }
    }
}

static void test_q4_0(void **state)
{
    (void)state;
    check_type(QMAT_Q4_0);
}

static void test_q8_0(void **state)
{
    (void)state;
    check_type(QMAT_Q8_0);
}

static void test_q4_k(void **state)
{
    (void)state;
    check_type(QMAT_Q4_K);
}

static void test_q5_k(void **state)
{
    (void)state;
    check_type(QMAT_Q5_K);
}

static void test_q6_k(void **state)
{
    (void)state;
    check_type(QMAT_Q6_K);
}

static void test_types(void **state)
{
    (void)state;
    enum qmat_type type;
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        assert_true(qmat_type_from_gguf((uint32_t)formats[t].type, &type));
        assert_int_equal(type, t);
        assert_int_equal(qmat_block(type), ggml_blck_size(formats[t].type));
    }
    assert_false(qmat_type_from_gguf(GGML_TYPE_F16, &type));
    assert_true(qmat_shares_columns(QMAT_Q4_K, QMAT_Q6_K));
    assert_false(qmat_shares_columns(QMAT_Q4_0, QMAT_Q8_0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_columns_are_independent),
        cmocka_unit_test(test_columns_are_scattered),
        cmocka_unit_test(test_q4_0),
        cmocka_unit_test(test_q8_0),
        cmocka_unit_test(test_q4_k),
        cmocka_unit_test(test_q5_k),
        cmocka_unit_test(test_q6_k),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
