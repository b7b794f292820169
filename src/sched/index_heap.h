/* index_heap.h: the least of many keys, for items numbered 0 to capacity - 1: timers and deadlines.
 * A binary heap that knows where each item stands, so that one can be moved or taken out.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Invariant: an item is in the heap at most once. set and remove cost O(log n), min O(1). */
#pragma once
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct index_heap_entry {
    int64_t key;
    uint32_t item;
};

struct index_heap {
    struct index_heap_entry *entries;
    uint32_t *positions; /* by item: its place in entries, or INDEX_HEAP_ABSENT */
    uint32_t len, capacity;
};

#define INDEX_HEAP_ABSENT UINT32_MAX

SL_CHECK sl_status index_heap_init(struct index_heap *heap, uint32_t capacity); /* NOMEM */
void index_heap_done(struct index_heap *heap); /* fine for a zeroed one */

void index_heap_set(struct index_heap *heap, uint32_t item, int64_t key); /* puts in or moves */
void index_heap_remove(struct index_heap *heap, uint32_t item);           /* absent is fine */

/* The item with the least key; of equals, the least item. False when empty. */
bool index_heap_min(const struct index_heap *heap, uint32_t *out_item, int64_t *out_key);
