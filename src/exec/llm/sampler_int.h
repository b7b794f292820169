/* sampler_int.h: what the sampler's own files share; nobody else includes it.
 * Floor: exec/llm.  Thread: the engine's.
 *   sampler_vector.c   passes over rows of logits: maximum, weights
 *   sampler_filter.c   top-k, typical, top-p, min-p and the draw, on a set of candidates
 *   sampler_penalty.c  what changes logits beforehand: bias, penalties, DRY
 *   sampler.c          life cycle, the chain, logprobs
 * No pass sorts the vocabulary and none needs memory of its size: a filter drops a candidate by
 * writing -inf over it, and where few candidates are left or matter they move to a list of their
 * own.
 * The numbers are the same under every compiler and on every machine: doubles, a defined order
 * of summation, an exponential of our own, and no fused multiply-add, which would round
 * differently where the processor has one. */
#pragma once
#include "base/err.h"
#include "exec/llm/sampler.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#elif defined(__FP_FAST_FMA) && !defined(__STRICT_ANSI__)
#error "gcc fuses multiply and add unless it compiles with -std=c17"
#endif

#define SAMPLER_BLOCK 64       /* logits a pass handles at once; the weights stay in L1 */
#define SAMPLER_LIST_MAX 1024  /* candidates kept as a list; beyond, selection beats a heap */
#define SAMPLER_BUCKET_BITS 12 /* of a 32-bit key, fixed by one step of a selection: 3 steps */
#define SAMPLER_BUCKETS (1 << SAMPLER_BUCKET_BITS)
/* What lies deeper below the maximum weighs nothing: e^-64 times any vocabulary is under 2^-53. */
#define SAMPLER_GAP_MAX 64.0

/* sampler_vector.c */

/* Index of the largest value, the first among equals; -1 when all are NaN or -inf. */
int32_t sampler_argmax(const float *logits, int32_t n);
float sampler_max(const float *logits, int32_t n); /* -inf when there is none */

/* Likelihood as an integer: the smaller, the likelier; -0 equals 0. */
uint32_t sampler_order(float logit);
void sampler_orders(const float *logits, int32_t n, uint32_t *orders);

/* weights[i] = exp((logits[i] - max) / temp) for i < SAMPLER_BLOCK, 0 from n on, for NaN and
 * past SAMPLER_GAP_MAX.
 * Relative error below 2e-14. False: all would be 0 and nothing was written.
 * 0 < n <= SAMPLER_BLOCK; max is finite and no logit above it. */
bool sampler_weights(const float *logits, int32_t n, float max, double inv_temp,
                     double weights[SAMPLER_BLOCK]);
double sampler_sum(const double weights[SAMPLER_BLOCK]);
/* Sum of exp(logits[i] - max) over a row of any length. */
double sampler_sum_row(const float *logits, int32_t n, float max);

/* sampler_filter.c */

struct sampler_set {
    float *logits;   /* -inf and NaN: not, or no longer, a candidate */
    int32_t *tokens; /* of each logit, ascending; NULL: its index */
    int32_t n;
    float max; /* of the candidates; finite */
};

struct sampler_scratch {
    double buckets[SAMPLER_BUCKETS];
    uint64_t heap[SAMPLER_LIST_MAX];
    float logits[SAMPLER_LIST_MAX];
    int32_t tokens[SAMPLER_LIST_MAX];
};

/* The k <= SAMPLER_LIST_MAX likeliest of logits[0..n), likeliest first, lower index first among
 * equals, as keys.
 * Returns how many there are. */
int32_t sampler_likeliest(const float *logits, int32_t n, int32_t k, uint64_t *out_keys);
static inline int32_t sampler_key_token(uint64_t key)
{
    return (int32_t)(uint32_t)key;
}

/* Each keeps at least one candidate. */
void sampler_top_k(struct sampler_set *set, int32_t k, struct sampler_scratch *scratch);
void sampler_typical(struct sampler_set *set, double p, struct sampler_scratch *scratch);
void sampler_top_p(struct sampler_set *set, double p, struct sampler_scratch *scratch);
void sampler_min_p(struct sampler_set *set, double p);

/* The candidate at `uniform` in [0, 1) of the distribution at this temperature, candidates in
 * order of their tokens. */
int32_t sampler_draw(const struct sampler_set *set, double temp, double uniform,
                     struct sampler_scratch *scratch);

/* sampler_penalty.c */

struct sampler_penalty; /* opaque: the sequence's tokens, and what they change */

/* *out is NULL when cfg changes no logits at all. cfg has been checked; NOMEM is the only
 * failure. */
SL_CHECK sl_status sampler_penalty_create(const struct sampler_cfg *cfg,
                                          struct sampler_penalty **out);
void sampler_penalty_destroy(struct sampler_penalty *p);
void sampler_penalty_accept(struct sampler_penalty *p, int32_t token);
void sampler_penalty_apply(struct sampler_penalty *p, float *logits);
/* The logit a token had before the last apply; `now` is what it has since. */
float sampler_penalty_raw(const struct sampler_penalty *p, int32_t token, float now);
