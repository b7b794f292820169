#include "netlab/link.h"
#include "base/rng.h"

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void link_init(struct link *link)
{
    *link = (struct link){.settings.queue_bytes = LINK_QUEUE_BYTES_DEFAULT};
}

static double draw(struct link *link, uint64_t seed, uint64_t stream)
{
    return sl_rng_uniform(seed, stream, link->n_draws++);
}

static int64_t send_ns(int64_t n_bytes, int64_t rate_bps)
{
    return (int64_t)((double)n_bytes * 8e9 / (double)rate_bps);
}

/* The bucket as one moment: free_ns lies in the past by what may be sent at once, or ahead by what
 * waits. False when the queue has no room. */
static bool take_turn(struct link *link, size_t n_bytes, int64_t now_ns, int64_t *out_sent_ns)
{
    const struct link_settings *settings = &link->settings;
    *out_sent_ns = now_ns;
    if (settings->rate_bps == 0) return true;
    int64_t free_ns =
        max_i64(link->free_ns, now_ns - send_ns(LINK_BURST_BYTES, settings->rate_bps));
    free_ns += send_ns((int64_t)n_bytes, settings->rate_bps);
    if (free_ns - now_ns > send_ns(settings->queue_bytes, settings->rate_bps)) return false;
    link->free_ns = free_ns;
    *out_sent_ns = max_i64(free_ns, now_ns);
    return true;
}

bool link_offer(struct link *link, size_t n_bytes, int64_t now_ns, uint64_t seed, uint64_t stream,
                int64_t *out_due_ns)
{
    const struct link_settings *settings = &link->settings;
    int64_t due_ns = now_ns;
    if (link->cut) {
        link->stats.n_cut++;
        return false;
    }
    if (!take_turn(link, n_bytes, now_ns, &due_ns)) {
        link->stats.n_overrun++;
        return false;
    }
    if (settings->loss > 0 && draw(link, seed, stream) < settings->loss) {
        link->stats.n_lost++;
        return false;
    }
    due_ns += settings->delay_ns;
    if (settings->jitter_ns > 0)
        due_ns += (int64_t)((2 * draw(link, seed, stream) - 1) * (double)settings->jitter_ns);
    link->due_ns = *out_due_ns = max_i64(max_i64(due_ns, now_ns), link->due_ns);
    link->stats.n_frames++;
    link->stats.n_bytes += n_bytes;
    return true;
}
