#include "exec/llm/kv_cache.h"
#include "base/hash.h"
#include "base/mem.h"
#include <string.h>

#define NONE (-1)

struct block {
    int32_t refs;
    int32_t next, prev; /* in the free list or the LRU list */
    int32_t chain;      /* next block of the same index bucket */
    bool indexed;
    uint64_t hash; /* of the prefix that ends with this block; valid when indexed */
    int32_t tokens[KV_BLOCK_TOKENS];
};

struct list { /* doubly linked through block.next and block.prev */
    int32_t head, tail, n;
};

struct kv_cache {
    struct block *blocks;
    int32_t n_blocks;
    bool share;
    struct list free, lru; /* lru.head is evicted first */
    int32_t *buckets;      /* [n_buckets], power of two */
    uint32_t n_buckets;
    uint64_t n_evictions, n_copies;
};

static void list_push(struct kv_cache *kv, struct list *l, int32_t b)
{
    struct block *blk = &kv->blocks[b];
    blk->next = NONE;
    blk->prev = l->tail;
    if (l->tail == NONE)
        l->head = b;
    else
        kv->blocks[l->tail].next = b;
    l->tail = b;
    l->n++;
}

static void list_remove(struct kv_cache *kv, struct list *l, int32_t b)
{
    struct block *blk = &kv->blocks[b];
    if (blk->prev == NONE)
        l->head = blk->next;
    else
        kv->blocks[blk->prev].next = blk->next;
    if (blk->next == NONE)
        l->tail = blk->prev;
    else
        kv->blocks[blk->next].prev = blk->prev;
    l->n--;
}

uint64_t kv_block_hash(uint64_t previous, const int32_t *tokens)
{
    return sl_hash64(tokens, KV_BLOCK_TOKENS * sizeof *tokens, previous);
}

static int32_t *bucket_of(const struct kv_cache *kv, uint64_t hash)
{
    return &kv->buckets[hash & (kv->n_buckets - 1)];
}

static int32_t index_find(const struct kv_cache *kv, uint64_t hash, const int32_t *tokens)
{
    int32_t b = kv->share ? *bucket_of(kv, hash) : NONE;
    while (b != NONE && (kv->blocks[b].hash != hash ||
                         memcmp(kv->blocks[b].tokens, tokens, sizeof kv->blocks[b].tokens)))
        b = kv->blocks[b].chain;
    return b;
}

bool kv_has_block(const struct kv_cache *kv, uint64_t hash, const int32_t *tokens)
{
    return index_find(kv, hash, tokens) != NONE;
}

static void index_add(struct kv_cache *kv, int32_t b, uint64_t hash)
{
    struct block *blk = &kv->blocks[b];
    int32_t *bucket = bucket_of(kv, hash);
    blk->indexed = true;
    blk->hash = hash;
    blk->chain = *bucket;
    *bucket = b;
}

static void index_remove(struct kv_cache *kv, int32_t b)
{
    int32_t *at = bucket_of(kv, kv->blocks[b].hash);
    while (*at != b) at = &kv->blocks[*at].chain;
    *at = kv->blocks[b].chain;
    kv->blocks[b].indexed = false;
}

sl_status kv_create(int32_t n_blocks, bool share, struct kv_cache **out, struct sl_err *err)
{
    struct kv_cache *kv;
    if (n_blocks < 1) return sl_err_set(err, SL_INVALID, "KV cache of %d blocks", n_blocks);
    kv = sl_calloc(1, sizeof *kv);
    if (!kv) goto fail;
    kv->n_blocks = n_blocks;
    kv->share = share;
    for (kv->n_buckets = 16; kv->n_buckets < (uint32_t)n_blocks; kv->n_buckets *= 2) {
    }
    kv->blocks = sl_calloc((size_t)n_blocks, sizeof *kv->blocks);
    kv->buckets = sl_calloc(kv->n_buckets, sizeof *kv->buckets);
    if (!kv->blocks || !kv->buckets) goto fail;
    memset(kv->buckets, 0xff, kv->n_buckets * sizeof *kv->buckets);
    kv->free = kv->lru = (struct list){NONE, NONE, 0};
    for (int32_t b = 0; b < n_blocks; b++) list_push(kv, &kv->free, b);
    *out = kv;
    return SL_OK;
fail:
    kv_destroy(kv);
    return sl_err_set(err, SL_NOMEM, "KV table of %d blocks", n_blocks);
}

void kv_destroy(struct kv_cache *kv)
{
    if (!kv) return;
    sl_free(kv->blocks);
    sl_free(kv->buckets);
    sl_free(kv);
}

static bool seq_grow(struct kv_seq *seq, int32_t n_blocks)
{
    int32_t cap = seq->cap ? seq->cap : 8;
    if (n_blocks <= seq->cap) return true;
    while (cap < n_blocks) cap *= 2;
    int32_t *blocks = sl_realloc_array(seq->blocks, (size_t)cap, sizeof *blocks);
    if (!blocks) return false;
    seq->blocks = blocks;
    uint64_t *hashes = sl_realloc_array(seq->hashes, (size_t)cap, sizeof *hashes);
    if (!hashes) return false;
    seq->hashes = hashes;
    seq->cap = cap;
    return true;
}

static void block_ref(struct kv_cache *kv, int32_t b)
{
    if (kv->blocks[b].refs++ == 0) list_remove(kv, &kv->lru, b);
}

static void block_unref(struct kv_cache *kv, int32_t b)
{
    if (--kv->blocks[b].refs > 0) return;
    list_push(kv, kv->blocks[b].indexed ? &kv->lru : &kv->free, b);
}

sl_status kv_seq_match(struct kv_cache *kv, struct kv_seq *seq, const int32_t *tokens, int32_t n,
                       int32_t *out_n, struct sl_err *err)
{
    int32_t n_full = n > 0 ? (n - 1) / KV_BLOCK_TOKENS : 0;
    uint64_t hash = 0;
    *out_n = 0;
    if (!seq_grow(seq, n_full + 1)) return sl_err_set(err, SL_NOMEM, "block table of %d tokens", n);
    for (int32_t i = 0; i < n_full; i++) {
        const int32_t *t = tokens + (size_t)i * KV_BLOCK_TOKENS;
        hash = kv_block_hash(hash, t);
        int32_t b = index_find(kv, hash, t);
        if (b == NONE) break;
        block_ref(kv, b);
        seq->blocks[seq->n_blocks++] = b;
        seq->hashes[seq->n_hashed++] = hash;
    }
    *out_n = seq->n_tokens = seq->n_blocks * KV_BLOCK_TOKENS;
    return SL_OK;
}

static int32_t block_take(struct kv_cache *kv)
{
    int32_t b = kv->free.head;
    if (b != NONE) {
        list_remove(kv, &kv->free, b);
    } else {
        b = kv->lru.head;
        list_remove(kv, &kv->lru, b);
        index_remove(kv, b);
        kv->n_evictions++;
    }
    kv->blocks[b].refs = 1;
    return b;
}

/* A block that others hold, or that the index may hand out, must not be written. */
static bool tail_is_shared(const struct kv_cache *kv, const struct kv_seq *seq)
{
    int32_t tail = seq->n_tokens / KV_BLOCK_TOKENS;
    return tail < seq->n_blocks && kv->blocks[seq->blocks[tail]].refs > 1;
}

sl_status kv_seq_reserve(struct kv_cache *kv, struct kv_seq *seq, int32_t n,
                         struct kv_copy *out_copy, struct sl_err *err)
{
    int32_t need = (seq->n_tokens + n + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS,
            tail = seq->n_tokens / KV_BLOCK_TOKENS;
    bool copy = n > 0 && tail_is_shared(kv, seq);
    *out_copy = (struct kv_copy){NONE, NONE};
    if (need - seq->n_blocks + copy > kv->free.n + kv->lru.n)
        return sl_err_set(err, SL_BUSY, "KV cache: %d blocks wanted, %d left",
                          need - seq->n_blocks + copy, kv->free.n + kv->lru.n);
    if (!seq_grow(seq, need))
        return sl_err_set(err, SL_NOMEM, "block table of %d tokens", seq->n_tokens + n);
    if (copy) {
        int32_t fresh = block_take(kv);
        *out_copy = (struct kv_copy){seq->blocks[tail], fresh};
        memcpy(kv->blocks[fresh].tokens, kv->blocks[seq->blocks[tail]].tokens,
               sizeof kv->blocks[fresh].tokens);
        block_unref(kv, seq->blocks[tail]);
        seq->blocks[tail] = fresh;
        kv->n_copies++;
    }
    while (seq->n_blocks < need) seq->blocks[seq->n_blocks++] = block_take(kv);
    return SL_OK;
}

/* The sequence's block i is full: index it, unless an equal one is there already. */
static void publish(struct kv_cache *kv, struct kv_seq *seq, int32_t i)
{
    int32_t b = seq->blocks[i];
    const int32_t *tokens = kv->blocks[b].tokens;
    uint64_t hash = kv_block_hash(i ? seq->hashes[i - 1] : 0, tokens);
    seq->hashes[i] = hash;
    seq->n_hashed = i + 1;
    if (kv->share && !kv->blocks[b].indexed && index_find(kv, hash, tokens) == NONE)
        index_add(kv, b, hash);
}

void kv_seq_commit(struct kv_cache *kv, struct kv_seq *seq, const int32_t *tokens, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t at = seq->n_tokens % KV_BLOCK_TOKENS, block = seq->n_tokens / KV_BLOCK_TOKENS;
        kv->blocks[seq->blocks[block]].tokens[at] = tokens[i];
        seq->n_tokens++;
        if (at == KV_BLOCK_TOKENS - 1) publish(kv, seq, block);
    }
}

sl_status kv_seq_fork(struct kv_cache *kv, const struct kv_seq *src, struct kv_seq *dst,
                      struct sl_err *err)
{
    if (!seq_grow(dst, src->n_blocks))
        return sl_err_set(err, SL_NOMEM, "block table of %d tokens", src->n_tokens);
    /* Blocks past the computed tokens are room that src reserved for itself: dst has no part in
     * them. */
    dst->n_blocks = (src->n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    for (int32_t i = 0; i < dst->n_blocks; i++) {
        dst->blocks[i] = src->blocks[i];
        kv->blocks[src->blocks[i]].refs++;
    }
    if (src->n_hashed)
        memcpy(dst->hashes, src->hashes, (size_t)src->n_hashed * sizeof *dst->hashes);
    dst->n_hashed = src->n_hashed;
    dst->n_tokens = src->n_tokens;
    return SL_OK;
}

/* The last block goes first, so that the front of the prefix is evicted last. */
void kv_seq_release(struct kv_cache *kv, struct kv_seq *seq)
{
    for (int32_t i = seq->n_blocks - 1; i >= 0; i--) block_unref(kv, seq->blocks[i]);
    sl_free(seq->blocks);
    sl_free(seq->hashes);
    *seq = (struct kv_seq){0};
}

void kv_stats_get(const struct kv_cache *kv, struct kv_stats *out)
{
    *out = (struct kv_stats){kv->n_blocks,    kv->free.n,
                             kv->lru.n,       kv->n_blocks - kv->free.n - kv->lru.n,
                             kv->n_evictions, kv->n_copies};
}

static bool list_check(const struct kv_cache *kv, const struct list *l, bool indexed)
{
    int32_t n = 0, prev = NONE;
    for (int32_t b = l->head; b != NONE; prev = b, b = kv->blocks[b].next) {
        if (n++ > kv->n_blocks || kv->blocks[b].refs || kv->blocks[b].indexed != indexed ||
            kv->blocks[b].prev != prev)
            return false;
    }
    return n == l->n && prev == l->tail;
}

static int32_t count_refs(const struct kv_seq *const *seqs, int n_seqs, int32_t b)
{
    int32_t n = 0;
    for (int s = 0; s < n_seqs; s++) {
        for (int32_t i = 0; i < seqs[s]->n_blocks; i++) n += seqs[s]->blocks[i] == b;
    }
    return n;
}

bool kv_check(const struct kv_cache *kv, const struct kv_seq *const *seqs, int n_seqs)
{
    int32_t held = 0;
    for (int32_t b = 0; b < kv->n_blocks; b++) {
        const struct block *blk = &kv->blocks[b];
        if (blk->refs != count_refs(seqs, n_seqs, b)) return false;
        if (blk->indexed && index_find(kv, blk->hash, blk->tokens) != b) return false;
        held += blk->refs > 0;
    }
    return held + kv->free.n + kv->lru.n == kv->n_blocks && list_check(kv, &kv->free, false) &&
           list_check(kv, &kv->lru, true);
}
