/* hash.c: XXH3 from xxHash's header, compiled in. */
#include "base/hash.h"

#include "base/clock.h"

#define XXH_INLINE_ALL
#include <pthread.h>
#include <sys/random.h>
#include <xxhash.h>

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint64_t seed_value;

uint64_t sl_hash64(const void *bytes, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n, seed);
}

/* Without getrandom (a seccomp filter may forbid it) the clock and the randomised place of our code
 * must do: the seed only has to be unknown to whoever sends keys. */
static void make_seed(void)
{
    if (getrandom(&seed_value, sizeof seed_value, GRND_NONBLOCK) == (ssize_t)sizeof seed_value)
        return;
    seed_value = (uint64_t)sl_now_ns() * 0x9e3779b97f4a7c15u ^ (uintptr_t)&make_seed;
}

uint64_t sl_hash_seed(void)
{
    pthread_once(&seed_once, make_seed);
    return seed_value;
}
