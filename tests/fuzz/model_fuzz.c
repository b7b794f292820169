/* model_fuzz.c: any bytes as a model: its keys become hyper-parameters or are refused, its
 * vocabulary a tokenizer, and every tensor that the hyper-parameters ask for is looked up. Nothing
 * is computed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/llm/tensors.h"
#include "exec/llm/tokenizer.h"

#define ALIGNMENT 32 /* what gguf_open_mem wants */
#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the graph builder and ggml rely on. */
static void check_hparams(const struct llm_hparams *hp)
{
    CHECK(hp->n_layer > 0 && hp->n_layer <= LLM_LAYERS_MAX);
    CHECK(hp->n_embd > 0 && hp->n_vocab > 0 && hp->n_ctx_train > 0 && hp->n_ctx_orig > 0);
    CHECK(hp->n_head_kv > 0 && hp->n_head % hp->n_head_kv == 0);
    CHECK(hp->head_k > 0 && hp->head_k <= LLM_HEAD_DIM_MAX);
    CHECK(hp->head_v > 0 && hp->head_v <= LLM_HEAD_DIM_MAX);
    CHECK(hp->n_rot > 0 && hp->n_rot % 2 == 0 && hp->n_rot <= hp->head_k);
    CHECK(hp->rms_eps >= 0 && hp->attn_softcap >= 0 && hp->final_softcap >= 0);
    CHECK(hp->n_expert_used >= 0 && hp->n_expert_used <= hp->n_expert);
    if (hp->n_expert) CHECK(hp->n_expert_used > 0 && hp->gating != LLM_GATING_NONE);
    if (hp->n_expert_groups > 1) CHECK(hp->n_expert % hp->n_expert_groups == 0);
    if (hp->arch->attn == LLM_ATTN_MLA) CHECK(hp->mla_head_k > hp->n_rot && hp->mla_head_v > 0);
}

static void look_up(const struct gguf_file *file, int layer, const struct llm_tensor_spec *spec)
{
    const struct gguf_tensor *t = NULL;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = llm_tensor_lookup(file, layer, spec, &t, &err);
    CHECK(status == SL_OK || err.text[0]);
    if (status != SL_OK || !t) return;
    CHECK(t->n_dims > 0);
    for (int i = 0; i < spec->n_dims; i++) CHECK(t->ne[i] == spec->ne[i]);
}

static void look_up_all(const struct gguf_file *file, const struct llm_hparams *hp)
{
    struct llm_tensor_spec spec;
    for (int role = 0; role < LLM_MODEL_ROLE_COUNT; role++) {
        if (llm_model_tensor(hp, (enum llm_tensor_role)role, &spec)) look_up(file, -1, &spec);
    }
    for (int il = 0; il < hp->n_layer; il++) {
        for (int role = 0; role < LLM_LAYER_ROLE_COUNT; role++) {
            if (llm_layer_tensor(hp, il, (enum llm_layer_role)role, &spec))
                look_up(file, il, &spec);
        }
    }
}

static void try_model(const struct gguf_file *file)
{
    struct llm_hparams hp;
    struct tokenizer *tok = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (llm_hparams_read(file, &hp, &err) == SL_OK) {
        check_hparams(&hp);
        look_up_all(file, &hp);
    } else {
        CHECK(err.text[0]);
    }
    err = (struct sl_err)SL_ERR_INIT;
    CHECK(tokenizer_create(file, &tok, &err) == SL_OK || err.text[0]);
    tokenizer_destroy(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    void *copy = NULL;
    if (posix_memalign(&copy, ALIGNMENT, size ? size : 1)) return 0;
    if (size) memcpy(copy, data, size);
    if (gguf_open_mem(copy, size, &file, &err) == SL_OK)
        try_model(file);
    else
        CHECK(err.text[0]);
    gguf_close(file);
    CHECK(sl_mem_live() == live);
    free(copy);
    return 0;
}
