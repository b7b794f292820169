/* sim_cache.h: which blocks of prompts a simulated node has in its KV cache: the least recently
 * used go first.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Invariant: of one prompt the later blocks are older than the earlier ones, so that what
 * remains of it is its beginning. */
#pragma once
#include "sched/index_list.h"
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

#define SIM_CACHE_NEWS_MAX 4096 /* between two reports; what is more, gateways never learn */

struct sim_cache_block {
    uint64_t hash;
    uint32_t chain_next;
};

/* Blocks that came or went since the last report. */
struct sim_cache_news {
    uint64_t *hashes;
    uint32_t n;
};

struct sim_cache {
    struct sim_cache_block *blocks;
    struct index_link *links;
    struct index_list by_use; /* the least recently used first */
    uint32_t *chains;
    uint32_t n_chains, capacity, n_used;
    struct sim_cache_news held, dropped;
};

/* capacity 0: a cache that never holds anything. NOMEM. */
SL_CHECK sl_status sim_cache_init(struct sim_cache *cache, uint32_t capacity);
void sim_cache_done(struct sim_cache *cache); /* fine for a zeroed one */
void sim_cache_clear(struct sim_cache *cache);

/* How many of the first blocks it has. */
size_t sim_cache_match(const struct sim_cache *cache, const uint64_t *hashes, size_t n);
/* They were computed or used just now. */
void sim_cache_use(struct sim_cache *cache, const uint64_t *hashes, size_t n);
