/* text_trie.c: built level by level from sorted keys, each node a range of them. */
#include "exec/text/text_trie.h"

#include "base/mem.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The keys that share a node's bytes. */
struct key_range {
    uint32_t low, high;
};

struct builder {
    struct text_trie *trie;
    const struct text_trie_key *keys;
    struct key_range *ranges; /* [cap] of each node */
    uint32_t cap;
};

static int compare_keys(const void *a, const void *b)
{
    const struct text_trie_key *x = a, *y = b;
    uint32_t n = x->n < y->n ? x->n : y->n;
    int order = n ? memcmp(x->s, y->s, n) : 0;
    if (order == 0) order = (x->n > y->n) - (x->n < y->n);
    return order ? order : (x->value > y->value) - (x->value < y->value);
}

static bool grow(struct builder *b)
{
    uint32_t cap = b->cap ? b->cap * 2 : 256;
    if (cap < b->cap) return false;
    struct key_range *ranges = sl_realloc_array(b->ranges, cap, sizeof *ranges);
    if (ranges) b->ranges = ranges;
    unsigned char *labels = sl_realloc_array(b->trie->labels, cap, sizeof *labels);
    if (labels) b->trie->labels = labels;
    uint32_t *first = sl_realloc_array(b->trie->first, (size_t)cap + 1, sizeof *first);
    if (first) b->trie->first = first;
    int32_t *values = sl_realloc_array(b->trie->values, cap, sizeof *values);
    if (values) b->trie->values = values;
    if (!ranges || !labels || !first || !values) return false;
    b->cap = cap;
    return true;
}

static bool add_node(struct builder *b, unsigned char label, struct key_range range)
{
    if (b->trie->n_nodes == b->cap && !grow(b)) return false;
    uint32_t i = b->trie->n_nodes++;
    b->trie->labels[i] = label;
    b->trie->values[i] = -1;
    b->ranges[i] = range;
    return true;
}

/* Appends the children of `node`, whose keys share `depth` bytes. */
static bool add_children(struct builder *b, uint32_t node, uint32_t depth)
{
    struct key_range range = b->ranges[node];
    uint32_t i = range.low;
    for (; i < range.high && b->keys[i].n == depth; i++)
        if (depth) b->trie->values[node] = b->keys[i].value;
    while (i < range.high) {
        unsigned char label = (unsigned char)b->keys[i].s[depth];
        uint32_t low = i;
        while (i < range.high && (unsigned char)b->keys[i].s[depth] == label) i++;
        if (!add_node(b, label, (struct key_range){low, i})) return false;
    }
    return true;
}

static bool build_levels(struct builder *b, uint32_t n_keys)
{
    if (!add_node(b, 0, (struct key_range){0, n_keys})) return false;
    uint32_t level_end = 1, depth = 0;
    for (uint32_t node = 0; node < b->trie->n_nodes; node++) {
        if (node == level_end) {
            level_end = b->trie->n_nodes;
            depth++;
        }
        b->trie->first[node] = b->trie->n_nodes;
        if (!add_children(b, node, depth)) return false;
    }
    b->trie->first[b->trie->n_nodes] = b->trie->n_nodes;
    return true;
}

sl_status text_trie_build(struct text_trie *trie, struct text_trie_key *keys, size_t n)
{
    struct builder b = {.trie = trie, .keys = keys};
    *trie = (struct text_trie){0};
    if (n >= UINT32_MAX) return SL_LIMIT;
    if (n) qsort(keys, n, sizeof *keys, compare_keys);
    bool ok = build_levels(&b, (uint32_t)n);
    sl_free(b.ranges);
    if (ok) return SL_OK;
    text_trie_done(trie);
    return SL_NOMEM;
}

void text_trie_done(struct text_trie *trie)
{
    sl_free(trie->labels);
    sl_free(trie->first);
    sl_free(trie->values);
    *trie = (struct text_trie){0};
}

uint32_t text_trie_step(const struct text_trie *trie, uint32_t node, unsigned char byte)
{
    uint32_t first = trie->first[node];
    const unsigned char *labels = trie->labels + first;
    const unsigned char *found = memchr(labels, byte, trie->first[node + 1] - first);
    return found ? first + (uint32_t)(found - labels) : TEXT_TRIE_NONE;
}

size_t text_trie_longest(const struct text_trie *trie, const char *s, size_t n, int32_t *out_value)
{
    size_t longest = 0;
    uint32_t node = TEXT_TRIE_ROOT;
    for (size_t i = 0; i < n; i++) {
        node = text_trie_step(trie, node, (unsigned char)s[i]);
        if (node == TEXT_TRIE_NONE) break;
        if (trie->values[node] < 0) continue;
        longest = i + 1;
        *out_value = trie->values[node];
    }
    return longest;
}
