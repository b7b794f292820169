#include "grid/part_files.h"
#include "base/mem.h"
#include "grid/part_journal.h"
#include "grid/pull.h"
#include "grid/pull_source.h"
#include "grid/store_manifest.h"
#include "grid/store_name.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_STALL_S 10
#define MANIFEST_RETRIES 2
/* A member that never made the list reads the whole file first. */
#define LIST_STALL_S 30
#define LIST_BYTES_PER_S (UINT64_C(50) << 20) /* of a slow disk */

/* --- which files --- */

/* A plan's items as the model's layers: a manifest is nothing else. */
static sl_status take_plan(struct pull_plan *plan, struct store_model *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < plan->n && status == SL_OK; i++) {
        const struct pull_item *item = &plan->items[i];
        struct store_layer layer = {.size = item->size};
        memcpy(layer.role, item->role, sizeof layer.role);
        memcpy(layer.digest, item->digest, sizeof layer.digest);
        memcpy(layer.file, item->layer_file, sizeof layer.file);
        status = store_model_add_layer(&plan->model, &layer, err);
    }
    if (status != SL_OK) return status;
    *out = plan->model;
    plan->model = (struct store_model){0};
    return SL_OK;
}

static sl_status ask_manifest(const struct part_asker *asker, const struct part_source *source,
                              struct store_model *out, struct sl_err *err)
{
    const struct pull_peer peer = {
        .base = source->base, .trust = &source->trust, .digest = asker->digest};
    struct pull_request request;
    struct pull_plan plan = {0};
    struct store_name name;
    pull_request_init(&request);
    request.name = asker->name;
    request.peer = &peer;
    request.n_retries = MANIFEST_RETRIES;
    request.stall_s = MANIFEST_STALL_S;
    request.cancel = asker->cancel;
    sl_status status = store_name_parse(asker->name, &name, err);
    if (status == SL_OK) status = pull_plan_make(&request, &name, asker->client, &plan, err);
    if (status == SL_OK) status = take_plan(&plan, out, err);
    pull_plan_done(&plan);
    if (status != SL_OK) sl_err_prefix(err, "from %s", source->id);
    return status;
}

static sl_status get_manifest(const struct part_asker *asker, struct store_model *out,
                              struct sl_err *err)
{
    sl_status status = store_part_read_manifest(asker->part, asker->name, asker->digest, out, NULL);
    if (status == SL_OK) return SL_OK;
    status = sl_err_set(err, SL_NOT_FOUND, "no member of the grid has it");
    for (size_t i = 0; i < asker->n_sources && status != SL_OK && status != SL_CANCELLED; i++)
        status = ask_manifest(asker, &asker->sources[i], out, err);
    return status == SL_OK ? store_part_write_manifest(asker->part, out, err) : status;
}

/* --- what their chunks must be --- */

static sl_status ask_list(const struct part_asker *asker, const struct part_source *source,
                          const struct store_layer *layer, struct sl_buf *text,
                          struct chunk_list *out, struct sl_err *err)
{
    char url[sizeof source->base + STORE_DIGEST_SIZE + 32];
    struct http_head head;
    snprintf(url, sizeof url, "%s/grid/v1/blobs/%s/chunks", source->base, layer->digest);
    const struct http_request get = {.url = url,
                                     .trust = &source->trust,
                                     .stall_s =
                                         LIST_STALL_S + (int)(layer->size / LIST_BYTES_PER_S)};
    sl_buf_clear(text);
    sl_status status = http_client_fetch(asker->client, &get, asker->cancel, &head, text, err);
    if (status == SL_OK) status = chunk_list_parse(text->data, text->len, out, err);
    if (status == SL_OK && out->size != layer->size) {
        chunk_list_done(out);
        status = sl_err_set(err, SL_CORRUPT, "its list is of a file of another size");
    }
    if (status != SL_OK) sl_err_prefix(err, "from %s", source->id);
    return status;
}

/* Does the next member that answers say the same? */
static sl_status confirm_list(const struct part_asker *asker, size_t first,
                              const struct store_layer *layer, const struct chunk_list *list,
                              struct sl_err *err)
{
    struct chunk_list other;
    struct sl_buf text;
    sl_status status = SL_UNAVAILABLE;
    size_t i = first;
    sl_buf_init(&text, CHUNK_LIST_BYTES_MAX);
    while (++i < asker->n_sources && status != SL_OK && status != SL_CANCELLED)
        status = ask_list(asker, &asker->sources[i], layer, &text, &other, err);
    sl_buf_done(&text);
    if (status == SL_CANCELLED) return status;
    if (status != SL_OK) return SL_OK; /* there is no other */
    bool same = memcmp(other.id, list->id, sizeof list->id) == 0;
    chunk_list_done(&other);
    if (same) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "%s and %s disagree about the bytes of %.12s",
                      asker->sources[first].id, asker->sources[i - 1].id, layer->digest);
}

static bool read_list(const char *path, const struct store_layer *layer, struct chunk_list *out)
{
    struct sl_buf text;
    sl_buf_init(&text, CHUNK_LIST_BYTES_MAX);
    bool ok = store_read_file(path, &text, NULL) == SL_OK &&
              chunk_list_parse(text.data, text.len, out, NULL) == SL_OK;
    sl_buf_done(&text);
    if (!ok || out->size == layer->size) return ok;
    chunk_list_done(out);
    return false;
}

static sl_status get_list(const struct part_asker *asker, const char *path,
                          const struct store_layer *layer, struct chunk_list *out,
                          struct sl_err *err)
{
    struct sl_buf text;
    size_t i = 0;
    if (read_list(path, layer, out)) return SL_OK;
    sl_buf_init(&text, CHUNK_LIST_BYTES_MAX);
    sl_status status = sl_err_set(err, SL_NOT_FOUND, "no member of the grid has it");
    for (; i < asker->n_sources && status != SL_OK && status != SL_CANCELLED; i++)
        status = ask_list(asker, &asker->sources[i], layer, &text, out, err);
    if (status == SL_OK) {
        status = confirm_list(asker, i - 1, layer, out, err);
        if (status == SL_OK) status = store_write_file(path, text.data, text.len, err);
        if (status != SL_OK) chunk_list_done(out);
    }
    sl_buf_done(&text);
    return status;
}

/* --- what of them is here --- */

static sl_status open_data(struct part_file *file, const char *path, bool *fresh,
                           struct sl_err *err)
{
    struct stat st;
    file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file->fd < 0 || fstat(file->fd, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    *fresh = (uint64_t)st.st_size != file->list.size;
    if (*fresh && ftruncate(file->fd, (off_t)file->list.size) != 0)
        return sl_err_errno(err, errno, "%s", path);
    return SL_OK;
}

/* A journal counts only for data that was there. */
static sl_status open_journal(struct part_file *file, bool fresh, struct sl_err *err)
{
    struct sl_buf text;
    file->chunks = sl_calloc(file->list.n, 1);
    if (!file->chunks) return sl_err_set(err, SL_NOMEM, "table of chunks");
    sl_buf_init(&text, PART_JOURNAL_BYTES_MAX);
    if (!fresh && store_read_file(file->journal_path, &text, NULL) == SL_OK)
        (void)part_journal_parse(text.data, text.len, &file->list, file->chunks);
    sl_buf_done(&text);
    return SL_OK;
}

static sl_status open_file(const struct part_asker *asker, const struct store_layer *layer,
                           size_t no, struct part_files *files, struct sl_err *err)
{
    struct part_file *file = &files->v[no];
    char path[PATH_MAX], list_path[PATH_MAX];
    bool fresh = true;
    memcpy(file->digest, layer->digest, sizeof file->digest);
    sl_status status = store_part_file(asker->part, no, files->n, "", path, err);
    if (status == SL_OK)
        status = store_part_file(asker->part, no, files->n, ".chunks", list_path, err);
    if (status == SL_OK)
        status = store_part_file(asker->part, no, files->n, ".journal", file->journal_path, err);
    if (status == SL_OK) status = get_list(asker, list_path, layer, &file->list, err);
    if (status == SL_OK) status = open_data(file, path, &fresh, err);
    return status == SL_OK ? open_journal(file, fresh, err) : status;
}

static bool is_model_file(const struct store_layer *layer)
{
    return strcmp(layer->role, "model") == 0;
}

static sl_status open_all(const struct part_asker *asker, const struct store_model *model,
                          struct part_files *out, struct sl_err *err)
{
    size_t n = 0, no = 0;
    sl_status status = SL_OK;
    for (size_t i = 0; i < model->n_layers; i++) n += is_model_file(&model->layers[i]);
    if (store_model_is_onnx(model) || n == 0)
        return sl_err_set(err, SL_UNSUPPORTED, "only GGUF models are split");
    out->v = sl_calloc(n, sizeof *out->v);
    if (!out->v) return sl_err_set(err, SL_NOMEM, "files of a part");
    out->n = n;
    for (size_t i = 0; i < n; i++) out->v[i].fd = -1;
    for (size_t i = 0; i < model->n_layers && status == SL_OK; i++)
        if (is_model_file(&model->layers[i]))
            status = open_file(asker, &model->layers[i], no++, out, err);
    return status;
}

sl_status part_files_open(const struct part_asker *asker, struct part_files *out,
                          struct sl_err *err)
{
    struct store_model model = {0};
    struct part_files files = {0};
    sl_status status = get_manifest(asker, &model, err);
    if (status == SL_OK) status = open_all(asker, &model, &files, err);
    store_model_done(&model);
    if (status == SL_OK)
        *out = files;
    else
        part_files_close(&files);
    return status;
}

void part_files_close(struct part_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        if (files->v[i].fd >= 0) close(files->v[i].fd);
        chunk_list_done(&files->v[i].list);
        sl_free(files->v[i].chunks);
    }
    sl_free(files->v);
    *files = (struct part_files){0};
}
