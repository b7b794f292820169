/* tokenizer_merge.c: the merge loop that both kinds share, and the map of integer pairs. */
#include "base/hash.h"
#include "base/mem.h"
#include "exec/llm/tokenizer_int.h"

#define PAIR_FREE UINT32_MAX
#define MERGER_SYMBOLS_MIN 64 /* most words are shorter, so one allocation serves a whole text */

sl_status pair_map_init(struct pair_map *map, size_t n_expected)
{
    size_t n_slots = 8;
    while (n_slots / 2 < n_expected) n_slots *= 2;
    map->slots = sl_malloc(n_slots * sizeof *map->slots);
    if (!map->slots) return SL_NOMEM;
    for (size_t i = 0; i < n_slots; i++) map->slots[i].left = PAIR_FREE;
    map->n_slots = n_slots;
    map->seed = sl_hash_seed();
    return SL_OK;
}

void pair_map_done(struct pair_map *map)
{
    sl_free(map->slots);
    *map = (struct pair_map){0};
}

/* The slot that holds the key, or the free one where it belongs. Multiplying by an odd constant
 * spreads the low bits to the high ones (Fibonacci hashing, Knuth vol. 3, 6.4), and folding
 * brings them back. */
static struct pair_entry *pair_slot(const struct pair_map *map, uint32_t left, uint32_t right)
{
    uint64_t h = (((uint64_t)left << 32 | right) ^ map->seed) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    for (size_t i = (size_t)(h ^ h >> 32);; i++) {
        struct pair_entry *slot = &map->slots[i & (map->n_slots - 1)];
        if (slot->left == PAIR_FREE || (slot->left == left && slot->right == right)) return slot;
    }
}

void pair_map_put(struct pair_map *map, const struct pair_entry *entry)
{
    struct pair_entry *slot = pair_slot(map, entry->left, entry->right);
    if (slot->left == PAIR_FREE) *slot = *entry;
}

const struct pair_entry *pair_map_get(const struct pair_map *map, uint32_t left, uint32_t right)
{
    if (map->n_slots == 0) return NULL;
    const struct pair_entry *slot = pair_slot(map, left, right);
    return slot->left == PAIR_FREE ? NULL : slot;
}

void merger_done(struct merger *m)
{
    sl_free(m->symbols);
    sl_free(m->heap);
    *m = (struct merger){0};
}

sl_status merger_begin(struct merger *m, size_t n_symbols_max)
{
    size_t want = n_symbols_max < MERGER_SYMBOLS_MIN ? MERGER_SYMBOLS_MIN : n_symbols_max;
    m->n_symbols = 0;
    m->n_heap = 0;
    if (want > m->symbols_cap) {
        struct symbol *symbols = sl_realloc_array(m->symbols, want, sizeof *symbols);
        if (!symbols) return SL_NOMEM;
        m->symbols = symbols;
        m->symbols_cap = want;
    }
    /* n symbols give n - 1 candidates; each of at most n - 1 joins takes one and adds at most
     * two. */
    if (2 * want > m->heap_cap) {
        struct merge_candidate *heap = sl_realloc_array(m->heap, 2 * want, sizeof *heap);
        if (!heap) return SL_NOMEM;
        m->heap = heap;
        m->heap_cap = 2 * want;
    }
    return SL_OK;
}

void merger_add(struct merger *m, uint32_t at, uint32_t len, int32_t id)
{
    int32_t i = (int32_t)m->n_symbols++;
    if (i > 0) m->symbols[i - 1].next = i;
    m->symbols[i] = (struct symbol){.prev = i - 1, .next = -1, .at = at, .len = len, .id = id};
}

static void heap_push(struct merger *m, struct merge_candidate c)
{
    size_t i = m->n_heap++;
    while (i > 0 && c.key < m->heap[(i - 1) / 2].key) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = c;
}

static struct merge_candidate heap_pop(struct merger *m)
{
    struct merge_candidate top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->n_heap) break;
        if (child + 1 < m->n_heap && m->heap[child + 1].key < m->heap[child].key) child++;
        if (last.key <= m->heap[child].key) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

struct merge_source {
    const struct tokenizer *tok;
    const char *text;
    merge_find_fn *find;
};

static void consider(struct merger *m, const struct merge_source *source, int32_t left)
{
    if (left < 0 || m->symbols[left].next < 0) return;
    const struct symbol *l = &m->symbols[left], *r = &m->symbols[l->next];
    struct pair_entry found;
    if (!source->find(source->tok, source->text, l, r, &found)) return;
    heap_push(m, (struct merge_candidate){.key = (uint64_t)found.order << 32 | (uint32_t)left,
                                          .len = l->len + r->len,
                                          .id = found.id});
}

void merger_run(struct merger *m, const struct tokenizer *tok, const char *text,
                merge_find_fn *find)
{
    struct merge_source source = {tok, text, find};
    for (size_t i = 0; i + 1 < m->n_symbols; i++) consider(m, &source, (int32_t)i);
    while (m->n_heap > 0) {
        struct merge_candidate c = heap_pop(m);
        int32_t left = (int32_t)(uint32_t)c.key;
        struct symbol *l = &m->symbols[left];
        /* Symbols only grow, to the right, and end with length 0: an outdated pair never has its
         * old length again. */
        if (l->len == 0 || l->next < 0 || l->len + m->symbols[l->next].len != c.len) continue;
        struct symbol *r = &m->symbols[l->next];
        l->len = c.len;
        l->id = c.id;
        l->next = r->next;
        r->len = 0;
        if (l->next >= 0) m->symbols[l->next].prev = left;
        consider(m, &source, l->prev);
        consider(m, &source, left);
    }
}
