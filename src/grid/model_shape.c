#include "grid/model_shape.h"
#include "base/mem.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/shape.h"
#include <string.h>

#define CONTEXT 4096 /* buffers hardly depend on it */
/* Of a worker beside what it is charged for: members' budgets leave room for processes. */
#define PROCESS_BYTES (UINT64_C(1) << 20)

_Static_assert(LLM_SHAPE_LAYERS_MAX <= SPLIT_LAYERS_MAX, "every shape can be planned with");

#define CHUNK_LONG 512 /* what more rows take is measured between SPLIT_CHUNK_FITS and these */

struct buffers {
    uint64_t stage, head; /* of any stage; what the last one needs more */
};

static uint64_t for_a_row(uint64_t few, uint64_t many)
{
    uint64_t rows = CHUNK_LONG - SPLIT_CHUNK_FITS;
    return many > few ? (many - few + rows - 1) / rows : 0;
}

static void take(const struct llm_shape *from, struct buffers buffers, struct buffers longer,
                 struct model_shape *out)
{
    out->model = (struct split_model){.n_layer = from->n_layer,
                                      .n_embd = from->n_embd,
                                      .layer_bytes = out->layer_bytes,
                                      .embd_bytes = from->embd_bytes,
                                      .head_bytes = from->head_bytes,
                                      .kv_bytes = from->kv_bytes,
                                      .stage_bytes = buffers.stage + PROCESS_BYTES,
                                      .head_buffer_bytes = buffers.head,
                                      .stage_row_bytes = for_a_row(buffers.stage, longer.stage),
                                      .head_row_bytes = for_a_row(buffers.head, longer.head),
                                      .layer_flops = from->layer_flops,
                                      .head_flops = from->head_flops,
                                      .attn_flops = from->attn_flops,
                                      .active = from->active,
                                      .weight = split_weight_of(from->type),
                                      .head_weight = split_weight_of(from->head_type)};
    memcpy(out->layer_bytes, from->layer_bytes, (size_t)from->n_layer * sizeof *out->layer_bytes);
}

/* Of a stage in the middle and of the whole model, which has the logits besides. */
static sl_status measure_buffers(const char *path, const struct llm_shape *shape, int32_t chunk,
                                 struct buffers *out, struct sl_err *err)
{
    struct llm_engine_cfg cfg;
    struct llm_engine_estimate whole, middle;
    int32_t n_ctx = shape->n_ctx_train < CONTEXT ? shape->n_ctx_train : CONTEXT;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = n_ctx;
    cfg.n_batch = chunk;
    sl_status status = llm_engine_estimate(path, &cfg, &whole, err);
    if (status != SL_OK) return status;
    *out = (struct buffers){.stage = whole.compute_bytes};
    if (shape->n_layer < 3) return SL_OK;
    cfg.split = (struct engine_split){
        .n_stages = 3, .stage = 1, .first = 1, .last = 2, .kv_blocks = n_ctx / KV_BLOCK_TOKENS + 2};
    status = llm_engine_estimate(path, &cfg, &middle, err);
    if (status != SL_OK || middle.compute_bytes > whole.compute_bytes) return status;
    *out = (struct buffers){middle.compute_bytes, whole.compute_bytes - middle.compute_bytes};
    return SL_OK;
}

sl_status model_shape_read(const char *path, struct model_shape *out, struct sl_err *err)
{
    struct buffers buffers, longer;
    struct llm_shape *shape = sl_malloc(sizeof *shape);
    if (!shape) return sl_err_set(err, SL_NOMEM, "%s: its shape", path);
    sl_status status = llm_shape_read(path, shape, err);
    if (status == SL_OK) status = measure_buffers(path, shape, SPLIT_CHUNK_FITS, &buffers, err);
    if (status == SL_OK) status = measure_buffers(path, shape, CHUNK_LONG, &longer, err);
    if (status == SL_OK) take(shape, buffers, longer, out);
    if (status == SL_OK) out->n_ctx_train = shape->n_ctx_train;
    sl_free(shape);
    return status;
}

sl_status model_shape_copy(const struct split_model *from, struct model_shape *out,
                           struct sl_err *err)
{
    if (from->n_layer < 1 || from->n_layer > SPLIT_LAYERS_MAX)
        return sl_err_set(err, SL_LIMIT, "%d layers, from 1 to %d", from->n_layer,
                          SPLIT_LAYERS_MAX);
    out->model = *from;
    out->model.layer_bytes = out->layer_bytes;
    out->n_ctx_train = 0;
    memcpy(out->layer_bytes, from->layer_bytes, (size_t)from->n_layer * sizeof *out->layer_bytes);
    return SL_OK;
}
