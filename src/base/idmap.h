/* idmap.h: open-addressing map from 64-bit ids to pointers.
 * Floor: base.  Thread: the caller's.  Allocates: the table, on growth only.
 * Invariant: load factor at most 1/2, no tombstones: a removal moves later entries of its run back,
 * so lookups stay short however many ids have come and gone. */
#pragma once
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct sl_idmap_slot {
    uint64_t id;
    void *value; /* NULL: free */
};
struct sl_idmap {
    struct sl_idmap_slot *slots;
    size_t n_slots; /* power of two, or 0 */
    size_t n_entries;
};

void sl_idmap_init(struct sl_idmap *map);
void sl_idmap_done(struct sl_idmap *map); /* values are the caller's */

/* Adds the id or replaces its value, which is not NULL. NOMEM: the map is as before. */
SL_CHECK sl_status sl_idmap_put(struct sl_idmap *map, uint64_t id, void *value);
void *sl_idmap_get(const struct sl_idmap *map, uint64_t id); /* NULL: absent */
void *sl_idmap_take(struct sl_idmap *map, uint64_t id);      /* removes; NULL: absent */

/* Entries in no order: start with *at 0; NULL after the last. The map must not change meanwhile. */
void *sl_idmap_next(const struct sl_idmap *map, size_t *at);
