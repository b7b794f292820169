/* llm_engine.c: loading, measuring, and the engine interface. Requests come in by llm_submit.c,
 * steps are llm_step.c's, their planning is llm_plan.c's, sequences are llm_seq.c's. */
#include "exec/llm/llm_engine.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include "exec/llm/llm_setup.h"
#include <string.h>

static const struct engine_ops llm_ops;

void llm_engine_cfg_default(struct llm_engine_cfg *cfg)
{
    *cfg = (struct llm_engine_cfg){.gpu_layers = -1};
}

static struct llm_setup setup_of(struct llm_engine *e)
{
    return (struct llm_setup){&e->cfg, e->file, &e->hp, &e->backends, e->measure};
}

static sl_status make_stages(struct llm_engine *e, int32_t n_blocks, struct sl_err *err)
{
    const struct llm_setup setup = setup_of(e);
    sl_status status = SL_OK;
    e->stages = sl_calloc((size_t)e->cfg.n_stages, sizeof *e->stages);
    if (!e->stages) return sl_err_set(err, SL_NOMEM, "stage table");
    for (int32_t i = 0; i < e->cfg.n_stages && status == SL_OK; i++)
        status = llm_setup_stage(&setup, i, n_blocks, &e->stages[i], err);
    return status;
}

static sl_status make_arrays(struct llm_engine *e, struct sl_err *err)
{
    size_t n = (size_t)e->cfg.n_batch;
    e->b_tokens = sl_calloc(n, sizeof *e->b_tokens);
    e->b_pos = sl_calloc(n, sizeof *e->b_pos);
    e->b_outputs = sl_calloc(2 * n, sizeof *e->b_outputs);
    e->b_slots = sl_calloc(n, sizeof *e->b_slots);
    e->b_tiles = sl_calloc(n, sizeof *e->b_tiles);
    e->row = sl_calloc((size_t)e->hp.n_vocab, sizeof *e->row);
    bool ok = e->b_tokens && e->b_pos && e->b_outputs && e->b_slots && e->b_tiles && e->row;
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "batch of %d tokens", e->cfg.n_batch);
}

/* A whole model's steps end within the call that begins them. */
static sl_status make_flights(struct llm_engine *e, struct sl_err *err)
{
    const struct llm_setup setup = setup_of(e);
    const struct stage_limits limits = llm_setup_limits(&setup);
    sl_status status = llm_flights_create(e, limits.n_stages ? LLM_FLIGHTS_MAX : 1, err);
    return status == SL_OK && limits.n_stages ? llm_split_create(e, &limits, err) : status;
}

static sl_status load_parts(struct llm_engine *e, struct sl_err *err)
{
    const struct llm_setup setup = setup_of(e);
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status == SL_OK) status = tokenizer_create(e->file, &e->tok, err);
    if (status != SL_OK) return status;
    if (tokenizer_n_vocab(e->tok) != e->hp.n_vocab)
        return sl_err_set(err, SL_CORRUPT, "tokenizer.ggml.tokens: %d tokens, the model has %d",
                          tokenizer_n_vocab(e->tok), e->hp.n_vocab);
    status = llm_info_read(e, err);
    if (status != SL_OK) return status;
    llm_setup_defaults(&setup);
    status = llm_setup_check(&setup, err);
    if (status == SL_OK) status = llm_setup_blocks(&setup, &n_blocks, err);
    if (status == SL_OK)
        status = llm_backends_open(&e->backends, e->cfg.n_threads, e->cfg.gpu_layers != 0, err);
    if (status == SL_OK) status = kv_create(n_blocks, !e->cfg.no_prefix_cache, &e->kv, err);
    if (status == SL_OK) status = make_stages(e, n_blocks, err);
    if (status == SL_OK) status = make_arrays(e, err);
    if (status == SL_OK) status = make_flights(e, err);
    return status;
}

static void free_parts(struct llm_engine *e)
{
    for (int32_t i = 0; e->stages && i < e->cfg.n_stages; i++) llm_stage_destroy(e->stages[i]);
    sl_free(e->stages);
    llm_flights_destroy(e);
    llm_split_destroy(e->split);
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
    const struct llm_setup setup = setup_of(e);
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status != SL_OK) return status;
    llm_setup_defaults(&setup);
    status = llm_setup_check(&setup, err);
    if (status == SL_OK) status = llm_setup_blocks(&setup, &n_blocks, err);
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
    if (e->split) llm_split_stats(e, out);
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
                                          .detokenize = llm_detokenize,
                                          .deliver = llm_deliver};

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
