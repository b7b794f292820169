/* dispatch_members.c: the members of the grid: which number the router knows each by, what they
 * report, and how far they are. */
#include "grid/dispatch_int.h"
#include "base/hash.h"
#include "base/mem.h"
#include "grid/peers.h"
#include <stdlib.h>
#include <string.h>

#define REPORT_BYTES_MAX (1u << 20) /* decoded: 64 models, 4,096 blocks, 64 accelerators */
/* Who was not heard of for so long is asked whether it lives, at each tick: several times before it
 * is suspect. Reports come each second, beats every 250 ms from nodes that run something for us. */
#define PROBE_AFTER_NS INT64_C(600000000)
/* Numbers of our pings, so that an answer to one of this machine's agent is not taken for one. */
#define PING_OURS (UINT64_C(1) << 63)
#define PING_PROBE (UINT64_C(1) << 62)
#define ID_SEED UINT64_C(0x6d656d6265727321)

static uint64_t key_of(const char *id)
{
    return sl_hash64(id, strlen(id), ID_SEED);
}

struct dispatch_node *dispatch_node_find(const struct dispatch *dispatch, const char *id)
{
    struct dispatch_node *node = sl_idmap_get(&dispatch->ids, key_of(id));
    return node && !strcmp(node->id, id) ? node : NULL;
}

enum node_health dispatch_node_health(const struct dispatch *dispatch,
                                      const struct dispatch_node *node)
{
    return node ? router_nodes(dispatch->router)->nodes[node->number].health : NODE_DEAD;
}

static const struct grid_node *known(const struct dispatch *dispatch,
                                     const struct dispatch_node *node)
{
    return &router_nodes(dispatch->router)->nodes[node->number];
}

static void hosted_count(struct dispatch *dispatch, const struct dispatch_node *node, int change)
{
    for (size_t i = 0; node->has_report && i < node->report.n_hosted; i++)
        if (node->hosted_models[i] != NODE_NONE)
            dispatch->models[node->hosted_models[i]].n_hosted += (uint32_t)change;
}

static void node_clear(struct dispatch *dispatch, struct dispatch_node *node)
{
    hosted_count(dispatch, node, -1);
    dispatch_cards_forget(dispatch, node);
    sl_arena_done(&node->report_arena);
    sl_arena_done(&node->cards_arena);
    sl_free(node->demands);
    node->demands = NULL;
    node->n_demands = 0;
    node->has_report = false;
}

static void node_forget(struct dispatch *dispatch, struct dispatch_node *node)
{
    node_clear(dispatch, node);
    peers_remove(dispatch->peers, node->id);
    sl_idmap_take(&dispatch->ids, key_of(node->id));
    node->used = false;
}

void dispatch_nodes_done(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        if (dispatch->nodes[i].used) node_clear(dispatch, &dispatch->nodes[i]);
    for (uint32_t i = 0; i < dispatch->n_labels; i++) sl_free(dispatch->labels[i]);
}

/* A place for one more: one that is free, or that of who has been dead for longest. */
static struct dispatch_node *place_find(struct dispatch *dispatch)
{
    struct dispatch_node *oldest = NULL;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        struct dispatch_node *node = &dispatch->nodes[i];
        if (node->n_attempts) continue;
        if (!node->used) return node;
        if (known(dispatch, node)->health == NODE_DEAD &&
            (!oldest || known(dispatch, node)->heard_ns < known(dispatch, oldest)->heard_ns))
            oldest = node;
    }
    if (dispatch->n_nodes < DISPATCH_MEMBERS_MAX) return &dispatch->nodes[dispatch->n_nodes++];
    if (oldest) node_forget(dispatch, oldest);
    return oldest;
}

struct dispatch_node *dispatch_node_of(struct dispatch *dispatch, const char *id)
{
    uint64_t key = key_of(id);
    struct dispatch_node *node = sl_idmap_get(&dispatch->ids, key);
    if (node) return strcmp(node->id, id) == 0 ? node : NULL;
    if (!*id || strlen(id) >= GRID_ID_SIZE) return NULL;
    node = place_find(dispatch);
    if (!node || sl_idmap_put(&dispatch->ids, key, node) != SL_OK) return NULL;
    *node = (struct dispatch_node){.used = true,
                                   .number = (uint32_t)(node - dispatch->nodes),
                                   .epoch = ++dispatch->n_epochs,
                                   .demand_ns = -1};
    strcpy(node->id, id);
    sl_arena_init(&node->report_arena, REPORT_BYTES_MAX);
    /* Without a place there the way to it is not measured, and counts as short. */
    if (strcmp(id, dispatch->self) != 0) (void)!peers_add(dispatch->peers, id);
    return node;
}

void dispatch_member_gone(struct dispatch *dispatch, const char *id)
{
    struct dispatch_node *node = dispatch_node_find(dispatch, id);
    if (!node || node->self) return;
    dispatch_clock(dispatch);
    const struct router_event event = {.kind = ROUTER_NODE_GONE, .node = node->number};
    dispatch_step(dispatch, &event);
    node_forget(dispatch, node);
    dispatch_work(dispatch);
    dispatch_wake(dispatch);
}

/* --- reports --- */

static uint64_t label_bit(struct dispatch *dispatch, const char *label)
{
    for (uint32_t i = 0; i < dispatch->n_labels; i++)
        if (!strcmp(dispatch->labels[i], label)) return UINT64_C(1) << i;
    if (dispatch->n_labels == DISPATCH_LABEL_BITS) return 0;
    char *copy = sl_strdup(label);
    if (!copy) return 0;
    dispatch->labels[dispatch->n_labels] = copy;
    return UINT64_C(1) << dispatch->n_labels++;
}

double dispatch_rtt_s(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    struct peers_stats stats;
    if (node->self || !peers_get(dispatch->peers, node->id, &stats)) return 0;
    return stats.rtt_s > 0 ? stats.rtt_s : 0;
}

static uint64_t covers_of(const struct dispatch *dispatch, const struct grid_report *report)
{
    for (size_t i = 0; i < report->n_covers; i++)
        if (report->covers[i].boot == dispatch->cfg.boot &&
            !strcmp(report->covers[i].gateway, dispatch->self))
            return report->covers[i].sent;
    return 0;
}

static bool load_add(struct hosted_load *loads, uint32_t *n, const struct hosted_load *load,
                     uint32_t model)
{
    for (uint32_t i = 0; i < *n; i++)
        if (loads[i].model == model) return true;
    if (*n == NODE_HOSTED_LIMIT) return false;
    loads[*n] = *load;
    loads[(*n)++].model = model;
    return true;
}

/* What the router is told of: those that are ready first, should there be too many. */
static uint32_t loads_of(const struct dispatch *dispatch, const struct grid_report *report,
                         const uint32_t *models, struct hosted_load *loads)
{
    uint32_t n = 0, n_max = router_nodes(dispatch->router)->config.n_hosted_max;
    for (int ready = 1; ready >= 0; ready--)
        for (size_t i = 0; i < report->n_hosted && n < n_max; i++)
            if ((report->hosted[i].load.state == SCHED_READY) == ready && models[i] != NODE_NONE)
                load_add(loads, &n, &report->hosted[i].load, models[i]);
    return n;
}

/* Placement reckons with whole models: what stages take here for others is no room, and the head of
 * a chain has more room than that leaves. */
static uint64_t memory_of(const struct dispatch *dispatch, const struct grid_report *report,
                          const uint32_t *models)
{
    uint64_t bytes = report->facts.memory_bytes, taken = 0;
    for (size_t i = 0; i < report->n_stages && taken < bytes; i++) taken += report->stages[i].bytes;
    bytes = taken < bytes ? bytes - taken : 0;
    for (size_t i = 0; i < report->n_hosted; i++) {
        if (!report->hosted[i].split || models[i] == NODE_NONE) continue;
        uint64_t whole = dispatch_model_bytes(&dispatch->models[models[i]]);
        if (whole > report->hosted[i].bytes) bytes += whole - report->hosted[i].bytes;
    }
    return bytes < SCHED_BYTES_LIMIT ? bytes : SCHED_BYTES_LIMIT;
}

/* True: the router took it. */
static bool report_step(struct dispatch *dispatch, struct dispatch_node *node, uint64_t epoch,
                        const struct grid_report *report, const uint32_t *models)
{
    struct hosted_load loads[NODE_HOSTED_LIMIT];
    struct node_report news = {.node = node->number,
                               .boot = epoch,
                               .version = report->version,
                               .covers = covers_of(dispatch, report),
                               .facts = report->facts,
                               .hosted = loads,
                               .n_hosted = loads_of(dispatch, report, models, loads),
                               .held = report->held,
                               .dropped = report->dropped,
                               .n_held = (uint32_t)report->n_held,
                               .n_dropped = (uint32_t)report->n_dropped};
    const struct router_event event = {.kind = ROUTER_REPORT, .report = &news};
    news.facts.site = (uint32_t)sl_hash64(report->site, strlen(report->site), ID_SEED);
    news.facts.rtt_s = dispatch_rtt_s(dispatch, node);
    news.facts.memory_bytes = memory_of(dispatch, report, models);
    news.facts.labels = 0;
    for (size_t i = 0; i < report->n_labels; i++)
        news.facts.labels |= label_bit(dispatch, report->labels[i]);
    dispatch_step(dispatch, &event);
    return known(dispatch, node)->boot == epoch &&
           known(dispatch, node)->version == report->version;
}

/* A lower boot is an old word of a process that is gone, unless that has been silent: then the
 * member's clock was set back and it started anew. */
static bool is_news(const struct dispatch *dispatch, const struct dispatch_node *node,
                    const struct grid_report *report)
{
    if (!node->has_report) return true;
    if (report->boot == node->report.boot) return report->version > node->report.version;
    return report->boot > node->report.boot || known(dispatch, node)->health != NODE_ALIVE;
}

static uint32_t *models_of(struct dispatch *dispatch, uint32_t node,
                           const struct grid_report *report, struct sl_arena *arena)
{
    uint32_t *models = sl_arena_array(arena, report->n_hosted + 1, sizeof *models);
    for (size_t i = 0; models && i < report->n_hosted; i++) {
        const char *name = report->hosted[i].name;
        const struct dispatch_model *model =
            dispatch_may_name(dispatch, node, name)
                ? dispatch_model_of(dispatch, name, report->hosted[i].digest)
                : NULL;
        models[i] = model ? model->number : NODE_NONE;
    }
    return models;
}

void dispatch_on_report(struct dispatch *dispatch, struct dispatch_node *node, const void *bytes,
                        size_t n)
{
    struct grid_msg msg;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    sl_arena_init(&arena, REPORT_BYTES_MAX);
    dispatch_models_make_room(dispatch);
    sl_status status = grid_msg_decode(bytes, n, &arena, &msg, &err);
    uint32_t *models = NULL;
    dispatch->stats.n_corrupt += status != SL_OK;
    if (status != SL_OK || !is_news(dispatch, node, &msg.report) ||
        !(models = models_of(dispatch, node->number, &msg.report, &arena))) {
        if (status == SL_OK) dispatch_heard(dispatch, node);
        sl_arena_done(&arena);
        return;
    }
    if (node->standing.duty > msg.report.facts.duty) msg.report.facts.duty = node->standing.duty;
    bool restarted = node->has_report && msg.report.boot != node->report.boot;
    uint64_t epoch = restarted ? ++dispatch->n_epochs : node->epoch;
    if (!report_step(dispatch, node, epoch, &msg.report, models)) {
        sl_arena_done(&arena);
        return;
    }
    hosted_count(dispatch, node, -1);
    sl_arena_done(&node->report_arena);
    node->report_arena = arena;
    node->report = msg.report;
    node->hosted_models = models;
    if (restarted) node->slowdown = node->hop_s = 0;
    node->epoch = epoch;
    node->has_report = true;
    hosted_count(dispatch, node, 1);
    if (!node->has_cards) dispatch_hello(dispatch, node);
    struct router_totals totals;
    router_get_totals(dispatch->router, &totals);
    if (totals.n_pending > 0) dispatch->place_now = true;
}

const char *dispatch_node_name(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    const struct dispatch_cfg *cfg = &dispatch->cfg;
    struct dispatch_standing standing = {.name = NULL};
    if (cfg->standing && cfg->standing(cfg->ctx, node->id, &standing) && standing.name)
        return standing.name;
    return node->has_report ? node->report.name : "";
}

bool dispatch_node_left(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    enum node_health health = known(dispatch, node)->health;
    return node->has_report && node->report.drained &&
           (health == NODE_SUSPECT || health == NODE_DEAD);
}

bool dispatch_gateway_besides(const struct dispatch *dispatch, const char *id)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        struct dispatch_standing standing = {.gateway = true, .duty = NODE_OPEN};
        if (!node->used || !strcmp(node->id, id) || known(dispatch, node)->health != NODE_ALIVE)
            continue;
        bool member = !dispatch->cfg.standing ||
                      dispatch->cfg.standing(dispatch->cfg.ctx, node->id, &standing);
        if (member && standing.gateway && standing.duty != NODE_DRAINING) return true;
    }
    return false;
}

bool dispatch_has_heard(const struct dispatch *dispatch, const char *id)
{
    const struct dispatch_node *node = dispatch_node_find(dispatch, id);
    return node && node->has_report && node->has_cards;
}

/* --- how far, and whether there --- */

void dispatch_heard(struct dispatch *dispatch, const struct dispatch_node *node)
{
    const struct router_event event = {.kind = ROUTER_HEARD, .node = node->number};
    dispatch_step(dispatch, &event);
}

void dispatch_on_pong(struct dispatch *dispatch, struct dispatch_node *node,
                      const struct grid_ping *pong)
{
    dispatch_heard(dispatch, node);
    if ((pong->seq & PING_OURS) && !(pong->seq & PING_PROBE))
        (void)peers_pong(dispatch->peers, node->id, pong->seq & ~PING_OURS, dispatch->real_ns);
}

static void ping(struct dispatch *dispatch, const char *id, uint64_t seq, size_t n_padding)
{
    const struct grid_msg msg = {
        .type = GRID_PING,
        .ping = {.seq = seq | PING_OURS, .sent_ns = dispatch->real_ns, .n_padding = n_padding}};
    dispatch_send(dispatch, "ping", id, &msg);
}

void dispatch_ping_silent(struct dispatch *dispatch)
{
    if (!dispatch->connection) return;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        const struct grid_node *entry = known(dispatch, node);
        if (!node->used || node->self) continue;
        if ((entry->health == NODE_ALIVE || entry->health == NODE_SUSPECT) &&
            dispatch->router_ns - entry->heard_ns >= PROBE_AFTER_NS)
            ping(dispatch, node->id, PING_PROBE, 0);
    }
}

void dispatch_ping_round(struct dispatch *dispatch)
{
    struct peers_ping round[PEERS_ROUND_MAX];
    if (!dispatch->connection) return;
    size_t n = peers_round(dispatch->peers, dispatch->real_ns, round);
    for (size_t i = 0; i < n; i++) ping(dispatch, round[i].id, round[i].seq, round[i].n_padding);
}

size_t dispatch_peers(const struct dispatch *dispatch, struct grid_peer *out, size_t max)
{
    size_t n = 0;
    for (uint32_t i = 0; i < dispatch->n_nodes && n < max; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        struct peers_stats stats;
        if (!node->used || node->self || !peers_get(dispatch->peers, node->id, &stats) ||
            stats.rtt_s < 0)
            continue;
        out[n++] = (struct grid_peer){.id = node->id,
                                      .rtt_s = stats.rtt_s,
                                      .bytes_per_s = stats.bytes_per_s > 0 ? stats.bytes_per_s : 0};
    }
    return n;
}

/* --- views --- */

static struct dispatch_member view(const struct dispatch *dispatch,
                                   const struct dispatch_node *node)
{
    const struct grid_node *entry = known(dispatch, node);
    struct dispatch_member member = {.id = node->id,
                                     .name = "",
                                     .address = "",
                                     .site = "",
                                     .program = "",
                                     .self = node->self,
                                     .gateway = node->self || node->demand_ns >= 0,
                                     .health = entry->health,
                                     .last_seen_ns = -1,
                                     .rtt_s = -1,
                                     .rtt_min_s = -1,
                                     .n_sent = node->n_sent,
                                     .n_refused = node->n_refused,
                                     .n_failed = node->n_failed,
                                     .n_running = node->n_attempts,
                                     .n_moved = node->n_moved};
    struct peers_stats stats;
    if (!node->self && peers_get(dispatch->peers, node->id, &stats)) {
        member.rtt_s = stats.rtt_s;
        member.rtt_min_s = stats.rtt_min_s;
    }
    if (!node->has_report) return member;
    const struct grid_report *report = member.report = &node->report;
    member.name = dispatch_node_name(dispatch, node);
    member.address = report->address;
    member.site = report->site;
    member.program = report->program;
    member.labels = report->labels;
    member.n_labels = report->n_labels;
    member.drained = report->drained;
    member.left = dispatch_node_left(dispatch, node);
    member.last_seen_ns = dispatch->router_ns - entry->heard_ns;
    return member;
}

static int by_id(const void *a, const void *b)
{
    const struct dispatch_node *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

void dispatch_members(struct dispatch *dispatch,
                      void (*fn)(void *ctx, const struct dispatch_member *member), void *ctx)
{
    const struct dispatch_node *sorted[DISPATCH_MEMBERS_MAX];
    size_t n = 0;
    dispatch_clock(dispatch);
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        if (dispatch->nodes[i].used) sorted[n++] = &dispatch->nodes[i];
    qsort(sorted, n, sizeof *sorted, by_id);
    for (size_t i = 0; i < n; i++) {
        struct dispatch_member member = view(dispatch, sorted[i]);
        fn(ctx, &member);
    }
}
