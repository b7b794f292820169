/* strmap.h: open-addressing map from byte strings to int32; made for vocabularies of 100,000s of
 * entries. After the load it is only read.
 * Floor: base.  Thread: one writer; any number of readers once built.  Allocates: the table only.
 * Invariant: keys are borrowed: their bytes must outlive the map. Load factor at most 1/2, so a
 * miss is short. */
#pragma once
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct sl_strmap_entry {
    const char *key; /* NULL: free slot */
    uint32_t len;
    int32_t value;
};
struct sl_strmap {
    struct sl_strmap_entry *slots;
    size_t n_slots; /* power of two, or 0 */
    size_t n_entries;
    uint64_t seed;
};

SL_CHECK sl_status sl_strmap_init(struct sl_strmap *map, size_t n_expected); /* NOMEM */
void sl_strmap_done(struct sl_strmap *map);

/* Adds the key or replaces its value; grows. On NOMEM, or LIMIT for a key of 4 GiB, the
 * map is as before. */
SL_CHECK sl_status sl_strmap_put(struct sl_strmap *map, const char *key, size_t len, int32_t value);
int32_t sl_strmap_get(const struct sl_strmap *map, const char *key, size_t len, int32_t absent);
