#include "grid/store_manifest.h"
#include "base/checked.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "grid/store_name.h"
#include "net/sha256.h"
#include <stdio.h>
#include <string.h>

#define MANIFEST_VERSION 1
#define MODEL_ROLE "model"

static sl_status bad(struct sl_err *err, const char *field, const char *why)
{
    return sl_err_set(err, SL_CORRUPT, "%s: %s", field, why);
}

/* A string that fits out with its NUL and holds none; "" when absent. */
static sl_status get_word(const struct sl_json_value *object, const char *key, char *out,
                          size_t out_size, struct sl_err *err)
{
    size_t n;
    const struct sl_json_value *value = sl_json_get(object, key);
    if (value && !sl_json_is(value, SL_JSON_STR)) return bad(err, key, "not a string");
    const char *s = sl_json_to_str(value, "", &n);
    if (n >= out_size) return bad(err, key, "too long");
    if (memchr(s, '\0', n)) return bad(err, key, "a NUL in it");
    memcpy(out, s, n);
    out[n] = '\0';
    return SL_OK;
}

/* A copy of the string, or NULL when it is absent. */
static sl_status get_text(const struct sl_json_value *object, const char *key, char **out,
                          struct sl_err *err)
{
    size_t n;
    const struct sl_json_value *value = sl_json_get(object, key);
    if (!value || sl_json_is(value, SL_JSON_NULL)) return SL_OK;
    const char *s = sl_json_to_str(value, NULL, &n);
    if (!s) return bad(err, key, "not a string");
    if (memchr(s, '\0', n)) return bad(err, key, "a NUL in it");
    *out = sl_memdup(s, n);
    return *out ? SL_OK : sl_err_set(err, SL_NOMEM, "%s", key);
}

static sl_status get_digest(const struct sl_json_value *object, char out[STORE_DIGEST_SIZE],
                            struct sl_err *err)
{
    char text[STORE_DIGEST_SIZE + 8];
    sl_status status = get_word(object, "digest", text, sizeof text, err);
    if (status != SL_OK) return status;
    return store_digest_parse(text, out) ? SL_OK : bad(err, "digest", "not sha256: and 64 digits");
}

static sl_status get_size(const struct sl_json_value *object, const char *key, uint64_t max,
                          uint64_t *out, struct sl_err *err)
{
    int64_t v = sl_json_to_int(sl_json_get(object, key), -1);
    if (v < 0 || (uint64_t)v > max) return bad(err, key, "not a size, or too large");
    *out = (uint64_t)v;
    return SL_OK;
}

sl_status store_model_add_layer(struct store_model *model, const char *role, const char *digest,
                                uint64_t size, struct sl_err *err)
{
    if (model->n_layers == STORE_LAYERS_MAX)
        return sl_err_set(err, SL_LIMIT, "layers: more than %d", STORE_LAYERS_MAX);
    struct store_layer *layers =
        sl_realloc_array(model->layers, model->n_layers + 1, sizeof *layers);
    if (!layers) return sl_err_set(err, SL_NOMEM, "layers");
    model->layers = layers;
    struct store_layer *layer = &layers[model->n_layers++];
    snprintf(layer->role, sizeof layer->role, "%s", role);
    snprintf(layer->digest, sizeof layer->digest, "%s", digest);
    layer->size = size;
    return SL_OK;
}

static sl_status parse_layer(const struct sl_json_value *value, struct store_model *out,
                             struct sl_err *err)
{
    struct store_layer layer;
    sl_status status = get_word(value, "role", layer.role, sizeof layer.role, err);
    if (status == SL_OK) status = get_digest(value, layer.digest, err);
    if (status == SL_OK) status = get_size(value, "size", STORE_BLOB_BYTES_MAX, &layer.size, err);
    if (status == SL_OK && layer.size == 0) status = bad(err, "size", "an empty file");
    if (status != SL_OK) return status;
    return store_model_add_layer(out, layer.role, layer.digest, layer.size, err);
}

static sl_status parse_layers(const struct sl_json_value *root, struct store_model *out,
                              struct sl_err *err)
{
    const struct sl_json_value *layers = sl_json_get(root, "layers");
    size_t n = sl_json_is(layers, SL_JSON_ARRAY) ? sl_json_size(layers) : 0;
    if (n == 0) return bad(err, "layers", "none");
    sl_status status = SL_OK;
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        status = parse_layer(sl_json_at(layers, i), out, err);
        if (status != SL_OK) (void)sl_err_prefix(err, "layer %zu", i);
    }
    return status;
}

static sl_status model_digest(const struct store_model *model, size_t n_files,
                              char out[STORE_DIGEST_SIZE])
{
    struct sha256 sha;
    unsigned char digest[SHA256_BYTES];
    sl_status status = sha256_init(&sha);
    if (status != SL_OK) return status;
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        const struct store_layer *layer = &model->layers[i];
        if (strcmp(layer->role, MODEL_ROLE) != 0) continue;
        memcpy(out, layer->digest, STORE_DIGEST_SIZE); /* all there is to one file */
        status = sha256_add(&sha, layer->digest, STORE_DIGEST_SIZE - 1);
        if (status == SL_OK) status = sha256_add(&sha, "\n", 1);
    }
    if (status == SL_OK) status = sha256_finish(&sha, digest);
    if (status == SL_OK && n_files > 1) sha256_hex(digest, out);
    sha256_done(&sha);
    return status;
}

sl_status store_model_sum(struct store_model *model, struct sl_err *err)
{
    uint64_t size = 0;
    size_t n_files = 0;
    for (size_t i = 0; i < model->n_layers; i++) {
        if (strcmp(model->layers[i].role, MODEL_ROLE) != 0) continue;
        n_files++;
        if (!sl_add_u64(size, model->layers[i].size, &size) || size > INT64_MAX)
            return bad(err, "layers", "too large together");
    }
    if (n_files == 0) return bad(err, "layers", "none of them is a model");
    model->size = size;
    sl_status status = model_digest(model, n_files, model->digest);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "digest");
}

static sl_status check_sum(const struct sl_json_value *root, struct store_model *out,
                           struct sl_err *err)
{
    char digest[STORE_DIGEST_SIZE];
    uint64_t size = 0;
    sl_status status = get_digest(root, digest, err);
    if (status == SL_OK) status = get_size(root, "size", INT64_MAX, &size, err);
    if (status == SL_OK) status = store_model_sum(out, err);
    if (status != SL_OK) return status;
    if (size != out->size) return bad(err, "size", "not that of the layers");
    return strcmp(digest, out->digest) == 0 ? SL_OK : bad(err, "digest", "not that of the layers");
}

static sl_status parse_name(const struct sl_json_value *root, const char *place,
                            struct store_model *out, struct sl_err *err)
{
    struct store_name name;
    char text[STORE_NAME_SIZE], own_place[STORE_NAME_PATH_SIZE];
    sl_status status = get_word(root, "name", text, sizeof text, err);
    if (status != SL_OK) return status;
    if (store_name_parse(text, &name, err) != SL_OK) return bad(err, "name", "not a model's name");
    store_name_path(&name, own_place);
    if (strcmp(own_place, place) != 0) return bad(err, "name", "does not belong to this place");
    store_name_text(&name, out->name);
    return SL_OK;
}

static sl_status parse_details(const struct sl_json_value *root, struct store_model *out,
                               struct sl_err *err)
{
    struct store_details *d = &out->details;
    const struct sl_json_value *v = sl_json_get(root, "details");
    sl_status status = get_word(root, "format", d->format, sizeof d->format, err);
    if (status == SL_OK && strcmp(d->format, "gguf") != 0)
        status = sl_err_set(err, SL_UNSUPPORTED, "format \"%s\": only gguf is known", d->format);
    if (status == SL_OK) status = get_word(v, "family", d->family, sizeof d->family, err);
    if (status == SL_OK)
        status = get_word(v, "parameter_size", d->parameter_size, sizeof d->parameter_size, err);
    if (status == SL_OK)
        status = get_word(v, "quantization_level", d->quantization_level,
                          sizeof d->quantization_level, err);
    if (status == SL_OK) status = get_size(v, "parameters", INT64_MAX, &d->n_params, err);
    if (status == SL_OK) status = get_size(v, "context_length", INT64_MAX, &d->context_length, err);
    return status;
}

static sl_status parse_parameters(const struct sl_json_value *root, struct store_model *out,
                                  struct sl_err *err)
{
    const struct sl_json_value *value = sl_json_get(root, "parameters");
    struct sl_buf text;
    struct sl_json json;
    if (!value || sl_json_is(value, SL_JSON_NULL)) return SL_OK;
    if (!sl_json_is(value, SL_JSON_OBJECT)) return bad(err, "parameters", "not an object");
    sl_buf_init(&text, STORE_MANIFEST_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    sl_json_put(&json, value);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK) out->parameters = sl_buf_steal(&text);
    if (status == SL_OK && !out->parameters) status = SL_NOMEM;
    sl_buf_done(&text);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "parameters");
}

static sl_status parse_texts(const struct sl_json_value *root, struct store_model *out,
                             struct sl_err *err)
{
    sl_status status = get_text(root, "chat_template", &out->chat_template, err);
    if (status == SL_OK) status = get_text(root, "ollama_template", &out->ollama_template, err);
    if (status == SL_OK) status = get_text(root, "system", &out->system, err);
    if (status == SL_OK) status = get_text(root, "licence", &out->licence, err);
    if (status == SL_OK) status = get_text(root, "source", &out->source, err);
    return status == SL_OK ? parse_parameters(root, out, err) : status;
}

static sl_status parse_root(const struct sl_json_value *root, const char *place,
                            struct store_model *out, struct sl_err *err)
{
    if (!sl_json_is(root, SL_JSON_OBJECT)) return bad(err, "manifest", "not a JSON object");
    int64_t version = sl_json_to_int(sl_json_get(root, "version"), 0);
    if (version != MANIFEST_VERSION)
        return sl_err_set(err, SL_UNSUPPORTED, "version: only %d is known", MANIFEST_VERSION);
    out->modified_ms = sl_json_to_int(sl_json_get(root, "created_ms"), 0);
    sl_status status = parse_name(root, place, out, err);
    if (status == SL_OK) status = parse_details(root, out, err);
    if (status == SL_OK) status = parse_layers(root, out, err);
    if (status == SL_OK) status = check_sum(root, out, err);
    return status == SL_OK ? parse_texts(root, out, err) : status;
}

sl_status store_manifest_parse(const char *text, size_t n, const char *place,
                               struct store_model *out, struct sl_err *err)
{
    struct store_model model = {0};
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(text, n, &root, err);
    if (status == SL_INVALID) status = err ? (err->status = SL_CORRUPT) : SL_CORRUPT;
    if (status == SL_OK) status = parse_root(root, place, &model, err);
    sl_json_free(root);
    if (status == SL_OK)
        *out = model;
    else
        store_model_done(&model);
    return status;
}

static void put_digest(struct sl_json *j, const char *hex)
{
    char text[STORE_DIGEST_SIZE + 8];
    snprintf(text, sizeof text, "sha256:%s", hex);
    sl_json_kv_str(j, "digest", text);
}

static void put_text(struct sl_json *j, const char *key, const char *text)
{
    if (text) sl_json_kv_str(j, key, text);
}

static void put_details(struct sl_json *j, const struct store_details *d)
{
    sl_json_key(j, "details");
    sl_json_object(j);
    sl_json_kv_str(j, "family", d->family);
    sl_json_kv_str(j, "parameter_size", d->parameter_size);
    sl_json_kv_str(j, "quantization_level", d->quantization_level);
    sl_json_kv_int(j, "parameters", (int64_t)d->n_params);
    sl_json_kv_int(j, "context_length", (int64_t)d->context_length);
    sl_json_object_end(j);
}

static void put_layers(struct sl_json *j, const struct store_model *model)
{
    sl_json_key(j, "layers");
    sl_json_array(j);
    for (size_t i = 0; i < model->n_layers; i++) {
        sl_json_object(j);
        sl_json_kv_str(j, "role", model->layers[i].role);
        put_digest(j, model->layers[i].digest);
        sl_json_kv_int(j, "size", (int64_t)model->layers[i].size);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

/* Parameters are kept as JSON text; they go in as the object they are. */
static sl_status put_parameters(struct sl_json *j, const char *text)
{
    struct sl_json_value *value = NULL;
    if (!text) return SL_OK;
    sl_status status = sl_json_parse(text, strlen(text), &value, NULL);
    if (status != SL_OK) return status;
    sl_json_key(j, "parameters");
    sl_json_put(j, value);
    sl_json_free(value);
    return SL_OK;
}

sl_status store_manifest_write(const struct store_model *model, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    sl_json_kv_int(&j, "version", MANIFEST_VERSION);
    sl_json_kv_str(&j, "name", model->name);
    sl_json_kv_str(&j, "format", model->details.format);
    put_digest(&j, model->digest);
    sl_json_kv_int(&j, "size", (int64_t)model->size);
    sl_json_kv_int(&j, "created_ms", model->modified_ms);
    put_text(&j, "source", model->source);
    put_details(&j, &model->details);
    put_layers(&j, model);
    put_text(&j, "chat_template", model->chat_template);
    put_text(&j, "ollama_template", model->ollama_template);
    put_text(&j, "system", model->system);
    put_text(&j, "licence", model->licence);
    sl_status status = put_parameters(&j, model->parameters);
    sl_json_object_end(&j);
    sl_status written = sl_json_end(&j);
    return status == SL_OK ? written : status;
}
