#include "exec/llm/weights.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/size_text.h"
#include "exec/llm/backend.h"
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACE_MAPPED 0
#define PLACE_PACKED 1
#define HUGE_PAGE_BYTES (2u << 20) /* packed weights are read as streams: few pages, few misses */
#define PACK_JOBS 32               /* a tensor is packed in this many pieces */
/* batch size for which a buffer type must support the product */
#define PROBE_TOKENS 512
/* left free for KV cache and graph buffers when layers are placed by fit */
#define GPU_SPARE_BYTES (768ull << 20)

struct item { /* one tensor on its way in */
    const struct gguf_tensor *src;
    struct ggml_tensor **dst;
    enum llm_tensor_use use;
    int place;
};

struct loader {
    const struct llm_weights_cfg *cfg;
    struct llm_weights *w;
    struct item *items;
    int n_items;
    int gpu_place; /* -1: none */
    struct sl_err *err;
};

static int32_t n_layers(const struct llm_range *r)
{
    return r->last - r->first;
}

/* The type must be one that ggml multiplies or looks up; integers and doubles are data of other
 * kinds. */
static bool type_computes(uint32_t type)
{
    return type != GGML_TYPE_F64 && !(type >= GGML_TYPE_I8 && type <= GGML_TYPE_I64) &&
           type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K && type < GGML_TYPE_COUNT;
}

static sl_status item_add(struct loader *ld, int layer, const struct llm_tensor_spec *spec,
                          struct ggml_tensor **dst)
{
    const struct gguf_tensor *src;
    sl_status status = llm_tensor_lookup(ld->cfg->file, layer, spec, &src, ld->err);
    if (status != SL_OK || !src) return status;
    if (!type_computes(src->type))
        return sl_err_set(ld->err, SL_UNSUPPORTED, "tensor %s: ggml does not compute on type %s",
                          src->name, gguf_tensor_type_name(src->type));
    ld->items[ld->n_items++] = (struct item){src, dst, spec->use, PLACE_MAPPED};
    return SL_OK;
}

static sl_status collect_model(struct loader *ld)
{
    const struct llm_hparams *hp = ld->cfg->hp;
    struct llm_range r = ld->cfg->range;
    struct llm_tensor_spec spec;
    sl_status status = SL_OK;
    for (int role = 0; role < LLM_MODEL_ROLE_COUNT && status == SL_OK; role++) {
        bool wanted = role == LLM_TOKEN_EMBD                          ? r.embeds
                      : role == LLM_OUTPUT || role == LLM_OUTPUT_NORM ? r.heads
                                                                      : true;
        llm_model_tensor(hp, (enum llm_tensor_role)role, &spec);
        if (wanted) status = item_add(ld, -1, &spec, &ld->w->model[role]);
    }
    if (status != SL_OK || !r.heads || gguf_tensor_find(ld->cfg->file, "output.weight"))
        return status;
    llm_model_tensor(hp, LLM_TOKEN_EMBD, &spec); /* tied: the embedding is the head */
    spec.use = LLM_USE_MUL_MAT;
    return item_add(ld, -1, &spec, &ld->w->model[LLM_OUTPUT]);
}

static sl_status collect_layers(struct loader *ld)
{
    struct llm_range r = ld->cfg->range;
    struct llm_tensor_spec spec;
    for (int32_t il = r.first; il < r.last; il++) {
        for (int role = 0; role < LLM_LAYER_ROLE_COUNT; role++) {
            struct ggml_tensor **dst = &ld->w->layers[il - r.first].t[role];
            if (!llm_layer_tensor(ld->cfg->hp, il, (enum llm_layer_role)role, &spec)) continue;
            sl_status status = item_add(ld, il, &spec, dst);
            if (status != SL_OK) return status;
        }
    }
    return SL_OK;
}

static int place_add(struct llm_weights *w, struct ggml_backend_buffer_type *buft)
{
    if (w->n_places == LLM_PLACES_MAX) return -1;
    w->places[w->n_places] = (struct llm_place){.buft = buft};
    return w->n_places++;
}

static void places_init(struct loader *ld)
{
    const struct llm_backends *b = ld->cfg->backends;
    ggml_backend_dev_t cpu = ggml_backend_get_device(b->cpu);
    ggml_backend_dev_get_extra_bufts_t extra =
        (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    place_add(ld->w, NULL);
    place_add(ld->w, ggml_backend_get_default_buffer_type(b->cpu));
    ld->gpu_place = b->gpu ? place_add(ld->w, ggml_backend_get_default_buffer_type(b->gpu)) : -1;
    if (!extra) return;
    for (ggml_backend_buffer_type_t *buft = extra(cpu); buft && *buft; buft++)
        place_add(ld->w, *buft);
}

static struct ggml_tensor *new_tensor(struct ggml_context *ctx, const struct gguf_tensor *src)
{
    return ggml_new_tensor(ctx, (enum ggml_type)src->type, src->n_dims, src->ne);
}

/* Would the CPU multiply by this tensor if it lived in a buffer of this type? */
static bool buft_multiplies(ggml_backend_dev_t dev, struct ggml_backend_buffer_type *buft,
                            const struct item *it)
{
    struct ggml_init_params params = {8 * ggml_tensor_overhead(), NULL, true};
    struct ggml_context *ctx = ggml_init(params);
    struct ggml_tensor *w = ctx ? new_tensor(ctx, it->src) : NULL, *op;
    bool ok;
    if (!w) return false;
    if (it->use == LLM_USE_MUL_MAT) {
        op = ggml_mul_mat(
            ctx, w, ggml_new_tensor_4d(ctx, GGML_TYPE_F32, w->ne[0], PROBE_TOKENS, w->ne[2], 1));
    } else {
        struct ggml_tensor *x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, w->ne[0], 1, PROBE_TOKENS);
        op = ggml_mul_mat_id(ctx, w, x, ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, PROBE_TOKENS));
    }
    w->buffer = ggml_backend_buft_alloc_buffer(buft, 0);
    ok = w->buffer && ggml_backend_dev_supports_op(dev, op);
    ggml_backend_buffer_free(w->buffer);
    ggml_free(ctx);
    return ok;
}

static bool item_is_on_gpu(const struct loader *ld, const struct item *it)
{
    const struct llm_weights *w = ld->w;
    ptrdiff_t at = (const char *)it->dst - (const char *)w->layers;
    ptrdiff_t end = (ptrdiff_t)((size_t)n_layers(&w->range) * sizeof *w->layers);
    if (ld->gpu_place < 0) return false;
    if (at >= 0 && at < end)
        return w->range.first + (int32_t)((size_t)at / sizeof *w->layers) >= w->gpu_first;
    return it->dst != &w->model[LLM_TOKEN_EMBD] && w->gpu_first < w->range.last;
}

/* Are they matrices that our own kernels multiply by? */
static bool item_packs(const struct item *it, enum qmat_type *type)
{
    bool one = it->use == LLM_USE_MUL_MAT && it->src->n_dims == 2;
    bool experts = it->use == LLM_USE_MUL_MAT_ID && it->src->n_dims == 3;
    return qmat_kernel_chosen() && (one || experts) && qmat_type_from_gguf(it->src->type, type) &&
           it->src->ne[0] % qmat_block(*type) == 0;
}

static void item_place(const struct loader *ld, struct item *it)
{
    ggml_backend_dev_t cpu = ggml_backend_get_device(ld->cfg->backends->cpu);
    bool product = it->use == LLM_USE_MUL_MAT || it->use == LLM_USE_MUL_MAT_ID;
    enum qmat_type type;
    if (item_is_on_gpu(ld, it)) {
        it->place = ld->gpu_place;
        return;
    }
    if (item_packs(it, &type)) {
        it->place = PLACE_PACKED;
        return;
    }
    for (int p = PLACE_PACKED + 1; product && p < ld->w->n_places; p++) {
        if (p == ld->gpu_place || !buft_multiplies(cpu, ld->w->places[p].buft, it)) continue;
        it->place = p;
        return;
    }
}

/* Which layers the accelerator takes: as asked, or from the last back as long as its free memory
 * lasts. */
static void choose_gpu_layers(struct loader *ld)
{
    struct llm_weights *w = ld->w;
    size_t free_bytes = 0, total = 0;
    uint64_t used = GPU_SPARE_BYTES, layer_bytes[LLM_LAYERS_MAX] = {0};
    w->gpu_first = w->range.last;
    if (ld->gpu_place < 0) return;
    if (ld->cfg->gpu_layers >= 0) {
        int32_t n =
            ld->cfg->gpu_layers < n_layers(&w->range) ? ld->cfg->gpu_layers : n_layers(&w->range);
        w->gpu_first = w->range.last - n;
        return;
    }
    ggml_backend_dev_memory(ggml_backend_get_device(ld->cfg->backends->gpu), &free_bytes, &total);
    for (int i = 0; i < ld->n_items; i++) {
        size_t at = (size_t)((const char *)ld->items[i].dst - (const char *)w->layers);
        if (at < (size_t)n_layers(&w->range) * sizeof *w->layers)
            layer_bytes[at / sizeof *w->layers] += ld->items[i].src->n_bytes;
        else
            used += ld->items[i].src->n_bytes;
    }
    while (w->gpu_first > w->range.first) {
        used += layer_bytes[w->gpu_first - 1 - w->range.first];
        if (used > free_bytes) break;
        w->gpu_first--;
    }
}

static size_t packed_bytes(const struct llm_packed *p)
{
    return (size_t)p->n * qmat_bytes(p->matrix.type, p->matrix.k, p->matrix.m);
}

/* Says what a tensor is packed to; returns the bytes that this takes. */
static size_t item_pack_plan(struct loader *ld, const struct item *it)
{
    struct llm_packed *p = &ld->w->packed[ld->w->n_packed++];
    *p = (struct llm_packed){{.k = it->src->ne[0], .m = it->src->ne[1]},
                             it->src->n_dims == 3 ? it->src->ne[2] : 1};
    qmat_type_from_gguf(it->src->type, &p->matrix.type);
    (*it->dst)->extra = p;
    return packed_bytes(p);
}

/* ggml's own repacking uses `extra` too, so the buffer tells. */
const struct llm_packed *llm_weight_packed(const struct llm_weights *w, const struct ggml_tensor *t)
{
    return t->buffer && t->buffer == w->places[PLACE_PACKED].buffer ? t->extra : NULL;
}

struct qmat llm_packed_matrix(const struct llm_packed *packed, int64_t i)
{
    struct qmat q = packed->matrix;
    q.data = (const char *)q.data + (size_t)i * qmat_bytes(q.type, q.k, q.m);
    return q;
}

static sl_status make_tensors(struct loader *ld)
{
    struct llm_weights *w = ld->w;
    for (int p = 0; p < w->n_places; p++) {
        struct ggml_init_params params = {((size_t)ld->n_items + 1) * ggml_tensor_overhead(), NULL,
                                          true};
        w->places[p].ctx = ggml_init(params);
        if (!w->places[p].ctx) return sl_err_set(ld->err, SL_NOMEM, "tensor table");
    }
    for (int i = 0; i < ld->n_items; i++) {
        struct item *it = &ld->items[i];
        item_place(ld, it);
        *it->dst = new_tensor(w->places[it->place].ctx, it->src);
        ggml_set_name(*it->dst, it->src->name);
        w->places[it->place].n_bytes +=
            it->place == PLACE_PACKED ? item_pack_plan(ld, it) : it->src->n_bytes;
    }
    return SL_OK;
}

/* The output head that is the embedding again. */
static bool is_tied(const struct loader *ld, const struct item *it)
{
    return it->dst == &ld->w->model[LLM_OUTPUT] && ld->w->model[LLM_TOKEN_EMBD] &&
           !strcmp(it->src->name, "token_embd.weight");
}

static sl_status map_shards(struct loader *ld)
{
    const struct gguf_file *file = ld->cfg->file;
    ggml_backend_dev_t cpu = ggml_backend_get_device(ld->cfg->backends->cpu);
    struct llm_weights *w = ld->w;
    w->n_maps = gguf_n_shards(file);
    w->maps = sl_calloc((size_t)w->n_maps, sizeof *w->maps);
    if (!w->maps) return sl_err_set(ld->err, SL_NOMEM, "shard table");
    for (int i = 0; i < ld->n_items; i++) {
        struct item *it = &ld->items[i];
        struct ggml_backend_buffer **map = &w->maps[it->src->shard];
        size_t n;
        const void *base = gguf_shard_map(file, it->src->shard, &n);
        if (it->place != PLACE_MAPPED) continue;
        if (!*map) *map = ggml_backend_dev_buffer_from_host_ptr(cpu, (void *)(uintptr_t)base, n, n);
        if (!*map || ggml_backend_tensor_alloc(*map, *it->dst, (void *)(uintptr_t)it->src->data) !=
                         GGML_STATUS_SUCCESS)
            return sl_err_set(ld->err, SL_INTERNAL, "tensor %s: cannot be used in place",
                              it->src->name);
        ggml_backend_buffer_set_usage(*map, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        if (!is_tied(ld, it)) w->mapped_bytes += it->src->n_bytes;
    }
    return SL_OK;
}

/* Tensors in an empty buffer: the scheduler sees where they would live. */
struct ggml_backend_buffer *llm_buffer_measure(struct ggml_context *ctx,
                                               struct ggml_backend_buffer_type *buft)
{
    struct ggml_backend_buffer *buffer = ggml_backend_buft_alloc_buffer(buft, 0);
    for (struct ggml_tensor *t = ggml_get_first_tensor(ctx); t && buffer;
         t = ggml_get_next_tensor(ctx, t))
        t->buffer = buffer;
    return buffer;
}

static sl_status check_memory(const struct loader *ld)
{
    uint64_t need = 0, available = sl_mem_available_bytes();
    char needs[SL_SIZE_TEXT_MAX], has[SL_SIZE_TEXT_MAX];
    for (int p = 1; p < ld->w->n_places; p++)
        need += p == ld->gpu_place ? 0 : ld->w->places[p].n_bytes;
    if (need <= available || ld->cfg->measure) return SL_OK;
    return sl_err_set(ld->err, SL_NOMEM, "weights: %s needed, %s available",
                      sl_size_text(need, needs), sl_size_text(available, has));
}

/* A buffer of our own for the packed tensors: they may be larger than ggml thinks. */
static struct ggml_backend_buffer *packed_alloc(const struct loader *ld, struct llm_place *place)
{
    size_t n = (place->n_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    ggml_backend_dev_t cpu = ggml_backend_get_device(ld->cfg->backends->cpu);
    struct ggml_tensor *t = ggml_get_first_tensor(place->ctx);
    place->memory = sl_malloc(n + HUGE_PAGE_BYTES);
    if (!place->memory) return NULL;
    uintptr_t page = (uintptr_t)place->memory + HUGE_PAGE_BYTES - 1;
    char *at = (char *)(page / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
    struct ggml_backend_buffer *buffer = ggml_backend_dev_buffer_from_host_ptr(cpu, at, n, n);
    madvise(at, n, MADV_HUGEPAGE);
    for (; t && buffer; t = ggml_get_next_tensor(place->ctx, t)) {
        struct llm_packed *p = t->extra;
        p->matrix.data = at;
        if (ggml_backend_tensor_alloc(buffer, t, at) != GGML_STATUS_SUCCESS) break;
        at += packed_bytes(p);
    }
    if (!t) return buffer;
    ggml_backend_buffer_free(buffer);
    return NULL;
}

static struct ggml_backend_buffer *place_alloc(const struct loader *ld, int p)
{
    struct llm_place *place = &ld->w->places[p];
    if (ld->cfg->measure) return llm_buffer_measure(place->ctx, place->buft);
    return p == PLACE_PACKED ? packed_alloc(ld, place)
                             : ggml_backend_alloc_ctx_tensors_from_buft(place->ctx, place->buft);
}

static sl_status alloc_places(struct loader *ld)
{
    struct llm_weights *w = ld->w;
    char needs[SL_SIZE_TEXT_MAX];
    sl_status status = check_memory(ld);
    if (status != SL_OK) return status;
    for (int p = 1; p < w->n_places; p++) {
        struct llm_place *place = &w->places[p];
        if (!place->n_bytes) continue;
        place->buffer = place_alloc(ld, p);
        if (!place->buffer)
            return sl_err_set(ld->err, SL_NOMEM, "weights: %s has no room for %s",
                              ggml_backend_buft_name(place->buft),
                              sl_size_text(place->n_bytes, needs));
        ggml_backend_buffer_set_usage(place->buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        w->copied_bytes += place->n_bytes;
    }
    return SL_OK;
}

/* The mapping's pages of a tensor that was copied are not needed again soon: no second copy
 * stays in memory. */
static void drop_pages(const struct gguf_tensor *t)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE),
              from = ((uintptr_t)t->data + page - 1) & ~(page - 1);
    uintptr_t to = ((uintptr_t)t->data + t->n_bytes) & ~(page - 1);
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

struct packing { /* one tensor being packed by the pool */
    const struct llm_packed *packed;
    const char *blocks;
    size_t bytes; /* of one matrix in the file */
};

/* Piece i: some rows of each matrix. */
static void pack_rows(void *arg, int i)
{
    const struct packing *p = arg;
    int64_t m = p->packed->matrix.m, n_groups = (m + QMAT_ROWS - 1) / QMAT_ROWS;
    int64_t first = n_groups * i / PACK_JOBS * QMAT_ROWS;
    int64_t last = n_groups * (i + 1) / PACK_JOBS * QMAT_ROWS;
    for (int64_t j = 0; j < p->packed->n; j++) {
        struct qmat q = llm_packed_matrix(p->packed, j);
        qmat_pack(&q, p->blocks + (size_t)j * p->bytes, first, last < m ? last : m,
                  (void *)(uintptr_t)q.data);
    }
}

static void pack_tensor(const struct item *it, struct sl_pool *pool)
{
    const struct llm_packed *packed = (*it->dst)->extra;
    struct packing p = {packed, it->src->data, it->src->n_bytes / (size_t)packed->n};
    sl_pool_for(pool, PACK_JOBS, pack_rows, &p);
}

static void copy_tensor(const struct item *it, struct sl_pool *pool)
{
    if (it->place == PLACE_PACKED)
        pack_tensor(it, pool);
    else
        ggml_backend_tensor_set(*it->dst, it->src->data, 0, it->src->n_bytes);
    drop_pages(it->src);
}

static sl_status report(const struct loader *ld, double part)
{
    const struct llm_load_watch *watch = ld->cfg->watch;
    if (!watch || !watch->on_load) return SL_OK;
    if (watch->on_load(watch->ctx, watch->from + part * (watch->to - watch->from))) return SL_OK;
    return sl_err_set(ld->err, SL_CANCELLED, "cancelled");
}

/* Mapped tensors take no time, copied ones do: progress counts the bytes of those. */
static sl_status copy_tensors(struct loader *ld, struct sl_pool *pool)
{
    uint64_t n_done = 0, n_bytes = 0;
    sl_status status = report(ld, 0);
    for (int i = 0; i < ld->n_items; i++)
        n_bytes += ld->items[i].place == PLACE_MAPPED ? 0 : ld->items[i].src->n_bytes;
    for (int i = 0; i < ld->n_items && status == SL_OK; i++) {
        const struct item *it = &ld->items[i];
        if (it->place == PLACE_MAPPED) continue;
        copy_tensor(it, pool);
        n_done += it->src->n_bytes;
        status = report(ld, (double)n_done / (double)n_bytes);
    }
    return status == SL_OK && !n_done ? report(ld, 1) : status;
}

static sl_status copy_all(struct loader *ld)
{
    struct sl_pool *pool;
    sl_status status = sl_pool_create(ld->cfg->backends->n_threads, PACK_JOBS, &pool);
    if (status != SL_OK) return sl_err_set(ld->err, status, "threads to pack weights with");
    status = copy_tensors(ld, pool);
    sl_pool_destroy(pool);
    return status;
}

static sl_status load_all(struct loader *ld)
{
    sl_status status = collect_model(ld);
    if (status == SL_OK) status = collect_layers(ld);
    if (status != SL_OK) return status;
    places_init(ld);
    choose_gpu_layers(ld);
    status = make_tensors(ld);
    if (status == SL_OK) status = map_shards(ld);
    if (status == SL_OK) status = alloc_places(ld);
    if (status == SL_OK && !ld->cfg->measure) status = copy_all(ld);
    return status;
}

sl_status llm_weights_load(const struct llm_weights_cfg *cfg, struct llm_weights *out,
                           struct sl_err *err)
{
    int32_t n = n_layers(&cfg->range);
    size_t n_max = (size_t)n * LLM_LAYER_ROLE_COUNT + LLM_MODEL_ROLE_COUNT + 1;
    struct loader ld = {.cfg = cfg, .w = out, .gpu_place = -1, .err = err};
    sl_status status;
    *out = (struct llm_weights){.range = cfg->range};
    ld.items = sl_calloc(n_max, sizeof *ld.items);
    out->layers = sl_calloc((size_t)n + 1, sizeof *out->layers);
    out->packed = sl_calloc(n_max, sizeof *out->packed);
    status = ld.items && out->layers && out->packed ? load_all(&ld)
                                                    : sl_err_set(err, SL_NOMEM, "layer table");
    sl_free(ld.items);
    if (status != SL_OK) llm_weights_free(out);
    return status;
}

void llm_weights_free(struct llm_weights *w)
{
    for (int i = 0; i < w->n_maps && w->maps; i++) ggml_backend_buffer_free(w->maps[i]);
    for (int p = 0; p < w->n_places; p++) {
        ggml_backend_buffer_free(w->places[p].buffer);
        ggml_free(w->places[p].ctx);
        sl_free(w->places[p].memory);
    }
    sl_free(w->packed);
    sl_free(w->maps);
    sl_free(w->layers);
    *w = (struct llm_weights){0};
}
