/* oip_rest_describe.c: a model's metadata, and its configuration as Triton words it. */
#include "access/oip.h"
#include "access/oip_rest.h"
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX (16u << 20)

static void put_dims(struct sl_json *json, const char *key, const struct tensor_spec *spec,
                     int32_t from)
{
    sl_json_key(json, key);
    sl_json_array(json);
    for (int32_t i = from; i < spec->rank; i++) sl_json_int(json, spec->shape[i]);
    sl_json_array_end(json);
}

static void put_tensors(struct sl_json *json, const char *key, const struct tensor_spec *specs,
                        size_t n)
{
    sl_json_key(json, key);
    sl_json_array(json);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(json);
        sl_json_kv_str(json, "name", specs[i].name);
        sl_json_kv_str(json, "datatype", tensor_type_name(specs[i].type));
        put_dims(json, "shape", &specs[i], 0);
        sl_json_object_end(json);
    }
    sl_json_array_end(json);
}

static void put_metadata(struct sl_json *json, const struct oip_model *model)
{
    const struct tensor_signature *signature = &model->signature;
    sl_json_kv_str(json, "name", model->name);
    if (model->n_versions) {
        sl_json_key(json, "versions");
        sl_json_array(json);
        for (size_t i = 0; i < model->n_versions; i++) sl_json_str(json, model->versions[i]);
        sl_json_array_end(json);
    }
    sl_json_kv_str(json, "platform", model->platform);
    put_tensors(json, "inputs", signature->inputs, signature->n_inputs);
    put_tensors(json, "outputs", signature->outputs, signature->n_outputs);
}

/* --- configuration --- */

/* Where a batch is possible, Triton's dims leave its dimension out. */
static int32_t first_dim(const struct tensor_spec *spec, int32_t batch_max)
{
    return batch_max > 1 && spec->rank > 0 && spec->shape[0] < 0;
}

static void put_configured(struct sl_json *json, const struct tensor_spec *specs, size_t n,
                           int32_t batch_max)
{
    char type[32];
    for (size_t i = 0; i < n; i++) {
        bool text = specs[i].type == TENSOR_BYTES;
        snprintf(type, sizeof type, "TYPE_%s", text ? "STRING" : tensor_type_name(specs[i].type));
        sl_json_object(json);
        sl_json_kv_str(json, "name", specs[i].name);
        sl_json_kv_str(json, "data_type", type);
        put_dims(json, "dims", &specs[i], first_dim(&specs[i], batch_max));
        if (specs[i].optional) sl_json_kv_bool(json, "optional", true);
        sl_json_object_end(json);
    }
}

static void put_list(struct sl_json *json, const char *key)
{
    sl_json_key(json, key);
    sl_json_array(json);
}

static void put_raw(struct sl_json *json, const char *key, const char *text)
{
    if (!text) return;
    sl_json_key(json, key);
    sl_json_raw(json, text, strlen(text));
}

static void put_config(struct sl_json *json, const struct oip_model *model)
{
    const struct tensor_signature *signature = &model->signature;
    const struct engine_info *info = model->node->info;
    int32_t batch_max = info && info->batch_max > 1 ? info->batch_max : 0;
    const char *dash = strchr(model->platform, '_');
    char backend[32];
    snprintf(backend, sizeof backend, "%.*s", (int)(dash - model->platform), model->platform);
    sl_json_kv_str(json, "name", model->name);
    sl_json_kv_str(json, "platform", model->platform);
    sl_json_kv_str(json, "backend", backend);
    sl_json_kv_int(json, "max_batch_size", batch_max);
    put_list(json, "input");
    put_configured(json, signature->inputs, signature->n_inputs, batch_max);
    put_configured(json, model->extras, model->n_extras, batch_max);
    sl_json_array_end(json);
    put_list(json, "output");
    put_configured(json, signature->outputs, signature->n_outputs, batch_max);
    sl_json_array_end(json);
    sl_json_kv_str(json, "version", model->version);
    if (info && info->device) sl_json_kv_str(json, "device", info->device);
    put_raw(json, "options", model->node->options);
    put_raw(json, "processing", model->node->processing);
}

static void answer(struct call *call, const struct oip_model *model,
                   void (*put)(struct sl_json *json, const struct oip_model *model))
{
    struct sl_json json;
    struct sl_buf body;
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    put(&json, model);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}

static void answer_metadata(struct call *call, const struct oip_model *model)
{
    answer(call, model, put_metadata);
}

static void answer_config(struct call *call, const struct oip_model *model)
{
    answer(call, model, put_config);
}

void oip_rest_describe(struct call *call, const struct oip_path *path, bool config)
{
    oip_model_describe(call, path->model, path->version, config ? answer_config : answer_metadata);
}
