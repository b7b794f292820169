/* sampler_prop.c: the sampler against the same chain written plainly: sort everything, sum
 * everything, libm's exp and pow, every run of DRY compared token by token. Both get the same
 * uniform number, so they must choose the same token. SEED=n repeats a run. */
#include "base/mem.h"
#include "base/rng.h"
#include "exec/llm/sampler.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED_DEFAULT 0x5A3B
#define ROUNDS 6000
#define VOCAB_MAX 9000
#define HISTORY_LEN_MAX 300
#define LIST_MAX 8

static uint64_t seed = SEED_DEFAULT;

struct random {
    uint64_t stream, index;
};

static uint64_t bits(struct random *r)
{
    return sl_rng_u64(seed, r->stream, r->index++);
}
static int pick(struct random *r, int n)
{
    return (int)(bits(r) % (uint64_t)n);
}
static bool chance(struct random *r, int percent)
{
    return pick(r, 100) < percent;
}
static double unit(struct random *r)
{
    return sl_rng_uniform(seed, r->stream, r->index++);
}

static double normal(struct random *r)
{
    double u = 1 - unit(r), v = unit(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* ---- the plain chain ---- */

struct candidate {
    int32_t token;
    float logit;
    double p;
    float distance; /* typical: from the expected surprise */
};

static struct candidate candidates[VOCAB_MAX];
static int n_candidates;

static float clamped(double logit)
{
    if (logit > FLT_MAX) return FLT_MAX;
    if (logit < -FLT_MAX && logit > -INFINITY) return -FLT_MAX;
    return (float)logit;
}

static bool is_breaker(const struct sampler_cfg *cfg, int32_t token)
{
    for (int i = 0; i < cfg->n_dry_breakers; i++) {
        if (cfg->dry_breakers[i] == token) return true;
    }
    return false;
}

static int plain_window(int32_t last_n, int n_history)
{
    int window = last_n < 0 ? SAMPLER_HISTORY_MAX : last_n;
    return window < n_history ? window : n_history;
}

static void plain_penalties(const struct sampler_cfg *cfg, float *logits, int32_t n_vocab,
                            const int32_t *history, int n_history)
{
    int n = plain_window(cfg->repeat_last_n, n_history);
    for (int32_t token = 0; token < n_vocab; token++) {
        int count = 0;
        for (int i = n_history - n; i < n_history; i++) count += history[i] == token;
        if (count == 0) continue;
        double logit = logits[token];
        logit = logit > 0 ? logit / cfg->repeat_penalty : logit * cfg->repeat_penalty;
        logits[token] =
            clamped(logit - ((double)count * cfg->frequency_penalty + cfg->presence_penalty));
    }
}

static void plain_dry(const struct sampler_cfg *cfg, float *logits, const int32_t *history,
                      int n_history)
{
    int n = plain_window(cfg->dry_last_n, n_history), run_max = 0;
    const int32_t *end = history + n_history;
    if (cfg->dry_multiplier == 0 || n <= cfg->dry_allowed_len) return;
    while (run_max < n && !is_breaker(cfg, end[-1 - run_max])) run_max++;
    if (run_max < cfg->dry_allowed_len) return;
    int32_t longest_tokens[HISTORY_LEN_MAX];
    int longest[HISTORY_LEN_MAX], n_longest = 0;
    for (int k = 1; k < n; k++) {
        int len = 0, at = 0;
        while (len < run_max && k + len < n && end[-1 - len] == end[-1 - k - len]) len++;
        if (len < cfg->dry_allowed_len || is_breaker(cfg, end[-k])) continue;
        while (at < n_longest && longest_tokens[at] != end[-k]) at++;
        if (at == n_longest) longest[n_longest++] = -1;
        longest_tokens[at] = end[-k];
        if (len > longest[at]) longest[at] = len;
    }
    for (int i = 0; i < n_longest; i++) {
        double penalty =
            cfg->dry_multiplier * pow(cfg->dry_base, longest[i] - cfg->dry_allowed_len);
        float *logit = &logits[longest_tokens[i]];
        *logit = clamped(*logit - fmin(penalty, FLT_MAX));
    }
}

static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static int by_token(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->token < y->token ? -1 : 1;
}

static void sort(int (*compare)(const void *, const void *))
{
    qsort(candidates, (size_t)n_candidates, sizeof *candidates, compare);
}

/* Returns the sum; p is left unnormalised. */
static double plain_softmax(double temp)
{
    double sum = 0;
    sort(by_logit);
    double max = candidates[0].logit;
    for (int i = 0; i < n_candidates; i++)
        sum += candidates[i].p = exp((candidates[i].logit - max) / temp);
    return sum;
}

static void plain_typical(double typical_p)
{
    double sum = plain_softmax(1), mean_gap = 0, seen = 0, max = candidates[0].logit;
    for (int i = 0; i < n_candidates; i++) {
        if (candidates[i].p > 0) mean_gap += candidates[i].p / sum * (max - candidates[i].logit);
    }
    for (int i = 0; i < n_candidates; i++)
        candidates[i].distance = (float)fabs(max - candidates[i].logit - mean_gap);
    sort(by_distance);
    for (int i = 0; i < n_candidates; i++) {
        seen += candidates[i].p;
        if (seen > typical_p * sum) n_candidates = i + 1;
    }
}

static void plain_top_p(double top_p)
{
    double sum = plain_softmax(1), seen = 0;
    for (int i = 0; i < n_candidates; i++) {
        seen += candidates[i].p;
        if (seen >= top_p * sum) n_candidates = i + 1;
    }
}

static void plain_min_p(double min_p)
{
    sort(by_logit);
    double max = candidates[0].logit;
    int n = 1;
    while (n < n_candidates && max - candidates[n].logit <= -log(min_p)) n++;
    n_candidates = n;
}

static int32_t plain_draw(double temp, double uniform)
{
    double sum = plain_softmax(temp), seen = 0;
    int32_t last = candidates[0].token;
    sort(by_token);
    for (int i = 0; i < n_candidates; i++) {
        if (candidates[i].p <= 0) continue;
        last = candidates[i].token;
        seen += candidates[i].p;
        if (seen > uniform * sum) break;
    }
    return last;
}

static void plain_cleanup(float *logits, int32_t n_vocab)
{
    for (int32_t i = 0; i < n_vocab; i++) {
        if (isnan(logits[i])) logits[i] = -INFINITY;
        if (logits[i] > FLT_MAX) logits[i] = FLT_MAX;
    }
}

static void plain_candidates(const float *logits, int32_t n_vocab)
{
    n_candidates = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (logits[i] > -INFINITY)
            candidates[n_candidates++] = (struct candidate){.token = i, .logit = logits[i]};
    }
}

/* -1: nothing is left. */
static int32_t plain_sample(const struct sampler_cfg *cfg, float *logits, int32_t n_vocab,
                            const int32_t *history, int n_history, int64_t position)
{
    for (int i = 0; i < cfg->n_bias; i++) {
        float *logit = &logits[cfg->bias[i].token];
        *logit = clamped((double)*logit + cfg->bias[i].bias);
    }
    plain_penalties(cfg, logits, n_vocab, history, n_history);
    plain_dry(cfg, logits, history, n_history);
    plain_candidates(logits, n_vocab);
    if (n_candidates == 0) return -1;
    sort(by_logit);
    if (cfg->temp <= 0) return candidates[0].token;
    if (cfg->top_k > 0 && cfg->top_k < n_candidates) n_candidates = cfg->top_k;
    if (cfg->typical_p < 1) plain_typical(cfg->typical_p);
    if (cfg->top_p < 1) plain_top_p(cfg->top_p);
    if (cfg->min_p > 0) plain_min_p(cfg->min_p);
    return plain_draw(cfg->temp, sl_rng_uniform(cfg->seed, 0, (uint64_t)position));
}

static double plain_logprob(const float *logits, int32_t n_vocab, int32_t token)
{
    plain_candidates(logits, n_vocab);
    double sum = plain_softmax(1);
    return fmax(logits[token] - (candidates[0].logit + log(sum)), -FLT_MAX);
}

/* ---- random cases ---- */

static float random_logit(struct random *r, int kind)
{
    switch (kind) {
    case 0: return (float)(3 * normal(r));
    case 1: return (float)(0.3 * normal(r));
    case 2: return (float)(pick(r, 7) - 3); /* ties, zeros of both signs */
    case 3: return 1.5f;
    case 4: return chance(r, 30) ? -INFINITY : chance(r, 20) ? NAN : (float)(2 * normal(r));
    case 5: return (float)(normal(r) * 1e38);
    case 6: return chance(r, 5) ? INFINITY : chance(r, 50) ? FLT_MAX : -FLT_MAX;
    case 7: return chance(r, 50) ? 0.0f : -0.0f;
    case 8: return (float)(40 * normal(r));
    default: return chance(r, 1) ? (float)(15 + 3 * unit(r)) : (float)(2 * normal(r)); /* as real */
    }
}

static void random_logits(struct random *r, int32_t n_vocab, float *logits)
{
    int kind = pick(r, 12);
    for (int32_t i = 0; i < n_vocab; i++) logits[i] = random_logit(r, kind);
}

static void random_filters(struct random *r, struct sampler_cfg *cfg)
{
    static const int32_t ks[] = {0, 1, 2, 5, 40, 1023, 1024, 1025, 3000};
    sampler_cfg_default(cfg);
    cfg->temp = chance(r, 10) ? 0 : chance(r, 10) ? 1e-30f : (float)(0.05 + 2 * unit(r));
    cfg->top_k = chance(r, 50) ? ks[pick(r, 9)] : 0;
    cfg->typical_p = chance(r, 30) ? (float)unit(r) : 1;
    cfg->top_p = chance(r, 60) ? (chance(r, 20) ? 0.5f : (float)unit(r)) : 1;
    cfg->min_p = chance(r, 40) ? (float)(unit(r) * unit(r)) : 0;
    cfg->seed = bits(r);
    cfg->n_logprobs = chance(r, 30) ? pick(r, SAMPLER_LOGPROBS_MAX + 1) : -1;
}

static void random_changes(struct random *r, int32_t n_vocab, struct sampler_cfg *cfg,
                           struct sampler_bias *bias, int32_t *breakers)
{
    static const int32_t last_ns[] = {-1, 0, 1, 3, 20, 64, SAMPLER_HISTORY_MAX};
    if (chance(r, 50)) return;
    cfg->repeat_penalty = chance(r, 50) ? (float)(0.7 + unit(r)) : 1;
    cfg->presence_penalty = chance(r, 30) ? (float)normal(r) : 0;
    cfg->frequency_penalty = chance(r, 30) ? (float)normal(r) : 0;
    cfg->repeat_last_n = last_ns[pick(r, 7)];
    cfg->dry_multiplier = chance(r, 50) ? (float)unit(r) : 0;
    cfg->dry_base = (float)(1 + unit(r));
    cfg->dry_allowed_len = pick(r, 5);
    cfg->dry_last_n = last_ns[pick(r, 7)];
    cfg->n_dry_breakers = pick(r, 3);
    cfg->n_bias = pick(r, LIST_MAX);
    for (int i = 0; i < cfg->n_dry_breakers; i++)
        breakers[i] = pick(r, n_vocab < 20 ? n_vocab : 20);
    for (int i = 0; i < cfg->n_bias; i++) {
        bias[i] = (struct sampler_bias){pick(r, n_vocab),
                                        chance(r, 20) ? -INFINITY : (float)(5 * normal(r))};
    }
    cfg->dry_breakers = breakers;
    cfg->bias = bias;
}

static int32_t random_vocab(struct random *r)
{
    static const int32_t sizes[] = {1, 2, 3, 7, 63, 64, 65, 129, 500};
    return chance(r, 4) ? 1000 + pick(r, VOCAB_MAX - 1000) : sizes[pick(r, 9)];
}

/* ---- the comparison ---- */

static float raw[VOCAB_MAX], mine[VOCAB_MAX], plain[VOCAB_MAX];

static void check_logprobs(const struct sampler_cfg *cfg, int32_t n_vocab,
                           const struct sampler_result *result)
{
    assert_true(fabs(result->logprob - plain_logprob(raw, n_vocab, result->token)) <=
                1e-5 * fabs(result->logprob) + 1e-5);
    plain_candidates(raw, n_vocab);
    sort(by_logit);
    assert_int_equal(result->n_top,
                     cfg->n_logprobs < n_candidates ? cfg->n_logprobs : n_candidates);
    for (int i = 0; i < result->n_top; i++)
        assert_int_equal(result->top[i].token, candidates[i].token);
    for (int i = 0; i < result->n_top; i++) {
        double expected = plain_logprob(raw, n_vocab, result->top[i].token);
        assert_true(fabs(result->top[i].logprob - expected) <= 1e-5 * fabs(expected) + 1e-5);
    }
}

static void one_round(uint64_t round)
{
    struct random r = {round, 0};
    struct sampler_bias bias[LIST_MAX];
    int32_t breakers[LIST_MAX], history[HISTORY_LEN_MAX], n_vocab = random_vocab(&r);
    struct sampler_cfg cfg;
    struct sampler *s;
    struct sampler_result result;
    struct sl_err err = SL_ERR_INIT;
    random_filters(&r, &cfg);
    random_changes(&r, n_vocab, &cfg, bias, breakers);
    random_logits(&r, n_vocab, raw);
    assert_int_equal(sampler_create(&cfg, n_vocab, &s, &err), SL_OK);
    int n_history = pick(&r, HISTORY_LEN_MAX), n_words = 1 + pick(&r, n_vocab < 20 ? n_vocab : 20);
    for (int i = 0; i < n_history; i++) sampler_accept(s, history[i] = pick(&r, n_words));
    memcpy(mine, raw, sizeof mine);
    plain_cleanup(raw, n_vocab);
    plain_candidates(raw, n_vocab);
    bool any = n_candidates > 0;
    memcpy(plain, raw, sizeof plain);
    int64_t position = (int64_t)bits(&r);
    int32_t expected = any ? plain_sample(&cfg, plain, n_vocab, history, n_history, position) : -1;
    sl_status status = sampler_sample(s, mine, position, &result, &err);
    if (status != (expected < 0 ? SL_CORRUPT : SL_OK) ||
        (status == SL_OK && result.token != expected)) {
        fail_msg("round %d: vocabulary %d, status %s, token %d, expected %d", (int)round, n_vocab,
                 sl_status_name(status), result.token, expected);
    }
    if (status == SL_OK && cfg.n_logprobs >= 0) check_logprobs(&cfg, n_vocab, &result);
    sampler_destroy(s);
}

static void chooses_what_the_plain_chain_chooses(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    for (uint64_t round = 0; round < ROUNDS; round++) one_round(round);
    assert_true(sl_mem_live() == live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chooses_what_the_plain_chain_chooses)};
    if (getenv("SEED")) seed = strtoull(getenv("SEED"), NULL, 0);
    printf("seed %llu, %d rounds\n", (unsigned long long)seed, ROUNDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
