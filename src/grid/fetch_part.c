#include "grid/fetch_part.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/part_run.h"
#include "grid/store_name.h"
#include "net/loop.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct fetch_part {
    struct fetch_parts *parts;
    struct fetch_part *next, *previous;
    struct fetch_part_events events;
    char name[STORE_NAME_SIZE];
    char digest[STORE_DIGEST_SIZE];
    struct fetch_source sources[FETCH_SOURCES_MAX];
    atomic_bool cancel;
    bool working;  /* the thread has it, or its end is posted */
    bool released; /* while it was working: no callback, and its end frees it */
    /* the thread's, until it posts the end */
    struct part_run run;
    sl_status status;
    struct sl_err err;
    /* told by the thread */
    pthread_mutex_t lock;
    bool progress_posted;
    uint64_t done, total;
};

struct fetch_parts {
    struct fetch_parts_cfg cfg;
    char ca_path[PATH_MAX], cert_path[PATH_MAX], key_path[PATH_MAX];
    struct sl_pool *pool;
    struct fetch_part *list;
    size_t n;
    struct fetch_part_stats stats;
};

/* --- on a thread --- */

static void on_progress(void *arg);
static void on_end(void *arg);

/* One post at a time tells the latest numbers; a loop that has no room is told the next time. */
static void tell_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct fetch_part *part = ctx;
    pthread_mutex_lock(&part->lock);
    part->done = done;
    part->total = total;
    if (!part->progress_posted)
        part->progress_posted = loop_post(part->parts->cfg.loop, on_progress, part) == SL_OK;
    pthread_mutex_unlock(&part->lock);
}

static void run(void *arg)
{
    struct fetch_part *part = arg;
    static const struct timespec SOON = {.tv_nsec = 1000000};
    part->status = atomic_load(&part->cancel) ? sl_err_set(&part->err, SL_CANCELLED, "stopped")
                                              : part_run(&part->run, &part->err);
    while (loop_post(part->parts->cfg.loop, on_end, part) == SL_BUSY) nanosleep(&SOON, NULL);
}

/* --- on the loop --- */

static void on_progress(void *arg)
{
    struct fetch_part *part = arg;
    pthread_mutex_lock(&part->lock);
    uint64_t done = part->done, total = part->total;
    part->progress_posted = false;
    pthread_mutex_unlock(&part->lock);
    if (!part->released && part->events.on_progress)
        part->events.on_progress(part->events.ctx, done, total);
}

static void part_free(struct fetch_part *part)
{
    struct fetch_parts *parts = part->parts;
    if (part->previous)
        part->previous->next = part->next;
    else
        parts->list = part->next;
    if (part->next) part->next->previous = part->previous;
    parts->n--;
    loop_cancel_posts(parts->cfg.loop, part);
    store_part_close(&part->run.part);
    pthread_mutex_destroy(&part->lock);
    sl_free(part);
}

static void on_end(void *arg)
{
    struct fetch_part *part = arg;
    struct fetch_part_stats *stats = &part->parts->stats;
    bool ok = part->status == SL_OK;
    part->working = false;
    stats->n_done += ok;
    stats->n_failed += !ok && part->status != SL_CANCELLED;
    stats->bytes += part->run.n_bytes;
    stats->n_bad_chunks += part->run.n_bad_chunks;
    if (part->released) {
        part_free(part);
        return;
    }
    struct sl_err why = part->err; /* which outlives the part, should that be released within */
    why.status = part->status;
    part->events.on_done(part->events.ctx, ok ? part->run.path : NULL, ok ? NULL : &why);
}

static sl_status check(const struct fetch_part_request *request, struct sl_err *err)
{
    struct store_name name;
    char digest[STORE_DIGEST_SIZE];
    const struct llm_range *range = &request->range;
    if (strlen(request->name) >= STORE_NAME_SIZE || !store_digest_parse(request->digest, digest))
        return sl_err_set(err, SL_INVALID, "a part is of a model with a name and a digest");
    if (range->first < 0 || range->last <= range->first)
        return sl_err_set(err, SL_INVALID, "layers %d to %d", range->first, range->last);
    return store_name_parse(request->name, &name, err);
}

static void run_init(struct fetch_part *part, const struct fetch_part_request *request)
{
    const struct fetch_parts *parts = part->parts;
    size_t n = request->n_sources < FETCH_SOURCES_MAX ? request->n_sources : FETCH_SOURCES_MAX;
    if (n) memcpy(part->sources, request->sources, n * sizeof *part->sources);
    part->run = (struct part_run){.store = parts->cfg.store,
                                  .name = part->name,
                                  .digest = part->digest,
                                  .sources = part->sources,
                                  .n_sources = n,
                                  .range = request->range,
                                  .ca_path = parts->ca_path,
                                  .cert_path = parts->cert_path,
                                  .key_path = parts->key_path,
                                  .cancel = &part->cancel,
                                  .progress = tell_progress,
                                  .ctx = part};
}

static sl_status part_create(struct fetch_parts *parts, const struct fetch_part_request *request,
                             const struct fetch_part_events *events, struct fetch_part **out,
                             struct sl_err *err)
{
    struct fetch_part *part = sl_calloc(1, sizeof *part);
    if (!part) return sl_err_set(err, SL_NOMEM, "fetch of a part");
    if (pthread_mutex_init(&part->lock, NULL) != 0) {
        sl_free(part);
        return sl_err_set(err, SL_NOMEM, "fetch of a part");
    }
    part->parts = parts;
    part->events = *events;
    part->err = (struct sl_err)SL_ERR_INIT;
    atomic_init(&part->cancel, false);
    snprintf(part->name, sizeof part->name, "%s", request->name);
    (void)store_digest_parse(request->digest, part->digest);
    run_init(part, request);
    part->next = parts->list;
    if (part->next) part->next->previous = part;
    parts->list = part;
    parts->n++;
    *out = part;
    return SL_OK;
}

sl_status fetch_part_start(struct fetch_parts *parts, const struct fetch_part_request *request,
                           const struct fetch_part_events *events, struct fetch_part **out,
                           struct sl_err *err)
{
    struct fetch_part *part = NULL;
    sl_status status = check(request, err);
    if (status != SL_OK) return status;
    if (parts->n >= FETCH_PARTS_MAX)
        return sl_err_set(err, SL_BUSY, "%d parts of models are in use already", FETCH_PARTS_MAX);
    status = part_create(parts, request, events, &part, err);
    if (status != SL_OK) return status;
    status = sl_pool_submit(parts->pool, run, part);
    if (status != SL_OK) {
        part_free(part);
        return sl_err_set(err, status, "fetch of a part: %s", sl_status_text(status));
    }
    part->working = true;
    *out = part;
    return SL_OK;
}

void fetch_part_release(struct fetch_part *part)
{
    if (!part) return;
    if (part->working) {
        atomic_store(&part->cancel, true);
        part->released = true;
    } else {
        part_free(part);
    }
}

sl_status fetch_part_model(const struct fetch_part *part, struct store_model *out,
                           struct sl_err *err)
{
    const struct store_part *files = &part->run.part;
    if (!*files->dir) return sl_err_set(err, SL_NOT_FOUND, "%s: nothing is kept of it", part->name);
    sl_status status = store_part_read_manifest(files, part->name, part->digest, out, err);
    if (status == SL_OK) memcpy(out->path, part->run.path, sizeof out->path);
    return status;
}

void fetch_part_stats_get(const struct fetch_parts *parts, struct fetch_part_stats *out)
{
    *out = parts->stats;
}

sl_status fetch_parts_create(const struct fetch_parts_cfg *cfg, struct fetch_parts **out,
                             struct sl_err *err)
{
    struct fetch_parts *parts = sl_calloc(1, sizeof *parts);
    if (!parts) return sl_err_set(err, SL_NOMEM, "fetch of parts");
    parts->cfg = *cfg;
    snprintf(parts->ca_path, sizeof parts->ca_path, "%s", cfg->ca_path ? cfg->ca_path : "");
    snprintf(parts->cert_path, sizeof parts->cert_path, "%s", cfg->cert_path ? cfg->cert_path : "");
    snprintf(parts->key_path, sizeof parts->key_path, "%s", cfg->key_path ? cfg->key_path : "");
    sl_status status = sl_pool_create(FETCH_PART_THREADS, FETCH_PARTS_MAX, &parts->pool);
    if (status != SL_OK) {
        sl_free(parts);
        return sl_err_set(err, status, "threads that fetch parts of models");
    }
    *out = parts;
    return SL_OK;
}

void fetch_parts_destroy(struct fetch_parts *parts)
{
    if (!parts) return;
    for (struct fetch_part *part = parts->list; part; part = part->next)
        atomic_store(&part->cancel, true);
    sl_pool_destroy(parts->pool);
    while (parts->list) part_free(parts->list);
    sl_free(parts);
}
