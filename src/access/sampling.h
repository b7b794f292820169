/* sampling.h: how a request wants its tokens drawn, from the fields of OpenAI's API, of Ollama's
 * `options`, or of a model's own defaults, checked and with errors that name the field.
 * Floor: access.  Thread: any.  Allocates: in the caller's arena. */
#pragma once
#include "base/arena.h"
#include "base/json_read.h"
#include "exec/llm/sampler.h"
#include "grid/grid.h"

#define SAMPLING_STOP_MAX 16 /* OpenAI allows 4; what the engine takes (WIRE_STOP_MAX) */

struct sampling {
    struct sampler_cfg sampler;
    const char *const *stop;
    int n_stop;
    int32_t max_tokens; /* 0: until the context is full */
    int32_t n_choices;
    bool ignore_end;
};

/* The engine's defaults, and over them what the model brings (NULL: nothing; fields as in Ollama's
 * options; what is wrong in it is passed over). The seed is random. */
void sampling_init(struct sampling *sampling, const struct sl_json_value *model_defaults,
                   struct sl_arena *arena);

/* Fields of a chat or completion request: temperature, top_p, n, stop, seed, max_tokens,
 * max_completion_tokens, presence_penalty, frequency_penalty, logit_bias, and of other servers
 * top_k, min_p, typical_p, repetition_penalty, ignore_eos, dry_*. null counts as absent.
 * INVALID: *param is the field. NOMEM. */
SL_CHECK sl_status sampling_read_openai(struct sampling *sampling, const struct sl_json_value *body,
                                        struct sl_arena *arena, const char **param,
                                        struct sl_err *err);

/* Ollama's `options` object (NULL is fine): temperature, top_k, num_predict, stop, ... Unknown ones
 * are ignored, as Ollama does. */
SL_CHECK sl_status sampling_read_ollama(struct sampling *sampling,
                                        const struct sl_json_value *options, struct sl_arena *arena,
                                        const char **param, struct sl_err *err);

/* Makes it a generation drawn in this way. What it points to must live until node_submit. */
void sampling_fill_submit(const struct sampling *sampling, struct node_submit *submit);
