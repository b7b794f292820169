/* hidden_row.h: hidden states as they travel between stages: f32, f16 or q8_0.
 * Floor: exec/llm.  Thread: any.  Allocates: nothing.
 *
 *     f32    n_embd floats, little endian
 *     f16    a float, the row's scale, then n_embd halves: what they stand for is their product.
 *            The scale is 1 as long as all fit (some models have states beyond the largest half),
 *            else a power of two; then two bytes of nothing where n_embd is odd
 *     q8_0   ggml's blocks of 32: a half, the scale, then 32 signed bytes; then two bytes of
 *            nothing where the number of blocks is odd
 *
 * Every row has a multiple of 4 bytes. Of what a receiver gets, every bit pattern is a row; it may
 * hold NaN. */
#pragma once
#include "exec/engine_open.h"

/* 0: rows of n_embd cannot have this form. */
size_t hidden_row_bytes(enum engine_link_type link, int32_t n_embd);

/* n_rows rows; both sides 4-byte aligned. */
void hidden_rows_pack(enum engine_link_type link, const float *rows, int32_t n_rows, int32_t n_embd,
                      void *out);
void hidden_rows_unpack(enum engine_link_type link, const void *in, int32_t n_rows, int32_t n_embd,
                        float *out);
