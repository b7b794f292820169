/* prop.c: choices drawn from a counter-based generator. */
#include "support/prop.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"

static uint64_t seed, n_drawn;

void prop_begin(void)
{
    const char *given = getenv("SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)sl_now_ns();
    n_drawn = 0;
    printf("SEED=%llu\n", (unsigned long long)seed);
}

size_t prop_draw(size_t below)
{
    return (size_t)(sl_rng_u64(seed, 0, n_drawn++) % below);
}
