/* qmat_check.c: random products and what they are compared with. */
#include "support/qmat_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/prop.h"
#include "support/qmat_blocks.h"

#define GUARD 64 /* bytes behind every buffer that nobody may write */
#define GUARD_BYTE 0x5a

struct problem {
    enum qmat_type type;
    int64_t k, m, n, x_stride;
    char *blocks, *packed;
    float *exact; /* [m, k] */
    float *x;     /* [n, x_stride] */
    float *gate;  /* likewise, or NULL */
    int32_t *to;  /* [n], or NULL */
};

static char failure[256];
static int64_t work_max = INT64_MAX;

#define FAIL(...) (snprintf(failure, sizeof failure, __VA_ARGS__), (const char *)failure)

static void *allocate(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!p) abort();
    return p;
}

static char *guarded(size_t n)
{
    char *p = allocate(n + GUARD);
    memset(p + n, GUARD_BYTE, GUARD);
    return p;
}

static bool is_guarded(const char *p, size_t n)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (p[n + i] != GUARD_BYTE) return false;
    }
    return true;
}

void qmat_draw_block(enum qmat_type type, char *block)
{
    size_t n = qmat_block_bytes(type), factors[2];
    int n_factors = qmat_block_factors(type, factors);
    int extreme = prop_draw(8) ? 0 : prop_draw(2) ? 0xff : 0x80;
    for (size_t i = 0; i < n; i++) block[i] = (char)(extreme ? extreme : (int)prop_draw(256));
    for (int i = 0; i < n_factors; i++) {
        uint16_t exponent = prop_draw(10) ? (uint16_t)(4 + prop_draw(8)) : 0;
        uint16_t half = (uint16_t)(prop_draw(2) << 15 | (unsigned)exponent << 10 | prop_draw(1024));
        memcpy(block + factors[i], &half, sizeof half);
    }
}

void qmat_check_work_max(int64_t n_products)
{
    work_max = n_products;
}

/* 1 to `most`, or fewer so that that many times `each` are not too much work. */
static int64_t draw_size(int64_t most, int64_t each)
{
    if (most > work_max / each) most = work_max / each;
    return most < 1 ? 1 : (int64_t)prop_draw((size_t)most) + 1;
}

static void draw_columns(struct problem *p)
{
    p->x_stride = p->k + (int64_t)prop_draw(7);
    p->x = allocate((size_t)(p->n * p->x_stride) * sizeof *p->x);
    for (int64_t i = 0; i < p->n * p->x_stride; i++)
        p->x[i] = prop_draw(8) ? (float)((int)prop_draw(2001) - 1000) / 300.0f : 0.0f;
    if (prop_draw(4) == 0) memset(p->x, 0, (size_t)p->k * sizeof *p->x); /* a column of zeros */
}

static void draw_rows(struct problem *p)
{
    size_t block_bytes = qmat_block_bytes(p->type);
    size_t n_blocks = (size_t)(p->m * p->k / qmat_block(p->type));
    size_t n_bytes = qmat_bytes(p->type, p->k, p->m);
    struct qmat shape = {p->type, p->k, p->m, NULL};
    int64_t cut = (int64_t)prop_draw((size_t)p->m / QMAT_ROWS + 1) * QMAT_ROWS;
    p->blocks = allocate(n_blocks * block_bytes);
    p->exact = allocate((size_t)(p->m * p->k) * sizeof *p->exact);
    for (size_t b = 0; b < n_blocks; b++) qmat_draw_block(p->type, p->blocks + b * block_bytes);
    qmat_decode(p->type, p->blocks, p->m * p->k, p->exact);
    p->packed = guarded(n_bytes);
    qmat_pack(&shape, p->blocks, cut, p->m, p->packed);
    qmat_pack(&shape, p->blocks, 0, cut, p->packed);
}

static void problem_init(struct problem *p, enum qmat_type type)
{
    static const int64_t columns[] = {1, 2, 3, 4, 5, 8, 16, 21, 127, 128, 131, 260};
    int64_t block = qmat_block(type);
    *p = (struct problem){.type = type, .n = columns[prop_draw(sizeof columns / sizeof *columns)]};
    p->m = draw_size(70, p->n * block);
    p->k = draw_size(1280 / block, p->n * block * p->m) * block;
    draw_columns(p);
    draw_rows(p);
}

static void problem_done(struct problem *p)
{
    free(p->blocks);
    free(p->packed);
    free(p->exact);
    free(p->x);
    free(p->gate);
    free(p->to);
}

/* [n, m]; rows_per_call and pieces_per_call are how the work is cut. Aborts when a kernel wrote
 * past an end: nothing can be trusted then. */
static float *run(const struct problem *p, const struct qmat_kernel *kernel, int64_t rows_per_call,
                  int64_t pieces_per_call)
{
    size_t x_bytes = qmat_columns_bytes(p->type, p->k, p->n);
    size_t y_bytes = (size_t)(p->n * p->m) * sizeof(float);
    char *x = guarded(x_bytes), *y = guarded(y_bytes);
    struct qmat w = {p->type, p->k, p->m, p->packed};
    struct qmat_columns columns = {p->type, p->k, p->n, p->x, (size_t)p->x_stride, x, p->gate};
    struct qmat_product product = {&w, x, p->n, (float *)(void *)y, (size_t)p->m, p->to};
    int64_t n_pieces = qmat_n_pieces(p->k);
    for (int64_t c = p->n - 1; c >= 0; c--)
        for (int64_t i = 0; i < n_pieces; i += pieces_per_call)
            kernel->quantise(&columns, c, i,
                             i + pieces_per_call < n_pieces ? i + pieces_per_call : n_pieces);
    for (int64_t c = 0; c < p->n; c += QMAT_COLS_MAX)
        for (int64_t r = 0; r < p->m; r += rows_per_call)
            kernel->product(&product, c, r, r + rows_per_call < p->m ? r + rows_per_call : p->m);
    if (!is_guarded(x, x_bytes) || !is_guarded(y, y_bytes) ||
        !is_guarded(p->packed, qmat_bytes(p->type, p->k, p->m))) {
        printf("%s wrote past the end of a buffer\n", kernel->name);
        abort();
    }
    free(x);
    return (float *)(void *)y;
}

/* Rounding an activation moves it by at most half a step of its block's scale. */
static const char *compare_exact(const struct problem *p, const float *y, int64_t r, int64_t c)
{
    int64_t block = qmat_block(p->type);
    const float *x = p->x + c * p->x_stride, *row = p->exact + r * p->k;
    double sum = 0, slack = 1e-6, is = (double)y[c * p->m + r];
    for (int64_t b = 0; b < p->k; b += block) {
        double most = 0, weight = 0, size = 0;
        for (int64_t i = b; i < b + block; i++) {
            sum += (double)x[i] * (double)row[i];
            most = fmax(most, fabs((double)x[i]));
            weight += fabs((double)row[i]);
            size += fabs((double)x[i] * (double)row[i]);
        }
        slack += weight * most * 0.501 / 127 + 1e-4 * size;
    }
    if (fabs(is - sum) <= slack) return NULL;
    return FAIL("row %lld column %lld: %g, should be %g +- %g", (long long)r, (long long)c, is, sum,
                slack);
}

/* The integer sums are equal, only the order of the floating-point ones differs: far less than the
 * rounding of the activations. */
static const char *compare_kernels(const struct problem *p, const float *a, const float *b,
                                   int64_t r, int64_t c)
{
    double size = 1e-6, x = (double)a[c * p->m + r], y = (double)b[c * p->m + r];
    for (int64_t i = 0; i < p->k; i++) size += fabs((double)p->exact[r * p->k + i]) * 10.0 / 3.0;
    if (fabs(x - y) <= 1e-4 * size) return NULL;
    return FAIL("row %lld column %lld: %g, in plain C %g", (long long)r, (long long)c, x, y);
}

static const char *compare(const struct problem *p, const float *y, const float *plain)
{
    for (int64_t c = 0; c < p->n; c++) {
        for (int64_t r = 0; r < p->m; r++) {
            const char *wrong = compare_exact(p, y, r, c);
            if (!wrong) wrong = compare_kernels(p, y, plain, r, c);
            if (wrong) return wrong;
        }
    }
    return NULL;
}

const char *qmat_check_product(const struct qmat_kernel *kernel, enum qmat_type type,
                               bool same_bits)
{
    struct problem p;
    problem_init(&p, type);
    int64_t rows = QMAT_ROWS * ((int64_t)prop_draw(4) + 1), n_pieces = qmat_n_pieces(p.k);
    size_t n_bytes = (size_t)(p.n * p.m) * sizeof(float);
    float *whole = run(&p, kernel, p.m, n_pieces), *cut = run(&p, kernel, rows, 1);
    float *plain = run(&p, &qmat_generic, p.m, n_pieces);
    const char *wrong = compare(&p, whole, plain);
    if (!wrong && memcmp(whole, cut, n_bytes) != 0) wrong = "cut otherwise, it has other bits";
    if (!wrong && same_bits && memcmp(whole, plain, n_bytes) != 0)
        wrong = "it has other bits than plain C";
    free(whole);
    free(cut);
    free(plain);
    problem_done(&p);
    return wrong;
}

/* Gates from where SiLU is nearly zero to where it is nearly the gate. */
static void draw_gates(struct problem *p)
{
    p->gate = allocate((size_t)(p->n * p->x_stride) * sizeof *p->gate);
    for (int64_t i = 0; i < p->n * p->x_stride; i++)
        p->gate[i] = (float)((int)prop_draw(2001) - 1000) / (prop_draw(2) ? 250.0f : 5.0f);
}

const char *qmat_check_gated(const struct qmat_kernel *kernel, enum qmat_type type)
{
    struct problem p;
    const char *wrong = NULL;
    problem_init(&p, type);
    draw_gates(&p);
    float *whole = run(&p, kernel, p.m, qmat_n_pieces(p.k)), *cut = run(&p, kernel, QMAT_ROWS, 1);
    if (memcmp(whole, cut, (size_t)(p.n * p.m) * sizeof *whole) != 0)
        wrong = "gated and cut otherwise, it has other bits";
    for (int64_t i = 0; i < p.n * p.x_stride; i++) {
        double gate = (double)p.gate[i];
        p.x[i] = (float)((double)p.x[i] * gate / (1 + exp(-gate)));
    }
    for (int64_t i = 0; i < p.n * p.m && !wrong; i++)
        wrong = compare_exact(&p, whole, i % p.m, i / p.m);
    free(whole);
    free(cut);
    problem_done(&p);
    return wrong;
}

const char *qmat_check_same(const struct qmat_kernel *a, const struct qmat_kernel *b,
                            enum qmat_type type)
{
    struct problem p;
    problem_init(&p, type);
    float *ya = run(&p, a, p.m, 1), *yb = run(&p, b, p.m, 1);
    bool same = memcmp(ya, yb, (size_t)(p.n * p.m) * sizeof *ya) == 0;
    free(ya);
    free(yb);
    problem_done(&p);
    return same ? NULL : FAIL("%lld columns: other bits than %s", (long long)p.n, b->name);
}

const char *qmat_check_scattered(const struct qmat_kernel *kernel, enum qmat_type type)
{
    struct problem p;
    const char *wrong = NULL;
    problem_init(&p, type);
    float *in_order = run(&p, kernel, p.m, 1);
    p.to = allocate((size_t)p.n * sizeof *p.to);
    for (int64_t i = 0; i < p.n; i++) p.to[i] = (int32_t)(p.n - 1 - i);
    float *reversed = run(&p, kernel, p.m, 1);
    for (int64_t i = 0; i < p.n; i++) {
        if (memcmp(in_order + i * p.m, reversed + (p.n - 1 - i) * p.m,
                   (size_t)p.m * sizeof *reversed) != 0)
            wrong = FAIL("column %lld is not where it should be", (long long)i);
    }
    free(in_order);
    free(reversed);
    problem_done(&p);
    return wrong;
}

const char *qmat_check_alone(const struct qmat_kernel *kernel, enum qmat_type type)
{
    struct problem p, one;
    problem_init(&p, type);
    float *all = run(&p, kernel, p.m, 1);
    int64_t c = (int64_t)prop_draw((size_t)p.n);
    one = p;
    one.n = 1;
    one.x = p.x + c * p.x_stride;
    float *alone = run(&one, kernel, p.m, 1);
    bool same = memcmp(alone, all + c * p.m, (size_t)p.m * sizeof *alone) == 0;
    free(all);
    free(alone);
    problem_done(&p);
    return same ? NULL : FAIL("column %lld has other bits alone", (long long)c);
}
