/* node_split.c: a model as stage 0 of a chain: its chain is opened with its worker and goes with
 * it; and the part of the budget that stages for others take. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size_text.h"
#include "exec/llm/kv_cache.h"
#include "grid/node_int.h"
#include "grid/stage_link.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the engine takes where nobody says: llm_engine_cfg's. All stages must be told the same. */
#define CTX_DEFAULT 4096
#define SEQS_DEFAULT 64

/* --- numbers --- */

struct grid_split node_split_resolve(const struct node *node, const struct grid_split *split)
{
    struct grid_split out = *split;
    if (!out.n_ctx) out.n_ctx = node->cfg.n_ctx;
    if (!out.n_seqs) out.n_seqs = node->cfg.n_seqs_max;
    if (!out.n_seqs) out.n_seqs = SEQS_DEFAULT;
    if (out.kv_blocks) return out;
    int64_t n_ctx = out.n_ctx ? out.n_ctx : CTX_DEFAULT;
    int64_t of_one = (n_ctx + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS + 1;
    int64_t most = INT32_MAX / KV_BLOCK_TOKENS, n = of_one * out.n_seqs;
    out.kv_blocks = (int32_t)(n < most ? n : most);
    return out;
}

struct engine_split node_split_engine(const struct grid_split *resolved)
{
    return (struct engine_split){.n_stages = (int32_t)resolved->n_stages,
                                 .first = resolved->stages[0].first,
                                 .last = resolved->stages[0].last,
                                 .kv_blocks = resolved->kv_blocks,
                                 .n_flights = resolved->n_flights,
                                 .link = (enum engine_link_type)resolved->link};
}

/* --- the chain --- */

static void on_progress(void *ctx, double fraction)
{
    struct node_entry *entry = ctx;
    double n = (double)entry->split->n_stages;
    (void)fraction;
    if (!entry->worker) return;
    /* Of its own stage nothing new is known: that part stays as it was told last. */
    double own = entry->load_fraction * n - entry->followers_fraction * (n - 1);
    node_split_loading(entry, own > 0 ? own : 0);
}

void node_split_loading(struct node_entry *entry, double own_fraction)
{
    double n = (double)entry->split->n_stages;
    entry->followers_fraction = entry->chain ? chain_progress(entry->chain) : 0;
    entry->load_fraction = (own_fraction + entry->followers_fraction * (n - 1)) / n;
}

static void on_ready(void *ctx)
{
    node_entry_check_loaded(ctx);
}

/* The worker cannot go on; its exit brings what runs there back to the queue. */
static void break_chain(struct node_entry *entry, const char *reason)
{
    struct sched_model_info info = {0};
    sched_get_model(entry->node->sched, entry->index, &info);
    chain_close(entry->chain);
    entry->chain = NULL;
    if (!entry->worker) return;
    if (info.state == SCHED_STARTING || info.state == SCHED_LOADING) {
        node_entry_refuse(entry, reason); /* KILL follows */
        return;
    }
    if (info.state == SCHED_DRAINING && info.n_running == 0) return; /* it goes anyway */
    snprintf(entry->broken, sizeof entry->broken, "%s", reason);
    worker_kill(entry->worker);
}

static void on_data(void *ctx, int32_t from, const void *bytes, size_t n)
{
    struct node_entry *entry = ctx;
    struct sl_err err = SL_ERR_INIT;
    if (!entry->worker || *entry->broken) return;
    sl_status status = worker_deliver(entry->worker, from, bytes, n, &err);
    if (status == SL_OK || status == SL_UNAVAILABLE) return; /* its exit is on its way */
    break_chain(entry, err.text);
}

static void on_end(void *ctx, const struct sl_err *why)
{
    break_chain(ctx, why->text);
}

static sl_status open_chain(struct node_entry *entry, struct sl_err *err)
{
    static const struct chain_callbacks callbacks = {
        .on_progress = on_progress, .on_ready = on_ready, .on_data = on_data, .on_end = on_end};
    const struct node *node = entry->node;
    const struct grid_split split = node_split_resolve(node, entry->split);
    struct grid_source sources[GRID_SOURCES_MAX];
    if (!node->links)
        return sl_err_set(err, SL_UNSUPPORTED, "this machine has no links to other members");
    /* Not all of these reach one another, and the chain's members may have nothing yet. */
    size_t n = 0;
    for (; entry->sources && n < entry->sources->n; n++)
        sources[n] = (struct grid_source){entry->sources->ids[n], entry->sources->addresses[n]};
    for (size_t i = 0; i < split.n_stages && n < GRID_SOURCES_MAX; i++)
        sources[n++] = (struct grid_source){split.stages[i].member, split.stages[i].address};
    const struct chain_cfg cfg = {.links = node->links,
                                  .model = entry->name,
                                  .digest = entry->digest,
                                  .split = &split,
                                  .kv_type = node->cfg.kv_type,
                                  .sources = sources,
                                  .n_sources = n};
    return chain_open(&cfg, &callbacks, entry, &entry->chain, err);
}

void node_split_open(struct node_entry *entry)
{
    struct sl_err err = SL_ERR_INIT;
    entry->has_hops = false;
    entry->measured_ns = 0;
    if (open_chain(entry, &err) != SL_OK) node_entry_refuse(entry, err.text);
}

static void forget(struct node_entry *entry)
{
    if (entry->part) node_entry_remove(entry); /* it is nothing without its split */
    sl_free(entry->split);
    sl_free(entry->sources);
    entry->split = NULL;
    entry->sources = NULL;
    entry->split_ends = entry->has_hops = false;
}

/* The scheduler charges for what it is now. */
static void tell_reload(struct node_entry *entry)
{
    struct sched_event reload = {.kind = SCHED_RELOAD, .model = entry->index};
    if (!entry->removed && node_entry_estimate(entry, &reload.bytes, NULL) == SL_OK)
        node_step(entry->node, &reload);
}

void node_split_close(struct node_entry *entry)
{
    chain_close(entry->chain);
    entry->chain = NULL;
    entry->broken[0] = '\0';
    entry->followers_fraction = 0;
    if (!entry->split_ends) return;
    forget(entry);
    tell_reload(entry);
}

void node_split_free(struct node_entry *entry)
{
    chain_close(entry->chain);
    sl_free(entry->split);
    sl_free(entry->sources);
}

void node_split_stop(struct node_entry *entry)
{
    if (!entry->split) return;
    entry->split_ends = true;
    if (entry->worker) return;
    forget(entry);
    tell_reload(entry);
}

void node_split_frame(struct node_entry *entry, int32_t to, const void *bytes, size_t n)
{
    if (!entry->chain || *entry->broken) return; /* the last words of one that has to go */
    sl_status status = chain_send(entry->chain, to, bytes, n);
    if (status == SL_INVALID) break_chain(entry, "its worker sent a message that goes nowhere");
}

/* --- measuring --- */

static double link_value_bytes(uint32_t link)
{
    static const double bytes[] = {4, 2, 34.0 / 32};
    return link < sizeof bytes / sizeof *bytes ? bytes[link] : 0;
}

/* Over one link, of steps that were alone under way: others' ways are not told from waiting for
 * those before them. 0: there were none. */
static double way_seconds(const struct engine_stats *stats, const struct engine_stats *before)
{
    double steps = (double)(stats->n_alone_steps - before->n_alone_steps);
    if (stats->n_alone_steps <= before->n_alone_steps) return 0;
    return (double)(stats->alone_ns - before->alone_ns) / 1e9 / steps / stats->n_stages;
}

void node_split_measure(struct node_entry *entry, const struct engine_stats *stats)
{
    int64_t now_ns = sl_now_ns(), span_ns = now_ns - entry->measured_ns;
    const struct engine_stats *before = &entry->measured;
    if (!entry->split || stats->n_stages != (int32_t)entry->split->n_stages) return;
    double steps = (double)(stats->n_hop_steps - before->n_hop_steps);
    double tokens = (double)(stats->n_hop_tokens - before->n_hop_tokens);
    bool usable = entry->measured_ns && stats->n_hop_steps > before->n_hop_steps && span_ns > 0;
    double way_s = way_seconds(stats, before);
    for (int32_t i = 0; usable && i < stats->n_stages; i++) {
        double compute_ns = (double)(stats->hops[i].compute_ns - before->hops[i].compute_ns);
        double wait_ns = (double)(stats->hops[i].wait_ns - before->hops[i].wait_ns);
        double width = i ? entry->info.n_embd * link_value_bytes(entry->split->link) : 4;
        double load = compute_ns / (double)span_ns;
        entry->hops[i] = (struct grid_hop){.compute_s = compute_ns / 1e9 / steps,
                                           .hop_s = way_s > 0         ? way_s
                                                    : entry->has_hops ? entry->hops[i].hop_s
                                                                      : 0,
                                           .wait_s = wait_ns / 1e9 / steps,
                                           .bytes = width * tokens / steps,
                                           .load = load < 1 ? load : 1};
    }
    entry->has_hops = entry->has_hops || usable;
    entry->measured = *stats;
    entry->measured_ns = now_ns;
}

/* --- from the outside --- */

void node_set_links(struct node *node, struct stage_links *links)
{
    if (node->links && node->links != links)
        for (size_t i = 0; i < NODE_MODELS_MAX; i++)
            if (node->entries[i] && node->entries[i]->chain)
                break_chain(node->entries[i], "this machine left the chain");
    node->links = links;
}

struct stage_links *node_links(const struct node *node)
{
    return node->links;
}

static sl_status check_split(const struct node *node, const struct node_entry *entry,
                             const struct grid_split *split, struct sl_err *err)
{
    sl_status status = grid_split_check(split, err);
    if (status != SL_OK) return sl_err_set(err, SL_INVALID, "%s", err ? err->text : "");
    if (!node->links || strcmp(entry->kind, "llm") != 0)
        return sl_err_set(err, SL_UNSUPPORTED, "%s cannot be split%s", entry->name,
                          node->links ? "" : ": this machine has no links to other members");
    if (!*entry->digest)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "%s is given by its path: other members would not know it", entry->name);
    if (!node_part_fits(entry, split))
        return sl_err_set(err, SL_INVALID, "%s: only other layers of it are here", entry->name);
    if (strcmp(split->stages[0].member, stage_links_self(node->links)) != 0)
        return sl_err_set(err, SL_INVALID, "stage 0 is at %s, which is not this member",
                          split->stages[0].member);
    return SL_OK;
}

/* NULL: whole. What runs is brought back to the queue by the worker's exit. */
static sl_status replace(struct node_entry *entry, const struct grid_split *split,
                         struct sl_err *err)
{
    struct grid_split *copy = split ? grid_split_copy(split) : NULL, *old = entry->split;
    struct sched_event reload = {.kind = SCHED_RELOAD, .model = entry->index};
    if (split && !copy) return sl_err_set(err, SL_NOMEM, "split of %s", entry->name);
    entry->split = copy;
    sl_status status = node_entry_estimate(entry, &reload.bytes, err);
    if (status != SL_OK) {
        entry->split = old;
        sl_free(copy);
        return status;
    }
    sl_free(old);
    entry->split_ends = entry->has_hops = false;
    chain_close(entry->chain);
    entry->chain = NULL;
    node_step(entry->node, &reload);
    return SL_OK;
}

static sl_status keep_sources(struct node_entry *entry, const struct grid_sources *sources,
                              struct sl_err *err)
{
    if (!entry->sources) entry->sources = sl_calloc(1, sizeof *entry->sources);
    if (!entry->sources) return sl_err_set(err, SL_NOMEM, "sources of %s", entry->name);
    *entry->sources = *sources;
    return SL_OK;
}

sl_status node_pin_split(struct node *node, const char *model, const struct grid_split *split,
                         const struct grid_sources *sources, struct sl_err *err)
{
    struct node_entry *entry;
    sl_status status = node_entry_of(node, model, true, &entry, err);
    if (status == SL_OK && split) status = check_split(node, entry, split, err);
    if (status == SL_OK && !node_part_fits(entry, split))
        status = sl_err_set(err, SL_UNSUPPORTED, "%s: only some of its layers are here", model);
    if (status == SL_OK && sources && split) status = keep_sources(entry, sources, err);
    if (status != SL_OK) return status;
    if (!grid_split_equal(entry->split, split) || entry->split_ends)
        status = replace(entry, split, err);
    if (status != SL_OK) return status;
    struct sched_event pin = {.kind = SCHED_PIN, .model = entry->index, .pinned = true};
    node_step(node, &pin);
    return SL_OK;
}

/* --- the budget --- */

static void tell_budget(struct node *node)
{
    struct sched_event budget = {.kind = SCHED_SET_BUDGET,
                                 .bytes = node->cfg.memory_bytes - node->charged_bytes};
    node_step(node, &budget);
}

/* Of models that would give way at once. */
static uint64_t idle_bytes(const struct node *node)
{
    struct sched_model_info info;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < NODE_MODELS_MAX; i++)
        if (node->entries[i] && sched_get_model(node->sched, i, &info) &&
            info.state == SCHED_READY && !info.pinned && !info.n_running && !info.n_waiting)
            bytes += info.bytes;
    return bytes;
}

sl_status node_charge(struct node *node, uint64_t bytes, struct sl_err *err)
{
    struct sched_totals totals;
    char needs[SL_SIZE_TEXT_MAX], has[SL_SIZE_TEXT_MAX], all[SL_SIZE_TEXT_MAX];
    sched_get_totals(node->sched, &totals);
    uint64_t used = totals.used_bytes + node->charged_bytes;
    uint64_t kept = used - idle_bytes(node);
    uint64_t available = kept < node->cfg.memory_bytes ? node->cfg.memory_bytes - kept : 0;
    if (bytes > available)
        return sl_err_set(err, SL_NOMEM, "it needs %s of memory, %s of %s are available",
                          sl_size_text(bytes, needs), sl_size_text(available, has),
                          sl_size_text(node->cfg.memory_bytes, all));
    node->charged_bytes += bytes;
    tell_budget(node);
    return SL_OK;
}

void node_uncharge(struct node *node, uint64_t bytes)
{
    node->charged_bytes -= bytes < node->charged_bytes ? bytes : node->charged_bytes;
    tell_budget(node);
}
