#include "grid/agent_blocks.h"
#include "base/mem.h"

#define CAPACITY_FIRST 256u

void agent_blocks_init(struct agent_blocks *blocks)
{
    *blocks = (struct agent_blocks){.order = INDEX_LIST_INIT};
    sl_idmap_init(&blocks->index);
}

void agent_blocks_done(struct agent_blocks *blocks)
{
    sl_idmap_done(&blocks->index);
    sl_free(blocks->hashes);
    sl_free(blocks->links);
    agent_blocks_init(blocks);
}

/* The map points into the array, so all of it is noted anew where the array went. */
static sl_status grow(struct agent_blocks *blocks)
{
    uint32_t capacity = blocks->capacity ? blocks->capacity * 2 : CAPACITY_FIRST;
    if (blocks->n == AGENT_BLOCKS_MAX) return SL_LIMIT;
    uint64_t *hashes = sl_calloc(capacity, sizeof *hashes);
    struct index_link *links = sl_calloc(capacity, sizeof *links);
    if (!hashes || !links) {
        sl_free(hashes);
        sl_free(links);
        return SL_NOMEM;
    }
    for (uint32_t i = 0; i < blocks->n; i++) {
        hashes[i] = blocks->hashes[i];
        links[i] = blocks->links[i];
        /* Replacing a value needs no memory. */
        if (sl_idmap_put(&blocks->index, hashes[i], &hashes[i]) != SL_OK) continue;
    }
    sl_free(blocks->hashes);
    sl_free(blocks->links);
    blocks->hashes = hashes;
    blocks->links = links;
    blocks->capacity = capacity;
    return SL_OK;
}

sl_status agent_blocks_use(struct agent_blocks *blocks, uint64_t hash, bool *out_new)
{
    const uint64_t *known = sl_idmap_get(&blocks->index, hash);
    *out_new = !known;
    if (known) {
        uint32_t at = (uint32_t)(known - blocks->hashes);
        index_list_remove(&blocks->order, blocks->links, at);
        index_list_push(&blocks->order, blocks->links, at);
        return SL_OK;
    }
    sl_status status = blocks->n == blocks->capacity ? grow(blocks) : SL_OK;
    if (status != SL_OK) return status;
    status = sl_idmap_put(&blocks->index, hash, &blocks->hashes[blocks->n]);
    if (status != SL_OK) return status;
    blocks->hashes[blocks->n] = hash;
    index_list_push(&blocks->order, blocks->links, blocks->n++);
    return SL_OK;
}

/* The last element of the arrays takes the place of the one that goes. */
static void move_last(struct agent_blocks *blocks, uint32_t to)
{
    uint32_t from = --blocks->n;
    if (from == to) return;
    struct index_link link = blocks->links[from];
    blocks->hashes[to] = blocks->hashes[from];
    blocks->links[to] = link;
    if (link.prev == INDEX_NONE)
        blocks->order.head = to;
    else
        blocks->links[link.prev].next = to;
    if (link.next == INDEX_NONE)
        blocks->order.tail = to;
    else
        blocks->links[link.next].prev = to;
    /* Replacing a value needs no memory. */
    if (sl_idmap_put(&blocks->index, blocks->hashes[to], &blocks->hashes[to]) != SL_OK) return;
}

bool agent_blocks_drop(struct agent_blocks *blocks, uint64_t *out_hash)
{
    uint32_t oldest = blocks->order.head;
    if (oldest == INDEX_NONE) return false;
    *out_hash = blocks->hashes[oldest];
    index_list_remove(&blocks->order, blocks->links, oldest);
    sl_idmap_take(&blocks->index, *out_hash);
    move_last(blocks, oldest);
    return true;
}

bool agent_blocks_has(const struct agent_blocks *blocks, uint64_t hash)
{
    return sl_idmap_get(&blocks->index, hash) != NULL;
}

bool agent_blocks_next(struct agent_blocks *blocks, uint64_t *out_hash)
{
    if (!blocks->n) return false;
    if (blocks->cursor >= blocks->n) blocks->cursor = 0;
    *out_hash = blocks->hashes[blocks->cursor++];
    return true;
}
