/* part_journal.h: which chunks of a file are here and were right, as a small file beside it.
 *
 *   bytes  8  "SLPARTJ1"
 *         32  id of the chunk list by which they were checked
 *   (n+7)/8   a bit a chunk, the first one lowest
 *         32  SHA-256 of all before
 *
 * It is replaced as a whole after the chunks' bytes are on disk (fsync), so a kill or a power cut
 * costs the chunks since the last time and never makes a wrong one count.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include "grid/chunk_list.h"

#define PART_JOURNAL_BYTES_MAX (8 + 2 * SHA256_BYTES + (CHUNK_LIST_CHUNKS_MAX + 7) / 8)

/* here[0..list->n): set to 0 or 1. False: the bytes are no journal of that list, and all are 0. */
bool part_journal_parse(const void *bytes, size_t n, const struct chunk_list *list, uint8_t *here);

/* Appends the journal of the chunks whose here is 1; any other number counts as 0. LIMIT, NOMEM,
 * INTERNAL. */
SL_CHECK sl_status part_journal_write(const struct chunk_list *list, const uint8_t *here,
                                      struct sl_buf *out);
