/* service_grid.c: who of the grid's parts needs whom. */
#include "cli/service_grid.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "grid/agent.h"
#include "grid/blobs.h"
#include "grid/calibrate.h"
#include "grid/dispatch.h"
#include "grid/fetch.h"
#include "grid/fetch_part.h"
#include "grid/grid_port.h"
#include "grid/head_part.h"
#include "grid/identity.h"
#include "grid/node.h"
#include "grid/probe.h"
#include "grid/stage_host.h"
#include "grid/stage_link.h"
#include "grid/telemetry_sampler.h"
#include "net/loop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAVE_LOOK_NS INT64_C(1000000000) /* as often as members report */
/* It takes some seconds of all cores at low priority, once a machine. */
#define CALIBRATE_AFTER_NS INT64_C(20000000000)

struct service_grid {
    struct service_grid_cfg cfg;
    struct service_grid_parts parts;
    struct membership *membership;
    struct blobs *blobs; /* what others get of this store */
    struct fetch *fetch; /* what this store gets from others */
    struct fetch_parts *fetch_parts;
    struct head_parts *heads;      /* first stages, whose files are not here */
    struct probes *probes;         /* of the ways to other members */
    struct calibrator *calibrator; /* how fast this machine computes */
    struct stage_links *links;     /* between stages of split models */
    struct stage_host *stages;     /* that run here for others */
    struct agent *agent;
    struct dispatch *dispatch;
    struct member self; /* as the agent was told last */
    uint64_t boot;
    bool draining; /* by a shutdown, whatever the registry says */
    struct loop_timer *leave_timer;
};

/* --- labels --- */

struct labels {
    const char *v[GRID_LABELS_MAX];
    size_t n;
    char text[MEMBER_LABELS_SIZE];
};

static void split_labels(const char *list, struct labels *out)
{
    char *rest;
    memcpy(out->text, list, sizeof out->text);
    out->n = 0;
    for (char *label = strtok_r(out->text, ",", &rest); label && out->n < GRID_LABELS_MAX;
         label = strtok_r(NULL, ",", &rest))
        out->v[out->n++] = label;
}

/* --- what the parts tell each other --- */

static void tell_agent(struct service_grid *g, const struct member *now)
{
    struct labels labels;
    struct sl_err err = SL_ERR_INIT;
    if (now->duty != g->self.duty && !g->draining) agent_set_duty(g->agent, now->duty);
    if (strcmp(now->labels, g->self.labels) != 0) {
        split_labels(now->labels, &labels);
        if (agent_set_labels(g->agent, labels.v, labels.n, &err) != SL_OK)
            sl_log(SL_LOG_WARN, "grid", "labels: %s", err.text);
    }
    g->self = *now;
}

static void on_change(void *ctx)
{
    struct service_grid *g = ctx;
    struct member now;
    if (!g->agent) return;
    membership_entry(g->membership, &now);
    tell_agent(g, &now);
    stage_links_members_changed(g->links);
    const struct registry *registry = membership_registry(g->membership);
    for (size_t i = 0; g->dispatch && i < registry_count(registry); i++) {
        const struct member *member = registry_at(registry, i);
        if (member->removed) dispatch_member_gone(g->dispatch, member->id);
    }
}

static void on_bus(void *ctx, bool connected)
{
    struct service_grid *g = ctx;
    if (g->dispatch) dispatch_bus_changed(g->dispatch);
    if (g->agent && connected) agent_bus_changed(g->agent);
}

static void on_removed(void *ctx, const char *message)
{
    struct service_grid *g = ctx;
    g->parts.on_removed(g->parts.ctx, message);
}

/* NULL: nothing keeps it here. The last gateway waits for another one, a stage of a split model
 * until the model's gateway has planned without this machine. */
static const char *keeps_here(const struct service_grid *g)
{
    struct grid_stage_hosted stage;
    if (g->dispatch && !dispatch_gateway_besides(g->dispatch, g->self.id))
        return "there is no other gateway";
    return stage_host_list(g->stages, &stage, 1) ? "it has a stage of a split model" : NULL;
}

/* Drained by its owner, a member leaves, now or a little later. */
static void leave(void *ctx)
{
    struct service_grid *g = ctx;
    if (g->draining || agent_duty(g->agent) != NODE_DRAINING) return;
    if (keeps_here(g)) {
        loop_timer_set(g->leave_timer, LEAVE_LOOK_NS);
        return;
    }
    g->draining = true;
    g->parts.on_left(g->parts.ctx);
}

static void on_drained(void *ctx)
{
    struct service_grid *g = ctx;
    if (g->draining) {
        g->parts.on_drained(g->parts.ctx);
        return;
    }
    const char *why = keeps_here(g);
    if (why) sl_log(SL_LOG_WARN, "grid", "drained, and stays for now: %s", why);
    leave(g);
}

static const struct telemetry_sample *latest_sample(void *ctx)
{
    const struct service_grid *g = ctx;
    return telemetry_latest(g->parts.telemetry);
}

static size_t list_peers(void *ctx, struct grid_peer *out, size_t max)
{
    const struct service_grid *g = ctx;
    return g->dispatch ? dispatch_peers(g->dispatch, out, max) : 0;
}

/* --- models from member to member --- */

static void on_blobs(void *ctx, struct http_exchange *x)
{
    struct service_grid *g = ctx;
    if (!blobs_handle(g->blobs, x)) grid_port_fail(x, SL_NOT_FOUND, "no such path");
}

static void on_fetched(void *ctx, const char *name, const struct sl_err *why)
{
    struct service_grid *g = ctx;
    if (!why) sl_log(SL_LOG_INFO, "grid", "%s is here", name);
    if (g->agent) agent_fetched(g->agent, name, why);
    if (g->dispatch && !why) dispatch_model_changed(g->dispatch, name);
}

/* A fetch that could not even begin. */
struct unfetched {
    struct service_grid *grid;
    struct sl_err err;
    char name[STORE_NAME_SIZE];
};

static void on_unfetched(void *arg)
{
    struct unfetched *unfetched = arg;
    on_fetched(unfetched->grid, unfetched->name, &unfetched->err);
    sl_free(unfetched);
}

/* The agent is told after this call has returned; without memory for that, once it asks again. */
static void tell_unfetched(struct service_grid *g, const char *name, const struct sl_err *err)
{
    struct unfetched *unfetched = sl_calloc(1, sizeof *unfetched);
    if (!unfetched) return;
    unfetched->grid = g;
    unfetched->err = *err;
    snprintf(unfetched->name, sizeof unfetched->name, "%s", name);
    if (loop_post(g->parts.loop, on_unfetched, unfetched) != SL_OK) sl_free(unfetched);
}

/* The first stage of a chain: its part is fetched, and the node has it. */
static void on_head_fetched(void *ctx, const char *name, const struct sl_err *why)
{
    struct service_grid *g = ctx;
    if (g->agent) agent_fetched(g->agent, name, why);
}

static void on_fetch(void *ctx, const struct grid_control *control)
{
    struct service_grid *g = ctx;
    struct fetch_source sources[FETCH_SOURCES_MAX];
    struct sl_err err = SL_ERR_INIT;
    size_t n = 0;
    for (size_t i = 0; i < control->n_sources && n < FETCH_SOURCES_MAX; i++, n++) {
        snprintf(sources[n].id, sizeof sources[n].id, "%s", control->sources[i].id);
        snprintf(sources[n].address, sizeof sources[n].address, "%s", control->sources[i].address);
    }
    sl_log(SL_LOG_INFO, "grid", "%s%s is fetched; %zu members have it",
           control->split ? "the first stage of " : "", control->model, n);
    sl_status status =
        control->split ? head_parts_fetch(g->heads, control, &err)
                       : fetch_start(g->fetch, control->model, control->digest, sources, n, &err);
    if (status != SL_OK) tell_unfetched(g, control->model, &err);
}

static sl_status start_models(struct service_grid *g, struct sl_err *err)
{
    const struct identity *identity = membership_identity(g->membership);
    struct grid_port *port = membership_port(g->membership);
    const struct blobs_cfg blobs = {.loop = g->parts.loop, .store = g->parts.store};
    const struct fetch_cfg fetch = {.loop = g->parts.loop,
                                    .store = g->parts.store,
                                    .ca_path = identity->ca_path,
                                    .cert_path = identity->cert_path,
                                    .key_path = identity->key_path,
                                    .on_done = on_fetched,
                                    .ctx = g};
    sl_status status = blobs_create(&blobs, &g->blobs, err);
    if (status == SL_OK)
        status = grid_port_route(port, HTTP_METHOD_GET, "/grid/v1/blobs/*", false, on_blobs, g);
    if (status == SL_OK)
        status = grid_port_route(port, HTTP_METHOD_GET, "/grid/v1/models/*", false, on_blobs, g);
    return status == SL_OK ? fetch_create(&fetch, &g->fetch, err) : status;
}

/* --- models over several machines --- */

static const struct split_machine *machine_of(void *ctx)
{
    const struct service_grid *g = ctx;
    return calibrator_machine(g->calibrator);
}

static size_t list_stages(void *ctx, struct grid_stage_hosted *out, size_t max)
{
    const struct service_grid *g = ctx;
    return stage_host_list(g->stages, out, max);
}

/* Plans go on without it: a machine that is not measured counts as a slow one. */
static void start_calibrator(struct service_grid *g)
{
    struct sl_err err = SL_ERR_INIT;
    const struct calibrator_cfg cfg = {.loop = g->parts.loop,
                                       .home = g->parts.home,
                                       .version = g->parts.version,
                                       .n_threads = g->parts.n_threads,
                                       .delay_ns = CALIBRATE_AFTER_NS};
    if (calibrator_create(&cfg, &g->calibrator, &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "this machine's speed is not measured: %s", err.text);
}

static sl_status start_stages(struct service_grid *g, struct sl_err *err)
{
    const struct identity *identity = membership_identity(g->membership);
    const struct fetch_parts_cfg parts = {.loop = g->parts.loop,
                                          .store = g->parts.store,
                                          .ca_path = identity->ca_path,
                                          .cert_path = identity->cert_path,
                                          .key_path = identity->key_path};
    const struct stage_links_cfg links = {.loop = g->parts.loop,
                                          .port = membership_port(g->membership),
                                          .bus = membership_bus(g->membership),
                                          .registry = membership_registry(g->membership),
                                          .self = membership_self(g->membership),
                                          .cert = identity->cert_path,
                                          .key = identity->key_path,
                                          .ca = identity->ca_path};
    struct stage_host_cfg host = {.loop = g->parts.loop, .node = g->parts.node};
    const struct probes_cfg probes = {.loop = g->parts.loop,
                                      .port = membership_port(g->membership),
                                      .cert = identity->cert_path,
                                      .key = identity->key_path,
                                      .ca = identity->ca_path};
    sl_status status = fetch_parts_create(&parts, &g->fetch_parts, err);
    if (status == SL_OK) status = probes_create(&probes, &g->probes, err);
    const struct head_parts_cfg heads = {
        .parts = g->fetch_parts, .node = g->parts.node, .on_done = on_head_fetched, .ctx = g};
    if (status == SL_OK) status = head_parts_create(&heads, &g->heads, err);
    if (status == SL_OK) status = stage_links_create(&links, &g->links, err);
    host.links = g->links;
    host.parts = g->fetch_parts;
    if (status == SL_OK) status = stage_host_create(&host, &g->stages, err);
    if (status == SL_OK) node_set_links(g->parts.node, g->links);
    if (status == SL_OK) start_calibrator(g);
    return status;
}

static void stop_stages(struct service_grid *g)
{
    calibrator_destroy(g->calibrator);
    g->calibrator = NULL;
    if (g->links) node_set_links(g->parts.node, NULL);
    stage_host_destroy(g->stages);
    stage_links_destroy(g->links);
    probes_destroy(g->probes);
    g->probes = NULL;
    g->stages = NULL;
    g->links = NULL;
}

/* --- which start of this machine it is --- */

#define BOOT_FILE "boot" /* in HOME/grid */
#define BOOT_BYTES_MAX 32

/* Grows with every start, though the wall clock be set back in between: others believe the reports
 * of the higher one. A disk that is full costs only that. */
static uint64_t next_boot(const char *home)
{
    char path[IDENTITY_PATH_SIZE], text[BOOT_BYTES_MAX];
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf old;
    uint64_t boot = (uint64_t)sl_unix_time_ms(), last = 0;
    if (identity_path(home, BOOT_FILE, path, &err) != SL_OK) return boot;
    sl_buf_init(&old, BOOT_BYTES_MAX);
    if (pki_file_read(path, &old, &err) == SL_OK) last = strtoull(old.data, NULL, 10);
    sl_buf_done(&old);
    if (last >= boot && last < UINT64_MAX) boot = last + 1;
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", boot);
    if (pki_file_write(path, text, (size_t)n, &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "%s: %s", path, err.text);
    return boot;
}

/* --- creation --- */

static sl_status start_membership(struct service_grid *g, struct sl_err *err)
{
    struct membership_cfg *cfg = &g->cfg.membership;
    cfg->loop = g->parts.loop;
    cfg->home = g->parts.home;
    cfg->on_change = on_change;
    cfg->on_bus = on_bus;
    cfg->on_removed = on_removed;
    cfg->ctx = g;
    return membership_create(cfg, &g->membership, err);
}

static void declare(const struct telemetry_declared *declared, struct node_facts *facts)
{
    facts->watts_idle = declared->watts_idle;
    facts->watts_busy = declared->watts_busy;
    facts->price_kwh = declared->price_kwh;
    facts->carbon_kwh = declared->carbon_g_kwh;
}

static sl_status start_agent(struct service_grid *g, struct sl_err *err)
{
    struct agent_cfg cfg;
    struct labels labels;
    char address[GRID_ADDRESS_SIZE] = "";
    membership_entry(g->membership, &g->self);
    split_labels(g->self.labels, &labels);
    (void)member_list_item(g->self.addresses, 0, address, sizeof address);
    agent_cfg_default(&cfg);
    cfg.loop = g->parts.loop;
    cfg.bus = membership_bus(g->membership);
    cfg.node = g->parts.node;
    cfg.store = g->parts.store;
    cfg.self = g->self.id;
    cfg.name = g->self.name;
    cfg.address = address;
    cfg.program = g->parts.version;
    declare(&g->parts.declared, &cfg.facts);
    cfg.labels = labels.v;
    cfg.n_labels = labels.n;
    cfg.telemetry = latest_sample;
    cfg.registry = membership_registry(g->membership);
    cfg.probes = g->probes;
    if (membership_is_gateway(g->membership)) cfg.peers = list_peers;
    cfg.stages = list_stages;
    cfg.machine = machine_of;
    cfg.boot = g->boot;
    cfg.fetch = on_fetch;
    cfg.on_drained = on_drained;
    cfg.ctx = g;
    sl_status status = agent_create(&cfg, &g->agent, err);
    if (status == SL_OK && g->self.duty != NODE_OPEN) agent_set_duty(g->agent, g->self.duty);
    return status;
}

static bool standing_of(void *ctx, const char *id, struct dispatch_standing *out)
{
    const struct service_grid *g = ctx;
    const struct member *member = registry_find(membership_registry(g->membership), id);
    bool self = strcmp(id, membership_self(g->membership)) == 0;
    *out = (struct dispatch_standing){.gateway = self || (member && member->is_gateway),
                                      .duty = member ? member->duty : NODE_OPEN,
                                      .name = member ? member->name : NULL};
    return self || (member && !member->removed);
}

static sl_status start_dispatch(struct service_grid *g, struct sl_err *err)
{
    struct dispatch_cfg cfg;
    if (!membership_is_gateway(g->membership)) return SL_OK;
    dispatch_cfg_default(&cfg);
    cfg.self = membership_self(g->membership);
    cfg.store = g->parts.store;
    cfg.loop = g->parts.loop;
    cfg.bus = membership_bus(g->membership);
    cfg.queue_timeout_ns = g->parts.queue_timeout_ns;
    cfg.allow_echo = g->parts.allow_echo;
    cfg.policy = g->cfg.policy;
    cfg.replicas = g->cfg.replicas;
    cfg.standing = standing_of;
    cfg.ctx = g;
    cfg.boot = g->boot;
    return dispatch_create(&cfg, &g->dispatch, err);
}

sl_status service_grid_create(const struct service_grid_cfg *cfg,
                              const struct service_grid_parts *parts, struct service_grid **out,
                              struct sl_err *err)
{
    struct service_grid *g = sl_calloc(1, sizeof *g);
    if (!g) return sl_err_set(err, SL_NOMEM, "no memory for the grid");
    g->cfg = *cfg;
    g->parts = *parts;
    g->boot = next_boot(parts->home);
    sl_status status = loop_timer_create(parts->loop, leave, g, &g->leave_timer);
    if (status != SL_OK) sl_err_set(err, status, "no memory for a timer");
    if (status == SL_OK) status = start_membership(g, err);
    if (status == SL_OK) status = start_models(g, err);
    if (status == SL_OK) status = start_stages(g, err);
    if (status == SL_OK) status = start_agent(g, err);
    if (status == SL_OK) status = start_dispatch(g, err);
    if (status == SL_OK) {
        *out = g;
        return SL_OK;
    }
    service_grid_stop(g);
    service_grid_destroy(g);
    return status;
}

void service_grid_stop(struct service_grid *g)
{
    if (!g) return;
    loop_timer_destroy(g->leave_timer);
    g->leave_timer = NULL;
    dispatch_destroy(g->dispatch);
    g->dispatch = NULL;
    agent_destroy(g->agent);
    g->agent = NULL;
    stop_stages(g);
}

void service_grid_destroy(struct service_grid *g)
{
    if (!g) return;
    membership_destroy(g->membership);
    head_parts_destroy(g->heads);
    fetch_parts_destroy(g->fetch_parts);
    fetch_destroy(g->fetch);
    blobs_destroy(g->blobs);
    sl_free(g);
}

/* --- the rest --- */

struct membership *service_grid_membership(struct service_grid *grid)
{
    return grid->membership;
}

struct dispatch *service_grid_dispatch(struct service_grid *grid)
{
    return grid->dispatch;
}

struct blobs *service_grid_blobs(struct service_grid *grid)
{
    return grid->blobs;
}

struct fetch *service_grid_fetch(struct service_grid *grid)
{
    return grid->fetch;
}

struct fetch_parts *service_grid_fetch_parts(struct service_grid *grid)
{
    return grid->fetch_parts;
}

void service_grid_store_changed(void *service_grid)
{
    struct service_grid *g = service_grid;
    if (g->agent) agent_store_changed(g->agent);
}

bool service_grid_has_heard_all(const struct service_grid *g)
{
    const struct registry *registry = membership_registry(g->membership);
    const char *self = membership_self(g->membership);
    for (size_t i = 0; g->dispatch && i < registry_count(registry); i++) {
        const struct member *member = registry_at(registry, i);
        if (!member->removed && strcmp(member->id, self) != 0 &&
            !dispatch_has_heard(g->dispatch, member->id))
            return false;
    }
    return true;
}

void service_grid_drain(struct service_grid *grid)
{
    grid->draining = true;
    agent_set_duty(grid->agent, NODE_DRAINING);
}

void service_grid_say_where(const struct service_grid *g)
{
    struct member self;
    membership_entry(g->membership, &self);
    fprintf(stderr, "%s %s (%s) of the grid, for other members at %s\n",
            self.is_gateway ? "Gateway" : "Node", self.name, self.id, self.addresses);
}

sl_status service_grid_say_token(struct service_grid *g, struct sl_err *err)
{
    struct sl_buf text;
    const struct token_terms terms = {
        .ttl_ms = g->cfg.token_ttl_ms, .n_uses = g->cfg.token_uses, .gateways = true};
    if (!g->cfg.token_uses || !membership_is_gateway(g->membership)) return SL_OK;
    sl_buf_init(&text, TOKEN_TEXT_MAX + 64);
    sl_status status = sl_buf_adds(&text, "starlane join ");
    if (status == SL_OK) status = membership_first_token(g->membership, &terms, &text, err);
    if (status == SL_OK) status = sl_buf_adds(&text, "\n");
    if (status == SL_OK) status = cli_write(text.data, text.len, err);
    explicit_bzero(text.data, text.len);
    sl_buf_done(&text);
    return status == SL_CANCELLED ? SL_OK : status; /* nobody reads it: there are others */
}
