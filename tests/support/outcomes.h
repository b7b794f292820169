/* outcomes.h: what requests of many sorts get from an engine, to be compared with what they get
 * from another. For tests of split models. */
#pragma once
#include "exec/engine.h"
#include "exec/llm/arch.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/sampler.h"

#define OUTCOME_IDS_MAX 64
#define OUTCOME_CHOICES_MAX 3
#define OUTCOME_TOKENS_MAX 64
#define OUTCOME_PROMPT_MAX 200
#define OUTCOME_EMBD_MAX 512

struct outcome {
    int32_t tokens[OUTCOME_TOKENS_MAX], n_tokens, n_cached;
    char text[1024];
    size_t n_text;
    double logprobs; /* sum over tokens and their likeliest */
    float vector[OUTCOME_EMBD_MAX];
    int n_done;
    enum engine_finish finish;
    sl_status status;
};

struct outcomes {
    struct outcome v[OUTCOME_IDS_MAX][OUTCOME_CHOICES_MAX]; /* by id, choice */
    struct engine *engine;
    uint64_t cancel_id; /* from within the event of its second token; 0: none */
};

/* A configuration whose events come into `all`, which is cleared: 16 sequences of 256 tokens. */
struct llm_engine_cfg outcomes_cfg(struct outcomes *all);

struct plain { /* what most requests have; the same seed gives the same prompt */
    uint64_t id;
    int32_t n_prompt, max_tokens;
    uint32_t prompt_seed;
    float temp;
};

/* These fail the test when a request is refused. */
void outcomes_submit_plain(struct engine *engine, const struct plain *p);
void outcomes_submit(struct engine *engine, const struct plain *p, struct engine_generate req,
                     struct sampler_cfg sampler);
void outcomes_submit_embed(struct engine *engine, uint64_t id, int32_t n,
                           enum engine_pooling pooling);

/* Everything is equal, and nothing failed. */
void outcomes_compare(const struct outcomes *wanted, const struct outcomes *got);
/* No sequence is left, and no block held. */
void outcomes_check_empty(struct engine *engine);
struct llm_hparams outcomes_hparams(const char *path);
