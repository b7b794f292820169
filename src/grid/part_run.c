#include "grid/part_run.h"
#include "base/hash.h"
#include "exec/llm/gguf_header.h"
#include "grid/part_files.h"
#include "grid/store_int.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISTANCE_TIMEOUT_MS 1000 /* as of whole models */
#define CLAIM_POLL_MS 100
#define SOURCE_RETRIES 3

/* One call of part_run. */
struct work {
    struct part_run *run;
    struct http_client *client;
    struct part_source sources[FETCH_SOURCES_MAX];
    size_t n_sources;
    struct part_files files;
    struct part_get get;
    uint64_t total; /* bytes that have to come; 0: not known yet */
};

/* --- the whole model is here --- */

static bool find_by_name(struct part_run *run)
{
    struct store_model model = {0};
    if (store_find(run->store, run->name, &model, NULL) != SL_OK) return false;
    bool same = !strcmp(model.digest, run->digest) && !strcmp(model.details.format, "gguf");
    if (same) memcpy(run->path, model.path, sizeof run->path);
    store_model_done(&model);
    return same;
}

/* Under another name, of one file: the model's digest is the blob's. */
static bool find_by_digest(struct part_run *run)
{
    struct stat st;
    bool named = false;
    return store_blob_path(run->store, run->digest, run->path, NULL) == SL_OK &&
           lstat(run->path, &st) == 0 && S_ISREG(st.st_mode) &&
           store_is_named(run->store, run->digest, &named, NULL) == SL_OK && named;
}

/* --- members --- */

static void sources_init(struct work *w)
{
    const struct part_run *run = w->run;
    fetch_sort_by_distance(run->sources, run->n_sources, DISTANCE_TIMEOUT_MS);
    for (size_t i = 0; i < run->n_sources; i++) {
        struct part_source *source = &w->sources[w->n_sources++];
        source->id = run->sources[i].id;
        source->retry = (struct pull_retry){.n_max = SOURCE_RETRIES, .seed = sl_hash_seed()};
        source->trust = (struct http_trust){.root_path = run->ca_path,
                                            .cert_path = run->cert_path,
                                            .key_path = run->key_path,
                                            .member_id = source->id};
        snprintf(source->base, sizeof source->base, "https://%s", run->sources[i].address);
    }
}

/* Another stage on this machine may be fetching of the same model: what it brings need not come
 * again. */
static sl_status claim(struct work *w, struct store_lock *out, struct sl_err *err)
{
    for (;;) {
        sl_status status = store_part_claim(&w->run->part, out, err);
        if (status != SL_BUSY) return status;
        if (atomic_load(w->run->cancel)) return sl_err_set(err, SL_CANCELLED, "stopped");
        status = http_client_poll(w->client, CLAIM_POLL_MS, err);
        if (status != SL_OK) return status;
    }
}

/* --- chunks --- */

static void on_progress(void *ctx)
{
    const struct work *w = ctx;
    if (w->total) w->run->progress(w->run->ctx, w->get.n_bytes, w->total);
}

static uint64_t needed_bytes(const struct work *w)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->files.n; i++) n += part_bytes(&w->files.v[i], PART_NEEDED);
    return n;
}

static sl_status get_needed(struct work *w, struct sl_err *err)
{
    uint64_t n = needed_bytes(w);
    sl_status status = n ? store_parts_make_room(w->run->store, n, err) : SL_OK;
    if (status == SL_OK) status = part_get_needed(&w->get, err);
    w->run->n_bytes = w->get.n_bytes;
    w->run->n_bad_chunks = w->get.n_bad_chunks;
    return status;
}

static void need(struct part_file *file, uint64_t begin, uint64_t end)
{
    uint64_t bytes = file->list.chunk_bytes;
    for (uint64_t i = begin / bytes; i * bytes < end && i < file->list.n; i++)
        if (file->chunks[i] == PART_UNNEEDED) file->chunks[i] = PART_NEEDED;
}

/* The bytes from the file's beginning on that are here without a gap. */
static uint64_t prefix_bytes(const struct part_file *file)
{
    uint32_t n = 0;
    while (n < file->list.n && file->chunks[n] == PART_HERE) n++;
    return n ? chunk_end(&file->list, n - 1) : 0;
}

static sl_status header_length(const struct part_file *file, uint64_t n, uint64_t *out,
                               struct sl_err *err)
{
    *out = 1;
    if (n == 0) return SL_OK;
    if (n > GGUF_HEADER_BYTES_MAX) n = GGUF_HEADER_BYTES_MAX;
    void *map = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, file->fd, 0);
    if (map == MAP_FAILED) return sl_err_errno(err, errno, "map a part");
    sl_status status = gguf_header_length(map, (size_t)n, out, err);
    munmap(map, (size_t)n);
    if (status == SL_OK && *out > file->list.size)
        status = sl_err_set(err, SL_CORRUPT, "the header is longer than the file");
    return status;
}

/* Chunk after chunk until the header says that this is all of it. */
static sl_status get_header(struct work *w, struct part_file *file, struct sl_err *err)
{
    for (;;) {
        uint64_t length = 0, n = prefix_bytes(file);
        sl_status status = header_length(file, n, &length, err);
        if (status != SL_OK || length <= n) return status;
        need(file, 0, length > 2 * n ? length : 2 * n); /* few steps, however long it is */
        status = get_needed(w, err);
        if (status != SL_OK) return status;
    }
}

/* --- the stage's tensors --- */

struct needing {
    const struct gguf_file *gguf;
    struct part_files *files;
};

static sl_status need_tensor(void *ctx, const struct gguf_tensor *tensor, struct sl_err *err)
{
    const struct needing *needing = ctx;
    size_t n;
    const char *map = gguf_shard_map(needing->gguf, tensor->shard, &n);
    uint64_t begin = (uint64_t)((const char *)tensor->data - map);
    (void)err;
    need(&needing->files->v[tensor->shard], begin, begin + tensor->n_bytes);
    return SL_OK;
}

static sl_status need_range(struct work *w, struct sl_err *err)
{
    const struct llm_range *range = &w->run->range;
    struct llm_hparams hp;
    struct gguf_file *gguf = NULL;
    sl_status status = gguf_open(w->run->path, &gguf, err);
    if (status != SL_OK) return status;
    struct needing needing = {gguf, &w->files};
    status = llm_hparams_read(gguf, &hp, err);
    if (status == SL_NOT_FOUND) status = SL_CORRUPT; /* a key, not the model */
    if (status == SL_OK && range->last > hp.n_layer)
        status = sl_err_set(err, SL_INVALID, "layers %d to %d of a model that has %d", range->first,
                            range->last, hp.n_layer);
    if (status == SL_OK) status = llm_tensors_each(gguf, &hp, range, need_tensor, &needing, err);
    gguf_close(gguf);
    return status;
}

static sl_status get_all(struct work *w, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < w->files.n && status == SL_OK; i++)
        status = get_header(w, &w->files.v[i], err);
    if (status == SL_OK) status = need_range(w, err);
    if (status != SL_OK) return status;
    w->total = w->get.n_bytes + needed_bytes(w);
    on_progress(w);
    return get_needed(w, err);
}

static sl_status fetch(struct work *w, struct sl_err *err)
{
    struct part_run *run = w->run;
    struct store_lock writing;
    const struct part_asker asker = {.part = &run->part,
                                     .name = run->name,
                                     .digest = run->digest,
                                     .client = w->client,
                                     .sources = w->sources,
                                     .n_sources = w->n_sources,
                                     .cancel = run->cancel};
    sl_status status = claim(w, &writing, err);
    if (status != SL_OK) return status;
    status = part_files_open(&asker, &w->files, err);
    if (status == SL_OK) status = store_part_file(&run->part, 0, w->files.n, "", run->path, err);
    w->get = (struct part_get){.client = w->client,
                               .sources = w->sources,
                               .n_sources = w->n_sources,
                               .files = w->files.v,
                               .n_files = w->files.n,
                               .cancel = run->cancel,
                               .progress = on_progress,
                               .ctx = w};
    if (status == SL_OK) status = get_all(w, err);
    part_files_close(&w->files);
    store_unlock(&writing);
    return status;
}

/* What turned out to be wrong is not kept: the next time all is asked for anew. */
static void give_up(struct part_run *run, sl_status status)
{
    if (status == SL_CORRUPT)
        store_part_drop(&run->part);
    else
        store_part_close(&run->part);
}

/* What an earlier fetch has left may be enough: then no member is needed, or waited for. */
static sl_status fetch_or_ask(struct work *w, struct sl_err *err)
{
    sl_status status = fetch(w, err);
    if (status != SL_NOT_FOUND || !w->run->n_sources || !*w->run->cert_path) return status;
    sources_init(w);
    return fetch(w, err);
}

sl_status part_run(struct part_run *run, struct sl_err *err)
{
    struct work w = {.run = run};
    run->part = (struct store_part){0};
    if (find_by_name(run) || find_by_digest(run)) return SL_OK;
    if (run->n_sources == 0 && !store_part_exists(run->store, run->digest))
        return sl_err_set(err, SL_NOT_FOUND, "%s: no member of the grid has it", run->name);
    sl_status status = http_client_create(&w.client, err);
    if (status == SL_OK) status = store_part_open(run->store, run->digest, &run->part, err);
    if (status == SL_OK) {
        status = fetch_or_ask(&w, err);
        if (status != SL_OK) give_up(run, status);
    }
    http_client_destroy(w.client);
    if (status != SL_OK) sl_err_prefix(err, "part of %s", run->name);
    return status;
}
