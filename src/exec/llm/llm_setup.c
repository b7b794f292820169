#include "exec/llm/llm_setup.h"
#include "base/cpu.h"
#include "exec/llm/hidden_row.h"
#include "exec/llm/kv_cache.h"

#define N_CTX_DEFAULT 4096
#define N_CTX_MAX (1 << 22) /* bound of the arithmetic; memory refuses long before */
#define N_SEQS_DEFAULT 64
#define N_SEQS_MAX 4096
#define N_QUEUE_DEFAULT 1024
#define N_BATCH_DEFAULT 512
#define N_BATCH_MAX 8192
#define N_THREADS_MAX 512 /* ggml's own bound */
/* Of a message between stages; the rest is room for its block tables. */
#define HIDDEN_BYTES_MAX (STAGE_MSG_BYTES_MAX / 4 * 3)

void llm_setup_defaults(const struct llm_setup *setup)
{
    struct llm_engine_cfg *c = setup->cfg;
    const struct llm_hparams *hp = setup->hp;
    if (!c->n_threads) c->n_threads = sl_cpu_count();
    if (!c->n_ctx) c->n_ctx = hp->n_ctx_train < N_CTX_DEFAULT ? hp->n_ctx_train : N_CTX_DEFAULT;
    if (!c->n_seqs_max) c->n_seqs_max = N_SEQS_DEFAULT;
    if (!c->n_queue_max) c->n_queue_max = N_QUEUE_DEFAULT;
    if (!c->n_batch) c->n_batch = N_BATCH_DEFAULT;
    if (!c->n_stages) c->n_stages = 1;
}

static sl_status check_range(const char *name, int64_t v, int64_t lo, int64_t hi,
                             struct sl_err *err)
{
    if (v >= lo && v <= hi) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%s: %lld is not within %lld..%lld", name, (long long)v,
                      (long long)lo, (long long)hi);
}

static int32_t ctx_blocks(const struct llm_setup *setup)
{
    /* and one for a copy on write */
    return (setup->cfg->n_ctx + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS + 1;
}

/* The stages before and behind have a layer each at least. */
static sl_status check_layers(const struct llm_setup *setup, struct sl_err *err)
{
    const struct engine_split *s = &setup->cfg->split;
    int32_t n_layer = setup->hp->n_layer, behind = s->n_stages - 1 - s->stage;
    sl_status status = check_range("first layer of the stage", s->first, s->stage,
                                   s->stage ? n_layer - behind - 1 : 0, err);
    if (status != SL_OK) return status;
    return check_range("last layer of the stage", s->last, behind ? s->first + 1 : n_layer,
                       n_layer - behind, err);
}

static sl_status check_split(const struct llm_setup *setup, struct sl_err *err)
{
    const struct llm_engine_cfg *c = setup->cfg;
    const struct engine_split *s = &c->split;
    int32_t n_layer = setup->hp->n_layer;
    size_t row = hidden_row_bytes(s->link, setup->hp->n_embd);
    sl_status status = check_range("stages", s->n_stages, 2,
                                   n_layer < ENGINE_STAGES_MAX ? n_layer : ENGINE_STAGES_MAX, err);
    if (status == SL_OK) status = check_range("stage", s->stage, 0, s->n_stages - 1, err);
    if (status == SL_OK) status = check_layers(setup, err);
    if (status == SL_OK)
        status = check_range("KV blocks", s->kv_blocks, ctx_blocks(setup),
                             INT32_MAX / KV_BLOCK_TOKENS, err);
    if (status == SL_OK) status = check_range("flights", s->n_flights, 0, LLM_FLIGHTS_MAX, err);
    if (status == SL_OK) status = check_range("stages of this process", c->n_stages, 1, 1, err);
    if (status != SL_OK) return status;
    if (!row)
        return sl_err_set(err, SL_INVALID, "a hidden size of %d does not travel as %s",
                          setup->hp->n_embd, engine_link_name(s->link));
    status = check_range("batch of a split model", c->n_batch, 1, (int64_t)(HIDDEN_BYTES_MAX / row),
                         err);
    if (status == SL_OK && !c->on_frame && !setup->measure)
        status = sl_err_set(err, SL_INVALID, "on_frame is missing");
    return status;
}

sl_status llm_setup_check(const struct llm_setup *setup, struct sl_err *err)
{
    const struct llm_engine_cfg *c = setup->cfg;
    int32_t n_layer = setup->hp->n_layer;
    sl_status status = check_range("threads", c->n_threads, 1, N_THREADS_MAX, err);
    if (status == SL_OK) status = check_range("context", c->n_ctx, 1, N_CTX_MAX, err);
    if (status == SL_OK) status = check_range("sequences", c->n_seqs_max, 1, N_SEQS_MAX, err);
    if (status == SL_OK) status = check_range("queue", c->n_queue_max, 1, 1 << 20, err);
    if (status == SL_OK) status = check_range("batch", c->n_batch, 1, N_BATCH_MAX, err);
    if (status == SL_OK)
        status = check_range("stages", c->n_stages, 1,
                             n_layer < LLM_STAGES_MAX ? n_layer : LLM_STAGES_MAX, err);
    if (status == SL_OK && !c->on_event && !setup->measure && !c->split.stage)
        status = sl_err_set(err, SL_INVALID, "on_event is missing");
    return status == SL_OK && c->split.n_stages ? check_split(setup, err) : status;
}

/* Several full contexts where memory allows: never less than the one that is needed. */
static uint64_t roomy_bytes(const struct llm_engine_cfg *cfg, uint64_t need)
{
    uint64_t contexts = cfg->kv_contexts > 1 ? (uint64_t)cfg->kv_contexts : 1;
    uint64_t quarter = sl_mem_available_bytes() / 4;
    uint64_t wanted = need > UINT64_MAX / contexts ? UINT64_MAX : need * contexts;
    if (wanted > quarter) wanted = quarter;
    return wanted > need ? wanted : need;
}

/* Blocks of the pool: what kv_bytes_max holds, and never less than one sequence of n_ctx tokens. */
static sl_status size_pool(const struct llm_setup *setup, uint64_t block, int32_t *out_blocks,
                           struct sl_err *err)
{
    const struct llm_engine_cfg *cfg = setup->cfg;
    uint64_t need = block * (uint64_t)ctx_blocks(setup);
    uint64_t half = setup->measure ? UINT64_MAX : sl_mem_available_bytes() / 2;
    uint64_t bytes = cfg->kv_bytes_max ? cfg->kv_bytes_max : roomy_bytes(cfg, need);
    if (need > bytes)
        return sl_err_set(err, SL_INVALID,
                          "context of %d tokens: its KV cache takes %.1f MB, the bound is %.1f MB",
                          cfg->n_ctx, (double)need / 1e6, (double)bytes / 1e6);
    if (!cfg->kv_bytes_max && need > half)
        return sl_err_set(err, SL_NOMEM,
                          "context of %d tokens: its KV cache takes %.1f MB, half of the free "
                          "memory is %.1f MB; use a "
                          "smaller context",
                          cfg->n_ctx, (double)need / 1e6, (double)half / 1e6);
    *out_blocks = bytes / block > INT32_MAX / KV_BLOCK_TOKENS ? INT32_MAX / KV_BLOCK_TOKENS
                                                              : (int32_t)(bytes / block);
    return SL_OK;
}

/* A split model's pool is what was planned, or there is no place for it. */
static sl_status check_pool(const struct llm_setup *setup, uint64_t block, struct sl_err *err)
{
    uint64_t need = block * (uint64_t)setup->cfg->split.kv_blocks;
    uint64_t available = sl_mem_available_bytes();
    if (setup->measure || need <= available) return SL_OK;
    return sl_err_set(err, SL_NOMEM, "the stage's KV cache takes %.1f MB, %.1f MB are free",
                      (double)need / 1e6, (double)available / 1e6);
}

/* Of all stages of this process. */
static struct llm_range range_of(const struct llm_setup *setup)
{
    const struct engine_split *s = &setup->cfg->split;
    if (!s->n_stages) return (struct llm_range){0, setup->hp->n_layer, true, true};
    return (struct llm_range){s->first, s->last, s->stage == 0, s->stage == s->n_stages - 1};
}

sl_status llm_setup_blocks(const struct llm_setup *setup, int32_t *out_n_blocks, struct sl_err *err)
{
    struct llm_range range = range_of(setup);
    uint64_t token = llm_kv_token_bytes(setup->hp, &range, setup->cfg->kv_type);
    if (!token)
        return sl_err_set(
            err, SL_INVALID,
            "a q8_0 KV cache needs head sizes that are multiples of 32; this model has %d",
            setup->hp->head_k);
    if (!setup->cfg->split.n_stages)
        return size_pool(setup, token * KV_BLOCK_TOKENS, out_n_blocks, err);
    *out_n_blocks = setup->cfg->split.kv_blocks;
    return check_pool(setup, token * KV_BLOCK_TOKENS, err);
}

sl_status llm_setup_stage(const struct llm_setup *setup, int32_t i, int32_t n_blocks,
                          struct llm_stage **out, struct sl_err *err)
{
    const struct llm_engine_cfg *c = setup->cfg;
    struct llm_range range = range_of(setup);
    int32_t first = range.first, n = c->n_stages;
    double n_layers = range.last - first;
    range.last = first + (int32_t)((int64_t)n_layers * (i + 1) / n);
    range.first = first + (int32_t)((int64_t)n_layers * i / n);
    range.embeds = range.embeds && i == 0;
    range.heads = range.heads && i == n - 1;
    struct llm_load_watch watch = {c->on_load, c->load_ctx, (range.first - first) / n_layers,
                                   (range.last - first) / n_layers};
    const struct llm_stage_cfg cfg = {.file = setup->file,
                                      .hp = setup->hp,
                                      .range = range,
                                      .backends = setup->backends,
                                      .n_slots = n_blocks * KV_BLOCK_TOKENS,
                                      .n_batch = c->n_batch,
                                      .n_ctx = c->n_ctx,
                                      .gpu_layers = c->gpu_layers,
                                      .kv_type = c->kv_type,
                                      .attention = c->attention,
                                      .watch = &watch,
                                      .measure = setup->measure};
    return llm_stage_create(&cfg, out, err);
}

struct stage_limits llm_setup_limits(const struct llm_setup *setup)
{
    const struct llm_engine_cfg *c = setup->cfg;
    return (struct stage_limits){.n_stages = c->split.n_stages,
                                 .n_batch = c->n_batch,
                                 .n_ctx = c->n_ctx,
                                 .n_seqs_max = c->n_seqs_max,
                                 .kv_blocks = c->split.kv_blocks,
                                 .n_embd = setup->hp->n_embd,
                                 .n_vocab = setup->hp->n_vocab,
                                 .link = c->split.link};
}
