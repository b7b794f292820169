/* mem.c: malloc with a count of what is alive and a fault that tests can order. */
#include "base/mem.h"

#include "base/checked.h"

#include <stdatomic.h>
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>

#define KEEP_BUFFER_BYTES (32 << 20) /* larger ones come from the kernel; glibc's own limit */
#define KEEP_BYTES (64 << 20)

static _Atomic uint64_t n_live;

/* The fault is off while fault_nth is 0, so that production pays one relaxed load for it. */
static _Atomic uint64_t fault_nth;
static _Atomic uint64_t fault_seen;
static atomic_bool fault_forever;
static atomic_bool fault_hit;

static bool fault_due(void)
{
    uint64_t nth = atomic_load_explicit(&fault_nth, memory_order_relaxed);
    if (__builtin_expect(nth == 0, 1)) return false;
    uint64_t seen = atomic_fetch_add(&fault_seen, 1) + 1;
    bool due = seen == nth || (seen > nth && atomic_load(&fault_forever));
    if (due) atomic_store(&fault_hit, true);
    return due;
}

static void *counted(void *p)
{
    if (p) atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    return p;
}

/* malloc(0) may return NULL, which callers would take for a failure. */
static size_t at_least_one(size_t n_bytes)
{
    return n_bytes ? n_bytes : 1;
}

void *sl_malloc(size_t n_bytes)
{
    if (fault_due()) return NULL;
    return counted(malloc(at_least_one(n_bytes)));
}

void *sl_calloc(size_t count, size_t size)
{
    size_t n_bytes;
    if (!sl_mul_size(count, size, &n_bytes) || fault_due()) return NULL;
    return counted(calloc(at_least_one(n_bytes), 1));
}

void *sl_realloc(void *p, size_t n_bytes)
{
    if (fault_due()) return NULL;
    if (!p) return counted(malloc(at_least_one(n_bytes)));
    return realloc(p, at_least_one(n_bytes));
}

void *sl_realloc_array(void *p, size_t count, size_t size)
{
    size_t n_bytes;
    return sl_mul_size(count, size, &n_bytes) ? sl_realloc(p, n_bytes) : NULL;
}

void sl_free(void *p)
{
    if (!p) return;
    atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    free(p);
}

char *sl_memdup(const void *p, size_t n_bytes)
{
    size_t with_nul;
    if (!sl_add_size(n_bytes, 1, &with_nul)) return NULL;
    char *copy = sl_malloc(with_nul);
    if (!copy) return NULL;
    if (n_bytes) memcpy(copy, p, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

char *sl_strdup(const char *s)
{
    return sl_memdup(s, strlen(s));
}

void sl_mem_fail_at(uint64_t nth, bool forever)
{
    atomic_store(&fault_nth, 0); /* off while the rest changes */
    atomic_store(&fault_seen, 0);
    atomic_store(&fault_forever, forever);
    atomic_store(&fault_hit, false);
    atomic_store(&fault_nth, nth);
}

bool sl_mem_fail_hit(void)
{
    return atomic_load(&fault_hit);
}

uint64_t sl_mem_live(void)
{
    return atomic_load_explicit(&n_live, memory_order_relaxed);
}

void sl_mem_keep_buffers(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, KEEP_BUFFER_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
#endif
}
