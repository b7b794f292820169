#include "grid/peers.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

#define NEVER INT64_MIN
#define UNKNOWN (-1.0)
#define TRANSFER_BYTES_MIN (1u << 20) /* below, the connection's beginning is most of it */
#define PADDING_STEP 4                /* a probe that shows nothing is so much larger next time */
#define PROBE_S_MAX 1.0               /* one that takes longer is too large */
#define PROBE_PONGS_MIN 4 /* answers before a probe: rtt_min and jitter mean something */
#define JITTERS 4         /* a probe's extra time below so many jitters is noise */
#define NOISE_S 100e-6    /* and so is this: two processes' wake-ups */

/* The least of a window of time and of the one before. */
struct window {
    int64_t begin_ns;
    double now, before;
};

struct peer {
    char id[PEERS_ID_SIZE]; /* "": a free slot */
    uint64_t seq;           /* of the ping under way; 0: none */
    size_t n_padding;       /* its */
    int64_t sent_ns, probed_ns, heard_ns;
    double rtt_s, jitter_s;
    struct window least;
    size_t next_padding;
    double bytes_per_s;
    bool at_least;
    uint64_t n_pings, n_lost, n_pongs;
};

struct peers {
    size_t n_max, count;
    struct peer *slots; /* [n_max]; a peer stays where it is */
    uint32_t *by_id;    /* [count] slots in the order of their ids */
    uint64_t last_seq;
};

sl_status peers_create(size_t n_max, struct peers **out, struct sl_err *err)
{
    if (n_max == 0 || n_max > PEERS_LIMIT)
        return sl_err_set(err, SL_LIMIT, "peers: 1 to %d", PEERS_LIMIT);
    struct peers *peers = sl_calloc(1, sizeof *peers);
    if (!peers) goto fail;
    peers->n_max = n_max;
    peers->slots = sl_calloc(n_max, sizeof *peers->slots);
    peers->by_id = sl_calloc(n_max, sizeof *peers->by_id);
    if (!peers->slots || !peers->by_id) goto fail;
    *out = peers;
    return SL_OK;
fail:
    peers_destroy(peers);
    return sl_err_set(err, SL_NOMEM, "peers");
}

void peers_destroy(struct peers *peers)
{
    if (!peers) return;
    sl_free(peers->slots);
    sl_free(peers->by_id);
    sl_free(peers);
}

/* --- who is there --- */

/* The place in by_id where the id is, or would be. */
static size_t place_of(const struct peers *peers, const char *id, bool *out_found)
{
    size_t low = 0, high = peers->count;
    *out_found = false;
    while (low < high && !*out_found) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(peers->slots[peers->by_id[middle]].id, id);
        *out_found = order == 0;
        if (order == 0)
            low = middle;
        else if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct peer *find(const struct peers *peers, const char *id)
{
    bool found;
    size_t place = place_of(peers, id, &found);
    return found ? &peers->slots[peers->by_id[place]] : NULL;
}

static uint32_t free_slot(const struct peers *peers)
{
    uint32_t slot = 0;
    while (peers->slots[slot].id[0]) slot++;
    return slot;
}

sl_status peers_add(struct peers *peers, const char *id)
{
    bool found;
    size_t n = strlen(id), place = place_of(peers, id, &found);
    if (n == 0 || n >= PEERS_ID_SIZE) return SL_INVALID;
    if (found) return SL_OK;
    if (peers->count == peers->n_max) return SL_LIMIT;
    uint32_t slot = free_slot(peers);
    peers->slots[slot] = (struct peer){.sent_ns = NEVER,
                                       .probed_ns = NEVER,
                                       .heard_ns = NEVER,
                                       .rtt_s = UNKNOWN,
                                       .least = {NEVER, INFINITY, INFINITY},
                                       .next_padding = PEERS_PADDING_MIN,
                                       .bytes_per_s = UNKNOWN};
    memcpy(peers->slots[slot].id, id, n + 1);
    memmove(peers->by_id + place + 1, peers->by_id + place,
            (peers->count - place) * sizeof *peers->by_id);
    peers->by_id[place] = slot;
    peers->count++;
    return SL_OK;
}

void peers_remove(struct peers *peers, const char *id)
{
    bool found;
    size_t place = place_of(peers, id, &found);
    if (!found) return;
    peers->slots[peers->by_id[place]].id[0] = '\0';
    peers->count--;
    memmove(peers->by_id + place, peers->by_id + place + 1,
            (peers->count - place) * sizeof *peers->by_id);
}

size_t peers_count(const struct peers *peers)
{
    return peers->count;
}

/* --- whom to ping --- */

static bool is_since(int64_t then_ns, int64_t now_ns, int64_t span_ns)
{
    return then_ns == NEVER || now_ns - then_ns >= span_ns;
}

static void give_up_late(struct peer *peer, int64_t now_ns)
{
    if (!peer->seq || !is_since(peer->sent_ns, now_ns, PEERS_LOST_NS)) return;
    peer->seq = 0;
    peer->n_lost++;
    /* It may have been too much for the way. */
    if (peer->n_padding > PEERS_PADDING_MIN) peer->next_padding = peer->n_padding / PADDING_STEP;
}

/* Puts the peer among the n that have waited longest; returns their number. */
static size_t keep_oldest(struct peer **chosen, size_t n, struct peer *peer)
{
    size_t place = n;
    while (place > 0 && chosen[place - 1]->sent_ns > peer->sent_ns) place--;
    if (place == PEERS_ROUND_MAX) return n;
    if (n == PEERS_ROUND_MAX) n--;
    memmove(chosen + place + 1, chosen + place, (n - place) * sizeof *chosen);
    chosen[place] = peer;
    return n + 1;
}

/* Of those chosen, the one whose probe is due the longest; NULL: none is. */
static const struct peer *whom_to_probe(struct peer *const *chosen, size_t n, int64_t now_ns)
{
    const struct peer *best = NULL;
    for (size_t i = 0; i < n; i++) {
        bool due = chosen[i]->n_pongs >= PROBE_PONGS_MIN &&
                   is_since(chosen[i]->probed_ns, now_ns, PEERS_PROBE_NS);
        if (due && (!best || chosen[i]->probed_ns < best->probed_ns)) best = chosen[i];
    }
    return best;
}

size_t peers_round(struct peers *peers, int64_t now_ns, struct peers_ping out[PEERS_ROUND_MAX])
{
    struct peer *chosen[PEERS_ROUND_MAX];
    size_t n = 0;
    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = &peers->slots[peers->by_id[i]];
        give_up_late(peer, now_ns);
        if (!peer->seq && is_since(peer->sent_ns, now_ns, PEERS_PING_NS))
            n = keep_oldest(chosen, n, peer);
    }
    const struct peer *probe = whom_to_probe(chosen, n, now_ns);
    for (size_t i = 0; i < n; i++) {
        struct peer *peer = chosen[i];
        peer->seq = ++peers->last_seq;
        peer->sent_ns = now_ns;
        peer->n_padding = peer == probe ? peer->next_padding : 0;
        if (peer == probe) peer->probed_ns = now_ns;
        peer->n_pings++;
        out[i] = (struct peers_ping){peer->id, peer->seq, peer->n_padding};
    }
    return n;
}

/* --- what the answers say --- */

static double least_of(const struct window *window)
{
    return fmin(window->now, window->before);
}

static void window_add(struct window *window, double value, int64_t now_ns)
{
    if (is_since(window->begin_ns, now_ns, PEERS_MIN_WINDOW_NS)) {
        bool stale = is_since(window->begin_ns, now_ns, 2 * PEERS_MIN_WINDOW_NS);
        window->before = stale ? INFINITY : window->now;
        window->now = INFINITY;
        window->begin_ns = now_ns;
    }
    window->now = fmin(window->now, value);
}

static void note_rtt(struct peer *peer, double rtt_s, int64_t now_ns)
{
    if (peer->rtt_s < 0) {
        peer->rtt_s = rtt_s;
        peer->jitter_s = rtt_s / 2;
    } else {
        peer->jitter_s += (fabs(rtt_s - peer->rtt_s) - peer->jitter_s) / 4;
        peer->rtt_s += (rtt_s - peer->rtt_s) / 8;
    }
    window_add(&peer->least, rtt_s, now_ns);
    peer->n_pongs++;
}

/* A new measurement counts half; one that knows only a bound gives way to it. */
static void note_bandwidth(struct peer *peer, double bytes_per_s)
{
    bool first = peer->bytes_per_s < 0 || peer->at_least;
    peer->bytes_per_s = first ? bytes_per_s : (peer->bytes_per_s + bytes_per_s) / 2;
    peer->at_least = false;
}

static void note_bound(struct peer *peer, double bytes_per_s)
{
    bool better = peer->bytes_per_s < 0 || bytes_per_s > peer->bytes_per_s;
    if (!better) return;
    peer->bytes_per_s = bytes_per_s;
    peer->at_least = true;
}

/* What the padding took longer than nothing takes. */
static void note_probe(struct peer *peer, double rtt_s)
{
    double extra_s = rtt_s - least_of(&peer->least);
    double noise_s = fmax(JITTERS * peer->jitter_s, NOISE_S);
    size_t n = peer->n_padding;
    if (extra_s > noise_s) {
        note_bandwidth(peer, (double)n / extra_s);
        if (extra_s > PROBE_S_MAX && n > PEERS_PADDING_MIN) peer->next_padding = n / PADDING_STEP;
    } else {
        note_bound(peer, (double)n / noise_s);
        if (n < PEERS_PADDING_MAX) peer->next_padding = n * PADDING_STEP;
    }
}

bool peers_pong(struct peers *peers, const char *id, uint64_t seq, int64_t now_ns)
{
    struct peer *peer = find(peers, id);
    if (!peer || seq == 0 || seq != peer->seq || now_ns < peer->sent_ns) return false;
    double rtt_s = (double)(now_ns - peer->sent_ns) / 1e9;
    peer->seq = 0;
    peer->heard_ns = now_ns;
    if (peer->n_padding)
        note_probe(peer, rtt_s);
    else
        note_rtt(peer, rtt_s, now_ns);
    return true;
}

void peers_transferred(struct peers *peers, const char *id, uint64_t n_bytes, int64_t took_ns,
                       int64_t now_ns)
{
    struct peer *peer = find(peers, id);
    if (!peer || n_bytes < TRANSFER_BYTES_MIN || took_ns <= 0) return;
    note_bandwidth(peer, (double)n_bytes / ((double)took_ns / 1e9));
    peer->probed_ns = now_ns;
}

/* --- queries --- */

static void fill(const struct peer *peer, struct peers_stats *out)
{
    bool measured = peer->rtt_s >= 0;
    *out = (struct peers_stats){.id = peer->id,
                                .rtt_s = peer->rtt_s,
                                .rtt_min_s = measured ? least_of(&peer->least) : UNKNOWN,
                                .rtt_jitter_s = measured ? peer->jitter_s : UNKNOWN,
                                .bytes_per_s = peer->bytes_per_s,
                                .at_least = peer->at_least,
                                .heard_ns = peer->heard_ns,
                                .n_pings = peer->n_pings,
                                .n_lost = peer->n_lost};
}

bool peers_get(const struct peers *peers, const char *id, struct peers_stats *out)
{
    const struct peer *peer = find(peers, id);
    if (peer) fill(peer, out);
    return peer != NULL;
}

void peers_each(const struct peers *peers, void (*fn)(void *ctx, const struct peers_stats *stats),
                void *ctx)
{
    for (size_t i = 0; i < peers->count; i++) {
        struct peers_stats stats;
        fill(&peers->slots[peers->by_id[i]], &stats);
        fn(ctx, &stats);
    }
}
