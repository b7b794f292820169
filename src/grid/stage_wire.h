/* stage_wire.h: what the ends of a stage_link tell each other about a chain, as plain structs; on
 * the link each is the payload of a frame of its type, one message of proto/stage.proto.
 * Floor: grid.  Thread: the caller's.  Allocates: a decoded OPEN's strings in the caller's arena.
 * Invariant: no member trusts another: what was decoded has every number in range and every text
 * within its limit, without a NUL in it. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "grid/stage_link.h"

#define STAGE_ARENA_BYTES_MAX (256u << 10)  /* of a decoded OPEN: 16 stages, 8 sources: 10 KiB */
#define STAGE_MESSAGE_BYTES_MAX (64u << 10) /* of one that is not DATA */
#define STAGE_REASON_MAX 512                /* SL_ERR_TEXT_MAX */

/* The chain as the head has it, and which stage the one who gets it is to be. */
struct stage_open {
    const char *model;  /* as the head calls it, and members that have it */
    const char *digest; /* SHA-256 in hex of the file */
    int32_t stage;      /* 1 .. split.n_stages - 1 */
    struct grid_split split;
    int32_t kv_type;                   /* enum llm_kv_type: the same in all stages */
    const struct grid_source *sources; /* members that have the file */
    size_t n_sources;                  /* at most GRID_SOURCES_MAX */
};

struct stage_progress {
    double fraction;      /* of the stage's way from here to READY: 0 to 1 */
    uint64_t done, total; /* bytes of what is fetched of the file; total 0: nothing is */
};

struct stage_ready {
    uint64_t bytes; /* of memory: weights, KV cache, buffers */
};

struct stage_failed {
    sl_status status; /* NOMEM: it does not fit there; UNAVAILABLE: its worker died; ... */
    const char *reason;
};

/* Each appends to out: NOMEM, LIMIT. */
SL_CHECK sl_status stage_hello_put(const struct stage_hello *hello, struct sl_buf *out);
SL_CHECK sl_status stage_open_put(const struct stage_open *open, struct sl_buf *out);
SL_CHECK sl_status stage_progress_put(const struct stage_progress *progress, struct sl_buf *out);
SL_CHECK sl_status stage_ready_put(const struct stage_ready *ready, struct sl_buf *out);
SL_CHECK sl_status stage_failed_put(const struct stage_failed *failed, struct sl_buf *out);

/* CORRUPT names what is wrong; NOMEM. Text of OPEN and FAILED lives in the arena. */
SL_CHECK sl_status stage_hello_get(const void *bytes, size_t n, struct stage_hello *out,
                                   struct sl_err *err);
SL_CHECK sl_status stage_open_get(const void *bytes, size_t n, struct sl_arena *arena,
                                  struct stage_open *out, struct sl_err *err);
SL_CHECK sl_status stage_progress_get(const void *bytes, size_t n, struct stage_progress *out,
                                      struct sl_err *err);
SL_CHECK sl_status stage_ready_get(const void *bytes, size_t n, struct stage_ready *out,
                                   struct sl_err *err);
SL_CHECK sl_status stage_failed_get(const void *bytes, size_t n, struct sl_arena *arena,
                                    struct stage_failed *out, struct sl_err *err);
