#include "exec/llm/sampler_int.h"
#include <math.h>
#include <string.h>

static inline uint64_t key_of(float logit, int32_t index)
{
    return (uint64_t)sampler_order(logit) << 32 | (uint32_t)index;
}

static inline float logit_of(uint64_t key)
{
    uint32_t order = (uint32_t)(key >> 32), bits = order >> 31 ? order : order ^ 0x7FFFFFFFu;
    float logit;
    memcpy(&logit, &bits, sizeof logit);
    return logit;
}

/* ---- a short top-k: a heap of the best so far, the worst of them at the root ---- */

static void sift_down(uint64_t *heap, int32_t n, int32_t at)
{
    uint64_t moving = heap[at];
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= moving) break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static void heapify(uint64_t *heap, int32_t n)
{
    for (int32_t at = n / 2; at-- > 0;) sift_down(heap, n, at);
}

/* Ascending; `heap` is one already. */
static void sort_heap(uint64_t *heap, int32_t n)
{
    while (n-- > 1) {
        uint64_t last = heap[n];
        heap[n] = heap[0];
        heap[0] = last;
        sift_down(heap, n, 0);
    }
}

int32_t sampler_likeliest(const float *logits, int32_t n, int32_t k, uint64_t *out_keys)
{
    int32_t n_keys = 0;
    float worst = -INFINITY; /* an equal one of a later index loses, so only more gets in */
    for (int32_t from = 0; from < n && k > 0; from += SAMPLER_BLOCK) {
        int32_t end = n - from < SAMPLER_BLOCK ? n : from + SAMPLER_BLOCK;
        if (!(sampler_max(logits + from, end - from) > worst)) continue;
        for (int32_t i = from; i < end; i++) {
            if (!(logits[i] > worst)) continue;
            if (n_keys < k) {
                out_keys[n_keys++] = key_of(logits[i], i);
                if (n_keys < k) continue;
                heapify(out_keys, k);
            } else {
                out_keys[0] = key_of(logits[i], i);
                sift_down(out_keys, k, 0);
            }
            worst = logit_of(out_keys[0]);
        }
    }
    heapify(out_keys, n_keys);
    sort_heap(out_keys, n_keys);
    return n_keys;
}

static void keep_listed(struct sampler_set *set, int32_t k, struct sampler_scratch *scratch)
{
    uint64_t *keys = scratch->heap;
    int32_t n = sampler_likeliest(set->logits, set->n, k, keys);
    for (int32_t i = 0; i < n; i++) keys[i] = (uint64_t)(uint32_t)sampler_key_token(keys[i]);
    heapify(keys, n);
    sort_heap(keys, n);
    for (int32_t i = 0; i < n; i++) {
        scratch->tokens[i] = (int32_t)keys[i];
        scratch->logits[i] = set->logits[keys[i]];
    }
    set->logits = scratch->logits;
    set->tokens = scratch->tokens;
    set->n = n;
}

/* ---- selection: the prefix of an order whose weights reach a target, without sorting ---- */

/* A 32-bit key orders the candidates, equal keys by index. Three passes fix 12, 12 and 8 bits of
 * the key at which the target is reached, each summing weights by the next bits among candidates
 * that share the bits fixed so far; one more pass counts through the candidates that equal it. */
struct ranking {
    enum { RANK_BY_LOGIT, RANK_BY_SURPRISE } order;
    bool unit_weights; /* count candidates; else e^(logit - max) */
    double gap_mean;   /* RANK_BY_SURPRISE: by the distance of max - logit from this */
};

struct cut {
    uint32_t key;  /* candidates with a smaller key stay */
    int32_t last;  /* and those with an equal one up to this index */
    double before; /* weight of the smaller keys */
};

static inline int32_t block_len(const struct sampler_set *set, int32_t from)
{
    return set->n - from < SAMPLER_BLOCK ? set->n - from : SAMPLER_BLOCK;
}

static void block_ranks(const struct sampler_set *set, const struct ranking *ranking, int32_t from,
                        uint32_t *ranks)
{
    int32_t n = block_len(set, from);
    const float *logits = set->logits + from;
    if (ranking->order == RANK_BY_LOGIT) {
        sampler_orders(logits, n, ranks);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        float distance = (float)fabs((double)set->max - logits[i] - ranking->gap_mean);
        /* It is not negative, so its bits are in the order of the numbers. */
        memcpy(&ranks[i], &distance, sizeof ranks[i]);
    }
}

static bool weigh(const struct sampler_set *set, const struct ranking *ranking, const float *logits,
                  int32_t n, double *weights)
{
    if (!ranking->unit_weights) return sampler_weights(logits, n, set->max, 1.0, weights);
    for (int i = 0; i < SAMPLER_BLOCK; i++) weights[i] = i < n && logits[i] > -INFINITY ? 1.0 : 0.0;
    return true;
}

/* Candidates that share the bits of the key fixed so far, gathered until there are enough to
 * weigh at once. */
struct gathered {
    int32_t n;
    float logits[SAMPLER_BLOCK];
    uint32_t ranks[SAMPLER_BLOCK];
};

static void add_gathered(const struct sampler_set *set, const struct ranking *ranking, int shift,
                         int bits, struct gathered *g, double *buckets)
{
    double weights[SAMPLER_BLOCK];
    if (weigh(set, ranking, g->logits, g->n, weights)) {
        for (int32_t i = 0; i < g->n; i++)
            buckets[g->ranks[i] >> shift & ((1u << bits) - 1)] += weights[i];
    }
    g->n = 0;
}

/* Sums weights by `bits` of the key from bit `shift` on, of candidates that share the higher
 * bits of `prefix`. */
static void fill_buckets(const struct sampler_set *set, const struct ranking *ranking,
                         uint32_t prefix, int shift, int bits, double *buckets)
{
    struct gathered g = {.n = 0};
    uint32_t ranks[SAMPLER_BLOCK];
    memset(buckets, 0, sizeof *buckets << bits);
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        int32_t n = block_len(set, from);
        block_ranks(set, ranking, from, ranks);
        for (int32_t i = 0; i < n; i++) {
            if ((uint64_t)(ranks[i] ^ prefix) >> (shift + bits) != 0) continue;
            g.logits[g.n] = set->logits[from + i];
            g.ranks[g.n++] = ranks[i];
            if (g.n == SAMPLER_BLOCK) add_gathered(set, ranking, shift, bits, &g, buckets);
        }
    }
    if (g.n > 0) add_gathered(set, ranking, shift, bits, &g, buckets);
}

/* The bucket at which *before and the buckets up to it reach the target; the last one used when
 * rounding kept the sum short of it. */
static uint32_t crossing(const double *buckets, int bits, double target, double *before)
{
    uint32_t found = 0;
    double sum = *before;
    for (uint32_t b = 0; b < 1u << bits; b++) {
        if (buckets[b] <= 0) continue;
        found = b;
        *before = sum;
        sum += buckets[b];
        if (sum >= target) break;
    }
    return found;
}

static int32_t last_equal(const struct sampler_set *set, const struct ranking *ranking,
                          const struct cut *cut, double target)
{
    uint32_t ranks[SAMPLER_BLOCK];
    double weights[SAMPLER_BLOCK], sum = cut->before;
    int32_t last = -1, weighed = -1;
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        int32_t n = block_len(set, from);
        block_ranks(set, ranking, from, ranks);
        for (int32_t i = 0; i < n; i++) {
            if (ranks[i] != cut->key) continue;
            if (weighed != from && !weigh(set, ranking, set->logits + from, n, weights)) break;
            weighed = from;
            if (weights[i] <= 0) continue;
            last = from + i;
            sum += weights[i];
            if (sum >= target) return last;
        }
    }
    return last;
}

static void keep_cut(struct sampler_set *set, const struct ranking *ranking, const struct cut *cut)
{
    uint64_t last = (uint64_t)cut->key << 32 | (uint32_t)cut->last;
    uint32_t ranks[SAMPLER_BLOCK];
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        int32_t n = block_len(set, from);
        float *logits = set->logits + from;
        block_ranks(set, ranking, from, ranks);
        for (int32_t i = 0; i < n; i++) {
            uint64_t key = (uint64_t)ranks[i] << 32 | (uint32_t)(from + i);
            logits[i] = key > last ? -INFINITY : logits[i];
        }
    }
}

/* Keeps the smallest prefix whose weights reach the target. */
static void select_prefix(struct sampler_set *set, const struct ranking *ranking, double target,
                          struct sampler_scratch *scratch)
{
    static const int bits[] = {SAMPLER_BUCKET_BITS, SAMPLER_BUCKET_BITS,
                               32 - 2 * SAMPLER_BUCKET_BITS};
    struct cut cut = {0, -1, 0};
    for (int step = 0, shift = 32; step < 3; step++) {
        shift -= bits[step];
        fill_buckets(set, ranking, cut.key, shift, bits[step], scratch->buckets);
        cut.key |= crossing(scratch->buckets, bits[step], target, &cut.before) << shift;
    }
    cut.last = last_equal(set, ranking, &cut, target);
    keep_cut(set, ranking, &cut);
}

/* Moves the candidates no further than gap_max below the maximum to a list, if they fit there. */
static void narrow(struct sampler_set *set, double gap_max, struct sampler_scratch *scratch)
{
    if (set->n <= SAMPLER_LIST_MAX) return;
    int32_t n = 0;
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        int32_t n_block = block_len(set, from);
        const float *logits = set->logits + from;
        if (!((double)set->max - sampler_max(logits, n_block) <= gap_max)) continue;
        for (int32_t i = 0; i < n_block; i++) {
            if (!((double)set->max - logits[i] <= gap_max)) continue;
            if (n == SAMPLER_LIST_MAX) return;
            scratch->logits[n] = logits[i];
            scratch->tokens[n++] = from + i;
        }
    }
    set->logits = scratch->logits;
    set->tokens = scratch->tokens;
    set->n = n;
}

/* Beyond this gap lies less than 1 - p of the whole weight, with e to spare for rounding: even
 * if all n candidates lay there, n e^-gap < (1 - p) sum. */
static double gap_of_rest(const struct sampler_set *set, double p, double sum)
{
    return 1 + log(set->n / ((1 - p) * sum));
}

/* ---- the filters ---- */

void sampler_top_k(struct sampler_set *set, int32_t k, struct sampler_scratch *scratch)
{
    if (k >= set->n) return;
    if (k <= SAMPLER_LIST_MAX) {
        keep_listed(set, k, scratch);
        return;
    }
    const struct ranking ranking = {.order = RANK_BY_LOGIT, .unit_weights = true};
    select_prefix(set, &ranking, k, scratch);
}

void sampler_top_p(struct sampler_set *set, double p, struct sampler_scratch *scratch)
{
    const struct ranking ranking = {.order = RANK_BY_LOGIT};
    double sum = sampler_sum_row(set->logits, set->n, set->max);
    narrow(set, gap_of_rest(set, p, sum), scratch);
    select_prefix(set, &ranking, p * sum, scratch);
}

/* Keeps those whose surprise, -ln of their probability, is nearest to the expected one, the
 * entropy. */
void sampler_typical(struct sampler_set *set, double p, struct sampler_scratch *scratch)
{
    double weights[SAMPLER_BLOCK], sum = 0, sum_gap = 0;
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        int32_t n = block_len(set, from);
        if (!sampler_weights(set->logits + from, n, set->max, 1.0, weights)) continue;
        sum += sampler_sum(weights);
        for (int32_t i = 0; i < n; i++) {
            if (weights[i] > 0) sum_gap += weights[i] * ((double)set->max - set->logits[from + i]);
        }
    }
    /* Surprise is gap + ln sum, the entropy its mean: ln sum drops out of their difference. What
     * lies beyond twice the mean gap is further from the mean than all that lies before, so it
     * may be left out as in top-p. */
    double mean_gap = sum_gap / sum;
    const struct ranking ranking = {.order = RANK_BY_SURPRISE, .gap_mean = mean_gap};
    narrow(set, fmax(gap_of_rest(set, p, sum), 1 + 2 * mean_gap), scratch);
    select_prefix(set, &ranking, nextafter(p * sum, INFINITY), scratch);
    set->max = sampler_max(set->logits, set->n);
}

void sampler_min_p(struct sampler_set *set, double p)
{
    double gap_max = -log(p);
    for (int32_t i = 0; i < set->n; i++) {
        if (!((double)set->max - set->logits[i] <= gap_max)) set->logits[i] = -INFINITY;
    }
}

/* ---- the draw ---- */

/* Sums of weights, one a bucket of `stride` candidates. Returns the sum of all. */
static double sum_strides(const struct sampler_set *set, double inv_temp, int32_t stride,
                          double *buckets)
{
    double weights[SAMPLER_BLOCK], total = 0;
    memset(buckets, 0, SAMPLER_BUCKETS * sizeof *buckets);
    for (int32_t from = 0; from < set->n; from += SAMPLER_BLOCK) {
        if (!sampler_weights(set->logits + from, block_len(set, from), set->max, inv_temp, weights))
            continue;
        double sum = sampler_sum(weights);
        buckets[from / stride] += sum;
        total += sum;
    }
    return total;
}

int32_t sampler_draw(const struct sampler_set *set, double temp, double uniform,
                     struct sampler_scratch *scratch)
{
    double inv_temp = 1.0 / temp, weights[SAMPLER_BLOCK], sum = 0;
    int32_t stride = SAMPLER_BLOCK;
    while (set->n / stride >= SAMPLER_BUCKETS) stride *= 2;
    /* The first candidate at which the sum is more than its share: [0, 1) is cut into half-open
     * pieces. */
    double total = sum_strides(set, inv_temp, stride, scratch->buckets);
    double target = nextafter(uniform * total, INFINITY);
    uint32_t bucket = crossing(scratch->buckets, SAMPLER_BUCKET_BITS, target, &sum);
    int32_t start = (int32_t)bucket * stride, found = start;
    int32_t end = set->n - start < stride ? set->n : start + stride;
    for (int32_t from = start; from < end && sum < target; from += SAMPLER_BLOCK) {
        if (!sampler_weights(set->logits + from, block_len(set, from), set->max, inv_temp, weights))
            continue;
        for (int32_t i = 0; i < SAMPLER_BLOCK && sum < target; i++) {
            if (weights[i] <= 0) continue;
            sum += weights[i];
            found = from + i;
        }
    }
    return set->tokens ? set->tokens[found] : found;
}
