/* mem.h: every allocation goes through here, so that tests can make the n-th one fail.
 * Floor: base.  Thread: any (the counters are atomic).
 * Invariant: a failed allocation returns NULL and nobody aborts; sizes are checked for overflow;
 * zero bytes give a valid pointer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *sl_malloc(size_t n_bytes) __attribute__((malloc));
void *sl_calloc(size_t count, size_t size) __attribute__((malloc)); /* zeroed */
void *sl_realloc(void *p, size_t n_bytes);
void *sl_realloc_array(void *p, size_t count, size_t size); /* NULL on overflow, p untouched */
void sl_free(void *p);                                      /* NULL is fine */
char *sl_strdup(const char *s);
char *sl_memdup(const void *p, size_t n_bytes); /* adds a NUL after n_bytes */

/* For a process that takes large buffers again and again: those it frees stay with it, 64 MiB of
 * them at most, instead of going back to the kernel, which would clear every page anew for the next
 * one: a request with a tensor of 2 MB passes through half a dozen such buffers. With another C
 * library than glibc it does nothing. */
void sl_mem_keep_buffers(void);

/* Fault injection for tests: allocation number `nth` from now (1 = the next) fails, and with
 * `forever` all after it. nth 0 switches it off. */
void sl_mem_fail_at(uint64_t nth, bool forever);
bool sl_mem_fail_hit(void); /* did the injected fault happen since it was set? */
uint64_t sl_mem_live(void); /* allocations not yet freed: tests compare before and after */
