#include "access/metrics_grid.h"
#include "access/metrics.h"

#include <string.h>

#define LABELS_MAX 1024

/* --- what there is --- */

static void read_member(void *ctx, const struct dispatch_member *member)
{
    struct metrics_grid *out = ctx;
    if (member->rtt_s < 0 || out->n_members == METRICS_GRID_MEMBERS_MAX) return;
    out->members[out->n_members++] = (struct metrics_grid_member){
        .id = member->id, .name = member->name, .rtt_s = member->rtt_s};
}

void metrics_grid_read(const struct metrics_grid_parts *parts, struct metrics_grid *out)
{
    memset(out, 0, sizeof *out);
    dispatch_stats_get(parts->dispatch, &out->dispatch);
    bus_stats(parts->bus, &out->bus);
    if (parts->blobs) blobs_stats_get(parts->blobs, &out->blobs);
    if (parts->fetch) fetch_stats_get(parts->fetch, &out->fetch);
    if (parts->fetch_parts) fetch_part_stats_get(parts->fetch_parts, &out->parts);
    if (parts->links) stage_links_stats_get(parts->links, &out->links);
    dispatch_members(parts->dispatch, read_member, out);
}

/* --- as text --- */

/* A sample. Rows with the same name follow each other; the first of them has type and help. */
struct row {
    const char *name, *type, *help;
    const char *label, *value; /* NULL: none */
    size_t offset, size;       /* of a bool, uint32_t or uint64_t in struct metrics_grid */
};
#define MEMBER_SIZE(member) sizeof(((struct metrics_grid *)NULL)->member)
#define SOME(name, type, help, label, value, member) \
    { \
        "starlane_grid_" name, type, help, label, value, offsetof(struct metrics_grid, member), \
            MEMBER_SIZE(member) \
    }
#define GAUGE(name, help, member) SOME(name, "gauge", help, NULL, NULL, member)
#define TOTAL(name, help, member) SOME(name "_total", "counter", help, NULL, NULL, member)

/* clang-format off */
static const struct row rows[] = {
    SOME("members", "gauge", "By what is heard of them.", "state", "alive",
         dispatch.n_members_alive),
    SOME("members", NULL, NULL, "state", "suspect", dispatch.n_members_suspect),
    SOME("members", NULL, NULL, "state", "dead", dispatch.n_members_dead),
    SOME("members", NULL, NULL, "state", "left", dispatch.n_members_left),
    GAUGE("models", "With different contents.", dispatch.n_models),
    GAUGE("places", "1 at the gateway that decides which models are loaded where.",
          dispatch.places),
    GAUGE("requests_live", "Of this gateway, as all of them.", dispatch.router.n_live),
    GAUGE("requests_pending", "Of them, no member has them.", dispatch.router.n_pending),
    GAUGE("attempts", "Requests that members have, second tries too.",
          dispatch.router.n_attempts),
    SOME("requests_total", "counter", "By how they ended.", "end", "finished",
         dispatch.router.n_finished),
    SOME("requests_total", NULL, NULL, "end", "failed", dispatch.router.n_failed),
    SOME("requests_total", NULL, NULL, "end", "expired", dispatch.router.n_expired),
    SOME("requests_total", NULL, NULL, "end", "cancelled", dispatch.router.n_cancelled),
    TOTAL("requests_submitted", "Taken in.", dispatch.router.n_submitted),
    TOTAL("requests_sent", "To a member; one may be sent more than once.",
          dispatch.router.n_sent),
    TOTAL("requests_refused", "By a member that was full.", dispatch.router.n_refused),
    TOTAL("requests_retried", "Sent again after a failure.", dispatch.router.n_retried),
    TOTAL("requests_moved", "Sent again because their member died.", dispatch.router.n_moved),
    TOTAL("requests_hedged", "Sent to a second member beside the first.",
          dispatch.router.n_hedged),
    TOTAL("hedges_won", "The second member was first.", dispatch.router.n_hedges_won),
    TOTAL("requests_resumed", "Answers that went on at another member.", dispatch.n_resumed),
    TOTAL("loads", "Of models, told to members by this gateway.", dispatch.n_loads),
    TOTAL("unloads", "Likewise.", dispatch.n_unloads),
    GAUGE("chains", "Models over several members that this gateway keeps.", dispatch.n_chains),
    TOTAL("plans", "Chains, told to members by this gateway.", dispatch.n_plans),
    TOTAL("replans", "Of them, in place of one that broke or was worse.", dispatch.n_replans),
    TOTAL("events_missed", "Gaps in answers, which were asked for again.", dispatch.n_gaps),
    TOTAL("events_repeated", "Came more than once.", dispatch.n_duplicates),
    TOTAL("runs_repeated", "Requests whose first sending was lost.", dispatch.n_runs_again),
    GAUGE("bus_connected", "1 while there is a connection to NATS.", bus.connected),
    TOTAL("bus_connects", "Connections made.", bus.n_connects),
    TOTAL("bus_sent_messages", "To NATS.", bus.n_sent),
    TOTAL("bus_sent_bytes", "In them.", bus.bytes_sent),
    TOTAL("bus_received_messages", "From NATS.", bus.n_received),
    TOTAL("bus_received_bytes", "In them.", bus.bytes_received),
    TOTAL("bus_local_messages", "Delivered within this process.", bus.n_local),
    SOME("bus_lost_total", "counter", "Messages, by reason.", "reason", "unsent", bus.n_unsent),
    SOME("bus_lost_total", NULL, NULL, "reason", "overflow", bus.n_overflow),
    SOME("bus_lost_total", NULL, NULL, "reason", "broken", bus.n_broken),
    SOME("bus_lost_total", NULL, NULL, "reason", "refused", bus.n_refused),
    SOME("bus_lost_total", NULL, NULL, "reason", "corrupt", dispatch.n_corrupt),
    GAUGE("blob_transfers", "Files on their way to members now.", blobs.n_transfers),
    TOTAL("blobs_sent", "Files, or ranges of them, to members.", blobs.n_sent),
    TOTAL("blobs_refused", "Asked for in vain.", blobs.n_refused),
    TOTAL("blobs_sent_bytes", "To members.", blobs.bytes_sent),
    SOME("fetches_total", "counter", "Models, by source.", "source", "member",
         fetch.n_from_members),
    SOME("fetches_total", NULL, NULL, "source", "origin", fetch.n_from_origin),
    TOTAL("fetches_failed", "Models that came from nowhere.", fetch.n_failed),
    TOTAL("fetch_received_bytes", "Of models.", fetch.bytes),
    SOME("part_fetches_total", "counter", "Parts of models for stages, by how they ended.", "end",
         "done", parts.n_done),
    SOME("part_fetches_total", NULL, NULL, "end", "failed", parts.n_failed),
    TOTAL("part_fetch_received_bytes", "Of parts, from members, and right.", parts.bytes),
    TOTAL("part_fetch_bad_chunks", "Of parts, that came and were wrong.", parts.n_bad_chunks),
    SOME("stage_links", "gauge", "Of this member, between stages of split models.", "transport",
         "direct", links.n_direct),
    SOME("stage_links", NULL, NULL, "transport", "relayed", links.n_relayed),
    TOTAL("stage_links_opened", "By this member and to it.", links.n_opened),
    TOTAL("stage_links_broken", "Ended though nobody meant to.", links.n_broken),
    TOTAL("stage_links_sent_bytes", "To other stages.", links.bytes_sent),
    TOTAL("stage_links_received_bytes", "From other stages.", links.bytes_received),
};
/* clang-format on */

static double value_of(const struct row *row, const struct metrics_grid *grid)
{
    const char *at = (const char *)grid + row->offset;
    if (row->size == sizeof(bool)) return *(const bool *)at;
    if (row->size == sizeof(uint32_t)) return *(const uint32_t *)at;
    return (double)*(const uint64_t *)at;
}

static sl_status write_row(const struct row *row, const struct metrics_grid *grid,
                           struct sl_buf *labels, struct sl_buf *out)
{
    sl_status status = SL_OK;
    sl_buf_clear(labels);
    if (row->type) status = metrics_write_head(out, row->name, row->type, row->help);
    if (!grid || status != SL_OK) return status;
    if (row->label) status = metrics_write_label(labels, row->label, row->value);
    if (status != SL_OK) return status;
    return metrics_write_sample(out, row->name, row->label ? labels->data : NULL,
                                value_of(row, grid));
}

static sl_status write_round_trips(const struct metrics_grid *grid, struct sl_buf *labels,
                                   struct sl_buf *out)
{
    static const char name[] = "starlane_grid_member_rtt_seconds";
    sl_status status = metrics_write_head(out, name, "gauge", "Round trip over the bus.");
    for (size_t i = 0; grid && i < grid->n_members && status == SL_OK; i++) {
        sl_buf_clear(labels);
        status = metrics_write_label(labels, "member", grid->members[i].id);
        if (status == SL_OK) status = sl_buf_addc(labels, ',');
        if (status == SL_OK) status = metrics_write_label(labels, "name", grid->members[i].name);
        if (status == SL_OK)
            status = metrics_write_sample(out, name, labels->data, grid->members[i].rtt_s);
    }
    return status;
}

sl_status metrics_write_grid(const struct metrics_grid *grid, struct sl_buf *out)
{
    struct sl_buf labels;
    sl_status status = SL_OK;
    sl_buf_init(&labels, LABELS_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof *rows && status == SL_OK; i++)
        status = write_row(&rows[i], grid, &labels, out);
    if (status == SL_OK) status = write_round_trips(grid, &labels, out);
    sl_buf_done(&labels);
    return status;
}
