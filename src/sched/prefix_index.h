/* prefix_index.h: which nodes hold which blocks of prompts in their KV caches, as far as we
 * know: a bounded set of block hashes with a few holders each.
 * A block's hash covers the model and all tokens from the prompt's beginning to the block's end,
 * so that equal hashes mean equal prefixes and a node that holds a block holds all before it.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Invariant: it is a hint: what is pushed out or never reported is missing, and two blocks may
 * share 64 bits of hash; a wrong hint costs a prompt's computation and nothing else. */
#pragma once
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFIX_HOLDERS_MAX 8 /* a block that more nodes have is common enough to find anyway */
#define PREFIX_WAYS 8        /* places a block may lie in; the oldest of them gives way */
#define PREFIX_BLOCKS_LIMIT (1u << 24)
#define PREFIX_NODES_LIMIT 65535 /* a holder is 16 bits */

struct prefix_entry;

struct prefix_index {
    struct prefix_entry *entries;
    uint32_t n_buckets; /* power of two */
    uint32_t clock;     /* of use, for the oldest */
};

/* Room for about n_blocks, at least PREFIX_WAYS; 32 bytes each. NOMEM. */
SL_CHECK sl_status prefix_index_init(struct prefix_index *index, uint32_t n_blocks);
void prefix_index_done(struct prefix_index *index); /* fine for a zeroed one */

/* The node holds the block, or no longer does. Of more than PREFIX_HOLDERS_MAX holders the one
 * noted first is forgotten. */
void prefix_index_add(struct prefix_index *index, uint64_t hash, uint32_t node);
void prefix_index_remove(struct prefix_index *index, uint64_t hash, uint32_t node);
/* The node's cache is gone. Walks the whole index: for deaths, not for every report. */
void prefix_index_forget(struct prefix_index *index, uint32_t node);

/* How many blocks from the first on the node holds: by bisection, since holding one means holding
 * those before it. */
size_t prefix_index_match(const struct prefix_index *index, const uint64_t *hashes, size_t n,
                          uint32_t node);

/* The holders of the longest known beginning. Returns how many, at most PREFIX_HOLDERS_MAX. */
size_t prefix_index_holders(const struct prefix_index *index, const uint64_t *hashes, size_t n,
                            uint32_t out[PREFIX_HOLDERS_MAX]);
