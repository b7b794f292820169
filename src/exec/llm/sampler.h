/* sampler.h: from one row of logits to one token. One sampler a sequence.
 * Floor: exec/llm.  Thread: the engine's.  Allocates: create only, about 50 KiB
 * whatever the vocabulary, up to 400 KiB more for penalties and DRY over the longest history.
 * Order of the chain: logit bias, penalties (repetition, presence, frequency), DRY, [greedy when
 * temp <= 0], top-k, typical, top-p, min-p, temperature, draw. Same order and meaning as
 * llama.cpp's defaults.
 * Invariant: the draw at a position depends on seed, position and logits alone, not on the
 * batch, and needs no history of earlier draws: a sequence rebuilt from its tokens on another
 * machine goes on with the same choices. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLER_LOGPROBS_MAX 20  /* OpenAI: top_logprobs <= 20 */
#define SAMPLER_BIAS_MAX 1024    /* OpenAI allows 300; room for tools */
#define SAMPLER_HISTORY_MAX 8192 /* tokens looked back by penalties and DRY */
#define SAMPLER_DRY_BREAKERS_MAX 64

struct sampler_bias {
    int32_t token;
    float bias; /* added to the logit; -INFINITY forbids */
};

struct sampler_cfg {
    float temp;              /* <= 0: greedy */
    int32_t top_k;           /* <= 0: off */
    float top_p;             /* >= 1: off */
    float min_p;             /* <= 0: off */
    float typical_p;         /* >= 1: off; arXiv:2202.00666 */
    float repeat_penalty;    /* 1: off; arXiv:1909.05858 */
    int32_t repeat_last_n;   /* tokens the penalties look back; 0: off, -1: the whole history */
    float presence_penalty;  /* OpenAI's, 0: off */
    float frequency_penalty; /* OpenAI's, 0: off */
    float dry_multiplier;    /* 0: off; DRY: github.com/oobabooga/text-generation-webui/pull/5677 */
    float dry_base;          /* 1.75 */
    int32_t dry_allowed_len; /* 2 */
    int32_t dry_last_n;      /* -1: the whole history, 0: off */
    const int32_t *dry_breakers; /* token ids at which a repeated run ends; copied */
    int32_t n_dry_breakers;
    const struct sampler_bias *bias; /* copied */
    int32_t n_bias;
    uint64_t seed;
    int32_t n_logprobs; /* -1: none, 0: of the chosen token, n: and of the n likeliest */
};

struct sampler_logprob {
    int32_t token;
    /* natural log of the model's own distribution (before the chain), as OpenAI reports it */
    float logprob;
};

struct sampler_result {
    int32_t token;
    float logprob; /* NaN unless n_logprobs >= 0 */
    int32_t n_top;
    struct sampler_logprob top[SAMPLER_LOGPROBS_MAX]; /* likeliest first */
};

struct sampler; /* opaque */

/* temp .8, top_k 40, top_p .95, min_p .05, penalties off, no logprobs */
void sampler_cfg_default(struct sampler_cfg *cfg);

/* INVALID names the field that is out of range. */
SL_CHECK sl_status sampler_check(const struct sampler_cfg *cfg, int32_t n_vocab,
                                 struct sl_err *err);
/* A copy with its lists, one block to sl_free. NULL: no memory. */
struct sampler_cfg *sampler_cfg_copy(const struct sampler_cfg *cfg);
/* The tokens before the next that change its choice: the last so many, 0..SAMPLER_HISTORY_MAX. A
 * sampler that is told only these chooses the same. */
int32_t sampler_looks_back(const struct sampler_cfg *cfg);

/* Errors as sampler_check; NOMEM. */
SL_CHECK sl_status sampler_create(const struct sampler_cfg *cfg, int32_t n_vocab,
                                  struct sampler **out, struct sl_err *err);
void sampler_destroy(struct sampler *s); /* NULL is fine */

/* Tells the sampler a token of the sequence, prompt or generated; penalties and DRY look back
 * over them. */
void sampler_accept(struct sampler *s, int32_t token);

/* Chooses a token from logits[0..n_vocab), which it may change. `position` is the token's place
 * in the sequence. NaN logits count as -inf, +inf as the largest float; when nothing is left
 * (all -inf) it fails with CORRUPT. Does not accept the token. */
SL_CHECK sl_status sampler_sample(struct sampler *s, float *logits, int64_t position,
                                  struct sampler_result *out, struct sl_err *err);
