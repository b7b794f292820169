/* registry_sync.h: keeps the registries of all members alike, over a bus that may lose anything.
 * Gateways say each change at once, their digest every REGISTRY_DIGEST_NS, and everything when
 * they hear another digest than their own (at most once in REGISTRY_ALL_NS). Other members only
 * listen; one whose digest stays another asks a gateway over its grid port (on_stale).
 * Floor: grid.  Thread: the loop's.  Allocates: a message at a time.
 * Pure but for `send`, so that tests bring a network that loses, reorders and parts: time is an
 * argument. Messages are JSON: they are few, and the grid port speaks the same.
 * Invariant: once messages come through for two digests' time, all gateways know the same. */
#pragma once
#include "grid/registry.h"

struct registry_sync;

#define REGISTRY_DIGEST_NS INT64_C(5000000000)
#define REGISTRY_ALL_NS INT64_C(2000000000) /* a grid that heals does not speak all the time */
#define REGISTRY_STALE_DIGESTS 3            /* in a row, of one gateway: then it is no race */
#define REGISTRY_MESSAGE_MEMBERS_MAX 128    /* entries a message: 100 KB, a millisecond's work */
#define REGISTRY_MESSAGE_BYTES_MAX (REGISTRY_MESSAGE_MEMBERS_MAX * MEMBER_JSON_BYTES_MAX)

struct registry_sync_cfg {
    struct registry *registry;                            /* borrowed */
    bool speaks;                                          /* a gateway */
    void (*send)(void *ctx, const void *bytes, size_t n); /* to all others; may lose it */
    void (*on_stale)(void *ctx); /* of who only listens: others know more than this machine */
    void *ctx;
    uint64_t seed; /* of when the first digest goes, so that gateways do not speak at once */
};

/* NOMEM. */
SL_CHECK sl_status registry_sync_create(const struct registry_sync_cfg *cfg,
                                        struct registry_sync **out);
void registry_sync_destroy(struct registry_sync *sync); /* NULL is fine */

/* An entry was put here: tells the others. */
void registry_sync_tell(struct registry_sync *sync, const struct member *member);

/* What another gateway sent. CORRUPT: not a message; what of it could be read is taken over. NOMEM,
 * LIMIT. */
SL_CHECK sl_status registry_sync_receive(struct registry_sync *sync, const char *from,
                                         const void *bytes, size_t n, struct sl_err *err);

/* To be called a few times a second. */
void registry_sync_tick(struct registry_sync *sync, int64_t now_ns);

/* Appends the entries [first, first + n) of the registry as they stand in a message and in answers
 * of the grid port: {"members":[...]}. */
SL_CHECK sl_status registry_encode(const struct registry *registry, size_t first, size_t n,
                                   struct sl_buf *out);
/* Merges the "members" of an object. CORRUPT for the first entry that is none: those before it
 * count. */
SL_CHECK sl_status registry_decode(struct registry *registry, const struct sl_json_value *object,
                                   struct sl_err *err);
