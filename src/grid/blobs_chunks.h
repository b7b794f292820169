/* blobs_chunks.h: gives other members the chunk lists of this one's blobs; a part of blobs.h.
 * Floor: grid.  Thread: the loop's; lists are made on a thread of its own, one after another, so
 * that the second who asks for one finds it made.  Allocates: a list for each who waits, at most
 * BLOBS_CHUNKS_WAITING_MAX. */
#pragma once
#include "base/err.h"

struct blobs_chunks;
struct http_exchange;
struct loop;
struct store;

#define BLOBS_CHUNKS_WAITING_MAX 64 /* stages of a chain ask at the same time */

/* Loop and store are borrowed. NOMEM, UNAVAILABLE (no thread). */
SL_CHECK sl_status blobs_chunks_create(struct loop *loop, const struct store *store,
                                       struct blobs_chunks **out, struct sl_err *err);
/* Cuts off who waits. The loop must not run again afterwards. NULL is fine. */
void blobs_chunks_destroy(struct blobs_chunks *chunks);

/* Ends x with the list of the blob, or an error, when it is made. */
void blobs_chunks_answer(struct blobs_chunks *chunks, struct http_exchange *x, const char *digest);
