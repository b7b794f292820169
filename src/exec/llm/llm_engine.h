/* llm_engine.h: loads a GGUF language model as an engine: continuous batching over a paged KV
 * cache.
 * Floor: exec/llm.  Thread: as engine.h says.  Allocates: weights are mapped, KV cache and
 * buffers allocated at load. */
#pragma once
#include "exec/engine_open.h"

#define LLM_STAGES_MAX 64

struct gguf_file;
struct llm_hparams;
struct tokenizer;

enum llm_kv_type { LLM_KV_F16, LLM_KV_Q8_0, LLM_KV_F32 };
enum llm_attention {
    /* paged kernels of our own where keys and values live on the CPU, ggml's elsewhere */
    LLM_ATTENTION_AUTO,
    LLM_ATTENTION_PAGED,
    LLM_ATTENTION_GGML /* ggml's flash attention over the whole pool with a mask: what GPUs run */
};

struct llm_engine_cfg {
    int32_t n_threads;   /* 0: as many as this process may use */
    int32_t n_ctx;       /* most tokens of one sequence; 0: min(the model's own, 4096) */
    int32_t n_seqs_max;  /* sequences that run at once; 0: 64 */
    int32_t n_queue_max; /* requests that wait; 0: 1024 */
    int32_t n_batch;     /* token budget of one step; 0: 512 */
    int32_t n_stages;    /* chained stages in this process; 0: 1 */
    int32_t gpu_layers;  /* layers on the accelerator; -1: as many as fit */
    enum llm_kv_type kv_type;
    /* bound of the KV cache in bytes; 0: room for n_ctx tokens (bounded by half of free memory) */
    uint64_t kv_bytes_max;
    /* without that bound: room for so many sequences of n_ctx tokens, as long as it takes no
     * more than a quarter of the free memory; 0: 1, whatever it takes up to half */
    int32_t kv_contexts;
    bool no_prefix_cache;
    enum llm_attention attention;
    engine_event_fn on_event; /* required */
    void *event_ctx;
    /* Called from within llm_engine_load as weights come in, 0 <= fraction <= 1; false cancels the
     * load. May be NULL. */
    bool (*on_load)(void *ctx, double fraction);
    void *load_ctx;
    /* Stage 0 of a split model; n_stages of this struct is then 1. With a stage after it:
     * stage_engine.h. */
    struct engine_split split;
    engine_frame_fn on_frame; /* required with a split */
    void *frame_ctx;
    /* For measuring and tests: makes the logits of every token, and gives each row before a sampler
     * changes it: those behind tokens[position] of request `id`. Valid in the call. NULL: none. */
    void (*on_logits)(void *ctx, uint64_t id, int32_t position, const float *logits);
    void *logits_ctx;
};

void llm_engine_cfg_default(struct llm_engine_cfg *cfg);

/* Loads `path`. On failure the message names the file and what is wrong with it. CORRUPT,
 * UNSUPPORTED, NOT_FOUND, NOMEM (with the numbers: needed, available), INVALID (cfg), CANCELLED (by
 * on_load). */
SL_CHECK sl_status llm_engine_load(const char *path, const struct llm_engine_cfg *cfg,
                                   struct engine **out, struct sl_err *err);

struct llm_engine_estimate { /* as engine_stats has them */
    uint64_t weight_bytes;
    uint64_t weight_copied_bytes; /* of them; the rest is mapped from the file */
    uint64_t kv_bytes, compute_bytes;
};

/* What llm_engine_load, or with a split its stage's engine, would take with this configuration
 * (whose callbacks are not needed), from the file's header alone: no weight is read, so that a
 * file of the right size whose tensors are not there will do, and none of that memory is taken.
 * Whether it is free now is not asked. Errors as llm_engine_load. */
SL_CHECK sl_status llm_engine_estimate(const char *path, const struct llm_engine_cfg *cfg,
                                       struct llm_engine_estimate *out, struct sl_err *err);

/* What was loaded; valid until unload. NULL when `engine` is not an LLM. */
const struct tokenizer *llm_engine_tokenizer(const struct engine *engine);
const struct llm_hparams *llm_engine_hparams(const struct engine *engine);
const struct gguf_file *llm_engine_file(const struct engine *engine);
int32_t llm_engine_n_ctx(const struct engine *engine);
int32_t llm_engine_n_threads(const struct engine *engine);
