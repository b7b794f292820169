#include "grid/chain.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/stage_wire.h"
#include "net/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct follower {
    struct chain *chain;
    int32_t stage;
    struct stage_link *link;
    bool open, ready;
    double fraction;
};

struct chain {
    struct stage_links *links;
    struct chain_callbacks callbacks;
    void *ctx;
    char id[STAGE_CHAIN_SIZE];
    char *model, *digest;
    struct grid_split *split; /* a copy */
    int32_t kv_type;
    struct grid_source sources[GRID_SOURCES_MAX]; /* strings in the arena */
    size_t n_sources;
    struct sl_arena arena;
    struct follower followers[GRID_STAGES_MAX]; /* [1] .. [n_stages - 1] */
    bool ready, ended;
    struct sl_err why;
    struct loop_task task; /* tells the end */
};

/* --- the end --- */

static void tell_end(void *ctx)
{
    struct chain *chain = ctx;
    const struct sl_err why = chain->why;
    chain->callbacks.on_end(chain->ctx, &why);
}

/* `which` is named before the reason. */
static void end(struct chain *chain, const struct follower *which, sl_status status,
                const char *reason)
{
    if (chain->ended) return;
    chain->ended = true;
    chain->ready = false;
    sl_err_set(&chain->why, status, "stage %d at %s: %s", (int)which->stage,
               chain->split->stages[which->stage].member, reason);
    loop_queue_task(stage_links_loop(chain->links), &chain->task);
}

/* --- opening --- */

static bool all_are(const struct chain *chain, size_t offset)
{
    for (size_t i = 1; i < chain->split->n_stages; i++)
        if (!*(const bool *)((const char *)&chain->followers[i] + offset)) return false;
    return true;
}

static void send_open(struct chain *chain, struct follower *to)
{
    const struct stage_open open = {.model = chain->model,
                                    .digest = chain->digest,
                                    .stage = to->stage,
                                    .split = *chain->split,
                                    .kv_type = chain->kv_type,
                                    .sources = chain->sources,
                                    .n_sources = chain->n_sources};
    struct sl_buf message;
    sl_buf_init(&message, STAGE_MESSAGE_BYTES_MAX);
    sl_status status = stage_open_put(&open, &message);
    if (status == SL_OK) status = stage_link_send(to->link, STAGE_OPEN, message.data, message.len);
    if (status != SL_OK) end(chain, to, status, "it cannot be told what to load");
    sl_buf_done(&message);
}

/* Not before all are there: a stage opens a link to the next one, which must know the chain. */
static void on_link_open(void *ctx)
{
    struct follower *follower = ctx;
    struct chain *chain = follower->chain;
    follower->open = true;
    if (chain->ended || !all_are(chain, offsetof(struct follower, open))) return;
    for (size_t i = 1; i < chain->split->n_stages; i++) send_open(chain, &chain->followers[i]);
}

/* --- what followers say --- */

static void on_progress(struct follower *follower, const struct stage_progress *progress)
{
    struct chain *chain = follower->chain;
    follower->fraction = progress->fraction;
    if (chain->callbacks.on_progress)
        chain->callbacks.on_progress(chain->ctx, chain_progress(chain));
}

static void on_ready(struct follower *follower)
{
    struct chain *chain = follower->chain;
    follower->ready = true;
    follower->fraction = 1;
    if (chain->ready || !all_are(chain, offsetof(struct follower, ready))) return;
    chain->ready = true;
    sl_log(SL_LOG_INFO, "chain", "chain %.8s of %s: %zu stages are ready", chain->id, chain->model,
           chain->split->n_stages);
    chain->callbacks.on_ready(chain->ctx);
}

static sl_status on_failed(struct follower *follower, const void *payload, size_t n,
                           struct sl_err *err)
{
    struct stage_failed failed;
    struct sl_arena arena;
    sl_arena_init(&arena, STAGE_ARENA_BYTES_MAX);
    sl_status status = stage_failed_get(payload, n, &arena, &failed, err);
    if (status == SL_OK) end(follower->chain, follower, failed.status, failed.reason);
    sl_arena_done(&arena);
    return status;
}

static void on_frame(void *ctx, enum stage_frame type, const void *payload, size_t n)
{
    struct follower *follower = ctx;
    struct stage_progress progress;
    struct stage_ready ready;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = SL_CORRUPT;
    if (follower->chain->ended) return;
    if (type == STAGE_PROGRESS) {
        status = stage_progress_get(payload, n, &progress, &err);
        if (status == SL_OK) on_progress(follower, &progress);
    } else if (type == STAGE_READY) {
        status = stage_ready_get(payload, n, &ready, &err);
        if (status == SL_OK) on_ready(follower);
    } else if (type == STAGE_FAILED) {
        status = on_failed(follower, payload, n, &err);
    } else {
        sl_err_set(&err, status, "it speaks as if it were the head");
    }
    if (status != SL_OK) end(follower->chain, follower, status, err.text);
}

static void on_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    struct follower *follower = ctx;
    struct chain *chain = follower->chain;
    if (chain->ended) return;
    if (to != 0 || from != follower->stage || !chain->ready)
        end(chain, follower, SL_CORRUPT, "a message for another stage, or before all are ready");
    else
        chain->callbacks.on_data(chain->ctx, from, bytes, n);
}

static void on_link_end(void *ctx, const struct sl_err *why)
{
    struct follower *follower = ctx;
    end(follower->chain, follower, SL_UNAVAILABLE, why->text);
}

/* --- life --- */

static sl_status check(const struct chain_cfg *cfg, struct sl_err *err)
{
    if (grid_split_check(cfg->split, err) != SL_OK) {
        if (err) err->status = SL_INVALID;
        return SL_INVALID;
    }
    if (strcmp(cfg->split->stages[0].member, stage_links_self(cfg->links)) != 0)
        return sl_err_set(err, SL_INVALID, "stage 0 is at %s, which is not this member",
                          cfg->split->stages[0].member);
    return SL_OK;
}

static sl_status name_it(char id[STAGE_CHAIN_SIZE], struct sl_err *err)
{
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return sl_err_errno(err, errno, "a chain's id");
    snprintf(id, STAGE_CHAIN_SIZE, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    return SL_OK;
}

static bool keep_sources(struct chain *chain, const struct chain_cfg *cfg)
{
    bool ok = true;
    for (size_t i = 0; i < cfg->n_sources && i < GRID_SOURCES_MAX; i++) {
        const struct grid_source *source = &cfg->sources[i];
        chain->sources[i] = (struct grid_source){
            sl_arena_strndup(&chain->arena, source->id, strlen(source->id)),
            sl_arena_strndup(&chain->arena, source->address, strlen(source->address))};
        ok = ok && chain->sources[i].id && chain->sources[i].address;
        chain->n_sources = i + 1;
    }
    return ok;
}

static sl_status open_links(struct chain *chain, struct sl_err *err)
{
    static const struct stage_link_callbacks callbacks = {
        .on_open = on_link_open, .on_frame = on_frame, .on_data = on_data, .on_end = on_link_end};
    sl_status status = SL_OK;
    for (size_t i = 1; i < chain->split->n_stages && status == SL_OK; i++) {
        const struct grid_stage *place = &chain->split->stages[i];
        struct follower *follower = &chain->followers[i];
        struct stage_hello hello = {.role = STAGE_CONTROL, .from = 0, .to = (int32_t)i};
        memcpy(hello.chain, chain->id, sizeof hello.chain);
        *follower = (struct follower){.chain = chain, .stage = (int32_t)i};
        status = stage_link_open(chain->links, place->member, place->address, &hello, &callbacks,
                                 follower, &follower->link, err);
        if (status != SL_OK) sl_err_prefix(err, "stage %zu", i);
    }
    return status;
}

sl_status chain_open(const struct chain_cfg *cfg, const struct chain_callbacks *callbacks,
                     void *ctx, struct chain **out, struct sl_err *err)
{
    sl_status status = check(cfg, err);
    if (status != SL_OK) return status;
    struct chain *chain = sl_calloc(1, sizeof *chain);
    if (!chain) return sl_err_set(err, SL_NOMEM, "chain");
    chain->links = cfg->links;
    chain->callbacks = *callbacks;
    chain->ctx = ctx;
    chain->kv_type = cfg->kv_type;
    chain->task = (struct loop_task){.fn = tell_end, .ctx = chain};
    sl_arena_init(&chain->arena, STAGE_ARENA_BYTES_MAX);
    chain->model = sl_strdup(cfg->model);
    chain->digest = sl_strdup(cfg->digest);
    chain->split = grid_split_copy(cfg->split);
    if (!chain->model || !chain->digest || !chain->split || !keep_sources(chain, cfg))
        status = sl_err_set(err, SL_NOMEM, "chain");
    if (status == SL_OK) status = name_it(chain->id, err);
    if (status == SL_OK) status = open_links(chain, err);
    if (status != SL_OK) {
        chain_close(chain);
        return status;
    }
    *out = chain;
    return SL_OK;
}

void chain_close(struct chain *chain)
{
    if (!chain) return;
    for (size_t i = 1; i < GRID_STAGES_MAX; i++) stage_link_close(chain->followers[i].link, NULL);
    loop_cancel_task(stage_links_loop(chain->links), &chain->task);
    sl_arena_done(&chain->arena);
    sl_free(chain->model);
    sl_free(chain->digest);
    sl_free(chain->split);
    sl_free(chain);
}

sl_status chain_send(struct chain *chain, int32_t to, const void *bytes, size_t n)
{
    if (to != 1) return SL_INVALID;
    if (!chain->ready) return SL_UNAVAILABLE;
    /* What cannot be sent ends the link, and so the chain. */
    return stage_link_send_data(chain->followers[1].link, to, 0, bytes, n);
}

bool chain_is_ready(const struct chain *chain)
{
    return chain->ready;
}

double chain_progress(const struct chain *chain)
{
    double sum = 0;
    for (size_t i = 1; i < chain->split->n_stages; i++) sum += chain->followers[i].fraction;
    return sum / (double)(chain->split->n_stages - 1);
}
