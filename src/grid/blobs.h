/* blobs.h: what one member gives the others of its store, over the grid port: manifests by name and
 * blobs by SHA-256, whole or in ranges (RFC 9110 section 14). See docs/model-distribution.md.
 *
 *   GET /grid/v1/models/NAME         the manifest, store_manifest.h's JSON
 *   GET /grid/v1/blobs/<64 hex>      the bytes; ETag is the digest, the same on every member, so
 *                                    that a download goes on at another one
 *   GET /grid/v1/blobs/<64 hex>/chunks   SHA-256 of each piece of it: chunk_list.h
 *
 * Floor: grid.  Thread: the loop's; files are read on threads of its own.  Allocates: a buffer a
 * transfer, at most BLOBS_TRANSFERS_MAX of them.
 * Invariant: who asks is a member, of whom the grid port has made sure; what is sent was opened by
 * its digest below the store and nowhere else; a slow reader holds one buffer and no thread. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blobs;
struct http_exchange;
struct loop;
struct store;

#define BLOBS_TRANSFERS_OF_ONE 16 /* of these, one member's: twice what it asks for at a time */
#define BLOBS_TRANSFERS_MAX 64    /* 256 KiB each; a member asks with four connections at most */

struct blobs_cfg {
    struct loop *loop;         /* borrowed, as the store */
    const struct store *store; /* may be changed by others meanwhile */
};

struct blobs_stats {
    uint64_t n_transfers; /* under way */
    uint64_t n_sent, n_refused;
    uint64_t bytes_sent;
};

/* NOMEM, UNAVAILABLE (no thread). */
SL_CHECK sl_status blobs_create(const struct blobs_cfg *cfg, struct blobs **out,
                                struct sl_err *err);
/* Cuts what is under way off. The loop must not run again afterwards. NULL is fine. */
void blobs_destroy(struct blobs *blobs);

/* Answers a GET for one of these paths, now or over time; false: it is for another path and nothing
 * was done. */
bool blobs_handle(struct blobs *blobs, struct http_exchange *x);
void blobs_stats_get(const struct blobs *blobs, struct blobs_stats *out);

/* "bytes=A-B", "bytes=A-", "bytes=-N" of a file of `size` bytes, as [*begin, *end). False: not
 * satisfiable. Anything else (several ranges, another unit, nonsense) means the whole file: RFC
 * 9110 lets a server ignore it. *partial says which it is. */
bool blobs_range_parse(const char *text, uint64_t size, uint64_t *begin, uint64_t *end,
                       bool *partial);
