/* rng.h: a counter-based generator: the n-th number is a function of seed and n, so nothing has
 * to be stored or replayed.
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11.
 * Floor: base.  Thread: any.  Allocates: nothing.  Not for secrets. */
#pragma once
#include <stdint.h>

/* The bijection itself: 128 bits of counter to 128 random bits under a 64-bit key. */
void sl_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* 64 random bits, number `index` of stream `stream` under `seed`. */
uint64_t sl_rng_u64(uint64_t seed, uint64_t stream, uint64_t index);

/* Uniform in [0, 1) on a grid of 2^-53; from the same bits as sl_rng_u64. */
double sl_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);
