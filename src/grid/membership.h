/* membership.h: this machine as a member of a grid: its identity, the registry, the bus, a
 * gateway's nats-server, the grid port, tokens; put together and kept so.
 * docs/grid.md tells it from the outside.
 *
 *   membership.c        creation, time, what follows from a change of the registry
 *   membership_bus.c    the nats-server, who may connect to it, where the bus connects to
 *   membership_hello.c  what this machine says of itself, and to whom
 *   membership_join.c   a gateway's side of joining: /grid/v1/ca, join, hello
 *   membership_renew.c  certificates that get a new term: /grid/v1/renew
 *   membership_admin.c  tokens, changes and removals
 *
 * Floor: grid.  Thread: the loop's.  Allocates: all its parts, at creation.
 * Invariants: a member that is removed is refused on the grid port and by the nats-server of every
 * gateway that has heard of it; whoever is unknown is refused too, certificate or not. */
#pragma once
#include "grid/registry.h"
#include "grid/token.h"

struct bus;
struct grid_port;
struct identity;
struct loop;
struct membership;
struct sl_buf;

#define MEMBERSHIP_ADVERTISE_MAX 8
#define MEMBERSHIP_ADMIN_CHARS 47 /* "sla-" and 256 bits */

/* All is borrowed and outlives the membership. */
struct membership_cfg {
    struct loop *loop;
    const char *home;          /* its grid/ has the identity: membership_open_grid, join_grid */
    const char *name;          /* NULL: as before, or the host's */
    const char *const *labels; /* "key=value" */
    size_t n_labels;           /* 0: as before */
    const char *grid_host;     /* where the grid port and the bus listen; NULL: everywhere */
    uint16_t grid_port;        /* 0: the first free one */
    const char *const
        *advertise; /* addresses at which others reach this machine, besides its own */
    size_t n_advertise;
    const char *const *bus_urls; /* of a NATS that runs already; none: the gateways' own */
    size_t n_bus_urls;
    const char *bus_creds, *bus_user, *bus_password, *bus_ca; /* for it; NULL: none */
    int64_t certificate_s; /* how long those it signs are valid; 0: as pki.h says (for tests) */
    /* Something in the registry has changed; at the end of the turn. NULL is fine, as below. */
    void (*on_change)(void *ctx);
    void (*on_bus)(void *ctx, bool connected); /* it came or went */
    /* This machine was removed from the grid: it should end, saying so. */
    void (*on_removed)(void *ctx, const char *message);
    void *ctx;
};

/* Makes a grid in home if there is none: the root, and this machine's identity as a gateway.
 * INVALID: this HOME has joined a grid as a node. */
SL_CHECK sl_status membership_open_grid(const char *home, struct sl_err *err);
/* Writes the host's name, which is a member's unless it has another. */
void membership_host_name(char out[GRID_NAME_SIZE]);

/* Starts everything: INVALID, NOT_FOUND (no identity, or no nats-server on this machine), DENIED
 * (removed from the grid), EXISTS and BUSY (ports), NOMEM, IO, ... */
SL_CHECK sl_status membership_create(const struct membership_cfg *cfg, struct membership **out,
                                     struct sl_err *err);
/* The loop makes no turn after it. NULL is fine. */
void membership_destroy(struct membership *membership);

const char *membership_self(const struct membership *membership); /* its id */
/* What it has, borrowed: as long as the membership lives. */
bool membership_is_gateway(const struct membership *membership);
const struct identity *membership_identity(const struct membership *membership);
const struct registry *membership_registry(const struct membership *membership);
struct bus *membership_bus(struct membership *membership);
struct grid_port *membership_port(struct membership *membership);
/* What is known of this machine: the registry's entry, with the addresses of now. */
void membership_entry(const struct membership *membership, struct member *out);

/* Appends the text of a token: for the gateway's first start, before the loop runs. Blocks. */
SL_CHECK sl_status membership_first_token(struct membership *membership,
                                          const struct token_terms *terms, struct sl_buf *out,
                                          struct sl_err *err);

/* --- what administrators do, at a gateway; answers come from the loop, once stored --- */

/* The credential is the text in HOME/grid/admin.key, which only the owner of HOME can read.
 * `credential` is an Authorization header's value ("Bearer ..."), or NULL. */
bool membership_is_admin(const struct membership *membership, const char *credential);

/* `text`: a new token's; `rows`: what was asked for. Both live during the call. */
typedef void (*membership_token_fn)(void *ctx, const struct sl_err *err, const char *text,
                                    const struct token_row *rows, size_t n);
typedef void (*membership_done_fn)(void *ctx, const struct sl_err *err);

/* Each as token.h; err->status is OK or says why not. BUSY, NOMEM: fn is not called. */
SL_CHECK sl_status membership_token_make(struct membership *membership,
                                         const struct token_terms *terms, membership_token_fn fn,
                                         void *ctx);
SL_CHECK sl_status membership_token_list(struct membership *membership, membership_token_fn fn,
                                         void *ctx);
SL_CHECK sl_status membership_token_revoke(struct membership *membership, const char *id,
                                           membership_token_fn fn, void *ctx);

/* NULL leaves things as they are. */
struct membership_change {
    const enum node_duty *duty;
    const char *name;
    const char *const *labels;
    size_t n_labels; /* with labels not NULL */
};
/* Changes a member's entry. NOT_FOUND, INVALID, LIMIT at once; fn (NULL is fine) once it is
 * stored. */
SL_CHECK sl_status membership_change(struct membership *membership, const char *id,
                                     const struct membership_change *change, membership_done_fn fn,
                                     void *ctx, struct sl_err *err);
/* Removes a member: nothing of it is accepted any more, and it is told. INVALID: this machine
 * itself; as membership_change. */
SL_CHECK sl_status membership_remove(struct membership *membership, const char *id,
                                     membership_done_fn fn, void *ctx, struct sl_err *err);
