#include "grid/pull.h"
#include "base/clock.h"
#include "base/mem.h"
#include "grid/pull_file.h"
#include "grid/pull_source.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include "net/sha256.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECTIONS 4
#define CHUNK_BYTES \
    (INT64_C(16) << 20) /* a second of 130 Mbit/s; what a kill costs at most, each */
#define RETRIES 6       /* a quarter of a minute of backing off */
#define STALL_S 30
#define CLAIM_POLL_MS 200
#define REPORT_NS 50000000 /* moving bars need no more than 20 pictures a second */

struct pull {
    const struct store *store;
    const struct pull_request *request;
    struct http_client *client;
    struct pull_plan plan;
    struct store_claims claims;
    struct store_lock url_claim; /* of a file whose digest nobody told */
    size_t index;                /* the item in work */
    uint64_t done_before;        /* bytes of the items before it */
    int64_t reported_ns;
};

static const char *env_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

void pull_request_init(struct pull_request *request)
{
    *request = (struct pull_request){
        .n_connections = CONNECTIONS,
        .chunk_bytes = CHUNK_BYTES,
        .n_retries = RETRIES,
        .stall_s = STALL_S,
        .hf_endpoint =
            env_or("STARLANE_HF_ENDPOINT", env_or("HF_ENDPOINT", "https://huggingface.co")),
        .hf_token = env_or("HF_TOKEN", NULL),
        .ollama_registry = env_or("STARLANE_OLLAMA_REGISTRY", "https://" STORE_OLLAMA_HOST),
    };
}

static void tell(struct pull *pull, struct pull_progress *progress)
{
    const struct pull_item *item =
        pull->index < pull->plan.n ? &pull->plan.items[pull->index] : NULL;
    if (!pull->request->progress) return;
    progress->file = item ? item->file : "";
    progress->digest = item ? item->digest : "";
    progress->file_index = (int)pull->index;
    progress->n_files = (int)pull->plan.n;
    progress->done = pull->done_before + progress->file_done;
    progress->total = pull->plan.size ? pull->plan.size : progress->file_total;
    if (!progress->note) progress->note = "";
    pull->request->progress(pull->request->ctx, progress);
}

static void tell_phase(struct pull *pull, enum pull_phase phase)
{
    struct pull_progress progress = {.phase = phase};
    tell(pull, &progress);
}

static void on_file(void *ctx, enum pull_phase phase, uint64_t done, uint64_t total,
                    uint64_t resumed, const char *note, int64_t retry_ms)
{
    struct pull *pull = ctx;
    int64_t now = sl_now_ns();
    if (phase == PULL_DOWNLOADING && done < total && now - pull->reported_ns < REPORT_NS) return;
    pull->reported_ns = now;
    struct pull_progress progress = {.phase = phase,
                                     .file_done = done,
                                     .file_total = total,
                                     .resumed = resumed,
                                     .note = note,
                                     .retry_ms = retry_ms};
    tell(pull, &progress);
}

/* Takes the claim, or waits until the one who has it is done: then the blob is probably here. */
static sl_status claim_key(struct pull *pull, const char *digest, const char *key,
                           struct sl_err *err)
{
    bool told = false;
    for (;;) {
        struct sl_err why = SL_ERR_INIT;
        sl_status status = *digest
                               ? store_claims_add(pull->store, &pull->claims, digest, false, &why)
                               : store_claim(pull->store, key, false, &pull->url_claim, &why);
        if (status != SL_BUSY)
            return status == SL_OK ? SL_OK : sl_err_set(err, status, "%s", why.text);
        if (!told) tell_phase(pull, PULL_WAITING);
        told = true;
        if (pull->request->cancel && atomic_load(pull->request->cancel))
            return sl_err_set(err, SL_CANCELLED, "stopped");
        status = http_client_poll(pull->client, CLAIM_POLL_MS, err);
        if (status != SL_OK) return status;
    }
}

static sl_status item_key(const struct pull_item *item, char out[STORE_DIGEST_SIZE + 8],
                          struct sl_err *err)
{
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    if (*item->digest) {
        snprintf(out, STORE_DIGEST_SIZE + 8, "sha256-%s", item->digest);
        return SL_OK;
    }
    if (sha256_of(item->url, strlen(item->url), digest) != SL_OK)
        return sl_err_set(err, SL_INTERNAL, "SHA-256 failed");
    sha256_hex(digest, hex);
    snprintf(out, STORE_DIGEST_SIZE + 8, "url-%s", hex);
    return SL_OK;
}

/* Its size is checked where it is known: a blob of another size is no good. */
static bool is_here(const struct pull *pull, const struct pull_item *item, uint64_t *size)
{
    char path[PATH_MAX];
    struct stat st;
    if (!*item->digest || store_blob_path(pull->store, item->digest, path, NULL) != SL_OK ||
        lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    *size = (uint64_t)st.st_size;
    return *size > 0 && (item->size == 0 || *size == item->size);
}

static sl_status download(struct pull *pull, const struct pull_item *item, const char *key,
                          char digest[STORE_DIGEST_SIZE], uint64_t *size, struct sl_err *err)
{
    char data[PATH_MAX], journal[PATH_MAX];
    struct pull_file file = {.client = pull->client,
                             .request = pull->request,
                             .url = item->url,
                             .bearer = item->bearer,
                             .digest = item->digest,
                             .size = item->size,
                             .any_format = *item->layer_file != '\0',
                             .data_path = data,
                             .journal_path = journal,
                             .progress = on_file,
                             .ctx = pull};
    sl_status status = store_partial_path(pull->store, key, "data", data, err);
    if (status == SL_OK) status = store_partial_path(pull->store, key, "journal", journal, err);
    if (status == SL_OK) status = pull_file_run(&file, digest, size, err);
    if (status == SL_OK && !*item->digest) status = claim_key(pull, digest, NULL, err);
    return status == SL_OK ? store_take_blob(pull->store, data, digest, err) : status;
}

static sl_status pull_item(struct pull *pull, const struct pull_item *item, struct sl_err *err)
{
    char key[STORE_DIGEST_SIZE + 8], digest[STORE_DIGEST_SIZE];
    uint64_t size = 0;
    sl_status status = item_key(item, key, err);
    if (status == SL_OK) status = claim_key(pull, item->digest, key, err);
    if (status != SL_OK) return status;
    memcpy(digest, item->digest, sizeof digest);
    if (!is_here(pull, item, &size)) status = download(pull, item, key, digest, &size, err);
    if (status == SL_OK) {
        struct store_layer layer = {.size = size};
        snprintf(layer.role, sizeof layer.role, "%s", item->role);
        memcpy(layer.file, item->layer_file, sizeof layer.file);
        memcpy(layer.digest, digest, sizeof layer.digest);
        status = store_model_add_layer(&pull->plan.model, &layer, err);
    }
    store_unlock(&pull->url_claim);
    pull->done_before += size;
    if (status != SL_OK && pull->plan.n > 1) (void)sl_err_prefix(err, "%s", item->file);
    return status;
}

/* How much is still to come, as far as one knows. */
static sl_status check_room(struct pull *pull, struct sl_err *err)
{
    uint64_t needed = pull->plan.size, size;
    struct stat st;
    char key[STORE_DIGEST_SIZE + 8], data[PATH_MAX];
    sl_status status = store_make_dirs(pull->store->root, err);
    for (size_t i = 0; i < pull->plan.n && status == SL_OK; i++) {
        const struct pull_item *item = &pull->plan.items[i];
        uint64_t here = 0;
        status = item_key(item, key, err);
        if (status == SL_OK) status = store_partial_path(pull->store, key, "data", data, err);
        if (is_here(pull, item, &size))
            here = size;
        else if (status == SL_OK && stat(data, &st) == 0)
            here = (uint64_t)st.st_blocks * 512;
        needed -= here < needed ? here : needed;
    }
    return status == SL_OK ? store_check_room(pull->store->root, needed, err) : status;
}

/* Blobs that are whole but make no model are of no use to the next pull either. */
static void take_back(struct pull *pull)
{
    const struct store_model *model = &pull->plan.model;
    store_claims_done(&pull->claims);
    store_discard(pull->store, model->layers, model->n_layers);
}

static sl_status pull_all(struct pull *pull, const struct store_name *as, struct sl_err *err)
{
    sl_status status = check_room(pull, err);
    for (; pull->index < pull->plan.n && status == SL_OK; pull->index++)
        status = pull_item(pull, &pull->plan.items[pull->index], err);
    if (status != SL_OK) return status;
    pull->index = pull->plan.n - 1;
    struct pull_progress whole = {
        .phase = PULL_VERIFYING, .file_done = pull->done_before, .file_total = pull->done_before};
    pull->done_before = 0;
    tell(pull, &whole);
    status = store_publish(pull->store, as, &pull->plan.model, err);
    whole.phase = PULL_DONE;
    if (status == SL_OK) tell(pull, &whole);
    if (status == SL_CORRUPT) take_back(pull);
    return status;
}

static sl_status parse_names(const struct pull_request *request, struct store_name *name,
                             struct store_name *as, struct sl_err *err)
{
    sl_status status = store_name_parse(request->name, name, err);
    if (status != SL_OK) return status;
    *as = *name;
    if (request->store_as) status = store_name_parse(request->store_as, as, err);
    return status == SL_OK ? store_name_check_free(as, err) : status;
}

sl_status pull_run(struct store *store, const struct pull_request *request, struct sl_err *err)
{
    struct store_name name, as;
    struct pull pull = {.store = store, .request = request, .url_claim = {.fd = -1}};
    sl_status status = parse_names(request, &name, &as, err);
    if (status == SL_OK) status = http_client_create(&pull.client, err);
    if (status != SL_OK) return status;
    tell_phase(&pull, PULL_RESOLVING);
    status = pull_plan_make(request, &name, pull.client, &pull.plan, err);
    if (status == SL_OK) status = pull_all(&pull, &as, err);
    store_claims_done(&pull.claims);
    pull_plan_done(&pull.plan);
    http_client_destroy(pull.client);
    if (status != SL_OK) (void)sl_err_prefix(err, "pull %s", request->name);
    return status;
}
