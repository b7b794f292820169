/* fetch.h: brings models into this machine's store: from the nearest member that has them, else
 * from another that has, else from where their names say they come from. See
 * docs/model-distribution.md.
 *
 *   fetch_start -> waiting -> the members are asked how near they are (the time to connect)
 *               -> pull from the nearest, the next, ... -> pull from the origin -> on_done
 *
 * A source that fails in the middle costs nothing that is here: the next one goes on.
 * Floor: grid.  Thread: the loop's; the work is done on FETCH_THREADS of its own.  Allocates: a
 * struct a model, at most FETCH_WAITING_MAX.
 * Invariant: every fetch that was started ends with one on_done, unless fetch_destroy comes first;
 * what is told done is in the store with the digest that was asked for. */
#pragma once
#include "base/err.h"
#include "grid/grid_msg.h"
#include "grid/store.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetch;
struct loop;

#define FETCH_THREADS 2      /* models at a time; each has several connections */
#define FETCH_WAITING_MAX 64 /* with those under way */
#define FETCH_SOURCES_MAX GRID_SOURCES_MAX

/* A member that has the model. */
struct fetch_source {
    char id[GRID_ID_SIZE];
    char address[GRID_ADDRESS_SIZE]; /* "10.0.0.7:4230", "[fd00::7]:4230" */
};

struct fetch_cfg {
    struct loop *loop;
    struct store *store;
    /* As whom to come; without it members are not asked. */
    const char *ca_path, *cert_path, *key_path;
    bool no_origin; /* members only: nothing is fetched from outside the grid */
    /* why NULL: it is there. From the loop, never from within a call. */
    void (*on_done)(void *ctx, const char *name, const struct sl_err *why);
    void *ctx;
};

/* Strings are copied. NOMEM, UNAVAILABLE (no thread). */
SL_CHECK sl_status fetch_create(const struct fetch_cfg *cfg, struct fetch **out,
                                struct sl_err *err);
/* Stops what is under way (what has come stays for the next time) and waits for the threads. The
 * loop must not run again afterwards. NULL is fine. */
void fetch_destroy(struct fetch *fetch);

/* Begins. digest: as store_model.digest; "": whatever the name means. The sources' order does not
 * matter. OK also when the same name is under way already. BUSY: FETCH_WAITING_MAX. INVALID. */
SL_CHECK sl_status fetch_start(struct fetch *fetch, const char *name, const char *digest,
                               const struct fetch_source *sources, size_t n_sources,
                               struct sl_err *err);
void fetch_cancel(struct fetch *fetch, const char *name); /* on_done follows, CANCELLED */

struct fetch_progress {
    const char *name;
    const char *from;     /* a member's id, "origin"; "" while it waits */
    uint64_t done, total; /* bytes; total 0: not known yet */
    uint64_t bytes_per_s; /* of the last second or so */
    bool running;
};
/* Calls fn for each fetch that waits or is under way, in the order they were started; what it is
 * given is valid during its call. */
void fetch_each(struct fetch *fetch, void (*fn)(void *ctx, const struct fetch_progress *progress),
                void *ctx);

struct fetch_stats {
    uint64_t n_done, n_failed, n_from_members, n_from_origin;
    uint64_t bytes; /* that came, from wherever */
};
/* Since it was created. */
void fetch_stats_get(const struct fetch *fetch, struct fetch_stats *out);

/* Sorts by the time a connection takes, measured now, all at once, within `timeout_ms`; those that
 * do not answer come last. Blocks. Returns how many answered. */
size_t fetch_sort_by_distance(struct fetch_source *sources, size_t n, int timeout_ms);
