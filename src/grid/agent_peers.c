/* agent_peers.c: the ways from this member to all others that the registry knows, measured so
 * lightly that nobody notices: a direct connection now and then (probe.h), one at a time in turn;
 * and for who cannot be reached so, or not yet, pings over the bus (peers.h), unless somebody here
 * pings already. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "grid/agent_int.h"
#include "grid/peers.h"
#include "grid/probe.h"
#include "grid/registry.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S INT64_C(1000000000)
#define ROUND_NS (1 * S)
#define PROBE_EVERY_NS (2 * S)  /* two milliseconds of a core each: a thousandth */
#define WIDE_REFILL_NS (60 * S) /* a megabyte of the network each minute, */
#define WIDES_MAX 4             /* and so many at once, for who has just come */
#define RETRY_NS (60 * S)       /* after a way could not be gone directly */
#define TRUST_NS (900 * S)      /* a value that is older counts no more */
#define NEWEST_WEIGHT 0.3       /* of a new round trip that is longer than what was known */
#define LOOK_NS (5 * S)         /* at the registry */
/* Pings of the agent have this bit and not the dispatcher's, the highest. */
#define PING_AGENT (UINT64_C(1) << 61)
#define PING_OTHERS (UINT64_C(7) << 61 & ~PING_AGENT)

/* A member and the direct way to it. */
struct way {
    char id[GRID_ID_SIZE];
    double rtt_s, bytes_per_s;             /* the latter 0: not known */
    int64_t measured_ns, wide_ns, next_ns; /* INT64_MIN: never; next: not before */
};

struct agent_peers {
    struct agent *agent;
    struct peers *pings; /* over the bus; NULL: others ping */
    struct loop_timer *timer;
    struct way *ways, *spare; /* [n_max] each; by id */
    size_t n, n_max, next;
    char asked[GRID_ID_SIZE]; /* whose way is measured now; "": nobody's */
    bool asked_wide;
    int n_wides; /* that may be asked for */
    int64_t looked_ns, probed_ns, refilled_ns;
};

static int by_id(const void *id, const void *way)
{
    return strcmp(id, ((const struct way *)way)->id);
}

static struct way *way_of(const struct agent_peers *p, const char *id)
{
    return p->n ? bsearch(id, p->ways, p->n, sizeof *p->ways, by_id) : NULL;
}

static bool is_known(const struct way *way, int64_t now_ns)
{
    return way->measured_ns != INT64_MIN && now_ns - way->measured_ns < TRUST_NS;
}

/* --- who is there --- */

static struct way way_new(struct agent_peers *p, const char *id)
{
    struct way way = {.measured_ns = INT64_MIN, .wide_ns = INT64_MIN, .next_ns = INT64_MIN};
    snprintf(way.id, sizeof way.id, "%s", id);
    if (p->pings) (void)!peers_add(p->pings, id);
    return way;
}

static void forget(struct agent_peers *p, const struct way *way)
{
    if (p->pings) peers_remove(p->pings, way->id);
}

/* Room for so many; without memory some are not measured. */
static size_t make_room(struct agent_peers *p, size_t n)
{
    if (n <= p->n_max) return n;
    struct way *ways = sl_calloc(n, sizeof *ways), *spare = sl_calloc(n, sizeof *spare);
    if (!ways || !spare) {
        sl_free(ways);
        sl_free(spare);
        return p->n_max;
    }
    if (p->n) memcpy(ways, p->ways, p->n * sizeof *ways);
    sl_free(p->ways);
    sl_free(p->spare);
    p->ways = ways;
    p->spare = spare;
    p->n_max = n;
    return n;
}

/* Both lists are in the order of ids: one pass tells who came and who went. */
static void look_at_members(struct agent_peers *p)
{
    const struct agent_cfg *cfg = &p->agent->cfg;
    size_t n_max = make_room(p, registry_count(cfg->registry)), n = 0, old = 0;
    for (size_t i = 0; i < registry_count(cfg->registry) && n < n_max; i++) {
        const struct member *member = registry_at(cfg->registry, i);
        if (member->removed || !strcmp(member->id, cfg->self)) continue;
        while (old < p->n && strcmp(p->ways[old].id, member->id) < 0) forget(p, &p->ways[old++]);
        bool known = old < p->n && !strcmp(p->ways[old].id, member->id);
        p->spare[n++] = known ? p->ways[old++] : way_new(p, member->id);
    }
    while (old < p->n) forget(p, &p->ways[old++]);
    struct way *ways = p->ways;
    p->ways = p->spare;
    p->spare = ways;
    p->n = n;
}

/* --- directly --- */

/* The least counts at once, a longer one by and by: what queues add comes and goes. */
static void take_rtt(struct way *way, double rtt_s, int64_t now_ns)
{
    if (!is_known(way, now_ns) || rtt_s < way->rtt_s)
        way->rtt_s = rtt_s;
    else
        way->rtt_s += NEWEST_WEIGHT * (rtt_s - way->rtt_s);
    way->measured_ns = now_ns;
}

static void on_measured(void *ctx, const struct probe_result *result, const struct sl_err *why)
{
    struct agent_peers *p = ctx;
    struct way *way = way_of(p, p->asked);
    int64_t now_ns = sl_now_ns();
    p->asked[0] = '\0';
    if (!way) return;
    if (!result) {
        sl_log(SL_LOG_DEBUG, "agent", "no direct way to %s: %s", way->id, why->text);
        way->next_ns = now_ns + RETRY_NS;
        return;
    }
    take_rtt(way, result->rtt_s, now_ns);
    if (!p->asked_wide) return;
    way->bytes_per_s = result->bytes_per_s;
    way->wide_ns = now_ns;
}

/* At the first of its addresses: others are for who is on other networks. */
static void probe(struct agent_peers *p, struct way *way, int64_t now_ns)
{
    const struct agent_cfg *cfg = &p->agent->cfg;
    const struct member *member = registry_find(cfg->registry, way->id);
    char address[GRID_ADDRESS_SIZE];
    struct sl_err err = SL_ERR_INIT;
    if (!member || !member_list_item(member->addresses, 0, address, sizeof address)) return;
    bool stale = way->wide_ns == INT64_MIN || now_ns - way->wide_ns >= TRUST_NS / 2;
    p->asked_wide = stale && p->n_wides > 0;
    p->probed_ns = now_ns;
    memcpy(p->asked, way->id, sizeof p->asked);
    if (probes_measure(cfg->probes, way->id, address, p->asked_wide, on_measured, p, &err) !=
        SL_OK) {
        p->asked[0] = '\0';
        way->next_ns = now_ns + RETRY_NS;
    } else if (p->asked_wide) {
        p->n_wides--;
    }
}

static void probe_next(struct agent_peers *p, int64_t now_ns)
{
    if (p->n_wides < WIDES_MAX && now_ns - p->refilled_ns >= WIDE_REFILL_NS) {
        p->n_wides++;
        p->refilled_ns = now_ns;
    }
    if (!p->agent->cfg.probes || p->asked[0] || now_ns - p->probed_ns < PROBE_EVERY_NS) return;
    for (size_t i = 0; i < p->n; i++) {
        struct way *way = &p->ways[p->next++ % p->n];
        if (now_ns < way->next_ns) continue;
        probe(p, way, now_ns);
        return;
    }
}

/* --- over the bus --- */

static void ping_some(struct agent_peers *p, int64_t now_ns)
{
    struct peers_ping round[PEERS_ROUND_MAX];
    size_t n = p->pings ? peers_round(p->pings, now_ns, round) : 0;
    for (size_t i = 0; i < n; i++) {
        const struct way *way = way_of(p, round[i].id);
        if (!way || is_known(way, now_ns)) continue;
        const struct grid_msg msg = {.type = GRID_PING,
                                     .ping = {.seq = round[i].seq | PING_AGENT,
                                              .sent_ns = now_ns,
                                              .n_padding = round[i].n_padding}};
        agent_send(p->agent, "ping", round[i].id, &msg);
    }
}

void agent_on_pong(struct agent *agent, const char *id, const struct grid_ping *pong)
{
    struct agent_peers *p = agent->peers;
    if (!p || !p->pings || !(pong->seq & PING_AGENT) || (pong->seq & PING_OTHERS)) return;
    (void)peers_pong(p->pings, id, pong->seq & ~PING_AGENT, sl_now_ns());
}

static void each_second(void *ctx)
{
    struct agent_peers *p = ctx;
    int64_t now_ns = sl_now_ns();
    if (now_ns - p->looked_ns >= LOOK_NS) {
        p->looked_ns = now_ns;
        look_at_members(p);
    }
    if (p->n) probe_next(p, now_ns);
    ping_some(p, now_ns);
    loop_timer_set(p->timer, ROUND_NS);
}

/* --- what is told --- */

/* Members that are not in the list yet. */
static size_t add_new(struct grid_peer *v, size_t n, const struct grid_peer *more, size_t n_more,
                      size_t max)
{
    for (size_t i = 0; i < n_more && n < max; i++) {
        size_t k = 0;
        while (k < n && strcmp(v[k].id, more[i].id) != 0) k++;
        if (k == n) v[n++] = more[i];
    }
    return n;
}

static int by_distance(const void *a, const void *b)
{
    const struct grid_peer *x = a, *y = b;
    return (x->rtt_s > y->rtt_s) - (x->rtt_s < y->rtt_s);
}

/* Directly where that is known, else over the bus. */
static size_t list_ways(const struct agent_peers *p, struct grid_peer *out)
{
    int64_t now_ns = sl_now_ns();
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct way *way = &p->ways[i];
        struct peers_stats stats;
        if (is_known(way, now_ns))
            out[n++] = (struct grid_peer){way->id, way->rtt_s, way->bytes_per_s};
        else if (p->pings && peers_get(p->pings, way->id, &stats) && stats.rtt_s >= 0 &&
                 now_ns - stats.heard_ns < TRUST_NS)
            out[n++] = (struct grid_peer){way->id, stats.rtt_s,
                                          stats.bytes_per_s > 0 ? stats.bytes_per_s : 0};
    }
    return n;
}

size_t agent_peers_list(struct agent *agent, struct grid_peer *out, size_t max)
{
    const struct agent_cfg *cfg = &agent->cfg;
    const struct agent_peers *p = agent->peers;
    struct grid_peer others[GRID_PEERS_MAX];
    size_t n = 0;
    if (p && p->n) {
        struct grid_peer *ways = sl_arena_array(&agent->arena, p->n, sizeof *ways);
        size_t n_ways = ways ? list_ways(p, ways) : 0;
        /* Of too many the nearest ones are of use to each other. */
        if (n_ways > max) qsort(ways, n_ways, sizeof *ways, by_distance);
        n = n_ways < max ? n_ways : max;
        if (n) memcpy(out, ways, n * sizeof *out);
    }
    size_t n_others = cfg->peers ? cfg->peers(cfg->ctx, others, GRID_PEERS_MAX) : 0;
    return add_new(out, n, others, n_others, max);
}

/* --- life --- */

sl_status agent_peers_start(struct agent *agent, struct sl_err *err)
{
    if (!agent->cfg.registry) return SL_OK;
    struct agent_peers *p = agent->peers = sl_calloc(1, sizeof *p);
    if (!p) return sl_err_set(err, SL_NOMEM, "agent");
    p->agent = agent;
    p->n_wides = WIDES_MAX;
    p->looked_ns = p->probed_ns = p->refilled_ns = sl_now_ns() - LOOK_NS;
    sl_status status = loop_timer_create(agent->cfg.loop, each_second, p, &p->timer);
    if (status != SL_OK) return sl_err_set(err, status, "agent");
    if (!agent->cfg.peers) status = peers_create(AGENT_PEERS_MAX, &p->pings, err);
    if (status == SL_OK) loop_timer_set(p->timer, ROUND_NS);
    return status;
}

void agent_peers_stop(struct agent *agent)
{
    struct agent_peers *p = agent->peers;
    if (!p) return;
    if (p->asked[0]) probes_forget(agent->cfg.probes);
    loop_timer_destroy(p->timer);
    peers_destroy(p->pings);
    sl_free(p->ways);
    sl_free(p->spare);
    sl_free(p);
    agent->peers = NULL;
}
