#include "exec/llm/stage.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "exec/llm/backend.h"
#include "exec/llm/graph.h"
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <stdlib.h>
#include <string.h>

#define MASKED_KV_ALIGN 256 /* slots; fewer distinct graph shapes, and what GPU kernels like */
#define MASK_ZERO ((uint16_t)0)
#define MASK_MINUS_INF ((uint16_t)0xfc00) /* -inf as a half */

struct llm_stage {
    const struct llm_hparams *hp;
    const struct llm_backends *backends;
    struct llm_weights weights;
    int32_t n_layers, n_slots, n_batch;
    enum llm_kv_type kv_type;
    struct ggml_context *kv_ctx[2]; /* on the CPU, on the accelerator */
    struct ggml_backend_buffer *kv_buffer[2];
    struct llm_graph_env env;
    bool *paged;
    struct llm_product_op product;
    char *scratch;                  /* as allocated: the pieces of the attention */
    const struct attn_batch *batch; /* of the compute under way */
    struct ggml_backend_sched *sched;
    struct llm_graph graph;
    uint16_t *mask;
    float *out_host, *hidden_host; /* copies of results that lie on an accelerator */
    bool measure;
    uint64_t kv_bytes, compute_bytes, n_builds, n_reuses;
};

static enum ggml_type kv_ggml_type(enum llm_kv_type type)
{
    return type == LLM_KV_F32    ? GGML_TYPE_F32
           : type == LLM_KV_Q8_0 ? GGML_TYPE_Q8_0
                                 : GGML_TYPE_F16;
}

uint64_t llm_kv_token_bytes(const struct llm_hparams *hp, const struct llm_range *range,
                            enum llm_kv_type type)
{
    enum ggml_type t = kv_ggml_type(type);
    int64_t k = (int64_t)hp->n_head_kv * hp->head_k,
            v = hp->arch->attn == LLM_ATTN_MLA ? 0 : (int64_t)hp->n_head_kv * hp->head_v;
    int64_t block = ggml_blck_size(t);
    if (hp->head_k % block || hp->head_v % block) return 0;
    return (uint64_t)(range->last - range->first) * (ggml_row_size(t, k) + ggml_row_size(t, v));
}

static bool layer_on_gpu(const struct llm_stage *s, int32_t i)
{
    return s->backends->gpu && s->weights.range.first + i >= s->weights.gpu_first;
}

static sl_status kv_make(struct llm_stage *s, struct sl_err *err)
{
    enum ggml_type t = kv_ggml_type(s->kv_type);
    bool mla = s->hp->arch->attn == LLM_ATTN_MLA;
    for (int place = 0; place < 2; place++) {
        struct ggml_init_params params = {((size_t)s->n_layers * 2 + 1) * ggml_tensor_overhead(),
                                          NULL, true};
        s->kv_ctx[place] = ggml_init(params);
        if (!s->kv_ctx[place]) return sl_err_set(err, SL_NOMEM, "KV table");
    }
    for (int32_t i = 0; i < s->n_layers; i++) {
        struct ggml_context *ctx = s->kv_ctx[layer_on_gpu(s, i)];
        s->env.kv.k[i] =
            ggml_new_tensor_2d(ctx, t, (int64_t)s->hp->n_head_kv * s->hp->head_k, s->n_slots);
        if (!mla)
            s->env.kv.v[i] =
                ggml_new_tensor_2d(ctx, t, (int64_t)s->hp->n_head_kv * s->hp->head_v, s->n_slots);
    }
    return SL_OK;
}

static uint64_t kv_alloc_place(struct llm_stage *s, int place)
{
    struct ggml_backend *b = place ? s->backends->gpu : s->backends->cpu;
    struct ggml_backend_buffer_type *buft = ggml_backend_get_default_buffer_type(b);
    if (s->measure) {
        s->kv_buffer[place] = llm_buffer_measure(s->kv_ctx[place], buft);
        return ggml_backend_alloc_ctx_tensors_from_buft_size(s->kv_ctx[place], buft);
    }
    s->kv_buffer[place] = ggml_backend_alloc_ctx_tensors(s->kv_ctx[place], b);
    return s->kv_buffer[place] ? ggml_backend_buffer_get_size(s->kv_buffer[place]) : 0;
}

static sl_status kv_alloc(struct llm_stage *s, struct sl_err *err)
{
    uint64_t bytes =
        llm_kv_token_bytes(s->hp, &s->weights.range, s->kv_type) * (uint64_t)s->n_slots;
    if (!bytes)
        return sl_err_set(
            err, SL_INVALID,
            "a q8_0 KV cache needs head sizes that are multiples of 32; this model has %d",
            s->hp->head_k);
    sl_status status = kv_make(s, err);
    for (int place = 0; place < 2 && status == SL_OK; place++) {
        if (!ggml_get_first_tensor(s->kv_ctx[place])) continue;
        s->kv_bytes += kv_alloc_place(s, place);
        if (!s->kv_buffer[place])
            return sl_err_set(err, SL_NOMEM, "KV cache: no room for %.2f GB", (double)bytes / 1e9);
        /* Masked attention multiplies what it masks by zero: it must not be NaN. Paged attention
         * never looks there. */
        if (s->env.any_masked && !s->measure) ggml_backend_buffer_clear(s->kv_buffer[place], 0);
    }
    return status;
}

static void attention_init(struct llm_stage *s, enum llm_attention attention)
{
    static const enum attn_kv_type types[] = {
        [LLM_KV_F16] = ATTN_KV_F16, [LLM_KV_Q8_0] = ATTN_KV_Q8_0, [LLM_KV_F32] = ATTN_KV_F32};
    const struct llm_hparams *hp = s->hp;
    for (int32_t i = 0; i < s->n_layers; i++) {
        struct llm_attn_op *op = &s->env.ops[i];
        s->paged[i] = attention != LLM_ATTENTION_GGML && !layer_on_gpu(s, i);
        s->env.any_masked = s->env.any_masked || !s->paged[i];
        op->batch = &s->batch;
        op->shape = (struct attn_shape){
            .n_head = hp->n_head,
            .n_head_kv = hp->n_head_kv,
            .head_k = hp->head_k,
            .head_v = hp->head_v,
            .scale = hp->attn_scale,
            .softcap = hp->attn_softcap,
            .kv_type = types[s->kv_type],
            .window = llm_layer_is_windowed(hp, s->weights.range.first + i) ? hp->window : 0,
            .v_in_k = hp->arch->attn == LLM_ATTN_MLA};
    }
}

static size_t round_up_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* One piece per thread for attention; each starts on a cache line. */
static sl_status scratch_alloc(struct llm_stage *s, struct sl_err *err)
{
    size_t n = (size_t)s->backends->n_threads;
    size_t attn = s->n_layers ? round_up_64(attn_scratch_bytes(&s->env.ops[0].shape)) : 0;
    s->scratch = sl_malloc(attn * n + 64);
    if (!s->scratch) return sl_err_set(err, SL_NOMEM, "scratch of %zu threads", n);
    for (int32_t i = 0; i < s->n_layers; i++) {
        s->env.ops[i].scratch = (char *)round_up_64((uintptr_t)s->scratch);
        s->env.ops[i].scratch_bytes = attn;
    }
    return SL_OK;
}

static bool reserve(struct llm_stage *s)
{
    size_t sizes[LLM_DEVICES_MAX + 1] = {0};
    uint64_t n_bytes = 0;
    if (!s->measure) return ggml_backend_sched_reserve(s->sched, s->graph.gf);
    ggml_backend_sched_reserve_size(s->sched, s->graph.gf, sizes);
    for (int i = 0; i < s->backends->n; i++) n_bytes += sizes[i];
    if (n_bytes > s->compute_bytes) s->compute_bytes = n_bytes;
    return true;
}

static sl_status reserve_for(struct llm_stage *s, const struct llm_graph_key *key,
                             struct sl_err *err)
{
    ggml_backend_sched_reset(s->sched);
    sl_status status = llm_graph_build(&s->env, key, &s->graph, err);
    if (status == SL_OK && !reserve(s))
        status = sl_err_set(err, SL_NOMEM, "graph buffers for %d tokens", s->n_batch);
    llm_graph_free(&s->graph);
    return status;
}

/* Plans the graph buffers for the largest batch, without and with hidden states, so that memory is
 * taken now and not in the middle of a request. */
static sl_status sched_make(struct llm_stage *s, struct sl_err *err)
{
    size_t n_nodes = llm_graph_nodes_max(&s->env);
    bool heads = s->weights.range.heads;
    struct llm_graph_key key = {.n_tokens = s->n_batch,
                                .n_outputs = heads ? s->n_batch : 0,
                                .n_kv = s->env.any_masked ? s->n_slots : 0};
    struct ggml_backend *list[LLM_DEVICES_MAX + 1];
    memcpy(list, s->backends->list, sizeof list);
    s->sched = ggml_backend_sched_new(list, NULL, s->backends->n, n_nodes, false, true);
    if (!s->sched) return sl_err_set(err, SL_NOMEM, "graph scheduler");
    sl_status status = reserve_for(s, &key, err);
    if (status != SL_OK || !heads) return status;
    key.n_outputs = s->n_batch - 1; /* a mixed batch has an input more */
    key.n_hidden = 1;
    return reserve_for(s, &key, err);
}

static sl_status tables_alloc(struct llm_stage *s, struct sl_err *err)
{
    size_t n = (size_t)s->n_layers + 1;
    s->env.kv.k = sl_calloc(n, sizeof *s->env.kv.k);
    s->env.kv.v = sl_calloc(n, sizeof *s->env.kv.v);
    s->env.ops = sl_calloc(n, sizeof *s->env.ops);
    s->paged = sl_calloc(n, sizeof *s->paged);
    s->env.paged = s->paged;
    return s->env.kv.k && s->env.kv.v && s->env.ops && s->paged
               ? SL_OK
               : sl_err_set(err, SL_NOMEM, "layer table");
}

static sl_status stage_init(struct llm_stage *s, const struct llm_stage_cfg *cfg,
                            struct sl_err *err)
{
    struct llm_weights_cfg wcfg = {.file = cfg->file,
                                   .hp = cfg->hp,
                                   .range = cfg->range,
                                   .backends = cfg->backends,
                                   .gpu_layers = cfg->gpu_layers,
                                   .watch = cfg->watch,
                                   .measure = cfg->measure};
    sl_status status = tables_alloc(s, err);
    if (status == SL_OK) status = llm_weights_load(&wcfg, &s->weights, err);
    if (status != SL_OK) return status;
    s->env.hp = s->hp;
    s->env.weights = &s->weights;
    s->env.n_ctx = cfg->n_ctx;
    s->env.product = &s->product;
    attention_init(s, cfg->attention);
    status = kv_alloc(s, err);
    if (status == SL_OK) status = scratch_alloc(s, err);
    if (status == SL_OK) status = sched_make(s, err);
    return status;
}

sl_status llm_stage_create(const struct llm_stage_cfg *cfg, struct llm_stage **out,
                           struct sl_err *err)
{
    struct llm_stage *s = sl_calloc(1, sizeof *s);
    sl_status status;
    if (!s) return sl_err_set(err, SL_NOMEM, "stage");
    s->hp = cfg->hp;
    s->backends = cfg->backends;
    s->n_layers = cfg->range.last - cfg->range.first;
    s->n_slots = cfg->n_slots;
    s->n_batch = cfg->n_batch;
    s->kv_type = cfg->kv_type;
    s->measure = cfg->measure;
    status = stage_init(s, cfg, err);
    if (status != SL_OK) {
        llm_stage_destroy(s);
        return status;
    }
    *out = s;
    return SL_OK;
}

void llm_stage_destroy(struct llm_stage *s)
{
    if (!s) return;
    ggml_backend_sched_free(s->sched);
    llm_graph_free(&s->graph);
    for (int place = 0; place < 2; place++) {
        ggml_backend_buffer_free(s->kv_buffer[place]);
        ggml_free(s->kv_ctx[place]);
    }
    llm_weights_free(&s->weights);
    sl_free(s->env.kv.k);
    sl_free(s->env.kv.v);
    sl_free(s->env.ops);
    sl_free(s->paged);
    sl_free(s->scratch);
    sl_free(s->mask);
    sl_free(s->out_host);
    sl_free(s->hidden_host);
    sl_free(s);
}

/* An input that no node of the graph reads has no memory: the mask of a stage whose layers are all
 * windowed, say. */
static bool is_read(const struct ggml_tensor *t)
{
    return t && t->buffer;
}

static void set_input(struct ggml_tensor *t, const void *data)
{
    if (is_read(t) && data) ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
}

static int32_t highest_slot(const struct llm_batch *batch)
{
    int32_t bt = batch->attn.block_tokens, top = 0;
    for (int32_t i = 0; i < batch->attn.n_tiles; i++) {
        const struct attn_tile *t = &batch->attn.tiles[i];
        int32_t n_blocks = (t->pos + t->n_tokens + bt - 1) / bt;
        for (int32_t j = 0; j < n_blocks; j++) top = t->blocks[j] > top ? t->blocks[j] : top;
    }
    return (top + 1) * bt;
}

static struct llm_graph_key batch_key(const struct llm_stage *s, const struct llm_batch *batch)
{
    bool heads = s->weights.range.heads;
    struct llm_graph_key key = {.n_tokens = batch->n_tokens,
                                .n_outputs = heads ? batch->n_outputs : 0,
                                .n_hidden = heads ? batch->n_hidden : 0};
    if (s->env.any_masked) {
        key.n_kv = (highest_slot(batch) + MASKED_KV_ALIGN - 1) / MASKED_KV_ALIGN * MASKED_KV_ALIGN;
        if (key.n_kv > s->n_slots) key.n_kv = s->n_slots;
    }
    return key;
}

/* The graph of the last batch serves again when the shape is the same: no building, no
 * splitting, no allocation. */
static sl_status graph_get(struct llm_stage *s, const struct llm_graph_key *key, struct sl_err *err)
{
    if (s->graph.ctx && !memcmp(&s->graph.key, key, sizeof *key)) {
        s->n_reuses++;
        return SL_OK;
    }
    llm_graph_free(&s->graph);
    ggml_backend_sched_reset(s->sched);
    sl_status status = llm_graph_build(&s->env, key, &s->graph, err);
    if (status != SL_OK) return status;
    s->n_builds++;
    if (ggml_backend_sched_alloc_graph(s->sched, s->graph.gf)) return SL_OK;
    llm_graph_free(&s->graph);
    return sl_err_set(err, SL_NOMEM, "graph buffers for %d tokens", key->n_tokens);
}

/* Opens the slots that each token may see: those of its own sequence at its position and before,
 * within the window. */
static void mask_fill(uint16_t *mask, int64_t n_kv, const struct llm_batch *batch, int32_t window)
{
    int32_t bt = batch->attn.block_tokens;
    for (int32_t i = 0; i < batch->attn.n_tiles; i++) {
        const struct attn_tile *t = &batch->attn.tiles[i];
        for (int32_t j = 0; j < t->n_tokens; j++) {
            int32_t pos = t->pos + j, first = window > 0 && pos >= window ? pos - window + 1 : 0;
            for (int32_t p = first; p <= pos; p++)
                mask[(t->token + j) * n_kv + (int64_t)t->blocks[p / bt] * bt + p % bt] = MASK_ZERO;
        }
    }
}

static sl_status mask_set(struct llm_stage *s, struct ggml_tensor *t, const struct llm_batch *batch,
                          int32_t window, struct sl_err *err)
{
    size_t n;
    if (!is_read(t)) return SL_OK;
    n = (size_t)ggml_nelements(t);
    uint16_t *mask = sl_realloc_array(s->mask, n, sizeof *mask);
    if (!mask) return sl_err_set(err, SL_NOMEM, "attention mask");
    s->mask = mask;
    for (size_t i = 0; i < n; i++) mask[i] = MASK_MINUS_INF;
    mask_fill(mask, t->ne[0], batch, window);
    set_input(t, mask);
    return SL_OK;
}

static sl_status inputs_set(struct llm_stage *s, const struct llm_batch *batch, const float *hidden,
                            struct sl_err *err)
{
    struct llm_graph *g = &s->graph;
    sl_status status = mask_set(s, g->mask, batch, 0, err);
    if (status == SL_OK) status = mask_set(s, g->mask_window, batch, s->hp->window, err);
    if (status != SL_OK) return status;
    set_input(g->tokens, batch->tokens);
    set_input(g->embd, hidden);
    set_input(g->pos, batch->pos);
    set_input(g->slots, batch->slots);
    set_input(g->outputs, batch->outputs);
    return SL_OK;
}

/* Where the result can be read: in place when it is in this machine's memory, else a copy. */
static sl_status result_get(const struct ggml_tensor *t, float **host, float **out,
                            struct sl_err *err)
{
    *out = NULL;
    if (!t) return SL_OK;
    if (ggml_backend_buffer_is_host(t->buffer)) {
        *out = t->data;
        return SL_OK;
    }
    float *copy = sl_realloc_array(*host, (size_t)ggml_nelements(t), sizeof *copy);
    if (!copy) return sl_err_set(err, SL_NOMEM, "results of a step");
    ggml_backend_tensor_get(t, copy, 0, ggml_nbytes(t));
    *out = *host = copy;
    return SL_OK;
}

sl_status llm_stage_hidden(struct llm_stage *s, const float **out, struct sl_err *err)
{
    float *rows;
    sl_status status = result_get(s->graph.hidden, &s->hidden_host, &rows, err);
    if (status != SL_OK) return status;
    *out = rows ? rows + (size_t)s->graph.key.n_outputs * (size_t)s->hp->n_embd : NULL;
    return SL_OK;
}

sl_status llm_stage_compute(struct llm_stage *s, const struct llm_batch *batch, const float *hidden,
                            float **out, struct sl_err *err)
{
    struct llm_graph_key key = batch_key(s, batch);
    sl_status status = graph_get(s, &key, err);
    if (status == SL_OK) status = inputs_set(s, batch, hidden, err);
    if (status != SL_OK) return status;
    s->batch = &batch->attn;
    enum ggml_status computed = ggml_backend_sched_graph_compute(s->sched, s->graph.gf);
    s->batch = NULL;
    if (computed != GGML_STATUS_SUCCESS)
        return sl_err_set(err, SL_INTERNAL, "ggml: computing %d tokens failed (%s)",
                          batch->n_tokens, ggml_status_to_string(computed));
    return result_get(s->graph.out, &s->out_host, out, err);
}

static sl_status copy_rows(struct ggml_tensor *t, int32_t src, int32_t dst, int32_t n,
                           struct sl_err *err)
{
    size_t bytes = t->nb[1] * (size_t)n;
    void *rows = sl_malloc(bytes);
    if (!rows) return sl_err_set(err, SL_NOMEM, "copy of a KV block");
    ggml_backend_tensor_get(t, rows, t->nb[1] * (size_t)src, bytes);
    ggml_backend_tensor_set(t, rows, t->nb[1] * (size_t)dst, bytes);
    sl_free(rows);
    return SL_OK;
}

sl_status llm_stage_copy_slots(struct llm_stage *s, int32_t src, int32_t dst, int32_t n_slots,
                               struct sl_err *err)
{
    sl_status status = SL_OK;
    for (int32_t i = 0; i < s->n_layers && status == SL_OK; i++) {
        status = copy_rows(s->env.kv.k[i], src, dst, n_slots, err);
        if (status == SL_OK && s->env.kv.v[i])
            status = copy_rows(s->env.kv.v[i], src, dst, n_slots, err);
    }
    return status;
}

void llm_stage_stats(const struct llm_stage *s, struct llm_stage_stats *out)
{
    *out = (struct llm_stage_stats){.mapped_bytes = s->weights.mapped_bytes,
                                    .copied_bytes = s->weights.copied_bytes,
                                    .kv_bytes = s->kv_bytes,
                                    .compute_bytes = s->compute_bytes,
                                    .n_graph_builds = s->n_builds,
                                    .n_graph_reuses = s->n_reuses,
                                    .gpu_layers = s->weights.range.last - s->weights.gpu_first};
    for (int i = 0; i < s->backends->n && !s->measure; i++)
        out->compute_bytes += ggml_backend_sched_get_buffer_size(s->sched, s->backends->list[i]);
}
