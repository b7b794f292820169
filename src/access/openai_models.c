/* openai_models.c: GET /v1/models and /v1/models/{id}. */
#include "access/openai.h"
#include "grid/grid_msg.h"
#include "grid/store.h"
#include <string.h>

#define LIST_MAX (16u << 20)

struct listing {
    struct call *call;
    struct sl_json *json;
    const struct store_models *stored;
};

/* What vLLM and llama-server call these. */
static const char *status_of(const char *state)
{
    if (!strcmp(state, "ready")) return "loaded";
    if (!strcmp(state, "starting") || !strcmp(state, "loading")) return "loading";
    return "unloaded";
}

static void put_model(struct sl_json *json, const char *name, int64_t created_s, int64_t n_ctx,
                      const char *status)
{
    sl_json_object(json);
    sl_json_kv_str(json, "id", name);
    sl_json_kv_str(json, "object", "model");
    sl_json_kv_int(json, "created", created_s);
    sl_json_kv_str(json, "owned_by", "starlane");
    if (n_ctx > 0) sl_json_kv_int(json, "max_model_len", n_ctx);
    sl_json_key(json, "status");
    sl_json_object(json);
    sl_json_kv_str(json, "value", status);
    sl_json_object_end(json);
    sl_json_object_end(json);
}

static void put_stored(struct listing *listing, const struct store_model *model,
                       const struct node_model *loaded)
{
    int64_t n_ctx =
        loaded && loaded->info ? loaded->info->n_ctx : (int64_t)model->details.context_length;
    put_model(listing->json, model->name, model->modified_ms / 1000, n_ctx,
              loaded ? status_of(loaded->state) : "unloaded");
}

struct search {
    const char *name;
    struct node_model found;
    bool is_found;
};

static void match(void *ctx, const struct node_model *model)
{
    struct search *search = ctx;
    if (search->is_found || strcmp(search->name, model->name) != 0) return;
    search->found = *model;
    search->is_found = true;
}

/* A model that was given by its path, or that other members of the grid have: the store does not
 * know it. */
static void put_unstored(void *ctx, const struct node_model *model)
{
    struct listing *listing = ctx;
    for (size_t i = 0; i < listing->stored->n; i++)
        if (!strcmp(listing->stored->v[i].name, model->name)) return;
    if (!call_allows(listing->call, model->name)) return;
    int64_t created_ms = listing->call->gateway->started_ms;
    int64_t n_ctx = model->info ? model->info->n_ctx : 0;
    if (model->card) {
        created_ms = model->card->modified_ms;
        if (!n_ctx) n_ctx = (int64_t)model->card->context_length;
    }
    put_model(listing->json, model->name, created_ms / 1000, n_ctx, status_of(model->state));
}

void openai_models(struct call *call)
{
    struct gateway *gateway = call->gateway;
    struct store_models stored = {0};
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf body;
    sl_status status = store_list(gateway->cfg.store, &stored, &err);
    if (status != SL_OK) {
        call_fail_err(call, &err, NULL);
        return;
    }
    struct listing listing = {call, &json, &stored};
    sl_buf_init(&body, LIST_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "object", "list");
    sl_json_key(&json, "data");
    sl_json_array(&json);
    for (size_t i = 0; i < stored.n; i++) {
        struct search search = {.name = stored.v[i].name};
        if (!call_allows(call, search.name)) continue;
        grid_models(gateway->cfg.grid, match, &search);
        put_stored(&listing, &stored.v[i], search.is_found ? &search.found : NULL);
    }
    grid_models(gateway->cfg.grid, put_unstored, &listing);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
    store_models_done(&stored);
}

/* When it was stored, and the context its file was made for; of one that the node alone knows: when
 * the service began, and nothing. */
static void stored_facts(const struct call *call, const struct node_model *model,
                         int64_t *out_created_s, int64_t *out_n_ctx)
{
    struct store_model stored;
    struct sl_err err;
    *out_created_s = call->gateway->started_ms / 1000;
    *out_n_ctx = 0;
    if (store_find(call->gateway->cfg.store, model->name, &stored, &err) != SL_OK) return;
    *out_created_s = stored.modified_ms / 1000;
    *out_n_ctx = (int64_t)stored.details.context_length;
    store_model_done(&stored);
}

void openai_model(struct call *call)
{
    struct node_model model;
    struct sl_json json;
    struct sl_buf body;
    int64_t created_s, n_ctx;
    if (!call_allows(call, call->rest)) {
        call_fail_node(call, SL_NOT_FOUND, "no model of that name", 0);
        return;
    }
    if (!call_find_model(call, call->rest, &model)) return;
    stored_facts(call, &model, &created_s, &n_ctx);
    sl_buf_init(&body, LIST_MAX);
    sl_json_begin(&json, &body, false);
    put_model(&json, call->rest, created_s, model.info ? model.info->n_ctx : n_ctx,
              status_of(model.state));
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}
