#include "base/idmap.h"
#include "base/mem.h"
#include <assert.h>

#define N_SLOTS_MIN 16

void sl_idmap_init(struct sl_idmap *map)
{
    *map = (struct sl_idmap){NULL, 0, 0};
}

void sl_idmap_done(struct sl_idmap *map)
{
    sl_free(map->slots);
    sl_idmap_init(map);
}

/* Ids are mostly consecutive numbers: a multiplicative hash spreads them (Knuth, TAOCP 3, 6.4). */
static size_t home_of(const struct sl_idmap *map, uint64_t id)
{
    return (size_t)((id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (map->n_slots - 1);
}

/* The id's slot, or the free one where it belongs. */
static struct sl_idmap_slot *find(const struct sl_idmap *map, uint64_t id)
{
    size_t i = home_of(map, id);
    while (map->slots[i].value && map->slots[i].id != id) i = (i + 1) & (map->n_slots - 1);
    return &map->slots[i];
}

static sl_status grow(struct sl_idmap *map)
{
    struct sl_idmap bigger = {.n_slots = map->n_slots ? 2 * map->n_slots : N_SLOTS_MIN};
    bigger.slots = sl_calloc(bigger.n_slots, sizeof *bigger.slots);
    if (!bigger.slots) return SL_NOMEM;
    for (size_t i = 0; i < map->n_slots; i++)
        if (map->slots[i].value) *find(&bigger, map->slots[i].id) = map->slots[i];
    bigger.n_entries = map->n_entries;
    sl_free(map->slots);
    *map = bigger;
    return SL_OK;
}

sl_status sl_idmap_put(struct sl_idmap *map, uint64_t id, void *value)
{
    assert(value);
    if (2 * (map->n_entries + 1) > map->n_slots) {
        sl_status status = grow(map);
        if (status != SL_OK) return status;
    }
    struct sl_idmap_slot *slot = find(map, id);
    if (!slot->value) map->n_entries++;
    *slot = (struct sl_idmap_slot){id, value};
    return SL_OK;
}

void *sl_idmap_get(const struct sl_idmap *map, uint64_t id)
{
    return map->n_slots ? find(map, id)->value : NULL;
}

void *sl_idmap_take(struct sl_idmap *map, uint64_t id)
{
    struct sl_idmap_slot *hole = map->n_slots ? find(map, id) : NULL;
    size_t mask = map->n_slots - 1;
    if (!hole || !hole->value) return NULL;
    void *value = hole->value;
    map->n_entries--;
    size_t h = (size_t)(hole - map->slots);
    for (size_t i = (h + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        /* An entry may fill the hole unless its home lies after the hole, within (h, i]. */
        size_t home = home_of(map, map->slots[i].id);
        if (((i - home) & mask) < ((i - h) & mask)) continue;
        map->slots[h] = map->slots[i];
        h = i;
    }
    map->slots[h].value = NULL;
    return value;
}

void *sl_idmap_next(const struct sl_idmap *map, size_t *at)
{
    while (*at < map->n_slots) {
        void *value = map->slots[(*at)++].value;
        if (value) return value;
    }
    return NULL;
}
