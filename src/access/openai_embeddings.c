/* openai_embeddings.c: POST /v1/embeddings. */
#include "access/embedding.h"
#include "access/openai.h"
#include "base/base64.h"
#include "base/mem.h"
#include <string.h>

/* Little-endian f32, as the openai clients ask for by default. */
static void put_base64(struct sl_json *json, const float *vector, size_t n)
{
    struct sl_buf text;
    sl_buf_init(&text, (size_t)EMBEDDING_DIMENSIONS_MAX * 8);
    if (sl_base64_encode(&text, SL_BASE64_STANDARD, vector, n * sizeof *vector) != SL_OK)
        json->status = SL_NOMEM;
    sl_json_strn(json, text.data, text.len);
    sl_buf_done(&text);
}

static sl_status put(const struct embedding *e, struct sl_buf *out)
{
    struct sl_json json;
    size_t n_embd =
        (size_t)(e->dimensions && e->dimensions < e->n_embd ? e->dimensions : e->n_embd);
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "object", "list");
    sl_json_key(&json, "data");
    sl_json_array(&json);
    for (size_t i = 0; i < e->n; i++) {
        sl_json_object(&json);
        sl_json_kv_str(&json, "object", "embedding");
        sl_json_kv_int(&json, "index", (int64_t)i);
        sl_json_key(&json, "embedding");
        if (e->base64) {
            put_base64(&json, e->vectors[i], n_embd);
        } else {
            sl_json_array(&json);
            for (size_t j = 0; j < n_embd; j++) sl_json_num(&json, (double)e->vectors[i][j]);
            sl_json_array_end(&json);
        }
        sl_json_object_end(&json);
    }
    sl_json_array_end(&json);
    sl_json_kv_str(&json, "model", e->model);
    sl_json_key(&json, "usage");
    sl_json_object(&json);
    sl_json_kv_int(&json, "prompt_tokens", e->total.n_prompt);
    sl_json_kv_int(&json, "total_tokens", e->total.n_prompt);
    sl_json_object_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* `pooling`, `normalize`: ours; the model's own pooling and length 1 without them. */
static bool read_pooling(struct call *call, struct node_submit *submits, size_t n)
{
    static const char *const names[] = {"model", "mean", "cls", "last"};
    const char *name = sl_json_to_str(sl_json_get(call->body, "pooling"), names[0], NULL);
    bool normalize = sl_json_to_bool(sl_json_get(call->body, "normalize"), true);
    int which = -1;
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) which = i;
    if (which < 0) {
        call_fail(call, SL_INVALID, "pooling", NULL, "pooling: one of mean, cls, last, model");
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        submits[i].pooling = (enum engine_pooling)which;
        submits[i].no_normalize = !normalize;
    }
    return true;
}

void openai_embeddings(struct call *call)
{
    struct embedding plan = {.call = call, .put = put};
    if (!call_read_json(call)) return;
    call->qos = call_class(call);
    plan.model = call_need_str(call, "model");
    if (!plan.model) return;
    const char *format = sl_json_to_str(sl_json_get(call->body, "encoding_format"), "float", NULL);
    plan.base64 = !strcmp(format, "base64");
    if (!plan.base64 && strcmp(format, "float") != 0) {
        call_fail(call, SL_INVALID, "encoding_format", NULL,
                  "encoding_format: \"float\" or \"base64\"");
        return;
    }
    const struct sl_json_value *dimensions = sl_json_get(call->body, "dimensions");
    int64_t n_dimensions =
        sl_json_is(dimensions, SL_JSON_NULL) ? 0 : sl_json_to_int(dimensions, -1);
    if (n_dimensions < 0 || n_dimensions > EMBEDDING_DIMENSIONS_MAX ||
        (n_dimensions == 0 && !sl_json_is(dimensions, SL_JSON_NULL))) {
        call_fail(call, SL_INVALID, "dimensions", NULL, "dimensions: a positive number is needed");
        return;
    }
    plan.dimensions = (int32_t)n_dimensions;
    if (!embedding_read_inputs(call, "input", sl_json_get(call->body, "input"), &plan.submits,
                               &plan.n) ||
        !read_pooling(call, plan.submits, plan.n) ||
        !call_admit(call, plan.model, call_tokens_guess(call)))
        return;
    embedding_start(&plan);
}
