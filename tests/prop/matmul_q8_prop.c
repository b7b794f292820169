/* The q8_0 products against exact integer arithmetic in double precision, on random shapes; and
 * bit for bit against themselves when the columns and rows are grouped otherwise. */
#include "base/cpu.h"
#include "exec/llm/matmul_q8.h"
#include "support/prop.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 60
#define BLOCK_BYTES 34

typedef const struct matmul_q8_kernel *kernel;

struct problem {
    int64_t k, m, n;
    char *w;
    double *w_exact; /* [m, k] */
    float *x;        /* [n, k] */
};

/* Powers of two are exact in half precision. */
static void problem_init(struct problem *p)
{
    p->k = 32 * (int64_t)(prop_draw(40) + 1);
    p->m = (int64_t)prop_draw(30) + 1;
    p->n = (int64_t)prop_draw(70) + 1;
    size_t n_blocks = (size_t)(p->m * p->k / 32);
    p->w = malloc(n_blocks * BLOCK_BYTES);
    p->w_exact = malloc((size_t)(p->m * p->k) * sizeof *p->w_exact);
    p->x = malloc((size_t)(p->n * p->k) * sizeof *p->x);
    for (size_t b = 0; b < n_blocks; b++) {
        int exponent = (int)prop_draw(8) - 10;
        uint16_t half = (uint16_t)((exponent + 15) << 10);
        memcpy(p->w + b * BLOCK_BYTES, &half, 2);
        for (size_t i = 0; i < 32; i++) {
            int8_t q = (int8_t)(prop_draw(10)  ? (int)prop_draw(256) - 128
                                : prop_draw(2) ? 127
                                               : -128);
            p->w[b * BLOCK_BYTES + 2 + i] = (char)q;
            p->w_exact[b * 32 + i] = ldexp(q, exponent);
        }
    }
    for (int64_t i = 0; i < p->n * p->k; i++)
        p->x[i] = prop_draw(8) ? (float)((int)prop_draw(2001) - 1000) / 300.0f : 0.0f;
    if (prop_draw(4) == 0) memset(p->x, 0, (size_t)p->k * sizeof *p->x); /* a column of zeros */
}

static void problem_done(struct problem *p)
{
    free(p->w);
    free(p->w_exact);
    free(p->x);
}

static float *run(const struct problem *p, kernel with, int64_t cols_per_call,
                  int64_t rows_per_call)
{
    float *y = malloc((size_t)(p->n * p->m) * sizeof *y);
    void *scratch = aligned_alloc(64, (matmul_q8_scratch_bytes(p->k) + 63) / 64 * 64);
    struct matmul_q8 mm = {
        p->w, (size_t)(p->k / 32) * BLOCK_BYTES, p->x, (size_t)p->k, y, (size_t)p->m, p->k, p->n};
    for (int64_t c = 0; c < p->n; c += cols_per_call) {
        int64_t n = p->n - c < cols_per_call ? p->n - c : cols_per_call;
        with->columns(&mm, c, n, scratch);
        for (int64_t r = 0; r < p->m; r += rows_per_call)
            with->rows(&mm, c, n, r, r + rows_per_call < p->m ? r + rows_per_call : p->m, scratch);
    }
    free(scratch);
    return y;
}

/* Rounding an activation moves it by at most half a step of its block's scale, and the scale's
 * own rounding by 2^-11. */
static void compare(const struct problem *p, const float *y)
{
    for (int64_t c = 0; c < p->n; c++) {
        for (int64_t r = 0; r < p->m; r++) {
            double sum = 0, slack = 1e-6;
            for (int64_t b = 0; b < p->k; b += 32) {
                double most = 0, weight = 0;
                for (int64_t i = b; i < b + 32; i++) {
                    sum += (double)p->x[c * p->k + i] * p->w_exact[r * p->k + i];
                    most = fmax(most, fabs((double)p->x[c * p->k + i]));
                    weight += fabs(p->w_exact[r * p->k + i]);
                }
                slack += weight * most * (0.51 / 127 + 1.0 / 2048);
            }
            if (!(fabs((double)y[c * p->m + r] - sum) <= slack))
                fail_msg("row %lld column %lld: %g, should be %g +- %g", (long long)r, (long long)c,
                         (double)y[c * p->m + r], sum, slack);
        }
    }
}

/* The rounded activations themselves are exact: with inputs that are whole multiples of the
 * scale nothing is lost. */
static void check_exact(kernel with)
{
    struct problem p;
    problem_init(&p);
    for (int64_t i = 0; i < p.n * p.k; i++)
        p.x[i] = i % 32 == 0 ? 127.0f : (float)((int)prop_draw(255) - 127);
    float *y = run(&p, with, MATMUL_Q8_COLS, p.m);
    for (int64_t c = 0; c < p.n; c++) {
        for (int64_t r = 0; r < p.m; r++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < p.k; i++) {
                sum += (double)p.x[c * p.k + i] * p.w_exact[r * p.k + i];
                size += fabs((double)p.x[c * p.k + i] * p.w_exact[r * p.k + i]);
            }
            assert_true(fabs((double)y[c * p.m + r] - sum) <= 1e-5 * size);
        }
    }
    free(y);
    problem_done(&p);
}

static void check_rows(kernel with)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct problem p;
        problem_init(&p);
        float *a = run(&p, with, MATMUL_Q8_COLS, p.m);
        float *b = run(&p, with, (int64_t)prop_draw(MATMUL_Q8_COLS) + 1,
                       (int64_t)prop_draw((size_t)p.m) + 1);
        compare(&p, a);
        assert_memory_equal(a, b, (size_t)(p.n * p.m) * sizeof *a);
        free(a);
        free(b);
        problem_done(&p);
        check_exact(with);
    }
}

static void test_avx512vnni(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (sl_cpu_has(SL_CPU_AVX512) && sl_cpu_has(SL_CPU_AVX512_VNNI)) {
        check_rows(&matmul_q8_avx512vnni);
        return;
    }
#endif
    skip();
}

static void test_avxvnni(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (sl_cpu_has(SL_CPU_AVX_VNNI)) {
        check_rows(&matmul_q8_avxvnni);
        return;
    }
#endif
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_avx512vnni),
                                       cmocka_unit_test(test_avxvnni)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
