#include "grid/store_manifest.h"
#include "base/checked.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "exec/onnx/onnx_file.h"
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

bool store_model_is_onnx(const struct store_model *model)
{
    return strcmp(model->details.format, "onnx") == 0;
}

sl_status store_model_add_layer(struct store_model *model, const struct store_layer *layer,
                                struct sl_err *err)
{
    if (model->n_layers == STORE_LAYERS_MAX)
        return sl_err_set(err, SL_LIMIT, "layers: more than %d", STORE_LAYERS_MAX);
    struct store_layer *layers =
        sl_realloc_array(model->layers, model->n_layers + 1, sizeof *layers);
    if (!layers) return sl_err_set(err, SL_NOMEM, "layers");
    model->layers = layers;
    layers[model->n_layers++] = *layer;
    return SL_OK;
}

static sl_status parse_layer(const struct sl_json_value *value, struct store_model *out,
                             struct sl_err *err)
{
    struct store_layer layer;
    sl_status status = get_word(value, "role", layer.role, sizeof layer.role, err);
    if (status == SL_OK) status = get_word(value, "file", layer.file, sizeof layer.file, err);
    if (status == SL_OK) status = get_digest(value, layer.digest, err);
    if (status == SL_OK) status = get_size(value, "size", STORE_BLOB_BYTES_MAX, &layer.size, err);
    if (status == SL_OK && layer.size == 0) status = bad(err, "size", "an empty file");
    if (status != SL_OK) return status;
    return store_model_add_layer(out, &layer, err);
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

/* The parts and a newline. */
static sl_status add_line(struct sha256 *sha, const char *const *parts, size_t n)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = sha256_add(sha, parts[i], strlen(parts[i]));
    return status == SL_OK ? sha256_add(sha, "\n", 1) : status;
}

static sl_status add_onnx(struct sha256 *sha, const struct store_model *model)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        const struct store_layer *layer = &model->layers[i];
        const char *const parts[] = {layer->role, " ", layer->file, " ", layer->digest};
        status = add_line(sha, parts, sizeof parts / sizeof *parts);
    }
    const char *const processing[] = {"processing ", model->processing ? model->processing : ""};
    const char *const options[] = {"onnx ", model->options ? model->options : ""};
    if (status == SL_OK) status = add_line(sha, processing, 2);
    return status == SL_OK ? add_line(sha, options, 2) : status;
}

static sl_status add_shards(struct sha256 *sha, const struct store_model *model)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        const char *digest = model->layers[i].digest;
        if (strcmp(model->layers[i].role, MODEL_ROLE) == 0) status = add_line(sha, &digest, 1);
    }
    return status;
}

/* n_files counts those that are models. */
static bool is_one_file(const struct store_model *model, size_t n_files)
{
    if (!store_model_is_onnx(model)) return n_files == 1;
    return model->n_layers == 1 && !model->processing && !model->options;
}

static sl_status model_digest(struct store_model *model, size_t n_files)
{
    struct sha256 sha;
    unsigned char digest[SHA256_BYTES];
    if (is_one_file(model, n_files)) {
        const struct store_layer *layer = model->layers;
        while (strcmp(layer->role, MODEL_ROLE) != 0) layer++;
        memcpy(model->digest, layer->digest, STORE_DIGEST_SIZE);
        return SL_OK;
    }
    sl_status status = sha256_init(&sha);
    if (status != SL_OK) return status;
    status = (store_model_is_onnx(model) ? add_onnx : add_shards)(&sha, model);
    if (status == SL_OK) status = sha256_finish(&sha, digest);
    if (status == SL_OK) sha256_hex(digest, model->digest);
    sha256_done(&sha);
    return status;
}

static sl_status check_file_names(const struct store_model *model, struct sl_err *err)
{
    for (size_t i = 0; i < model->n_layers; i++) {
        const char *file = model->layers[i].file;
        if (!onnx_path_is_plain(file, strlen(file)))
            return bad(err, "layers", "a file's name is no plain relative path");
        for (size_t k = 0; k < i; k++) {
            if (strcmp(file, model->layers[k].file) != 0) continue;
            return sl_err_set(err, SL_CORRUPT, "layers: two files are named \"%s\"", file);
        }
    }
    return SL_OK;
}

/* Do its bytes hold the model itself? */
static bool counts(const struct store_model *model, const struct store_layer *layer)
{
    return strcmp(layer->role, MODEL_ROLE) == 0 ||
           (store_model_is_onnx(model) && strcmp(layer->role, "data") == 0);
}

sl_status store_model_sum(struct store_model *model, struct sl_err *err)
{
    uint64_t size = 0;
    size_t n_files = 0;
    for (size_t i = 0; i < model->n_layers; i++) {
        if (!counts(model, &model->layers[i])) continue;
        if (strcmp(model->layers[i].role, MODEL_ROLE) == 0) n_files++;
        if (!sl_add_u64(size, model->layers[i].size, &size) || size > INT64_MAX)
            return bad(err, "layers", "too large together");
    }
    if (n_files == 0) return bad(err, "layers", "none of them is a model");
    sl_status status = SL_OK;
    if (store_model_is_onnx(model)) status = check_file_names(model, err);
    if (status != SL_OK) return status;
    if (store_model_is_onnx(model) && n_files > 1)
        return bad(err, "layers", "more than one of them is a model");
    model->size = size;
    status = model_digest(model, n_files);
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
    if (status == SL_OK && strcmp(d->format, "gguf") != 0 && strcmp(d->format, "onnx") != 0)
        status =
            sl_err_set(err, SL_UNSUPPORTED, "format \"%s\": gguf and onnx are known", d->format);
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

/* The object's compact text, of at most n_max bytes. LIMIT, NOMEM. */
static sl_status object_text(const struct sl_json_value *object, size_t n_max, char **out)
{
    struct sl_buf text;
    struct sl_json json;
    sl_buf_init(&text, n_max);
    sl_json_begin(&json, &text, false);
    sl_json_put(&json, object);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK && !(*out = sl_buf_steal(&text))) status = SL_NOMEM;
    sl_buf_done(&text);
    return status;
}

/* NULL when it is absent. */
static sl_status get_object(const struct sl_json_value *root, const char *key, size_t n_max,
                            char **out, struct sl_err *err)
{
    const struct sl_json_value *value = sl_json_get(root, key);
    if (!value || sl_json_is(value, SL_JSON_NULL)) return SL_OK;
    if (!sl_json_is(value, SL_JSON_OBJECT)) return bad(err, key, "not an object");
    sl_status status = object_text(value, n_max, out);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "%s", key);
}

sl_status store_object_text(const char *text, size_t n, const char *what, char **out,
                            struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(text, n, &root, err);
    if (status == SL_OK && !sl_json_is(root, SL_JSON_OBJECT))
        status = sl_err_set(err, SL_INVALID, "not a JSON object");
    if (status == SL_OK) {
        status = object_text(root, STORE_OBJECT_BYTES_MAX, out);
        if (status != SL_OK) (void)sl_err_set(err, status, "too large, or no memory");
    }
    sl_json_free(root);
    if (status != SL_OK) (void)sl_err_prefix(err, "%s", what);
    return status;
}

static sl_status parse_texts(const struct sl_json_value *root, struct store_model *out,
                             struct sl_err *err)
{
    sl_status status = get_text(root, "chat_template", &out->chat_template, err);
    if (status == SL_OK) status = get_text(root, "ollama_template", &out->ollama_template, err);
    if (status == SL_OK) status = get_text(root, "system", &out->system, err);
    if (status == SL_OK) status = get_text(root, "licence", &out->licence, err);
    if (status == SL_OK) status = get_text(root, "source", &out->source, err);
    if (status == SL_OK)
        status = get_object(root, "parameters", STORE_MANIFEST_BYTES_MAX, &out->parameters, err);
    if (status == SL_OK)
        status = get_object(root, "processing", STORE_OBJECT_BYTES_MAX, &out->processing, err);
    if (status == SL_OK)
        status = get_object(root, "onnx", STORE_OBJECT_BYTES_MAX, &out->options, err);
    return status;
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
    if (status == SL_OK) status = parse_texts(root, out, err);
    return status == SL_OK ? check_sum(root, out, err) : status;
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
        if (*model->layers[i].file) sl_json_kv_str(j, "file", model->layers[i].file);
        put_digest(j, model->layers[i].digest);
        sl_json_kv_int(j, "size", (int64_t)model->layers[i].size);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

/* Objects are kept as JSON text; they go in as what they are. */
static sl_status put_object(struct sl_json *j, const char *key, const char *text)
{
    struct sl_json_value *value = NULL;
    if (!text) return SL_OK;
    sl_status status = sl_json_parse(text, strlen(text), &value, NULL);
    if (status != SL_OK) return status;
    sl_json_key(j, key);
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
    sl_status status = put_object(&j, "parameters", model->parameters);
    if (status == SL_OK) status = put_object(&j, "processing", model->processing);
    if (status == SL_OK) status = put_object(&j, "onnx", model->options);
    sl_json_object_end(&j);
    sl_status written = sl_json_end(&j);
    return status == SL_OK ? written : status;
}
