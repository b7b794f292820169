/* sampler_test.c: each part of the chain on numbers one can check by hand, and its statistics. */
#include "base/mem.h"
#include "base/rng.h"
#include "exec/llm/sampler.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define N_SMALL 8
#define N_DRAWS 100000

/* A configuration that does nothing: draws from the model's distribution. */
static struct sampler_cfg plain_cfg(void)
{
    struct sampler_cfg cfg;
    sampler_cfg_default(&cfg);
    cfg.temp = 1;
    cfg.top_k = 0;
    cfg.top_p = 1;
    cfg.min_p = 0;
    return cfg;
}

static struct sampler *create(const struct sampler_cfg *cfg, int32_t n_vocab)
{
    struct sampler *s = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (sampler_create(cfg, n_vocab, &s, &err) != SL_OK) fail_msg("%s", err.text);
    return s;
}

static struct sampler_result sample(struct sampler *s, const float *logits, int32_t n,
                                    int64_t position)
{
    float copy[N_SMALL];
    struct sampler_result result;
    struct sl_err err = SL_ERR_INIT;
    assert_true(n <= N_SMALL);
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    if (sampler_sample(s, copy, position, &result, &err) != SL_OK) fail_msg("%s", err.text);
    return result;
}

static int32_t greedy(struct sampler_cfg cfg, const float *logits, int32_t n)
{
    cfg.temp = 0;
    struct sampler *s = create(&cfg, n);
    int32_t token = sample(s, logits, n, 0).token;
    sampler_destroy(s);
    return token;
}

#define ROW(...) (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float)

static void greedy_takes_the_first_of_the_largest(void **state)
{
    (void)state;
    assert_int_equal(greedy(plain_cfg(), ROW(1, 3, 2)), 1);
    assert_int_equal(greedy(plain_cfg(), ROW(1, 3, 3)), 1);
    assert_int_equal(greedy(plain_cfg(), ROW(-0.0f, 0.0f)), 0);
    assert_int_equal(greedy(plain_cfg(), ROW(NAN, -5, NAN, -4, NAN)), 3);
    assert_int_equal(greedy(plain_cfg(), ROW(-INFINITY, -FLT_MAX)), 1);
    assert_int_equal(greedy(plain_cfg(), ROW(FLT_MAX, INFINITY)), 0);
    assert_int_equal(greedy(plain_cfg(), ROW(7)), 0);
}

static void greedy_finds_the_largest_anywhere_in_a_long_row(void **state)
{
    (void)state;
    enum { N = 333 };
    float logits[N];
    struct sampler_cfg cfg = plain_cfg();
    struct sampler_result result;
    cfg.temp = 0;
    struct sampler *s = create(&cfg, N);
    for (int at = 0; at < N; at++) {
        for (int i = 0; i < N; i++) logits[i] = i % 3 == 0 ? NAN : (float)(i % 17);
        logits[at] = 50;
        if (at + 5 < N) logits[at + 5] = 50;
        assert_int_equal(sampler_sample(s, logits, 0, &result, NULL), SL_OK);
        assert_int_equal(result.token, at);
        assert_true(isnan(result.logprob));
    }
    sampler_destroy(s);
}

static void nothing_left_is_an_error(void **state)
{
    (void)state;
    struct sampler_bias bias = {1, -INFINITY};
    struct sampler_cfg cfg = plain_cfg();
    struct sampler_result result;
    struct sl_err err = SL_ERR_INIT;
    struct sampler *s = create(&cfg, 2);
    assert_int_equal(sampler_sample(s, (float[]){NAN, -INFINITY}, 0, &result, &err), SL_CORRUPT);
    sampler_destroy(s);
    cfg.bias = &bias;
    cfg.n_bias = 1;
    s = create(&cfg, 2);
    assert_int_equal(sampler_sample(s, (float[]){NAN, 1}, 0, &result, &err), SL_CORRUPT);
    assert_non_null(strstr(err.text, "bias"));
    sampler_destroy(s);
}

static void bias_is_added_and_forbids(void **state)
{
    (void)state;
    const struct sampler_bias bias[] = {{0, 2.5f}, {1, -INFINITY}, {0, 1}};
    struct sampler_cfg cfg = plain_cfg();
    cfg.bias = bias;
    cfg.n_bias = 3;
    assert_int_equal(greedy(cfg, ROW(0, 9, 3)), 0);
    assert_int_equal(greedy(cfg, ROW(0, 9, 4)), 2);
}

/* Which of two tokens wins tells on which side of `expected` the changed logit of token 0 lies. */
static void expect_logit(struct sampler_cfg cfg, const int32_t *history, int n_history,
                         float before, float expected)
{
    cfg.temp = 0;
    for (int side = -1; side <= 1; side += 2) {
        struct sampler *s = create(&cfg, N_SMALL);
        for (int i = 0; i < n_history; i++) sampler_accept(s, history[i]);
        float logits[N_SMALL] = {before};
        for (int i = 1; i < N_SMALL; i++) logits[i] = -INFINITY;
        logits[N_SMALL - 1] = expected + (float)side * 1e-4f;
        assert_int_equal(sample(s, logits, N_SMALL, 0).token, side < 0 ? 0 : N_SMALL - 1);
        sampler_destroy(s);
    }
}

#define TOKENS(...) \
    (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

static void penalties_follow_their_formulas(void **state)
{
    (void)state;
    struct sampler_cfg cfg = plain_cfg();
    cfg.repeat_penalty = 2;
    expect_logit(cfg, TOKENS(0, 1), 3, 1.5f);
    expect_logit(cfg, TOKENS(0, 1), -3, -6);
    cfg.repeat_penalty = 1;
    cfg.presence_penalty = 0.5f;
    expect_logit(cfg, TOKENS(0, 1, 0), 3, 2.5f);
    cfg.frequency_penalty = 0.25f;
    expect_logit(cfg, TOKENS(0, 1, 0), 3, 2);
    expect_logit(cfg, TOKENS(1, 2), 3, 3);
    cfg.repeat_last_n = 2;
    expect_logit(cfg, TOKENS(0, 0, 1, 0), 3, 2.25f);
    expect_logit(cfg, TOKENS(0, 1, 2), 3, 3);
    cfg.repeat_last_n = 0;
    expect_logit(cfg, TOKENS(0, 0), 3, 3);
}

static void history_outside_the_vocabulary_is_ignored(void **state)
{
    (void)state;
    struct sampler_cfg cfg = plain_cfg();
    cfg.presence_penalty = 1;
    expect_logit(cfg, TOKENS(-1, N_SMALL, INT32_MAX, 0), 3, 2);
}

static void the_whole_history_is_bounded(void **state)
{
    (void)state;
    struct sampler_cfg cfg = plain_cfg();
    cfg.temp = 0;
    cfg.frequency_penalty = 1;
    cfg.repeat_last_n = -1;
    struct sampler *s = create(&cfg, 2);
    for (int i = 0; i < 3 * SAMPLER_HISTORY_MAX; i++) sampler_accept(s, 0);
    assert_int_equal(sample(s, ROW(SAMPLER_HISTORY_MAX + 0.5f, 0), 0).token, 0);
    assert_int_equal(sample(s, ROW(SAMPLER_HISTORY_MAX - 0.5f, 0), 0).token, 1);
    sampler_destroy(s);
}

static void dry_takes_from_what_would_continue_a_run(void **state)
{
    (void)state;
    struct sampler_cfg cfg = plain_cfg();
    cfg.dry_multiplier = 0.5f;
    cfg.dry_base = 2;
    cfg.dry_allowed_len = 2;
    expect_logit(cfg, TOKENS(1, 2, 3, 0, 5, 1, 2, 3), 10, 9); /* run of 3: 0.5 * 2^1 */
    expect_logit(cfg, TOKENS(2, 3, 0, 1, 2, 3, 0, 4, 1, 2, 3), 10,
                 9);                                     /* the longest of two runs counts */
    expect_logit(cfg, TOKENS(3, 0, 5, 1, 2, 3), 10, 10); /* too short */
    expect_logit(cfg, TOKENS(0, 0, 0, 0, 0), 10, 8);     /* runs may overlap: 4 long */
    const int32_t breaker = 2;
    cfg.dry_breakers = &breaker;
    cfg.n_dry_breakers = 1;
    expect_logit(cfg, TOKENS(1, 2, 3, 0, 5, 1, 2, 3), 10, 10); /* only "3" follows the breaker */
    expect_logit(cfg, TOKENS(1, 3, 3, 0, 5, 1, 3, 3), 10, 9);
    cfg.n_dry_breakers = 0;
    cfg.dry_last_n = 5;
    expect_logit(cfg, TOKENS(1, 2, 3, 0, 5, 1, 2, 3), 10, 10); /* the first run is too far back */
    cfg.dry_last_n = -1;
    cfg.dry_base = FLT_MAX;
    cfg.temp = 0;
    struct sampler *s = create(&cfg, 2);
    for (int i = 0; i < 100; i++) sampler_accept(s, 0);
    assert_int_equal(sample(s, ROW(FLT_MAX, -INFINITY), 0).token, 0); /* overflow does not forbid */
    sampler_destroy(s);
}

static void logprobs_are_of_the_unchanged_distribution(void **state)
{
    (void)state;
    const struct sampler_bias bias[] = {{3, 50}, {3, 50}};
    struct sampler_cfg cfg = plain_cfg();
    cfg.bias = bias;
    cfg.n_bias = 2;
    cfg.temp = 0.1f;
    cfg.top_k = 1;
    cfg.n_logprobs = 3;
    const float logits[] = {logf(2), logf(4), -INFINITY, logf(1), logf(1)};
    struct sampler *s = create(&cfg, 5);
    struct sampler_result result = sample(s, logits, 5, 0);
    assert_int_equal(result.token, 3);
    assert_true(fabsf(result.logprob - logf(1.0f / 8)) < 1e-6f);
    assert_int_equal(result.n_top, 3);
    const struct sampler_logprob expected[] = {
        {1, logf(0.5f)}, {0, logf(0.25f)}, {3, logf(0.125f)}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(result.top[i].token, expected[i].token);
        assert_true(fabsf(result.top[i].logprob - expected[i].logprob) < 1e-6f);
    }
    sampler_destroy(s);
    cfg.n_logprobs = SAMPLER_LOGPROBS_MAX;
    s = create(&cfg, 5);
    assert_int_equal(sample(s, logits, 5, 0).n_top, 4); /* the impossible one is not listed */
    sampler_destroy(s);
}

static void a_draw_depends_on_seed_and_position_alone(void **state)
{
    (void)state;
    const float logits[N_SMALL] = {0};
    struct sampler_cfg cfg = plain_cfg();
    cfg.seed = 1;
    struct sampler *first = create(&cfg, N_SMALL), *again = create(&cfg, N_SMALL);
    cfg.seed = 2;
    struct sampler *other = create(&cfg, N_SMALL);
    int n_same = 0;
    for (int position = 0; position < 100; position++) {
        int32_t token = sample(first, logits, N_SMALL, position).token;
        if (position % 3 == 0)
            assert_int_equal(sample(again, logits, N_SMALL, position).token, token);
        n_same += sample(other, logits, N_SMALL, position).token == token;
        assert_int_equal(token, (int32_t)(sl_rng_uniform(1, 0, (uint64_t)position) * N_SMALL));
    }
    assert_true(n_same < 40);
    sampler_destroy(first);
    sampler_destroy(again);
    sampler_destroy(other);
}

static void a_flat_row_of_a_huge_vocabulary_is_cut_evenly(void **state)
{
    (void)state;
    enum { N = 700001 };
    float *logits = sl_malloc(N * sizeof *logits);
    struct sampler_cfg cfg = plain_cfg();
    struct sampler *s = create(&cfg, N);
    struct sampler_result result;
    assert_non_null(logits);
    for (int position = 0; position < 20; position++) {
        for (int i = 0; i < N; i++) logits[i] = 2;
        assert_int_equal(sampler_sample(s, logits, position, &result, NULL), SL_OK);
        assert_int_equal(result.token, (int32_t)(sl_rng_uniform(0, 0, (uint64_t)position) * N));
    }
    sampler_destroy(s);
    sl_free(logits);
}

/* Draws against the expected shares; `weights` of 0 must never be drawn. */
static void check_statistics(const struct sampler_cfg *cfg, const float *logits,
                             const double *weights)
{
    int counts[N_SMALL] = {0}, n_possible = 0;
    double sum = 0, chi2 = 0;
    struct sampler *s = create(cfg, N_SMALL);
    for (int i = 0; i < N_DRAWS; i++) counts[sample(s, logits, N_SMALL, i).token]++;
    for (int i = 0; i < N_SMALL; i++) sum += weights[i];
    for (int i = 0; i < N_SMALL; i++) {
        if (weights[i] <= 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        double expected = N_DRAWS * weights[i] / sum, distance = counts[i] - expected;
        chi2 += distance * distance / expected;
        n_possible++;
    }
    /* 99.9 % by Wilson and Hilferty's approximation. */
    double df = n_possible - 1, root = 1 - 2 / (9 * df) + 3.09 * sqrt(2 / (9 * df));
    if (n_possible > 1 && chi2 > df * root * root * root)
        fail_msg("chi-square %g with %g degrees of freedom", chi2, df);
    sampler_destroy(s);
}

static const double shares[N_SMALL] = {0.05, 0.30, 0.02, 0.25, 0.15, 0.10, 0.08, 0.05};

static void check_kept(struct sampler_cfg cfg, const char *kept)
{
    float logits[N_SMALL];
    double weights[N_SMALL];
    for (int i = 0; i < N_SMALL; i++) {
        logits[i] = (float)log(shares[i]);
        weights[i] = kept[i] == '1' ? pow(shares[i], 1 / cfg.temp) : 0;
    }
    check_statistics(&cfg, logits, weights);
}

static void draws_follow_the_distribution_the_filters_leave(void **state)
{
    (void)state;
    struct sampler_cfg cfg = plain_cfg();
    check_kept(cfg, "11111111");
    cfg.temp = 0.5f;
    check_kept(cfg, "11111111");
    cfg.temp = 2;
    cfg.top_k = 4;
    check_kept(cfg, "01011100");
    cfg = plain_cfg();
    cfg.top_p = 0.69f;
    check_kept(cfg, "01011000");
    cfg.top_p = 0.71f;
    cfg.temp = 3;
    check_kept(cfg, "01011100");
    cfg.top_p = 1;
    cfg.min_p = 0.25f; /* of 0.30 */
    check_kept(cfg, "01011110");
    cfg = plain_cfg();
    cfg.top_k = 6;
    cfg.top_p = 0.76f; /* of 0.93, what top-k leaves */
    cfg.min_p = 0.4f;
    check_kept(cfg, "01011000");
}

static void typical_keeps_what_is_nearest_to_the_entropy(void **state)
{
    (void)state;
    /* Entropy 1.80; surprises 3.00 1.20 3.91 1.39 1.90 2.30 2.53 3.00: nearest first 4, 3, 5, 1,
     * 6, 0, 7, 2. */
    struct sampler_cfg cfg = plain_cfg();
    cfg.typical_p = 0.1f;
    check_kept(cfg, "00001000");
    cfg.typical_p = 0.39f;
    check_kept(cfg, "00011000");
    cfg.typical_p = 0.49f;
    check_kept(cfg, "00011100");
    cfg.typical_p = 0.79f;
    check_kept(cfg, "01011100");
    cfg.min_p = 0.4f;
    check_kept(cfg, "01011000");
}

/* A thousand tokens 5 below the top hold 87.01 % and the mean gap is 4.36: 25 tokens 8.3 below
 * are nearer to it than the top one, so they fill up to 87.05 %. */
static void typical_may_prefer_the_tail_to_the_top(void **state)
{
    (void)state;
    enum { N = 1026, N_TAIL = 25 };
    struct sampler_cfg cfg = plain_cfg();
    struct sampler_result result;
    int n_tail = 0;
    cfg.typical_p = 0.8705f;
    cfg.temp = 100; /* so that what is kept is drawn about equally often */
    struct sampler *s = create(&cfg, N);
    for (int position = 0; position < 5000; position++) {
        float logits[N];
        for (int i = 0; i < N; i++) logits[i] = i == 0 ? 0 : i <= N_TAIL ? -8.3f : -5;
        assert_int_equal(sampler_sample(s, logits, position, &result, NULL), SL_OK);
        assert_int_not_equal(result.token, 0);
        n_tail += result.token <= N_TAIL;
    }
    assert_in_range(n_tail, 20, 120); /* 14 of 1014 tokens: about 69 */
    sampler_destroy(s);
}

/* ---- configurations ---- */

static void expect_invalid(const struct sampler_cfg *cfg, const char *field)
{
    struct sampler *s = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(sampler_create(cfg, 100, &s, &err), SL_INVALID);
    assert_non_null(strstr(err.text, field));
    assert_null(s);
}

#define EXPECT_INVALID(field, value) \
    do { \
        struct sampler_cfg bad = plain_cfg(); \
        bad.field = (value); \
        expect_invalid(&bad, #field); \
    } while (0)

static void refuses_what_is_out_of_range(void **state)
{
    (void)state;
    EXPECT_INVALID(temp, NAN);
    EXPECT_INVALID(temp, INFINITY);
    EXPECT_INVALID(top_p, -0.1f);
    EXPECT_INVALID(min_p, 1.1f);
    EXPECT_INVALID(typical_p, NAN);
    EXPECT_INVALID(repeat_penalty, 0);
    EXPECT_INVALID(repeat_last_n, SAMPLER_HISTORY_MAX + 1);
    EXPECT_INVALID(presence_penalty, INFINITY);
    EXPECT_INVALID(frequency_penalty, NAN);
    EXPECT_INVALID(dry_multiplier, -1);
    EXPECT_INVALID(dry_base, 0.5f);
    EXPECT_INVALID(dry_allowed_len, -1);
    EXPECT_INVALID(dry_last_n, -2);
    EXPECT_INVALID(n_dry_breakers, SAMPLER_DRY_BREAKERS_MAX + 1);
    EXPECT_INVALID(n_bias, SAMPLER_BIAS_MAX + 1);
    EXPECT_INVALID(n_bias, -1);
    EXPECT_INVALID(n_logprobs, SAMPLER_LOGPROBS_MAX + 1);
    struct sampler_cfg cfg = plain_cfg();
    cfg.n_bias = 1;
    cfg.bias = &(struct sampler_bias){100, 0};
    expect_invalid(&cfg, "bias");
    cfg.bias = &(struct sampler_bias){0, NAN};
    expect_invalid(&cfg, "bias");
    cfg.bias = NULL;
    expect_invalid(&cfg, "bias");
    cfg = plain_cfg();
    cfg.n_dry_breakers = 1;
    expect_invalid(&cfg, "dry_breakers");
    cfg.dry_breakers = &(int32_t){-1};
    expect_invalid(&cfg, "dry_breakers");
    struct sampler *s;
    struct sl_err err = SL_ERR_INIT;
    cfg = plain_cfg();
    assert_int_equal(sampler_create(&cfg, 0, &s, &err), SL_INVALID);
    assert_int_equal(sampler_create(&cfg, INT32_MAX, &s, &err), SL_INVALID);
}

static void create_survives_every_failed_allocation(void **state)
{
    (void)state;
    const int32_t breaker = 1;
    const struct sampler_bias bias = {2, 1};
    struct sampler_cfg cfg = plain_cfg();
    cfg.bias = &bias;
    cfg.dry_breakers = &breaker;
    cfg.n_bias = cfg.n_dry_breakers = 1;
    cfg.dry_multiplier = 1;
    struct sampler *s = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live(), nth = 1;
    sl_status status;
    for (;; nth++) {
        sl_mem_fail_at(nth, false);
        status = sampler_create(&cfg, 10, &s, &err);
        if (!sl_mem_fail_hit()) break;
        assert_int_equal(status, SL_NOMEM);
        assert_true(sl_mem_live() == live);
    }
    sl_mem_fail_at(0, false);
    assert_int_equal(status, SL_OK);
    assert_true(nth > 5);
    sampler_destroy(s);
    sampler_destroy(NULL);
    assert_true(sl_mem_live() == live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(greedy_finds_the_largest_anywhere_in_a_long_row),
        cmocka_unit_test(nothing_left_is_an_error),
        cmocka_unit_test(bias_is_added_and_forbids),
        cmocka_unit_test(penalties_follow_their_formulas),
        cmocka_unit_test(history_outside_the_vocabulary_is_ignored),
        cmocka_unit_test(the_whole_history_is_bounded),
        cmocka_unit_test(dry_takes_from_what_would_continue_a_run),
        cmocka_unit_test(logprobs_are_of_the_unchanged_distribution),
        cmocka_unit_test(a_draw_depends_on_seed_and_position_alone),
        cmocka_unit_test(a_flat_row_of_a_huge_vocabulary_is_cut_evenly),
        cmocka_unit_test(draws_follow_the_distribution_the_filters_leave),
        cmocka_unit_test(typical_keeps_what_is_nearest_to_the_entropy),
        cmocka_unit_test(typical_may_prefer_the_tail_to_the_top),
        cmocka_unit_test(refuses_what_is_out_of_range),
        cmocka_unit_test(create_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
