#include "grid/stage_host.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec/llm/llm_engine.h"
#include "exec/worker.h"
#include "grid/fetch_part.h"
#include "grid/node.h"
#include "grid/stage_wire.h"
#include "net/loop.h"

#include <stdio.h>
#include <string.h>

#define PROGRESS_STEP 0.01 /* what the head's member hears of */
/* Of the way to READY: the part of the file, where it must be fetched. */
#define FETCH_SHARE 0.8

/* WAITING (for OPEN) -> FETCHING -> LOADING -> READY; any may end. */
enum hosted_state { HOSTED_WAITING, HOSTED_FETCHING, HOSTED_LOADING, HOSTED_READY };

struct hosted {
    struct stage_host *host;
    struct hosted *next;
    enum hosted_state state;
    bool ending; /* the task frees it */
    struct sl_err why;
    char chain[STAGE_CHAIN_SIZE], head[GRID_ID_SIZE], previous_member[GRID_ID_SIZE];
    int32_t stage;
    struct stage_link *control, *previous, *following; /* to the head, from and to neighbours */
    bool follows;                                      /* `following` is open */
    struct sl_arena arena;
    struct stage_open open; /* in the arena; from FETCHING on */
    struct fetch_part *part;
    bool fetched; /* something had to be */
    struct worker *worker;
    bool loaded;
    uint64_t charged;
    double told; /* the fraction that the head knows */
};

struct stage_host {
    struct stage_host_cfg cfg;
    struct hosted *first;
    struct loop_task task;
    struct stage_host_stats stats;
};

static const struct grid_stage *place_of(const struct hosted *h, int32_t stage)
{
    return &h->open.split.stages[stage];
}

static bool is_last(const struct hosted *h)
{
    return (size_t)h->stage == h->open.split.n_stages - 1;
}

/* --- the end --- */

static void destroy(struct hosted *h, const char *reason)
{
    struct stage_host *host = h->host;
    struct hosted **at = &host->first;
    while (*at != h) at = &(*at)->next;
    *at = h->next;
    worker_destroy(h->worker);
    stage_link_close(h->previous, reason);
    stage_link_close(h->following, reason);
    stage_link_close(h->control, reason);
    fetch_part_release(h->part);
    if (h->charged) node_uncharge(host->cfg.node, h->charged);
    sl_arena_done(&h->arena);
    sl_free(h);
    host->stats.n_stages--;
}

/* At the end of the turn, since a worker's callback must not destroy it. */
static void end(struct hosted *h, sl_status status, const char *reason)
{
    if (h->ending) return;
    h->ending = true;
    sl_err_set(&h->why, status, "%s", reason);
    loop_queue_task(h->host->cfg.loop, &h->host->task);
}

static void send_failed(struct hosted *h)
{
    const struct stage_failed failed = {h->why.status, h->why.text};
    struct sl_buf message;
    sl_buf_init(&message, STAGE_MESSAGE_BYTES_MAX);
    /* What cannot be sent ends the link, which the head sees too. */
    if (stage_failed_put(&failed, &message) == SL_OK &&
        stage_link_send(h->control, STAGE_FAILED, message.data, message.len) != SL_OK)
        sl_log(SL_LOG_DEBUG, "stage", "the head cannot be told");
    sl_buf_done(&message);
}

static void say_end(const struct hosted *h)
{
    bool asked = h->why.status == SL_CANCELLED;
    sl_log(asked ? SL_LOG_INFO : SL_LOG_WARN, "stage", "chain %.8s: stage %d ended: %s", h->chain,
           (int)h->stage, h->why.text);
}

static void end_those(void *ctx)
{
    struct stage_host *host = ctx;
    struct hosted *next;
    for (struct hosted *h = host->first; h; h = next) {
        next = h->next;
        if (!h->ending) continue;
        say_end(h);
        if (h->why.status != SL_CANCELLED) send_failed(h);
        destroy(h, NULL);
    }
}

/* --- to the head --- */

static void tell_progress(struct hosted *h, double fraction, uint64_t done, uint64_t total)
{
    const struct stage_progress progress = {fraction, done, total};
    struct sl_buf message;
    if (fraction < h->told + PROGRESS_STEP || fraction > 1) return;
    h->told = fraction;
    sl_buf_init(&message, STAGE_MESSAGE_BYTES_MAX);
    if (stage_progress_put(&progress, &message) != SL_OK ||
        stage_link_send(h->control, STAGE_PROGRESS, message.data, message.len) != SL_OK)
        end(h, SL_UNAVAILABLE, "the head cannot be told how far it is");
    sl_buf_done(&message);
}

static void check_ready(struct hosted *h)
{
    const struct stage_ready ready = {.bytes = h->charged};
    struct sl_buf message;
    if (h->state != HOSTED_LOADING || !h->loaded || (!h->follows && !is_last(h))) return;
    h->state = HOSTED_READY;
    h->host->stats.n_ready++;
    sl_buf_init(&message, STAGE_MESSAGE_BYTES_MAX);
    if (stage_ready_put(&ready, &message) != SL_OK ||
        stage_link_send(h->control, STAGE_READY, message.data, message.len) != SL_OK)
        end(h, SL_UNAVAILABLE, "the head cannot be told that it is ready");
    sl_buf_done(&message);
}

/* --- messages between stages --- */

static void from_worker(void *ctx, int32_t to, const void *bytes, size_t n)
{
    struct hosted *h = ctx;
    struct stage_link *link = to == 0 ? h->control : to == h->stage + 1 ? h->following : NULL;
    if (h->ending) return;
    if (!link || h->state != HOSTED_READY) {
        end(h, SL_INTERNAL, "its worker sent a message that goes nowhere");
        return;
    }
    if (stage_link_send_data(link, to, h->stage, bytes, n) != SL_OK)
        end(h, SL_UNAVAILABLE, "a message cannot be sent on");
}

static void to_worker(struct hosted *h, int32_t to, int32_t from, const void *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    if (h->ending) return;
    if (to != h->stage || h->state != HOSTED_READY) {
        end(h, SL_CORRUPT, "a message for another stage, or before it is ready");
        return;
    }
    sl_status status = worker_deliver(h->worker, from, bytes, n, &err);
    if (status == SL_OK || status == SL_UNAVAILABLE) return; /* its exit tells why */
    end(h, status, err.text);
}

/* --- the worker --- */

static void on_loading(void *ctx, double fraction)
{
    struct hosted *h = ctx;
    double before = h->fetched ? FETCH_SHARE : 0;
    if (!h->ending) tell_progress(h, before + (1 - before) * fraction, 0, 0);
}

/* What it really takes replaces the estimate. When that is more than there is, it stays uncharged:
 * the memory is in use, whatever the books say. */
static void settle_charge(struct hosted *h, uint64_t bytes)
{
    struct node *node = h->host->cfg.node;
    if (bytes < h->charged) {
        node_uncharge(node, h->charged - bytes);
        h->charged = bytes;
    } else if (node_charge(node, bytes - h->charged, NULL) == SL_OK) {
        h->charged = bytes;
    }
}

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    struct hosted *h = ctx;
    if (h->ending) return;
    h->loaded = true;
    settle_charge(h, loaded->weight_bytes + loaded->kv_bytes + loaded->compute_bytes);
    sl_log(SL_LOG_INFO, "stage", "chain %.8s: stage %d of %s: loaded in %.1f s, %.1f MB", h->chain,
           (int)h->stage, h->open.model, (double)loaded->load_ns / 1e9, (double)h->charged / 1e6);
    check_ready(h);
}

static void on_load_failed(void *ctx, sl_status status, const char *message)
{
    end(ctx, status, message);
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    (void)events, (void)n; /* it was asked for nothing */
    end(ctx, SL_INTERNAL, "its worker answers what nobody asked");
}

static void on_log(void *ctx, const char *line)
{
    sl_log(SL_LOG_DEBUG, "worker", "stage of %s: %s", ((struct hosted *)ctx)->open.model, line);
}

static void on_exit_of_worker(void *ctx, const struct worker_exit *how)
{
    struct hosted *h = ctx;
    char reason[STAGE_REASON_MAX];
    if (!h->ending) h->host->stats.n_died++;
    snprintf(reason, sizeof reason, "its worker %s: %.300s", worker_end_name(how->end),
             how->reason);
    end(h, SL_UNAVAILABLE, reason);
}

static struct engine_split split_of(const struct hosted *h)
{
    const struct grid_split *split = &h->open.split;
    return (struct engine_split){.n_stages = (int32_t)split->n_stages,
                                 .stage = h->stage,
                                 .first = place_of(h, h->stage)->first,
                                 .last = place_of(h, h->stage)->last,
                                 .kv_blocks = split->kv_blocks,
                                 .link = (enum engine_link_type)split->link};
}

static sl_status spawn(struct hosted *h, const char *path, struct sl_err *err)
{
    static const struct worker_callbacks callbacks = {
        .on_loading = on_loading,
        .on_loaded = on_loaded,
        .on_load_failed = on_load_failed,
        .on_events = on_events,
        .on_log = on_log,
        .on_frame = from_worker,
        .on_exit = on_exit_of_worker,
    };
    const struct node_cfg *cfg = node_config(h->host->cfg.node);
    const struct grid_split *split = &h->open.split;
    const struct worker_cfg worker = {
        .exe = cfg->worker_binary,
        .watchdog_ms = cfg->watchdog_ms,
        .load = {.engine = {.kind = "llm",
                            .path = path,
                            .n_threads = cfg->n_threads,
                            .n_ctx = split->n_ctx,
                            .n_seqs_max = split->n_seqs,
                            .n_batch = split->n_batch,
                            .gpu_layers = cfg->gpu_layers,
                            .kv_type = h->open.kv_type,
                            .split = split_of(h)},
                 .title = h->open.model},
    };
    return worker_spawn(cfg->loop, &worker, &callbacks, h, &h->worker, err);
}

/* The memory that it will take, off the node's budget. */
static sl_status charge(struct hosted *h, const char *path, struct sl_err *err)
{
    const struct grid_split *split = &h->open.split;
    struct llm_engine_estimate estimate;
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = node_config(h->host->cfg.node)->n_threads;
    cfg.gpu_layers = node_config(h->host->cfg.node)->gpu_layers;
    cfg.n_ctx = split->n_ctx;
    cfg.n_seqs_max = split->n_seqs;
    cfg.n_batch = split->n_batch;
    cfg.kv_type = (enum llm_kv_type)h->open.kv_type;
    cfg.split = split_of(h);
    sl_status status = llm_engine_estimate(path, &cfg, &estimate, err);
    if (status != SL_OK) return status;
    uint64_t bytes = estimate.weight_bytes + estimate.kv_bytes + estimate.compute_bytes;
    status = node_charge(h->host->cfg.node, bytes, err);
    if (status == SL_OK) h->charged = bytes;
    return status;
}

/* --- the file --- */

static void on_fetch_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct hosted *h = ctx;
    if (h->ending || !total) return;
    h->fetched = h->fetched || done < total;
    if (h->fetched) tell_progress(h, FETCH_SHARE * (double)done / (double)total, done, total);
}

static void on_fetched(void *ctx, const char *path, const struct sl_err *why)
{
    struct hosted *h = ctx;
    struct sl_err err = SL_ERR_INIT;
    if (h->ending) return;
    if (!path) {
        end(h, why->status, why->text);
        return;
    }
    h->state = HOSTED_LOADING;
    sl_status status = charge(h, path, &err);
    if (status == SL_NOMEM) h->host->stats.n_refused++;
    if (status == SL_OK) status = spawn(h, path, &err);
    if (status != SL_OK) end(h, status, err.text);
}

static sl_status begin_fetch(struct hosted *h, struct sl_err *err)
{
    const struct grid_stage *place = place_of(h, h->stage);
    struct fetch_source sources[FETCH_SOURCES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < h->open.n_sources && n < FETCH_SOURCES_MAX; i++) {
        const struct grid_source *source = &h->open.sources[i];
        if (!*source->address || !strcmp(source->id, stage_links_self(h->host->cfg.links)))
            continue;
        snprintf(sources[n].id, sizeof sources[n].id, "%s", source->id);
        snprintf(sources[n++].address, sizeof sources->address, "%s", source->address);
    }
    const struct fetch_part_request request = {
        .name = h->open.model,
        .digest = h->open.digest,
        .sources = sources,
        .n_sources = n,
        .range = {.first = place->first, .last = place->last, .heads = is_last(h)}};
    const struct fetch_part_events events = {on_fetch_progress, on_fetched, h};
    return fetch_part_start(h->host->cfg.parts, &request, &events, &h->part, err);
}

/* --- the link to the next stage --- */

static void on_following_open(void *ctx)
{
    struct hosted *h = ctx;
    h->follows = true;
    check_ready(h);
}

static void on_neighbour_frame(void *ctx, enum stage_frame type, const void *payload, size_t n)
{
    (void)type, (void)payload, (void)n;
    end(ctx, SL_CORRUPT, "a neighbour speaks as if it were the head");
}

static void on_following_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    (void)to, (void)from, (void)bytes, (void)n;
    end(ctx, SL_CORRUPT, "a message came against the direction of the chain");
}

static void end_by_neighbour(struct hosted *h, const char *which, const struct sl_err *why)
{
    char reason[STAGE_REASON_MAX];
    snprintf(reason, sizeof reason, "the %s stage is gone: %.300s", which, why->text);
    end(h, SL_UNAVAILABLE, reason);
}

static void on_following_end(void *ctx, const struct sl_err *why)
{
    end_by_neighbour(ctx, "next", why);
}

static sl_status open_following(struct hosted *h, struct sl_err *err)
{
    static const struct stage_link_callbacks callbacks = {.on_open = on_following_open,
                                                          .on_frame = on_neighbour_frame,
                                                          .on_data = on_following_data,
                                                          .on_end = on_following_end};
    const struct grid_stage *next = place_of(h, h->stage + 1);
    struct stage_hello hello = {.role = STAGE_NEXT, .from = h->stage, .to = h->stage + 1};
    memcpy(hello.chain, h->chain, sizeof hello.chain);
    return stage_link_open(h->host->cfg.links, next->member, next->address, &hello, &callbacks, h,
                           &h->following, err);
}

/* --- the link from the stage before --- */

static void on_previous_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    struct hosted *h = ctx;
    if (from != h->stage - 1)
        end(h, SL_CORRUPT, "a message of a stage that is no neighbour");
    else
        to_worker(h, to, from, bytes, n);
}

static void on_previous_end(void *ctx, const struct sl_err *why)
{
    end_by_neighbour(ctx, "previous", why);
}

/* It may come before OPEN tells who it must be. */
static bool is_wrong_neighbour(const struct hosted *h)
{
    return h->previous && h->state != HOSTED_WAITING &&
           strcmp(h->previous_member, place_of(h, h->stage - 1)->member) != 0;
}

static bool accept_previous(struct hosted *h, struct stage_link *link)
{
    static const struct stage_link_callbacks callbacks = {
        .on_frame = on_neighbour_frame, .on_data = on_previous_data, .on_end = on_previous_end};
    struct stage_link_stats stats;
    stage_link_stats(link, &stats);
    stage_link_listen(link, &callbacks, h);
    h->previous = link;
    memcpy(h->previous_member, stats.member, strlen(stats.member) + 1);
    if (is_wrong_neighbour(h)) end(h, SL_DENIED, "another member than the chain's opened a link");
    return true;
}

/* --- the link from the head --- */

static sl_status begin(struct hosted *h, const void *payload, size_t n, struct sl_err *err)
{
    sl_status status = stage_open_get(payload, n, &h->arena, &h->open, err);
    const char *self = stage_links_self(h->host->cfg.links);
    if (status != SL_OK) return status;
    if (h->open.stage != h->stage || strcmp(place_of(h, h->stage)->member, self) != 0 ||
        strcmp(place_of(h, 0)->member, h->head) != 0)
        return sl_err_set(err, SL_CORRUPT, "a chain in which this is not stage %d", (int)h->stage);
    h->state = HOSTED_FETCHING;
    if (is_wrong_neighbour(h))
        return sl_err_set(err, SL_DENIED, "another member than the chain's opened a link");
    status = begin_fetch(h, err);
    if (status == SL_OK && !is_last(h)) status = open_following(h, err);
    return status;
}

static void on_control_frame(void *ctx, enum stage_frame type, const void *payload, size_t n)
{
    struct hosted *h = ctx;
    struct sl_err err = SL_ERR_INIT;
    if (h->ending) return;
    sl_status status = SL_CORRUPT;
    if (type != STAGE_OPEN || h->state != HOSTED_WAITING)
        sl_err_set(&err, status, "the head speaks out of turn");
    else
        status = begin(h, payload, n, &err);
    if (status != SL_OK) end(h, status, err.text);
}

static void on_control_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    struct hosted *h = ctx;
    if (from != 0)
        end(h, SL_CORRUPT, "the head sent a message of another stage");
    else
        to_worker(h, to, from, bytes, n);
}

static void on_control_end(void *ctx, const struct sl_err *why)
{
    struct hosted *h = ctx;
    char reason[STAGE_REASON_MAX];
    snprintf(reason, sizeof reason, "the head: %.400s", why->text);
    end(h, SL_CANCELLED, reason);
}

static struct hosted *find(const struct stage_host *host, const struct stage_hello *hello)
{
    for (struct hosted *h = host->first; h; h = h->next)
        if (!h->ending && h->stage == hello->to && !strcmp(h->chain, hello->chain)) return h;
    return NULL;
}

static sl_status create_hosted(struct stage_host *host, struct stage_link *link,
                               const struct stage_hello *hello, struct sl_err *err)
{
    static const struct stage_link_callbacks callbacks = {
        .on_frame = on_control_frame, .on_data = on_control_data, .on_end = on_control_end};
    struct stage_link_stats stats;
    if (find(host, hello)) return sl_err_set(err, SL_EXISTS, "that stage is here already");
    if (host->stats.n_stages == STAGE_HOST_MAX) {
        host->stats.n_refused++;
        return sl_err_set(err, SL_LIMIT, "this member has %d stages, and takes no more",
                          STAGE_HOST_MAX);
    }
    struct hosted *h = sl_calloc(1, sizeof *h);
    if (!h) return sl_err_set(err, SL_NOMEM, "stage");
    stage_link_stats(link, &stats);
    h->host = host;
    h->control = link;
    h->stage = hello->to;
    memcpy(h->chain, hello->chain, sizeof h->chain);
    snprintf(h->head, sizeof h->head, "%s", stats.member);
    sl_arena_init(&h->arena, STAGE_ARENA_BYTES_MAX);
    stage_link_listen(link, &callbacks, h);
    h->next = host->first;
    host->first = h;
    host->stats.n_stages++;
    host->stats.n_opened++;
    return SL_OK;
}

static bool on_link(void *ctx, struct stage_link *link, const struct stage_hello *hello,
                    struct sl_err *err)
{
    struct stage_host *host = ctx;
    if (hello->role == STAGE_CONTROL) return create_hosted(host, link, hello, err) == SL_OK;
    struct hosted *h = find(host, hello);
    if (h && !h->previous) return accept_previous(h, link);
    sl_err_set(err, SL_NOT_FOUND, "no such stage is here");
    return false;
}

/* --- life --- */

sl_status stage_host_create(const struct stage_host_cfg *cfg, struct stage_host **out,
                            struct sl_err *err)
{
    struct stage_host *host = sl_calloc(1, sizeof *host);
    if (!host) return sl_err_set(err, SL_NOMEM, "host of stages");
    host->cfg = *cfg;
    host->task = (struct loop_task){.fn = end_those, .ctx = host};
    stage_links_accept(cfg->links, on_link, host);
    *out = host;
    return SL_OK;
}

void stage_host_destroy(struct stage_host *host)
{
    if (!host) return;
    stage_links_accept(host->cfg.links, NULL, NULL);
    while (host->first) destroy(host->first, "this member stops");
    loop_cancel_task(host->cfg.loop, &host->task);
    sl_free(host);
}

/* --- queries --- */

static enum sched_model_state state_of(const struct hosted *h)
{
    if (h->state == HOSTED_READY) return SCHED_READY;
    return h->state == HOSTED_LOADING ? SCHED_LOADING : SCHED_STARTING;
}

size_t stage_host_list(const struct stage_host *host, struct grid_stage_hosted *out, size_t max)
{
    size_t n = 0;
    for (const struct hosted *h = host->first; h && n < max; h = h->next) {
        if (h->ending || h->state == HOSTED_WAITING) continue;
        out[n++] = (struct grid_stage_hosted){.chain = h->chain,
                                              .model = h->open.model,
                                              .head = h->head,
                                              .first = place_of(h, h->stage)->first,
                                              .last = place_of(h, h->stage)->last,
                                              .bytes = h->charged,
                                              .state = state_of(h)};
    }
    return n;
}

void stage_host_stats_get(const struct stage_host *host, struct stage_host_stats *out)
{
    *out = host->stats;
    out->bytes = 0;
    for (const struct hosted *h = host->first; h; h = h->next) out->bytes += h->charged;
}
