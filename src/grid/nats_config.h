/* nats_config.h: the text of a nats-server's configuration for one gateway of a grid. Pure.
 *
 * Who a client is, its certificate says (verify_and_map: the user is the SAN
 * <id>.nodes.starlane.internal), and only the very keys of listed members are taken (pinned_certs),
 * those of gateways alone for routes and leaf nodes: so a certificate signed by a gateway that has
 * been removed opens nothing. Routes are dialled by address, which is in no certificate; there the
 * pins alone say who answers.
 *
 * Permissions, by subject (docs/bus.md); "publishes" means as itself, FROM being its own id:
 *     sl.run.TO.FROM     gateways publish, TO hears    sl.report.FROM    members publish, all hear
 *     sl.answer.TO.FROM  members publish, a gateway hears
 *     sl.ping.TO.FROM    members publish, TO hears     sl.registry.FROM  gateways publish, all hear
 *
 * Floor: grid.  Thread: any.  Allocates: what it appends to the caller's buffer. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NATS_MEMBERS_MAX 16384 /* ten thousand nodes and room; each takes 0.5 KiB of text */
#define NATS_ROUTES_MAX 64
#define NATS_CONFIG_BYTES_MAX ((size_t)32 << 20) /* of the text, with NATS_MEMBERS_MAX members */

struct nats_member {
    const char *id;  /* "n" and 13 of a-z2-7: the first bits of its key, in base32 */
    const char *key; /* SHA-256 of its SubjectPublicKeyInfo (DER): 64 hex digits */
    bool gateway;
};

/* Who may connect, this gateway included, and the other gateways' cluster addresses. */
struct nats_access {
    const struct nats_member *members;
    size_t n_members;
    const char *const *routes; /* HOST:PORT, IPv6 as [::1]:6222 */
    size_t n_routes;
};

struct nats_config {
    const char *server_name;                  /* unique in the cluster: the gateway's id */
    const char *host;                         /* NULL: all addresses */
    int client_port, cluster_port, leaf_port; /* leaf_port 0: takes no leaf nodes */
    const char *ca, *cert, *key;
    const char *pid_path;
    const char *store_folder;          /* JetStream makes jetstream/ in it */
    uint64_t memory_bytes, disk_bytes; /* of JetStream; both 0: off */
    struct nats_access access;
};

/* Appends the whole text. INVALID: a member, host, route or path that cannot be (the text names
 * it), or a member listed twice; LIMIT, NOMEM. */
SL_CHECK sl_status nats_config_write(const struct nats_config *config, struct sl_buf *out,
                                     struct sl_err *err);
