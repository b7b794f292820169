#include "grid/store_ollama.h"
#include "base/buf.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "grid/store_manifest.h"
#include "grid/store_name.h"
#include <string.h>

#define MEDIA_PREFIX "application/vnd.ollama.image."

static const struct {
    const char *media;
    enum store_ollama_kind kind;
} kinds[] = {
    {"model", STORE_OLLAMA_MODEL},       {"params", STORE_OLLAMA_PARAMS},
    {"system", STORE_OLLAMA_SYSTEM},     {"license", STORE_OLLAMA_LICENCE},
    {"template", STORE_OLLAMA_TEMPLATE},
};

static enum store_ollama_kind kind_of(const char *media)
{
    size_t n_prefix = sizeof MEDIA_PREFIX - 1;
    if (strncmp(media, MEDIA_PREFIX, n_prefix) != 0) return STORE_OLLAMA_OTHER;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(media + n_prefix, kinds[i].media) == 0) return kinds[i].kind;
    }
    return STORE_OLLAMA_OTHER;
}

static sl_status parse_layer(const struct sl_json_value *value, struct store_ollama_layer *out,
                             struct sl_err *err)
{
    const char *media = sl_json_to_str(sl_json_get(value, "mediaType"), "", NULL);
    const char *digest = sl_json_to_str(sl_json_get(value, "digest"), "", NULL);
    int64_t size = sl_json_to_int(sl_json_get(value, "size"), -1);
    out->kind = kind_of(media);
    if (strcmp(media, MEDIA_PREFIX "adapter") == 0)
        return sl_err_set(err, SL_UNSUPPORTED, "an adapter (LoRA), which is not supported");
    if (!store_digest_parse(digest, out->digest))
        return sl_err_set(err, SL_CORRUPT, "digest: not sha256: and 64 digits");
    if (size <= 0 || (uint64_t)size > STORE_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_CORRUPT, "size: not one, or too large");
    if (out->kind != STORE_OLLAMA_MODEL && out->kind != STORE_OLLAMA_OTHER &&
        size > STORE_OLLAMA_TEXT_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "%s: %jd bytes of text", media, (intmax_t)size);
    out->size = (uint64_t)size;
    return SL_OK;
}

static sl_status parse_layers(const struct sl_json_value *root, struct store_ollama_manifest *out,
                              struct sl_err *err)
{
    const struct sl_json_value *layers = sl_json_get(root, "layers");
    size_t n = sl_json_is(layers, SL_JSON_ARRAY) ? sl_json_size(layers) : 0;
    bool has_model = false;
    if (n > STORE_OLLAMA_LAYERS_MAX)
        return sl_err_set(err, SL_LIMIT, "manifest: more than %d layers", STORE_OLLAMA_LAYERS_MAX);
    for (size_t i = 0; i < n; i++) {
        sl_status status = parse_layer(sl_json_at(layers, i), &out->layers[i], err);
        if (status != SL_OK) {
            (void)sl_err_prefix(err, "manifest: layer %zu", i);
            return status;
        }
        has_model = has_model || out->layers[i].kind == STORE_OLLAMA_MODEL;
    }
    out->n = n;
    if (has_model) return SL_OK;
    return sl_err_set(err, SL_UNSUPPORTED, "manifest: no GGUF model in it");
}

sl_status store_ollama_parse(const char *text, size_t n, struct store_ollama_manifest *out,
                             struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(text, n, &root, err);
    if (status == SL_OK)
        status = parse_layers(root, out, err);
    else if (status == SL_INVALID)
        status = sl_err_set(err, SL_CORRUPT, "manifest: not JSON");
    sl_json_free(root);
    return status;
}

static sl_status set_parameters(const char *text, size_t n, struct store_model *model,
                                struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(text, n, &root, err);
    bool is_object = sl_json_is(root, SL_JSON_OBJECT);
    sl_json_free(root);
    if (status == SL_NOMEM) return status;
    if (status != SL_OK || !is_object)
        return sl_err_set(err, SL_CORRUPT, "params: not a JSON object");
    sl_free(model->parameters);
    model->parameters = sl_memdup(text, n);
    return model->parameters ? SL_OK : sl_err_set(err, SL_NOMEM, "params");
}

/* A model may have several licences; each is one more paragraph. */
static sl_status append(char **text, const char *more, size_t n, struct sl_err *err)
{
    struct sl_buf joined;
    if (memchr(more, '\0', n)) return sl_err_set(err, SL_CORRUPT, "a NUL in a text");
    sl_buf_init(&joined, STORE_MANIFEST_BYTES_MAX / 2);
    sl_status status = *text ? sl_buf_addf(&joined, "%s\n\n", *text) : SL_OK;
    if (status == SL_OK) status = sl_buf_add(&joined, more, n);
    char *whole = status == SL_OK ? sl_buf_steal(&joined) : NULL;
    sl_buf_done(&joined);
    if (!whole) return sl_err_set(err, status == SL_LIMIT ? status : SL_NOMEM, "a text");
    sl_free(*text);
    *text = whole;
    return SL_OK;
}

sl_status store_ollama_apply(enum store_ollama_kind kind, const char *text, size_t n,
                             struct store_model *model, struct sl_err *err)
{
    switch (kind) {
    case STORE_OLLAMA_PARAMS: return set_parameters(text, n, model, err);
    case STORE_OLLAMA_SYSTEM: return append(&model->system, text, n, err);
    case STORE_OLLAMA_LICENCE: return append(&model->licence, text, n, err);
    case STORE_OLLAMA_TEMPLATE: return append(&model->ollama_template, text, n, err);
    default: return SL_OK;
    }
}
