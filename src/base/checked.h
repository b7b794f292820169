/* checked.h: arithmetic on sizes that came from a file, a socket or a user.
 * Floor: base.  Each returns false on overflow and leaves *out unspecified. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool sl_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool sl_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool sl_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool sl_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool sl_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Rounds up to a power of two `align`. */
static inline bool sl_align_size(size_t n, size_t align, size_t *out)
{
    if (!sl_add_size(n, align - 1, out)) return false;
    *out &= ~(align - 1);
    return true;
}
