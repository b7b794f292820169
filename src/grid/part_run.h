/* part_run.h: all that is done for one part on its thread; fetch_part.h says what that is.
 * Floor: grid.  Thread: the part's own.  Allocates: for the time of the call. */
#pragma once
#include "exec/llm/tensors.h"
#include "grid/fetch.h"
#include "grid/store_parts.h"
#include <stdatomic.h>

struct part_run {
    struct store *store;
    const char *name, *digest;
    struct fetch_source *sources; /* is sorted by distance */
    size_t n_sources;
    struct llm_range range;
    const char *ca_path, *cert_path, *key_path; /* "": members are not asked */
    const atomic_bool *cancel;
    /* Bytes of the part; from this thread, total never 0. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    /* What came, also after a failure. */
    char path[PATH_MAX];    /* of the file, or of its first shard */
    struct store_part part; /* in use, the caller's to close; not open: path is in the store */
    uint64_t n_bytes, n_bad_chunks;
};

/* Blocks. As fetch_part_events.on_done; CANCELLED. */
SL_CHECK sl_status part_run(struct part_run *run, struct sl_err *err);
