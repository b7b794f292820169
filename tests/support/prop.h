/* prop.h: random choices for property tests. A run prints its seed; SEED=n in the environment
 * repeats it. Thread: one. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* To be called first: takes the seed from the environment or the clock, and prints it. */
void prop_begin(void);

/* Uniform in [0, below). below > 0. */
size_t prop_draw(size_t below);
