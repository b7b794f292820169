/* text_trie.h: a set of byte strings that is walked a byte at a time: which of them begin here?
 * Floor: exec/text.  Thread: any number of readers once built.  Allocates: text_trie_build.
 * Invariant: nodes stand in breadth-first order, so that the children of one are neighbours: nine
 * bytes a node, and a step looks at a few bytes that lie together. */
#pragma once
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

struct text_trie_key {
    const char *s; /* borrowed for the build only */
    uint32_t n;
    int32_t value; /* >= 0 */
};

#define TEXT_TRIE_ROOT 0
#define TEXT_TRIE_NONE UINT32_MAX

struct text_trie {
    unsigned char *labels; /* [n_nodes] byte of the edge that leads here */
    uint32_t *first;       /* [n_nodes + 1] the children of i are first[i] to first[i + 1] */
    int32_t *values;       /* [n_nodes] value of the key that ends here, or -1 */
    uint32_t n_nodes;
};

/* Sorts the keys. Of equal keys the one with the largest value counts; empty ones are left out.
 * NOMEM; LIMIT: 4 billion nodes. */
SL_CHECK sl_status text_trie_build(struct text_trie *trie, struct text_trie_key *keys, size_t n);
void text_trie_done(struct text_trie *trie);

/* The child of `node` for this byte, or TEXT_TRIE_NONE. */
uint32_t text_trie_step(const struct text_trie *trie, uint32_t node, unsigned char byte);

/* Bytes of the longest key that s[0..n) begins with and its value; 0 when none does. */
size_t text_trie_longest(const struct text_trie *trie, const char *s, size_t n, int32_t *out_value);
