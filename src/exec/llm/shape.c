#include "exec/llm/shape.h"
#include "exec/llm/gguf.h"
#include "exec/llm/stage.h"

#define TYPES_MAX 64 /* ggml has 40 */

_Static_assert(LLM_LAYERS_MAX <= LLM_SHAPE_LAYERS_MAX, "every model has a shape");

struct tally { /* over the tensors of the layers */
    double flops, bytes, read;
    uint64_t of_type[TYPES_MAX];
};

static uint64_t tensor_bytes(const struct gguf_file *file, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor_find(file, name);
    return t ? t->n_bytes : 0;
}

static double elements(const struct gguf_tensor *t)
{
    return (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2] * (double)t->ne[3];
}

static sl_status add_layer(const struct gguf_file *file, const struct llm_hparams *hp, int32_t il,
                           struct tally *tally, uint64_t *out_bytes, struct sl_err *err)
{
    struct llm_tensor_spec spec;
    const struct gguf_tensor *t;
    for (int role = 0; role < LLM_LAYER_ROLE_COUNT; role++) {
        if (!llm_layer_tensor(hp, il, (enum llm_layer_role)role, &spec)) continue;
        sl_status status = llm_tensor_lookup(file, il, &spec, &t, err);
        if (status != SL_OK) return status;
        if (!t) continue;
        bool chosen = spec.use == LLM_USE_MUL_MAT_ID && hp->n_expert > 0;
        double share = chosen ? (double)hp->n_expert_used / hp->n_expert : 1;
        *out_bytes += t->n_bytes;
        tally->bytes += (double)t->n_bytes;
        tally->read += share * (double)t->n_bytes;
        if (spec.use == LLM_USE_MUL_MAT || chosen) tally->flops += 2 * share * elements(t);
        if (t->type < TYPES_MAX) tally->of_type[t->type] += t->n_bytes;
    }
    return SL_OK;
}

static void add_ends(const struct gguf_file *file, struct llm_shape *out)
{
    const struct gguf_tensor *embd = gguf_tensor_find(file, "token_embd.weight");
    const struct gguf_tensor *head = gguf_tensor_find(file, "output.weight");
    if (!head) head = embd;
    out->embd_bytes = embd ? embd->n_bytes : 0;
    out->head_bytes = (head ? head->n_bytes : 0) + tensor_bytes(file, "output_norm.weight");
    out->head_flops = head ? 2 * elements(head) : 0;
    out->head_type = gguf_tensor_type_name(head ? head->type : 0);
}

static sl_status fill(const struct gguf_file *file, const struct llm_hparams *hp,
                      struct llm_shape *out, struct sl_err *err)
{
    struct tally tally = {0};
    const struct llm_range one = {.first = 0, .last = 1};
    uint32_t most = 0;
    *out = (struct llm_shape){.n_layer = hp->n_layer,
                              .n_embd = hp->n_embd,
                              .n_vocab = hp->n_vocab,
                              .n_ctx_train = hp->n_ctx_train};
    for (int32_t il = 0; il < hp->n_layer; il++) {
        sl_status status = add_layer(file, hp, il, &tally, &out->layer_bytes[il], err);
        if (status != SL_OK) return status;
    }
    for (uint32_t type = 0; type < TYPES_MAX; type++)
        if (tally.of_type[type] > tally.of_type[most]) most = type;
    add_ends(file, out);
    out->kv_bytes = llm_kv_token_bytes(hp, &one, LLM_KV_F16);
    out->layer_flops = tally.flops / hp->n_layer;
    out->attn_flops = 2.0 * hp->n_head * (hp->head_k + hp->head_v);
    out->active = tally.bytes > 0 ? tally.read / tally.bytes : 1;
    out->type = gguf_tensor_type_name(most);
    return SL_OK;
}

sl_status llm_shape_read(const char *path, struct llm_shape *out, struct sl_err *err)
{
    struct gguf_file *file = NULL;
    struct llm_hparams hp;
    sl_status status = gguf_open(path, &file, err); /* its message names the file */
    if (status != SL_OK) return status;
    status = llm_hparams_read(file, &hp, err);
    if (status == SL_OK) status = fill(file, &hp, out, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "%s", path);
    gguf_close(file);
    return status;
}
