/* sim_cache.c: see sim_cache.h. */
#include "sched/sim_cache.h"
#include "base/mem.h"
#include "sched/request_table.h"

sl_status sim_cache_init(struct sim_cache *cache, uint32_t capacity)
{
    *cache = (struct sim_cache){.capacity = capacity, .n_chains = power_of_two_from(capacity + 1)};
    cache->blocks = sl_calloc(capacity, sizeof *cache->blocks);
    cache->links = sl_calloc(capacity, sizeof *cache->links);
    cache->chains = sl_calloc(cache->n_chains, sizeof *cache->chains);
    size_t n_news = capacity ? SIM_CACHE_NEWS_MAX : 0;
    cache->held.hashes = sl_calloc(n_news, sizeof *cache->held.hashes);
    cache->dropped.hashes = sl_calloc(n_news, sizeof *cache->dropped.hashes);
    if (!cache->blocks || !cache->links || !cache->chains || !cache->held.hashes ||
        !cache->dropped.hashes) {
        sim_cache_done(cache);
        return SL_NOMEM;
    }
    sim_cache_clear(cache);
    return SL_OK;
}

void sim_cache_done(struct sim_cache *cache)
{
    sl_free(cache->blocks);
    sl_free(cache->links);
    sl_free(cache->chains);
    sl_free(cache->held.hashes);
    sl_free(cache->dropped.hashes);
    *cache = (struct sim_cache){0};
}

void sim_cache_clear(struct sim_cache *cache)
{
    for (uint32_t i = 0; i < cache->n_chains; i++) cache->chains[i] = INDEX_NONE;
    cache->by_use = (struct index_list)INDEX_LIST_INIT;
    cache->n_used = cache->held.n = cache->dropped.n = 0;
}

static uint32_t *chain_of(const struct sim_cache *cache, uint64_t hash)
{
    return &cache->chains[mix_u64(hash) & (cache->n_chains - 1)];
}

static uint32_t block_find(const struct sim_cache *cache, uint64_t hash)
{
    uint32_t i = *chain_of(cache, hash);
    while (i != INDEX_NONE && cache->blocks[i].hash != hash) i = cache->blocks[i].chain_next;
    return i;
}

static void news_add(struct sim_cache_news *news, uint64_t hash)
{
    if (news->n < SIM_CACHE_NEWS_MAX) news->hashes[news->n++] = hash;
}

/* Drops the least recently used and returns its place. */
static uint32_t drop_oldest(struct sim_cache *cache)
{
    uint32_t i = cache->by_use.head, *at = chain_of(cache, cache->blocks[i].hash);
    while (*at != i) at = &cache->blocks[*at].chain_next;
    *at = cache->blocks[i].chain_next;
    index_list_remove(&cache->by_use, cache->links, i);
    news_add(&cache->dropped, cache->blocks[i].hash);
    return i;
}

size_t sim_cache_match(const struct sim_cache *cache, const uint64_t *hashes, size_t n)
{
    size_t i = 0;
    while (i < n && cache->capacity && block_find(cache, hashes[i]) != INDEX_NONE) i++;
    return i;
}

static void block_use(struct sim_cache *cache, uint64_t hash)
{
    uint32_t i = block_find(cache, hash);
    if (i != INDEX_NONE) {
        index_list_remove(&cache->by_use, cache->links, i);
        index_list_push(&cache->by_use, cache->links, i);
        return;
    }
    i = cache->n_used < cache->capacity ? cache->n_used++ : drop_oldest(cache);
    uint32_t *chain = chain_of(cache, hash);
    cache->blocks[i] = (struct sim_cache_block){.hash = hash, .chain_next = *chain};
    *chain = i;
    index_list_push(&cache->by_use, cache->links, i);
    news_add(&cache->held, hash);
}

void sim_cache_use(struct sim_cache *cache, const uint64_t *hashes, size_t n)
{
    if (n > cache->capacity) n = cache->capacity;
    for (size_t i = n; i > 0; i--) block_use(cache, hashes[i - 1]);
}
