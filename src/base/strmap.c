/* strmap.c: linear probing over 16-byte slots. */
#include "base/strmap.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/mem.h"

#include <string.h>

#define SLOTS_FIRST 16

static sl_status alloc_slots(struct sl_strmap *map, size_t n_slots)
{
    map->slots = sl_calloc(n_slots, sizeof *map->slots);
    if (!map->slots) return SL_NOMEM;
    map->n_slots = n_slots;
    return SL_OK;
}

sl_status sl_strmap_init(struct sl_strmap *map, size_t n_expected)
{
    *map = (struct sl_strmap){.seed = sl_hash_seed()};
    if (n_expected == 0) return SL_OK;
    size_t n_slots = SLOTS_FIRST;
    while (n_slots / 2 < n_expected) {
        if (!sl_mul_size(n_slots, 2, &n_slots)) return SL_NOMEM;
    }
    return alloc_slots(map, n_slots);
}

void sl_strmap_done(struct sl_strmap *map)
{
    sl_free(map->slots);
    *map = (struct sl_strmap){.seed = map->seed};
}

/* The slot that holds the key, or the free one where it belongs. Ends because half the slots are
 * free. */
static struct sl_strmap_entry *find(const struct sl_strmap *map, const char *key, uint32_t len)
{
    size_t mask = map->n_slots - 1;
    for (size_t i = sl_hash64(key, len, map->seed) & mask;; i = (i + 1) & mask) {
        struct sl_strmap_entry *slot = &map->slots[i];
        if (!slot->key) return slot;
        if (slot->len == len && memcmp(slot->key, key, len) == 0) return slot;
    }
}

static sl_status grow(struct sl_strmap *map)
{
    struct sl_strmap bigger = *map;
    size_t n_slots = SLOTS_FIRST;
    if (map->n_slots && !sl_mul_size(map->n_slots, 2, &n_slots)) return SL_NOMEM;
    sl_status status = alloc_slots(&bigger, n_slots);
    if (status != SL_OK) return status;
    for (size_t i = 0; i < map->n_slots; i++) {
        const struct sl_strmap_entry *slot = &map->slots[i];
        if (slot->key) *find(&bigger, slot->key, slot->len) = *slot;
    }
    sl_free(map->slots);
    *map = bigger;
    return SL_OK;
}

sl_status sl_strmap_put(struct sl_strmap *map, const char *key, size_t len, int32_t value)
{
    if (len > UINT32_MAX) return SL_LIMIT;
    if (!key) key = ""; /* an empty key may come as NULL, which marks a free slot here */
    if (map->n_entries >= map->n_slots / 2) {
        sl_status status = grow(map);
        if (status != SL_OK) return status;
    }
    struct sl_strmap_entry *slot = find(map, key, (uint32_t)len);
    if (slot->key) {
        slot->value = value;
        return SL_OK;
    }
    *slot = (struct sl_strmap_entry){.key = key, .len = (uint32_t)len, .value = value};
    map->n_entries++;
    return SL_OK;
}

int32_t sl_strmap_get(const struct sl_strmap *map, const char *key, size_t len, int32_t absent)
{
    if (map->n_slots == 0 || len > UINT32_MAX) return absent;
    const struct sl_strmap_entry *slot = find(map, key ? key : "", (uint32_t)len);
    return slot->key ? slot->value : absent;
}
