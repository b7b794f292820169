/* ollama_embed.c: POST /api/embed, and /api/embeddings as it was before. */
#include "access/embedding.h"
#include "access/ollama_int.h"
#include "base/clock.h"
#include <string.h>

static void put_vector(struct sl_json *json, const struct embedding *e, size_t i)
{
    int32_t n = e->dimensions && e->dimensions < e->n_embd ? e->dimensions : e->n_embd;
    sl_json_array(json);
    for (int32_t j = 0; j < n; j++) sl_json_num(json, (double)e->vectors[i][j]);
    sl_json_array_end(json);
}

static sl_status put_many(const struct embedding *e, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", e->model);
    sl_json_key(&json, "embeddings");
    sl_json_array(&json);
    for (size_t i = 0; i < e->n; i++) put_vector(&json, e, i);
    sl_json_array_end(&json);
    sl_json_kv_int(&json, "total_duration", sl_now_ns() - e->call->begin_ns);
    sl_json_kv_int(&json, "load_duration", e->total.load_ns);
    sl_json_kv_int(&json, "prompt_eval_count", e->total.n_prompt);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status put_one(const struct embedding *e, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_key(&json, "embedding");
    put_vector(&json, e, 0);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* A list without items and a text without characters have an answer, too. */
static bool answer_empty(struct call *call, const char *model)
{
    const struct sl_json_value *input = sl_json_get(call->body, "input");
    struct embedding nothing = {.call = call, .model = model};
    bool is_list = sl_json_is(input, SL_JSON_ARRAY);
    if (is_list ? sl_json_size(input) > 0 : *sl_json_to_str(input, " ", NULL) != '\0') return false;
    sl_status status = put_many(&nothing, &call->body_out);
    call_respond(call, status == SL_OK ? 200 : 500, CONTENT_JSON, call->body_out.data,
                 call->body_out.len);
    return true;
}

/* False: the call has failed. */
static bool read_dimensions(struct call *call, int32_t *out)
{
    int64_t n = sl_json_to_int(sl_json_get(call->body, "dimensions"), 0);
    *out = (int32_t)n;
    if (n >= 0 && n <= EMBEDDING_DIMENSIONS_MAX) return true;
    call_fail(call, SL_INVALID, "dimensions", NULL, "dimensions: a positive number is needed");
    return false;
}

static void embed(struct call *call, const char *field, bool many)
{
    struct embedding plan = {.call = call, .put = many ? put_many : put_one};
    int64_t keep_alive_ns;
    if (!call_read_json(call)) return;
    call->qos = call_class(call);
    plan.model = ollama_need_model(call);
    if (!plan.model || !read_dimensions(call, &plan.dimensions) ||
        !ollama_read_keep_alive(call, &keep_alive_ns) || (many && answer_empty(call, plan.model)) ||
        !embedding_read_inputs(call, field, sl_json_get(call->body, field), &plan.submits, &plan.n))
        return;
    plan.truncate = sl_json_to_bool(sl_json_get(call->body, "truncate"), true);
    for (size_t i = 0; i < plan.n; i++) {
        plan.submits[i].keep_alive_ns = keep_alive_ns;
        plan.submits[i].no_normalize = !many; /* the older form gives what the model gives */
    }
    if (call_admit(call, plan.model, call_tokens_guess(call))) embedding_start(&plan);
}

void ollama_embed(struct call *call)
{
    embed(call, "input", true);
}

void ollama_embeddings(struct call *call)
{
    embed(call, "prompt", false);
}
