/* llm_engine.c: loading, measuring, and the engine interface. Requests come in by llm_submit.c,
 * steps are llm_step.c's, their planning is llm_plan.c's, sequences are llm_seq.c's. */
#include "exec/llm/llm_engine.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include <string.h>

#define N_CTX_DEFAULT 4096
#define N_CTX_MAX (1 << 22) /* bound of the arithmetic; memory refuses long before */
#define N_SEQS_DEFAULT 64
#define N_SEQS_MAX 4096
#define N_QUEUE_DEFAULT 1024
#define N_BATCH_DEFAULT 512
#define N_BATCH_MAX 8192
#define N_THREADS_MAX 512 /* ggml's own bound */

static const struct engine_ops llm_ops;

void llm_engine_cfg_default(struct llm_engine_cfg *cfg)
{
    *cfg = (struct llm_engine_cfg){.gpu_layers = -1};
}

static sl_status check_range(const char *name, int64_t v, int64_t lo, int64_t hi,
                             struct sl_err *err)
{
    if (v >= lo && v <= hi) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s: %lld is not within %lld..%lld", name, (long long)v,
                      (long long)lo, (long long)hi);
}

static void resolve_defaults(struct llm_engine *e)
{
    struct llm_engine_cfg *c = &e->cfg;
    if (!c->n_threads) c->n_threads = sl_cpu_count();
    if (!c->n_ctx) c->n_ctx = e->hp.n_ctx_train < N_CTX_DEFAULT ? e->hp.n_ctx_train : N_CTX_DEFAULT;
    if (!c->n_seqs_max) c->n_seqs_max = N_SEQS_DEFAULT;
    if (!c->n_queue_max) c->n_queue_max = N_QUEUE_DEFAULT;
    if (!c->n_batch) c->n_batch = N_BATCH_DEFAULT;
    if (!c->n_stages) c->n_stages = 1;
}

static sl_status check_cfg(const struct llm_engine *e, struct sl_err *err)
{
    const struct llm_engine_cfg *c = &e->cfg;
    sl_status status = check_range("threads", c->n_threads, 1, N_THREADS_MAX, err);
    if (status == SL_OK) status = check_range("context", c->n_ctx, 1, N_CTX_MAX, err);
    if (status == SL_OK) status = check_range("sequences", c->n_seqs_max, 1, N_SEQS_MAX, err);
    if (status == SL_OK) status = check_range("queue", c->n_queue_max, 1, 1 << 20, err);
    if (status == SL_OK) status = check_range("batch", c->n_batch, 1, N_BATCH_MAX, err);
    if (status == SL_OK)
        status = check_range("stages", c->n_stages, 1,
                             e->hp.n_layer < LLM_STAGES_MAX ? e->hp.n_layer : LLM_STAGES_MAX, err);
    if (status == SL_OK && !c->on_event && !e->measure)
        status = sl_err_set(err, SL_INVALID, "on_event is missing");
    return status;
}

static int32_t ctx_blocks(const struct llm_engine *e)
{
    /* and one for a copy on write */
    return (e->cfg.n_ctx + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS + 1;
}

/* Several full contexts where memory allows: never less than the one that is needed. */
static uint64_t roomy_bytes(const struct llm_engine *e, uint64_t need)
{
    uint64_t contexts = e->cfg.kv_contexts > 1 ? (uint64_t)e->cfg.kv_contexts : 1;
    uint64_t quarter = sl_mem_available_bytes() / 4;
    uint64_t wanted = need > UINT64_MAX / contexts ? UINT64_MAX : need * contexts;
    if (wanted > quarter) wanted = quarter;
    return wanted > need ? wanted : need;
}

/* Blocks of the pool: what kv_bytes_max holds, and never less than one sequence of n_ctx tokens. */
static sl_status size_pool(const struct llm_engine *e, int32_t *out_blocks, struct sl_err *err)
{
    struct llm_range all = {0, e->hp.n_layer, true, true};
    uint64_t token = llm_kv_token_bytes(&e->hp, &all, e->cfg.kv_type),
             block = token * KV_BLOCK_TOKENS;
    uint64_t need = block * (uint64_t)ctx_blocks(e);
    uint64_t half = e->measure ? UINT64_MAX : sl_mem_available_bytes() / 2;
    uint64_t bytes = e->cfg.kv_bytes_max ? e->cfg.kv_bytes_max : roomy_bytes(e, need);
    if (!token)
        return sl_err_set(
            err, SL_INVALID,
            "a q8_0 KV cache needs head sizes that are multiples of 32; this model has %d",
            e->hp.head_k);
    if (need > bytes)
        return sl_err_set(err, SL_INVALID,
                          "context of %d tokens: its KV cache takes %.1f MB, the bound is %.1f MB",
                          e->cfg.n_ctx, (double)need / 1e6, (double)bytes / 1e6);
    if (!e->cfg.kv_bytes_max && need > half)
        return sl_err_set(err, SL_NOMEM,
                          "context of %d tokens: its KV cache takes %.1f MB, half of the free "
                          "memory is %.1f MB; use a "
                          "smaller context",
                          e->cfg.n_ctx, (double)need / 1e6, (double)half / 1e6);
    *out_blocks = bytes / block > INT32_MAX / KV_BLOCK_TOKENS ? INT32_MAX / KV_BLOCK_TOKENS
                                                              : (int32_t)(bytes / block);
    return SL_OK;
}

static sl_status make_stages(struct llm_engine *e, int32_t n_blocks, struct sl_err *err)
{
    int32_t n = e->cfg.n_stages, done = 0;
    e->stages = sl_calloc((size_t)n, sizeof *e->stages);
    if (!e->stages) return sl_err_set(err, SL_NOMEM, "stage table");
    for (int32_t i = 0; i < n; i++) {
        int32_t end = (int32_t)((int64_t)e->hp.n_layer * (i + 1) / n);
        struct llm_load_watch watch = {e->cfg.on_load, e->cfg.load_ctx,
                                       (double)done / e->hp.n_layer, (double)end / e->hp.n_layer};
        struct llm_stage_cfg cfg = {.file = e->file,
                                    .hp = &e->hp,
                                    .range = {done, end, i == 0, i == n - 1},
                                    .backends = &e->backends,
                                    .n_slots = n_blocks * KV_BLOCK_TOKENS,
                                    .n_batch = e->cfg.n_batch,
                                    .n_ctx = e->cfg.n_ctx,
                                    .gpu_layers = e->cfg.gpu_layers,
                                    .kv_type = e->cfg.kv_type,
                                    .attention = e->cfg.attention,
                                    .watch = &watch,
                                    .measure = e->measure};
        sl_status status = llm_stage_create(&cfg, &e->stages[i], err);
        if (status != SL_OK) return status;
        done = end;
    }
    return SL_OK;
}

static sl_status make_arrays(struct llm_engine *e, struct sl_err *err)
{
    size_t n = (size_t)e->cfg.n_batch;
    e->b_tokens = sl_calloc(n, sizeof *e->b_tokens);
    e->b_pos = sl_calloc(n, sizeof *e->b_pos);
    e->b_outputs = sl_calloc(n, sizeof *e->b_outputs);
    e->b_slots = sl_calloc(n, sizeof *e->b_slots);
    e->b_tiles = sl_calloc(n, sizeof *e->b_tiles);
    e->row = sl_calloc((size_t)e->hp.n_vocab, sizeof *e->row);
    bool ok = e->b_tokens && e->b_pos && e->b_outputs && e->b_slots && e->b_tiles && e->row;
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "batch of %d tokens", e->cfg.n_batch);
}

static sl_status load_parts(struct llm_engine *e, struct sl_err *err)
{
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status == SL_OK) status = tokenizer_create(e->file, &e->tok, err);
    if (status != SL_OK) return status;
    if (tokenizer_n_vocab(e->tok) != e->hp.n_vocab)
        return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.tokens: %d tokens, the model has %d",
                          tokenizer_n_vocab(e->tok), e->hp.n_vocab);
    status = llm_info_read(e, err);
    if (status != SL_OK) return status;
    resolve_defaults(e);
    status = check_cfg(e, err);
    if (status == SL_OK) status = size_pool(e, &n_blocks, err);
    if (status == SL_OK)
        status = llm_backends_open(&e->backends, e->cfg.n_threads, e->cfg.gpu_layers != 0, err);
    if (status == SL_OK) status = kv_create(n_blocks, !e->cfg.no_prefix_cache, &e->kv, err);
    if (status == SL_OK) status = make_stages(e, n_blocks, err);
    if (status == SL_OK) status = make_arrays(e, err);
    return status;
}

static void free_parts(struct llm_engine *e)
{
    for (int32_t i = 0; e->stages && i < e->cfg.n_stages; i++) llm_stage_destroy(e->stages[i]);
    sl_free(e->stages);
    kv_destroy(e->kv);
    llm_backends_close(&e->backends);
    tokenizer_destroy(e->tok);
    gguf_close(e->file);
    llm_info_free(e);
    sl_free(e->b_tokens);
    sl_free(e->b_pos);
    sl_free(e->b_outputs);
    sl_free(e->b_slots);
    sl_free(e->b_tiles);
    sl_free(e->row);
    sl_free(e);
}

sl_status llm_engine_load(const char *path, const struct llm_engine_cfg *cfg, struct engine **out,
                          struct sl_err *err)
{
    struct llm_engine *e = sl_calloc(1, sizeof *e);
    sl_status status;
    if (!e) return sl_err_set(err, SL_NOMEM, "load: %s", path);
    e->cfg = *cfg;
    status = gguf_open(path, &e->file, err); /* its message names the file */
    if (status == SL_OK) {
        status = load_parts(e, err);
        if (status == SL_OK) status = engine_create(&llm_ops, e, out, err);
        if (status == SL_OK) return SL_OK;
        sl_err_prefix(err, "%s", path);
    }
    free_parts(e);
    sl_err_prefix(err, "load");
    return status;
}

static void add_stage_stats(const struct llm_engine *e, struct engine_stats *out)
{
    for (int32_t i = 0; i < e->cfg.n_stages; i++) {
        struct llm_stage_stats s;
        llm_stage_stats(e->stages[i], &s);
        out->kv_bytes += s.kv_bytes;
        out->weight_bytes += s.mapped_bytes + s.copied_bytes;
        out->weight_copied_bytes += s.copied_bytes;
        out->compute_bytes += s.compute_bytes;
        out->n_graph_builds += s.n_graph_builds;
        out->n_graph_reuses += s.n_graph_reuses;
    }
}

/* The stages of a load, made to be measured. One thread will do: memory that every thread has is
 * not counted. */
static sl_status measure_parts(struct llm_engine *e, struct sl_err *err)
{
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status != SL_OK) return status;
    resolve_defaults(e);
    status = check_cfg(e, err);
    if (status == SL_OK) status = size_pool(e, &n_blocks, err);
    if (status == SL_OK) status = llm_backends_open(&e->backends, 1, e->cfg.gpu_layers != 0, err);
    return status == SL_OK ? make_stages(e, n_blocks, err) : status;
}

sl_status llm_engine_estimate(const char *path, const struct llm_engine_cfg *cfg,
                              struct llm_engine_estimate *out, struct sl_err *err)
{
    struct llm_engine *e = sl_calloc(1, sizeof *e);
    sl_status status;
    if (!e) return sl_err_set(err, SL_NOMEM, "measure: %s", path);
    e->cfg = *cfg;
    e->measure = true;
    status = gguf_open(path, &e->file, err); /* its message names the file */
    if (status == SL_OK) {
        status = measure_parts(e, err);
        if (status != SL_OK) sl_err_prefix(err, "%s", path);
    }
    if (status == SL_OK) {
        struct engine_stats stats = {0};
        add_stage_stats(e, &stats);
        *out = (struct llm_engine_estimate){stats.weight_bytes, stats.weight_copied_bytes,
                                            stats.kv_bytes, stats.compute_bytes};
    }
    free_parts(e);
    return status;
}

static void llm_stats(const void *self, struct engine_stats *out)
{
    const struct llm_engine *e = self;
    struct kv_stats kv;
    kv_stats_get(e->kv, &kv);
    *out = (struct engine_stats){.n_waiting = e->waiting.n,
                                 .n_running = e->running.n,
                                 .kv_blocks_total = kv.n_blocks,
                                 .kv_blocks_used = kv.n_held,
                                 .kv_blocks_cached = kv.n_cached,
                                 .kv_block_tokens = KV_BLOCK_TOKENS,
                                 .n_steps = e->n_steps,
                                 .n_prompt_tokens = e->n_prompt_tokens,
                                 .n_cached_tokens = e->n_cached_tokens,
                                 .n_generated_tokens = e->n_generated_tokens,
                                 .n_preemptions = e->n_preemptions};
    add_stage_stats(e, out);
}

static void llm_unload(void *self)
{
    struct llm_engine *e = self;
    llm_cancel_all(e);
    free_parts(e);
}

static const struct engine_ops llm_ops = {.name = "llm",
                                          .submit = llm_submit,
                                          .cancel = llm_cancel,
                                          .step = llm_step,
                                          .stats = llm_stats,
                                          .unload = llm_unload,
                                          .embed = llm_submit_embed,
                                          .info = llm_info,
                                          .tokenize = llm_tokenize,
                                          .detokenize = llm_detokenize};

static const struct llm_engine *self_of(const struct engine *engine)
{
    return engine_self(engine, &llm_ops);
}

const struct tokenizer *llm_engine_tokenizer(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->tok : NULL;
}

const struct llm_hparams *llm_engine_hparams(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? &e->hp : NULL;
}

const struct gguf_file *llm_engine_file(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->file : NULL;
}

int32_t llm_engine_n_ctx(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->cfg.n_ctx : 0;
}

int32_t llm_engine_n_threads(const struct engine *engine)
{
    const struct llm_engine *e = self_of(engine);
    return e ? e->cfg.n_threads : 0;
}
