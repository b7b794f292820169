/* metrics_grid.h: what this gateway knows of its grid, as Prometheus text: starlane_grid_*.
 * Floor: access.  Thread: the loop's.  Allocates: in the buffer only.
 * Invariants: the names are always there, on a machine that is in no grid without samples; at most
 * METRICS_GRID_MEMBERS_MAX members have samples of their own. */
#pragma once
#include "base/buf.h"
#include "grid/blobs.h"
#include "grid/bus.h"
#include "grid/dispatch.h"
#include "grid/fetch.h"
#include "grid/fetch_part.h"
#include "grid/stage_link.h"

/* Those with the lowest ids; a gateway measures the way to each other member itself. */
#define METRICS_GRID_MEMBERS_MAX 128

struct metrics_grid {
    struct dispatch_stats dispatch;
    struct bus_stats bus;
    struct blobs_stats blobs;
    struct fetch_stats fetch;
    struct fetch_part_stats parts;
    struct stage_links_stats links;
    struct metrics_grid_member {
        const char *id, *name;
        double rtt_s;
    } members[METRICS_GRID_MEMBERS_MAX]; /* to whom the round trip has been measured */
    size_t n_members;
};

/* What the numbers are read from. */
struct metrics_grid_parts {
    struct dispatch *dispatch;
    struct bus *bus;
    struct blobs *blobs; /* NULL, as fetch: nothing was ever given or taken */
    struct fetch *fetch;
    struct fetch_parts *fetch_parts; /* likewise */
    struct stage_links *links;       /* NULL: no stages of split models */
};

/* Strings in *out live until the next call into the dispatcher. */
void metrics_grid_read(const struct metrics_grid_parts *parts, struct metrics_grid *out);

/* NULL is fine: names only. LIMIT, NOMEM: out's own. */
SL_CHECK sl_status metrics_write_grid(const struct metrics_grid *grid, struct sl_buf *out);
