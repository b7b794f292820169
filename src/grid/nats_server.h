/* nats_server.h: the nats-server of a gateway: a child process that this module configures, starts,
 * watches, restarts and ends.
 *
 * Members are known to it by their certificates alone. What each may publish and hear is written
 * into its configuration (nats_config.h), which a change of the members rewrites and reloads
 * without a break for the others.
 *
 * Floor: grid.  Thread: the loop's.  Allocates: the server; files: nats-server.conf,
 * nats-server.pid, jetstream/ in `folder`, and the log.
 * Invariant: the child does not outlive this process, nor is there more than one of a folder: one
 * left behind by a process that was killed is ended before ours starts. */
#pragma once
#include "base/err.h"
#include "grid/nats_config.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct nats_server;

#define NATS_SERVER_CLIENT_PORT 4222
#define NATS_SERVER_CLUSTER_PORT 6222
#define NATS_SERVER_LEAF_PORT 7422

/* Strings are copied. */
struct nats_server_cfg {
    struct loop *loop;    /* borrowed, outlives the server */
    const char *exe;      /* NULL: `nats-server` of PATH, /usr/sbin, /usr/local/bin, /usr/lib ... */
    const char *folder;   /* exists: HOME/grid */
    const char *log_path; /* HOME/logs/nats-server.log; its folder exists */
    const char *self;     /* this gateway's member id */
    const char *host;     /* address to listen on; NULL: all */
    int client_port, cluster_port,
        leaf_port;                     /* 0: the usual one, or a free one where it is taken */
    const char *ca, *cert, *key;       /* PEM files */
    uint64_t memory_bytes, disk_bytes; /* JetStream's limits; both 0: no JetStream */
    struct nats_access access;         /* who may connect, and the other gateways */
    /* The server takes connections (true), or has ended (false) with `why`, and will be restarted.
     * From the loop; must not destroy the server. NULL is fine. */
    void (*on_state)(void *ctx, bool running, const char *why);
    void *ctx;
};

struct nats_server_stats {
    bool running;
    int pid; /* -1: none now */
    int client_port, cluster_port, leaf_port;
    uint64_t n_starts; /* the first included */
    uint64_t n_reloads;
};

/* Finds the executable, writes the configuration and starts the child; it takes connections some
 * 50 ms later. NOT_FOUND: no nats-server on this machine (the text says what to install); INVALID:
 * as nats_config_write; BUSY: a port that was asked for is taken; IO, NOMEM. */
SL_CHECK sl_status nats_server_create(const struct nats_server_cfg *cfg, struct nats_server **out,
                                      struct sl_err *err);
/* Ends the child (SIGTERM, then SIGKILL after a second) and waits for it. NULL is fine. */
void nats_server_destroy(struct nats_server *server);

/* Rewrites the configuration and has the child read it: who is not listed any more is cut off, the
 * others notice nothing. Does nothing when nothing changed. As nats_server_create; on failure the
 * old configuration stays in use. */
SL_CHECK sl_status nats_server_set_access(struct nats_server *server,
                                          const struct nats_access *access, struct sl_err *err);
/* The files of the certificate have changed: the child reads them. */
void nats_server_renewed(struct nats_server *server);
void nats_server_stats(const struct nats_server *server, struct nats_server_stats *out);
