/* hash.h: fast non-cryptographic hashing with xxHash's XXH3,
 * https://github.com/Cyan4973/xxHash/blob/dev/doc.
 * Floor: base.  Thread: any.  Not for secrets, not for integrity against an attacker. */
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t sl_hash64(const void *bytes, size_t n, uint64_t seed);

/* A process-wide random seed (getrandom), for tables keyed by what strangers send. */
uint64_t sl_hash_seed(void);
