/* store_chunks.h: the chunk lists of a store's blobs, made when they are first asked for and kept:
 *
 *   HOME/models/chunks/sha256-<64 hex>     chunk_list.h's bytes; goes with the blob
 *
 * Floor: grid.  Thread: any that may block: a list is made at the speed of the disk.
 * Allocates: what it returns.
 * Invariant: a list that is kept is of the blob's size; else it is made anew. (A blob's bytes never
 * change.) */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "grid/store.h"
#include <stdatomic.h>

/* Appends the list of a blob: chunk_list.h. NOT_FOUND: no such blob; CANCELLED (cancel may be
 * NULL), INVALID, LIMIT, IO, NOMEM. A list that cannot be kept is given all the same. */
SL_CHECK sl_status store_chunks(const struct store *store, const char *digest,
                                const atomic_bool *cancel, struct sl_buf *out, struct sl_err *err);

/* Forgets the list of a blob that is going. */
void store_chunks_drop(const struct store *store, const char *digest);
/* Forgets those whose blobs have gone. */
SL_CHECK sl_status store_chunks_sweep(const struct store *store, struct sl_err *err);
