/* ollama_models.c: GET /api/tags, /api/ps, /api/version, POST /api/copy, DELETE /api/delete. */
#include "access/ollama_int.h"
#include "base/clock.h"
#include "grid/grid_msg.h"
#include "grid/store.h"
#include "grid/store_details.h"
#include "grid/store_name.h"
#include <stdio.h>
#include <string.h>

#define LIST_MAX (16u << 20)
#define NS_PER_MS INT64_C(1000000)

/* The release of Ollama whose API this is: clients compare it with what they need, as numbers. */
#define OLLAMA_VERSION "0.12.6"

/* --- /api/tags --- */

struct listing {
    struct call *call;
    struct sl_json *json;
    const struct store_models *stored;
};

static void put_time(struct sl_json *json, const char *key, int64_t unix_ns)
{
    char text[OLLAMA_TIME_SIZE];
    ollama_time_text(unix_ns, text);
    sl_json_kv_str(json, key, text);
}

static void put_stored(struct sl_json *json, const struct store_model *model)
{
    sl_json_object(json);
    sl_json_kv_str(json, "name", model->name);
    sl_json_kv_str(json, "model", model->name);
    put_time(json, "modified_at", model->modified_ms * NS_PER_MS);
    sl_json_kv_int(json, "size", (int64_t)model->size);
    sl_json_kv_str(json, "digest", model->digest);
    ollama_put_details(json, &model->details);
    sl_json_object_end(json);
}

/* What is known of a model that is not in the store, from its worker. */
void ollama_card_details(const struct grid_card *card, struct store_details *out)
{
    *out = (struct store_details){.context_length = card->context_length};
    snprintf(out->format, sizeof out->format, "%s", card->format);
    snprintf(out->family, sizeof out->family, "%s", card->family);
    snprintf(out->parameter_size, sizeof out->parameter_size, "%s", card->parameter_size);
    snprintf(out->quantization_level, sizeof out->quantization_level, "%s", card->quantization);
}

static void details_of(const struct node_model *model, struct store_details *out)
{
    *out = (struct store_details){.format = "gguf"};
    if (model->card) {
        ollama_card_details(model->card, out);
        return;
    }
    if (!model->info) return;
    snprintf(out->family, sizeof out->family, "%s", model->info->architecture);
    store_count_text(model->info->n_params, out->parameter_size);
    snprintf(out->quantization_level, sizeof out->quantization_level, "%s",
             model->info->quantization);
}

/* A model that was given by its path, or that other members of the grid have: the store does not
 * know it. */
static void put_unstored(void *ctx, const struct node_model *node_model)
{
    struct listing *listing = ctx;
    struct store_model model = {0};
    for (size_t i = 0; i < listing->stored->n; i++)
        if (!strcmp(listing->stored->v[i].name, node_model->name)) return;
    if (!call_allows(listing->call, node_model->name)) return;
    snprintf(model.name, sizeof model.name, "%s", node_model->name);
    model.size = node_model->bytes;
    model.modified_ms = listing->call->gateway->started_ms;
    if (node_model->card) {
        model.size = node_model->card->bytes;
        model.modified_ms = node_model->card->modified_ms;
        snprintf(model.digest, sizeof model.digest, "%s", node_model->card->digest);
    }
    details_of(node_model, &model.details);
    put_stored(listing->json, &model);
}

/* {"models":[...]}, what put_all writes into it. */
static void answer_list(struct call *call, void (*put_all)(struct listing *listing))
{
    struct store_models stored = {0};
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf body;
    if (store_list(call->gateway->cfg.store, &stored, &err) != SL_OK) {
        call_fail_err(call, &err, NULL);
        return;
    }
    struct listing listing = {call, &json, &stored};
    sl_buf_init(&body, LIST_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_key(&json, "models");
    sl_json_array(&json);
    put_all(&listing);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
    store_models_done(&stored);
}

static void put_all_stored(struct listing *listing)
{
    for (size_t i = 0; i < listing->stored->n; i++)
        if (call_allows(listing->call, listing->stored->v[i].name))
            put_stored(listing->json, &listing->stored->v[i]);
    grid_models(listing->call->gateway->cfg.grid, put_unstored, listing);
}

void ollama_tags(struct call *call)
{
    answer_list(call, put_all_stored);
}

/* --- /api/ps --- */

/* For ever is what Ollama makes of it: the longest time that its durations hold, 292 years. */
static int64_t expires_at(const struct node_model *model)
{
    int64_t now = sl_unix_time_ns();
    int64_t in_ns = model->pinned ? -1 : model->expires_in_ns;
    return in_ns < 0 || in_ns > INT64_MAX - now ? INT64_MAX : now + in_ns;
}

static void put_running(void *ctx, const struct node_model *model)
{
    struct listing *listing = ctx;
    struct sl_json *json = listing->json;
    struct store_details details;
    if (!grid_model_is_loaded(model) || !call_allows(listing->call, model->name)) return;
    details_of(model, &details);
    for (size_t i = 0; i < listing->stored->n; i++)
        if (!strcmp(listing->stored->v[i].name, model->name))
            details = listing->stored->v[i].details;
    sl_json_object(json);
    sl_json_kv_str(json, "name", model->name);
    sl_json_kv_str(json, "model", model->name);
    sl_json_kv_int(json, "size", (int64_t)model->bytes);
    sl_json_kv_str(json, "digest", model->digest);
    ollama_put_details(json, &details);
    put_time(json, "expires_at", expires_at(model));
    sl_json_kv_int(json, "size_vram", 0);
    sl_json_kv_int(json, "context_length", model->info ? model->info->n_ctx : 0);
    sl_json_kv_str(json, "status", model->state);
    sl_json_kv_num(json, "progress", model->load_fraction);
    sl_json_kv_bool(json, "pinned", model->pinned);
    sl_json_kv_bool(json, "until_unused", model->until_unused);
    sl_json_kv_int(json, "parts", model->n_parts ? model->n_parts : 1);
    sl_json_kv_int(json, "running", model->n_running);
    sl_json_kv_int(json, "waiting", model->n_waiting);
    sl_json_object_end(json);
}

static void put_all_running(struct listing *listing)
{
    grid_models(listing->call->gateway->cfg.grid, put_running, listing);
}

void ollama_ps(struct call *call)
{
    answer_list(call, put_all_running);
}

/* --- the rest --- */

void ollama_version(struct call *call)
{
    struct sl_json json;
    sl_json_begin(&json, &call->body_out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "version", OLLAMA_VERSION);
    sl_json_kv_str(&json, "starlane", call->gateway->cfg.version);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &call->body_out, sl_json_end(&json));
}

void ollama_model_changed(struct grid *grid, const char *name)
{
    struct store_name parts;
    char text[STORE_NAME_SIZE];
    struct sl_err err = SL_ERR_INIT;
    if (store_name_parse(name, &parts, &err) != SL_OK) return;
    store_name_text(&parts, text);
    grid_model_changed(grid, text);
}

void ollama_copy(struct call *call)
{
    struct gateway *gateway = call->gateway;
    struct sl_err err = SL_ERR_INIT;
    if (!ollama_may_change_store(call) || !call_read_json(call)) return;
    const char *source = call_need_str(call, "source");
    const char *destination = source ? call_need_str(call, "destination") : NULL;
    if (!destination) return;
    if (store_cp(gateway->cfg.store, source, destination, &err) != SL_OK) {
        call_fail_err(call, &err, NULL);
        return;
    }
    ollama_model_changed(gateway->cfg.grid, destination);
    call_respond(call, 200, NULL, "", 0);
}

void ollama_delete(struct call *call)
{
    struct gateway *gateway = call->gateway;
    struct sl_err err = SL_ERR_INIT;
    if (!ollama_may_change_store(call) || !call_read_json(call)) return;
    const char *model = ollama_need_model(call);
    if (!model) return;
    if (store_rm(gateway->cfg.store, model, NULL, &err) != SL_OK) {
        call_fail_err(call, &err, NULL);
        return;
    }
    ollama_model_changed(gateway->cfg.grid, model);
    call_respond(call, 200, NULL, "", 0);
}
