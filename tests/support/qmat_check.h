/* qmat_check.h: what every kernel of qmat.h must keep to, on a random shape with random blocks. For
 * the property test and for a program that has no test library (tests/arm).
 * Each returns NULL, or what is wrong: text that is good until the next call. prop_begin() comes
 * first.  Thread: one. */
#pragma once
#include "exec/llm/qmat.h"

/* Against sums in double precision of what the blocks say and what the columns were rounded to at
 * most; bit for bit against itself when rows and columns are cut otherwise; against plain C, and
 * with `same_bits` bit for bit. */
const char *qmat_check_product(const struct qmat_kernel *kernel, enum qmat_type type,
                               bool same_bits);

/* Columns with gates: against their products with the gates' SiLU, and bit for bit against itself
 * when they are cut otherwise. */
const char *qmat_check_gated(const struct qmat_kernel *kernel, enum qmat_type type);

/* Two kernels give the same bits. */
const char *qmat_check_same(const struct qmat_kernel *a, const struct qmat_kernel *b,
                            enum qmat_type type);

/* Columns of the result go where they are told to. */
const char *qmat_check_scattered(const struct qmat_kernel *kernel, enum qmat_type type);

/* A column alone gives the bits that it gives among others. */
const char *qmat_check_alone(const struct qmat_kernel *kernel, enum qmat_type type);

/* From now on shapes of at most so many products, or the smallest there are: emulators are slow. */
void qmat_check_work_max(int64_t n_products);

/* Any bytes are numbers and scales; factors are small, of either sign, sometimes subnormal. */
void qmat_draw_block(enum qmat_type type, char *block);
