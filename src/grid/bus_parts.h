/* bus_parts.h: how a message lies in NATS messages, and how one that came in parts is put together.
 *
 *   0      1                                0      1         9       13      17
 *   +------+---------------------+          +------+---------+-------+-------+-----------+
 *   |  0   | the whole message   |    or    |  1   | message | index | total | one part  |
 *   +------+---------------------+          +------+---------+-------+-------+-----------+
 *
 * `message` (u64) tells a sender's messages apart, `index` (u32) counts its parts from 0, `total`
 * (u32) is the whole's length; all big endian. Every part but the last has BUS_PART_BYTES.
 *
 * Parts of one sender on one subject come in order or not at all, so at most one message a subject
 * is under way: a gap, or the first part of another message, ends it.
 * Floor: grid.  Thread: the caller's.  Allocates: the messages under way, within the limit given.
 * Invariant: whatever bytes come in, nothing is read or written outside of them. */
#pragma once
#include "base/status.h"
#include "grid/bus.h"
#include <stddef.h>
#include <stdint.h>

#define BUS_WHOLE_HEADER_BYTES 1
#define BUS_PART_HEADER_BYTES 17
#define BUS_PARTIALS_MAX 64                            /* senders of long messages at one time */
#define BUS_PARTIAL_BYTES_MAX ((size_t)288 << 20)      /* four of the longest messages under way */
#define BUS_PARTIAL_IDLE_NS (10 * (int64_t)1000000000) /* a message that made no progress for it */

/* The bytes before a whole message, and before part `index` of one of `total` bytes. */
void bus_whole_header(uint8_t out[BUS_WHOLE_HEADER_BYTES]);
void bus_part_header(uint8_t out[BUS_PART_HEADER_BYTES], uint64_t message, uint32_t index,
                     size_t total);

struct bus_parts;

SL_CHECK sl_status bus_parts_create(size_t bytes_max, struct bus_parts **out); /* NOMEM */
void bus_parts_destroy(struct bus_parts *parts);                               /* NULL is fine */

struct bus_whole {
    const void *bytes; /* NULL: more parts must come */
    size_t n;
    void *owned; /* the caller frees it with sl_free; NULL: `bytes` lies in what was given */
};

/* Takes one NATS message. `stream` tells apart what reached us twice, through two subscriptions.
 * CORRUPT: it is not a message of ours; NOMEM. *n_lost grows by the messages that can never become
 * whole: one with a gap, one that had to make room, this one. */
SL_CHECK sl_status bus_parts_take(struct bus_parts *parts, uint32_t stream, const char *subject,
                                  const void *bytes, size_t n, int64_t now_ns,
                                  struct bus_whole *out, uint64_t *n_lost);
/* Drops messages that made no progress for BUS_PARTIAL_IDLE_NS; returns how many. */
size_t bus_parts_expire(struct bus_parts *parts, int64_t now_ns);
size_t bus_parts_count(const struct bus_parts *parts); /* messages under way */
