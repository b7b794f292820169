/* frame_queue.h: frames under way, earliest first; those due at the same moment in the order they
 * were put in.
 * Part of netlab-switch; pure.  Thread: the caller's.  Allocates: frame_queue_put, within bounds.
 * Invariant: n_bytes is the sum of the waiting frames' lengths; at most FRAME_QUEUE_FRAMES_MAX
 * frames and FRAME_QUEUE_BYTES_MAX bytes wait. */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

/* 64 MiB is a second and more of 400 Mbit/s; the frames may be small. */
#define FRAME_QUEUE_BYTES_MAX (64u << 20)
#define FRAME_QUEUE_FRAMES_MAX 262144u

struct frame {
    int64_t due_ns;
    uint64_t number; /* the queue's own, for the order */
    int from, to;    /* ports */
    size_t n;
    void *bytes;
};

struct frame_queue {
    struct frame *heap;
    size_t n, cap;
    size_t n_bytes;
    uint64_t n_put;
};

void frame_queue_init(struct frame_queue *queue);
void frame_queue_done(struct frame_queue *queue); /* drops what waits */

/* Copies the frame's n bytes. LIMIT when the queue is full, NOMEM. */
SL_CHECK sl_status frame_queue_put(struct frame_queue *queue, const struct frame *frame);

/* The earliest; NULL when empty. Valid until the next put or drop. */
const struct frame *frame_queue_first(const struct frame_queue *queue);
void frame_queue_drop_first(struct frame_queue *queue); /* nothing when empty */
