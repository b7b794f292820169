/* link.h: one direction between two ports: what becomes of a frame that is sent along it. Cut,
 * bandwidth (a token bucket with a bounded queue), loss, delay, jitter, in this order.
 * Part of netlab-switch; pure: time and randomness are arguments.  Allocates: nothing.
 * Invariant: frames of one link leave in the order they came, whatever the jitter: routes of the
 * real world seldom reorder, and TCP would show the jitter as loss. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What may pass at once after silence: two full frames, as a network card that sends one while it
 * takes the next. */
#define LINK_BURST_BYTES 3028
#define LINK_QUEUE_BYTES_DEFAULT (256 * 1024)

struct link_settings {
    int64_t delay_ns;    /* one way */
    int64_t jitter_ns;   /* the delay varies by up to this, evenly, both ways */
    double loss;         /* probability in [0, 1] */
    int64_t rate_bps;    /* bits a second of whole Ethernet frames; 0: no limit */
    int64_t queue_bytes; /* that may wait for their turn when there is a limit */
};

struct link_stats {
    uint64_t n_frames, n_bytes; /* that passed */
    uint64_t n_lost, n_overrun, n_cut;
};

struct link {
    struct link_settings settings;
    bool cut;
    int64_t free_ns; /* the bucket: when all that was let in will have been sent */
    int64_t due_ns;  /* of the last frame that passed */
    uint64_t n_draws;
    struct link_stats stats;
};

void link_init(struct link *link); /* no delay, no limit */

/* A frame of n_bytes sent now. True: it arrives at *out_due_ns >= now_ns. False: it is gone, and
 * the statistics say why. Chance is number n_draws of the random stream `stream` under `seed`. */
bool link_offer(struct link *link, size_t n_bytes, int64_t now_ns, uint64_t seed, uint64_t stream,
                int64_t *out_due_ns);
