/* gateway.h: the HTTP side of the service: who may do what, which API, which model.
 *
 *   http_server -> call.c (who, how much) -> routes.c -> openai_*.c, ollama_*.c
 *       -> generation.c, embedding.c, ... -> grid
 *
 * Floor: access.  Thread: the loop's.  Allocates: a call's memory, within the limits of its
 * request.
 * Invariant: every request is answered exactly once, unless its client has gone; the usage of
 * every request that a model worked for is stored before the last byte of its answer is sent. */
#pragma once
#include "base/err.h"
#include "sched/local.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blobs;
struct fetch;
struct fetch_parts;
struct gateway;
struct grid;
struct http_server;
struct keys;
struct loop;
struct membership;
struct store;
struct telemetry_sampler;
struct usage;

/* All is borrowed and outlives the gateway. */
struct gateway_cfg {
    struct loop *loop;
    struct grid *grid;
    struct store *store;
    struct keys *keys;             /* with any key in it, every request needs one */
    struct usage *usage;           /* NULL: usage is not recorded (tests) */
    struct membership *membership; /* NULL: this machine is in no grid */
    struct blobs *blobs;           /* in a grid, for metrics; NULL is fine, as below */
    struct fetch *fetch;
    struct fetch_parts *fetch_parts;
    struct telemetry_sampler *telemetry; /* NULL: nothing is known of this machine */
    const char *version;                 /* of the program */
    const char *origins; /* of web pages that may use it besides this machine's; see origin.h */
    bool local_only;     /* it listens on loopback only: a Host header must name this machine */
    enum sched_class qos_default;
    size_t body_bytes_max; /* 0: the HTTP server's default, as below */
    size_t n_connections_max;
};

/* NOMEM, IO, INVALID. */
SL_CHECK sl_status gateway_create(const struct gateway_cfg *cfg, struct gateway **out,
                                  struct sl_err *err);
void gateway_destroy(struct gateway *gateway); /* NULL is fine; calls under way are dropped */

/* For http_server_listen and its statistics. */
struct http_server *gateway_server(struct gateway *gateway);

/* Ends all calls under way as if their clients had gone: before usage_close at a shutdown that does
 * not wait. */
void gateway_abort(struct gateway *gateway);

/* The queue of rows of usage is no longer full: hands in those that it refused (usage_cfg's
 * on_room). */
void gateway_save_rest(struct gateway *gateway);

/* Takes no more requests, lets those under way finish, then calls on_drained from the loop. */
void gateway_drain(struct gateway *gateway, void (*on_drained)(void *ctx), void *ctx);
