#include "exec/llm/sampler.h"
#include "base/mem.h"
#include "base/rng.h"
#include "exec/llm/sampler_int.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define SAMPLER_VOCAB_MAX \
    (1 << 24) /* 60 times the largest vocabulary known; keeps index arithmetic in 32 bits */
#define SAMPLER_STREAM 0 /* of the generator: the draw is the only consumer */

struct sampler {
    struct sampler_cfg cfg; /* its lists belong to `penalty` */
    int32_t n_vocab;
    struct sampler_penalty *penalty; /* NULL: no logit is changed */
    struct sampler_scratch scratch;
};

void sampler_cfg_default(struct sampler_cfg *cfg)
{
    *cfg = (struct sampler_cfg){
        .temp = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1,
        .repeat_penalty = 1,
        .repeat_last_n = 64,
        .dry_base = 1.75f,
        .dry_allowed_len = 2,
        .dry_last_n = -1,
        .n_logprobs = -1,
    };
}

/* ---- what a configuration may hold ---- */

static sl_status check_float(const char *name, double value, double min, double max,
                             struct sl_err *err)
{
    if (value >= min && value <= max) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s is %g, must be within [%g, %g]", name, value, min, max);
}

static sl_status check_int(const char *name, int32_t value, int32_t min, int32_t max,
                           struct sl_err *err)
{
    if (value >= min && value <= max) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s is %d, must be within [%d, %d]", name, value, min, max);
}

static sl_status check_numbers(const struct sampler_cfg *cfg, struct sl_err *err)
{
    const struct {
        const char *name;
        double value, min, max;
    } floats[] = {
        {"temp", cfg->temp, -FLT_MAX, FLT_MAX},
        {"top_p", cfg->top_p, 0, FLT_MAX},
        {"min_p", cfg->min_p, -FLT_MAX, 1},
        {"typical_p", cfg->typical_p, 0, FLT_MAX},
        {"repeat_penalty", cfg->repeat_penalty, FLT_MIN, FLT_MAX},
        {"presence_penalty", cfg->presence_penalty, -FLT_MAX, FLT_MAX},
        {"frequency_penalty", cfg->frequency_penalty, -FLT_MAX, FLT_MAX},
        {"dry_multiplier", cfg->dry_multiplier, 0, FLT_MAX},
        {"dry_base", cfg->dry_base, 1, FLT_MAX},
    };
    const struct {
        const char *name;
        int32_t value, min, max;
    } ints[] = {
        {"repeat_last_n", cfg->repeat_last_n, -1, SAMPLER_HISTORY_MAX},
        {"dry_last_n", cfg->dry_last_n, -1, SAMPLER_HISTORY_MAX},
        {"dry_allowed_len", cfg->dry_allowed_len, 0, INT32_MAX},
        {"n_dry_breakers", cfg->n_dry_breakers, 0, SAMPLER_DRY_BREAKERS_MAX},
        {"n_bias", cfg->n_bias, 0, SAMPLER_BIAS_MAX},
        {"n_logprobs", cfg->n_logprobs, -1, SAMPLER_LOGPROBS_MAX},
    };
    sl_status status = SL_OK;
    for (size_t i = 0; i < sizeof floats / sizeof *floats && status == SL_OK; i++) {
        status = check_float(floats[i].name, floats[i].value, floats[i].min, floats[i].max, err);
    }
    for (size_t i = 0; i < sizeof ints / sizeof *ints && status == SL_OK; i++) {
        status = check_int(ints[i].name, ints[i].value, ints[i].min, ints[i].max, err);
    }
    return status;
}

static sl_status check_lists(const struct sampler_cfg *cfg, int32_t n_vocab, struct sl_err *err)
{
    if (cfg->n_bias > 0 && !cfg->bias) return sl_err_set(err, SL_INVALID, "bias is NULL");
    if (cfg->n_dry_breakers > 0 && !cfg->dry_breakers)
        return sl_err_set(err, SL_INVALID, "dry_breakers is NULL");
    sl_status status = SL_OK;
    for (int32_t i = 0; i < cfg->n_bias && status == SL_OK; i++) {
        status = check_int("a token in bias", cfg->bias[i].token, 0, n_vocab - 1, err);
        if (status == SL_OK)
            status = check_float("a bias", cfg->bias[i].bias, -INFINITY, FLT_MAX, err);
    }
    for (int32_t i = 0; i < cfg->n_dry_breakers && status == SL_OK; i++) {
        status = check_int("a token in dry_breakers", cfg->dry_breakers[i], 0, n_vocab - 1, err);
    }
    return status;
}

sl_status sampler_check(const struct sampler_cfg *cfg, int32_t n_vocab, struct sl_err *err)
{
    sl_status status = check_int("n_vocab", n_vocab, 1, SAMPLER_VOCAB_MAX, err);
    if (status == SL_OK) status = check_numbers(cfg, err);
    return status == SL_OK ? check_lists(cfg, n_vocab, err) : status;
}

struct sampler_cfg *sampler_cfg_copy(const struct sampler_cfg *cfg)
{
    size_t n_bias = (size_t)cfg->n_bias * sizeof *cfg->bias;
    size_t n_breakers = (size_t)cfg->n_dry_breakers * sizeof *cfg->dry_breakers;
    struct sampler_cfg *copy = sl_malloc(sizeof *copy + n_bias + n_breakers);
    if (!copy) return NULL;
    char *bias = (char *)(copy + 1), *breakers = bias + n_bias;
    *copy = *cfg;
    if (n_bias) memcpy(bias, cfg->bias, n_bias);
    if (n_breakers) memcpy(breakers, cfg->dry_breakers, n_breakers);
    copy->bias = (const struct sampler_bias *)(const void *)bias;
    copy->dry_breakers = (const int32_t *)(const void *)breakers;
    return copy;
}

/* ---- life cycle ---- */

sl_status sampler_create(const struct sampler_cfg *cfg, int32_t n_vocab, struct sampler **out,
                         struct sl_err *err)
{
    sl_status status = sampler_check(cfg, n_vocab, err);
    if (status != SL_OK) return status;
    struct sampler *s = sl_calloc(1, sizeof *s);
    if (!s) return sl_err_set(err, SL_NOMEM, "no memory for a sampler");
    s->cfg = *cfg;
    s->cfg.bias = NULL;
    s->cfg.dry_breakers = NULL;
    s->n_vocab = n_vocab;
    if (sampler_penalty_create(cfg, &s->penalty) != SL_OK) goto fail;
    *out = s;
    return SL_OK;
fail:
    sampler_destroy(s);
    return sl_err_set(err, SL_NOMEM, "no memory for a sampler");
}

void sampler_destroy(struct sampler *s)
{
    if (!s) return;
    sampler_penalty_destroy(s->penalty);
    sl_free(s);
}

void sampler_accept(struct sampler *s, int32_t token)
{
    if (s->penalty && token >= 0 && token < s->n_vocab) sampler_penalty_accept(s->penalty, token);
}

/* ---- logprobs: of the model's own distribution, before anything changes the logits ---- */

static float logprob_of(float logit, double norm)
{
    return (float)fmax(logit - norm, -FLT_MAX);
}

static double report_top(struct sampler *s, const float *logits, float max,
                         struct sampler_result *out)
{
    double norm = max + log(sampler_sum_row(logits, s->n_vocab, max));
    out->n_top = sampler_likeliest(logits, s->n_vocab, s->cfg.n_logprobs, s->scratch.heap);
    for (int32_t i = 0; i < out->n_top; i++) {
        int32_t token = sampler_key_token(s->scratch.heap[i]);
        out->top[i] = (struct sampler_logprob){token, logprob_of(logits[token], norm)};
    }
    return norm;
}

/* ---- the chain ---- */

static int32_t choose(struct sampler *s, float *logits, float max, int64_t position)
{
    const struct sampler_cfg *cfg = &s->cfg;
    struct sampler_set set = {.logits = logits, .n = s->n_vocab, .max = max};
    if (cfg->top_k > 0) sampler_top_k(&set, cfg->top_k, &s->scratch);
    if (cfg->typical_p < 1) sampler_typical(&set, cfg->typical_p, &s->scratch);
    if (cfg->top_p < 1) sampler_top_p(&set, cfg->top_p, &s->scratch);
    if (cfg->min_p > 0) sampler_min_p(&set, cfg->min_p);
    double uniform = sl_rng_uniform(cfg->seed, SAMPLER_STREAM, (uint64_t)position);
    return sampler_draw(&set, cfg->temp, uniform, &s->scratch);
}

/* +inf counts as the largest number, so that differences of logits exist. */
static int32_t find_best(float *logits, int32_t n)
{
    int32_t best = sampler_argmax(logits, n);
    if (best < 0 || logits[best] <= FLT_MAX) return best;
    for (int32_t i = 0; i < n; i++) {
        if (logits[i] > FLT_MAX) logits[i] = FLT_MAX;
    }
    return sampler_argmax(logits, n);
}

sl_status sampler_sample(struct sampler *s, float *logits, int64_t position,
                         struct sampler_result *out, struct sl_err *err)
{
    bool wants_logprob = s->cfg.n_logprobs >= 0;
    double norm = 0;
    out->n_top = 0;
    out->logprob = NAN;
    int32_t best = find_best(logits, s->n_vocab);
    if (best < 0) return sl_err_set(err, SL_CORRUPT, "the model gives no token a finite logit");
    if (wants_logprob) norm = report_top(s, logits, logits[best], out);
    if (s->penalty) {
        sampler_penalty_apply(s->penalty, logits);
        best = sampler_argmax(logits, s->n_vocab);
        if (best < 0)
            return sl_err_set(err, SL_CORRUPT,
                              "the logit bias forbids every token the model allows");
    }
    out->token = s->cfg.temp <= 0 ? best : choose(s, logits, logits[best], position);
    if (wants_logprob) {
        /* The filters wrote -inf over others, never over the chosen token, so its logit can
         * still be read. */
        float now = logits[out->token];
        float raw = s->penalty ? sampler_penalty_raw(s->penalty, out->token, now) : now;
        out->logprob = logprob_of(raw, norm);
    }
    return SL_OK;
}
