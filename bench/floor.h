/* floor.h: what a processor can do at most: read memory, and 8-bit multiply-adds with AVX-512
 * VNNI. For bench/ only.
 * Thread: any.  Allocates: buffers that are asked for. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define FLOOR_HUGE_PAGE (2u << 20)
#define FLOOR_AHEAD 64  /* cache lines: more than a core has under way */
#define FLOOR_CHAINS 12 /* more than latency times throughput */
#define FLOOR_TURNS 100000

static inline double floor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* At least n bytes in huge pages, to be freed; NULL: no memory. */
static inline void *floor_alloc(size_t n)
{
    size_t rounded = (n + FLOOR_HUGE_PAGE - 1) & ~(size_t)(FLOOR_HUGE_PAGE - 1);
    void *p = aligned_alloc(FLOOR_HUGE_PAGE, rounded);
    if (p) madvise(p, rounded, MADV_HUGEPAGE);
    return p;
}

/* Reads n bytes once; what it returns keeps the reads alive. */
static inline uint64_t floor_read(const void *bytes, size_t n)
{
    typedef uint64_t wide __attribute__((vector_size(64), aligned(8)));
    const wide *at = bytes;
    wide sum[4] = {{0}};
    for (size_t i = 0; i + 4 <= n / sizeof *at; i += 4) {
        for (int j = 0; j < 4; j++) {
            __builtin_prefetch(at + i + j + FLOOR_AHEAD);
            sum[j] ^= at[i + (size_t)j];
        }
    }
    return sum[0][0] ^ sum[1][1] ^ sum[2][2] ^ sum[3][3];
}

/* FLOOR_TURNS * FLOOR_CHAINS * 64 multiply-adds, where the processor has AVX-512 VNNI. */
static inline void floor_multiply(void)
{
#if defined(__x86_64__)
#define FLOOR_DOT(register) "vpdpbusd %%zmm15, %%zmm15, %%zmm" #register "\n"
    for (int t = 0; t < FLOOR_TURNS; t++)
        __asm__ volatile(FLOOR_DOT(0) FLOOR_DOT(1) FLOOR_DOT(2) FLOOR_DOT(3) FLOOR_DOT(4)
                             FLOOR_DOT(5) FLOOR_DOT(6) FLOOR_DOT(7) FLOOR_DOT(8) FLOOR_DOT(9)
                                 FLOOR_DOT(10) FLOOR_DOT(11)::
                                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
#undef FLOOR_DOT
#endif
}

#define FLOOR_OPS (2.0 * 64 * FLOOR_TURNS * FLOOR_CHAINS)
