#include "grid/fetch.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/pull.h"
#include "grid/store_name.h"
#include "net/http_client.h"
#include "net/loop.h"
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PEER_RETRIES 2 /* then the next member: it is sooner there than this one back */
#define PEER_STALL_S 10
#define DISTANCE_TIMEOUT_MS 1000 /* who is slower to connect is far away */
#define SPEED_NS INT64_C(1000000000)

struct fetch_job {
    struct fetch *fetch;
    struct fetch_job *next;
    char name[STORE_NAME_SIZE];
    char digest[STORE_DIGEST_SIZE];
    struct fetch_source sources[FETCH_SOURCES_MAX];
    size_t n_sources;
    atomic_bool cancel;
    /* the thread's, until it posts the end */
    sl_status status;
    struct sl_err err;
    bool from_origin;
    int64_t speed_at_ns;
    uint64_t speed_at_bytes;
    /* told by the thread */
    pthread_mutex_t lock;
    char from[GRID_ID_SIZE];
    bool running;
    uint64_t done, total, resumed, bytes_per_s;
};

struct fetch {
    struct fetch_cfg cfg;
    char ca_path[PATH_MAX], cert_path[PATH_MAX], key_path[PATH_MAX];
    struct sl_pool *pool;
    struct fetch_job *jobs; /* in the order they were started */
    size_t n_jobs;
    struct fetch_stats stats;
};

/* --- on a thread --- */

static void on_progress(void *ctx, const struct pull_progress *progress)
{
    struct fetch_job *job = ctx;
    int64_t now = sl_now_ns();
    if (progress->phase != PULL_DOWNLOADING) return;
    pthread_mutex_lock(&job->lock);
    job->done = progress->done;
    job->total = progress->total;
    if (!job->speed_at_ns || job->done < job->speed_at_bytes) {
        job->speed_at_ns = now;
        job->speed_at_bytes = job->done;
    } else if (now - job->speed_at_ns >= SPEED_NS) {
        double seconds = (double)(now - job->speed_at_ns) / 1e9;
        job->bytes_per_s = (uint64_t)((double)(job->done - job->speed_at_bytes) / seconds);
        job->speed_at_ns = now;
        job->speed_at_bytes = job->done;
    }
    pthread_mutex_unlock(&job->lock);
}

static void tell_source(struct fetch_job *job, const char *from)
{
    pthread_mutex_lock(&job->lock);
    snprintf(job->from, sizeof job->from, "%s", from);
    job->running = true;
    pthread_mutex_unlock(&job->lock);
}

static void request_init(struct fetch_job *job, struct pull_request *request)
{
    pull_request_init(request);
    request->name = job->name;
    request->progress = on_progress;
    request->ctx = job;
    request->cancel = &job->cancel;
}

static sl_status pull_from_member(struct fetch_job *job, const struct fetch_source *source)
{
    const struct fetch *fetch = job->fetch;
    char base[GRID_ADDRESS_SIZE + 16];
    struct pull_request request;
    struct http_trust trust = {.root_path = fetch->ca_path,
                               .cert_path = fetch->cert_path,
                               .key_path = fetch->key_path,
                               .member_id = source->id};
    struct pull_peer peer = {.base = base, .trust = &trust, .digest = job->digest};
    snprintf(base, sizeof base, "https://%s", source->address);
    request_init(job, &request);
    request.peer = &peer;
    request.n_retries = PEER_RETRIES;
    request.stall_s = PEER_STALL_S;
    tell_source(job, source->id);
    job->err = (struct sl_err)SL_ERR_INIT;
    sl_status status = pull_run(fetch->cfg.store, &request, &job->err);
    if (status != SL_OK) sl_err_prefix(&job->err, "from %s", source->id);
    return status;
}

/* Another source would meet with the same. */
static bool is_ours(sl_status status)
{
    return status == SL_OK || status == SL_CANCELLED || status == SL_LIMIT || status == SL_NOMEM ||
           status == SL_IO || status == SL_INVALID;
}

static sl_status pull_from_origin(struct fetch_job *job)
{
    struct pull_request request;
    struct store_model model = {0};
    request_init(job, &request);
    tell_source(job, "origin");
    job->from_origin = true;
    job->err = (struct sl_err)SL_ERR_INIT;
    sl_status status = pull_run(job->fetch->cfg.store, &request, &job->err);
    if (status != SL_OK || !*job->digest) return status;
    status = store_find(job->fetch->cfg.store, job->name, &model, &job->err);
    if (status == SL_OK && strcmp(model.digest, job->digest) != 0)
        status = sl_err_set(&job->err, SL_NOT_FOUND,
                            "%s means another model at its source by now: %.12s, wanted %.12s",
                            job->name, model.digest, job->digest);
    store_model_done(&model);
    return status;
}

/* A bare name may be that of a private model, which is nobody's business outside while members
 * have it. */
static bool may_ask_origin(const struct fetch_job *job)
{
    struct store_name name;
    if (job->fetch->cfg.no_origin || store_name_parse(job->name, &name, NULL) != SL_OK)
        return false;
    return !job->n_sources || name.source == STORE_HF || name.source == STORE_URL;
}

static void on_end(void *arg);

static void run(void *arg)
{
    struct fetch_job *job = arg;
    static const struct timespec SOON = {.tv_nsec = 1000000};
    job->status = sl_err_set(&job->err, SL_NOT_FOUND, "no member of the grid has it");
    fetch_sort_by_distance(job->sources, job->n_sources, DISTANCE_TIMEOUT_MS);
    for (size_t i = 0; i < job->n_sources && !is_ours(job->status); i++)
        job->status = atomic_load(&job->cancel) ? sl_err_set(&job->err, SL_CANCELLED, "stopped")
                                                : pull_from_member(job, &job->sources[i]);
    if (!is_ours(job->status) && may_ask_origin(job)) job->status = pull_from_origin(job);
    while (loop_post(job->fetch->cfg.loop, on_end, job) == SL_BUSY) nanosleep(&SOON, NULL);
}

/* --- on the loop --- */

static void job_free(struct fetch_job *job)
{
    pthread_mutex_destroy(&job->lock);
    sl_free(job);
}

static void unlink_job(struct fetch_job *job)
{
    struct fetch_job **at = &job->fetch->jobs;
    while (*at != job) at = &(*at)->next;
    *at = job->next;
    job->fetch->n_jobs--;
}

static void on_end(void *arg)
{
    struct fetch_job *job = arg;
    struct fetch *fetch = job->fetch;
    bool ok = job->status == SL_OK;
    unlink_job(job);
    if (ok) {
        fetch->stats.n_done++;
        fetch->stats.bytes += job->done;
        if (job->from_origin)
            fetch->stats.n_from_origin++;
        else
            fetch->stats.n_from_members++;
    } else {
        fetch->stats.n_failed++;
    }
    job->err.status = job->status;
    fetch->cfg.on_done(fetch->cfg.ctx, job->name, ok ? NULL : &job->err);
    job_free(job);
}

static struct fetch_job *find(struct fetch *fetch, const char *name)
{
    struct fetch_job *job = fetch->jobs;
    while (job && strcmp(job->name, name) != 0) job = job->next;
    return job;
}

static sl_status job_create(struct fetch *fetch, const char *name, const char *digest,
                            struct fetch_job **out, struct sl_err *err)
{
    if (strlen(name) >= STORE_NAME_SIZE || strlen(digest) >= STORE_DIGEST_SIZE)
        return sl_err_set(err, SL_INVALID, "no name or digest is so long");
    struct fetch_job *job = sl_calloc(1, sizeof *job);
    if (!job) return sl_err_set(err, SL_NOMEM, "fetch");
    job->fetch = fetch;
    job->err = (struct sl_err)SL_ERR_INIT;
    snprintf(job->name, sizeof job->name, "%s", name);
    snprintf(job->digest, sizeof job->digest, "%s", digest);
    atomic_init(&job->cancel, false);
    if (pthread_mutex_init(&job->lock, NULL) != 0) {
        sl_free(job);
        return sl_err_set(err, SL_NOMEM, "fetch");
    }
    *out = job;
    return SL_OK;
}

static void append(struct fetch *fetch, struct fetch_job *job)
{
    struct fetch_job **at = &fetch->jobs;
    while (*at) at = &(*at)->next;
    *at = job;
    fetch->n_jobs++;
}

sl_status fetch_start(struct fetch *fetch, const char *name, const char *digest,
                      const struct fetch_source *sources, size_t n_sources, struct sl_err *err)
{
    struct fetch_job *job = NULL;
    struct store_name parts;
    if (find(fetch, name)) return SL_OK;
    if (fetch->n_jobs >= FETCH_WAITING_MAX)
        return sl_err_set(err, SL_BUSY, "%d models are being fetched already", FETCH_WAITING_MAX);
    sl_status status = store_name_parse(name, &parts, err);
    if (status == SL_OK) status = job_create(fetch, name, digest, &job, err);
    if (status != SL_OK) return status;
    if (*fetch->cfg.cert_path)
        job->n_sources = n_sources < FETCH_SOURCES_MAX ? n_sources : FETCH_SOURCES_MAX;
    if (job->n_sources) memcpy(job->sources, sources, job->n_sources * sizeof *sources);
    append(fetch, job);
    status = sl_pool_submit(fetch->pool, run, job);
    if (status == SL_OK) return SL_OK;
    unlink_job(job);
    job_free(job);
    return sl_err_set(err, status, "fetch: %s", sl_status_text(status));
}

void fetch_cancel(struct fetch *fetch, const char *name)
{
    struct fetch_job *job = find(fetch, name);
    if (job) atomic_store(&job->cancel, true);
}

void fetch_each(struct fetch *fetch, void (*fn)(void *ctx, const struct fetch_progress *progress),
                void *ctx)
{
    for (struct fetch_job *job = fetch->jobs; job; job = job->next) {
        char from[GRID_ID_SIZE];
        pthread_mutex_lock(&job->lock);
        struct fetch_progress progress = {.name = job->name,
                                          .from = from,
                                          .done = job->done,
                                          .total = job->total,
                                          .bytes_per_s = job->bytes_per_s,
                                          .running = job->running};
        memcpy(from, job->from, sizeof from);
        pthread_mutex_unlock(&job->lock);
        fn(ctx, &progress);
    }
}

void fetch_stats_get(const struct fetch *fetch, struct fetch_stats *out)
{
    *out = fetch->stats;
}

sl_status fetch_create(const struct fetch_cfg *cfg, struct fetch **out, struct sl_err *err)
{
    struct fetch *fetch = sl_calloc(1, sizeof *fetch);
    if (!fetch) return sl_err_set(err, SL_NOMEM, "fetch");
    fetch->cfg = *cfg;
    snprintf(fetch->ca_path, sizeof fetch->ca_path, "%s", cfg->ca_path ? cfg->ca_path : "");
    snprintf(fetch->cert_path, sizeof fetch->cert_path, "%s", cfg->cert_path ? cfg->cert_path : "");
    snprintf(fetch->key_path, sizeof fetch->key_path, "%s", cfg->key_path ? cfg->key_path : "");
    fetch->cfg.ca_path = fetch->ca_path;
    fetch->cfg.cert_path = fetch->cert_path;
    fetch->cfg.key_path = fetch->key_path;
    sl_status status = sl_pool_create(FETCH_THREADS, FETCH_WAITING_MAX, &fetch->pool);
    if (status != SL_OK) {
        sl_free(fetch);
        return sl_err_set(err, status, "threads that fetch models");
    }
    *out = fetch;
    return SL_OK;
}

void fetch_destroy(struct fetch *fetch)
{
    if (!fetch) return;
    for (struct fetch_job *job = fetch->jobs; job; job = job->next)
        atomic_store(&job->cancel, true);
    sl_pool_destroy(fetch->pool);
    while (fetch->jobs) {
        struct fetch_job *job = fetch->jobs;
        loop_cancel_posts(fetch->cfg.loop, job);
        unlink_job(job);
        job_free(job);
    }
    sl_free(fetch);
}
