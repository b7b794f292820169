/* join.h: how a machine becomes a member, from its own side. It makes its key, which never leaves
 * it, finds the gateway of the token, makes sure by the token's pin that it is that grid, shows the
 * secret, and gets a certificate for its key. And how a member that starts again says hello.
 * The other side is join_server.h; docs/grid.md has the messages.
 * Floor: grid.  Thread: both calls block: before the loop runs, or on a thread of their own.
 * Allocates: little.
 * Invariant: nothing secret is sent before the pin was found right. */
#pragma once
#include "grid/identity.h"
#include "grid/registry.h"

#include <stdatomic.h>

#define JOIN_PATH_CA "/grid/v1/ca"       /* GET, for anybody: the root certificate, PEM */
#define JOIN_PATH_JOIN "/grid/v1/join"   /* POST, for who has a token */
#define JOIN_PATH_HELLO "/grid/v1/hello" /* POST, for members */
#define JOIN_PEERS_MAX 64                /* gateways that are tried, one after the other */

struct join_cfg {
    const char *home;
    const char *token; /* its text */
    bool gateway;      /* wants to be one */
    const char *name;
    const char *const *labels;
    size_t n_labels;
};

/* Joins: afterwards the machine has its identity in HOME/grid and the members in state.db. *out_id
 * is who it is now. INVALID: the token's text, the name, a label, or this HOME belongs to another
 * grid; DENIED: token expired, used up or revoked, or another grid at its address; UNAUTHENTICATED:
 * the gateway does not know the token; BUSY: too many wrong tries; UNAVAILABLE: no address answers.
 * err is one line that says what to do. */
SL_CHECK sl_status join_grid(const struct join_cfg *cfg, char out_id[GRID_ID_SIZE],
                             struct sl_err *err);

/* A gateway to say hello to. */
struct join_peer {
    char id[GRID_ID_SIZE];
    char address[GRID_ADDRESS_SIZE];
};
/* All addresses of all gateways but `self`; returns how many. */
size_t join_peers(const struct registry *registry, const char *self,
                  struct join_peer out[JOIN_PEERS_MAX]);

struct join_greeting {
    const struct identity *identity;
    const struct join_peer *peers;
    size_t n_peers;
    const struct sl_buf *body; /* what this machine says of itself */
    const atomic_bool *cancel; /* NULL: never */
};
/* Says it to one gateway after the other until one answers, and appends what that knows of the
 * members ({"members":[...]}) to out. DENIED: this machine was removed from the grid; UNAVAILABLE:
 * none answers; CANCELLED. */
SL_CHECK sl_status join_hello(const struct join_greeting *greeting, struct sl_buf *out,
                              struct sl_err *err);
