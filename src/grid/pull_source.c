#include "grid/pull_source.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "grid/pull_choose.h"
#include "grid/pull_retry.h"
#include "grid/store_details.h"
#include "grid/store_manifest.h"
#include "grid/store_ollama.h"
#include "grid/store_onnx.h"
#include "net/sha256.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define OLLAMA_ACCEPT "Accept: application/vnd.docker.distribution.manifest.v2+json"
#define HF_FILES_MAX 20000 /* of one repository */
#define POLL_MS 100

/* What one source needs to ask its questions. */
struct asker {
    const struct pull_request *request;
    const struct store_name *name;
    struct http_client *client;
    const char *base;   /* "https://huggingface.co" */
    const char *bearer; /* for that base only */
    struct pull_plan *plan;
};

void pull_plan_done(struct pull_plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        sl_free(plan->items[i].url);
        sl_free(plan->items[i].file);
    }
    sl_free(plan->items);
    store_model_done(&plan->model);
    *plan = (struct pull_plan){0};
}

static sl_status add_item(struct asker *asker, const char *url, const char *file,
                          const char *digest, uint64_t size, struct sl_err *err)
{
    struct pull_plan *plan = asker->plan;
    struct pull_item *items = sl_realloc_array(plan->items, plan->n + 1, sizeof *items);
    if (!items) return sl_err_set(err, SL_NOMEM, "list of files");
    plan->items = items;
    struct pull_item *item = &items[plan->n++];
    *item = (struct pull_item){.size = size, .bearer = asker->bearer};
    snprintf(item->role, sizeof item->role, "model");
    snprintf(item->digest, sizeof item->digest, "%s", digest);
    item->url = sl_strdup(url);
    item->file = sl_strdup(file);
    if (!item->url || !item->file) return sl_err_set(err, SL_NOMEM, "list of files");
    if (size > STORE_BLOB_BYTES_MAX || !sl_add_u64(plan->size, size, &plan->size))
        return sl_err_set(err, SL_LIMIT, "%s: %" PRIu64 " bytes are more than a model has", file,
                          size);
    return SL_OK;
}

static bool is_cancelled(const struct asker *asker)
{
    return asker->request->cancel && atomic_load(asker->request->cancel);
}

static sl_status wait_ms(const struct asker *asker, int64_t delay_ms, struct sl_err *err)
{
    int64_t until = sl_now_ns() + delay_ms * 1000000;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_now_ns() < until) {
        if (is_cancelled(asker)) return sl_err_set(err, SL_CANCELLED, "stopped");
        int64_t left_ms = (until - sl_now_ns()) / 1000000 + 1;
        status = http_client_poll(asker->client, left_ms < POLL_MS ? (int)left_ms : POLL_MS, err);
    }
    return status;
}

static void tell_retry(const struct asker *asker, const char *why, int64_t delay_ms)
{
    struct pull_progress progress = {
        .phase = PULL_RETRYING, .file = "", .digest = "", .note = why, .retry_ms = delay_ms};
    if (asker->request->progress) asker->request->progress(asker->request->ctx, &progress);
}

/* A small document, asked for again while that may help. */
static sl_status fetch(const struct asker *asker, const char *url, const char *accept,
                       struct sl_buf *out, struct sl_err *err)
{
    const struct pull_request *request = asker->request;
    struct pull_retry retry = {.n_max = request->n_retries, .seed = sl_hash_seed()};
    const char *headers[] = {accept};
    struct http_request get = {.url = url,
                               .headers = headers,
                               .n_headers = accept ? 1 : 0,
                               .bearer = asker->bearer,
                               .allow_http = request->insecure,
                               .trust = request->peer ? request->peer->trust : NULL,
                               .stall_s = request->stall_s};
    struct http_head head;
    for (;;) {
        int64_t delay_ms;
        struct sl_err why = SL_ERR_INIT;
        sl_buf_clear(out);
        sl_status status =
            http_client_fetch(asker->client, &get, request->cancel, &head, out, &why);
        if (status == SL_OK) return SL_OK;
        if (!pull_retry_next(&retry, status, head.retry_after_s, &delay_ms)) {
            (void)sl_err_set(err, status, "%s", why.text);
            return status;
        }
        tell_retry(asker, why.text, delay_ms);
        status = wait_ms(asker, delay_ms, err);
        if (status != SL_OK) return status;
    }
}

/* Appends a path with what is not plain in it as %XX; '/' stays. */
static sl_status add_escaped(struct sl_buf *out, const char *path)
{
    sl_status status = SL_OK;
    for (const char *p = path; *p && status == SL_OK; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= 'a' && *p <= 'z') || strchr("-._~/", *p);
        status = plain ? sl_buf_addc(out, *p) : sl_buf_addf(out, "%%%02X", (unsigned char)*p);
    }
    return status;
}

static sl_status set_source(struct asker *asker, const char *url, struct sl_err *err)
{
    asker->plan->model.source = sl_strdup(url);
    return asker->plan->model.source ? SL_OK : sl_err_set(err, SL_NOMEM, "source");
}

/* Hugging Face */

struct listing {
    struct pull_candidate *files;
    size_t n;
};

/* One of the list; what cannot be used is passed over. */
static void read_candidate(const struct sl_json_value *value, struct listing *list)
{
    size_t n;
    const struct sl_json_value *lfs = sl_json_get(value, "lfs");
    const char *path = sl_json_to_str(sl_json_get(value, "path"), "", &n);
    const char *oid = sl_json_to_str(sl_json_get(lfs, "oid"), "", NULL);
    int64_t size = sl_json_to_int(sl_json_get(value, "size"), -1);
    struct pull_candidate *file = &list->files[list->n];
    if (n == 0 || n >= sizeof file->path || memchr(path, '\0', n) || size <= 0) return;
    *file = (struct pull_candidate){.size = (uint64_t)size};
    memcpy(file->path, path, n + 1);
    if (*oid && !store_digest_parse(oid, file->digest)) return;
    list->n++;
}

static sl_status read_listing(const struct sl_buf *text, struct listing *out, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(text->data, text->len, &root, err);
    size_t n = sl_json_is(root, SL_JSON_ARRAY) ? sl_json_size(root) : 0;
    if (status == SL_INVALID || (status == SL_OK && !sl_json_is(root, SL_JSON_ARRAY)))
        status = sl_err_set(err, SL_CORRUPT, "the list of files is not a JSON array");
    if (status == SL_OK && n > HF_FILES_MAX)
        status = sl_err_set(err, SL_LIMIT, "more than %d files", HF_FILES_MAX);
    if (status == SL_OK && !(out->files = sl_calloc(n, sizeof *out->files)))
        status = sl_err_set(err, SL_NOMEM, "list of files");
    for (size_t i = 0; i < n && status == SL_OK; i++) read_candidate(sl_json_at(root, i), out);
    sl_json_free(root);
    return status;
}

static sl_status add_hf_file(struct asker *asker, const struct pull_candidate *file,
                             struct sl_err *err)
{
    struct sl_buf url;
    sl_buf_init(&url, HTTP_URL_SIZE - 1);
    sl_status status = sl_buf_addf(&url, "%s/%s/%s/resolve/main/", asker->base, asker->name->space,
                                   asker->name->model);
    if (status == SL_OK) status = add_escaped(&url, file->path);
    if (status != SL_OK)
        (void)sl_err_set(err, status, "URL");
    else
        status = add_item(asker, url.data, file->path, file->digest, file->size, err);
    if (status == SL_OK && asker->plan->n == 1) status = set_source(asker, url.data, err);
    sl_buf_done(&url);
    return status;
}

static void set_layer(struct asker *asker, const char *role, const char *file)
{
    struct pull_item *item = &asker->plan->items[asker->plan->n - 1];
    snprintf(item->role, sizeof item->role, "%s", role);
    snprintf(item->layer_file, sizeof item->layer_file, "%s", file);
}

/* Weights in other files, and what encoders come with. */
static sl_status add_hf_beside(struct asker *asker, const struct pull_candidate *file,
                               const char *model, struct sl_err *err)
{
    const char *role = NULL, *name;
    if (pull_is_onnx_data(file->path, model, &name)) role = "data";
    for (size_t i = 0; !role && store_onnx_side(i); i++) {
        name = store_onnx_side(i)->file;
        if (strcmp(file->path, name) == 0) role = store_onnx_side(i)->role;
    }
    if (!role) return SL_OK;
    sl_status status = add_hf_file(asker, file, err);
    if (status == SL_OK) set_layer(asker, role, name);
    return status;
}

static sl_status add_hf_onnx(struct asker *asker, const struct listing *list, size_t model,
                             struct sl_err *err)
{
    struct store_details *details = &asker->plan->model.details;
    snprintf(details->format, sizeof details->format, "onnx");
    sl_status status = add_hf_file(asker, &list->files[model], err);
    if (status == SL_OK) set_layer(asker, "model", "model.onnx");
    for (size_t i = 0; i < list->n && status == SL_OK; i++)
        status = add_hf_beside(asker, &list->files[i], list->files[model].path, err);
    return status;
}

static sl_status add_hf_files(struct asker *asker, const struct listing *list, struct sl_err *err)
{
    size_t first;
    int n_shards;
    if (pull_choose_onnx(list->files, list->n, asker->name->tag, &first))
        return add_hf_onnx(asker, list, first, err);
    sl_status status = pull_choose(list->files, list->n, asker->name->tag, &first, &n_shards, err);
    if (status == SL_OK && n_shards > GGUF_SHARDS_MAX)
        status = sl_err_set(err, SL_LIMIT, "more than %d shards", GGUF_SHARDS_MAX);
    if (status != SL_OK) return status;
    if (n_shards == 1) return add_hf_file(asker, &list->files[first], err);
    for (int i = 0; i < n_shards && status == SL_OK; i++) {
        size_t at = pull_choose_shard(list->files, list->n, first, i);
        status = add_hf_file(asker, &list->files[at], err);
    }
    return status;
}

static sl_status plan_hf(struct asker *asker, struct sl_err *err)
{
    char url[HTTP_URL_SIZE];
    struct sl_buf text;
    struct listing list = {0};
    asker->base = asker->request->hf_endpoint;
    asker->bearer = asker->request->hf_token;
    snprintf(url, sizeof url, "%s/api/models/%s/%s/tree/main?recursive=true", asker->base,
             asker->name->space, asker->name->model);
    sl_buf_init(&text, PULL_DOCUMENT_BYTES_MAX);
    sl_status status = fetch(asker, url, "Accept: application/json", &text, err);
    if (status == SL_OK) status = read_listing(&text, &list, err);
    if (status == SL_OK) status = add_hf_files(asker, &list, err);
    if (status == SL_DENIED)
        (void)sl_err_set(err, status,
                         "no such repository, or not for everybody: log in at "
                         "huggingface.co, accept its terms, and set HF_TOKEN");
    sl_free(list.files);
    sl_buf_done(&text);
    return status;
}

/* Ollama */

static void blob_url(const struct asker *asker, const char *digest, char out[HTTP_URL_SIZE])
{
    snprintf(out, HTTP_URL_SIZE, "%s/v2/%s/%s/blobs/sha256:%s", asker->base, asker->name->space,
             asker->name->model, digest);
}

static sl_status check_text(const struct sl_buf *text, const char *want, struct sl_err *err)
{
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    if (sha256_of(text->data, text->len, digest) != SL_OK)
        return sl_err_set(err, SL_INTERNAL, "SHA-256 failed");
    sha256_hex(digest, hex);
    if (strcmp(hex, want) == 0) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "layer %.12s: its SHA-256 is another", want);
}

static sl_status fetch_text(struct asker *asker, const struct store_ollama_layer *layer,
                            struct sl_err *err)
{
    char url[HTTP_URL_SIZE];
    struct sl_buf text;
    blob_url(asker, layer->digest, url);
    sl_buf_init(&text, STORE_OLLAMA_TEXT_BYTES_MAX);
    sl_status status = fetch(asker, url, NULL, &text, err);
    if (status == SL_OK) status = check_text(&text, layer->digest, err);
    if (status == SL_OK)
        status = store_ollama_apply(layer->kind, text.data, text.len, &asker->plan->model, err);
    sl_buf_done(&text);
    return status;
}

static sl_status add_ollama_layer(struct asker *asker, const struct store_ollama_layer *layer,
                                  struct sl_err *err)
{
    char url[HTTP_URL_SIZE], file[STORE_NAME_SIZE];
    if (layer->kind == STORE_OLLAMA_OTHER) return SL_OK;
    if (layer->kind != STORE_OLLAMA_MODEL) return fetch_text(asker, layer, err);
    blob_url(asker, layer->digest, url);
    store_name_text(asker->name, file);
    return add_item(asker, url, file, layer->digest, layer->size, err);
}

static sl_status fetch_ollama_manifest(struct asker *asker, struct store_ollama_manifest *out,
                                       struct sl_err *err)
{
    char url[HTTP_URL_SIZE];
    struct sl_buf text;
    snprintf(url, sizeof url, "%s/v2/%s/%s/manifests/%s", asker->base, asker->name->space,
             asker->name->model, asker->name->tag);
    sl_buf_init(&text, STORE_OLLAMA_MANIFEST_BYTES_MAX);
    sl_status status = fetch(asker, url, OLLAMA_ACCEPT, &text, err);
    if (status == SL_OK) status = store_ollama_parse(text.data, text.len, out, err);
    if (status == SL_OK) status = set_source(asker, url, err);
    if (status == SL_NOT_FOUND)
        (void)sl_err_set(err, status,
                         "%s has no such model; hf.co/org/repo and https://... are "
                         "other places",
                         asker->name->host);
    sl_buf_done(&text);
    return status;
}

static sl_status plan_ollama(struct asker *asker, struct sl_err *err)
{
    char base[STORE_PART_SIZE + 16];
    struct store_ollama_manifest manifest = {.n = 0};
    if (strcmp(asker->name->host, STORE_OLLAMA_HOST) == 0) {
        asker->base = asker->request->ollama_registry;
    } else {
        snprintf(base, sizeof base, "https://%s", asker->name->host);
        asker->base = base;
    }
    sl_status status = fetch_ollama_manifest(asker, &manifest, err);
    for (size_t i = 0; i < manifest.n && status == SL_OK; i++)
        status = add_ollama_layer(asker, &manifest.layers[i], err);
    asker->base = NULL;
    return status;
}

/* A member of the grid */

static sl_status add_peer_layers(struct asker *asker, const struct store_model *model,
                                 struct sl_err *err)
{
    char url[HTTP_URL_SIZE], text[STORE_NAME_SIZE];
    sl_status status = SL_OK;
    store_name_text(asker->name, text);
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++) {
        const struct store_layer *layer = &model->layers[i];
        snprintf(url, sizeof url, "%s/grid/v1/blobs/%s", asker->base, layer->digest);
        status = add_item(asker, url, *layer->file ? layer->file : text, layer->digest, layer->size,
                          err);
        if (status == SL_OK) set_layer(asker, layer->role, layer->file);
    }
    return status;
}

/* What the model is stays; its layers are added as they come. */
static void take_peer_model(struct asker *asker, struct store_model *model)
{
    asker->plan->model = *model;
    asker->plan->model.layers = NULL;
    asker->plan->model.n_layers = 0;
    sl_free(model->layers);
}

static sl_status plan_peer(struct asker *asker, struct sl_err *err)
{
    const struct pull_peer *peer = asker->request->peer;
    char url[HTTP_URL_SIZE], text[STORE_NAME_SIZE], place[STORE_NAME_PATH_SIZE];
    struct sl_buf body;
    struct store_model model = {0};
    asker->base = peer->base;
    store_name_text(asker->name, text);
    store_name_path(asker->name, place);
    sl_buf_init(&body, STORE_MANIFEST_BYTES_MAX);
    sl_status status = sl_buf_addf(&body, "%s/grid/v1/models/", peer->base);
    if (status == SL_OK) status = add_escaped(&body, text);
    snprintf(url, sizeof url, "%s", status == SL_OK ? body.data : "");
    sl_buf_clear(&body);
    status = fetch(asker, url, "Accept: application/json", &body, err);
    if (status == SL_OK) status = store_manifest_parse(body.data, body.len, place, &model, err);
    sl_buf_done(&body);
    if (status != SL_OK) return status;
    if (*peer->digest && strcmp(peer->digest, model.digest) != 0)
        status = sl_err_set(err, SL_NOT_FOUND, "it has another model under that name");
    if (status == SL_OK) status = add_peer_layers(asker, &model, err);
    if (status == SL_OK)
        take_peer_model(asker, &model);
    else
        store_model_done(&model);
    return status;
}

static sl_status plan_url(struct asker *asker, struct sl_err *err)
{
    const struct store_name *name = asker->name;
    const char *slash = strrchr(name->url, '/');
    char file[STORE_NAME_SIZE];
    snprintf(file, sizeof file, "%.*s", (int)strcspn(slash + 1, "?"), slash + 1);
    sl_status status = http_url_check(name->url, asker->request->insecure, err);
    if (status == SL_OK) status = add_item(asker, name->url, file, name->digest, 0, err);
    if (status == SL_OK && store_is_onnx_path(file)) {
        struct store_details *details = &asker->plan->model.details;
        snprintf(details->format, sizeof details->format, "onnx");
        set_layer(asker, "model", "model.onnx");
    }
    return status == SL_OK ? set_source(asker, name->url, err) : status;
}

sl_status pull_plan_make(const struct pull_request *request, const struct store_name *name,
                         struct http_client *client, struct pull_plan *out, struct sl_err *err)
{
    struct pull_plan plan = {0};
    struct asker asker = {.request = request, .name = name, .client = client, .plan = &plan};
    sl_status status = request->peer                  ? plan_peer(&asker, err)
                       : name->source == STORE_HF     ? plan_hf(&asker, err)
                       : name->source == STORE_OLLAMA ? plan_ollama(&asker, err)
                                                      : plan_url(&asker, err);
    if (status == SL_OK)
        *out = plan;
    else
        pull_plan_done(&plan);
    return status;
}
