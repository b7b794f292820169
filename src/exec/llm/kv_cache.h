/* kv_cache.h: which blocks of the KV pool each sequence holds, and which finished ones can be
 * shared by prefix.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: at creation; a sequence's table grows up
 * to the context. Pure bookkeeping: the keys and values themselves are the stages' (stage.h).
 * Block b covers slots [b*B, (b+1)*B) of the pool.
 *
 * A block is in exactly one state:
 *
 *     free  --reserve-->  held (refs > 0)  --release, not indexed-->  free
 *                           |  ^
 *              release,     |  |  match
 *              indexed      v  |
 *                         cached (refs == 0, in the index, in LRU order)  --evicted by
 * reserve-->  free, then held
 *
 * Invariants: refs equals the number of sequence tables that hold the block; only full blocks
 * whose tokens are all computed are in the index; free + cached + held == n_blocks; a block held
 * twice is never written (copy on write). The prefix index is keyed by a chained 64-bit hash of
 * the tokens from the start, and a hit is verified token by token. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

/* tokens per block; ATTN_TILE is a multiple. Small blocks share more and waste less */
#define KV_BLOCK_TOKENS 16

struct kv_cache; /* opaque */

struct kv_seq {       /* one sequence's table; zeroed is an empty sequence */
    int32_t *blocks;  /* [n_blocks] physical block of each logical one */
    uint64_t *hashes; /* [n_hashed] chain hash of each full block's tokens */
    int32_t n_blocks, cap;
    int32_t n_hashed;
    int32_t n_tokens; /* computed, or taken from the cache */
};

struct kv_copy { /* the engine must copy one block's rows before it computes */
    int32_t src_block, dst_block;
};

/* n_blocks > 0. `share` false switches the prefix index off. NOMEM, INVALID. */
SL_CHECK sl_status kv_create(int32_t n_blocks, bool share, struct kv_cache **out,
                             struct sl_err *err);
void kv_destroy(struct kv_cache *kv); /* NULL is fine; sequences must have been released */

/* Takes the longest indexed prefix of tokens[0..n) into an empty sequence, whole blocks, leaving
 * at least the last token to compute. *out_n is the number of tokens taken. NOMEM. */
SL_CHECK sl_status kv_seq_match(struct kv_cache *kv, struct kv_seq *seq, const int32_t *tokens,
                                int32_t n, int32_t *out_n, struct sl_err *err);

/* Makes room for n more tokens after seq->n_tokens, evicting cached blocks (least recently used
 * first). When the last, partly filled block is shared it is replaced: *out_copy says what to
 * copy (src_block -1: nothing). BUSY: not enough blocks, nothing changed. */
SL_CHECK sl_status kv_seq_reserve(struct kv_cache *kv, struct kv_seq *seq, int32_t n,
                                  struct kv_copy *out_copy, struct sl_err *err);

/* tokens[0..n) followed seq->n_tokens and are computed now; blocks that became full enter the
 * index. */
void kv_seq_commit(struct kv_cache *kv, struct kv_seq *seq, const int32_t *tokens, int32_t n);

/* dst (empty) shares all of src's blocks, the partly filled one too. NOMEM. */
SL_CHECK sl_status kv_seq_fork(struct kv_cache *kv, const struct kv_seq *src, struct kv_seq *dst,
                               struct sl_err *err);

/* Gives all blocks back; indexed ones stay cached. The sequence is empty again and owns no
 * memory. */
void kv_seq_release(struct kv_cache *kv, struct kv_seq *seq);

/* Chain hash of full block `i` of tokens, given the hash of the block before (0 for the first). */
uint64_t kv_block_hash(uint64_t previous, const int32_t *tokens);

/* Is this full block in the index? tokens: its KV_BLOCK_TOKENS tokens. */
bool kv_has_block(const struct kv_cache *kv, uint64_t hash, const int32_t *tokens);

struct kv_stats {
    int32_t n_blocks, n_free, n_cached, n_held;
    uint64_t n_evictions, n_copies;
};
void kv_stats_get(const struct kv_cache *kv, struct kv_stats *out);

/* Checks every invariant above against the given live sequences; false on the first that fails.
 * For tests. */
bool kv_check(const struct kv_cache *kv, const struct kv_seq *const *seqs, int n_seqs);
