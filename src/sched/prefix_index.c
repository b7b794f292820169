/* prefix_index.c: see prefix_index.h. Buckets of PREFIX_WAYS entries, chosen by the hash's low
 * bits; a block lies anywhere in its bucket. */
#include "sched/prefix_index.h"
#include "base/mem.h"
#include "sched/request_table.h"

#include <string.h>

#define HOLDER_NONE UINT16_MAX

struct prefix_entry {
    uint64_t hash; /* of a free entry 0 */
    uint32_t used; /* the index's clock when it was last added to; 0: free */
    uint16_t holders[PREFIX_HOLDERS_MAX];
};

sl_status prefix_index_init(struct prefix_index *index, uint32_t n_blocks)
{
    uint32_t n_buckets = power_of_two_from(n_blocks / PREFIX_WAYS + (n_blocks < PREFIX_WAYS));
    *index = (struct prefix_index){.n_buckets = n_buckets};
    index->entries = sl_calloc((size_t)n_buckets * PREFIX_WAYS, sizeof *index->entries);
    return index->entries ? SL_OK : SL_NOMEM;
}

void prefix_index_done(struct prefix_index *index)
{
    sl_free(index->entries);
    *index = (struct prefix_index){0};
}

static struct prefix_entry *bucket_of(const struct prefix_index *index, uint64_t hash)
{
    return &index->entries[(size_t)(mix_u64(hash) & (index->n_buckets - 1)) * PREFIX_WAYS];
}

static struct prefix_entry *entry_find(const struct prefix_index *index, uint64_t hash)
{
    struct prefix_entry *bucket = bucket_of(index, hash);
    for (int i = 0; i < PREFIX_WAYS; i++)
        if (bucket[i].used && bucket[i].hash == hash) return &bucket[i];
    return NULL;
}

static struct prefix_entry *entry_make(struct prefix_index *index, uint64_t hash)
{
    struct prefix_entry *bucket = bucket_of(index, hash), *oldest = bucket;
    for (int i = 1; i < PREFIX_WAYS; i++)
        if (bucket[i].used < oldest->used) oldest = &bucket[i];
    oldest->hash = hash;
    memset(oldest->holders, 0xff, sizeof oldest->holders);
    return oldest;
}

static int holder_find(const struct prefix_entry *entry, uint32_t node)
{
    for (int i = 0; i < PREFIX_HOLDERS_MAX && entry->holders[i] != HOLDER_NONE; i++)
        if (entry->holders[i] == node) return i;
    return -1;
}

/* Holders stand without gaps, the latest first. */
static void holder_remove(struct prefix_entry *entry, int at)
{
    size_t n_after = (size_t)(PREFIX_HOLDERS_MAX - 1 - at);
    memmove(&entry->holders[at], &entry->holders[at + 1], n_after * sizeof *entry->holders);
    entry->holders[PREFIX_HOLDERS_MAX - 1] = HOLDER_NONE;
    if (entry->holders[0] == HOLDER_NONE) *entry = (struct prefix_entry){0};
}

void prefix_index_add(struct prefix_index *index, uint64_t hash, uint32_t node)
{
    struct prefix_entry *entry = entry_find(index, hash);
    if (!entry) entry = entry_make(index, hash);
    /* When the clock comes round, the oldest is found wrongly for a while: no harm in a hint. */
    if (++index->clock == 0) index->clock = 1;
    entry->used = index->clock;
    int at = holder_find(entry, node);
    size_t n_before = (size_t)(at < 0 ? PREFIX_HOLDERS_MAX - 1 : at);
    memmove(&entry->holders[1], &entry->holders[0], n_before * sizeof *entry->holders);
    entry->holders[0] = (uint16_t)node;
}

void prefix_index_remove(struct prefix_index *index, uint64_t hash, uint32_t node)
{
    struct prefix_entry *entry = entry_find(index, hash);
    int at = entry ? holder_find(entry, node) : -1;
    if (at >= 0) holder_remove(entry, at);
}

void prefix_index_forget(struct prefix_index *index, uint32_t node)
{
    size_t n = (size_t)index->n_buckets * PREFIX_WAYS;
    for (size_t i = 0; i < n; i++) {
        struct prefix_entry *entry = &index->entries[i];
        int at = entry->used ? holder_find(entry, node) : -1;
        if (at >= 0) holder_remove(entry, at);
    }
}

static bool holds(const struct prefix_index *index, uint64_t hash, uint32_t node)
{
    const struct prefix_entry *entry = entry_find(index, hash);
    return entry && holder_find(entry, node) >= 0;
}

size_t prefix_index_match(const struct prefix_index *index, const uint64_t *hashes, size_t n,
                          uint32_t node)
{
    size_t held = 0, missing = n + 1; /* it holds the first `held`, not block number `missing` */
    while (missing - held > 1) {
        size_t middle = held + (missing - held) / 2;
        if (holds(index, hashes[middle - 1], node))
            held = middle;
        else
            missing = middle;
    }
    return held;
}

size_t prefix_index_holders(const struct prefix_index *index, const uint64_t *hashes, size_t n,
                            uint32_t out[PREFIX_HOLDERS_MAX])
{
    size_t known = 0, unknown = n + 1;
    while (unknown - known > 1) {
        size_t middle = known + (unknown - known) / 2;
        if (entry_find(index, hashes[middle - 1]))
            known = middle;
        else
            unknown = middle;
    }
    if (known == 0) return 0;
    const struct prefix_entry *entry = entry_find(index, hashes[known - 1]);
    size_t n_holders = 0;
    while (n_holders < PREFIX_HOLDERS_MAX && entry->holders[n_holders] != HOLDER_NONE) {
        out[n_holders] = entry->holders[n_holders];
        n_holders++;
    }
    return n_holders;
}
