/* index_heap.c: see index_heap.h. */
#include "sched/index_heap.h"
#include "base/mem.h"

#include <assert.h>

static bool entry_before(struct index_heap_entry a, struct index_heap_entry b)
{
    return a.key < b.key || (a.key == b.key && a.item < b.item);
}

static void place(struct index_heap *heap, uint32_t position, struct index_heap_entry entry)
{
    heap->entries[position] = entry;
    heap->positions[entry.item] = position;
}

static void sift_up(struct index_heap *heap, uint32_t position)
{
    struct index_heap_entry entry = heap->entries[position];
    while (position > 0) {
        uint32_t parent = (position - 1) / 2;
        if (!entry_before(entry, heap->entries[parent])) break;
        place(heap, position, heap->entries[parent]);
        position = parent;
    }
    place(heap, position, entry);
}

static void sift_down(struct index_heap *heap, uint32_t position)
{
    struct index_heap_entry entry = heap->entries[position];
    for (;;) {
        uint32_t child = 2 * position + 1;
        if (child >= heap->len) break;
        if (child + 1 < heap->len && entry_before(heap->entries[child + 1], heap->entries[child]))
            child++;
        if (!entry_before(heap->entries[child], entry)) break;
        place(heap, position, heap->entries[child]);
        position = child;
    }
    place(heap, position, entry);
}

sl_status index_heap_init(struct index_heap *heap, uint32_t capacity)
{
    *heap = (struct index_heap){.capacity = capacity};
    heap->entries = sl_calloc(capacity, sizeof *heap->entries);
    heap->positions = sl_calloc(capacity, sizeof *heap->positions);
    if (!heap->entries || !heap->positions) {
        index_heap_done(heap);
        return SL_NOMEM;
    }
    for (uint32_t i = 0; i < capacity; i++) heap->positions[i] = INDEX_HEAP_ABSENT;
    return SL_OK;
}

void index_heap_done(struct index_heap *heap)
{
    sl_free(heap->entries);
    sl_free(heap->positions);
    *heap = (struct index_heap){0};
}

void index_heap_set(struct index_heap *heap, uint32_t item, int64_t key)
{
    assert(item < heap->capacity);
    uint32_t position = heap->positions[item];
    if (position == INDEX_HEAP_ABSENT) position = heap->len++;
    place(heap, position, (struct index_heap_entry){key, item});
    sift_up(heap, position);
    sift_down(heap, heap->positions[item]);
}

void index_heap_remove(struct index_heap *heap, uint32_t item)
{
    assert(item < heap->capacity);
    uint32_t position = heap->positions[item];
    if (position == INDEX_HEAP_ABSENT) return;
    heap->positions[item] = INDEX_HEAP_ABSENT;
    heap->len--;
    if (position == heap->len) return;
    struct index_heap_entry moved = heap->entries[heap->len];
    place(heap, position, moved);
    sift_up(heap, position);
    sift_down(heap, heap->positions[moved.item]);
}

bool index_heap_min(const struct index_heap *heap, uint32_t *out_item, int64_t *out_key)
{
    if (heap->len == 0) return false;
    *out_item = heap->entries[0].item;
    *out_key = heap->entries[0].key;
    return true;
}
