/* arena.h: memory that lives as long as one request or one load; freed all at once.
 * Floor: base.  Thread: the caller's.  Allocates: chunks; hands out at most max_bytes in all. */
#pragma once
#include <stddef.h>

struct sl_arena_chunk;
struct sl_arena {
    struct sl_arena_chunk *head;
    size_t used_bytes; /* handed out, alignment included */
    size_t max_bytes;
};

void sl_arena_init(struct sl_arena *arena, size_t max_bytes);
void sl_arena_done(struct sl_arena *arena);
void sl_arena_reset(struct sl_arena *arena); /* forgets all, keeps one chunk */

/* 16-byte aligned, zeroed; NULL past max_bytes or without memory. */
void *sl_arena_alloc(struct sl_arena *arena, size_t n_bytes);

/* The same, not zeroed: for large things that are filled at once. */
void *sl_arena_alloc_unset(struct sl_arena *arena, size_t n_bytes);

/* count times size bytes; NULL on overflow too. */
void *sl_arena_array(struct sl_arena *arena, size_t count, size_t size);

/* NUL-ended copy of s[0..n). */
char *sl_arena_strndup(struct sl_arena *arena, const char *s, size_t n);
