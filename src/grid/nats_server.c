#include "grid/nats_server.h"
#include "base/mem.h"
#include "grid/nats_log.h"
#include "grid/nats_process.h"
#include "net/loop.h"
#include "net/pki.h"
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RESTART_NS 100000000             /* doubled with each death in a row */
#define RESTART_NS_MAX 10000000000       /* ten seconds */
#define STEADY_NS ((int64_t)10000000000) /* one that ran so long is restarted at once */
#define READ_BYTES 4096
#define READS_MAX 16 /* in one turn: its log must not keep the loop */

/*            started            "Server is ready"
 *   WAITING ---------> STARTING -----------------> READY
 *      ^                  |                          |
 *      '------------------'--------------------------'  the child has died
 *
 * WAITING: no child; the timer starts one. STARTING: it may not know SIGHUP yet. READY: it takes
 * connections and signals. */
enum server_state { WAITING, STARTING, READY };

struct nats_server {
    struct nats_server_cfg cfg; /* its strings, and the access, are not used after creation */
    struct server_text {
        char *exe, *folder, *log_path, *self, *host, *ca, *cert, *key;
        char config_path[PATH_MAX], pid_path[PATH_MAX];
    } text;
    enum server_state state;
    struct nats_process process;
    struct loop_watch *death, *output;
    struct loop_timer *restart;
    struct nats_log log;
    struct sl_buf config; /* what the file holds */
    bool reload_pending;  /* the child has not read it yet */
    int64_t started_ns;
    int n_deaths;              /* in a row */
    char why[SL_ERR_TEXT_MAX]; /* the last error it logged */
    struct nats_server_stats stats;
};

/* --- the configuration --- */

static sl_status make_config(const struct nats_server *server, const struct nats_access *access,
                             struct sl_buf *out, struct sl_err *err)
{
    const struct server_text *text = &server->text;
    struct nats_config config = {
        .server_name = text->self,
        .host = text->host,
        .client_port = server->stats.client_port,
        .cluster_port = server->stats.cluster_port,
        .leaf_port = server->stats.leaf_port,
        .ca = text->ca,
        .cert = text->cert,
        .key = text->key,
        .pid_path = text->pid_path,
        .store_folder = text->folder,
        .memory_bytes = server->cfg.memory_bytes,
        .disk_bytes = server->cfg.disk_bytes,
        .access = *access,
    };
    return nats_config_write(&config, out, err);
}

/* Replaces the file, and what we know of it, unless it is the same. */
static sl_status write_config(struct nats_server *server, const struct nats_access *access,
                              bool *out_changed, struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, NATS_CONFIG_BYTES_MAX);
    sl_status status = make_config(server, access, &text, err);
    *out_changed = status == SL_OK && (text.len != server->config.len ||
                                       memcmp(text.data, server->config.data, text.len) != 0);
    if (*out_changed) {
        status = pki_file_write(server->text.config_path, text.data, text.len, err);
        *out_changed = status == SL_OK;
    }
    if (*out_changed) {
        struct sl_buf old = server->config;
        server->config = text;
        text = old;
    }
    sl_buf_done(&text);
    return status;
}

static void reload(struct nats_server *server)
{
    server->reload_pending = server->state == STARTING;
    if (server->state != READY) return;
    nats_process_signal(&server->process, SIGHUP);
    server->stats.n_reloads++;
}

sl_status nats_server_set_access(struct nats_server *server, const struct nats_access *access,
                                 struct sl_err *err)
{
    bool changed;
    sl_status status = write_config(server, access, &changed, err);
    if (status == SL_OK && changed) reload(server);
    return status;
}

void nats_server_renewed(struct nats_server *server)
{
    reload(server);
}

/* --- the child's life --- */

static void tell(struct nats_server *server, bool running)
{
    if (server->stats.running == running) return;
    server->stats.running = running;
    if (server->cfg.on_state)
        server->cfg.on_state(server->cfg.ctx, running, running ? "" : server->why);
}

static void on_line(void *ctx, const char *line)
{
    struct nats_server *server = ctx;
    const char *error = strstr(line, "[ERR] ");
    if (!error) error = strstr(line, "[FTL] ");
    if (error) snprintf(server->why, sizeof server->why, "%s", error + 6);
    /* Some changes (of who may be a leaf node, in 2.9) it can only begin with. */
    if (error && strstr(error, "Failed to reload server configuration"))
        nats_process_signal(&server->process, SIGTERM);
    if (server->state == STARTING && strstr(line, "Server is ready")) {
        server->state = READY;
        if (server->reload_pending) reload(server);
        tell(server, true);
    }
}

static void on_output(void *ctx, unsigned ready)
{
    struct nats_server *server = ctx;
    char bytes[READ_BYTES];
    ssize_t n = 1;
    (void)ready;
    for (int i = 0; i < READS_MAX && n > 0; i++) {
        n = read(server->process.stderr_fd, bytes, sizeof bytes);
        if (n > 0) nats_log_write(&server->log, bytes, (size_t)n);
    }
    if (n != 0) return;
    loop_watch_destroy(server->output); /* it has closed its end: it dies */
    server->output = NULL;
}

static void drop_child(struct nats_server *server)
{
    loop_watch_destroy(server->output);
    loop_watch_destroy(server->death);
    server->output = server->death = NULL;
    nats_process_end(&server->process);
    server->stats.pid = -1;
    server->state = WAITING;
}

static int64_t restart_delay_ns(const struct nats_server *server)
{
    int64_t delay_ns = RESTART_NS;
    if (server->n_deaths <= 1) return 0;
    for (int i = 2; i < server->n_deaths && delay_ns < RESTART_NS_MAX; i++) delay_ns *= 2;
    return delay_ns < RESTART_NS_MAX ? delay_ns : RESTART_NS_MAX;
}

static void on_death(void *ctx, unsigned ready)
{
    struct nats_server *server = ctx;
    on_output(server, ready); /* its last words */
    drop_child(server);
    bool steady = loop_now_ns(server->cfg.loop) - server->started_ns >= STEADY_NS;
    server->n_deaths = steady ? 1 : server->n_deaths + 1;
    loop_timer_set(server->restart, restart_delay_ns(server));
    tell(server, false);
}

static sl_status start(struct nats_server *server, struct sl_err *err)
{
    server->why[0] = '\0';
    server->reload_pending = false;
    server->started_ns = loop_now_ns(server->cfg.loop);
    sl_status status =
        nats_process_start(&server->process, server->text.exe, server->text.config_path, err);
    if (status != SL_OK) return status;
    server->state = STARTING;
    server->stats.pid = server->process.pid;
    server->stats.n_starts++;
    status = loop_watch_create(server->cfg.loop, server->process.stderr_fd, LOOP_READ, on_output,
                               server, &server->output);
    if (status == SL_OK)
        status = loop_watch_create(server->cfg.loop, server->process.pidfd, LOOP_READ, on_death,
                                   server, &server->death);
    if (status == SL_OK) return SL_OK;
    drop_child(server);
    return sl_err_set(err, status, "watch nats-server");
}

static void on_restart(void *ctx)
{
    struct nats_server *server = ctx;
    struct sl_err err = SL_ERR_INIT;
    if (start(server, &err) == SL_OK) return;
    snprintf(server->why, sizeof server->why, "%s", err.text);
    server->n_deaths++;
    loop_timer_set(server->restart, restart_delay_ns(server));
}

/* --- life cycle --- */

static bool copy_text(char **out, const char *text)
{
    *out = text ? sl_strdup(text) : NULL;
    return !text || *out;
}

static bool join_path(char out[PATH_MAX], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX;
}

static sl_status copy_texts(struct server_text *text, const struct nats_server_cfg *cfg,
                            struct sl_err *err)
{
    char exe[PATH_MAX];
    sl_status status = cfg->exe ? SL_OK : nats_process_find(exe, sizeof exe, err);
    if (status != SL_OK) return status;
    if (!join_path(text->config_path, cfg->folder, "nats-server.conf") ||
        !join_path(text->pid_path, cfg->folder, "nats-server.pid"))
        return sl_err_set(err, SL_INVALID, "%.200s...: too long a path", cfg->folder);
    if (!copy_text(&text->exe, cfg->exe ? cfg->exe : exe) ||
        !copy_text(&text->log_path, cfg->log_path) || !copy_text(&text->folder, cfg->folder) ||
        !copy_text(&text->self, cfg->self) || !copy_text(&text->host, cfg->host) ||
        !copy_text(&text->ca, cfg->ca) || !copy_text(&text->cert, cfg->cert) ||
        !copy_text(&text->key, cfg->key))
        return sl_err_set(err, SL_NOMEM, "out of memory");
    return SL_OK;
}

static void free_texts(struct server_text *text)
{
    char *all[] = {text->exe,  text->folder, text->log_path, text->self,
                   text->host, text->ca,     text->cert,     text->key};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sl_free(all[i]);
}

static sl_status choose_ports(struct nats_server *server, struct sl_err *err)
{
    const struct nats_server_cfg *cfg = &server->cfg;
    const char *host = server->text.host;
    struct nats_server_stats *stats = &server->stats;
    sl_status status = nats_process_port(host, cfg->client_port, NATS_SERVER_CLIENT_PORT,
                                         &stats->client_port, err);
    if (status == SL_OK)
        status = nats_process_port(host, cfg->cluster_port, NATS_SERVER_CLUSTER_PORT,
                                   &stats->cluster_port, err);
    if (status == SL_OK)
        status =
            nats_process_port(host, cfg->leaf_port, NATS_SERVER_LEAF_PORT, &stats->leaf_port, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "nats-server");
}

static sl_status prepare(struct nats_server *server, const struct nats_server_cfg *cfg,
                         struct sl_err *err)
{
    bool changed;
    sl_status status = copy_texts(&server->text, cfg, err);
    if (status != SL_OK) return status;
    nats_log_init(&server->log, server->text.log_path, on_line, server);
    if (loop_timer_create(cfg->loop, on_restart, server, &server->restart) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "out of memory");
    nats_process_end_leftover(server->text.pid_path, server->text.config_path);
    status = choose_ports(server, err);
    if (status == SL_OK) status = write_config(server, &cfg->access, &changed, err);
    return status;
}

sl_status nats_server_create(const struct nats_server_cfg *cfg, struct nats_server **out,
                             struct sl_err *err)
{
    struct nats_server *server = sl_calloc(1, sizeof *server);
    if (!server) return sl_err_set(err, SL_NOMEM, "out of memory");
    server->cfg = *cfg;
    server->stats.pid = -1;
    server->log.fd = -1;
    server->process = (struct nats_process){.pid = -1, .pidfd = -1, .stderr_fd = -1};
    sl_buf_init(&server->config, NATS_CONFIG_BYTES_MAX);
    sl_status status = prepare(server, cfg, err);
    if (status == SL_OK) status = start(server, err);
    if (status == SL_OK)
        *out = server;
    else
        nats_server_destroy(server);
    return status;
}

void nats_server_destroy(struct nats_server *server)
{
    if (!server) return;
    drop_child(server);
    loop_timer_destroy(server->restart);
    nats_log_done(&server->log);
    sl_buf_done(&server->config);
    free_texts(&server->text);
    sl_free(server);
}

void nats_server_stats(const struct nats_server *server, struct nats_server_stats *out)
{
    *out = server->stats;
}
