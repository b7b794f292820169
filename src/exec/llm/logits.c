#include "exec/llm/logits.h"
#include "base/mem.h"
#include "exec/llm/backend.h"
#include "exec/llm/gguf.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/stage.h"
#include <string.h>

#define TOKENS_MAX (1 << 20) /* bound of the arithmetic */

struct run {
    const struct llm_logits_cfg *cfg;
    const int32_t *tokens;
    int32_t n_tokens, n_stages, n_chunk;
    struct gguf_file *file;
    struct llm_hparams hp;
    struct llm_backends backends;
    struct llm_stage *stages[LLM_STAGES_MAX];
    int32_t *pos, *rows, *blocks;
    int64_t *slots;
    struct attn_tile *tiles;
    float *out;
};

static int32_t blocks_for(int32_t n_tokens)
{
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

static sl_status check(const struct run *r, struct sl_err *err)
{
    if (r->n_tokens < 1 || r->n_tokens > TOKENS_MAX)
        return sl_err_set(err, SL_INVALID, "%d tokens", r->n_tokens);
    if (r->n_stages < 1 || r->n_stages > r->hp.n_layer || r->n_stages > LLM_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "%d stages: the model has %d layers", r->n_stages,
                          r->hp.n_layer);
    for (int32_t i = 0; i < r->n_tokens; i++) {
        if (r->tokens[i] < 0 || r->tokens[i] >= r->hp.n_vocab)
            return sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of %d",
                              r->tokens[i], r->hp.n_vocab);
    }
    return SL_OK;
}

static sl_status make_stages(struct run *r, struct sl_err *err)
{
    for (int32_t i = 0; i < r->n_stages; i++) {
        int32_t first = (int32_t)((int64_t)r->hp.n_layer * i / r->n_stages),
                last = (int32_t)((int64_t)r->hp.n_layer * (i + 1) / r->n_stages);
        struct llm_stage_cfg cfg = {.file = r->file,
                                    .hp = &r->hp,
                                    .range = {first, last, i == 0, i == r->n_stages - 1},
                                    .backends = &r->backends,
                                    .n_slots = blocks_for(r->n_tokens) * KV_BLOCK_TOKENS,
                                    .n_batch = r->n_chunk,
                                    .n_ctx = r->n_tokens,
                                    .gpu_layers = r->cfg->gpu_layers,
                                    .kv_type = r->cfg->kv_type,
                                    .attention = r->cfg->attention};
        sl_status status = llm_stage_create(&cfg, &r->stages[i], err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status make_arrays(struct run *r, struct sl_err *err)
{
    size_t n = (size_t)r->n_chunk;
    r->pos = sl_calloc(n, sizeof *r->pos);
    r->rows = sl_calloc(n, sizeof *r->rows);
    r->slots = sl_calloc(n, sizeof *r->slots);
    r->tiles = sl_calloc(n, sizeof *r->tiles);
    r->blocks = sl_calloc((size_t)blocks_for(r->n_tokens), sizeof *r->blocks);
    r->out = sl_calloc((size_t)r->n_tokens * (size_t)r->hp.n_vocab, sizeof *r->out);
    if (!r->pos || !r->rows || !r->slots || !r->tiles || !r->blocks || !r->out)
        return sl_err_set(err, SL_NOMEM, "logits of %d tokens", r->n_tokens);
    for (int32_t i = 0; i < blocks_for(r->n_tokens); i++) r->blocks[i] = i;
    return SL_OK;
}

static void fill_batch(struct run *r, int32_t from, int32_t n, struct llm_batch *b)
{
    int32_t per = attn_tile_tokens(r->hp.n_head, r->hp.n_head_kv);
    *b = (struct llm_batch){.n_tokens = n,
                            .tokens = r->tokens + from,
                            .pos = r->pos,
                            .slots = r->slots,
                            .n_outputs = n,
                            .outputs = r->rows,
                            .attn = {0, r->tiles, KV_BLOCK_TOKENS}};
    for (int32_t i = 0; i < n; i++) {
        r->pos[i] = from + i;
        r->slots[i] = from + i;
        r->rows[i] = i;
    }
    for (int32_t i = 0; i < n; i += per)
        r->tiles[b->attn.n_tiles++] =
            (struct attn_tile){i, n - i < per ? n - i : per, from + i, r->blocks};
}

static sl_status compute(struct run *r, struct sl_err *err)
{
    for (int32_t from = 0; from < r->n_tokens; from += r->n_chunk) {
        int32_t n = r->n_tokens - from < r->n_chunk ? r->n_tokens - from : r->n_chunk;
        struct llm_batch batch;
        float *x = NULL;
        fill_batch(r, from, n, &batch);
        for (int32_t i = 0; i < r->n_stages; i++) {
            sl_status status = llm_stage_compute(r->stages[i], &batch, x, &x, err);
            if (status != SL_OK) return status;
        }
        memcpy(r->out + (size_t)from * (size_t)r->hp.n_vocab, x,
               (size_t)n * (size_t)r->hp.n_vocab * sizeof *x);
    }
    return SL_OK;
}

static void run_done(struct run *r)
{
    for (int32_t i = 0; i < LLM_STAGES_MAX; i++) llm_stage_destroy(r->stages[i]);
    llm_backends_close(&r->backends);
    gguf_close(r->file);
    sl_free(r->pos);
    sl_free(r->rows);
    sl_free(r->slots);
    sl_free(r->tiles);
    sl_free(r->blocks);
    sl_free(r->out);
}

sl_status llm_logits(const char *path, const struct llm_logits_cfg *cfg, const int32_t *tokens,
                     int32_t n_tokens, float **out, int32_t *out_n_vocab, struct sl_err *err)
{
    struct run r = {.cfg = cfg,
                    .tokens = tokens,
                    .n_tokens = n_tokens,
                    .n_stages = cfg->n_stages ? cfg->n_stages : 1};
    sl_status status = gguf_open(path, &r.file, err);
    r.n_chunk = cfg->n_chunk > 0 && cfg->n_chunk < n_tokens ? cfg->n_chunk : n_tokens;
    if (status == SL_OK) status = llm_hparams_read(r.file, &r.hp, err);
    if (status == SL_OK) status = check(&r, err);
    if (status == SL_OK)
        status = llm_backends_open(&r.backends, cfg->n_threads, cfg->gpu_layers != 0, err);
    if (status == SL_OK) status = make_stages(&r, err);
    if (status == SL_OK) status = make_arrays(&r, err);
    if (status == SL_OK) status = compute(&r, err);
    if (status == SL_OK) {
        *out = r.out;
        *out_n_vocab = r.hp.n_vocab;
        r.out = NULL;
    }
    run_done(&r);
    return status;
}
