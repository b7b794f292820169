/* membership.c: the parts put together, and what follows from a change. */
#include "grid/membership_int.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/db.h"
#include "grid/registry_store.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TICK_NS INT64_C(500000000)
#define UNSAVED_FIRST 8
#define UNHEARD_NS (3 * REGISTRY_DIGEST_NS) /* gateways tell their digest so often */

/* --- saving --- */

struct save {
    struct membership *m;
    struct member *members;
    size_t n;
    membership_done_fn fn;
    void *ctx;
};

static sl_status run_save(void *arg, struct db *db, struct sl_err *err)
{
    struct save *save = arg;
    return save->n ? registry_save(db, save->members, save->n, err) : SL_OK;
}

static void free_save(struct save *save)
{
    sl_free(save->members);
    sl_free(save);
}

static void saved(void *arg, sl_status status, const struct sl_err *err)
{
    struct save *save = arg;
    if (status != SL_OK) {
        save->m->save_all = true;
        sl_log(SL_LOG_ERROR, "grid", "members are not stored: %s", err->text);
    }
    if (save->fn) save->fn(save->ctx, err);
    free_save(save);
}

sl_status membership_save(struct membership *m, membership_done_fn fn, void *ctx)
{
    struct save *save = sl_calloc(1, sizeof *save);
    if (!save) return SL_NOMEM;
    *save = (struct save){m, m->unsaved, m->n_unsaved, fn, ctx};
    m->unsaved = NULL;
    m->n_unsaved = m->unsaved_cap = 0;
    sl_status status = db_worker_submit(m->worker, run_save, saved, save);
    if (status == SL_OK) return SL_OK;
    m->save_all = true;
    free_save(save);
    return status;
}

/* False without memory. */
static bool note_unsaved(struct membership *m, const struct member *member)
{
    for (size_t i = 0; i < m->n_unsaved; i++) {
        if (strcmp(m->unsaved[i].id, member->id) != 0) continue;
        m->unsaved[i] = *member;
        return true;
    }
    if (m->n_unsaved == m->unsaved_cap) {
        size_t cap = m->unsaved_cap ? 2 * m->unsaved_cap : UNSAVED_FIRST;
        struct member *grown = sl_realloc_array(m->unsaved, cap, sizeof *grown);
        if (!grown) return false;
        m->unsaved = grown;
        m->unsaved_cap = cap;
    }
    m->unsaved[m->n_unsaved++] = *member;
    return true;
}

/* --- changes --- */

/* What the gateways have already is not said again: somebody may have changed it since. */
static void settle_own(struct membership *m, const struct member *known)
{
    m->own_name = m->own_name && strcmp(known->name, m->own.name) != 0;
    m->own_labels = m->own_labels && strcmp(known->labels, m->own.labels) != 0;
}

static void on_entry(void *ctx, const struct member *member)
{
    struct membership *m = ctx;
    if (strcmp(member->id, m->identity->id) == 0) settle_own(m, member);
    if (!note_unsaved(m, member)) m->save_all = true;
    m->changed = true;
    loop_queue_task(m->cfg.loop, &m->changed_task);
}

/* A gateway has said so, and nobody will tell this machine anything any more: it knows by itself
 * when it is started again. */
static void note_removed(struct membership *m)
{
    const struct member *known = registry_find(m->registry, m->identity->id);
    struct member self = known ? *known : m->own;
    self.removed = true;
    if (registry_put(m->registry, &self, m->identity->id, NULL) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "no memory for the removal of this machine");
}

void membership_tell_removed(struct membership *m)
{
    char message[256];
    if (m->told_removed) return;
    m->told_removed = true;
    note_removed(m);
    snprintf(message, sizeof message,
             "this machine (%s) was removed from the grid; to join again, get a token at a gateway "
             "and run: starlane join TOKEN",
             m->identity->id);
    if (m->cfg.on_removed) m->cfg.on_removed(m->cfg.ctx, message);
}

static void follow_changes(void *ctx)
{
    struct membership *m = ctx;
    const struct member *self = registry_find(m->registry, m->identity->id);
    if (!m->changed) return;
    m->changed = false;
    if (m->n_unsaved) (void)!membership_save(m, NULL, NULL);
    membership_bus_follow(m);
    if (self && self->removed) membership_tell_removed(m);
    if (m->cfg.on_change) m->cfg.on_change(m->cfg.ctx);
}

sl_status membership_put(struct membership *m, const struct member *member, membership_done_fn fn,
                         void *ctx, struct sl_err *err)
{
    sl_status status = registry_put(m->registry, member, m->identity->id, err);
    if (status != SL_OK) return status;
    registry_sync_tell(m->sync, registry_find(m->registry, member->id));
    if (!fn) return SL_OK;
    status = membership_save(m, fn, ctx);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "the change is not stored");
}

/* --- the bus's part of the registry --- */

static void send_to_all(void *ctx, const void *bytes, size_t n)
{
    struct membership *m = ctx;
    char subject[BUS_SUBJECT_SIZE];
    snprintf(subject, sizeof subject, "sl.registry.%s", m->identity->id);
    /* What is lost here is told again. */
    (void)!bus_publish(m->bus, subject, bytes, n, NULL);
}

static void on_stale(void *ctx)
{
    membership_hello_in(ctx, 0);
}

static void on_registry_message(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct membership *m = ctx;
    struct sl_err err = SL_ERR_INIT;
    const char *from = strrchr(subject, '.');
    if (!from || strcmp(from + 1, m->identity->id) == 0) return;
    m->heard_ns = loop_now_ns(m->cfg.loop);
    if (registry_sync_receive(m->sync, from + 1, bytes, n, &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "what %s says of members: %s", from + 1, err.text);
}

static void save_everything(struct membership *m)
{
    m->save_all = false;
    for (size_t i = 0; i < registry_count(m->registry); i++) {
        if (!note_unsaved(m, registry_at(m->registry, i))) m->save_all = true;
    }
    (void)!membership_save(m, NULL, NULL);
}

/* A gateway is on the bus by its own nats-server though all others have cut it off: it asks them
 * whether it is a member still. */
static void check_heard(struct membership *m, int64_t now_ns)
{
    if (!m->identity->is_gateway || now_ns - m->heard_ns < UNHEARD_NS) return;
    m->heard_ns = now_ns;
    membership_hello_in(m, 0);
}

static void on_tick(void *ctx)
{
    struct membership *m = ctx;
    int64_t now_ns = loop_now_ns(m->cfg.loop);
    registry_sync_tick(m->sync, now_ns);
    membership_hello_tick(m, now_ns);
    membership_renew_tick(m);
    check_heard(m, now_ns);
    if (m->save_all) save_everything(m);
    loop_timer_set(m->tick, TICK_NS);
}

/* --- creation --- */

sl_status membership_open_grid(const char *home, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct identity *identity = NULL;
    struct db *db = NULL;
    if (!identity_exists(home)) {
        snprintf(path, sizeof path, "%s/state.db", home);
        sl_status status = db_open(path, NULL, &db, err);
        if (status == SL_OK) status = db_exec(db, "DELETE FROM members; DELETE FROM tokens", err);
        db_close(db);
        return status == SL_OK ? identity_open_grid(home, err) : status;
    }
    sl_status status = identity_load(home, &identity, err);
    if (status == SL_OK && !identity->is_gateway)
        status = sl_err_set(err, SL_INVALID,
                            "this machine has joined a grid as a node: start it with `starlane "
                            "join`, or remove %.200s/grid to leave that grid",
                            home);
    identity_destroy(identity);
    return status;
}

void membership_host_name(char out[GRID_NAME_SIZE])
{
    struct member member = {0};
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0) name[0] = '\0';
    name[strcspn(name, ".")] = '\0';
    if (member_set_name(&member, name, NULL) != SL_OK) strcpy(member.name, "machine");
    memcpy(out, member.name, GRID_NAME_SIZE);
}

static sl_status load(struct membership *m, struct sl_err *err)
{
    char path[IDENTITY_PATH_SIZE];
    struct db *db = NULL;
    int n = snprintf(path, sizeof path, "%s/state.db", m->cfg.home);
    if (n < 0 || (size_t)n >= sizeof path) return sl_err_set(err, SL_INVALID, "home: too long");
    sl_status status = registry_create(&m->registry);
    if (status != SL_OK) return sl_err_set(err, status, "no memory for the members");
    status = db_open(path, NULL, &db, err);
    if (status == SL_OK) status = registry_load(m->registry, db, err);
    db_close(db);
    if (status != SL_OK) return status;
    const struct member *self = registry_find(m->registry, m->identity->id);
    if (self && self->removed) {
        membership_tell_removed(m);
        return sl_err_set(err, SL_DENIED,
                          "this machine was removed from the grid; to join again, get a token at a "
                          "gateway and run: starlane join TOKEN");
    }
    registry_listen(m->registry, on_entry, m);
    return db_worker_create(m->cfg.loop, path, &m->worker, err);
}

/* What the owner says of this machine now, and else what it was. */
static sl_status describe_self(struct membership *m, struct sl_err *err)
{
    const struct member *known = registry_find(m->registry, m->identity->id);
    struct member *own = &m->own;
    char name[GRID_NAME_SIZE];
    sl_status status = SL_OK;
    membership_host_name(name);
    *own =
        known ? *known : (struct member){.joined_ms = sl_unix_time_ms(), .joins = 1, .version = 1};
    memcpy(own->id, m->identity->id, sizeof own->id);
    memcpy(own->key, m->identity->key_hash, sizeof own->key);
    own->is_gateway = m->identity->is_gateway;
    m->undrains = known && known->duty == NODE_DRAINING ? known->version : 0;
    m->own_name = m->cfg.name != NULL;
    m->own_labels = m->cfg.n_labels > 0;
    if (m->own_name || !known) status = member_set_name(own, m->own_name ? m->cfg.name : name, err);
    if (status == SL_OK && m->own_labels)
        status = member_set_labels(own, m->cfg.labels, m->cfg.n_labels, err);
    if (status == SL_OK && known) settle_own(m, known);
    return status;
}

static sl_status start_port(struct membership *m, struct sl_err *err)
{
    struct grid_port_cfg cfg = {.loop = m->cfg.loop,
                                .registry = m->registry,
                                .host = m->cfg.grid_host,
                                .port = m->cfg.grid_port,
                                .cert = m->identity->cert_path,
                                .key = m->identity->key_path,
                                .ca = m->identity->ca_path};
    sl_status status = grid_port_create(&cfg, &m->port, err);
    return status == SL_OK ? grid_port_listen(m->port, err) : status;
}

static sl_status start_sync(struct membership *m, struct sl_err *err)
{
    struct registry_sync_cfg cfg = {.registry = m->registry,
                                    .speaks = m->identity->is_gateway,
                                    .send = send_to_all,
                                    .on_stale = on_stale,
                                    .ctx = m,
                                    .seed = sl_hash_seed()};
    sl_status status = registry_sync_create(&cfg, &m->sync);
    if (status == SL_OK) status = loop_timer_create(m->cfg.loop, on_tick, m, &m->tick);
    if (status != SL_OK) return sl_err_set(err, status, "no memory for the members");
    return bus_subscribe(m->bus, "sl.registry.*", on_registry_message, m, &m->heard, err);
}

static sl_status start(struct membership *m, struct sl_err *err)
{
    sl_status status = identity_load(m->cfg.home, &m->identity, err);
    if (status == SL_OK) status = load(m, err);
    if (status == SL_OK) status = describe_self(m, err);
    if (status == SL_OK) status = start_port(m, err);
    if (status == SL_OK) status = membership_bus_start(m, err);
    if (status == SL_OK) status = start_sync(m, err);
    if (status == SL_OK) status = membership_look_around(m, err);
    if (status != SL_OK || !m->identity->is_gateway) return status;
    status = membership_admin_start(m, err);
    if (status == SL_OK) status = membership_renew_start(m, err);
    return status == SL_OK ? membership_join_start(m, err) : status;
}

sl_status membership_create(const struct membership_cfg *cfg, struct membership **out,
                            struct sl_err *err)
{
    struct membership *m = sl_calloc(1, sizeof *m);
    if (!m) return sl_err_set(err, SL_NOMEM, "no memory for the grid");
    m->cfg = *cfg;
    m->cfg.on_removed = NULL; /* while it starts, the status says it */
    m->changed_task = (struct loop_task){.fn = follow_changes, .ctx = m};
    m->hello_at_ns = INT64_MAX;
    m->heard_ns = loop_now_ns(cfg->loop);
    sl_status status = start(m, err);
    if (status != SL_OK) {
        membership_destroy(m);
        return status;
    }
    m->cfg.on_removed = cfg->on_removed;
    loop_timer_set(m->tick, TICK_NS);
    membership_hello_in(m, 0);
    *out = m;
    return SL_OK;
}

void membership_destroy(struct membership *m)
{
    if (!m) return;
    loop_timer_destroy(m->tick);
    membership_hello_stop(m);
    membership_renew_stop(m);
    if (m->registry) registry_listen(m->registry, NULL, NULL);
    if (m->worker && m->n_unsaved) (void)!membership_save(m, NULL, NULL);
    db_worker_destroy(m->worker); /* its answers end exchanges of the port */
    grid_port_destroy(m->port);
    membership_bus_stop(m);
    loop_cancel_task(m->cfg.loop, &m->changed_task);
    registry_sync_destroy(m->sync);
    registry_destroy(m->registry);
    identity_destroy(m->identity);
    sl_free(m->unsaved);
    explicit_bzero(m->admin, sizeof m->admin);
    sl_free(m);
}

/* --- queries --- */

const char *membership_self(const struct membership *membership)
{
    return membership->identity->id;
}

bool membership_is_gateway(const struct membership *membership)
{
    return membership->identity->is_gateway;
}

const struct identity *membership_identity(const struct membership *membership)
{
    return membership->identity;
}

const struct registry *membership_registry(const struct membership *membership)
{
    return membership->registry;
}

struct bus *membership_bus(struct membership *membership)
{
    return membership->bus;
}

struct grid_port *membership_port(struct membership *membership)
{
    return membership->port;
}

void membership_entry(const struct membership *membership, struct member *out)
{
    const struct member *known = registry_find(membership->registry, membership->identity->id);
    const struct member *own = &membership->own;
    *out = known ? *known : *own;
    memcpy(out->addresses, own->addresses, sizeof out->addresses);
    memcpy(out->bus, own->bus, sizeof out->bus);
    memcpy(out->routes, own->routes, sizeof out->routes);
    if (out->duty == NODE_DRAINING && out->version == membership->undrains) out->duty = NODE_OPEN;
    if (membership->own_name) memcpy(out->name, own->name, sizeof out->name);
    if (membership->own_labels) memcpy(out->labels, own->labels, sizeof out->labels);
}
