/* membership_int.h: what the files behind membership.h share.
 * Floor: grid.  Thread: the loop's.  Allocates: as membership.h. */
#pragma once
#include "base/pool.h"
#include "grid/bus.h"
#include "grid/db_worker.h"
#include "grid/grid_port.h"
#include "grid/identity.h"
#include "grid/membership.h"
#include "grid/nats_server.h"
#include "grid/registry_sync.h"
#include "net/loop.h"

#include <stdatomic.h>

struct hello;
struct renewal;

struct membership {
    struct membership_cfg cfg;
    struct identity *identity;
    struct registry *registry;
    struct registry_sync *sync;
    struct db_worker *worker;
    struct grid_port *port;
    struct loop_timer *tick;
    struct loop_task changed_task; /* follows a change of the registry, at the turn's end */
    bool changed;
    /* Entries that are not handed to the database yet, and whether a write of some has failed. */
    struct member *unsaved;
    size_t n_unsaved, unsaved_cap;
    bool save_all;
    bool told_removed;
    struct member own; /* what this machine says of itself: name, labels, addresses, bus, routes */
    bool own_labels;   /* own.labels were given, own.name likewise */
    bool own_name;
    /* The version of its entry by which it was drained before it started: it is open again. 0:
     * none. A later drain has another version. */
    uint64_t undrains;
    int64_t addresses_at_ns; /* when they are looked at next */
    /* the bus */
    struct nats_server *nats; /* of a gateway, unless cfg.bus_urls */
    struct bus *bus;
    struct bus_subscription *heard;
    char urls[BUS_URLS_MAX * GRID_ADDRESS_SIZE]; /* as bus_set_urls got them last */
    bool connected;
    int64_t heard_ns; /* of another gateway's registry */
    /* hello */
    struct sl_pool *asker;
    struct hello *hello; /* under way; NULL: none */
    atomic_bool stopping;
    int64_t hello_at_ns; /* INT64_MAX: nothing to say */
    int64_t hello_wait_ns;
    /* renewal */
    struct renewal *renewal; /* under way; NULL: none */
    int64_t renew_at_s;      /* Unix time; 0: not looked at yet */
    /* joining and administration, at gateways */
    struct token_guard guard;
    char admin[MEMBERSHIP_ADMIN_CHARS + 1];
};

/* --- membership.c --- */

/* Writes an entry in this gateway's name, tells the others, and has it stored; fn as below. */
SL_CHECK sl_status membership_put(struct membership *m, const struct member *member,
                                  membership_done_fn fn, void *ctx, struct sl_err *err);
/* Hands what is not saved to the database's thread; fn (NULL is fine) is called once it is there.
 * On failure fn is not called. */
SL_CHECK sl_status membership_save(struct membership *m, membership_done_fn fn, void *ctx);
/* This machine is no member any more. */
void membership_tell_removed(struct membership *m);

/* --- membership_bus.c --- */

/* Before the grid port listens: the nats-server's ports are part of what a gateway tells. */
SL_CHECK sl_status membership_bus_start(struct membership *m, struct sl_err *err);
void membership_bus_stop(struct membership *m);
/* The registry has changed: who may connect, and to where. */
void membership_bus_follow(struct membership *m);
/* Fills own.bus and own.routes for these hosts. */
void membership_bus_describe(struct membership *m, const char *hosts);

/* --- membership_hello.c --- */

/* Looks at this machine's addresses: own follows, and a gateway's entry. */
SL_CHECK sl_status membership_look_around(struct membership *m, struct sl_err *err);
/* Says hello in so many nanoseconds, or when it would anyhow if that is sooner. */
void membership_hello_in(struct membership *m, int64_t in_ns);
void membership_hello_tick(struct membership *m, int64_t now_ns);
void membership_hello_stop(struct membership *m); /* waits for one under way */
/* Has fn(arg) run on the thread that asks gateways. BUSY, NOMEM, UNAVAILABLE. */
SL_CHECK sl_status membership_ask(struct membership *m, void (*fn)(void *arg), void *arg);

/* --- membership_renew.c --- */

SL_CHECK sl_status membership_renew_start(struct membership *m, struct sl_err *err);
void membership_renew_tick(struct membership *m);
void membership_renew_stop(struct membership *m); /* after membership_hello_stop */

/* --- membership_join.c, membership_admin.c --- */

SL_CHECK sl_status membership_join_start(struct membership *m, struct sl_err *err);
SL_CHECK sl_status membership_admin_start(struct membership *m, struct sl_err *err);
