/* arena.c: a list of chunks, each twice as large as the one before up to a bound. The head is the
 * one being filled; a request too large for it gets a chunk of its own behind the head, so that the
 * head's rest is not lost. */
#include "base/arena.h"

#include "base/checked.h"
#include "base/mem.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define ALIGN 16              /* what SSE and NEON loads want, and malloc gives */
#define CHUNK_FIRST 4096      /* a request's small strings fit into one page */
#define CHUNK_LARGEST 1048576 /* past this, doubling only wastes the last chunk's rest */

struct sl_arena_chunk {
    alignas(ALIGN) struct sl_arena_chunk *next;
    size_t cap;
    size_t used;
    alignas(ALIGN) unsigned char bytes[];
};

void sl_arena_init(struct sl_arena *arena, size_t max_bytes)
{
    *arena = (struct sl_arena){.max_bytes = max_bytes};
}

static void free_chunks(struct sl_arena_chunk *chunk)
{
    while (chunk) {
        struct sl_arena_chunk *next = chunk->next;
        sl_free(chunk);
        chunk = next;
    }
}

void sl_arena_done(struct sl_arena *arena)
{
    free_chunks(arena->head);
    sl_arena_init(arena, arena->max_bytes);
}

void sl_arena_reset(struct sl_arena *arena)
{
    arena->used_bytes = 0;
    if (!arena->head) return;
    free_chunks(arena->head->next);
    arena->head->next = NULL;
    arena->head->used = 0;
}

static struct sl_arena_chunk *chunk_create(size_t cap)
{
    size_t n_bytes;
    if (!sl_add_size(sizeof(struct sl_arena_chunk), cap, &n_bytes)) return NULL;
    struct sl_arena_chunk *chunk = sl_malloc(n_bytes);
    if (chunk) *chunk = (struct sl_arena_chunk){.cap = cap};
    return chunk;
}

static size_t next_cap(const struct sl_arena *arena)
{
    size_t cap = arena->head ? arena->head->cap : CHUNK_FIRST / 2;
    return cap >= CHUNK_LARGEST / 2 ? CHUNK_LARGEST : cap * 2;
}

/* A chunk with n_bytes free: the head, a new head, or one of its own behind the head. */
static struct sl_arena_chunk *chunk_with_room(struct sl_arena *arena, size_t n_bytes)
{
    struct sl_arena_chunk *head = arena->head;
    if (head && n_bytes <= head->cap - head->used) return head;

    size_t cap = next_cap(arena);
    size_t left = arena->max_bytes - arena->used_bytes;
    if (cap > left) cap = left;
    bool own = head && n_bytes > cap / 2;
    if (own || cap < n_bytes) cap = n_bytes;

    struct sl_arena_chunk *chunk = chunk_create(cap);
    if (!chunk) return NULL;
    if (own) {
        chunk->next = head->next;
        head->next = chunk;
    } else {
        chunk->next = head;
        arena->head = chunk;
    }
    return chunk;
}

void *sl_arena_alloc_unset(struct sl_arena *arena, size_t n_bytes)
{
    size_t n;
    if (!sl_align_size(n_bytes ? n_bytes : 1, ALIGN, &n)) return NULL;
    if (n > arena->max_bytes - arena->used_bytes) return NULL;
    struct sl_arena_chunk *chunk = chunk_with_room(arena, n);
    if (!chunk) return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += n;
    arena->used_bytes += n;
    return p;
}

void *sl_arena_alloc(struct sl_arena *arena, size_t n_bytes)
{
    void *p = sl_arena_alloc_unset(arena, n_bytes);
    return p ? memset(p, 0, n_bytes) : NULL;
}

void *sl_arena_array(struct sl_arena *arena, size_t count, size_t size)
{
    size_t n_bytes;
    return sl_mul_size(count, size, &n_bytes) ? sl_arena_alloc(arena, n_bytes) : NULL;
}

char *sl_arena_strndup(struct sl_arena *arena, const char *s, size_t n)
{
    size_t with_nul;
    if (!sl_add_size(n, 1, &with_nul)) return NULL;
    char *copy = sl_arena_alloc(arena, with_nul);
    if (copy && n) memcpy(copy, s, n);
    return copy;
}
