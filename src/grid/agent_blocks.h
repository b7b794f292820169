/* agent_blocks.h: which blocks of prompts one model's KV cache holds, as far as can be told from
 * outside: those that were used last, as many as fit.
 * Floor: grid.  Thread: one.  Allocates: on use, up to AGENT_BLOCKS_MAX entries of 40 bytes.
 * Invariant: the same hash is there once; what is dropped is what was not used for the longest. */
#pragma once
#include "base/idmap.h"
#include "sched/index_list.h"
#include <stdbool.h>

#define AGENT_BLOCKS_MAX 65536 /* of one model: a million tokens in blocks of 16 */

struct agent_blocks {
    struct sl_idmap index;    /* hash to &hashes[its number] */
    uint64_t *hashes;         /* [capacity] */
    struct index_link *links; /* [capacity] */
    struct index_list order;  /* the one used last at the tail */
    uint32_t n, capacity;
    uint32_t cursor; /* of agent_blocks_next */
};

/* Empty; done frees the blocks and leaves it empty again. */
void agent_blocks_init(struct agent_blocks *blocks);
void agent_blocks_done(struct agent_blocks *blocks);

/* Notes that the block was used now. *out_new: it was not there. NOMEM, LIMIT (AGENT_BLOCKS_MAX);
 * then nothing changed. */
SL_CHECK sl_status agent_blocks_use(struct agent_blocks *blocks, uint64_t hash, bool *out_new);
/* Takes out the one that was not used for the longest. False: there is none. */
bool agent_blocks_drop(struct agent_blocks *blocks, uint64_t *out_hash);
bool agent_blocks_has(const struct agent_blocks *blocks, uint64_t hash);
/* One after the other, and from the beginning again. False: there is none. */
bool agent_blocks_next(struct agent_blocks *blocks, uint64_t *out_hash);
