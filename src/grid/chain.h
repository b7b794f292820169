/* chain.h: the head's side of a chain of stages (docs/split.md): the links to all followers, what
 * they are told, and the messages between the head's own worker and them. The worker is the
 * caller's.
 *
 *   chain_open -> links -> OPEN to each -> all are READY -> on_ready ... on_end
 *
 * Floor: grid.  Thread: the loop's.  Allocates: the chain and its links.
 * Invariant: on_end comes at most once, after which the chain carries nothing; one link or follower
 * that fails ends the whole, since every stage has part of every sequence. */
#pragma once
#include "base/err.h"
#include "grid/grid_msg.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chain;
struct stage_links;

struct chain_cfg {
    struct stage_links *links;      /* borrowed while the chain lives */
    const char *model, *digest;     /* all is copied */
    const struct grid_split *split; /* stage 0 is this member */
    int32_t kv_type;
    const struct grid_source *sources; /* who has the file besides this member */
    size_t n_sources;
};

struct chain_callbacks {
    void (*on_progress)(void *ctx, double fraction); /* of the followers together: 0 to 1 */
    void (*on_ready)(void *ctx);
    /* A message for stage 0: engine_deliver's. Bytes are valid during the call. */
    void (*on_data)(void *ctx, int32_t from, const void *bytes, size_t n);
    /* UNAVAILABLE: a member or a worker is gone; others: as a follower said. The text names the
     * stage and its member. Still to be closed; never from within a call here. */
    void (*on_end)(void *ctx, const struct sl_err *why);
};

/* INVALID: stage 0 is another member, a member twice, or a split that makes no sense; LIMIT, NOMEM,
 * NOT_FOUND (no such member): err names the stage. */
SL_CHECK sl_status chain_open(const struct chain_cfg *cfg, const struct chain_callbacks *callbacks,
                              void *ctx, struct chain **out, struct sl_err *err);
/* Ends the followers' stages and frees it. NULL is fine. */
void chain_close(struct chain *chain);

/* A message of stage 0's worker. UNAVAILABLE: not ready, or it has ended; INVALID: `to` is not
 * stage 1; LIMIT, NOMEM: the chain is of no use any more and on_end follows. */
SL_CHECK sl_status chain_send(struct chain *chain, int32_t to, const void *bytes, size_t n);

bool chain_is_ready(const struct chain *chain);
double chain_progress(const struct chain *chain);
