/* stage_host.h: the stages that this member runs in other members' chains (docs/split.md). A head
 * opens a control link and says OPEN; the host gets the stage's weights, starts a worker with them,
 * says READY, and carries messages between the worker and the links until one of them ends.
 *
 *   OPEN -> fetching (the part of the file that is not here) -> loading -> READY -> ended
 *             |  FAILED: does not fit, no such file, its worker died, the next stage is gone
 *
 * Floor: grid.  Thread: the loop's.  Allocates: a stage, at most STAGE_HOST_MAX.
 * Invariants: a stage lives exactly as long as its control link; its memory is charged to the
 * node's budget while it has a worker or is about to (node_charge). When it ends for a reason of
 * its own the head hears that reason. */
#pragma once
#include "base/err.h"
#include "grid/grid_msg.h"
#include <stddef.h>
#include <stdint.h>

struct fetch_parts;
struct loop;
struct node;
struct stage_host;
struct stage_links;

#define STAGE_HOST_MAX 16 /* of a member: its memory ends sooner */

struct stage_host_cfg {
    struct loop *loop; /* borrowed, as all here */
    struct stage_links *links;
    struct node *node; /* whose budget is charged; workers run as its own do */
    struct fetch_parts *parts;
};

/* Takes the links that are opened to this member. NOMEM. */
SL_CHECK sl_status stage_host_create(const struct stage_host_cfg *cfg, struct stage_host **out,
                                     struct sl_err *err);
/* Ends all stages; before the links and the node are destroyed. NULL is fine. */
void stage_host_destroy(struct stage_host *host);

/* Fills in up to max stages; strings live until the next turn. Returns how many there are. */
size_t stage_host_list(const struct stage_host *host, struct grid_stage_hosted *out, size_t max);

struct stage_host_stats {
    uint64_t n_stages, bytes;                      /* now */
    uint64_t n_opened, n_refused, n_ready, n_died; /* ever */
};
void stage_host_stats_get(const struct stage_host *host, struct stage_host_stats *out);
