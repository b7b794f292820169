/* qmat_blocks.h: what the bytes of GGUF's quantised blocks mean, a number at a time, for tests of
 * qmat.h that have no ggml at hand (other processors); where there is one, qmat_prop compares.
 * Thread: any.  Allocates: nothing. */
#pragma once
#include "exec/llm/qmat.h"

/* Bytes of one block in a file. */
size_t qmat_block_bytes(enum qmat_type type);

/* Where a block's half-precision factors are; returns how many, 1 or 2. */
int qmat_block_factors(enum qmat_type type, size_t at[2]);

/* n numbers, a multiple of the block's. */
void qmat_decode(enum qmat_type type, const void *blocks, int64_t n, float *out);
