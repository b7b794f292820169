/* matmul_q8.h: products with q8_0 weights on CPUs that have VNNI, straight from the file's layout
 * (no copy, no repacking).
 * Floor: exec/llm.  Thread: the caller splits the rows; each thread has a scratch of its own.
 * Allocates: nothing.
 * Activations are quantised to q8_0 as ggml does: blocks of 32 with one scale, rounded to nearest.
 * Invariant: a column's result depends on that column alone, bit for bit, whatever columns stand
 * beside it and however the rows are split. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct matmul_q8 {
    const void *w; /* [m] rows of k / 32 q8_0 blocks, row_bytes apart */
    size_t row_bytes;
    const float *x; /* [n, k] f32, rows x_stride floats apart */
    size_t x_stride;
    float *y; /* [n, m] f32, rows y_stride floats apart */
    size_t y_stride;
    int64_t k, n; /* k is a multiple of 32 */
};

bool matmul_q8_available(void); /* does this CPU have a kernel? */

/* Per thread; 64-byte aligned. */
size_t matmul_q8_scratch_bytes(int64_t k);

/* Columns [col, col + n_cols), at most MATMUL_Q8_COLS of them, quantised into the scratch. */
void matmul_q8_columns(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, void *scratch);

/* Those columns' products with rows [row_first, row_last) of w. */
void matmul_q8_rows(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, int64_t row_first,
                    int64_t row_last, void *scratch);

struct matmul_q8_kernel { /* one build of the two functions */
    void (*columns)(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, void *scratch);
    void (*rows)(const struct matmul_q8 *mm, int64_t col, int64_t n_cols, int64_t row_first,
                 int64_t row_last, void *scratch);
};
extern const struct matmul_q8_kernel matmul_q8_avx512vnni, matmul_q8_avxvnni;

#define MATMUL_Q8_COLS 32 /* columns quantised at a time: they stay in the second-level cache */
#define MATMUL_Q8_STRIP 4 /* rows decoded at a time: they stay in the first-level cache */
