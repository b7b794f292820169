/* membership_bus.c: the bus, and a gateway's nats-server behind it. */
#include "base/log.h"
#include "base/mem.h"
#include "grid/addresses.h"
#include "grid/membership_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* JetStream's, which nothing needs much of: the grid's own state is in SQLite. */
#define JETSTREAM_MEMORY_BYTES (64u << 20)
#define JETSTREAM_DISK_BYTES (1u << 30)
#define GONE_NS INT64_C(3000000000) /* the bus is away for so long: gateways are asked why */

/* --- who may connect --- */

struct access_lists {
    struct nats_member *members;
    const char **routes;
    char (*texts)[GRID_ADDRESS_SIZE]; /* of routes */
    size_t n_members, n_routes;
};

static void add_routes(struct access_lists *lists, const struct member *member)
{
    for (size_t i = 0; lists->n_routes < NATS_ROUTES_MAX; i++) {
        char *text = lists->texts[lists->n_routes];
        if (!member_list_item(member->routes, i, text, GRID_ADDRESS_SIZE)) return;
        lists->routes[lists->n_routes++] = text;
    }
}

static void add_member(const struct membership *m, struct access_lists *lists,
                       const struct member *member)
{
    struct nats_member *to = &lists->members[lists->n_members];
    if (member->removed) return;
    *to = (struct nats_member){member->id, member->key, member->is_gateway};
    lists->n_members++;
    if (member->is_gateway && strcmp(member->id, m->identity->id) != 0) add_routes(lists, member);
}

static void free_lists(struct access_lists *lists)
{
    sl_free(lists->members);
    sl_free(lists->routes);
    sl_free(lists->texts);
}

/* This machine is in it, whether or not the registry has it yet. */
static sl_status make_lists(const struct membership *m, struct access_lists *lists,
                            struct sl_err *err)
{
    size_t n = registry_count(m->registry);
    *lists = (struct access_lists){
        .members = sl_calloc(n + 1, sizeof *lists->members),
        .routes = sl_calloc(NATS_ROUTES_MAX, sizeof *lists->routes),
        .texts = sl_calloc(NATS_ROUTES_MAX, sizeof *lists->texts),
    };
    if (!lists->members || !lists->routes || !lists->texts)
        return sl_err_set(err, SL_NOMEM, "no memory for the list of members");
    for (size_t i = 0; i < n; i++) add_member(m, lists, registry_at(m->registry, i));
    if (!registry_find(m->registry, m->identity->id)) add_member(m, lists, &m->own);
    return SL_OK;
}

static struct nats_access access_of(const struct access_lists *lists)
{
    return (struct nats_access){.members = lists->members,
                                .n_members = lists->n_members,
                                .routes = lists->routes,
                                .n_routes = lists->n_routes};
}

static sl_status set_access(struct membership *m, struct sl_err *err)
{
    struct access_lists lists;
    sl_status status = make_lists(m, &lists, err);
    struct nats_access access = access_of(&lists);
    if (status == SL_OK) status = nats_server_set_access(m->nats, &access, err);
    free_lists(&lists);
    return status;
}

/* --- the server --- */

static void on_server(void *ctx, bool running, const char *why)
{
    (void)ctx;
    if (running)
        sl_log(SL_LOG_INFO, "grid", "nats-server runs");
    else
        sl_log(SL_LOG_WARN, "grid", "nats-server: %s; it is started again", why ? why : "ended");
}

static sl_status create_server(struct membership *m, const struct nats_access *access,
                               struct sl_err *err)
{
    char folder[IDENTITY_PATH_SIZE], logs[IDENTITY_PATH_SIZE], log[IDENTITY_PATH_SIZE + 32];
    const struct identity *identity = m->identity;
    sl_status status = identity_path(m->cfg.home, "", folder, err);
    if (status != SL_OK) return status;
    folder[strlen(folder) - 1] = '\0'; /* the slash */
    snprintf(logs, sizeof logs, "%s/logs", m->cfg.home);
    if (mkdir(logs, 0700) != 0 && errno != EEXIST) return sl_err_errno(err, errno, "%s", logs);
    snprintf(log, sizeof log, "%s/nats-server.log", logs);
    bool everywhere = !m->cfg.grid_host || strcmp(m->cfg.grid_host, "*") == 0;
    struct nats_server_cfg cfg = {.loop = m->cfg.loop,
                                  .folder = folder,
                                  .log_path = log,
                                  .self = identity->id,
                                  .host = everywhere ? NULL : m->cfg.grid_host,
                                  .ca = identity->ca_path,
                                  .cert = identity->cert_path,
                                  .key = identity->key_path,
                                  .memory_bytes = JETSTREAM_MEMORY_BYTES,
                                  .disk_bytes = JETSTREAM_DISK_BYTES,
                                  .access = *access,
                                  .on_state = on_server,
                                  .ctx = m};
    return nats_server_create(&cfg, &m->nats, err);
}

static sl_status start_server(struct membership *m, struct sl_err *err)
{
    struct access_lists lists;
    sl_status status = make_lists(m, &lists, err);
    struct nats_access access = access_of(&lists);
    if (status == SL_OK) status = create_server(m, &access, err);
    free_lists(&lists);
    return status;
}

void membership_bus_describe(struct membership *m, const char *hosts)
{
    struct nats_server_stats stats;
    m->own.bus[0] = m->own.routes[0] = '\0';
    for (size_t i = 0; i < m->cfg.n_bus_urls; i++)
        (void)member_list_add(m->own.bus, sizeof m->own.bus, m->cfg.bus_urls[i]);
    if (!m->nats) return;
    nats_server_stats(m->nats, &stats);
    addresses_with_port(hosts, "tls://", (unsigned)stats.client_port, m->own.bus);
    addresses_with_port(hosts, "", (unsigned)stats.cluster_port, m->own.routes);
}

/* --- the client --- */

/* Does the grid run servers of its own? Then members show them their certificates. */
static bool is_own_bus(const struct membership *m)
{
    if (m->nats) return true;
    if (m->cfg.n_bus_urls) return false;
    for (size_t i = 0; i < registry_count(m->registry); i++) {
        const struct member *member = registry_at(m->registry, i);
        if (member->is_gateway && !member->removed && member->routes[0]) return true;
    }
    return false;
}

/* A gateway's own server is known by the gateway's id, which the URL ends in. */
static void add_urls(struct membership *m, char *list, const char *bus, const char *id)
{
    char url[GRID_ADDRESS_SIZE + 16], named[sizeof url + GRID_ID_SIZE];
    for (size_t i = 0; member_list_item(bus, i, url, sizeof url); i++) {
        snprintf(named, sizeof named, "%s%s%s", url, id ? "#" : "", id ? id : "");
        (void)member_list_add(list, sizeof m->urls, named);
    }
}

/* A gateway's own server first, and the others' for when it is away. */
static void list_urls(struct membership *m, char *list)
{
    struct nats_server_stats stats;
    char url[MEMBER_ADDRESSES_SIZE];
    list[0] = '\0';
    if (m->nats) {
        bool everywhere = !m->cfg.grid_host || strcmp(m->cfg.grid_host, "*") == 0;
        nats_server_stats(m->nats, &stats);
        addresses_with_port(everywhere ? "127.0.0.1" : m->cfg.grid_host, "tls://",
                            (unsigned)stats.client_port, url);
        add_urls(m, list, url, m->identity->id);
    }
    for (size_t i = 0; i < m->cfg.n_bus_urls; i++)
        (void)member_list_add(list, sizeof m->urls, m->cfg.bus_urls[i]);
    for (size_t i = 0; i < registry_count(m->registry); i++) {
        const struct member *member = registry_at(m->registry, i);
        bool self = strcmp(member->id, m->identity->id) == 0;
        if (member->is_gateway && !member->removed && !self)
            add_urls(m, list, member->bus, member->routes[0] ? member->id : NULL);
    }
}

/* Cuts the list, in place, into at most BUS_URLS_MAX texts. */
static int split(char *list, const char *urls[BUS_URLS_MAX])
{
    int n = 0;
    char *rest;
    for (char *url = strtok_r(list, ",", &rest); url && n < BUS_URLS_MAX;
         url = strtok_r(NULL, ",", &rest))
        urls[n++] = url;
    return n;
}

static void on_bus_state(void *ctx, bool connected)
{
    struct membership *m = ctx;
    m->connected = connected;
    if (!connected) membership_hello_in(m, GONE_NS);
    if (m->cfg.on_bus) m->cfg.on_bus(m->cfg.ctx, connected);
}

/* The grid's own servers let nobody else speak; what others run knows nothing of removals, and may
 * have one user for all. */
static bool hears(void *ctx, const char *subject)
{
    const struct membership *m = ctx;
    const char *from = strrchr(subject, '.');
    const struct member *member = from ? registry_find(m->registry, from + 1) : NULL;
    bool orders = strncmp(subject, "sl.run.", 7) == 0 || strncmp(subject, "sl.registry.", 12) == 0;
    if (!member) return true; /* one that has just joined elsewhere: it may say who it is */
    return !member->removed && (member->is_gateway || !orders);
}

static sl_status start_client(struct membership *m, struct sl_err *err)
{
    const char *urls[BUS_URLS_MAX];
    char list[sizeof m->urls];
    bool own = is_own_bus(m);
    list_urls(m, list);
    memcpy(m->urls, list, sizeof list);
    struct bus_cfg cfg = {.loop = m->cfg.loop,
                          .self = m->identity->id,
                          .urls = urls,
                          .n_urls = split(list, urls),
                          .in_order = m->nats || m->cfg.n_bus_urls,
                          .ca = own ? m->identity->ca_path : m->cfg.bus_ca,
                          .cert = own ? m->identity->cert_path : NULL,
                          .key = own ? m->identity->key_path : NULL,
                          .creds = own ? NULL : m->cfg.bus_creds,
                          .user = own ? NULL : m->cfg.bus_user,
                          .password = own ? NULL : m->cfg.bus_password,
                          .on_state = on_bus_state,
                          .hears = hears,
                          .ctx = m};
    return bus_create(&cfg, &m->bus, err);
}

sl_status membership_bus_start(struct membership *m, struct sl_err *err)
{
    sl_status status = SL_OK;
    if (m->identity->is_gateway && !m->cfg.n_bus_urls) status = start_server(m, err);
    return status == SL_OK ? start_client(m, err) : status;
}

void membership_bus_stop(struct membership *m)
{
    bus_unsubscribe(m->heard);
    bus_destroy(m->bus);
    nats_server_destroy(m->nats);
}

static void follow_urls(struct membership *m)
{
    const char *urls[BUS_URLS_MAX];
    char list[sizeof m->urls];
    struct sl_err err = SL_ERR_INIT;
    list_urls(m, list);
    if (strcmp(list, m->urls) == 0) return;
    memcpy(m->urls, list, sizeof list);
    if (bus_set_urls(m->bus, urls, split(list, urls), &err) != SL_OK)
        sl_log(SL_LOG_WARN, "grid", "the bus's addresses: %s", err.text);
}

void membership_bus_follow(struct membership *m)
{
    struct sl_err err = SL_ERR_INIT;
    if (m->nats && set_access(m, &err) != SL_OK)
        sl_log(SL_LOG_ERROR, "grid", "nats-server's members are not up to date: %s", err.text);
    follow_urls(m);
}
